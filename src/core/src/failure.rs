//! What went wrong while running: the shape in which a component's own error crosses into the engine.

use std::error::Error;
use std::fmt;

use crate::source::Span;

/// What kind of failure it is; it picks the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FailureClass {
    /// A build failed: a step, a commit, a push.
    Build,
    /// kiln was called wrongly.
    Usage,
    /// The template is wrong.
    Template,
    /// Something outside is missing: no daemon, no credentials.
    Environment,
    /// The user stopped it.
    Cancelled,
    /// kiln itself is wrong.
    Bug,
}

impl FailureClass {
    /// The exit code of the process; documented in `docs/reference/exit-codes.md`.
    pub fn exit_code(self) -> u8 {
        match self {
            FailureClass::Build => 1,
            FailureClass::Usage => 2,
            FailureClass::Template => 3,
            FailureClass::Environment => 4,
            FailureClass::Cancelled => 130,
            FailureClass::Bug => 70,
        }
    }
}

/// An error with its class, its cause and what to do about it.
#[derive(Debug)]
pub struct Failure {
    /// Picks the exit code and the heading.
    pub class: FailureClass,
    /// The error of the component, with its chain of causes in `source()`.
    pub error: Box<dyn Error + Send + Sync>,
    /// What to do next; one sentence each.
    pub hints: Vec<String>,
    /// Its place in the template, where there is one.
    pub span: Option<Span>,
}

impl Failure {
    /// Wraps a component's error.
    pub fn new(class: FailureClass, error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure { class, error: error.into(), hints: Vec::new(), span: None }
    }

    /// A failed build.
    pub fn build(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure::new(FailureClass::Build, error)
    }

    /// Something outside is missing.
    pub fn environment(error: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
        Failure::new(FailureClass::Environment, error)
    }

    /// Stopped by the user.
    pub fn cancelled() -> Failure {
        Failure::new(FailureClass::Cancelled, "cancelled")
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hints.push(hint.into());
        self
    }

    /// Adds the place.
    #[must_use]
    pub fn at(mut self, span: Span) -> Failure {
        self.span = Some(span);
        self
    }

    /// Adds the place, unless one is known that says more.
    #[must_use]
    pub fn within(self, span: Span) -> Failure {
        if self.span.is_some() { self } else { self.at(span) }
    }

    /// Whether the user stopped it.
    pub fn is_cancelled(&self) -> bool {
        self.class == FailureClass::Cancelled
    }

    /// The message and its causes, joined by `: `; a cause that its parent's text repeats is left out.
    pub fn chain(&self) -> String {
        let mut text = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let part = error.to_string();
            if !text.contains(&part) {
                text.push_str(": ");
                text.push_str(&part);
            }
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, formatter)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
