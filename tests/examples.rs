//! Everything under `examples/` is valid, and every block of the README is what it says.

use std::path::{Path, PathBuf};

use crate::support::World;

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
