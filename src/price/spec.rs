//! Reads a request from the words that a person types: `dall-e-3 1024x1024 hd n=4`.
//!
//! Most things have a word of their own; everything has a `key=value`. A word that is none is an
//! error that says which there are, since a price of something else than was meant is worse than
//! no price.

mod keys;

use std::collections::BTreeSet;

use serde_json::Value;

use super::book::Book;
use super::row::ModelRow;
use crate::image::{Aspect, Format, ImageRequest, ModelId, Operation, Quality, Size, Tier};
use crate::near::nearest;
use keys::{KEYS, Key};

/// Why a text is no request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSpec {
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

fn bad(message: impl Into<String>, remedy: impl Into<String>) -> BadSpec {
    BadSpec {
        message: message.into(),
        remedy: remedy.into(),
    }
}

/// Reads a request. With `base`, the words change that request; without, they must name a model.
///
/// # Errors
/// [`BadSpec`] for the first word that cannot be understood.
pub fn read(book: &Book, text: &str, base: Option<ImageRequest>) -> Result<ImageRequest, BadSpec> {
    let words = split(text)?;
    let mut draft = Draft::new(book, &words, base)?;
    for word in &words {
        draft.take(word)?;
    }
    draft.finish()
}

/// One word of a text.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Bare(String),
    Quoted(String),
    Set(String, String),
}

/// Splits at blanks; quotes hold blanks together, alone and after a `=`.
fn split(text: &str) -> Result<Vec<Word>, BadSpec> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word;
        (word, rest) = if matches!(first, '"' | '\'') {
            let (inner, after) = quoted(rest, first)?;
            (Word::Quoted(inner.to_owned()), after)
        } else {
            one(rest)?
        };
        words.push(word);
        rest = rest.trim_start();
    }
    Ok(words)
}

/// The text between the quote that `rest` begins with and the next, and what follows.
fn quoted(rest: &str, quote: char) -> Result<(&str, &str), BadSpec> {
    rest[1..].split_once(quote).ok_or_else(|| {
        bad(
            format!("the quote before `{}` has no end", &rest[1..]),
            format!("close it with {quote}"),
        )
    })
}

/// An unquoted word, or `key=value` whose value may be quoted, and what follows.
fn one(rest: &str) -> Result<(Word, &str), BadSpec> {
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let Some((key, value)) = rest[..end].split_once('=') else {
        return Ok((Word::Bare(rest[..end].to_owned()), &rest[end..]));
    };
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (value, after) = match quote {
        Some(quote) => quoted(&rest[key.len() + 1..], quote)?,
        None => (value, &rest[end..]),
    };
    Ok((Word::Set(key.to_owned(), value.to_owned()), after))
}

/// A request as its words come in.
struct Draft<'a> {
    request: ImageRequest,
    /// `None` where the request to change names a model that the book does not know.
    row: Option<&'a ModelRow>,
    /// The bare word that names the model: it has been read.
    name: Option<String>,
    /// Whether there was nothing to change.
    fresh: bool,
    aspect: Option<Aspect>,
    step: Option<String>,
    said: BTreeSet<&'static str>,
}

impl<'a> Draft<'a> {
    /// Finds the model first: what other words mean depends on it.
    fn new(
        book: &'a Book,
        words: &[Word],
        base: Option<ImageRequest>,
    ) -> Result<Draft<'a>, BadSpec> {
        let strangers = || {
            words.iter().filter_map(|word| match word {
                Word::Bare(word) if meaning(word).is_none() => Some(word.as_str()),
                _ => None,
            })
        };
        let set = words.iter().find_map(|word| match word {
            Word::Set(key, value) if key == "model" => Some(value.as_str()),
            _ => None,
        });
        let named = strangers().find(|word| book.find(word).is_ok());
        let word = match (set, named, &base) {
            (Some(word), ..) | (None, Some(word), _) => Some(word),
            (None, None, Some(_)) => None,
            (None, None, None) => Some(strangers().next().ok_or_else(|| {
                bad(
                    "no model is named",
                    "begin with one, like `gpt-image-2 1024x1024 high n=2`",
                )
            })?),
        };
        let row = match word {
            Some(word) => Some(book.find(word).map_err(|why| {
                let (message, remedy) = why.explain(word);
                bad(message, remedy)
            })?),
            None => base.as_ref().and_then(|base| book.model(&base.model)),
        };
        let model = row.filter(|_| word.is_some()).map(|row| row.id.clone());
        let fresh = base.is_none();
        let mut request =
            base.unwrap_or_else(|| ImageRequest::new(ModelId::new("", ""), String::new()));
        if let Some(model) = model {
            request.model = model;
        }
        Ok(Draft {
            request,
            row,
            name: word.filter(|_| set.is_none()).map(str::to_owned),
            fresh,
            aspect: None,
            step: None,
            said: BTreeSet::new(),
        })
    }

    fn take(&mut self, word: &Word) -> Result<(), BadSpec> {
        match word {
            Word::Quoted(text) => self.set("prompt", text),
            Word::Set(key, _) if key == "model" => self.once("model"),
            Word::Set(key, value) => self.set(key, value),
            Word::Bare(word) => self.bare(word),
        }
    }

    fn once(&mut self, what: &'static str) -> Result<(), BadSpec> {
        if self.said.insert(what) {
            return Ok(());
        }
        Err(bad(format!("{what} is said twice"), "say it once"))
    }

    fn bare(&mut self, word: &str) -> Result<(), BadSpec> {
        if self.name.as_deref() == Some(word) {
            return self.once("model");
        }
        let lower = word.to_lowercase();
        match meaning(word) {
            // A model may have a quality of that name; the tier is the usual one anyway.
            Some("quality") if lower == "standard" && self.said.contains("quality") => {
                self.set("tier", &lower)
            }
            Some("nothing") => Ok(()),
            Some(key) => self.set(key, &lower),
            None => {
                let of_model = self.row.and_then(|row| {
                    let has = |words: &[String]| words.contains(&lower);
                    if has(&row.capability.styles) {
                        Some("style")
                    } else {
                        has(&row.capability.backgrounds).then_some("background")
                    }
                });
                match of_model {
                    Some(key) => self.set(key, &lower),
                    None => Err(self.unknown(word)),
                }
            }
        }
    }

    fn unknown(&self, word: &str) -> BadSpec {
        let message = format!("`{word}` is no word of a request");
        if word.parse::<u32>().is_ok() {
            return bad(
                message,
                format!("for a number of pictures write `n={word}`"),
            );
        }
        let capability = self.row.map(|row| &row.capability);
        let mut known: Vec<&str> = known_words().collect();
        if let Some(able) = capability {
            known.extend(able.styles.iter().map(String::as_str));
            known.extend(able.backgrounds.iter().map(String::as_str));
        }
        let hint = match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`? "),
            None => String::new(),
        };
        bad(message, format!("{hint}Known are: {}", all_words()))
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), BadSpec> {
        let Some(known) = KEYS.iter().find(|known| known.name == key) else {
            return self.extra(key, value);
        };
        self.once(known.name)?;
        (known.set)(self, value).ok_or_else(|| {
            let Key { name, wanted, .. } = known;
            bad(
                format!("`{value}` cannot be the {name}"),
                format!("write {name}={wanted}"),
            )
        })
    }

    /// A field of the provider's own. One that is nearly a known key is a slip.
    fn extra(&mut self, key: &str, value: &str) -> Result<(), BadSpec> {
        let keys = || KEYS.iter().map(|key| key.name);
        if let Some(near) = nearest(key, keys()).filter(|_| !key.is_empty()) {
            let all: Vec<&str> = keys().collect();
            return Err(bad(
                format!("`{key}` is no field of a request"),
                format!("did you mean `{near}`? Known are: {}", all.join(", ")),
            ));
        }
        if key.is_empty() {
            return Err(bad(format!("`={value}` has no name"), "write KEY=VALUE"));
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        self.request.extra.insert(key.to_owned(), value);
        Ok(())
    }

    fn finish(mut self) -> Result<ImageRequest, BadSpec> {
        if self.aspect.is_some() || self.step.is_some() {
            if self.said.contains("size") {
                return Err(bad(
                    "the size is said in pixels and as a shape",
                    "say it one way",
                ));
            }
            let square = Aspect { wide: 1, high: 1 };
            let base = self.request.size.aspect().unwrap_or(square);
            self.request.size = Size::Aspect {
                aspect: self.aspect.unwrap_or(base),
                step: self.step,
            };
        }
        if let Some(row) = self.row
            && !self.said.contains("operation")
        {
            let able = &row.capability.operations;
            let wanted = match self.request.operation {
                Operation::Generate if self.said.contains("inputs") => Operation::Edit,
                said => said,
            };
            self.request.operation = match able.first() {
                Some(first) if !able.contains(&wanted) && self.fresh => *first,
                _ => wanted,
            };
        }
        Ok(self.request)
    }
}

/// The key that a bare word is a value of; `nothing` where it demands nothing.
fn meaning(word: &str) -> Option<&'static str> {
    let lower = word.to_lowercase();
    match Size::parse(&lower) {
        Some(Size::Auto) => return Some("nothing"),
        Some(Size::Pixels { .. }) => return Some("size"),
        Some(Size::Aspect { .. }) => return Some("aspect"),
        None => {}
    }
    // A bare number could be anything: `resolution=512`.
    if keys::step(&lower).is_some() && lower.parse::<u32>().is_err() {
        Some("resolution")
    } else if Quality::parse(&lower).is_some() {
        Some("quality")
    } else if Tier::parse(&lower).is_some() {
        Some("tier")
    } else if keys::format(&lower).is_some() {
        Some("format")
    } else {
        Operation::parse(&lower).map(|_| "operation")
    }
}

/// Every word that needs no key.
fn known_words() -> impl Iterator<Item = &'static str> {
    let qualities = Quality::ALL.iter().map(|word| word.as_str());
    let tiers = Tier::ALL.iter().map(|word| word.as_str());
    let formats = Format::ALL
        .iter()
        .map(|word| word.as_str())
        .filter(|word| *word != Format::Unknown.as_str());
    let operations = Operation::ALL.iter().map(|word| word.as_str());
    qualities.chain(tiers).chain(formats).chain(operations)
}

fn all_words() -> String {
    let words: Vec<&str> = known_words().collect();
    let keys: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
    format!(
        "a model, a size (1024x1536), a shape (16:9), a resolution (2K), {}, a \"prompt\", and KEY=VALUE with {}",
        words.join(", "),
        keys.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> ImageRequest {
        read(Book::embedded(), text, None).unwrap_or_else(|why| panic!("{text}: {why:?}"))
    }

    #[track_caller]
    fn refused(text: &str, says: &str) {
        let why = read(Book::embedded(), text, None).unwrap_err();
        let whole = format!("{}; {}", why.message, why.remedy);
        assert!(whole.contains(says), "{text}: {whole}");
    }

    #[test]
    fn words_say_what_they_look_like() {
        let read = request("dall-e-3 1024x1024 hd n=4");
        assert_eq!(read.model.as_str(), "openai/dall-e-3");
        assert_eq!(read.pixels(), Some((1024, 1024)));
        assert_eq!((read.quality, read.n), (Some(Quality::Hd), 4));
        assert_eq!(read.operation, Operation::Generate);

        let read = request("\"a red fox\" 16:9 2k stability/sd3.5-medium steps=50 flex jpg seed=7");
        assert_eq!(read.prompt, "a red fox");
        assert_eq!(read.size.to_string(), "16:9 2K");
        assert_eq!((read.steps, read.seed), (Some(50), Some(7)));
        assert_eq!((read.tier, read.format), (Tier::Flex, Some(Format::Jpeg)));

        let read = request("model=gpt-image-2 prompt='two words' LOW batch transparent inputs=2");
        assert_eq!((read.prompt.as_str(), read.inputs.len()), ("two words", 2));
        assert_eq!((read.quality, read.tier), (Some(Quality::Low), Tier::Batch));
        assert_eq!(read.background.as_deref(), Some("transparent"));
        assert_eq!(read.operation, Operation::Edit);
    }

    #[test]
    fn standard_is_a_quality_first_and_a_tier_after_one() {
        let read = request("dall-e-3 standard");
        assert_eq!(read.quality, Some(Quality::Standard));
        let read = request("dall-e-3 hd standard vivid");
        assert_eq!(
            (read.quality, read.tier),
            (Some(Quality::Hd), Tier::Standard)
        );
        assert_eq!(read.style.as_deref(), Some("vivid"));
    }

    #[test]
    fn auto_leaves_open_what_is_open() {
        let read = request("gpt-image-2 auto");
        assert_eq!((read.size, read.quality), (Size::Auto, None));
    }

    #[test]
    fn a_model_that_only_does_one_thing_is_asked_for_that() {
        assert_eq!(request("upscale-fast").operation, Operation::Upscale);
        let said = request("upscale-fast generate");
        assert_eq!(said.operation, Operation::Generate);
    }

    #[test]
    fn fields_of_a_providers_own_are_kept_as_they_are() {
        let read = request("gpt-image-2 input_fidelity=high frame_count=4");
        assert_eq!(read.extra["input_fidelity"], "high");
        assert_eq!(read.extra["frame_count"], 4);
    }

    #[test]
    fn a_wrong_word_is_told_what_there_is() {
        refused("", "no model is named");
        refused("1024x1024 hd", "no model is named");
        refused("dale-3 hd", "did you mean openai/dall-e-3");
        refused(
            "dall-e-3 hdd",
            "did you mean `hd`? Known are: a model, a size",
        );
        refused("dall-e-3 purple", "Known are: a model");
        refused("dall-e-3 vivd", "did you mean `vivid`?");
        refused("dall-e-3 4", "write `n=4`");
        refused("dall-e-3 n=0", "n=a number of pictures, 1 or more");
        refused("dall-e-3 quality=good", "quality=low, medium");
        refused("dall-e-3 qualty=hd", "did you mean `quality`?");
        refused("dall-e-3 hd low", "quality is said twice");
        refused("dall-e-3 1024x1024 16:9", "one way");
        refused("dall-e-3 resolution=9K", "write resolution=512, 1K");
        refused("dall-e-3 \"a fox", "has no end");
        refused("dall-e-3 prompt='a fox", "has no end");
        refused(
            "dall-e-3 gpt-image-2",
            "`gpt-image-2` is no word of a request",
        );
        refused("dall-e-3 =5", "has no name");
        refused("dall-e-3 inputs=1000", "64 at most");
    }

    #[test]
    fn a_request_in_hand_is_changed_by_what_is_said_alone() {
        let mut base = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a fox");
        base.quality = Some(Quality::High);
        let changed = read(Book::embedded(), "n=3", Some(base.clone())).unwrap();
        assert_eq!(
            changed,
            ImageRequest {
                n: 3,
                ..base.clone()
            }
        );
        let moved = read(Book::embedded(), "dall-e-3", Some(base.clone())).unwrap();
        assert_eq!(moved.model.as_str(), "openai/dall-e-3");
        assert_eq!(
            (moved.prompt.as_str(), moved.quality),
            ("a fox", Some(Quality::High))
        );
        let mut foreign = base;
        foreign.model = ModelId::new("studio", "sdxl");
        let same = read(Book::embedded(), "", Some(foreign.clone())).unwrap();
        assert_eq!(same, foreign);
    }
}
