//! Mistakes in a source's arguments.

use std::sync::Arc;

use kiln_docker::fake::FakeEngine;
use kiln_testkit::{Arguments, titles};
use serde_json::{Value, json};

use crate::support::prepare;

fn mistakes(arguments: Value) -> Vec<(String, String)> {
    mistakes_in(Arguments::new(arguments))
}

fn mistakes_in(arguments: Arguments) -> Vec<(String, String)> {
    let (builder, diagnostics) = prepare(Arc::new(FakeEngine::new()), &arguments);
    assert!(builder.is_some() || diagnostics.has_errors());
    diagnostics
        .items
        .iter()
        .map(|item| {
            let place = item.primary.as_ref().map(|label| arguments.text_at(label.span)).unwrap_or_default();
            (item.title.clone(), place)
        })
        .collect()
}

fn only(arguments: Value) -> String {
    let mut found = mistakes(arguments);
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0).0
}

#[test]
fn exactly_one_base_and_one_result() {
    assert_eq!(only(json!({ "commit": true })), "a docker source takes one of `image` and `build`");
    assert_eq!(
        only(json!({ "image": "a", "commit": true, "discard": true })),
        "`commit` and `discard` are both set; a docker source takes exactly one of `commit`, `discard` and `export_path`"
    );
    assert_eq!(
        only(json!({ "image": "a", "commit": false })),
        "a docker source takes one of `commit`, `discard` and `export_path`"
    );
    assert!(mistakes(json!({ "image": "a", "export_path": "x.tar" })).is_empty());
}

/// What of a source stands in the image's configuration and history, and nothing else.
#[test]
fn a_secret_that_would_stand_in_the_image_is_a_warning() {
    let places = |result: &str, paths: &[&str]| -> Vec<String> {
        let mut arguments = json!({
            "image": "a", "changes": ["USER a", "ENV TOKEN=x"], "author": "y", "message": "z",
            "run_command": ["-d", "-e", "A=1", "--label=b=2", "-v", "/c:/c", "-leD={{user `d`}}", "{{.Image}}", "sh"],
        });
        arguments[result] = if result == "export_path" { "x.tar".into() } else { true.into() };
        let arguments = paths.iter().fold(Arguments::new(arguments), |arguments, path| arguments.sensitive(path));
        let titled = "a sensitive value would stand in the image for everyone to read";
        mistakes_in(arguments).into_iter().filter(|(title, _)| title == titled).map(|(_, place)| place).collect()
    };
    let words = ["image", "run_command[2]", "run_command[3]", "run_command[5]", "run_command[6]", "run_command[8]"];
    assert_eq!(places("commit", &words), ["\"A=1\"", "\"--label=b=2\"", "\"-leD={{user `d`}}\"", "\"sh\""]);
    let texts = ["changes[1]", "author", "message"];
    assert_eq!(places("commit", &texts), ["\"ENV TOKEN=x\"", "\"y\"", "\"z\""]);
    assert_eq!(places("commit", &["changes"]), ["[\"USER a\", \"ENV TOKEN=x\", ]"]);
    assert!(places("commit", &[]).is_empty());
    let all = [&words[..], &texts].concat();
    assert!(places("discard", &all).is_empty() && places("export_path", &all).is_empty());
}

#[test]
fn what_is_not_available_says_so() {
    let with = |name: &str, value: Value| only(json!({ "image": "a", "commit": true, name: value }));
    assert_eq!(with("ecr_login", true.into()), "this kiln is built without AWS, which `ecr_login` asks");
    assert!(with("windows_container", true.into()).contains("not available"));
    assert!(with("pull", "sometimes".into()).contains("`pull` must be"));
}

/// As Packer: a communicator must exist, and needs its user. That kiln lacks it is no mistake of the template.
#[test]
fn other_communicators_are_accepted_with_a_warning() {
    let with = |name: &str, user: Option<&str>| {
        let mut arguments = json!({ "image": "a", "commit": true, "communicator": name, "ssh_port": 22 });
        if let Some(user) = user {
            arguments[user] = "root".into();
        }
        mistakes(arguments).into_iter().map(|(title, _)| title).collect::<Vec<_>>()
    };
    assert_eq!(with("docker", None), Vec::<String>::new());
    assert_eq!(with("ssh", Some("ssh_username")), ["kiln does not have the communicator `ssh` for docker sources yet"]);
    assert_eq!(with("winrm", None)[0], "the communicator `winrm` needs `winrm_username`");
    assert_eq!(
        with("none", None),
        ["the communicator `none` has no effect: a container is reached through the engine"]
    );
    assert_eq!(with("foo", None), ["there is no communicator `foo`"]);
}

#[test]
fn a_login_needs_its_parts_and_parts_need_the_login() {
    let found = mistakes(json!({ "image": "a", "commit": true, "login": true, "login_username": "u" }));
    assert_eq!(found[0], ("`login` needs `login_password`".to_owned(), "true".to_owned()));
    let empty = json!({ "image": "a", "commit": true, "login": true, "login_username": "u", "login_password": "" });
    assert_eq!(mistakes(empty), [("`login` needs `login_password`".to_owned(), "\"\"".to_owned())]);
    assert!(only(json!({ "image": "a", "commit": true, "login_username": "u" })).contains("no effect without"));
}

#[test]
fn changes_point_at_the_item() {
    let found = mistakes(json!({ "image": "a", "commit": true, "changes": ["USER x", "ENTRYPONT []"] }));
    assert_eq!(found, [("`ENTRYPONT` is no Dockerfile instruction".to_owned(), "\"ENTRYPONT []\"".to_owned())]);
}

#[test]
fn run_command_points_at_the_flag() {
    let found = mistakes(json!({
        "image": "a", "commit": true, "run_command": ["-d", "--frobnicate", "{{.Image}}"]
    }));
    assert_eq!(found.len(), 1);
    assert!(found[0].0.contains("`--frobnicate`"));
    assert_eq!(found[0].1, "\"--frobnicate\"");
}

#[test]
fn packers_own_templates_pass() {
    let arguments = Arguments::new(json!({
        "image": "debian:bookworm", "commit": "true", "privileged": "true", "pull": "false",
        "changes": "USER rugged", "ssh_username": "root", "communicator": "docker",
        "run_command": ["-d", "-i", "-t", "--entrypoint=/bin/sh", "--", "{{.Image}}"],
        "build": null
    }))
    .weak();
    let (builder, diagnostics) = prepare(Arc::new(FakeEngine::new()), &arguments);
    assert!(builder.is_some(), "{:?}", titles(&diagnostics));
    assert!(diagnostics.is_empty(), "{:?}", titles(&diagnostics));
}
