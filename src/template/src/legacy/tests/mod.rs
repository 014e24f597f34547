//! Tests of legacy JSON templates.

mod configs;
mod mistakes;
mod oracle;
mod places;
mod plans;

use kiln_core::render::render;
use kiln_core::{Diagnostics, SourceMap};

use crate::load::{LoadOptions, Outcome, TemplateText};

/// What loading a text gave.
struct Loaded {
    sources: SourceMap,
    diagnostics: Diagnostics,
    outcome: Outcome,
}

impl Loaded {
    /// All diagnostics as the terminal shows them.
    fn rendered(&self) -> String {
        let mut diagnostics = self.diagnostics.clone();
        diagnostics.sort();
        let shown: Vec<String> =
            diagnostics.items.iter().map(|diagnostic| render(diagnostic, &self.sources, false)).collect();
        shown.join("\n\n")
    }

    /// Whether the template can be built.
    fn is_accepted(&self) -> bool {
        self.outcome.plan.is_some() && !self.diagnostics.has_errors()
    }

    /// The plan; shows the diagnostics where there is none.
    fn plan(&self) -> &kiln_core::Plan {
        assert!(self.diagnostics.is_empty(), "{}", self.rendered());
        self.outcome.plan.as_ref().unwrap()
    }
}

fn options() -> LoadOptions {
    LoadOptions::new("templates/worker.json", "/nonexistent")
}

fn load(text: &str) -> Loaded {
    load_with(text, &options())
}

fn load_with(text: &str, options: &LoadOptions) -> Loaded {
    let mut sources = SourceMap::new();
    let mut diagnostics = Diagnostics::new();
    let source = sources.add("worker.json", None, text);
    let template = TemplateText { source, text: text.into() };
    let outcome = super::load(&template, options, &mut sources, &mut diagnostics);
    Loaded { sources, diagnostics, outcome }
}

/// `-var` options.
fn with_variables(pairs: &[(&str, &str)]) -> LoadOptions {
    let mut options = options();
    options.variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    options
}
