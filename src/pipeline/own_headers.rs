//! The headers that are ours: what an app may tell us, and what we tell it.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::action::CacheMode;
use crate::money::Usd;

/// Everything that begins like this is between the app and us, and never goes on.
const OURS: &str = "x-pixtoll-";
const MAX_COST: &str = "x-pixtoll-max-cost";
const DEADLINE: &str = "x-pixtoll-deadline";

static TOLD_APP: HeaderName = HeaderName::from_static("x-pixtoll-app");
static TOLD_TAGS: HeaderName = HeaderName::from_static("x-pixtoll-tags");
static TOLD_CACHE: HeaderName = HeaderName::from_static("x-pixtoll-cache");
static TOLD_MAX_COST: HeaderName = HeaderName::from_static(MAX_COST);
static TOLD_DEADLINE: HeaderName = HeaderName::from_static(DEADLINE);
static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

static CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
static DECISION: HeaderName = HeaderName::from_static("x-pixtoll-decision");
static ROUTE: HeaderName = HeaderName::from_static("x-pixtoll-route");
static COST: HeaderName = HeaderName::from_static("x-pixtoll-cost");
static COST_FROM: HeaderName = HeaderName::from_static("x-pixtoll-cost-from");
static SAVED: HeaderName = HeaderName::from_static("x-pixtoll-saved");
static SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What an app said in its headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub app: Option<String>,
    pub tags: Vec<String>,
    pub cache: Option<CacheMode>,
    pub max_cost: Option<Usd>,
    pub deadline: Option<Duration>,
    pub idempotency_key: Option<String>,
    /// How often the app's SDK has tried already.
    pub sdk_retry: u32,
    /// A bound that an app set and that cannot be read: the header, and what it should be. Going
    /// on without it would cost what the app did not want to pay.
    pub unreadable: Option<(&'static str, &'static str)>,
}

impl Told {
    /// Reads what there is. Of what cannot be read, only a bound matters.
    pub fn read(headers: &HeaderMap) -> Told {
        let text = |name: &HeaderName| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.trim())
        };
        let (mut max_cost, mut deadline, mut unreadable) = (None, None, None);
        if let Some(text) = text(&TOLD_MAX_COST) {
            max_cost = text.parse().ok().filter(|most| *most >= Usd::ZERO);
            if max_cost.is_none() {
                unreadable = Some((MAX_COST, "an amount of US dollars, like 0.05"));
            }
        }
        if let Some(text) = text(&TOLD_DEADLINE) {
            deadline = seconds(text);
            if deadline.is_none() {
                unreadable = Some((DEADLINE, "seconds that the app can wait, like 30 or 2.5"));
            }
        }
        Told {
            app: text(&TOLD_APP)
                .filter(|app| !app.is_empty())
                .map(|app| app.chars().take(100).collect()),
            tags: text(&TOLD_TAGS).map(tags).unwrap_or_default(),
            cache: match text(&TOLD_CACHE) {
                Some("bypass") => Some(CacheMode::Bypass),
                Some("refresh") => Some(CacheMode::Refresh),
                _ => None,
            },
            max_cost,
            deadline,
            unreadable,
            idempotency_key: text(&IDEMPOTENCY_KEY).map(str::to_owned),
            sdk_retry: text(&RETRY_COUNT)
                .and_then(|count| count.parse().ok())
                .unwrap_or(0),
        }
    }
}

/// What an app says of the cache, where that is no word of ours: it is not done, and said.
pub(super) fn unknown_cache(headers: &HeaderMap) -> Option<String> {
    let word = headers.get(&TOLD_CACHE)?;
    let word = String::from_utf8_lossy(word.as_bytes());
    let word = word.trim();
    let known = matches!(word, "bypass" | "refresh");
    let shown: String = word.chars().take(40).collect();
    (!known).then(|| format!("x-pixtoll-cache: `{shown}` is neither bypass nor refresh"))
}

/// A time in seconds, up to a year.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok().filter(|whole| *whole <= 366 * 86_400)?;
    let nanos: u32 = format!("{part:0<9}").parse().ok()?;
    Some(Duration::new(whole, nanos))
}

/// Tags as a comma-separated list.
fn tags(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .take(32)
        .map(str::to_owned)
        .collect()
}

/// Takes our headers off a request before it goes on.
pub fn strip(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(OURS))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

/// What an answer says about how it came to be.
#[derive(Clone, Debug)]
pub struct Telling<'a> {
    pub decision: &'a str,
    /// RFC 9211, e.g. `hit; ttl=3599`.
    pub cache_status: Cow<'static, str>,
    /// The model that made it.
    pub route: Option<&'a str>,
    pub cost: Option<Usd>,
    /// `reported`, `usage`, `list`, `quote` …
    pub cost_from: &'a str,
    pub saved: Option<Usd>,
    /// Asks SDKs not to send a failed call again.
    pub no_retry: bool,
}

impl Telling<'_> {
    /// Puts the headers on an answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        headers.reserve(8);
        // All the values lie in one block of memory.
        let mut block = BytesMut::with_capacity(160);
        let mut put = |name: &HeaderName, value: &dyn Display| {
            let written = write!(block, "{value}");
            let text = block.split().freeze();
            if let (Ok(()), Ok(value)) = (written, HeaderValue::from_maybe_shared(text)) {
                headers.insert(name, value);
            }
        };
        put(
            &CACHE_STATUS,
            &format_args!("pixtoll; {}", self.cache_status),
        );
        put(&DECISION, &self.decision);
        if let Some(route) = &self.route {
            put(&ROUTE, route);
        }
        if let Some(cost) = &self.cost {
            put(&COST, cost);
        }
        put(&COST_FROM, &self.cost_from);
        if let Some(saved) = &self.saved {
            put(&SAVED, saved);
        }
        if self.no_retry {
            headers.insert(&SHOULD_RETRY, HeaderValue::from_static("false"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn an_app_may_tell_us_things() {
        let told = Told::read(&headers(&[
            ("x-pixtoll-app", "catalog"),
            ("x-pixtoll-tags", "hero, background,"),
            ("x-pixtoll-cache", "refresh"),
            ("x-pixtoll-max-cost", "0.05"),
            ("x-pixtoll-deadline", "30"),
            ("x-stainless-retry-count", "2"),
        ]));
        assert_eq!(told.app.as_deref(), Some("catalog"));
        assert_eq!(told.tags, ["hero", "background"]);
        assert_eq!(told.cache, Some(CacheMode::Refresh));
        assert_eq!(told.max_cost, Some("0.05".parse().unwrap()));
        assert_eq!(
            (told.deadline, told.sdk_retry),
            (Some(Duration::from_secs(30)), 2)
        );
    }

    #[test]
    fn a_bound_that_cannot_be_read_is_not_passed_over() {
        let read = |name, text| Told::read(&headers(&[(name, text)]));
        for text in ["cheap", "-1", "0.05 USD", ""] {
            let told = read(MAX_COST, text);
            assert_eq!(
                told.unreadable.map(|(name, _)| name),
                Some(MAX_COST),
                "{text}"
            );
        }
        for text in ["soon", "-1", "1e3", ".", "99999999999"] {
            let told = read(DEADLINE, text);
            assert_eq!(
                told.unreadable.map(|(name, _)| name),
                Some(DEADLINE),
                "{text}"
            );
        }
        let told = read(DEADLINE, "2.5");
        assert_eq!(told.deadline, Some(Duration::from_millis(2500)));
        assert_eq!(told.unreadable, None);
    }

    #[test]
    fn our_headers_do_not_go_on() {
        let mut all = headers(&[
            ("x-pixtoll-app", "a"),
            ("x-pixtoll-token", "t"),
            ("x-other", "b"),
        ]);
        strip(&mut all);
        assert_eq!(all, headers(&[("x-other", "b")]));
    }
}
