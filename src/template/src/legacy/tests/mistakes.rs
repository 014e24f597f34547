//! What people see when a template is wrong: one snapshot a mistake.

use std::fs;

use super::{Loaded, load, load_with, options, with_variables};

/// Compares with `snapshots/NAME.snap`.
fn assert_shown(name: &str, loaded: &Loaded) {
    assert!(!loaded.diagnostics.is_empty(), "{name}: nothing was found");
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, loaded.rendered()));
}

macro_rules! mistakes {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            let loaded = load($text);
            assert!(!loaded.is_accepted());
            assert_shown(stringify!($name), &loaded);
        })*
    };
}

mistakes! {
    // The text is no JSON.
    trailing_comma: r#"{
  "builders": [
    {
      "type": "docker",
      "commit": true,
    }
  ]
}"#;
    single_quotes: "{\n  \"builders\": [{ 'type': \"docker\" }]\n}";
    missing_comma: "{\n  \"variables\": { \"a\": \"1\" }\n  \"builders\": []\n}";
    missing_comma_in_list: "{\n  \"builders\": [\n    { \"type\": \"docker\" }\n    { \"type\": \"null\" }\n  ]\n}";
    unclosed_string: "{\n  \"builders\": [{ \"type\": \"docker, \"image\": \"debian\" }]\n}";
    unclosed_string_at_line_end: "{\n  \"description\": \"the worker,\n  \"builders\": [{ \"type\": \"docker\" }]\n}";
    unclosed_key: "{\n  \"builders: [{ \"type\": \"docker\" }]\n}";
    line_comment: "{\n  // the image\n  \"builders\": []\n}";
    hash_comment: "{\n  # the image\n  \"builders\": []\n}";
    python_true: "{\n  \"builders\": [{ \"type\": \"docker\", \"commit\": True }]\n}";
    bare_key: "{\n  builders: []\n}";
    bare_word: "{\n  \"builders\": [{ \"type\": docker }]\n}";
    unclosed_object: "{\n  \"builders\": [{ \"type\": \"docker\" }]\n";
    stray_bracket: "{\n  \"builders\": [{ \"type\": \"docker\" ]\n}";
    missing_colon: "{\n  \"builders\" [{ \"type\": \"docker\" }]\n}";
    bad_escape: "{\n  \"description\": \"C:\\Windows\",\n  \"builders\": []\n}";
    raw_tab: "{\n  \"description\": \"a\tb\"\n}";
    byte_order_mark: "\u{feff}{\n  \"builders\": []\n}";
    text_after_the_end: "{ \"builders\": [{ \"type\": \"null\" }] }\n}";
    empty_file: "";
    not_an_object: "[]";

    // Keys and names.
    duplicate_keys_at_any_depth: r#"{
  "builders": [{ "type": "docker", "image": "a", "commit": true, "image": "b" }],
  "provisioners": [{ "type": "shell", "override": { "docker": { "inline": "a", "inline": "b" } } }]
}"#;
    unknown_root_key: "{\n  \"builder\": [],\n  \"builders\": [{ \"type\": \"null\" }]\n}";
    no_builders: "{\n  \"provisioners\": []\n}";
    builders_is_an_object: "{\n  \"builders\": { \"type\": \"docker\" }\n}";
    builder_without_type: "{\n  \"builders\": [\n    { \"image\": \"debian\" }\n  ]\n}";
    names_of_a_builder_that_cannot_be_read: r#"{
  "builders": [{ "name": "worker", "image": "debian" }],
  "provisioners": [{ "type": "shell", "only": ["worker"] }]
}"#;
    duplicate_builder: r#"{
  "builders": [
    { "type": "docker" },
    { "type": "null", "name": "docker" }
  ]
}"#;
    unknown_builder_names: r#"{
  "builders": [{ "type": "docker", "name": "worker" }],
  "provisioners": [
    { "type": "shell", "inline": "true", "only": ["workr"] },
    { "type": "shell", "inline": "true", "except": "docker" },
    { "type": "shell", "inline": "true", "override": { "Worker": { "inline": "false" } } }
  ],
  "post-processors": [{ "type": "docker-tag", "only": ["workers"] }]
}"#;
    only_and_except: r#"{
  "builders": [{ "type": "docker" }],
  "provisioners": [{ "type": "shell", "only": ["docker"], "except": ["docker"] }]
}"#;
    wrong_meta_values: r#"{
  "builders": [{ "type": "docker" }],
  "provisioners": [
    {
      "type": "shell",
      "pause_before": "10 seconds",
      "timeout": 5,
      "max_retries": "many",
      "override": ["docker"]
    }
  ],
  "post-processors": [{ "type": "docker-tag", "keep_input_artifact": "maybe" }]
}"#;
    nested_chain: r#"{
  "builders": [{ "type": "docker" }],
  "post-processors": [[["docker-tag"]], { "repository": "a" }]
}"#;
    newer_packer_needed: r#"{ "min_packer_version": "9.1.0", "builders": [{ "type": "null" }] }"#;
    templated_type: r#"{ "variables": { "t": "null" }, "builders": [{ "type": "{{user `t`}}" }] }"#;

    // Variables.
    undeclared_variable: r#"{
  "variables": { "release": "1.0" },
  "builders": [{ "type": "docker", "image": "registry\/base:{{user `relase`}}" }],
  "provisioners": [{ "type": "shell", "inline": ["echo \"é\" {{ user \"other\" | upper }}"] }]
}"#;
    undeclared_in_default: r#"{
  "variables": { "release": "1.0", "tag": "v{{user `relaese`}}" },
  "builders": [{ "type": "null" }]
}"#;
    variable_cycle: r#"{
  "variables": {
    "a": "{{user `b`}}",
    "b": "x-{{user `c`}}",
    "c": "{{user `a`}}",
    "d": "{{user `d`}}"
  },
  "builders": [{ "type": "null" }]
}"#;
    missing_variables: r#"{
  "variables": {
    "registry": null,
    "user": "ci",
    "password": null
  },
  "sensitive-variables": ["password"],
  "builders": [{ "type": "null" }]
}"#;
    missing_variable: "{ \"variables\": { \"release\": null }, \"builders\": [{ \"type\": \"null\" }] }";
    variables_of_other_types: r#"{
  "variables": { "port": 22, "commit": true, "names": ["a"] },
  "builders": [{ "type": "null" }]
}"#;
    unknown_sensitive_variable: r#"{
  "variables": { "password": "" },
  "sensitive-variables": ["pasword"],
  "builders": [{ "type": "null" }]
}"#;
    build_value_in_a_variable: r#"{
  "variables": { "id": "{{build `ID`}}" },
  "builders": [{ "type": "null" }]
}"#;
    broken_action_in_a_variable: r#"{
  "variables": { "path": "\u00fcber\t{{user `x`" },
  "builders": [{ "type": "null", "name": "{{bild_name}}" }]
}"#;
}

#[test]
fn several_kinds_of_mistakes_are_told_at_once() {
    let loaded = load(
        r#"{
  "variable": {},
  "variables": { "release": null, "tag": "{{user `realease`}}" },
  "builders": [{ "type": "docker", "image": "{{user `tg`}}" }, { "type": "docker" }],
  "provisioners": [{ "inline": "true" }]
}"#,
    );
    assert_shown("several_at_once", &loaded);
}

#[test]
fn a_variable_of_the_command_line_that_is_not_declared_warns() {
    let template = r#"{ "variables": { "release": "1" }, "builders": [{ "type": "null" }] }"#;
    let loaded = load_with(template, &with_variables(&[("relese", "s3cret")]));
    assert!(loaded.is_accepted());
    assert!(!loaded.rendered().contains("s3cret"));
    assert_shown("undeclared_on_the_command_line", &loaded);
}

#[test]
fn mistakes_in_given_values_point_into_them_unless_they_are_secret() {
    let template = r#"{
  "variables": { "release": "1", "token": "" },
  "sensitive-variables": ["token"],
  "builders": [{ "type": "null" }]
}"#;
    let given = [("release", "{{user `nothing`}}"), ("token", "s3cret{{user `nothing`}}")];
    let loaded = load_with(template, &with_variables(&given));
    assert!(!loaded.rendered().contains("s3cret"));
    assert_shown("mistakes_in_given_values", &loaded);
    assert!(loaded.outcome.secrets.contains(&"s3cret{{user `nothing`}}".to_owned()));
}

#[test]
fn variable_files_of_the_wrong_form() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options();
    options.working_dir = directory.path().to_owned();
    for (name, text) in [
        ("release.pkrvars.hcl", "# the release\nrelease = \"1.0\"\n"),
        ("lists.json", "{ \"release\": [\"1.0\"], \"tag\": \"a\", \"tag\": \"b\" }"),
        ("broken.json", "{ \"release\": \"1.0\", }"),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
        options.variable_files.push(name.into());
    }
    options.variable_files.push("absent.json".into());
    let template = r#"{ "variables": { "release": "1", "tag": "" }, "builders": [{ "type": "null" }] }"#;
    let loaded = load_with(template, &options);
    assert_shown("variable_files_of_the_wrong_form", &loaded);
}

#[test]
fn names_that_match_no_build() {
    let template = r#"{
  "builders": [{ "type": "docker" }, { "type": "docker", "name": "worker" }],
  "post-processors": ["manifest"]
}"#;
    let mut some = options();
    some.only = vec!["docker".into(), "woker".into()];
    some.except = vec!["manifst".into(), "work*".into()];
    let loaded = load_with(template, &some);
    assert!(loaded.is_accepted());
    assert_shown("names_that_match_nothing", &loaded);
    let mut none = options();
    none.only = vec!["web".into()];
    assert_shown("no_build_left", &load_with(template, &none));
}
