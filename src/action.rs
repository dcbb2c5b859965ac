//! What a rule may do, and a request after it was done.
//!
//! A hook changes nothing by itself: it returns actions, which are checked, applied and logged
//! here and in the pipeline. [`CallView`] is all that a hook may know, as plain values; the
//! pipeline fills it in, and nothing in it can reach a socket, a key or a picture's bytes.

mod world;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::bill::Quote;
use crate::image::capability::Keep;
use crate::image::{Format, ImageRequest, ModelId, Quality, Safety, Size, Tier, words};
use crate::money::Usd;
use crate::secret::may_be_seen;
use crate::wire::RequestHead;

pub use world::{BudgetView, Funds, Per, Spending, World};

/// What a hook returned, with where it stands in the plugin's file.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub action: Action,
    /// `file:line` of the call that made the action.
    pub at: String,
}

/// One thing a rule wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// For the whole call; fitted again to every target.
    Change(Change),
    /// Send it elsewhere: the first target that can be used now.
    Route(Route),
    /// The same target once more.
    Retry {
        after: Option<Duration>,
        may_pay_twice: bool,
        reason: Option<String>,
    },
    /// No further attempt.
    Stop {
        reason: Option<String>,
    },
    /// No attempt at all.
    Refuse {
        message: String,
        status: Option<u16>,
        reason: Option<String>,
    },
    /// A picture from the plugin's own folder.
    Answer {
        file: String,
        reason: Option<String>,
    },
    Cache(CachePolicy),
    Tag {
        names: Vec<String>,
    },
}

impl Action {
    /// The word that the decision log's `did` has for it.
    pub const fn did(&self) -> &'static str {
        match self {
            Action::Change(_) => "change",
            Action::Route(_) => "route",
            Action::Retry { .. } => "retry",
            Action::Stop { .. } => "stop",
            Action::Refuse { .. } => "refuse",
            Action::Answer { .. } => "answer",
            Action::Cache(_) => "cache",
            Action::Tag { .. } => "tag",
        }
    }

    /// Why, in the rule's own words.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Action::Change(change) => change.reason.as_deref(),
            Action::Route(route) => route.change.reason.as_deref(),
            Action::Retry { reason, .. }
            | Action::Stop { reason }
            | Action::Refuse { reason, .. }
            | Action::Answer { reason, .. } => reason.as_deref(),
            Action::Cache(policy) => policy.reason.as_deref(),
            Action::Tag { .. } => None,
        }
    }
}

/// One field of the request set to a value. `None` takes the field away.
#[derive(Clone, Debug, PartialEq)]
pub enum Set {
    Prompt(String),
    NegativePrompt(Option<String>),
    Size(Size),
    Quality(Option<Quality>),
    Style(Option<String>),
    Background(Option<String>),
    N(u32),
    Seed(Option<u64>),
    Steps(Option<u32>),
    Guidance(Option<serde_json::Number>),
    Strength(Option<serde_json::Number>),
    Safety(Option<Safety>),
    Format(Option<Format>),
    Compression(Option<u8>),
    User(Option<String>),
}

/// Fields to set and bounds to keep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    pub set: Vec<Set>,
    pub max_side: Option<u32>,
    pub max_pixels: Option<u64>,
    pub max_quality: Option<Quality>,
    pub max_steps: Option<u32>,
    pub max_n: Option<u32>,
    /// The first that the target has and the caller can wait for. Empty: no wish.
    pub tiers: Vec<Tier>,
    /// `fit = "requested"`: hand over the size that was asked even if a smaller one was bought.
    pub fit_requested: bool,
    pub keep: Keep,
    pub reason: Option<String>,
}

/// Where to send a call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    pub targets: Vec<Target>,
    /// For these targets only.
    pub change: Change,
    /// Never more than this, by the quote's high end.
    pub max_cost: Option<Usd>,
    /// Never more than this share of what the app's own request was quoted, in thousandths.
    pub max_share: Option<u64>,
    pub timeout: Option<Duration>,
    pub may_pay_twice: bool,
}

/// A model, or a class of models from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Model(ModelId),
    /// Its cheapest member that fits.
    Class(String),
}

words! {
    /// Whether the cache may be asked and filled.
    CacheMode {
        Use = "use",
        /// Neither looked up nor stored.
        Bypass = "bypass",
        /// Not looked up, but stored.
        Refresh = "refresh",
        /// As `bypass`, and not collapsed either.
        Off = "off",
    }
}

words! {
    /// Who may be answered from an entry.
    CacheScope {
        /// Only calls with the same API key.
        Credential = "credential",
        Everyone = "everyone",
    }
}

/// What a rule says of the cache; `None` leaves the configuration's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachePolicy {
    pub mode: Option<CacheMode>,
    pub ttl: Option<Duration>,
    pub variants: Option<u32>,
    pub scope: Option<CacheScope>,
    pub reason: Option<String>,
}

/// What applying a change came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Field and new value, for the log.
    pub set: Vec<(&'static str, String)>,
    /// Why nothing, or not all, was done.
    pub skipped: Option<String>,
}

/// The price of a request and the pixels it is expected to have, as the book sees them.
pub type Yardstick<'a> = dyn Fn(&ImageRequest) -> (Option<Usd>, (u32, u32)) + 'a;

impl Change {
    /// Applies this change to `request`.
    ///
    /// A cap that would make the call dearer by `measure` is left out and said so: no rule raises
    /// a price by accident. A field that a rule sets outright is its own decision. Of `tiers` one
    /// is picked where the target is known.
    pub fn apply(&self, request: &mut ImageRequest, measure: &Yardstick<'_>) -> Applied {
        let mut applied = Applied::default();
        for set in &self.set {
            applied.set.push(set.apply(request));
        }
        for cap in self.caps() {
            cap.apply(request, measure, &mut applied);
        }
        applied
    }

    fn caps(&self) -> impl Iterator<Item = Cap> {
        [
            self.max_side.map(Cap::Side),
            self.max_pixels.map(Cap::Pixels),
            self.max_quality.map(Cap::Quality),
            self.max_steps.map(Cap::Steps),
            self.max_n.map(Cap::N),
        ]
        .into_iter()
        .flatten()
    }
}

/// A bound that only ever takes away.
#[derive(Clone, Copy)]
enum Cap {
    Side(u32),
    Pixels(u64),
    Quality(Quality),
    Steps(u32),
    N(u32),
}

impl Cap {
    fn apply(self, request: &mut ImageRequest, measure: &Yardstick<'_>, applied: &mut Applied) {
        let mut capped = request.clone();
        let Some((field, value)) = self.cut(&mut capped, measure) else {
            return;
        };
        let (before, after) = (measure(request).0, measure(&capped).0);
        if let (Some(before), Some(after)) = (before, after)
            && after > before
        {
            applied.skipped = Some(format!(
                "{field} {value} would cost {} instead of {}",
                after.pretty(),
                before.pretty()
            ));
            return;
        }
        *request = capped;
        applied.set.push((field, value));
    }

    /// Cuts `request` to the bound; `None` when it is within it already.
    fn cut(
        self,
        request: &mut ImageRequest,
        measure: &Yardstick<'_>,
    ) -> Option<(&'static str, String)> {
        match self {
            Cap::Side(side) => {
                let (width, height) = request.pixels().unwrap_or_else(|| measure(request).1);
                let longest = width.max(height);
                (longest > side).then_some(())?;
                let scale = |n: u32| {
                    u32::try_from(u64::from(n) * u64::from(side) / u64::from(longest))
                        .unwrap_or(side)
                        .max(1)
                };
                request.size = Size::Pixels {
                    width: scale(width),
                    height: scale(height),
                };
                Some(("size", request.size.to_string()))
            }
            Cap::Pixels(most) => {
                let (width, height) = request.pixels().unwrap_or_else(|| measure(request).1);
                (u64::from(width) * u64::from(height) > most).then_some(())?;
                let (width, height) = crate::image::Aspect::of(width, height).pixels_for(most, 1);
                request.size = Size::Pixels { width, height };
                Some(("size", request.size.to_string()))
            }
            Cap::Quality(most) => {
                // What `auto` comes out as is the provider's choice: a bound makes it ours.
                let above = match request.quality.and_then(Quality::rank) {
                    Some(rank) => most.rank().is_some_and(|limit| rank > limit),
                    None => true,
                };
                above.then_some(())?;
                request.quality = Some(most);
                Some(("quality", most.to_string()))
            }
            Cap::Steps(most) => {
                (request.steps? > most).then_some(())?;
                request.steps = Some(most);
                Some(("steps", most.to_string()))
            }
            Cap::N(most) => {
                (request.n > most).then_some(())?;
                request.n = most.max(1);
                Some(("n", request.n.to_string()))
            }
        }
    }
}

impl Set {
    /// Sets the field, and returns its name and new value for the log.
    pub fn apply(&self, request: &mut ImageRequest) -> (&'static str, String) {
        fn put<T: Clone + ToString>(slot: &mut Option<T>, value: &Option<T>) -> String {
            slot.clone_from(value);
            value
                .as_ref()
                .map_or_else(|| "none".to_owned(), T::to_string)
        }
        match self {
            Set::Prompt(text) => {
                request.prompt.clone_from(text);
                ("prompt", text.chars().take(80).collect())
            }
            Set::NegativePrompt(text) => {
                ("negative_prompt", put(&mut request.negative_prompt, text))
            }
            Set::Size(size) => {
                request.size = size.clone();
                ("size", size.to_string())
            }
            Set::Quality(quality) => ("quality", put(&mut request.quality, quality)),
            Set::Style(style) => ("style", put(&mut request.style, style)),
            Set::Background(background) => ("background", put(&mut request.background, background)),
            Set::N(n) => {
                request.n = (*n).max(1);
                ("n", request.n.to_string())
            }
            Set::Seed(seed) => ("seed", put(&mut request.seed, seed)),
            Set::Steps(steps) => ("steps", put(&mut request.steps, steps)),
            Set::Guidance(guidance) => ("guidance", put(&mut request.guidance, guidance)),
            Set::Strength(strength) => ("strength", put(&mut request.strength, strength)),
            Set::Safety(safety) => ("safety", put(&mut request.safety, safety)),
            Set::Format(format) => ("format", put(&mut request.format, format)),
            Set::Compression(compression) => {
                ("compression", put(&mut request.compression, compression))
            }
            Set::User(user) => ("user", put(&mut request.user, user)),
        }
    }
}

words! {
    /// How a call reached us.
    Via {
        /// `CONNECT` to a provider, TLS ended here.
        Intercept = "intercept",
        /// Our own address as a base URL.
        Gateway = "gateway",
        /// Absolute-form, without TLS.
        Forward = "forward",
    }
}

/// What a hook sees of a call: values of this moment, never handles.
#[derive(Clone, Debug)]
pub struct CallView {
    pub app: Arc<str>,
    pub tags: Vec<Arc<str>>,
    pub user: Option<String>,
    /// Eight hex digits of a keyed digest.
    pub credential: Option<Arc<str>>,
    pub headers: Headers,
    pub at: Timestamp,
    pub deadline: Option<Duration>,
    pub max_cost: Option<Usd>,
    pub via: Via,
    pub dialect: &'static str,
    pub sdk_retry: u32,
    /// As the app wrote it.
    pub asked: Arc<ImageRequest>,
    pub asked_quote: Option<Arc<Quote>>,
    /// Pixels the book expects of what was asked, for `auto` too.
    pub asked_pixels: (u32, u32),
    /// As it stands now.
    pub request: Arc<ImageRequest>,
    pub quote: Option<Arc<Quote>>,
    pub pixels: (u32, u32),
    /// Attempts made so far.
    pub attempts: u32,
    /// What they cost so far.
    pub spent: Usd,
    /// Digest of the call's key: the same for equal calls.
    pub share_seed: u64,
    pub world: Arc<World>,
}

/// The headers of a call, as far as they hold no secret.
#[derive(Clone)]
pub struct Headers(Arc<RequestHead>);

impl Headers {
    pub fn of(head: Arc<RequestHead>) -> Headers {
        Headers(head)
    }

    /// Lower-case names with their values, where these are text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .headers
            .iter()
            .filter(|(name, _)| may_be_seen(name.as_str()))
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
    }
}

/// Names alone: whoever prints a view must not print a secret.
impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Models of a kind, from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Class {
    pub models: Vec<ModelId>,
    /// A route into the class never exceeds this, by the quote's high end.
    pub max_cost: Option<Usd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> ImageRequest {
        ImageRequest {
            size: Size::Pixels {
                width: 2048,
                height: 1024,
            },
            quality: Some(Quality::High),
            ..ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a cat")
        }
    }

    /// A book in which a pixel costs a nano-dollar.
    fn by_pixel(request: &ImageRequest) -> (Option<Usd>, (u32, u32)) {
        let (w, h) = request.pixels().unwrap_or((1024, 1024));
        (Some(Usd::from_nano(i64::from(w) * i64::from(h))), (w, h))
    }

    #[test]
    fn a_cap_keeps_the_shape() {
        let mut request = asked();
        let change = Change {
            max_side: Some(1024),
            ..Change::default()
        };
        let applied = change.apply(&mut request, &by_pixel);
        assert_eq!(request.size.to_string(), "1024x512");
        assert_eq!(applied.set, [("size", "1024x512".to_owned())]);
    }

    #[test]
    fn a_cap_within_bounds_does_nothing() {
        let mut request = asked();
        let change = Change {
            max_side: Some(4096),
            max_quality: Some(Quality::Hd),
            ..Change::default()
        };
        assert_eq!(change.apply(&mut request, &by_pixel), Applied::default());
        assert_eq!(request, asked());
    }

    #[test]
    fn a_cap_that_would_cost_more_is_skipped_and_says_so() {
        let mut request = asked();
        let change = Change {
            max_side: Some(1024),
            ..Change::default()
        };
        let smaller_is_dearer = |r: &ImageRequest| {
            let (w, h) = r.pixels().unwrap_or((1, 1));
            (
                Some(Usd::from_nano(1_000_000_000 / i64::from(w * h))),
                (w, h),
            )
        };
        let applied = change.apply(&mut request, &smaller_is_dearer);
        assert_eq!(request, asked());
        assert!(
            applied
                .skipped
                .is_some_and(|why| why.contains("would cost"))
        );
    }
}
