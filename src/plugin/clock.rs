//! The time of a call in a zone of the rule's choice. There is no other clock in a rule, so that
//! a replay decides as the call did.

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;

/// A moment as a rule sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) hour: i8,
    pub(super) minute: i8,
    /// 1 is Monday, 7 is Sunday.
    pub(super) weekday: i8,
    /// Day of the month.
    pub(super) day: i8,
}

/// Fields of what `pixtoll.clock` returns.
pub(super) const CLOCK_FIELDS: &[&str] = &["hour", "minute", "weekday", "day"];

/// `at` in `zone`, UTC where none is named.
pub(super) fn read(at: Timestamp, zone: Option<&str>) -> Result<Reading, String> {
    let now = at.to_zoned(find(zone)?);
    Ok(Reading {
        hour: now.hour(),
        minute: now.minute(),
        weekday: now.weekday().to_monday_one_offset(),
        day: now.day(),
    })
}

/// Whether `at` is in the stretch from `from` up to and without `to`, which may span midnight.
pub(super) fn between(
    at: Timestamp,
    from: &str,
    to: &str,
    zone: Option<&str>,
) -> Result<bool, String> {
    let (from, to) = (time(from)?, time(to)?);
    let now = at.to_zoned(find(zone)?).time();
    if from == to {
        return Err("pixtoll.between: both times are the same".to_owned());
    }
    Ok(if from < to {
        (from..to).contains(&now)
    } else {
        now >= from || now < to
    })
}

fn find(zone: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = zone else {
        return Ok(TimeZone::UTC);
    };
    TimeZone::get(name).map_err(|_| {
        format!("`{name}` is no time zone known here: write it like \"Europe/Berlin\"")
    })
}

/// `22:00`.
fn time(text: &str) -> Result<Time, String> {
    let wrong = || format!("\"{text}\" is no time of day: write it like \"22:00\"");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        plain
            .then(|| digits.parse::<i8>().ok())
            .flatten()
            .ok_or_else(wrong)
    };
    Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_stretch_may_span_midnight_and_ends_before_its_end() {
        let zone = Some("Europe/Berlin"); // an hour ahead in November
        for (time, inside) in [
            ("2026-11-22T20:59:59Z", false),
            ("2026-11-22T21:00:00Z", true),
            ("2026-11-22T23:30:00Z", true),
            ("2026-11-23T04:59:59Z", true),
            ("2026-11-23T05:00:00Z", false),
        ] {
            assert_eq!(
                between(at(time), "22:00", "06:00", zone),
                Ok(inside),
                "{time}"
            );
        }
        let noon = at("2026-11-22T12:00:00Z");
        assert_eq!(between(noon, "09:00", "17:00", None), Ok(true));
    }

    #[test]
    fn the_clock_reads_in_its_zone() {
        let monday = Reading {
            hour: 0,
            minute: 30,
            weekday: 1,
            day: 23,
        };
        assert_eq!(
            read(at("2026-11-22T23:30:00Z"), Some("Europe/Berlin")),
            Ok(monday)
        );
    }

    #[test]
    fn what_is_no_time_or_zone_is_said() {
        let now = at("2026-11-22T12:00:00Z");
        for text in ["", "22", "25:00", "10:60", "+1:00", "a:b", "1000:00"] {
            let why = between(now, text, "06:00", None).unwrap_err();
            assert!(why.contains("no time of day"), "{why}");
        }
        assert!(
            read(now, Some("Europe/Berlni"))
                .unwrap_err()
                .contains("no time zone")
        );
        assert!(between(now, "06:00", "06:00", None).is_err());
    }
}
