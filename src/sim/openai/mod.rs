//! OpenAI, simulated: images (JSON, multipart, streamed), the Responses API with its image tool, the
//! models list, a word of chat; and the same pictures at Azure.

mod ask;
pub(super) mod azure;
pub(super) mod batch;
mod refuse;
mod reply;
mod responses;

use http::Method;

use super::Shared;
use super::answer::Answer;
use super::serve::{Arrived, Verdict};
use super::template::{Fill, Filled, OPENAI};
use super::tokens;
use ask::Route;

/// What is served.
enum Page<'a> {
    Models,
    Model(&'a str),
    Chat,
    Responses,
    Image(Route),
}

fn page(path: &str) -> Option<Page<'_>> {
    Some(match path {
        "/v1/models" => Page::Models,
        "/v1/chat/completions" => Page::Chat,
        "/v1/responses" => Page::Responses,
        "/v1/images/generations" => Page::Image(Route::Generations),
        "/v1/images/edits" => Page::Image(Route::Edits),
        "/v1/images/variations" => Page::Image(Route::Variations),
        path => Page::Model(path.strip_prefix("/v1/models/")?),
    })
}

/// What OpenAI makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    if arrived.bearer().is_none() {
        let filled = OPENAI.fill("error.no_key", &[]);
        return Verdict::Answer(dress(filled, &new_id(shared)));
    }
    let Some(page) = page(&arrived.path) else {
        return Verdict::Answer(nowhere("error.url", "", arrived, shared));
    };
    let method = match page {
        Page::Models | Page::Model(_) => Method::GET,
        Page::Chat | Page::Responses | Page::Image(_) => Method::POST,
    };
    if arrived.method != method {
        let answer = nowhere("error.method", method.as_str(), arrived, shared);
        return Verdict::Answer(answer);
    }
    match page {
        Page::Models => Verdict::Answer(models(shared)),
        Page::Model(id) => Verdict::Answer(model(id, shared)),
        Page::Chat => Verdict::Answer(chat(arrived, shared)),
        Page::Responses => responses::judge(arrived, shared),
        Page::Image(route) => {
            match ask::read(arrived, shared, route, |named| ask::model_of(route, named)) {
                Ok(ask) => Verdict::Order(Box::new(ask)),
                Err(refusal) => Verdict::Answer(dress(*refusal, &new_id(shared))),
            }
        }
    }
}

fn new_id(shared: &Shared) -> String {
    format!("req_{}", shared.request_id())
}

/// Adds the headers that every answer carries.
fn dress(filled: Filled, id: &str) -> Answer {
    let mut answer = Answer::of(filled);
    dress_answer(&mut answer, id);
    answer
}

fn dress_answer(answer: &mut Answer, id: &str) {
    answer.set("x-request-id", id);
    answer.set("openai-processing-ms", "9421");
    answer.set("openai-version", "2020-10-01");
    answer.set("openai-organization", "org-simulated");
    answer.set("openai-project", "proj_simulated");
}

fn nowhere(template: &str, allow: &str, arrived: &Arrived, shared: &Shared) -> Answer {
    let fills = [
        ("method", Fill::Text(arrived.method.as_str())),
        ("path", Fill::Text(&arrived.path)),
        ("allow", Fill::Text(allow)),
    ];
    dress(OPENAI.fill(template, &fills), &new_id(shared))
}

fn model_card(id: &str) -> String {
    OPENAI.fill("model", &[("model", Fill::Text(id))]).body
}

fn models(shared: &Shared) -> Answer {
    let served = tokens::models(shared.options.retired_ok).map(|model| model.id);
    let cards: Vec<String> = served.chain(["gpt-5.2"]).map(model_card).collect();
    let data = format!("[{}]", cards.join(","));
    let filled = OPENAI.fill("models", &[("data", Fill::Json(&data))]);
    dress(filled, &new_id(shared))
}

fn model(id: &str, shared: &Shared) -> Answer {
    let known = tokens::models(shared.options.retired_ok).any(|model| model.id == id);
    let template = if known { "model" } else { "error.model" };
    let filled = OPENAI.fill(template, &[("model", Fill::Text(id))]);
    dress(filled, &new_id(shared))
}

/// A small plausible answer: enough to see that what is no image call passes untouched.
fn chat(arrived: &Arrived, shared: &Shared) -> Answer {
    let id = new_id(shared);
    let Ok(ask) = serde_json::from_slice::<serde_json::Value>(&arrived.body) else {
        return dress(*refuse::not_json(), &id);
    };
    let Some(model) = ask["model"].as_str() else {
        return dress(*refuse::missing("model"), &id);
    };
    let created = ask::now();
    let fill = |template: &str, delta: &str, finish: &str| {
        let fills = [
            ("id", Fill::Text(&id)),
            ("created", Fill::Json(&created)),
            ("model", Fill::Text(model)),
            ("delta", Fill::Json(delta)),
            ("finish", Fill::Json(finish)),
        ];
        OPENAI.fill(template, &fills)
    };
    if ask["stream"] != true {
        return dress(fill("chat.ok", "", ""), &id);
    }
    let deltas = [
        (
            r#"{"role":"assistant","content":"","refusal":null}"#,
            "null",
        ),
        (r#"{"content":"This is a "}"#, "null"),
        (r#"{"content":"simulated answer."}"#, "null"),
        ("{}", r#""stop""#),
    ];
    let mut events: Vec<(Option<String>, String)> = deltas
        .iter()
        .map(|(delta, finish)| (None, fill("chat.chunk", delta, finish).body))
        .collect();
    events.push((None, "[DONE]".to_owned()));
    let mut answer = Answer::events(events);
    dress_answer(&mut answer, &id);
    answer
}
