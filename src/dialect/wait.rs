//! How long a provider asks us to wait.
//!
//! Providers say it in many headers and spellings. There is no clock here: a date counts only
//! beside the date at which the answer was sent.

use std::time::{Duration, SystemTime};

use http::HeaderMap;

/// Nobody means longer, and a caller that obeys any wait must not sleep a year.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The wait that `retry-after-ms`, `x-ms-retry-after-ms` or `retry-after` asks for, at most a day.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let millis = |name| number(text(headers, name)?).and_then(|ms| seconds(ms / 1000.0));
    millis("retry-after-ms")
        .or_else(|| millis("x-ms-retry-after-ms"))
        .or_else(|| {
            let text = text(headers, "retry-after")?;
            number(text).map_or_else(|| until(headers, text), seconds)
        })
}

/// The wait that the `x-ratelimit-reset-*` headers ask for: that of the limit named `which`
/// (`images`, `tokens` …) if it is there, else the longest.
pub(super) fn limit_reset(headers: &HeaderMap, which: Option<&str>) -> Option<Duration> {
    let named = which.and_then(|which| text(headers, &format!("x-ratelimit-reset-{which}")));
    named.and_then(span).or_else(|| {
        headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with("x-ratelimit-reset"))
            .filter_map(|(_, value)| span(value.to_str().ok()?))
            .max()
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

fn number(text: &str) -> Option<f64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    digits.then(|| text.parse().ok()).flatten()
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .map(|wait| wait.min(LONGEST))
}

/// From the answer's own date to that of `date`.
fn until(headers: &HeaderMap, date: &str) -> Option<Duration> {
    let then = httpdate::parse_http_date(date).ok()?;
    let now: SystemTime = httpdate::parse_http_date(text(headers, "date")?).ok()?;
    Some(then.duration_since(now).unwrap_or_default().min(LONGEST))
}

/// Reads `216ms`, `1s`, `6m0s`, `1h2m3.5s`.
pub(super) fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|&end| end > 0)?;
        let value = number(&rest[..digits])?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        total += value
            * match &rest[digits..unit_end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return None,
            };
        rest = &rest[unit_end..];
    }
    (!text.trim().is_empty()).then(|| seconds(total)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[track_caller]
    fn check(pairs: &[(&'static str, &str)], expected: Option<u64>) {
        let got = retry_after(&headers(pairs));
        assert_eq!(got, expected.map(Duration::from_millis), "{pairs:?}");
    }

    #[test]
    fn milliseconds_come_first_and_dates_count_from_the_answers_own() {
        check(
            &[("retry-after", "9"), ("retry-after-ms", "250")],
            Some(250),
        );
        check(
            &[("retry-after", "9"), ("x-ms-retry-after-ms", "80")],
            Some(80),
        );
        check(&[("retry-after", "1.5")], Some(1500));
        let date = "Sun, 22 Nov 2026 10:00:00 GMT";
        let later = "Sun, 22 Nov 2026 10:00:07 GMT";
        check(&[("retry-after", later), ("date", date)], Some(7000));
        check(&[("retry-after", date), ("date", later)], Some(0));
        check(&[("retry-after", later)], None);
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "-3")], None);
        check(&[("retry-after", "99999999999")], Some(86_400_000));
        check(&[], None);
    }

    #[test]
    fn a_limits_reset_is_read_as_a_span() {
        let all = headers(&[
            ("x-ratelimit-reset-images", "3s"),
            ("x-ratelimit-reset-tokens", "6m0s"),
            ("x-ratelimit-reset-requests", "216ms"),
            ("x-ratelimit-reset-odd", "never"),
        ]);
        let check = |which, ms| {
            assert_eq!(limit_reset(&all, which), Some(Duration::from_millis(ms)));
        };
        check(Some("images"), 3000);
        check(Some("requests"), 216);
        check(Some("nothing"), 360_000);
        check(None, 360_000);
        assert_eq!(limit_reset(&HeaderMap::new(), None), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9.smhd ]{0,30}") {
            if let Some(wait) = span(&text) {
                prop_assert!(wait <= LONGEST);
            }
        }
    }
}
