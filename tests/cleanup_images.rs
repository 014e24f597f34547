//! `kiln cleanup -images`: images that earlier builds left in a Docker engine.

use std::process::Command;

use crate::support::{World, docker};

/// An image of a build, made in 2001, in the engine: its id. Without a name unless one is given.
fn old_image(world: &World, build: &str, name: Option<&str>) -> String {
    let directory = world.path().join(format!("image-{}", uuid()));
    std::fs::create_dir(&directory).unwrap();
    // An empty tar, and its digest.
    std::fs::write(directory.join("layer.tar"), [0; 1024]).unwrap();
    let layer = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "2001-09-09T01:46:40Z",
        "config": { "Labels": { "kiln.build": build, "nonce": uuid() } },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let names: Vec<&str> = name.into_iter().collect();
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": names, "Layers": ["layer.tar"] }]);
    std::fs::write(directory.join("manifest.json"), manifest.to_string()).unwrap();
    let script = "tar -C \"$1\" -cf - . | docker load";
    let loaded = Command::new("sh").args(["-c", script, "sh"]).arg(&directory).output().unwrap();
    let told = String::from_utf8(loaded.stdout).unwrap();
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    match name {
        Some(name) => docker::image(name).unwrap()["Id"].as_str().unwrap().to_owned(),
        None => told.trim().rsplit_once(' ').unwrap().1.to_owned(),
    }
}

fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

#[test]
fn old_images_go_and_the_newest_stays() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let repository = format!("kiln-test/old-{}", uuid());
    let build = format!("docker.{}", uuid());
    let nameless = old_image(&world, &build, None);
    let first = old_image(&world, &build, Some(&format!("{repository}:1")));
    let used = old_image(&world, &build, None);
    let removed = docker::Removed(vec![nameless.clone(), first.clone(), used.clone()]);
    let made = Command::new("docker").args(["create", &used, "true"]).output().unwrap();
    let container = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    // A newer one of the same repository.
    let newest = format!("{repository}:2");
    let tagged = Command::new("docker").args(["tag", docker::BASE, &newest]).status().unwrap();
    assert!(tagged.success());
    let cleanup = |more: &[&str]| {
        let arguments = ["cleanup", "-images", "-older-than=52w"];
        let output = world.succeed(&[&arguments, more].concat()).stderr;
        let of_build = |line: &&str| line.contains(&build);
        output.lines().filter(of_build).map(str::to_owned).collect::<Vec<String>>()
    };
    let told = cleanup(&["-dry-run"]);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with(&format!("would remove image {nameless}, without a name (of {build}, ")), "{told:?}");
    assert!(docker::image(&nameless).is_some());
    assert_eq!(cleanup(&[]).len(), 1);
    assert!(docker::image(&nameless).is_none() && docker::image(&first).is_some() && docker::image(&used).is_some());
    // Of the repository kiln knows one image, which is the newest it made.
    assert!(cleanup(&["-repositories", &repository]).is_empty());
    assert_eq!(cleanup(&["-repositories", &repository, "-keep=0"]).len(), 1);
    assert!(docker::image(&first).is_none() && docker::image(&newest).is_some(), "{told:?}");
    let ended = Command::new("docker").args(["rm", &container]).output().unwrap();
    assert!(ended.status.success());
    Command::new("docker").args(["rmi", &newest]).output().unwrap();
    drop(removed);
}
