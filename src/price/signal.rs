//! What in an answer tells its price: rules of the book, read on the answer's own words.
//!
//! A rule names a place, by JSON pointer or header, and what stands there. So a provider's way of
//! telling its charges is data, and a new one needs no release.

use http::HeaderMap;

use super::book::Book;
use crate::bill::{Codes, Usage};
use crate::image::words;
use crate::money::{Rate, Usd};
use crate::wire::Rope;
use crate::wire::json::{Node, Scanner};

/// Where in an answer something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In its JSON, as RFC 6901 writes it.
    Pointer(String),
    /// In its headers.
    Header(String),
}

/// What a reported amount is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Usd,
    Cent,
    /// A millionth of a dollar.
    Micro,
    /// 100 pico-dollars.
    Tick,
    /// A credit at so much.
    Credit(Usd),
}

impl Unit {
    /// The units that need no price beside them.
    pub(super) const ALL: &'static [(&'static str, Unit)] = &[
        ("usd", Unit::Usd),
        ("cent", Unit::Cent),
        ("micro_usd", Unit::Micro),
        ("tick", Unit::Tick),
    ];

    /// What one is worth.
    fn rate(self) -> Rate {
        match self {
            Unit::Usd => Rate::from_pico(1_000_000_000_000),
            Unit::Cent => Rate::from_pico(10_000_000_000),
            Unit::Micro => Rate::from_pico(1_000_000),
            Unit::Tick => Rate::from_pico(100),
            Unit::Credit(usd) => usd.into(),
        }
    }
}

words! {
    /// What a count in an answer counts.
    Count {
        TextIn = "text_in",
        ImageIn = "image_in",
        CachedTextIn = "cached_text_in",
        CachedImageIn = "cached_image_in",
        TextOut = "text_out",
        ImageOut = "image_out",
        Seconds = "seconds",
        Milliseconds = "milliseconds",
        /// Pictures, megapixels or seconds: whatever the model's price is by.
        BillableUnits = "billable_units",
        Credits = "credits",
    }
}

/// A place where an answer tells money, and what it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    pub place: Place,
    pub unit: Unit,
    /// It is in that unit only where this place says this word: a provider may write dollars and
    /// credits into one field, and the unit beside it.
    pub only_where: Option<(Place, String)>,
}

/// How a provider's answers tell what they cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// Money; the first place that holds some is taken.
    pub reported: Vec<Reported>,
    pub usage: Vec<(Count, Place)>,
}

impl Signals {
    pub fn is_empty(&self) -> bool {
        self.reported.is_empty() && self.usage.is_empty()
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        fn told(reported: &Reported) -> impl Iterator<Item = &Place> {
            let beside = reported.only_where.as_ref().map(|(place, _)| place);
            std::iter::once(&reported.place).chain(beside)
        }
        let reported = self.reported.iter().flat_map(told);
        reported.chain(self.usage.iter().map(|(_, place)| place))
    }

    /// Keeps what the rules name of an answer among its billing codes.
    pub fn keep(&self, body: Option<&Node>, headers: &HeaderMap, codes: &mut Codes) {
        for place in self.places() {
            match place {
                Place::Header(name) => codes.put_header(headers, name),
                Place::Pointer(pointer) => {
                    let found = body.and_then(|body| body.at(pointer)?.scalar());
                    if let Some(text) = found {
                        codes.put(code(pointer), text);
                    }
                }
            }
        }
    }

    /// Adds to `usage` what the codes of an answer say and nobody has read yet.
    pub fn read(&self, codes: &Codes, usage: &mut Usage) {
        let text = |place: &Place| match place {
            Place::Header(name) => codes.get(name),
            Place::Pointer(pointer) => codes.get(&code(pointer)),
        };
        if usage.reported.is_none() {
            let counts = |reported: &&Reported| match &reported.only_where {
                Some((place, word)) => text(place) == Some(word.as_str()),
                None => true,
            };
            let mut reported = self.reported.iter().filter(counts);
            usage.reported = reported.find_map(|one| money(text(&one.place)?, one.unit));
        }
        for (count, place) in &self.usage {
            if let Some(text) = text(place) {
                put(usage, *count, text);
            }
        }
    }
}

impl Book {
    /// Keeps what the book's rules for a provider name of an answer among its billing codes,
    /// where [`Book::charge`] finds it. The body is read again only for what the dialect has not
    /// kept already; one that is no JSON text tells nothing.
    pub fn keep_signals(
        &self,
        provider: &str,
        headers: &HeaderMap,
        body: &Rope,
        codes: &mut Codes,
    ) {
        let Some(row) = self.provider(provider) else {
            return;
        };
        let missing = |place: &Place| match place {
            Place::Pointer(pointer) => codes.get(&code(pointer)).is_none(),
            Place::Header(_) => false,
        };
        let tree = row.signals.places().any(missing).then(|| tree(body));
        row.signals.keep(tree.flatten().as_ref(), headers, codes);
    }

    /// What the answer of a failed attempt says that it cost; `None` where the book has no rule
    /// for it, or the answer does not say.
    pub fn told_charge(&self, provider: &str, headers: &HeaderMap, body: &Rope) -> Option<Usd> {
        let row = self.provider(provider)?;
        let (mut codes, mut usage) = (Codes::default(), Usage::default());
        self.keep_signals(provider, headers, body, &mut codes);
        row.signals.read(&codes, &mut usage);
        usage.reported
    }

    /// The usage with what the book's rules find in the codes; `None` where there are no rules.
    pub(super) fn read_usage(&self, provider: &str, usage: &Usage, codes: &Codes) -> Option<Usage> {
        let row = self.provider(provider)?;
        if row.signals.is_empty() {
            return None;
        }
        let mut read = usage.clone();
        row.signals.read(codes, &mut read);
        Some(read)
    }
}

/// The values of a body, pictures left where they lie.
fn tree(body: &Rope) -> Option<Node> {
    let mut scanner = Scanner::new(0);
    for piece in body.pieces() {
        scanner.feed(piece).ok()?;
    }
    scanner.finish().ok()
}

/// The name that a billing code has: `/usage/cost` is kept as `usage.cost`.
fn code(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

fn put(usage: &mut Usage, count: Count, text: &str) {
    let whole = || number(text).map(|number| floor(number, ONE));
    let slot = match count {
        Count::TextIn => &mut usage.text_in,
        Count::ImageIn => &mut usage.image_in,
        Count::CachedTextIn => &mut usage.cached_text_in,
        Count::CachedImageIn => &mut usage.cached_image_in,
        Count::TextOut => &mut usage.text_out,
        Count::ImageOut => &mut usage.image_out,
        Count::Milliseconds => &mut usage.millis,
        Count::Seconds => {
            let millis = number(text).map(|number| floor(number, ONE / 1000));
            usage.millis = usage.millis.or(millis);
            return;
        }
        Count::BillableUnits => {
            if usage.units.is_none() && number(text).is_some() {
                usage.units = Some(text.to_owned());
            }
            return;
        }
        Count::Credits => {
            if usage.credits.is_none() && number(text).is_some() {
                usage.credits = Some(text.to_owned());
            }
            return;
        }
    };
    *slot = slot.or_else(whole);
}

const ONE: i128 = 1_000_000_000_000;

fn floor(number: Rate, unit: i128) -> u64 {
    u64::try_from(number.pico() / unit).unwrap_or(0)
}

/// So many units in money. A negative amount is no charge.
fn money(text: &str, unit: Unit) -> Option<Usd> {
    let count = number(text).filter(|count| *count >= Rate::ZERO)?;
    let pico = count.pico().checked_mul(unit.rate().pico())? / ONE;
    Some(Rate::from_pico(pico).of(1).to_usd())
}

/// A JSON number, with or without exponent, to twelve places; what is finer is cut off.
fn number(text: &str) -> Option<Rate> {
    const PLACES: i32 = 12;
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if fraction.starts_with(['-', '+']) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?;
    let shift = exponent.checked_add(PLACES)?.checked_sub(places)?;
    let ten = |power: u32| 10_i128.checked_pow(power);
    let pico = match u32::try_from(shift) {
        Ok(shift) => digits.checked_mul(ten(shift)?)?,
        Err(_) => ten(shift.unsigned_abs()).map_or(0, |unit| digits / unit),
    };
    Some(Rate::from_pico(pico))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_providers_write_them() {
        let pico = |text| number(text).map(Rate::pico);
        assert_eq!(pico("0.04"), Some(40_000_000_000));
        assert_eq!(pico("4e-2"), Some(40_000_000_000));
        assert_eq!(pico("1.5E+2"), Some(150 * ONE));
        assert_eq!(pico("7"), Some(7 * ONE));
        assert_eq!(pico("0.00000000000099"), Some(0));
        assert_eq!(pico("-1"), Some(-ONE));
        for text in ["", "x", "1.-5", "1e", "1e999", "0x10"] {
            assert_eq!(pico(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_worth_what_their_unit_says() {
        let usd = |text: &str| text.parse::<Usd>().ok();
        assert_eq!(money("0.0336", Unit::Usd), usd("0.0336"));
        assert_eq!(money("4.5", Unit::Cent), usd("0.045"));
        assert_eq!(money("33600", Unit::Micro), usd("0.0336"));
        assert_eq!(money("200000000", Unit::Tick), usd("0.02"));
        let credit = Unit::Credit(Usd::from_nano(1_000_000));
        assert_eq!(money("35", credit), usd("0.035"));
        assert_eq!(money("-1", Unit::Usd), None);
    }
}
