//! The nearest known name to a misspelt one.

use std::borrow::Cow;
use std::path::Path;

/// The candidate closest to `name`, if it is close enough to be what was meant: at most a third of the longer name
/// differs (counting a swap of neighbours as one change), or one is the other with `-` and `_` exchanged. Where none is, the only
/// candidate that has the name as its last or first words: `build_args` for `args`.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = Plain::of(name);
    let mut best: Option<(usize, &str)> = None;
    let mut longer_names: Vec<&str> = Vec::new();
    for candidate in candidates.into_iter().filter(|candidate| *candidate != name).take(COMPARED) {
        let other = Plain::of(candidate);
        if wanted.length >= SHORTEST_WORD && wanted.is_words_of(&other) {
            longer_names.push(candidate);
        }
        let longer = wanted.length.max(other.length);
        let shorter = wanted.length.min(other.length);
        // Of two as near, the first by name is taken: whatever is farther than the best is of no interest.
        let limit = (longer / 3).max(1).min(best.map_or(usize::MAX, |(distance, _)| distance));
        if longer - shorter > limit || wanted.unlike(&other) > limit {
            continue;
        }
        if let Some(distance) = wanted.distance(&other, limit).filter(|distance| *distance < longer)
            && best.is_none_or(|best| (distance, candidate) < best)
        {
            best = Some((distance, candidate));
        }
    }
    let only = if let [only] = longer_names.as_slice() { Some(*only) } else { None };
    best.map(|(_, candidate)| candidate).or(only)
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

/// So many names are looked at: thousands of mistakes among thousands of names must not be compared each with each.
const COMPARED: usize = 2000;

/// Shorter names are words of too many others.
const SHORTEST_WORD: usize = 3;

/// Longer names are compared without haste.
const ROW: usize = 32;

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

    /// Whether the other name goes on before or behind this one, with words of its own.
    fn is_words_of(&self, other: &Plain<'_>) -> bool {
        let (one, two) = (self.text.as_ref(), other.text.as_ref());
        two.strip_suffix(one).is_some_and(|before| before.ends_with(['_', '.']))
            || two.strip_prefix(one).is_some_and(|behind| behind.starts_with(['_', '.']))
    }

    /// How many characters are changed, added, taken away or swapped with their neighbour; `None` where more than `limit`.
    fn distance(&self, other: &Plain<'_>, limit: usize) -> Option<usize> {
        let (one, two) = (self.text.as_bytes(), other.text.as_bytes());
        if !self.text.is_ascii() || !other.text.is_ascii() || two.len() >= ROW {
            return Some(strsim::osa_distance(&self.text, &other.text)).filter(|distance| *distance <= limit);
        }
        // The usual table, row by row, and of each row only what may stay within the limit.
        let mut rows = [[usize::MAX / 2; ROW]; 3];
        (0..=two.len()).for_each(|column| rows[0][column] = column);
        for (index, letter) in one.iter().enumerate() {
            let row = index + 1;
            let (first, last) = (row.saturating_sub(limit).max(1), (row + limit).min(two.len()));
            let [before, previous, current] = [(row + 1) % 3, (row + 2) % 3, row % 3];
            rows[current] = [usize::MAX / 2; ROW];
            rows[current][0] = row;
            let mut least = if first == 1 { row } else { usize::MAX };
            for column in first..=last {
                let is_same = *letter == two[column - 1];
                let mut cost = (rows[previous][column - 1] + usize::from(!is_same))
                    .min(rows[previous][column] + 1)
                    .min(rows[current][column - 1] + 1);
                if index > 0 && column > 1 && *letter == two[column - 2] && one[index - 1] == two[column - 1] {
                    cost = cost.min(rows[before][column - 2] + 1);
                }
                rows[current][column] = cost;
                least = least.min(cost);
            }
            // A swap reaches back two rows, and costs no less than the row between them.
            if least > limit {
                return None;
            }
        }
        Some(rows[one.len() % 3][two.len()]).filter(|distance| *distance <= limit)
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
        assert_eq!(nearest("args", ["labels", "build_args", "cargs_x"]), Some("build_args"));
        assert_eq!(nearest("args", ["build_args", "run_args"]), None);
    }

    #[test]
    fn the_distance_is_the_usual_one() {
        // All words of up to four letters out of three against each other.
        let mut words = vec![String::new()];
        for start in 0..40 {
            let word = words[start].clone();
            words.extend(["a", "b", "c"].map(|letter| format!("{word}{letter}")));
        }
        for one in &words {
            for two in &words {
                let exact = strsim::osa_distance(one, two);
                for limit in 0..4 {
                    let expected = (exact <= limit).then_some(exact);
                    assert_eq!(Plain::of(one).distance(&Plain::of(two), limit), expected, "{one} {two} {limit}");
                }
            }
        }
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(enumerate([]), "");
        assert_eq!(enumerate(["a"]), "`a`");
        assert_eq!(enumerate(["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
