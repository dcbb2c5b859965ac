//! What an image call asks of OpenAI: read, and refused where OpenAI refuses it.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::refuse::{Refusal, invalid, missing, not_json, plain, unsupported, wrong_type};
use crate::image::Format as FileFormat;
use crate::image::header;
use crate::sim::Shared;
use crate::sim::picture::Format;
use crate::sim::serve::Arrived;
use crate::sim::template::{Fill, OPENAI};
use crate::sim::tokens::{self, Family, Model};
use crate::wire::multipart;

/// The three image routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Generations,
    Edits,
    Variations,
}

/// A valid image call.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) route: Route,
    pub(super) model: &'static Model,
    pub(super) prompt: String,
    pub(super) n: u32,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Resolved: never `auto`.
    pub(super) quality: &'static str,
    pub(super) transparent: bool,
    pub(super) format: Format,
    pub(super) stream: bool,
    pub(super) partials: u32,
    /// DALL·E may answer with addresses.
    pub(super) by_url: bool,
    pub(super) safety_identifier: Option<String>,
    /// Tokens of all uploaded pictures.
    pub(super) image_tokens: u64,
    /// What makes the picture: everything asked, and every file.
    pub(super) digest: blake3::Hash,
}

const FOR_GPT: &[&str] = &[
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "stream",
    "partial_images",
    "user",
    "safety_identifier",
];
const FOR_GPT_26: &[&str] = &["complexity", "frame_count", "frame_duration_ms", "svg"];
const FOR_GPT_EDITS: &[&str] = &[
    "images",
    "image",
    "image[]",
    "mask",
    "markup",
    "input_fidelity",
];
const FOR_DALLE_2: &[&str] = &[
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "response_format",
    "user",
    "image",
    "mask",
];
const FOR_DALLE_3: &[&str] = &[
    "prompt",
    "model",
    "n",
    "size",
    "quality",
    "response_format",
    "user",
    "style",
];

/// Fields of JSON or of a form alike; a form's numbers are text.
pub(super) struct Fields {
    values: Map<String, Value>,
    files: Vec<(String, Bytes)>,
    form: bool,
}

/// Seconds since 1970, as JSON.
pub(super) fn now() -> String {
    jiff::Timestamp::now().as_second().to_string()
}

/// The model that draws where OpenAI is asked on `route`, by the name in the body.
pub(super) fn model_of(route: Route, named: Option<&str>) -> String {
    let fallback = match route {
        Route::Edits => "gpt-image-1.5",
        _ => "dall-e-2",
    };
    named.unwrap_or(fallback).to_owned()
}

/// Reads and checks a call; `model_of` tells the model by the name in the body.
///
/// # Errors
/// The refusal that OpenAI would send.
pub(super) fn read(
    arrived: &Arrived,
    shared: &Shared,
    route: Route,
    model_of: impl FnOnce(Option<&str>) -> String,
) -> Result<Ask, Refusal> {
    check(&fields(arrived, route)?, shared, route, model_of)
}

/// Checks what was asked, wherever it stood.
///
/// # Errors
/// The refusal that OpenAI would send.
pub(super) fn check(
    fields: &Fields,
    shared: &Shared,
    route: Route,
    model_of: impl FnOnce(Option<&str>) -> String,
) -> Result<Ask, Refusal> {
    let name = &model_of(fields.text("model")?);
    let model = tokens::find(name)
        .filter(|model| !model.retired || shared.options.retired_ok)
        .filter(|model| route != Route::Variations || model.family == Family::DallE2)
        .ok_or_else(|| Box::new(OPENAI.fill("error.model", &[("model", Fill::Text(name))])))?;
    fields.refuse_unknown(model, route)?;
    let prompt = prompt(fields, model, route)?;
    let n = fields.number(
        "n",
        1,
        1,
        if model.family == Family::DallE3 {
            1
        } else {
            10
        },
    )?;
    let (width, height) = size(fields, model)?;
    let quality = quality(fields, model)?;
    let format = format(fields)?;
    let transparent = background(fields, format)?;
    fields.number("output_compression", 100, 0, 100)?;
    let stream = fields.flag("stream")?;
    let partials = fields.number("partial_images", 0, 0, 3)?;
    let by_url = model.family.is_dalle() && delivery(fields)?;
    let fidelity = fields.word("input_fidelity", &["high", "low"])? == Some("high");
    let image_tokens = pictures(fields, model, route, fidelity)?;
    Ok(Ask {
        route,
        model,
        n,
        width,
        height,
        quality,
        transparent,
        format,
        stream,
        partials: if stream { partials } else { 0 },
        by_url,
        safety_identifier: fields.text("safety_identifier")?.map(str::to_owned),
        image_tokens,
        digest: digest(fields),
        prompt,
    })
}

fn fields(arrived: &Arrived, route: Route) -> Result<Fields, Refusal> {
    let content_type = arrived.header("content-type").unwrap_or_default();
    if multipart::boundary(content_type).is_some() && route != Route::Generations {
        let parts = multipart::read(content_type, &arrived.body)
            .map_err(|problem| plain(&format!("Could not parse multipart form: {problem}.")))?;
        let mut fields = Fields {
            values: Map::new(),
            files: Vec::new(),
            form: true,
        };
        for part in parts {
            let text = part.as_text().filter(|_| part.filename.is_none());
            if let Some(value) = text.map(Value::from) {
                fields.values.insert(part.name, value);
            } else {
                fields.files.push((part.name, part.data));
            }
        }
        return Ok(fields);
    }
    match serde_json::from_slice(&arrived.body) {
        Ok(Value::Object(values)) => Ok(Fields::of(values)),
        _ => Err(not_json()),
    }
}

impl Fields {
    /// Those of a JSON object.
    pub(super) fn of(values: Map<String, Value>) -> Fields {
        Fields {
            values,
            files: Vec::new(),
            form: false,
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(name, "a string", other)),
        }
    }

    fn word(&self, name: &str, known: &[&str]) -> Result<Option<&str>, Refusal> {
        let Some(word) = self.text(name)? else {
            return Ok(None);
        };
        if known.contains(&word) {
            return Ok(Some(word));
        }
        Err(unsupported(name, word, known))
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.values.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) if self.form && text == "true" => Ok(true),
            Some(Value::String(text)) if self.form && text == "false" => Ok(false),
            Some(other) => Err(wrong_type(name, "a boolean", other)),
        }
    }

    fn number(&self, name: &str, absent: u32, least: u32, most: u32) -> Result<u32, Refusal> {
        let value = match self.values.get(name) {
            None | Some(Value::Null) => return Ok(absent),
            Some(value) => value,
        };
        let number = match value {
            Value::String(text) if self.form => text.trim().parse().ok(),
            other => other.as_i64(),
        };
        let number = number.ok_or_else(|| wrong_type(name, "an integer", value))?;
        if number < i64::from(least) {
            return Err(invalid(
                name,
                "integer_below_min_value",
                &format!(
                    "Invalid '{name}': integer below minimum value. Expected a value >= {least}, but got {number} instead."
                ),
            ));
        }
        if number > i64::from(most) {
            return Err(invalid(
                name,
                "integer_above_max_value",
                &format!(
                    "Invalid '{name}': integer above maximum value. Expected a value <= {most}, but got {number} instead."
                ),
            ));
        }
        Ok(u32::try_from(number).unwrap_or(most))
    }

    fn refuse_unknown(&self, model: &Model, route: Route) -> Result<(), Refusal> {
        let lists: [&[&str]; 3] = match model.family {
            Family::DallE2 => [FOR_DALLE_2, &[], &[]],
            Family::DallE3 => [FOR_DALLE_3, &[], &[]],
            family => [
                FOR_GPT,
                if family == Family::Gpt26 {
                    FOR_GPT_26
                } else {
                    &[]
                },
                if route == Route::Edits {
                    FOR_GPT_EDITS
                } else {
                    &[]
                },
            ],
        };
        let known = |name: &str| lists.iter().any(|list| list.contains(&name));
        let names = self.values.keys();
        let stranger = names
            .chain(self.files.iter().map(|(name, _)| name))
            .find(|name| !known(name));
        match stranger {
            None => Ok(()),
            Some(name) => Err(invalid(
                name,
                "unknown_parameter",
                &format!("Unknown parameter: '{name}'."),
            )),
        }
    }
}

fn prompt(fields: &Fields, model: &Model, route: Route) -> Result<String, Refusal> {
    if route == Route::Variations {
        return Ok(String::new());
    }
    let prompt = fields.text("prompt")?.ok_or_else(|| missing("prompt"))?;
    let most = match model.family {
        Family::DallE2 => 1_000,
        Family::DallE3 => 4_000,
        _ => 32_000,
    };
    let length = prompt.chars().count();
    if length == 0 {
        return Err(invalid(
            "prompt",
            "string_below_min_length",
            "Invalid 'prompt': empty string. Expected a string with minimum length 1, but got an empty string instead.",
        ));
    }
    if length > most {
        return Err(invalid(
            "prompt",
            "string_above_max_length",
            &format!(
                "Invalid 'prompt': string too long. Expected a string with maximum length {most}, but got a string with length {length} instead."
            ),
        ));
    }
    Ok(prompt.to_owned())
}

fn size(fields: &Fields, model: &Model) -> Result<(u32, u32), Refusal> {
    let fixed: &[&str] = match model.family {
        Family::Gpt1 => &["1024x1024", "1024x1536", "1536x1024", "auto"],
        Family::DallE2 => &["256x256", "512x512", "1024x1024"],
        Family::DallE3 => &["1024x1024", "1024x1792", "1792x1024"],
        _ => &[],
    };
    let Some(asked) = fields
        .text("size")?
        .filter(|size| *size != "auto" || fixed.len() == 3)
    else {
        return Ok((1024, 1024));
    };
    let pixels = asked
        .split_once('x')
        .and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
    if !fixed.is_empty() {
        return pixels
            .filter(|_| fixed.contains(&asked))
            .ok_or_else(|| unsupported("size", asked, fixed));
    }
    pixels.filter(|(w, h)| free_size(*w, *h)).ok_or_else(|| {
        invalid("size", "invalid_value", &format!(
            "Invalid size '{asked}'. Width and height must be multiples of 16, the aspect ratio between 1:3 and 3:1, and the total between 655360 and 8294400 pixels, at most 3840 a side."
        ))
    })
}

/// Whether GPT Image 2 and later draw this size.
fn free_size(width: u32, height: u32) -> bool {
    let (long, short) = (width.max(height), width.min(height));
    let sides = long <= 3840 && width.is_multiple_of(16) && height.is_multiple_of(16);
    sides && short > 0 && long <= 3 * short && (655_360..=8_294_400).contains(&(width * height))
}

fn quality(fields: &Fields, model: &Model) -> Result<&'static str, Refusal> {
    let known: &[&str] = match model.family {
        Family::DallE2 => &["standard"],
        Family::DallE3 => &["standard", "hd"],
        Family::Gpt1 | Family::Gpt2 => &["low", "medium", "high", "auto"],
        Family::Gpt25 | Family::Gpt26 => &["low", "medium", "high", "xhigh", "max", "auto"],
    };
    let asked = fields.word("quality", known)?.unwrap_or("auto");
    Ok(tokens::resolve_quality(model, asked))
}

fn format(fields: &Fields) -> Result<Format, Refusal> {
    let known = ["png", "jpeg", "webp"];
    let word = fields.word("output_format", &known)?;
    Ok(word.and_then(Format::parse).unwrap_or(Format::Png))
}

fn background(fields: &Fields, format: Format) -> Result<bool, Refusal> {
    let known = ["transparent", "opaque", "auto"];
    let transparent = fields.word("background", &known)? == Some("transparent");
    if transparent && format == Format::Jpeg {
        return Err(invalid(
            "background",
            "invalid_value",
            "Transparent background is not supported for output format 'jpeg'.",
        ));
    }
    Ok(transparent)
}

fn delivery(fields: &Fields) -> Result<bool, Refusal> {
    Ok(fields.word("response_format", &["url", "b64_json"])? != Some("b64_json"))
}

/// The tokens of all uploaded pictures, once they have been found to be pictures.
fn pictures(
    fields: &Fields,
    model: &Model,
    route: Route,
    high_fidelity: bool,
) -> Result<u64, Refusal> {
    if route == Route::Generations {
        return Ok(0);
    }
    let sizes = if fields.form {
        uploads(fields)?
    } else {
        references(fields)?
    };
    if sizes.is_empty() {
        return Err(missing(if fields.form { "image" } else { "images" }));
    }
    if sizes.len() > 16 {
        return Err(invalid(
            "image",
            "array_above_max_length",
            &format!(
                "Invalid 'image': array too long. Expected an array with maximum length 16, but got an array with length {} instead.",
                sizes.len()
            ),
        ));
    }
    let tokens = sizes
        .into_iter()
        .map(|pixels| tokens::input_image(model.family, high_fidelity, pixels));
    Ok(tokens.sum())
}

type Pixels = Option<(u32, u32)>;

fn uploads(fields: &Fields) -> Result<Vec<Pixels>, Refusal> {
    let mut sizes = Vec::new();
    for (name, file) in &fields.files {
        let facts = header::read(file);
        if !matches!(
            facts.format,
            FileFormat::Png | FileFormat::Jpeg | FileFormat::Webp
        ) {
            return Err(Box::new(OPENAI.fill(
                "error.image",
                &[
                    (
                        "message",
                        Fill::Text(
                            "Invalid image file or mode for image 1, please check your image file.",
                        ),
                    ),
                    ("param", Fill::Text(name)),
                    ("code", Fill::Text("invalid_image_file")),
                ],
            )));
        }
        if matches!(name.as_str(), "image" | "image[]") {
            sizes.push(facts.pixels);
        }
    }
    Ok(sizes)
}

fn references(fields: &Fields) -> Result<Vec<Pixels>, Refusal> {
    let Some(Value::Array(images)) = fields.values.get("images") else {
        return Err(missing("images"));
    };
    images
        .iter()
        .map(|image| match (&image["image_url"], &image["file_id"]) {
            (Value::String(url), _) => Ok(data_url(url)),
            (_, Value::String(_)) => Ok(None),
            _ => Err(missing("images[0].image_url")),
        })
        .collect()
}

/// The size of a picture in a data URL; `None` for one that lies elsewhere.
fn data_url(url: &str) -> Pixels {
    use base64::Engine as _;
    let (_, data) = url.strip_prefix("data:")?.split_once(";base64,")?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(data)
        .ok()?;
    header::read(&bytes).pixels
}

fn digest(fields: &Fields) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(Value::Object(fields.values.clone()).to_string().as_bytes());
    for (name, file) in &fields.files {
        hasher
            .update(name.as_bytes())
            .update(blake3::hash(file).as_bytes());
    }
    hasher.finalize()
}
