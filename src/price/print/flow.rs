//! The small pieces of what is printed.

use std::fmt;

use crate::money::Rate;
use crate::price::spread::Spread;

/// Keys with values on one line: `{a: 1, b: 2}`.
#[derive(Default)]
pub(super) struct Flow(Vec<String>);

impl Flow {
    pub(super) fn add(&mut self, key: &str, value: String) {
        self.0.push(format!("{}: {value}", text(key)));
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0.join(", "))
    }
}

/// `[a, b]`.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A text, in quotes unless it is a plain word.
pub(super) fn text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-');
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    if starts_plain && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted += "\\n",
            c if c.is_control() => quoted += &format!("\\u{:04x}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// One figure, or `[least, usual, most]`.
pub(super) fn spread<T: Copy + PartialEq>(open: Spread<T>, print: impl Fn(T) -> String) -> String {
    let Spread {
        low,
        expected,
        high,
    } = open;
    if low == expected && expected == high {
        return print(expected);
    }
    list([low, expected, high].into_iter().map(print))
}

/// `1024x1536`.
pub(super) fn size((width, height): (u32, u32)) -> String {
    format!("{width}x{height}")
}

/// All digits of a rate and no more.
pub(super) fn decimal(rate: Rate) -> String {
    fixed(rate.pico(), 12)
}

/// A whole number of `10^-places` as a decimal.
pub(super) fn fixed(number: i128, places: usize) -> String {
    let digits = format!("{:0width$}", number.unsigned_abs(), width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    let sign = if number < 0 { "-" } else { "" };
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}
