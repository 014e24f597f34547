//! The order of calls, what is asked of the engine, and what is left after a failure.

use std::sync::Arc;

use kiln_core::communicator::{CaptureSink, CommunicatorError};
use kiln_core::{Command, Content, FailureClass, Payload, UndoOutcome, Undoer};
use kiln_docker::engine::EngineError;
use kiln_docker::fake::FakeEngine;
use kiln_docker::{DockerUndoer, Engine as _, ImageInfo};
use kiln_testkit::context;
use serde_json::json;

use crate::support::launch;

fn refused(action: &str, status: Option<u16>) -> EngineError {
    EngineError::Refused { action: action.into(), message: "no".into(), status }
}

#[tokio::test]
async fn a_build_in_its_order() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_remote_image("debian:bookworm", ImageInfo::default());
    let context = context().build();
    let json = json!({ "image": "debian:bookworm", "commit": true, "volumes": { "cache": "/cache" } });
    let machine = launch(engine.clone(), json, &context).await.unwrap();
    assert_eq!(context.journal.open()[0].kind, "docker.container");
    let (_, spec) = engine.containers().remove(0);
    assert_eq!(spec.name, "kiln-00000000-docker.worker");
    assert_eq!(spec.config.labels.clone().unwrap()["kiln.build"], "docker.worker");
    assert_eq!(spec.config.host_config.clone().unwrap().binds.unwrap(), ["cache:/cache"]);
    assert_eq!(spec.config.cmd, None);
    let artifact = machine.seal(&context).await.unwrap();
    assert_eq!(artifact.builder_id, "packer.post-processor.docker-import");
    assert_eq!(artifact.description, format!("Imported Docker image: {}", artifact.id));
    assert_eq!(machine.facts()["ImageSha256"], artifact.id);
    machine.destroy(&context).await.unwrap();
    machine.destroy(&context).await.unwrap();
    let id = &engine.commits()[0].container;
    let image = &spec.config.image.unwrap();
    assert_eq!(
        engine.changes(),
        [
            "pull debian:bookworm".to_owned(),
            format!("create_container kiln-00000000-docker.worker {image}"),
            format!("start_container {id}"),
            format!("commit {id}"),
            format!("remove_container {id}"),
        ]
    );
    // The container is struck, the image stays noted until the build hands it over.
    let open = context.journal.open();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].kind.as_str(), open[0].data["id"].as_str()), ("docker.image", Some(artifact.id.as_str())));
    assert_eq!(context.journal.history()[2].data["id"], serde_json::Value::Null, "noted before it existed");
    artifact.owner.clone().unwrap().destroy(&artifact, &context).await.unwrap();
    assert!(engine.images().iter().all(|image| image.id != artifact.id));
}

#[tokio::test]
async fn a_base_for_another_platform_is_warned_of_unless_it_is_meant() {
    for (architecture, platform, warning) in [
        ("arm64", None, "a is for linux/arm64, and the engine runs linux/amd64: `platform = \"linux/amd64\"` asks"),
        ("arm64", Some("linux/arm64"), ""),
        ("amd64", None, ""),
        ("", None, ""),
    ] {
        let engine = Arc::new(FakeEngine::new());
        let info = ImageInfo { os: "linux".to_owned(), architecture: architecture.to_owned(), ..ImageInfo::default() };
        engine.add_remote_image("a", info);
        let context = context().build();
        let mut json = json!({ "image": "a", "commit": true });
        if let Some(platform) = platform {
            json["platform"] = json!(platform);
        }
        launch(engine, json, &context).await.unwrap();
        let warnings = context.reporter.warnings();
        assert_eq!(warnings.len(), usize::from(!warning.is_empty()), "{architecture}, {platform:?}: {warnings:?}");
        assert!(warnings.iter().all(|it| it.starts_with(warning)), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_failed_start_leaves_nothing() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("a");
    engine.fail_next("start_container", refused("start", Some(500)));
    let context = context().build();
    let json = json!({ "image": "a", "commit": true, "pull": "missing" });
    let failure = launch(engine.clone(), json, &context).await.err().unwrap();
    assert_eq!(failure.chain(), "start failed: no");
    assert!(engine.containers().is_empty() && context.journal.open().is_empty());
    // When even the removal fails, the journal remembers.
    engine.fail_next("start_container", refused("start", Some(500)));
    engine.fail_next("remove_container", refused("remove", Some(500)));
    let json = json!({ "image": "a", "commit": true, "pull": false });
    launch(engine.clone(), json, &context).await.err().unwrap();
    let open = context.journal.open();
    assert_eq!(open.len(), 1);
    let shared = engine.clone();
    let undoer = DockerUndoer::with(move |_| Ok(shared.clone()));
    assert_eq!(undoer.undo(&open[0]).await.unwrap(), UndoOutcome::Removed);
    assert!(engine.containers().is_empty());
}

#[tokio::test]
async fn a_container_that_took_the_name_stays() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("a");
    let context = context().build();
    let json = json!({ "image": "a", "commit": true, "pull": false, "kiln_labels": false });
    engine.fail_next("create_container", refused("create", Some(409)));
    launch(engine.clone(), json.clone(), &context).await.err().unwrap();
    assert!(context.journal.open().is_empty());
    assert!(!engine.changes().iter().any(|call| call.starts_with("remove_container")), "{:?}", engine.changes());
    launch(engine.clone(), json, &context).await.unwrap();
    assert_eq!(context.journal.open()[0].data["id"], engine.containers()[0].0.id, "known by its id from then on");
}

#[tokio::test]
async fn without_labels_the_images_that_were_there_are_noted() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("a");
    let alike = engine.add_image("");
    let context = context().build();
    let json = json!({ "image": "a", "commit": true, "pull": false, "kiln_labels": false });
    let machine = launch(engine.clone(), json, &context).await.unwrap();
    let artifact = machine.seal(&context).await.unwrap();
    assert_eq!(engine.commits()[0].comment, None, "no trace");
    let noted = context.journal.history().into_iter().find(|undo| undo.kind == "docker.image").unwrap();
    let shared = engine.clone();
    let undoer = DockerUndoer::with(move |_| Ok(shared.clone()));
    assert_eq!(undoer.undo(&noted).await.unwrap(), UndoOutcome::Removed);
    assert!(engine.images().iter().any(|image| image.id == alike));
    assert!(engine.images().iter().all(|image| image.id != artifact.id));
}

#[tokio::test]
async fn an_export_is_noted_at_both_its_places_before_it_moves() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("a");
    let context = context().build();
    let to = context.scratch.join("root.tar");
    std::fs::create_dir_all(&*context.scratch).unwrap();
    let json = json!({ "image": "a", "export_path": to.to_str().unwrap(), "pull": false });
    let machine = launch(engine.clone(), json, &context).await.unwrap();
    machine.seal(&context).await.unwrap();
    let noted = context.journal.open().into_iter().find(|undo| undo.kind == "docker.file").unwrap();
    let undoer = DockerUndoer::with(move |_| Ok(engine.clone()));
    let own = std::fs::read(&to).unwrap();
    std::fs::rename(&to, context.scratch.join("kept")).unwrap();
    std::fs::write(&to, &own).unwrap();
    assert_eq!(undoer.undo(&noted).await.unwrap(), UndoOutcome::AlreadyGone, "a later run's");
    std::fs::rename(context.scratch.join("kept"), &to).unwrap();
    assert_eq!(undoer.undo(&noted).await.unwrap(), UndoOutcome::Removed);
    assert!(!to.exists());
}

#[tokio::test]
async fn pull_is_asked_for_when_it_should_be() {
    for (pull, is_local, pulls) in [
        (json!(true), true, true),
        (json!("missing"), true, false),
        (json!("missing"), false, true),
        (json!("never"), true, false),
    ] {
        let engine = Arc::new(FakeEngine::new());
        engine.add_remote_image("a", ImageInfo::default());
        if is_local {
            engine.add_image("a");
        }
        let json = json!({ "image": "a", "discard": true, "pull": pull });
        let machine = launch(engine.clone(), json, &context().build()).await.unwrap();
        assert_eq!(engine.changes().contains(&"pull a".to_owned()), pulls, "{pull} {is_local}");
        assert!(matches!(machine.seal(&context().build()).await.unwrap().content, Content::Nothing));
    }
    let engine = Arc::new(FakeEngine::new());
    let json = json!({ "image": "a", "discard": true, "pull": false });
    let failure = launch(engine, json, &context().build()).await.err().unwrap();
    assert!(failure.chain().starts_with("image a does not exist"), "{}", failure.chain());
    assert!(failure.hints[0].contains("docker pull a"));
}

#[tokio::test]
async fn the_login_goes_with_the_pull_and_stays_hidden() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_remote_image("registry.example.org/a", ImageInfo::default());
    let context = context().build();
    let json = json!({
        "image": "registry.example.org/a", "discard": true, "login": true, "login_server": "https://registry.example.org",
        "login_username": "robot", "login_password": "hunter22"
    });
    launch(engine.clone(), json, &context).await.unwrap();
    assert_eq!(engine.changes()[0], "pull registry.example.org/a as robot");
    context.events.message("hunter22");
    assert!(!context.reporter.as_json().contains("hunter22"));
}

#[tokio::test]
async fn a_pull_that_nobody_answers_is_of_the_environment() {
    let engine = Arc::new(FakeEngine::new());
    let unreachable = EngineError::Unreachable { address: "unix:///x".into(), source: "gone".into() };
    engine.fail_next("pull", unreachable);
    let failure =
        launch(engine.clone(), json!({ "image": "a", "commit": true }), &context().build()).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::Environment);
    let failure = launch(engine, json!({ "image": "a", "commit": true }), &context().build()).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::Build);
    assert!(failure.hints.iter().any(|hint| hint.contains("docker login docker.io")), "{:?}", failure.hints);
}

#[tokio::test]
async fn a_cancelled_run_keeps_no_image() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("a");
    let context = context().build();
    let machine =
        launch(engine.clone(), json!({ "image": "a", "commit": true, "pull": false }), &context).await.unwrap();
    context.cancel.cancel();
    assert!(machine.seal(&context).await.unwrap_err().is_cancelled());
    assert_eq!(engine.images().len(), 1);
    assert_eq!(context.journal.open().len(), 1, "only the container");
    machine.destroy(&context).await.unwrap();
    assert!(context.journal.open().is_empty() && engine.containers().is_empty());
}

#[tokio::test]
async fn missing_parents_belong_to_the_user_too() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image_with("a", ImageInfo { user: "app".into(), ..ImageInfo::default() });
    engine.add_file("/etc/passwd", "app:x:1000:1000::/home/app:/bin/sh\n");
    engine.add_directory("/home");
    let context = context().build();
    let machine =
        launch(engine.clone(), json!({ "image": "a", "commit": true, "pull": false }), &context).await.unwrap();
    let payload = Payload::Bytes { content: "x".into(), mode: 0o600 };
    machine.communicator().upload(&payload, "/home/app/deep/file").await.unwrap();
    let (directory, archive) = engine.uploads().remove(0);
    assert_eq!(directory, "/");
    let mut reader = tar::Archive::new(archive.as_slice());
    let seen: Vec<(String, u64)> = reader
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.header().uid().unwrap()))
        .collect();
    assert_eq!(seen, [("home/app".into(), 1000), ("home/app/deep".into(), 1000), ("home/app/deep/file".into(), 1000)]);
}

#[tokio::test]
async fn only_a_container_that_cannot_come_back_has_ended() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("a");
    let context = context().build();
    let json = json!({ "image": "a", "discard": true, "pull": false });
    let machine = launch(engine.clone(), json, &context).await.unwrap();
    let run = async || {
        let mut sink = CaptureSink::default();
        machine.communicator().exec(&Command::new(["true"]), &mut sink).await.unwrap_err()
    };
    // It is paused or restarts.
    engine.fail_next("exec true", refused("run a command", Some(409)));
    assert!(matches!(run().await, CommunicatorError::Disconnected(_)));
    let id = engine.containers()[0].0.id.clone();
    engine.remove_container(&id).await.unwrap();
    // It went away under the command.
    engine.fail_next("exec true", refused("look at a command", Some(409)));
    assert!(matches!(run().await, CommunicatorError::Disconnected(_)));
    let what = format!("container {id}");
    engine.fail_next("exec true", EngineError::NotFound { what, message: "No such exec instance: 0a1b".into() });
    assert!(matches!(run().await, CommunicatorError::Disconnected(_)));
    let before = engine.calls().len();
    let error = run().await;
    assert!(matches!(&error, CommunicatorError::Ended(text) if text.contains(&id)), "{error:?}");
    let inspected = engine.calls()[before..].iter().filter(|call| call.starts_with("inspect_container")).count();
    assert_eq!(inspected, 1);
    let payload = Payload::Bytes { content: "x".into(), mode: 0o644 };
    let error = machine.communicator().upload(&payload, "/x").await.unwrap_err();
    assert!(matches!(error, CommunicatorError::Ended(_)), "{error:?}");
    machine.destroy(&context).await.unwrap();
}
