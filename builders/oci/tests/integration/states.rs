//! Kept states: restored, sealed without a machine, never with a secret.

use kiln_core::{Kept, Snapshots};
use serde_json::json;

use crate::support::{World, busybox, can_run, info, keep, key, machine, output};

#[tokio::test]
async fn a_state_is_restored_in_another_run() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let first = world.launch(busybox(json!({}))).await;
    output(&*first, "echo one > /one; rm /bin/vi").await;
    let content = keep(&*first, 1, &world).await;
    assert!(content.is_some());
    output(&*first, "echo two > /two; rm /one").await;
    keep(&*first, 2, &world).await;
    output(&*first, "echo lost > /lost").await;
    first.destroy(&world.context).await.unwrap();

    let builder = world.builder(busybox(json!({})));
    let snapshots = builder.snapshots().unwrap();
    assert!(snapshots.find(&key(9)).await.unwrap().is_none());
    assert_eq!(snapshots.find(&key(1)).await.unwrap().unwrap().title, "a step");
    let restored = machine(snapshots.restore(&key(1), &world.context).await);
    assert_eq!(output(&*restored, "cat /one; ls /two /bin/vi 2>/dev/null || true").await, "one");
    restored.destroy(&world.context).await.unwrap();
    let restored = machine(snapshots.restore(&key(2), &world.context).await);
    assert_eq!(output(&*restored, "cat /two; ls /one /lost 2>/dev/null || true").await, "two");
    let artifact = restored.seal(&world.context).await.unwrap();
    assert_eq!(world.top_layer(&artifact), ["bin/", "bin/.wh.vi", "two: two"]);
    restored.destroy(&world.context).await.unwrap();
    assert_eq!(world.workspaces(), 0);
}

#[tokio::test]
async fn equal_changes_have_equal_content_whenever_they_were_made() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let mut contents = Vec::new();
    for number in [1, 11] {
        let machine = world.launch(busybox(json!({}))).await;
        output(&*machine, "echo same > /file").await;
        let kept = machine.keep(&key(number), &info(None, "a step"), &world.context).await.unwrap();
        contents.push(kept);
        machine.destroy(&world.context).await.unwrap();
    }
    assert_eq!(contents[0], contents[1]);
    assert!(matches!(&contents[0], Kept::Kept { content: Some(_) }));
}

#[tokio::test]
async fn what_was_sealed_is_taken_again_and_brought_where_it_is_wanted() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let first = world.launch(busybox(json!({}))).await;
    output(&*first, "echo one > /one").await;
    keep(&*first, 1, &world).await;
    let artifact = first.seal(&world.context).await.unwrap();
    first.destroy(&world.context).await.unwrap();

    let arguments = busybox(json!({ "tags": ["again"], "docker_archive": world.path("again.tar") }));
    let builder = world.builder(arguments);
    let snapshots = builder.snapshots().unwrap();
    assert!(snapshots.is_sealed(&key(1)).await.unwrap());
    let sealed = snapshots.sealed(&key(1), &world.context).await.unwrap().unwrap();
    assert_eq!(sealed.artifact.image().unwrap().digest, artifact.image().unwrap().digest);
    assert_eq!(sealed.artifact.image().unwrap().tags, ["again:latest"]);
    assert_eq!(sealed.facts["ImageSha256"], artifact.image().unwrap().id);
    assert!(world.path("again.tar").is_file());

    for (name, value) in [("labels", json!({ "a": "b" })), ("compression", json!("none")), ("kiln_labels", json!(true))]
    {
        let builder = world.builder(busybox(json!({ name: value })));
        assert!(!builder.snapshots().unwrap().is_sealed(&key(1)).await.unwrap(), "{name}");
    }
}

#[tokio::test]
async fn what_sealing_the_base_itself_gave_is_taken_again() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let builder = world.builder(busybox(json!({})));
    let snapshots = builder.snapshots().unwrap();
    for (script, is_remembered) in [("echo by hand > /one", false), ("true", true)] {
        let first = world.launch(busybox(json!({}))).await;
        output(&*first, script).await;
        first.stands_at_base(&key(1));
        let artifact = first.seal(&world.context).await.unwrap();
        first.destroy(&world.context).await.unwrap();
        assert_eq!(snapshots.is_sealed(&key(1)).await.unwrap(), is_remembered, "{script}");
        if is_remembered {
            let sealed = snapshots.sealed(&key(1), &world.context).await.unwrap().unwrap();
            assert_eq!(sealed.artifact.image().unwrap().digest, artifact.image().unwrap().digest);
        }
    }
}

#[tokio::test]
async fn an_image_with_the_runs_labels_is_not_taken_again() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let labelled = world.launch(busybox(json!({ "kiln_labels": true }))).await;
    output(&*labelled, "echo one > /one").await;
    keep(&*labelled, 1, &world).await;
    labelled.seal(&world.context).await.unwrap();
    labelled.destroy(&world.context).await.unwrap();
    let plain = world.builder(busybox(json!({})));
    assert!(!plain.snapshots().unwrap().is_sealed(&key(1)).await.unwrap(), "its labels were not asked for");
}

#[tokio::test]
async fn states_that_nobody_looked_through_for_secrets_are_others() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let base = async |arguments| {
        let builder = world.builder(busybox(arguments));
        builder.snapshots().unwrap().base(&world.context).await.unwrap()
    };
    let looked_through = base(json!({})).await;
    assert_ne!(base(json!({ "secret_scan": "off" })).await, looked_through);
    assert_eq!(base(json!({ "secret_scan": "warn" })).await, looked_through, "neither keeps a secret");
}

#[tokio::test]
async fn each_step_can_be_a_layer() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({ "layers": "per-step" }))).await;
    for number in 1..=3 {
        output(&*machine, &format!("echo {number} > /{number}; rm -f /{}", number - 1)).await;
        keep(&*machine, number, &world).await;
    }
    let artifact = machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    assert_eq!(world.top_layer(&artifact), [".wh.2", "3: 3"]);
    assert_eq!(world.config(&artifact)["rootfs"]["diff_ids"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_secret_is_neither_kept_nor_sealed() {
    if !can_run() {
        return;
    }
    let world = World::new();
    world.context.redactor.add("s3cr3t-T0ken");
    let machine = world.launch(busybox(json!({}))).await;
    output(&*machine, "mkdir -p /etc/app; echo password=s3cr3t-T0ken > /etc/app/config").await;
    let failure = machine.keep(&key(1), &info(None, "a step"), &world.context).await.unwrap_err();
    assert_eq!(failure.chain(), "a secret would be in the image, in etc/app/config");
    let failure = machine.seal(&world.context).await.err().unwrap();
    assert!(failure.chain().contains("etc/app/config"));
    machine.destroy(&world.context).await.unwrap();
    let stored =
        std::process::Command::new("grep").args(["-r", "s3cr3t"]).arg(world.directory.path()).output().unwrap();
    assert_eq!(String::from_utf8(stored.stdout).unwrap(), "");

    let machine = world.launch(busybox(json!({ "secret_scan": "warn" }))).await;
    output(&*machine, "echo s3cr3t-T0ken | base64 > /encoded").await;
    let kept = machine.keep(&key(1), &info(None, "a step"), &world.context).await.unwrap();
    assert_eq!(kept, Kept::NotWorth("a secret is in it"));
    machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
}

#[tokio::test]
async fn a_secret_is_in_no_exported_file_system() {
    if !can_run() {
        return;
    }
    let world = World::new();
    world.context.redactor.add("s3cr3t-T0ken");
    let path = world.path("root.tar");
    let machine = world.launch(busybox(json!({ "export_path": path }))).await;
    output(&*machine, "echo s3cr3t-T0ken > /file").await;
    let failure = machine.seal(&world.context).await.err().unwrap();
    assert_eq!(failure.chain(), "a secret would be in the image, in file");
    assert!(!path.exists());
    output(&*machine, "rm /file").await;
    machine.seal(&world.context).await.unwrap();
    assert!(path.exists());
    machine.destroy(&world.context).await.unwrap();
}

/// What a registry got once cannot be taken back.
#[tokio::test]
async fn no_registry_sees_a_layer_before_secrets_were_looked_for() {
    if !can_run() {
        return;
    }
    let asked = |script: &'static str| async move {
        let (address, uploads) = open_registry();
        let world = World::new();
        world.context.redactor.add("s3cr3t-T0ken");
        let machine = world.launch(busybox(json!({ "push": [format!("{address}/image:1")] }))).await;
        output(&*machine, script).await;
        // Nothing was kept, so that nobody has looked yet. This registry takes nothing in the end.
        let sealed = machine.seal(&world.context).await;
        machine.destroy(&world.context).await.unwrap();
        assert!(sealed.is_err());
        uploads.load(std::sync::atomic::Ordering::SeqCst)
    };
    assert_ne!(asked("echo clean > /file").await, 0, "it is asked before the end");
    assert_eq!(asked("echo s3cr3t-T0ken > /file").await, 0);
}

/// A registry that lets everybody begin uploads, and counts them; it refuses all else.
fn open_registry() -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::io::{BufRead, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let uploads = std::sync::Arc::<std::sync::atomic::AtomicUsize>::default();
    let begun = std::sync::Arc::clone(&uploads);
    // It ends with the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = std::io::BufReader::new(stream.unwrap());
            let lines: Vec<String> =
                reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let first = lines.first().cloned().unwrap_or_default();
            let answer = match first.split(' ').next().unwrap_or_default() {
                "POST" => {
                    begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    "202 Accepted\r\nLocation: /v2/image/blobs/uploads/1"
                }
                "GET" if first.starts_with("GET /v2/ ") => "200 OK",
                _ => "403 Forbidden",
            };
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = reader.get_mut().write_all(answer.as_bytes());
        }
    });
    (address, uploads)
}

#[tokio::test]
async fn secrets_of_a_step_are_in_memory() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(busybox(json!({}))).await;
    let directory = machine.secrets_directory().unwrap().to_owned();
    output(&*machine, &format!("echo x > {directory}/token; cat {directory}/token")).await;
    keep(&*machine, 1, &world).await;
    let artifact = machine.seal(&world.context).await.unwrap();
    assert!(artifact.image().is_some());
    machine.destroy(&world.context).await.unwrap();
    let found =
        std::process::Command::new("find").arg(world.directory.path()).args(["-name", "token"]).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
}

#[tokio::test]
async fn without_mounts_states_are_kept_and_restored_too() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let arguments = busybox(json!({ "isolation": "chroot" }));
    let first = world.launch(arguments.clone()).await;
    output(&*first, "echo one > /one; rm /bin/vi").await;
    keep(&*first, 1, &world).await;
    output(&*first, "echo two > /two").await;
    keep(&*first, 2, &world).await;
    first.destroy(&world.context).await.unwrap();
    let builder = world.builder(arguments);
    let snapshots: &dyn Snapshots = builder.snapshots().unwrap();
    let restored = machine(snapshots.restore(&key(2), &world.context).await);
    assert_eq!(output(&*restored, "cat /one /two; ls /bin/vi 2>/dev/null || true").await, "one\ntwo");
    let artifact = restored.seal(&world.context).await.unwrap();
    restored.destroy(&world.context).await.unwrap();
    let layout = kiln_image::Layout::create(world.path("cache/0-chroot")).unwrap();
    let manifest = kiln_image::Digest::parse(artifact.image().unwrap().digest.as_deref().unwrap()).unwrap();
    assert_eq!(kiln_image::Image::open(&layout, &manifest).unwrap().layers.len(), 2);
    assert!(snapshots.is_sealed(&key(2)).await.unwrap());
}
