//! The lines of the log as types, key for key and in the order of the published format.
//!
//! Every key is always written; `null` means unknown. Money is exact, times are RFC 3339 in UTC
//! with milliseconds. Within version 1 keys and words are only added.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;

use super::facts::{Asked, Decided, Id, Named, Prompts};
use super::rule::{BudgetDid, RuleRecord};
use super::sums::{Causes, SavedBy, Spent, Step, attribute, saved};
use crate::action::{CacheScope, Via};
use crate::bill::{Charge, ChargeFrom, Codes, Quote};
use crate::image::{
    Billed, Delivery, Failure, FailureKind, Format, ImageRequest, ImageResponse, ModelId,
    Operation, SafetyStage, Sent, Tier, words,
};
use crate::money::Usd;

/// The version of the format.
pub const VERSION: u8 = 1;

words! {
    /// Whether decisions take effect.
    Mode {
        Enforce = "enforce",
        /// Decided and logged; nothing is changed.
        Observe = "observe",
    }
}

words! {
    /// Where an app's name comes from.
    AppFrom {
        /// The user of the proxy URL.
        Proxy = "proxy",
        Header = "header",
        /// `pixtoll run --app`, or the command's name.
        Run = "run",
        /// The user agent.
        Agent = "agent",
    }
}

words! {
    /// What the cache had to do with a call.
    CacheStatus {
        Hit = "hit",
        Miss = "miss",
        /// Neither looked up nor stored.
        Bypass = "bypass",
        /// Not looked up, but stored.
        Refresh = "refresh",
        /// Joined an equal call in flight.
        Collapsed = "collapsed",
        /// As bypass, and not collapsed either.
        Off = "off",
    }
}

words! {
    /// Who said what an attempt would cost.
    QuoteFrom {
        Book = "book",
        /// Asked before the attempt was held.
        Provider = "provider",
    }
}

words! {
    /// How an attempt ended.
    Outcome {
        Ok = "ok",
        /// Some pictures came, not all.
        Partial = "partial",
        Failed = "failed",
        /// It may have worked, and may have cost.
        Unknown = "unknown",
    }
}

words! {
    /// Who made the answer.
    AnsweredFrom {
        Provider = "provider",
        Cache = "cache",
        Collapsed = "collapsed",
        Plugin = "plugin",
    }
}

words! {
    /// How much of the answer its caller received.
    Delivered {
        Yes = "yes",
        Partly = "partly",
        No = "no",
    }
}

words! {
    /// Whose word an error is.
    ErrorBy {
        Provider = "provider",
        Pixtoll = "pixtoll",
        Budget = "budget",
        Plugin = "plugin",
    }
}

pub(super) fn millis<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{at:.3}"))
}

/// The record of one call: what was asked, what the rules did, each attempt, each price.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    v: u8,
    #[serde(rename = "type")]
    kind: &'static str,
    pub id: Id,
    #[serde(serialize_with = "millis")]
    pub at: Timestamp,
    #[serde(serialize_with = "millis")]
    pub ended_at: Timestamp,
    /// The process that took the call.
    pub instance: Arc<str>,
    pub mode: Mode,
    pub app: Arc<str>,
    pub app_from: AppFrom,
    /// Eight hex digits of a keyed digest of the credential that the app sent.
    pub credential: Option<Arc<str>>,
    /// A digest of the app's name for its own user.
    pub user: Option<Arc<str>>,
    /// The user agent; empty when the app sent none.
    pub agent: Arc<str>,
    pub tags: Vec<Arc<str>>,
    pub via: Via,
    pub dialect: &'static str,
    pub operation: Operation,
    /// How often the app's own client library had sent this call before.
    pub sdk_retry: u32,
    /// The call that this one repeats.
    pub retry_of: Option<Id>,
    /// Digest of the configuration in force.
    pub config: Arc<str>,
    /// Digest of the price book in force.
    pub book: Arc<str>,
    pub asked: Asked,
    pub decided: Decided,
    /// In observe mode, what enforcing would have come to.
    pub would: Option<Would>,
    pub rules: Vec<RuleRecord>,
    pub lost: Vec<LostRecord>,
    pub unmet: Vec<UnmetRecord>,
    pub budgets: Vec<BudgetRecord>,
    pub cache: CacheRecord,
    pub attempts: Vec<AttemptRecord>,
    pub answered: Option<AnswerRecord>,
    pub error: Option<ErrorRecord>,
    /// What is known to have been spent, USD.
    pub cost: Usd,
    /// Whether `cost` is all: no attempt with an unknown price or outcome.
    pub cost_exact: bool,
    pub causes: Causes,
    pub saved: Option<Usd>,
    pub saved_by: SavedBy,
    /// From arrival to the last byte of the answer.
    pub ms: u64,
    /// Of that, our own work.
    pub overhead_us: u64,
    /// Anything else that a reader should know.
    pub notes: Vec<String>,
}

impl Decision {
    /// A call as it arrived: nothing decided, nothing attempted, nothing spent, nobody named.
    pub fn new(
        id: Id,
        at: Timestamp,
        instance: Arc<str>,
        dialect: &'static str,
        operation: Operation,
        asked: Asked,
    ) -> Decision {
        let nobody: Arc<str> = "".into();
        Decision {
            v: VERSION,
            kind: "call",
            id,
            at,
            ended_at: at,
            instance,
            mode: Mode::Enforce,
            app: "unknown".into(),
            app_from: AppFrom::Agent,
            credential: None,
            user: None,
            agent: Arc::clone(&nobody),
            tags: Vec::new(),
            via: Via::Gateway,
            dialect,
            operation,
            sdk_retry: 0,
            retry_of: None,
            config: Arc::clone(&nobody),
            book: nobody,
            decided: Decided::as_asked(&asked),
            asked,
            would: None,
            rules: Vec::new(),
            lost: Vec::new(),
            unmet: Vec::new(),
            budgets: Vec::new(),
            cache: CacheRecord::off(),
            attempts: Vec::new(),
            answered: None,
            error: None,
            cost: Usd::ZERO,
            cost_exact: true,
            causes: Causes::default(),
            saved: None,
            saved_by: SavedBy::default(),
            ms: 0,
            overhead_us: 0,
            notes: Vec::new(),
        }
    }

    /// Adds an attempt. Nearly every call has one: a list takes room for four when it begins.
    pub fn attempted(&mut self, attempt: AttemptRecord) {
        self.attempts.reserve_exact(1);
        self.attempts.push(attempt);
    }

    /// Adds up what the attempts cost and what the call saved, from the attempts and the answer
    /// that stand in it.
    ///
    /// `yardstick` is the quote of what was asked, or of the successor where the asked model is
    /// retired. `answer` has the `i` of the attempts whose pictures the caller was given, none for
    /// an answer from elsewhere. `steps` are the levers in the order they were pulled.
    pub fn add_up(&mut self, yardstick: Option<Usd>, answer: &[u32], steps: &[Step]) {
        let delivered = self.answered.as_ref().map(|answer| answer.delivered);
        let spent = Spent::of(&self.attempts, answer, delivered);
        self.saved = saved(yardstick, &spent, self.answered.is_some());
        self.saved_by = attribute(self.saved, steps);
        self.cost = spent.cost();
        self.cost_exact = spent.exact;
        self.causes = spent.causes;
    }
}

/// What would have been in enforce mode.
#[derive(Clone, Debug, Serialize)]
pub struct Would {
    pub cache: CacheStatus,
    pub cost: Option<Usd>,
    pub saved: Option<Usd>,
}

/// A field that a target had no word for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostRecord {
    pub field: Cow<'static, str>,
    pub target: ModelId,
}

/// A wish that a target met only nearly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnmetRecord {
    pub wish: String,
    pub got: String,
    pub target: ModelId,
}

/// What a budget said.
#[derive(Clone, Debug, Serialize)]
pub struct BudgetRecord {
    pub name: Arc<str>,
    /// Which of the budget's shares: the day, and whatever it is kept by.
    pub bucket: Arc<str>,
    /// Set aside for this call, USD.
    pub held: Usd,
    /// Left after that, USD.
    pub left: Usd,
    pub did: BudgetDid,
}

/// What the cache had to do with a call.
#[derive(Clone, Debug, Serialize)]
pub struct CacheRecord {
    pub status: CacheStatus,
    /// Digest of the call's key in hex; empty where none was made.
    pub key: Arc<str>,
    pub scope: CacheScope,
    /// How old the entry was.
    pub age_s: Option<u64>,
    /// How long the entry lives, or would.
    pub ttl_s: Option<u64>,
    pub stored: bool,
    /// Whether the request had a seed.
    pub seeded: bool,
    /// Which of several pictures of one unseeded request, from 0.
    pub variant: Option<u32>,
    /// The call that bought the picture.
    pub of: Option<Id>,
}

impl CacheRecord {
    /// The cache was not asked.
    pub fn off() -> CacheRecord {
        CacheRecord {
            status: CacheStatus::Off,
            key: "".into(),
            scope: CacheScope::Credential,
            age_s: None,
            ttl_s: None,
            stored: false,
            seeded: false,
            variant: None,
            of: None,
        }
    }
}

/// The rule that caused an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub plugin: Arc<str>,
    pub hook: Cow<'static, str>,
}

/// One request really sent to a provider, with its polls.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptRecord {
    /// From 1, in the order they began.
    pub i: u32,
    /// When it began, since the call arrived.
    pub at_ms: u64,
    /// How long it waited before it began: for a limit, or between retries.
    pub wait_ms: u64,
    pub model: ModelId,
    pub tier: Tier,
    /// `None` for what the app itself asked for.
    pub by: Option<By>,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub failure: Option<FailureRecord>,
    pub billed: Billed,
    pub quote: Option<Usd>,
    pub quote_high: Option<Usd>,
    pub quote_from: QuoteFrom,
    /// What the price book says, which is `quote` itself unless the provider was asked.
    pub book_quote: Option<Usd>,
    pub book_quote_high: Option<Usd>,
    pub charge: Option<Usd>,
    pub charge_from: ChargeFrom,
    /// Part of what was bought has no price, and is not in `charge`.
    pub partly_unpriced: bool,
    /// Charge less quote, where they differ.
    pub discrepancy: Option<Usd>,
    pub images: u32,
    pub sizes: Vec<String>,
    /// Until the first byte of the answer; where none came, the whole wait.
    pub ttfb_ms: u64,
    pub ms: u64,
    pub retry_after_s: Option<u64>,
    pub request_id: Option<String>,
    /// An async provider's name for its job.
    pub job: Option<String>,
    /// Every billing signal of the answer.
    pub codes: Named<SmolStr>,
}

impl AttemptRecord {
    /// An attempt that has just been sent: its outcome is unknown until something comes back.
    pub fn new(i: u32, request: &ImageRequest, quote: Option<&Quote>) -> AttemptRecord {
        AttemptRecord {
            i,
            at_ms: 0,
            wait_ms: 0,
            model: request.model.clone(),
            tier: request.tier,
            by: None,
            status: None,
            outcome: Outcome::Unknown,
            failure: None,
            billed: Billed::Unknown,
            quote: quote.map(|quote| quote.expected),
            quote_high: quote.map(|quote| quote.high),
            quote_from: QuoteFrom::Book,
            book_quote: quote.map(|quote| quote.expected),
            book_quote_high: quote.map(|quote| quote.high),
            charge: None,
            charge_from: ChargeFrom::None,
            partly_unpriced: false,
            discrepancy: None,
            images: 0,
            sizes: Vec::new(),
            ttfb_ms: 0,
            ms: 0,
            retry_after_s: None,
            request_id: None,
            job: None,
            codes: Named::default(),
        }
    }

    /// The provider itself was asked, and what it said counts; the book said `book`.
    pub fn quoted_by_provider(&mut self, book: Option<&Quote>) {
        self.quote_from = QuoteFrom::Provider;
        self.book_quote = book.map(|quote| quote.expected);
        self.book_quote_high = book.map(|quote| quote.high);
    }

    /// It brought pictures, `asked_n` of them or fewer, and cost `charge`. The billing signals of
    /// the answer move here.
    pub fn answer(&mut self, response: &mut ImageResponse, asked_n: u32, charge: Charge) {
        let images = u32::try_from(response.images.len()).unwrap_or(u32::MAX);
        self.outcome = if images < asked_n {
            Outcome::Partial
        } else {
            Outcome::Ok
        };
        self.images = images;
        self.sizes = response.sizes();
        self.billed = match charge.from {
            ChargeFrom::None => Billed::No,
            _ => Billed::Yes,
        };
        self.charge(charge);
        // Whoever is answered from memory later was not billed.
        self.codes(std::mem::take(&mut response.codes));
    }

    /// It brought none. `prompt` is kept out of the provider's words as `prompts` demands.
    pub fn fail(&mut self, failure: &Failure, charge: Charge, prompt: &str, prompts: Prompts) {
        let lost = failure.sent == Sent::Unknown;
        self.outcome = if lost {
            Outcome::Unknown
        } else {
            Outcome::Failed
        };
        self.status = failure.status;
        self.billed = failure.billed;
        self.images = failure.images;
        self.retry_after_s = failure
            .retry_after
            .map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
        self.failure = Some(FailureRecord::of(failure, prompt, prompts));
        self.charge(charge);
    }

    /// What it cost. A charge that differs from the quote is a discrepancy.
    pub fn charge(&mut self, charge: Charge) {
        self.charge = charge.amount;
        self.charge_from = charge.from;
        self.discrepancy = match (charge.amount, self.quote) {
            (Some(charged), Some(quoted))
                if charged != quoted && charge.from != ChargeFrom::None =>
            {
                Some(charged - quoted)
            }
            _ => None,
        };
    }

    /// Keeps the billing signals of an answer.
    pub fn codes(&mut self, codes: Codes) {
        self.request_id = codes.request_id;
        if self.codes.is_empty() {
            self.codes = Named(codes.entries);
            return;
        }
        for (name, text) in codes.entries {
            self.codes.put(name, text);
        }
    }
}

/// Why an attempt brought no picture.
#[derive(Clone, Debug, Serialize)]
pub struct FailureRecord {
    pub kind: FailureKind,
    pub sent: Sent,
    /// The provider's own code; empty when it gave none.
    pub code: String,
    pub message: String,
    /// Which side of the work moderation stopped.
    pub safety_at: Option<SafetyStage>,
}

impl FailureRecord {
    pub fn of(failure: &Failure, prompt: &str, prompts: Prompts) -> FailureRecord {
        FailureRecord {
            kind: failure.kind,
            sent: failure.sent,
            code: failure.code.clone().unwrap_or_default(),
            message: prompts.clean(&failure.message, prompt),
            safety_at: failure.safety.as_ref().and_then(|block| block.at),
        }
    }
}

/// What the caller was given.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerRecord {
    pub from: AnsweredFrom,
    pub model: ModelId,
    pub images: u32,
    pub sizes: Vec<String>,
    pub format: Format,
    pub delivery: Delivery,
    /// Of the answer's body.
    pub bytes: u64,
    /// Whether pictures were enlarged or cut to the size that was asked.
    pub fitted: bool,
    pub delivered: Delivered,
}

/// Why the caller was given no picture.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorRecord {
    pub kind: FailureKind,
    /// The HTTP status that the caller saw.
    pub status: u16,
    pub by: ErrorBy,
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::facts::Asking;
    use super::super::fit::{MOST_BYTES, render};
    use super::super::notice::{Amend, AmendAttempt, AmendWhy, Notice, NoticeKind, NoticeLevel};
    use super::super::schema;
    use super::super::sums::Lever;
    use super::*;
    use crate::image::{ImageRequest, Quality, SafetyBlock, Size};
    use serde_json::{Value, json};

    fn usd(text: &str) -> Usd {
        text.parse().unwrap()
    }

    fn quote(text: &str) -> Quote {
        Quote {
            low: usd(text),
            expected: usd(text),
            high: usd(text),
            lines: Vec::new(),
        }
    }

    fn request() -> ImageRequest {
        let mut request = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a red fox");
        request.size = Size::Pixels {
            width: 1024,
            height: 1024,
        };
        request.quality = Some(Quality::High);
        request
    }

    /// A call as it arrived.
    pub(in super::super) fn decision() -> Decision {
        let asking = Asking {
            quote: Some(&quote("0.167")),
            ..Asking::default()
        };
        Decision::new(
            Id::new(),
            "2026-11-22T18:42:07.0519Z".parse().unwrap(),
            "01JDA0000000000000000000".into(),
            "openai",
            Operation::Generate,
            Asked::from_request(&request(), asking, Prompts::Head),
        )
    }

    /// A call with one of everything.
    pub(in super::super) fn full() -> Decision {
        let mut all = decision();
        let moved = ImageRequest {
            model: ModelId::new("stability", "sd3.5-medium"),
            ..request()
        };
        let blocked = Failure {
            safety: Some(SafetyBlock {
                at: Some(SafetyStage::Output),
                categories: vec!["violence".into()],
            }),
            code: Some("moderation_blocked".into()),
            ..Failure::answered(FailureKind::Safety, 400, Billed::Yes, "blocked: a red fox")
        };
        let charge = |text: &str| Charge {
            amount: Some(usd(text)),
            from: ChargeFrom::List,
        };
        let mut first = AttemptRecord::new(1, &request(), Some(&quote("0.167")));
        first.fail(&blocked, charge("0.167"), "a red fox", Prompts::Hash);
        let mut second = AttemptRecord::new(2, &moved, Some(&quote("0.035")));
        second.outcome = Outcome::Ok;
        second.billed = Billed::Yes;
        second.by = Some(By {
            plugin: "retry_chain".into(),
            hook: "on_failure".into(),
        });
        second.charge(charge("0.036"));
        let mut codes = Codes::default();
        codes.put("usage.output_tokens", "4160");
        second.codes(codes);
        all.attempts = vec![first, second];
        all.credential = Some("0badcafe".into());
        all.tags = vec!["background".into()];
        all.would = Some(Would {
            cache: CacheStatus::Hit,
            cost: Some(Usd::ZERO),
            saved: None,
        });
        all.rules = vec![RuleRecord::error(
            "icons".into(),
            "d1".into(),
            "on_request",
            "attempt to index nil",
            "icons.lua:3",
        )];
        all.rules[0].set.put("n", 1.into());
        all.lost = vec![LostRecord {
            field: "style".into(),
            target: moved.model.clone(),
        }];
        all.unmet = vec![UnmetRecord {
            wish: "size 1000x1000".into(),
            got: "1024x1024".into(),
            target: moved.model.clone(),
        }];
        all.budgets = vec![BudgetRecord {
            name: "daily".into(),
            bucket: "2026-11-22".into(),
            held: usd("0.167"),
            left: usd("24.833"),
            did: BudgetDid::Ok,
        }];
        all.cache.of = Some(Id::new());
        all.answered = Some(AnswerRecord {
            from: AnsweredFrom::Provider,
            model: moved.model,
            images: 1,
            sizes: vec!["1024x1024".into()],
            format: Format::Png,
            delivery: Delivery::Base64,
            bytes: 1_500_000,
            fitted: false,
            delivered: Delivered::Yes,
        });
        all.error = Some(ErrorRecord {
            kind: FailureKind::Quota,
            status: 402,
            by: ErrorBy::Budget,
            message: "the budget `daily` is spent".into(),
            remedy: "raise it, or wait until midnight UTC".into(),
        });
        all
    }

    #[track_caller]
    fn holds<L: super::super::fit::Line>(line: &L) -> Value {
        let text = render(line).unwrap();
        assert!(text.len() <= MOST_BYTES, "{} bytes", text.len());
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema::faults(&value), Vec::<String>::new(), "{text}");
        value
    }

    #[test]
    fn every_line_holds_against_the_schema() {
        holds(&decision());
        holds(&full());
        holds(&Amend::new(
            Id::new(),
            Timestamp::now(),
            AmendWhy::Late,
            vec![AmendAttempt {
                i: 1,
                billed: Billed::Yes,
                charge: Some(usd("0.04")),
                charge_from: ChargeFrom::Reported,
            }],
            Causes::default(),
        ));
        let notice = Notice::new(
            Timestamp::now(),
            "i".into(),
            NoticeKind::Reload,
            NoticeLevel::Warning,
            "icons.lua:3: syntax error; the last good version stays",
        );
        holds(&notice.with("file", "icons.lua"));
    }

    #[test]
    fn the_schema_finds_what_is_wrong() {
        let good = serde_json::to_value(full()).unwrap();
        let broken: &[(&str, Value, &str)] = &[
            ("/id", json!("not an id"), "/id: does not match"),
            ("/mode", json!("dream"), "/mode: is none of"),
            ("/cost", json!("0.04"), "/cost: is not \"number\""),
            ("/asked/n", json!(0), "/asked/n: is below 1"),
            ("/asked/inputs", json!([{}]), "/asked/inputs/0: lacks"),
            ("/attempts/1/codes", json!({"a": 1}), "/attempts/1/codes/a"),
            ("/answered", json!(7), "/answered: fits nothing"),
            ("/v", json!(2), "/v: is not 1"),
        ];
        for (path, value, fault) in broken {
            let mut line = good.clone();
            *line.pointer_mut(path).unwrap() = value.clone();
            let faults = schema::faults(&line).join("\n");
            assert!(faults.contains(fault), "{path}: {faults}");
        }
        let mut lacking = good;
        lacking.as_object_mut().unwrap().remove("saved_by");
        assert!(schema::faults(&lacking).join("").contains("lacks saved_by"));
    }

    #[test]
    fn the_schema_has_the_words_of_the_code() {
        let schema: Value = serde_json::from_str(schema::SCHEMA).unwrap();
        let words = |path: &str| {
            let list = schema.pointer(&format!("/$defs/{path}/enum")).cloned();
            let mut list = list.unwrap_or_else(|| panic!("no {path}"));
            list.as_array_mut().unwrap().retain(|word| !word.is_null());
            list
        };
        macro_rules! same {
            ($($path:literal = $words:ty,)+) => {
                $(assert_eq!(words($path), json!(<$words>::ALL), $path);)+
            };
        }
        same! {
            "call/properties/mode" = Mode,
            "call/properties/app_from" = AppFrom,
            "call/properties/via" = Via,
            "call/properties/operation" = Operation,
            "asked/properties/quality" = Quality,
            "asked/properties/tier" = Tier,
            "asked/properties/format" = Format,
            "asked/properties/delivery" = Delivery,
            "asked/properties/safety" = crate::image::Safety,
            "input/properties/role" = crate::image::InputRole,
            "rule/properties/did" = super::super::rule::Did,
            "budget/properties/did" = BudgetDid,
            "cache/properties/status" = CacheStatus,
            "cache/properties/scope" = CacheScope,
            "would/properties/cache" = CacheStatus,
            "attempt/properties/outcome" = Outcome,
            "attempt/properties/quote_from" = QuoteFrom,
            "charge_from" = ChargeFrom,
            "billed" = Billed,
            "failure/properties/kind" = FailureKind,
            "failure/properties/sent" = Sent,
            "failure/properties/safety_at" = SafetyStage,
            "answer/properties/from" = AnsweredFrom,
            "answer/properties/delivered" = Delivered,
            "error/properties/by" = ErrorBy,
            "error/properties/kind" = FailureKind,
            "amend/properties/why" = AmendWhy,
            "notice/properties/kind" = NoticeKind,
            "notice/properties/level" = NoticeLevel,
        }
        let levers: Vec<&str> = Lever::ALL.iter().map(|lever| lever.as_str()).collect();
        assert_eq!(schema["$defs"]["saved_by"]["required"], json!(levers));
    }

    #[test]
    fn keys_stand_in_the_published_order() {
        let text = render(&full()).unwrap();
        let order = [
            "\"v\":1,\"type\":\"call\",\"id\":",
            ",\"at\":\"2026-11-22T18:42:07.051Z\",\"ended_at\":",
            ",\"instance\":",
            ",\"mode\":\"enforce\",\"app\":\"unknown\",\"app_from\":\"agent\",\"credential\":\"0badcafe\"",
            ",\"user\":null,\"agent\":\"\",\"tags\":",
            ",\"via\":\"gateway\",\"dialect\":\"openai\",\"operation\":\"generate\",\"sdk_retry\":0",
            ",\"retry_of\":null,\"config\":\"\",\"book\":\"\",\"asked\":",
            "\"quote\":0.167,\"quote_high\":0.167},\"decided\":",
            ",\"would\":{",
            ",\"rules\":[",
            ",\"lost\":[",
            ",\"unmet\":[",
            ",\"budgets\":[",
            ",\"cache\":{",
            ",\"attempts\":[",
            ",\"answered\":{",
            ",\"error\":{",
            ",\"cost\":0,\"cost_exact\":true,\"causes\":{",
            ",\"saved\":null,\"saved_by\":{",
            ",\"ms\":0,\"overhead_us\":0,\"notes\":[]}",
        ];
        let mut rest = text.as_str();
        for part in order {
            let (_, after) = rest
                .split_once(part)
                .unwrap_or_else(|| panic!("no {part} in {rest}"));
            rest = after;
        }
    }

    #[test]
    fn a_call_adds_up() {
        let mut call = full();
        let step = super::super::sums::Step {
            lever: Lever::Route,
            before: Some(usd("0.167")),
            after: Some(usd("0.035")),
        };
        call.add_up(Some(usd("0.167")), &[2], &[step]);
        assert_eq!(call.cost, usd("0.203"));
        assert_eq!(call.causes.failed_billed, usd("0.167"));
        assert_eq!(call.causes.delivered, usd("0.036"));
        assert_eq!(call.saved, Some(usd("-0.036")));
        assert_eq!(call.saved_by.sum(), usd("-0.036"));
        assert!(call.cost_exact);
    }

    #[test]
    fn a_charge_that_differs_from_the_quote_is_told() {
        let call = full();
        assert_eq!(call.attempts[0].discrepancy, None);
        assert_eq!(call.attempts[1].discrepancy, Some(usd("0.001")));
        let failure = call.attempts[0].failure.as_ref().unwrap();
        assert_eq!(failure.message, "blocked: (prompt)");
    }

    #[test]
    fn a_long_prompt_goes_first_and_the_rest_stays() {
        let mut call = full();
        call.asked.prompt = Some("ü".repeat(20_000));
        let line = holds(&call);
        assert_eq!(
            line["asked"]["prompt"].as_str().unwrap().chars().count(),
            80
        );
        assert!(line["asked"]["prompt"].as_str().unwrap().ends_with('…'));
        assert_eq!(line["notes"], json!(["shortened to fit: prompt"]));
        assert_eq!(
            line["attempts"],
            serde_json::to_value(&call.attempts).unwrap()
        );
    }

    #[test]
    fn a_long_message_goes_before_codes_and_rules() {
        let mut call = full();
        call.attempts[0].failure.as_mut().unwrap().message = "m".repeat(20_000);
        let line = holds(&call);
        assert_eq!(line["notes"], json!(["shortened to fit: prompt, messages"]));
        assert_eq!(line["rules"], serde_json::to_value(&call.rules).unwrap());
    }

    #[test]
    fn many_rules_are_left_out_last_and_counted() {
        let mut call = full();
        call.rules = vec![call.rules[0].clone(); 50];
        call.rules
            .iter_mut()
            .for_each(|rule| rule.why = "w".repeat(500));
        let line = holds(&call);
        assert_eq!(
            line["notes"],
            json!(["shortened to fit: prompt, messages, codes, rules (18 left out)"])
        );
    }

    #[test]
    fn the_worst_line_still_fits_and_keeps_its_sums() {
        let nasty = "\u{1}".repeat(300);
        let mut call = full();
        call.add_up(Some(usd("0.167")), &[2], &[]);
        let attempt = call.attempts[0].clone();
        call.attempts = vec![attempt; 100];
        for attempt in &mut call.attempts {
            attempt.model = ModelId::new(&nasty, &nasty);
            attempt.request_id = Some(nasty.clone());
            attempt.job = Some(nasty.clone());
            attempt.sizes = vec![nasty.clone(); 50];
            for i in 0..30 {
                attempt
                    .codes
                    .put(format!("{nasty}{i}"), nasty.as_str().into());
            }
        }
        call.rules = vec![call.rules[0].clone(); 300];
        for rule in &mut call.rules {
            rule.set.put(nasty.clone(), nasty.clone().into());
            rule.why.clone_from(&nasty);
            rule.text.clone_from(&nasty);
            rule.digest = nasty.as_str().into();
        }
        call.tags = vec![nasty.as_str().into(); 300];
        call.lost = vec![call.lost[0].clone(); 300];
        call.unmet = vec![call.unmet[0].clone(); 300];
        call.budgets = vec![call.budgets[0].clone(); 300];
        call.notes = vec![nasty.clone(); 300];
        for text in [
            &mut call.app,
            &mut call.agent,
            &mut call.config,
            &mut call.book,
        ] {
            *text = nasty.as_str().into();
        }
        call.asked.model = ModelId::new(&nasty, &nasty);
        call.asked.size.clone_from(&nasty);
        call.asked.prompt = Some(nasty.clone());
        call.error.as_mut().unwrap().message = nasty;
        let line = holds(&call);
        assert_eq!(line["cost"], json!(0.203));
        assert_eq!(line["id"], json!(call.id.to_string()));
    }

    #[test]
    fn paths_are_known_by_the_schema() {
        for path in [
            "app",
            "asked.model",
            "attempts.0.model",
            "attempts.failure.kind",
            "rules.set.size",
            "saved_by.route",
            "answered.from",
            "text",
            "why",
        ] {
            assert!(schema::knows(path), "{path}");
        }
        for path in ["apps", "asked.modle", "attempts.0.0", "cost.usd"] {
            assert!(!schema::knows(path), "{path}");
        }
    }
}
