//! What the sample app does: two dozen calls, each lever of pixtoll met once or more.

use serde_json::json;

use super::client::Call;
use crate::sim::Behaviour;

/// A few calls that show one thing.
pub(super) struct Scene {
    pub(super) title: &'static str,
    pub(super) calls: Vec<Call>,
    /// All at the same moment.
    pub(super) at_once: bool,
    /// How the simulated providers are to behave, one word an attempt.
    pub(super) script: Vec<(&'static str, Vec<Behaviour>)>,
}

impl Scene {
    fn of(title: &'static str, calls: Vec<Call>) -> Scene {
        Scene {
            title,
            calls,
            at_once: false,
            script: Vec::new(),
        }
    }

    fn scripted(mut self, provider: &'static str, words: &[&str]) -> Scene {
        let behaviours = words.iter().filter_map(|word| word.parse().ok()).collect();
        self.script.push((provider, behaviours));
        self
    }
}

fn call(prompt: &str, size: &str, quality: &str) -> Call {
    Call {
        body: json!({"model": "gpt-image-2", "prompt": prompt, "size": size, "quality": quality}),
        tags: "",
    }
}

fn hero(prompt: &str) -> Call {
    Call {
        tags: "hero",
        ..call(prompt, "2048x2048", "medium")
    }
}

fn times(call: &Call, n: usize) -> Vec<Call> {
    vec![call.clone(); n]
}

pub(super) fn scenes() -> Vec<Scene> {
    let product = call(
        "a brass compass on linen, morning light",
        "1024x1024",
        "medium",
    );
    let banner = call("a paper boat on a grey pond", "1024x1024", "low");
    let twin = call("a lighthouse at dusk", "1024x1024", "medium");
    vec![
        Scene::of("Two ordinary calls pass untouched.", vec![product.clone(), banner.clone()]),
        Scene::of("The same again comes from memory.", [times(&product, 3), times(&banner, 1)].concat()),
        Scene { at_once: true, ..Scene::of("Six equal calls at once are bought once.", times(&twin, 6)) }
            .scripted("openai", &["hold"]),
        Scene::of(
            "Icons go to a cheaper model and come back as OpenAI's answer.",
            ["a fox", "a rocket", "a teapot", "a key"]
                .map(|thing| call(&format!("flat icon of {thing}"), "1024x1024", "medium"))
                .to_vec(),
        ),
        Scene::of(
            "Large pictures are capped at 1024, but for those tagged `hero`.",
            vec![
                call("a desk by a window", "2048x2048", "medium"),
                call("a desk by a door", "2048x2048", "medium"),
                hero("the whole shop at dawn"),
            ],
        ),
        Scene::of(
            "An overloaded provider: the chain waits, and then goes elsewhere.",
            vec![call("a bowl of pears", "1024x1024", "low"), call("a bowl of plums", "1024x1024", "low")],
        )
        .scripted("openai", &["rate_limited retry_after=0", "ok", "overloaded", "overloaded"]),
        Scene::of(
            "A prompt that moderation refuses: the app gets the provider's own error, for nothing.",
            vec![call("something it refuses", "1024x1024", "low")],
        )
        .scripted("openai", &["safety"]),
        Scene::of(
            "A connection lost after the request: it may be billed, so it is booked and not sent again.",
            vec![call("a kite over dunes", "1024x1024", "medium")],
        )
        .scripted("openai", &["drop"]),
    ]
}
