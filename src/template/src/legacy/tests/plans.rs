//! From templates to plans.

use std::fs;
use std::time::{Duration, SystemTime};

use kiln_core::{BuildSpec, Plan};

use super::{load, load_with, options, with_variables};

/// Steps of a build as `kind`, chains as `kind > kind`.
fn outline(build: &BuildSpec) -> (Vec<&str>, Vec<String>) {
    let steps = build.steps.iter().map(|step| step.component.kind.as_str()).collect();
    let chain = |links: &Vec<kiln_core::PostProcessorSpec>| {
        links.iter().map(|link| link.component.kind.clone()).collect::<Vec<_>>().join(" > ")
    };
    (steps, build.post_processors.iter().map(chain).collect())
}

fn values(plan: &Plan) -> Vec<(&str, &str)> {
    plan.variables.iter().map(|variable| (variable.name.as_str(), variable.value.as_str())).collect()
}

/// A layer as a real project writes it: values from the environment, booleans as strings, tags in a chain.
const LAYER: &str = r#"{
  "_comment": "the shared base of all workers",
  "description": "Base with Python and Supervisor.",
  "min_packer_version": "1.3.0",
  "variables": {
    "package": "{{env `PACKAGE`}}",
    "registry": "registry.example.org/{{user `package`}}",
    "image": "base",
    "version": "0.1.{{isotime \"20060102\"}}",
    "parent": "{{user `registry`}}/distribution:latest",
    "token": "{{env `KILN_TEST_ABSENT_VARIABLE`}}"
  },
  "sensitive-variables": ["token"],
  "builders": [{
    "type": "docker", "image": "{{user `parent`}}", "pull": "false", "commit": "true", "privileged": "true",
    "changes": ["USER rugged", "ENV IMAGE={{user `image`}}"]
  }],
  "provisioners": [
    { "type": "shell", "scripts": ["scripts/apt.sh", "scripts/{{user `image`}}.sh"], "environment_vars": ["A=1"] },
    { "type": "shell", "inline": "mkdir -p /opt", "pause_before": "5s", "max_retries": "{{user `retries`}}" },
    { "type": "file", "source": "files/", "destination": "/opt", "timeout": "2m", "except": ["docker"] }
  ],
  "error-cleanup-provisioner": { "type": "shell-local", "inline": ["echo failed"] },
  "post-processors": [
    [
      { "type": "docker-tag", "repository": "{{user `registry`}}/base", "tag": "{{user `version`}}" },
      { "type": "docker-tag", "repository": "{{user `registry`}}/base", "tag": "latest", "name": "latest" },
      { "type": "docker-push", "login": "true", "keep_input_artifact": true }
    ],
    "manifest",
    { "type": "checksum", "only": ["docker"], "keep_input_artifact": false }
  ]
}"#;

fn layer() -> crate::load::LoadOptions {
    let mut options = with_variables(&[("retries", "3")]);
    options.environment.insert("PACKAGE".to_owned(), "worker".to_owned());
    options.started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    options
}

#[test]
fn a_layer_gives_one_build_with_steps_and_chains() {
    let loaded = load_with(LAYER, &layer());
    let plan = loaded.plan();
    assert_eq!(plan.description.as_deref(), Some("Base with Python and Supervisor."));
    let [build] = plan.builds.as_slice() else { panic!("one build") };
    assert_eq!((&*build.name, &*build.build_name, build.source.kind.as_str()), ("docker", "docker", "docker"));
    assert_eq!(
        outline(build),
        (
            vec!["shell", "shell"],
            vec!["docker-tag > docker-tag > docker-push".into(), "manifest".into(), "checksum".into()]
        )
    );
    let step = &build.steps[1];
    assert_eq!((step.pause_before, step.max_retries, step.timeout), (Duration::from_secs(5), 3, None));
    assert_eq!(build.error_cleanup.as_ref().map(|step| step.component.kind.as_str()), Some("shell-local"));
    let links: Vec<_> = build.post_processors.iter().flatten().collect();
    assert_eq!(links[1].component.name.as_deref(), Some("latest"));
    let keeps: Vec<Option<bool>> = links.iter().map(|link| link.keep_input).collect();
    assert_eq!(keeps, [None, None, Some(true), None, Some(false)]);
}

#[test]
fn variables_resolve_through_each_other_and_the_environment() {
    let loaded = load_with(LAYER, &layer());
    let plan = loaded.plan();
    let package = "worker";
    let registry = format!("\"registry.example.org/{package}\"");
    let parent = format!("\"registry.example.org/{package}/distribution:latest\"");
    let package = format!("\"{package}\"");
    assert_eq!(
        values(plan),
        [
            ("image", "\"base\""),
            ("package", package.as_str()),
            ("parent", parent.as_str()),
            ("registry", registry.as_str()),
            ("token", "<sensitive>"),
            ("version", "\"0.1.20231114\""),
        ]
    );
    let scope = plan.text_scope.user_variables.as_ref().unwrap();
    assert_eq!(scope["retries"], "3");
    assert_eq!(plan.text_scope.template_dir, std::path::Path::new("templates"));
    // An absent environment variable is empty, and the empty text is no secret.
    assert!(plan.secrets.is_empty());
}

#[test]
fn later_settings_win() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("one.json"),
        r#"{ "a": "file-1", "b": "file-1", "c": "file-1", "port": 22, "on": true }"#,
    )
    .unwrap();
    fs::write(directory.path().join("two.json"), r#"{ "b": "file-2", "c": "file-2", "empty": null, "other": "1" }"#)
        .unwrap();
    let mut options = with_variables(&[("c", "var"), ("token", "s3cret"), ("e", "{{user `c`}}")]);
    options.working_dir = directory.path().to_owned();
    options.variable_files = vec!["one.json".into(), "two.json".into()];
    let loaded = load_with(
        r#"{
  "variables": { "a": "", "b": "", "c": "", "d": "default", "e": "", "empty": null, "port": "", "on": "", "token": null },
  "sensitive-variables": ["token"],
  "builders": [{ "type": "null" }]
}"#,
        &options,
    );
    assert_eq!(
        values(loaded.plan()),
        [
            ("a", "\"file-1\""),
            ("b", "\"file-2\""),
            ("c", "\"var\""),
            ("d", "\"default\""),
            ("e", "\"var\""),
            ("empty", "\"\""),
            ("on", "\"true\""),
            ("port", "\"22\""),
            ("token", "<sensitive>"),
        ]
    );
    assert_eq!(loaded.plan().secrets, ["s3cret"]);
    assert_eq!(loaded.outcome.secrets, ["s3cret"]);
}

#[test]
fn undeclared_names_in_variable_files_warn_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.json"), r#"{ "used": "1", "unused": "2" }"#).unwrap();
    let mut options = options();
    options.working_dir = directory.path().to_owned();
    options.variable_files = vec!["all.json".into()];
    let template = r#"{ "builders": [{ "type": "null", "name": "{{user `used`}}" }] }"#;
    assert!(load_with(template, &options).diagnostics.is_empty());
    options.warn_undeclared = true;
    let titles: Vec<String> =
        load_with(template, &options).diagnostics.items.into_iter().map(|diagnostic| diagnostic.title).collect();
    assert_eq!(titles, ["the template declares no variable `unused`"]);
}

/// Variable files are shared by templates that use a part of them each.
#[test]
fn a_value_that_nothing_uses_may_use_what_is_not_there() {
    let given = [("args", "{{user `extra`}} {{user `url`}}"), ("extra", "{{user `nothing`}}")];
    let unused = load_with(r#"{ "builders": [{ "type": "null" }] }"#, &with_variables(&given));
    assert!(unused.is_accepted(), "{}", unused.rendered());
    let is_told = |title: &str| unused.diagnostics.items.iter().any(|diagnostic| diagnostic.title == title);
    assert!(is_told("the value given for `extra` uses a variable that is not there"));
    let used = r#"{ "builders": [{ "type": "null", "name": "{{user `args`}}" }] }"#;
    assert!(!load_with(used, &with_variables(&given)).is_accepted());
}

#[test]
fn a_secret_is_known_even_when_the_template_is_wrong() {
    let loaded = load_with(
        r#"{ "variables": { "token": "" }, "sensitive-variables": ["token"], "builders": [] }"#,
        &with_variables(&[("token", "s3cret")]),
    );
    assert!(!loaded.is_accepted());
    assert_eq!(loaded.outcome.secrets, ["s3cret"]);
}

const TWO: &str = r#"{
  "variables": { "kind": "web" },
  "builders": [{ "type": "docker", "name": "{{user `kind`}}-worker" }, { "type": "null" }],
  "provisioners": [
    { "type": "shell", "only": ["{{user `kind`}}-worker"] },
    { "type": "file", "only": ["web-worker"] },
    { "type": "sleep", "except": "null" },
    { "type": "breakpoint", "only": [] }
  ],
  "post-processors": [
    ["docker-tag", { "type": "docker-push", "name": "publish" }, "manifest"],
    { "type": "checksum", "except": ["null"] }
  ]
}"#;

#[test]
fn only_and_except_take_written_and_rendered_names() {
    let loaded = load(TWO);
    let [worker, null] = loaded.plan().builds.as_slice() else { panic!("two builds") };
    assert_eq!(&*worker.name, "web-worker");
    let chain = "docker-tag > docker-push > manifest".to_owned();
    assert_eq!(outline(worker), (vec!["shell", "file", "sleep", "breakpoint"], vec![chain.clone(), "checksum".into()]));
    assert_eq!(outline(null), (vec!["breakpoint"], vec![chain]));
}

#[test]
fn the_command_line_selects_builds_and_cuts_chains() {
    let select = |only: &[&str], except: &[&str]| {
        let mut options = options();
        options.only = only.iter().map(|name| (*name).to_owned()).collect();
        options.except = except.iter().map(|name| (*name).to_owned()).collect();
        let loaded = load_with(TWO, &options);
        loaded.plan().builds.iter().map(|build| (build.name.to_string(), outline(build).1)).collect::<Vec<_>>()
    };
    let whole = "docker-tag > docker-push > manifest".to_owned();
    assert_eq!(select(&["null"], &[]), [("null".into(), vec![whole.clone()])]);
    assert_eq!(select(&[], &["null"]), [("web-worker".into(), vec![whole, "checksum".into()])]);
    // A named link goes by its name, with all that follows; a chain that loses its head is gone.
    assert_eq!(select(&["null"], &["publish"]), [("null".into(), vec!["docker-tag".into()])]);
    assert_eq!(select(&["web-worker"], &["docker-tag", "checksum"]), [("web-worker".to_owned(), Vec::<String>::new())]);
}

#[test]
fn syntax_only_needs_no_builders() {
    let mut options = options();
    options.syntax_only = true;
    let text = r#"{"variables": {"release": "bookworm"}}"#;
    assert!(load_with(text, &options).is_accepted());
    options.syntax_only = false;
    assert!(!load_with(text, &options).is_accepted());
}

#[test]
fn syntax_only_needs_no_values() {
    let mut options = options();
    options.syntax_only = true;
    let text = r#"{ "variables": { "a": null }, "builders": [{ "type": "null", "name": "{{user `a`}}" }] }"#;
    let loaded = load_with(text, &options);
    assert!(loaded.plan().builds.is_empty());
    assert!(!load_with(&text.replace("null\"", "null"), &options).is_accepted());
    // A variable file may bring them.
    let undeclared = r#"{ "sensitive-variables": ["b"], "builders": [{ "type": "null", "name": "{{user `b`}}" }] }"#;
    assert!(load_with(undeclared, &options).is_accepted());
}

#[test]
fn nulls_comments_and_push_are_nothing() {
    let loaded = load(
        r#"{ "_": 1, "_note": "x", "comments": [{ "a": "{{user `b`}}" }], "provisioners": null, "variables": null,
"post-processors": null, "builders": [{ "type": "null", "name": null }] }"#,
    );
    assert_eq!(&*loaded.plan().builds[0].name, "null");
    let pushing = load(r#"{ "push": { "name": "{{user `b`}}" }, "builders": [{ "type": "null" }] }"#);
    assert!(!pushing.diagnostics.has_errors() && pushing.diagnostics.items.len() == 1);
}

#[test]
fn inspect_shows_required_variables_without_values() {
    let mut options = options();
    options.allow_unset = true;
    let loaded = load_with(
        r#"{ "variables": { "a": null, "b": "{{user `a`}}", "c": "x" }, "sensitive-variables": ["c"],
"builders": [{ "type": "null" }] }"#,
        &options,
    );
    let summary: Vec<_> = loaded
        .plan()
        .variables
        .iter()
        .map(|variable| (variable.name.as_str(), variable.value.as_str(), variable.required, variable.sensitive))
        .collect();
    assert_eq!(
        summary,
        [("a", "<unknown>", true, false), ("b", "<unknown>", false, false), ("c", "<sensitive>", false, true)]
    );
}
