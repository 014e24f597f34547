//! Marks, unknown values, references, template files, and mistakes found while evaluating.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use kiln_core::{Diagnostic, Diagnostics, SourceId, SourceMap, render};
use kiln_language::evaluate::{NoVariables, Scope, Variables, evaluate, references, type_of};
use kiln_language::functions::FunctionContext;
use kiln_language::print::{one_line, to_hcl};
use kiln_language::syntax::{Name, parse_body, parse_expression};
use kiln_language::value::{Data, Type, Value};

struct Roots(BTreeMap<String, Value>);

impl Variables for Roots {
    fn root(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn root_names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        (root == "var").then(|| {
            Diagnostic::error("undeclared-variable", name.span, format!("no variable `{}` is declared", name.text))
        })
    }
}

fn roots() -> Roots {
    let secret = |value: Value| value.marked(true);
    let var = Value::object([
        ("token", secret(Value::string("hunter2"))),
        ("digits", secret(Value::number(42))),
        ("flag", secret(Value::bool(true))),
        ("secrets", secret(Value::object([("a", Value::string("hunter2")), ("b", Value::string("other"))]))),
        ("mixed", Value::tuple([Value::string("open"), secret(Value::string("hunter2"))])),
        ("open", Value::string("open")),
    ]);
    let later = Value::object([
        ("text", Value::unknown(Type::String)),
        ("number", Value::unknown(Type::Number)),
        ("flag", Value::unknown(Type::Bool)),
        ("list", Value::unknown(Type::list(Type::object([("id", Type::Number)])))),
        ("map", Value::unknown(Type::map(Type::String))),
        ("any", Value::unknown(Type::Any)),
        ("object", Value::unknown(Type::object([("id", Type::String)]))),
    ]);
    Roots(BTreeMap::from([("var".to_owned(), var), ("later".to_owned(), later)]))
}

fn functions(template_dir: &Path) -> FunctionContext {
    FunctionContext {
        template_dir: template_dir.to_path_buf(),
        working_dir: template_dir.to_path_buf(),
        home: None,
        environment: kiln_core::ProcessEnvironment::default(),
        started: SystemTime::UNIX_EPOCH,
        allow_env: false,
    }
}

fn run(text: &str, template_dir: &Path) -> (Value, Diagnostics, SourceMap) {
    let mut sources = SourceMap::new();
    let source = sources.add("image.pkr.hcl", None, text);
    let mut diagnostics = Diagnostics::new();
    let expression = parse_expression(source, text, &mut diagnostics).expect("a well-formed expression");
    let (roots, functions) = (roots(), functions(template_dir));
    let scope = Scope { variables: &roots, functions: &functions };
    let value = evaluate(&expression, &scope, &mut diagnostics);
    (value, diagnostics, sources)
}

fn value(text: &str) -> Value {
    let (value, diagnostics, _) = run(text, Path::new("."));
    assert!(diagnostics.is_empty(), "{text}: {:#?}", diagnostics.items);
    value
}

fn rendered(text: &str, template_dir: &Path) -> String {
    let (_, diagnostics, sources) = run(text, template_dir);
    let mut out = String::new();
    for diagnostic in &diagnostics.items {
        writeln!(out, "{}\n", render::render(diagnostic, &sources, false)).unwrap();
    }
    out
}

#[test]
fn every_operation_keeps_the_mark() {
    let whole = [
        "var.token",
        "var.secrets.a",
        "var.secrets[\"a\"]",
        "var.secrets[upper(\"a\") == \"A\" ? \"a\" : \"b\"]",
        "\"x${var.token}\"",
        "\"${var.token}\"",
        "\"%{if var.flag}a%{endif}\"",
        "\"%{for k, v in var.secrets}${k}%{endfor}\"",
        "\"${var.mixed[1]}!\"",
        "-var.digits",
        "!var.flag",
        "var.digits + 1",
        "var.digits > 1",
        "var.token == \"x\"",
        "var.mixed == [1]",
        "var.flag && false",
        "var.flag ? 1 : 2",
        "true ? var.token : \"x\"",
        "upper(var.token)",
        "length(var.secrets)",
        "convert(var.digits, string)",
        "convert(var.mixed, set(string))",
        "[for k, v in var.secrets : v]",
        "{ for k, v in var.secrets : k => 1 }",
        "{ for x in var.mixed : x => 1 }",
        "[for x in [1] : x if var.flag]",
        "{ (var.token) = 1 }",
        "try(var.token, 1)",
        "var.secrets[*].a",
        "(var.token)",
        "[var.token][0]",
        "{ a = var.token }.a",
        "[1, 2][var.digits - 41]",
        "\"${later.text}${var.token}\"",
    ];
    for text in whole {
        let value = value(text);
        assert!(value.sensitive, "{text}: {value:?}");
        assert_eq!(one_line(&value), "<sensitive>", "{text}");
    }
    for text in ["[var.token]", "{ a = var.token }", "[for x in var.mixed : x]", "var.mixed", "[var.mixed]"] {
        let value = value(text);
        assert!(!value.sensitive && value.any_sensitive(), "{text}: {value:?}");
        assert!(!to_hcl(&value).contains("hunter2") && !one_line(&value).contains("hunter2"), "{text}");
    }
    for text in ["var.open", "var.mixed[0]", "\"${var.open}!\"", "[for x in var.mixed : 1]"] {
        assert!(!value(text).any_sensitive(), "{text}");
    }
}

#[test]
fn no_message_shows_a_secret() {
    let texts = [
        "var.token + 1",
        "var.token ? 1 : 2",
        "convert(var.token, number)",
        "var.secrets.hunter3",
        "var.secrets[\"x\"]",
        "{ a = 1 }[var.token]",
        "[1][var.token]",
        "{ for x in [var.token, var.token] : x => 1 }",
        "\"x${var.secrets}\"",
        "-var.token",
        "max(var.token)",
        "parseint(var.token, 10)",
        "jsondecode(var.token)",
        "templatefile(var.token, {})",
    ];
    for text in texts {
        let (_, diagnostics, sources) = run(text, Path::new("."));
        assert!(diagnostics.has_errors(), "{text}");
        for diagnostic in &diagnostics.items {
            assert!(!render::render(diagnostic, &sources, false).contains("hunter2"), "{text}");
        }
    }
}

#[test]
fn what_comes_of_unknown_values_has_the_known_type() {
    let cases: [(&str, Type); 34] = [
        ("later.text", Type::String),
        ("later.number + 1", Type::Number),
        ("later.any + 1", Type::Number),
        ("-later.number", Type::Number),
        ("!later.flag", Type::Bool),
        ("later.number < 3", Type::Bool),
        ("later.text == \"x\"", Type::Bool),
        ("[later.text] == [\"x\"]", Type::Bool),
        ("later.flag || false", Type::Bool),
        ("\"x${later.text}\"", Type::String),
        ("\"x${later.any}\"", Type::String),
        ("\"${later.text}\"", Type::String),
        ("\"%{if later.flag}a%{endif}\"", Type::String),
        ("\"%{for x in later.list}a%{endfor}\"", Type::String),
        ("later.flag ? \"a\" : 1", Type::String),
        ("later.flag ? [1] : [\"a\"]", Type::Tuple(vec![Type::String])),
        ("later.flag ? later.any : 1", Type::Any),
        ("later.list[0]", Type::object([("id", Type::Number)])),
        ("later.list[later.number].id", Type::Number),
        ("[1, 2][later.number]", Type::Any),
        ("convert([1, 2], list(string))[later.number]", Type::String),
        ("later.map.x", Type::String),
        ("later.map[\"x\"]", Type::String),
        ("later.object.id", Type::String),
        ("later.any.x.y[0]", Type::Any),
        ("later.list[*].id", Type::list(Type::Number)),
        ("later.any[*].id", Type::Any),
        ("[for x in later.list : x.id]", Type::Any),
        ("[for x in [1, 2] : x if later.flag]", Type::Any),
        ("{ for x in [1] : later.text => x }", Type::Any),
        ("{ (later.text) = 1 }", Type::Any),
        ("upper(later.text)", Type::String),
        ("convert(later.number, string)", Type::String),
        ("can(later.text)", Type::Bool),
    ];
    for (text, kind) in cases {
        let value = value(text);
        assert!(value.is_unknown(), "{text}: {value:?}");
        assert_eq!(value.type_of(), kind, "{text}");
        assert_eq!(to_hcl(&value), "<unknown>", "{text}");
    }
}

#[test]
fn what_is_known_stays_known_next_to_unknown_values() {
    assert_eq!(value("later.flag && false"), Value::bool(false));
    assert_eq!(value("true || later.flag"), Value::bool(true));
    assert_eq!(value("[later.text, 1] == [later.text, 2]"), Value::bool(false));
    assert_eq!(value("true ? 1 : later.any"), Value::number(1));
    assert_eq!(value("[later.text, \"a\"][1]"), Value::string("a"));
    assert_eq!(value("try(1, later.text)"), Value::number(1));
    let mixed = value("[later.text, 1]");
    assert!(!mixed.is_unknown() && !mixed.is_wholly_known());
    assert_eq!(one_line(&mixed), "[<unknown>, 1]");
}

#[test]
fn mistakes_show_where_an_unknown_value_can_never_fit() {
    for (text, code) in [
        ("later.list + 1", "wrong-type"),
        ("later.text.x", "unknown-attribute"),
        ("later.object.name", "unknown-attribute"),
        ("later.number[0]", "not-indexable"),
        ("[for x in later.text : x]", "not-iterable"),
        ("\"x${later.list}\"", "wrong-type"),
        ("later.list ? 1 : 2", "wrong-type"),
        ("max(later.list...)", "wrong-type"),
    ] {
        let (_, diagnostics, _) = run(text, Path::new("."));
        let codes: Vec<&str> = diagnostics.items.iter().map(|item| item.code).collect();
        if text.starts_with("max") {
            // How many elements there are, and whether each is a number, is not known yet.
            assert_eq!(codes, [""; 0], "{text}");
        } else {
            assert_eq!(codes, [code], "{text}");
        }
    }
}

#[test]
fn references_leave_out_bound_names_and_types() {
    let text = concat!(
        "[var.a.b, local.c[0].d, [for k, x in data.e.f : x.g + k + other.h if x != var.i], convert(var.j, list(string)), ",
        "\"${path.root} %{for y in var.k}${y.z}${q.r}%{endfor}\", var.l[*].m[var.n], { (var.o) = k.p }, -var.s.t, ",
        "var.u ? upper(var.v) : (var.w == alone)]"
    );
    let mut diagnostics = Diagnostics::new();
    let expression = parse_expression(SourceId(0), text, &mut diagnostics).unwrap();
    let found: Vec<String> = references(&expression)
        .iter()
        .map(|reference| {
            let path: String = reference.path.iter().map(|name| format!(".{}", name.text)).collect();
            let whole = format!("{}{path}", reference.root);
            assert_eq!(&text[reference.span.range()], whole);
            whole
        })
        .collect();
    let expected = [
        "var.a.b",
        "local.c",
        "data.e.f",
        "other.h",
        "var.i",
        "var.j",
        "path.root",
        "var.k",
        "q.r",
        "var.l",
        "var.n",
        "var.o",
        "k.p",
        "var.s.t",
        "var.u",
        "var.v",
        "var.w",
        "alone",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_template_file_has_names_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("motd", "Hello ${name}!\n%{ for port in ports ~}\nport ${port}\n%{ endfor ~}\nend \"q\" \\n $${x}\n");
    write("one", "${list}");
    write("empty", "");
    let check = |text: &str, expected: &str| {
        let (value, diagnostics, _) = run(text, folder.path());
        assert!(diagnostics.is_empty(), "{:#?}", diagnostics.items);
        assert_eq!(to_hcl(&value), expected);
    };
    check(
        "templatefile(\"motd\", { name = var.open, ports = [1, 2] })",
        "Hello open!\nport 1\nport 2\nend \"q\" \\n ${x}\n",
    );
    check("templatefile(\"one\", { list = [] })", "[]");
    check("templatefile(\"empty\", {})", "");
    check("templatefile(\"motd\", { name = var.token, ports = [] })", "<sensitive>");
    check("templatefile(\"motd\", { name = later.text, ports = [] })", "<unknown>");
}

#[test]
fn mistakes_in_a_template_file_point_at_the_call_and_name_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("names", "a\nb ${nmae} c\n");
    write("syntax", "a\n%{if true}\nb\n");
    write("nested", "${templatefile(\"names\", {})}");
    let all: String = ["names", "syntax", "nested"]
        .iter()
        .map(|file| rendered(&format!("templatefile(\"{file}\", {{ name = 1 }})"), folder.path()))
        .collect();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(all) });
    let missing = rendered("templatefile(\"missing\", {})", folder.path());
    assert!(missing.contains("there is no template file `missing`"), "{missing}");
}

#[test]
fn mistakes_of_evaluation() {
    let texts = [
        "vra.open",
        "var.opne",
        "later.txt",
        "plain",
        "upper",
        "[1, 2][5]",
        "{ region = 1 }[\"regoin\"]",
        "null.x",
        "[{ a = 1 }].a",
        "var.open[0]",
        "upper(1, 2)",
        "upper([1])",
        "uper(\"x\")",
        "true ? [1] : \"a\"",
        "\"x ${[1]}\"",
        "\"x ${null}\"",
        "1 + \"a\"",
        "1 / 0",
        "{ for x in [\"a\", \"a\"] : x => 1 }",
        "convert({ ports = [1, \"http\"] }, object({ ports = list(number) }))",
        "convert(1, lsit(string))",
        "try(missing, 1 + \"a\")",
        "max(1...)",
        "{ var.open = 1 }",
        "1 + \"a\" + 2 + \"b\"",
        "true ? [1, [2]] : [\"a\"]",
    ];
    let all: String = texts.iter().map(|text| rendered(text, Path::new("."))).collect();
    insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(all) });
}

#[test]
fn a_failing_loop_tells_its_mistake_once() {
    let (_, diagnostics, _) = run("[for x in [1, 2, 3] : x.a]", Path::new("."));
    assert_eq!(diagnostics.items.len(), 1);
    let (_, diagnostics, _) = run("\"%{for x in [1, 2, 3]}${x.a}%{endfor}\"", Path::new("."));
    assert_eq!(diagnostics.items.len(), 1);
    let (_, diagnostics, _) = run("[1, 2, 3][*].a", Path::new("."));
    assert_eq!(diagnostics.items.len(), 1);
}

#[test]
fn type_expressions() {
    let functions = functions(Path::new("."));
    let scope = Scope { variables: &NoVariables, functions: &functions };
    let read = |text: &str| {
        let mut diagnostics = Diagnostics::new();
        let expression = parse_expression(SourceId(0), text, &mut diagnostics).unwrap();
        let kind = type_of(&expression, &scope, &mut diagnostics);
        assert_eq!(kind.is_none(), diagnostics.has_errors(), "{text}");
        kind.map(|kind| kind.to_string())
    };
    for text in [
        "string",
        "any",
        "list(set(map(bool)))",
        "tuple([string, number])",
        "tuple([])",
        "object({})",
        "object({ a = string, b = optional(list(number)), c = optional(string, \"x\") })",
    ] {
        assert_eq!(read(text).as_deref(), Some(text));
    }
    for text in ["String", "list", "map", "\"string\"", "list()", "list(string, string)", "tuple(string)", "1", "var.x"]
    {
        assert_eq!(read(text), None, "{text}");
    }
}

/// Trees as high as the parser lets through are evaluated, printed and dropped within three quarters of the stack that a
/// thread has.
#[test]
fn the_highest_trees_are_evaluated_without_overflow() {
    let check = || {
        let texts = [
            format!("{}1{}", "(".repeat(95), ")".repeat(95)),
            format!("{}1{}", "[".repeat(95), "]".repeat(95)),
            format!("{}1{}", "{ a = ".repeat(95), "}".repeat(95)),
            format!("{}1{}", "max(".repeat(95), ")".repeat(95)),
            format!("{}1{}", "try(".repeat(95), ")".repeat(95)),
            format!("{}1", "true ? 1 : ".repeat(95)),
            format!("{}1{}", "[for x in [1] : ".repeat(45), "]".repeat(45)),
            format!("{}1{}", "\"x${".repeat(90), "}\"".repeat(90)),
            format!("\"{}{}\"", "%{if true}".repeat(90), "%{endif}".repeat(90)),
            format!("1{}", " + 1".repeat(150)),
            format!("{}true", "!".repeat(90)),
        ];
        for text in texts {
            let (value, diagnostics, _) = run(&text, Path::new("."));
            assert!(diagnostics.is_empty(), "{text}: {:?}", diagnostics.items.first());
            assert!(!to_hcl(&value).is_empty() || text.starts_with('"'));
            assert_eq!(value.clone(), value);
        }
    };
    std::thread::Builder::new().stack_size(1_536 * 1024).spawn(check).unwrap().join().unwrap();
}

#[test]
fn texts_with_a_byte_order_mark_and_windows_line_ends_are_read_in_place() {
    let text = "\u{feff}a = \"ü\"\r\nb = <<EOT\r\nx\r\nEOT\r\nc = <<-EOT\r\n  y\r\n  EOT\r\nd = e\u{301}\r\n";
    let mut diagnostics = Diagnostics::new();
    let body = parse_body(SourceId(0), text, &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    let functions = functions(Path::new("."));
    let scope = Scope { variables: &NoVariables, functions: &functions };
    let texts: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let value = evaluate(&body.attribute(name).unwrap().value, &scope, &mut diagnostics);
            value.as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(texts, ["ü", "x\r\n", "y\r\n"]);
    for attribute in body.attributes() {
        assert!(text[attribute.span.range()].starts_with(&text[attribute.name.span.range()]));
    }
    assert_eq!(&text[body.attribute("a").unwrap().value.span.range()], "\"ü\"");
    assert_eq!(body.attributes().last().unwrap().name.text, "d");
}

#[test]
fn literals_are_normalised() {
    assert_eq!(value("\"e\\u0301\"").data, Data::String("\u{e9}".to_owned()));
    assert_eq!(value("{ \"e\u{301}\" = 1 }").as_entries().unwrap().keys().next().unwrap(), "\u{e9}");
}
