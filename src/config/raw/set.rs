//! `--set KEY=VALUE`: lays one value over the file's tree.

use super::tree::{Entry, Node, Origin, Value, parse};
use crate::config::problem::{Place, Problem};

/// Puts `value`, read as YAML, where `key` points: `cache.ttl`, `budgets.0.limit`.
///
/// What stood there is replaced as a whole; maps on the way are made where there are none.
pub(in crate::config) fn set(root: &mut Node, key: &str, value: &str, problems: &mut Vec<Problem>) {
    let origin = Origin::Flag(format!("--set {key}").into());
    let Some(node) = parse(value, &origin, problems) else {
        return;
    };
    let place = Place {
        position: None,
        file: format!("--set {key}").into(),
    };
    if key.split('.').any(str::is_empty) {
        problems.push(
            Problem::at(&place, "unknown_key", format!("`{key}` is no key"))
                .remedy("write it like --set cache.ttl=10m"),
        );
        return;
    }
    let mut at = root;
    for part in key.split('.') {
        let Some(next) = step(at, part, &place, problems) else {
            return;
        };
        at = next;
    }
    *at = node;
}

/// The value under `part`, an item of a list or an entry of a map.
fn step<'a>(
    at: &'a mut Node,
    part: &str,
    place: &Place,
    problems: &mut Vec<Problem>,
) -> Option<&'a mut Node> {
    if !matches!(at.value, Value::Map(_) | Value::List(_)) {
        at.value = Value::Map(Vec::new());
        at.place = place.clone();
    }
    match &mut at.value {
        Value::Map(entries) => Some(entry(entries, part, place)),
        Value::List(items) => {
            let count = items.len();
            let item = part.parse().ok().and_then(|i: usize| items.get_mut(i));
            if item.is_none() {
                let message = format!("`{part}` picks none of the list's {count} items");
                problems.push(
                    Problem::at(place, "unknown_key", message)
                        .remedy("count from 0, or give the whole list: KEY=[…]"),
                );
            }
            item
        }
        Value::Null | Value::Scalar(_) | Value::Broken => None,
    }
}

/// The value under `key`, made where there is none.
fn entry<'a>(entries: &'a mut Vec<Entry>, key: &str, place: &Place) -> &'a mut Node {
    let found = entries.iter().position(|entry| entry.key == key);
    let index = found.unwrap_or(entries.len());
    if found.is_none() {
        entries.push(Entry {
            key: key.to_owned(),
            place: place.clone(),
            node: Node {
                place: place.clone(),
                value: Value::Null,
            },
        });
    }
    &mut entries[index].node
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(file: &str, key: &str, value: &str) -> Result<serde_json::Value, String> {
        let mut problems = Vec::new();
        let mut root = parse(file, &Origin::File("f".into()), &mut problems).unwrap();
        set(&mut root, key, value, &mut problems);
        match problems.first() {
            None => Ok(root.to_json()),
            Some(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn a_value_is_laid_over_the_file() {
        use serde_json::json;
        for (file, key, value, want) in [
            ("", "cache.ttl", "10m", json!({"cache": {"ttl": "10m"}})),
            (
                "a: {b: 1, c: 2}",
                "a.b",
                "3",
                json!({"a": {"b": 3, "c": 2}}),
            ),
            ("a: {b: 1}", "a", "[x.lua]", json!({"a": ["x.lua"]})),
            ("a: 1", "a.b", "2", json!({"a": {"b": 2}})),
            (
                "a: [{b: 1}, {b: 2}]",
                "a.1.b",
                "3",
                json!({"a": [{"b": 1}, {"b": 3}]}),
            ),
            ("a: 1", "a", "", json!({"a": null})),
        ] {
            assert_eq!(check(file, key, value), Ok(want), "{key}={value}");
        }
    }

    #[test]
    fn a_mistake_names_the_option() {
        for (file, key, value, want) in [
            (
                "",
                "cache..ttl",
                "1m",
                "--set cache..ttl: `cache..ttl` is no key",
            ),
            ("", "", "1m", "--set : `` is no key"),
            (
                "a: [1]",
                "a.7",
                "1",
                "--set a.7: `7` picks none of the list's 1 items",
            ),
            ("", "a", "[1", "--set a: this is not valid YAML"),
        ] {
            let error = check(file, key, value).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
