//! Podman in Docker's place, by its API.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::engines::pass;
use crate::support::{World, docker};

/// What it does as Docker does.
const TESTS: [&str; 11] = [
    "build_docker::a_build_that_failed_goes_on_from_the_checkpoint_before",
    "graph::a_family_is_built_in_order_and_only_what_changed_again",
    "push::dockers_configuration_is_heeded",
    "push::gitlab_cis_variables_are_credentials",
    "publishing::an_engines_child_is_built_upon_what_is_published",
    "refresh::a_service_follows_its_image_and_the_others_are_left_alone",
    "services::a_failing_step_keeps_the_logs_and_migrations_come_before_it",
    "services::cleanup_removes_services_and_their_network",
    "services::ports_are_at_loopback",
    "services::steps_reach_a_healthy_service_by_its_names_and_a_rebuild_starts_none",
    "test_blocks::what_was_sealed_passes_its_tests_and_is_tagged",
];

/// One test at a time: they count what is left in the engine, and how long it takes.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn podman_passes_what_docker_passes() {
    let _turn = turn();
    pass("KILN_TEST_PODMAN", &TESTS);
}

/// What the client says of podman.
fn client(engine: &str, arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).env("DOCKER_HOST", engine).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Images go from builder to builder by their ids, which podman writes in two ways, and a load gives them the names that they
/// have in Docker. Containers go at once, and not after the ten seconds that podman gives them.
#[test]
fn builds_are_built_upon_each_other_across_builders() {
    let Some(engine) = docker::another("KILN_TEST_PODMAN") else { return };
    let _turn = turn();
    let world = World::new();
    let mark = uuid::Uuid::new_v4().to_string();
    world.write("app/Dockerfile", "FROM base\nRUN echo dockerfile > /second\n");
    world.write(
        "chain.kiln.hcl",
        &format!(
            r#"
source "docker" "first" {{
  image  = "{base}"
  pull   = false
  commit = true
}}
build {{
  sources = ["docker.first"]
  provisioner "shell" {{
    inline = ["echo {mark} > /first"]
  }}
}}
source "dockerfile" "second" {{
  context  = "app"
  contexts = {{ base = artifact.first.image }}
}}
build {{
  sources = ["dockerfile.second"]
}}
source "docker" "third" {{
  image  = artifact.second.image
  commit = true
}}
build {{
  sources = ["docker.third"]
  provisioner "shell" {{
    inline = ["echo docker > /third"]
  }}
}}
source "oci" "fourth" {{
  from = artifact.third.image
  tags = ["kiln-test/podman-chain:{mark}"]
  load = true
}}
build {{
  sources = ["oci.fourth"]
  provisioner "shell" {{
    inline = ["echo oci > /fourth"]
  }}
}}
source "docker" "fifth" {{
  image   = artifact.fourth.image
  discard = true
}}
build {{
  sources = ["docker.fifth"]
  provisioner "shell" {{
    inline = ["cat /first /second /third /fourth"]
  }}
}}
"#,
            base = docker::BASE
        ),
    );
    let build = || {
        let mut command = world.command(&["build", "chain.kiln.hcl"]);
        let output = command.env("DOCKER_HOST", &engine).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        told
    };
    let start = Instant::now();
    let told = build();
    for line in [&mark, "dockerfile", "docker", "oci"] {
        assert!(told.contains(&format!("    docker.fifth: {line}\n")), "{line}: {told}");
    }
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}: {told}", start.elapsed());
    // Only the build that keeps nothing runs anew.
    let again = build();
    for name in ["docker.first", "docker.third", "oci.fourth"] {
        assert!(again.contains(&format!("{name}: CACHED seal")), "{name}: {again}");
    }
    let name = format!("kiln-test/podman-chain:{mark}");
    let names = client(&engine, &["image", "inspect", "--format", "{{.RepoTags}}", &name]);
    assert_eq!(names, format!("[docker.io/{name}]\n"));
    client(&engine, &["rmi", &name]);
    assert_eq!(client(&engine, &["ps", "--all", "--quiet", "--filter", "label=kiln.run"]), "");
}

/// What podman's API can: a container's steps and commit, a Dockerfile by its own builder.
#[test]
fn podman_builds() {
    let Some(engine) = docker::another("KILN_TEST_PODMAN") else { return };
    let _turn = turn();
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
    for kind in ["docker", "dockerfile"] {
        let name = format!("kiln-test/podman-{kind}:{mark}");
        let shown = client(&engine, &["image", "inspect", "--format", "{{.Config.Env}} {{len .RootFS.Layers}}", &name]);
        assert_eq!(shown.contains(&format!("MARK={mark}")), kind == "docker", "{kind}: {shown}");
        client(&engine, &["rmi", &name]);
    }
    assert_eq!(client(&engine, &["ps", "--all", "--quiet", "--filter", "label=kiln.run"]), "");
}
