//! What goes wrong on the way to a machine: restarts, cut and frozen connections, refused logins, kills.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::World;
use crate::support::ssh::{Remote, wait_until};

/// A step that says it is there, and stays.
fn staying() -> Json {
    json!({ "type": "shell", "inline": ["echo waiting", "exec sleep 600"] })
}

fn is_line(event: &Json, line: &str) -> bool {
    event["event"] == "output" && event["line"] == line
}

#[test]
fn a_machine_may_restart_in_a_step_that_expects_it() {
    let Some(mut remote) = Remote::start() else { return };
    let world = World::new();
    let mut restarts = staying();
    restarts["expect_disconnect"] = json!(true);
    let steps = json!([restarts, { "type": "shell", "inline": ["echo back again"] }]);
    let template = remote.template(&world, remote.source(), steps);
    let mut running = world.start(&["build", "-json", template]);
    running.wait_for("the step", |event| is_line(event, "waiting"));
    remote.sshd.stop();
    std::thread::sleep(Duration::from_millis(700));
    remote.sshd.start_again();
    running.wait_for("the next step", |event| is_line(event, "back again"));
    let (code, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_machine_that_comes_back_as_another_is_refused() {
    let Some(mut remote) = Remote::start() else { return };
    let world = World::new();
    let mut restarts = staying();
    restarts["expect_disconnect"] = json!(true);
    let steps = json!([restarts, { "type": "shell", "inline": ["echo back again"] }]);
    let template = remote.template(&world, remote.source(), steps);
    let before = remote.sshd.host_fingerprint();
    let mut running = world.start(&["build", template, "-json"]);
    running.wait_for("the step", |event| is_line(event, "waiting"));
    remote.sshd.stop();
    remote.sshd.new_host_keys();
    remote.sshd.start_again();
    let failed = running.wait_for("the failure", |event| event["event"] == "error");
    for fingerprint in [before, remote.sshd.host_fingerprint()] {
        assert!(failed.to_string().contains(&fingerprint), "no {fingerprint}: {failed}");
    }
    assert_ne!(running.end().0, 0);
}

#[test]
fn a_cut_connection_fails_the_step_at_once() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let template = remote.template(&world, remote.source(), json!([staying()]));
    let mut running = world.start(&["build", "-json", template]);
    running.wait_for("the step", |event| is_line(event, "waiting"));
    let cut = Instant::now();
    remote.sshd.cut();
    let failed = running.wait_for("the failure", |event| event["event"] == "error");
    assert!(cut.elapsed() < Duration::from_secs(10), "{:?}", cut.elapsed());
    assert!(failed.to_string().contains("lost the connection"), "{failed}");
    assert_eq!(running.end().0, 1);
}

#[test]
fn a_frozen_machine_is_noticed() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let source = remote.source_with(json!({ "ssh_keep_alive_interval": "500ms", "ssh_read_write_timeout": "2s" }));
    let template = remote.template(&world, source, json!([staying()]));
    let mut running = world.start(&["build", "-json", template]);
    running.wait_for("the step", |event| is_line(event, "waiting"));
    let frozen = Instant::now();
    remote.sshd.freeze();
    let failed = running.wait_for("the failure", |event| event["event"] == "error");
    assert!(frozen.elapsed() < Duration::from_secs(20), "{:?}", frozen.elapsed());
    assert!(failed.to_string().contains("nothing came from the machine for"), "{failed}");
    assert_eq!(running.end().0, 1);
    remote.sshd.thaw();
}

#[test]
fn a_refused_login_says_what_was_tried() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let key = world.path().join("stranger");
    kiln_testkit::generate_key("ed25519", &key, "stranger");
    let source = remote.source_with(json!({
        "ssh_private_key_file": key, "ssh_handshake_attempts": 1, "ssh_timeout": "20s",
    }));
    let template = remote.template(&world, source, json!([]));
    let started = Instant::now();
    let outcome = world.run(&["build", template]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(started.elapsed() < Duration::from_secs(15));
    assert!(outcome.stderr.contains("publickey"), "{}", outcome.stderr);
}

#[test]
fn a_machine_that_is_not_there_is_waited_for() {
    let Some(mut remote) = Remote::start() else { return };
    let world = World::new();
    let source = remote.source_with(json!({ "ssh_timeout": "1500ms" }));
    let steps = json!([{ "type": "shell", "inline": ["echo in"] }]);
    let template = remote.template(&world, source, steps.clone());
    remote.sshd.stop();
    let outcome = world.run(&["build", template]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("refused"), "what was met is said: {}", outcome.stderr);

    let template = remote.template(&world, remote.source(), steps);
    let running = world.start(&["build", "-json", template]);
    std::thread::sleep(Duration::from_millis(700));
    remote.sshd.start_again();
    let (code, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
}

#[test]
fn a_stopped_build_ends_the_step_and_leaves_nothing() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let template = remote.template(&world, remote.source(), json!([staying()]));
    let mut running = world.start(&["build", "-json", template]);
    running.wait_for("the step", |event| is_line(event, "waiting"));
    running.signal("INT");
    assert_eq!(running.end().0, 130);
    wait_until("all is gone from the machine", || remote.sshd.started().is_empty());
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn what_a_killed_build_leaves_is_cleaned_up() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let scripts = remote.path("scripts");
    std::fs::create_dir(&scripts).unwrap();
    let go_on = remote.path("go-on");
    let step = json!({
        "type": "shell",
        "remote_folder": scripts,
        "inline": ["echo waiting", format!("while ! test -e {}; do sleep 0.05; done", go_on.display())],
    });
    let template = remote.template(&world, remote.source(), json!([step]));
    let mut running = world.start(&["build", "-json", template]);
    running.wait_for("the step", |event| is_line(event, "waiting"));
    running.signal("KILL");
    assert_eq!(running.end().0, -1);
    let outcome = world.succeed(&["cleanup"]);
    assert!(world.leftovers().is_empty(), "{:?}: {}", world.leftovers(), outcome.stderr);
    // What ran on the machine goes on; its script goes with it.
    std::fs::write(&go_on, "").unwrap();
    wait_until("the step's processes are gone", || remote.sshd.started().is_empty());
    assert_eq!(std::fs::read_dir(&scripts).unwrap().count(), 0);
}
