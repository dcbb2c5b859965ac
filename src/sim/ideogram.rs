//! Ideogram, simulated: its newer routes, at once or by job, with their free quotes; and 3.0 and
//! 4.0 on the routes before them.

use std::time::Duration;

use http::Method;
use serde_json::{Map, Value};

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::picture::{Format, Picture};
use super::queued::{self, Ask as Question, Pages};
use super::serve::{Arrived, Order, Verdict};
use super::sketch;
use super::template::{Fill, IDEOGRAM};
use crate::wire::multipart::{self, Part};

/// Nano-dollars of a thousandth of a cent.
const MILLICENT: i64 = 10_000;

/// Model, and millicents a picture when drawn in little care, the usual and much; from the price
/// list of Ideogram. That of 4.6 is not published: this one is made up.
const MODELS: &[(&str, [i64; 3])] = &[
    ("ideogram-4-6", [3_500, 7_000, 12_000]),
    ("ideogram-4-5", [3_000, 6_000, 10_000]),
    (PRECISE, [3_000, 6_000, 22_000]),
    ("ideogram-4", [3_000, 6_000, 10_000]),
    ("ideogram-3", [3_000, 6_000, 9_000]),
    (CHARACTER, [10_000, 15_000, 20_000]),
    (TRANSPARENT, [4_000, 7_000, 10_000]),
    (SMALL, [750, 1_000, 1_500]),
];
const PRECISE: &str = "ideogram-4-5-precise-edit";
const CHARACTER: &str = "ideogram-3-character";
const TRANSPARENT: &str = "ideogram-3-transparent";
/// The one whose price knows resolutions.
const SMALL: &str = "p-image-ideogram";

/// Shapes, and what 3.0 draws them in.
const SHAPES: &[(&str, (u32, u32))] = &[
    ("1x1", (1024, 1024)),
    ("1x3", (592, 1776)),
    ("3x1", (1776, 592)),
    ("1x2", (720, 1440)),
    ("2x1", (1440, 720)),
    ("9x16", (736, 1312)),
    ("16x9", (1312, 736)),
    ("10x16", (800, 1280)),
    ("16x10", (1280, 800)),
    ("2x3", (832, 1248)),
    ("3x2", (1248, 832)),
    ("3x4", (864, 1152)),
    ("4x3", (1152, 864)),
    ("4x5", (896, 1120)),
    ("5x4", (1120, 896)),
];
const REFUSED: &str = "Prompt or provided image failed the safety checks.";

/// A valid call.
#[derive(Debug)]
struct Ask {
    model: &'static str,
    /// Nano-dollars a picture.
    each: i64,
    prompt: String,
    n: u32,
    picture: Picture,
    seed: u64,
    /// On a route of the newer API.
    newer: bool,
    /// Its answer names a job.
    later: bool,
}

/// Where a call goes: its model, and what its route means.
struct Route {
    model: &'static str,
    newer: bool,
    later: bool,
    /// It works on a picture.
    edits: bool,
}

/// What Ideogram makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    if arrived.header("api-key").is_none() {
        return Verdict::Answer(said("error.auth", &[]));
    }
    let jobs = ["/v2/generations/", "/v1/generations/"];
    if let Some(id) = jobs.iter().find_map(|at| arrived.path.strip_prefix(at)) {
        let known = queued::answer(id, Question::Result, shared);
        return Verdict::Answer(known.unwrap_or_else(|| said("error.not_found", &[])));
    }
    let route = route(&arrived.path).filter(|_| arrived.method == Method::POST);
    let Some(route) = route else {
        return Verdict::Answer(said("error.not_found", &[]));
    };
    match read(arrived, &route, shared) {
        Ok(ask) if route.newer && arrived.query.split('&').any(|pair| pair == "dry_run=true") => {
            Verdict::Answer(ask.quote())
        }
        Ok(ask) => Verdict::Order(Box::new(ask)),
        Err(message) => Verdict::Answer(said("error.field", &[("message", Fill::Text(&message))])),
    }
}

fn said(name: &str, fills: &[(&str, Fill<'_>)]) -> Answer {
    Answer::of(IDEOGRAM.fill(name, fills))
}

fn route(path: &str) -> Option<Route> {
    let known = |name: &str| Some(MODELS.iter().find(|(model, _)| *model == name)?.0);
    let at = |name: &str, newer, later, edits| {
        known(name).map(|model| Route {
            model,
            newer,
            later,
            edits,
        })
    };
    match path {
        "/v2/image/precise-edit/ideogram-4-5" => return at(PRECISE, true, false, true),
        "/v1/ideogram-v4/generate" => return at("ideogram-4", false, false, false),
        "/v1/ideogram-v4/async/generate" => return at("ideogram-4", false, true, false),
        "/v1/ideogram-v3/generate-transparent" => return at(TRANSPARENT, false, false, false),
        _ => {}
    }
    if let Some(name) = path.strip_prefix("/v2/image/generate/") {
        return at(name, true, false, false).filter(|route| route.model != PRECISE);
    }
    match path.strip_prefix("/v1/ideogram-v3/")? {
        "generate" => at("ideogram-3", false, false, false),
        "remix" | "edit" | "reframe" | "replace-background" => at("ideogram-3", false, false, true),
        _ => None,
    }
}

/// The fields, a form's as text, and the files of a form.
fn fields(arrived: &Arrived) -> Result<(Map<String, Value>, Vec<Part>), String> {
    let content_type = arrived.header("content-type").unwrap_or_default();
    if multipart::boundary(content_type).is_none() {
        return match serde_json::from_slice(&arrived.body) {
            Ok(Value::Object(fields)) => Ok((fields, Vec::new())),
            _ => Err("The body is not a JSON object".to_owned()),
        };
    }
    let parts = multipart::read(content_type, &arrived.body);
    let parts = parts.map_err(|_| "The body is not a form".to_owned())?;
    let (files, texts): (Vec<Part>, Vec<Part>) =
        parts.into_iter().partition(|part| part.filename.is_some());
    let fields = texts.iter().map(|part| {
        let text = part.as_text().unwrap_or_default();
        (part.name.clone(), Value::from(text))
    });
    Ok((fields.collect(), files))
}

fn read(arrived: &Arrived, route: &Route, shared: &Shared) -> Result<Ask, String> {
    let (fields, files) = fields(arrived)?;
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let number = |name: &str| match fields.get(name) {
        None => Ok(None),
        Some(value) => value
            .as_u64()
            .or_else(|| value.as_str()?.parse().ok())
            .map(Some)
            .ok_or_else(|| format!("Invalid {name}")),
    };
    let four = arrived.path.starts_with("/v1/ideogram-v4/");
    let prompt = text(if four { "text_prompt" } else { "prompt" });
    if prompt.is_none_or(str::is_empty) && !(four && fields.contains_key("json_prompt")) {
        return Err("A prompt is required".to_owned());
    }
    if route.edits && !files.iter().any(|part| part.name == "image") {
        return Err("An image is required".to_owned());
    }
    let character = files
        .iter()
        .any(|part| part.name == "character_reference_images");
    let model = if character { CHARACTER } else { route.model };
    let n = number("num_images")?.unwrap_or(1);
    let n = u32::try_from(n).ok().filter(|n| (1..=8).contains(n));
    let n = n.ok_or("num_images must be between 1 and 8")?;
    let (width, height) = size(&fields, route.newer)?;
    let later = match fields.get("async") {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(on)) => on == "true",
        _ => fields.contains_key("webhook_url"),
    };
    let seed = number("seed")?.unwrap_or_else(|| sketch::any_seed(shared));
    let told = Value::Object(fields.clone());
    Ok(Ask {
        model,
        each: price(model, &fields)?,
        prompt: prompt.unwrap_or_default().to_owned(),
        n,
        picture: Picture {
            format: Format::Png,
            width,
            height,
            digest: sketch::digest(model, &told, seed),
            transparent: model == TRANSPARENT,
        },
        seed,
        newer: route.newer,
        later: route.later || route.newer && later,
    })
}

fn size(fields: &Map<String, Value>, newer: bool) -> Result<(u32, u32), String> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let resolution = text("resolution");
    if newer {
        let side = |name: &str| {
            fields
                .get(name)?
                .as_u64()
                .and_then(|s| u32::try_from(s).ok())
        };
        if let (Some(width), Some(height)) = (side("custom_width"), side("custom_height")) {
            let fits = width.is_multiple_of(16) && height.is_multiple_of(16);
            let fits = fits && u64::from(width) * u64::from(height) <= 4_194_304;
            return match fits {
                true => Ok((width, height)),
                false => Err("Invalid custom_width or custom_height".to_owned()),
            };
        }
        let times = match resolution {
            None | Some("1k") => 1,
            Some("2k") => 2,
            Some(_) => return Err("Invalid resolution".to_owned()),
        };
        let (width, height) = shape(text("aspect_ratio"))?;
        return Ok((width * times, height * times));
    }
    match (resolution, text("aspect_ratio")) {
        (Some(_), Some(_)) => Err("Resolution and aspect_ratio cannot both be set".to_owned()),
        (Some(pixels), None) => {
            let sides = pixels.split_once('x');
            let sides = sides.and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
            sides
                .filter(|(w, h)| (64..=4096).contains(w) && (64..=4096).contains(h))
                .ok_or_else(|| "Invalid resolution".to_owned())
        }
        (None, aspect) => shape(aspect),
    }
}

fn shape(aspect: Option<&str>) -> Result<(u32, u32), String> {
    let Some(aspect) = aspect else {
        return Ok((1024, 1024));
    };
    let known = SHAPES.iter().find(|(name, _)| *name == aspect);
    let (_, pixels) = known.ok_or_else(|| "Invalid aspect_ratio".to_owned())?;
    Ok(*pixels)
}

/// Nano-dollars a picture.
fn price(model: &'static str, fields: &Map<String, Value>) -> Result<i64, String> {
    let said = |name: &str| fields.get(name).and_then(Value::as_str);
    let [low, medium, high] = MODELS
        .iter()
        .find(|(name, _)| *name == model)
        .map_or([0; 3], |(_, prices)| *prices);
    let millicents = match (said("rendering_speed").or(said("quality")), model) {
        (Some("very_low"), SMALL) => 300,
        (Some("very_low"), PRECISE) => 800,
        (Some("FLASH" | "TURBO" | "low"), _) => low,
        (None | Some("DEFAULT" | "BALANCED" | "medium"), _) => medium,
        (Some("QUALITY" | "high"), _) => high,
        (Some(word), _) => return Err(format!("Invalid quality {word}")),
    };
    let large = model == SMALL && said("resolution") == Some("2k");
    Ok(millicents * MILLICENT * if large { 2 } else { 1 })
}

impl Ask {
    fn all(&self) -> i64 {
        self.each * i64::from(self.n)
    }

    fn quote(&self) -> Answer {
        let micros = (self.all() / 1_000).to_string();
        let millis = (self.all() / 10_000).to_string();
        let fills = [
            ("model", Fill::Text(self.model)),
            ("n", Fill::Json(&self.n.to_string())),
            ("micros", Fill::Json(&micros)),
            ("millis", Fill::Json(&millis)),
        ];
        said("quote", &fills)
    }

    fn data(&self, item: &str, shared: &Shared) -> String {
        let items: Vec<String> = (0..self.n)
            .map(|place| {
                let mut picture = self.picture;
                picture.digest = picture.digest.wrapping_add(u64::from(place));
                let url = sketch::url(&picture, shared);
                let seed = self.seed.wrapping_add(u64::from(place)).to_string();
                let fills = [
                    ("url", Fill::Text(&url)),
                    ("prompt", Fill::Text(&self.prompt)),
                    ("width", Fill::Text(&picture.width.to_string())),
                    ("height", Fill::Text(&picture.height.to_string())),
                    ("seed", Fill::Json(&seed)),
                ];
                IDEOGRAM.fill(item, &fills).body
            })
            .collect();
        format!("[{}]", items.join(","))
    }

    fn drawn(&self, data: &str, id: &str) -> Answer {
        let fills = [("id", Fill::Text(id)), ("data", Fill::Json(data))];
        said(
            match (self.later, self.newer) {
                (true, _) => "completed",
                (false, true) => "ok",
                (false, false) => "ok.older",
            },
            &fills,
        )
    }
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "ideogram"
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

    /// On completion, pictures that are withheld included.
    fn price(&self, _behaviour: &Behaviour) -> i64 {
        self.all()
    }

    fn price_without_picture(&self) -> i64 {
        self.all()
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        match &behaviour.fault {
            Fault::Safety { .. } if self.later => said(
                "failed",
                &[("id", Fill::Text(id)), ("message", Fill::Text(REFUSED))],
            ),
            Fault::Safety { .. } => said("error.safety", &[]),
            Fault::SafetyOutput { .. } => self.drawn(&self.data("item.withheld", shared), id),
            Fault::NoImage => self.drawn("[]", id),
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
            Fault::Html => Answer::page(IDEOGRAM.fill("html", &[])),
            Fault::None | Fault::Cut { .. } | Fault::Drop | Fault::Drip { .. } | Fault::Stall => {
                self.drawn(&self.data("item", shared), id)
            }
        }
    }

    fn job(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Option<Pages> {
        if !self.later {
            return None;
        }
        let page = |name| said(name, &[("id", Fill::Text(id))]);
        let asked = (page("pending"), self.answer(behaviour, shared, id));
        Some(Pages {
            submitted: page("submitted"),
            status: asked.clone(),
            result: asked,
            waits: Duration::ZERO,
        })
    }
}
