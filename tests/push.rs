//! Pushing to a registry whose tokens come from a realm that answers as GitLab's does.

use std::sync::atomic::Ordering;

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::proxy::DyingProxy;
use crate::support::{World, available, stable};

/// The registry that `make test` starts.
fn registry() -> Option<String> {
    let registry = std::env::var("KILN_TEST_REGISTRY").ok();
    (docker::is_there() && available("a registry (KILN_TEST_REGISTRY)", registry.is_some()))
        .then_some(registry)
        .flatten()
}

fn template(repository: &str, push: &str) -> String {
    format!(
        r#"{{"variables": {{"user": "{{{{env `REGISTRY_USER`}}}}", "password": "{{{{env `REGISTRY_PASSWORD`}}}}"}},
  "sensitive-variables": ["password"],
  "builders": [{{"type": "docker", "name": "worker", "image": "debian:bookworm", "pull": false, "commit": true}}],
  "provisioners": [{{"type": "shell", "inline": ["date +%N > /unique"]}}],
  "post-processors": [[
    {{"type": "docker-tag", "repository": "{repository}", "tags": ["1.0"]}},
    {{"type": "docker-tag", "repository": "{repository}", "tags": ["latest", "1.0"]}},
    {push}
  ]]}}"#
    )
}

/// A build's image and names are removed at the end.
fn names(repository: &str) -> Removed {
    Removed(vec![format!("{repository}:1.0"), format!("{repository}:latest")])
}

#[test]
fn two_tags_are_pushed_once_each_and_pulled_back() {
    let Some(registry) = registry() else { return };
    let mut world = World::new();
    world.env("REGISTRY_USER", "deployer").env("REGISTRY_PASSWORD", "deploy-token");
    let repository = format!("{registry}/group/project/worker");
    let _removed = names(&repository);
    let push = r#"{"type": "docker-push", "login": true, "login_username": "{{user `user`}}", "login_password": "{{user `password`}}"}"#;
    world.write("a.json", &template(&repository, push));
    let outcome = world.succeed(&["build", "-json", "a.json"]);
    assert!(!outcome.stdout.contains("deploy-token") && !outcome.stderr.contains("deploy-token"));
    let events: Vec<Json> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finished = events.iter().find(|event| event["event"] == "build-finished").unwrap();
    let artifacts = finished["artifacts"].as_array().unwrap();
    let pushed = artifacts.iter().find(|artifact| artifact["digest"].is_string()).unwrap();
    assert_eq!(pushed["tags"], serde_json::json!([format!("{repository}:1.0"), format!("{repository}:latest")]));
    drop(names(&repository));
    let digest = format!("{repository}@{}", pushed["digest"].as_str().unwrap());
    let docker = |arguments: &[&str]| {
        let config = world.path().join("docker-config");
        let output = std::process::Command::new("docker").arg("--config").arg(config).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    docker(&["login", "-u", "deployer", "-p", "deploy-token", &registry]);
    docker(&["pull", "--quiet", &format!("{repository}:latest")]);
    assert!(docker::run_in(&format!("{repository}:latest"), "cat /unique").trim().parse::<u64>().is_ok());
    docker(&["pull", "--quiet", &digest]);
    docker(&["rmi", "--force", &digest]);
    // The user's own docker configuration was neither read nor written.
    assert!(!world.path().join(".home/.docker").exists());
}

#[test]
fn gitlab_cis_variables_are_credentials() {
    let Some(registry) = registry() else { return };
    let mut world = World::new();
    world
        .env("CI_REGISTRY", &registry)
        .env("CI_REGISTRY_USER", "gitlab-ci-token")
        .env("CI_REGISTRY_PASSWORD", "job-token");
    world.env("REGISTRY_USER", "").env("REGISTRY_PASSWORD", "");
    let repository = format!("{registry}/group/project/ci");
    let _removed = names(&repository);
    world.write("a.json", &template(&repository, r#""docker-push""#));
    let outcome = world.succeed(&["build", "a.json"]);
    assert!(outcome.stderr.contains("CI_REGISTRY_USER"), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains("job-token"), "{}", outcome.stderr);
}

#[test]
fn dockers_configuration_is_heeded() {
    let Some(registry) = registry() else { return };
    let mut world = World::new();
    world.env("REGISTRY_USER", "").env("REGISTRY_PASSWORD", "");
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "deployer:deploy-token");
    world.write(".home/.docker/config.json", &format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#));
    let repository = format!("{registry}/group/project/config");
    let _removed = names(&repository);
    world.write("a.json", &template(&repository, r#""docker-push""#));
    world.succeed(&["build", "a.json"]);
}

#[test]
fn a_wrong_password_fails_the_build_and_is_not_shown() {
    let Some(registry) = registry() else { return };
    let mut world = World::new();
    world.env("REGISTRY_USER", "deployer").env("REGISTRY_PASSWORD", "wrong-password");
    let repository = format!("{registry}/group/project/wrong");
    let _removed = names(&repository);
    let push = r#"{"type": "docker-push", "login": true, "login_username": "{{user `user`}}", "login_password": "{{user `password`}}"}"#;
    world.write("a.json", &template(&repository, push));
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1);
    assert!(!outcome.stderr.contains("wrong-password"), "{}", outcome.stderr);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn a_project_that_may_not_be_written_to_is_told() {
    let Some(registry) = registry() else { return };
    let mut world = World::new();
    world.env("REGISTRY_USER", "gitlab-ci-token").env("REGISTRY_PASSWORD", "job-token");
    let repository = format!("{registry}/group/other/worker");
    let _removed = names(&repository);
    let push = r#"{"type": "docker-push", "login": true, "login_username": "{{user `user`}}", "login_password": "{{user `password`}}"}"#;
    world.write("a.json", &template(&repository, push));
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("denied") && outcome.stderr.contains("hint"), "{}", outcome.stderr);
}

#[test]
fn a_registry_that_dies_halfway_fails_the_push() {
    let Some(registry) = registry() else { return };
    let mut world = World::new();
    world.env("REGISTRY_USER", "deployer").env("REGISTRY_PASSWORD", "deploy-token");
    let proxy = DyingProxy::start(&registry, 1_000_000);
    let repository = format!("{}/group/project/halfway", proxy.address);
    let _removed = names(&repository);
    let push = r#"{"type": "docker-push", "login": true, "login_username": "{{user `user`}}", "login_password": "{{user `password`}}"}"#;
    // A change that does not compress, so that the push is under way when the registry goes.
    let template = template(&repository, push).replace("date +%N > /unique", "head -c 8000000 /dev/urandom > /unique");
    world.write("a.json", &template);
    let outcome = world.run(&["build", "a.json"]);
    assert!(proxy.dead.load(Ordering::SeqCst), "the push reached the registry");
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("push"), "{}", outcome.stderr);
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn without_pushing_the_image_is_named_and_no_login_is_wanted() {
    let Some(registry) = registry() else { return };
    let world = World::new();
    let repository = format!("{registry}/group/project/unpushed");
    let _removed = names(&repository);
    let push = r#"{"type": "docker-push", "login": true, "login_username": "{{user `user`}}", "login_password": ""}"#;
    let text = template(&repository, push).replace("{{env `REGISTRY_USER`}}", "deployer");
    world.write("a.json", &text.replace("{{env `REGISTRY_PASSWORD`}}", ""));
    // With the push, the login that is not there would be refused before anything runs.
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    let outcome = world.succeed(&["build", "-no-push", "a.json"]);
    assert!(
        outcome.stderr.contains("not pushed: `docker-push` (a.json:8) is left out, by `-no-push`"),
        "{}",
        outcome.stderr
    );
    assert!(
        docker::image(&format!("{repository}:1.0")).is_some()
            && docker::image(&format!("{repository}:latest")).is_some()
    );
}

/// A source that pushes by itself does not, either, not even while it packs.
#[test]
fn without_pushing_an_image_without_an_engine_stays_here() {
    let Some(registry) = registry() else { return };
    let world = World::new();
    let name = format!("{registry}/group/project/unpushed-oci:1");
    world.write("a.pkr.hcl", &format!(
        "source \"oci\" \"a\" {{\n  from = \"scratch\"\n  push = [\"{name}\"]\n  labels = {{ a = \"b\" }}\n}}\nbuild {{\n  sources = [\"source.oci.a\"]\n}}\n"
    ));
    let outcome = world.succeed(&["build", "-no-push", "a.pkr.hcl"]);
    assert!(outcome.stderr.contains(&format!("not pushed: {name}, by `-no-push`")), "{}", outcome.stderr);
    let outcome = world.run(&["build", "a.pkr.hcl"]);
    assert_ne!(outcome.code, 0, "the registry wants a login, which nobody has");
    let single = world.read("a.pkr.hcl");
    world.write("a.pkr.hcl", &single.replace("push =", "platforms = [\"linux/amd64\", \"linux/arm64\"]\n  push ="));
    let outcome = world.succeed(&["build", "-no-push", "a.pkr.hcl"]);
    assert!(outcome.stderr.contains(&format!("not pushed: {name}, by `-no-push`")), "{}", outcome.stderr);
    assert_ne!(world.run(&["build", "a.pkr.hcl"]).code, 0);
}

#[test]
fn an_image_without_an_engine_is_pushed_once_its_tests_passed() {
    let Some(registry) = registry() else { return };
    if !available("root, for sandboxes", rustix::process::geteuid().is_root()) {
        return;
    }
    let world = World::new();
    let repository = format!("{registry}/group/project/tested-oci");
    let (name, latest) = (format!("{repository}:1.0.{}", std::process::id()), format!("{repository}:latest"));
    let _removed = Removed(vec![name.clone()]);
    let template = |status: u8, text: &str| {
        format!(
            r#"source "oci" "a" {{
  from           = {{ busybox = true }}
  push           = ["{latest}", "{name}"]
  login          = true
  login_server   = "{registry}"
  login_username = "deployer"
  login_password = "deploy-token"
}}
build {{
  sources = ["source.oci.a"]
  provisioner "shell" {{
    inline = ["echo {text} > /step"]
  }}
  test "it" {{
    command = "cat /step; exit {status}"
  }}
}}
"#
        )
    };
    world.write("docker-config/config.json", &{
        let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "deployer:deploy-token");
        format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#)
    });
    let config = world.path().join("docker-config");
    let pull = || {
        let mut docker = std::process::Command::new("docker");
        let output = docker.arg("--config").arg(&config).args(["pull", "--quiet", &name]).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    world.write("a.kiln.hcl", &template(1, "made"));
    assert_eq!(world.run(&["build", "a.kiln.hcl"]).code, 1);
    let (is_there, why) = pull();
    assert!(!is_there && (why.contains("not found") || why.contains("unknown")), "{why}");
    world.write("a.kiln.hcl", &template(0, "made"));
    let outcome = world.succeed(&["build", "a.kiln.hcl"]);
    let place = |text: &str| outcome.stderr.find(text).unwrap_or_else(|| panic!("{text}: {}", outcome.stderr));
    assert!(place("test it passed") < place(&format!("pushing {name}")));
    assert_eq!(pull(), (true, String::new()));
    assert_eq!(docker::run_in(&name, "cat /step"), "made\n");
    assert!(place(&format!("pushing {name}")) < place(&format!("pushing {latest}")), "`latest` comes last");
    // What it pushed is there, and means this one; another image does not take its name, nor `latest`, unless by force.
    world.succeed(&["build", "a.kiln.hcl"]);
    world.write("a.kiln.hcl", &template(0, "other"));
    let outcome = world.run(&["build", "a.kiln.hcl"]);
    assert!(
        outcome.code == 1 && outcome.stderr.contains(&format!("{name} is in its registry and means sha256:")),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("`-force` moves this one") && !outcome.stderr.contains("pushing "),
        "{}",
        outcome.stderr
    );
    let text = template(0, "other").replace("login_server", "immutable_tags = \"warn\"\n  login_server");
    world.write("a.kiln.hcl", &text);
    let outcome = world.succeed(&["build", "a.kiln.hcl"]);
    assert!(outcome.stderr.contains("it is moved (`immutable_tags = \"warn\"`)"), "{}", outcome.stderr);
    world.write("a.kiln.hcl", &template(0, "third"));
    world.succeed(&["build", "-force", "a.kiln.hcl"]);
}
