//! `test` blocks of a build.

use kiln_core::{Diagnostic, Diagnostics, TestSpec};
use kiln_language::syntax::Name;

use super::dynamic::ExpandedBlock;
use super::steps::{Arguments, BuildContext};

/// The block.
pub(crate) const BLOCK: &str = "test";

/// Arguments of a test that are the template's.
pub(crate) const ARGUMENTS: [&str; 4] = ["only", "except", "for_each", "enabled"];

/// Reads a test; `None` where it does not run for this source, or with an error told.
pub(crate) fn read(
    block: &ExpandedBlock<'_>,
    context: &BuildContext<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<TestSpec> {
    let [label] = block.labels.as_slice() else {
        let diagnostic = Diagnostic::error("wrong-labels", block.kind.span, "`test` takes one label: its name");
        diagnostics.push(diagnostic.help("write `test \"NAME\" { ... }`"));
        return None;
    };
    let mut arguments = Arguments::new(block, &context.shared.values, diagnostics);
    let runs = arguments.runs_for(context);
    let kind = Name { text: BLOCK.to_owned(), span: block.kind.span };
    let component = context.component(block, kind, &ARGUMENTS);
    if runs {
        context.shared.note(block.body);
    }
    runs.then_some(TestSpec { name: label.text.clone(), component })
}
