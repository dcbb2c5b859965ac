//! Replicate, simulated: official models by the picture, a version by the second.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::picture::{Format, Picture};
use super::queued::{self, Ask as Question, Pages};
use super::serve::{Arrived, Order, Verdict};
use super::sketch;
use super::template::{Fill, REPLICATE};

const ONE_MEGAPIXEL: u64 = 1 << 20;
/// A version of a model that is charged by the second of an L40S: 4.21 of them at $0.000975.
const VERSION: &str = "39ed52f2a78e934b3ba6e2a89f5b1c712de7dfea535525255b1aa35c5565e08b";
const VERSION_MODEL: &str = "someone/sdxl-ft";
const VERSION_NANO_USD: i64 = 4_104_750;

/// Official model and nano-dollars a picture, from Replicate's price list.
const MODELS: &[(&str, i64)] = &[
    ("black-forest-labs/flux-schnell", 3_000_000),
    ("black-forest-labs/flux-dev", 25_000_000),
    ("black-forest-labs/flux-1.1-pro", 40_000_000),
    ("ideogram-ai/ideogram-v3-quality", 90_000_000),
];

/// A valid call.
#[derive(Debug)]
struct Ask {
    model: &'static str,
    by_second: bool,
    nano_usd: i64,
    input: Value,
    prompt: String,
    n: u32,
    picture: Picture,
    base: String,
    waits: Duration,
}

/// What Replicate makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let key = arrived.header("authorization").unwrap_or_default();
    if !key.starts_with("Bearer ") && !key.starts_with("Token ") {
        return Verdict::Answer(said("error.auth", &[]));
    }
    match (&arrived.method, arrived.path.as_str()) {
        (&Method::GET, "/v1/account") => return Verdict::Answer(said("account", &[])),
        (&Method::POST, path) if path.ends_with("/predictions") => {}
        (&Method::GET, path) if path.ends_with(&format!("/versions/{VERSION}")) => {
            return Verdict::Answer(said("version", &[("version", Fill::Text(VERSION))]));
        }
        (_, path) => return Verdict::Answer(about_job(arrived, path, shared)),
    }
    match read(arrived, shared) {
        Ok(Some(ask)) => Verdict::Order(Box::new(ask)),
        Ok(None) => Verdict::Answer(said("error.not_found", &[])),
        Err((field, message)) => Verdict::Answer(said(
            "error.field",
            &[
                ("field", Fill::Text(field)),
                ("message", Fill::Text(message)),
            ],
        )),
    }
}

fn said(name: &str, fills: &[(&str, Fill<'_>)]) -> Answer {
    Answer::of(REPLICATE.fill(name, fills))
}

fn about_job(arrived: &Arrived, path: &str, shared: &Shared) -> Answer {
    let rest = path.strip_prefix("/v1/predictions/").unwrap_or_default();
    let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
    if (arrived.method == Method::POST)
        && what == "cancel"
        && queued::runs(id, shared) == Some(true)
    {
        let base = queued::base(arrived, shared);
        let told = [
            ("id", Fill::Text(id)),
            ("base", Fill::Text(&base)),
            ("status", Fill::Text("canceled")),
            ("input", Fill::Json("{}")),
            ("metrics", Fill::Json("{\"predict_time\":1.5}")),
        ];
        queued::cancel(id, said("prediction", &told), shared);
    }
    queued::answer(id, Question::Result, shared).unwrap_or_else(|| said("error.not_found", &[]))
}

/// `None` when there is no such model.
fn read(arrived: &Arrived, shared: &Shared) -> Result<Option<Ask>, (&'static str, &'static str)> {
    let body: Value =
        serde_json::from_slice(&arrived.body).map_err(|_| ("body", "must be JSON"))?;
    let named = arrived
        .path
        .strip_prefix("/v1/models/")
        .and_then(|rest| rest.strip_suffix("/predictions"));
    let version = body["version"].as_str();
    let official = named.and_then(|named| MODELS.iter().find(|(model, _)| *model == named));
    let (model, nano_usd, by_second) = match (official, version) {
        (Some(&(model, nano_usd)), _) => (model, nano_usd, false),
        (None, Some(VERSION)) if named.is_none() => (VERSION_MODEL, VERSION_NANO_USD, true),
        _ => return Ok(None),
    };
    let input = &body["input"];
    let prompt = input["prompt"]
        .as_str()
        .ok_or(("input.prompt", "prompt is required"))?;
    let n = match &input["num_outputs"] {
        Value::Null => 1,
        count => count
            .as_u64()
            .filter(|n| (1..=4).contains(n))
            .and_then(|n| u32::try_from(n).ok())
            .ok_or(("input.num_outputs", "must be between 1 and 4"))?,
    };
    let ratio = input["aspect_ratio"].as_str().unwrap_or("1:1");
    let (width, height) = sketch::shape(ratio, ONE_MEGAPIXEL)
        .ok_or(("input.aspect_ratio", "must be one of 1:1, 16:9, 3:2 …"))?;
    let format = match input["output_format"].as_str() {
        None | Some("webp") => Format::Webp,
        Some("jpg") => Format::Jpeg,
        Some("png") => Format::Png,
        Some(_) => return Err(("input.output_format", "must be one of webp, jpg, png")),
    };
    let seed = input["seed"]
        .as_u64()
        .unwrap_or_else(|| sketch::any_seed(shared));
    Ok(Some(Ask {
        model,
        by_second,
        nano_usd,
        input: input.clone(),
        prompt: prompt.to_owned(),
        n,
        picture: Picture {
            format,
            width,
            height,
            digest: sketch::digest(model, input, seed),
            transparent: false,
        },
        base: queued::base(arrived, shared),
        waits: waits(arrived.header("prefer").unwrap_or_default()),
    }))
}

/// `Prefer: wait`, `wait=5`.
fn waits(prefer: &str) -> Duration {
    let seconds = match prefer.strip_prefix("wait") {
        Some("") => 60,
        Some(rest) => rest.trim_start_matches('=').parse().unwrap_or(0),
        None => 0,
    };
    Duration::from_secs(seconds)
}

impl Ask {
    fn prediction(&self, id: &str, status: &str, output: &Value, error: Option<&str>) -> Answer {
        let now = jiff::Timestamp::now().to_string();
        let done = status != "starting" && status != "processing";
        let metrics = match (done, self.by_second) {
            (false, _) => json!({}),
            (true, true) => json!({"predict_time": 4.21, "total_time": 5.21}),
            (true, false) => json!({"predict_time": 0.8, "image_count": self.n, "total_time": 0.9}),
        };
        let when = match done {
            true => json!(now).to_string(),
            false => "null".to_owned(),
        };
        let version = match self.by_second {
            true => VERSION,
            false => "hidden",
        };
        said(
            "prediction",
            &[
                ("id", Fill::Text(id)),
                ("model", Fill::Text(self.model)),
                ("version", Fill::Text(version)),
                ("input", Fill::Json(&self.input.to_string())),
                ("output", Fill::Json(&output.to_string())),
                ("error", Fill::Json(&json!(error).to_string())),
                ("status", Fill::Text(status)),
                ("now", Fill::Text(&now)),
                ("started", Fill::Json(&when)),
                ("completed", Fill::Json(&when)),
                ("base", Fill::Text(&self.base)),
                ("metrics", Fill::Json(&metrics.to_string())),
            ],
        )
    }

    fn drawn(&self, shared: &Shared, id: &str) -> Answer {
        let output: Vec<Value> = (0..self.n)
            .map(|place| {
                let mut picture = self.picture;
                picture.digest = picture.digest.wrapping_add(u64::from(place));
                sketch::url(&picture, shared).into()
            })
            .collect();
        self.prediction(id, "succeeded", &output.into(), None)
    }
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "replicate"
    }

    fn model(&self) -> &str {
        self.model
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        self.n
    }

    /// By the second a picture that was drawn and withheld costs as much; by the picture, nothing.
    fn price(&self, behaviour: &Behaviour) -> i64 {
        match (&behaviour.fault, self.by_second) {
            (Fault::SafetyOutput { .. }, false) => 0,
            (_, true) => self.nano_usd,
            (_, false) => self.nano_usd * i64::from(self.n),
        }
    }

    fn price_without_picture(&self) -> i64 {
        0
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let nothing = Value::Null;
        let failed = |error: &str| self.prediction(id, "failed", &nothing, Some(error));
        match &behaviour.fault {
            Fault::Safety { .. } => failed(
                "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
            ),
            Fault::SafetyOutput { .. } => failed("NSFW content detected in all outputs."),
            Fault::NoImage => self.prediction(id, "succeeded", &nothing, None),
            Fault::RateLimited { retry_after } => {
                let seconds = retry_after.unwrap_or(30).to_string();
                said("error.rate_limited", &[("seconds", Fill::Text(&seconds))])
            }
            Fault::Overloaded { retry_after } => {
                sketch::later(said("error.overloaded", &[]), *retry_after)
            }
            Fault::Server | Fault::StreamError => said("error.server", &[]),
            Fault::Quota => said("error.quota", &[]),
            Fault::Auth => said("error.auth", &[]),
            Fault::Permission => said("error.permission", &[]),
            Fault::Retired => said("error.not_found", &[]),
            Fault::Html => Answer::page(REPLICATE.fill("html", &[])),
            Fault::None | Fault::Cut { .. } | Fault::Drop | Fault::Drip { .. } | Fault::Stall => {
                self.drawn(shared, id)
            }
        }
    }

    fn job(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Option<Pages> {
        let page = |status| self.prediction(id, status, &Value::Null, None);
        let mut submitted = page("starting");
        submitted.status = StatusCode::CREATED;
        let asked = (page("processing"), self.answer(behaviour, shared, id));
        Some(Pages {
            submitted,
            status: asked.clone(),
            result: asked,
            waits: self.waits,
        })
    }
}
