//! The command line itself.

use crate::support::World;

#[test]
fn help_tells_of_every_command() {
    let outcome = World::new().succeed(&["--help"]);
    insta::assert_snapshot!(outcome.stdout);
}

#[test]
fn help_of_build_tells_of_every_option() {
    insta::assert_snapshot!(World::new().succeed(&["build", "-help"]).stdout);
}

#[test]
fn version_is_data_on_standard_output() {
    let world = World::new();
    let version = format!("kiln {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(world.succeed(&["version"]).stdout, version);
    assert_eq!(world.succeed(&["-v"]).stdout, version);
    let json: serde_json::Value = serde_json::from_str(&world.succeed(&["version", "-json"]).stdout).unwrap();
    assert_eq!(json["kiln"], env!("CARGO_PKG_VERSION"));
    assert!(world.succeed(&["version", "-machine-readable"]).stdout.contains(",,version,"));
}

#[test]
fn a_wrong_option_is_a_mistake_in_usage() {
    let outcome = World::new().run(&["build", "--prallel-builds=1", "x.json"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("--parallel-builds"), "{}", outcome.stderr);
}

#[test]
fn no_command_is_a_mistake_in_usage() {
    let outcome = World::new().run(&[]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("Usage:"), "{}", outcome.stderr);
}

#[test]
fn completions_are_there_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(World::new().succeed(&["completions", shell]).stdout.contains("parallel-builds"), "{shell}");
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let world = World::new();
    let mut child = world.command(&["completions", "bash"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn init_downloads_nothing_and_checks_what_is_required() {
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        "packer {\n  required_version = \">= 1.7\"\n  required_plugins {\n    docker = {\n      version = \">= 1.0\"\n      \
         source  = \"github.com/hashicorp/docker\"\n    }\n    qemu = {\n      version = \"~> 1\"\n      source  = \
         \"github.com/hashicorp/qemu\"\n    }\n  }\n}\n",
    );
    let outcome = world.succeed(&["init", "a.pkr.hcl"]);
    insta::assert_snapshot!(format!("{}---\n{}", outcome.stdout, outcome.stderr));
}

#[test]
fn init_refuses_a_version_that_is_too_new() {
    let world = World::new();
    world.write("a.pkr.hcl", "packer {\n  required_version = \">= 99.0.0\"\n}\n");
    let outcome = world.run(&["init", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stderr.contains("a.pkr.hcl:2"), "{}", outcome.stderr);
}
