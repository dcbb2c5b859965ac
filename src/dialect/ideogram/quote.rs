//! The provider's own quote, which is free: what a request would cost, without drawing it.

use bytes::Bytes;
use http::header::HeaderValue;
use serde_json::Value;

use super::route::{self, Route};
use super::{DRY_RUN, fields, message};
use crate::bill::{Line, Quote};
use crate::image::ImageRequest;
use crate::money::Usd;
use crate::wire::{Message, ReplyHead};

/// Fields that a price may depend on. The prompt is none of them and stays at home: one word stands
/// for it.
const TELLING: [&str; 7] = [
    "num_images",
    "quality",
    "rendering_speed",
    "aspect_ratio",
    "resolution",
    "custom_width",
    "custom_height",
];
const ANY_PROMPT: &str = "anything";
/// Nano-dollars of a millionth of a dollar.
const MICRO: i64 = 1_000;

/// Only the newer routes quote; pictures are not uploaded to be told a price.
pub(super) fn question(request: &ImageRequest) -> Option<Message> {
    if !request.inputs.is_empty() {
        return None;
    }
    let path = route::quoted(request.model.model())?;
    let mut fields = fields::write_fields(request, &Route::of(&path)?);
    fields.retain(|name, _| TELLING.contains(&name.as_str()));
    fields.insert("prompt".to_owned(), ANY_PROMPT.into());
    let target = format!("{path}?{DRY_RUN}").parse().ok()?;
    let json = HeaderValue::from_static("application/json");
    Some(message(
        target,
        json,
        Value::Object(fields).to_string().into(),
    ))
}

/// An estimate may come out at anything up to its bound.
pub(super) fn read(head: &ReplyHead, body: &Bytes) -> Option<Quote> {
    let told: Value = serde_json::from_slice(body).ok()?;
    if !head.status.is_success() || told["object"] != "price_quote" {
        return None;
    }
    let money = |name: &str| {
        let micros = told[name].as_i64().filter(|micros| *micros >= 0)?;
        Some(Usd::from_nano(micros.checked_mul(MICRO)?))
    };
    let expected = money("usd_micros")?;
    let (low, high) = match told["qualifier"].as_str() {
        Some("exact") => (expected, expected),
        _ => (
            Usd::ZERO,
            money("upper_bound_usd_micros").unwrap_or(expected),
        ),
    };
    Some(Quote {
        low,
        expected,
        high: high.max(expected),
        lines: vec![Line {
            what: "quoted image",
            count: told["quantity"].as_u64().unwrap_or(1),
            amount: expected,
        }],
    })
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::image::{Aspect, ModelId, Quality, Size};

    fn told(body: &Value) -> Option<(String, String, String)> {
        let head = ReplyHead::new(StatusCode::OK, "application/json");
        let quote = read(&head, &body.to_string().into())?;
        Some((
            quote.low.to_string(),
            quote.expected.to_string(),
            quote.high.to_string(),
        ))
    }

    #[test]
    fn a_question_names_what_the_price_depends_on_and_nothing_else() {
        let mut request = ImageRequest::new(ModelId::new("ideogram", "ideogram-4-5"), "a secret");
        request.quality = Some(Quality::Medium);
        request.n = 2;
        request.seed = Some(7);
        request.size = Size::Aspect {
            aspect: Aspect { wide: 16, high: 9 },
            step: Some("2K".to_owned()),
        };
        request.extra.insert("async".to_owned(), true.into());
        let asked = question(&request).unwrap();
        assert_eq!(asked.target, "/v2/image/generate/ideogram-4-5?dry_run=true");
        let body: Value = serde_json::from_slice(&asked.body.to_bytes()).unwrap();
        assert_eq!(
            body,
            json!({"prompt": "anything", "quality": "medium", "num_images": 2,
                   "aspect_ratio": "16x9", "resolution": "2k"})
        );
    }

    #[test]
    fn an_exact_quote_has_no_range_and_an_estimate_has_its_bound() {
        let same = |text: &str| Some((text.to_owned(), text.to_owned(), text.to_owned()));
        let mut body = json!({"object": "price_quote", "quantity": 2, "usd_micros": 120_000,
                              "credit_millis": 12_000, "qualifier": "exact"});
        assert_eq!(told(&body), same("0.12"));
        body["qualifier"] = json!("estimate");
        body["upper_bound_usd_micros"] = json!(150_000);
        let range = ("0".to_owned(), "0.12".to_owned(), "0.15".to_owned());
        assert_eq!(told(&body), Some(range));
        body["usd_micros"] = json!(-1);
        assert_eq!(told(&body), None);
        assert_eq!(told(&json!({"error": "no"})), None);
    }
}
