//! Legacy JSON templates.

use kiln_core::{Diagnostic, Diagnostics, SourceMap, Span};

use crate::load::{LoadOptions, Outcome, TemplateText};

/// Loads a legacy JSON template that was read already.
pub fn load(
    template: &TemplateText,
    options: &LoadOptions,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Outcome {
    let _ = (options, sources);
    let span = Span::new(template.source, 0..0);
    diagnostics.push(Diagnostic::error("unsupported", span, "legacy JSON templates cannot be read yet"));
    Outcome::default()
}
