//! How strictly Gemini moderates: `safetySettings`, a threshold for each category of harm.
//!
//! An overall degree is what four equal thresholds say. Thresholds that differ, or that leave
//! categories out, are a matter between the app and this provider, and stay as they are.

use serde_json::{Value, json};

use super::Fields;
use crate::image::{ImageRequest, Safety};

pub(super) const SETTINGS: &str = "safetySettings";
/// The extra field that notes how the app spelt its degree.
pub(super) const SPELT: &str = "@safety";
/// The categories that the API lets be adjusted (ai.google.dev, safety settings).
const CATEGORIES: [&str; 4] = [
    "HARM_CATEGORY_HARASSMENT",
    "HARM_CATEGORY_HATE_SPEECH",
    "HARM_CATEGORY_SEXUALLY_EXPLICIT",
    "HARM_CATEGORY_DANGEROUS_CONTENT",
];

/// Takes the settings out of a request's fields, where they say one degree.
pub(super) fn read(request: &mut ImageRequest, fields: &mut Fields) {
    let Some(settings) = fields.take(SETTINGS) else {
        return;
    };
    match degree(&settings) {
        None => fields.keep(SETTINGS, settings),
        degree => {
            request.safety = degree;
            request.extra.insert(SPELT.to_owned(), settings);
        }
    }
}

/// The settings that say the request's degree, as the app spelt them where it did; `None` leaves
/// it to the model, whose own default is to block nothing in the newer families.
pub(super) fn write(request: &ImageRequest) -> Option<Value> {
    let spelt = request.extra.get(SPELT);
    if let Some(spelt) = spelt.filter(|spelt| degree(spelt) == request.safety) {
        return Some(spelt.clone());
    }
    let threshold = match request.safety? {
        Safety::Strict => "BLOCK_LOW_AND_ABOVE",
        Safety::Default => return None,
        Safety::Relaxed => "BLOCK_NONE",
    };
    let setting = |category| json!({"category": category, "threshold": threshold});
    Some(CATEGORIES.map(setting).to_vec().into())
}

/// What a list of settings says as a whole.
fn degree(settings: &Value) -> Option<Safety> {
    let settings = settings.as_array()?;
    let names = |category: &&str| {
        let mut named = settings.iter().map(|one| &one["category"]);
        named.any(|name| name == category)
    };
    if !CATEGORIES.iter().all(names) {
        return None;
    }
    let mut degrees = settings.iter().map(|one| {
        Some(match one["threshold"].as_str()? {
            "BLOCK_LOW_AND_ABOVE" => Safety::Strict,
            "BLOCK_MEDIUM_AND_ABOVE" => Safety::Default,
            "BLOCK_ONLY_HIGH" | "BLOCK_NONE" | "OFF" => Safety::Relaxed,
            _ => return None,
        })
    });
    let first = degrees.next()??;
    degrees.all(|degree| degree == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ModelId;

    fn settings(thresholds: [&str; 4]) -> Value {
        let pairs = CATEGORIES.iter().zip(thresholds);
        pairs
            .map(|(category, threshold)| json!({"category": category, "threshold": threshold}))
            .collect()
    }

    #[test]
    fn four_equal_thresholds_are_a_degree_and_others_are_not() {
        for (threshold, expected) in [
            ("BLOCK_LOW_AND_ABOVE", Some(Safety::Strict)),
            ("BLOCK_MEDIUM_AND_ABOVE", Some(Safety::Default)),
            ("BLOCK_ONLY_HIGH", Some(Safety::Relaxed)),
            ("OFF", Some(Safety::Relaxed)),
            ("BLOCK_SOME_DAY", None),
        ] {
            assert_eq!(degree(&settings([threshold; 4])), expected, "{threshold}");
        }
        let mixed = settings(["OFF", "OFF", "BLOCK_LOW_AND_ABOVE", "OFF"]);
        let partial = settings(["OFF"; 4]).as_array().unwrap()[..3].to_vec();
        for none in [mixed, partial.into(), json!([]), json!({}), json!([1, 2])] {
            assert_eq!(degree(&none), None, "{none}");
        }
    }

    #[test]
    fn the_apps_own_spelling_stays_until_a_rule_says_another_degree() {
        let mut request = ImageRequest::new(ModelId::new("google", "m"), "a boat");
        assert_eq!(write(&request), None);
        for (safety, threshold) in [
            (Safety::Strict, "BLOCK_LOW_AND_ABOVE"),
            (Safety::Relaxed, "BLOCK_NONE"),
        ] {
            request.safety = Some(safety);
            assert_eq!(write(&request), Some(settings([threshold; 4])));
        }
        request.safety = Some(Safety::Default);
        assert_eq!(write(&request), None);
        let off = settings(["OFF"; 4]);
        request.extra.insert(SPELT.to_owned(), off.clone());
        assert_eq!(write(&request), None);
        request.safety = Some(Safety::Relaxed);
        assert_eq!(write(&request), Some(off));
    }
}
