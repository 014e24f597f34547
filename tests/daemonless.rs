//! Docker sources without a daemon: the same templates, named, pushed, saved and imported by kiln alone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available};

/// A base in kiln's store, under a name that no engine has.
const BASE: &str = r#"source "oci" "base" {
  from = { busybox = true }
  tags = ["base:1"]
}

build {
  sources = ["source.oci.base"]
}
"#;

/// A world where no engine can be reached, and the base is there. `None` without busybox.
fn world() -> Option<World> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|path| PathBuf::from(path).exists());
    if !available("a static busybox", found) {
        return None;
    }
    let mut world = World::new();
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("KILN_DOCKER_AS", "oci");
    world.write("base.pkr.hcl", BASE);
    world.succeed(&["build", "base.pkr.hcl"]);
    Some(world)
}

fn template(image: &str, provisioners: &str, post_processors: &str) -> String {
    format!(
        r#"{{
  "variables": {{"password": "{{{{env `REGISTRY_PASSWORD`}}}}"}},
  "sensitive-variables": ["password"],
  "builders": [{{"type": "docker", "image": "{image}", "pull": "false", "commit": "true",
    "run_command": ["-d", "-i", "-t", "--network=bridge", "--entrypoint=/bin/sh", "--", "{{{{.Image}}}}"],
    "changes": ["CMD [\"cat\", \"/steps\"]", "LABEL made.by=kiln"]}}],
  "provisioners": [{provisioners}],
  "post-processors": [[{post_processors}]]
}}"#
    )
}

/// The artifacts of a build that succeeds.
fn artifacts(world: &World, name: &str) -> Vec<Json> {
    let outcome = world.succeed(&["build", "-json", name]);
    let mut events = outcome.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let finished = events.rfind(|event| event["event"] == "build-finished").unwrap();
    finished["artifacts"].as_array().unwrap().clone()
}

const STEP: &str = r#"{"type": "shell", "inline": ["echo one >> /steps"]}"#;

#[test]
fn a_chain_of_images_finds_its_parents_by_name_and_its_files_in_place() {
    let Some(world) = world() else { return };
    let tag = r#"{"type": "docker-tag", "repository": "group/parent", "tags": ["1", "latest"]},
      {"type": "docker-save", "path": "out/parent.tar"}, {"type": "manifest"}"#;
    world.write("parent.json", &template("base:1", STEP, tag));
    let parent = artifacts(&world, "parent.json");
    let named = parent.iter().find(|artifact| artifact["id"] == "group/parent:latest").unwrap();
    assert_eq!(named["tags"], serde_json::json!(["group/parent:1", "group/parent:latest"]));
    let saved =
        Command::new("tar").args(["-xOf", "out/parent.tar", "manifest.json"]).current_dir(world.path()).output();
    let saved: Json = serde_json::from_slice(&saved.unwrap().stdout).unwrap();
    assert_eq!(saved[0]["RepoTags"], serde_json::json!(["group/parent:1", "group/parent:latest"]));
    let manifest: Json = serde_json::from_str(&world.read("packer-manifest.json")).unwrap();
    assert_eq!(manifest["builds"][0]["builder_type"], "docker");

    let step = r#"{"type": "shell", "inline": ["echo two >> /steps", "grep -c . /steps"]}"#;
    let tag = r#"{"type": "docker-tag", "repository": "group/child"}"#;
    world.write("child.json", &template("docker.io/group/parent", step, tag));
    let outcome = world.succeed(&["build", "child.json"]);
    assert!(outcome.stderr.contains("    docker: 2\n"), "{}", outcome.stderr);
    // Made again, it is the same image, and no step runs.
    let (first, second) = (artifacts(&world, "child.json"), artifacts(&world, "child.json"));
    assert_eq!(first, second);
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn a_root_file_system_is_imported_as_an_image() {
    let Some(world) = world() else { return };
    let export = template("base:1", STEP, r#"{"type": "docker-import", "repository": "imported", "tag": "1"}"#)
        .replace(r#""commit": "true""#, r#""export_path": "root.tar""#);
    world.write("export.json", &export);
    let imported = artifacts(&world, "export.json");
    assert_eq!(imported[0]["id"], "imported:1");
    assert!(!world.path().join("root.tar").exists(), "the input is not kept");
    world.write(
        "next.json",
        &template("imported:1", r#"{"type": "shell", "inline": ["cat /steps"]}"#, r#"{"type": "manifest"}"#),
    );
    assert!(world.succeed(&["build", "next.json"]).stderr.contains("docker: one"));
}

#[test]
fn a_push_needs_no_engine_and_an_engine_runs_what_was_pushed() {
    let registry = std::env::var("KILN_TEST_REGISTRY").ok();
    if !docker::is_there() || !available("a registry (KILN_TEST_REGISTRY)", registry.is_some()) {
        return;
    }
    let (Some(mut world), Some(registry)) = (world(), registry) else { return };
    world.env("REGISTRY_PASSWORD", "deploy-token");
    let repository = format!("{registry}/group/project/daemonless");
    let post_processors = format!(
        r#"{{"type": "docker-tag", "repository": "{repository}", "tags": ["1", "2"]}},
      {{"type": "docker-push", "login": "true", "login_server": "{registry}", "login_username": "deployer", "login_password": "{{{{user `password`}}}}"}}"#
    );
    world.write("a.json", &template("base:1", STEP, &post_processors));
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let shown = &outcome.stderr;
    assert!(shown.contains(&format!("pushing {repository}:2")) && shown.contains("digest: sha256:"), "{shown}");
    assert!(shown.contains("as deployer") && !shown.contains("deploy-token"), "{shown}");

    let name = format!("{repository}:2");
    let _removed = Removed(vec![name.clone()]);
    let engine = |arguments: &[&str]| {
        let config = world.path().join("docker-config");
        let output = Command::new("docker").arg("--config").arg(config).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    engine(&["login", "-u", "deployer", "-p", "deploy-token", &registry]);
    engine(&["pull", "--quiet", &name]);
    assert_eq!(engine(&["run", "--rm", "--label", "kiln.test", "--network", "none", &name]), "one\n");
    assert_eq!(docker::image(&name).unwrap()["Config"]["Labels"], serde_json::json!({"made.by": "kiln"}));
}

#[test]
fn a_registry_that_refuses_fails_the_build_and_the_names_stay() {
    let registry = std::env::var("KILN_TEST_REGISTRY").ok();
    if !available("a registry (KILN_TEST_REGISTRY)", registry.is_some()) {
        return;
    }
    let (Some(mut world), Some(registry)) = (world(), registry) else { return };
    world.env("REGISTRY_PASSWORD", "wrong-password");
    let repository = format!("{registry}/group/project/refused");
    let post_processors = format!(
        r#"{{"type": "docker-tag", "repository": "{repository}", "tags": ["1"]}},
      {{"type": "docker-push", "login": "true", "login_username": "deployer", "login_password": "{{{{user `password`}}}}"}}"#
    );
    world.write("a.json", &template("base:1", STEP, &post_processors));
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("login_password") && !outcome.stderr.contains("wrong-password"),
        "{}",
        outcome.stderr
    );
    world.write("next.json", &template(&format!("{repository}:1"), STEP, r#"{"type": "manifest"}"#));
    world.succeed(&["build", "next.json"]);
}

#[test]
fn both_builders_make_the_same_files_and_the_same_configuration() {
    if !docker::is_there() {
        return;
    }
    let mut world = World::new();
    world.env("KILN_DOCKER_AS", "oci");
    world.write("base.pkr.hcl", &BASE.replace("busybox = true", "docker_daemon = \"debian:bookworm\""));
    world.write("base.pkr.hcl", &world.read("base.pkr.hcl").replace("base:1", "debian:bookworm"));
    world.succeed(&["build", "base.pkr.hcl"]);
    world.write("files/etc/one.conf", "one\n");
    world.write("files/two", "two\n");
    let script = [
        "groupadd --gid 440 rugged && useradd --uid 440 --gid 440 --create-home rugged",
        "install -d -o rugged -g rugged -m 2750 /var/rugged",
        "ln /etc/hostname.new /var/rugged/linked 2>/dev/null || ln /etc/debian_version /var/rugged/linked",
        "ln -s ../etc/passwd /var/rugged/symbolic && mkfifo -m 600 /var/rugged/fifo && chmod 4755 /usr/bin/yes",
        "rm -rf /usr/share/doc /etc/cron.daily && mkdir /etc/cron.daily && touch /etc/cron.daily/own",
        "rm -rf /tmp/* /var/cache/ldconfig/aux-cache",
    ];
    let provisioners = serde_json::json!([
        {"type": "file", "source": "files/", "destination": "/opt/files"},
        {"type": "shell", "inline": script},
    ]);
    let provisioners = provisioners.to_string();
    let template = template(
        "debian:bookworm",
        provisioners.trim_matches(['[', ']']),
        r#"{"type": "docker-tag", "repository": "REPOSITORY"}, {"type": "docker-save", "path": "NAME.tar"}"#,
    );
    let names = ["docker", "oci"].map(|builder| format!("kiln-test-same-{builder}-{}", std::process::id()));
    let _removed = Removed(names.iter().map(|name| format!("{name}:latest")).collect());
    for (builder, name) in ["docker", "oci"].iter().zip(&names) {
        world.write("a.json", &template.replace("REPOSITORY", name).replace("NAME", builder));
        world.succeed(&["build", &format!("--docker-as={builder}"), "a.json"]);
    }
    let loaded =
        Command::new("docker").args(["load", "--quiet", "--input", "oci.tar"]).current_dir(world.path()).output();
    assert!(loaded.unwrap().status.success());
    let list = r"find / -xdev -path /proc -prune -o -path /sys -prune -o -path /dev -prune -o -path /etc/resolv.conf -o -path /etc/hosts -o -path /etc/hostname -o -type d -printf '%y %#m %U %G %p\n' -o -printf '%y %#m %U %G %n %s %l %p\n' | LC_ALL=C sort; find / -xdev -type f -not -path '/etc/host*' -not -path /etc/resolv.conf -print0 | LC_ALL=C sort -z | xargs -0 sha256sum";
    let [one, other] = names.each_ref().map(|name| docker::run_in(name, list));
    assert!(one.lines().count() > 1000);
    let lines = |text: &'_ str| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
    let differences: Vec<String> = lines(&one).symmetric_difference(&lines(&other)).cloned().collect();
    assert_eq!(differences, Vec::<String>::new());
    let config = |name: &str| {
        let mut config = docker::image(name).unwrap()["Config"].clone();
        for label in ["kiln.run", "kiln.build", "org.opencontainers.image.revision"] {
            config["Labels"].as_object_mut().unwrap().remove(label);
        }
        [
            "Cmd",
            "Entrypoint",
            "Env",
            "ExposedPorts",
            "Labels",
            "User",
            "Volumes",
            "WorkingDir",
            "Healthcheck",
            "OnBuild",
            "StopSignal",
        ]
        .map(|field| match &config[field] {
            // The engine says nothing in two ways.
            Json::Array(list) if list.is_empty() => Json::Null,
            value => value.clone(),
        })
    };
    assert_eq!(config(&names[0]), config(&names[1]));
}

#[test]
fn ctrl_c_at_a_terminal_ends_the_step_and_leaves_the_sandbox_to_kiln() {
    let Some(world) = world() else { return };
    let step = r#"provisioner "shell" {
    inline = ["echo running", "sleep 300"]
  }"#;
    let template =
        BASE.replace("  sources = [\"source.oci.base\"]\n", &format!("  sources = [\"source.oci.base\"]\n  {step}\n"));
    world.write("slow.pkr.hcl", &template.replace("base:1", "slow:1"));
    let mut running = world.start(&["build", "-json", "slow.pkr.hcl"]);
    running.wait_for("output", |event| event["event"] == "output");
    running.ctrl_c();
    let mut told = String::new();
    running.wait_for("the end", |event| {
        told += &format!("{event}\n");
        event["event"] == "run-finished"
    });
    assert!(told.contains(r#""outcome":"cancelled""#), "{told}");
    assert!(!told.contains("cannot remove") && !told.contains("killed"), "{told}");
    assert_eq!(running.end().0, 130);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}
