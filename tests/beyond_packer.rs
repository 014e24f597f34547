//! What templates can say that Packer's cannot: the examples and the guide, as a user meets them.

use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

use crate::examples::{blocks, root};
use crate::support::{World, available, docker};

/// Whether there is a `git` program.
fn has_git() -> bool {
    available("the program git", Command::new("git").arg("--version").output().is_ok())
}

/// Makes a directory a repository with one commit of all that is in it.
pub(crate) fn make_repository(directory: &Path) -> bool {
    if !has_git() {
        return false;
    }
    for arguments in [
        &["init", "--quiet", "--initial-branch=feature/Matrix"][..],
        &["add", "."],
        &["-c", "user.name=Test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message=first"],
    ] {
        let status = Command::new("git").args(arguments).current_dir(directory).env("HOME", directory).status();
        assert!(status.unwrap().success(), "git {arguments:?}");
    }
    true
}

/// Names of the builds with the kinds of their steps, one a line.
fn builds(world: &World, arguments: &[&str]) -> String {
    let mut all = vec!["inspect", "-json"];
    all.extend(arguments);
    let outcome = world.succeed(&all);
    let inspected: Json = serde_json::from_str(&outcome.stdout).unwrap();
    let line = |build: &Json| {
        let kinds = build["steps"].as_array().unwrap().iter().map(|step| step["kind"].as_str().unwrap());
        format!("{}: {}", build["name"].as_str().unwrap(), kinds.collect::<Vec<_>>().join(" ")).trim_end().to_owned()
            + "\n"
    };
    inspected["builds"].as_array().unwrap().iter().map(line).collect()
}

/// A copy of the example in a repository of its own.
fn families() -> Option<World> {
    let world = World::new();
    for name in ["main.pkr.hcl", "families.kiln.hcl", "scripts/hello.sh"] {
        world.write(name, &std::fs::read_to_string(root().join("examples/families").join(name)).unwrap());
    }
    make_repository(world.path()).then_some(world)
}

#[test]
fn the_example_makes_what_its_readme_says() {
    let Some(world) = families() else { return };
    world.succeed(&["validate", "."]);
    insta::assert_snapshot!(builds(&world, &["."]), @r"
    large.docker.debian-bookworm: shell shell shell
    large.docker.debian-bullseye: shell shell shell shell
    small.docker.debian-bookworm: shell
    small.docker.debian-bullseye: shell shell
    plain.docker.plain: shell
    ");
    let only = |pattern: &str| builds(&world, &[&format!("-only={pattern}"), "."]);
    insta::assert_snapshot!(only("small.docker.debian"), @r"
    small.docker.debian-bookworm: shell
    small.docker.debian-bullseye: shell shell
    ");
    insta::assert_snapshot!(only("*-bookworm"), @r"
    large.docker.debian-bookworm: shell shell shell
    small.docker.debian-bookworm: shell
    ");
    assert_eq!(only("plain.*"), "plain.docker.plain: shell\n");
    assert_eq!(builds(&world, &["main.pkr.hcl"]), "plain.docker.plain: shell\n");
}

#[test]
fn inspect_says_what_packer_does_not_have() {
    let Some(world) = families() else { return };
    let shown = world.succeed(&["inspect", "."]).stdout;
    let (_, beyond) = shown.split_once("> beyond packer:").unwrap();
    insta::assert_snapshot!(beyond.trim(), @r"
    files named `*.kiln.hcl` (families.kiln.hcl:1)
    `git.tag` (families.kiln.hcl:15)
    `git.branch_slug` (families.kiln.hcl:15)
    `git.dirty` (families.kiln.hcl:16)
    `git.commit` (families.kiln.hcl:16)
    `for_each` of a `source` (families.kiln.hcl:21)
    `enabled` of a `source` (families.kiln.hcl:22)
    `for_each` of a `build` (families.kiln.hcl:31)
    `for_each` of a `provisioner` (families.kiln.hcl:46)
    `host.uid` (families.kiln.hcl:47)
    `host.arch` (families.kiln.hcl:47)
    `enabled` of a `post-processor` (families.kiln.hcl:63)
    ");
    assert!(shown.contains("local.version: \"feature-matrix\""), "{shown}");
    assert!(!world.succeed(&["inspect", "main.pkr.hcl"]).stdout.contains("beyond packer"));
}

#[test]
fn the_console_knows_the_repository_and_the_host() {
    let Some(world) = families() else { return };
    let ask = |expression: &str| {
        let mut child = world
            .command(&["console", "."])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), format!("{expression}\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(ask("git.branch"), "feature/Matrix");
    assert_eq!(ask("git.dirty"), "false");
    assert_eq!(ask("host.uid"), rustix::process::getuid().as_raw().to_string());
    assert_eq!(ask("host.cpus >= 1"), "true");
}

#[test]
fn the_guide_makes_what_it_says() {
    let guide = std::fs::read_to_string(root().join("docs/guide/beyond-packer.md")).unwrap();
    let mut said = String::new();
    for block in blocks(&guide, "hcl") {
        let world = World::new();
        world.write("t.pkr.hcl", &block);
        if block.contains("git.") && !make_repository(world.path()) {
            return;
        }
        world.succeed(&["validate", "t.pkr.hcl"]);
        said.push_str(&format!("{}--\n", builds(&world, &["t.pkr.hcl"])));
    }
    insta::assert_snapshot!(said, @r"
    docker.debian-bookworm: shell
    docker.debian-bullseye: shell shell
    --
    tools-large.docker.base: shell shell
    tools-small.docker.base:
    --
    docker.app: shell
    --
    docker.app:
    --
    docker.app:
    --
    docker.builder: shell
    --
    docker.app: file
    --
    ");
}

#[test]
fn misspelt_arguments_are_recognised() {
    let world = World::new();
    world.write(
        "t.pkr.hcl",
        r#"
source "docker" "x" {
  for_eahc = []
  image    = "debian:bookworm"
  discard  = true
}
build {
  sources = ["docker.x"]
  provisioner "shell" {
    enbaled = true
    inline  = ["true"]
  }
}
"#,
    );
    let said = world.run(&["validate", "t.pkr.hcl"]).stderr;
    for name in ["for_each", "enabled"] {
        assert!(said.contains(&format!("did you mean `{name}`?")), "{said}");
    }
}

#[test]
fn elements_are_known_while_machines_run() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "t.pkr.hcl",
        r#"
source "docker" "x" {
  for_each = { a = "first", b = "second" }
  image    = "debian:bookworm"
  pull     = false
  discard  = true
}
build {
  for_each = ["one"]
  sources  = ["docker.x"]
  provisioner "shell" {
    for_each = ["p", "q"]
    inline   = ["echo ${each.key} ${source.key} ${source.value} ${build.name} ${length(build.ID) > 0}"]
  }
  provisioner "shell" {
    enabled = source.key == "b"
    inline  = ["echo only b"]
  }
}
"#,
    );
    let outcome = world.succeed(&["build", "-json", "t.pkr.hcl"]);
    let events: Vec<Json> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let output = events.iter().filter(|event| event["event"] == "output");
    let mut lines: Vec<&str> = output.map(|event| event["line"].as_str().unwrap()).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["only b", "p a first one true", "p b second one true", "q a first one true", "q b second one true"]
    );
}
