//! Prices and plugins as they are configured, read and checked before anything is started.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use super::hook_prices::BookPrices;
use super::{StartError, accounts, prices, wrong};
use crate::action::Class;
use crate::budget::Budget;
use crate::config::{self, Problem, Settings};
use crate::current::Current;
use crate::image::ModelId;
use crate::plugin::{self, Plugins};
use crate::price::{Book, PriceProblem};

/// Prices and plugins, read and checked: what `check` does without starting anything.
///
/// # Errors
/// Every mistake in any of them.
pub fn prepare(settings: &Settings) -> Result<(Arc<Current<Book>>, Plugins), StartError> {
    let book = book(settings)?;
    let book = Arc::new(book.for_whom(&accounts::standings(settings), &prices::today()));
    let mut problems = not_yet(settings);
    problems.extend(unknown_models(settings, &book));
    problems.extend(unknown_deployments(settings, &book));
    problems.extend(accounts::unknown(settings, &book));
    let entries = entries(settings);
    let book = Arc::new(Current::new(book));
    let prices = Arc::new(BookPrices::new(Arc::clone(&book), settings));
    match Plugins::load(&entries, prices, &classes(settings)) {
        Ok(plugins) => {
            problems.extend(nobody_to_ask(settings, &plugins));
            match problems.is_empty() {
                true => Ok((book, plugins)),
                false => Err(StartError(problems)),
            }
        }
        Err(found) => {
            problems.extend(found.into_iter().map(plugin_problem));
            Err(StartError(problems))
        }
    }
}

/// The price files that are laid over the shipped book, as names and texts: what `prices update`
/// fetched, then what the configuration names.
///
/// # Errors
/// When one of them cannot be read.
pub fn price_files(settings: &Settings) -> Result<Vec<(String, String)>, StartError> {
    let updated = settings.updated_prices();
    let updated = updated.exists().then_some(&updated);
    let mut texts = Vec::new();
    for path in updated.into_iter().chain(&settings.prices) {
        let text = fs::read_to_string(path).map_err(|error| {
            wrong(
                "prices",
                format!("{}: {error}: name a readable price book", path.display()),
            )
        })?;
        texts.push((path.display().to_string(), text));
    }
    Ok(texts)
}

/// The price book as it is configured.
///
/// # Errors
/// Every mistake in its files.
pub fn book(settings: &Settings) -> Result<Arc<Book>, StartError> {
    let texts = price_files(settings)?;
    if texts.is_empty() {
        return Ok(Arc::clone(Book::embedded()));
    }
    let files: Vec<(&str, &str)> = texts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Book::with(&files)
        .map(Arc::new)
        .map_err(|found| StartError(found.into_iter().map(price_problem).collect()))
}

/// Whether a call can be sent to a model by this version, once there is a key for it.
pub fn speaks_to(settings: &Settings, model: &crate::image::ModelId) -> bool {
    let provider = settings.provider(model.provider());
    let dialects = provider.into_iter().flat_map(|provider| &provider.dialects);
    let mut dialects = dialects.filter_map(|name| crate::dialect::by_name(name));
    dialects.any(|dialect| dialect.serves(model))
}

/// The price book as hooks and rule tests ask it.
///
/// # Errors
/// Every mistake in its files.
pub fn hook_prices(settings: &Settings) -> Result<Arc<dyn plugin::Prices>, StartError> {
    let book = book(settings)?.on(&prices::today());
    let book = Arc::new(Current::new(Arc::new(book)));
    Ok(Arc::new(BookPrices::new(book, settings)))
}

/// A mistake in a plugin as commands tell it.
pub fn plugin_problem(found: plugin::LoadProblem) -> Problem {
    Problem {
        file: Some(found.file),
        line: found.line,
        column: found.column,
        code: "plugin",
        message: found.message,
        remedy: Some(found.remedy).filter(|remedy| !remedy.is_empty()),
    }
}

/// A mistake in a price file as commands tell it.
pub fn price_problem(found: PriceProblem) -> Problem {
    Problem {
        file: Some(found.file),
        line: u32::try_from(found.line).ok(),
        column: u32::try_from(found.column).ok(),
        code: "prices",
        message: found.message,
        remedy: Some(found.remedy),
    }
}

/// What is configured and cannot be done yet: a budget that guards nothing is worse than none.
pub(super) fn not_yet(settings: &Settings) -> Vec<Problem> {
    let asked = [
        ("cache.disk", settings.cache.disk.is_some()),
        ("cache.shared", settings.cache.shared.is_some()),
    ];
    asked
        .into_iter()
        .filter(|(_, asked)| *asked)
        .map(|(key, _)| {
            Problem::anywhere(
                "not_yet",
                format!("`{key}` is not available in this version"),
            )
            .remedy("take it out of the configuration")
        })
        .collect()
}

/// Budgets that ask plugins, and none of them would answer.
pub(super) fn nobody_to_ask(settings: &Settings, plugins: &Plugins) -> Vec<Problem> {
    if plugins.is_empty() || plugins.iter().any(plugin::Plugin::has_on_budget) {
        return Vec::new(); // without any plugin the configuration itself warns
    }
    let asks = |budget: &&Budget| budget.over == config::Over::Plugin;
    let asking = settings.budgets.iter().filter(asks);
    asking
        .map(|budget| {
            let message = format!(
                "the budget `{}` asks plugins when it is spent, and none of them has `on_budget`",
                budget.name
            );
            settings
                .budget_places
                .problem(&budget.name, "no_plugin", message)
                .remedy("add a plugin with `on_budget`, such as budget_downgrade, or say `over: refuse`")
        })
        .collect()
}

/// Models of classes that the book does not know: a class must know what its members cost.
pub(super) fn unknown_models(settings: &Settings, book: &Book) -> Vec<Problem> {
    settings
        .classes
        .iter()
        .flat_map(|(name, class)| class.models.iter().map(move |model| (name, model)))
        .filter(|(_, model)| book.model(model).is_none())
        .map(|(name, model)| {
            Problem::anywhere(
                "unknown_model",
                format!("class `{name}`: the price book does not know {model}"),
            )
            .remedy("correct the name, or add the model to a price book under `prices`")
        })
        .collect()
}

/// Deployments of models that the book does not know: whoever says what a deployment is wants it
/// priced.
pub(super) fn unknown_deployments(settings: &Settings, book: &Book) -> Vec<Problem> {
    let mut problems = Vec::new();
    for provider in settings.providers.iter() {
        for (deployment, model) in &provider.deployments {
            let id = ModelId::new(&provider.name, model);
            if book.model(&id).is_none() {
                let place = format!("providers.{}.deployments.{deployment}", provider.name);
                let message = format!("`{place}`: the price book does not know {id}");
                let remedy = "correct the model's name, or add it to a price book under `prices`";
                problems.push(Problem::anywhere("unknown_model", message).remedy(remedy));
            }
        }
    }
    problems
}

/// The configured plugins.
pub(super) fn entries(settings: &Settings) -> Vec<plugin::Entry> {
    let observed = settings.mode == config::Mode::Observe;
    let all = settings.plugins.iter();
    all.map(|one| plugin::Entry {
        aside: observed,
        ..entry(one)
    })
    .collect()
}

fn entry(entry: &config::PluginEntry) -> plugin::Entry {
    plugin::Entry {
        source: match &entry.source {
            config::PluginSource::File(path) => plugin::PluginSource::File(path.clone()),
            config::PluginSource::Shipped(name) => plugin::PluginSource::Shipped(name.clone()),
        },
        options: entry.with.clone().into(),
        on_error: match entry.on_error {
            config::OnError::Skip => plugin::OnError::Skip,
            config::OnError::Refuse => plugin::OnError::Refuse,
        },
        observe: entry.observe,
        aside: false,
        coverage: entry.coverage,
    }
}

/// The configured classes.
pub(super) fn classes(settings: &Settings) -> BTreeMap<String, Class> {
    let class = |class: &config::Class| Class {
        models: class.models.clone(),
        max_cost: class.max_cost,
    };
    let all = settings.classes.iter();
    all.map(|(name, found)| (name.clone(), class(found)))
        .collect()
}
