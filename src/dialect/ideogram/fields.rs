//! The fields of a request, in the spelling of its route.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value, json};

use super::super::form::{self, Fields, wrong};
use super::super::{Unreadable, Unsupported, picture, unsupported};
use super::route::{self, CHARACTER, Route, Spelling, TAKEN};
use crate::image::{
    Aspect, Format, ImageRequest, Input, InputRole, InputSource, ModelId, Operation, Quality, Size,
};
use crate::wire::multipart::{self, Part};
use crate::wire::{RequestHead, Rope, json as wire_json};

/// A prompt that is a document, in place of a text.
pub(super) const DOCUMENT: &str = "json_prompt";
/// How the app spelt its speed, where we would spell it otherwise: its field, and its word.
const SPEED: &str = "@speed";
/// The names of the app's files, where we would name them otherwise.
const FILES: &str = "@files";
const CHARACTERS: &str = "character_reference_images";

// Reading.

/// Reads what the body says into `request`, which names its model already.
pub(super) fn read(
    request: &mut ImageRequest,
    route: &Route<'_>,
    head: &RequestHead,
    body: &Bytes,
) -> Result<(), Unreadable> {
    let content_type = head.header(CONTENT_TYPE).unwrap_or_default();
    let (mut fields, files) = match multipart::boundary(content_type) {
        Some(_) => read_form(content_type, body)?,
        None => (read_json(body)?, Vec::new()),
    };
    read_files(request, files);
    read_prompt(request, route, &mut fields)?;
    request.negative_prompt = fields.text("negative_prompt")?;
    request.style = fields.text("style_type")?;
    request.seed = fields.whole("seed")?;
    request.n = fields.whole("num_images")?.unwrap_or(1);
    if request.n == 0 {
        return Err(wrong("num_images", "must be at least 1"));
    }
    request.size = read_size(&mut fields)?;
    let speed = read_speed(request, route, &mut fields)?;
    let notes = std::mem::take(&mut request.extra);
    request.extra = fields.rest();
    if route.spelling != Spelling::Newer {
        // A form, as which it may go on, has documents as text.
        let documents = request.extra.values_mut().filter(|value| value.is_object());
        documents.for_each(|value| *value = value.to_string().into());
    }
    request.extra.extend(notes);
    request
        .extra
        .extend(speed.map(|spelt| (SPEED.to_owned(), spelt)));
    let path = head.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let usual = route::usual(request.model.model(), request.operation);
    if usual != path || request.inputs_of(InputRole::Mask).next().is_some() {
        let taken = match head.target.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        request.extra.insert(TAKEN.to_owned(), taken.into());
    }
    Ok(())
}

fn read_json(body: &Bytes) -> Result<Fields, Unreadable> {
    let node =
        wire_json::parse(body).map_err(|error| wrong("body", format!("is not JSON: {error}")))?;
    Fields::of_object(&node, body, &[])
}

fn read_form(content_type: &str, body: &Bytes) -> Result<(Fields, Vec<Part>), Unreadable> {
    let parts = multipart::read(content_type, body)
        .map_err(|error| wrong("body", format!("must be multipart/form-data: {error}")))?;
    let (files, texts): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| part.filename.is_some());
    Ok((Fields::of_parts(&texts)?, files))
}

/// A picture makes an edit of it, and a character of one's own another model.
fn read_files(request: &mut ImageRequest, files: Vec<Part>) {
    let names: Vec<String> = files.iter().map(|part| part.name.clone()).collect();
    request.inputs = files.into_iter().map(input).collect();
    if names.iter().any(|name| name == CHARACTERS) {
        request.model = ModelId::new(request.model.provider(), CHARACTER);
    }
    if request.inputs_of(InputRole::Image).next().is_some() {
        request.operation = Operation::Edit;
    }
    let usual: Vec<&str> = request
        .inputs
        .iter()
        .map(|input| usual_name(&request.model, input.role))
        .collect();
    if usual != names {
        request.extra.insert(FILES.to_owned(), json!(names));
    }
}

fn input(part: Part) -> Input {
    let declared = part.content_type.as_deref().map(Format::from_media_type);
    let role = match part.name.as_str() {
        name if name.contains("mask") => InputRole::Mask,
        name if name.starts_with("style_") => InputRole::Style,
        _ => InputRole::Image,
    };
    Input {
        role,
        format: picture::known_format(declared.unwrap_or(Format::Unknown), &part.data),
        name: part.filename,
        source: InputSource::Bytes(part.data),
    }
}

fn usual_name(model: &ModelId, role: InputRole) -> &'static str {
    match role {
        InputRole::Image if model.model() == CHARACTER => CHARACTERS,
        InputRole::Image | InputRole::Markup => "image",
        InputRole::Mask => "mask",
        InputRole::Style => "style_reference_images",
    }
}

fn read_prompt(
    request: &mut ImageRequest,
    route: &Route<'_>,
    fields: &mut Fields,
) -> Result<(), Unreadable> {
    let name = prompt_name(route);
    let prompt = fields.text(name)?;
    // To reframe a picture needs no words.
    let wordless = request.operation == Operation::Edit || fields.has(DOCUMENT);
    if prompt.is_none() && !wordless {
        return Err(wrong(name, "is missing"));
    }
    request.prompt = prompt.unwrap_or_default();
    Ok(())
}

fn prompt_name(route: &Route<'_>) -> &'static str {
    match route.spelling {
        Spelling::Four => "text_prompt",
        Spelling::Newer | Spelling::Three => "prompt",
    }
}

/// Pixels, or a shape, to which a step of resolution belongs.
fn read_size(fields: &mut Fields) -> Result<Size, Unreadable> {
    let width: Option<u32> = fields.whole("custom_width")?;
    let height: Option<u32> = fields.whole("custom_height")?;
    if let (Some(width @ 1..), Some(height @ 1..)) = (width, height) {
        return Ok(Size::Pixels { width, height });
    }
    for (name, side) in [("custom_width", width), ("custom_height", height)] {
        if let Some(side) = side {
            fields.keep(name, side);
        }
    }
    if let Some((width, height)) = fields.word("resolution", |word| Size::parse(word)?.pixels())? {
        return Ok(Size::Pixels { width, height });
    }
    let shape = |word: &str| Aspect::parse(&word.replacen('x', ":", 1));
    Ok(match fields.word("aspect_ratio", shape)? {
        Some(aspect) => Size::Aspect {
            aspect,
            step: fields.text("resolution")?,
        },
        None => Size::Auto,
    })
}

/// How much care is taken: a quality, or the speed that is its price. Returns how it was spelt, if
/// we would not spell it so.
fn read_speed(
    request: &mut ImageRequest,
    route: &Route<'_>,
    fields: &mut Fields,
) -> Result<Option<Value>, Unreadable> {
    for name in ["rendering_speed", "quality"] {
        let Some(Value::String(word)) = fields.take(name) else {
            continue;
        };
        let Some(quality) = quality_of(&word) else {
            fields.keep(name, word); // a word that the provider has added since
            continue;
        };
        request.quality = Some(quality);
        let usual = speed(&request.model, route, quality) == Some((name, word.as_str()));
        return Ok((!usual).then(|| json!({ name: word })));
    }
    Ok(None)
}

fn quality_of(word: &str) -> Option<Quality> {
    match word {
        "FLASH" | "TURBO" | "low" => Some(Quality::Low),
        "DEFAULT" | "BALANCED" | "medium" => Some(Quality::Medium),
        "QUALITY" | "high" => Some(Quality::High),
        _ => None,
    }
}

/// Field and word of a quality; `None` where there is none to be said. From 4.5 on models have
/// qualities, and before that speeds.
fn speed(
    model: &ModelId,
    route: &Route<'_>,
    quality: Quality,
) -> Option<(&'static str, &'static str)> {
    let rank = quality.rank()?;
    let model = model.model();
    let fast = route.spelling != Spelling::Newer
        || model == "ideogram-4"
        || model.starts_with("ideogram-3");
    Some(match (fast, rank) {
        (true, 1) => ("rendering_speed", "TURBO"),
        (true, 2) => ("rendering_speed", "DEFAULT"),
        (true, _) => ("rendering_speed", "QUALITY"),
        (false, 1) => ("quality", "low"),
        (false, 2) => ("quality", "medium"),
        (false, _) => ("quality", "high"),
    })
}

// Writing.

/// The body of a request on `route`, with its content type.
pub(super) fn write(
    request: &ImageRequest,
    route: &Route<'_>,
) -> Result<(HeaderValue, Rope), Unsupported> {
    let fields = write_fields(request, route);
    if route.spelling == Spelling::Newer && request.inputs.is_empty() {
        let json = HeaderValue::from_static("application/json");
        return Ok((json, Value::Object(fields).to_string().into()));
    }
    let mut parts = Vec::new();
    for (name, value) in &fields {
        push_parts(&mut parts, name, value);
    }
    push_files(&mut parts, request)?;
    Ok(form::write(&parts))
}

/// The fields but for the files. What our words say wins over what is left in extra.
pub(super) fn write_fields(request: &ImageRequest, route: &Route<'_>) -> Map<String, Value> {
    let said = |(name, _): &(&String, &Value)| !name.starts_with(super::super::NOTE);
    let extra = request.extra.iter().filter(said);
    let mut fields: Map<String, Value> = extra
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // The two APIs spell this one word in small and in capital letters.
    if let Some(Value::String(word)) = fields.get_mut("magic_prompt") {
        *word = match route.spelling {
            Spelling::Newer => word.to_ascii_lowercase(),
            Spelling::Three | Spelling::Four => word.to_ascii_uppercase(),
        };
    }
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let prompt = request.prompt.as_str();
    put(
        prompt_name(route),
        (!prompt.is_empty()).then(|| prompt.into()),
    );
    put("negative_prompt", text(&request.negative_prompt));
    put("style_type", text(&request.style));
    put("num_images", (request.n > 1).then(|| request.n.into()));
    put("seed", request.seed.map(Value::from));
    let spelt = request.quality.and_then(|quality| {
        let own = own_speed(request, quality);
        let usual = speed(&request.model, route, quality);
        own.or_else(|| usual.map(|(name, word)| (name.to_owned(), word.to_owned())))
    });
    if let Some((name, word)) = spelt {
        put(&name, Some(word.into()));
    }
    write_size(&request.size, route, &mut fields);
    fields
}

/// The app's own word, while it still says what is wanted.
fn own_speed(request: &ImageRequest, quality: Quality) -> Option<(String, String)> {
    let (name, word) = request.extra.get(SPEED)?.as_object()?.iter().next()?;
    let word = word.as_str()?;
    (quality_of(word) == Some(quality)).then(|| (name.clone(), word.to_owned()))
}

fn write_size(size: &Size, route: &Route<'_>, fields: &mut Map<String, Value>) {
    let newer = route.spelling == Spelling::Newer;
    match size {
        Size::Auto => {}
        Size::Pixels { width, height } if newer => {
            fields.remove("resolution");
            fields.insert("custom_width".to_owned(), (*width).into());
            fields.insert("custom_height".to_owned(), (*height).into());
        }
        Size::Pixels { .. } => {
            fields.insert("resolution".to_owned(), size.to_string().into());
        }
        Size::Aspect { aspect, step } => {
            let spelt = format!("{}x{}", aspect.wide, aspect.high);
            fields.insert("aspect_ratio".to_owned(), spelt.into());
            // Only the newer routes draw a shape in more than one size.
            if let Some(step) = step.as_deref().filter(|_| newer) {
                fields.insert("resolution".to_owned(), step.to_ascii_lowercase().into());
            }
        }
    }
}

/// A list is a field that comes more than once; what is deeper is JSON.
fn push_parts(parts: &mut Vec<Part>, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(text) => parts.push(Part::text(name, text.as_str())),
        Value::Array(items) => items.iter().for_each(|item| push_parts(parts, name, item)),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            parts.push(Part::text(name, value.to_string()));
        }
    }
}

fn push_files(parts: &mut Vec<Part>, request: &ImageRequest) -> Result<(), Unsupported> {
    let own = request.extra.get(FILES).and_then(Value::as_array);
    let own = own.filter(|names| names.len() == request.inputs.len());
    let here = request.extra.contains_key(TAKEN);
    for (at, input) in request.inputs.iter().enumerate() {
        if input.role == InputRole::Mask && !here {
            let why =
                "masks are black here where something is to be drawn, and are not turned over";
            return Err(unsupported("mask", why));
        }
        let InputSource::Bytes(bytes) = &input.source else {
            return Err(unsupported("inputs", "the picture must be uploaded"));
        };
        let name = own.and_then(|names| names.get(at)?.as_str());
        let name = name.unwrap_or_else(|| usual_name(&request.model, input.role));
        parts.push(form::file(name, input, bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: &ImageRequest) -> Map<String, Value> {
        let target = route::target(request);
        write_fields(request, &Route::of(target.path()).unwrap())
    }

    #[test]
    fn a_quality_is_spelt_as_the_model_has_it() {
        let check = |model: &str, quality, field: &str, word: &str| {
            let mut request = ImageRequest::new(ModelId::new("ideogram", model), "x");
            request.quality = Some(quality);
            assert_eq!(written(&request)[field], word, "{model}");
        };
        check("ideogram-4-5", Quality::Hd, "quality", "high");
        check("ideogram-4-5", Quality::Standard, "quality", "medium");
        check("ideogram-4", Quality::Low, "rendering_speed", "TURBO");
        check("ideogram-3", Quality::High, "rendering_speed", "QUALITY");
        check("p-image-ideogram", Quality::Low, "quality", "low");
    }

    #[test]
    fn a_word_of_the_apps_own_stands_until_a_rule_says_otherwise() {
        let mut request = ImageRequest::new(ModelId::new("ideogram", "ideogram-3"), "x");
        request.quality = Some(Quality::Low);
        let spelt = json!({"rendering_speed": "FLASH"});
        request.extra.insert(SPEED.to_owned(), spelt);
        assert_eq!(written(&request)["rendering_speed"], "FLASH");
        request.quality = Some(Quality::Medium);
        assert_eq!(written(&request)["rendering_speed"], "DEFAULT");
    }

    #[test]
    fn a_mask_of_another_house_is_not_taken_for_one_of_this() {
        let mut request = ImageRequest::new(ModelId::new("ideogram", "ideogram-3"), "x");
        request.operation = Operation::Edit;
        request.inputs = vec![Input {
            role: InputRole::Mask,
            source: InputSource::Bytes(Bytes::from_static(b"mask")),
            name: None,
            format: Format::Png,
        }];
        let route = Route::of("/v1/ideogram-v3/edit").unwrap();
        assert_eq!(write(&request, &route).unwrap_err().field, "mask");
        request
            .extra
            .insert(TAKEN.to_owned(), "/v1/ideogram-v3/edit".into());
        assert!(write(&request, &route).is_ok());
    }
}
