//! Sizes and ages: as people write them, and for people to read.

use std::time::Duration;

const KIB: u64 = 1024;
const DAY: u64 = 24 * 60 * 60;

/// Reads a size: a number and a unit, decimal (`kB`, `MB`, `GB`, `TB`) or binary (`KiB`, `K`, ...); none for bytes.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let malformed = || format!("`{text}` is not a size; write for example 500MB or 20GiB");
    let text = text.trim();
    let split = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let number: f64 = text[..split].parse().map_err(|_| malformed())?;
    let factor = match text[split..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "k" | "kib" => KIB,
        "m" | "mib" => KIB.pow(2),
        "g" | "gib" => KIB.pow(3),
        "t" | "tib" => KIB.pow(4),
        _ => return Err(malformed()),
    };
    // Nobody's disk is large enough for the digits that are lost.
    Ok((number * factor as f64) as u64)
}

/// Reads an age: a Go duration (`1h30m`), or days or weeks (`30d`, `4w`).
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let days = text.strip_suffix('d').map(|number| (number, DAY)).or(text.strip_suffix('w').map(|it| (it, 7 * DAY)));
    if let Some((number, unit)) = days {
        let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
        return seconds.map(Duration::from_secs).ok_or(format!("`{text}` is not an age; write for example 12h or 30d"));
    }
    kiln_core::duration::parse(text).map_err(|_| format!("`{text}` is not an age; write for example 12h or 30d"))
}

/// `1.5 GiB`.
pub(crate) fn shown_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= KIB as f64;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `3 hours ago`.
pub(crate) fn shown_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (number, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "minute"),
        3600..DAY => (seconds / 3600, "hour"),
        _ => (seconds / DAY, "day"),
    };
    format!("{number} {unit}{} ago", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, expected) in [
            ("0", 0),
            ("12", 12),
            ("1kB", 1000),
            ("1K", 1024),
            ("1.5 GiB", 3 << 29),
            ("20gib", 20 << 30),
            ("2TB", 2_000_000_000_000),
        ] {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for wrong in ["", "GiB", "-1", "1.2.3", "5 apples"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ages_are_read_in_days_too() {
        assert_eq!(age("30d"), Ok(Duration::from_secs(30 * DAY)));
        assert_eq!(age("2w"), Ok(Duration::from_secs(14 * DAY)));
        assert_eq!(age("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "d", "1.5d", "soon", "99999999999999999d"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_are_told_in_few_words() {
        let sizes = [0, 1023, 1024, 1_500_000, (1 << 30) - 1, 5 << 40].map(shown_size);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.4 MiB", "1.0 GiB", "5.0 TiB"]);
        let ages = [5, 60, 7300, DAY, 40 * DAY].map(|seconds| shown_age(Duration::from_secs(seconds)));
        assert_eq!(ages, ["just now", "1 minute ago", "2 hours ago", "1 day ago", "40 days ago"]);
    }
}
