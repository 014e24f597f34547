//! Component bodies: rendering, weak types, overrides, sensitive marks.

use std::collections::BTreeMap;

use kiln_core::config::{Body, Value};
use kiln_core::{ComponentSpec, Diagnostics, Facts, Field, FieldType, Schema};

use super::{Loaded, load, load_with, options, with_variables};

static TAG: Schema = Schema {
    kind: "tag",
    title: "a tag",
    doc: "",
    fields: &[Field::string("key", ""), Field::string("command", "").deferred()],
    example: "",
};

static SCHEMA: Schema = Schema {
    kind: "docker",
    title: "a `docker` source",
    doc: "",
    fields: &[
        Field::string("image", ""),
        Field::bool("commit", ""),
        Field::strings("changes", ""),
        Field::map("volumes", ""),
        Field::new("port", FieldType::Integer, ""),
        Field::strings("run_command", "").deferred(),
        Field::new("tag", FieldType::Blocks(&TAG), ""),
    ],
    example: "",
};

fn evaluate(loaded: &Loaded, component: &ComponentSpec, facts: &Facts) -> (Body, Loaded) {
    let mut diagnostics = Diagnostics::new();
    let body = component.config.evaluate(&SCHEMA, facts, &mut diagnostics);
    let shown = Loaded { sources: loaded.sources.clone(), diagnostics, outcome: Default::default() };
    (body, shown)
}

/// A value as JSON, an unknown one as `"<unknown>"`.
fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Unknown => "<unknown>".into(),
        Value::Bool(value) => (*value).into(),
        Value::Number(text) => serde_json::from_str(text).unwrap(),
        Value::String(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(|item| json(&item.value)).collect(),
        Value::Map(entries) => {
            serde_json::Value::Object(entries.iter().map(|(key, item)| (key.clone(), json(&item.value))).collect())
        }
    }
}

fn values(body: &Body) -> serde_json::Value {
    serde_json::Value::Object(
        body.attributes.iter().map(|(name, attribute)| (name.clone(), json(&attribute.node.value))).collect(),
    )
}

fn builder(arguments: &str) -> Loaded {
    load(&format!(
        r#"{{ "variables": {{ "v": "x", "token": "s3cret" }}, "sensitive-variables": ["token"],
"builders": [{{ "type": "docker", "name": "worker", {arguments} }}] }}"#
    ))
}

fn evaluated(arguments: &str) -> (Body, Loaded) {
    let loaded = builder(arguments);
    let source = loaded.plan().builds[0].source.clone();
    evaluate(&loaded, &source, &Facts::default())
}

#[test]
fn strings_and_keys_are_rendered_and_deferred_fields_are_not() {
    let (body, shown) = evaluated(
        r#""image": "{{user `v`}}/{{build_name}}-{{build_type}}", "volumes": { "/{{user `v`}}": "{{user `v`}}" },
"run_command": ["-d", "{{.Image}}", "{{user `v`}}"], "port": "22", "commit": "true", "changes": "USER {{user `v`}}",
"tag": [{ "key": "{{user `v`}}", "command": "{{.Vars}} {{user `v`}}" }]"#,
    );
    assert!(shown.diagnostics.is_empty(), "{}", shown.rendered());
    assert!(body.weak);
    assert_eq!(
        values(&body),
        serde_json::json!({
            "image": "x/worker-docker",
            "volumes": { "/x": "x" },
            "run_command": ["-d", "{{.Image}}", "{{user `v`}}"],
            "port": "22",
            "commit": "true",
            "changes": "USER x",
            "tag": [{ "key": "x", "command": "{{.Vars}} {{user `v`}}" }],
        })
    );
    let mut diagnostics = Diagnostics::new();
    let decoded = SCHEMA.decode(&body, &mut diagnostics);
    assert!(diagnostics.is_empty());
    assert_eq!(decoded.values()["commit"], true);
    assert_eq!(decoded.values()["port"], 22);
    assert_eq!(decoded.values()["changes"], serde_json::json!(["USER x"]));
}

#[test]
fn numbers_bools_and_null_keep_their_types() {
    let (body, _) = evaluated(r#""port": 1.5e3, "commit": false, "image": null"#);
    assert_eq!(values(&body), serde_json::json!({ "port": 1500, "commit": false, "image": null }));
}

#[test]
fn a_value_of_the_machine_is_unknown_until_it_runs() {
    let loaded = builder(r#""image": "of-{{build `ID`}}""#);
    let source = &loaded.plan().builds[0].source;
    let (body, shown) = evaluate(&loaded, source, &Facts::default());
    assert!(shown.diagnostics.is_empty(), "{}", shown.rendered());
    assert_eq!(body.attributes["image"].node.value, Value::Unknown);
    let facts = Facts { build: Some(BTreeMap::from([("ID".to_owned(), "c0ffee".to_owned())])), ..Facts::default() };
    let (body, _) = evaluate(&loaded, source, &facts);
    assert_eq!(body.attributes["image"].node.value, Value::String("of-c0ffee".into()));
}

#[test]
fn what_holds_a_secret_is_sensitive() {
    let (body, _) = evaluated(
        r#""image": "a-{{user `token`}}", "changes": ["plain", "{{user `token` | upper}}", "s3cret"],
"run_command": ["{{user `token`}}", "{{.Image}}"]"#,
    );
    assert!(body.attributes["image"].node.sensitive);
    let marks = |name: &str| -> Vec<bool> {
        let Value::List(items) = &body.attributes[name].node.value else { panic!("no list") };
        items.iter().map(|item| item.sensitive).collect()
    };
    assert_eq!(marks("changes"), [false, true, true]);
    assert_eq!(marks("run_command"), [true, false]);
}

#[test]
fn places_are_those_of_the_file() {
    let loaded = builder("\n\"image\": \"debian\"");
    let source = loaded.plan().builds[0].source.clone();
    let (body, _) = evaluate(&loaded, &source, &Facts::default());
    assert_eq!(loaded.sources.place(body.attributes["image"].name_span), "worker.json:3:1");
    assert_eq!(loaded.sources.place(body.attributes["image"].node.span), "worker.json:3:10");
    assert_eq!(loaded.sources.text(source.kind_span), "docker");
    assert_eq!(loaded.sources.text(source.span), r#""type": "docker""#);
}

#[test]
fn an_override_belongs_to_its_build_and_lays_over() {
    let loaded = load(
        r#"{
  "builders": [{ "type": "docker", "name": "a" }, { "type": "docker", "name": "b" }],
  "provisioners": [{
    "type": "shell", "image": "base", "changes": ["one", "two"], "volumes": { "x": "1", "y": "2" },
    "override": { "b": { "changes": ["three"], "volumes": { "y": "3" }, "port": 1, "type": 5 } }
  }]
}"#,
    );
    let of_build = |index: usize| {
        let step = &loaded.plan().builds[index].steps[0];
        values(&evaluate(&loaded, &step.component, &Facts::default()).0)
    };
    assert_eq!(
        of_build(0),
        serde_json::json!({ "image": "base", "changes": ["one", "two"], "volumes": { "x": "1", "y": "2" } })
    );
    assert_eq!(
        of_build(1),
        serde_json::json!({
            "image": "base", "changes": ["three"], "volumes": { "x": "1", "y": "3" }, "port": 1, "type": 5,
        })
    );
}

#[test]
fn mistakes_in_texts_point_into_them() {
    let (body, shown) = evaluated(
        r#"
"image": "\u00fc\t{{bild_name}}",
"changes": ["a {{env `HOME`}}", "b {{.Image}}", "c {{user `v`"],
"volumes": { "{{if}}": "x" }"#,
    );
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("mistakes_in_texts", shown.rendered()));
    // Unknown, so that nothing more is said of them.
    assert_eq!(body.attributes["image"].node.value, Value::Unknown);
}

#[test]
fn a_text_that_uses_a_variable_without_value_is_unknown_for_inspect() {
    let mut options = options();
    options.allow_unset = true;
    let loaded = load_with(
        r#"{ "variables": { "v": null, "w": "{{user `v`}}-1" },
"builders": [{ "type": "docker", "name": "x-{{user `v`}}", "image": "{{user `w`}}", "run_command": "{{user `v`}}" }] }"#,
        &options,
    );
    let build = &loaded.plan().builds[0];
    assert_eq!(&*build.name, "x-{{user `v`}}");
    let (body, shown) = evaluate(&loaded, &build.source, &Facts::default());
    assert!(shown.diagnostics.is_empty());
    assert_eq!(values(&body), serde_json::json!({ "image": "<unknown>", "run_command": "<unknown>" }));
}

#[test]
fn a_given_variable_without_declaration_can_be_used() {
    let loaded = load_with(
        r#"{ "builders": [{ "type": "docker", "image": "{{user `v`}}" }] }"#,
        &with_variables(&[("v", "debian")]),
    );
    let (body, _) = evaluate(&loaded, &loaded.plan().builds[0].source, &Facts::default());
    assert_eq!(values(&body), serde_json::json!({ "image": "debian" }));
}
