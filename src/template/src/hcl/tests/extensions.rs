//! `for_each` and `enabled`: what they make, and what is said where they are wrong.

use kiln_core::{Facts, config::Value};

use super::{Fixture, SCHEMA, plan};
use crate::load::Loaded;

/// A value as text, without places.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Number(text) => text.clone(),
        Value::Unknown => "?".to_owned(),
        Value::List(items) => items.iter().map(|item| shown(&item.value)).collect::<Vec<_>>().join("+"),
        other => format!("{other:?}"),
    }
}

/// `message` of a component, evaluated.
fn message(component: &kiln_core::ComponentSpec, facts: &Facts) -> String {
    let mut diagnostics = kiln_core::Diagnostics::new();
    let body = component.config.evaluate(&SCHEMA, facts, &mut diagnostics);
    assert_eq!(diagnostics.items, []);
    let attributes: Vec<&String> = body.attributes.keys().collect();
    assert!(!attributes.iter().any(|name| ["for_each", "enabled"].contains(&name.as_str())), "{attributes:?}");
    body.attributes.get("message").map(|attribute| shown(&attribute.node.value)).unwrap_or_default()
}

/// Each build with its source's and steps' messages, one a line.
pub(super) fn outline(loaded: &Loaded) -> Vec<String> {
    let facts = Facts { build: Some([("ID".to_owned(), "m1".to_owned())].into()), ..Facts::default() };
    let show = |component: &kiln_core::ComponentSpec| format!("{} {}", component.kind, message(component, &facts));
    let line = |build: &kiln_core::BuildSpec| {
        let steps: Vec<String> = build.steps.iter().map(|step| show(&step.component)).collect();
        let cleanup = build.error_cleanup.iter().map(|step| format!(" !{}", show(&step.component)));
        let chains = build.post_processors.iter().map(|chain| {
            format!(" -> {}", chain.iter().map(|link| show(&link.component)).collect::<Vec<_>>().join(" > "))
        });
        let rest: String = cleanup.chain(chains).collect();
        format!("{}: {} | {}{rest}", build.name, message(&build.source, &Facts::default()), steps.join(", "))
    };
    plan(loaded).builds.iter().map(line).collect()
}

fn lines(text: &str) -> Vec<String> {
    let loaded = Fixture::file(text).load();
    assert_eq!(loaded.diagnostics.items, [], "{}", super::report(&loaded, &loaded.diagnostics));
    outline(&loaded)
}

const FAMILY: &str = r#"
source "docker" "worker" {
  for_each = { bullseye = "11", bookworm = "12" }
  image    = "debian:${each.key}"
  message  = "release ${each.value}"
}

source "docker" "plain" {
  image   = "alpine"
  message = "alone"
}

build {
  sources = ["source.docker.worker", "docker.plain"]

  provisioner "shell" {
    only    = ["docker.worker"]
    message = "${source.key}=${source.value} ${source.name} ${build.ID} {{ build_name }}"
  }

  provisioner "file" {
    except  = ["docker.worker-bullseye"]
    message = source.name
    override = {
      worker          = { message = "all" }
      worker-bookworm = { message = "one" }
    }
  }
}
"#;

#[test]
fn a_source_becomes_a_family() {
    assert_eq!(
        lines(FAMILY),
        [
            "docker.worker-bookworm: release 12 | shell bookworm=12 worker-bookworm m1 worker-bookworm, file one",
            "docker.worker-bullseye: release 11 | shell bullseye=11 worker-bullseye m1 worker-bullseye",
            "docker.plain: alone | file plain",
        ]
    );
}

#[test]
fn an_override_may_name_the_kind_too() {
    let text =
        FAMILY.replace("worker          = { message = \"all\" }", "\"docker.worker\" = { message = \"all docker\" }");
    assert!(lines(&text)[0].ends_with("file all docker"), "over that of `worker-bookworm`: {:?}", lines(&text));
    let one = text.replace("worker-bookworm = {", "\"docker.worker-bookworm\" = {");
    assert!(lines(&one)[0].ends_with("file one"), "{:?}", lines(&one));
}

#[test]
fn one_of_a_family_is_named_by_its_key() {
    let one = FAMILY.replace("\"source.docker.worker\", \"docker.plain\"", "\"docker.worker-bookworm\"");
    let one = one.replace("    except  = [\"docker.worker-bullseye\"]\n", "");
    assert_eq!(lines(&one).len(), 1);
    assert!(lines(&one)[0].starts_with("docker.worker-bookworm: release 12"));
}

#[test]
fn only_and_except_take_a_family_or_one_of_it() {
    let names = |fixture: Fixture| -> Vec<String> {
        let loaded = fixture.load();
        assert_eq!(loaded.diagnostics.items, []);
        plan(&loaded).builds.iter().map(|build| build.name.to_string()).collect()
    };
    let file = || Fixture::file(FAMILY);
    assert_eq!(names(file().only(&["docker.worker"])), ["docker.worker-bookworm", "docker.worker-bullseye"]);
    assert_eq!(names(file().only(&["*-bookworm"])), ["docker.worker-bookworm"]);
    assert_eq!(names(file().except(&["docker.worker"])), ["docker.plain"]);
    assert_eq!(names(file().except(&["docker.worker-bullseye"])), ["docker.worker-bookworm", "docker.plain"]);
}

#[test]
fn keys_are_texts_or_indices_and_may_have_dots() {
    let source = |for_each: &str| {
        let text = format!(
            "source \"docker\" \"p\" {{\n  for_each = {for_each}\n  message = \"${{each.key}}:${{jsonencode(each.value)}}\"\n}}\n\
             build {{\n  sources = [\"docker.p\"]\n}}\n"
        );
        lines(&text)
    };
    assert_eq!(source("[\"3.12\", \"3.9\"]"), ["docker.p-3.12: 3.12:\"3.12\" | ", "docker.p-3.9: 3.9:\"3.9\" | "]);
    assert_eq!(source("convert([\"b\", \"a\"], set(string))"), ["docker.p-a: a:\"a\" | ", "docker.p-b: b:\"b\" | "]);
    assert_eq!(source("[{ a = 1 }, { a = 2 }]"), ["docker.p-0: 0:{\"a\":1} | ", "docker.p-1: 1:{\"a\":2} | "]);
    assert_eq!(source("range(2)"), ["docker.p-0: 0:0 | ", "docker.p-1: 1:1 | "]);
    assert_eq!(source("convert([7, 3], set(number))"), ["docker.p-3: 3:3 | ", "docker.p-7: 7:7 | "]);
    let dotted = r#"
source "docker" "python" {
  for_each = ["3.9", "3.12"]
}
build {
  sources = ["docker.python-3.12", "source.docker.python-3.9"]
}
"#;
    assert_eq!(lines(dotted), ["docker.python-3.12:  | ", "docker.python-3.9:  | "]);
}

#[test]
fn a_build_is_repeated_with_its_name_and_all_inside() {
    let text = r#"
source "docker" "base" {
  message = "base"
}
source "docker" "other" {}
build {
  for_each = { a = "docker.base", b = "docker.other" }
  name     = "images"
  sources  = [each.value]
  provisioner "shell" {
    message = "${build.name} ${each.key} ${build.ID}"
  }
  dynamic "provisioner" {
    for_each = ["x"]
    labels   = ["file"]
    content {
      message = "${provisioner.value}${each.key}"
    }
  }
  post-processors {
    post-processor "manifest" {
      message = each.key
    }
  }
}
build {
  for_each = ["x", "y"]
  sources  = ["docker.base"]
}
build {
  for_each = [{ name = "first" }, { name = "second" }]
  name     = "the-${each.value.name}"
  source "docker.other" {
    message = each.value.name
  }
}
"#;
    assert_eq!(
        lines(text),
        [
            "images-a.docker.base: base | shell images-a a m1, file xa -> manifest a",
            "images-b.docker.other:  | shell images-b b m1, file xb -> manifest b",
            "x.docker.base: base | ",
            "y.docker.base: base | ",
            "the-first.docker.other: first | ",
            "the-second.docker.other: second | ",
        ]
    );
    let only = |pattern: &str| -> Vec<String> {
        let loaded = Fixture::file(text).only(&[pattern]).load();
        plan(&loaded).builds.iter().map(|build| build.name.to_string()).collect()
    };
    assert_eq!(only("images.*"), ["images-a.docker.base", "images-b.docker.other"]);
    assert_eq!(only("images-b.*"), ["images-b.docker.other"]);
    assert_eq!(only("the-second.docker.other"), ["the-second.docker.other"]);
}

#[test]
fn steps_are_repeated_in_order() {
    let text = r#"
source "docker" "x" {}
build {
  sources = ["docker.x"]
  provisioner "shell" {
    for_each = ["b", "a", "b"]
    name     = "step ${each.key}"
    message  = "${each.value} on ${build.ID}"
  }
  provisioner "file" {
    for_each = []
  }
  post-processor "checksum" {
    for_each = { one = 1, two = 2 }
    message  = "${each.key}${each.value}"
  }
  post-processors {
    for_each = ["p", "q"]
    post-processor "docker-tag" {
      for_each = ["1", "2"]
      message  = each.value
    }
    post-processor "docker-push" {
      message = each.key
    }
  }
}
"#;
    assert_eq!(
        lines(text),
        ["docker.x:  | shell b on m1, shell a on m1, shell b on m1 -> checksum one1 -> checksum two2 \
          -> docker-tag 1 > docker-tag 2 > docker-push p -> docker-tag 1 > docker-tag 2 > docker-push q"]
    );
    let loaded = Fixture::file(text).load();
    let names: Vec<_> = plan(&loaded).builds[0].steps.iter().map(|step| step.component.name.clone()).collect();
    assert_eq!(names, [Some("step b".to_owned()), Some("step a".to_owned()), Some("step b".to_owned())]);
}

#[test]
fn what_is_not_enabled_is_left_out_unread() {
    let text = r#"
variable "no" {
  default = "false"
}
locals {
  on = { a = true, b = false }
}
source "docker" "off" {
  enabled  = var.no
  for_each = local.nowhere
  image    = local.nowhere
}
source "docker" "some" {
  for_each = local.on
  enabled  = each.value
}
source "docker" "x" {
  enabled = null
}
build {
  enabled = false
  name    = local.nowhere
  sources = ["docker.nowhere"]
}
build {
  sources = ["docker.off", "docker.some", "docker.x"]
  source "docker.x" {
    enabled = var.no
    name    = "local"
  }
  provisioner "shell" {
    only    = ["docker.off-a", "docker.some-b", "docker.off", "docker.local", "docker.some-a"]
    enabled = source.key == "a"
    message = "only a"
    override = {
      off-x = { message = "never" }
    }
  }
  provisioner "file" {
    enabled = source.name == "x"
    message = "only x"
  }
  provisioner "nowhere" {
    enabled    = false
    pause_before = local.nowhere
  }
  provisioner "shell" {
    for_each = { a = true, b = false }
    enabled  = each.value
    message  = each.key
  }
  error-cleanup-provisioner "shell" {
    enabled = source.name == "x"
    message = "mend"
  }
  post-processors {
    enabled = source.name == "x"
    post-processor "manifest" {
      enabled = false
    }
    post-processor "checksum" {}
  }
}
"#;
    assert_eq!(
        lines(text),
        ["docker.some-a:  | shell only a, shell a", "docker.x:  | file only x, shell a !shell mend -> checksum ",]
    );
}

#[test]
fn the_steps_of_other_sources_are_not_asked() {
    let text = r#"
source "docker" "family" {
  for_each = { a = ["1", "2"] }
}
source "docker" "plain" {}
build {
  sources = ["docker.family", "docker.plain"]
  provisioner "shell" {
    only     = ["docker.family"]
    for_each = source.value
    message  = each.value
  }
  provisioner "file" {
    message = try(source.key, "none")
  }
}
"#;
    assert_eq!(lines(text), ["docker.family-a:  | shell 1, shell 2, file a", "docker.plain:  | file none"]);
}

#[test]
fn a_build_gives_names_to_a_family() {
    let text = r#"
source "docker" "base" {
  for_each = ["a", "b"]
  message  = each.key
}
source "docker" "plain" {}
build {
  name = "n"
  source "docker.base" {
    name = "web"
  }
  source "docker.base" {
    name = "${source.key}-db"
  }
  source "docker.plain" {
    for_each = { x = "1", y = "2" }
    message  = each.value
  }
  source "docker.plain" {
    for_each = ["z"]
    name     = "local-${each.key}"
  }
  provisioner "shell" {
    only    = ["docker.web", "docker.plain-y", "docker.local-z"]
    message = "${source.name} ${source.key}"
  }
}
"#;
    assert_eq!(
        lines(text),
        [
            "n.docker.web-a: a | shell web-a a",
            "n.docker.web-b: b | shell web-b b",
            "n.docker.a-db: a | ",
            "n.docker.b-db: b | ",
            "n.docker.plain-x: 1 | ",
            "n.docker.plain-y: 2 | shell plain-y y",
            "n.docker.local-z:  | shell local-z z",
        ]
    );
}

#[test]
fn dynamic_blocks_may_make_repeated_ones() {
    let text = r#"
source "docker" "x" {
  for_each = ["k"]
  dynamic "port" {
    for_each = [1, 2]
    content {
      name   = "${each.key}-${port.key}"
      number = port.value
    }
  }
}
build {
  for_each = ["e"]
  sources  = ["docker.x"]
  dynamic "provisioner" {
    for_each = { shell = ["1", "2"], file = [] }
    labels   = [provisioner.key]
    iterator = provisioner
    content {
      for_each = provisioner.value
      enabled  = length(provisioner.value) > 0
      message  = "${provisioner.key}${each.value}${source.key}"
    }
  }
  dynamic "post-processors" {
    for_each = ["c"]
    content {
      dynamic "post-processor" {
        for_each = ["checksum"]
        labels   = [post-processor.value]
        content {
          message = "${post-processors.value}${each.key}"
        }
      }
    }
  }
}
"#;
    assert_eq!(lines(text), ["e.docker.x-k:  | shell shell1k, shell shell2k -> checksum ce"]);
    let loaded = Fixture::file(text).load();
    let body = super::body(&loaded, &plan(&loaded).builds[0].source, &Facts::default());
    assert!(body.contains("name = \"k-1\"@7:16\n  number = 2"), "{body}");
}

#[test]
fn a_sensitive_value_of_an_element_stays_so() {
    let text = r#"
variable "token" {
  default   = "s3cret"
  sensitive = true
}
source "docker" "x" {
  for_each = { a = var.token }
  image    = each.value
}
build {
  sources = ["docker.x"]
  provisioner "shell" {
    for_each = [var.token]
    image    = "${each.key} ${source.value}"
  }
}
"#;
    let loaded = Fixture::file(text).load();
    let build = &plan(&loaded).builds[0];
    assert_eq!(&*build.name, "docker.x-a");
    for component in [&build.source, &build.steps[0].component] {
        let body = super::body(&loaded, component, &Facts::default());
        assert!(body.contains("s3cret") && body.contains("\"!@"), "{body}");
    }
}

#[test]
fn json_syntax_has_them_too() {
    let json = r#"{
  "source": {"docker": {"x": {"for_each": {"a": "1"}, "message": "${each.value}"}}},
  "build": {
    "for_each": ["b"],
    "sources": ["docker.x"],
    "provisioner": [{"shell": {"for_each": ["1", "2"], "message": "${each.key}${source.key}"}}]
  }
}
"#;
    let loaded = Fixture::directory(&[("t.pkr.json", json)]).load();
    assert_eq!(outline(&loaded), ["b.docker.x-a: 1 | shell 1a, shell 2a"]);
}

#[test]
fn what_is_not_given_is_no_mistake_for_inspect() {
    let text = r#"
variable "keys" {
  type = list(string)
}
source "docker" "x" {
  for_each = var.keys
  message  = each.key
}
build {
  for_each = var.keys
  sources  = ["docker.x"]
  provisioner "shell" {
    enabled = var.keys == null
  }
}
"#;
    let mut fixture = Fixture::file(text);
    fixture.options.allow_unset = true;
    assert_eq!(outline(&fixture.load()), ["docker.x: ? | shell "]);
    // Nor is what a data source gives that kiln does not have, where those are accepted.
    let text = text.replace("variable \"keys\" {\n  type = list(string)\n}", "data \"nowhere\" \"x\" {\n}");
    let mut fixture = Fixture::file(&text.replace("var.keys", "data.nowhere.x.keys"));
    fixture.options.data.unknown_kinds = crate::UnknownKinds::Accept;
    assert_eq!(outline(&fixture.load()), ["docker.x: ? | shell "]);
}

#[test]
fn names_that_are_made_need_not_all_fit() {
    let text = r#"
source "docker" "a" {}
source "docker" "b" {}
build {
  for_each = { one = "docker.a", two = "docker.b" }
  name     = each.key
  sources  = [each.value]
  provisioner "shell" {
    only    = ["docker.b"]
    message = "b"
  }
}
build {
  sources = ["docker.a"]
  dynamic "post-processor" {
    for_each = ["null", "docker"]
    labels   = ["manifest"]
    content {
      only = ["${post-processor.value}.a", "other.a"]
    }
  }
  provisioner "file" {
    except = ["docker.${lower("B")}"]
  }
}
"#;
    let loaded = Fixture::file(text).load();
    assert_eq!(outline(&loaded), ["one.docker.a:  | ", "two.docker.b:  | shell b", "docker.a:  | file  -> manifest "]);
    insta::assert_snapshot!("made_names_that_fit_nothing", super::report(&loaded, &loaded.diagnostics));
}

#[test]
fn what_stands_behind_a_reference_is_passed_over() {
    let text = "source \"docker\" \"a\" {\n}\nbuild {\n  sources = [\"source.docker.a.arm64\"]\n}\n";
    let loaded = Fixture::file(text).load();
    assert_eq!(outline(&loaded), ["docker.a:  | "]);
    insta::assert_snapshot!("long_reference", super::report(&loaded, &loaded.diagnostics));
}

#[test]
fn a_family_may_be_empty() {
    let text = r#"
source "docker" "none" {
  for_each = []
}
source "docker" "x" {}
build {
  sources = ["docker.none", "docker.x"]
  source "docker.none" {
    name = "other"
  }
  provisioner "shell" {
    only = ["docker.none", "docker.other"]
  }
}
"#;
    assert_eq!(lines(text), ["docker.x:  | "]);
}
