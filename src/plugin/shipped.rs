//! The plugins in the binary, by their bare names.

macro_rules! shipped {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../plugins/", $name, ".lua")))),*]
    };
}

pub(super) const ALL: &[(&str, &str)] = shipped![
    "alert_on_waste",
    "budget_downgrade",
    "canary",
    "cap_quality",
    "cap_resolution",
    "cheapest_in_class",
    "fresh_images",
    "icons_to_cheap",
    "off_peak_batch",
    "retired_models",
    "retry_chain",
    "safety_fallback",
    "tag_by_prompt",
    "tier_by_deadline",
];

/// The text of a shipped plugin.
pub(super) fn source(name: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, source)| *source)
}
