//! How one stands with each provider: what of the configuration its prices depend on, and how much
//! was bought in the month.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::config::{self, Named, Problem, Settings};
use crate::ledger::{Filter, Ledger};
use crate::pipeline::Pipeline;
use crate::price::{Book, Standing, Standings, Used};

/// The standing of every provider that the configuration says something of.
pub fn standings(settings: &Settings) -> Arc<Standings> {
    let standing = |provider: &crate::config::Provider| Standing {
        region: provider.region.as_ref().map(|named| named.name.clone()),
        licence: provider.licence.as_ref().map(|named| named.name.clone()),
        used: provider.volume.as_ref().map(|volume| {
            let used = Used::default();
            used.set(volume.besides);
            used
        }),
    };
    let all = settings.providers.iter();
    let all = all.map(|provider| (provider.name.clone(), standing(provider)));
    Arc::new(
        all.filter(|(_, standing)| *standing != Standing::default())
            .collect(),
    )
}

/// The same for a command that only asks: what was bought this month is looked up where a ledger is.
/// What cannot be looked up is told in words, and a price that depends on it is a range.
pub async fn looked_up(settings: &Settings) -> (Arc<Standings>, Vec<String>) {
    let all = Arc::unwrap_or_clone(standings(settings));
    let (mut counted, mut untold) = (all.clone(), Vec::new());
    for (name, standing) in &all {
        let Some(used) = &standing.used else { continue };
        let looked = match &settings.ledger {
            config::Ledger::Sqlite(path) => Ledger::look_by_model(path, &this_month(name)).await,
            config::Ledger::Postgres(_) => continue,
        };
        match looked {
            Ok(spends) => {
                let spends = spends.unwrap_or_default();
                used.add(spends.iter().map(|spend| spend.images).sum());
            }
            Err(error) => {
                untold.push(format!(
                    "how many pictures were bought from {name} this month is not known: {error}"
                ));
                if let Some(standing) = counted.get_mut(name) {
                    standing.used = None;
                }
            }
        }
    }
    (Arc::new(counted), untold)
}

/// The same where nobody counts.
pub fn uncounted(settings: &Settings) -> Arc<Standings> {
    let mut all = Arc::unwrap_or_clone(standings(settings));
    all.values_mut().for_each(|standing| standing.used = None);
    Arc::new(all)
}

/// What the configuration names and no price of the provider knows: it would change nothing, and
/// whoever wrote it believes that it does.
pub(super) fn unknown(settings: &Settings, book: &Book) -> Vec<Problem> {
    let mut problems = Vec::new();
    for provider in settings.providers.iter() {
        let name = provider.name.as_str();
        let mut check = |what: &str, named: &Option<Named>, known: BTreeSet<&str>| {
            let Some(named) = named else { return };
            if !known.contains(named.name.as_str()) {
                let message = format!("no price of `{name}` knows the {what} `{}`", named.name);
                let known: Vec<&str> = known.into_iter().collect();
                let remedy = match known.is_empty() {
                    true => format!(
                        "take it out, or say what it costs in a price book of yours (`{what}s` in a `price`)"
                    ),
                    false => format!("use one of {}", known.join(", ")),
                };
                problems.push(Problem::at(&named.place, "unknown_name", message).remedy(remedy));
            }
        };
        check("region", &provider.region, book.regions(name));
        check("licence", &provider.licence, book.licences(name));
        if let Some(volume) = &provider.volume
            && !book.counts_volume(name)
        {
            let message = format!("no price of `{name}` depends on how much was bought");
            let remedy = "take `volume` out, or write the steps in a price book of yours (`volume` or `free_images` in a `price`)";
            problems.push(Problem::at(&volume.place, "unknown_name", message).remedy(remedy));
        }
    }
    problems
}

/// Counts the month's pictures anew, where prices depend on them: as the ledger has them, those of
/// other processes included. A count that cannot be read stays as it is.
pub(super) async fn count(settings: &Settings, pipeline: &Pipeline) {
    let standings = Arc::clone(pipeline.book.standings());
    for (name, standing) in standings.iter() {
        let volume = settings.providers.get(name).and_then(|p| p.volume.as_ref());
        let (Some(used), Some(volume)) = (&standing.used, volume) else {
            continue;
        };
        match pipeline.ledger.spent_by_model(&this_month(name)).await {
            Ok(spends) => {
                let images: u64 = spends.iter().map(|spend| spend.images).sum();
                used.set(volume.besides + images);
            }
            Err(error) => tracing::error!(%error, "the pictures of {name} were not counted"),
        }
    }
}

/// What was bought from a provider since the month began.
fn this_month(provider: &str) -> Filter {
    Filter {
        since: Some(month_of(Timestamp::now())),
        provider: Some(provider.into()),
        ..Filter::default()
    }
}

/// The moment at which the month began, UTC.
fn month_of(at: Timestamp) -> Timestamp {
    let day = at.to_zoned(TimeZone::UTC).first_of_month();
    let midnight = day.and_then(|day| day.start_of_day());
    midnight.map_or(at, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_at_its_first_midnight() {
        let check = |at: &str, expected: &str| {
            let at: Timestamp = at.parse().unwrap();
            assert_eq!(month_of(at).to_string(), expected);
        };
        check("2026-11-22T23:10:05Z", "2026-11-01T00:00:00Z");
        check("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z");
    }
}
