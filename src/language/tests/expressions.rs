//! Expressions and their results, as tables: `expressions/packer.txt` holds what Packer 1.6.6's console prints,
//! `expressions/kiln.txt` where kiln differs on purpose or follows newer releases.
//!
//! A row is `> expression`, then its printed value as lines that begin with `= `, or `! ` and the codes of the mistakes.
//! `expressions/values.pkr.hcl` holds the variables and locals that the expressions refer to.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use kiln_core::{Diagnostics, SourceMap};
use kiln_language::convert::convert;
use kiln_language::evaluate::{Scope, Variables, evaluate, type_of};
use kiln_language::functions::FunctionContext;
use kiln_language::print::to_hcl;
use kiln_language::syntax::{Body, parse_body, parse_expression};
use kiln_language::value::Value;

struct Roots(BTreeMap<String, Value>);

impl Variables for Roots {
    fn root(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn root_names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Roots {
    fn set(&mut self, root: &str, name: &str, value: Value) {
        let mut entries = self.0.get(root).and_then(Value::as_entries).cloned().unwrap_or_default();
        entries.insert(name.to_owned(), value);
        self.0.insert(root.to_owned(), Value::object(entries));
    }
}

fn functions() -> FunctionContext {
    FunctionContext {
        template_dir: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expressions"),
        working_dir: env!("CARGO_MANIFEST_DIR").into(),
        home: None,
        environment: kiln_core::ProcessEnvironment::default(),
        started: SystemTime::UNIX_EPOCH,
        allow_env: false,
    }
}

fn load(body: &Body, functions: &FunctionContext, diagnostics: &mut Diagnostics) -> Roots {
    let mut roots = Roots(BTreeMap::new());
    for block in body.blocks().filter(|block| block.kind.text == "variable") {
        let scope = Scope { variables: &roots, functions };
        let default = block.body.attribute("default").expect("a default");
        let mut value = evaluate(&default.value, &scope, diagnostics);
        if let Some(kind) = block.body.attribute("type") {
            let kind = type_of(&kind.value, &scope, diagnostics).expect("a type");
            value = convert(&value, &kind).expect("a default of the type");
        }
        roots.set("var", &block.labels[0].text, value);
    }
    for block in body.blocks().filter(|block| block.kind.text == "locals") {
        for attribute in block.body.attributes() {
            let value = evaluate(&attribute.value, &Scope { variables: &roots, functions }, diagnostics);
            roots.set("local", &attribute.name.text, value);
        }
    }
    roots
}

/// The printed value or the codes of the mistakes, in the form of a table's rows.
fn result(expression: &str, roots: &Roots, functions: &FunctionContext) -> String {
    let mut sources = SourceMap::new();
    let source = sources.add("console", None, expression);
    let mut diagnostics = Diagnostics::new();
    let value = parse_expression(source, expression, &mut diagnostics)
        .map(|expression| evaluate(&expression, &Scope { variables: roots, functions }, &mut diagnostics));
    let mut out = String::new();
    match value {
        Some(value) if diagnostics.is_empty() => {
            for line in to_hcl(&value).split('\n') {
                writeln!(out, "= {line}").unwrap();
            }
        }
        _ => {
            let codes: Vec<&str> = diagnostics.items.iter().map(|item| item.code).collect();
            writeln!(out, "! {}", codes.join(", ")).unwrap();
        }
    }
    out
}

fn check(table: &str, least: usize) {
    let functions = functions();
    let text = include_str!("expressions/values.pkr.hcl");
    let mut sources = SourceMap::new();
    let source = sources.add("values.pkr.hcl", None, text);
    let mut diagnostics = Diagnostics::new();
    let body = parse_body(source, text, &mut diagnostics);
    let roots = load(&body, &functions, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");

    let (mut count, mut failures) = (0, String::new());
    let mut rows = table.split("\n> ");
    rows.next();
    for row in rows {
        let (expression, expected) = row.split_once('\n').expect("a result");
        let expected: String = expected
            .lines()
            .filter(|line| line.starts_with("= ") || line.starts_with("! "))
            .map(|line| format!("{line}\n"))
            .collect();
        let found = result(expression, &roots, &functions);
        count += 1;
        if found != expected {
            write!(failures, "\n> {expression}\nexpected\n{expected}found\n{found}").unwrap();
        }
    }
    assert!(count >= least, "only {count} rows were read");
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn expressions_yield_what_packer_prints() {
    check(include_str!("expressions/packer.txt"), 320);
}

#[test]
fn expressions_yield_what_kiln_prints_on_purpose() {
    check(include_str!("expressions/kiln.txt"), 20);
}
