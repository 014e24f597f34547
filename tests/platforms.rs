//! Images for several platforms: built side by side, by emulation where they are foreign, and joined to one index.

use std::process::Command;

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available};

/// The base image for arm64 that `make test` provides where the kernel runs its programs.
const FOREIGN: &str = "kiln-test-arm64:bookworm";

fn registry() -> Option<String> {
    let registry = std::env::var("KILN_TEST_REGISTRY").ok();
    available("a registry (KILN_TEST_REGISTRY)", registry.is_some()).then_some(registry).flatten()
}

/// An engine with images for both, and an emulator.
fn can_emulate() -> bool {
    let emulates = std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-aarch64").exists();
    docker::is_there()
        && available(
            "an emulator of arm64 (binfmt_misc) and the image kiln-test-arm64",
            emulates && docker::image(FOREIGN).is_some(),
        )
}

fn unique(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

/// What a registry has, in another program's eyes.
fn skopeo(arguments: &[&str]) -> Json {
    let mut command = Command::new("skopeo");
    command.args(["inspect", "--tls-verify=false", "--creds", "deployer:deploy-token"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn platforms(index: &Json) -> Vec<String> {
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let of = |entry: &Json| format!("{}/{}", text(&entry["platform"]["os"]), text(&entry["platform"]["architecture"]));
    index["manifests"].as_array().unwrap().iter().map(of).collect()
}

fn world() -> World {
    let mut world = World::new();
    world.env("REGISTRY_USER", "deployer").env("REGISTRY_PASSWORD", "deploy-token");
    world
}

const PUSH: &str = r#"
    post-processor "docker-push" {
      login          = true
      login_username = env_user
      login_password = env_password
    }
"#;

fn push() -> String {
    PUSH.replace("env_user", "\"deployer\"").replace("env_password", "\"deploy-token\"")
}

/// Nothing foreign runs here: the images hold nothing.
#[test]
fn an_index_of_the_store_is_pushed_and_written() {
    let Some(registry) = registry() else { return };
    let world = world();
    let repository = format!("{registry}/group/project/{}", unique("index"));
    world.write(
        "a.pkr.hcl",
        &format!(
            r#"
source "oci" "app" {{
  from       = "scratch"
  platforms  = ["linux/amd64", "linux/arm64", "linux/arm/v7"]
  oci_layout = "out"
}}
source "oci" "child" {{
  from      = artifact.app.image
  platforms = ["linux/arm64"]
  labels    = {{ index = "two" }}
}}
build {{
  sources = ["oci.app"]
  post-processors {{
    post-processor "docker-tag" {{
      repository = "{repository}"
      tags       = ["1"]
    }}
    {}
  }}
}}
build {{ sources = ["oci.child"] }}
"#,
            push()
        ),
    );
    let outcome = world.succeed(&["build", "-json", "a.pkr.hcl"]);
    let raw = skopeo(&["--raw", &format!("docker://{repository}:1")]);
    assert_eq!(raw["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(platforms(&raw), ["linux/amd64", "linux/arm64", "linux/arm"]);
    assert_eq!(raw["manifests"][2]["platform"]["variant"], "v7");
    let one = skopeo(&["--override-arch", "arm64", &format!("docker://{repository}:1")]);
    assert_eq!(one["Architecture"], "arm64");
    assert!(
        outcome.stdout.contains(
            r#""event":"build-started","builder":"oci","joins":["linux/amd64","linux/arm64","linux/arm/v7"]"#
        ),
        "{}",
        outcome.stdout
    );
    // The same in a layout, all of it.
    let listed: Json = serde_json::from_str(&world.read("out/index.json")).unwrap();
    let digest = listed["manifests"][0]["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    assert_eq!(serde_json::from_str::<Json>(&world.read(&format!("out/blobs/sha256/{digest}"))).unwrap(), raw);
    for entry in raw["manifests"].as_array().unwrap() {
        world.read(&format!("out/blobs/sha256/{}", entry["digest"].as_str().unwrap().trim_start_matches("sha256:")));
    }
    // The child is built upon the image for its own platform.
    let events: Vec<Json> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finished = |build: &str| {
        events.iter().find(|event| event["event"] == "build-finished" && event["build"] == build).unwrap().clone()
    };
    let index = finished("oci.app");
    assert_eq!(index["artifacts"][0]["platforms"].as_object().unwrap().len(), 3);
    assert_eq!(finished("oci.child@linux/arm64")["outcome"], "succeeded");
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

/// What is published is an index: neither it nor its images are built again, and whoever is built upon it gets it.
#[test]
fn an_index_is_published_once() {
    let Some(registry) = registry() else { return };
    let mut world = world();
    world.env("CI_REGISTRY", &registry).env("CI_REGISTRY_USER", "deployer").env("CI_REGISTRY_PASSWORD", "deploy-token");
    let repository = format!("{registry}/group/project/{}", unique("once"));
    let template = format!(
        r#"
variable "label" {{
  default = "one"
}}
source "oci" "app" {{
  from      = "scratch"
  platforms = ["linux/amd64", "linux/arm64"]
  labels    = {{ content = var.label }}
}}
source "oci" "child" {{
  from      = artifact.app.image
  platforms = ["linux/arm64"]
  labels    = {{ all = join(",", keys(artifact.app.images)) }}
}}
build {{
  sources = ["oci.app"]
  post-processors {{
    post-processor "docker-tag" {{
      repository = "{repository}"
      tags       = ["1.0.0"]
    }}
    post-processor "docker-push" {{
      skip_if_exists = true
    }}
  }}
}}
build {{ sources = ["oci.child"] }}
"#
    );
    world.write("a.pkr.hcl", &template);
    let build = |arguments: &[&str], code: i32| -> Vec<Json> {
        let outcome = world.run(&[&["build", "-json"], arguments, &["a.pkr.hcl"]].concat());
        assert_eq!(outcome.code, code, "{}{}", outcome.stdout, outcome.stderr);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let outcome_of = |events: &[Json], build: &str| -> Json {
        let mut ends = events.iter().filter(|event| event["event"] == "build-finished");
        ends.find(|event| event["build"] == build).unwrap()["outcome"].clone()
    };
    assert_eq!(outcome_of(&build(&[], 0), "oci.app"), "succeeded");
    let raw = skopeo(&["--raw", &format!("docker://{repository}:1.0.0")]);
    let again = build(&["-var=label=two"], 0);
    for name in ["oci.app", "oci.app@linux/amd64", "oci.app@linux/arm64"] {
        assert_eq!(outcome_of(&again, name), "skipped", "{name}");
    }
    assert_eq!(outcome_of(&again, "oci.child@linux/arm64"), "succeeded");
    assert_eq!(skopeo(&["--raw", &format!("docker://{repository}:1.0.0")]), raw);
    // A tag that looks fixed is not moved to another index, but with force.
    let unasked = template.replace("skip_if_exists = true", "");
    world.write("a.pkr.hcl", &unasked);
    let refused = build(&["-var=label=two"], 1);
    assert_eq!(outcome_of(&refused, "oci.app"), "failed");
    assert_eq!(skopeo(&["--raw", &format!("docker://{repository}:1.0.0")]), raw);
    build(&["-force", "-var=label=two"], 0);
    assert_ne!(skopeo(&["--raw", &format!("docker://{repository}:1.0.0")]), raw);
}

#[test]
fn foreign_steps_run_and_both_builders_push_one_index() {
    let Some(registry) = registry().filter(|_| can_emulate()) else { return };
    let world = world();
    let (docker_name, oci_name) =
        (format!("{registry}/group/project/{}", unique("d")), format!("{registry}/group/project/{}", unique("o")));
    let base = format!("source.platform == \"linux/arm64\" ? \"{FOREIGN}\" : \"{}\"", docker::BASE);
    let template = format!(
        r#"
source "docker" "app" {{
  image     = {base}
  pull      = false
  commit    = true
  platforms = ["linux/amd64", "linux/arm64"]
}}
source "oci" "app" {{
  from      = {{ docker_daemon = {base} }}
  platforms = ["linux/amd64", "linux/arm64"]
}}
build {{
  sources = ["docker.app", "oci.app"]
  provisioner "shell" {{ inline = ["uname -m > /machine", "echo ${{source.platform}} >> /machine"] }}
  post-processors {{
    post-processor "docker-tag" {{
      repository = source.type == "docker" ? "{docker_name}" : "{oci_name}"
      tags       = ["1"]
    }}
    {}
  }}
}}
"#,
        push()
    );
    world.write("a.pkr.hcl", &template);
    let outcome = world.succeed(&["build", "-json", "a.pkr.hcl"]);
    let _removed = Removed([docker::built_images(&outcome.stdout), vec![format!("{docker_name}:1")]].concat());
    // Of the engine's images, the one that runs here has the name.
    assert_eq!(docker::image(&format!("{docker_name}:1")).unwrap()["Architecture"], "amd64");
    for name in [&docker_name, &oci_name] {
        let reference = format!("docker://{name}:1");
        assert_eq!(platforms(&skopeo(&["--raw", &reference])), ["linux/amd64", "linux/arm64"], "{name}");
        for (architecture, machine) in [("amd64", "x86_64"), ("arm64", "aarch64")] {
            let config = skopeo(&["--override-arch", architecture, "--config", &reference]);
            assert_eq!(config["architecture"], architecture, "{name}");
            let layout = world.path().join(format!("{architecture}-{}", name.len()));
            let copied = Command::new("skopeo")
                .args(["copy", "--quiet", "--src-tls-verify=false", "--src-creds", "deployer:deploy-token"])
                .args(["--override-arch", architecture, &reference, &format!("oci:{}:x", layout.display())])
                .status()
                .unwrap();
            assert!(copied.success());
            assert_eq!(machine_of(&layout), format!("{machine}\nlinux/{architecture}\n"), "{name}");
            std::fs::remove_dir_all(&layout).unwrap();
        }
    }
}

/// `/machine` in the topmost layer of the only image of a layout.
fn machine_of(layout: &std::path::Path) -> String {
    let blob = |digest: &Json| layout.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"));
    let read = |path: std::path::PathBuf| -> Json { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(layout.join("index.json"));
    let manifest = read(blob(&index["manifests"][0]["digest"]));
    let top = blob(&manifest["layers"].as_array().unwrap().last().unwrap()["digest"]);
    let output = Command::new("tar").args(["-xOf"]).arg(top).arg("machine").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Each engine builds for its own platform: the second one stands for a machine of another kind.
#[test]
fn each_platform_is_built_at_its_own_engine() {
    let Some(registry) = registry().filter(|_| can_emulate()) else { return };
    let Some(other) = docker::another("KILN_TEST_NEW_ENGINE") else { return };
    let world = world();
    let name = unique("kiln-test-hosts");
    let (docker_name, file_name) =
        (format!("{registry}/group/project/{name}-d"), format!("{registry}/group/project/{name}-f"));
    world.write(
        "Dockerfile",
        &format!("ARG BASE={}\nFROM ${{BASE}}\nLABEL kiln.test={name}\nCMD [\"serve\"]\n", docker::BASE),
    );
    let base = format!("source.platform == \"linux/arm64\" ? \"{FOREIGN}\" : \"{}\"", docker::BASE);
    let hosts = format!(
        "platforms = [\"linux/amd64\", \"linux/arm64\"]\n  platform_hosts = {{ \"linux/arm64\" = \"{other}\" }}"
    );
    world.write(
        "a.pkr.hcl",
        &format!(
            r#"
source "docker" "app" {{
  image     = {base}
  pull      = false
  commit    = true
  changes   = ["LABEL kiln.test={name}"]
  {hosts}
}}
source "dockerfile" "app" {{
  build_args = {{ BASE = {base} }}
  {hosts}
}}
build {{
  sources = ["docker.app"]
  provisioner "shell" {{ inline = ["uname -m > /machine"] }}
  post-processors {{
    post-processor "docker-tag" {{
      repository = "{docker_name}"
      tags       = ["1"]
    }}
    {push}
  }}
}}
build {{
  sources = ["dockerfile.app"]
  post-processors {{
    post-processor "docker-tag" {{
      repository = "{file_name}"
      tags       = ["1"]
    }}
    {push}
  }}
}}
"#,
            push = push()
        ),
    );
    let outcome = world.succeed(&["build", "-json", "a.pkr.hcl"]);
    let _removed =
        Removed([docker::built_images(&outcome.stdout), docker::images_with(&format!("kiln.test={name}"))].concat());
    for name in [&docker_name, &file_name] {
        let reference = format!("docker://{name}:1");
        assert_eq!(platforms(&skopeo(&["--raw", &reference])), ["linux/amd64", "linux/arm64"], "{name}");
        let config = skopeo(&["--override-arch", "arm64", "--config", &reference]);
        assert_eq!(config["architecture"], "arm64", "{name}");
    }
    // Here and there are one image for each name: none was made at the wrong engine.
    let label = format!("kiln.test={name}");
    let architectures = |ids: &[String], at: &str| -> Vec<Json> {
        ids.iter().map(|id| docker::image_at(at, id).unwrap()["Architecture"].clone()).collect()
    };
    let there = docker::images_at(&other, &label);
    assert_eq!(architectures(&there, &other), ["arm64", "arm64"]);
    let here = format!("unix://{}", docker::socket());
    assert_eq!(architectures(&docker::images_with(&label), &here), ["amd64", "amd64"]);
    there.iter().for_each(|id| docker::remove_at(&other, id));
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn engines_of_platforms_that_are_none_are_told_at_their_places() {
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        r#"
source "docker" "app" {
  image          = "debian"
  commit         = true
  platforms      = ["linux/arm64"]
  platform_hosts = {
    "linux/arm64" = "carrier-pigeon://arm"
    "linux/amd64" = "tcp://amd:2375"
    "arm46"       = "tcp://arm:2375"
  }
}
build { sources = ["docker.app"] }
"#,
    );
    let told = world.run(&["validate", "a.pkr.hcl"]).stderr;
    for expected in [
        "`platform_hosts` has an engine for linux/amd64",
        "a.pkr.hcl:8:5",
        "`carrier-pigeon://` is not supported",
        "a.pkr.hcl:7:",
        "`arm46` is no platform that kiln knows",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn without_an_emulator_nothing_is_built() {
    let world = World::new();
    // No kernel has one for it.
    world.write(
        "a.pkr.hcl",
        r#"
source "oci" "app" {
  from      = { busybox = true }
  platforms = ["linux/amd64", "linux/s390x"]
}
build {
  sources = ["oci.app"]
  provisioner "shell" { inline = ["true"] }
}
"#,
    );
    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        return;
    }
    let outcome = world.run(&["build", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("`oci.app@linux/s390x` is for linux/s390x, and this host has no emulator"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("qemu-user-static"));
    assert!(!outcome.stderr.contains("==>"), "nothing began: {}", outcome.stderr);
}

#[test]
fn what_is_published_needs_no_emulator() {
    let Some(registry) = registry() else { return };
    if std::path::Path::new("/proc/sys/fs/binfmt_misc/qemu-s390x").exists() {
        return;
    }
    let mut world = world();
    world.env("CI_REGISTRY", &registry).env("CI_REGISTRY_USER", "deployer").env("CI_REGISTRY_PASSWORD", "deploy-token");
    let template = |step: &str| {
        format!(
            r#"
source "oci" "app" {{
  from      = "scratch"
  platforms = ["linux/s390x"]
}}
build {{
  sources = ["oci.app"]
  {step}
  post-processors {{
    post-processor "docker-tag" {{
      repository = "{registry}/group/project/{}"
      tags       = ["1.0.0"]
    }}
    post-processor "docker-push" {{
      skip_if_exists = true
    }}
  }}
}}
"#,
            unique("foreign")
        )
    };
    world.write("a.pkr.hcl", &template(""));
    let said = world.succeed(&["build", "a.pkr.hcl"]).stderr;
    assert!(said.contains("==> oci.app: making an index of the image for linux/s390x\n"), "{said}");
    world.write("a.pkr.hcl", &template(r#"provisioner "shell" { inline = ["true"] }"#));
    let said = world.succeed(&["build", "a.pkr.hcl"]).stderr;
    assert!(said.contains("==> oci.app: skipped: "), "{said}");
    let outcome = world.run(&["build", "-force", "a.pkr.hcl"]);
    assert!(outcome.code == 4 && outcome.stderr.contains("no emulator"), "{}", outcome.stderr);
}
