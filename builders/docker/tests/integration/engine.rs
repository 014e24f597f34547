//! The source against a real engine. Needs a Docker engine with `debian:bookworm`; skipped loudly without one.

use std::collections::BTreeMap;

use kiln_core::communicator::{CaptureSink, CommunicatorError};
use kiln_core::{Command, Content, ExitStatus, Machine, Origin, Payload, RunOptions, UndoOutcome, Undoer};
use kiln_docker::engine::{Engine, ImageInfo};
use kiln_docker::{ContainerUndo, DockerUndoer, ImageUndo};
use serde_json::json;

use crate::support::{BASE, World, output, path_text};

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|word| (*word).to_owned()).collect())
}

/// `[]` and absence are the same to whoever runs the image.
fn process(image: &ImageInfo) -> (Vec<String>, Vec<String>) {
    (image.entrypoint.clone().unwrap_or_default(), image.command.clone().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_conforms() {
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    output(&*machine, "mkdir /work").await;
    kiln_transport::conformance::check(machine.communicator(), "/work").await;
    // A volume is reached as well as the container's own files.
    machine.destroy(&world.context).await.unwrap();
    let json = json!({
        "image": BASE, "discard": true, "pull": false,
        "run_command": ["-d", "-it", "--volume=/data", "--entrypoint", "/bin/sh", "{{.Image}}"]
    });
    let machine = world.launch(json).await.unwrap();
    kiln_transport::conformance::check(machine.communicator(), "/data").await;
    machine.destroy(&world.context).await.unwrap();
    assert!(world.containers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_starts_as_its_base_does_unless_changes_say_otherwise() {
    let Some(world) = World::new().await else { return };
    let app = world
        .image(&format!(
            "FROM {BASE}\nENV A=1\nUSER daemon\nWORKDIR /srv\nEXPOSE 80\nENTRYPOINT [\"/entry\"]\nCMD [\"serve\"]\n"
        ))
        .await;
    let plain = world.image(&format!("FROM {BASE}\nCMD [\"bash\"]\n")).await;
    let bare = world.image(&format!("FROM {BASE}\nENTRYPOINT []\nCMD []\nENV B=1\n")).await;
    type Expected<'a> = (&'a [&'a str], &'a [&'a str]);
    let cases: [(&str, &[&str], Expected<'_>); 11] = [
        (&app, &[], (&["/entry"], &["serve"])),
        (&plain, &[], (&[], &["bash"])),
        (&bare, &[], (&[], &[])),
        (&app, &["ENTRYPOINT []"], (&[], &["serve"])),
        (&app, &["CMD []"], (&["/entry"], &[])),
        (&app, &["ENTRYPOINT []", "CMD []"], (&[], &[])),
        (&app, &["CMD [\"other\"]"], (&["/entry"], &["other"])),
        (&app, &["ENTRYPOINT [\"/mine\"]"], (&["/mine"], &["serve"])),
        (&app, &["ENTRYPOINT /mine me"], (&["/bin/sh", "-c", "/mine me"], &["serve"])),
        (&plain, &["ENTRYPOINT []", "CMD top -b"], (&[], &["/bin/sh", "-c", "top -b"])),
        (&bare, &["ENTRYPOINT [\"/mine\"]", "CMD []"], (&["/mine"], &[])),
    ];
    for (base, changes, (entrypoint, command)) in cases {
        let image = world.committed(json!({ "image": base, "changes": changes })).await;
        let expected = (words(entrypoint).unwrap(), words(command).unwrap());
        assert_eq!(process(&image), expected, "{changes:?}");
    }
    let image = world.committed(json!({ "image": app, "changes": [] })).await;
    assert_eq!((image.user.as_str(), image.working_dir.as_str()), ("daemon", "/srv"));
    assert_eq!(image.config.exposed_ports, Some(vec!["80/tcp".to_owned()]));
    assert!(image.environment.contains(&"A=1".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_build_container_is_in_the_image() {
    let options = RunOptions {
        origin: Origin { revision: Some("0123abcd".into()), ..Origin::default() },
        ..RunOptions::default()
    };
    let Some(world) = World::with(options).await else { return };
    let image = world
        .committed(json!({
            "image": BASE, "author": "me", "message": "why",
            "run_command": ["-d", "-i", "-t", "-u", "root", "-w", "/tmp", "--hostname", "box", "--entrypoint=/bin/sh", "--", "{{.Image}}"],
            "changes": ["ENV X=1 Y=2", "LABEL a=b", "EXPOSE 8080", "VOLUME /data", "STOPSIGNAL SIGINT",
                        "HEALTHCHECK CMD true", "ONBUILD RUN true", "WORKDIR /srv", "USER www-data"],
        }))
        .await;
    let base = world.engine.inspect_image(BASE).await.unwrap().unwrap();
    assert_eq!(process(&image), process(&base));
    let mut environment = base.environment.clone();
    environment.extend(["X=1".to_owned(), "Y=2".to_owned()]);
    assert_eq!(image.environment, environment);
    assert_eq!((image.user.as_str(), image.working_dir.as_str()), ("www-data", "/srv"));
    assert_eq!(image.comment, "why");
    assert_eq!(image.volumes, ["/data"]);
    assert_eq!(image.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(image.config.on_build, words(&["RUN true"]));
    assert!(image.config.healthcheck.is_some());
    let expected = BTreeMap::from(
        [
            ("a", "b"),
            ("kiln.build", "docker.worker"),
            ("kiln.run", &*world.context.run),
            ("org.opencontainers.image.revision", "0123abcd"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    assert_eq!(image.labels, expected);
    let machine = world.launch(json!({ "image": image.id, "discard": true, "pull": false })).await.unwrap();
    assert_eq!(output(&*machine, "ls / | grep packer || echo none").await, "none");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_labels_the_image_is_found_all_the_same() {
    let Some(world) = World::new().await else { return };
    let json = json!({ "image": BASE, "commit": true, "pull": false, "kiln_labels": false });
    let machine = world.launch(json).await.unwrap();
    let artifact = machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    let image = world.engine.inspect_image(&artifact.id).await.unwrap().unwrap();
    assert!(!image.labels.keys().any(|label| label.starts_with("kiln.")), "{:?}", image.labels);
    assert_eq!(image.comment, "", "no trace");
    // As if kiln had died before it knew the id.
    let noted = world.context.journal.history().into_iter().find(|undo| undo.kind == "docker.image").unwrap();
    assert!(noted.data["id"].is_null());
    let undoer = DockerUndoer::new(std::env::vars().collect());
    assert_eq!(undoer.undo(&noted).await.unwrap(), UndoOutcome::Removed);
    assert!(world.engine.inspect_image(&artifact.id).await.unwrap().is_none());
    assert!(world.engine.inspect_image(BASE).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_alone_undoes_what_a_killed_run_left() {
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "commit": true, "pull": false })).await.unwrap();
    let artifact = machine.seal(&world.context).await.unwrap();
    drop(machine);
    let undoer = DockerUndoer::new(std::env::vars().collect());
    // The entries as they were first written, before anything existed.
    let noted: Vec<_> = world
        .context
        .journal
        .history()
        .into_iter()
        .filter(|undo| undo.data.get("id").is_none_or(|id| id.is_null()))
        .collect();
    assert_eq!(noted.len(), 2);
    for undo in &noted {
        assert_eq!(undoer.undo(undo).await.unwrap(), UndoOutcome::Removed, "{}", undo.description);
        assert_eq!(undoer.undo(undo).await.unwrap(), UndoOutcome::AlreadyGone);
    }
    assert!(world.containers().await.is_empty() && world.images().await.is_empty());
    let amended = ImageUndo { engine: world.engine.address().into(), id: Some(artifact.id), ..ImageUndo::default() };
    assert_eq!(undoer.undo(&amended.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
    let never = ContainerUndo {
        engine: world.engine.address().into(),
        name: "kiln-never-made".into(),
        ..ContainerUndo::default()
    };
    assert_eq!(undoer.undo(&never.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_whole_or_not_there() {
    let Some(world) = World::new().await else { return };
    let to = world.context.scratch.join("new/rootfs.tar");
    let json = json!({ "image": BASE, "export_path": path_text(&to), "pull": false });
    let machine = world.launch(json).await.unwrap();
    output(&*machine, "echo hello > /marker").await;
    let artifact = machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    assert_eq!(artifact.builder_id, "packer.docker");
    assert!(matches!(&artifact.content, Content::Files(files) if *files == [to.clone()]));
    let mut archive = tar::Archive::new(std::fs::File::open(&to).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.contains(&"marker".to_owned()) && names.contains(&"etc/passwd".to_owned()));
    let beside: Vec<_> =
        std::fs::read_dir(to.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(beside, ["rootfs.tar"]);
    // The finished file is undone too if the run dies before it is handed over.
    let open: Vec<String> = world.context.journal.open().into_iter().map(|undo| undo.kind).collect();
    assert_eq!(open, ["docker.file"]);
    artifact.owner.clone().unwrap().destroy(&artifact, &world.context).await.unwrap();
    assert!(!to.exists());
    // A container that is gone: an error, and no file at all.
    let json = json!({ "image": BASE, "export_path": path_text(&to), "pull": false });
    let machine = world.launch(json).await.unwrap();
    world.engine.remove_container(&machine.facts()["ID"]).await.unwrap();
    machine.seal(&world.context).await.unwrap_err();
    assert_eq!(std::fs::read_dir(to.parent().unwrap()).unwrap().count(), 0);
}

/// `/dev/full` takes nothing: what a full disk says.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named() {
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    let full = world.context.scratch.join("full");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    let error = world.engine.export(&machine.facts()["ID"], &full).await.unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("No space left"));
    assert!(std::fs::symlink_metadata(&full).is_err(), "the unfinished file does not stay");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_volumes_are_warned_of() {
    let Some(world) = World::new().await else { return };
    let base = world.image(&format!("FROM {BASE}\nVOLUME /var/lib/one /var/lib/two\n")).await;
    let json = json!({
        "image": base, "commit": true, "pull": false, "tmpfs": ["/var/lib/two"]
    });
    let machine = world.launch(json).await.unwrap();
    let warnings = world.context.reporter.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("VOLUME /var/lib/one: what is put below"), "{warnings:?}");
    machine.destroy(&world.context).await.unwrap();
    let machine = world.launch(json!({ "image": BASE, "commit": true, "pull": false })).await.unwrap();
    assert_eq!(world.context.reporter.warnings().len(), 1);
    machine.destroy(&world.context).await.unwrap();
}

async fn owner_of(machine: &dyn Machine, path: &str) -> String {
    output(machine, &format!("stat -c %u:%g {path}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_belong_to_the_images_user() {
    let Some(world) = World::new().await else { return };
    let base = world.image(&format!("FROM {BASE}\nUSER games:daemon\n")).await;
    let file = world.context.scratch.join("file");
    std::fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(4321), Some(1234)).unwrap_or_else(|_| eprintln!("not root: own ids serve"));
    let payload = Payload::File { path: file.clone(), mode: None };
    let machine = world.launch(json!({ "image": base, "discard": true, "pull": false })).await.unwrap();
    machine.communicator().upload(&payload, "/var/tmp/deep/file").await.unwrap();
    assert_eq!(owner_of(&*machine, "/var/tmp/deep/file").await, "5:1");
    assert_eq!(owner_of(&*machine, "/var/tmp/deep").await, "5:1");
    assert_eq!(owner_of(&*machine, "/var/tmp").await, "0:0");
    assert_eq!(output(&*machine, "stat -c %a /var/tmp").await, "1777");
    assert_eq!(output(&*machine, "id -u").await, "5");
    machine.destroy(&world.context).await.unwrap();
    let json = json!({ "image": base, "discard": true, "pull": false, "fix_upload_owner": false, "exec_user": "root" });
    let machine = world.launch(json).await.unwrap();
    machine.communicator().upload(&payload, "/var/tmp/file").await.unwrap();
    use std::os::unix::fs::MetadataExt;
    let own = std::fs::metadata(&file).unwrap();
    assert_eq!(owner_of(&*machine, "/var/tmp/file").await, format!("{}:{}", own.uid(), own.gid()));
    assert_eq!(output(&*machine, "id -u").await, "0");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_directory_is_no_victim_of_an_upload() {
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    let tree = world.context.scratch.join("tree");
    std::fs::create_dir_all(tree.join("lib")).unwrap();
    std::fs::write(tree.join("lib/mine"), "x").unwrap();
    // /lib is a link to usr/lib there: replacing it would break every program.
    let payload = Payload::Directory { path: tree, contents_only: true };
    let uploaded = machine.communicator().upload(&payload, "/").await;
    assert_eq!(output(&*machine, "readlink /lib").await, "usr/lib");
    assert!(matches!(uploaded, Err(CommunicatorError::Transport { .. })), "{uploaded:?}");
    // A target below a link lands behind it.
    let payload = Payload::Bytes { content: "y".into(), mode: 0o644 };
    machine.communicator().upload(&payload, "/lib/mine").await.unwrap();
    assert_eq!(output(&*machine, "cat /usr/lib/mine").await, "y");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_terminals() {
    let Some(world) = World::new().await else { return };
    let json = json!({ "image": BASE, "discard": true, "pull": false, "tmpfs": ["/mem"], "pty": true });
    let machine = world.launch(json).await.unwrap();
    let payload = Payload::Bytes { content: "in memory\n".into(), mode: 0o640 };
    machine.communicator().upload(&payload, "/mem/sub/file").await.unwrap();
    assert_eq!(output(&*machine, "cat /mem/sub/file; stat -c %a /mem/sub/file").await, "in memory\r\n640");
    assert_eq!(output(&*machine, "test -t 1 && echo terminal").await, "terminal");
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_is_a_base() {
    let Some(world) = World::new().await else { return };
    let directory = world.context.scratch.join("context");
    std::fs::create_dir_all(directory.join("docs")).unwrap();
    let run = world.context.run.to_string();
    let text = format!("FROM {BASE}\nARG WORD\nLABEL kiln.run={run}\nCOPY . /srv\nRUN echo $WORD > /word\n");
    std::fs::write(directory.join("Dockerfile"), text).unwrap();
    std::fs::write(directory.join("docs/secret"), "x").unwrap();
    std::fs::write(directory.join("kept"), "x").unwrap();
    std::fs::write(directory.join(".dockerignore"), "docs\n").unwrap();
    for compress in [false, true] {
        let json = json!({
            "build": {
                "path": path_text(&directory.join("Dockerfile")), "build_dir": path_text(&directory),
                "arguments": { "WORD": "from-args" }, "pull": false, "compress": compress
            },
            "discard": true
        });
        let (builder, diagnostics) =
            crate::support::prepare(world.engine.clone(), &kiln_testkit::Arguments::new(json).weak());
        let builder = builder.unwrap_or_else(|| panic!("{diagnostics:?}"));
        let kiln_core::Launched::Machine(machine) = builder.launch(&world.context).await.unwrap() else { panic!() };
        assert_eq!(output(&*machine, "cat /word; ls -A /srv").await, "from-args\n.dockerignore\nDockerfile\nkept");
        machine.destroy(&world.context).await.unwrap();
    }
    assert!(world.context.reporter.output().iter().any(|line| line.contains("from-args") || line.starts_with("Step")));
    // A step that fails says so in the engine's words.
    std::fs::write(directory.join("Dockerfile"), format!("FROM {BASE}\nLABEL kiln.run={run}\nRUN exit 7\n")).unwrap();
    let json = json!({
        "build": { "path": path_text(&directory.join("Dockerfile")), "build_dir": path_text(&directory), "pull": false },
        "discard": true
    });
    let (builder, _) = crate::support::prepare(world.engine.clone(), &kiln_testkit::Arguments::new(json).weak());
    let failure = builder.unwrap().launch(&world.context).await.err().unwrap();
    assert!(failure.chain().contains("returned a non-zero code: 7"), "{}", failure.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_named() {
    let Some(world) = World::new().await else { return };
    let json = json!({ "image": "kiln-test.invalid/none:1", "discard": true, "pull": "never" });
    let failure = world.launch(json).await.err().unwrap();
    assert!(failure.chain().contains("image kiln-test.invalid/none:1 does not exist"), "{}", failure.chain());
    let json = json!({ "image": "kiln-test.invalid/none:1", "discard": true });
    let failure = world.launch(json).await.err().unwrap();
    assert!(failure.chain().contains("kiln-test.invalid/none:1"), "{}", failure.chain());
    assert!(failure.hints.iter().any(|hint| hint.contains("docker login kiln-test.invalid")), "{:?}", failure.hints);
    // A first process that ends at once leaves nothing to provision, and no container.
    let json = json!({
        "image": BASE, "discard": true, "pull": false, "run_command": ["-d", "--entrypoint", "/bin/false", "{{.Image}}"]
    });
    match world.launch(json).await {
        Err(failure) => assert!(failure.chain().contains("ended at once with exit code 1"), "{}", failure.chain()),
        // It was seen alive: then the first command finds it dead, or dies with it.
        Ok(machine) => {
            let ended = machine.communicator().exec(&Command::shell("true"), &mut CaptureSink::default()).await;
            assert!(!ended.as_ref().is_ok_and(|status| status.is_success()), "{ended:?}");
            machine.destroy(&world.context).await.unwrap();
        }
    }
    assert!(world.containers().await.is_empty());
    assert!(world.context.journal.open().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_died_has_ended() {
    let Some(world) = World::new().await else { return };
    let json = json!({
        "image": BASE, "discard": true, "pull": false,
        "run_command": ["-d", "-i", "--entrypoint", "/bin/sh", "{{.Image}}", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"]
    });
    let machine = world.launch(json).await.unwrap();
    let run =
        async |script: &str| machine.communicator().exec(&Command::shell(script), &mut CaptureSink::default()).await;
    // Under the command: the engine still tells the command's own end, or no more.
    let ended = run("kill 1; sleep 100").await;
    assert!(matches!(ended, Ok(ExitStatus::Exited(137)) | Err(CommunicatorError::Disconnected(_))), "{ended:?}");
    let id = &machine.facts()["ID"];
    let stopped = async {
        while world.engine.inspect_container(id).await.unwrap().unwrap().is_running {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), stopped).await.unwrap();
    let error = run("true").await.unwrap_err();
    assert!(matches!(error, CommunicatorError::Ended(_)), "{error:?}");
    assert!(error.to_string().ends_with("is not running (it ended with status 3)"), "{error}");
    world.engine.remove_container(id).await.unwrap();
    let error = run("true").await.unwrap_err();
    assert!(matches!(error, CommunicatorError::Ended(_)), "{error:?}");
    assert!(error.to_string().ends_with("does not exist any more"), "{error}");
    machine.destroy(&world.context).await.unwrap();
}

/// Not a test of speed on a shared machine, but of the number of calls: twenty commands must not take seconds.
#[tokio::test(flavor = "multi_thread")]
async fn small_steps_are_quick() {
    let Some(world) = World::new().await else { return };
    let mut times = Vec::new();
    let mut mark = std::time::Instant::now();
    let mut lap = |name: &'static str| {
        times.push((name, mark.elapsed()));
        mark = std::time::Instant::now();
    };
    let machine = world.launch(json!({ "image": BASE, "commit": true, "pull": false })).await.unwrap();
    lap("launch");
    for _ in 0..20 {
        let status = machine.communicator().exec(&Command::shell("true"), &mut CaptureSink::default()).await.unwrap();
        assert!(status.is_success());
    }
    lap("20 commands");
    for index in 0..20 {
        let payload = Payload::Bytes { content: "x".into(), mode: 0o644 };
        machine.communicator().upload(&payload, &format!("/tmp/{index}")).await.unwrap();
    }
    lap("20 uploads");
    machine.seal(&world.context).await.unwrap();
    lap("commit");
    machine.destroy(&world.context).await.unwrap();
    lap("destroy");
    eprintln!("{times:?}");
    assert!(times.iter().map(|(_, time)| time.as_secs()).sum::<u64>() < 60, "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_ends_when_it_ends_not_when_its_output_does() {
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    // The output is closed long before the command exits.
    let early = Command::shell("exec >&- 2>&-; sleep 0.3; exit 9");
    let status = machine.communicator().exec(&early, &mut CaptureSink::default()).await.unwrap();
    assert_eq!(status.code(), 9);
    // A daemon that keeps the output open does not hold the build.
    let daemon = Command::shell("sleep 600 & exit 3");
    let begun = std::time::Instant::now();
    let status = machine.communicator().exec(&daemon, &mut CaptureSink::default()).await.unwrap();
    assert_eq!(status.code(), 3);
    assert!(begun.elapsed().as_secs() < 60);
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_somebody_else_is_left_alone() {
    let Some(world) = World::new().await else { return };
    let mine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    let name = world.engine.inspect_container(&mine.facts()["ID"]).await.unwrap().unwrap().name;
    let json = json!({
        "image": BASE, "discard": true, "pull": false,
        "run_command": ["-dit", "--name", name, "--entrypoint=/bin/sh", "{{.Image}}"]
    });
    let failure = world.launch(json).await.err().unwrap();
    assert!(failure.chain().contains("exists already"), "{}", failure.chain());
    assert_eq!(output(&*mine, "echo alive").await, "alive");
    mine.destroy(&world.context).await.unwrap();
    assert!(world.context.journal.open().is_empty());
}
