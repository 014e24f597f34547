//! Names in a Dockerfile that the template gives a meaning, put in their places. Lines stay where they are.
//!
//! BuildKit can do this itself (`--build-context`) since 2022, but only with images that it can pull: one that is in the
//! engine's store alone, as that of a build which was not pushed, has to stand in the text by a name.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::dockerfile::{Dockerfile, expand};

/// The text with each `NAME` that stands for an image replaced: in `FROM`, in `--from=` of `COPY` and `ADD`, in `from=` of
/// `RUN --mount`. Returns the names that were not found, too.
pub(crate) fn substitute(
    file: &Dockerfile,
    names: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> (String, Vec<String>) {
    let arguments = file.global_arguments(given);
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    let mut unused: Vec<String> = names.keys().cloned().collect();
    for instruction in &file.instructions {
        for word in instruction.references() {
            let text = expand(&word.text, &arguments);
            if let Some((name, replacement)) = meant(names, &text) {
                unused.retain(|unused| unused != name);
                edits.push((word.range, replacement));
            }
        }
    }
    let mut text = file.text.to_string();
    for (range, replacement) in edits.into_iter().rev() {
        text.replace_range(range, replacement);
    }
    (text, unused)
}

/// Whether a Dockerfile mentions a name.
pub(crate) fn mentions(file: &Dockerfile, name: &str, given: &BTreeMap<String, String>) -> bool {
    let names = BTreeMap::from([(name.to_owned(), String::new())]);
    substitute(file, &names, given).1.is_empty()
}

/// A name means itself, and its `latest`.
pub(crate) fn meant<'a>(names: &'a BTreeMap<String, String>, text: &str) -> Option<(&'a String, &'a str)> {
    let is_it = |name: &str| text.eq_ignore_ascii_case(name) || text.strip_suffix(":latest") == Some(name);
    names.iter().find(|(name, _)| is_it(name)).map(|(name, replacement)| (name, replacement.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_are_replaced_where_they_stand_for_images() {
        let text = "ARG DEV=pycroft-dev\nFROM $DEV AS builder\nRUN --mount=type=bind,from=pycroft-base,target=/b echo pycroft-base\nFROM pycroft-base:latest\nCOPY --from=builder a b\nCOPY --from=pycroft-dev pycroft-dev /x\n";
        let file = Dockerfile::parse("Dockerfile", text);
        let names = map(&[("pycroft-base", "B"), ("pycroft-dev", "D"), ("other", "O")]);
        let (text, unused) = substitute(&file, &names, &BTreeMap::new());
        assert_eq!(unused, ["other"]);
        assert_eq!(
            text,
            "ARG DEV=pycroft-dev\nFROM D AS builder\nRUN --mount=type=bind,from=B,target=/b echo pycroft-base\nFROM B\nCOPY --from=builder a b\nCOPY --from=D pycroft-dev /x\n"
        );
        assert!(mentions(&file, "pycroft-dev", &BTreeMap::new()) && !mentions(&file, "dev", &BTreeMap::new()));
    }

    #[test]
    fn what_the_template_gives_decides() {
        let file = Dockerfile::parse("Dockerfile", "ARG BASE=x\nFROM ${BASE}\n");
        let (text, unused) = substitute(&file, &map(&[("base", "B")]), &map(&[("BASE", "base")]));
        assert_eq!((text.as_str(), unused.len()), ("ARG BASE=x\nFROM B\n", 0));
    }
}
