//! The command line itself.

use crate::support::{Outcome, World, docker, stable};

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
fn a_limit_for_what_is_no_builder_is_a_mistake_in_usage() {
    let world = World::new();
    world.write("t.json", r#"{ "builders": [{ "type": "file", "content": "x", "target": "made" }] }"#);
    let outcome = world.run(&["build", "-parallel-builds=4,dokcer=1", "t.json"]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("names a builder `dokcer`"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("did you mean `docker`?") && !world.path().join("made").exists());
    assert_eq!(world.run(&["build", "-parallel-builds=some", "t.json"]).code, 2);
    world.succeed(&["build", "-parallel-builds=1,file=1", "t.json"]);
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
        "packer {\n  required_version = \">= 1.7\"\n  required_plugins {\n    amazon = {\n      source  = \"github.com/hashicorp/amazon\"\n      version = \">= 1.2\"\n    }\n    docker = {\n      version = \">= 1.0\"\n      \
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

fn docker_source(world: &World, step: &str) {
    world.write(
        "a.json",
        &format!(
            r#"{{"builders": [{{"type": "docker", "name": "worker", "image": "debian:bookworm", "pull": false, "discard": true}}],
               "provisioners": [{{"type": "shell", "inline": ["{step}"]}}]}}"#
        ),
    );
}

/// The shell, its job control and the kernel each tell of it.
#[test]
fn a_closed_terminal_unwinds_however_often_it_is_told() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    docker_source(&world, "echo running; sleep 60");
    let mut running = world.start(&["build", "-json", "a.json"]);
    running.wait_for("running", |event| event["line"] == "running");
    for _ in 0..4 {
        running.signal("HUP");
    }
    let label = format!("kiln.run={}", running.run);
    assert_eq!(running.end().0, 130);
    assert_eq!(docker::containers_with(&label), Vec::<String>::new());
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

const WRONG: &str = r#"{"builders": [{"type": "docker", "nmae": "a", "image": "debian:bookworm", "comit": true}]}"#;

#[test]
fn standard_output_is_json_whatever_goes_wrong() {
    let mut world = World::new();
    world.write("wrong.json", WRONG);
    docker_source(&world, "true");
    let lines = |outcome: &Outcome| -> Vec<serde_json::Value> {
        assert_eq!(outcome.stderr, "");
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let outcome = world.run(&["build", "--json", "wrong.json"]);
    assert_eq!(outcome.code, 3);
    let found = lines(&outcome);
    assert!(found.iter().all(|event| event["event"] == "diagnostic" && event["time"].is_u64()), "{found:?}");
    assert!(found.iter().any(|event| event["fix"]["with"] == "\"name\"" && event["place"]["line"] == 1), "{found:?}");
    world.env("DOCKER_HOST", "gopher://nowhere");
    let outcome = world.run(&["build", "-json", "a.json"]);
    assert_eq!(outcome.code, 4);
    assert_eq!(lines(&outcome)[0]["event"], "error");
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("KILN_STATE_DIR", "/proc/nowhere");
    let outcome = world.run(&["build", "-json", "a.json"]);
    assert_eq!(outcome.code, 4);
    assert!(lines(&outcome)[0]["text"].as_str().unwrap().contains("/proc/nowhere"), "{}", outcome.stdout);
}

#[test]
fn packers_lines_tell_of_mistakes_too() {
    let world = World::new();
    world.write("wrong.json", WRONG);
    let outcome = world.run(&["-machine-readable", "build", "wrong.json"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (3, ""));
    assert!(outcome.stdout.lines().all(|line| line.split(',').nth(2) == Some("ui")), "{}", outcome.stdout);
    assert!(
        outcome.stdout.contains(",,ui,error,error: a `docker` source has no argument `nmae`"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn checking_needs_no_engine() {
    let mut world = World::new();
    world.env("DOCKER_HOST", "gopher://nowhere");
    docker_source(&world, "true");
    world.write("wrong.json", WRONG);
    for command in ["validate", "inspect", "init"] {
        world.succeed(&[command, "a.json"]);
    }
    // A mistake in the template is told before one in the surroundings.
    assert_eq!(world.run(&["build", "wrong.json"]).code, 3);
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 4);
    assert!(outcome.stderr.contains("DOCKER_HOST"), "{}", outcome.stderr);
}

#[test]
fn an_address_that_is_none_matters_only_to_those_who_need_an_engine() {
    let mut world = World::new();
    world.env("DOCKER_HOST", "gopher://nowhere");
    let source = "source \"oci\" \"a\" {\n  from = \"scratch\"\n}\nbuild {\n  sources = [\"oci.a\"]\n}\n";
    world.write("a.pkr.hcl", source);
    world.succeed(&["plan", "a.pkr.hcl"]);
    world.succeed(&["cleanup"]);
    world.write("b.pkr.hcl", &source.replace("\"scratch\"", "{ docker_daemon = \"debian\" }"));
    let outcome = world.run(&["build", "b.pkr.hcl"]);
    assert_ne!(outcome.code, 0);
    assert!(outcome.stderr.contains("gopher://"), "{}", outcome.stderr);
}

#[test]
fn standard_input_may_hold_either_form() {
    let world = World::new();
    docker_source(&world, "true");
    let hcl = "source \"docker\" \"a\" {\n  image   = \"debian\"\n  discard = true\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n";
    world.write("a.pkr.hcl", hcl);
    for (file, arguments) in [
        ("a.json", &["validate", "-"][..]),
        ("a.pkr.hcl", &["validate", "-"]),
        ("a.json", &["validate", "-config-type=json", "-"]),
        ("a.pkr.hcl", &["validate", "--config-type", "hcl2", "-"]),
    ] {
        let input = std::fs::File::open(world.path().join(file)).unwrap();
        let output = world.command(arguments).stdin(input).output().unwrap();
        assert!(output.status.success(), "{file} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // Without a name, the working directory is the template.
    world.succeed(&["validate"]);
}

#[test]
fn no_home_is_needed() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    docker_source(&world, "true");
    let mut command = world.command(&["build", "a.json"]);
    let output = command.env_remove("HOME").env_remove("KILN_STATE_DIR").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let is_kept = |path: &std::path::PathBuf| {
        ["kiln-state-", "kiln-cache-"].iter().any(|name| path.to_string_lossy().contains(name))
    };
    assert_eq!(world.leftovers().iter().filter(|path| !is_kept(path)).count(), 0);
}

#[test]
fn of_many_builds_the_failed_one_is_told_at_the_end() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        r#"{"builders": [
          {"type": "docker", "name": "good", "image": "debian:bookworm", "pull": false, "discard": true},
          {"type": "docker", "name": "bad", "image": "debian:bookworm", "pull": false, "discard": true}],
        "provisioners": [
          {"type": "shell", "only": ["bad"], "inline": ["echo the reason", "exit 7"]}]}"#,
    );
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1);
    let closing = outcome.stderr.split_once("\n\n").unwrap().1;
    insta::assert_snapshot!(stable(closing, &world));
}

#[test]
fn help_may_be_asked_for_in_every_way() {
    let world = World::new();
    let help = world.succeed(&["validate", "-help"]).stdout;
    assert_eq!(world.succeed(&["help", "validate"]).stdout, help);
    assert_eq!(world.succeed(&["validate", "--help"]).stdout, help);
}
