//! What machines start from.

use kiln_image::{Digest, Layout};
use serde_json::{Value, json};

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

#[tokio::test]
async fn what_the_isolation_cannot_do_is_told_before_the_base_is_fetched() {
    if !can_run() {
        return;
    }
    let world = World::new();
    for (arguments, words) in [
        (json!({ "network": "none" }), "isolation `chroot` cannot take the network away"),
        (json!({ "volumes": { "/tmp": "/mnt" } }), "isolation `chroot` cannot mount volumes"),
    ] {
        let mut source = json!({ "from": "nobody:1", "pull": false, "isolation": "chroot" });
        source.as_object_mut().unwrap().extend(arguments.as_object().unwrap().clone());
        let builder = world.builder(source);
        for failure in [
            builder.launch(&world.context).await.err().unwrap(),
            builder.snapshots().unwrap().base(&world.context).await.unwrap_err(),
        ] {
            assert_eq!(failure.chain(), words);
        }
    }
}

#[tokio::test]
async fn a_base_whose_variables_no_program_can_be_given_is_refused() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let machine =
        world.launch(busybox(json!({ "changes": ["ENV BAD=before"], "oci_layout": world.path("layout") }))).await;
    machine.seal(&world.context).await.unwrap();
    machine.destroy(&world.context).await.unwrap();
    // Templates cannot say so: every document is written anew, with the names of those that it names.
    let layout = Layout::open(world.path("layout")).unwrap();
    let mut index: Value = serde_json::from_slice(&std::fs::read(world.path("layout/index.json")).unwrap()).unwrap();
    let read = |value: &Value| layout.document(&Digest::parse(value["digest"].as_str().unwrap()).unwrap()).unwrap();
    let renamed = |value: &mut Value, bytes: &[u8]| {
        value["digest"] = layout.put_document(bytes).unwrap().to_string().into();
        value["size"] = bytes.len().into();
    };
    let mut manifest: Value = serde_json::from_slice(&read(&index["manifests"][0])).unwrap();
    let config = String::from_utf8(read(&manifest["config"])).unwrap().replace("BAD=before", "BAD=x\\u0000y");
    renamed(&mut manifest["config"], config.as_bytes());
    renamed(&mut index["manifests"][0], manifest.to_string().as_bytes());
    std::fs::write(world.path("layout/index.json"), index.to_string()).unwrap();
    let source = json!({ "from": { "oci_layout": world.path("layout") } });
    let failure = world.builder(source).launch(&world.context).await.err().unwrap();
    let told = "the base's configuration has a NUL byte in its environment variable `BAD`";
    assert_eq!(failure.chain(), told);
    assert_eq!(world.workspaces(), 0);
}
