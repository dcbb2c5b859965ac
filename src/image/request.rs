//! What a call asks for, in words that no provider owns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

use super::size::{Aspect, Size};
use super::words;

words! {
    /// What is to be done with the prompt and the pictures that came along.
    Operation {
        /// A picture from a prompt.
        Generate = "generate",
        /// A picture from a prompt and input images, with or without a mask.
        Edit = "edit",
        /// Another picture like the one given; no prompt.
        Variation = "variation",
        /// The same picture with more pixels.
        Upscale = "upscale",
    }
}

words! {
    /// How much care the model is asked to take. Ordered by [`Quality::rank`].
    Quality {
        /// The provider chooses.
        Auto = "auto",
        Low = "low",
        Medium = "medium",
        Standard = "standard",
        High = "high",
        Hd = "hd",
        Xhigh = "xhigh",
        Max = "max",
    }
}

impl Quality {
    /// Place in the order low < medium = standard < high = hd < xhigh < max; `None` for `auto`,
    /// which may turn out to be any of them.
    pub const fn rank(self) -> Option<u8> {
        match self {
            Quality::Auto => None,
            Quality::Low => Some(1),
            Quality::Medium | Quality::Standard => Some(2),
            Quality::High | Quality::Hd => Some(3),
            Quality::Xhigh => Some(4),
            Quality::Max => Some(5),
        }
    }
}

words! {
    /// How soon the picture is needed, and what haste or patience costs.
    Tier {
        Fast = "fast",
        Standard = "standard",
        Flex = "flex",
        Batch = "batch",
    }
}

words! {
    /// How strict the provider's own moderation is asked to be.
    Safety {
        Strict = "strict",
        Default = "default",
        Relaxed = "relaxed",
    }
}

words! {
    /// A picture's file format.
    Format {
        Png = "png",
        Jpeg = "jpeg",
        Webp = "webp",
        Gif = "gif",
        Svg = "svg",
        Avif = "avif",
        /// Bytes of a format we do not know: an image all the same.
        Unknown = "unknown",
    }
}

impl Format {
    /// The format's media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Webp => "image/webp",
            Format::Gif => "image/gif",
            Format::Svg => "image/svg+xml",
            Format::Avif => "image/avif",
            Format::Unknown => "application/octet-stream",
        }
    }

    /// From a media type or a format's usual name (`jpg` counts as `jpeg`).
    pub fn from_media_type(text: &str) -> Format {
        let word = text.split(';').next().unwrap_or_default().trim();
        match word.strip_prefix("image/").unwrap_or(word) {
            "png" => Format::Png,
            "jpeg" | "jpg" => Format::Jpeg,
            "webp" => Format::Webp,
            "gif" => Format::Gif,
            "svg" | "svg+xml" => Format::Svg,
            "avif" => Format::Avif,
            _ => Format::Unknown,
        }
    }
}

words! {
    /// How the caller wants to be handed its pictures.
    Delivery {
        Url = "url",
        Base64 = "base64",
        /// The answer's body is the picture.
        Bytes = "bytes",
    }
}

words! {
    /// What an input image is for.
    InputRole {
        Image = "image",
        Mask = "mask",
        /// A transparent drawing laid over the first image.
        Markup = "markup",
        Style = "style",
    }
}

/// `provider/model`, e.g. `stability/sd3.5-medium`: a model is always written with its provider.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelId {
    whole: Arc<str>,
    slash: usize,
}

impl ModelId {
    /// Puts the two halves together.
    pub fn new(provider: &str, model: &str) -> ModelId {
        ModelId {
            whole: [provider, "/", model].concat().into(),
            slash: provider.len(),
        }
    }

    /// Reads `provider/model`; the model's own name may hold further slashes. `None` without a
    /// provider or without a model.
    pub fn parse(text: &str) -> Option<ModelId> {
        let slash = text.find('/')?;
        (slash > 0 && slash + 1 < text.len()).then(|| ModelId {
            whole: text.into(),
            slash,
        })
    }

    pub fn as_str(&self) -> &str {
        &self.whole
    }

    pub fn provider(&self) -> &str {
        &self.whole[..self.slash]
    }

    /// The model's name as its provider writes it.
    pub fn model(&self) -> &str {
        &self.whole[self.slash + 1..]
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

impl fmt::Debug for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.whole)
    }
}

impl Serialize for ModelId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.whole)
    }
}

impl<'de> Deserialize<'de> for ModelId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ModelId, D::Error> {
        let text = String::deserialize(deserializer)?;
        ModelId::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` names no provider: write it like stability/sd3.5-medium"
            ))
        })
    }
}

/// Where an input image's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InputSource {
    /// Uploaded with the call.
    Bytes(Bytes),
    /// The provider fetches it.
    Url(String),
    /// Kept at the provider under this id.
    FileId(String),
}

/// A picture that came along with the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    pub role: InputRole,
    pub source: InputSource,
    /// File name as the app gave it, for the provider; it does not change the picture.
    pub name: Option<String>,
    /// Declared by the app; `Unknown` when it was not.
    pub format: Format,
}

/// A request for pictures.
///
/// `None` means that the app did not say: providers have defaults of their own, and an untouched
/// call must not turn a default into a demand.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageRequest {
    pub operation: Operation,
    pub model: ModelId,
    pub prompt: String,
    pub negative_prompt: Option<String>,
    pub size: Size,
    pub quality: Option<Quality>,
    pub style: Option<String>,
    pub background: Option<String>,
    /// How many pictures; at least 1.
    pub n: u32,
    pub seed: Option<u64>,
    pub steps: Option<u32>,
    pub guidance: Option<Number>,
    pub strength: Option<Number>,
    pub safety: Option<Safety>,
    pub tier: Tier,
    pub format: Option<Format>,
    /// 0 to 100, for formats that compress.
    pub compression: Option<u8>,
    pub delivery: Delivery,
    pub stream: bool,
    /// How many unfinished pictures a streaming caller wants to see.
    pub partial_images: u32,
    /// The app's name for its own user; does not change the picture.
    pub user: Option<String>,
    pub inputs: Vec<Input>,
    /// Fields that these words do not cover, as the dialect spelt them. They reach the same
    /// dialect again and are lost to another.
    pub extra: BTreeMap<String, Value>,
}

impl ImageRequest {
    /// A request for one picture with nothing else said.
    pub fn new(model: ModelId, prompt: impl Into<String>) -> ImageRequest {
        ImageRequest {
            operation: Operation::Generate,
            model,
            prompt: prompt.into(),
            negative_prompt: None,
            size: Size::Auto,
            quality: None,
            style: None,
            background: None,
            n: 1,
            seed: None,
            steps: None,
            guidance: None,
            strength: None,
            safety: None,
            tier: Tier::Standard,
            format: None,
            compression: None,
            delivery: Delivery::Base64,
            stream: false,
            partial_images: 0,
            user: None,
            inputs: Vec::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Width and height in pixels where the request names them.
    pub fn pixels(&self) -> Option<(u32, u32)> {
        self.size.pixels()
    }

    /// The aspect ratio where the request implies one.
    pub fn aspect(&self) -> Option<Aspect> {
        self.size.aspect()
    }

    /// Input images of one role, in order.
    pub fn inputs_of(&self, role: InputRole) -> impl Iterator<Item = &Input> {
        self.inputs.iter().filter(move |input| input.role == role)
    }
}
