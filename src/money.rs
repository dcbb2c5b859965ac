//! Exact money.
//!
//! Amounts are whole nano-dollars, rates whole pico-dollars a unit, and no float touches either:
//! a tenth of a cent that drifts is a tenth of a cent somebody is billed. Text and JSON carry
//! decimals with at most nine places.
#![deny(clippy::float_arithmetic)]

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use thiserror::Error;

const NANO: i64 = 1_000_000_000;
const PICO_PER_NANO: i128 = 1_000;

/// US dollars, exact to the nano-dollar. May be negative (a saving that was none).
///
/// Sums saturate at about ±9.2 thousand million dollars instead of wrapping: a budget check that
/// meets an absurd figure must refuse, not overflow into a bargain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usd(i64);

impl Usd {
    pub const ZERO: Usd = Usd(0);
    pub const MAX: Usd = Usd(i64::MAX);

    /// From whole nano-dollars.
    pub const fn from_nano(nano: i64) -> Usd {
        Usd(nano)
    }

    /// In whole nano-dollars.
    pub const fn nano(self) -> i64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// `count` times this amount, saturating.
    pub fn times(self, count: u64) -> Usd {
        Usd(self
            .0
            .saturating_mul(i64::try_from(count).unwrap_or(i64::MAX)))
    }

    /// This amount times `numerator / denominator`, rounded half up to the nano-dollar.
    ///
    /// A zero denominator yields [`Usd::MAX`]: a share of nothing is never a bargain.
    pub fn scaled(self, numerator: u64, denominator: u64) -> Usd {
        if denominator == 0 {
            return Usd::MAX;
        }
        let scaled = i128::from(self.0) * i128::from(numerator);
        Usd(clamp(round_half_up(scaled, i128::from(denominator))))
    }

    /// For people: at least two decimals, `$0.035`, `-$0.20`.
    pub fn pretty(self) -> String {
        let mut text = String::with_capacity(LONGEST + 1);
        self.put_pretty(&mut text);
        text
    }

    /// As [`Usd::pretty`], behind what stands in `text`.
    pub fn put_pretty(self, text: &mut String) {
        let digits = Digits::of(Usd(self.0.saturating_abs()));
        text.push_str(if self.0 < 0 { "-$" } else { "$" });
        text.push_str(digits.as_str());
        text.push_str(match digits.decimals() {
            0 => ".00",
            1 => "0",
            _ => "",
        });
    }
}

/// The price of one unit (a token, an image, a step), exact to the pico-dollar.
///
/// Finer than [`Usd`], because a token of a cheap model costs 625 nano-dollars and xAI's tick 100
/// pico-dollars; only the finished sum is rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(i128);

impl Rate {
    pub const ZERO: Rate = Rate(0);

    /// From whole pico-dollars a unit.
    pub const fn from_pico(pico: i128) -> Rate {
        Rate(pico)
    }

    /// In whole pico-dollars a unit.
    pub const fn pico(self) -> i128 {
        self.0
    }

    /// The rate of one unit when `usd` buys `units` of them, e.g. 30 USD a million tokens.
    ///
    /// `None` when it is no whole number of pico-dollars, or `units` is zero.
    pub fn per(usd: Usd, units: u64) -> Option<Rate> {
        let pico = i128::from(usd.nano()) * PICO_PER_NANO;
        let units = i128::from(units);
        (units != 0 && pico % units == 0).then(|| Rate(pico / units))
    }

    /// What `count` units cost, in pico-dollars and unrounded, so that terms can be summed first.
    pub fn of(self, count: u64) -> Pico {
        Pico(self.0.saturating_mul(i128::from(count)))
    }
}

impl From<Usd> for Rate {
    fn from(usd: Usd) -> Rate {
        Rate(i128::from(usd.nano()) * PICO_PER_NANO)
    }
}

/// An unrounded sum on its way to becoming [`Usd`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pico(i128);

impl Pico {
    pub const ZERO: Pico = Pico(0);

    /// From whole pico-dollars.
    pub const fn new(pico: i128) -> Pico {
        Pico(pico)
    }

    /// Rounded half up to the nano-dollar, saturating.
    pub fn to_usd(self) -> Usd {
        Usd(clamp(round_half_up(self.0, PICO_PER_NANO)))
    }

    /// Times `numerator / denominator`, rounded half up to the pico-dollar. Zero denominators are
    /// a mistake of the book and are refused there; here they leave the sum as it is.
    pub fn scaled(self, numerator: u64, denominator: u64) -> Pico {
        if denominator == 0 {
            return self;
        }
        Pico(round_half_up(
            self.0.saturating_mul(i128::from(numerator)),
            i128::from(denominator),
        ))
    }
}

impl Add for Pico {
    type Output = Pico;
    fn add(self, other: Pico) -> Pico {
        Pico(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Pico {
    fn add_assign(&mut self, other: Pico) {
        *self = *self + other;
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        *self = *self + other;
    }
}

impl Sub for Usd {
    type Output = Usd;
    fn sub(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }
}

impl Neg for Usd {
    type Output = Usd;
    fn neg(self) -> Usd {
        Usd(self.0.saturating_neg())
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

/// The shortest exact decimal, without a currency sign: `0.035`, `12`, `-0.2`.
impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Digits::of(*self).as_str())
    }
}

/// The longest amount: a sign, ten digits, a point and nine more.
const LONGEST: usize = 21;

/// An amount's decimal, written without an allocation: a decision carries some forty of them.
struct Digits {
    text: [u8; LONGEST],
    start: usize,
    end: usize,
}

impl Digits {
    fn of(usd: Usd) -> Digits {
        let nano = usd.0.unsigned_abs();
        let (mut whole, mut fraction) = (nano / NANO as u64, nano % NANO as u64);
        let mut digits = Digits {
            text: [b'0'; LONGEST],
            start: LONGEST,
            end: LONGEST,
        };
        if fraction > 0 {
            let mut places = 9;
            // Most prices are whole milli- or micro-dollars.
            for (zeros, size) in [(6, 1_000_000), (3, 1_000), (1, 10), (1, 10)] {
                if fraction % size == 0 {
                    fraction /= size;
                    places -= zeros;
                }
            }
            for _ in 0..places {
                digits.put(b'0' + (fraction % 10) as u8);
                fraction /= 10;
            }
            digits.put(b'.');
        }
        loop {
            digits.put(b'0' + (whole % 10) as u8);
            whole /= 10;
            if whole == 0 {
                break;
            }
        }
        if usd.0 < 0 {
            digits.put(b'-');
        }
        digits
    }

    /// Puts a character before those that stand.
    fn put(&mut self, character: u8) {
        self.start -= 1;
        self.text[self.start] = character;
    }

    /// Digits behind the point.
    fn decimals(&self) -> usize {
        let digits = &self.text[self.start..self.end];
        let point = digits.iter().position(|digit| *digit == b'.');
        point.map_or(0, |point| digits.len() - point - 1)
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[self.start..self.end]).unwrap_or_default()
    }
}

/// Why a text is no amount of money.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotMoney {
    #[error("`{0}` is not an amount of US dollars: write digits and one point, like 0.04")]
    NotDecimal(String),
    #[error("`{0}` has more decimals than money is kept in ({1} at most)")]
    TooFine(String, usize),
    #[error("`{0}` is too large an amount")]
    TooLarge(String),
}

impl FromStr for Usd {
    type Err = NotMoney;

    /// Reads `12`, `0.035`, `-1.5`, with or without a leading `$`.
    fn from_str(text: &str) -> Result<Usd, NotMoney> {
        let nano = fixed_point(text, 9)?;
        i64::try_from(nano)
            .map(Usd)
            .map_err(|_| NotMoney::TooLarge(text.to_owned()))
    }
}

impl FromStr for Rate {
    type Err = NotMoney;

    /// Reads a decimal number of dollars a unit, with at most twelve decimals.
    fn from_str(text: &str) -> Result<Rate, NotMoney> {
        fixed_point(text, 12).map(Rate)
    }
}

/// The name under which `serde_json` takes a number as it is written: that of its own
/// [`serde_json::value::RawValue`], which would read each amount once more before it is written.
pub(crate) const AS_WRITTEN: &str = "$serde_json::private::RawValue";

/// A JSON number with at most nine decimals, never an exponent.
impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % NANO == 0 {
            return serializer.serialize_i64(self.0 / NANO);
        }
        let mut number = serializer.serialize_struct(AS_WRITTEN, 1)?;
        number.serialize_field(AS_WRITTEN, Digits::of(*self).as_str())?;
        number.end()
    }
}

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Usd, D::Error> {
        deserializer
            .deserialize_any(DecimalVisitor)
            .and_then(|text| text.parse().map_err(de::Error::custom))
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Rate, D::Error> {
        deserializer
            .deserialize_any(DecimalVisitor)
            .and_then(|text| text.parse().map_err(de::Error::custom))
    }
}

/// Takes a decimal as it was written. A float is printed back in its shortest form, which is the
/// text it was read from for anything a person writes; nothing is computed with it.
struct DecimalVisitor;

impl Visitor<'_> for DecimalVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount of US dollars, like 0.04")
    }
    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
    fn visit_u64<E>(self, whole: u64) -> Result<String, E> {
        Ok(whole.to_string())
    }
    fn visit_i64<E>(self, whole: i64) -> Result<String, E> {
        Ok(whole.to_string())
    }
    fn visit_f64<E>(self, number: f64) -> Result<String, E> {
        Ok(number.to_string())
    }
}

/// `text` as a whole number of `10^-places`.
fn fixed_point(text: &str, places: usize) -> Result<i128, NotMoney> {
    let bad = || NotMoney::NotDecimal(text.to_owned());
    let trimmed = text.trim();
    let (negative, rest) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed),
    };
    let rest = rest.strip_prefix('$').unwrap_or(rest);
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let is_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(bad());
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > places {
        return Err(NotMoney::TooFine(text.to_owned(), places));
    }
    if whole.len() > 18 {
        return Err(NotMoney::TooLarge(text.to_owned()));
    }
    let digits = format!("{whole}{fraction:0<places$}");
    let value: i128 = digits.parse().map_err(|_| bad())?;
    Ok(if negative { -value } else { value })
}

/// `numerator / denominator`, halves away from zero; `denominator` is not zero.
fn round_half_up(numerator: i128, denominator: i128) -> i128 {
    let quotient = numerator / denominator;
    let remainder = numerator - quotient * denominator; // another division would cost as much again
    let up = remainder.unsigned_abs() * 2 >= denominator.unsigned_abs();
    quotient + i128::from(up) * numerator.signum() * denominator.signum()
}

fn clamp(nano: i128) -> i64 {
    i64::try_from(nano).unwrap_or(if nano < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, nano: i64) {
        assert_eq!(text.parse(), Ok(Usd::from_nano(nano)), "{text}");
    }

    #[test]
    fn reads_decimals_exactly() {
        check("0.04", 40_000_000);
        check("$12", 12 * NANO);
        check("-1.5", -1_500_000_000);
        check("0.000000001", 1);
        check(".5", 500_000_000);
        check("0.1000000000000", 100_000_000);
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in ["", ".", "1,5", "1e3", "abc", "--1", "0x10", "1.2.3", "€5"] {
            assert_eq!(
                text.parse::<Usd>(),
                Err(NotMoney::NotDecimal(text.to_owned()))
            );
        }
        assert!(matches!(
            "0.0000000001".parse::<Usd>(),
            Err(NotMoney::TooFine(..))
        ));
        assert!(matches!(
            "99999999999999999999".parse::<Usd>(),
            Err(NotMoney::TooLarge(..))
        ));
    }

    #[test]
    fn a_token_rate_is_exact_and_only_the_sum_is_rounded() {
        let rate = Rate::per("0.625".parse().unwrap(), 1_000_000).unwrap();
        assert_eq!(rate.pico(), 625_000);
        assert_eq!(rate.of(3).to_usd(), Usd::from_nano(1875));
        let tick = Rate::from_pico(100);
        assert_eq!((tick.of(4) + tick.of(1)).to_usd(), Usd::from_nano(1));
        assert_eq!(Rate::per(Usd::from_nano(1), 3), None);
    }

    #[test]
    fn money_reads_like_money() {
        assert_eq!(Usd::from_nano(35_000_000).pretty(), "$0.035");
        assert_eq!(Usd::from_nano(-200_000_000).pretty(), "-$0.20");
        assert_eq!(Usd::from_nano(2 * NANO).pretty(), "$2.00");
    }

    #[test]
    fn json_carries_a_plain_number() {
        assert_eq!(
            serde_json::to_string(&Usd::from_nano(5_945_000)).unwrap(),
            "0.005945"
        );
        assert_eq!(
            serde_json::from_str::<Usd>("0.005945").unwrap(),
            Usd::from_nano(5_945_000)
        );
        assert_eq!(
            serde_json::from_str::<Usd>("\"25.00\"").unwrap(),
            Usd::from_nano(25 * NANO)
        );
    }

    proptest! {
        #[test]
        fn printing_and_reading_is_the_identity(nano in any::<i64>()) {
            let usd = Usd::from_nano(nano);
            prop_assert_eq!(usd.to_string().parse::<Usd>(), Ok(usd));
        }

        #[test]
        fn a_share_is_never_off_by_more_than_half_a_nano(nano in 0i64..1_000_000_000_000, n in 0u64..1000, d in 1u64..1000) {
            let got = i128::from(Usd::from_nano(nano).scaled(n, d).nano()) * i128::from(d);
            let exact = i128::from(nano) * i128::from(n);
            prop_assert!((got - exact).unsigned_abs() * 2 <= u128::from(d));
        }
    }
}
