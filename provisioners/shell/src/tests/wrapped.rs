//! The way of one command.

use std::time::Duration;

use kiln_testkit::{Call, FakeMachine, Reply, context};
use serde_json::json;

use super::*;
use crate::wrapper::STARTED;

/// A reply of a script that has started.
fn started(reply: Reply) -> Reply {
    reply.stderr(format!("{STARTED}\n"))
}

#[tokio::test]
async fn a_script_costs_one_command_and_no_secret_is_in_it() {
    let context = context().secret("hunter22").build();
    let machine = FakeMachine::new();
    let step = shell(json!({ "inline": ["echo hunter22", "exit 0"], "env": { "TOKEN": "hunter22" } }));
    step.provision(&machine, &context).await.unwrap();
    let calls = machine.communicator.calls();
    let [Call::Exec(executed)] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(executed.argv[..2], ["/bin/sh", "-c"]);
    assert!(executed.argv[3].starts_with("/tmp/script_") && executed.argv[3].ends_with(".sh"));
    assert_eq!(executed.argv.len(), 4);
    assert_eq!(executed.stdin_text(), "#!/bin/sh -e\necho hunter22\nexit 0\n");
    assert_eq!(executed.variable("TOKEN"), Some("hunter22"));
    assert_eq!(executed.variable("PACKER_BUILD_NAME"), Some("worker"));
    assert_eq!(executed.variable("PACKER_BUILDER_TYPE"), Some("docker"));
    assert_eq!(executed.variable("KILN_BUILD_NAME"), Some("worker"));
    assert!(!machine.communicator.is_in_any_argument("hunter22"));
}

#[tokio::test]
async fn on_a_terminal_the_script_is_stored_by_a_command_of_its_own() {
    let context = context().build();
    let machine = FakeMachine::new();
    machine.communicator.on_terminal();
    machine.communicator.on_exec(Reply::ok());
    machine.communicator.on_exec(Reply::exit(4).stdout("seen\r\n"));
    let step = shell(json!({ "inline": ["echo seen"], "env": { "A": "b" } }));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(failure.chain().contains("status 4"), "{}", failure.chain());
    let calls = machine.communicator.execs();
    let [store, run] = calls.as_slice() else { panic!("{calls:?}") };
    assert_eq!(store.stdin_text(), "#!/bin/sh -e\necho seen\n");
    assert_eq!((run.stdin_text().as_str(), run.variable("A"), &run.argv[3]), ("", Some("b"), &store.argv[3]));
    assert_eq!(context.reporter.output(), ["seen"], "nothing of the wrapper's own");
    machine.communicator.on_exec(Reply::exit(125).stderr("no space left"));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(failure.chain().contains("cannot store"), "{}", failure.chain());
}

#[tokio::test]
async fn scripts_are_sent_as_they_are_but_for_their_line_ends() {
    let context = context().build();
    let machine = FakeMachine::new();
    let files = [("unix.sh", "echo a\n"), ("dos.sh", "echo b\r\n")].map(|(name, content)| {
        let path = context.scratch.join(name);
        std::fs::write(&path, content).unwrap();
        path
    });
    for is_binary in [false, true] {
        shell(json!({ "scripts": files, "binary": is_binary })).provision(&machine, &context).await.unwrap();
    }
    let sent: Vec<String> = machine.communicator.execs().iter().map(kiln_testkit::Executed::stdin_text).collect();
    assert_eq!(sent, ["echo a\n", "echo b\n", "echo a\n", "echo b\r\n"]);
    assert_eq!(context.reporter.messages().len(), 4, "each of several scripts is announced");
    let left: Vec<_> = std::fs::read_dir(&context.scratch).unwrap().collect();
    assert_eq!(left.len(), 2, "converted copies are removed: {left:?}");
}

#[tokio::test]
async fn the_path_is_where_the_template_wants_it() {
    let context = context().build();
    let machine = FakeMachine::new();
    for (arguments, path) in [
        (json!({ "inline": ["x"], "remote_folder": "/var/tmp/", "remote_file": "a b.sh" }), "/var/tmp/a b.sh"),
        (json!({ "inline": ["x"], "remote_path": "/opt/x", "remote_file": "y" }), "/opt/x"),
        (json!({ "inline": ["x"], "remote_path": "x.sh" }), "./x.sh"),
    ] {
        shell(arguments).provision(&machine, &context).await.unwrap();
        assert_eq!(machine.communicator.execs().last().unwrap().argv[3], path);
    }
    shell(json!({ "inline": ["x"], "skip_clean": true })).provision(&machine, &context).await.unwrap();
    let execs = machine.communicator.execs();
    assert!(execs[0].argv[2].contains("rm -f") && !execs[3].argv[2].contains("rm -f"));
}

#[tokio::test]
async fn a_failing_script_tells_status_and_last_lines_without_the_start_mark() {
    let context = context().secret("hunter22").build();
    let machine = FakeMachine::new();
    machine.communicator.on_exec(
        Reply::exit(100).stdout("Reading\n").stderr("kiln: script st").stderr("arted\nE: no hunter22").stdout("bye\n"),
    );
    let failure = shell(json!({ "inline": ["x"] })).provision(&machine, &context).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the inline commands exited with status 100 (allowed: 0); the last lines of its output:\n    Reading\n    bye\n    \
         E: no <sensitive>"
    );
    assert_eq!(context.reporter.output(), ["Reading", "bye", "E: no <sensitive>"]);
    machine.communicator.on_exec(started(Reply::exit(100)));
    shell(json!({ "inline": ["x"], "valid_exit_codes": [0, 100] })).provision(&machine, &context).await.unwrap();
}

#[tokio::test]
async fn a_script_that_cannot_be_stored_is_no_script_that_fails() {
    let context = context().build();
    let machine = FakeMachine::new();
    let step = shell(json!({ "inline": ["x"], "remote_path": "/ro/x.sh" }));
    machine.communicator.on_exec(Reply::exit(125).stderr("/bin/sh: cannot create /ro/x.sh: Read-only file system\n"));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "cannot store the inline commands at `/ro/x.sh` on the machine; it says:\n    /bin/sh: cannot create /ro/x.sh: \
         Read-only file system"
    );
    assert!(failure.hints[0].contains("remote_folder"));
    machine.communicator.on_exec(started(Reply::exit(125)));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(failure.to_string().contains("exited with status 125"), "{failure}");
}

#[tokio::test(start_paused = true)]
async fn starting_is_tried_again_until_the_machine_answers() {
    let context = context().build();
    let machine = FakeMachine::new();
    for _ in 0..3 {
        machine.communicator.on_exec(Reply::disconnected().after(Duration::from_secs(10)));
    }
    shell(json!({ "inline": ["x"] })).provision(&machine, &context).await.unwrap();
    assert_eq!(machine.communicator.execs().len(), 4);
    let warnings = context.reporter.warnings();
    assert_eq!(
        warnings[0],
        "cannot start the inline commands: lost the connection to the machine; trying again in 1.0s, for at most 4m 50s more"
    );
    assert_eq!(warnings.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn starting_is_not_tried_for_ever() {
    let context = context().build();
    let machine = FakeMachine::new();
    machine.communicator.on_every_exec(|_| Reply::disconnected());
    let begin = tokio::time::Instant::now();
    let step = shell(json!({ "inline": ["x"], "start_retry_timeout": "40s" }));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(
        failure.chain().starts_with("cannot start the inline commands: lost the connection"),
        "{}",
        failure.chain()
    );
    assert_eq!(begin.elapsed().as_secs(), 40);

    let refusing = FakeMachine::new();
    refusing.communicator.on_every_exec(|_| Reply::refused());
    let failure = step.provision(&refusing, &context).await.unwrap_err();
    assert_eq!(refusing.communicator.execs().len(), 3, "a refusal is believed sooner");
    assert!(failure.hints[0].contains("/bin/sh"));
}

#[tokio::test(start_paused = true)]
async fn what_has_started_is_never_run_twice() {
    let context = context().build();
    let machine = FakeMachine::new();
    machine.communicator.on_exec(started(Reply::disconnected()));
    let failure = shell(json!({ "inline": ["reboot"] })).provision(&machine, &context).await.unwrap_err();
    assert_eq!(machine.communicator.execs().len(), 1);
    assert!(failure.to_string().contains("cannot tell how the inline commands ended"), "{failure}");
    assert!(failure.hints[0].contains("expect_disconnect"));
}

#[tokio::test(start_paused = true)]
async fn an_expected_disconnect_is_fine_and_the_script_is_removed_when_the_machine_is_back() {
    for arguments in [
        json!({ "inline": ["reboot"], "expect_disconnect": true, "remote_path": "/tmp/it's.sh" }),
        json!({ "inline": ["reboot"], "valid_exit_codes": [0, 2_300_218], "remote_path": "/tmp/it's.sh" }),
    ] {
        let context = context().build();
        let machine = FakeMachine::new();
        machine.communicator.on_exec(started(Reply::disconnected()));
        machine.communicator.on_exec(Reply::disconnected());
        shell(arguments).provision(&machine, &context).await.unwrap();
        let execs = machine.communicator.execs();
        assert_eq!(execs.len(), 3);
        assert_eq!(execs[2].argv, ["/bin/sh", "-c", "rm -f '/tmp/it'\\''s.sh'"]);
    }
    let (context, machine) = (context().build(), FakeMachine::new());
    machine.communicator.on_exec(started(Reply::disconnected()));
    let step = shell(json!({ "inline": ["reboot"], "expect_disconnect": true, "skip_clean": true }));
    step.provision(&machine, &context).await.unwrap();
    assert_eq!(machine.communicator.execs().len(), 1);
}

#[tokio::test]
async fn cancelling_ends_it_and_takes_the_script_away() {
    let context = context().build();
    let machine = FakeMachine::new();
    machine.communicator.on_exec(Reply::never());
    let step = shell(json!({ "inline": ["sleep inf"], "remote_path": "/tmp/x.sh" }));
    let stop = async {
        machine.communicator.wait_for_calls(1).await;
        context.cancel.cancel();
    };
    let (result, ()) = tokio::join!(step.provision(&machine, &context), stop);
    assert!(result.unwrap_err().is_cancelled());
    assert_eq!(machine.communicator.execs()[1].argv[2], "rm -f '/tmp/x.sh'");
}

#[tokio::test(start_paused = true)]
async fn it_pauses_after_the_last_script() {
    let context = context().build();
    let machine = FakeMachine::new();
    let begin = tokio::time::Instant::now();
    shell(json!({ "inline": ["x"], "pause_after": "90s" })).provision(&machine, &context).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::from_secs(90));
    assert_eq!(context.reporter.messages(), ["pausing 1m 30s after the scripts"]);
    machine.communicator.on_exec(Reply::exit(1));
    shell(json!({ "inline": ["x"], "pause_after": "90s" })).provision(&machine, &context).await.unwrap_err();
    assert_eq!(begin.elapsed(), Duration::from_secs(90), "no pause after a failure");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_has_ended_is_not_waited_for() {
    let ways = [
        (json!({}), false),
        (json!({ "expect_disconnect": true }), false),
        (json!({}), true),
        (json!({ "execute_command": "sh {{.Path}}", "expect_disconnect": true }), false),
    ];
    for (mut arguments, is_terminal) in ways {
        let context = context().build();
        let machine = FakeMachine::new();
        if is_terminal {
            machine.communicator.on_terminal();
        }
        machine.communicator.on_exec(Reply::ended());
        arguments["inline"] = json!(["true"]);
        let begin = tokio::time::Instant::now();
        let failure = shell(arguments).provision(&machine, &context).await.unwrap_err();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert!(failure.chain().starts_with("cannot start the inline commands: the machine has ended"), "{failure}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_machine_always_refuses_is_not_tried_again() {
    for arguments in [json!({ "inline": ["true"] }), json!({ "inline": ["true"], "execute_command": "sh {{.Path}}" })] {
        let context = context().build();
        let machine = FakeMachine::new();
        machine.communicator.on_exec(Reply::impossible());
        let begin = tokio::time::Instant::now();
        let failure = shell(arguments).provision(&machine, &context).await.unwrap_err();
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let told = failure.chain();
        assert!(told.starts_with("cannot start the inline commands: cannot run a command"), "{told}");
        assert!(told.ends_with("no such user"), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_ends_under_a_script_may_be_expected_to() {
    let context = context().build();
    let machine = FakeMachine::new();
    machine.communicator.on_exec(started(Reply::disconnected()));
    machine.communicator.on_exec(Reply::ended());
    let begin = tokio::time::Instant::now();
    let step = shell(json!({ "inline": ["poweroff"], "expect_disconnect": true }));
    step.provision(&machine, &context).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO, "its file is not waited for");
}
