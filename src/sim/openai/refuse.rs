//! How OpenAI words its refusals.

use serde_json::Value;

use crate::sim::template::{Fill, Filled, OPENAI};

/// The refusal, filled.
pub(super) type Refusal = Box<Filled>;

fn refusal(message: &str, param: Fill<'_>, code: Fill<'_>) -> Refusal {
    let fills = [
        ("message", Fill::Text(message)),
        ("param", param),
        ("code", code),
    ];
    Box::new(OPENAI.fill("error.invalid", &fills))
}

pub(super) fn invalid(param: &str, code: &str, message: &str) -> Refusal {
    refusal(message, Fill::Text(param), Fill::Text(code))
}

pub(super) fn plain(message: &str) -> Refusal {
    refusal(message, Fill::Json("null"), Fill::Json("null"))
}

pub(super) fn not_json() -> Refusal {
    plain(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
    )
}

pub(super) fn missing(param: &str) -> Refusal {
    let message = format!("Missing required parameter: '{param}'.");
    invalid(param, "missing_required_parameter", &message)
}

pub(super) fn wrong_type(param: &str, expected: &str, got: &Value) -> Refusal {
    let got = match got {
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
        Value::Null => "null",
    };
    let message =
        format!("Invalid type for '{param}': expected {expected}, but got {got} instead.");
    invalid(param, "invalid_type", &message)
}

pub(super) fn unsupported(param: &str, got: &str, known: &[&str]) -> Refusal {
    let quoted: Vec<String> = known.iter().map(|word| format!("'{word}'")).collect();
    let list = match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{}, and {last}", rest.join(", ")),
        _ => quoted.join(""),
    };
    let message = format!("Invalid value: '{got}'. Supported values are: {list}.");
    invalid(param, "invalid_value", &message)
}
