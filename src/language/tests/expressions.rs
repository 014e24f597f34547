//! Expressions and their results, as tables: all but `expressions/kiln.txt` hold what Packer 1.6.6's console prints, and
//! that one where kiln differs on purpose or follows newer releases. With `KILN_TEST_PACKER=1` the tables are checked
//! against Packer itself.
//!
//! A row is `> expression`, then its printed value as lines that begin with `= `, or `! ` and the codes of the mistakes.
//! `expressions/values.pkr.hcl` holds the variables and locals that the expressions refer to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a failed test is meant to panic, and a skipped one to say so"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
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

/// What Packer prints, and how many rows each table has at least.
const PACKER_TABLES: [(&str, &str, usize); 3] = [
    ("packer.txt", include_str!("expressions/packer.txt"), 360),
    ("language.txt", include_str!("expressions/language.txt"), 550),
    ("functions.txt", include_str!("expressions/functions.txt"), 650),
];

#[test]
fn expressions_yield_what_packer_prints() {
    for (_, table, least) in PACKER_TABLES {
        check(table, least);
    }
}

#[test]
fn expressions_yield_what_kiln_prints_on_purpose() {
    check(include_str!("expressions/kiln.txt"), 90);
}

/// Packer's answer to a line: what it prints, or that it fails. On a pipe it reads one line only.
fn packer(expression: &str) -> Option<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expressions");
    let mut child = Command::new("packer")
        .args(["console", "."])
        .current_dir(directory)
        .env("CHECKPOINT_DISABLE", "1")
        .env("PACKER_NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("packer starts");
    writeln!(child.stdin.take().expect("a pipe"), "{expression}").expect("packer reads");
    let output = child.wait_with_output().expect("packer ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

/// Rows on which a table and Packer disagree.
fn disagreements(rows: &[(&str, &str)]) -> String {
    let mut failures = String::new();
    for (name, row) in rows {
        let (expression, expected) = row.split_once('\n').expect("a result");
        let values: Vec<&str> = expected.lines().filter_map(|line| line.strip_prefix("= ")).collect();
        let expected = (!values.is_empty()).then(|| values.join("\n"));
        let found = packer(expression);
        if found != expected {
            writeln!(failures, "{name}: {expression}\nrecorded {expected:?}\nprinted  {found:?}").unwrap();
        }
    }
    failures
}

#[test]
fn the_tables_are_what_packer_prints() {
    if std::env::var_os("KILN_TEST_PACKER").is_none_or(|value| value != "1") {
        eprintln!("SKIPPED: KILN_TEST_PACKER=1 compares the tables with packer 1.6.6");
        return;
    }
    let rows: Vec<(&str, &str)> =
        PACKER_TABLES.iter().flat_map(|(name, table, _)| table.split("\n> ").skip(1).map(|row| (*name, row))).collect();
    // Each row is a start of Packer; several at a time.
    let failures: String = std::thread::scope(|scope| {
        let parts = rows.chunks(rows.len().div_ceil(4));
        let running: Vec<_> = parts.map(|part| scope.spawn(|| disagreements(part))).collect();
        running.into_iter().map(|thread| thread.join().expect("the rows are compared")).collect()
    });
    assert!(failures.is_empty(), "{failures}");
}
