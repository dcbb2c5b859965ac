//! `generateContent`, whole or as events, priced by tokens.

use base64::Engine as _;
use serde_json::Value;

use super::models::Gemini;
use super::{Path, error, gone, invalid, message, picture, unknown};
use crate::image::header;
use crate::sim::answer::Answer;
use crate::sim::behaviour::{Behaviour, Fault};
use crate::sim::picture::Format;
use crate::sim::serve::{Order, Verdict};
use crate::sim::template::{Fill, GOOGLE};
use crate::sim::{Shared, tokens};

const BODY: &[&str] = &[
    "contents",
    "systemInstruction",
    "generationConfig",
    "safetySettings",
    "tools",
    "toolConfig",
    "cachedContent",
    "serviceTier",
    "labels",
];
const CONFIG: &[&str] = &[
    "responseModalities",
    "imageConfig",
    "thinkingConfig",
    "candidateCount",
    "seed",
    "temperature",
    "topP",
    "topK",
    "maxOutputTokens",
    "stopSequences",
    "responseMimeType",
    "mediaResolution",
];
const IMAGE_CONFIG: &[&str] = &["aspectRatio", "imageSize"];
/// Taken by Vertex alone.
const VERTEX_CONFIG: &[&str] = &[
    "aspectRatio",
    "imageSize",
    "personGeneration",
    "prominentPeople",
    "imageOutputOptions",
];
const CATEGORIES: &[&str] = &[
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
    "HARM_CATEGORY_CIVIC_INTEGRITY",
];
const THRESHOLDS: &[&str] = &[
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
];
/// What the model says beside its picture where words are asked for.
const WORDS: &str = "Here is your image.";
const WORDS_TOKENS: u64 = 8;

/// A valid call.
#[derive(Debug)]
struct Ask {
    model: &'static Gemini,
    method: &'static str,
    prompt: String,
    body: Value,
    pixels: (u32, u32),
    image_tokens: u64,
    text_in: u64,
    image_in: u64,
    seed: Option<u64>,
    words: bool,
    format: Format,
    /// `None` for a whole answer; else whether the stream is of events.
    stream: Option<bool>,
    tier: String,
}

/// What the model's method makes of a request; `stream` says whether events are asked for.
pub(super) fn judge(
    path: &Path<'_>,
    body: &Value,
    stream: Option<bool>,
    shared: &Shared,
    id: &str,
) -> Verdict {
    let method = if stream.is_some() {
        "streamGenerateContent"
    } else {
        "generateContent"
    };
    let Some(model) = Gemini::find(path.model, path.vertex, shared.options.retired_ok) else {
        // A model that only speaks: not ours to sell, and answered all the same.
        let speaks = path.model.starts_with("gemini-") && !path.model.contains("image");
        return Verdict::Answer(match speaks {
            true => spoken(path.model, stream, id),
            false => gone(path.model, method),
        });
    };
    let modalities = modalities(body);
    if modalities
        .as_ref()
        .is_some_and(|m| !m.contains(&"IMAGE".to_owned()))
    {
        return Verdict::Answer(spoken(model.id, stream, id));
    }
    match read(path, model, body) {
        Ok(ask) => Verdict::Order(Box::new(Ask {
            method,
            stream,
            words: modalities.is_none_or(|m| m.contains(&"TEXT".to_owned())),
            ..ask
        })),
        Err(mistake) => Verdict::Answer(invalid(&mistake)),
    }
}

fn modalities(body: &Value) -> Option<Vec<String>> {
    let list = body["generationConfig"]["responseModalities"].as_array()?;
    let words = list.iter().filter_map(Value::as_str);
    (!list.is_empty()).then(|| words.map(str::to_ascii_uppercase).collect())
}

/// Names are those of an enumeration: another one is no value of it.
fn moderation(settings: &Value) -> Result<(), String> {
    for setting in settings.as_array().into_iter().flatten() {
        for (field, known) in [("category", CATEGORIES), ("threshold", THRESHOLDS)] {
            let named = setting[field].as_str().unwrap_or_default();
            if !known.contains(&named) {
                return Err(format!(
                    "Invalid value at 'safety_settings[0].{field}': \"{named}\""
                ));
            }
        }
    }
    Ok(())
}

fn read(path: &Path<'_>, model: &'static Gemini, body: &Value) -> Result<Ask, String> {
    let config = &body["generationConfig"];
    let picture = &config["imageConfig"];
    unknown(Some(body), BODY, "")?;
    unknown(Some(config), CONFIG, " at 'generation_config'")?;
    let known = if path.vertex {
        VERTEX_CONFIG
    } else {
        IMAGE_CONFIG
    };
    unknown(Some(picture), known, " at 'generation_config.image_config'")?;
    if config["candidateCount"]
        .as_u64()
        .is_some_and(|count| count != 1)
    {
        return Err("Multiple candidates is not enabled for this model".to_owned());
    }
    moderation(&body["safetySettings"])?;
    let (texts, images) = parts(body)?;
    let word = |name: &str| picture[name].as_str();
    let (pixels, image_tokens) = model.size(word("aspectRatio"), word("imageSize"))?;
    let kind = picture["imageOutputOptions"]["mimeType"].as_str();
    let format = match kind.unwrap_or("image/png") {
        "image/png" => Format::Png,
        "image/jpeg" => Format::Jpeg,
        other => return Err(format!("mime_type: {other} is not supported")),
    };
    let tier = body["serviceTier"].as_str().unwrap_or("standard");
    if !["standard", "flex", "priority"].contains(&tier) {
        return Err(format!("service_tier: {tier} is not a tier"));
    }
    Ok(Ask {
        model,
        method: "",
        text_in: tokens::text(&texts),
        image_in: images * model.image_in,
        prompt: texts,
        body: body.clone(),
        pixels,
        image_tokens,
        seed: config["seed"].as_u64(),
        words: false,
        format,
        stream: None,
        tier: tier.to_owned(),
    })
}

/// All texts, and how many pictures.
fn parts(body: &Value) -> Result<(String, u64), String> {
    let turns = body["contents"]
        .as_array()
        .filter(|turns| !turns.is_empty());
    let turns = turns.ok_or("contents is not specified")?;
    let mut texts = Vec::new();
    let mut images = 0;
    for part in turns
        .iter()
        .filter_map(|turn| turn["parts"].as_array())
        .flatten()
    {
        if let Some(text) = part["text"].as_str() {
            texts.push(text);
        }
        if let Some(data) = part["inlineData"]["data"].as_str() {
            // Both alphabets are taken.
            let data = data.replace('-', "+").replace('_', "/");
            let decoded = base64::engine::general_purpose::STANDARD.decode(data);
            let file = decoded.map_err(|_| "inline_data: must be base64")?;
            header::read(&file)
                .pixels
                .ok_or("Unable to process input image. Please retry or report the issue.")?;
            images += 1;
        }
        images += u64::from(part["fileData"]["fileUri"].is_string());
    }
    if texts.is_empty() && images == 0 {
        return Err("contents.parts must not be empty.".to_owned());
    }
    Ok((texts.join("\n"), images))
}

/// A small plausible answer in words.
fn spoken(model: &str, stream: Option<bool>, id: &str) -> Answer {
    let text = GOOGLE.fill(
        "part.text",
        &[("text", Fill::Text("This is a simulated answer."))],
    );
    let parts = format!("[{}]", text.body);
    let fills = [
        ("parts", Fill::Json(&parts)),
        ("usage", Fill::Json("{}")),
        ("model", Fill::Text(model)),
        ("id", Fill::Text(id)),
    ];
    if stream == Some(true) {
        return Answer::events(vec![(None, GOOGLE.fill("gemini.ok", &fills).body)]);
    }
    message("gemini.ok", &fills)
}

impl Order for Ask {
    fn provider(&self) -> &'static str {
        "google"
    }

    fn model(&self) -> &str {
        self.model.id
    }

    fn prompt(&self) -> &str {
        &self.prompt
    }

    fn images(&self) -> u32 {
        1
    }

    fn price(&self, behaviour: &Behaviour) -> i64 {
        match behaviour.fault {
            // A picture that is withheld is free; what was read and thought is not.
            Fault::SafetyOutput { .. } => self.price_without_picture(),
            _ => self.cost(self.model.thoughts + self.spoken(), self.drawn(behaviour)),
        }
    }

    fn price_without_picture(&self) -> i64 {
        self.cost(self.model.thoughts, 0)
    }

    fn price_when_refused(&self) -> i64 {
        self.cost(0, 0)
    }

    fn answer(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        if let Some(answer) = error(&behaviour.fault, self.model.id, self.method) {
            return answer;
        }
        let thoughts = self.model.thoughts;
        match &behaviour.fault {
            Fault::Safety { .. } => self.told(
                "gemini.blocked",
                "",
                &self.usage("usage.blocked", 0, 0, 0),
                id,
            ),
            Fault::SafetyOutput { category } => {
                let usage = self.usage("usage.undrawn", thoughts, 0, 0);
                self.told("gemini.withheld", category, &usage, id)
            }
            Fault::NoImage => {
                let usage = self.usage("usage.undrawn", thoughts, 0, 0);
                self.told("gemini.no_image", "", &usage, id)
            }
            _ => self.whole(behaviour, shared, id),
        }
    }
}

impl Ask {
    fn spoken(&self) -> u64 {
        if self.words { WORDS_TOKENS } else { 0 }
    }

    fn drawn(&self, behaviour: &Behaviour) -> u64 {
        self.image_tokens + behaviour.extra_tokens
    }

    /// Nano-dollars, at the tier's factor in tenths, half a nano-dollar rounded up.
    fn cost(&self, text_out: u64, image_out: u64) -> i64 {
        let (input, words, picture) = self.model.rates;
        let of = |count: u64, rate: i64| {
            i64::try_from(count)
                .unwrap_or(i64::MAX)
                .saturating_mul(rate)
        };
        let sum = of(self.text_in + self.image_in, input)
            .saturating_add(of(text_out, words))
            .saturating_add(of(image_out, picture));
        let tenths = match self.tier.as_str() {
            "flex" => 5,
            "priority" => 18,
            _ => 10,
        };
        sum.saturating_mul(tenths).saturating_add(5) / 10
    }

    fn usage(&self, name: &str, thoughts: u64, words: u64, image: u64) -> String {
        let details = |text: u64, image: u64| {
            let all = [("TEXT", text), ("IMAGE", image)];
            let some = all.iter().filter(|(_, count)| *count > 0);
            let entries: Vec<String> = some
                .map(|(modality, count)| {
                    format!("{{\"modality\":\"{modality}\",\"tokenCount\":{count}}}")
                })
                .collect();
            format!("[{}]", entries.join(","))
        };
        let (input, output) = (self.text_in + self.image_in, words + image);
        let [input, output, thoughts, total] =
            [input, output, thoughts, input + output + thoughts].map(|count| count.to_string());
        let (read, made) = (details(self.text_in, self.image_in), details(words, image));
        let fills = [
            ("input", Fill::Json(&input)),
            ("output", Fill::Json(&output)),
            ("thoughts", Fill::Json(&thoughts)),
            ("total", Fill::Json(&total)),
            ("input_details", Fill::Json(&read)),
            ("output_details", Fill::Json(&made)),
        ];
        GOOGLE.fill(name, &fills).body
    }

    /// An answer without a picture.
    fn told(&self, name: &str, category: &str, usage: &str, id: &str) -> Answer {
        let fills = [
            ("category", Fill::Text(category)),
            ("usage", Fill::Json(usage)),
            ("model", Fill::Text(self.model.id)),
            ("id", Fill::Text(id)),
        ];
        if self.stream == Some(true) {
            return Answer::events(vec![(None, GOOGLE.fill(name, &fills).body)]);
        }
        message(name, &fills)
    }

    fn whole(&self, behaviour: &Behaviour, shared: &Shared, id: &str) -> Answer {
        let thoughts = self.model.thoughts;
        let usage = self.usage("usage", thoughts, self.spoken(), self.drawn(behaviour));
        let words = GOOGLE
            .fill("part.text", &[("text", Fill::Text(WORDS))])
            .body;
        let kind = format!("image/{}", self.format.word());
        let drawn = picture(
            self.pixels,
            self.format,
            &self.body,
            self.seed,
            shared.next(),
        );
        let b64 =
            base64::engine::general_purpose::STANDARD.encode(drawn.paint(shared.options.pad_to));
        let fills = [("mime", Fill::Text(&kind)), ("b64", Fill::Text(&b64))];
        let image = GOOGLE.fill("part.image", &fills).body;
        let fill = |name: &str, parts: &[&str], usage: &str| {
            let parts = format!("[{}]", parts.join(","));
            let fills = [
                ("parts", Fill::Json(&parts)),
                ("usage", Fill::Json(usage)),
                ("model", Fill::Text(self.model.id)),
                ("id", Fill::Text(id)),
            ];
            GOOGLE.fill(name, &fills)
        };
        if self.stream.is_none() {
            let parts: &[&str] = if self.words {
                &[&words, &image]
            } else {
                &[&image]
            };
            return Answer::of(fill("gemini.ok", parts, &usage));
        }
        let mut chunks = Vec::new();
        if self.words {
            let so_far = self.usage("usage", thoughts, self.spoken(), 0);
            chunks.push(fill("gemini.chunk", &[&words], &so_far).body);
        }
        if behaviour.fault == Fault::StreamError {
            chunks.push(GOOGLE.fill("error.server", &[]).body);
        } else {
            chunks.push(fill("gemini.chunk", &[&image], &usage).body);
            chunks.push(fill("gemini.ok", &[r#"{"text":""}"#], &usage).body);
        }
        if self.stream == Some(true) {
            return Answer::events(chunks.into_iter().map(|chunk| (None, chunk)).collect());
        }
        let list = format!("[{}]", chunks.join(",\r\n"));
        Answer::new(
            http::StatusCode::OK,
            "application/json; charset=UTF-8",
            list,
        )
    }
}
