//! Any Go template text is rendered or refused, and what is refused has a place in the text.
#![no_main]

use std::collections::BTreeMap;

use kiln_core::TextScope;
use kiln_gotemplate::{Data, Scope, action_ranges, render_with_report};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let variables = [("name".to_owned(), "worker".to_owned()), ("again".to_owned(), "{{user `name`}}".to_owned())];
    let scope_text = TextScope {
        user_variables: Some(std::sync::Arc::new(BTreeMap::from(variables))),
        ..TextScope::default()
    };
    let scope = Scope {
        text: &scope_text,
        build_name: Some("worker"),
        build_type: Some("docker"),
        build: None,
        allow_env: true,
    };
    let data = BTreeMap::from([
        ("Path".to_owned(), Data::Text("/tmp/script".to_owned())),
        ("Tags".to_owned(), Data::Map(BTreeMap::from([("Name".to_owned(), Data::Text("x".to_owned()))]))),
    ]);
    for range in action_ranges(text) {
        assert!(text.get(range).is_some());
    }
    if let Err(error) = render_with_report(text, &scope, &data)
        && let Some(range) = error.range
    {
        assert!(text.get(range).is_some());
    }
});
