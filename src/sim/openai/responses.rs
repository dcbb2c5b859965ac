//! OpenAI's Responses API, simulated where a text model is given the tool `image_generation`: it
//! draws whenever it may, says a sentence, and both models are billed.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::ask::{self, Ask, Route};
use super::refuse::{missing, not_json, wrong_type};
use super::{dress, dress_answer, new_id};
use crate::sim::answer::Answer;
use crate::sim::behaviour::{Behaviour, Fault};
use crate::sim::serve::{Arrived, Order, Verdict};
use crate::sim::template::{Fill, OPENAI};
use crate::sim::{Shared, tokens};

const TOOL: &str = "image_generation";
/// The image model where the tool names none.
const DEFAULT_MODEL: &str = "gpt-image-2.6-sunburst";
/// Fields of the tool that the image routes do not know.
const OF_THE_TOOL_ALONE: [&str; 3] = ["type", "action", "input_image_mask"];
const SENTENCE: &str = "Here is the picture.";
/// Tokens of the tool's description, which every call with it sends along.
const OVERHEAD: u64 = 290;
/// Tokens of the sentence and of the call of the tool.
const SAID: u64 = 41;
/// gpt-5.2 of 2026-11, nano-dollars a token in and out; the other text models here cost the same.
const TEXT_IN: i64 = 1_750;
const TEXT_OUT: i64 = 14_000;

/// A valid call with the tool.
struct Drawing {
    /// What the tool was asked, as the image routes would have been.
    ask: Ask,
    /// The text model.
    model: String,
    body: Value,
}

/// What OpenAI makes of a request.
pub(super) fn judge(arrived: &Arrived, shared: &Shared) -> Verdict {
    let refused = |refusal| Verdict::Answer(dress(refusal, &new_id(shared)));
    let Ok(body @ Value::Object(_)) = serde_json::from_slice::<Value>(&arrived.body) else {
        return refused(*not_json());
    };
    let Some(model) = body["model"].as_str() else {
        return refused(*missing("model"));
    };
    let Some(prompt) = prompt(&body["input"]) else {
        return refused(*wrong_type("input", "a string or an array", &body["input"]));
    };
    let model = model.to_owned();
    let tools = body["tools"].as_array();
    let tool = tools.and_then(|tools| tools.iter().find(|tool| tool["type"] == TOOL));
    let Some(tool) = tool.filter(|_| body["tool_choice"] != "none") else {
        return Verdict::Answer(words(&model, &prompt, &body, shared));
    };
    let mut fields = tool.as_object().cloned().unwrap_or_default();
    fields.retain(|name, _| !OF_THE_TOOL_ALONE.contains(&name.as_str()));
    fields.insert("prompt".to_owned(), prompt.into());
    if body["stream"] == true {
        fields.insert("stream".to_owned(), true.into());
    }
    let named = |named: Option<&str>| named.unwrap_or(DEFAULT_MODEL).to_owned();
    match ask::check(&ask::Fields::of(fields), shared, Route::Generations, named) {
        Ok(ask) => Verdict::Order(Box::new(Drawing { ask, model, body })),
        Err(refusal) => refused(*refusal),
    }
}

/// The words of a call's input: a text, or the texts of its messages.
fn prompt(input: &Value) -> Option<String> {
    if let Some(text) = input.as_str() {
        return Some(text.to_owned());
    }
    let mut words = Vec::new();
    for message in input.as_array()? {
        match &message["content"] {
            Value::String(text) => words.push(text.as_str()),
            parts => words.extend(
                parts
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|part| part["text"].as_str()),
            ),
        }
    }
    Some(words.join("\n"))
}

fn text_in(prompt: &str) -> u64 {
    tokens::text(prompt) + OVERHEAD
}

fn usage(prompt: &str) -> Value {
    let input = text_in(prompt);
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": SAID,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + SAID,
    })
}

/// A text model's answer without a picture.
fn words(model: &str, prompt: &str, body: &Value, shared: &Shared) -> Answer {
    let id = new_id(shared);
    let said = Said {
        id: &id,
        model,
        body,
        usage: usage(prompt),
        drawn: None,
    };
    said.answer(vec![said.message()])
}

impl Order for Drawing {
    fn provider(&self) -> &'static str {
        "openai"
    }

    fn model(&self) -> &str {
        self.ask.model()
    }

    fn prompt(&self) -> &str {
        self.ask.prompt()
    }

    fn images(&self) -> u32 {
        1
    }

    fn price(&self, behaviour: &Behaviour) -> i64 {
        self.ask.price(behaviour)
    }

    /// The text model's alone: see [`Order::beside`].
    fn price_without_picture(&self) -> i64 {
        0
    }

    /// The text model works, and is paid for, whenever anything is answered at all.
    fn beside(&self, behaviour: &Behaviour) -> Option<(&str, i64)> {
        let worked = behaviour.fault.drawn()
            || matches!(behaviour.fault, Fault::Safety { .. } | Fault::NoImage);
        let of = |count: u64, rate: i64| {
            i64::try_from(count)
                .unwrap_or(i64::MAX)
                .saturating_mul(rate)
        };
        let cost = of(text_in(self.prompt()), TEXT_IN).saturating_add(of(SAID, TEXT_OUT));
        worked.then_some((self.model.as_str(), cost))
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let fault = &behaviour.fault;
        let withheld = match fault {
            Fault::Safety { category } => Some(("input", category)),
            Fault::SafetyOutput { category } => Some(("output", category)),
            _ => None,
        };
        if withheld.is_none()
            && !(*fault == Fault::StreamError && self.ask.stream)
            && let Some(answer) = self.ask.error(fault, id)
        {
            return answer;
        }
        let drawn = fault.drawn() && withheld.is_none();
        let said = Said {
            id,
            model: &self.model,
            body: &self.body,
            usage: usage(self.prompt()),
            drawn: (fault.drawn() && *fault != Fault::StreamError)
                .then(|| self.ask.metered(behaviour)),
        };
        let item = match withheld {
            Some((stage, category)) => Some(failed(id, stage, category)),
            None => drawn.then(|| self.item(shared, id)),
        };
        if *fault == Fault::StreamError {
            let partials = self.partials(shared, id);
            return said.broken(partials);
        }
        let items: Vec<Value> = item.into_iter().chain([said.message()]).collect();
        if !self.ask.stream {
            return said.answer(items);
        }
        let partials = if drawn {
            self.partials(shared, id)
        } else {
            Vec::new()
        };
        said.streamed(&items, partials)
    }
}

/// What the tool leaves where moderation stopped it: the answer is a success all the same.
fn failed(id: &str, stage: &str, category: &str) -> Value {
    let fills = [
        ("id", Fill::Text(id)),
        ("stage", Fill::Text(stage)),
        ("category", Fill::Text(category)),
    ];
    filled("responses.failed", &fills)
}

fn filled(name: &str, fills: &[(&str, Fill<'_>)]) -> Value {
    serde_json::from_str(&OPENAI.fill(name, fills).body).unwrap_or_default()
}

impl Drawing {
    fn item(&self, shared: &Shared, id: &str) -> Value {
        let size = self.ask.size_words();
        let revised = format!("{}, in soft daylight.", self.prompt());
        let b64 = self.ask.base64(shared);
        let fills = [
            ("id", Fill::Text(id)),
            ("background", Fill::Text(self.ask.background())),
            ("format", Fill::Text(self.ask.format.word())),
            ("quality", Fill::Text(self.ask.quality)),
            ("size", Fill::Text(&size)),
            ("prompt", Fill::Text(&revised)),
            ("b64", Fill::Text(&b64)),
        ];
        filled("responses.item", &fills)
    }

    /// The data of each partial picture's event, but for its number.
    fn partials(&self, shared: &Shared, id: &str) -> Vec<Value> {
        let partials = 0..self.ask.partials;
        let event = |index| json!({"item_id": format!("ig_{id}"), "output_index": 0, "partial_image_index": index, "partial_image_b64": self.ask.base64(shared)});
        partials.map(event).collect()
    }
}

/// An answer of the API's, however it is sent.
struct Said<'a> {
    id: &'a str,
    model: &'a str,
    body: &'a Value,
    usage: Value,
    /// Tokens of the picture, where one was drawn.
    drawn: Option<Value>,
}

impl Said<'_> {
    fn message(&self) -> Value {
        let fills = [("id", Fill::Text(self.id)), ("text", Fill::Text(SENTENCE))];
        filled("responses.message", &fills)
    }

    fn whole(&self, status: &str, items: &[Value]) -> Value {
        let (created, items) = (ask::now(), Value::from(items).to_string());
        let [choice, tools] = ["tool_choice", "tools"].map(|name| self.body[name].to_string());
        let done = status == "completed";
        let usage = if done {
            self.usage.to_string()
        } else {
            "null".to_owned()
        };
        let fills = [
            ("id", Fill::Text(self.id)),
            ("created", Fill::Json(&created)),
            ("status", Fill::Text(status)),
            ("model", Fill::Text(self.model)),
            ("output", Fill::Json(&items)),
            (
                "tool_choice",
                Fill::Json(if choice == "null" {
                    "\"auto\""
                } else {
                    &choice
                }),
            ),
            (
                "tools",
                Fill::Json(if tools == "null" { "[]" } else { &tools }),
            ),
            ("usage", Fill::Json(&usage)),
        ];
        let mut whole = filled("responses.ok", &fills);
        if let Some(drawn) = self.drawn.as_ref().filter(|_| done) {
            whole["tool_usage"] = json!({"image_gen": drawn});
        }
        whole
    }

    fn answer(&self, items: Vec<Value>) -> Answer {
        let whole = self.whole("completed", &items).to_string();
        let mut answer = Answer::new(StatusCode::OK, "application/json", whole);
        dress_answer(&mut answer, self.id);
        answer
    }

    fn begun(&self) -> Events {
        let mut events = Events::default();
        for name in ["response.created", "response.in_progress"] {
            events.put(name, json!({"response": self.whole("in_progress", &[])}));
        }
        events
    }

    fn streamed(&self, items: &[Value], partials: Vec<Value>) -> Answer {
        let mut events = self.begun();
        let mut partials = Some(partials);
        for (at, item) in items.iter().enumerate() {
            let mut empty = item.clone();
            empty["status"] = "in_progress".into();
            if item["type"] == "message" {
                empty["content"] = json!([]);
            } else {
                empty["result"] = Value::Null;
            }
            events.put(
                "response.output_item.added",
                json!({"output_index": at, "item": empty}),
            );
            match item["type"] == "message" {
                true => events.sentence(at, item),
                false => events.drawing(at, item, partials.take().unwrap_or_default()),
            }
            events.put(
                "response.output_item.done",
                json!({"output_index": at, "item": item}),
            );
        }
        events.put(
            "response.completed",
            json!({"response": self.whole("completed", items)}),
        );
        events.answer(self.id)
    }

    /// A stream that ends in an error after its partial pictures.
    fn broken(&self, partials: Vec<Value>) -> Answer {
        let mut events = self.begun();
        for partial in partials {
            events.put("response.image_generation_call.partial_image", partial);
        }
        let told = json!({"code": "server_error", "message": "The server had an error while processing your request. Sorry about that!", "param": null});
        events.put("error", told);
        events.answer(self.id)
    }
}

/// The events of a stream, numbered as they come.
#[derive(Default)]
struct Events(Vec<(Option<String>, String)>);

impl Events {
    fn put(&mut self, name: &str, more: Value) {
        let mut data = Map::new();
        data.insert("type".to_owned(), name.into());
        data.insert("sequence_number".to_owned(), self.0.len().into());
        if let Value::Object(more) = more {
            data.extend(more);
        }
        self.0
            .push((Some(name.to_owned()), Value::from(data).to_string()));
    }

    fn drawing(&mut self, at: usize, item: &Value, partials: Vec<Value>) {
        let about = || json!({"output_index": at, "item_id": item["id"]});
        self.put("response.image_generation_call.in_progress", about());
        self.put("response.image_generation_call.generating", about());
        for partial in partials {
            self.put("response.image_generation_call.partial_image", partial);
        }
        if item["status"] == "completed" {
            self.put("response.image_generation_call.completed", about());
        }
    }

    fn sentence(&mut self, at: usize, item: &Value) {
        let part = &item["content"][0];
        let mut empty = part.clone();
        empty["text"] = "".into();
        let about = |name: &str, value: &Value| {
            let mut data = json!({"output_index": at, "item_id": item["id"], "content_index": 0});
            data[name] = value.clone();
            data
        };
        self.put("response.content_part.added", about("part", &empty));
        self.put("response.output_text.delta", about("delta", &part["text"]));
        self.put("response.output_text.done", about("text", &part["text"]));
        self.put("response.content_part.done", about("part", part));
    }

    fn answer(self, id: &str) -> Answer {
        let mut answer = Answer::events(self.0);
        dress_answer(&mut answer, id);
        answer
    }
}
