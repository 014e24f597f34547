//! Durations as Go writes them (`1h30m`, `300ms`, `5s`), which is how templates write them.

use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Nothing there.
    #[error("a duration is empty; write for example `30s`")]
    Empty,
    /// A number without unit.
    #[error("`{0}` has no unit; write for example `{0}s`")]
    NoUnit(String),
    /// A unit that Go does not have.
    #[error("`{0}` has an unknown unit; the units are `ns`, `us`, `ms`, `s`, `m` and `h`")]
    UnknownUnit(String),
    /// Anything else, or negative, or beyond what fits.
    #[error("`{0}` is not a duration; write for example `30s`, `5m` or `1h30m`")]
    Malformed(String),
}

/// Reads Go's `time.ParseDuration` form. A negative duration is refused: nothing here may wait less than nothing.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(DurationError::Empty);
    }
    if trimmed == "0" {
        return Ok(Duration::ZERO);
    }
    let malformed = || DurationError::Malformed(trimmed.to_owned());
    let mut rest = trimmed.strip_prefix('+').unwrap_or(trimmed);
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..digits];
        rest = &rest[digits..];
        if rest.is_empty() {
            return Err(DurationError::NoUnit(trimmed.to_owned()));
        }
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit_length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(DurationError::UnknownUnit(trimmed.to_owned())),
        };
        nanoseconds += scaled(number, factor).ok_or_else(malformed)?;
        rest = &rest[unit_length..];
    }
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).map_err(|_| malformed())?;
    Ok(Duration::from_secs(seconds) + Duration::from_nanos((nanoseconds % 1_000_000_000) as u64))
}

/// Whole units are exact, as those of Go; a fraction is cut after the nanosecond.
fn scaled(number: &str, nanoseconds: u64) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    Some(u128::from(whole) * u128::from(nanoseconds) + (fraction * nanoseconds as f64) as u128)
}

/// What a text that is no duration was probably meant to be: `10 seconds` is `10s`, `1d` is `24h`, `30` is `30s`.
pub fn meant(text: &str) -> Option<String> {
    let mut rest = text.trim().trim_start_matches('+');
    let mut meant = String::new();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if digits == 0 {
            return None;
        }
        let (number, behind) = rest.split_at(digits);
        if number.is_empty() {
            return None;
        }
        let behind = behind.trim_start();
        let letters = behind.find(|c: char| !c.is_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        let whole = |factor: u64| number.parse::<u64>().ok()?.checked_mul(factor);
        meant.push_str(&match unit.to_lowercase().as_str() {
            "ns" | "us" | "µs" | "μs" | "ms" => format!("{number}{}", unit.to_lowercase()),
            "millisecond" | "milliseconds" | "millis" | "msec" | "msecs" => format!("{number}ms"),
            "" | "s" | "sec" | "secs" | "second" | "seconds" => format!("{number}s"),
            "m" | "min" | "mins" | "minute" | "minutes" => format!("{number}m"),
            "h" | "hr" | "hrs" | "hour" | "hours" => format!("{number}h"),
            "d" | "day" | "days" => format!("{}h", whole(24)?),
            "w" | "week" | "weeks" => format!("{}h", whole(168)?),
            _ => return None,
        });
        rest = behind.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
    }
    (meant != text && parse(&meant).is_ok()).then_some(meant)
}

/// The finding for a value that is no duration, with what was probably meant. `value` is the text as evaluated.
pub fn mistake(name: &str, value: &str, span: Span, error: &DurationError) -> Diagnostic {
    let diagnostic = Diagnostic::error("wrong-duration", span, format!("`{name}`: {error}"));
    match meant(value) {
        Some(meant) => diagnostic.value(span, format!("\"{meant}\""), format!("write `{meant}`")),
        None => diagnostic,
    }
}

/// A duration for people: `1.2s`, `350ms`, `2m 5s`.
pub fn display(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds >= 3600 {
        format!("{}h {}m", seconds / 3600, seconds % 3600 / 60)
    } else if seconds >= 60 {
        format!("{}m {}s", seconds / 60, seconds % 60)
    } else if duration >= Duration::from_secs(1) {
        format!("{:.1}s", duration.as_secs_f64())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// For `#[serde(deserialize_with)]`: a duration field that [`crate::schema::Schema::decode`] has checked already.
pub fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = <String as serde::Deserialize>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

/// As [`deserialize`], for an optional field.
pub fn deserialize_option<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = <Option<String> as serde::Deserialize>::deserialize(deserializer)?;
    text.map(|text| parse(&text).map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        assert_eq!(parse("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("0"), Ok(Duration::ZERO));
        assert_eq!(parse("10 seconds"), Err(DurationError::UnknownUnit("10 seconds".into())));
        assert_eq!(parse("10"), Err(DurationError::NoUnit("10".into())));
        assert!(parse("-5s").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn guesses_what_was_meant() {
        let meant = |text| meant(text).unwrap_or_default();
        assert_eq!(meant("10 seconds"), "10s");
        assert_eq!(meant("5 min"), "5m");
        assert_eq!(meant("1 hour, 30 minutes"), "1h30m");
        assert_eq!(meant("1d"), "24h");
        assert_eq!(meant("30"), "30s");
        assert_eq!(meant("5M"), "5m");
        assert_eq!(meant("soon"), "");
        assert_eq!(meant("10 parsecs"), "");
        assert_eq!(meant("10 s!conds"), "");
        assert_eq!(meant("1h30m"), "");
    }

    #[test]
    fn guesses_nothing_where_no_number_stands() {
        for text in ["{{", "-", "30 -", "1h, ...and", "", "\u{e9}"] {
            assert_eq!(meant(text), None, "{text}");
        }
    }

    #[test]
    fn shows_what_people_read() {
        assert_eq!(display(Duration::from_millis(350)), "350ms");
        assert_eq!(display(Duration::from_millis(1250)), "1.2s");
        assert_eq!(display(Duration::from_secs(125)), "2m 5s");
    }
}
