//! `kiln inspect` against Packer 1.6.6: each file of `tests/fixtures/inspect` holds a command line, the files it reads and
//! what Packer prints below its first line, which names the program; a part `kiln` only where kiln prints something else.
//! With `KILN_TEST_PACKER=1` the records themselves are checked against Packer 1.6.6.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::support::World;

/// A case, read from its file.
struct Case {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    files: Vec<(String, String)>,
    /// What Packer prints; its exit code where it refuses.
    packer: Result<String, i32>,
    /// What kiln prints, where that is not the same.
    kiln: Option<String>,
}

impl Case {
    fn read(path: &Path) -> Case {
        let text = std::fs::read_to_string(path).unwrap();
        let mut case = Case {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            files: Vec::new(),
            packer: Err(0),
            kiln: None,
        };
        let mut part: Option<(&str, String)> = None;
        for line in text.split_inclusive('\n') {
            let title = line.strip_prefix("-- ").and_then(|line| line.strip_suffix(" --\n"));
            match (title, &mut part) {
                (Some(title), _) => {
                    let finished = part.replace((title, String::new()));
                    case.part(finished);
                }
                (None, Some((_, text))) => text.push_str(line),
                (None, None) => case.head(line.trim_end()),
            }
        }
        case.part(part);
        assert!(case.packer != Err(0), "{}: no record of Packer", case.name);
        case
    }

    fn head(&mut self, line: &str) {
        if let Some(arguments) = line.strip_prefix("$ ") {
            self.arguments = arguments.split(' ').map(str::to_owned).collect();
        } else if let Some((name, value)) = line.strip_prefix("env ").and_then(|line| line.split_once('=')) {
            self.environment.push((name.to_owned(), value.to_owned()));
        } else {
            assert!(line.starts_with('#'), "{}: {line}", self.name);
        }
    }

    fn part(&mut self, part: Option<(&str, String)>) {
        match part {
            None => {}
            Some(("packer", text)) => self.packer = Ok(text),
            Some(("kiln", text)) => self.kiln = Some(text),
            Some((title, text)) => match title.strip_prefix("packer: exit ") {
                Some(code) => self.packer = Err(code.parse().unwrap()),
                None => self.files.push((title.to_owned(), text)),
            },
        }
    }

    fn world(&self) -> World {
        let mut world = World::new();
        for (name, text) in &self.files {
            world.write(name, text);
        }
        for (name, value) in &self.environment {
            world.env(name, value);
        }
        world
    }
}

fn cases() -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/inspect");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| Case::read(path)).collect()
}

/// The output without its first line.
fn below_the_first(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, rest)| rest)
}

/// Packer lists required variables in any order.
fn in_order(text: &str) -> String {
    const TITLE: &str = "Required variables:\n\n";
    let Some((before, after)) = text.split_once(TITLE) else { return text.to_owned() };
    let (names, rest) = after.split_once("\n\n").unwrap_or((after, ""));
    let mut names: Vec<&str> = names.split('\n').collect();
    names.sort_unstable();
    format!("{before}{TITLE}{}\n\n{rest}", names.join("\n"))
}

#[test]
fn prints_what_packer_prints() {
    let cases = cases();
    assert!(cases.len() >= 75, "only {} cases", cases.len());
    let mut failures = String::new();
    for case in cases {
        let arguments: Vec<&str> =
            std::iter::once("inspect").chain(case.arguments.iter().map(String::as_str)).collect();
        let outcome = case.world().run(&arguments);
        let expected = match (&case.kiln, &case.packer) {
            (Some(text), _) | (None, Ok(text)) => (0, text.as_str()),
            (None, Err(_)) => (3, ""),
        };
        let found = (outcome.code, below_the_first(&outcome.stdout));
        if found != expected {
            writeln!(failures, "{}:\nexpected {expected:#?}\nfound {found:#?}\n{}", case.name, outcome.stderr).unwrap();
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn the_records_are_what_packer_says() {
    let Some(packer) = crate::support::packer() else { return };
    for case in cases() {
        let world = case.world();
        let output = Command::new(&packer)
            .arg("inspect")
            .args(&case.arguments)
            .current_dir(world.path())
            .env_clear()
            .envs([("CHECKPOINT_DISABLE", "1"), ("PACKER_NO_COLOR", "1"), ("PATH", "/usr/bin:/bin")])
            .env("HOME", world.path())
            .envs(case.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let found = match output.status.code() {
            Some(0) => Ok(in_order(below_the_first(&text))),
            code => Err(code.unwrap()),
        };
        assert_eq!(found, case.packer, "{}", case.name);
    }
}

const TEMPLATE: &str = r#"variable "name" {
  default = "web"
}
variable "token" {
  type      = string
  sensitive = true
}
data "null" "x" {
  input = var.name
}
source "docker" "a" {
  image   = "debian"
  discard = true
}
build {
  name    = "images"
  sources = ["docker.a"]
  provisioner "shell" {
    name   = "say"
    inline = ["echo ${var.name}"]
  }
  error-cleanup-provisioner "shell-local" {
    inline = ["true"]
  }
  post-processors {
    post-processor "docker-tag" {
      repository = "x"
    }
    post-processor "manifest" {
      name = "list"
    }
  }
}
"#;

#[test]
fn json_has_the_places_of_everything() {
    let world = World::new();
    world.write("a.pkr.hcl", TEMPLATE);
    insta::assert_snapshot!(world.succeed(&["inspect", "-json", "-var", "token=hunter2", "a.pkr.hcl"]).stdout);
}

#[test]
fn json_tells_of_legacy_templates_too() {
    let world = World::new();
    world.write(
        "a.json",
        r#"{ "variables": { "a": "1", "b": null }, "builders": [{ "type": "docker", "name": "x", "image": "debian", "discard": true }] }"#,
    );
    insta::assert_snapshot!(world.succeed(&["inspect", "-json", "a.json"]).stdout);
}

/// As Packer's lines, without the time that begins them.
fn machine_lines(arguments: &[&str], world: &World) -> String {
    let text = world.succeed(arguments).stdout;
    text.lines().map(|line| format!("{}\n", line.split_once(',').unwrap().1)).collect()
}

#[test]
fn machine_readable_lines_are_packers() {
    let world = World::new();
    world.write("a.pkr.hcl", TEMPLATE);
    world.write(
        "a.json",
        r#"{ "description": "x, y", "variables": { "a": "1", "b": null }, "builders": [{ "type": "docker", "name": "x" }], "provisioners": [{ "type": "shell" }] }"#,
    );
    let lines = machine_lines(&["-machine-readable", "inspect", "a.json"], &world);
    insta::assert_snapshot!(format!(
        "{lines}---\n{}",
        machine_lines(&["inspect", "-machine-readable", "a.pkr.hcl"], &world)
    ));
}

#[test]
fn what_is_wrong_in_locals_and_builds_is_remarked() {
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        "locals {\n  a = var.nmae\n}\nvariable \"name\" {\n  default = 1\n}\nbuild {\n  sources = [\"docker.nothing\"]\n}\n",
    );
    let outcome = world.succeed(&["inspect", "a.pkr.hcl"]);
    insta::assert_snapshot!(format!("{}---\n{}", outcome.stdout, outcome.stderr));
}

#[test]
fn a_template_may_come_from_standard_input() {
    let world = World::new();
    let input = world.write("a.json", r#"{ "builders": [{ "type": "null" }] }"#);
    let output = world.command(&["inspect", "-"]).stdin(std::fs::File::open(input).unwrap()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("kiln inspect: JSON mode\nVariables:\n\n  <No variables>\n"), "{text}");
}

#[test]
fn what_derives_from_a_secret_is_masked_in_builds_that_are_left_out_too() {
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        r#"
variable "token" {
  default   = "hunter2"
  sensitive = true
}
source "docker" "x" {
  image   = "debian"
  discard = true
}
build {
  sources = ["docker.x"]
  provisioner "shell" {
    name   = title(var.token)
    inline = ["true"]
  }
  post-processor "manifest" {
    name = "m ${upper(var.token)}"
  }
}
"#,
    );
    for arguments in [&["inspect", "-only=other", "a.pkr.hcl"][..], &["inspect", "-json", "-only=other", "a.pkr.hcl"]] {
        let shown = world.succeed(arguments).stdout;
        assert!(shown.contains("<sensitive>") && !shown.to_lowercase().contains("hunter2"), "{shown}");
    }
}
