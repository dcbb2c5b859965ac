//! Calls that a test takes from files: a request as an app sends it, or a call of a decision log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use jiff::Timestamp;
use mlua::Table;
use serde_json::Value as Json;

use super::super::args::options;
use super::told::about;
use super::{Bench, TestCall};
use crate::image::{Delivery, Format, ImageRequest, ModelId, Quality, Safety, Size, Tier};

/// What may be said of such a call besides.
pub(in super::super) const ABOUT: &[&str] = &["model", "app", "tags", "at", "deadline", "max_cost"];
/// The largest request.
const LARGEST: u64 = 32 << 20;

/// A call of `request` that nothing is known of besides, at no time yet.
fn plain(request: ImageRequest) -> TestCall {
    TestCall {
        request,
        app: None,
        tags: Vec::new(),
        at: Timestamp::UNIX_EPOCH,
        deadline: None,
        max_cost: None,
        answers: Vec::new(),
    }
}

/// Lays over a call what the test says of it besides.
pub(super) fn told(mut call: TestCall, table: &Option<Table>) -> Result<TestCall, String> {
    if let Some(table) = table {
        options("a call from a file", table, ABOUT, |given| {
            match given.name {
                "model" => {
                    call.request.model = super::model(&given)?;
                    Ok(())
                }
                _ => about(&mut call, &given),
            }
        })?;
    }
    Ok(call)
}

/// The body of a request, as an app sends it in that dialect.
pub(super) fn request(
    path: &Path,
    dialect: &str,
    table: &Option<Table>,
    bench: &dyn Bench,
) -> Result<TestCall, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let mut body = Vec::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let read = file.take(LARGEST + 1).read_to_end(&mut body);
    if read.map_err(|error| wrong(&error))? as u64 > LARGEST {
        return Err(wrong(&format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let model: Option<String> = match table {
        Some(table) => table.raw_get("model").map_err(|error| error.to_string())?,
        None => None,
    };
    let model = model.as_deref().map(named).transpose()?;
    let request = bench.read(dialect, model.as_ref(), body);
    request.map(plain).map_err(|why| wrong(&why))
}

fn named(text: &str) -> Result<ModelId, String> {
    ModelId::parse(text)
        .ok_or_else(|| format!("`{text}` names no provider: write it like stability/sd3.5-medium"))
}

/// The call of that id in a decision log, as it was asked. Of a prompt the log may keep a part or
/// a digest: that stands for it. Uploaded pictures are in no log.
pub(super) fn from_log(path: &Path, id: &str) -> Result<TestCall, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    let file = File::open(path).map_err(|error| wrong(&error))?;
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| wrong(&error))?;
        if !line.contains(id) {
            continue;
        }
        let record: Json = serde_json::from_str(&line).map_err(|error| wrong(&error))?;
        if record["type"] == "call" && record["id"] == id {
            return call(&record).map_err(|why| wrong(&why));
        }
    }
    Err(wrong(&format!("no call has the id {id}")))
}

fn call(record: &Json) -> Result<TestCall, String> {
    let asked = &record["asked"];
    let text = |name: &str| asked[name].as_str();
    let number = |name: &str| asked[name].as_u64();
    let model = named(text("model").unwrap_or_default())?;
    let prompt = match (text("prompt"), text("prompt_hash")) {
        (Some(prompt), _) => prompt.to_owned(),
        (None, hash) => format!("prompt {}", hash.unwrap_or("unknown")),
    };
    let whole = |name: &str| number(name).and_then(|n| u32::try_from(n).ok());
    let mut call = plain(ImageRequest {
        size: text("size").and_then(Size::parse).unwrap_or(Size::Auto),
        quality: word(text("quality"), Quality::ALL, Quality::as_str),
        style: text("style").map(str::to_owned),
        n: whole("n").unwrap_or(1),
        seed: number("seed"),
        steps: whole("steps"),
        safety: word(text("safety"), Safety::ALL, Safety::as_str),
        format: word(text("format"), Format::ALL, Format::as_str),
        tier: word(text("tier"), Tier::ALL, Tier::as_str).unwrap_or(Tier::Standard),
        delivery: word(text("delivery"), Delivery::ALL, Delivery::as_str)
            .unwrap_or(Delivery::Base64),
        stream: asked["stream"] == true,
        ..ImageRequest::new(model, &prompt)
    });
    call.app = record["app"].as_str().map(str::to_owned);
    let tags = record["tags"].as_array().into_iter().flatten();
    call.tags = tags
        .filter_map(|tag| Some(tag.as_str()?.to_owned()))
        .collect();
    let at = record["at"].as_str().unwrap_or_default();
    call.at = at.parse().map_err(|_| format!("`{at}` is no time"))?;
    Ok(call)
}

fn word<T: Copy>(text: Option<&str>, all: &[T], spell: fn(T) -> &'static str) -> Option<T> {
    let text = text?;
    all.iter().copied().find(|word| spell(*word) == text)
}
