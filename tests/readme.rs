//! The README is true: its template builds, and its commands print what stands there.

use std::process::Command;

use crate::console::piped;
use crate::examples::{blocks, root};
use crate::support::docker::{self, Removed};
use crate::support::{World, stable};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The lines behind `$ COMMAND` in a console block, up to the next command.
fn printed(command: &str) -> String {
    let text = readme();
    let block = blocks(&text, "console").into_iter().find(|block| block.contains(&format!("$ {command}\n"))).unwrap();
    let lines = block.lines().skip_while(|line| *line != format!("$ {command}")).skip(1);
    lines.take_while(|line| !line.starts_with("$ ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_first_template_builds_and_prints_what_the_readme_shows() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("worker.pkr.hcl", &blocks(&readme(), "hcl")[0]);
    let _removed = Removed(vec!["example/worker:1.0".into(), "example/worker:latest".into()]);
    let outcome = world.succeed(&["build", "worker.pkr.hcl"]);
    let shown = printed("kiln build worker.pkr.hcl");
    assert_eq!(stable(outcome.stderr.trim_end(), &world), stable(shown.trim_end(), &world));
    let arguments = ["run", "--rm", "--label", "kiln.test", "example/worker:1.0"];
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), printed("docker run --rm example/worker:1.0"));
}

#[test]
fn the_mistake_is_shown_as_the_readme_shows_it() {
    let world = World::new();
    let template = "source \"docker\" \"worker\" {\n  image = \"debian:bookworm\"\n  comit = true\n}\nbuild {\n  sources = [\"source.docker.worker\"]\n}\n";
    world.write("wrong.pkr.hcl", template);
    let outcome = world.run(&["validate", "wrong.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    assert_eq!(
        outcome.stderr.trim_end(),
        format!("{}\n\n1 error in the template", printed("kiln validate wrong.pkr.hcl").trim_end())
    );
}

#[test]
fn the_commands_beside_build_print_what_the_readme_shows() {
    let world = World::new();
    world.write("worker.pkr.hcl", &blocks(&readme(), "hcl")[0]);
    world.write("old.json", r#"{ "builders": [{ "type": "docker", "image": "debian", "commit": true }] }"#);
    let expression = r#""${upper(var.release)} for ${host.arch}""#;
    let told = printed(&format!("echo '{expression}' | kiln console -var release=trixie worker.pkr.hcl"));
    let outcome = piped(&world, &["-var", "release=trixie", "worker.pkr.hcl"], &format!("{expression}\n"));
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    assert_eq!(outcome.stdout, told.replace("amd64", arch));
    let outcome = world.succeed(&["fmt", "-check", "worker.pkr.hcl"]);
    assert_eq!(outcome.stdout, printed("kiln fmt -check worker.pkr.hcl"));
    let outcome = world.succeed(&["upgrade", "old.json"]);
    assert_eq!(outcome.stderr, printed("kiln upgrade old.json"));
}

#[test]
fn its_links_lead_somewhere() {
    let text = readme();
    let links = regex::Regex::new(r"\]\(([^)#]+)\)").unwrap();
    let targets: Vec<&str> = links.captures_iter(&text).map(|found| found.get(1).unwrap().as_str()).collect();
    assert!(targets.len() > 10, "{targets:?}");
    for target in targets.iter().filter(|target| !target.starts_with("https://")) {
        assert!(root().join(target).exists(), "README.md links to {target}");
    }
}
