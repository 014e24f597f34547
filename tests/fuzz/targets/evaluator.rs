//! Any expression has a value or a diagnostic; the value can be printed.
#![no_main]

use std::collections::BTreeMap;
use std::time::SystemTime;

use kiln_core::{Diagnostics, ProcessEnvironment, SourceMap, render};
use kiln_language::evaluate::{Scope, Variables, evaluate};
use kiln_language::functions::FunctionContext;
use kiln_language::value::{Type, Value};
use kiln_language::{print, syntax};

struct Roots(BTreeMap<String, Value>);

impl Variables for Roots {
    fn root(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn root_names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

fn roots() -> Roots {
    let text = |text: &str| Value::string(text);
    let entries = [
        ("s".to_owned(), text("a text")),
        ("l".to_owned(), Value::tuple(vec![text("x"), Value::bool(true), Value::null()])),
        ("u".to_owned(), Value::unknown(Type::Any)),
        ("secret".to_owned(), text("hidden").marked(true)),
    ];
    let object = Value::object(entries);
    Roots([("var".to_owned(), object.clone()), ("local".to_owned(), object)].into_iter().collect())
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Slow by design: its cost is an argument.
    if text.contains("bcrypt") {
        return;
    }
    let mut sources = SourceMap::new();
    let source = sources.add("fuzz", None, text);
    let mut diagnostics = Diagnostics::new();
    let Some(expression) = syntax::parse_expression(source, text, &mut diagnostics) else { return };
    if diagnostics.has_errors() {
        return;
    }
    let functions = FunctionContext {
        // No file can be there: what a function reads must not decide what the fuzzer sees.
        template_dir: "/nowhere/template".into(),
        working_dir: "/nowhere/work".into(),
        home: None,
        environment: ProcessEnvironment::default(),
        started: SystemTime::UNIX_EPOCH,
        allow_env: true,
    };
    let roots = roots();
    let value = evaluate(&expression, &Scope { variables: &roots, functions: &functions }, &mut diagnostics);
    let _ = print::to_hcl(&value);
    for diagnostic in diagnostics.items.iter().take(20) {
        let _ = render::render(diagnostic, &sources, false);
    }
});
