//! `predict`, priced by delivered picture.

use base64::Engine as _;
use serde_json::Value;

use super::models::Imagen;
use super::{Path, error, gone, invalid, message, picture, unknown};
use crate::sim::Shared;
use crate::sim::answer::Answer;
use crate::sim::behaviour::{Behaviour, Fault};
use crate::sim::picture::Format;
use crate::sim::serve::{Order, Verdict};
use crate::sim::template::{Fill, GOOGLE};

const PARAMETERS: &[&str] = &[
    "sampleCount",
    "aspectRatio",
    "sampleImageSize",
    "personGeneration",
    "safetySetting",
    "includeRaiReason",
    "includeSafetyAttributes",
    "outputOptions",
    "language",
    "guidanceScale",
];
/// Taken by Vertex alone.
const VERTEX_PARAMETERS: &[&str] = &[
    "negativePrompt",
    "seed",
    "addWatermark",
    "enhancePrompt",
    "storageUri",
    "editMode",
    "editConfig",
];

/// All that the Gemini API takes for `safetySetting`.
const STRICTEST: &str = "block_low_and_above";

/// A valid call.
#[derive(Debug)]
struct Ask {
    model: &'static Imagen,
    prompt: String,
    body: Value,
    count: u32,
    pixels: (u32, u32),
    format: Format,
    seed: Option<u64>,
    /// Says why a picture was filtered.
    reasons: bool,
    bucket: Option<String>,
}

/// What the method makes of a request.
pub(super) fn judge(path: &Path<'_>, body: &Value, shared: &Shared) -> Verdict {
    let Some(model) = Imagen::find(path.model, shared.options.retired_ok) else {
        return Verdict::Answer(gone(path.model, path.method));
    };
    match read(path, model, body) {
        Ok(ask) => Verdict::Order(Box::new(ask)),
        Err(mistake) => Verdict::Answer(invalid(&mistake)),
    }
}

fn read(path: &Path<'_>, model: &'static Imagen, body: &Value) -> Result<Ask, String> {
    let [instance] = body["instances"].as_array().map_or(&[][..], Vec::as_slice) else {
        return Err("Exactly one instance is expected.".to_owned());
    };
    let parameters = &body["parameters"];
    let mut known = PARAMETERS.to_vec();
    if path.vertex {
        known.extend(VERTEX_PARAMETERS);
    }
    if let Err(mistake) = unknown(Some(parameters), &known, " at 'parameters'") {
        let refused = VERTEX_PARAMETERS
            .iter()
            .find(|name| !parameters[**name].is_null());
        return Err(refused.map_or(mistake, |name| {
            format!("`{name}` isn't supported by this model.")
        }));
    }
    let prompt = instance["prompt"]
        .as_str()
        .filter(|prompt| !prompt.is_empty());
    let prompt = prompt.ok_or("The prompt is empty.")?.to_owned();
    let references = instance["referenceImages"].as_array();
    if model.edits != references.is_some() {
        return Err(
            "referenceImages: are taken by models that edit, and by these alone".to_owned(),
        );
    }
    let count = match &parameters["sampleCount"] {
        Value::Null => 4,
        count => count
            .as_u64()
            .filter(|count| (1..=4).contains(count))
            .ok_or("sampleCount must be between 1 and 4, inclusive")?,
    };
    let word = |name: &str, usual| parameters[name].as_str().unwrap_or(usual);
    let pixels = model
        .pixels(word("aspectRatio", "1:1"), word("sampleImageSize", "1K"))
        .ok_or("aspectRatio or sampleImageSize is not supported by this model")?;
    let safety = parameters["safetySetting"].as_str();
    if safety.is_some_and(|word| !path.vertex && !word.eq_ignore_ascii_case(STRICTEST)) {
        return Err(format!("Only {STRICTEST} is supported for safetySetting."));
    }
    let output = &parameters["outputOptions"];
    let format = match output["mimeType"].as_str().unwrap_or("image/png") {
        "image/png" => Format::Png,
        "image/jpeg" => Format::Jpeg,
        other => return Err(format!("outputOptions.mimeType: {other} is not supported")),
    };
    let seed = parameters["seed"].as_u64();
    if seed.is_some() && parameters["addWatermark"] != false {
        return Err("Seed is not supported when watermark is enabled.".to_owned());
    }
    Ok(Ask {
        model,
        prompt,
        body: body.clone(),
        count: u32::try_from(count).unwrap_or(4),
        pixels,
        format,
        seed,
        reasons: parameters["includeRaiReason"] == true,
        bucket: parameters["storageUri"].as_str().map(str::to_owned),
    })
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "google"
    }

    fn model(&self) -> &str {
        self.model.id
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        self.count
    }

    fn price(&self, behaviour: &Behaviour) -> i64 {
        match behaviour.fault {
            Fault::SafetyOutput { .. } => 0, // what is filtered is free
            _ => self.model.price * i64::from(self.count),
        }
    }

    fn price_without_picture(&self) -> i64 {
        0
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        if let Some(answer) = error(&behaviour.fault, self.model.id, "predict") {
            return answer;
        }
        match behaviour.fault {
            Fault::Safety { .. } => self.filtered("89371032"),
            Fault::SafetyOutput { .. } => self.filtered("43188360"),
            Fault::NoImage => message("imagen.none", &[]),
            Fault::StreamError => message("error.server", &[]),
            _ => self.drawn(shared, id),
        }
    }
}

impl Ask {
    fn filtered(&self, codes: &str) -> Answer {
        if !self.reasons {
            return message("imagen.none", &[]);
        }
        let notice = GOOGLE.fill("imagen.filtered", &[("codes", Fill::Text(codes))]);
        let list = format!("[{}]", notice.body);
        message("imagen.ok", &[("predictions", Fill::Json(&list))])
    }

    fn drawn(&self, shared: &Shared, id: &str) -> Answer {
        let kind = format!("image/{}", self.format.word());
        let turn = shared.next();
        let items: Vec<String> = (0..u64::from(self.count))
            .map(|at| {
                if let Some(bucket) = &self.bucket {
                    let uri = format!("{bucket}{id}/sample_{at}.{}", self.format.word());
                    let fills = [("mime", Fill::Text(&kind)), ("uri", Fill::Text(&uri))];
                    return GOOGLE.fill("imagen.stored", &fills).body;
                }
                let seed = self.seed.map(|seed| seed.wrapping_add(at));
                let mixed = turn.wrapping_mul(4).wrapping_add(at);
                let file = picture(self.pixels, self.format, &self.body, seed, mixed);
                let b64 = base64::engine::general_purpose::STANDARD
                    .encode(file.paint(shared.options.pad_to));
                let fills = [("mime", Fill::Text(&kind)), ("b64", Fill::Text(&b64))];
                GOOGLE.fill("imagen.picture", &fills).body
            })
            .collect();
        let list = format!("[{}]", items.join(","));
        message("imagen.ok", &[("predictions", Fill::Json(&list))])
    }
}
