//! `data` blocks. Only `null` is there: it gives its input back.

use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::syntax::{Block, Body, Name};

use super::blocks::{check_items, labels};

/// A `data` block.
#[derive(Debug)]
pub(crate) struct DataDeclaration {
    pub(crate) kind: Name,
    pub(crate) name: Name,
    pub(crate) header: Span,
    pub(crate) body: Body,
}

impl DataDeclaration {
    /// Reads a `data` block.
    pub(crate) fn read(block: Block, diagnostics: &mut Diagnostics) -> Option<DataDeclaration> {
        let [kind, name] = labels(&block, ["its type", "its name"], diagnostics)?;
        if kind.text == "null" {
            check_items(&block.body, "a `null` data source", &["input"], &[], diagnostics);
        } else {
            diagnostics.push(
                Diagnostic::error(
                    "unsupported-data-source",
                    kind.span,
                    format!("the data source `{}` is not available", kind.text),
                )
                .note("of data sources, kiln has `null` only")
                .help("find the value before the build and hand it over as a variable"),
            );
        }
        Some(DataDeclaration { kind, name, header: block.header, body: block.body })
    }
}
