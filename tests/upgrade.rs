//! `kiln upgrade`: legacy JSON as HCL2 that builds the same.
//!
//! Each template of `tests/fixtures/upgrade` has what becomes of it beside it; `INSTA_UPDATE=always` writes those anew.
//! With `KILN_TEST_PACKER=1` and Packer 1.6.6 installed, Packer must read them too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_core::{Diagnostics, render};
use kiln_template::upgrade::{Upgraded, upgrade};
use kiln_template::{ConfigType, Loaded};
use serde_json::Value as Json;

use crate::support::plans::{describe, kinds, options};
use crate::support::{World, stable};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Legacy templates of a directory.
fn legacy_templates(directory: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(project().join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.ends_with(".json") && !name.ends_with(".vars.json") && !name.ends_with(".pkr.json")
        })
        .collect();
    found.sort();
    found
}

fn upgraded(path: &Path, annotate: bool) -> Upgraded {
    let text = std::fs::read_to_string(path).unwrap();
    upgrade(&options(&text, ConfigType::Json, path.parent().unwrap(), &[]), &kinds(), annotate)
}

fn shown(diagnostics: &Diagnostics, sources: &kiln_core::SourceMap) -> String {
    diagnostics.items.iter().map(|item| render::render(item, sources, false) + "\n").collect()
}

fn load(text: &str, form: ConfigType, directory: &Path, variables: &[(String, String)]) -> Loaded {
    kiln_template::load(&options(text, form, directory, variables))
}

/// Declared variables; those without a default must be given.
fn variables(json: &str) -> Vec<(String, bool)> {
    let template: Json = serde_json::from_str(json).unwrap();
    let members = template["variables"].as_object().cloned().unwrap_or_default();
    members.into_iter().map(|(name, value)| (name, value.is_null())).collect()
}

/// Members in the order of their names: the order they are written in does not matter.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(items) => Json::Array(items.iter().map(sorted).collect()),
        Json::Object(members) => {
            let members: BTreeMap<&String, Json> = members.iter().map(|(name, value)| (name, sorted(value))).collect();
            members.into_iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        other => other.clone(),
    }
}

/// Each random name is another one.
fn without_uuids(plan: &Json) -> String {
    let pattern = regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    pattern.replace_all(&format!("{:#}", sorted(plan)), "[uuid]").into_owned()
}

/// Loads both and compares what they come to: what differs, or nothing.
fn differences(path: &Path, json: &str, hcl: &str, given: &[(String, String)]) -> String {
    let directory = path.parent().unwrap();
    let old = load(json, ConfigType::Json, directory, given);
    let new = load(hcl, ConfigType::Hcl2, directory, &renamed(given, hcl));
    let name = path.display();
    let kinds = kinds();
    let was = old.plan.as_ref().map(|plan| without_uuids(&describe(plan, &kinds)));
    // A value that does not fit where it is used: what is said of it differs.
    if !given.is_empty()
        && was.as_ref().is_none_or(|was| !was.contains("\"mistakes\": []") || was.contains("\"mistakes\": [\n"))
    {
        return String::new();
    }
    let (Some(was), Some(new_plan)) = (was, &new.plan) else {
        let (was, is) = (shown(&old.diagnostics, &old.sources), shown(&new.diagnostics, &new.sources));
        return format!("{name} given {given:?}\n{was}\n{is}\n{hcl}");
    };
    let is = without_uuids(&describe(new_plan, &kinds));
    if was == is {
        return String::new();
    }
    let pairs = was.lines().zip(is.lines()).enumerate().filter(|(_, (was, is))| was != is);
    let lines: Vec<String> =
        pairs.map(|(line, (was, is))| format!("{line}: {} | {}", was.trim(), is.trim())).take(20).collect();
    format!("{name} given {given:?}\n{}\n{hcl}\n", lines.join("\n"))
}

/// Values for those variables that must be given, and for one more.
fn values(variables: &[(String, bool)], also: Option<usize>) -> Vec<(String, String)> {
    let wanted = variables.iter().enumerate().filter(|(index, (_, is_required))| *is_required || also == Some(*index));
    wanted.map(|(index, (name, _))| (name.clone(), format!("given{index}"))).collect()
}

/// Names as HCL2 has them.
fn renamed(given: &[(String, String)], hcl: &str) -> Vec<(String, String)> {
    let name_of = |name: &String| {
        let comment = format!("# `{name}` in the JSON template\nvariable \"");
        let renamed = hcl.split_once(&comment).and_then(|(_, rest)| rest.split('"').next());
        renamed.unwrap_or(name).to_owned()
    };
    given.iter().map(|(name, value)| (name_of(name), value.clone())).collect()
}

/// Templates whose plans cannot be compared: one uses what it does not declare; the other is of kinds that kiln does not
/// have, whose weak types are known to them alone.
const WITHOUT_PLAN: [&str; 2] = ["undeclared", "unknown_weak"];

#[test]
fn upgraded_templates_build_the_same() {
    let directories = ["tests/fixtures/upgrade", "tests/fixtures/templates/good", "examples/rugged/json"];
    let paths: Vec<PathBuf> = directories.into_iter().flat_map(legacy_templates).collect();
    assert!(paths.len() >= 60, "only {} templates", paths.len());
    let mut found = String::new();
    for path in paths {
        if WITHOUT_PLAN.contains(&path.file_stem().unwrap().to_str().unwrap()) {
            continue;
        }
        let json = std::fs::read_to_string(&path).unwrap();
        let result = upgraded(&path, false);
        let hcl = result.text.unwrap_or_else(|| panic!("{}", shown(&result.diagnostics, &result.sources)));
        let variables = variables(&json);
        // With the defaults, and with each variable given a value.
        for also in std::iter::once(None).chain((0..variables.len()).map(Some)) {
            found.push_str(&differences(&path, &json, &hcl, &values(&variables, also)));
        }
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn upgraded_templates_are_as_recorded_and_in_form() {
    let paths = legacy_templates("tests/fixtures/upgrade");
    assert!(paths.len() >= 40, "only {} templates", paths.len());
    let update = std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always");
    for path in paths {
        let result = upgraded(&path, false);
        let mut text = result.text.clone().unwrap();
        let notes = shown(&result.diagnostics, &result.sources);
        assert_eq!(kiln_language::format::format(&text), text, "{}", path.display());
        if !notes.is_empty() {
            text.push_str(&format!("\n/* said:\n{}\n*/\n", notes.trim_end()));
        }
        let record = path.with_extension("upgraded");
        if update {
            std::fs::write(&record, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&record).unwrap_or_default(), text, "{}", path.display());
    }
}

/// Templates whose HCL2 is beyond Packer 1.6.6: `local` blocks, names that are expressions.
const BEYOND_PACKER: [&str; 2] = ["sensitive", "templated_names"];

#[test]
fn packer_reads_them() {
    if std::env::var_os("KILN_TEST_PACKER").is_none() {
        return;
    }
    let plugins = regex::Regex::new(r"(?m)^  required_plugins \{\n(    .*\n)*  \}\n").unwrap();
    for path in legacy_templates("tests/fixtures/upgrade") {
        if BEYOND_PACKER.contains(&path.file_stem().unwrap().to_str().unwrap()) {
            continue;
        }
        let world = World::new();
        let text = upgraded(&path, false).text.unwrap();
        let file = world.write("upgraded.pkr.hcl", &plugins.replace(&text, ""));
        let output = Command::new("packer")
            .arg("inspect")
            .arg(&file)
            .env("CHECKPOINT_DISABLE", "1")
            .env("PACKER_NO_COLOR", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !said.contains("Error:"), "{}\n{said}\n{text}", path.display());
    }
}

#[test]
fn the_command_writes_beside_the_template_or_where_it_is_told() {
    let world = World::new();
    world.write("worker.json", r#"{ "builders": [{ "type": "docker", "image": "debian", "discard": true }] }"#);
    let outcome = world.succeed(&["hcl2_upgrade", "worker.json"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "wrote worker.json.pkr.hcl\n"));
    let text = world.read("worker.json.pkr.hcl");
    world.succeed(&["validate", "worker.json.pkr.hcl"]);

    world.succeed(&["upgrade", "-output-file=other.pkr.hcl", "worker.json"]);
    assert_eq!(world.read("other.pkr.hcl"), text);
    assert_eq!(world.succeed(&["upgrade", "-output-file", "-", "worker.json"]).stdout, text);

    let annotated = world.succeed(&["upgrade", "-with-annotations", "-output-file=-", "worker.json"]).stdout;
    assert!(annotated.contains("# <worker.json>:1, builders[0]") || annotated.contains("# worker.json:1, builders[0]"));
}

#[test]
fn secrets_of_the_template_stay_out_of_messages_and_among_those_who_may_read_it() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::new();
    let template = r#"{
  "variables": { "token": "hunter2" },
  "sensitive-variables": ["token"],
  "builders": [{ "type": "docker", "image": "debian", "discard": true, "exec_user": "{{user `nowhere`}} hunter2" }]
}
"#;
    let path = world.write("worker.json", template);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let outcome = world.succeed(&["upgrade", "worker.json"]);
    assert!(outcome.stderr.contains("`nowhere` is not declared"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("<sensitive>") && !outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
    assert!(world.read("worker.json.pkr.hcl").contains("hunter2"));
    let mode = std::fs::metadata(world.path().join("worker.json.pkr.hcl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn what_may_differ_is_told_at_its_place() {
    let world = World::new();
    world.write(
        "worker.json",
        r#"{
  "variables": { "my.name": "a", "t": "{{timestamp}}" },
  "builders": [{ "type": "docker", "name": "w {{user `t`}}", "image": "{{env `IMAGE`}}", "discard": true, "a b": 1 }],
  "provisioners": [{ "type": "shell", "inline": ["{{user `t` | upper}} {{user `nowhere`}}"], "only": ["x"] }, {}],
  "post-processors": [{ "output": "x" }]
}
"#,
    );
    let outcome = world.succeed(&["upgrade", "-output-file=-", "worker.json"]);
    insta::assert_snapshot!(stable(&format!("{}\n{}", outcome.stderr, outcome.stdout), &world));
}

#[test]
fn mistakes_are_told_and_nothing_is_written() {
    let world = World::new();
    for (text, wanted) in [
        ("[1]", "a template must be an object"),
        (r#"{ "builders": {} }"#, "`builders` must be a list"),
        (r#"{ "builders": [}"#, "error"),
        (r#"{ "variables": { "a": [] } }"#, "the variable `a` is a list"),
    ] {
        world.write("worker.json", text);
        let outcome = world.run(&["upgrade", "worker.json"]);
        assert_eq!(outcome.code, 3, "{text}");
        assert!(outcome.stderr.contains(wanted), "{text}\n{}", outcome.stderr);
        assert!(!world.path().join("worker.json.pkr.hcl").exists());
    }
    world.write("worker.pkr.hcl", "");
    let outcome = world.run(&["upgrade", "worker.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stderr.contains("is an HCL2 template"), "{}", outcome.stderr);
}
