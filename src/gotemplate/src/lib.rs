//! Go `text/template` strings with Packer's functions, as they stand in legacy JSON and inside HCL2 strings.
//!
//! Owns: rendering, the balance check in front of the engine, Go's time layouts. Must not know: where a text came from.

use std::collections::BTreeMap;

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

/// Why a text cannot be rendered, in lower case and without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RenderError {
    /// What is wrong.
    pub message: String,
    /// The bytes of the text it concerns, where known.
    pub range: Option<std::ops::Range<usize>>,
    /// The nearest known name, where a name is unknown.
    pub suggestion: Option<String>,
}

/// Renders a text to its fixed point. A text without `{{` is returned as it is.
pub fn render(text: &str, scope: &Scope<'_>, data: &BTreeMap<String, Data>) -> Result<Rendered, RenderError> {
    let _ = (scope, data);
    Ok(Rendered::Text(text.to_owned()))
}
