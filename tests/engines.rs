//! Tests that other engines than the usual one have to pass, too.

use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::engine_proxy::EngineProxy;
use crate::support::{World, docker};

/// Those that differ most between engines and their image stores.
const TESTS: [&str; 3] = [
    "build_docker::a_build_that_failed_goes_on_from_the_checkpoint_before",
    "dockerfile::builds_are_built_upon_each_other_by_any_name",
    "dockerfile::ctrl_c_stops_buildkit_and_leaves_nothing",
];

/// Runs tests of this binary with another engine, where it is there.
#[track_caller]
pub(crate) fn pass(variable: &str, tests: &[&str]) {
    let Some(engine) = docker::another(variable) else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.arg("--exact").args(tests).env("DOCKER_HOST", engine).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains(&format!("{} passed", tests.len())), "{told}");
}

#[test]
fn a_new_engine_builds() {
    pass("KILN_TEST_NEW_ENGINE", &TESTS);
}

#[test]
fn an_engine_with_containerds_image_store_builds() {
    pass("KILN_TEST_CONTAINERD_STORE", &TESTS);
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

const SQUASHED: &str = r#"
source "docker" "app" {
  image   = "BASE"
  pull    = false
  commit  = true
  changes = ["LABEL kiln.test=MARK"]
}
build {
  sources = ["docker.app"]
  provisioner "shell" {
    checkpoint = true
    inline     = ["echo MARK > /mark"]
  }
}
"#;

/// The name of a squashed image differs in containerd's image store, and nobody has heard it yet when kiln is killed.
#[test]
fn a_squashed_image_that_nobody_heard_of_is_removed_by_cleanup() {
    for variable in ["KILN_TEST_NEW_ENGINE", "KILN_TEST_CONTAINERD_STORE"] {
        let Some(engine) = docker::another(variable) else { continue };
        let mut world = World::new();
        let mark = uuid::Uuid::new_v4().to_string();
        let text = SQUASHED.replace("MARK", &mark).replace("BASE", docker::BASE);
        world.write("a.kiln.hcl", &text);
        world.env("DOCKER_HOST", &engine);
        world.succeed(&["build", "a.kiln.hcl"]);
        let label = format!("kiln.test={mark}");
        let _removed = Labelled(engine.clone(), label.clone());
        let first = docker::images_at(&engine, &label);
        // Goes on from a state that was kept.
        let another = "  }\n  provisioner \"shell\" {\n    inline = [\"rm /mark\"]\n  }\n}\n";
        world.write("a.kiln.hcl", &text.replace("  }\n}\n", another));
        let proxy = EngineProxy::start(&engine, Some("/images/load"));
        world.env("DOCKER_HOST", &proxy.address);
        let running = world.start(&["build", "-json", "a.kiln.hcl"]);
        proxy.withheld.recv_timeout(Duration::from_secs(120)).unwrap();
        running.signal("KILL");
        running.end();
        assert!(docker::images_at(&engine, &label).len() > first.len(), "nothing was loaded");
        // The answer that did not come is for loading alone.
        let told = world.succeed(&["cleanup"]).stderr;
        assert_eq!(docker::images_at(&engine, &label), first, "{variable}: {told}");
        world.succeed(&["cache", "prune", "-all"]);
    }
}

/// Engines by platform, reached by TCP: what they build upon is brought there, from kiln's store and from the usual engine.
#[test]
fn parents_are_brought_to_the_engine_of_a_platform() {
    if !docker::is_there() || !crate::cache::is_there() {
        return;
    }
    let Some(engine) = docker::another("KILN_TEST_CONTAINERD_STORE") else { return };
    let proxy = EngineProxy::start(&engine, None);
    let (world, mark) = (World::new(), uuid::Uuid::new_v4().to_string());
    let hosts = format!("platform_hosts = {{ \"linux/amd64\" = \"{}\" }}", proxy.address);
    world.write("round.kiln.hcl", &HOSTS.replace("MARK", &mark).replace("AT", &hosts));
    let label = format!("kiln.test={mark}");
    let here = format!("unix://{}", docker::socket());
    let _removed = [Labelled(engine.clone(), label.clone()), Labelled(here, label)];
    let (first, ran, told) = run_round(&world);
    assert_eq!(ran, ["docker.one", "docker.two", "docker.usual", "oci.store"]);
    assert_eq!(told.matches("taking image").count(), 1, "{told}");
    for image in first.iter().filter(|image| !image.contains("usual") && !image.contains("store")) {
        let id = image.rsplit(' ').next().unwrap();
        assert!(docker::image_at(&engine, id).is_some() && docker::image(id).is_none(), "{image}");
    }
    let (again, ran, told) = run_round(&world);
    assert_eq!((again, ran.as_slice()), (first, [].as_slice()), "{told}");
    assert!(!told.contains("taking image") && !told.contains("into the Docker engine"), "{told}");
}

const HOSTS: &str = r#"
source "oci" "store" {
  from   = { busybox = true }
  labels = { "kiln.test" = "MARK" }
}
source "docker" "usual" {
  image  = artifact.store.image
  commit = true
}
source "docker" "one" {
  image  = artifact.store.image
  commit = true
  AT
}
source "docker" "two" {
  image  = artifact.usual.image
  commit = true
  AT
}
source "dockerfile" "three" {
  dockerfile_inline = "FROM parent\nRUN grep usual /here\n"
  contexts          = { parent = artifact.usual.image }
  AT
}
build {
  sources = ["oci.store", "docker.usual", "docker.one", "docker.two"]
  provisioner "shell" {
    inline = ["echo ${source.name} MARK >> /here"]
  }
}
build {
  sources = ["dockerfile.three"]
}
"#;
