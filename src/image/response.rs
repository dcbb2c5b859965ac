//! What came back, in words that no provider owns.

use super::request::{Format, ModelId};
use crate::bill::{Codes, Usage};
use crate::wire::Rope;

/// A picture as it lies in the answer. Slices of the bytes that arrived, never a copy.
#[derive(Clone, Debug)]
pub enum Picture {
    /// The file itself.
    Raw(Rope),
    /// The file in base64, standard alphabet, as it stood in a JSON text.
    Base64(Rope),
    /// Where the file can be fetched.
    Url(String),
}

impl Picture {
    /// Bytes that it takes where it lies.
    pub fn len(&self) -> usize {
        match self {
            Picture::Raw(rope) | Picture::Base64(rope) => rope.len(),
            Picture::Url(url) => url.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One finished picture and what is known of it.
#[derive(Clone, Debug)]
pub struct Image {
    pub picture: Picture,
    pub format: Format,
    /// Read from the picture's own header; `None` when it could not be.
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub seed: Option<u64>,
    /// The prompt as the provider rewrote it.
    pub revised_prompt: Option<String>,
}

/// An answer with at least one usable picture.
#[derive(Clone, Debug)]
pub struct ImageResponse {
    pub model: ModelId,
    /// Unix seconds, where the provider says.
    pub created: Option<u64>,
    pub images: Vec<Image>,
    /// How many pictures of the request moderation kept back.
    pub withheld: u32,
    /// Size, quality, background and format as the provider resolved them.
    pub resolved: Resolved,
    pub usage: Usage,
    /// Every billing signal, as text.
    pub codes: Codes,
}

/// What `auto` turned out to be, in the provider's spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    pub size: Option<String>,
    pub quality: Option<String>,
    pub background: Option<String>,
    pub format: Option<String>,
}

impl ImageResponse {
    /// Width and height of every picture that tells, as `1024x1024`.
    pub fn sizes(&self) -> Vec<String> {
        self.images
            .iter()
            .filter_map(|image| Some(format!("{}x{}", image.width?, image.height?)))
            .collect()
    }
}
