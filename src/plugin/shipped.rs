//! The plugins in the binary, by their bare names.

pub(super) const ALL: &[(&str, &str)] = &[
    (
        "cap_resolution",
        include_str!("../../plugins/cap_resolution.lua"),
    ),
    (
        "icons_to_cheap",
        include_str!("../../plugins/icons_to_cheap.lua"),
    ),
    ("retry_chain", include_str!("../../plugins/retry_chain.lua")),
];

/// The text of a shipped plugin.
pub(super) fn source(name: &str) -> Option<&'static str> {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, source)| *source)
}
