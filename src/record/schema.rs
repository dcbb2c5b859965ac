//! What a line of the log is, as JSON Schema, and the check of a line against it.
//!
//! The schema is the published description (`pixtoll tail --schema`); the check knows exactly the
//! keywords that the schema uses, and counts any other as a fault, so the two cannot drift apart.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// JSON Schema, draft 2020-12.
pub const SCHEMA: &str = include_str!("schema.json");

static PARSED: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(SCHEMA).expect("schema.json is JSON"));

/// Everything that is wrong with a line, each with the path where it stands; empty when nothing is.
pub fn faults(line: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(&PARSED, line, "", &mut found);
    found
}

/// Whether lines of some type have a field at this dotted path. Numbers in it are places in lists.
pub fn knows(path: &str) -> bool {
    let branches = PARSED["oneOf"].as_array().map_or(&[][..], Vec::as_slice);
    branches.iter().any(|branch| {
        path.split('.')
            .try_fold(branch, |at, key| step(resolve(at), key))
            .is_some()
    })
}

/// One key deeper. A list may be entered with or without a place in it.
fn step<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
        return options.iter().find_map(|option| step(resolve(option), key));
    }
    if let Some(items) = schema.get("items") {
        let items = resolve(items);
        return if key.parse::<usize>().is_ok() {
            Some(items)
        } else {
            step(items, key)
        };
    }
    schema
        .get("properties")
        .and_then(|properties| properties.get(key))
        .or_else(|| {
            schema
                .get("additionalProperties")
                .filter(|rest| rest.is_object())
        })
}

fn resolve(schema: &Value) -> &Value {
    let Some(target) = schema.get("$ref").and_then(Value::as_str) else {
        return schema;
    };
    PARSED
        .pointer(target.trim_start_matches('#'))
        .map_or(&Value::Null, resolve)
}

fn check(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        found.push(format!("{at}: the schema refers to nothing"));
        return;
    };
    for (keyword, rule) in keywords {
        if let Some(fault) = match keyword.as_str() {
            "$schema" | "$id" | "$defs" | "title" | "description" | "format" => None,
            "$ref" => {
                check(resolve(schema), value, at, found);
                None
            }
            "type" => (!has_type(rule, value)).then(|| format!("is not {rule}")),
            "const" => (rule != value).then(|| format!("is not {rule}")),
            "enum" => (!has(rule, value)).then(|| format!("is none of {rule}")),
            "minimum" => below(rule, value).then(|| format!("is below {rule}")),
            "pattern" => misfits(rule, value).then(|| format!("does not match {rule}")),
            "anyOf" | "oneOf" => one_of(rule, value, keyword == "oneOf"),
            "required" => missing(rule, value),
            "properties" => {
                within(rule, value, at, found);
                None
            }
            "additionalProperties" => {
                beyond(keywords, rule, value, at, found);
                None
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(rule, item, &format!("{at}/{i}"), found);
                }
                None
            }
            other => Some(format!("the schema's keyword `{other}` is not checked")),
        } {
            let shown: String = value.to_string().chars().take(60).collect();
            found.push(format!("{at}: {fault}: {shown}"));
        }
    }
}

fn has_type(rule: &Value, value: &Value) -> bool {
    let one = |name: &Value| match name.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => false,
    };
    match rule {
        Value::Array(names) => names.iter().any(one),
        name => one(name),
    }
}

fn has(list: &Value, value: &Value) -> bool {
    list.as_array().is_some_and(|words| words.contains(value))
}

fn below(least: &Value, value: &Value) -> bool {
    matches!((least.as_f64(), value.as_f64()), (Some(least), Some(value)) if value < least)
}

/// Patterns of the schema have one form: `^[class]{count}$`.
fn misfits(pattern: &Value, value: &Value) -> bool {
    let (Some(pattern), Some(text)) = (pattern.as_str(), value.as_str()) else {
        return false;
    };
    let parts = pattern
        .strip_prefix("^[")
        .and_then(|rest| rest.strip_suffix("}$"))
        .and_then(|rest| rest.split_once("]{"))
        .and_then(|(class, count)| Some((class, count.parse::<usize>().ok()?)));
    let Some((class, count)) = parts else {
        return true;
    };
    text.len() != count || !text.bytes().all(|byte| in_class(class.as_bytes(), byte))
}

fn in_class(class: &[u8], byte: u8) -> bool {
    match class {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || in_class(rest, byte),
        [only, rest @ ..] => *only == byte || in_class(rest, byte),
        [] => false,
    }
}

fn one_of(options: &Value, value: &Value, exactly: bool) -> Option<String> {
    let options = options.as_array()?;
    let mut nearest: Option<Vec<String>> = None;
    let mut fits = 0;
    for option in options {
        let mut faults = Vec::new();
        check(option, value, "", &mut faults);
        if faults.is_empty() {
            fits += 1;
        } else if nearest
            .as_ref()
            .is_none_or(|best| faults.len() < best.len())
        {
            nearest = Some(faults);
        }
    }
    match fits {
        0 => Some(format!("fits nothing; nearest: {}", nearest?.join("; "))),
        1 => None,
        _ => exactly.then(|| "fits more than one".to_owned()),
    }
}

fn missing(names: &Value, value: &Value) -> Option<String> {
    let object = value.as_object()?;
    let absent: Vec<&str> = names
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .filter(|name| !object.contains_key(*name))
        .collect();
    (!absent.is_empty()).then(|| format!("lacks {}", absent.join(", ")))
}

fn within(properties: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (name, rule) in properties.as_object().into_iter().flatten() {
        if let Some(inner) = value.get(name) {
            check(rule, inner, &format!("{at}/{name}"), found);
        }
    }
}

fn beyond(
    keywords: &Map<String, Value>,
    rule: &Value,
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) {
    let known = keywords.get("properties").and_then(Value::as_object);
    for (name, inner) in value.as_object().into_iter().flatten() {
        if !known.is_some_and(|known| known.contains_key(name)) && rule.is_object() {
            check(rule, inner, &format!("{at}/{name}"), found);
        }
    }
}
