//! The calls of the run: every provider, with everything that can go wrong at it.

use std::fmt;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::harness::post;

/// What may go wrong, and how often of a hundred calls. The rest goes well.
pub(super) const FAULTS: &[(&str, usize)] = &[
    ("safety", 3),
    ("safety_output", 3),
    ("rate_limited retry_after=0 times=1", 4),
    ("rate_limited retry_after=0", 2),
    ("overloaded retry_after=0 times=1", 3),
    ("server", 3),
    ("quota", 2),
    ("auth", 2),
    ("permission", 2),
    ("retired", 2),
    ("no_image", 2),
    ("html", 2),
    ("cut", 3),
    ("drop", 3),
    ("drip chunk=65536 ms=1", 3),
    ("stall", 1),
    (STREAM_ERROR, 3),
    ("slow delay_ms=5", 3),
    ("ok extra_tokens=17", 4),
];
pub(super) const STREAM_ERROR: &str = "stream_error";

/// One call of the run. The same number is the same call, with the same key.
pub(super) struct Ask {
    pub(super) number: usize,
    pub(super) fault: Option<&'static str>,
    /// The provider's name in bills.
    pub(super) provider: &'static str,
    /// The caller hangs up once the answer begins.
    pub(super) leaves: bool,
    target: String,
    accept: &'static str,
    content_type: &'static str,
    body: String,
}

/// Who makes a call, of which provider; each in turn.
type Kind = fn(&Draft) -> Ask;

/// Their number has no divisor in common with the nine calls of a row that differ, so that each
/// of them is repeated too.
const KINDS: [Kind; 14] = [
    |draft| draft.openai(false),
    |draft| draft.openai(true),
    Draft::stability,
    Draft::gemini,
    Draft::azure,
    |draft| draft.openai(true),
    Draft::stability_v1,
    Draft::fal_at_once,
    Draft::fal_by_job,
    Draft::stability,
    Draft::gemini,
    Draft::replicate,
    Draft::bfl,
    Draft::ideogram,
];

impl Ask {
    /// The `place`th call of the run: every tenth repeats the one before it.
    pub(super) fn at(place: usize) -> Ask {
        let number = if place % 10 == 9 { place - 1 } else { place };
        let turn = number - number / 10;
        let (kind, round) = (KINDS[turn % KINDS.len()], turn / KINDS.len());
        // An order that looks like none, and has every fault once in a hundred rounds.
        let fault = fault((round * 7919) % 100);
        kind(&Draft {
            number,
            round,
            fault,
        })
    }

    /// The header with the call's own key, in its provider's spelling.
    pub(super) fn key(&self) -> (&'static str, String) {
        let key = format!("sk-balance-{}", self.number);
        match self.provider {
            "google" => ("x-goog-api-key", key),
            "bfl" => ("x-key", key),
            "azure" => ("api-key", key),
            "ideogram" => ("api-key", key),
            "fal" => ("Authorization", format!("Key {key}")),
            _ => ("Authorization", format!("Bearer {key}")),
        }
    }

    /// The message to pixtoll at `address`.
    pub(super) fn message(&self, address: SocketAddr) -> String {
        let host = address.to_string();
        let headers = [
            ("accept", self.accept),
            ("prefer", "wait"),
            ("x-pixtoll-tags", &format!("n{}", self.number)),
        ];
        let message = post(&host, &self.target, &headers, self.content_type, &self.body);
        let (name, key) = self.key();
        message.replace("Authorization: Bearer sk-canary", &format!("{name}: {key}"))
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fault = self.fault.unwrap_or("nothing");
        write!(
            f,
            "call {} to {} {}, {fault}",
            self.number, self.provider, self.target
        )
    }
}

fn fault(at: usize) -> Option<&'static str> {
    let mut end = 0;
    FAULTS.iter().find_map(|(words, often)| {
        end += often;
        (at < end).then_some(*words)
    })
}

/// A call before it is worded for its provider.
struct Draft {
    number: usize,
    /// How many of its kind went before it.
    round: usize,
    fault: Option<&'static str>,
}

impl Draft {
    fn pick<T: Copy>(&self, of: &[T], every: usize) -> T {
        of[self.round / every % of.len()]
    }

    /// The fault as it can happen at a provider that does not stream.
    fn whole(&self) -> Option<&'static str> {
        self.fault.filter(|words| *words != STREAM_ERROR)
    }

    fn prompt(&self, fault: Option<&str>) -> String {
        let directive = fault.map_or(String::new(), |words| format!(" [[sim: {words}]]"));
        let stalls = if fault == Some("stall") { " stall" } else { "" };
        format!("fox number {}{stalls}{directive}", self.number)
    }

    fn ask(&self, provider: &'static str, target: impl Into<String>, body: &Value) -> Ask {
        Ask {
            number: self.number,
            fault: self.whole(),
            provider,
            leaves: self.number % 37 == 5,
            target: target.into(),
            accept: "application/json",
            content_type: "application/json",
            body: body.to_string(),
        }
    }

    fn openai(&self, stream: bool) -> Ask {
        let models = [
            "gpt-image-2",
            "gpt-image-1-mini",
            "gpt-image-1.5",
            "gpt-image-2.5-flare",
        ];
        let sizes = ["1024x1024", "1536x1024", "1024x1536", "auto"];
        let mut body = json!({
            "model": self.pick(&models, 1), "prompt": self.prompt(self.fault),
            "size": self.pick(&sizes, 4), "quality": self.pick(&["low", "medium", "high"], 5),
            "n": 1 + self.number % 11 / 5,
        });
        if stream || self.fault == Some(STREAM_ERROR) {
            body["stream"] = json!(true);
            body["partial_images"] = json!(self.number % 3);
        }
        Ask {
            fault: self.fault,
            accept: "*/*",
            ..self.ask("openai", "/openai/v1/images/generations", &body)
        }
    }

    /// The same through a deployment that is named after its model.
    fn azure(&self) -> Ask {
        let stream = self.round % 2 == 1;
        let models = ["gpt-image-2", "gpt-image-1-mini", "gpt-image-1.5"];
        let of_openai = self.openai(stream);
        let mut body: Value = serde_json::from_str(&of_openai.body).unwrap_or_default();
        body["model"] = self.pick(&models, 1).into();
        let deployment = self.pick(&models, 1);
        Ask {
            provider: "azure",
            target: format!(
                "/azure/openai/deployments/{deployment}/images/generations?api-version=2025-04-01-preview"
            ),
            body: body.to_string(),
            ..of_openai
        }
    }

    fn stability(&self) -> Ask {
        let routes = [
            ("sd3", Some("sd3.5-large")),
            ("sd3", Some("sd3.5-medium")),
            ("sd3", Some("sd3.5-flash")),
            ("core", None),
            ("ultra", None),
        ];
        let (route, model) = self.pick(&routes, 1);
        let field = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields = [
            model.map_or(String::new(), |model| field("model", model)),
            field("prompt", &self.prompt(self.whole())),
            field("aspect_ratio", self.pick(&["1:1", "16:9", "2:3"], 5)),
        ];
        let target = format!("/stability/v2beta/stable-image/generate/{route}");
        Ask {
            accept: self.pick(&["image/*", "application/json"], 2),
            content_type: "multipart/form-data; boundary=b",
            body: format!("{}--b--\r\n", fields.concat()),
            ..self.ask("stability", target, &Value::Null)
        }
    }

    fn stability_v1(&self) -> Ask {
        let body = json!({
            "text_prompts": [{"text": self.prompt(self.whole())}], "width": 1024, "height": 1024,
            "steps": 10 + self.number % 41, "samples": 1 + self.round % 3,
        });
        let engine = "/stability/v1/generation/stable-diffusion-xl-1024-v1-0";
        self.ask("stability", format!("{engine}/text-to-image"), &body)
    }

    fn gemini(&self) -> Ask {
        let models = [
            "gemini-nano-banana-2.1",
            "gemini-3-pro-image",
            "gemini-2.5-flash-image",
        ];
        let body = json!({
            "contents": [{"parts": [{"text": self.prompt(self.whole())}]}],
            "generationConfig": {"responseModalities": ["IMAGE"]},
        });
        let model = self.pick(&models, 1);
        let target = format!("/google/v1beta/models/{model}:generateContent");
        self.ask("google", target, &body)
    }

    /// To the host that answers at once; a base URL leads to the queue's.
    fn fal_at_once(&self) -> Ask {
        let by_job = self.fal_by_job();
        Ask {
            target: by_job.target.replacen("/fal", "http://fal.run", 1),
            ..by_job
        }
    }

    fn fal_by_job(&self) -> Ask {
        let body = json!({
            "prompt": self.prompt(self.whole()), "num_images": 1 + self.round % 2,
            "image_size": self.pick(&["square_hd", "landscape_16_9"], 3),
        });
        let app = self.pick(&["flux/schnell", "flux/dev", "nano-banana"], 1);
        self.ask("fal", format!("/fal/fal-ai/{app}"), &body)
    }

    fn replicate(&self) -> Ask {
        let input = json!({
            "prompt": self.prompt(self.whole()), "aspect_ratio": "1:1",
            "num_outputs": 1 + self.round % 3,
        });
        let model = self.pick(&["flux-schnell", "flux-dev"], 1);
        let target = format!("/replicate/v1/models/black-forest-labs/{model}/predictions");
        self.ask("replicate", target, &json!({"input": input}))
    }

    fn bfl(&self) -> Ask {
        let body = json!({
            "prompt": self.prompt(self.whole()), "width": self.pick(&[1024, 1536], 2),
            "height": 1024,
        });
        let models = ["flux-2-pro", "flux-pro-1.1", "flux-2-klein-4b"];
        self.ask("bfl", format!("/bfl/v1/{}", self.pick(&models, 1)), &body)
    }

    /// In turn: at once, by job, and by a form on a route of 3.0.
    fn ideogram(&self) -> Ask {
        let turn = self.round % 3;
        if turn == 2 {
            return self.ideogram_form();
        }
        let mut body = json!({
            "prompt": self.prompt(self.whole()), "num_images": 1 + self.round % 4,
            "quality": self.pick(&["low", "medium", "high"], 3), "aspect_ratio": "16x9",
        });
        if turn == 1 {
            body["async"] = json!(true);
        }
        let model = self.pick(&["ideogram-4-5", "p-image-ideogram"], 2);
        let target = format!("/ideogram/v2/image/generate/{model}");
        self.ask("ideogram", target, &body)
    }

    fn ideogram_form(&self) -> Ask {
        let field = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let fields = [
            field("prompt", &self.prompt(self.whole())),
            field(
                "rendering_speed",
                self.pick(&["TURBO", "DEFAULT", "QUALITY"], 3),
            ),
            field("num_images", self.pick(&["1", "2"], 9)),
        ];
        Ask {
            content_type: "multipart/form-data; boundary=b",
            body: format!("{}--b--\r\n", fields.concat()),
            ..self.ask(
                "ideogram",
                "/ideogram/v1/ideogram-v3/generate",
                &Value::Null,
            )
        }
    }
}
