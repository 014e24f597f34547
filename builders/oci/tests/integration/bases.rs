//! What machines start from.

use serde_json::json;

use crate::support::{World, busybox, can_run, output};

#[tokio::test]
async fn scratch_has_nothing_but_what_is_uploaded() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine = world.launch(json!({ "from": "scratch" })).await;
    let program = kiln_core::Payload::File { path: "/bin/busybox".into(), mode: None };
    machine.communicator().upload(&program, "/busybox").await.unwrap();
    let artifact = machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    assert_eq!(world.config(&artifact)["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_image_is_found_by_its_name_and_in_files() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let arguments = busybox(json!({
        "tags": ["base:1"], "oci_layout": world.path("layout"), "docker_archive": world.path("docker.tar"),
        "export_path": world.path("root.tar"),
    }));
    let machine = world.launch(arguments).await;
    output(&*machine, "echo marked > /mark").await;
    machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    std::fs::create_dir(world.path("tree")).unwrap();
    let run = |program: &str, words: &[&str]| {
        let status = std::process::Command::new(program).args(words).current_dir(world.directory.path()).status();
        assert!(status.unwrap().success(), "{program}");
    };
    run("tar", &["-xf", "root.tar", "-C", "tree"]);
    run("gzip", &["-k", "root.tar"]);
    for from in [
        json!({ "local": "base:1" }),
        json!({ "oci_layout": world.path("layout") }),
        json!({ "oci_layout": world.path("layout"), "name": "base:1" }),
        json!({ "docker_archive": world.path("docker.tar") }),
        json!({ "tar": world.path("root.tar") }),
        json!({ "tar": world.path("root.tar.gz") }),
        json!({ "directory": world.path("tree") }),
    ] {
        // As two runs: the second one finds it in the store.
        for _ in 0..2 {
            let machine = world.launch(json!({ "from": from })).await;
            assert_eq!(output(&*machine, "cat /mark; stat -c %a /bin/busybox").await, "marked\n755", "{from}");
            machine.destroy(&world.context).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_file_that_changes_is_another_base() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let directory = world.path("tree");
    std::fs::create_dir_all(directory.join("bin")).unwrap();
    std::fs::copy("/bin/busybox", directory.join("bin/sh")).unwrap();
    let inputs = async |text: &str| {
        std::fs::write(directory.join("mark"), text).unwrap();
        let builder = world.builder(json!({ "from": { "directory": directory } }));
        builder.snapshots().unwrap().base(&world.context).await.unwrap()
    };
    let (one, two, again) = (inputs("1").await, inputs("2").await, inputs("2").await);
    assert_ne!(one, two);
    assert_eq!(two, again);
}

#[tokio::test]
async fn what_is_not_there_is_told_with_a_way_out() {
    if !can_run() {
        return;
    }
    let world = World::new();
    for (from, words) in [
        (json!({ "from": { "local": "nobody" } }), "no image in kiln's store is named nobody"),
        (json!({ "from": "nobody:1", "pull": false }), "`pull` does not allow to fetch it"),
        (json!({ "from": { "tar": "/nowhere.tar" } }), "cannot read /nowhere.tar"),
        (json!({ "from": { "docker_daemon": "nobody" } }), "the Docker engine has no image nobody"),
    ] {
        let failure = world.builder(from).launch(&world.context).await.err().unwrap();
        assert!(failure.chain().contains(words), "{}", failure.chain());
    }
    assert!(world.context.journal.open().is_empty());
}
