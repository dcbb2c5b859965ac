//! Stability AI, simulated: the three generate routes of `/v2beta`, and the balance. The routes of
//! `/v1` are next door.

use base64::Engine as _;
use http::{Method, StatusCode};

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::picture::{Format, Picture};
use super::serve::{Arrived, Order, Verdict};
use super::stability_v1;
use super::template::{Fill, STABILITY};
use crate::image::header;
use crate::wire::multipart::{self, Part};

const MOST_BODY: usize = 10 * 1024 * 1024;
/// Nano-dollars for a credit.
const CREDIT: i64 = 10_000_000;
pub(super) const STYLES: &[&str] = &[
    "enhance",
    "anime",
    "photographic",
    "digital-art",
    "comic-book",
    "fantasy-art",
    "line-art",
    "analog-film",
    "neon-punk",
    "isometric",
    "low-poly",
    "origami",
    "modeling-compound",
    "cinematic",
    "3d-model",
    "pixel-art",
    "tile-texture",
];

/// Width and height.
type Pixels = (u32, u32);

/// Ratio, pixels at one megapixel, pixels at one and a half. The second column is the provider's;
/// for the third it publishes no table, and these are the nearest multiples of sixteen.
const RATIOS: &[(&str, Pixels, Pixels)] = &[
    ("1:1", (1024, 1024), (1248, 1248)),
    ("16:9", (1344, 768), (1664, 944)),
    ("21:9", (1536, 640), (1920, 816)),
    ("3:2", (1216, 832), (1536, 1024)),
    ("5:4", (1088, 896), (1408, 1120)),
    ("4:5", (896, 1088), (1120, 1408)),
    ("2:3", (832, 1216), (1024, 1536)),
    ("9:16", (768, 1344), (944, 1664)),
    ("9:21", (640, 1536), (816, 1920)),
];

/// Model and price in tenths of a credit; the first is the default of its route. The names without
/// `.5` are sent to their successors by the provider itself.
const SD3: &[(&str, &str, i64)] = &[
    ("sd3.5-large", "sd3.5-large", 65),
    ("sd3.5-large-turbo", "sd3.5-large-turbo", 40),
    ("sd3.5-medium", "sd3.5-medium", 35),
    ("sd3.5-flash", "sd3.5-flash", 25),
    ("sd3-large", "sd3.5-large", 65),
    ("sd3-large-turbo", "sd3.5-large-turbo", 40),
    ("sd3-medium", "sd3.5-medium", 35),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Sd3,
    Core,
    Ultra,
}

/// A valid call.
#[derive(Debug)]
struct Ask {
    model: &'static str,
    tenths: i64,
    prompt: String,
    picture: Picture,
    seed: u32,
    /// Base64 within JSON, or the picture's own bytes.
    json: bool,
}

/// What Stability makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let say = |name: &str, fill: (&str, Fill<'_>)| {
        Verdict::Answer(message(name, fill, &shared.request_id()))
    };
    let nothing = ("", Fill::Text(""));
    if arrived.bearer().is_none() {
        return say("error.auth", nothing);
    }
    if arrived.path.starts_with("/v1/generation/") {
        return stability_v1::judge(arrived, shared);
    }
    let route = match (&arrived.method, arrived.path.as_str()) {
        (&Method::GET, "/v1/user/balance") => return say("balance", nothing),
        (&Method::POST, "/v2beta/stable-image/generate/sd3") => Route::Sd3,
        (&Method::POST, "/v2beta/stable-image/generate/core") => Route::Core,
        (&Method::POST, "/v2beta/stable-image/generate/ultra") => Route::Ultra,
        _ => return say("error.not_found", ("what", Fill::Text("route"))),
    };
    if arrived.body.len() > MOST_BODY {
        return say("error.too_large", nothing);
    }
    match read(arrived, route, shared) {
        Ok(ask) => Verdict::Order(Box::new(ask)),
        Err(mistake) => {
            let errors = serde_json::json!([mistake]).to_string();
            say("error", ("errors", Fill::Json(&errors)))
        }
    }
}

fn message(name: &str, fill: (&str, Fill<'_>), id: &str) -> Answer {
    let mut answer = Answer::of(STABILITY.fill(name, &[("id", Fill::Text(id)), fill]));
    answer.set("x-request-id", id);
    answer
}

/// Fields by name; a mistake is said as `field: what is wrong`.
struct Form(Vec<Part>);

impl Form {
    fn part(&self, name: &str) -> Option<&Part> {
        self.0.iter().find(|part| part.name == name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.part(name).and_then(Part::as_text)
    }

    fn word<'a>(&'a self, name: &str, known: &[&str]) -> Result<Option<&'a str>, String> {
        match self.text(name) {
            Some(word) if !known.contains(&word) => {
                Err(format!("{name}: must be one of {}", known.join(", ")))
            }
            word => Ok(word),
        }
    }

    /// A decimal between two whole numbers, read without rounding anything that is charged.
    fn between(&self, name: &str, least: u8, most: u8) -> Result<bool, String> {
        let Some(text) = self.text(name) else {
            return Ok(false);
        };
        let number: Option<f64> = text.trim().parse().ok();
        match number {
            Some(number) if (f64::from(least)..=f64::from(most)).contains(&number) => Ok(true),
            _ => Err(format!(
                "{name}: must be a number between {least} and {most}"
            )),
        }
    }
}

fn read(arrived: &Arrived, route: Route, shared: &Shared) -> Result<Ask, String> {
    let content_type = arrived.header("content-type").unwrap_or_default();
    if multipart::boundary(content_type).is_none() {
        return Err("content-type: must be multipart/form-data".to_owned());
    }
    let json = accepts_json(arrived)?;
    let parts = multipart::read(content_type, &arrived.body)
        .map_err(|problem| format!("body: {problem}"))?;
    let form = Form(parts);
    let prompt = prompt(&form)?;
    let (model, tenths) = model(&form, route)?;
    let input = input(&form, route)?;
    let format = format(&form, route)?;
    form.word("style_preset", STYLES)?;
    negative(&form, model)?;
    if route == Route::Sd3 {
        form.between("cfg_scale", 1, 10)?;
    }
    let (width, height) = size(&form, route, input)?;
    let seed = seed(&form, shared)?;
    let picture = Picture {
        format,
        width,
        height,
        digest: digest(&form, model, seed),
        transparent: false,
    };
    Ok(Ask {
        model,
        tenths,
        prompt,
        picture,
        seed,
        json,
    })
}

fn accepts_json(arrived: &Arrived) -> Result<bool, String> {
    let accept = arrived.header("accept").unwrap_or("image/*");
    if accept.contains("application/json") {
        Ok(true)
    } else if accept.contains("image/") || accept.contains("*/*") {
        Ok(false)
    } else {
        Err("accept: must be one of image/*, application/json".to_owned())
    }
}

fn prompt(form: &Form) -> Result<String, String> {
    let prompt = form.text("prompt").ok_or("prompt: is required")?;
    match prompt.chars().count() {
        1..=10_000 => Ok(prompt.to_owned()),
        _ => Err("prompt: must be between 1 and 10000 characters".to_owned()),
    }
}

fn model(form: &Form, route: Route) -> Result<(&'static str, i64), String> {
    match route {
        Route::Core => Ok(("stable-image-core", 30)),
        Route::Ultra => Ok(("stable-image-ultra", 80)),
        Route::Sd3 => {
            let named = form.text("model").unwrap_or(SD3[0].0);
            let found = SD3.iter().find(|(name, ..)| *name == named);
            found
                .map(|(_, model, tenths)| (*model, *tenths))
                .ok_or_else(|| {
                    let names: Vec<&str> = SD3.iter().map(|(name, ..)| *name).collect();
                    format!("model: must be one of {}", names.join(", "))
                })
        }
    }
}

/// The uploaded picture's size; `None` when there is none to start from.
fn input(form: &Form, route: Route) -> Result<Option<Pixels>, String> {
    let mode = form.word("mode", &["text-to-image", "image-to-image"])?;
    let wanted = mode == Some("image-to-image");
    let file = form.part("image");
    match (route, file) {
        (Route::Core, Some(_)) => return Err("image: is not accepted here".to_owned()),
        (Route::Sd3, Some(_)) if !wanted => {
            return Err("image: is only accepted with mode image-to-image".to_owned());
        }
        (Route::Sd3, None) if wanted => return Err("image: is required".to_owned()),
        (_, None) => return Ok(None),
        _ => {}
    }
    if !form.between("strength", 0, 1)? {
        return Err("strength: is required with image".to_owned());
    }
    let pixels = file.and_then(|part| header::read(&part.data).pixels);
    match pixels {
        Some((width, height)) if width < 64 || height < 64 => {
            Err("image: every side must be at least 64 pixels".to_owned())
        }
        Some(pixels) => Ok(Some(pixels)),
        None => Err("image: must be jpeg, png or webp".to_owned()),
    }
}

fn format(form: &Form, route: Route) -> Result<Format, String> {
    let known: &[&str] = if route == Route::Sd3 {
        &["png", "jpeg"]
    } else {
        &["png", "jpeg", "webp"]
    };
    let word = form.word("output_format", known)?;
    Ok(word.and_then(Format::parse).unwrap_or(Format::Png))
}

fn negative(form: &Form, model: &str) -> Result<(), String> {
    match form.text("negative_prompt") {
        Some(_) if model.ends_with("-turbo") => {
            Err("negative_prompt: is not accepted by this model".to_owned())
        }
        Some(text) if text.chars().count() > 10_000 => {
            Err("negative_prompt: must be at most 10000 characters".to_owned())
        }
        _ => Ok(()),
    }
}

fn size(form: &Form, route: Route, input: Option<Pixels>) -> Result<Pixels, String> {
    let known: Vec<&str> = RATIOS.iter().map(|(ratio, ..)| *ratio).collect();
    let asked = form.word("aspect_ratio", &known)?;
    match (input, asked) {
        (Some(_), Some(_)) if route == Route::Sd3 => {
            return Err("aspect_ratio: is only accepted with mode text-to-image".to_owned());
        }
        (Some(pixels), None) => return Ok(pixels),
        _ => {}
    }
    let asked = asked.unwrap_or("1:1");
    let row = RATIOS.iter().find(|(ratio, ..)| *ratio == asked);
    let (_, one, more) = row.unwrap_or(&RATIOS[0]);
    Ok(if route == Route::Core { *more } else { *one })
}

/// The seed that was asked for, or a new one: zero and none both mean any.
fn seed(form: &Form, shared: &Shared) -> Result<u32, String> {
    let asked = match form.text("seed") {
        None => 0,
        Some(text) => text
            .trim()
            .parse::<u32>()
            .ok()
            .filter(|seed| *seed <= 4_294_967_294)
            .ok_or("seed: must be a whole number between 0 and 4294967294")?,
    };
    if asked > 0 {
        return Ok(asked);
    }
    let drawn = blake3::hash(shared.request_id().as_bytes());
    let [a, b, c, d, ..] = *drawn.as_bytes();
    Ok(u32::from_le_bytes([a, b, c, d]) % 4_294_967_294 + 1)
}

/// Equal fields and an equal seed give an equal picture.
fn digest(form: &Form, model: &str, seed: u32) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(model.as_bytes()).update(&seed.to_le_bytes());
    for part in form.0.iter().filter(|part| part.name != "seed") {
        hasher
            .update(part.name.as_bytes())
            .update(blake3::hash(&part.data).as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "stability"
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

    fn price(&self, _behaviour: &Behaviour) -> i64 {
        self.tenths * (CREDIT / 10)
    }

    fn price_without_picture(&self) -> i64 {
        0 // only successful generations are charged
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let nothing = ("", Fill::Text(""));
        let error = |name: &str| message(name, nothing, id);
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
            Fault::Retired => message("error.not_found", ("what", Fill::Text("model")), id),
            Fault::NoImage => self.package(Vec::new(), "SUCCESS", id),
            Fault::Html => Answer::page(STABILITY.fill("html", &[])),
            Fault::None | Fault::Cut { .. } | Fault::Drop | Fault::Drip { .. } | Fault::Stall => {
                self.drawn("SUCCESS", shared, id)
            }
        }
    }
}

impl Ask {
    fn drawn(&self, finish: &str, shared: &Shared, id: &str) -> Answer {
        self.package(self.picture.paint(shared.options.pad_to), finish, id)
    }

    fn package(&self, file: Vec<u8>, finish: &str, id: &str) -> Answer {
        let (seed, format) = (self.seed.to_string(), self.picture.format.word());
        let mut answer = if self.json {
            let b64 = base64::engine::general_purpose::STANDARD.encode(file);
            Answer::of(STABILITY.fill(
                "ok",
                &[
                    ("b64", Fill::Text(&b64)),
                    ("finish", Fill::Text(finish)),
                    ("seed", Fill::Json(&seed)),
                    ("format", Fill::Text(format)),
                ],
            ))
        } else {
            Answer::new(StatusCode::OK, &format!("image/{format}"), file)
        };
        answer.set("finish-reason", finish);
        answer.set("seed", &seed);
        answer.set("x-request-id", id);
        answer
    }
}
