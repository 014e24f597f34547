//! Tests that other engines than the usual one have to pass, too.

use std::process::Command;

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
