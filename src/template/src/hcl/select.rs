//! `-only` and `-except`: which builds and post-processors run.

use std::cell::Cell;

use globset::{GlobBuilder, GlobMatcher};
use kiln_core::{Diagnostic, Diagnostics, Severity, suggest};

/// The patterns of a run. `*` also crosses dots, as in Packer.
#[derive(Debug)]
pub(crate) struct Selection {
    only: Vec<Pattern>,
    except: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    glob: GlobMatcher,
    has_matched: Cell<bool>,
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        let matches = self.glob.is_match(name);
        self.has_matched.set(self.has_matched.get() || matches);
        matches
    }
}

impl Selection {
    /// Reads the patterns; one that is no pattern is an error.
    pub(crate) fn new(only: &[String], except: &[String], diagnostics: &mut Diagnostics) -> Selection {
        Selection { only: patterns("-only", only, diagnostics), except: patterns("-except", except, diagnostics) }
    }

    /// Whether everything runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    /// Whether a build of this name runs. Every pattern is tried, so that it is known which ones match nothing.
    pub(crate) fn takes_build(&self, name: &str) -> bool {
        let wanted = matches_any(&self.only, name) || self.only.is_empty();
        let refused = matches_any(&self.except, name);
        wanted && !refused
    }

    /// Whether a post-processor of this name (or type, where it has none) is left out, and with it the rest of its chain.
    pub(crate) fn drops_post_processor(&self, name: &str) -> bool {
        matches_any(&self.except, name)
    }

    /// Warns of patterns that matched nothing, and refuses a selection that left nothing of `builds`.
    pub(crate) fn finish(&self, builds: &[String], left: usize, diagnostics: &mut Diagnostics) {
        let known = match builds {
            [] => "the template has no builds".to_owned(),
            _ => format!("the builds are {}", suggest::enumerate(builds.iter().map(String::as_str))),
        };
        for (flag, pattern) in self
            .only
            .iter()
            .map(|pattern| ("-only", pattern))
            .chain(self.except.iter().map(|pattern| ("-except", pattern)))
        {
            if !pattern.has_matched.get() {
                let title = format!("`{flag}={}` matches nothing", pattern.text);
                diagnostics
                    .push(Diagnostic::new(Severity::Warning, "unmatched-pattern", None, title).help(known.as_str()));
            }
        }
        if left == 0 && !builds.is_empty() && !(self.only.is_empty() && self.except.is_empty()) {
            let title = "`-only` and `-except` leave no build to run";
            diagnostics.push(Diagnostic::new(Severity::Error, "no-builds", None, title).help(known));
        }
    }
}

// No short circuit: every pattern notes whether it matches.
fn matches_any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().filter(|pattern| pattern.matches(name)).count() > 0
}

fn patterns(flag: &str, texts: &[String], diagnostics: &mut Diagnostics) -> Vec<Pattern> {
    let texts = texts.iter().filter(|text| !text.is_empty());
    texts
        .filter_map(|text| match GlobBuilder::new(text).literal_separator(false).backslash_escape(true).build() {
            Ok(glob) => {
                Some(Pattern { text: text.clone(), glob: glob.compile_matcher(), has_matched: Cell::new(false) })
            }
            Err(error) => {
                let title = format!("`{flag}={text}` is not a pattern: {}", error.kind());
                diagnostics.push(Diagnostic::new(Severity::Error, "wrong-pattern", None, title));
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &[&str], except: &[&str]) -> (Selection, Diagnostics) {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let mut diagnostics = Diagnostics::new();
        let selection = Selection::new(&owned(only), &owned(except), &mut diagnostics);
        (selection, diagnostics)
    }

    #[test]
    fn a_star_crosses_dots() {
        let (selection, _) = selection(&["images.*"], &[]);
        assert!(selection.takes_build("images.docker.worker"));
        assert!(!selection.takes_build("docker.images"));
    }

    #[test]
    fn alternatives_and_classes_work() {
        let (selection, _) = selection(&["docker.{web,worker-[0-9]}"], &["*web"]);
        assert!(selection.takes_build("docker.worker-1"));
        assert!(!selection.takes_build("docker.worker-x"));
        assert!(!selection.takes_build("docker.web"));
    }

    #[test]
    fn an_unmatched_pattern_and_an_empty_selection_are_told() {
        let (selection, mut diagnostics) = selection(&["dcoker.*"], &[]);
        assert!(!selection.takes_build("docker.web"));
        selection.finish(&["docker.web".to_owned()], 0, &mut diagnostics);
        let titles: Vec<&str> = diagnostics.items.iter().map(|item| item.title.as_str()).collect();
        assert_eq!(titles, ["`-only=dcoker.*` matches nothing", "`-only` and `-except` leave no build to run"]);
    }

    #[test]
    fn a_broken_pattern_is_an_error() {
        let (_, diagnostics) = selection(&["a["], &[]);
        assert!(diagnostics.has_errors());
    }
}
