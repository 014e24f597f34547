//! Durations as Go writes them (`1h30m`, `300ms`, `5s`), which is how templates write them.

use std::time::Duration;

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
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().map_err(|_| malformed())?;
        rest = &rest[digits..];
        if rest.is_empty() {
            return Err(DurationError::NoUnit(trimmed.to_owned()));
        }
        let unit_length = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit_length] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(DurationError::UnknownUnit(trimmed.to_owned())),
        };
        seconds += number * factor;
        rest = &rest[unit_length..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| malformed())
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
    fn shows_what_people_read() {
        assert_eq!(display(Duration::from_millis(350)), "350ms");
        assert_eq!(display(Duration::from_millis(1250)), "1.2s");
        assert_eq!(display(Duration::from_secs(125)), "2m 5s");
    }
}
