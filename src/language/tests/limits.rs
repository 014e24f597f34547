//! Much of everything: deep nesting is a mistake that is told, long texts take time in proportion to their length.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic")]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use kiln_core::{Diagnostics, SourceId};
use kiln_language::evaluate::{NoVariables, Scope, evaluate};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{parse_body, parse_expression};
use kiln_language::value::Value;

fn run(text: &str) -> (Value, Diagnostics) {
    let functions = FunctionContext {
        template_dir: Path::new(".").to_owned(),
        working_dir: Path::new(".").to_owned(),
        home: None,
        environment: kiln_core::ProcessEnvironment::default(),
        started: SystemTime::UNIX_EPOCH,
        allow_env: false,
    };
    let mut diagnostics = Diagnostics::new();
    let expression = parse_expression(SourceId(0), text, &mut diagnostics);
    let scope = Scope { variables: &NoVariables, functions: &functions };
    let value = expression.map_or_else(Value::null, |expression| evaluate(&expression, &scope, &mut diagnostics));
    (value, diagnostics)
}

/// What takes quadratic time takes minutes at these sizes; in proportion it is less than a second, and a debug build on a
/// busy machine may take a few.
const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn deep_nesting_is_a_mistake_and_no_overflow() {
    let count = 10_000;
    let nested = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(count), close.repeat(count));
    let texts = [
        nested("[", "", "]"),
        nested("(", "1", ")"),
        nested("{ a = ", "1", " }"),
        nested("\"${", "1", "}\""),
        nested("\"%{ if true }", "", "%{ endif }\""),
        nested("upper(", "\"\"", ")"),
        nested("[for x in [1] : ", "x", "]"),
        nested("{ for x in [1] : x => ", "x", "}"),
        nested("true ? 1 : ", "2", ""),
        nested("-", "1", ""),
        nested("!", "true", ""),
        nested("", "local", ".a"),
        nested("", "local", "[0]"),
        nested("", "local", "[*]"),
        nested("[", "", ""),
        nested("\"${", "", ""),
        format!("jsondecode(\"{}\")", nested("[", "", "]")),
        format!("yamldecode(\"{}\")", nested("[", "", "]")),
        format!("yamldecode(\"{}x\")", "- ".repeat(count)),
    ];
    let start = Instant::now();
    for text in texts {
        let (_, diagnostics) = run(&text);
        let shown = &text[..40];
        assert!((1..10).contains(&diagnostics.items.len()), "{shown}: {} mistakes", diagnostics.items.len());
    }
    let mut diagnostics = Diagnostics::new();
    parse_body(SourceId(0), &nested("a {\n", "", "}\n"), &mut diagnostics);
    assert!((1..10).contains(&diagnostics.items.len()), "{} mistakes", diagnostics.items.len());
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn long_texts_take_time_in_proportion() {
    let count = 20_000;
    let list = |element: &dyn Fn(usize) -> String| (0..count).map(element).collect::<Vec<String>>().join(", ");
    let numbers = list(&|index| index.to_string());
    let texts = list(&|index| format!("\"k{index}\""));
    let entries = list(&|index| format!("k{index} = {index}"));
    let mixed = list(&|index| if index % 2 == 0 { index.to_string() } else { format!("\"{index}\"") });
    let cases = [
        format!("length([{numbers}])"),
        format!("length({{ {entries} }})"),
        format!("length(keys({{ {entries} }}))"),
        format!("length(distinct([{texts}]))"),
        format!("length(setunion([{texts}], [{texts}]))"),
        format!("length(convert([{mixed}], list(string)))"),
        format!("length(true ? [{mixed}] : [{mixed}, 1]) - 0"),
        format!("length([for x in [{numbers}] : x if x >= 0])"),
        format!("length({{ for x in [{numbers}] : x => x }})"),
        format!("length([{numbers}][*])"),
        format!("length(sort([{numbers}]))"),
        format!("length(split(\",\", join(\",\", [{texts}])))"),
        format!("length(jsondecode(jsonencode([{numbers}])))"),
        format!("length(yamldecode(yamlencode([{texts}])))"),
        format!("length(csvdecode(join(\"\\n\", [\"a\", {texts}])))"),
        format!("length(\"{}\")", "${\"x\"}".repeat(count)),
        format!("length(formatlist(\"%s\", [{numbers}]))"),
        format!("0{}", " + 1".repeat(count)),
        format!("1 * 1 == 1{} ? {count} : 0", " && 1 < 2 || false".repeat(count)),
    ];
    for case in cases {
        let start = Instant::now();
        let (value, diagnostics) = run(&case);
        let shown = &case[..40];
        assert!(diagnostics.is_empty(), "{shown}: {:?}", diagnostics.items.first());
        assert_eq!(value, Value::number(count as u64), "{shown}");
        assert!(start.elapsed() < PATIENCE, "{shown}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    let heredoc = format!("a = <<EOT\n{0}EOT\nb = <<-EOT\n{0}EOT\n", "  line ${1 + 1} of many\n".repeat(30_000));
    let mut diagnostics = Diagnostics::new();
    assert_eq!(parse_body(SourceId(0), &heredoc, &mut diagnostics).attributes().count(), 2);
    assert!(diagnostics.is_empty() && start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn thousands_of_mistakes_take_time_by_their_number() {
    let texts = [
        "a = \"\n".repeat(30_000),
        "a = <<A\nA x\n".repeat(30_000),
        format!("{}{}", "a {}\n".repeat(30_000), "}\n".repeat(30_000)),
        format!("{}{}", "[\n".repeat(30_000), "}\n".repeat(30_000)),
    ];
    for text in texts {
        let start = Instant::now();
        let mut diagnostics = Diagnostics::new();
        parse_body(SourceId(0), &text, &mut diagnostics);
        assert!(diagnostics.has_errors() && start.elapsed() < PATIENCE, "{}: {:?}", &text[..6], start.elapsed());
    }
}
