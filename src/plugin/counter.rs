//! `pixtoll.counter`: what rules remember from one call to the next.
//!
//! File-level variables are per VM and may vanish; a counter is shared by all VMs, hooks and
//! plugins of a process, outlives a reload, and ends with the process. What a hook adds counts once
//! the hook has ended well: one that fails, or is stopped and run again, has added nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mlua::{Error, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods, Value};
use parking_lot::Mutex;

use super::args::{Given, options, show, span};
use super::fault::raise;
use super::helpers::subject;
use super::money::{Money, amount};
use super::near::no_such;
use super::stage::Stage;
use crate::money::Usd;

/// Counters of a process.
const MOST: usize = 10_000;
/// Bytes of a name.
const NAME: usize = 100;
/// A window moves on in so many steps.
const STEPS: i64 = 60;
/// Options of `pixtoll.counter`.
pub(super) const COUNTER_OPTIONS: &[&str] = &["window", "money"];
/// Methods of what it returns.
pub(super) const COUNTER_METHODS: &[&str] = &["add", "value"];

/// Which counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// Of plugins that are only observed: what they count moves nobody else.
    aside: bool,
    name: String,
    /// `None`: since the process began.
    window: Option<Duration>,
    money: bool,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Amount {
    Number(f64),
    Money(Usd),
}

impl Amount {
    fn zero(money: bool) -> Amount {
        match money {
            true => Amount::Money(Usd::ZERO),
            false => Amount::Number(0.0),
        }
    }

    /// The sum of two of a kind.
    pub(super) fn and(self, other: Amount) -> Amount {
        match (self, other) {
            (Amount::Money(a), Amount::Money(b)) => Amount::Money(a + b),
            (Amount::Number(a), Amount::Number(b)) => Amount::Number(a + b),
            (own, _) => own,
        }
    }
}

/// The counters of a process.
#[derive(Debug, Default)]
pub(super) struct Counters(Mutex<HashMap<Key, Series>>);

/// What was added in each step of a window, in order; one step alone without a window.
#[derive(Debug, Default)]
struct Series(VecDeque<(i64, Amount)>);

impl Series {
    /// Drops what has left the window that ends with `now`.
    fn trim(&mut self, now: i64) {
        while self.0.front().is_some_and(|(step, _)| *step <= now - STEPS) {
            self.0.pop_front();
        }
    }
}

impl Key {
    /// The step of the window that a moment falls into.
    fn step(&self, at: Timestamp) -> i64 {
        self.window.map_or(0, |window| {
            let width = i64::try_from(window.as_millis()).unwrap_or(i64::MAX) / STEPS;
            at.as_millisecond().div_euclid(width.max(1))
        })
    }
}

impl Counters {
    fn value(&self, key: &Key, at: Timestamp) -> Amount {
        let now = key.step(at);
        let counters = self.0.lock();
        let steps = counters.get(key).into_iter().flat_map(|series| &series.0);
        let within = steps.filter(|(step, _)| (now - STEPS + 1..=now).contains(step));
        within.fold(Amount::zero(key.money), |sum, (_, more)| sum.and(*more))
    }

    /// Whether there is a place for that counter.
    fn has_room(&self, key: &Key, at: Timestamp) -> bool {
        let mut counters = self.0.lock();
        if counters.len() >= MOST && !counters.contains_key(key) {
            counters.retain(|key, series| {
                series.trim(key.step(at));
                !series.0.is_empty()
            });
        }
        counters.len() < MOST || counters.contains_key(key)
    }

    /// Adds what a hook has counted.
    pub(super) fn add(&self, at: Timestamp, counted: Vec<(Key, Amount)>) {
        if counted.is_empty() {
            return;
        }
        let mut counters = self.0.lock();
        for (key, amount) in counted {
            let step = key.step(at);
            let series = counters.entry(key).or_default();
            series.trim(step);
            // Calls end in another order than they came in: a late one finds its own step.
            let place = series.0.partition_point(|(known, _)| *known < step);
            match series.0.get_mut(place) {
                Some((known, sum)) if *known == step => *sum = sum.and(amount),
                _ => series.0.insert(place, (step, amount)),
            }
        }
    }
}

/// `pixtoll.counter(name, {window =, money =})`.
pub(super) fn helper(lua: &Lua, stage: &Arc<Stage>) -> Result<mlua::Function, Error> {
    let stage = Arc::clone(stage);
    lua.create_function(move |lua, (name, table): (Value, Option<Table>)| {
        let key = key(name, table.as_ref(), stage.aside).map_err(|why| raise(lua, why))?;
        let stage = Arc::clone(&stage);
        Ok(CounterRef { stage, key })
    })
}

fn key(name: Value, table: Option<&Table>, aside: bool) -> Result<Key, String> {
    let of = "pixtoll.counter";
    let given = Given {
        of,
        name: "name",
        value: name,
    };
    let mut key = Key {
        aside,
        name: given.text()?,
        window: None,
        money: false,
    };
    if key.name.is_empty() || key.name.len() > NAME {
        return Err(format!("the name of a counter has 1 to {NAME} bytes"));
    }
    if let Some(table) = table {
        options(of, table, COUNTER_OPTIONS, |given| {
            match given.name {
                "window" => key.window = Some(window(&given)?),
                _ => key.money = given.flag()?,
            }
            Ok(())
        })?;
    }
    Ok(key)
}

fn window(given: &Given<'_>) -> Result<Duration, String> {
    let window = span(&given.text()?).map_err(|_| {
        format!(
            "`window` is a time like \"10m\", it is {}",
            show(&given.value)
        )
    })?;
    match window.is_zero() {
        true => Err("`window` of pixtoll.counter is no time at all".to_owned()),
        false => Ok(window),
    }
}

/// A counter as Lua holds it: a name, no value.
struct CounterRef {
    stage: Arc<Stage>,
    key: Key,
}

impl CounterRef {
    fn add(&self, lua: &Lua, value: &Value) -> Result<(), Error> {
        let amount = self.amount(value).map_err(|why| raise(lua, why))?;
        let at = subject(lua, &self.stage, "counter")?.at();
        if !self.stage.house.counters.has_room(&self.key, at) {
            let what = format!("there are {MOST} counters already: use fewer names");
            return Err(raise(lua, what));
        }
        self.stage.count(self.key.clone(), amount);
        Ok(())
    }

    fn amount(&self, value: &Value) -> Result<Amount, String> {
        let wrong = |wanted: &str| format!("counter:add takes {wanted}, it is {}", show(value));
        match (self.key.money, value) {
            (false, Value::Nil) => Ok(Amount::Number(1.0)),
            (false, Value::Integer(whole)) => Ok(Amount::Number(*whole as f64)),
            (false, Value::Number(number)) if number.is_finite() => Ok(Amount::Number(*number)),
            (false, _) => Err(wrong("a number; one of money has money = true")),
            (true, _) => match amount(value) {
                Some(usd) => Ok(Amount::Money(usd)),
                None => Err(wrong("money, like usd(0.02)")),
            },
        }
    }

    fn value(&self, lua: &Lua) -> mlua::Result<Value> {
        let at = subject(lua, &self.stage, "counter")?.at();
        let before = self.stage.house.counters.value(&self.key, at);
        let own = self.stage.counted(&self.key).into_iter();
        match own.fold(before, Amount::and) {
            Amount::Number(number) => Ok(Value::Number(number)),
            Amount::Money(usd) => lua.create_userdata(Money(usd)).map(Value::UserData),
        }
    }
}

impl UserData for CounterRef {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_meta_field(MetaMethod::Type, "counter");
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("add", |lua, this, value: Value| this.add(lua, &value));
        methods.add_method("value", |lua, this, ()| this.value(lua));
        methods.add_meta_method(
            MetaMethod::Index,
            |lua, _, name: String| -> mlua::Result<()> {
                let path = format!("counter.{name}");
                let names = COUNTER_METHODS.iter().copied();
                Err(raise(lua, no_such(&path, "method", &name, names)))
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn key(window: Option<u64>) -> Key {
        Key {
            aside: false,
            name: "n".to_owned(),
            window: window.map(Duration::from_secs),
            money: false,
        }
    }

    #[test]
    fn a_window_forgets_and_a_counter_without_one_does_not() {
        let counters = Counters::default();
        let (hour, ever) = (key(Some(3600)), key(None));
        for time in ["10:00:00", "10:30:00", "10:59:59", "10:15:00"] {
            let one = Amount::Number(1.0);
            counters.add(at(time), vec![(hour.clone(), one), (ever.clone(), one)]);
        }
        let value = |key: &Key, time: &str| match counters.value(key, at(time)) {
            Amount::Number(number) => number as i64,
            Amount::Money(_) => panic!("money"),
        };
        assert_eq!(value(&hour, "10:59:59"), 4);
        assert_eq!(value(&hour, "11:05:00"), 3);
        assert_eq!(value(&hour, "11:20:00"), 2);
        assert_eq!(value(&hour, "11:58:00"), 1);
        assert_eq!(value(&hour, "12:00:00"), 0);
        assert_eq!(value(&hour, "10:20:00"), 2, "what comes later is not in it");
        assert_eq!(value(&ever, "23:00:00"), 4);
    }

    #[test]
    fn counters_are_bounded_and_empty_ones_make_room() {
        let counters = Counters::default();
        let named = |number: usize, window| Key {
            name: number.to_string(),
            ..key(window)
        };
        for number in 0..MOST {
            let new = named(number, Some(60));
            assert!(counters.has_room(&new, at("10:00:00")));
            counters.add(at("10:00:00"), vec![(new, Amount::Number(1.0))]);
        }
        let more = named(MOST, None);
        assert!(!counters.has_room(&more, at("10:00:30")));
        assert!(counters.has_room(&named(3, Some(60)), at("10:00:30")));
        assert!(
            counters.has_room(&more, at("10:02:00")),
            "all are empty by now"
        );
        assert_eq!(counters.0.lock().len(), 0);
    }
}
