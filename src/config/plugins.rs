//! Which plugins run, in what order, with which options.

use std::path::PathBuf;

use super::problem::Place;
use super::raw::{Field, RawPlugin, Value};
use super::read::{Reader, readable};
use crate::image::words;

words! {
    /// What becomes of a call when a hook fails.
    OnError {
        /// It goes on as though the plugin had said nothing.
        Skip = "skip",
        Refuse = "refuse",
    }
}
readable!(OnError);

/// Where a plugin's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PluginSource {
    File(PathBuf),
    /// One that the binary brings, by its bare name.
    Shipped(String),
}

/// An entry of `plugins`.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginEntry {
    pub source: PluginSource,
    /// Values for the plugin's `options`; the plugin checks them.
    pub with: serde_json::Map<String, serde_json::Value>,
    pub on_error: OnError,
    /// Decide and log what would be done, and do nothing.
    pub observe: bool,
    /// For rule tests: it is noted which of its lines run.
    pub coverage: bool,
    /// Where the configuration says so, for what the plugin itself finds wrong.
    pub place: Option<Place>,
}

impl PluginEntry {
    /// A plugin by name or path, as `--plugin` has it: a bare word is a shipped one.
    pub fn named(text: &str) -> PluginEntry {
        PluginEntry {
            source: match is_bare(text) {
                true => PluginSource::Shipped(text.to_owned()),
                false => PluginSource::File(text.into()),
            },
            with: serde_json::Map::new(),
            on_error: OnError::Skip,
            observe: false,
            coverage: false,
            place: None,
        }
    }
}

/// Whether it is a name and not a path.
fn is_bare(text: &str) -> bool {
    !text.contains(['/', '\\', '.'])
}

const EXAMPLE: &str = "[rules/icons.lua, {use: retry_chain, on_error: refuse}]";

/// Reads `plugins`.
pub(super) fn plugins(field: &Field<'_>, reader: &mut Reader<'_>) -> Vec<PluginEntry> {
    let items = reader.items(field, EXAMPLE);
    items
        .iter()
        .filter_map(|item| entry(item, reader))
        .collect()
}

fn entry(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<PluginEntry> {
    if !matches!(field.node.value, Value::Map(_)) {
        return source(field, reader);
    }
    let raw = RawPlugin::read(field, &mut reader.problems);
    let Some(named) = &raw.plugin else {
        reader.missing(
            field,
            "use",
            "name the plugin, as in `use: rules/icons.lua`",
        );
        return None;
    };
    let mut entry = source(named, reader)?;
    if let Some(field) = &raw.with {
        entry.with = options(field, reader);
    }
    if let Some(field) = &raw.on_error {
        entry.on_error = reader.word(field).unwrap_or(OnError::Skip);
    }
    if let Some(field) = &raw.observe {
        entry.observe = reader.truth(field).unwrap_or(false);
    }
    Some(entry)
}

fn source(field: &Field<'_>, reader: &mut Reader<'_>) -> Option<PluginEntry> {
    let written = reader.text(field, "rules/icons.lua")?;
    let mut entry = PluginEntry::named(&written);
    if !is_bare(&written) {
        entry.source = PluginSource::File(reader.file(field, "rules/icons.lua")?);
    }
    entry.place = Some(field.place().clone());
    Some(entry)
}

fn options(
    field: &Field<'_>,
    reader: &mut Reader<'_>,
) -> serde_json::Map<String, serde_json::Value> {
    let entries = field.entries(&mut reader.problems);
    entries
        .into_iter()
        .map(|(key, field)| (key.to_owned(), field.node.to_json()))
        .collect()
}
