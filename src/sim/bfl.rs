//! Black Forest Labs, simulated: FLUX by job, its cost said in credits when it is taken on.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::picture::{Format, Picture};
use super::queued::{self, Ask as Question, Pages};
use super::serve::{Arrived, Order, Verdict};
use super::sketch;
use super::template::{BFL, Fill};

const MEGAPIXEL: u64 = 1 << 20;
/// Nano-dollars of a hundredth of a credit.
const HUNDREDTH: i64 = 100_000;

/// Model, and hundredths of a credit: the first megapixel, each further one, each one put in.
/// From the price list of BFL.
const MODELS: &[(&str, i64, i64, i64)] = &[
    ("flux-2-pro", 300, 150, 150),
    ("flux-2-max", 700, 300, 300),
    ("flux-2-flex", 500, 500, 500),
    ("flux-2-klein-4b", 140, 10, 10),
    ("flux-2-klein-9b", 150, 20, 20),
    ("flux-kontext-pro", 400, 0, 0),
    ("flux-kontext-max", 800, 0, 0),
    ("flux-pro-1.1", 400, 0, 0),
    ("flux-pro-1.1-ultra", 600, 0, 0),
    ("flux-dev", 250, 0, 0),
];

/// A valid call.
#[derive(Debug)]
struct Ask {
    model: &'static str,
    hundredths: i64,
    input_mp: u64,
    prompt: String,
    picture: Picture,
    seed: u64,
    base: String,
}

/// What BFL makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    if arrived.header("x-key").is_none() {
        return Verdict::Answer(said("error.auth", &[]));
    }
    let model = match (&arrived.method, arrived.path.as_str()) {
        (&Method::GET, "/v1/get_result") => return Verdict::Answer(about_job(arrived, shared)),
        (&Method::GET, "/v1/credits") => return Verdict::Answer(said("credits", &[])),
        (&Method::POST, path) => path.trim_start_matches("/v1/"),
        _ => "",
    };
    let Some(&(model, first, further, put_in)) = MODELS.iter().find(|(name, ..)| *name == model)
    else {
        return Verdict::Answer(said("error.not_found", &[]));
    };
    match read(arrived, model, shared) {
        Ok(mut ask) => {
            let pixels = u64::from(ask.picture.width) * u64::from(ask.picture.height);
            let more = i64::try_from(pixels.div_ceil(MEGAPIXEL).max(1) - 1).unwrap_or(0);
            let input = i64::try_from(ask.input_mp).unwrap_or(0);
            ask.hundredths = first + more * further + input * put_in;
            Verdict::Order(Box::new(ask))
        }
        Err((field, message, kind)) => Verdict::Answer(said(
            "error.field",
            &[
                ("field", Fill::Text(field)),
                ("message", Fill::Text(message)),
                ("kind", Fill::Text(kind)),
            ],
        )),
    }
}

fn said(name: &str, fills: &[(&str, Fill<'_>)]) -> Answer {
    Answer::of(BFL.fill(name, fills))
}

fn about_job(arrived: &Arrived, shared: &Shared) -> Answer {
    let mut pairs = arrived.query.split('&');
    let id = pairs
        .find_map(|pair| pair.strip_prefix("id="))
        .unwrap_or_default();
    queued::answer(id, Question::Result, shared).unwrap_or_else(|| {
        let fills = [
            ("id", Fill::Text(id)),
            ("status", Fill::Text("Task not found")),
        ];
        said("ended", &fills)
    })
}

type Mistake = (&'static str, &'static str, &'static str);

fn read(arrived: &Arrived, model: &'static str, shared: &Shared) -> Result<Ask, Mistake> {
    let fields: Value = serde_json::from_slice(&arrived.body)
        .map_err(|_| ("body", "JSON decode error", "json_invalid"))?;
    let prompt = fields["prompt"]
        .as_str()
        .ok_or(("prompt", "Field required", "missing"))?;
    let size = match fields["aspect_ratio"].as_str() {
        Some(ratio) => sketch::shape(ratio, MEGAPIXEL),
        None => side(&fields["width"], 1024).zip(side(&fields["height"], 768)),
    };
    let (width, height) = size.ok_or((
        "width",
        "Input should be a multiple of 16 from 64 on",
        "multiple_of",
    ))?;
    let format = match fields["output_format"].as_str() {
        None => Format::Jpeg,
        Some(word) => Format::parse(word)
            .filter(|format| *format != Format::Webp)
            .ok_or(("output_format", "Input should be 'jpeg' or 'png'", "enum"))?,
    };
    let inputs = fields.as_object().map_or(0, |all| {
        all.keys()
            .filter(|key| key.starts_with("input_image"))
            .count()
    });
    let seed = fields["seed"]
        .as_u64()
        .unwrap_or_else(|| sketch::any_seed(shared));
    Ok(Ask {
        model,
        hundredths: 0,
        input_mp: inputs as u64,
        prompt: prompt.to_owned(),
        picture: Picture {
            format,
            width,
            height,
            digest: sketch::digest(model, &fields, seed),
            transparent: false,
        },
        seed,
        base: queued::base(arrived, shared),
    })
}

/// 0 and nothing are `usual`.
fn side(asked: &Value, usual: u32) -> Option<u32> {
    match asked {
        Value::Null => Some(usual),
        asked => match u32::try_from(asked.as_u64()?).ok()? {
            0 => Some(usual),
            side => ((64..=4096).contains(&side) && side.is_multiple_of(16)).then_some(side),
        },
    }
}

impl Ask {
    /// Credits as JSON, and no float.
    fn cost(&self) -> String {
        format!("{}.{:02}", self.hundredths / 100, self.hundredths % 100)
    }

    fn ended(&self, status: &str, details: &Value, id: &str) -> Answer {
        let fills = [
            ("id", Fill::Text(id)),
            ("status", Fill::Text(status)),
            ("details", Fill::Json(&details.to_string())),
        ];
        said("ended", &fills)
    }
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "bfl"
    }

    fn model(&self) -> &str {
        self.model
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        1
    }

    /// Only what is ready uses credits.
    fn price(&self, behaviour: &Behaviour) -> i64 {
        match behaviour.fault {
            Fault::SafetyOutput { .. } => 0,
            _ => self.hundredths * HUNDREDTH,
        }
    }

    fn price_without_picture(&self) -> i64 {
        0
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let reasons = |category: &str| json!({"Moderation Reasons": [category]});
        match &behaviour.fault {
            Fault::Safety { category } => self.ended("Request Moderated", &reasons(category), id),
            Fault::SafetyOutput { category } => {
                self.ended("Content Moderated", &reasons(category), id)
            }
            Fault::NoImage => self.ended("Error", &json!({"error": "no image was made"}), id),
            Fault::RateLimited { retry_after } => {
                sketch::later(said("error.rate_limited", &[]), *retry_after)
            }
            Fault::Overloaded { retry_after } => {
                sketch::later(said("error.overloaded", &[]), *retry_after)
            }
            Fault::Server | Fault::StreamError => said("error.server", &[]),
            Fault::Quota => said("error.quota", &[]),
            Fault::Auth => said("error.auth", &[]),
            Fault::Permission => said("error.permission", &[]),
            Fault::Retired => said("error.not_found", &[]),
            Fault::Html => Answer::page(BFL.fill("html", &[])),
            Fault::None | Fault::Cut { .. } | Fault::Drop | Fault::Drip { .. } | Fault::Stall => {
                let url = sketch::url(&self.picture, shared);
                said(
                    "ready",
                    &[
                        ("id", Fill::Text(id)),
                        ("url", Fill::Text(&url)),
                        ("prompt", Fill::Text(&self.prompt)),
                        ("seed", Fill::Json(&self.seed.to_string())),
                        ("cost", Fill::Json(&self.cost())),
                    ],
                )
            }
        }
    }

    fn job(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Option<Pages> {
        let pixels = u64::from(self.picture.width) * u64::from(self.picture.height);
        let hundredths = pixels * 100 / MEGAPIXEL;
        let output_mp = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        let submitted = said(
            "submitted",
            &[
                ("id", Fill::Text(id)),
                ("base", Fill::Text(&self.base)),
                ("cost", Fill::Json(&self.cost())),
                ("input_mp", Fill::Json(&format!("{}.0", self.input_mp))),
                ("output_mp", Fill::Json(&output_mp)),
            ],
        );
        let pending = said("pending", &[("id", Fill::Text(id))]);
        let asked = (pending, self.answer(behaviour, shared, id));
        Some(Pages {
            submitted,
            status: asked.clone(),
            result: asked,
            waits: Duration::ZERO,
        })
    }
}
