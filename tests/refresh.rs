//! `kiln refresh` with a real engine, Debian's docker-compose, and compose as a plug-in of docker; DDEV, which no mirror has, is
//! played by a script.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available, stable};

/// Compose 2 as `scripts/install-dependencies.sh` unpacks it.
fn plugin() -> Option<PathBuf> {
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(usual)?;
    Some(cache.join("kiln-test-compose/docker-compose")).filter(|path| path.is_file())
}

/// A project of its own, whose containers, images and volumes are gone when the test ends.
struct Shop {
    world: World,
    /// The project, and the repository of its image.
    name: String,
    /// What runs it.
    tool: &'static [&'static str],
    _removed: Removed,
}

impl Shop {
    /// Run by the old tool.
    fn open() -> Option<Shop> {
        let compose = Command::new("docker-compose").arg("version").output();
        let is_there = compose.is_ok_and(|output| output.status.success());
        (docker::is_there() && available("docker-compose", is_there)).then(|| Shop::run_by(&["docker-compose"]))
    }

    /// Run by the plug-in, which only its user has.
    fn with_plugin() -> Option<Shop> {
        let plugin = plugin();
        if !docker::is_there() || !available("compose as a plug-in of docker", plugin.is_some()) {
            return None;
        }
        let shop = Shop::run_by(&["docker", "compose"]);
        let plugins = shop.world.path().join(".home/.docker/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        std::os::unix::fs::symlink(plugin?, plugins.join("docker-compose")).unwrap();
        Some(shop)
    }

    /// One run by each.
    fn each() -> Vec<Shop> {
        [Shop::open(), Shop::with_plugin()].into_iter().flatten().collect()
    }

    fn run_by(tool: &'static [&'static str]) -> Shop {
        let name = format!("kilnshop{:x}", RandomState::new().build_hasher().finish());
        let world = World::new();
        let _removed = Removed(vec![format!("{name}/app:1"), format!("{name}/derived:1")]);
        let shop = Shop { world, name, tool, _removed };
        shop.template("docker", "one");
        shop
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
    inline = ["mkdir -p /var/lib/shop", "echo {text} >/said", "cp /said /var/lib/shop/said"]
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
        // The old tool asks for a version, and knows no name in the file.
        let version = if self.tool.len() == 1 { "version: '3.8'\n" } else { "" };
        self.world.write("compose.yaml", &format!("{version}{}", text.replace("SHOP", &self.name)));
        self.world.write(".env", &format!("COMPOSE_PROJECT_NAME={}\n", self.name));
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
        let output = self.compose_command(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn compose_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.tool[0]);
        command.args(&self.tool[1..]).args(arguments).current_dir(self.world.path());
        command.env("HOME", self.world.path().join(".home"));
        command
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // A service whose profile is off would stay.
        let mut down = self.compose_command(&["down", "--volumes", "--remove-orphans", "--timeout", "0"]);
        let _ = down.env("COMPOSE_PROFILES", "tools").output();
    }
}

const TWO: &str = "services:\n  app:\n    image: docker.io/${SHOP_GROUP:-SHOP}/app:1\n    stop_grace_period: 0s\n    volumes: [data:/var/lib]\n    platform: linux/riscv64\n  other:\n    image: debian:bookworm\n    command: sleep 3600\n    stop_grace_period: 0s\nvolumes:\n  data:\n";

fn two() -> String {
    // The old tool cannot run another platform's image.
    TWO.replace("    platform: linux/riscv64\n", "")
}

#[test]
fn a_service_follows_its_image_and_the_others_are_left_alone() {
    Shop::each().iter().for_each(follow);
}

fn follow(shop: &Shop) {
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
    let Some(shop) = Shop::with_plugin() else { return };
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
    Shop::each().iter().for_each(built_upon);
}

fn built_upon(shop: &Shop) {
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
fn volumes_are_told_that_hide_what_was_built() {
    for shop in Shop::each() {
        let template = shop.world.read("images/app.pkr.hcl");
        let content = |text: &str| {
            let step = format!(
                "mkdir -p /srv/data /srv/same /srv/anon && echo same >/srv/same/x && echo {text} | tee /srv/data/said >/srv/anon/said"
            );
            let mut lines: Vec<String> = template.lines().map(str::to_owned).collect();
            let inline = lines.iter_mut().find(|line| line.contains("inline = [\"mkdir")).unwrap();
            *inline = format!("    inline = [\"{step}\"]");
            shop.world.write("images/app.pkr.hcl", &lines.join("\n"));
        };
        let service = "services:\n  app:\n    image: SHOP/app:1\n    stop_grace_period: 0s\n    volumes:\n      - data:/srv/data\n      - same:/srv/same\n      - /srv/anon\nvolumes:\n  data:\n  same:\n";
        let said = |path: &str| {
            let id = shop.container("app").unwrap()["Id"].as_str().unwrap().to_owned();
            let output = Command::new("docker").args(["exec", &id, "cat", path]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        shop.compose(service);
        content("one");
        let outcome = shop.world.succeed(&["refresh", "-start"]);
        assert!(!outcome.stderr.contains("hides"), "nothing was there before: {}", outcome.stderr);

        content("two");
        let outcome = shop.world.succeed(&["refresh"]);
        assert_eq!((&*said("/srv/data/said"), &*said("/srv/anon/said")), ("one", "one"), "so compose has it");
        let named = format!("app: the volume {}_data at /srv/data hides what the new image has there;", shop.name);
        assert!(outcome.stderr.contains(&named), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("the anonymous volume at /srv/anon goes from"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("/srv/same"), "{}", outcome.stderr);

        content("three");
        let outcome = shop.world.succeed(&["refresh", "-renew-anon-volumes"]);
        assert_eq!((&*said("/srv/data/said"), &*said("/srv/anon/said")), ("one", "three"));
        assert!(outcome.stderr.contains(&named) && !outcome.stderr.contains("/srv/anon"), "{}", outcome.stderr);
        assert!(shop.world.leftovers().is_empty());
    }
}

#[test]
fn a_dockerfiles_image_is_followed() {
    let Some(shop) = Shop::with_plugin() else { return };
    let template = |text: &str| {
        let dockerfile = format!("FROM debian:bookworm\nRUN echo {text} >/said\nCMD [\"sleep\", \"3600\"]\n");
        shop.world.write("images/context/Dockerfile", &dockerfile);
        let source = "source \"dockerfile\" \"app\" {\n  context = \"context\"\n}\nbuild {\n  sources = [\"dockerfile.app\"]\n  post-processor \"docker-tag\" {\n    repository = \"SHOP/app\"\n    tags       = [\"1\"]\n  }\n}\n";
        shop.world.write("images/app.pkr.hcl", &source.replace("SHOP", &shop.name));
    };
    shop.compose(&two());
    template("one");
    shop.world.succeed(&["refresh", "-start"]);
    assert_eq!(shop.said("app"), "one");
    template("two");
    shop.world.succeed(&["refresh"]);
    assert_eq!(shop.said("app"), "two");
    let outcome = shop.world.succeed(&["refresh"]);
    assert!(outcome.stderr.contains("it is not restarted"), "{}", outcome.stderr);
}

/// What the plug-in takes of several files is what kiln reads.
#[test]
fn a_project_of_many_files_is_read_as_compose_reads_it() {
    let Some(mut shop) = Shop::with_plugin() else { return };
    let image = format!("{}/app", shop.name);
    shop.world.write(
        "common/base.yaml",
        "services:\n  base:\n    image: '${GROUP}/app:${TAG:-0}'\n    stop_grace_period: 0s\n",
    );
    shop.world.write(
        "main.yaml",
        "include: [parts/queue.yaml]\nservices:\n  web:\n    extends: {file: common/base.yaml, service: base}\n    env_file: [web.env]\n  tool:\n    image: ${GROUP}/app:1\n    profiles: [tools]\n  wrong:\n    image: debian:bookworm\n",
    );
    shop.world.write("parts/queue.yaml", "services:\n  queue:\n    image: ${GROUP}/app:1\n    stop_grace_period: 0s\n");
    shop.world.write("more.yaml", "services:\n  wrong: !reset null\n  web: {environment: {MORE: 'yes'}}\n");
    shop.world.write("web.env", "FROM_FILE=yes\n");
    let env = format!("COMPOSE_PROJECT_NAME={0}\nGROUP={0}\nTAG=1\n", shop.name);
    shop.world.write(".env", &env);
    shop.world.write("parts/.env", &env);
    // From the environment, which is shared with what starts and ends the project.
    shop.world.write(".env", &format!("{env}COMPOSE_FILE=main.yaml:more.yaml\n"));
    let known = shop.compose_command(&["--profile", "*", "config", "--images"]).output().unwrap();
    let known = String::from_utf8(known.stdout).unwrap();
    assert_eq!(known.lines().filter(|line| *line == format!("{image}:1")).count(), 3, "{known}");
    let outcome = shop.world.succeed(&["refresh", "-start"]);
    for place in ["web (common/base.yaml:3)", "queue (parts/queue.yaml:3)", "tool (main.yaml:7)"] {
        assert!(
            outcome.stderr.contains(&format!("{place} uses {image}:1, which docker.app makes")),
            "{}",
            outcome.stderr
        );
    }
    assert!(outcome.stderr.contains("tool: does not run, and its profile is not on"), "{}", outcome.stderr);
    assert_eq!((shop.said("web"), shop.said("queue")), ("one".to_owned(), "one".to_owned()));
    let environment = shop.container("web").unwrap()["Config"]["Env"].to_string();
    assert!(environment.contains("FROM_FILE=yes") && environment.contains("MORE=yes"), "{environment}");
    shop.world.env("COMPOSE_PROFILES", "tools");
    shop.template("docker", "two");
    shop.world.succeed(&["refresh", "-start"]);
    for service in ["web", "queue", "tool"] {
        assert_eq!(shop.said(service), "two", "{service}");
    }
}

#[test]
fn a_build_tells_what_refresh_would_restart() {
    let Some(shop) = Shop::open() else { return };
    let outcome = shop.world.succeed(&["build", "-no-push", "-only=docker.app", "images"]);
    assert!(!outcome.stderr.contains("kiln refresh"), "{}", outcome.stderr);
    shop.compose("services:\n  app:\n    image: SHOP/app:1\n  other:\n    image: SHOP/other:1\n");
    let hint = "`kiln refresh` would restart app (compose.yaml) with what was built\n";
    let outcome = shop.world.succeed(&["build", "-no-push", "-only=docker.app", "images"]);
    assert!(outcome.stderr.ends_with(hint), "{}", outcome.stderr);
    let outcome = shop.world.succeed(&["build", "-no-push", "-only=docker.app", "images/app.pkr.hcl"]);
    let named = "`kiln refresh -template images/app.pkr.hcl` would restart app (compose.yaml) with what was built\n";
    assert!(outcome.stderr.ends_with(named), "{}", outcome.stderr);
    let outcome = shop.world.succeed(&["build", "-json", "-no-push", "-only=docker.app", "images"]);
    assert!(!outcome.stdout.contains("refresh") && !outcome.stderr.contains("refresh"));
    // A mistake in somebody else's file is no matter here.
    shop.world.write("compose.yaml", "services: [\n");
    let outcome = shop.world.succeed(&["build", "-no-push", "-only=docker.app", "images"]);
    assert!(!outcome.stderr.contains("compose.yaml"), "{}", outcome.stderr);
    shop.world.write("compose.yaml", "services: {}\n");
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
    world.write("compose.yaml", "services:\n  app: {image: 'group/app:1', build: .}\n");
    world.write("Dockerfile", "FROM debian\n");
    let outcome = world.succeed(&["refresh"]);
    assert!(
        outcome.stderr.contains("app (compose.yaml:2) has a `build` of its own for group/app:1"),
        "{}",
        outcome.stderr
    );
    // DDEV's own last file counts most; without DDEV its command is told.
    std::fs::remove_file(world.path().join("compose.yaml")).unwrap();
    world.write(".ddev/config.yaml", "name: shop\n");
    world.write(".ddev/docker-compose.override.yaml", "services:\n  app: {image: 'group/app:1'}\n");
    world.write(".ddev/docker-compose.zz.yaml", "services:\n  app: {image: 'group/app:7'}\n");
    let outcome = world.succeed(&["refresh", "-print"]);
    assert_eq!(outcome.stdout, "ddev restart\n", "{}", outcome.stderr);
}
