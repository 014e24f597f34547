//! What is wrong with a template, and where.

use crate::source::Span;
use crate::suggest;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The template cannot be built.
    Error,
    /// It can, but perhaps not as meant.
    Warning,
}

/// A place with a few words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// What is to be seen there; may be empty.
    pub text: String,
}

/// An edit that would mend the mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// The text to replace; empty span = insertion.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
    /// What it does, e.g. "write an attribute".
    pub text: String,
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
    pub fn fix(mut self, span: Span, replacement: impl Into<String>, text: impl Into<String>) -> Diagnostic {
        self.fix = Some(Fix { span, replacement: replacement.into(), text: text.into() });
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
            return self.fix(span, nearest, format!("did you mean `{nearest}`?"));
        }
        let count = known.clone().into_iter().count();
        if (1..=12).contains(&count) {
            return self.help(format!("known: {}", suggest::enumerate(known)));
        }
        self
    }

    /// Whether it stops the build.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The diagnostics of a stage, in the order found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics {
    /// All of them.
    pub items: Vec<Diagnostic>,
    /// Texts that came up on the way, derive from sensitive values and stand inside longer texts
    /// (`"x ${upper(var.token)}"`): nothing may show them. Whoever ends the stage gives them to the redactor.
    pub secrets: Vec<String>,
}

impl Diagnostics {
    /// None yet.
    pub fn new() -> Diagnostics {
        Diagnostics::default()
    }

    /// Adds one; the same finding at the same place is kept once (bodies are evaluated once per build).
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if !self.items.contains(&diagnostic) {
            self.items.push(diagnostic);
        }
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
        Diagnostics { items, secrets: Vec::new() }
    }
}
