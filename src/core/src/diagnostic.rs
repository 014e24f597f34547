//! What is wrong with a template, and where.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::source::Span;
use crate::suggest;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The template cannot be built.
    Error,
    /// It can, but perhaps not as meant.
    Warning,
}

/// A place with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is to be seen there; may be empty.
    pub text: String,
}

/// An edit that would mend the mistake.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fix {
    /// The text to replace; empty span = insertion.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
    /// What it does, e.g. "write an attribute".
    pub text: String,
    /// How the replacement is to be taken.
    pub edit: Edit,
}

/// How an edit's replacement is to be taken. Whoever suggests one need not have the text that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edit {
    /// As it stands.
    Exact,
    /// It is a name: where the old one stands in quotes, it keeps them.
    Name,
    /// It is a value: it takes the place of a literal. Where something else stands (`var.x`), the fix is told in words.
    Value,
    /// It goes in front of the old text, and this behind it.
    Around(&'static str),
}

/// One mistake or warning. Titles are lower case, name things in backquotes and end without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable name of the rule, e.g. `unknown-argument`.
    pub code: &'static str,
    /// What is wrong.
    pub title: String,
    /// The place; `None` only where there is no text to point into.
    pub primary: Option<Label>,
    /// Further places, possibly in other files.
    pub secondary: Vec<Label>,
    /// Facts that help to understand.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// The edit that would mend it.
    pub fix: Option<Fix>,
    /// Name and text of files that no source map has, since they were read on the way (`templatefile`); places in them bear
    /// the ids from [`OWN`](crate::SourceId::OWN) on.
    pub texts: Vec<(String, Arc<str>)>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: &'static str, span: Span, title: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, code, Some(span), title)
    }

    /// A warning at a place.
    pub fn warning(code: &'static str, span: Span, title: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, code, Some(span), title)
    }

    /// Any severity, with or without a place.
    pub fn new(severity: Severity, code: &'static str, span: Option<Span>, title: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity,
            code,
            title: title.into(),
            primary: span.map(|span| Label { span, text: String::new() }),
            secondary: Vec::new(),
            notes: Vec::new(),
            help: None,
            fix: None,
            texts: Vec::new(),
        }
    }

    /// Words at the primary place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Diagnostic {
        if let Some(primary) = &mut self.primary {
            primary.text = text.into();
        }
        self
    }

    /// A further place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Diagnostic {
        self.secondary.push(Label { span, text: text.into() });
        self
    }

    /// A fact.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.notes.push(text.into());
        self
    }

    /// What to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help = Some(text.into());
        self
    }

    /// An edit that mends it.
    #[must_use]
    pub fn fix(self, span: Span, replacement: impl Into<String>, text: impl Into<String>) -> Diagnostic {
        self.fixed_by(span, replacement.into(), text.into(), Edit::Exact)
    }

    /// An edit that puts another name in the place of one, in quotes or not as that was.
    #[must_use]
    pub fn rename(self, span: Span, name: impl Into<String>, text: impl Into<String>) -> Diagnostic {
        self.fixed_by(span, name.into(), text.into(), Edit::Name)
    }

    /// An edit that puts another value in the place of one.
    #[must_use]
    pub fn value(self, span: Span, value: impl Into<String>, text: impl Into<String>) -> Diagnostic {
        self.fixed_by(span, value.into(), text.into(), Edit::Value)
    }

    /// An edit that puts something before and behind what stands at a place.
    #[must_use]
    pub fn enclose(
        self,
        span: Span,
        before: impl Into<String>,
        behind: &'static str,
        text: impl Into<String>,
    ) -> Diagnostic {
        self.fixed_by(span, before.into(), text.into(), Edit::Around(behind))
    }

    fn fixed_by(mut self, span: Span, replacement: String, text: String, edit: Edit) -> Diagnostic {
        self.fix = Some(Fix { span, replacement, text, edit });
        self
    }

    /// A text that places of this finding lie in and that is no source of its own; the first is
    /// [`OWN`](crate::SourceId::OWN).
    #[must_use]
    pub fn text(mut self, name: impl Into<String>, text: impl Into<Arc<str>>) -> Diagnostic {
        self.texts.push((name.into(), text.into()));
        self
    }

    /// Offers the nearest known name as an edit of `span`, or else lists the known names if there are at most twelve.
    #[must_use]
    pub fn did_you_mean<'a>(
        self,
        span: Span,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Diagnostic {
        if let Some(nearest) = suggest::nearest(name, known.clone()) {
            return self.rename(span, nearest, format!("did you mean `{nearest}`?"));
        }
        let count = known.clone().into_iter().count();
        if (1..=12).contains(&count) {
            return self.help(format!("known: {}", suggest::enumerate(known)));
        }
        self
    }

    /// What to do, where neither an edit nor anything else says so yet.
    #[must_use]
    pub fn or_help(self, text: Option<&str>) -> Diagnostic {
        match text {
            Some(text) if self.fix.is_none() => self.help(text),
            _ => self,
        }
    }

    /// Whether it stops the build.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Equal for equal findings; for others only by chance, so that few are compared with each other.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.severity, self.code, &self.title, &self.primary, &self.secondary).hash(&mut hasher);
        (&self.notes, &self.help, &self.fix).hash(&mut hasher);
        hasher.finish()
    }
}

/// The diagnostics of a stage, in the order found.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    /// All of them.
    pub items: Vec<Diagnostic>,
    /// Texts that came up on the way, derive from sensitive values and stand inside longer texts
    /// (`"x ${upper(var.token)}"`): nothing may show them. Whoever ends the stage gives them to the redactor.
    pub secrets: Vec<String>,
    /// Where in `items` a finding of a fingerprint was put: thousands of mistakes must not be compared with each other.
    seen: HashMap<u64, usize>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds one; the same finding at the same place is kept once (bodies are evaluated once per build).
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let fingerprint = diagnostic.fingerprint();
        if let Some(index) = self.seen.get(&fingerprint) {
            // Elsewhere only if somebody took items out.
            if self.items.get(*index) == Some(&diagnostic) || self.items.contains(&diagnostic) {
                return;
            }
        }
        self.seen.insert(fingerprint, self.items.len());
        self.items.push(diagnostic);
    }

    /// Adds many.
    pub fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }

    /// Whether any is an error.
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(Diagnostic::is_error)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// In the order of the text: by file, then by place; those without a place last.
    pub fn sort(&mut self) {
        self.items.sort_by_key(|item| {
            item.primary.as_ref().map_or((u32::MAX, u32::MAX), |label| (label.span.source.0, label.span.start))
        });
        self.seen = self.items.iter().enumerate().map(|(index, item)| (item.fingerprint(), index)).collect();
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.items.into_iter()
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(items: Vec<Diagnostic>) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        diagnostics.extend(items);
        diagnostics
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceId;

    #[test]
    fn the_same_finding_is_kept_once_also_after_sorting() {
        let at = |start: usize| Diagnostic::error("x", Span::new(SourceId(0), start..start + 1), "wrong");
        let mut diagnostics = Diagnostics::new();
        diagnostics.extend([at(5), at(1), at(5)]);
        diagnostics.sort();
        diagnostics.extend([at(1), at(5), at(7)]);
        assert_eq!(diagnostics.items, [at(1), at(5), at(7)]);
    }
}
