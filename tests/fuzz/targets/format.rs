//! Any text can be formatted; a second time changes nothing, and a text that parses still does.
#![no_main]

use kiln_core::{Diagnostics, SourceMap};
use kiln_language::{format::format, syntax};

fn is_sound(text: &str) -> bool {
    let mut sources = SourceMap::new();
    let source = sources.add("fuzz", None, text);
    let mut diagnostics = Diagnostics::new();
    let _ = syntax::parse_body(source, text, &mut diagnostics);
    !diagnostics.has_errors()
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let once = format(text);
    if is_sound(text) {
        assert!(is_sound(&once), "no longer parses: {once:?}");
        assert_eq!(format(&once), once, "formatting again changes it");
    }
});
