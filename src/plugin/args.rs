//! Reading what a rule hands to an action: strictly, and with the name in every complaint.

use std::time::Duration;

use mlua::{Table, Value};

use super::money::amount;
use super::near::no_such;
use crate::money::Usd;

/// Bytes of a text that is no prompt.
const TEXT: usize = 4096;
/// Bytes of a prompt.
const PROMPT: usize = 256 * 1024;
/// The longest wait, time-out or time to live: a year.
const LONGEST: f64 = 366.0 * 86_400.0;
/// Items of a list.
const ITEMS: usize = 64;

/// One named value, with what it is an option of (`call:change`).
pub(super) struct Given<'a> {
    pub(super) of: &'a str,
    pub(super) name: &'a str,
    pub(super) value: Value,
}

type Read<T> = Result<T, String>;

impl Given<'_> {
    fn wrong<T>(&self, wanted: impl AsRef<str>) -> Read<T> {
        Err(format!(
            "`{}` of {} must be {}, it is {}",
            self.name,
            self.of,
            wanted.as_ref(),
            show(&self.value)
        ))
    }

    /// `None` for `false`, which takes a field away, else what `read` makes of the value.
    pub(super) fn or_none<T>(&self, read: impl FnOnce(&Self) -> Read<T>) -> Read<Option<T>> {
        if matches!(self.value, Value::Boolean(false)) {
            return Ok(None);
        }
        read(self).map(Some)
    }

    pub(super) fn text(&self) -> Read<String> {
        self.bounded_text(TEXT)
    }

    pub(super) fn prompt(&self) -> Read<String> {
        self.bounded_text(PROMPT)
    }

    fn bounded_text(&self, most: usize) -> Read<String> {
        let Value::String(text) = &self.value else {
            return self.wrong("a text");
        };
        let Ok(text) = text.to_str() else {
            return self.wrong("a text in UTF-8");
        };
        if text.len() > most {
            return self.wrong(format!("at most {most} bytes long"));
        }
        Ok(text.to_owned())
    }

    pub(super) fn flag(&self) -> Read<bool> {
        match self.value {
            Value::Boolean(flag) => Ok(flag),
            _ => self.wrong("true or false"),
        }
    }

    /// A whole number within bounds.
    pub(super) fn whole(&self, least: u64, most: u64) -> Read<u64> {
        let number = match self.value {
            Value::Integer(whole) => u64::try_from(whole).ok(),
            // Numbers beyond 2^53 are not exact, and so not whole.
            Value::Number(n)
                if n.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&n) =>
            {
                Some(n as u64)
            }
            _ => None,
        };
        match number.filter(|n| (least..=most).contains(n)) {
            Some(number) => Ok(number),
            None => self.wrong(format!("a whole number from {least} to {most}")),
        }
    }

    pub(super) fn whole32(&self, least: u32, most: u32) -> Read<u32> {
        let number = self.whole(u64::from(least), u64::from(most))?;
        u32::try_from(number).or_else(|_| self.wrong("smaller"))
    }

    pub(super) fn number(&self) -> Read<f64> {
        match self.value {
            Value::Integer(whole) => Ok(whole as f64),
            Value::Number(number) if number.is_finite() => Ok(number),
            _ => self.wrong("a number"),
        }
    }

    pub(super) fn json_number(&self) -> Read<serde_json::Number> {
        if let Value::Integer(whole) = self.value {
            return Ok(whole.into());
        }
        let number = self.number()?;
        if number.fract() == 0.0 && number.abs() < 1e15 {
            return Ok((number as i64).into());
        }
        serde_json::Number::from_f64(number).map_or_else(|| self.wrong("a number"), Ok)
    }

    /// Seconds, as a number.
    pub(super) fn seconds(&self) -> Read<Duration> {
        let seconds = self.number()?;
        if !(0.0..=LONGEST).contains(&seconds) {
            return self.wrong("a number of seconds from 0 to a year");
        }
        Ok(Duration::from_secs_f64(seconds))
    }

    pub(super) fn money(&self) -> Read<Usd> {
        match amount(&self.value) {
            Some(usd) if usd >= Usd::ZERO => Ok(usd),
            Some(_) => self.wrong("an amount that is not negative"),
            None => self.wrong("money: write usd(0.02)"),
        }
    }

    /// One word of a closed set.
    pub(super) fn word<T: Copy + 'static>(
        &self,
        all: &'static [T],
        spell: fn(T) -> &'static str,
    ) -> Read<T> {
        let words = all.iter().map(|word| spell(*word));
        let Value::String(text) = &self.value else {
            let words: Vec<&str> = words.collect();
            return self.wrong(format!("one of {}", words.join(", ")));
        };
        let text = text.to_string_lossy();
        match all.iter().find(|word| spell(**word) == text) {
            Some(word) => Ok(*word),
            None => Err(no_such(
                &format!("{} = \"{}\"", self.name, cut(&text)),
                &format!("word of {}", self.of),
                &text,
                words,
            )),
        }
    }

    /// One value or a list of them, each on its own.
    pub(super) fn each<T>(&self, read: impl Fn(&Given<'_>) -> Read<T>) -> Read<Vec<T>> {
        let Value::Table(list) = &self.value else {
            return Ok(vec![read(self)?]);
        };
        let items = list.raw_len();
        if items == 0 {
            return self.wrong("a list with something in it");
        }
        if items > ITEMS {
            return self.wrong(format!("a list of {ITEMS} at most"));
        }
        let mut all = Vec::with_capacity(items);
        for pair in list.pairs::<Value, Value>() {
            let (key, value) = pair.map_err(|why| why.to_string())?;
            if !matches!(key, Value::Integer(_) | Value::Number(_)) {
                return Err(format!(
                    "`{}` of {} is a list; {} belongs into the table of options",
                    self.name,
                    self.of,
                    show(&key)
                ));
            }
            all.push(read(&Given {
                of: self.of,
                name: self.name,
                value,
            })?);
        }
        Ok(all)
    }
}

/// `+2h`, `90s`, `1d`: a time that passes.
pub(super) fn span(text: &str) -> Read<Duration> {
    let wrong = || format!("\"{text}\" is no time that passes: write it like \"+2h\"");
    let plain = text.strip_prefix('+').unwrap_or(text);
    let unit = match plain.chars().next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = plain[..plain.len() - 1].parse().map_err(|_| wrong())?;
    let seconds = count.checked_mul(unit).ok_or_else(wrong)?;
    Ok(Duration::from_secs(seconds))
}

/// Goes through a table of options; a name that is not in `names` is an error.
pub(super) fn options(
    of: &str,
    table: &Table,
    names: &[&'static str],
    mut take: impl FnMut(Given<'_>) -> Read<()>,
) -> Read<()> {
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair.map_err(|why| why.to_string())?;
        let Value::String(key) = &key else {
            return Err(format!(
                "{of} takes names with values, not {}",
                show(&value)
            ));
        };
        let key = key.to_string_lossy();
        match names.iter().find(|name| **name == key) {
            Some(name) => take(Given { of, name, value })?,
            None => {
                let path = cut(&key);
                return Err(no_such(
                    path,
                    &format!("option of {of}"),
                    &key,
                    names.iter().copied(),
                ));
            }
        }
    }
    Ok(())
}

/// The type of a value as rule writers know it.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "number",
        other => other.type_name(),
    }
}

/// A value as it should stand in a complaint.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(whole) => whole.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("\"{}\"", cut(&text.to_string_lossy())),
        Value::UserData(_) => match amount(value) {
            Some(usd) => usd.pretty(),
            None => "an object of pixtoll".to_owned(),
        },
        other => format!("a {}", kind(other)),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(60)]
}
