//! Component bodies, evaluated.

use std::collections::BTreeMap;

use kiln_core::Facts;

use super::{Fixture, body, plan};

const TEMPLATE: &str = include_str!("whole.pkr.hcl");

#[test]
fn a_source_is_merged_and_expanded() {
    let loaded = Fixture::file(TEMPLATE).load();
    insta::assert_snapshot!("source", body(&loaded, &plan(&loaded).builds[0].source, &Facts::default()));
}

#[test]
fn steps_know_the_machine_once_it_runs() {
    let mut fixture = Fixture::file(TEMPLATE);
    let text = TEMPLATE.replace("      other = { message = \"never\" }\n", "");
    fixture.write("t.pkr.hcl", &text);
    fixture.options.template = "t.pkr.hcl".into();
    let loaded = fixture.load();
    let build = &plan(&loaded).builds[0];
    insta::assert_snapshot!("step_before", body(&loaded, &build.steps[0].component, &Facts::default()));
    let facts = [("ID", "abc"), ("Host", "172.17.0.2"), ("User", "root"), ("Password", "pw")];
    let facts: BTreeMap<String, String> =
        facts.into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())).collect();
    let facts = Facts { build: Some(facts), ..Facts::default() };
    insta::assert_snapshot!("step_after", body(&loaded, &build.steps[0].component, &facts));
    insta::assert_snapshot!("post_processor_after", body(&loaded, &build.post_processors[0][0].component, &facts));
}

const STEP: &str = r#"
source "docker" "base" {
}
build {
  sources = ["docker.base"]
  provisioner "shell" {
    image = STEP
  }
}
"#;

fn step(expression: &str, facts: &Facts) -> String {
    let loaded = Fixture::file(&STEP.replace("STEP", expression)).load();
    body(&loaded, &plan(&loaded).builds[0].steps[0].component, facts)
}

fn known() -> Facts {
    let values = [("ID".to_owned(), "abc".to_owned()), ("Host".to_owned(), "h".to_owned())];
    Facts { build: Some(values.into()), ..Facts::default() }
}

#[test]
fn an_unknown_machine_value_is_an_error_once_the_machine_runs() {
    assert!(step("build.Hots", &Facts::default()).contains("image = <unknown>"));
    insta::assert_snapshot!("unknown_machine_value", step("build.Hots", &known()));
    // Where the builder tells its names, nobody has to wait for the machine.
    let told = Facts { names: vec!["ID".to_owned(), "Host".to_owned()], ..Facts::default() };
    let early = step("build.Hots", &told);
    assert!(early.contains("image = <unknown>") && early.contains("did you mean `Host`?"), "{early}");
    assert!(!step("build.Host", &told).contains("error"), "{early}");
}

#[test]
fn build_as_a_whole_is_unknown_until_the_machine_runs() {
    assert!(step("build[\"ID\"]", &Facts::default()).contains("image = <unknown>"));
    assert!(step("build[\"ID\"]", &known()).contains("image = \"abc\""));
}

#[test]
fn go_templates_are_rendered_and_their_mistakes_pointed_at() {
    assert!(step("\"at {{ isotime `2006` }}\"", &known()).contains("\"at 2023\""));
    assert!(step("\"{{ build_name }} {{ build `ID` }}\"", &known()).contains("\"base abc\""));
    assert!(step("\"{{ build `ID` }}\"", &Facts::default()).contains("image = <unknown>"));
    insta::assert_snapshot!(
        "unknown_go_function_in_heredoc",
        step("<<-EOT\n      ${source.name}\n      {{ build_nam }} {{ build_name }}\n    EOT", &known())
    );
    insta::assert_snapshot!("unknown_go_function", step("\"a {{ isotimee }} b\"", &known()));
}

#[test]
fn a_source_cannot_use_the_machine() {
    let text = "source \"docker\" \"a\" {\n  image = build.ID\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n";
    let loaded = Fixture::file(text).load();
    insta::assert_snapshot!(
        "machine_value_in_source",
        body(&loaded, &plan(&loaded).builds[0].source, &Facts::default())
    );
}

#[test]
fn all_mistakes_of_a_body_are_told() {
    let text = r#"
variable "release" {
  default = "1"
}
source "docker" "a" {
  image   = "app:${var.relase}"
  changes = ["ENV A=${upper()}", nowhere.x]
  message = local.missing
}
build {
  sources = ["docker.a"]
}
"#;
    let loaded = Fixture::file(text).load();
    insta::assert_snapshot!("mistakes_in_a_body", body(&loaded, &plan(&loaded).builds[0].source, &Facts::default()));
}

#[test]
fn console_evaluates_in_the_template() {
    let loaded = Fixture::file(TEMPLATE).load();
    let values = loaded.values.unwrap();
    let mut sources = loaded.sources;
    let mut diagnostics = kiln_core::Diagnostics::new();
    let text = "\"${local.image} ${path.root}\"";
    let source = sources.add("<console>", None, text);
    let expression = kiln_language::syntax::parse_expression(source, text, &mut diagnostics).unwrap();
    let value = kiln_language::evaluate::evaluate(&expression, &values.scope(), &mut diagnostics);
    assert_eq!(value.as_str(), Some("debian:BOOKWORM ."));
}

#[test]
fn json_syntax_gives_the_same_bodies() {
    let native = Fixture::file(TEMPLATE).load();
    let json = Fixture::directory(&[("whole.pkr.json", include_str!("whole.pkr.json"))]).load();
    let places = regex::Regex::new(r"@\d+:\d+").unwrap();
    let show = |loaded: &crate::Loaded, component: &kiln_core::ComponentSpec, facts: &Facts| {
        places.replace_all(&body(loaded, component, facts), "").into_owned()
    };
    let (first, second) = (&plan(&native).builds, &plan(&json).builds);
    assert_eq!((first.len(), second.len()), (1, 1));
    let (first, second) = (&first[0], &second[0]);
    assert_eq!(first.name, second.name);
    let facts = Facts::default();
    // A map is sorted, so the arguments of a nested block change places.
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(show(&native, &first.source, &facts)), sorted(show(&json, &second.source, &facts)));
    assert_eq!(show(&native, &first.steps[0].component, &facts), show(&json, &second.steps[0].component, &facts));
    assert_eq!(plan(&native).secrets, plan(&json).secrets);
}
