//! Tests that other engines than the usual one have to pass, too.

use std::process::Command;

use serde_json::Value as Json;

use crate::support::{World, docker};

/// Those that differ most between engines and their image stores.
const TESTS: [&str; 3] = [
    "build_docker::a_build_that_failed_goes_on_from_the_checkpoint_before",
    "dockerfile::builds_are_built_upon_each_other_by_any_name",
    "dockerfile::ctrl_c_stops_buildkit_and_leaves_nothing",
];

#[track_caller]
fn pass(variable: &str) {
    let Some(engine) = docker::another(variable) else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg("--exact").args(TESTS).env("DOCKER_HOST", engine).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains(&format!("{} passed", TESTS.len())), "{told}");
}

#[test]
fn a_new_engine_builds() {
    pass("KILN_TEST_NEW_ENGINE");
}

#[test]
fn an_engine_with_containerds_image_store_builds() {
    pass("KILN_TEST_CONTAINERD_STORE");
}

/// Builds upon each other in turns: kiln's store and the engine's hand images to each other.
const ROUND: &str = r#"
source "oci" "a" {
  from   = { busybox = true }
  labels = { "kiln.test" = "MARK" }
}
source "docker" "b" {
  image  = artifact.a.image
  commit = true
}
source "docker" "b2" {
  image  = artifact.a.image
  commit = true
}
source "oci" "c" {
  from        = artifact.b.image
  compression = "zstd"
}
source "dockerfile" "d" {
  dockerfile_inline = "FROM parent\nRUN cat /c > /d\n"
  contexts          = { parent = artifact.c.image }
}
source "oci" "e" {
  from = artifact.d.image
}
source "docker" "f" {
  image  = artifact.e.image
  commit = true
}
build {
  sources = ["oci.a", "docker.b", "docker.b2", "oci.e"]
  provisioner "shell" {
    inline = ["echo ${source.name} MARK >> /a"]
  }
}
build {
  sources = ["oci.c"]
  provisioner "shell" {
    inline = ["echo first > /c"]
  }
}
build {
  sources = ["dockerfile.d"]
}
build {
  sources = ["docker.f"]
  provisioner "shell" {
    inline = ["cat /a /d"]
  }
}
"#;

/// Images with a label at an engine, removed at the end: those first that nothing was made from.
struct Labelled(String, String);

impl Drop for Labelled {
    fn drop(&mut self) {
        let mut left = usize::MAX;
        loop {
            let images = docker::images_at(&self.0, &self.1);
            if images.is_empty() || images.len() >= left {
                return;
            }
            left = images.len();
            images.iter().for_each(|image| docker::remove_at(&self.0, image));
        }
    }
}

/// What a run of the round did: the builds' images, those whose steps ran, and what it told.
fn run_round(world: &World) -> (Vec<String>, Vec<String>, String) {
    let events = world.succeed(&["build", "-json", "round.kiln.hcl"]).stdout;
    let (mut images, mut ran) = (Vec::new(), Vec::new());
    for event in events.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
        let build = event["build"].as_str().unwrap_or_default();
        match event["event"].as_str().unwrap_or_default() {
            "build-finished" => images.push(format!("{build} {}", event["artifacts"][0]["id"].as_str().unwrap())),
            "step-started" => ran.push(build.to_owned()),
            _ => {}
        }
    }
    images.sort();
    ran.sort();
    (images, ran, events)
}

#[track_caller]
fn builds_in_turns(engine: Option<String>) {
    let Some(engine) = engine.filter(|_| crate::cache::is_there()) else { return };
    let mut world = World::new();
    world.env("DOCKER_HOST", &engine);
    let mark = uuid::Uuid::new_v4().to_string();
    world.write("round.kiln.hcl", &ROUND.replace("MARK", &mark));
    let label = format!("kiln.test={mark}");
    let _removed = Labelled(engine.clone(), label.clone());
    let (first, ran, told) = run_round(&world);
    assert_eq!(ran, ["docker.b", "docker.b2", "docker.f", "oci.a", "oci.c", "oci.e"]);
    assert!(told.contains("first"), "{told}");
    // Each image is brought to the engine once, whoever is built upon it.
    assert_eq!(told.matches("into the Docker engine").count(), 3, "{told}");
    let plan = world.succeed(&["plan", "-only=docker.b*", "round.kiln.hcl"]).stdout;
    assert!(plan.contains("no step would run"), "{plan}");
    let (again, ran, told) = run_round(&world);
    assert_eq!((again, ran.as_slice()), (first.clone(), [].as_slice()), "{told}");
    assert!(!told.contains("into the Docker engine"), "{told}");
    // What follows from a change is made anew, and nothing else.
    world.write("round.kiln.hcl", &ROUND.replace("MARK", &mark).replace("first", "second"));
    let (changed, ran, told) = run_round(&world);
    assert_eq!(ran, ["docker.f", "oci.c", "oci.e"]);
    let kept: Vec<&String> = changed.iter().filter(|image| first.contains(image)).collect();
    assert_eq!(
        kept,
        first.iter().filter(|image| image.contains(".a ") || image.contains("docker.b")).collect::<Vec<_>>()
    );
    assert!(told.contains("second"), "{told}");
    // An engine that lost the image gets it again.
    drop(Labelled(engine.clone(), label.clone()));
    assert_eq!(docker::images_at(&engine, &label), Vec::<String>::new());
    let (_, ran, told) = run_round(&world);
    assert!(ran.contains(&"docker.b".to_owned()) && told.contains("into the Docker engine"), "{told}");
}

#[test]
fn stores_and_a_new_engine_hand_images_to_each_other() {
    builds_in_turns(docker::another("KILN_TEST_NEW_ENGINE"));
}

#[test]
fn stores_and_containerds_image_store_hand_images_to_each_other() {
    builds_in_turns(docker::another("KILN_TEST_CONTAINERD_STORE"));
}

/// What podman's API can: a container's steps and commit, a Dockerfile by its own builder.
#[test]
fn podman_builds() {
    let Some(engine) = docker::another("KILN_TEST_PODMAN") else { return };
    let world = World::new();
    let mark = uuid::Uuid::new_v4().to_string();
    world
        .write("app/Dockerfile", &format!("FROM {}\nCOPY word /word\nRUN tr a-z A-Z < /word > /upper\n", docker::BASE));
    world.write("app/word", &mark);
    world.write(
        "podman.kiln.hcl",
        &format!(
            r#"
source "docker" "plain" {{
  image   = "{base}"
  pull    = false
  commit  = true
  changes = ["ENV MARK={mark}"]
}}
source "dockerfile" "app" {{
  context = "app"
}}
build {{
  sources = ["docker.plain", "dockerfile.app"]
  provisioner "shell" {{
    inline = ["echo here > /here", "test ! -e /upper || grep -i {mark} /upper"]
  }}
  post-processor "docker-tag" {{
    repository = "kiln-test/podman-${{source.type}}"
    tags       = ["{mark}"]
  }}
}}
"#,
            base = docker::BASE
        ),
    );
    let mut command = world.command(&["build", "podman.kiln.hcl"]);
    let output = command.env("DOCKER_HOST", &engine).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.contains(&mark.to_uppercase()), "{told}");
    let client = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).env("DOCKER_HOST", &engine).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for kind in ["docker", "dockerfile"] {
        let name = format!("kiln-test/podman-{kind}:{mark}");
        let shown = client(&["image", "inspect", "--format", "{{.Config.Env}} {{len .RootFS.Layers}}", &name]);
        assert_eq!(shown.contains(&format!("MARK={mark}")), kind == "docker", "{kind}: {shown}");
        client(&["rmi", &name]);
    }
    assert_eq!(client(&["ps", "--all", "--quiet", "--filter", "label=kiln.run"]), "");
}
