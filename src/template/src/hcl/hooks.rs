//! Hooks of a build: what runs on this host when it has ended.

use kiln_core::hook::DEFAULT_TIMEOUT;
use kiln_core::{Diagnostic, Diagnostics, HookEvent, HookSpec};
use kiln_language::syntax::Name;

use super::dynamic::ExpandedBlock;
use super::steps::{Arguments, BuildContext};

/// The blocks.
pub(crate) const BLOCKS: [&str; 3] = ["on_success", "on_failure", "always"];

/// Arguments of a hook that are the template's.
pub(crate) const ARGUMENTS: [&str; 6] = ["name", "only", "except", "timeout", "for_each", "enabled"];

/// Reads a hook; `None` where it does not run for this source, or with an error told.
pub(crate) fn read(
    block: &ExpandedBlock<'_>,
    context: &BuildContext<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<HookSpec> {
    let event = HookEvent::of_block(&block.kind.text)?;
    if let Some(label) = block.labels.first() {
        let title = format!("`{}` takes no label", block.kind.text);
        diagnostics.push(Diagnostic::error("extra-label", label.span, title).help("a hook is always a local script"));
        return None;
    }
    let mut arguments = Arguments::new(block, &context.shared.values, diagnostics);
    let runs = arguments.runs_for(context);
    arguments.text("name");
    let timeout = arguments.duration("timeout").filter(|timeout| !timeout.is_zero()).unwrap_or(DEFAULT_TIMEOUT);
    let kind = Name { text: block.kind.text.clone(), span: block.kind.span };
    let component = context.component(block, kind, &ARGUMENTS);
    if runs {
        context.shared.note(block.body);
    }
    runs.then_some(HookSpec { event, component, timeout })
}

#[cfg(test)]
mod reference_tests {
    use kiln_core::HookEvent;

    use crate::grammar;

    #[test]
    fn what_hooks_take_is_documented() {
        assert_eq!(HookEvent::ALL.map(HookEvent::block), super::BLOCKS);
        for schema in [&grammar::ON_SUCCESS, &grammar::ON_FAILURE, &grammar::ALWAYS] {
            assert_eq!(grammar::arguments(schema), super::ARGUMENTS);
        }
    }
}
