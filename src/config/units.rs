//! Sizes and times as people write them: `512MiB`, `10m`.

use std::time::Duration;

/// `(unit, bytes)`. Decimal and binary units are both what they say.
const SIZES: &[(&str, u64)] = &[
    ("b", 1),
    ("kb", 1_000),
    ("kib", 1 << 10),
    ("mb", 1_000_000),
    ("mib", 1 << 20),
    ("gb", 1_000_000_000),
    ("gib", 1 << 30),
    ("tb", 1_000_000_000_000),
    ("tib", 1 << 40),
];

/// `(unit, milliseconds)`.
const TIMES: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Reads a size in bytes: digits and a unit, any case. `0` and `off` need no unit.
///
/// # Errors
/// What is wrong with the text, to be continued by an example.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text)?;
    if unit.is_empty() && number > 0 {
        return Err("has no unit".to_owned());
    }
    let unit = if unit.is_empty() { "b" } else { &unit };
    scale(number, unit, SIZES)
}

/// Reads a length of time: one or more pairs of digits and a unit (`1h30m`). `0` and `off` need
/// no unit and are zero.
///
/// # Errors
/// What is wrong with the text, to be continued by an example.
pub fn duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest == "off" || rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total: u64 = 0;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let end = digits.map_or(rest.len(), |at| {
            rest[at..]
                .find(|c: char| c.is_ascii_digit())
                .map_or(rest.len(), |next| at + next)
        });
        let (number, unit) = split(&rest[..end])?;
        if unit.is_empty() {
            return Err("has no unit".to_owned());
        }
        total = total
            .checked_add(scale(number, &unit, TIMES)?)
            .ok_or("is too long")?;
        rest = &rest[end..];
        if rest.is_empty() {
            return Ok(Duration::from_millis(total));
        }
    }
}

/// Digits and the lower-case unit behind them.
fn split(text: &str) -> Result<(u64, String), String> {
    let text = text.trim();
    if text == "off" {
        return Ok((0, String::new()));
    }
    if text.starts_with('-') {
        return Err("is negative".to_owned());
    }
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    if end == 0 {
        return Err("does not begin with a number".to_owned());
    }
    let number = text[..end].parse().map_err(|_| "is too large".to_owned())?;
    Ok((number, text[end..].trim().to_ascii_lowercase()))
}

fn scale(number: u64, unit: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("has an unknown unit `{unit}`"));
    };
    number
        .checked_mul(*factor)
        .ok_or_else(|| "is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_what_they_say() {
        for (text, want) in [
            ("512MiB", Ok(512 << 20)),
            ("1GiB", Ok(1 << 30)),
            ("1 GB", Ok(1_000_000_000)),
            ("64kib", Ok(65_536)),
            ("7B", Ok(7)),
            ("off", Ok(0)),
            ("0", Ok(0)),
            ("512", Err("has no unit")),
            ("-1GiB", Err("is negative")),
            ("GiB", Err("does not begin with a number")),
            ("1.5GiB", Err("has an unknown unit `.5gib`")),
            ("1M", Err("has an unknown unit `m`")),
            ("99999999999TiB", Err("is too large")),
            ("99999999999999999999999B", Err("is too large")),
            ("", Err("does not begin with a number")),
        ] {
            assert_eq!(bytes(text), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn times_are_what_they_say() {
        for (text, want) in [
            ("250ms", Ok(250)),
            ("10m", Ok(600_000)),
            ("1h", Ok(3_600_000)),
            ("1h30m", Ok(5_400_000)),
            ("2 d", Ok(172_800_000)),
            ("1w", Ok(604_800_000)),
            ("0", Ok(0)),
            ("off", Ok(0)),
            ("10", Err("has no unit")),
            ("1h30", Err("has no unit")),
            ("-5m", Err("is negative")),
            ("soon", Err("does not begin with a number")),
            ("5 minutes", Err("has an unknown unit `minutes`")),
            ("99999999999999999w", Err("is too large")),
            ("", Err("does not begin with a number")),
        ] {
            let want = want.map(Duration::from_millis).map_err(str::to_owned);
            assert_eq!(duration(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_them_panic(text in "\\PC{0,12}") {
            let _ = (bytes(&text), duration(&text));
        }

        #[test]
        fn a_time_is_the_sum_of_its_parts(h in 0u64..1000, m in 0u64..1000, ms in 0u64..1000) {
            let want = Duration::from_millis(h * 3_600_000 + m * 60_000 + ms);
            prop_assert_eq!(duration(&format!("{h}h{m}m{ms}ms")), Ok(want));
        }
    }
}
