//! Finds the model that somebody means, with or without its provider.

use std::collections::BTreeMap;

use super::book::Book;
use super::row::ModelRow;
use crate::image::ModelId;
use crate::near::nearest;

/// Whose model a bare name is that several providers have: an unprefixed base URL is OpenAI's
/// too, and the others sell the same model on.
const FIRST: &str = "openai";
/// How many models a message names at most.
const NAMED: usize = 6;

/// Why a text names no one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoModel {
    /// With the models that may be meant; empty where none is near.
    Unknown(Vec<ModelId>),
    /// Several providers have a model of this name.
    Ambiguous(Vec<ModelId>),
}

impl NoModel {
    /// What is wrong with `word`, and what to do about it.
    pub fn explain(&self, word: &str) -> (String, String) {
        match self {
            NoModel::Unknown(near) if near.is_empty() => (
                format!("the price book does not know a model `{word}`"),
                "see `pixtoll prices list`, or add its price to a book under `prices`".to_owned(),
            ),
            NoModel::Unknown(near) => (
                format!("the price book does not know a model `{word}`"),
                format!("did you mean {}?", list(near)),
            ),
            NoModel::Ambiguous(models) => (
                format!("several providers have a model `{word}`"),
                format!("name one with its provider: {}", list(models)),
            ),
        }
    }
}

fn list(models: &[ModelId]) -> String {
    let names: Vec<&str> = models.iter().take(NAMED).map(ModelId::as_str).collect();
    let more = if models.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

impl Book {
    /// The model that `word` means: `provider/model`, an alias, or a name without its provider.
    ///
    /// # Errors
    /// [`NoModel`] with the models that may be meant.
    pub fn find(&self, word: &str) -> Result<&ModelRow, NoModel> {
        if let Some(row) = ModelId::parse(word).and_then(|id| self.model(&id)) {
            return Ok(row);
        }
        let names = self.names();
        let same: BTreeMap<&ModelId, &ModelRow> = names
            .iter()
            .filter(|(name, _)| {
                name.as_str().eq_ignore_ascii_case(word) || name.model().eq_ignore_ascii_case(word)
            })
            .map(|(_, row)| (&row.id, *row))
            .collect();
        let first = same.values().find(|row| row.id.provider() == FIRST);
        match (same.len(), first) {
            (0, _) => Err(NoModel::Unknown(meant(word, &names))),
            (1, _) => same
                .into_values()
                .next()
                .ok_or(NoModel::Unknown(Vec::new())),
            (_, Some(row)) => Ok(row),
            _ => Err(NoModel::Ambiguous(same.into_keys().cloned().collect())),
        }
    }

    /// Every name with its row, aliases included, sorted.
    fn names(&self) -> BTreeMap<&ModelId, &ModelRow> {
        let models = self.models().map(|row| (&row.id, row));
        let aliases = self
            .aliases()
            .filter_map(|(alias, id)| Some((alias, self.model(id)?)));
        models.chain(aliases).collect()
    }
}

/// The model nearest to a misspelt one, else those that have the word in their name.
fn meant(word: &str, names: &BTreeMap<&ModelId, &ModelRow>) -> Vec<ModelId> {
    let whole = word.contains('/');
    fn of(name: &ModelId, whole: bool) -> &str {
        if whole { name.as_str() } else { name.model() }
    }
    let nearest = nearest(word, names.keys().map(|name| of(name, whole)));
    let near = names.keys().filter(|name| Some(of(name, whole)) == nearest);
    let mut found: Vec<ModelId> = near.map(|name| (*name).clone()).collect();
    found.sort_by_key(|id| id.provider() != FIRST);
    if !found.is_empty() {
        return found;
    }
    let word = word.to_ascii_lowercase();
    let holds = |id: &&ModelId| id.as_str().to_ascii_lowercase().contains(&word);
    let rows: BTreeMap<&ModelId, ()> = names.values().map(|row| (&row.id, ())).collect();
    rows.into_keys().filter(holds).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(word: &str) -> String {
        let book = Book::embedded();
        match book.find(word) {
            Ok(row) => row.id.to_string(),
            Err(why) => why.explain(word).1,
        }
    }

    #[test]
    fn a_model_is_found_by_every_name_it_has() {
        for (word, id) in [
            ("openai/dall-e-3", "openai/dall-e-3"),
            ("dall-e-3", "openai/dall-e-3"),
            ("DALL-E-3", "openai/dall-e-3"),
            ("sd3-medium", "stability/sd3.5-medium"),
            ("gpt-image-2-2026-04-21", "openai/gpt-image-2"),
        ] {
            assert_eq!(found(word), id, "{word}");
        }
    }

    #[test]
    fn what_is_not_there_names_what_may_be_meant() {
        assert!(found("dale-3").starts_with("did you mean openai/dall-e-3"));
        assert_eq!(
            found("stabilty/sd3.5-medium"),
            "did you mean stability/sd3.5-medium?"
        );
        assert!(found("and-relight").contains("stability/edit-replace-background-and-relight"));
        assert!(found("xyzzy-17").contains("pixtoll prices list"));
    }

    #[test]
    fn a_bare_name_of_several_is_openais_or_asked_about() {
        let row = |model: &str| {
            format!(
                "- model: {model}\n  capability: {{operations: [generate], sizes: [8x8], usual: 8x8}}\n  price: {{per_image: 1}}\n  source: here\n  as_of: 2026-11-22\n"
            )
        };
        let book = |models: &[&str]| {
            let rows: String = models.iter().map(|model| row(model)).collect();
            Book::load(&[("a.yaml", &format!("models:\n{rows}"))]).unwrap()
        };
        let relays = book(&["a/fox", "b/fox"]);
        let Err(NoModel::Ambiguous(models)) = relays.find("fox") else {
            panic!("two providers have it");
        };
        assert_eq!(models.len(), 2);
        let resold = book(&["a/fox", "openai/fox"]);
        assert_eq!(resold.find("fox").unwrap().id.as_str(), "openai/fox");
    }
}
