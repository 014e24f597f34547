//! What syntax mistakes look like.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic")]

use std::fmt::Write as _;

use kiln_core::{Diagnostics, SourceMap, render};
use kiln_language::syntax::{Body, parse_body, parse_expression, parse_template};

fn parse(text: &str) -> (Body, Diagnostics, SourceMap) {
    let mut sources = SourceMap::new();
    let source = sources.add("image.pkr.hcl", None, text);
    let mut diagnostics = Diagnostics::new();
    let body = parse_body(source, text, &mut diagnostics);
    (body, diagnostics, sources)
}

fn rendered(text: &str) -> String {
    let (_, diagnostics, sources) = parse(text);
    let mut out = String::new();
    for diagnostic in &diagnostics.items {
        writeln!(out, "{}\n", render::render(diagnostic, &sources, false)).unwrap();
    }
    out
}

macro_rules! looks {
    ($($name:ident: $text:expr,)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(rendered($text)) });
        })*
    };
}

looks! {
    a_forgotten_closing_quote: "source \"docker\" \"worker\" {\n  image = \"debian\n  commit = true\n}\n",
    a_forgotten_opening_quote: "a = debian\"\nb = 1\n",
    an_unclosed_interpolation: "a = \"x ${var.release\"\nb = 2\n",
    an_unclosed_interpolation_in_a_call: "a = \"x ${upper(var.release\"\nb = 2\n",
    a_forgotten_quote_in_an_interpolation: "a = \"x ${upper(\"b)}\"\nb = 2\n",
    an_unclosed_heredoc: "a = <<EOF\nhello\n",
    a_heredoc_tag_with_a_comma: "a = [<<EOF\nhello\nEOF, \"b\"]\n",
    an_unclosed_block: "build {\n  source \"x\" {\n    a = 1\n\n  provisioner \"shell\" {\n    b = 2\n  }\n}\n",
    an_unclosed_list: "a = [\n  1,\n  2\nb = 3\n",
    a_list_closed_by_a_brace: "block {\n  a = [1, 2\n}\n",
    a_stray_brace: "a {\n}\n}\nb = 1\n",
    a_missing_equals_sign: "image \"debian\"\nb = 1\n",
    a_missing_equals_sign_before_a_list: "images [\"debian\"]\n",
    a_colon_for_an_equals_sign: "image: \"debian\"\n",
    a_comparison_for_an_assignment: "image == \"debian\"\n",
    single_quotes: "image = 'debian'\nother = 'x'\n",
    a_missing_comma: "a = [\n  \"x\"\n  \"y\"\n]\n",
    a_block_in_an_object: "a = {\n  tags {\n    b = 1\n  }\n}\n",
    a_brace_on_its_own_line: "build\n{\n  a = 1\n}\nb = 2\n",
    an_argument_set_twice: "a = 1\nb = 2\na = 3\n",
    a_semicolon: "a = 1;\nb = 2\n",
    an_interpolation_without_quotes: "a = ${var.x}\n",
    a_shell_default: "a = \"${HOME:-/root}\"\n",
    a_percent_directive_of_another_tool: "a = \"%{http_code}\"\n",
    an_unpaired_directive: "a = \"%{if true}x\"\n",
    an_unknown_escape: "a = \"C:\\dir\"\n",
    a_value_missing: "a =\nb = 2\n",
    an_operator_in_words: "a = var.x and var.y\n",
    a_number_with_two_points: "a = 1.5.0\n",
    legacy_indices_in_a_row: "a = b.0.1\n",
    several_mistakes: "a = \nb = [1 2]\nc = 'x'\nd = 1 +\ne {\n  f = )\n  g == 1\n}\nh = 2\n",
    an_unclosed_comment: "a = 1 /* no end\nb = 2\n",
}

#[test]
fn one_mistake_yields_one_message() {
    let texts = [
        "a = \"x\nb = \"y\"\nc = \"z\"\n",
        "a = \"${\nb = 1\n",
        "a = f(1\nb = 2\nc = 3\n",
        "a {\n  b = [\n    1,\n  c = 2\n}\nd = 1\n",
        "a = <<EOT\n${x\nEOT\nb = 1\n",
        "a = <<EOT\nx\n",
        "a = <<EOT",
        "a = <<-",
        "a = \"",
        "a = \"${\"",
        "a = \"\\",
        "a = {",
        "a {",
        "}",
        "a = ]",
        "a = \"%{if x}\"",
        "a = \"%{endif}\"",
        "a = \"%{",
        "'",
        "a = 'x",
        "\u{a0}a = @",
    ];
    for text in texts {
        let (_, diagnostics, _) = parse(text);
        let count = if text.starts_with('\u{a0}') { 2 } else { 1 };
        assert_eq!(diagnostics.items.len(), count, "{text:?}: {:#?}", diagnostics.items);
    }
}

#[test]
fn what_is_right_is_read_in_spite_of_mistakes() {
    let (body, diagnostics, _) = parse("a = 1\nb = = 2\nc {\n  d = )\n  e = 5\n}\nf = 'x'\n");
    assert_eq!(diagnostics.items.len(), 3);
    let names: Vec<&str> = body.attributes().map(|attribute| attribute.name.text.as_str()).collect();
    assert_eq!(names, ["a", "f"]);
    let block = body.blocks().next().unwrap();
    assert!(block.body.attribute("e").is_some() && block.body.attribute("d").is_none());
}

/// Every cut and every missing character of a text with all constructs: no panic, places inside the text.
#[test]
fn no_mutilation_panics() {
    let text = concat!(
        "a \"b\" c {\n  d = \"x ${f(1, [2]...)} %{if true~} y %{else} z %{endif} ü\" # c\n",
        "  e = <<-EOT\n    l ${g[*].h.0[1]} $${x}\n    %{for k, v in m} ${k} %{endfor}\n  EOT\n",
        "  i = { for k, v in m : k => v... if v != null }\r\n  j = [for x in y : -x * 2 >= 1 ? !a : b && c]\n}\n",
    );
    let (_, diagnostics, _) = parse(text);
    assert!(diagnostics.is_empty(), "{:#?}", diagnostics.items);
    let places: Vec<usize> = text.char_indices().map(|(offset, _)| offset).collect();
    for &at in &places {
        let length = text[at..].chars().next().unwrap().len_utf8();
        let shorter = format!("{}{}", &text[..at], &text[at + length..]);
        for mutilated in [&text[..at], &text[at..], &shorter] {
            let (_, diagnostics, sources) = parse(mutilated);
            for diagnostic in &diagnostics.items {
                let span = diagnostic.primary.as_ref().unwrap().span;
                assert!(span.range().end <= mutilated.len() + 1, "{mutilated:?}: {diagnostic:?}");
                render::render(diagnostic, &sources, false);
            }
            let mut diagnostics = Diagnostics::new();
            let id = sources.files().next().unwrap().0;
            let expression = parse_expression(id, mutilated, &mut diagnostics);
            assert!(expression.is_some() || diagnostics.has_errors(), "{mutilated:?}");
            let mut diagnostics = Diagnostics::new();
            let template = parse_template(id, mutilated, &mut diagnostics);
            assert!(template.is_some() || diagnostics.has_errors(), "{mutilated:?}");
        }
    }
}

/// Three quarters of what a thread has that is not the main one, in a build without optimisation.
const SMALL_STACK: usize = 1_536 * 1024;

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    std::thread::Builder::new().stack_size(SMALL_STACK).spawn(nest_deeply).unwrap().join().unwrap();
}

fn nest_deeply() {
    let nests: [(&str, &str, &str); 9] = [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{ a = ", "1", "}"),
        ("!", "true", ""),
        ("\"${", "1", "}\""),
        ("f(", "1", ")"),
        ("true ? 1 : ", "1", ""),
        ("x[", "1", "]"),
        ("", "x", "[*]"),
    ];
    for (open, inner, close) in nests {
        for (depth, is_fine) in [(40, true), (5_000, false)] {
            let text = format!("a = {}{inner}{}\n", open.repeat(depth), close.repeat(depth));
            let (body, diagnostics, _) = parse(&text);
            assert_eq!(diagnostics.is_empty(), is_fine, "{open} {depth}: {:?}", diagnostics.items.first());
            assert_eq!(body.items.len(), usize::from(is_fine));
        }
    }
    for link in [".b", "[0]"] {
        let (_, diagnostics, _) = parse(&format!("a = x{}\n", link.repeat(20_000)));
        assert_eq!(diagnostics.items.len(), 1, "{link}");
    }
    let blocks = format!("{}{}", "a {\n".repeat(5_000), "}\n".repeat(5_000));
    let (_, diagnostics, _) = parse(&blocks);
    assert_eq!(diagnostics.items.len(), 1);
    let directives = format!("a = \"{}{}\"\n", "%{if true}".repeat(5_000), "%{endif}".repeat(5_000));
    let (_, diagnostics, _) = parse(&directives);
    assert_eq!(diagnostics.items.len(), 1);
}

/// A table of whole texts, each with Packer's verdict on its syntax.
#[test]
fn verdicts_are_those_of_packer() {
    let table = include_str!("expressions/verdicts.txt");
    let (mut count, mut wrong) = (0, Vec::new());
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let (verdict, written) = row.split_once(' ').expect("a verdict and a text");
        let text = written.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace('\0', "\\");
        let (_, diagnostics, _) = parse(&text);
        count += 1;
        if diagnostics.is_empty() != (verdict == "+") {
            wrong.push((row, diagnostics.items.first().map(|item| item.title.clone())));
        }
    }
    assert!(count > 150, "{count}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where kiln takes more than Packer does: what is meant is plain.
#[test]
fn some_more_is_taken() {
    for text in ["a = <<EOT\nx\nEOT", "a = <<EOT \nx\nEOT\n", "a = { for = 1 }\n", "a = 1e400\n"] {
        let (_, diagnostics, _) = parse(text);
        assert!(diagnostics.is_empty(), "{text:?}: {diagnostics:?}");
    }
}
