//! Machines that run: commands and files, sealing, what is left of them.

use kiln_core::communicator::{CaptureSink, CommunicatorError};
use kiln_core::{Command, Content, Undoer};
use kiln_transport::conformance;
use serde_json::json;

use crate::support::{World, busybox, can_run, helper, output};

#[tokio::test]
async fn it_does_what_every_communicator_must() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({}))).await;
    output(&*machine, "mkdir /suite").await;
    conformance::check(machine.communicator(), "/suite").await;
    machine.destroy(&world.context).await.unwrap();
    assert_eq!(world.workspaces(), 0);
    assert!(world.context.journal.open().is_empty());
}

#[tokio::test]
async fn a_program_that_is_missing_ends_as_in_a_shell() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({}))).await;
    let mut sink = CaptureSink::default();
    let status = machine.communicator().exec(&Command::new(["/not/there"]), &mut sink).await.unwrap();
    assert_eq!(status.code(), 127);
    assert!(String::from_utf8(sink.stderr).unwrap().contains("/not/there"));
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test]
async fn a_user_that_the_guest_does_not_have_stays_away() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({ "exec_user": "ghost" }))).await;
    let ended = machine.communicator().exec(&Command::new(["true"]), &mut CaptureSink::default()).await;
    assert!(matches!(ended, Err(CommunicatorError::Impossible { .. })), "{ended:?}");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test]
async fn where_no_machine_starts_isolation_is_tried_out_anew() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let memory =
        || std::fs::read_dir(world.path("cache")).unwrap().any(|entry| entry.unwrap().file_name() == ".probe-0.json");
    let machine = world.launch(busybox(json!({}))).await;
    machine.destroy(&world.context).await.unwrap();
    assert!(memory(), "what was found out is remembered");
    // Not a place for a mount: a file is in the way.
    let builder = world.builder(busybox(json!({ "tmpfs": ["/bin/busybox/x"] })));
    assert!(builder.launch(&world.context).await.is_err());
    assert!(!memory());
}

#[tokio::test]
async fn a_dropped_command_is_gone() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({}))).await;
    let mut sink = CaptureSink::default();
    let command = Command::shell("sleep 4711 & sleep 4711");
    let running = machine.communicator().exec(&command, &mut sink);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), running).await.is_err());
    for _ in 0..50 {
        if output(&*machine, "ps | grep -c '[s]leep 4711' || true").await == "0" {
            machine.destroy(&world.context).await.unwrap();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("still running");
}

#[tokio::test]
async fn what_a_step_leaves_running_lives_until_the_state_is_kept() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({}))).await;
    output(&*machine, "sleep 4712 >/dev/null 2>&1 &").await;
    assert_eq!(output(&*machine, "ps | grep -c '[s]leep 4712'").await, "1");
    crate::support::keep(&*machine, 1, &world).await;
    assert_eq!(output(&*machine, "ps | grep -c '[s]leep 4712' || true").await, "0");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test]
async fn the_layer_has_what_changed_and_the_config_what_was_asked_for() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let arguments = busybox(json!({
        "labels": { "a": "b" }, "author": "me", "message": "words", "tags": ["worker"],
        "run_command": ["-e", "GREETING=hello", "{{.Image}}"], "changes": ["USER nobody", "CMD [\"run\"]"],
    }));
    let machine = world.launch(arguments).await;
    output(&*machine, "echo $GREETING > /greeting; rm /bin/vi; touch -d @1000 /greeting").await;
    let artifact = machine.seal(&world.context).await.unwrap();
    let seen = world.top_layer(&artifact);
    assert_eq!(seen, ["bin/", "bin/.wh.vi", "greeting: hello"]);
    let config = world.config(&artifact);
    assert_eq!(config["config"]["Labels"], json!({ "a": "b" }));
    assert!(config["config"]["Env"].as_array().unwrap().contains(&json!("GREETING=hello")));
    assert_eq!((&config["config"]["User"], &config["config"]["Cmd"]), (&json!("nobody"), &json!(["run"])));
    assert_eq!(config["author"], "me");
    assert_eq!(config["history"].as_array().unwrap().last().unwrap()["comment"], "words");
    assert_eq!(artifact.image().unwrap().tags, ["worker:latest"]);
    let named = world.layout().resolve_name("docker.io/library/worker:latest").unwrap();
    assert_eq!(named.unwrap().as_str(), artifact.image().unwrap().digest.as_deref().unwrap());
    assert_eq!(machine.facts()["ImageSha256"], artifact.image().unwrap().id);
    machine.destroy(&world.context).await.unwrap();
    artifact.owner.clone().unwrap().destroy(&artifact, &world.context).await.unwrap();
    assert_eq!(world.layout().resolve_name("docker.io/library/worker:latest").unwrap(), None);
}

/// No clock, no id of a run, no order of a directory is in the image.
#[tokio::test]
async fn the_same_tree_gives_the_same_digest() {
    if !can_run() {
        return;
    }
    let mut digests = Vec::new();
    for _ in 0..2 {
        let mut world = World::new();
        world.environment.insert("SOURCE_DATE_EPOCH".to_owned(), "1700000000".to_owned());
        let machine = world.launch(busybox(json!({}))).await;
        output(&*machine, "for name in a b c d; do echo $name > /$name; done; mkdir -p /x/y; ln -s a /l").await;
        digests.push(machine.seal(&world.context).await.unwrap().image().unwrap().digest.clone());
        machine.destroy(&world.context).await.unwrap();
    }
    assert_eq!(digests[0], digests[1]);
}

#[tokio::test]
async fn files_are_written_whole_and_given_over() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let arguments = busybox(json!({
        "tags": ["worker:1"], "export_path": world.path("out/root.tar"), "docker_archive": world.path("out/docker.tar"),
        "oci_layout": world.path("out/layout"), "load": true,
    }));
    let machine = world.launch(arguments).await;
    output(&*machine, "echo here > /new").await;
    let artifact = machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    let mut archive = tar::Archive::new(std::fs::File::open(world.path("out/root.tar")).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.contains(&"new".to_owned()) && names.contains(&"bin/busybox".to_owned()), "{names:?}");
    let copied = kiln_image::Layout::create(world.path("out/layout")).unwrap();
    let digest = artifact.image().unwrap().digest.clone().unwrap();
    assert!(copied.names().unwrap().iter().any(|named| named.digest.as_str() == digest));
    assert!(world.path("out/docker.tar").is_file());
    assert!(world.engine.calls().iter().any(|call| call.starts_with("load ")));
    let leftovers: Vec<_> =
        std::fs::read_dir(world.path("out")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(leftovers.len(), 3, "{leftovers:?}");
}

#[tokio::test]
async fn a_discarded_machine_leaves_nothing() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({ "discard": true }))).await;
    let artifact = machine.seal(&world.context).await.unwrap();
    assert_eq!(artifact.content, Content::Nothing);
    machine.destroy(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    assert_eq!(world.workspaces(), 0);
}

/// As after a kill: the journal alone knows of it.
#[tokio::test]
async fn the_journal_undoes_a_workspace_and_a_name() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({ "tags": ["worker"] }))).await;
    output(&*machine, "mkdir -p /a/b && echo x > /a/b/c").await;
    machine.seal(&world.context).await.unwrap();
    drop(machine);
    assert_eq!(world.workspaces(), 1);
    let undoer = kiln_builder_oci::OciUndoer::new(helper());
    let mut open = world.context.journal.open();
    open.reverse();
    assert_eq!(open.len(), 2, "{open:?}");
    for undo in &open {
        undoer.undo(undo).await.unwrap();
        undoer.undo(undo).await.unwrap();
    }
    assert_eq!(world.workspaces(), 0);
    assert_eq!(world.layout().resolve_name("docker.io/library/worker:latest").unwrap(), None);
}
