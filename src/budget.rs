//! Budgets as knowledge: when a period begins, which of a budget's buckets a purchase falls into,
//! and what that bucket stands at. Who counts is the ledger; who decides is the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, Unit, ZonedRound};
use parking_lot::Mutex;

use crate::image::{ModelId, words};
use crate::money::Usd;

words! {
    /// After which time a budget begins anew.
    Per {
        Hour = "hour",
        Day = "day",
        Week = "week",
        Month = "month",
        /// Never.
        Total = "total",
    }
}

words! {
    /// What a budget can be split by or narrowed to.
    Dimension {
        App = "app",
        Tag = "tag",
        User = "user",
        Provider = "provider",
        Model = "model",
        Class = "class",
        Credential = "credential",
    }
}

words! {
    /// What happens when a call does not fit.
    Over {
        Refuse = "refuse",
        /// The call goes on, and somebody is told.
        Alert = "alert",
        /// A plugin's `on_budget` is asked; without an answer the call is refused.
        Plugin = "plugin",
    }
}

/// The bucket of what has no value in a budget's dimension: no tag, no user. It is a bucket like
/// the others, or whoever says nothing would spend without a limit.
const NOBODY: &str = "(none)";
/// The one bucket of a budget that is not split.
const ALL: &str = "all";
/// Shares of a limit at which somebody is told, in percent. At the last it is used up.
const MARKS: [u8; 4] = [50, 85, 95, 100];

/// A bound on spending.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub name: String,
    /// Zero forbids all that costs anything.
    pub limit: Usd,
    pub per: Per,
    /// Where its days begin: a name of the time zone database.
    pub zone: TimeZone,
    /// A limit of its own for each app, tag …; `None`: one for all.
    pub by: Option<Dimension>,
    /// Only calls that have one of the values in each dimension; empty: all calls.
    pub only: BTreeMap<&'static str, Vec<String>>,
    pub over: Over,
}

impl Budget {
    /// What its counters are found by: its name, and a digest of what decides where a purchase is
    /// counted. With another zone, say, it begins new counters; with another limit it does not.
    fn key(&self) -> Arc<str> {
        let shape = format!(
            "{} {:?} {:?} {:?}",
            self.per,
            self.zone.iana_name(),
            self.by,
            self.only
        );
        let digest = blake3::hash(shape.as_bytes()).to_hex();
        format!("{}#{}", self.name, &digest[..8]).into()
    }

    /// Whether a purchase that does not fit is not made.
    pub fn binds(&self) -> bool {
        self.over != Over::Alert
    }

    fn applies(&self, facts: &Facts<'_>) -> bool {
        self.only.iter().all(|(dimension, values)| {
            Dimension::parse(dimension).is_some_and(|dimension| {
                facts.any(dimension, |fact| values.iter().any(|v| v == fact))
            })
        })
    }

    /// The period's name, as it stands in the log.
    fn label(&self, since: Timestamp) -> String {
        let format = match self.per {
            Per::Hour => "%Y-%m-%dT%H",
            Per::Day => "%Y-%m-%d",
            Per::Week => "%G-W%V",
            Per::Month => "%Y-%m",
            Per::Total => return "total".to_owned(),
        };
        since
            .to_zoned(self.zone.clone())
            .strftime(format)
            .to_string()
    }
}

/// The time in which one limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub start: Timestamp,
    /// The next period's first moment; `None`: it never ends.
    pub end: Option<Timestamp>,
}

impl Period {
    const ALWAYS: Period = Period {
        start: Timestamp::UNIX_EPOCH,
        end: None,
    };

    fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && self.end.is_none_or(|end| at < end)
    }
}

/// The period of kind `per` that `at` lies in, by the clocks of `zone`.
fn period(per: Per, zone: &TimeZone, at: Timestamp) -> Result<Period, jiff::Error> {
    let now = at.to_zoned(zone.clone());
    let day = now.start_of_day()?;
    let (start, end) = match per {
        Per::Hour => {
            let whole = ZonedRound::new().smallest(Unit::Hour);
            let hour = now.round(whole.mode(jiff::RoundMode::Trunc))?;
            (hour.clone(), hour.checked_add(Span::new().hours(1))?)
        }
        Per::Day => (day.clone(), day.tomorrow()?.start_of_day()?),
        Per::Week => {
            let since = day.weekday().since(Weekday::Monday);
            let monday = day.checked_sub(Span::new().days(since))?.start_of_day()?;
            let next = monday.checked_add(Span::new().days(7))?.start_of_day()?;
            (monday, next)
        }
        Per::Month => {
            let first = day.first_of_month()?.start_of_day()?;
            let next = first.checked_add(Span::new().months(1))?.start_of_day()?;
            (first, next)
        }
        Per::Total => return Ok(Period::ALWAYS),
    };
    Ok(Period {
        start: start.timestamp(),
        end: Some(end.timestamp()),
    })
}

/// Periods of one kind, one after the other. The last is remembered: a purchase lies nearly always
/// in the same as the one before it.
#[derive(Debug)]
pub struct Periods {
    per: Per,
    zone: TimeZone,
    last: Mutex<Option<Period>>,
}

impl Periods {
    pub fn new(per: Per, zone: TimeZone) -> Periods {
        Periods {
            per,
            zone,
            last: Mutex::default(),
        }
    }

    /// The period that `at` lies in. A moment beyond the calendar lies in no end of time.
    pub fn of(&self, at: Timestamp) -> Period {
        let mut last = self.last.lock();
        match *last {
            Some(period) if period.contains(at) => period,
            _ => *last.insert(period(self.per, &self.zone, at).unwrap_or(Period::ALWAYS)),
        }
    }
}

/// What decides which budgets a purchase falls under.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    pub app: &'a str,
    pub tags: Vec<&'a str>,
    /// As the ledger has it: a digest.
    pub user: Option<&'a str>,
    pub provider: &'a str,
    pub model: &'a str,
    /// Those that have the model.
    pub classes: Vec<&'a str>,
    pub credential: Option<&'a str>,
}

impl Facts<'_> {
    fn any(&self, dimension: Dimension, mut fits: impl FnMut(&str) -> bool) -> bool {
        match dimension {
            Dimension::App => fits(self.app),
            Dimension::Provider => fits(self.provider),
            Dimension::Model => fits(self.model),
            Dimension::User => self.user.is_some_and(fits),
            Dimension::Credential => self.credential.is_some_and(fits),
            Dimension::Tag => self.tags.iter().any(|tag| fits(tag)),
            Dimension::Class => self.classes.iter().any(|class| fits(class)),
        }
    }

    /// The buckets that it falls into where a budget is split by `dimension`; at least one.
    fn buckets(&self, dimension: Option<Dimension>) -> Vec<Arc<str>> {
        let Some(dimension) = dimension else {
            return vec![ALL.into()];
        };
        let mut buckets: Vec<Arc<str>> = Vec::new();
        self.any(dimension, |value| {
            if !buckets.iter().any(|known| **known == *value) {
                buckets.push(value.into());
            }
            false // all of them, not the first
        });
        if buckets.is_empty() {
            buckets.push(NOBODY.into());
        }
        buckets
    }
}

/// A budget in force, with what is worked out once.
#[derive(Debug)]
pub struct Kept {
    pub budget: Budget,
    pub key: Arc<str>,
    pub name: Arc<str>,
    periods: Periods,
}

impl Kept {
    /// The period that `at` lies in.
    pub fn period(&self, at: Timestamp) -> Period {
        self.periods.of(at)
    }

    /// Where a purchase at that moment is counted; empty where the budget does not apply.
    pub fn places(self: &Arc<Self>, facts: &Facts<'_>, at: Timestamp) -> Vec<Place> {
        if !self.budget.applies(facts) {
            return Vec::new();
        }
        let period = self.period(at);
        let place = |bucket| Place {
            budget: Arc::clone(self),
            bucket,
            period,
        };
        facts
            .buckets(self.budget.by)
            .into_iter()
            .map(place)
            .collect()
    }
}

/// All budgets in force. To change them, put others in their place.
#[derive(Clone, Debug, Default)]
pub struct Budgets {
    list: Arc<[Arc<Kept>]>,
    classes: Arc<BTreeMap<String, Vec<ModelId>>>,
}

impl Budgets {
    /// Budgets, and the models of each class that they may speak of.
    pub fn new(
        budgets: impl IntoIterator<Item = Budget>,
        classes: BTreeMap<String, Vec<ModelId>>,
    ) -> Budgets {
        let kept = budgets.into_iter().map(|budget| {
            Arc::new(Kept {
                key: budget.key(),
                name: budget.name.as_str().into(),
                periods: Periods::new(budget.per, budget.zone.clone()),
                budget,
            })
        });
        Budgets {
            list: kept.collect(),
            classes: Arc::new(classes),
        }
    }

    /// The classes that have a model.
    pub fn classes_of(&self, model: &str) -> Vec<&str> {
        let has = |models: &[ModelId]| models.iter().any(|one| one.as_str() == model);
        let all = self.classes.iter().filter(|(_, models)| has(models));
        all.map(|(name, _)| name.as_str()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kept>> {
        self.list.iter()
    }

    pub fn named(&self, name: &str) -> Option<&Arc<Kept>> {
        self.iter().find(|kept| *kept.name == *name)
    }

    /// Every bucket that a purchase at that moment counts in.
    pub fn places(&self, facts: &Facts<'_>, at: Timestamp) -> Vec<Place> {
        self.iter()
            .flat_map(|kept| kept.places(facts, at))
            .collect()
    }
}

/// One bucket of a budget in one period.
#[derive(Clone, Debug)]
pub struct Place {
    pub budget: Arc<Kept>,
    pub bucket: Arc<str>,
    pub period: Period,
}

impl Place {
    /// Period and bucket, as the log tells them: `2026-11-28 catalog`.
    pub fn label(&self) -> String {
        let period = self.budget.budget.label(self.period.start);
        match self.budget.budget.by {
            Some(_) => format!("{period} {}", self.bucket),
            None => period,
        }
    }
}

/// What a bucket stands at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub spent: Usd,
    /// Set aside for attempts without an end.
    pub held: Usd,
}

impl Standing {
    pub fn used(self) -> Usd {
        self.spent + self.held
    }

    /// What is left of `limit`; below zero where more was charged than was quoted.
    pub fn left(self, limit: Usd) -> Usd {
        limit - self.used()
    }

    /// Whether so much more stays within `limit`. What costs nothing always does.
    pub fn fits(self, more: Usd, limit: Usd) -> bool {
        more <= Usd::ZERO || self.used() + more <= limit
    }

    /// The highest mark that is reached, in percent of `limit`; zero for none.
    pub fn mark(self, limit: Usd) -> u8 {
        let reached = |mark: &&u8| self.used() >= limit.scaled(u64::from(**mark), 100);
        match limit.is_zero() {
            true => 0,
            false => MARKS.iter().rev().find(reached).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per: Per, zone: &str, by: Option<Dimension>) -> Budget {
        Budget {
            name: "daily".to_owned(),
            limit: Usd::from_nano(100),
            per,
            zone: TimeZone::get(zone).unwrap(),
            by,
            only: BTreeMap::new(),
            over: Over::Refuse,
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn periods_begin_where_the_zone_says() {
        let check = |per, zone, moment, start: &str, end: &str, label: &str| {
            let budget = budget(per, zone, None);
            let period = period(per, &budget.zone, at(moment)).unwrap();
            assert_eq!(period.start, at(start), "{per} {zone} {moment}");
            assert_eq!(period.end, Some(at(end)), "{per} {zone} {moment}");
            assert!(period.contains(at(moment)));
            assert!(!period.contains(at(end)));
            assert_eq!(budget.label(period.start), label);
        };
        let (utc, berlin, india) = ("UTC", "Europe/Berlin", "Asia/Kolkata");
        check(
            Per::Hour,
            utc,
            "2026-11-28T14:59:59Z",
            "2026-11-28T14:00Z",
            "2026-11-28T15:00Z",
            "2026-11-28T14",
        );
        check(
            Per::Hour,
            india,
            "2026-11-28T14:10Z",
            "2026-11-28T13:30Z",
            "2026-11-28T14:30Z",
            "2026-11-28T19",
        );
        check(
            Per::Day,
            utc,
            "2026-11-28T00:00Z",
            "2026-11-28T00:00Z",
            "2026-11-29T00:00Z",
            "2026-11-28",
        );
        check(
            Per::Day,
            berlin,
            "2026-11-27T23:30Z",
            "2026-11-27T23:00Z",
            "2026-11-28T23:00Z",
            "2026-11-28",
        );
        // The day on which clocks go back is 25 hours long.
        check(
            Per::Day,
            berlin,
            "2026-10-25T12:00Z",
            "2026-10-24T22:00Z",
            "2026-10-25T23:00Z",
            "2026-10-25",
        );
        check(
            Per::Week,
            utc,
            "2026-11-29T23:59Z",
            "2026-11-23T00:00Z",
            "2026-11-30T00:00Z",
            "2026-W48",
        );
        check(
            Per::Month,
            berlin,
            "2026-02-10T00:00Z",
            "2026-01-31T23:00Z",
            "2026-02-28T23:00Z",
            "2026-02",
        );
        let total = period(Per::Total, &TimeZone::UTC, at("2026-01-01T00:00Z"));
        assert_eq!(total.unwrap(), Period::ALWAYS);
    }

    #[test]
    fn a_purchase_counts_in_a_bucket_for_each_value() {
        let facts = Facts {
            app: "catalog",
            tags: vec!["hero", "night", "hero"],
            provider: "openai",
            model: "openai/gpt-image-2",
            ..Facts::default()
        };
        let buckets = |by| -> Vec<String> {
            let kept = Budgets::new([budget(Per::Day, "UTC", by)], BTreeMap::new());
            let places = kept.places(&facts, at("2026-11-28T12:00Z"));
            places.iter().map(Place::label).collect()
        };
        assert_eq!(buckets(None), ["2026-11-28"]);
        assert_eq!(buckets(Some(Dimension::App)), ["2026-11-28 catalog"]);
        assert_eq!(
            buckets(Some(Dimension::Tag)),
            ["2026-11-28 hero", "2026-11-28 night"]
        );
        assert_eq!(buckets(Some(Dimension::User)), ["2026-11-28 (none)"]);
        assert_eq!(buckets(Some(Dimension::Class)), ["2026-11-28 (none)"]);
    }

    #[test]
    fn it_applies_where_every_dimension_has_a_value_of_its_list() {
        let narrowed = |only: &[(&'static str, &[&str])]| {
            let mut budget = budget(Per::Day, "UTC", None);
            budget.only = only
                .iter()
                .map(|(name, values)| (*name, values.iter().map(|v| (*v).to_owned()).collect()))
                .collect();
            let facts = Facts {
                app: "catalog",
                tags: vec!["hero"],
                classes: vec!["draft"],
                ..Facts::default()
            };
            budget.applies(&facts)
        };
        assert!(narrowed(&[]));
        assert!(narrowed(&[
            ("app", &["shop", "catalog"]),
            ("tag", &["hero"])
        ]));
        assert!(!narrowed(&[("app", &["catalog"]), ("tag", &["icon"])]));
        assert!(!narrowed(&[("user", &["bob"])]));
        assert!(narrowed(&[("class", &["draft"])]));
    }

    #[test]
    fn another_limit_keeps_the_counters_and_another_zone_does_not() {
        let day = budget(Per::Day, "UTC", None);
        let raised = Budget {
            limit: Usd::MAX,
            over: Over::Alert,
            ..day.clone()
        };
        assert_eq!(day.key(), raised.key());
        assert_ne!(day.key(), budget(Per::Day, "Asia/Tokyo", None).key());
        assert_ne!(day.key(), budget(Per::Week, "UTC", None).key());
    }

    #[test]
    fn marks_are_reached_by_what_is_spent_and_held() {
        let mark = |spent, held| {
            let standing = Standing {
                spent: Usd::from_nano(spent),
                held: Usd::from_nano(held),
            };
            standing.mark(Usd::from_nano(200))
        };
        assert_eq!([mark(99, 0), mark(60, 40), mark(0, 170)], [0, 50, 85]);
        assert_eq!([mark(190, 0), mark(150, 50), mark(500, 0)], [95, 100, 100]);
        let empty = Standing::default();
        assert!(empty.fits(Usd::ZERO, Usd::ZERO) && !empty.fits(Usd::from_nano(1), Usd::ZERO));
        assert_eq!(empty.mark(Usd::ZERO), 0);
    }
}
