//! OpenAI's answers to image calls, good and bad, and what they cost.

use base64::Engine as _;

use super::ask::{self, Ask, Route};
use super::{dress, dress_answer};
use crate::sim::answer::Answer;
use crate::sim::behaviour::{Behaviour, Fault};
use crate::sim::picture::Picture;
use crate::sim::serve::Order;
use crate::sim::template::{Fill, OPENAI};
use crate::sim::{Shared, base_url, tokens};

/// What a partial image costs in output tokens.
const PARTIAL_TOKENS: u64 = 100;

/// Tokens of a call, or of one picture of it.
#[derive(Clone, Copy, Debug)]
struct Usage {
    text_in: u64,
    image_in: u64,
    output: u64,
}

impl Usage {
    fn json(self, template: &str) -> String {
        let input = (self.text_in + self.image_in).to_string();
        let [text_in, image_in, output] =
            [self.text_in, self.image_in, self.output].map(|count| count.to_string());
        let total = (self.text_in + self.image_in + self.output).to_string();
        let fills = [
            ("input", Fill::Json(&input)),
            ("text_in", Fill::Json(&text_in)),
            ("image_in", Fill::Json(&image_in)),
            ("output", Fill::Json(&output)),
            ("total", Fill::Json(&total)),
        ];
        OPENAI.fill(template, &fills).body
    }
}

/// The texts that several messages of one answer share.
struct Common {
    created: String,
    size: String,
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "openai"
    }

    fn model(&self) -> &str {
        self.model.id
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        self.n
    }

    fn price(&self, behaviour: &Behaviour) -> i64 {
        let (family, w, h) = (self.model.family, self.width, self.height);
        if family.is_dalle() {
            return i64::from(self.n) * tokens::dalle_price(family, self.quality, w, h);
        }
        self.cost(self.usage(behaviour))
    }

    fn price_without_picture(&self) -> i64 {
        self.cost(Usage {
            output: 0,
            ..self.usage(&Behaviour::ok())
        })
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        match &behaviour.fault {
            Fault::SafetyOutput { category } if self.stream => {
                let words = safety_words(id, category);
                self.broken_stream(behaviour, shared, id, words)
            }
            Fault::StreamError if self.stream => {
                let words = [
                    "server_error",
                    "server_error",
                    "The server had an error while processing your request. Sorry about that!",
                ];
                self.broken_stream(behaviour, shared, id, words.map(str::to_owned))
            }
            fault => match self.error(fault, id) {
                Some(answer) => answer,
                None if self.stream => self.streamed(behaviour, shared, id),
                None => self.whole(behaviour, shared, id),
            },
        }
    }
}

fn safety_words(id: &str, category: &str) -> [String; 3] {
    [
        "image_generation_user_error".to_owned(),
        "moderation_blocked".to_owned(),
        format!(
            "Your request was rejected by the safety system. If you believe this is an error, contact support and include the request ID {id}. safety_violations=[{category}]."
        ),
    ]
}

impl Ask {
    /// All tokens of the call.
    fn usage(&self, behaviour: &Behaviour) -> Usage {
        let each = tokens::output(self.model.family, self.quality, self.width, self.height)
            + u64::from(self.partials) * PARTIAL_TOKENS;
        Usage {
            text_in: tokens::text(&self.prompt),
            image_in: self.image_tokens,
            output: u64::from(self.n) * each + behaviour.extra_tokens,
        }
    }

    /// The part of picture `index`: what went in counts once, with the first.
    fn usage_of(&self, index: u32, behaviour: &Behaviour) -> Usage {
        let all = self.usage(behaviour);
        let each = (all.output - behaviour.extra_tokens) / u64::from(self.n);
        if index > 0 {
            return Usage {
                text_in: 0,
                image_in: 0,
                output: each,
            };
        }
        Usage {
            output: each + behaviour.extra_tokens,
            ..all
        }
    }

    /// Nano-dollars.
    fn cost(&self, usage: Usage) -> i64 {
        let of = |count: u64, rate: i64| {
            i64::try_from(count)
                .unwrap_or(i64::MAX)
                .saturating_mul(rate)
        };
        let rates = self.model.rates;
        of(usage.text_in, rates.text_in)
            .saturating_add(of(usage.image_in, rates.image_in))
            .saturating_add(of(usage.output, rates.image_out))
    }

    /// The answer of a fault that is one message; `None` when there are pictures to send.
    pub(super) fn error(&self, fault: &Fault, id: &str) -> Option<Answer> {
        let message =
            |name: &str, fills: &[(&str, Fill<'_>)]| Some(dress(OPENAI.fill(name, fills), id));
        let model = [("model", Fill::Text(self.model.id))];
        match fault {
            Fault::Safety { .. } if self.model.family.is_dalle() => {
                message("error.safety.dalle", &[])
            }
            Fault::Safety { category } | Fault::SafetyOutput { category } => {
                let fills = [("id", Fill::Text(id)), ("category", Fill::Text(category))];
                let drawn = matches!(fault, Fault::SafetyOutput { .. });
                let name = if drawn {
                    "error.safety_output"
                } else {
                    "error.safety"
                };
                message(name, &fills)
            }
            Fault::RateLimited { retry_after } => {
                let seconds = retry_after.unwrap_or(1).to_string();
                let fills = [model[0], ("seconds", Fill::Text(&seconds))];
                message("error.rate_limited", &fills)
            }
            Fault::Overloaded { retry_after } => {
                let mut answer = dress(OPENAI.fill("error.overloaded", &[]), id);
                if let Some(seconds) = retry_after {
                    answer.set("retry-after", &seconds.to_string());
                }
                Some(answer)
            }
            Fault::Server => message("error.server", &[]),
            Fault::StreamError => message("error.server", &[]),
            Fault::Quota => message("error.quota", &[]),
            Fault::Auth => message("error.auth", &[]),
            Fault::Permission => message("error.permission", &model),
            Fault::Retired => message("error.model", &model),
            Fault::Html => Some(Answer::page(OPENAI.fill("html", &[]))),
            Fault::None
            | Fault::NoImage
            | Fault::Cut { .. }
            | Fault::Drop
            | Fault::Drip { .. }
            | Fault::Stall => None,
        }
    }

    fn common(&self) -> Common {
        Common {
            created: ask::now(),
            size: self.size_words(),
        }
    }

    /// A new picture: OpenAI takes no seed, so no two are alike.
    fn picture(&self, shared: &Shared) -> Picture {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(self.digest.as_bytes())
            .update(&shared.next().to_le_bytes());
        let digest = hasher.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest.as_bytes()[..8]);
        Picture {
            format: self.format,
            width: self.width,
            height: self.height,
            digest: u64::from_le_bytes(first),
            transparent: self.transparent,
        }
    }

    pub(super) fn base64(&self, shared: &Shared) -> String {
        let file = self.picture(shared).paint(shared.options.pad_to);
        base64::engine::general_purpose::STANDARD.encode(file)
    }

    /// What a whole answer counts, as JSON.
    pub(super) fn metered(&self, behaviour: &Behaviour) -> serde_json::Value {
        let counts = self.usage(behaviour).json("usage");
        serde_json::from_str(&counts).unwrap_or_default()
    }

    /// `1024x1024`.
    pub(super) fn size_words(&self) -> String {
        format!("{}x{}", self.width, self.height)
    }

    pub(super) fn background(&self) -> &'static str {
        if self.transparent {
            "transparent"
        } else {
            "opaque"
        }
    }

    /// One entry of `data`.
    fn item(&self, shared: &Shared) -> String {
        let revised = self.model.family == tokens::Family::DallE3;
        let revised_prompt = format!("{}, in soft daylight.", self.prompt);
        let prompt = ("prompt", Fill::Text(&revised_prompt));
        if self.by_url {
            let url = format!("{}/_sim/img/{}", base_url(shared), self.picture(shared));
            let name = if revised {
                "data.url.revised"
            } else {
                "data.url"
            };
            return OPENAI.fill(name, &[("url", Fill::Text(&url)), prompt]).body;
        }
        let b64 = self.base64(shared);
        let name = if revised {
            "data.b64.revised"
        } else {
            "data.b64"
        };
        OPENAI.fill(name, &[("b64", Fill::Text(&b64)), prompt]).body
    }

    fn whole(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let empty = behaviour.fault == Fault::NoImage;
        let count = if empty { 0 } else { self.n };
        let items: Vec<String> = (0..count).map(|_| self.item(shared)).collect();
        let data = format!("[{}]", items.join(","));
        let mut usage = self.usage(behaviour);
        if empty {
            usage.output = 0;
        }
        let usage = usage.json("usage");
        let common = self.common();
        let fills = [
            ("created", Fill::Json(&common.created)),
            ("background", Fill::Text(self.background())),
            ("data", Fill::Json(&data)),
            ("format", Fill::Text(self.format.word())),
            ("quality", Fill::Text(self.quality)),
            ("size", Fill::Text(&common.size)),
            ("usage", Fill::Json(&usage)),
            (
                "safety_identifier",
                Fill::Text(self.safety_identifier.as_deref().unwrap_or_default()),
            ),
        ];
        let name = if self.model.family.is_dalle() {
            "images.ok.dalle"
        } else if self.safety_identifier.is_some() {
            "images.ok.safety_identifier"
        } else {
            "images.ok"
        };
        dress(OPENAI.fill(name, &fills), id)
    }

    /// One event with a picture of its own.
    fn event(
        &self,
        name: &str,
        index: u32,
        usage: &str,
        shared: &Shared,
    ) -> (Option<String>, String) {
        let verb = if self.route == Route::Edits {
            "image_edit"
        } else {
            "image_generation"
        };
        let (common, b64, index) = (self.common(), self.base64(shared), index.to_string());
        let fills = [
            ("verb", Fill::Text(verb)),
            ("b64", Fill::Text(&b64)),
            ("background", Fill::Text(self.background())),
            ("created", Fill::Json(&common.created)),
            ("format", Fill::Text(self.format.word())),
            ("index", Fill::Json(&index)),
            ("quality", Fill::Text(self.quality)),
            ("size", Fill::Text(&common.size)),
            ("usage", Fill::Json(usage)),
        ];
        let data = OPENAI.fill(&format!("stream.{name}"), &fills).body;
        let event = if name == "partial" {
            "partial_image"
        } else {
            name
        };
        (Some(format!("{verb}.{event}")), data)
    }

    fn streamed(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let mut events = Vec::new();
        let count = if behaviour.fault == Fault::NoImage {
            0
        } else {
            self.n
        };
        for image in 0..count {
            for partial in 0..self.partials {
                events.push(self.event("partial", partial, "null", shared));
            }
            let usage = self.usage_of(image, behaviour).json("usage.stream");
            events.push(self.event("completed", 0, &usage, shared));
        }
        let mut answer = Answer::events(events);
        dress_answer(&mut answer, id);
        answer
    }

    /// The partial images that were asked for, then an error: type, code and message.
    fn broken_stream(
        &self,
        behaviour: &Behaviour,
        shared: &Shared,
        id: &str,
        [kind, code, message]: [String; 3],
    ) -> Answer {
        debug_assert!(behaviour.fault.drawn());
        let mut events: Vec<(Option<String>, String)> = (0..self.partials)
            .map(|partial| self.event("partial", partial, "null", shared))
            .collect();
        let fills = [
            ("kind", Fill::Text(&kind)),
            ("code", Fill::Text(&code)),
            ("message", Fill::Text(&message)),
        ];
        let data = OPENAI.fill("stream.error", &fills).body;
        events.push((Some("error".to_owned()), data));
        let mut answer = Answer::events(events);
        dress_answer(&mut answer, id);
        answer
    }
}
