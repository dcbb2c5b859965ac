//! Stability AI's older routes, simulated: `/v1/generation/{engine}/…`, priced by steps.

use base64::Engine as _;
use http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::picture::{Format, Picture};
use super::serve::{Arrived, Order, Verdict};
use super::stability::STYLES;
use super::template::{Fill, STABILITY_V1};
use crate::image::header;
use crate::wire::multipart::{self, Part};

const XL: &str = "stable-diffusion-xl-1024-v1-0";
const V1_6: &str = "stable-diffusion-v1-6";
const XL_SIZES: &[(u64, u64)] = &[
    (1024, 1024),
    (1152, 896),
    (896, 1152),
    (1216, 832),
    (832, 1216),
    (1344, 768),
    (768, 1344),
    (1536, 640),
    (640, 1536),
];
/// Nine tenths of a credit of 0.01 USD cover thirty steps: nano-dollars a step.
const STEP: i64 = 300_000;
/// Steps that are charged at least, and drawn when nothing is said.
const STEPS: u64 = 30;
const SAMPLERS: &[&str] = &[
    "DDIM",
    "DDPM",
    "K_DPMPP_2M",
    "K_DPMPP_2S_ANCESTRAL",
    "K_DPM_2",
    "K_DPM_2_ANCESTRAL",
    "K_EULER",
    "K_EULER_ANCESTRAL",
    "K_HEUN",
    "K_LMS",
];

/// A valid call.
#[derive(Debug)]
struct Ask {
    engine: &'static str,
    prompt: String,
    steps: i64,
    samples: u32,
    seed: u32,
    width: u32,
    height: u32,
    digest: blake3::Hash,
    /// The picture's own bytes instead of JSON.
    bytes: bool,
}

/// Why a call is refused: the template and what it says.
type Mistake = (&'static str, String);

/// What the older routes make of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let id = shared.request_id();
    match read(arrived, shared) {
        Ok(ask) => Verdict::Order(Box::new(ask)),
        Err((name, says)) => {
            let fills = [
                ("message", Fill::Text(&says)),
                ("engine", Fill::Text(&says)),
            ];
            Verdict::Answer(message(name, &fills, &id))
        }
    }
}

fn message(name: &str, fills: &[(&str, Fill<'_>)], id: &str) -> Answer {
    let all: Vec<(&str, Fill<'_>)> = [("id", Fill::Text(&id[..8]))]
        .into_iter()
        .chain(fills.iter().copied())
        .collect();
    let mut answer = Answer::of(STABILITY_V1.fill(name, &all));
    answer.set("x-request-id", id);
    answer
}

fn read(arrived: &Arrived, shared: &Shared) -> Result<Ask, Mistake> {
    let rest = arrived.path.strip_prefix("/v1/generation/");
    let (engine, action) = rest
        .and_then(|rest| rest.split_once('/'))
        .unwrap_or(("", ""));
    let known = [XL, V1_6].into_iter().find(|known| *known == engine);
    let engine = known.ok_or_else(|| ("error.not_found", engine.to_owned()))?;
    let masking = action == "image-to-image/masking";
    let upload = masking || action == "image-to-image";
    if arrived.method != Method::POST || !upload && action != "text-to-image" {
        return Err(("error.not_found", engine.to_owned()));
    }
    let bytes = accepts_bytes(arrived)?;
    let (fields, files) = fields(arrived, upload)?;
    let (width, height) = if upload {
        uploaded(&files, &fields, masking)?
    } else {
        size(&fields, engine)?
    };
    let number = |name, least, most, usual| number(&fields, name, least, most, usual);
    number("cfg_scale", 0, 35, 7)?;
    one_of(&fields, "style_preset", STYLES)?;
    one_of(&fields, "sampler", SAMPLERS)?;
    let steps = number("steps", 10, 50, STEPS)?;
    let samples = number("samples", 1, 10, 1)?;
    let drawn = || u64::from(u32::from_le_bytes(first_bytes(shared)));
    let seed = match number("seed", 0, u64::from(u32::MAX), 0)? {
        0 => drawn(),
        seed => seed,
    };
    let mut hasher = blake3::Hasher::new();
    let told: Map<String, Value> = fields
        .clone()
        .into_iter()
        .filter(|(name, _)| name != "seed" && name != "samples")
        .collect();
    hasher
        .update(engine.as_bytes())
        .update(Value::Object(told).to_string().as_bytes());
    for file in &files {
        hasher.update(blake3::hash(&file.data).as_bytes());
    }
    Ok(Ask {
        engine,
        prompt: prompt(&fields)?,
        steps: i64::try_from(steps).unwrap_or(i64::MAX),
        samples: u32::try_from(samples).unwrap_or(1),
        seed: u32::try_from(seed).unwrap_or(u32::MAX),
        width,
        height,
        digest: hasher.finalize(),
        bytes,
    })
}

fn wrong<T>(says: impl Into<String>) -> Result<T, Mistake> {
    Err(("error", says.into()))
}

fn first_bytes(shared: &Shared) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(shared.request_id().as_bytes()).as_bytes();
    [a, b, c, d]
}

fn accepts_bytes(arrived: &Arrived) -> Result<bool, Mistake> {
    match arrived.header("accept").unwrap_or("application/json") {
        "image/png" => Ok(true),
        accept if accept.contains("application/json") || accept.contains("*/*") => Ok(false),
        _ => wrong("accept: must be one of application/json, image/png"),
    }
}

/// The fields as JSON would have them, and the files.
fn fields(arrived: &Arrived, upload: bool) -> Result<(Map<String, Value>, Vec<Part>), Mistake> {
    if !upload {
        return match serde_json::from_slice(&arrived.body) {
            Ok(Value::Object(fields)) => Ok((fields, Vec::new())),
            _ => wrong("body: must be a JSON object"),
        };
    }
    let content_type = arrived.header("content-type").unwrap_or_default();
    let Ok(parts) = multipart::read(content_type, &arrived.body) else {
        return wrong("content-type: must be multipart/form-data");
    };
    let (files, texts): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| part.filename.is_some());
    let mut fields = Map::new();
    let mut prompts = Vec::new();
    for part in &texts {
        let text = part.as_text().unwrap_or_default();
        let value = serde_json::from_str(text)
            .ok()
            .filter(Value::is_number)
            .unwrap_or_else(|| Value::from(text));
        match part
            .name
            .strip_prefix("text_prompts[")
            .and_then(|rest| rest.split_once("]["))
        {
            None => drop(fields.insert(part.name.clone(), value)),
            Some((at, field)) => {
                let at = at.parse::<usize>().unwrap_or(0).min(9);
                prompts.resize(prompts.len().max(at + 1), Value::Object(Map::new()));
                let field = field.trim_end_matches(']');
                prompts[at][field] = if field == "text" { text.into() } else { value };
            }
        }
    }
    fields.insert("text_prompts".to_owned(), prompts.into());
    Ok((fields, files))
}

/// All texts; the first words of them are what directives stand in.
fn prompt(fields: &Map<String, Value>) -> Result<String, Mistake> {
    let prompts = fields.get("text_prompts").and_then(Value::as_array);
    let mut texts = Vec::new();
    for prompt in prompts.map_or(&[][..], Vec::as_slice) {
        match prompt["text"].as_str() {
            Some(text) if (1..=2000).contains(&text.chars().count()) => texts.push(text),
            _ => return wrong("text_prompts: each text must be between 1 and 2000 characters"),
        }
        if !(prompt["weight"].is_null() || prompt["weight"].is_number()) {
            return wrong("text_prompts: a weight must be a number");
        }
    }
    if texts.is_empty() {
        return wrong("text_prompts: is required");
    }
    Ok(texts.join("\n"))
}

fn number(
    fields: &Map<String, Value>,
    name: &str,
    least: u64,
    most: u64,
    usual: u64,
) -> Result<u64, Mistake> {
    let Some(value) = fields.get(name) else {
        return Ok(usual);
    };
    // Guidance may have a fraction; its whole part is within the same bounds.
    let whole = value.as_u64().or_else(|| {
        let text = value.as_f64().filter(|number| *number >= 0.0)?.to_string();
        text.split('.').next()?.parse().ok()
    });
    match whole.filter(|whole| (least..=most).contains(whole)) {
        Some(whole) => Ok(whole),
        None => wrong(format!("{name}: must be between {least} and {most}")),
    }
}

fn one_of(fields: &Map<String, Value>, name: &str, known: &[&str]) -> Result<(), Mistake> {
    match fields
        .get(name)
        .map(|value| value.as_str().unwrap_or_default())
    {
        Some(word) if !known.contains(&word) => {
            wrong(format!("{name}: must be one of {}", known.join(", ")))
        }
        _ => Ok(()),
    }
}

fn size(fields: &Map<String, Value>, engine: &str) -> Result<(u32, u32), Mistake> {
    let usual = if engine == XL { 1024 } else { 512 };
    let side = |name| {
        fields
            .get(name)
            .map_or(Some(usual), Value::as_u64)
            .unwrap_or(0)
    };
    let (width, height) = (side("width"), side("height"));
    let fits = |side: u64| side.is_multiple_of(64) && (320..=1536).contains(&side);
    let allowed = match engine {
        XL => XL_SIZES.contains(&(width, height)),
        _ => fits(width) && fits(height),
    };
    match (allowed, u32::try_from(width), u32::try_from(height)) {
        (true, Ok(width), Ok(height)) => Ok((width, height)),
        _ => Err((
            "error.size",
            format!("{width}x{height} is no size of this engine"),
        )),
    }
}

fn uploaded(
    files: &[Part],
    fields: &Map<String, Value>,
    masking: bool,
) -> Result<(u32, u32), Mistake> {
    let file = |name: &str| files.iter().find(|part| part.name == name);
    let source = fields.get("mask_source").and_then(Value::as_str);
    let known = ["MASK_IMAGE_WHITE", "MASK_IMAGE_BLACK", "INIT_IMAGE_ALPHA"];
    if masking && !source.is_some_and(|source| known.contains(&source)) {
        return wrong(format!("mask_source: must be one of {}", known.join(", ")));
    }
    if masking && source != Some("INIT_IMAGE_ALPHA") && file("mask_image").is_none() {
        return wrong("mask_image: is required");
    }
    match file("init_image").and_then(|part| header::read(&part.data).pixels) {
        Some(pixels) => Ok(pixels),
        None => wrong("init_image: must be jpeg or png"),
    }
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "stability"
    }

    fn model(&self) -> &str {
        self.engine
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        self.samples
    }

    fn price(&self, _behaviour: &Behaviour) -> i64 {
        STEP * self.steps.max(30) * i64::from(self.samples)
    }

    fn price_without_picture(&self) -> i64 {
        0 // only successful generations are charged
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let error = |name: &str| message(name, &[("engine", Fill::Text(self.engine))], id);
        let later = |mut answer: Answer, seconds: Option<u64>| {
            if let Some(seconds) = seconds {
                answer.set("retry-after", &seconds.to_string());
            }
            answer
        };
        match behaviour.fault {
            Fault::Safety { .. } => error("error.safety"),
            Fault::SafetyOutput { .. } => self.drawn("CONTENT_FILTERED", shared, id),
            Fault::RateLimited { retry_after } => later(error("error.rate_limited"), retry_after),
            Fault::Overloaded { retry_after } => later(error("error.overloaded"), retry_after),
            Fault::Server | Fault::StreamError => error("error.server"),
            Fault::Quota => error("error.quota"),
            Fault::Auth => error("error.auth"),
            Fault::Permission => error("error.permission"),
            Fault::Retired => error("error.not_found"),
            Fault::NoImage => message("ok", &[("artifacts", Fill::Json("[]"))], id),
            Fault::Html => Answer::page(STABILITY_V1.fill("html", &[])),
            Fault::None | Fault::Cut { .. } | Fault::Drop | Fault::Drip { .. } | Fault::Stall => {
                self.drawn("SUCCESS", shared, id)
            }
        }
    }
}

impl Ask {
    /// Equal fields and an equal seed give an equal picture; the seed counts up with the samples.
    fn paint(&self, seed: u32, shared: &Shared) -> Vec<u8> {
        let mixed = blake3::keyed_hash(self.digest.as_bytes(), &seed.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&mixed.as_bytes()[..8]);
        let picture = Picture {
            format: Format::Png,
            width: self.width,
            height: self.height,
            digest: u64::from_le_bytes(first),
            transparent: false,
        };
        picture.paint(shared.options.pad_to)
    }

    fn drawn(&self, finish: &str, shared: &Shared, id: &str) -> Answer {
        if self.bytes {
            let file = self.paint(self.seed, shared);
            let mut answer = Answer::new(StatusCode::OK, "image/png", file);
            answer.set("finish-reason", finish);
            answer.set("seed", &self.seed.to_string());
            answer.set("x-request-id", id);
            return answer;
        }
        let artifacts: Vec<String> = (0..self.samples)
            .map(|at| {
                let seed = self.seed.wrapping_add(at);
                let file = self.paint(seed, shared);
                let b64 = base64::engine::general_purpose::STANDARD.encode(file);
                let seed = seed.to_string();
                let fills = [
                    ("b64", Fill::Text(&b64)),
                    ("seed", Fill::Json(&seed)),
                    ("finish", Fill::Text(finish)),
                ];
                STABILITY_V1.fill("artifact", &fills).body
            })
            .collect();
        let list = format!("[{}]", artifacts.join(","));
        message("ok", &[("artifacts", Fill::Json(&list))], id)
    }
}
