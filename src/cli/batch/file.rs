//! Reads a file of prompts and requests. Every mistake is told with its line and its cure.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Map, Value};

use crate::config::Problem;
use crate::image::capability::Keep;
use crate::image::{Format, ImageRequest, Quality, Size};
use crate::near::nearest;
use crate::pipeline::Pipeline;
use crate::pipeline::batch::Wish;
use crate::price::spec;
use crate::wire::RequestHead;

/// Fields of a line in our own form.
const FIELDS: [&str; 11] = [
    "id",
    "prompt",
    "model",
    "size",
    "quality",
    "n",
    "seed",
    "format",
    "background",
    "style",
    "negative_prompt",
];
/// Of a line as OpenAI's batch files have it.
const OPENAI_FIELDS: [&str; 4] = ["custom_id", "method", "url", "body"];

/// A line that could be read.
#[derive(Debug)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u32,
    pub(super) wish: Wish,
}

/// What is wrong, and what would be right.
struct Wrong(String, String);

fn wrong(message: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong(message.into(), remedy.into())
}

/// Reads every line; `name` is the file's, for whoever reads the mistakes.
pub(super) fn read(
    pipeline: &Pipeline,
    name: &str,
    text: &str,
    model: Option<&str>,
) -> (Vec<Line>, Vec<Problem>) {
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    let mut names: HashMap<String, u32> = HashMap::new();
    let reader = Reader { pipeline, model };
    for (number, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let read = reader.line(number, text).and_then(|wish| {
            match names.insert(wish.name.clone(), number) {
                None => Ok(wish),
                Some(first) => Err(wrong(
                    format!("the id `{}` is that of line {first} already", wish.name),
                    "give each line an id of its own, or none",
                )),
            }
        });
        match read {
            Ok(wish) => lines.push(Line { number, wish }),
            Err(mistake) => problems.push(problem(name, number, mistake.0, mistake.1)),
        }
    }
    (lines, problems)
}

/// A mistake in a line.
pub(super) fn problem(file: &str, line: u32, message: String, remedy: String) -> Problem {
    Problem {
        file: Some(file.to_owned()),
        line: Some(line),
        column: None,
        code: "batch_line",
        message,
        remedy: Some(remedy).filter(|remedy| !remedy.is_empty()),
    }
}

struct Reader<'a> {
    pipeline: &'a Pipeline,
    model: Option<&'a str>,
}

impl Reader<'_> {
    fn line(&self, number: u32, text: &str) -> Result<Wish, Wrong> {
        let value: Value = serde_json::from_str(text).map_err(|error| {
            wrong(
                format!("is no JSON: {error}"),
                "write a prompt in quotes, or an object, on one line; see `pixtoll batch submit --help`",
            )
        })?;
        match value {
            Value::String(prompt) => {
                let mut fields = Map::new();
                fields.insert("prompt".to_owned(), prompt.into());
                self.ours(number, fields)
            }
            Value::Object(fields)
                if fields.contains_key("custom_id") || fields.contains_key("body") =>
            {
                openai(self.pipeline, number, fields)
            }
            Value::Object(fields) => self.ours(number, fields),
            _ => Err(wrong(
                "is neither a prompt nor an object",
                "write a prompt in quotes, or an object; see `pixtoll batch submit --help`",
            )),
        }
    }

    fn ours(&self, number: u32, mut fields: Map<String, Value>) -> Result<Wish, Wrong> {
        known(&fields, &FIELDS)?;
        let model = text(&mut fields, "model")?;
        let model = model.as_deref().or(self.model).ok_or_else(|| {
            wrong(
                "names no model",
                "add \"model\", or name one for all with --model",
            )
        })?;
        let request = spec::read(&self.pipeline.book, model, None);
        let mut request =
            request.map_err(|bad| wrong(format!("model: {}", bad.message), bad.remedy))?;
        let prompt = text(&mut fields, "prompt")?.filter(|prompt| !prompt.trim().is_empty());
        request.prompt =
            prompt.ok_or_else(|| wrong("prompt: is missing", "say what is to be drawn"))?;
        if let Some(size) = text(&mut fields, "size")? {
            request.size = Size::parse(&size).ok_or_else(|| {
                wrong(
                    format!("size: `{size}` is none"),
                    "write it like 1024x1024, 16:9 or auto",
                )
            })?;
        }
        if let Some(word) = text(&mut fields, "quality")? {
            let quality = Quality::parse(&word);
            request.quality = Some(quality.ok_or_else(|| {
                wrong(
                    format!("quality: `{word}` is none"),
                    "write low, medium, standard, high, hd, xhigh, max or auto",
                )
            })?);
        }
        if let Some(word) = text(&mut fields, "format")? {
            let format = Format::from_media_type(&word);
            if format == Format::Unknown {
                return Err(wrong(
                    format!("format: `{word}` is none"),
                    "write png, jpeg or webp",
                ));
            }
            request.format = Some(format);
        }
        if let Some(n) = whole(&mut fields, "n")? {
            let n = u32::try_from(n).ok().filter(|n| *n > 0);
            request.n =
                n.ok_or_else(|| wrong("n: must be at least 1", "write a number of pictures"))?;
        }
        request.seed = whole(&mut fields, "seed")?;
        request.background = text(&mut fields, "background")?;
        request.style = text(&mut fields, "style")?;
        request.negative_prompt = text(&mut fields, "negative_prompt")?;
        let id = text(&mut fields, "id")?;
        self.worded(id.unwrap_or_else(|| number.to_string()), request)
    }

    /// In the words of the model's provider, where it has a word for everything.
    fn worded(&self, name: String, request: ImageRequest) -> Result<Wish, Wrong> {
        let model = request.model.clone();
        let row = self.pipeline.book.model(&model);
        let row =
            row.ok_or_else(|| wrong(format!("model: {model} is not in the price book"), ""))?;
        let most = row.capability.max_n.max(1);
        if request.n > most {
            return Err(wrong(
                format!("n: {model} makes {most} a call"),
                "ask for fewer",
            ));
        }
        let fitted = row.capability.fit(&request, &Keep::Nothing);
        let fitted = fitted
            .map_err(|misfit| wrong(format!("{model}: {}", misfit.why), "change the line"))?;
        if let Some(field) = fitted.lost.first() {
            return Err(wrong(
                format!("{field}: {model} has no word for it"),
                "take it out, or name another model",
            ));
        }
        if let Some(unmet) = fitted.unmet.first() {
            return Err(wrong(
                format!("{}: {model} would make it {}", unmet.wish, unmet.got),
                "write what it makes, or name another model",
            ));
        }
        let provider = self.pipeline.providers.named(model.provider());
        let dialect = provider.and_then(|provider| provider.dialect_for(&row.id));
        let dialect = dialect.ok_or_else(|| {
            wrong(
                format!(
                    "model: this version does not speak to `{}`",
                    model.provider()
                ),
                "name another",
            )
        })?;
        let message = dialect
            .write_request(&fitted.request)
            .map_err(|error| wrong(error.to_string(), "take it out"))?;
        Ok(Wish {
            name,
            provider: model.provider().to_owned(),
            dialect,
            head: RequestHead {
                method: message.method,
                host: String::new(),
                target: message.target,
                headers: message.headers,
            },
            body: message.body.to_bytes(),
        })
    }
}

/// A line as OpenAI's batch files have it: the body goes out as it stands.
fn openai(pipeline: &Pipeline, number: u32, mut fields: Map<String, Value>) -> Result<Wish, Wrong> {
    known(&fields, &OPENAI_FIELDS)?;
    let name = text(&mut fields, "custom_id")?.unwrap_or_else(|| number.to_string());
    let method = text(&mut fields, "method")?;
    if method.as_deref().is_some_and(|method| method != "POST") {
        return Err(wrong("method: must be POST", "write \"method\": \"POST\""));
    }
    let url = text(&mut fields, "url")?;
    let url = url.as_deref().unwrap_or("/v1/images/generations");
    let body = match fields.remove("body") {
        Some(body @ Value::Object(_)) => body.to_string(),
        _ => {
            return Err(wrong(
                "body: must be an object",
                "put the call's own body there",
            ));
        }
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let target = url.parse().map_err(|_| {
        wrong(
            format!("url: `{url}` is no path"),
            "write /v1/images/generations",
        )
    })?;
    let head = RequestHead {
        method: Method::POST,
        host: String::new(),
        target,
        headers,
    };
    let provider = pipeline.providers.named("openai").map(Arc::clone);
    let recognised = provider.and_then(|provider| pipeline.recognise(&provider, &head));
    let recognised = recognised.ok_or_else(|| {
        wrong(
            format!("url: `{url}` is no image call"),
            "write /v1/images/generations or /v1/images/edits",
        )
    })?;
    Ok(Wish {
        name,
        provider: "openai".to_owned(),
        dialect: recognised.dialect,
        head,
        body: Bytes::from(body),
    })
}

fn known(fields: &Map<String, Value>, all: &[&str]) -> Result<(), Wrong> {
    let odd = fields.keys().find(|name| !all.contains(&name.as_str()));
    let Some(odd) = odd else {
        return Ok(());
    };
    let remedy = match nearest(odd, all.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("a line has {}", all.join(", ")),
    };
    Err(wrong(format!("`{odd}` is no field of a line"), remedy))
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Wrong> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong(format!("{name}: must be a text"), "put it in quotes")),
    }
}

fn whole(fields: &mut Map<String, Value>, name: &str) -> Result<Option<u64>, Wrong> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) if number.is_u64() => Ok(number.as_u64()),
        Some(_) => Err(wrong(
            format!("{name}: must be a whole number"),
            "write it without quotes or a point",
        )),
    }
}
