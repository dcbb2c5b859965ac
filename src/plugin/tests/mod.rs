//! Rules as people write them, run as the pipeline runs them.

mod bombs;
mod hooks;
mod loading;
mod policies;
mod shipped;
mod subjects;
mod surface;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Entry, FailureView, HookOutcome, LoadProblem, OnError, Plugin, PluginSource, Plugins, Prices,
    Search, Successor,
};
use crate::action::{Action, CallView, Class, Headers, Via, World};
use crate::bill::{Line, Quote};
use crate::image::capability::Keep;
use crate::image::{Billed, Failure, FailureKind, ImageRequest, ModelId, Tier};
use crate::money::Usd;
use crate::wire::RequestHead;

/// A book of three models; the first half of a cent a picture.
struct Book;

impl Prices for Book {
    fn quote(&self, request: &ImageRequest) -> Option<Quote> {
        let each: Usd = match request.model.as_str() {
            "openai/gpt-image-2" => "0.04".parse().unwrap(),
            "stability/sd3.5-medium" => "0.035".parse().unwrap(),
            _ => return None,
        };
        let amount = each.times(u64::from(request.n));
        Some(Quote {
            low: amount,
            expected: amount,
            high: amount,
            lines: vec![Line {
                what: "image",
                count: u64::from(request.n),
                amount,
            }],
        })
    }

    fn supports(
        &self,
        model: &ModelId,
        request: &ImageRequest,
        at: Timestamp,
    ) -> Result<(), String> {
        if self.successor(model, at).is_some_and(|next| next.gone) {
            return Err(format!("{model} is gone"));
        }
        if model.provider() == "stability" && request.n > 1 {
            return Err(format!(
                "{} pictures wanted, 1 a call is the most",
                request.n
            ));
        }
        Ok(())
    }

    fn cheapest(&self, request: &ImageRequest, search: &Search<'_>) -> Option<(ModelId, Quote)> {
        let all = ["openai/gpt-image-2", "stability/sd3.5-medium"].map(ModelId::parse);
        let all: Vec<ModelId> = all.into_iter().flatten().collect();
        let quoted = search.among.unwrap_or(&all).iter().filter_map(|model| {
            let mut request = request.clone();
            request.model = model.clone();
            let can = (search.usable)(model)
                && self.supports(model, &request, search.at).is_ok()
                && *search.keep == Keep::Nothing;
            Some((model.clone(), self.quote(&request).filter(|_| can)?))
        });
        let within =
            |(_, quote): &(ModelId, Quote)| search.max_cost.is_none_or(|most| quote.high <= most);
        quoted
            .filter(within)
            .min_by_key(|(_, quote)| quote.expected)
    }

    fn successor(&self, model: &ModelId, at: Timestamp) -> Option<Successor> {
        (model.as_str() == "openai/dall-e-3").then(|| Successor {
            model: ModelId::new("openai", "gpt-image-2"),
            gone: at >= "2026-05-12T00:00:00Z".parse().unwrap(),
        })
    }

    fn knows(&self, model: &ModelId) -> bool {
        matches!(model.provider(), "openai" | "stability" | "bfl" | "google")
    }
}

fn classes() -> BTreeMap<String, Class> {
    let draft = Class {
        models: vec![
            ModelId::new("openai", "gpt-image-2"),
            ModelId::new("stability", "sd3.5-medium"),
        ],
        max_cost: Some("0.04".parse().unwrap()),
    };
    BTreeMap::from([("draft".to_owned(), draft)])
}

fn load_entry(entry: Entry) -> Result<Plugins, Vec<LoadProblem>> {
    Plugins::load(&[entry], Arc::new(Book), &classes())
}

/// Writes `source` as `rule.lua` into a folder of its own and loads it with `options`.
fn load_with(source: &str, options: Value) -> Result<Plugins, Vec<LoadProblem>> {
    let folder = tempfile::tempdir().unwrap();
    load_in(folder.path(), source, options)
}

fn load_in(folder: &Path, source: &str, options: Value) -> Result<Plugins, Vec<LoadProblem>> {
    let path = folder.join("rule.lua");
    std::fs::write(&path, source).unwrap();
    load_entry(Entry {
        options,
        ..Entry::new(PluginSource::File(path))
    })
}

#[track_caller]
fn loaded(source: &str) -> Plugins {
    load_with(source, Value::Null).unwrap_or_else(|problems| panic!("{}", all(&problems)))
}

/// A plugin whose on_request is `body`.
#[track_caller]
fn rule(body: &str) -> Plugins {
    loaded(&format!(
        "return {{ options = {{ word = \"icon\", side = 512 }},\non_request = function(call, options)\n{body}\nend }}"
    ))
}

/// A plugin whose on_failure is `body`.
#[track_caller]
fn failure_rule(body: &str) -> Plugins {
    loaded(&format!(
        "return {{ on_failure = function(call, failure, options)\n{body}\nend }}"
    ))
}

fn only(plugins: &Plugins) -> &Plugin {
    plugins.iter().next().unwrap()
}

fn all(problems: &[LoadProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn call(prompt: &str, tags: &[&str]) -> CallView {
    let request = Arc::new(ImageRequest::new(
        ModelId::new("openai", "gpt-image-2"),
        prompt,
    ));
    let quote = Book.quote(&request).map(Arc::new);
    CallView {
        app: "catalog".into(),
        tags: tags.iter().map(|tag| Arc::from(*tag)).collect(),
        user: None,
        credential: Some("0badcafe".into()),
        headers: headers(),
        at: "2026-11-22T23:10:00Z".parse().unwrap(),
        deadline: None,
        max_cost: None,
        via: Via::Gateway,
        dialect: "openai",
        sdk_retry: 0,
        asked: Arc::clone(&request),
        asked_quote: quote.clone(),
        asked_pixels: (1024, 1024),
        request,
        quote,
        pixels: (1024, 1024),
        attempts: 0,
        spent: Usd::ZERO,
        share_seed: 7,
        world: Arc::new(World {
            keys: BTreeSet::from(["openai".to_owned()]),
            ..World::default()
        }),
    }
}

/// Headers of a call, a secret one among them.
fn headers() -> Headers {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("tests"));
    headers.insert(
        "authorization",
        HeaderValue::from_static("Bearer sk-canary"),
    );
    Headers::of(Arc::new(RequestHead {
        method: http::Method::POST,
        host: "api.openai.com".into(),
        target: http::uri::PathAndQuery::from_static("/v1/images/generations"),
        headers,
    }))
}

fn failure(kind: FailureKind, times: u32) -> FailureView {
    FailureView {
        failure: Failure::answered(kind, 429, Billed::No, "slow down"),
        model: ModelId::new("openai", "gpt-image-2"),
        tier: Tier::Standard,
        attempt: times,
        times,
        ms: 120,
    }
}

/// Runs `on_request` on a runtime of its own.
fn ask(plugins: &Plugins, call: CallView) -> HookOutcome {
    block_on(only(plugins).on_request(Arc::new(call)))
}

fn ask_failed(plugins: &Plugins, call: CallView, failure: FailureView) -> HookOutcome {
    block_on(only(plugins).on_failure(Arc::new(call), Arc::new(failure)))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(work)
}

/// The actions of a hook that must not fail.
#[track_caller]
fn actions(outcome: HookOutcome) -> Vec<Action> {
    if let Some(error) = outcome.error {
        panic!("{error}");
    }
    outcome.made.into_iter().map(|made| made.action).collect()
}

/// The message of a hook that must fail, with the line it names.
#[track_caller]
fn fault(outcome: HookOutcome) -> (String, String) {
    assert_eq!(outcome.made, [], "a failed hook does nothing");
    let error = outcome.error.expect("the hook should have failed");
    let line = error.at.rsplit(':').next().unwrap_or_default().to_owned();
    (error.message, line)
}

/// Runs `body` in on_request and expects a complaint with `words` in it.
#[track_caller]
fn complains(body: &str, words: &str) {
    let (message, line) = fault(ask(&rule(body), call("an icon", &[])));
    assert!(message.contains(words), "{body}\ngave: {message}");
    assert_eq!(line, "3", "{body}\ngave: {message}");
}
