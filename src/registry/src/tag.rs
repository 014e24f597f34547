//! What a tag looks like: a name that somebody will rely on never to mean another image, or one that moves.

/// Words of tags that move even with a whole version before them: `1.2.3-SNAPSHOT`.
const MOVING: [&str; 18] = [
    "canary", "current", "dev", "develop", "edge", "head", "latest", "main", "master", "next", "nightly", "rolling",
    "snapshot", "stable", "testing", "trunk", "unstable", "wip",
];

/// Words before a commit: after one of them, digits alone are one, too.
const BEFORE_COMMIT: [&str; 7] = ["build", "commit", "git", "release", "rev", "revision", "sha"];

/// Whether a tag looks as if it were to mean one image for ever. It does, if between its `-` and `_` there is
///
/// - a *whole version*: at least three numbers with dots (`1.2.3`, `v14.0.0`, `1.2.3-rc1`, `0.0.20261123T1010`), unless another
///   part is a word for what moves (`1.2.3-SNAPSHOT`, `1.2.3-dev`); a version of one or two numbers (`1`, `1.2`) is by custom
///   an alias that moves on with each release;
/// - a *date*: `2026-11-23`, `20261123`, `20261123T1010`, `bookworm-20261123`;
/// - a *hash*: 7 to 64 hexadecimal digits, letters and numbers among them (`3f2a91c`, `release-3f2a91c`, `g3f2a91c` as `git
///   describe` writes it), also numbers alone after a word such as `release` or `sha`.
///
/// All else moves: `latest`, `main`, `bookworm`, names of branches. It is a guess by looks, and a branch called
/// `fix-1.2.3-crash` fools it; the price is a question to the registry, or `-force`.
pub fn looks_immutable(tag: &str) -> bool {
    let parts: Vec<&str> = tag.split(['-', '_']).collect();
    let is_moving = || parts.iter().any(|part| MOVING.contains(&part.to_ascii_lowercase().as_str()));
    if parts.windows(3).any(|date| is_date(date[0], date[1], date[2])) {
        return true;
    }
    let mut before: Option<&str> = None;
    for part in &parts {
        if is_compact_date(part) || is_hash(part, before) || (is_whole_version(part) && !is_moving()) {
            return true;
        }
        before = Some(part);
    }
    false
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `1.2.3`, `v1.2.3`, `1.2.3rc1`, `1.2.3.4`, `0.0.20261123T1010`.
fn is_whole_version(part: &str) -> bool {
    let mut numbers = part.strip_prefix(['v', 'V']).unwrap_or(part).split('.');
    let (Some(major), Some(minor), Some(patch)) = (numbers.next(), numbers.next(), numbers.next()) else {
        return false;
    };
    is_number(major) && is_number(minor) && patch.starts_with(|first: char| first.is_ascii_digit())
}

fn is_date(year: &str, month: &str, day: &str) -> bool {
    let within = |text: &str, length: usize, least: u32, most: u32| {
        text.len() == length
            && is_number(text)
            && text.parse().is_ok_and(|number: u32| (least..=most).contains(&number))
    };
    // A time may follow: `2026-11-23T10`.
    let day = day.split_once(['T', 't']).map_or(day, |(day, _)| day);
    within(year, 4, 1970, 2199) && within(month, 2, 1, 12) && within(day, 2, 1, 31)
}

/// `20261123`, with or without a time: `20261123T1010`, `202611231010`.
fn is_compact_date(part: &str) -> bool {
    let (Some(year), Some(month), Some(day)) = (part.get(..4), part.get(4..6), part.get(6..8)) else { return false };
    let time = part[8..].trim_start_matches(['T', 't']).trim_end_matches(['Z', 'z']).replace('.', "");
    is_date(year, month, day) && (time.is_empty() || (is_number(&time) && time.len() <= 9))
}

fn is_hash(part: &str, before: Option<&str>) -> bool {
    let described = part.strip_prefix('g').filter(|_| before.is_some_and(is_number));
    let hash = described.unwrap_or(part);
    if !(7..=64).contains(&hash.len()) || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return false;
    }
    let has_digit = hash.bytes().any(|byte| byte.is_ascii_digit());
    let has_letter = hash.bytes().any(|byte| byte.is_ascii_alphabetic());
    let is_announced = described.is_some()
        || before.is_some_and(|word| BEFORE_COMMIT.contains(&word.to_ascii_lowercase().as_str()))
        || matches!(hash.len(), 40 | 64);
    (has_digit && has_letter) || is_announced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_dates_and_hashes_stay() {
        for tag in [
            "1.2.3",
            "v14.0.0",
            "14.0.0",
            "1.2.3-rc1",
            "1.2.3rc1",
            "1.2.3.4",
            "app-1.2.3",
            "3.9.18-slim",
            "0.0.20261123T1010",
            "2026-11-23",
            "20261123",
            "20261123T1010",
            "20261123T101000Z",
            "202611231010",
            "bookworm-20261123",
            "nightly-2026-11-23",
            "2026.11.23",
            "3f2a91c",
            "release-3f2a91c",
            "main-3f2a91c",
            "sha-0123456",
            "release-1234567",
            "1.2-14-g3f2a91c",
            "1.2-14-g1234567",
            "550e8400-e29b-41d4-a716-446655440000",
            "0123456789012345678901234567890123456789",
        ] {
            assert!(looks_immutable(tag), "{tag}");
        }
    }

    #[test]
    fn all_else_moves() {
        for tag in [
            "latest",
            "main",
            "develop",
            "dev",
            "stable",
            "bookworm",
            "bookworm-slim",
            "1",
            "1.2",
            "v1",
            "22.04",
            "3.9-slim",
            "42",
            "1234567",
            "1.2.x",
            "1.2.3-SNAPSHOT",
            "1.2.3-dev",
            "1.2.3_latest",
            "feature-login",
            "git_feature-42",
            "change_12345_latest",
            "2026",
            "2026-11",
            "2026-13-23",
            "20261399",
            "facade",
            "feedbad",
            "deadbeef",
            "PR-123",
            "",
        ] {
            assert!(!looks_immutable(tag), "{tag}");
        }
    }
}
