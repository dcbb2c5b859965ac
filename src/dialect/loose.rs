//! The fields of a body whose schema is each model's own.
//!
//! A host of thousands of models has as many schemas: what is of another type than usual is left
//! over, and reaches its model as it was written.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Number, Value};

use super::form::wrong;
use super::{Unreadable, picture};
use crate::image::{Aspect, Format, ImageRequest, Input, InputRole, InputSource, Size};
use crate::wire::Rope;

/// Words in a model's name that tell of something else than pictures. A host of many kinds of
/// models gives no better sign before its answer.
const OTHER_WORK: [&str; 31] = [
    "3d",
    "asr",
    "audio",
    "avatar",
    "caption",
    "chat",
    "claude",
    "deepseek",
    "detect",
    "embed",
    "gemma",
    "instruct",
    "lipsync",
    "llama",
    "llm",
    "mesh",
    "mistral",
    "music",
    "ocr",
    "segment",
    "sound",
    "speech",
    "trainer",
    "training",
    "transcri",
    "tts",
    "video",
    "vision",
    "voice",
    "whisper",
    "workflows",
];

/// Whether a model of that name may well make pictures.
pub(super) fn may_draw(model: &str) -> bool {
    let name = model.to_ascii_lowercase();
    // A short word must stand by itself: `tts` is not in `cutts`.
    let mut parts = name.split(['/', '-', '_', '.', ':']);
    !parts.any(|part| OTHER_WORK.contains(&part))
        && !OTHER_WORK
            .iter()
            .filter(|word| word.len() > 4)
            .any(|word| name.contains(word))
}

/// Fields that models of language, speech or sound take and those of pictures do not.
const OTHER_FIELDS: [&str; 10] = [
    "audio",
    "audio_url",
    "max_new_tokens",
    "max_tokens",
    "messages",
    "system_prompt",
    "temperature",
    "top_p",
    "video_url",
    "voice",
];

/// Whether fields of such a model may well ask for a picture.
pub(super) fn may_ask_for_picture(fields: &Map<String, Value>) -> bool {
    !OTHER_FIELDS.iter().any(|name| fields.contains_key(*name))
}

/// Fields that nobody has taken yet.
#[derive(Debug, Default)]
pub(super) struct Loose(Map<String, Value>);

impl Loose {
    /// The fields of a JSON object; a `null` says nothing.
    ///
    /// # Errors
    /// [`Unreadable`] when the body is none.
    pub(super) fn of_body(body: &Bytes) -> Result<Loose, Unreadable> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => Ok(Loose::of(fields)),
            Ok(_) => Err(wrong("body", "must be a JSON object")),
            Err(error) => Err(wrong("body", format!("is not JSON: {error}"))),
        }
    }

    pub(super) fn of(mut fields: Map<String, Value>) -> Loose {
        fields.retain(|_, value| !value.is_null());
        Loose(fields)
    }

    fn take<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let taken = read(self.0.get(name)?)?;
        self.0.remove(name);
        Some(taken)
    }

    /// Takes an object.
    pub(super) fn object(&mut self, name: &str) -> Option<Map<String, Value>> {
        self.take(name, |value| value.as_object().cloned())
    }

    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        self.word(name, |text| Some(text.to_owned()))
    }

    /// Takes a text that `read` understands.
    pub(super) fn word<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.take(name, |value| read(value.as_str()?))
    }

    /// Takes a whole number from zero up.
    pub(super) fn whole<T: TryFrom<u64>>(&mut self, name: &str) -> Option<T> {
        self.take(name, |value| T::try_from(value.as_u64()?).ok())
    }

    pub(super) fn number(&mut self, name: &str) -> Option<Number> {
        self.take(name, |value| value.as_number().cloned())
    }

    pub(super) fn switch(&mut self, name: &str) -> Option<bool> {
        self.take(name, Value::as_bool)
    }

    /// What stands there, left where it is.
    pub(super) fn seen(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Takes the pictures of a field: one URL or a list of them, where all are texts.
    pub(super) fn inputs(&mut self, name: &str, role: InputRole, into: &mut Vec<Input>) {
        let found = self.take(name, |value| match value {
            Value::Array(items) => items.iter().map(|item| input(item, role)).collect(),
            one => Some(vec![input(one, role)?]),
        });
        into.extend(found.into_iter().flatten());
    }

    /// What nobody took.
    pub(super) fn rest(self) -> BTreeMap<String, Value> {
        self.0.into_iter().collect()
    }
}

/// A picture as a URL, or within a data URL, or in bare base64 where it is long.
fn input(value: &Value, role: InputRole) -> Option<Input> {
    let text = value.as_str()?;
    let (format, source) = match inline(text) {
        Some((declared, bytes)) => {
            let format = picture::known_format(declared, &bytes);
            (format, InputSource::Bytes(bytes))
        }
        None => (Format::Unknown, InputSource::Url(text.to_owned())),
    };
    Some(Input {
        role,
        source,
        name: None,
        format,
    })
}

/// The bytes of a data URL, or of bare base64 that is a picture of a known format.
fn inline(text: &str) -> Option<(Format, Bytes)> {
    picture::from_data_url(text.as_bytes()).or_else(|| {
        let file = picture::decode(&Rope::from(text.to_owned()))?.to_bytes();
        let format = picture::known_format(Format::Unknown, &file);
        (format != Format::Unknown).then_some((format, file))
    })
}

/// A picture as text again; `None` when it lies where only another provider can find it.
pub(super) fn spelt(input: &Input) -> Option<Value> {
    match &input.source {
        InputSource::Url(url) => Some(url.as_str().into()),
        InputSource::Bytes(bytes) => {
            let url = picture::data_url(input.format, bytes).to_bytes();
            Some(String::from_utf8_lossy(&url).into_owned().into())
        }
        InputSource::FileId(_) => None,
    }
}

/// The pictures of one role as text; `None` when one of them cannot be said.
pub(super) fn all_spelt(request: &ImageRequest, role: InputRole) -> Option<Vec<Value>> {
    request.inputs_of(role).map(spelt).collect()
}

/// 0 is as good as nothing for a side. A resolution belongs to a shape.
pub(super) fn read_size(fields: &mut Loose) -> Size {
    if let Some(aspect) = fields.word("aspect_ratio", Aspect::parse) {
        let step = fields.text("resolution");
        return Size::Aspect { aspect, step };
    }
    let side = |name| fields.seen(name)?.as_u64().filter(|&side| side > 0);
    let both = side("width").zip(side("height"));
    match both.map(|(width, height)| (u32::try_from(width), u32::try_from(height))) {
        Some((Ok(width), Ok(height))) => {
            let _: (Option<u32>, Option<u32>) = (fields.whole("width"), fields.whole("height"));
            Size::Pixels { width, height }
        }
        _ => Size::Auto,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_another_type_is_left_over() {
        let body = Bytes::from_static(br#"{"seed":-1,"n":2,"prompt":["a"],"odd":{},"gone":null}"#);
        let mut fields = Loose::of_body(&body).unwrap();
        assert_eq!(fields.whole::<u64>("seed"), None);
        assert_eq!(fields.whole::<u32>("n"), Some(2));
        assert_eq!(fields.text("prompt"), None);
        let left: Vec<String> = fields.rest().into_keys().collect();
        assert_eq!(left, ["odd", "prompt", "seed"]);
        assert!(Loose::of_body(&Bytes::from_static(b"[]")).is_err());
    }

    #[test]
    fn names_of_other_work_are_known() {
        for name in [
            "fal-ai/flux/dev",
            "fal-ai/nano-banana/edit",
            "black-forest-labs/flux-schnell",
            "bria/text-to-image/3.2",
            "openai/gpt-image-1",
        ] {
            assert!(may_draw(name), "{name}");
        }
        for name in [
            "fal-ai/kling-video/v2/master/text-to-video",
            "fal-ai/flux-lora-fast-training",
            "meta/meta-llama-3-70b-instruct",
            "fal-ai/whisper",
            "fal-ai/any-llm",
            "x/f5-tts",
        ] {
            assert!(!may_draw(name), "{name}");
        }
    }
}
