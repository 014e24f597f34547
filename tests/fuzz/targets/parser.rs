//! Any text gives a tree or diagnostics whose places lie in the text and can be shown.
#![no_main]

use kiln_core::{Diagnostics, SourceMap, render};
use kiln_language::syntax;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut sources = SourceMap::new();
    let source = sources.add("fuzz", None, text);
    let mut diagnostics = Diagnostics::new();
    let _ = syntax::parse_body(source, text, &mut diagnostics);
    let expression = syntax::parse_expression(source, text, &mut diagnostics);
    assert!(expression.is_some() || diagnostics.has_errors());
    let _ = syntax::parse_template(source, text, &mut diagnostics);
    for diagnostic in diagnostics.items.iter().take(20) {
        let _ = render::render(diagnostic, &sources, false);
        let _ = render::to_json(diagnostic, &sources);
    }
});
