//! What a line says of a request: its canonical fields, as much of its prompt as may be kept,
//! and facts of the pictures that came along, never their bytes.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use smol_str::SmolStr;
use ulid::{ULID_LEN, Ulid};

use crate::bill::Quote;
use crate::image::{
    Delivery, Format, ImageRequest, Input, InputRole, InputSource, ModelId, Quality, Safety, Tier,
    header, words,
};
use crate::money::Usd;

/// How many characters of a prompt [`Prompts::Head`] keeps.
pub const HEAD_CHARS: usize = 80;

/// The id of a call or a notice: a ULID, so ids sort by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(Ulid);

impl Id {
    /// A fresh id of this moment.
    #[expect(
        clippy::new_without_default,
        reason = "two defaults that differ would surprise"
    )]
    pub fn new() -> Id {
        Id(Ulid::generate())
    }

    /// A fresh id of that moment.
    pub fn at(moment: SystemTime) -> Id {
        Id(Ulid::from_datetime(moment))
    }

    /// The id that a ULID was made for.
    pub const fn of(ulid: Ulid) -> Id {
        Id(ulid)
    }

    /// The ULID itself.
    pub const fn ulid(self) -> Ulid {
        self.0
    }

    /// The id as a text that can be shared.
    pub fn text(self) -> Arc<str> {
        let mut text = [0; ULID_LEN];
        Arc::from(&*self.0.array_to_str(&mut text))
    }

    /// The moment that the id was made, to the millisecond.
    pub fn moment(self) -> SystemTime {
        self.0.datetime()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = ulid::DecodeError;

    fn from_str(text: &str) -> Result<Id, ulid::DecodeError> {
        text.parse().map(Id)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = [0; ULID_LEN];
        serializer.serialize_str(self.0.array_to_str(&mut text))
    }
}

/// A short list of named values, a JSON object in the order of arrival. Names are unique.
#[derive(Clone, Debug, PartialEq)]
pub struct Named<T>(pub Vec<(SmolStr, T)>);

impl<T> Default for Named<T> {
    fn default() -> Named<T> {
        Named(Vec::new())
    }
}

impl<T> Named<T> {
    /// Sets one value; a later one of the same name replaces it.
    pub fn put(&mut self, name: impl Into<SmolStr>, value: T) {
        let name = name.into();
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Named<T>, D::Error> {
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// Reads an object's entries in their order.
struct InOrder<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
        let mut named = Named::default();
        while let Some((name, value)) = map.next_entry::<String, T>()? {
            named.put(name, value);
        }
        Ok(named)
    }
}

words! {
    /// How much of a prompt the log may keep.
    Prompts {
        /// The first 80 characters, and the hash.
        Head = "head",
        /// The hash alone.
        Hash = "hash",
        /// All of it, as far as the line's bound allows, and the hash.
        Text = "text",
        /// Nothing: equal prompts cannot be told either.
        Off = "off",
    }
}

impl Prompts {
    /// As much of `prompt` as may be kept.
    pub fn keep(self, prompt: &str) -> Option<String> {
        match self {
            Prompts::Head => Some(head(prompt, HEAD_CHARS).to_owned()),
            Prompts::Text => Some(prompt.to_owned()),
            Prompts::Hash | Prompts::Off => None,
        }
    }

    /// The prompt's digest, where it may be kept.
    pub fn hash(self, prompt: &str) -> Option<String> {
        (self != Prompts::Off).then(|| digest(prompt.as_bytes()))
    }

    /// `message` without the prompt in it where only its hash may be kept, or less. Providers
    /// quote what they refuse.
    pub fn clean(self, message: &str, prompt: &str) -> String {
        // A prompt of a letter or two would tear every message apart.
        if self == Prompts::Text || prompt.len() < 4 || !message.contains(prompt) {
            return message.to_owned();
        }
        let instead = match self {
            Prompts::Head => head(prompt, HEAD_CHARS),
            _ => "(prompt)",
        };
        message.replace(prompt, instead)
    }
}

/// The first `most` characters of `text`.
pub(super) fn head(text: &str, most: usize) -> &str {
    text.char_indices()
        .nth(most)
        .map_or(text, |(end, _)| &text[..end])
}

/// Sixteen hex digits of the BLAKE3 of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..16].to_owned()
}

/// What is known of a picture that came along. Never its bytes.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct InputFacts {
    pub role: InputRole,
    pub format: Format,
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// `None` for a picture that the provider fetches or keeps.
    pub bytes: Option<u64>,
    /// Sixteen hex digits of its BLAKE3.
    pub digest: Option<Arc<str>>,
    /// `bytes`, `url` or `file_id`.
    pub source: &'static str,
}

impl InputFacts {
    /// The facts of one input. `digest` is its BLAKE3 (16 hex digits) where it is known already;
    /// without it an upload is hashed here, at about a millisecond a megabyte.
    pub fn of(input: &Input, known: Option<Arc<str>>) -> InputFacts {
        let mut facts = InputFacts {
            role: input.role,
            format: input.format,
            width: None,
            height: None,
            bytes: None,
            digest: known,
            source: "bytes",
        };
        match &input.source {
            InputSource::Bytes(bytes) => {
                let read = header::read(bytes);
                if read.format != Format::Unknown {
                    facts.format = read.format;
                }
                (facts.width, facts.height) = read.pixels.unzip();
                facts.bytes = Some(bytes.len() as u64);
                facts.digest.get_or_insert_with(|| digest(bytes).into());
            }
            InputSource::Url(_) => facts.source = "url",
            InputSource::FileId(_) => facts.source = "file_id",
        }
        facts
    }
}

/// What was asked for, as the app wrote it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Asked {
    pub model: ModelId,
    /// As written: `auto`, `1024x1024`, `16:9 2K`.
    pub size: String,
    /// Pixels that the book expects, for `auto` too.
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub aspect: Option<String>,
    pub quality: Option<Quality>,
    pub style: Option<String>,
    pub n: u32,
    pub seed: Option<u64>,
    pub steps: Option<u32>,
    pub tier: Tier,
    pub safety: Option<Safety>,
    pub format: Option<Format>,
    pub delivery: Delivery,
    pub stream: bool,
    pub inputs: Vec<InputFacts>,
    pub prompt: Option<String>,
    /// Sixteen hex digits of the prompt's BLAKE3; `None` where prompts are not logged at all.
    pub prompt_hash: Option<String>,
    /// Whether the model is gone.
    pub retired: bool,
    /// USD, as expected.
    pub quote: Option<Usd>,
    /// USD, at the most.
    pub quote_high: Option<Usd>,
}

/// What the request itself does not know, for [`Asked::from_request`].
#[derive(Clone, Debug, Default)]
pub struct Asking<'a> {
    /// Pixels that the book expects; `None` where nobody can know.
    pub pixels: Option<(u32, u32)>,
    pub quote: Option<&'a Quote>,
    pub retired: bool,
    /// One for each input of the request, in order.
    pub inputs: Vec<InputFacts>,
}

impl Asked {
    /// The request as the app wrote it, with as much of its prompt as `prompts` allows.
    pub fn from_request(request: &ImageRequest, asking: Asking<'_>, prompts: Prompts) -> Asked {
        let (width, height) = asking.pixels.or_else(|| request.pixels()).unzip();
        Asked {
            model: request.model.clone(),
            size: request.size.to_string(),
            width,
            height,
            aspect: request.aspect().map(|aspect| aspect.to_string()),
            quality: request.quality,
            style: request.style.clone(),
            n: request.n,
            seed: request.seed,
            steps: request.steps,
            tier: request.tier,
            safety: request.safety,
            format: request.format,
            delivery: request.delivery,
            stream: request.stream,
            inputs: asking.inputs,
            prompt: prompts.keep(&request.prompt),
            prompt_hash: prompts.hash(&request.prompt),
            retired: asking.retired,
            quote: asking.quote.map(|quote| quote.expected),
            quote_high: asking.quote.map(|quote| quote.high),
        }
    }
}

/// The request after the rules; in observe mode, as it would have been.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Decided {
    pub model: ModelId,
    pub size: String,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub quality: Option<Quality>,
    pub n: u32,
    pub steps: Option<u32>,
    pub tier: Tier,
    pub format: Option<Format>,
    pub quote: Option<Usd>,
    pub quote_high: Option<Usd>,
}

impl Decided {
    /// The request as the rules left it. `pixels` as the book expects them.
    pub fn from_request(
        request: &ImageRequest,
        pixels: Option<(u32, u32)>,
        quote: Option<&Quote>,
    ) -> Decided {
        let (width, height) = pixels.or_else(|| request.pixels()).unzip();
        Decided {
            model: request.model.clone(),
            size: request.size.to_string(),
            width,
            height,
            quality: request.quality,
            n: request.n,
            steps: request.steps,
            tier: request.tier,
            format: request.format,
            quote: quote.map(|quote| quote.expected),
            quote_high: quote.map(|quote| quote.high),
        }
    }

    /// Nothing was decided otherwise than asked.
    pub fn as_asked(asked: &Asked) -> Decided {
        Decided {
            model: asked.model.clone(),
            size: asked.size.clone(),
            width: asked.width,
            height: asked.height,
            quality: asked.quality,
            n: asked.n,
            steps: asked.steps,
            tier: asked.tier,
            format: asked.format,
            quote: asked.quote,
            quote_high: asked.quote_high,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Size;

    #[test]
    fn a_prompt_is_kept_as_far_as_it_may_be() {
        let prompt = "ä".repeat(100);
        assert_eq!(
            Prompts::Head.keep(&prompt).map(|kept| kept.chars().count()),
            Some(80)
        );
        assert_eq!(Prompts::Text.keep(&prompt), Some(prompt.clone()));
        assert_eq!(Prompts::Hash.keep(&prompt), None);
        assert_eq!(Prompts::Off.keep(&prompt), None);
        assert_eq!(
            Prompts::Hash.hash("a cat").as_deref(),
            Some(&blake3::hash(b"a cat").to_hex()[..16])
        );
        assert_eq!(Prompts::Off.hash("a cat"), None);
    }

    #[test]
    fn a_providers_message_does_not_give_the_prompt_away() {
        let message = "rejected: \"a red fox\" is not allowed";
        assert_eq!(
            Prompts::Hash.clean(message, "a red fox"),
            "rejected: \"(prompt)\" is not allowed"
        );
        assert_eq!(Prompts::Text.clean(message, "a red fox"), message);
        assert_eq!(Prompts::Head.clean(message, "a red fox"), message);
        assert_eq!(Prompts::Off.clean(message, "a"), message);
    }

    #[test]
    fn an_upload_is_told_by_its_facts() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x04\0\0\0\x02\0\x08\x06\0\0\0";
        let input = Input {
            role: InputRole::Mask,
            source: InputSource::Bytes(bytes::Bytes::from_static(png)),
            name: Some("secret-plan.png".into()),
            format: Format::Unknown,
        };
        let facts = InputFacts::of(&input, None);
        assert_eq!((facts.width, facts.height), (Some(1024), Some(512)));
        assert_eq!(facts.format, Format::Png);
        assert_eq!(facts.bytes, Some(png.len() as u64));
        assert_eq!(facts.digest.as_deref(), Some(digest(png).as_str()));
        let text = serde_json::to_string(&facts).unwrap();
        assert!(!text.contains("secret-plan"), "{text}");
    }

    #[test]
    fn a_picture_elsewhere_has_no_bytes_and_no_digest() {
        let input = Input {
            role: InputRole::Image,
            source: InputSource::Url("https://example.com/a.png?token=x".into()),
            name: None,
            format: Format::Png,
        };
        let facts = InputFacts::of(&input, None);
        assert_eq!(
            (facts.bytes, facts.digest, facts.source),
            (None, None, "url")
        );
    }

    #[test]
    fn the_size_is_told_as_asked_and_as_expected() {
        let mut request = ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a cat");
        request.size = Size::Auto;
        let asking = Asking {
            pixels: Some((1024, 1024)),
            ..Asking::default()
        };
        let asked = Asked::from_request(&request, asking, Prompts::Head);
        assert_eq!(asked.size, "auto");
        assert_eq!((asked.width, asked.height), (Some(1024), Some(1024)));
        assert_eq!(asked.aspect, None);
    }

    #[test]
    fn an_id_tells_its_moment_and_reads_back() {
        let id = Id::new();
        assert_eq!(id.to_string().len(), 26);
        assert_eq!(id.to_string().parse::<Id>().ok(), Some(id));
        assert!(id.moment() <= SystemTime::now());
    }
}
