//! Which value of a variable wins, and what becomes of it.

use super::{Fixture, plan};
use crate::load::Loaded;

const TEMPLATE: &str = r#"
variable "a" {
  default = "default"
}
build {
  sources = []
}
"#;

fn value(loaded: &Loaded, name: &str) -> String {
    let found = plan(loaded).variables.iter().find(|variable| variable.name == name);
    found.map(|variable| variable.value.trim_matches('"').to_owned()).unwrap_or_default()
}

#[test]
fn the_heaviest_assignment_wins() {
    let mut fixture = Fixture::directory(&[("t.pkr.hcl", TEMPLATE)]);
    assert_eq!(value(&fixture.load(), "a"), "default");
    fixture = fixture.env("PKR_VAR_a", "packer's environment").env("PKR_VAR_undeclared", "x");
    assert_eq!(value(&fixture.load(), "a"), "packer's environment");
    fixture = fixture.env("KILN_VAR_a", "kiln's environment");
    assert_eq!(value(&fixture.load(), "a"), "kiln's environment");
    fixture.write("z.auto.pkrvars.hcl", "a = \"auto z\"");
    assert_eq!(value(&fixture.load(), "a"), "auto z");
    fixture.write("a.auto.pkrvars.hcl", "a = \"auto a\"");
    assert_eq!(value(&fixture.load(), "a"), "auto z");
    fixture.write("a.auto.pkrvars.json", "{ \"a\": \"auto json\" }");
    assert_eq!(value(&fixture.load(), "a"), "auto json");
    fixture.write("one.pkrvars.json", "{ \"a\": \"file one\" }");
    fixture.write("two.hcl", "a = \"file two\"\nunknown = 1");
    fixture.options.variable_files = vec!["one.pkrvars.json".into()];
    assert_eq!(value(&fixture.load(), "a"), "file one");
    fixture.options.variable_files.push("two.hcl".into());
    assert_eq!(value(&fixture.load(), "a"), "file two");
    fixture = fixture.var("a", "first").var("a", "last = 1");
    assert_eq!(value(&fixture.load(), "a"), "last = 1");
}

#[test]
fn auto_files_count_for_directories_only() {
    let mut fixture = Fixture::directory(&[("t.pkr.hcl", TEMPLATE), ("x.auto.pkrvars.hcl", "a = \"auto\"")]);
    assert_eq!(value(&fixture.load(), "a"), "auto");
    fixture.options.template = "t.pkr.hcl".into();
    assert_eq!(value(&fixture.load(), "a"), "default");
}

#[test]
fn only_the_winner_is_checked() {
    let text = "variable \"n\" {\n  type = number\n}\nbuild {\n  sources = []\n}\n";
    let fixture = Fixture::file(text).env("PKR_VAR_n", "not a number").var("n", "7");
    assert_eq!(value(&fixture.load(), "n"), "7");
}

#[test]
fn an_untyped_variable_takes_a_longer_list_than_its_default() {
    let text = "variable \"l\" {\n  default = [\"a\"]\n}\nbuild {\n  sources = []\n}\n";
    let fixture = Fixture::file(text).var("l", "[\"b\", 3]");
    assert_eq!(value(&fixture.load(), "l"), "[\n  \"b\",\n  3,\n]");
}

/// Names are shown, and nothing else evaluates them.
#[test]
fn what_a_name_makes_of_a_secret_is_a_secret() {
    let text = r#"
variable "token" {
  sensitive = true
  default   = "hunter2"
}
source "docker" "a" {}
build {
  sources = ["docker.a"]
  provisioner "shell" {
    name = upper(var.token)
  }
  post-processor "manifest" {
    name = "of ${title(var.token)}"
  }
}
"#;
    let loaded = Fixture::file(text).load();
    let plan = plan(&loaded);
    assert_eq!(plan.builds[0].steps[0].component.name.as_deref(), Some("HUNTER2"));
    for secret in ["HUNTER2", "Hunter2"] {
        assert!(plan.secrets.iter().any(|known| known == secret), "{:?}", plan.secrets);
    }
}

#[test]
fn secrets_are_collected_in_depth_and_through_locals() {
    let text = r#"
variable "token" {
  type      = string
  sensitive = true
}
variable "keys" {
  sensitive = true
  default   = { a = ["one", "two"], n = 123456, short = 7 }
}
locals {
  derived = "x-${var.token}"
}
local "marked" {
  expression = "quiet"
  sensitive  = true
}
build {
  sources = []
}
"#;
    let loaded = Fixture::file(text).var("token", "hunter2").load();
    assert_eq!(plan(&loaded).secrets, ["123456", "hunter2", "one", "quiet", "two", "x-hunter2"]);
    let shown: Vec<&str> =
        plan(&loaded).variables.iter().chain(&plan(&loaded).locals).map(|variable| variable.value.as_str()).collect();
    assert_eq!(shown, ["<sensitive>"; 4]);
}

#[test]
fn unset_variables_are_unknown_where_that_is_allowed() {
    let mut fixture = Fixture::file("variable \"a\" {}\nlocals {\n  b = upper(var.a)\n}\n");
    fixture.options.allow_unset = true;
    let loaded = fixture.load();
    assert_eq!(value(&loaded, "a"), "<unknown>");
    assert_eq!(plan(&loaded).locals[0].value, "<unknown>");
    assert!(plan(&loaded).variables[0].required && plan(&loaded).variables[0].unset);
}

#[test]
fn null_is_a_value() {
    let loaded =
        Fixture::file("variable \"a\" {\n  type    = string\n  default = null\n}\nbuild {\n  sources = []\n}\n").load();
    assert_eq!(value(&loaded, "a"), "null");
}

#[test]
fn a_bom_is_passed_over() {
    let mut fixture = Fixture::file(&format!("\u{feff}{TEMPLATE}"));
    fixture.write("v.hcl", "\u{feff}a = \"bom\"");
    fixture.options.variable_files = vec!["v.hcl".into()];
    assert_eq!(value(&fixture.load(), "a"), "bom");
}

#[test]
fn the_null_data_source_gives_its_input_back() {
    let text = "locals {\n  b = data.null.x.output\n}\ndata \"null\" \"x\" {\n  input = local.a\n}\nlocals {\n  a = \
                \"in\"\n}\nbuild {\n  sources = []\n}\n";
    let loaded = Fixture::file(text).load();
    let shown: Vec<&str> = plan(&loaded).locals.iter().map(|local| local.value.as_str()).collect();
    assert_eq!(shown, ["\"in\"", "\"in\""]);
}

#[test]
fn a_given_value_is_not_missed_and_is_shown_as_the_language_writes_it() {
    let text = "variable \"a\" {\n  type = string\n}\nbuild {\n  sources = []\n}\n";
    let loaded = Fixture::file(text).var("a", "x\n\"y\" ${z}").load();
    let variable = &plan(&loaded).variables[0];
    assert!(variable.required && !variable.unset);
    assert_eq!(variable.value, r#""x\n\"y\" $${z}""#);
}

#[test]
fn json_syntax_takes_constants_as_they_are_and_several_objects_for_one() {
    let variable = r#"{ "variable": { "a": { "description": "of ${x}", "default": "b", "validation": {
        "condition": "${var.a == \"c\"}", "error_message": "Give ${c}." } } } }"#;
    let locals = r#"{ "locals": { "l": "${var.a}${1 + 1}" }, "build": { "sources": [] } }"#;
    let fixture = Fixture::directory(&[("t.pkr.json", &format!("[{variable}, {locals}]"))]).var("a", "c");
    let loaded = fixture.load();
    assert_eq!(plan(&loaded).variables[0].description.as_deref(), Some("of ${x}"));
    assert_eq!(plan(&loaded).locals[0].value, "\"c2\"");
    let report = fixture.var("a", "d").report();
    assert!(report.contains("Give ${c}."), "{report}");
}

#[test]
fn a_json_var_file_sets_each_variable_once() {
    let mut fixture = Fixture::directory(&[("t.pkr.hcl", TEMPLATE)]);
    fixture.write("v.pkrvars.json", "{ \"a\": \"b\",\n  \"a\": \"c\" }");
    fixture.options.variable_files = vec!["v.pkrvars.json".into()];
    assert!(fixture.report().contains("v.pkrvars.json:2:3"), "{}", fixture.report());
}
