//! Go `text/template` strings with Packer's functions, as they stand in legacy JSON and inside HCL2 strings.
//!
//! Owns: rendering, the balance check in front of the engine, Go's time layouts. Must not know: where a text came from.
//!
//! ```
//! use kiln_core::TextScope;
//! use kiln_gotemplate::{Rendered, Scope, render};
//!
//! let text = TextScope::default();
//! let scope = Scope { text: &text, build_name: Some("worker"), build_type: None, build: None, allow_env: false };
//! let rendered = render("image of {{build_name | upper}}", &scope, &Default::default());
//! assert_eq!(rendered, Ok(Rendered::Text("image of WORKER".into())));
//! ```

mod actions;
mod check;
mod data;
mod functions;
pub mod layout;
mod program;

use std::collections::BTreeMap;
use std::ops::Range;

pub use actions::action_ranges;
pub use check::check;
pub use functions::{function_names, lower, upper};
use kiln_core::TextScope;

/// Data fields (`.Vars`, `.Path`, `.SourceAMITags.Name`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// A text.
    Text(String),
    /// A nested map.
    Map(BTreeMap<String, Data>),
}

/// What the functions of one rendering may use.
#[derive(Debug, Clone, Copy)]
pub struct Scope<'a> {
    /// Template and run.
    pub text: &'a TextScope,
    /// `{{build_name}}`; `None` where no build is at hand (variable defaults).
    pub build_name: Option<&'a str>,
    /// `{{build_type}}`.
    pub build_type: Option<&'a str>,
    /// ``{{build `ID`}}``; `None` before the machine runs: then such a text renders to [`Rendered::Unknown`].
    pub build: Option<&'a BTreeMap<String, String>>,
    /// Whether `env` may be called: only in the defaults of variables.
    pub allow_env: bool,
}

/// A rendered text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rendered {
    /// The text.
    Text(String),
    /// It depends on a value of the machine that does not run yet.
    Unknown,
}

/// A data field that was printed and is not there: the text shows `<no value>` in its place, as Packer's does. Mostly a
/// misspelt name, so callers warn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingField {
    /// As written, with the leading dot: `.Pth`, `.SourceAMITags.Name`.
    pub path: String,
    /// The bytes of the action that prints it; `None` where that action came out of another one.
    pub range: Option<Range<usize>>,
    /// The nearest field that is there, with the leading dot.
    pub suggestion: Option<String>,
}

/// A rendered text and what is odd about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The text.
    pub rendered: Rendered,
    /// Fields printed as `<no value>`, in the order met.
    pub missing_fields: Vec<MissingField>,
}

/// Why a text cannot be rendered, in lower case and without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// What is wrong.
    pub message: String,
    /// The bytes of the text it concerns, where known: the misspelt name itself where [`suggestion`](Self::suggestion)
    /// is set and the name is written literally, else the action.
    pub range: Option<Range<usize>>,
    /// The nearest known name, where a name is unknown.
    pub suggestion: Option<String>,
}

impl RenderError {
    fn new(message: impl Into<String>, range: Option<Range<usize>>) -> RenderError {
        RenderError { message: message.into(), range, suggestion: None }
    }
}

/// How often a text is rendered again because the last rendering brought new actions. Packer has no bound and hangs on
/// a variable that holds itself.
const MAX_PASSES: usize = 10;

/// Renders a text to its fixed point. A text without `{{` is returned as it is.
///
/// Values of `data` and of the machine are never taken for templates, even if they hold `{{`.
pub fn render(text: &str, scope: &Scope<'_>, data: &BTreeMap<String, Data>) -> Result<Rendered, RenderError> {
    render_with_report(text, scope, data).map(|report| report.rendered)
}

/// Renders the value of a user variable, once: what it renders to is rendered again where the variable is used. Actions that
/// print a data field (`{{ .Vars }}`) stay as they are, for that place has the data.
pub fn render_variable(text: &str, scope: &Scope<'_>) -> Result<Rendered, RenderError> {
    let fields = actions::field_actions(text);
    let written = |offset: usize| fields.iter().fold(offset, |offset, start| data::written(offset, *start));
    let outcome = program::run(&data::protect_at(text, &fields), scope, &BTreeMap::new()).map_err(|error| {
        RenderError { range: error.range.map(|range| written(range.start)..written(range.end)), ..error }
    })?;
    Ok(match outcome.rendered {
        Rendered::Text(text) => Rendered::Text(data::unprotect(text)),
        Rendered::Unknown => Rendered::Unknown,
    })
}

/// As [`render`], and tells which fields were missing.
pub fn render_with_report(text: &str, scope: &Scope<'_>, data: &BTreeMap<String, Data>) -> Result<Report, RenderError> {
    let mut missing_fields = Vec::new();
    let mut current = text.to_owned();
    for pass in 0..MAX_PASSES {
        if !current.contains("{{") {
            break;
        }
        let outcome =
            program::run(&current, scope, data).map_err(|error| if pass == 0 { error } else { later(text, error) })?;
        missing_fields.extend(outcome.missing_fields.into_iter().map(|mut field| {
            if pass > 0 {
                field.range = None;
            }
            field
        }));
        match outcome.rendered {
            Rendered::Unknown => return Ok(Report { rendered: Rendered::Unknown, missing_fields }),
            Rendered::Text(next) if next == current => break,
            Rendered::Text(next) => current = next,
        }
        if pass + 1 == MAX_PASSES && current.contains("{{") {
            return Err(RenderError::new(
                format!("the text still holds actions after {MAX_PASSES} renderings; does a variable hold itself?"),
                whole_action(text),
            ));
        }
    }
    Ok(Report { rendered: Rendered::Text(data::unprotect(current)), missing_fields })
}

/// An error in a text that an earlier rendering produced has no place in the original.
fn later(original: &str, error: RenderError) -> RenderError {
    RenderError {
        message: format!("{} (in the text that a first rendering gave)", error.message),
        range: whole_action(original),
        suggestion: error.suggestion,
    }
}

/// The action, if the text has exactly one.
fn whole_action(text: &str) -> Option<Range<usize>> {
    match action_ranges(text).as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
