//! Everything under `examples/` is valid, and every block of the README is what it says.

use std::path::{Path, PathBuf};

use crate::support::World;
use crate::support::docker::{self, Removed};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Examples name their scripts relative to their own folder, as their README says to run them.
#[test]
fn every_example_is_valid() {
    let world = World::new();
    let mut checked = 0;
    for folder in std::fs::read_dir(root().join("examples")).unwrap() {
        let folder = folder.unwrap().path();
        let templates = files(&folder, ".json").into_iter().chain(files(&folder, ".pkr.hcl"));
        for template in templates.filter(|path| !path.to_string_lossy().contains("pkrvars")) {
            let mut command = world.command(&["validate"]);
            let output = command.arg(&template).current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{}: {}", template.display(), String::from_utf8_lossy(&output.stderr));
            checked += 1;
        }
    }
    assert!(checked >= 10, "only {checked} templates found");
}

/// A base, a database and a build that is tested against it, and what both together make.
#[test]
fn pycroft_is_a_diamond_with_its_tests_inside() {
    if !docker::is_there() {
        return;
    }
    let mut world = World::new();
    world.env("TAG", "1.2.3");
    let registry = format!("kilntest{}/pycroft", std::process::id());
    let name = |image: &str, tag: &str| format!("{registry}/{image}:{tag}");
    let images = ["db", "dev", "prod"];
    let _removed = Removed(images.iter().flat_map(|image| [name(image, "1.2.3"), name(image, "next")]).collect());
    let folder = root().join("examples/pycroft");
    let run = |words: &[&str]| {
        let output = world.command(words).current_dir(&folder).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {stderr}");
        (String::from_utf8(output.stdout).unwrap(), stderr)
    };
    let (graph, _) = run(&["graph", "."]);
    assert!(graph.contains("docker.base\n├── docker.dev\n│   └── docker.prod\n└── docker.prod\n"), "{graph}");
    let set = format!("registry={registry}");
    let (_, said) = run(&["build", "-no-push", "-var", &set, "-var", "uid=4321", "-var", "gid=4321", "."]);
    assert!(said.contains("service db is healthy") && said.contains("Ran 2 tests"), "{said}");
    let ids = docker::run_in(&name("prod", "1.2.3"), "id -u; id -g; /entry.sh version");
    assert_eq!(ids, "4321\n4321\npycroft 1.2.3\n");
    // Another tag: the tests are not run again, the bundle is another one.
    let (_, said) =
        run(&["build", "-no-push", "-var", &set, "-var", "tag=next", "-var", "uid=4321", "-var", "gid=4321", "."]);
    assert!(!said.contains("installing") && !said.contains("Setting up"), "{said}");
    assert_eq!(docker::run_in(&name("prod", "next"), "/entry.sh version"), "pycroft next\n");
}

/// The services of the project are those that the template makes.
#[test]
fn rugged_refreshes_a_ddev_project() {
    let world = World::new();
    let folder = root().join("examples/rugged");
    let words = ["refresh", "-print", "-template", "hcl/30-signing-workers.pkr.hcl", "ddev"];
    let output = world.command(&words).current_dir(&folder).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "cd ddev && ddev restart\n");
    for service in ["root-worker", "targets-worker"] {
        let line = format!("uses localhost:5000/rugged/{service}:dev, which docker.{service} makes");
        assert!(said.contains(&line), "{said}");
    }
}

/// Fenced blocks of a language in a Markdown file.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            found
                .push(lines.by_ref().take_while(|line| line.trim() != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    found
}

#[test]
fn templates_in_readme_and_guide_are_valid() {
    let mut checked = 0;
    let documents = std::iter::once(root().join("README.md")).chain(files(&root().join("docs/guide"), ".md"));
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for (language, name) in [("hcl", "template.pkr.hcl"), ("json", "template.json")] {
            for block in blocks(&text, language)
                .iter()
                .filter(|block| block.contains("source \"") || block.contains("\"builders\""))
            {
                let mut world = World::new();
                world.env("CI_REGISTRY_IMAGE", "registry.example.org/group/project");
                world.write(name, block);
                for script in ["scripts/apt.sh", "scripts/clean.sh"] {
                    world.write(script, "true\n");
                }
                world.write("ansible/worker.yml", "- hosts: all\n");
                // Templates that ask for their repository get one.
                if block.contains("git.") && !crate::beyond_packer::make_repository(world.path()) {
                    continue;
                }
                let outcome = world.run(&["validate", name]);
                assert_eq!(outcome.code, 0, "{}:\n{block}\n{}", document.display(), outcome.stderr);
                checked += 1;
            }
        }
    }
    assert!(checked >= 1, "no template found");
}
