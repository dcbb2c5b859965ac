//! What a simulated provider shall do with an attempt, and the words that say so.
//!
//! The same words serve a script, a directive in the prompt and the `x-sim` header, so that a
//! test in Rust, an app in Python and a person with curl ask for a failure alike.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// What goes wrong with an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the picture is drawn and sent.
    #[default]
    None,
    /// Moderation refuses the input; nothing is drawn.
    Safety {
        category: String,
    },
    /// Moderation withholds the drawn picture.
    SafetyOutput {
        category: String,
    },
    /// 429; seconds to wait.
    RateLimited {
        retry_after: Option<u64>,
    },
    /// 503; seconds to wait.
    Overloaded {
        retry_after: Option<u64>,
    },
    /// 500.
    Server,
    /// The account has no money left.
    Quota,
    Auth,
    Permission,
    /// 404: the model is gone.
    Retired,
    /// 200 without a picture.
    NoImage,
    /// 502 with a page of HTML, as an edge in front of a provider sends it.
    Html,
    /// The connection breaks after the head and so many bytes of the body (default: half).
    Cut {
        after: Option<usize>,
    },
    /// The request is read and the connection closed without a word.
    Drop,
    /// The body leaves in chunks with a pause before each but the first.
    Drip {
        chunk: usize,
        pause: Duration,
    },
    /// No answer, until the client goes.
    Stall,
    /// A stream that begins well and ends with an error event.
    StreamError,
}

impl Fault {
    /// Whether the provider has drawn the pictures, and so charges for them.
    pub const fn drawn(&self) -> bool {
        matches!(
            self,
            Fault::None
                | Fault::SafetyOutput { .. }
                | Fault::Cut { .. }
                | Fault::Drop
                | Fault::Drip { .. }
                | Fault::Stall
                | Fault::StreamError
        )
    }

    /// The word of the bill list.
    pub const fn word(&self) -> &'static str {
        match self {
            Fault::None => "ok",
            Fault::Safety { .. } => "safety",
            Fault::SafetyOutput { .. } => "safety_output",
            Fault::RateLimited { .. } => "rate_limited",
            Fault::Overloaded { .. } => "overloaded",
            Fault::Server => "server",
            Fault::Quota => "quota",
            Fault::Auth => "auth",
            Fault::Permission => "permission",
            Fault::Retired => "retired",
            Fault::NoImage => "no_image",
            Fault::Html => "html",
            Fault::Cut { .. } => "cut",
            Fault::Drop => "drop",
            Fault::Drip { .. } => "drip",
            Fault::Stall => "stall",
            Fault::StreamError => "stream_error",
        }
    }
}

/// A fault, and what happens around it. `Behaviour::from(Fault::Server).held()`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behaviour {
    pub fault: Fault,
    /// Wait for a release before anything is answered.
    pub hold: bool,
    /// Wait so long before the head of the answer.
    pub delay: Duration,
    /// Charge, or do not, whatever the fault would mean by itself.
    pub billed: Option<bool>,
    /// Output tokens above what the table says, so that usage and quote differ.
    pub extra_tokens: u64,
    /// Whether every attempt behaves so, or only the first ones.
    pub times: Option<u32>,
}

impl Behaviour {
    /// Draws and answers.
    pub fn ok() -> Behaviour {
        Behaviour::default()
    }

    /// Waits for a release, then draws and answers.
    pub fn hold() -> Behaviour {
        Behaviour::ok().held()
    }

    /// Answers after `delay`.
    pub fn slow(delay: Duration) -> Behaviour {
        Behaviour {
            delay,
            ..Behaviour::ok()
        }
    }

    /// The same, after a release.
    #[must_use]
    pub fn held(self) -> Behaviour {
        Behaviour { hold: true, ..self }
    }

    /// The same, charged or not.
    #[must_use]
    pub fn billed(self, billed: bool) -> Behaviour {
        Behaviour {
            billed: Some(billed),
            ..self
        }
    }
}

impl From<Fault> for Behaviour {
    fn from(fault: Fault) -> Behaviour {
        Behaviour {
            fault,
            ..Behaviour::default()
        }
    }
}

/// The words, with their meaning: the help and the parser's test read this one list.
pub const WORDS: &[(&str, &str)] = &[
    ("ok", "draw the picture and send it"),
    ("safety", "refuse the prompt before drawing; category=WORD"),
    (
        "safety_output",
        "withhold the drawn picture, charged; category=WORD",
    ),
    ("rate_limited", "429; retry_after=SECONDS"),
    ("overloaded", "503; retry_after=SECONDS"),
    ("server", "500"),
    ("quota", "the account's money is used up"),
    ("auth", "401, wrong key"),
    ("permission", "403, not allowed to use this model"),
    ("retired", "404, the model is gone"),
    ("no_image", "200 without a picture"),
    ("html", "502 with an HTML page"),
    (
        "cut",
        "break the connection within the body, charged; after=BYTES",
    ),
    ("drop", "close the connection without an answer, charged"),
    ("drip", "send the body in pieces; chunk=BYTES ms=PAUSE"),
    ("stall", "never answer, charged"),
    (
        "stream_error",
        "begin a stream and end it with an error event, charged",
    ),
    ("slow", "wait before the answer; delay_ms=N"),
    (
        "hold",
        "wait for POST /_sim/release, then do what the other words say",
    ),
];

/// Why a text names no behaviour.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadBehaviour {
    #[error("`{0}` is no behaviour; known are: {known}", known = known())]
    Word(String),
    #[error(
        "`{0}` is no setting; known are: retry_after, category, after, chunk, ms, delay_ms, billed, extra_tokens, times"
    )]
    Key(String),
    #[error("`{key}` must be a whole number, not `{value}`")]
    Number { key: String, value: String },
    #[error("`billed` must be yes or no, not `{0}`")]
    YesNo(String),
    #[error("`{0}` and `{1}` cannot both happen to one attempt")]
    Two(&'static str, &'static str),
}

fn known() -> String {
    let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

/// The settings of a behaviour as they are written, before they find their fault.
#[derive(Default)]
struct Settings {
    retry_after: Option<u64>,
    category: Option<String>,
    after: Option<u64>,
    chunk: Option<u64>,
    ms: Option<u64>,
}

impl FromStr for Behaviour {
    type Err = BadBehaviour;

    fn from_str(text: &str) -> Result<Behaviour, BadBehaviour> {
        let mut behaviour = Behaviour::default();
        let mut settings = Settings::default();
        let mut fault_word = None;
        for word in text.split([' ', ',', '\t', '\n']).filter(|w| !w.is_empty()) {
            if let Some((key, value)) = word.split_once('=') {
                set(&mut behaviour, &mut settings, key, value)?;
            } else if word == "hold" {
                behaviour.hold = true;
            } else if word != "slow" {
                let &(known, _) = WORDS
                    .iter()
                    .find(|(known, _)| *known == word)
                    .ok_or_else(|| BadBehaviour::Word(word.to_owned()))?;
                if let Some(first) = fault_word.replace(known) {
                    return Err(BadBehaviour::Two(first, known));
                }
            }
        }
        behaviour.fault = fault(fault_word.unwrap_or("ok"), settings);
        Ok(behaviour)
    }
}

fn set(
    behaviour: &mut Behaviour,
    settings: &mut Settings,
    key: &str,
    value: &str,
) -> Result<(), BadBehaviour> {
    let number = || {
        value
            .parse::<u64>()
            .map_err(|_: ParseIntError| BadBehaviour::Number {
                key: key.to_owned(),
                value: value.to_owned(),
            })
    };
    match key {
        "retry_after" => settings.retry_after = Some(number()?),
        "category" => settings.category = Some(value.to_owned()),
        "after" => settings.after = Some(number()?),
        "chunk" => settings.chunk = Some(number()?),
        "ms" => settings.ms = Some(number()?),
        "delay_ms" => behaviour.delay = Duration::from_millis(number()?),
        "extra_tokens" => behaviour.extra_tokens = number()?,
        "times" => behaviour.times = Some(u32::try_from(number()?).unwrap_or(u32::MAX)),
        "billed" => {
            behaviour.billed = Some(match value {
                "yes" => true,
                "no" => false,
                other => return Err(BadBehaviour::YesNo(other.to_owned())),
            });
        }
        other => return Err(BadBehaviour::Key(other.to_owned())),
    }
    Ok(())
}

/// The fault that a known word means.
fn fault(word: &str, settings: Settings) -> Fault {
    let category = settings.category.unwrap_or_else(|| "violence".to_owned());
    let retry_after = settings.retry_after;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    match word {
        "safety" => Fault::Safety { category },
        "safety_output" => Fault::SafetyOutput { category },
        "rate_limited" => Fault::RateLimited { retry_after },
        "overloaded" => Fault::Overloaded { retry_after },
        "server" => Fault::Server,
        "quota" => Fault::Quota,
        "auth" => Fault::Auth,
        "permission" => Fault::Permission,
        "retired" => Fault::Retired,
        "no_image" => Fault::NoImage,
        "html" => Fault::Html,
        "cut" => Fault::Cut {
            after: settings.after.map(size),
        },
        "drop" => Fault::Drop,
        "drip" => Fault::Drip {
            chunk: size(settings.chunk.unwrap_or(1024)).max(1),
            pause: Duration::from_millis(settings.ms.unwrap_or(20)),
        },
        "stall" => Fault::Stall,
        "stream_error" => Fault::StreamError,
        _ => Fault::None,
    }
}

/// What a prompt says about its own treatment: `[[sim: …]]` for all providers, `[[sim openai: …]]`
/// for one, `[[sim openai/gpt-image-2: …]]` for one model. The first that fits counts.
///
/// # Errors
/// [`BadBehaviour`] when a directive that is meant for this attempt cannot be read.
pub(super) fn directive(
    prompt: &str,
    provider: &str,
    model: &str,
) -> Result<Option<Behaviour>, BadBehaviour> {
    let mut rest = prompt;
    while let Some(at) = rest.find("[[sim") {
        rest = &rest[at + "[[sim".len()..];
        let Some((inner, after)) = rest.split_once("]]") else {
            break;
        };
        rest = after;
        let Some((whom, words)) = inner.split_once(':') else {
            continue;
        };
        if meant(whom.trim(), provider, model) {
            return words.parse().map(Some);
        }
    }
    Ok(None)
}

fn meant(whom: &str, provider: &str, model: &str) -> bool {
    match whom.split_once('/') {
        None => whom.is_empty() || whom == provider,
        Some((named, of)) => named == provider && of == model,
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.hold {
            f.write_str("hold ")?;
        }
        f.write_str(self.fault.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_help_is_understood_and_says_its_own_name() {
        for (word, _) in WORDS {
            let read: Behaviour = word.parse().unwrap();
            let expected = match *word {
                "slow" => "ok".to_owned(),
                "hold" => "hold ok".to_owned(),
                other => other.to_owned(),
            };
            assert_eq!(read.to_string(), expected);
        }
    }

    #[test]
    fn settings_reach_their_fault() {
        let read: Behaviour = "hold rate_limited retry_after=2 billed=yes times=3"
            .parse()
            .unwrap();
        assert_eq!(
            read.fault,
            Fault::RateLimited {
                retry_after: Some(2)
            }
        );
        assert!(read.hold);
        assert_eq!((read.billed, read.times), (Some(true), Some(3)));
        let drip: Behaviour = "drip chunk=10 ms=5".parse().unwrap();
        let pause = Duration::from_millis(5);
        assert_eq!(drip.fault, Fault::Drip { chunk: 10, pause });
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (
                "explode",
                "`explode` is no behaviour; known are: ok, safety",
            ),
            ("slow delay=1", "`delay` is no setting"),
            (
                "slow delay_ms=fast",
                "`delay_ms` must be a whole number, not `fast`",
            ),
            ("quota auth", "`quota` and `auth` cannot both happen"),
            ("server billed=perhaps", "`billed` must be yes or no"),
        ];
        for (text, says) in cases {
            let error = text.parse::<Behaviour>().unwrap_err().to_string();
            assert!(error.starts_with(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_directive_counts_for_the_one_it_names() {
        let prompt = "a cat [[sim openai: overloaded]] [[sim stability/sd3.5-medium: quota]]";
        let word = |provider, model| {
            directive(prompt, provider, model)
                .unwrap()
                .map(|b| b.fault.word())
        };
        assert_eq!(word("openai", "gpt-image-2"), Some("overloaded"));
        assert_eq!(word("stability", "sd3.5-medium"), Some("quota"));
        assert_eq!(word("stability", "sd3.5-large"), None);
        assert_eq!(
            directive("[[sim: what]]", "openai", "m").unwrap_err(),
            BadBehaviour::Word("what".into())
        );
        assert_eq!(directive("[[sim: ok", "openai", "m"), Ok(None));
    }
}
