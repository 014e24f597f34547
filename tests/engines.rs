//! Tests that other engines than the usual one have to pass, too.

use std::process::Command;

use crate::support::docker;

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
