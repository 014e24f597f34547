//! `kiln validate` and `kiln inspect`: every mistake at once, each at its place.

use std::path::Path;

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

const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/templates");

/// The templates of a folder of the corpus in a world of its own, sorted by name; files of values are not templates.
fn corpus(folder: &str) -> (World, Vec<String>) {
    let mut world = World::new();
    for (name, value) in [
        ("CI_REGISTRY", "registry.example.org"),
        ("CI_PROJECT_PATH", "group/project"),
        ("IMAGE_TAG", "v1"),
        ("REG_PASS", "a-password"),
        ("GIT_REF", "feature/One"),
        ("DOCKER_REPO", "team"),
        ("PKR_VAR_size", "4"),
    ] {
        world.env(name, value);
    }
    copy(&Path::new(TEMPLATES).join(folder), world.path());
    let mut names: Vec<String> = std::fs::read_dir(world.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| {
            let name = entry.file_name().into_string().unwrap();
            let is_template = name.ends_with(".json") || name.ends_with(".pkr.hcl");
            (is_template && !name.ends_with(".vars.json")) || name.ends_with("directory")
        })
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    (world, names)
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// The arguments of a template of the corpus: itself, and its file of values where there is one.
fn with_values(world: &World, name: &str) -> Vec<String> {
    let stem = name.split('.').next().unwrap();
    let files = [format!("{stem}.vars.json"), format!("{stem}.pkrvars.hcl")];
    let values = files.into_iter().filter(|file| world.path().join(file).exists());
    values.map(|file| format!("-var-file={file}")).chain([name.to_owned()]).collect()
}

/// Templates as people write them (compared with Packer 1.6.6 as far as it knows their parts): all are valid, and hold the
/// builds, steps and chains that are meant.
#[test]
fn templates_in_use_are_valid() {
    let (world, names) = corpus("good");
    assert!(names.len() >= 35, "{names:?}");
    let mut found = String::new();
    for name in &names {
        let arguments = with_values(&world, name);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let outcome = world.run(&[&["validate"], arguments.as_slice()].concat());
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{name}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("error"), "{name}: {}", outcome.stderr);
        let shown = world.succeed(&[&["inspect", "-json"], arguments.as_slice()].concat()).stdout;
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        found.push_str(&format!("{name}\n"));
        let kinds = |list: &serde_json::Value| -> String {
            let kinds: Vec<&str> = list.as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
            kinds.join(" ")
        };
        for build in shown["builds"].as_array().unwrap() {
            found.push_str(&format!("  {}: {}", build["name"].as_str().unwrap(), kinds(&build["steps"])));
            for chain in build["post_processors"].as_array().unwrap() {
                found.push_str(&format!(" > {}", kinds(chain)));
            }
            found.push('\n');
        }
    }
    insta::assert_snapshot!(found);
}

/// Typical slips: each is told at its place, and nothing is told besides.
#[test]
fn typical_mistakes_are_told_once_at_their_place() {
    let (world, names) = corpus("bad");
    assert!(names.len() >= 45, "{names:?}");
    let mut found = String::new();
    for name in &names {
        let outcome = world.run(&["validate", "-json", name]);
        let report: serde_json::Value =
            serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{name}: {error}\n{}", outcome.stderr));
        found.push_str(&format!("{name}\n"));
        for item in report["diagnostics"].as_array().unwrap() {
            let place = &item["place"];
            let fix = item["fix"]["with"].as_str().map(|with| format!(" => {with}")).unwrap_or_default();
            let (severity, title) = (item["severity"].as_str().unwrap(), item["title"].as_str().unwrap());
            let mark = if severity.eq_ignore_ascii_case("error") { "" } else { "(warning) " };
            found.push_str(&format!("  {}:{} {mark}{title}{fix}\n", place["line"], place["column"]));
        }
    }
    insta::assert_snapshot!(stable(&found, &world));
}

#[test]
fn a_name_that_packer_takes_for_json_is_told() {
    let world = World::new();
    world.write("worker.hcl", "build {}\n");
    let outcome = world.run(&["validate", "worker.hcl"]);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stderr.contains("*.pkr.hcl") && outcome.stderr.contains("-config-type=hcl2"), "{}", outcome.stderr);
}

/// What is no mistake of the file at hand: `validate` warns of it, `build` refuses it before anything runs.
#[test]
fn what_depends_on_other_files_and_on_the_environment_is_refused_by_build_alone() {
    let world = World::new();
    world.write("variables.pkr.hcl", "variable \"release\" {\n  default = \"bookworm\"\n}\n");
    let push = "{ \"type\": \"docker-push\", \"login\": true, \"login_username\": \"ci\", \"login_password\": \"{{user `token`}}\" }";
    let template = format!(
        "{{ \"variables\": {{ \"token\": \"{{{{env `TOKEN`}}}}\" }},\n  \"builders\": [{{ \"type\": \"docker\", \"image\": \
         \"debian\", \"commit\": true }}],\n  \"post-processors\": [{push}] }}"
    );
    world.write("push.json", &template);
    for (name, told) in [
        ("variables.pkr.hcl", "the template has no `build` block"),
        ("push.json", "`login_username` is set and `login_password` is empty"),
    ] {
        let checked = world.succeed(&["validate", name]);
        assert!(checked.stderr.contains(&format!("warning: {told}")), "{}", checked.stderr);
        let built = world.run(&["build", name]);
        assert_eq!(built.code, 3);
        assert!(built.stderr.contains(&format!("error: {told}")), "{}", built.stderr);
    }
}
