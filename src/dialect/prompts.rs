//! Weighted prompts: a list of texts, each with how much it counts; below zero it says what not
//! to draw.

use serde_json::{Number, Value, json};

/// One text. No weight counts as one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    text: String,
    weight: Option<Number>,
}

impl Prompt {
    fn is_negative(&self) -> bool {
        let weight = self.weight.as_ref().and_then(Number::as_f64);
        weight.is_some_and(|weight| weight < 0.0)
    }

    /// Whether it counts as much as a prompt without weights would.
    fn is_full(&self) -> bool {
        let weight = self.weight.as_ref().and_then(Number::as_f64);
        weight.is_none_or(|weight| weight.abs() == 1.0)
    }
}

/// Reads `[{"text": …, "weight": …}]`, or a form's `{"0": {"text": …}, …}`, in which weights are
/// text. `None` when it is neither, or says nothing to draw.
pub(super) fn read(value: &Value) -> Option<Vec<Prompt>> {
    let list: Vec<Prompt> = match value {
        Value::Array(items) => items.iter().map(prompt).collect::<Option<_>>()?,
        Value::Object(items) => {
            let mut numbered = items
                .iter()
                .map(|(at, item)| Some((at.parse::<usize>().ok()?, prompt(item)?)))
                .collect::<Option<Vec<_>>>()?;
            numbered.sort_by_key(|(at, _)| *at);
            numbered.into_iter().map(|(_, prompt)| prompt).collect()
        }
        _ => return None,
    };
    list.iter()
        .any(|prompt| !prompt.is_negative())
        .then_some(list)
}

fn prompt(value: &Value) -> Option<Prompt> {
    let weight = match value.get("weight") {
        None | Some(Value::Null) => None,
        Some(Value::Number(weight)) => Some(weight.clone()),
        Some(Value::String(text)) => Some(number(text)?),
        Some(_) => return None,
    };
    Some(Prompt {
        text: value.get("text")?.as_str()?.to_owned(),
        weight,
    })
}

/// `.5` and `1.` count, which JSON does not allow.
fn number(text: &str) -> Option<Number> {
    let text = text.trim();
    serde_json::from_str(text)
        .ok()
        .or_else(|| Number::from_f64(text.parse().ok()?))
}

/// What to draw and what not, each as one text.
pub(super) fn joined(list: &[Prompt]) -> (String, Option<String>) {
    let texts = |negative: bool| {
        let some = list
            .iter()
            .filter(|prompt| prompt.is_negative() == negative);
        some.map(|prompt| prompt.text.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    let negative = list.iter().any(Prompt::is_negative);
    (texts(false), negative.then(|| texts(true)))
}

/// Whether the two texts of [`joined`] say all there is.
pub(super) fn is_plain(list: &[Prompt]) -> bool {
    let negatives = list.iter().filter(|prompt| prompt.is_negative()).count();
    list.iter().all(Prompt::is_full) && negatives < 2 && list.len() - negatives == 1
}

/// The list that says no more than two texts.
pub(super) fn plain(prompt: &str, negative: Option<&str>) -> Vec<Prompt> {
    let weighed = |text: &str, weight: i32| Prompt {
        text: text.to_owned(),
        weight: Some(weight.into()),
    };
    let mut list = vec![weighed(prompt, 1)];
    list.extend(negative.map(|text| weighed(text, -1)));
    list
}

/// The list as JSON.
pub(super) fn write(list: &[Prompt]) -> Value {
    list.iter()
        .map(|prompt| match &prompt.weight {
            Some(weight) => json!({"text": prompt.text, "weight": weight}),
            None => json!({"text": prompt.text}),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_from_json_and_from_a_form_and_joined_by_its_signs() {
        let check = |spelt: Value, prompt: &str, negative: Option<&str>, plain: bool| {
            let list = read(&spelt).unwrap();
            assert_eq!(
                joined(&list),
                (prompt.to_owned(), negative.map(str::to_owned))
            );
            assert_eq!(is_plain(&list), plain, "{spelt}");
            assert_eq!(read(&write(&list)), Some(list), "{spelt}");
        };
        check(json!([{"text": "a cat"}]), "a cat", None, true);
        check(
            json!([{"text": "fog", "weight": -1}, {"text": "a cat", "weight": 1.0}]),
            "a cat",
            Some("fog"),
            true,
        );
        check(
            json!({"1": {"text": "fog", "weight": "-.5"}, "0": {"text": "a cat"}}),
            "a cat",
            Some("fog"),
            false,
        );
        check(
            json!([{"text": "a cat", "weight": 0.7}, {"text": "a dog", "weight": 0.3}]),
            "a cat, a dog",
            None,
            false,
        );
    }

    #[test]
    fn what_says_nothing_to_draw_is_no_prompt() {
        for spelt in [
            json!([]),
            json!("a cat"),
            json!([{"text": "fog", "weight": -1}]),
            json!([{"weight": 1}]),
            json!([{"text": "a cat", "weight": "heavy"}]),
            json!({"first": {"text": "a cat"}}),
        ] {
            assert_eq!(read(&spelt), None, "{spelt}");
        }
    }
}
