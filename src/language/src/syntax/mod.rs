//! HCL2 syntax: the tree, and the way from text to it.
//!
//! ```text
//!   text ──lexer──► tokens (balanced) ──parser──► tree
//! ```

mod bytes;
pub mod lexer;
mod parser;
pub mod tree;

pub use bytes::{Decoded, NotUtf8, decode};
use kiln_core::{Diagnostics, SourceId};
pub use tree::*;
use unicode_normalization::{UnicodeNormalization, is_nfc};

use parser::Parser;

/// Reads a whole file. What could be read is returned even when there are errors.
pub fn parse_body(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Body {
    Parser::new(source, text, lexer::lex(source, text), diagnostics).file()
}

/// Reads one expression (console input, `-var` values of complex type). `None` only with errors.
pub fn parse_expression(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Option<Expression> {
    Parser::new(source, text, lexer::lex(source, text), diagnostics).single_expression()
}

/// Reads a text as the inside of a quoted string without escapes: the content of a `templatefile`.
pub fn parse_template(source: SourceId, text: &str, diagnostics: &mut Diagnostics) -> Option<Expression> {
    Parser::new(source, text, lexer::lex_template(source, text), diagnostics).template_file()
}

/// The NFC form: texts that look the same are the same.
fn normalised(text: &str) -> String {
    if is_nfc(text) { text.to_owned() } else { text.nfc().collect() }
}
