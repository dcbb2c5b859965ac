//! fal, simulated: a few apps, answered at once on `fal.run` and by a job anywhere else.

use http::{Method, StatusCode};
use serde_json::Value;

use super::Shared;
use super::answer::Answer;
use super::behaviour::{Behaviour, Fault};
use super::picture::{Format, Picture};
use super::queued::{self, Ask as Question, Pages};
use super::serve::{Arrived, Order, Verdict};
use super::sketch;
use super::template::{FAL, Fill};

/// The host that answers at once.
const SYNC: &str = "fal.run";
/// Pixels of a megapixel that is charged.
const MEGAPIXEL: u64 = 1 << 20;

/// What a unit of an app is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// Begun megapixels, each picture by itself.
    Megapixels,
    Images,
}

/// App, its unit and nano-dollars for one, from fal's price list.
const APPS: &[(&str, Unit, i64)] = &[
    ("fal-ai/flux/schnell", Unit::Megapixels, 3_000_000),
    ("fal-ai/flux/dev", Unit::Megapixels, 25_000_000),
    (
        "fal-ai/flux/dev/image-to-image",
        Unit::Megapixels,
        25_000_000,
    ),
    ("fal-ai/flux-pro/v1.1", Unit::Megapixels, 40_000_000),
    ("fal-ai/flux-pro/v1.1-ultra", Unit::Images, 60_000_000),
    ("fal-ai/nano-banana", Unit::Images, 39_000_000),
    ("fal-ai/recraft/v3/text-to-image", Unit::Images, 40_000_000),
];

/// Named sizes.
const SIZES: &[(&str, (u32, u32))] = &[
    ("square_hd", (1024, 1024)),
    ("square", (512, 512)),
    ("portrait_4_3", (768, 1024)),
    ("portrait_16_9", (576, 1024)),
    ("landscape_4_3", (1024, 768)),
    ("landscape_16_9", (1024, 576)),
];

/// A valid call.
#[derive(Debug)]
struct Ask {
    app: &'static str,
    unit: Unit,
    nano_usd: i64,
    prompt: String,
    n: u32,
    picture: Picture,
    seed: u64,
    inline: bool,
    /// Where its job is asked about; `None`: it is answered at once.
    place: Option<String>,
}

/// What fal makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let key = arrived.header("authorization").unwrap_or_default();
    if !key.starts_with("Key ") {
        return Verdict::Answer(said("error.auth", &[]));
    }
    if let Some((_, job)) = arrived.path.split_once("/requests/") {
        return Verdict::Answer(about_job(arrived, job, shared));
    }
    let app = arrived.path.trim_matches('/');
    let known = APPS.iter().find(|(name, ..)| *name == app);
    let Some(&(app, unit, nano_usd)) = known.filter(|_| arrived.method == Method::POST) else {
        return Verdict::Answer(said("error.not_found", &[("what", Fill::Text(app))]));
    };
    match read(arrived, app, shared) {
        Ok(ask) => Verdict::Order(Box::new(Ask {
            app,
            unit,
            nano_usd,
            ..ask
        })),
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
    Answer::of(FAL.fill(name, fills))
}

fn about_job(arrived: &Arrived, job: &str, shared: &Shared) -> Answer {
    let (id, what) = job.split_once('/').unwrap_or((job, ""));
    let runs = queued::runs(id, shared);
    let known = match (arrived.method.as_str(), what) {
        ("GET", "") => queued::answer(id, Question::Result, shared),
        ("GET", "status") => queued::answer(id, Question::Status, shared),
        // What runs is asked to end, and ends well all the same.
        ("PUT", "cancel") => runs.map(|runs| match runs {
            true => said("cancel.taken", &[]),
            false => said("cancel.late", &[]),
        }),
        _ => None,
    };
    known.unwrap_or_else(|| said("cancel.none", &[]))
}

type Mistake = (&'static str, &'static str, &'static str);

fn read(arrived: &Arrived, app: &'static str, shared: &Shared) -> Result<Ask, Mistake> {
    let fields: Value = serde_json::from_slice(&arrived.body)
        .map_err(|_| ("body", "value is not a valid dict", "type_error.dict"))?;
    let prompt =
        fields["prompt"]
            .as_str()
            .ok_or(("prompt", "field required", "value_error.missing"))?;
    let n = match &fields["num_images"] {
        Value::Null => 1,
        count => count
            .as_u64()
            .filter(|n| (1..=4).contains(n))
            .and_then(|n| u32::try_from(n).ok())
            .ok_or((
                "num_images",
                "ensure this value is between 1 and 4",
                "value_error.number.not_ge",
            ))?,
    };
    let shaped = shape(&fields["aspect_ratio"]).filter(|_| fields["image_size"].is_null());
    let (width, height) = shaped.or_else(|| size(&fields["image_size"])).ok_or((
        "image_size",
        "value is not a valid image size",
        "type_error.enum",
    ))?;
    let format = match fields["output_format"].as_str() {
        None => Format::Jpeg,
        Some(word) => Format::parse(word).ok_or((
            "output_format",
            "unexpected value; permitted: 'jpeg', 'png'",
            "value_error.const",
        ))?,
    };
    let seed = fields["seed"]
        .as_u64()
        .unwrap_or_else(|| sketch::any_seed(shared));
    let forwarded = arrived.header("x-forwarded-host");
    let sync = forwarded.or(arrived.header("host")) == Some(SYNC);
    let place = (!sync).then(|| {
        let owner: Vec<&str> = app.splitn(3, '/').take(2).collect();
        let base = queued::base(arrived, shared);
        format!("{base}/{}/requests", owner.join("/"))
    });
    Ok(Ask {
        app,
        unit: Unit::Images,
        nano_usd: 0,
        prompt: prompt.to_owned(),
        n,
        picture: Picture {
            format,
            width,
            height,
            digest: sketch::digest(app, &fields, seed),
            transparent: false,
        },
        seed,
        inline: fields["sync_mode"] == true,
        place,
    })
}

fn size(asked: &Value) -> Option<(u32, u32)> {
    let side = |name: &str| {
        let side = asked[name].as_u64().filter(|s| (64..=4096).contains(s));
        side.and_then(|side| u32::try_from(side).ok())
    };
    match asked {
        Value::Null => Some((1024, 768)),
        Value::String(name) => SIZES.iter().find(|(known, _)| known == name).map(|s| s.1),
        _ => side("width").zip(side("height")),
    }
}

/// Some apps are asked for a shape in place of a size: they draw about a megapixel of it.
fn shape(asked: &Value) -> Option<(u32, u32)> {
    let (wide, high) = asked.as_str()?.split_once(':')?;
    let (wide, high) = (wide.parse::<u32>().ok()?, high.parse::<u32>().ok()?);
    let unit = (1u32 << 20).checked_div(wide.checked_mul(high)?)?.isqrt();
    let side = |parts: u32| (unit.saturating_mul(parts) / 16 * 16).max(64);
    Some((side(wide), side(high)))
}

impl Ask {
    fn units(&self) -> u64 {
        let pixels = u64::from(self.picture.width) * u64::from(self.picture.height);
        let each = match self.unit {
            Unit::Megapixels => pixels.div_ceil(MEGAPIXEL),
            Unit::Images => 1,
        };
        each * u64::from(self.n)
    }

    fn drawn(&self, blackened: bool, shared: &Shared, id: &str) -> Answer {
        let images: Vec<String> = (0..self.n)
            .map(|place| self.image(place, blackened, shared))
            .collect();
        let flags = vec![blackened.to_string(); self.n as usize].join(",");
        let (images, flags) = (format!("[{}]", images.join(",")), format!("[{flags}]"));
        said(
            "ok",
            &[
                ("id", Fill::Text(id)),
                ("units", Fill::Text(&self.units().to_string())),
                ("images", Fill::Json(&images)),
                ("flags", Fill::Json(&flags)),
                ("seed", Fill::Json(&self.seed.to_string())),
                ("prompt", Fill::Text(&self.prompt)),
            ],
        )
    }

    fn image(&self, place: u32, blackened: bool, shared: &Shared) -> String {
        let mut picture = self.picture;
        picture.digest = match blackened {
            true => 0,
            false => picture.digest.wrapping_add(u64::from(place)),
        };
        let url = match self.inline {
            true => sketch::data_url(&picture, shared),
            false => sketch::url(&picture, shared),
        };
        let fills = [
            ("url", Fill::Text(&url)),
            ("format", Fill::Text(picture.format.word())),
            ("width", Fill::Json(&picture.width.to_string())),
            ("height", Fill::Json(&picture.height.to_string())),
        ];
        FAL.fill("image", &fills).body
    }
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "fal"
    }

    fn model(&self) -> &str {
        self.app
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        self.n
    }

    fn price(&self, _behaviour: &Behaviour) -> i64 {
        self.nano_usd * i64::try_from(self.units()).unwrap_or(i64::MAX)
    }

    fn price_without_picture(&self) -> i64 {
        0 // its units are none
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let named = |name: &str| {
            let fills = [
                ("id", Fill::Text(id)),
                ("what", Fill::Text(self.app)),
                ("category", Fill::Text("violence")),
            ];
            said(name, &fills)
        };
        match &behaviour.fault {
            Fault::Safety { .. } => named("error.safety"),
            Fault::SafetyOutput { .. } => self.drawn(true, shared, id),
            Fault::RateLimited { retry_after } => {
                sketch::later(named("error.rate_limited"), *retry_after)
            }
            Fault::Overloaded { retry_after } => {
                sketch::later(named("error.overloaded"), *retry_after)
            }
            Fault::Server | Fault::StreamError => named("error.server"),
            Fault::Quota => named("error.quota"),
            Fault::Auth => named("error.auth"),
            Fault::Permission => named("error.permission"),
            Fault::Retired => named("error.not_found"),
            Fault::NoImage => named("error.no_image"),
            Fault::Html => Answer::page(FAL.fill("html", &[])),
            Fault::None | Fault::Cut { .. } | Fault::Drop | Fault::Drip { .. } | Fault::Stall => {
                self.drawn(false, shared, id)
            }
        }
    }

    fn job(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Option<Pages> {
        let place = format!("{}/{id}", self.place.as_deref()?);
        let page = |name| {
            said(
                name,
                &[("id", Fill::Text(id)), ("place", Fill::Text(&place))],
            )
        };
        let mut early = page("error.early");
        early.status = StatusCode::BAD_REQUEST;
        Some(Pages {
            submitted: page("submitted"),
            status: (page("running"), page("completed")),
            result: (early, self.answer(behaviour, shared, id)),
            waits: std::time::Duration::ZERO,
        })
    }
}
