//! Everything under `examples/` is valid, and every block of the README is what it says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available};

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
    assert!(said.contains("test answers passed"), "{said}");
    let ids = docker::run_in(&name("prod", "1.2.3"), "id -u; id -g; /entry.sh version");
    assert_eq!(ids, "4321\n4321\npycroft 1.2.3\n");
    // Another tag: the tests are not run again, the bundle is another one.
    let (_, said) =
        run(&["build", "-no-push", "-var", &set, "-var", "tag=next", "-var", "uid=4321", "-var", "gid=4321", "."]);
    assert!(!said.contains("installing") && !said.contains("Setting up"), "{said}");
    assert_eq!(docker::run_in(&name("prod", "next"), "/entry.sh version"), "pycroft next\n");
    pycroft_is_composed(&mut world, &registry, &folder);
}

/// The services of its compose file, with the images that are there by now.
fn pycroft_is_composed(world: &mut World, registry: &str, folder: &Path) {
    let compose = Command::new("docker-compose").arg("version").output().is_ok_and(|output| output.status.success());
    if !available("docker-compose", compose) {
        return;
    }
    let project = format!("kilnpycroft{}", std::process::id());
    for (name, value) in [("REGISTRY", registry), ("TAG", "next"), ("COMPOSE_PROJECT_NAME", project.as_str())] {
        world.env(name, value);
    }
    let variables = [("REGISTRY", registry), ("TAG", "next"), ("COMPOSE_PROJECT_NAME", project.as_str())];
    let compose = |words: &[&str]| {
        let output = Command::new("docker-compose").args(words).envs(variables).current_dir(folder).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let set = format!("registry={registry}");
    let words = ["refresh", "-start", "-var", &set, "-var", "tag=next", "-var", "uid=4321", "-var", "gid=4321", "."];
    let refreshed = world.command(&words).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&refreshed.stderr).into_owned();
    let (_, port) = compose(&["port", "app", "5000"]);
    let curl = ["--silent", "--retry", "20", "--retry-delay", "1", "--retry-all-errors"];
    let answer = Command::new("curl").args(curl).arg(format!("http://{}/", port.trim())).output().unwrap();
    let (_, running) = compose(&["ps", "--services", "--filter", "status=running"]);
    compose(&["down", "--volumes", "--timeout", "0"]);
    assert!(refreshed.status.success(), "{said}");
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "pycroft next\n", "{said}");
    let mut running: Vec<&str> = running.lines().collect();
    running.sort_unstable();
    assert_eq!(running, ["app", "db"]);
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

/// A registry with passwords, which curl can ask what is in it.
struct Registry {
    address: String,
    prefix: String,
}

impl Registry {
    const LOGIN: &str = "kiln:htpasswd-password";

    fn find() -> Option<Registry> {
        let address = std::env::var("KILN_TEST_PASSWORD_REGISTRY").ok();
        let is_there = available("a registry (KILN_TEST_PASSWORD_REGISTRY)", address.is_some());
        let prefix = format!("dm{}", std::process::id());
        is_there.then_some(address).flatten().map(|address| Registry { address, prefix })
    }

    fn ask(&self, more: &[&str], path: &str) -> String {
        let url = format!("http://{}/v2/{}/{path}", self.address, self.prefix);
        let arguments = ["--silent", "--max-time", "20", "--user", Registry::LOGIN];
        let output = std::process::Command::new("curl").args(arguments).args(more).arg(url).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn tags(&self, image: &str) -> Vec<String> {
        let answer: Json = serde_json::from_str(&self.ask(&[], &format!("{image}/tags/list"))).unwrap();
        let mut tags: Vec<String> =
            answer["tags"].as_array().into_iter().flatten().map(|tag| tag.as_str().unwrap().to_owned()).collect();
        tags.sort();
        tags
    }

    fn digest(&self, image: &str, tag: &str) -> String {
        let head = ["--head", "--header", "Accept: application/vnd.docker.distribution.manifest.v2+json"];
        let answer = self.ask(&head, &format!("{image}/manifests/{tag}"));
        let line = answer.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        line.unwrap_or_else(|| panic!("{image}:{tag}: {answer}")).trim().to_owned()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// The example in a world of its own, in a repository with a branch that is not main.
fn marketplace(registry: &Registry) -> Option<World> {
    let mut world = World::new();
    world.env("DM_REGISTRY", &format!("{}/{}", registry.address, registry.prefix));
    world.env("SOURCE_DATE_EPOCH", "1767225600");
    copy(&root().join("examples/digitalmarketplace"), world.path());
    let _ = std::fs::remove_dir_all(world.path().join("out"));
    crate::beyond_packer::make_repository(world.path()).then_some(world)
}

fn finished(events: &str) -> BTreeMap<String, Json> {
    let events = events.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let ends = events.filter(|event| event["event"] == "build-finished");
    ends.map(|event| (event["build"].as_str().unwrap().to_owned(), event)).collect()
}

fn layers(image: &str) -> Vec<Json> {
    docker::image(image).unwrap()["RootFS"]["Layers"].as_array().unwrap().clone()
}

const MARKETPLACE: [&str; 6] = ["base", "base-api", "base-frontend", "api", "user-frontend", "db-backup"];

/// Built without a login, pushed, skipped, and released anew.
#[test]
fn digitalmarketplace_builds_bases_and_apps_and_publishes_them_once() {
    let Some(registry) = docker::is_there().then(Registry::find).flatten() else { return };
    let Some(world) = marketplace(&registry) else { return };
    let name = |image: &str, tag: &str| format!("{}/{}/{image}:{tag}", registry.address, registry.prefix);
    let git = ["rev-parse", "--short", "HEAD"];
    let commit = std::process::Command::new("git").args(git).current_dir(world.path()).output().unwrap().stdout;
    let release = format!("release-{}", String::from_utf8(commit).unwrap().trim());
    let tags = ["14.0.0", "14.1.0", "latest", release.as_str(), "feature-new-search", "1.3.0-20260101"];
    let _removed = Removed(MARKETPLACE.iter().flat_map(|image| tags.iter().map(|tag| name(image, tag))).collect());

    // Nobody has a login here: what only looks and builds needs none.
    world.succeed(&["validate", "."]);
    let said = world.succeed(&["build", "-no-push", "."]).stderr;
    assert!(said.contains("warning: `shell-local` (bases.kiln.hcl") && said.contains("programs with rights"), "{said}");
    let labels = docker::image(&name("base", "14.0.0")).unwrap()["Config"]["Labels"].clone();
    assert_eq!((&labels["BUILD_DATE"], &labels["BUILD_VERSION"]), (&"20260101T000000Z".into(), &"14.0.0".into()));
    for (base, child) in [("base", "base-api"), ("base", "base-frontend")] {
        let (base, child) = (name(base, "14.0.0"), name(child, "14.0.0"));
        assert_eq!(docker::image(&child).unwrap()["Config"]["Labels"]["BASE"], docker::image(&base).unwrap()["Id"]);
        assert!(layers(&child).starts_with(&layers(&base)));
    }
    assert!(layers(&name("api", &release)).starts_with(&layers(&name("base-api", "14.0.0"))));
    let seen = docker::run_in(&name("api", &release), "id -un; cat version_label; ls; ls /usr/local/bin");
    assert_eq!(seen, format!("app\n{release}\n__pycache__\nversion_label\nwsgi.py\nserve\n"));
    let seen = docker::run_in(&name("user-frontend", &release), "cat assets/site.css");
    assert_eq!(seen, "body{font-family:sans-serif;margin:0 auto;}\n");
    assert_eq!(docker::run_in(&name("db-backup", "1.3.0-20260101"), "id -un; ls /app"), "backup\ndump.sh\n");
    let report: Json = serde_json::from_str(&world.read("out/scan-base.json")).unwrap();
    assert!(report["findings"].as_array().unwrap().iter().any(|finding| finding["path"] == "/usr/bin/su"));
    assert!(registry.tags("base").is_empty());

    publishes_once(&world, &registry, &release);
    let id = |image: &str, tag: &str| docker::image(&name(image, tag)).unwrap()["Id"].clone();
    let before = id("base", "14.0.0");
    releases_anew(world, &registry);
    assert_ne!(id("base", "14.1.0"), before);
    assert_eq!(id("base", "latest"), id("base", "14.1.0"));
}

fn publishes_once(world: &World, registry: &Registry, release: &str) {
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, Registry::LOGIN);
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "{auth}"}}}}}}"#, registry.address);
    world.write(".home/.docker/config.json", &config);
    // The branch is not main, and nobody is there to be asked.
    let outcome = world.run(&["build", "-only=dockerfile.base", "."]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("`-yes`") && registry.tags("base").is_empty(), "{}", outcome.stderr);
    world.succeed(&["build", "-yes", "."]);
    for image in ["base", "base-api", "base-frontend"] {
        assert_eq!(registry.tags(image), ["14.0.0"]);
    }
    for image in ["api", "user-frontend"] {
        assert_eq!(registry.tags(image), [release]);
    }
    assert_eq!(registry.tags("db-backup"), ["1.3.0-20260101"]);

    let again = finished(&world.succeed(&["build", "-yes", "-json", "."]).stdout);
    assert_eq!(again.len(), MARKETPLACE.len());
    assert!(again.values().all(|build| build["outcome"] == "skipped"), "{again:#?}");
    let manifest: Json = serde_json::from_str(&world.read("out/manifest.json")).unwrap();
    let last = manifest["builds"].as_array().unwrap().iter().rfind(|build| build["name"] == "base").unwrap();
    assert_eq!(last["kiln"]["outcome"], "skipped");
    assert_eq!(last["kiln"]["digest"], registry.digest("base", "14.0.0"));
    let facts = world.read("out/facts.jsonl");
    let facts: Vec<Json> = facts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(facts.iter().any(|fact| fact["build"] == "dockerfile.base" && fact["outcome"] == "failed"));
    assert_eq!(facts.last().unwrap()["outcome"], "skipped");
}

/// A branch with a slash, new bases, and `latest`, which comes after what it means.
fn releases_anew(mut world: World, registry: &Registry) {
    world.write("VERSION", "14.1.0\n");
    world.env("RELEASE_NAME", "feature/New search");
    let only = "-only=dockerfile.*";
    let outcome = world.succeed(&["build", "-yes", "-json", "-var", "mark_latest=true", only, "."]);
    let pushes = |build: &str| -> Vec<String> {
        let events = outcome.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let of_build = events.filter(|event| event["build"] == format!("dockerfile.{build}"));
        let pushed = of_build.filter_map(|event| Some(event["text"].as_str()?.strip_prefix("pushing ")?.to_owned()));
        pushed.map(|name| name.rsplit(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(pushes("base"), ["14.1.0", "latest"]);
    assert_eq!(pushes("api"), ["feature-new-search", "latest"]);
    assert_eq!(registry.tags("base-api"), ["14.0.0", "14.1.0", "latest"]);
    assert_eq!(registry.digest("base-api", "latest"), registry.digest("base-api", "14.1.0"));
    assert_eq!(registry.digest("api", "latest"), registry.digest("api", "feature-new-search"));
    let api = &finished(&outcome.stdout)["dockerfile.api"];
    let digest = registry.digest("api", "latest");
    assert!(api["artifacts"].as_array().unwrap().iter().any(|artifact| artifact["digest"] == digest.as_str()));
}

/// A program that is not the one that was looked at gets into no image.
#[test]
fn digitalmarketplace_refuses_a_program_with_another_checksum() {
    let registry = Registry { address: "localhost:1".into(), prefix: format!("dmsum{}", std::process::id()) };
    if !docker::is_there() {
        return;
    }
    let Some(world) = marketplace(&registry) else { return };
    let _removed = Removed(vec![format!("localhost:1/{}/base:14.0.0", registry.prefix)]);
    world.write("files/minify", "#!/bin/sh\nexit 0\n");
    let outcome = world.run(&["build", "-no-push", "-only=dockerfile.user-frontend", "."]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("docker/frontend.Dockerfile:6"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/usr/local/bin/minify: FAILED"), "{}", outcome.stderr);
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
