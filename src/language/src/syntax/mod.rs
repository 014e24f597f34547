//! HCL2 syntax: the tree, and the way from text to it.

pub mod tree;

use kiln_core::{Diagnostics, SourceId};
pub use tree::*;

/// Reads a whole file. What could be read is returned even when there are errors.
pub fn parse_body(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Body {
    let _ = (source, text, diagnostics);
    unimplemented!("parse_body")
}

/// Reads one expression (console input, `-var` values of complex type). `None` only with errors.
pub fn parse_expression(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Option<Expression> {
    let _ = (source, text, diagnostics);
    unimplemented!("parse_expression")
}

/// Reads a text as the inside of a quoted string without escapes: the content of a `templatefile`.
pub fn parse_template(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Option<Expression> {
    let _ = (source, text, diagnostics);
    unimplemented!("parse_template")
}
