//! `kiln validate` and `kiln inspect`: every mistake at once, each at its place.

use crate::support::{World, stable};

/// One template with several independent mistakes, as text for people.
#[test]
fn hcl_mistakes_are_told_at_once_with_their_places() {
    let world = World::new();
    world.write(
        "worker.pkr.hcl",
        r#"variable "release" {
  default = "bookworm"
}

source "docker" "worker" {
  imag   = "debian:${var.relase}"
  commit = true
}

build {
  sources = ["source.docker.wroker"]

  provisioner "shell" {
    inline       = ["true"]
    pause_befor  = "10s"
  }
  post-processor "docker-tga" {
    repository = "worker"
  }
}
"#,
    );
    let outcome = world.run(&["validate", "worker.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    assert_eq!(outcome.stdout, "");
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn json_mistakes_point_into_the_strings() {
    let world = World::new();
    world.write(
        "worker.json",
        r#"{
  "variables": { "release": "bookworm", "version": null },
  "builders": [{ "type": "docker", "image": "debian:{{user `relase`}}", "comit": "true" }],
  "provisioners": [{ "type": "shell", "inlin": "true" }]
}
"#,
    );
    let outcome = world.run(&["validate", "worker.json"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn json_report_has_file_line_and_column() {
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        "source \"docker\" \"a\" {\n  image  = \"b\"\n  comit = true\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n",
    );
    let outcome = world.run(&["validate", "--json", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(report["valid"], false);
    let finding =
        report["diagnostics"].as_array().unwrap().iter().find(|item| item["code"] == "unknown-argument").unwrap();
    assert_eq!(finding["place"]["file"], "a.pkr.hcl");
    assert_eq!((&finding["place"]["line"], &finding["place"]["column"]), (&3.into(), &3.into()));
    assert_eq!(finding["fix"]["with"], "commit");
}

#[test]
fn all_variables_without_value_are_told_at_once() {
    let world = World::new();
    world.write("a.pkr.hcl", "variable \"one\" {}\nvariable \"two\" {\n  type = number\n}\nsource \"docker\" \"a\" {\n  image = var.one\n  commit = true\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n");
    let outcome = world.run(&["build", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn an_undeclared_variable_is_refused_with_the_nearest() {
    let world = World::new();
    world.write("a.pkr.hcl", "variable \"release\" {\n  default = \"x\"\n}\nsource \"docker\" \"a\" {\n  image = var.release\n  commit = true\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n");
    let outcome = world.run(&["validate", "-var", "relaese=y", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn a_missing_script_is_found_before_anything_runs() {
    let world = World::new();
    world.write("scripts/apt.sh", "true");
    world.write("a.json", "{\n  \"builders\": [{ \"type\": \"docker\", \"image\": \"b\", \"commit\": true }],\n  \"provisioners\": [{ \"type\": \"shell\", \"scripts\": [\"scripts/apt.sh\", \"scripts/atp.sh\"] }]\n}\n");
    let outcome = world.run(&["validate", "a.json"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn a_template_that_does_not_exist_is_told() {
    let world = World::new();
    let outcome = world.run(&["validate", "nothing.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stderr.contains("nothing.pkr.hcl"), "{}", outcome.stderr);
}

#[test]
fn kinds_of_packers_world_are_told_apart_from_misspelt_ones() {
    let world = World::new();
    world.write("a.json", "{\n  \"builders\": [{ \"type\": \"qemu\" }],\n  \"provisioners\": [{ \"type\": \"shel\", \"inline\": \"true\" }]\n}\n");
    let outcome = world.run(&["validate", "a.json"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn inspect_shows_variables_builds_steps_and_chains() {
    let world = World::new();
    world.write(
        "a.json",
        r#"{
  "description": "a worker",
  "variables": { "release": "bookworm", "token": "hidden-token" },
  "sensitive-variables": ["token"],
  "builders": [{ "type": "docker", "name": "worker", "image": "debian:{{user `release`}}", "commit": true }],
  "provisioners": [{ "type": "shell", "inline": "true" }, { "type": "file", "source": "a.json", "destination": "/a" }],
  "post-processors": [[{ "type": "docker-tag", "repository": "worker" }, "docker-push"], "manifest"]
}
"#,
    );
    let text = world.succeed(&["inspect", "a.json"]).stdout;
    assert!(!text.contains("hidden-token"), "{text}");
    insta::assert_snapshot!(text);
    let json: serde_json::Value = serde_json::from_str(&world.succeed(&["inspect", "-json", "a.json"]).stdout).unwrap();
    assert_eq!(json["builds"][0]["post_processors"][0][1]["kind"], "docker-push");
    assert_eq!(json["builds"][0]["steps"][1]["place"], "a.json:6");
}
