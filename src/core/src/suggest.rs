//! The nearest known name to a misspelt one.

use std::borrow::Cow;
use std::path::Path;

/// The candidate closest to `name`, if it is close enough to be what was meant: at most a third of the longer name
/// differs (counting a swap of neighbours as one change), or one is the other with `-` and `_` exchanged.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = Plain::of(name);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().filter(|candidate| *candidate != name) {
        let other = Plain::of(candidate);
        let longer = wanted.length.max(other.length);
        let shorter = wanted.length.min(other.length);
        // Of two as near, the first by name is taken: whatever is farther than the best is of no interest.
        let limit = (longer / 3).max(1).min(best.map_or(usize::MAX, |(distance, _)| distance));
        if longer - shorter > limit || wanted.unlike(&other) > limit {
            continue;
        }
        let distance = strsim::osa_distance(&wanted.text, &other.text);
        if distance <= limit && distance < longer && best.is_none_or(|best| (distance, candidate) < best) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The file beside a missing one whose name is nearest, written as the missing one was: relative to `base` where that is.
pub fn nearest_file(base: &Path, written: &str) -> Option<String> {
    let path = Path::new(written);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let wanted = path.file_name()?.to_str()?;
    let entries = std::fs::read_dir(base.join(parent.unwrap_or(Path::new("")))).ok()?;
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let nearest = nearest(wanted, names.iter().map(String::as_str))?;
    Some(parent.map_or_else(|| nearest.to_owned(), |parent| parent.join(nearest).display().to_string()))
}

/// A name as it is compared: without regard to case, and `-` is `_`.
struct Plain<'a> {
    text: Cow<'a, str>,
    length: usize,
    /// One bit for each letter that is in it.
    letters: u64,
}

impl Plain<'_> {
    fn of(name: &str) -> Plain<'_> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'.';
        let text = match name.bytes().all(is_plain) {
            true => Cow::Borrowed(name),
            false => Cow::Owned(name.to_lowercase().replace('-', "_")),
        };
        let letters = text.bytes().fold(0, |letters, byte| letters | 1 << (byte & 63));
        Plain { length: text.chars().count(), letters, text }
    }

    /// At least so many changes lie between two names: a change takes away one letter and brings one.
    fn unlike(&self, other: &Plain<'_>) -> usize {
        // A character of several bytes changes several bits at once.
        if !self.text.is_ascii() || !other.text.is_ascii() {
            return 0;
        }
        let gone = (self.letters & !other.letters).count_ones();
        let new = (other.letters & !self.letters).count_ones();
        gone.max(new) as usize
    }
}

/// `` `a`, `b` and `c` `` for lists in messages; empty for none.
pub fn enumerate<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_misspelt_and_refuses_the_unrelated() {
        let names = ["release", "registry", "docker-tag"];
        assert_eq!(nearest("relase", names), Some("release"));
        assert_eq!(nearest("docker_tag", names), Some("docker-tag"));
        assert_eq!(nearest("banana", names), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    #[test]
    fn of_two_as_near_the_first_by_name_is_taken() {
        assert_eq!(nearest("image", ["image2", "image1"]), Some("image1"));
        assert_eq!(nearest("größe", ["grösse", "größen"]), Some("größen"));
        assert_eq!(nearest("ab", ["ba"]), Some("ba"));
        assert_eq!(nearest("COMMIT", ["commit"]), Some("commit"));
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(enumerate([]), "");
        assert_eq!(enumerate(["a"]), "`a`");
        assert_eq!(enumerate(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
