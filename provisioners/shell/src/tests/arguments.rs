//! Arguments and diagnostics.

use kiln_testkit::titles;
use serde_json::json;

use super::*;
use crate::{SCHEMA, Shell};

fn configured(json: Json) -> Shell {
    let (decoded, mut diagnostics) = Arguments::new(json).decode(&SCHEMA);
    Shell::prepare(&decoded, &mut diagnostics).unwrap()
}

#[test]
fn defaults_are_packers() {
    let shell = configured(json!({ "inline": ["true"] }));
    assert!(shell.explicit.is_none());
    assert_eq!(shell.valid_exit_codes, [0]);
    assert_eq!(shell.start_retry_timeout.as_secs(), 300);
    assert_eq!(shell.remote_folder, "/tmp");
    assert!(!shell.is_binary && !shell.skips_clean && !shell.expects_disconnect && shell.pause_after.is_zero());
}

#[test]
fn each_way_of_saying_how_leads_to_the_explicit_way() {
    let command = |json| configured(json).explicit.map(|explicit| explicit.command);
    let default = "chmod +x {{.Path}}; {{.Vars}} {{.Path}}";
    assert_eq!(command(json!({ "inline": ["x"], "execute_command": "sh {{.Path}}" })).unwrap(), "sh {{.Path}}");
    assert_eq!(command(json!({ "inline": ["x"], "env_var_format": "%s='%s'; " })).unwrap(), default);
    assert_eq!(
        command(json!({ "inline": ["x"], "use_env_var_file": true })).unwrap(),
        "chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}"
    );
    assert_eq!(command(json!({ "inline": ["x"], "use_env_var_file": false })), None);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let arguments = Arguments::new(json!({
        "script": "does/not/exist.sh",
        "environment_vars": ["X"],
        "env_var_format": "%s",
        "valid_exit_codes": ["x"],
        "start_retry_timeout": "5",
    }));
    let (none, diagnostics) = arguments.provisioner(&ShellKind);
    assert!(none.is_none());
    assert_eq!(
        titles(&diagnostics),
        [
            "`valid_exit_codes[0]` must be a whole number, and this is a string",
            "`start_retry_timeout`: `5` has no unit; write for example `5s`",
            "`script`: there is no file `does/not/exist.sh`",
            "`environment_vars[0]` is not `NAME=value`",
            "`env_var_format` must hold `%s` exactly twice, first for the name and then for the value",
        ]
    );
}

#[test]
fn an_environment_that_the_command_drops_is_warned_of() {
    let warned = |json| titles(&Arguments::new(json).provisioner(&ShellKind).1).len();
    let env = json!({ "A": "1" });
    assert_eq!(warned(json!({ "inline": ["x"], "env": env, "execute_command": "sudo sh {{.Path}}" })), 1);
    assert_eq!(warned(json!({ "inline": ["x"], "env": env, "execute_command": "sudo {{.Vars}} sh {{.Path}}" })), 0);
    assert_eq!(warned(json!({ "inline": ["x"], "execute_command": "sudo sh {{.Path}}" })), 0);
}

#[test]
fn legacy_json_may_give_a_text_for_a_list() {
    let step = prepared(&Arguments::new(json!({ "inline": "true", "valid_exit_codes": "3" })).weak());
    assert_eq!(step.title(), "1 inline command");
    assert_eq!(step.caching(), kiln_core::Caching::Restorable);
}

#[test]
fn unknown_values_wait() {
    let (step, diagnostics) = Arguments::new(json!({ "script": "x", "env": { "A": "b" } }))
        .unknown("script")
        .unknown("env.A")
        .provisioner(&ShellKind);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert!(step.is_some());
}

#[test]
fn the_reference_says_what_the_schema_says() {
    let page = include_str!("../../../../docs/reference/provisioners.md");
    assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
}
