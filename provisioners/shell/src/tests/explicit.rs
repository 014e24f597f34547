//! Packer's way: upload, run what the template says, remove.

use kiln_testkit::{Call, Executed, FakeMachine, Reply, Uploaded, context};
use serde_json::json;

use super::*;

const OWN: &str = "KILN_BUILDER_TYPE='docker' KILN_BUILD_NAME='worker' PACKER_BUILDER_TYPE='docker' \
                   PACKER_BUILD_NAME='worker' ";

fn sh(line: &str) -> Call {
    let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Call::Exec(Executed { argv, ..Executed::default() })
}

fn file(to: &str, content: &str, mode: u32) -> Call {
    Call::Upload(Uploaded::File { to: to.to_owned(), content: content.into(), mode: Some(mode) })
}

#[tokio::test]
async fn it_is_upload_then_exactly_the_command_then_removal() {
    let context = context().build();
    let machine = FakeMachine::new();
    let step = shell(json!({
        "inline": ["id"], "remote_path": "/tmp/x.sh", "environment_vars": ["WORDS=it's two"],
        "execute_command": "chmod +x {{.Path}}; {{.Vars}}sudo -E sh '{{ .Path }}' {{build_name}} {{build `ID`}}",
    }));
    step.provision(&machine, &context).await.unwrap();
    assert_eq!(
        machine.communicator.calls(),
        [
            file("/tmp/x.sh", "#!/bin/sh -e\nid\n", 0o755),
            sh(&format!("chmod +x /tmp/x.sh; {OWN}WORDS='it'\"'\"'s two' sudo -E sh '/tmp/x.sh' worker 4f1c")),
            sh("rm -f '/tmp/x.sh'"),
        ]
    );
}

#[tokio::test]
async fn secrets_are_named_on_the_command_line_and_travel_beside_it() {
    let context = context().secret("hunter22").build();
    let machine = FakeMachine::new();
    let arguments = Arguments::new(json!({
        "inline": ["id"], "remote_path": "/tmp/x.sh",
        "env": { "A": "1", "MARKED": "mmmm", "TOKEN": "a hunter22" },
        "execute_command": "{{.Vars}}{{.Path}}",
    }))
    .sensitive("env.MARKED");
    prepared(&arguments).provision(&machine, &context).await.unwrap();
    let execs = machine.communicator.execs();
    assert_eq!(
        execs[0].argv[2],
        "A='1' KILN_BUILDER_TYPE='docker' KILN_BUILD_NAME='worker' MARKED=\"$MARKED\" PACKER_BUILDER_TYPE='docker' \
         PACKER_BUILD_NAME='worker' TOKEN=\"$TOKEN\" /tmp/x.sh"
    );
    let beside: Vec<_> = execs[0].environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(beside, [("MARKED", "mmmm"), ("TOKEN", "a hunter22")]);
    assert!(!machine.communicator.is_in_any_argument("hunter22") && !machine.communicator.is_in_any_argument("mmmm"));
    assert!(context.reporter.warnings().is_empty());
}

#[tokio::test]
async fn a_command_that_holds_a_secret_itself_is_on_no_command_line() {
    let context = context().secret("hunter22").build();
    let machine = FakeMachine::new();
    let step = shell(json!({
        "inline": ["id"], "remote_path": "/tmp/x.sh", "env": { "TOKEN": "hunter22" },
        "execute_command": "echo 'hunter22' | sudo -S {{.Path}}",
    }));
    step.provision(&machine, &context).await.unwrap();
    let execs = machine.communicator.execs();
    assert_eq!(execs[0].argv[2], "kiln_command=$KILN_COMMAND; unset KILN_COMMAND; eval \"$kiln_command\"");
    assert_eq!(execs[0].variable("KILN_COMMAND"), Some("echo 'hunter22' | sudo -S /tmp/x.sh"));
}

#[tokio::test]
async fn single_quotes_around_secrets_are_warned_of() {
    let context = context().secret("hunter22").build();
    let machine = FakeMachine::new();
    let quoted = "sudo sh -c '{{.Vars}} {{.Path}}'";
    let step = |env: Json| shell(json!({ "inline": ["id"], "env": env, "execute_command": quoted }));
    step(json!({ "A": "1" })).provision(&machine, &context).await.unwrap();
    assert!(context.reporter.warnings().is_empty());
    step(json!({ "TOKEN": "hunter22" })).provision(&machine, &context).await.unwrap();
    assert!(context.reporter.warnings()[0].starts_with("`TOKEN` travels in the environment"));
}

#[tokio::test]
async fn an_environment_file_is_private_and_always_removed() {
    let context = context().secret("hunter22").build();
    let machine = FakeMachine::new();
    let step = shell(json!({
        "inline": ["id"], "remote_path": "/tmp/x.sh", "env": { "TOKEN": "hunter22" },
        "use_env_var_file": true, "skip_clean": true,
    }));
    step.provision(&machine, &context).await.unwrap();
    let calls = machine.communicator.calls();
    let Call::Upload(Uploaded::File { to: variables, content, mode }) = &calls[0] else { panic!("{calls:?}") };
    assert!(variables.starts_with("/tmp/varfile_") && variables.ends_with(".sh"));
    assert_eq!(*mode, Some(0o600));
    let content = String::from_utf8_lossy(content);
    assert!(content.contains("export PACKER_BUILD_NAME='worker'\nexport TOKEN='hunter22'\n"), "{content}");
    assert_eq!(
        calls[1..],
        [
            file("/tmp/x.sh", "#!/bin/sh -e\nid\n", 0o755),
            sh(&format!("chmod +x /tmp/x.sh; . {variables} && /tmp/x.sh")),
            sh(&format!("rm -f '{variables}'")),
        ]
    );
}

#[tokio::test]
async fn an_environment_file_that_stays_fails_the_step_and_a_script_that_stays_does_not() {
    let context = context().build();
    for (use_file, is_ok) in [(true, false), (false, true)] {
        let machine = FakeMachine::new();
        machine.communicator.on_exec(Reply::ok());
        machine.communicator.on_exec(Reply::exit(1));
        let step = shell(json!({ "inline": ["x"], "use_env_var_file": use_file, "execute_command": "{{.Path}}" }));
        assert_eq!(step.provision(&machine, &context).await.is_ok(), is_ok);
    }
    assert_eq!(context.reporter.warnings().len(), 1);
}

#[tokio::test]
async fn files_go_also_when_the_script_fails_and_its_failure_is_what_is_told() {
    let context = context().build();
    let machine = FakeMachine::new();
    machine.communicator.on_exec(Reply::exit(2).stderr("no\n"));
    machine.communicator.on_exec(Reply::exit(1));
    let step = shell(json!({ "inline": ["x"], "use_env_var_file": true }));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(failure.to_string().contains("exited with status 2"), "{failure}");
    assert!(machine.communicator.execs()[1].argv[2].starts_with("rm -f "));
}

#[tokio::test(start_paused = true)]
async fn uploads_are_tried_again_and_a_command_that_may_have_run_is_not() {
    let context = context().build();
    let machine = FakeMachine::new();
    let step = |expect: bool| {
        shell(json!({
            "inline": ["x"], "execute_command": "{{.Path}}", "remote_path": "/tmp/x", "expect_disconnect": expect,
        }))
    };
    machine.communicator.on_upload(Reply::disconnected());
    machine.communicator.on_upload(Reply::refused());
    step(false).provision(&machine, &context).await.unwrap();
    assert_eq!((machine.communicator.uploads().len(), machine.communicator.execs().len()), (3, 2));

    let machine = FakeMachine::new();
    machine.communicator.on_exec(Reply::disconnected());
    let failure = step(false).provision(&machine, &context).await.unwrap_err();
    assert!(failure.to_string().contains("cannot tell how the inline commands ended"), "{failure}");

    let machine = FakeMachine::new();
    machine.communicator.on_exec(Reply::disconnected());
    machine.communicator.on_exec(Reply::disconnected());
    step(true).provision(&machine, &context).await.unwrap();
    let execs = machine.communicator.execs();
    assert_eq!(execs.len(), 3, "the script, and its removal once the machine is back");
    assert_eq!(execs[2].argv[2], "rm -f '/tmp/x'");
}

#[tokio::test]
async fn a_command_that_cannot_be_rendered_sends_nothing() {
    let context = context().build();
    let machine = FakeMachine::new();
    let step = shell(json!({ "inline": ["x"], "execute_command": "{{.Vars}} {{.Path" }));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(failure.to_string().contains("cannot render `execute_command`"), "{failure}");
    assert!(machine.communicator.calls().is_empty());
}
