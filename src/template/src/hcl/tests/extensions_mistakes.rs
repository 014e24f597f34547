//! What is said where `for_each`, `enabled` and `each` are wrong.

use super::Fixture;

/// A source with one line, used by a build.
fn source(line: &str) -> String {
    report(&format!("source \"docker\" \"x\" {{\n  {line}\n}}\nbuild {{\n  sources = [\"docker.x\"]\n}}\n"))
}

/// A provisioner with one line.
fn step(line: &str) -> String {
    let build = format!("build {{\n  sources = [\"docker.x\"]\n  provisioner \"shell\" {{\n    {line}\n  }}\n}}\n");
    report(&format!("source \"docker\" \"x\" {{\n}}\n{build}"))
}

fn report(text: &str) -> String {
    Fixture::file(text).report()
}

#[test]
fn wrong_collections_are_told() {
    insta::assert_snapshot!("for_each_of_a_number", source("for_each = 3"));
    insta::assert_snapshot!("for_each_of_null", source("for_each = null"));
    insta::assert_snapshot!("for_each_of_a_text_in_a_step", step("for_each = \"a,b\""));
    insta::assert_snapshot!("for_each_of_a_missing_local", source("for_each = local.nowhere"));
    assert!(source("for_each = convert([[1]], set(list(number)))").contains("must be a list, set or map"));
}

#[test]
fn keys_that_make_no_name_are_told() {
    insta::assert_snapshot!("key_with_a_slash", source("for_each = [\"linux/amd64\"]"));
    insta::assert_snapshot!("repeated_key", source("for_each = [\"a\", \"b\", \"a\"]"));
    insta::assert_snapshot!("null_as_key", source("for_each = convert([\"a\", null], list(string))"));
    assert!(source("for_each = { \"\" = 1 }").contains("the key `` cannot become part of a name"));
}

#[test]
fn sensitive_keys_are_told() {
    let text = r#"
variable "secrets" {
  default   = ["a"]
  sensitive = true
}
source "docker" "x" {
  for_each = var.secrets
}
source "docker" "y" {
  for_each = ["b", var.secrets[0]]
}
build {
  sources = ["docker.x", "docker.y"]
}
"#;
    insta::assert_snapshot!("sensitive_for_each", report(text));
}

#[test]
fn what_is_not_known_is_told() {
    insta::assert_snapshot!("for_each_of_the_machine", step("for_each = [build.ID]"));
    insta::assert_snapshot!("enabled_by_the_machine", step("enabled = build.ID != \"\""));
    insta::assert_snapshot!("enabled_of_another_type", step("enabled = \"yes\""));
}

#[test]
fn each_outside_is_told() {
    insta::assert_snapshot!("each_in_enabled", source("enabled = each.value"));
    insta::assert_snapshot!("each_in_a_local", report("locals {\n  a = each.key\n}\nbuild {\n  sources = []\n}\n"));
    insta::assert_snapshot!("each_has_no_such_attribute", step("for_each = [1]\n    name = each.kye"));
    insta::assert_snapshot!("each_in_sources", report("build {\n  sources = [each.value]\n}\n"));
    insta::assert_snapshot!("source_without_an_element", step("enabled = source.key == \"a\""));
}

#[test]
fn names_that_meet_are_told() {
    let text = r#"
source "docker" "x" {
  for_each = ["a", "b-c"]
}
source "docker" "x-a" {
}
source "docker" "x-b" {
  for_each = ["c"]
}
build {
  sources = ["docker.x", "docker.x-a", "docker.x-b"]
}
"#;
    insta::assert_snapshot!("instance_like_another_source", report(text));
    let build = r#"
source "docker" "x" {
}
build {
  for_each = { a = 1, b = 1 }
  name     = "n${each.value}"
  sources  = ["docker.x"]
}
"#;
    insta::assert_snapshot!("builds_of_one_name", report(build));
}

#[test]
fn an_unknown_element_is_told_with_the_nearest() {
    let text = r#"
source "docker" "python" {
  for_each = ["3.11", "3.12"]
}
build {
  sources = ["docker.python-3.13", "source.docker.pyton-3.12"]
  provisioner "shell" {
    only = ["docker.python-3.1"]
  }
}
build {
  sources = ["docker.python"]
}
"#;
    insta::assert_snapshot!("unknown_element", report(text));
}

#[test]
fn nothing_left_is_told() {
    insta::assert_snapshot!("disabled_source", source("enabled = false"));
    insta::assert_snapshot!("empty_for_each", source("for_each = []"));
    let text = r#"
source "docker" "on" {
}
source "docker" "off" {
  enabled = false
}
build {
  sources = ["docker.on", "docker.off"]
}
build {
  name    = "second"
  enabled = false
  sources = ["docker.on"]
}
"#;
    assert_eq!(report(text), "");
    insta::assert_snapshot!("disabled_and_deselected", Fixture::file(text).only(&["docker.off"]).report());
    let mut lenient = Fixture::file(&text.replace("\"docker.on\", ", ""));
    assert!(lenient.report().contains("the template leaves out all that it could build"));
    lenient.options.allow_unset = true;
    assert_eq!(lenient.report(), "");
}

#[test]
fn an_error_cleanup_is_not_repeated() {
    let text = r#"
source "docker" "x" {
}
build {
  sources = ["docker.x"]
  error-cleanup-provisioner "shell" {
    for_each = ["a"]
  }
}
"#;
    insta::assert_snapshot!("repeated_error_cleanup", report(text));
}
