//! Any text is cut into tokens that cover all of it, in order.
#![no_main]

use kiln_core::SourceMap;
use kiln_language::syntax::lexer;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut sources = SourceMap::new();
    let source = sources.add("fuzz", None, text);
    let _ = lexer::lex(source, text);
    let _ = lexer::lex_template(source, text);
});
