//! `kiln refresh` with a real engine and Debian's docker-compose; DDEV, which no mirror has, is played by a script.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::Command;

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available, stable};

/// A project of its own, whose containers, images and volumes are gone when the test ends.
struct Shop {
    world: World,
    /// The project, and the repository of its image.
    name: String,
    _removed: Removed,
}

impl Shop {
    fn open() -> Option<Shop> {
        let compose = Command::new("docker-compose").arg("version").output();
        let is_there = compose.is_ok_and(|output| output.status.success());
        if !docker::is_there() || !available("docker-compose", is_there) {
            return None;
        }
        let name = format!("kilnshop{:x}", RandomState::new().build_hasher().finish());
        let world = World::new();
        let _removed = Removed(vec![format!("{name}/app:1"), format!("{name}/derived:1")]);
        let shop = Shop { world, name, _removed };
        shop.template("docker", "one");
        Some(shop)
    }

    /// A template whose image says this text.
    fn template(&self, kind: &str, text: &str) {
        let source = match kind {
            "docker" => "image = \"debian:bookworm\"\n  pull = false\n  commit = true\n  kiln_labels = false",
            _ => "from = { docker_daemon = \"debian:bookworm\" }",
        };
        let template = format!(
            r#"source "{kind}" "app" {{
  {source}
  changes = ["CMD [\"sleep\", \"3600\"]", "VOLUME /var/lib/shop"]
}}
source "null" "unwanted" {{
  communicator = "none"
}}
build {{
  sources = ["source.{kind}.app"]
  provisioner "shell" {{
    inline = ["mkdir -p /var/lib/shop", "echo {text} >/said"]
  }}
  post-processors {{
    post-processor "docker-tag" {{
      repository = "{}/app"
      tags       = ["1"]
    }}
    post-processor "docker-push" {{}}
  }}
}}
build {{
  name    = "unwanted"
  sources = ["source.null.unwanted"]
  provisioner "shell-local" {{
    inline = ["touch {}/unwanted"]
  }}
}}
"#,
            self.name,
            self.world.path().display()
        );
        self.world.write("images/app.pkr.hcl", &template);
    }

    fn compose(&self, text: &str) {
        self.world.write("compose.yaml", &format!("name: {0}\n{1}", self.name, text.replace("SHOP", &self.name)));
        // The old tool asks for a version, and knows no name in the file.
        self.world.write(".env", &format!("COMPOSE_PROJECT_NAME={}\n", self.name));
        let old = format!("version: '3.8'\n{}", text.replace("SHOP", &self.name));
        self.world.write("compose.yaml", &old);
    }

    /// The container of a service that runs.
    fn container(&self, service: &str) -> Option<Json> {
        let running = docker::containers_with(&format!("com.docker.compose.project={}", self.name));
        let all = running.iter().filter_map(|id| docker::container(id));
        all.filter(|one| one["State"]["Running"] == true)
            .find(|one| one["Config"]["Labels"]["com.docker.compose.service"] == service)
    }

    fn said(&self, service: &str) -> String {
        let id = self.container(service).unwrap()["Id"].as_str().unwrap().to_owned();
        let output = Command::new("docker").args(["exec", &id, "cat", "/said"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn stable(&self, text: &str) -> String {
        stable(text, &self.world).replace(&self.name, "[shop]")
    }

    fn docker_compose(&self, arguments: &[&str]) {
        let output = Command::new("docker-compose").args(arguments).current_dir(self.world.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let mut down = Command::new("docker-compose");
        let _ = down.args(["down", "--volumes", "--timeout", "0"]).current_dir(self.world.path()).output();
    }
}

const TWO: &str = "services:\n  app:\n    image: docker.io/${SHOP_GROUP:-SHOP}/app:1\n    stop_grace_period: 0s\n    volumes: [data:/var/lib]\n    platform: linux/riscv64\n  other:\n    image: debian:bookworm\n    command: sleep 3600\n    stop_grace_period: 0s\nvolumes:\n  data:\n";

fn two() -> String {
    // The old tool cannot run another platform's image.
    TWO.replace("    platform: linux/riscv64\n", "")
}

#[test]
fn a_service_follows_its_image_and_the_others_are_left_alone() {
    let Some(shop) = Shop::open() else { return };
    shop.compose(&two());
    let outcome = shop.world.succeed(&["refresh"]);
    assert!(
        outcome.stderr.contains("app: does not run; it takes the new image when it is started"),
        "{}",
        outcome.stderr
    );
    assert!(shop.container("app").is_none() && outcome.stdout.is_empty());
    assert!(!shop.world.path().join("unwanted").exists(), "a build that no service uses ran");

    shop.docker_compose(&["up", "-d"]);
    let other = shop.container("other").unwrap();
    assert_eq!(shop.said("app"), "one");
    let before = shop.container("app").unwrap();
    let outcome = shop.world.succeed(&["refresh"]);
    assert!(outcome.stderr.contains("app: runs with this very image; it is not restarted"), "{}", outcome.stderr);
    assert_eq!(shop.container("app").unwrap()["Id"], before["Id"]);

    shop.template("docker", "two");
    let outcome = shop.world.succeed(&["refresh", "-json"]);
    assert_eq!(shop.said("app"), "two", "{}", outcome.stderr);
    assert_eq!(shop.container("other").unwrap()["Id"], other["Id"], "a service that was not concerned was restarted");
    let events: Vec<Json> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let service = events.iter().find(|event| event["event"] == "service").unwrap();
    assert_eq!((&service["service"], &service["state"]), (&"app".into(), &"restarted".into()));
    let warning = |event: &&Json| event["event"] == "warning" && event["text"].as_str().unwrap().contains("hides");
    assert!(events.iter().any(|event| warning(&event)), "{}", outcome.stdout);
    assert!(shop.world.leftovers().is_empty());
}

#[test]
fn what_a_person_sees() {
    let Some(shop) = Shop::open() else { return };
    shop.compose(&two());
    shop.docker_compose(&["up", "-d", "other"]);
    let outcome = shop.world.succeed(&["refresh", "-start"]);
    let text = shop.stable(&outcome.stderr);
    // What docker-compose says is its own affair.
    let own: Vec<&str> = text.lines().filter(|line| !line.contains(" ... ") && !line.starts_with("Creating")).collect();
    insta::assert_snapshot!("what_a_person_sees_of_a_refresh", own.join("\n"));
    assert_eq!(shop.said("app"), "one");
}

#[test]
fn an_image_without_an_engine_is_loaded_for_it() {
    let Some(shop) = Shop::open() else { return };
    shop.compose(&two());
    shop.template("oci", "without");
    shop.world.succeed(&["refresh", "-start"]);
    assert_eq!(shop.said("app"), "without");
    let outcome = shop.world.succeed(&["refresh"]);
    assert!(outcome.stderr.contains("it is not restarted"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the Docker engine has the image already"), "{}", outcome.stderr);
}

#[test]
fn a_service_with_an_image_of_its_own_is_built_anew() {
    let Some(shop) = Shop::open() else { return };
    shop.world
        .write("derived/Dockerfile", &format!("ARG BASE={}/app:1\nFROM ${{BASE}}\nRUN cp /said /copied\n", shop.name));
    let text = "services:\n  app:\n    build: ./derived\n    image: SHOP/derived:1\n    stop_grace_period: 0s\n";
    shop.compose(text);
    shop.world.succeed(&["refresh", "-start"]);
    assert_eq!(shop.said("app"), "one");
    let outcome = shop.world.succeed(&["refresh"]);
    assert!(outcome.stderr.contains("it is not restarted"), "{}", outcome.stderr);
    shop.template("docker", "two");
    shop.world.succeed(&["refresh"]);
    assert_eq!(shop.said("app"), "two");
}

#[test]
fn a_failed_build_leaves_its_services_alone() {
    let Some(shop) = Shop::open() else { return };
    shop.compose(&two());
    shop.world.succeed(&["refresh", "-start"]);
    let before = shop.container("app").unwrap();
    shop.template("docker", "two; exit 3");
    let outcome = shop.world.run(&["refresh"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("app: left as it is, as docker.app failed"), "{}", outcome.stderr);
    assert_eq!(shop.container("app").unwrap()["Id"], before["Id"]);
}

/// DDEV as far as kiln sees it: its calls are recorded.
fn with_ddev(shop: &mut Shop) -> std::path::PathBuf {
    let calls = shop.world.path().join("calls");
    let script = format!("#!/bin/sh\necho \"$PWD: ddev $*\" >>{}\n", calls.display());
    let path = shop.world.write("bin/ddev", &script);
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let own = shop.world.path().join("bin").display().to_string();
    shop.world.env("PATH", &format!("{own}:{}", std::env::var("PATH").unwrap()));
    calls
}

#[test]
fn ddev_restarts_a_project_whose_service_uses_the_image() {
    let Some(mut shop) = Shop::open() else { return };
    let calls = with_ddev(&mut shop);
    // What `ddev start` leaves running, made by compose from the same file.
    let text = format!(
        "services:\n  app:\n    image: {0}/app:1\n    command: sleep 3600\n    stop_grace_period: 0s\n",
        shop.name
    );
    shop.world.write(".ddev/docker-compose.app.yaml", &text);
    shop.world.write(".ddev/config.yaml", &format!("name: {}\n", shop.name));
    let outcome = shop.world.succeed(&["refresh"]);
    assert!(outcome.stderr.contains("app: does not run"), "{}", outcome.stderr);
    shop.world.write(
        ".env",
        &format!("COMPOSE_PROJECT_NAME=ddev-{0}\nCOMPOSE_FILE=.ddev/docker-compose.app.yaml\n", shop.name),
    );
    shop.world.write(".ddev/docker-compose.app.yaml", &format!("version: '3.8'\n{text}"));
    shop.docker_compose(&["up", "-d"]);
    std::fs::remove_file(shop.world.path().join(".env")).unwrap();
    shop.template("docker", "two");
    let outcome = shop.world.succeed(&["refresh"]);
    let recorded = std::fs::read_to_string(&calls).unwrap();
    let restarts: Vec<&str> = recorded.lines().filter(|line| line.ends_with("ddev restart")).collect();
    assert_eq!(
        restarts,
        [format!("{}: ddev restart", shop.world.path().canonicalize().unwrap().display())],
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("`ddev utility rebuild -s app`"), "{}", outcome.stderr);
    // For the end of the test.
    shop.world.write(
        ".env",
        &format!("COMPOSE_PROJECT_NAME=ddev-{0}\nCOMPOSE_FILE=.ddev/docker-compose.app.yaml\n", shop.name),
    );
}

#[test]
fn without_the_tool_the_command_is_told() {
    let Some(mut shop) = Shop::open() else { return };
    shop.compose(&two());
    shop.world.succeed(&["refresh", "-start"]);
    shop.template("docker", "two");
    // A PATH with what kiln itself needs, and no compose.
    std::fs::create_dir(shop.world.path().join("empty")).unwrap();
    let empty = shop.world.path().join("empty").display().to_string();
    shop.world.env("PATH", &empty);
    let outcome = shop.world.succeed(&["refresh"]);
    let hint =
        "app: neither `docker compose` nor `docker-compose` is here; to restart: docker compose up -d --no-deps app";
    assert!(outcome.stderr.contains(hint), "{}", outcome.stderr);
    let outcome = shop.world.succeed(&["refresh", "-print"]);
    assert_eq!(outcome.stdout, "docker compose up -d --no-deps app\n");
}

#[test]
fn published_images_are_pulled_instead() {
    let (Some(shop), Ok(registry)) = (Shop::open(), std::env::var("KILN_TEST_PASSWORD_REGISTRY")) else { return };
    let name = format!("{registry}/{}/app", shop.name);
    let _removed = Removed(vec![format!("{name}:1")]);
    let template = shop.world.read("images/app.pkr.hcl").replace(&format!("{}/app", shop.name), &name);
    shop.world.write("images/app.pkr.hcl", &template);
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, "kiln:htpasswd-password");
    shop.world.write(".home/.docker/config.json", &format!(r#"{{"auths": {{"{registry}": {{"auth": "{auth}"}}}}}}"#));
    shop.compose(&two().replace("docker.io/${SHOP_GROUP:-SHOP}/app", &name));
    shop.world.succeed(&["build", "images"]);
    let id = docker::image(&format!("{name}:1")).unwrap()["Id"].clone();
    drop(Removed(vec![format!("{name}:1")]));
    shop.world.succeed(&["refresh", "-pull", "-start"]);
    assert_eq!(docker::image(&format!("{name}:1")).unwrap()["Id"], id);
    assert_eq!(shop.said("app"), "one");
}

#[test]
fn mistakes_and_near_misses() {
    let world = World::new();
    let outcome = world.run(&["refresh"]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    world.write("compose.yaml", "services:\n  app: {image: 'group/app:${TAG:?which one}'}\n");
    let outcome = world.run(&["refresh"]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    insta::assert_snapshot!("a_mistake_in_a_compose_file", stable(&outcome.stderr, &world));
    world.write("compose.yaml", "services:\n  app: {image: 'group/app:2'}\n");
    let outcome = world.run(&["refresh"]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("there is no template in ."), "{}", outcome.stderr);
    let template = "source \"null\" \"a\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"null.a\"]\n  post-processor \"docker-tag\" {\n    repository = \"group/app\"\n    tags = [\"1\"]\n  }\n}\n";
    world.write("app.pkr.hcl", template);
    let outcome = world.succeed(&["refresh"]);
    insta::assert_snapshot!("a_service_that_nearly_uses_an_image", stable(&outcome.stderr, &world));
    assert!(outcome.stdout.is_empty());
}
