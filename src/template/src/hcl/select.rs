//! `-only` and `-except`: which builds and post-processors run.

use std::cell::{Cell, RefCell};

use globset::{GlobBuilder, GlobMatcher};
use kiln_core::{Diagnostic, Diagnostics, Severity, Span, suggest};

/// How many places a message shows beside the first.
const SHOWN_PLACES: usize = 4;

/// The patterns of a run. `*` also crosses dots, as in Packer.
#[derive(Debug)]
pub(crate) struct Selection {
    only: Vec<Pattern>,
    except: Vec<Pattern>,
    /// Where `enabled` or an empty `for_each` leaves out builds that would run otherwise.
    left_out: RefCell<Vec<Span>>,
}

#[derive(Debug)]
struct Pattern {
    text: String,
    glob: GlobMatcher,
    has_matched: Cell<bool>,
}

impl Pattern {
    fn matches(&self, name: &str) -> bool {
        self.note(self.glob.is_match(name))
    }

    /// As [`Pattern::matches`], and a word alone is the short name of builds. Packer's full names have a dot at least: what matches
    /// there matches here.
    fn selects(&self, name: &str) -> bool {
        self.note(self.glob.is_match(name) || is_short_name(&self.text, name))
    }

    fn note(&self, matches: bool) -> bool {
        self.has_matched.set(self.has_matched.get() || matches);
        matches
    }
}

/// Whether a word names a build by its source, its block or its module: `app` is `docker.app`, `app.docker.image`, and
/// `module.app.docker.image`.
fn is_short_name(word: &str, name: &str) -> bool {
    let parts: Vec<&str> = name.split('.').collect();
    let (module, rest) = match parts.as_slice() {
        ["module", module, rest @ ..] => (Some(*module), rest),
        rest => (None, rest),
    };
    let block = if rest.len() > 2 { rest.first().copied() } else { None };
    [module, block, rest.last().copied()].contains(&Some(word))
}

impl Selection {
    /// Reads the patterns; one that is no pattern is an error.
    pub(crate) fn new(only: &[String], except: &[String], diagnostics: &mut Diagnostics) -> Selection {
        Selection {
            only: patterns("-only", only, diagnostics),
            except: patterns("-except", except, diagnostics),
            left_out: RefCell::default(),
        }
    }

    /// Whether everything runs.
    pub(crate) fn is_empty(&self) -> bool {
        self.only.is_empty() && self.except.is_empty() && self.left_out.borrow().is_empty()
    }

    /// Whether no build is left out by a pattern.
    pub(crate) fn takes_all(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    /// Whether a build runs that goes by any of these names: its own, and those of the families it belongs to. Every
    /// pattern is tried, so that it is known which ones match nothing.
    pub(crate) fn takes_build(&self, names: &[String]) -> bool {
        // No short circuit: every pattern notes whether it matches.
        let selected = self.only.iter().filter(|only| names.iter().filter(|name| only.selects(name)).count() > 0);
        let wanted = selected.count() > 0 || self.only.is_empty();
        let refused = names.iter().filter(|name| matches_any(&self.except, name)).count() > 0;
        wanted && !refused
    }

    /// Whether `-except` names a build.
    pub(crate) fn refuses_build(&self, names: &[String]) -> bool {
        names.iter().any(|name| self.except.iter().any(|pattern| pattern.glob.is_match(name)))
    }

    /// Notes that something which would run is left out by the template itself.
    pub(crate) fn leave_out(&self, place: Span) {
        let mut left_out = self.left_out.borrow_mut();
        if !left_out.contains(&place) {
            left_out.push(place);
        }
    }

    /// Whether a post-processor of this name (or type, where it has none) is left out, and with it the rest of its chain.
    pub(crate) fn drops_post_processor(&self, name: &str) -> bool {
        matches_any(&self.except, name)
    }

    /// Forgets what [`Selection::leave_out`] noted.
    pub(crate) fn forget_left_out(&self) {
        self.left_out.borrow_mut().clear();
    }

    /// Warns of patterns that matched nothing, and refuses a selection that left nothing of `builds`.
    pub(crate) fn finish(&self, builds: &[String], left: usize, diagnostics: &mut Diagnostics) {
        let known = match builds {
            [] => "the template has no builds".to_owned(),
            _ => format!("the builds are {}", suggest::enumerate(builds.iter().map(String::as_str))),
        };
        let mut is_told = false;
        for (flag, pattern) in self
            .only
            .iter()
            .map(|pattern| ("-only", pattern))
            .chain(self.except.iter().map(|pattern| ("-except", pattern)))
        {
            if !pattern.has_matched.get() {
                let title = format!("`{flag}={}` matches nothing", pattern.text);
                let help = match meant(&pattern.text, builds) {
                    Some(name) => format!("did you mean `{flag}={name}`? {known}"),
                    None => known.clone(),
                };
                diagnostics.push(Diagnostic::new(Severity::Warning, "unmatched-pattern", None, title).help(help));
                is_told = true;
            }
        }
        if left > 0 {
            return;
        }
        let left_out = self.left_out.borrow();
        let is_selected = !(self.only.is_empty() && self.except.is_empty());
        let (title, help) = if is_selected && !builds.is_empty() {
            ("`-only` and `-except` leave no build to run", (!is_told).then_some(known))
        } else if !left_out.is_empty() {
            let help = "enable a build with its sources, or give `for_each` an element";
            ("the template leaves out all that it could build", Some(help.to_owned()))
        } else {
            return;
        };
        let mut diagnostic = Diagnostic::new(Severity::Error, "no-builds", left_out.first().copied(), title);
        if let Some(help) = help {
            diagnostic = diagnostic.help(help);
        }
        if !left_out.is_empty() {
            diagnostic = diagnostic.label("left out here");
        }
        for place in left_out.iter().skip(1).take(SHOWN_PLACES) {
            diagnostic = diagnostic.also(*place, "and here");
        }
        diagnostics.push(diagnostic);
    }
}

/// What a pattern that matches nothing may stand for: the end of a build's name, or of a family's, or a misspelt one.
fn meant<'a>(text: &str, builds: &'a [String]) -> Option<&'a str> {
    let end = format!(".{text}");
    let whole = builds.iter().find_map(|build| {
        let (before, behind) = build.split_once(&end)?;
        (behind.is_empty() || behind.starts_with('-')).then(|| &build[..before.len() + end.len()])
    });
    let short = || suggest::nearest(text, builds.iter().filter_map(|build| build.rsplit('.').next()));
    whole.or_else(|| suggest::nearest(text, builds.iter().map(String::as_str))).or_else(short)
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
        assert!(selection.takes_build(&["images.docker.worker".to_owned()]));
        assert!(!selection.takes_build(&["docker.images".to_owned()]));
    }

    #[test]
    fn alternatives_and_classes_work() {
        let (selection, _) = selection(&["docker.{web,worker-[0-9]}"], &["*web"]);
        assert!(selection.takes_build(&["docker.worker-1".to_owned()]));
        assert!(!selection.takes_build(&["docker.worker-x".to_owned()]));
        assert!(!selection.takes_build(&["docker.web".to_owned()]));
    }

    #[test]
    fn a_word_alone_is_a_source_a_block_or_a_module() {
        let names =
            ["docker.app", "app.docker.image", "module.app.docker.image", "module.m.app.docker.image", "docker.app-1"];
        let taken = |only: &str, except: &str| {
            let (selection, _) = selection(&[only], &[except]);
            names.map(|name| selection.takes_build(&[name.to_owned()]))
        };
        assert_eq!(taken("app", "none"), [true, true, true, true, false]);
        assert_eq!(taken("docker", "none"), [false; 5]);
        assert_eq!(taken("module", "none"), [false; 5]);
        // With a dot it is a full name, as in Packer; and so it is behind `-except`, where it names post-processors as well.
        assert_eq!(taken("docker.image", "none"), [false; 5]);
        assert_eq!(taken("*", "app"), [true; 5]);
    }

    #[test]
    fn an_unmatched_pattern_and_an_empty_selection_are_told() {
        let (selection, mut diagnostics) = selection(&["dcoker.*"], &[]);
        assert!(!selection.takes_build(&["docker.web".to_owned()]));
        selection.finish(&["docker.web".to_owned()], 0, &mut diagnostics);
        let titles: Vec<&str> = diagnostics.items.iter().map(|item| item.title.as_str()).collect();
        assert_eq!(titles, ["`-only=dcoker.*` matches nothing", "`-only` and `-except` leave no build to run"]);
    }

    #[test]
    fn what_a_pattern_may_have_meant_is_told() {
        let builds = ["docker.web", "more.docker.db-a", "more.docker.db-b"].map(str::to_owned);
        for (pattern, expected) in [
            ("docker.db", Some("more.docker.db")),
            ("docker.db-b", Some("more.docker.db-b")),
            ("amazon-ebs.web-server", None),
            ("dcoker.web", Some("docker.web")),
            ("wbe", Some("web")),
        ] {
            let known = "the builds are `docker.web`, `more.docker.db-a` and `more.docker.db-b`";
            let help = expected.map_or(known.to_owned(), |name| format!("did you mean `-only={name}`? {known}"));
            let (selection, mut diagnostics) = selection(&[pattern], &[]);
            selection.finish(&builds, 0, &mut diagnostics);
            let helps: Vec<_> = diagnostics.items.iter().map(|item| item.help.clone()).collect();
            // The list of builds stands once.
            assert_eq!(helps, [Some(help), None], "{pattern}");
        }
    }

    #[test]
    fn a_broken_pattern_is_an_error() {
        let (_, diagnostics) = selection(&["a["], &[]);
        assert!(diagnostics.has_errors());
    }
}
