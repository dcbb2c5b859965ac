//! When two requests ask for the same picture.
//!
//! The canonical text of a request names every field that can change the picture, whoever may
//! share the answer included. XXH3-128 of it finds an entry; the whole text decides, since a hash
//! that a prompt's author can aim is no identity. Fields are left out by name, never let in by
//! name: an unknown field separates.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::image::{ImageRequest, InputSource};

/// Who may be answered from an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Partition {
    /// Whoever sends the same credential; a keyed digest of it.
    Credential([u8; 16]),
    Everyone,
}

/// What tells purchases of one request apart.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    pub partition: &'a Partition,
    /// The query string of an untouched call, which may steer the provider too.
    pub query: Option<&'a str>,
    /// Which of several pictures of one unseeded request.
    pub variant: u32,
    /// Extra fields of the dialect that do not change the picture.
    pub inert: &'a [&'a str],
}

/// The identity of a purchase.
#[derive(Clone, Debug)]
pub struct Key {
    hash: u128,
    canonical: Arc<[u8]>,
}

impl Key {
    /// The key of `request` as it is sent, in these circumstances.
    pub fn of(request: &ImageRequest, around: &Around<'_>) -> Key {
        let mut text = Text(Vec::with_capacity(USUAL + request.prompt.len()));
        text.field("v", b"1");
        match around.partition {
            Partition::Credential(digest) => text.field("credential", digest),
            Partition::Everyone => text.field("everyone", b""),
        }
        text.field("query", around.query.unwrap_or_default().as_bytes());
        text.number("variant", u64::from(around.variant));
        text.request(request, around.inert);
        Key::of_canonical(text.0)
    }

    /// The key with this canonical text, as [`Key::canonical`] told it.
    pub fn of_canonical(canonical: impl Into<Arc<[u8]>>) -> Key {
        let canonical = canonical.into();
        Key {
            hash: xxh3_128(&canonical),
            canonical,
        }
    }

    /// The canonical text.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// Another key for the same request, `how` it is bought.
    #[must_use]
    pub fn apart(&self, how: &str) -> Key {
        let mut text = Text(self.canonical.to_vec());
        text.field("apart", how.as_bytes());
        Key::of_canonical(text.0)
    }

    pub const fn hash(&self) -> u128 {
        self.hash
    }

    /// Half of the hash in hex, for the log and for `share`.
    pub fn short(&self) -> String {
        format!("{:016x}", self.seed())
    }

    /// A number that equal requests have in common.
    pub fn seed(&self) -> u64 {
        u64::try_from(self.hash >> 64).unwrap_or_default()
    }

    /// How many bytes the key itself takes.
    pub fn weight(&self) -> usize {
        self.canonical.len()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.hash == other.hash && self.canonical == other.canonical
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.hash);
    }
}

/// What a canonical text takes besides the prompt, seldom more.
const USUAL: usize = 512;

/// Named values with their lengths, so that no two different requests run into one text.
struct Text(Vec<u8>);

impl Text {
    fn field(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0
                .extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            self.0.extend_from_slice(part);
        }
    }

    fn number(&mut self, name: &str, value: u64) {
        self.field(name, &value.to_le_bytes());
    }

    fn optional(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.field(name, value.to_string().as_bytes());
        }
    }

    fn request(&mut self, request: &ImageRequest, inert: &[&str]) {
        let ImageRequest {
            operation,
            model,
            prompt,
            negative_prompt,
            size,
            quality,
            style,
            background,
            n,
            seed,
            steps,
            guidance,
            strength,
            safety,
            tier: _, // the same picture, sooner or later
            format,
            compression,
            delivery: _, // how the same picture is handed over
            stream: _,
            partial_images: _,
            user: _,
            inputs,
            extra,
        } = request;
        self.field("operation", operation.as_str().as_bytes());
        self.field("model", model.as_str().as_bytes());
        self.field("prompt", prompt.as_bytes());
        self.optional("negative_prompt", negative_prompt.as_deref());
        self.field("size", size.to_string().as_bytes());
        self.optional("quality", *quality);
        self.optional("style", style.as_deref());
        self.optional("background", background.as_deref());
        self.number("n", u64::from(*n));
        self.optional("seed", *seed);
        self.optional("steps", *steps);
        self.optional("guidance", guidance.as_ref());
        self.optional("strength", strength.as_ref());
        self.optional("safety", *safety);
        self.optional("format", *format);
        self.optional("compression", *compression);
        for input in inputs {
            self.field("input", input.role.as_str().as_bytes());
            match &input.source {
                InputSource::Bytes(bytes) => self.field("bytes", blake3::hash(bytes).as_bytes()),
                InputSource::Url(url) => self.field("url", url.as_bytes()),
                InputSource::FileId(id) => self.field("file", id.as_bytes()),
            }
        }
        for (name, value) in extra
            .iter()
            .filter(|(name, _)| !inert.contains(&name.as_str()))
        {
            self.field(name, value.to_string().as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Delivery, Format, Input, InputRole, ModelId, Quality, Size};
    use proptest::prelude::*;

    fn request() -> ImageRequest {
        ImageRequest::new(ModelId::new("openai", "gpt-image-2"), "a cat")
    }

    fn key(request: &ImageRequest) -> Key {
        with(request, &Partition::Credential([7; 16]), None, 0)
    }

    fn with(
        request: &ImageRequest,
        partition: &Partition,
        query: Option<&str>,
        variant: u32,
    ) -> Key {
        Key::of(
            request,
            &Around {
                partition,
                query,
                variant,
                inert: &["metadata"],
            },
        )
    }

    type Edit = (&'static str, fn(&mut ImageRequest));

    #[test]
    fn whatever_can_change_the_picture_separates() {
        let edits: [Edit; 11] = [
            ("prompt", |r| r.prompt.push('!')),
            ("model", |r| r.model = ModelId::new("openai", "gpt-image-1")),
            ("size", |r| {
                r.size = Size::Pixels {
                    width: 1024,
                    height: 1024,
                }
            }),
            ("quality", |r| r.quality = Some(Quality::Low)),
            ("n", |r| r.n = 2),
            ("seed", |r| r.seed = Some(0)),
            ("negative", |r| r.negative_prompt = Some(String::new())),
            ("format", |r| r.format = Some(Format::Png)),
            ("compression", |r| r.compression = Some(90)),
            ("unknown field", |r| {
                drop(r.extra.insert("complexity".into(), "low".into()))
            }),
            ("input", |r| {
                r.inputs.push(Input {
                    role: InputRole::Image,
                    source: InputSource::Bytes("x".into()),
                    name: None,
                    format: Format::Png,
                });
            }),
        ];
        for (what, edit) in edits {
            let mut other = request();
            edit(&mut other);
            assert_ne!(key(&other), key(&request()), "{what}");
        }
    }

    #[test]
    fn how_the_answer_is_handed_over_does_not() {
        let mut other = request();
        other.delivery = Delivery::Url;
        other.stream = true;
        other.partial_images = 2;
        other.user = Some("jane".into());
        other.extra.insert("metadata".into(), "x".into());
        assert_eq!(key(&other), key(&request()));
    }

    #[test]
    fn another_credential_query_or_variant_separates() {
        let of =
            |partition: &Partition, query, variant| with(&request(), partition, query, variant);
        let base = of(&Partition::Credential([1; 16]), None, 0);
        assert_ne!(base, of(&Partition::Credential([2; 16]), None, 0));
        assert_ne!(base, of(&Partition::Everyone, None, 0));
        assert_ne!(
            base,
            of(&Partition::Credential([1; 16]), Some("bytes=7"), 0)
        );
        assert_ne!(base, of(&Partition::Credential([1; 16]), None, 1));
    }

    proptest! {
        #[test]
        fn no_two_prompts_run_together(a in ".{0,20}", b in ".{0,20}", na in ".{0,9}", nb in ".{0,9}") {
            let with = |prompt: &str, negative: &str| {
                let mut r = request();
                r.prompt = prompt.into();
                r.negative_prompt = Some(negative.into());
                key(&r)
            };
            prop_assert_eq!(with(&a, &na) == with(&b, &nb), a == b && na == nb);
        }
    }
}
