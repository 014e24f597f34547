//! What is run on this host, and how.

use kiln_core::Schema;
use kiln_testkit::{Arguments, Reply, ScriptedCommunicator, context, titles};
use serde_json::json;

use super::*;

const SCHEMA: Schema =
    Schema { kind: "shell-local", title: "a `shell-local` provisioner", doc: "", fields: FIELDS, example: "" };

fn prepare(arguments: &Arguments) -> (Option<LocalScript>, Diagnostics) {
    let (decoded, mut diagnostics) = arguments.decode(&SCHEMA);
    (LocalScript::prepare(&decoded, SCHEMA.title, &mut diagnostics), diagnostics)
}

fn script(json: serde_json::Value) -> LocalScript {
    let (script, diagnostics) = prepare(&Arguments::new(json));
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    script.unwrap()
}

#[tokio::test]
async fn inline_commands_run_from_a_private_file_with_the_environment_beside() {
    let context = context().secret("hunter22").build();
    let communicator = ScriptedCommunicator::new();
    communicator.on_every_exec(|executed| {
        let path = &executed.argv[3];
        let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        Reply::ok().stdout(format!("{mode:o} {}", std::fs::read_to_string(path).unwrap()))
    });
    let script = script(json!({
        "inline": ["echo $TOKEN"], "env": { "TOKEN": "hunter22" }, "tempfile_extension": "sh",
    }));
    assert_eq!(script.title(), "1 local command");
    script.run(&communicator, &context, &LocalData::default()).await.unwrap();
    let executed = &communicator.execs()[0];
    assert_eq!(executed.argv[..3], ["/bin/sh", "-c", "\"$0\""]);
    assert!(executed.argv[3].ends_with(".sh"), "{:?}", executed.argv);
    assert_eq!(executed.variable("TOKEN"), Some("hunter22"));
    assert_eq!(executed.variable("PACKER_BUILD_NAME"), Some("worker"));
    assert!(!communicator.is_in_any_argument("hunter22"));
    assert_eq!(context.reporter.output(), ["700 #!/bin/sh -e", "echo $TOKEN"]);
    assert!(!Path::new(&executed.argv[3]).exists(), "the temporary script is removed");
}

#[tokio::test]
async fn a_command_that_holds_a_secret_itself_is_hidden_from_the_process_list_or_warned_of() {
    let context = context().secret("hunter22").build();
    let run = async |command: serde_json::Value| {
        let script = script(json!({
            "inline": ["echo \"$1 ${KILN_COMMAND-unset}\""],
            "execute_command": command,
        }));
        script.run(&crate::local::LocalCommunicator, &context, &LocalData::default()).await.unwrap();
    };
    run(json!(["/bin/sh", "-c", "tr '\\0' ' ' </proc/$$/cmdline; echo; {{.Script}} 'its hunter22'", "name"])).await;
    assert_eq!(
        context.reporter.output(),
        [
            "/bin/sh -c kiln_command=$KILN_COMMAND; unset KILN_COMMAND; eval \"$kiln_command\" name ",
            "its <sensitive> unset"
        ]
    );
    assert!(context.reporter.warnings().is_empty());
    run(json!(["/usr/bin/env", "A=hunter22", "{{.Script}}"])).await;
    assert!(context.reporter.warnings()[0].starts_with("`execute_command` puts a sensitive value on a command line"));
}

#[tokio::test]
async fn an_execute_command_is_rendered_word_by_word_without_secrets() {
    let context = context().secret("hunter22").build();
    let communicator = ScriptedCommunicator::new();
    let file = context.scratch.join("a.sh");
    std::fs::write(&file, "").unwrap();
    let script = script(json!({
        "script": file,
        "environment_vars": ["A=1", "TOKEN=hunter22"],
        "execute_command": ["bash", "-c", "{{.Vars}}bash {{.Script}} {{.Extra}}", "{{build_name}}"],
    }));
    let data = LocalData { fields: BTreeMap::from([("Extra".into(), "more".into())]), ..LocalData::default() };
    script.run(&communicator, &context, &data).await.unwrap();
    let executed = &communicator.execs()[0];
    let variables = "A='1' KILN_BUILDER_TYPE='docker' KILN_BUILD_NAME='worker' PACKER_BUILDER_TYPE='docker' \
                     PACKER_BUILD_NAME='worker' TOKEN=\"$TOKEN\" ";
    let command = format!("{variables}bash {} more", file.display());
    assert_eq!(executed.argv, ["bash", "-c", &command, "worker"]);
    assert_eq!(executed.environment, [("TOKEN".to_owned(), "hunter22".to_owned())]);
}

#[tokio::test]
async fn scripts_run_in_order_and_the_first_failure_ends_it() {
    let context = context().build();
    let communicator = ScriptedCommunicator::new();
    let files: Vec<String> =
        ["a", "b", "c"].iter().map(|name| context.scratch.join(name).display().to_string()).collect();
    files.iter().for_each(|file| std::fs::write(file, "").unwrap());
    communicator.on_exec(Reply::exit(7));
    communicator.on_exec(Reply::exit(3).stderr("broken\n"));
    let script = script(json!({ "scripts": files, "valid_exit_codes": [0, 7] }));
    let failure = script.run(&communicator, &context, &LocalData::default()).await.unwrap_err();
    assert_eq!(communicator.execs().len(), 2);
    assert_eq!(
        failure.to_string(),
        format!(
            "script `{}` exited with status 3 (allowed: 0, 7); the last lines of its output:\n    broken",
            files[1]
        )
    );
    assert_eq!(script.input_files().len(), 3);
}

#[tokio::test]
async fn elsewhere_it_is_skipped_with_a_message() {
    let context = context().build();
    let communicator = ScriptedCommunicator::new();
    let script = script(json!({ "inline": ["x"], "only_on": ["windows", "solaris"] }));
    script.run(&communicator, &context, &LocalData::default()).await.unwrap();
    assert!(communicator.calls().is_empty());
    assert!(context.reporter.messages()[0].starts_with("skipped: this host is"));
}

#[tokio::test]
async fn cancelling_ends_the_wait() {
    let context = context().build();
    let communicator = ScriptedCommunicator::new();
    communicator.on_exec(Reply::never());
    let script = script(json!({ "inline": ["x"] }));
    let data = LocalData::default();
    let stop = async {
        communicator.wait_for_calls(1).await;
        context.cancel.cancel();
    };
    let (result, ()) = tokio::join!(script.run(&communicator, &context, &data), stop);
    assert!(result.unwrap_err().is_cancelled());
}

#[test]
fn mistakes_are_told_all_at_once() {
    let (none, diagnostics) = prepare(&Arguments::new(json!({
        "inline": ["x"], "execute_command": [], "only_on": ["macos"], "env_var_format": "%s", "environment_vars": ["A"],
    })));
    assert!(none.is_none());
    assert_eq!(
        titles(&diagnostics),
        [
            "`environment_vars[0]` is not `NAME=value`",
            "`env_var_format` must hold `%s` exactly twice, first for the name and then for the value",
            "`execute_command` is empty",
            "`macos` is no operating system that kiln knows",
        ]
    );
}

/// Linux would not start the program at all.
#[tokio::test]
async fn what_does_not_fit_into_a_variable_is_left_out_and_told() {
    let context = context().build();
    let fitting = "x".repeat(LONGEST_VARIABLE - "FITS=\0".len());
    let environment = [("FITS", fitting), ("LONG", "x".repeat(LONGEST_VARIABLE))];
    let environment = environment.map(|(name, value)| (name.to_owned(), value)).into();
    let data = LocalData { environment, ..LocalData::default() };
    let script = script(json!({ "inline": ["echo ${#FITS} ${LONG-unset}"] }));
    script.run(&crate::local::LocalCommunicator, &context, &data).await.unwrap();
    assert_eq!(context.reporter.output(), ["131066 unset"]);
    assert_eq!(context.reporter.warnings(), ["`LONG` is left out: its 128 KiB do not fit into a variable"]);
}
