//! Publishing against a real registry: what is there is not built, what looks fixed is not moved, consent, hooks.

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available, stable};

/// A registry whose tokens come from a realm, and the login there; a world that knows it.
fn world() -> Option<(World, String)> {
    let registry = std::env::var("KILN_TEST_REGISTRY").ok();
    let is_there = available("a registry (KILN_TEST_REGISTRY)", registry.is_some());
    let mut world = World::new();
    world.env("REGISTRY_PASSWORD", "deploy-token");
    // One repository for each test and run.
    let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    is_there.then_some(registry).flatten().map(|registry| (world, format!("{registry}/group/project/p{unique}")))
}

fn template(repository: &str, tags: &str, push: &str, more: &str) -> String {
    format!(
        r#"
variable "password" {{
  default   = env("REGISTRY_PASSWORD")
  sensitive = true
}}

variable "content" {{
  default = "one"
}}

source "oci" "app" {{
  from = {{ busybox = true }}
}}

build {{
  sources = ["oci.app"]

  provisioner "file" {{
    content     = var.content
    destination = "/app.txt"
  }}

  post-processors {{
    post-processor "docker-tag" {{
      repository = "{repository}"
      tags       = {tags}
    }}
    post-processor "docker-push" {{
      login          = true
      login_username = "deployer"
      login_password = var.password
      {push}
    }}
    post-processor "manifest" {{
      output      = "manifest.json"
      custom_data = {{ machine = "by ${{build.ID}}" }}
    }}
  }}
  {more}
}}
"#
    )
}

fn events(world: &World, arguments: &[&str], code: i32) -> Vec<Json> {
    let outcome = world.run(&[&["build", "-json"], arguments].concat());
    assert_eq!(outcome.code, code, "{}{}", outcome.stdout, outcome.stderr);
    assert!(!outcome.stdout.contains("deploy-token"));
    outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn finished<'a>(events: &'a [Json], build: &str) -> &'a Json {
    events.iter().find(|event| event["event"] == "build-finished" && event["build"] == build).unwrap()
}

fn digest(events: &[Json], build: &str) -> String {
    let artifacts = finished(events, build)["artifacts"].as_array().unwrap().clone();
    artifacts.iter().find_map(|artifact| artifact["digest"].as_str()).unwrap().to_owned()
}

const CHILD: &str = r#"
}

source "oci" "child" {
  from = artifact.app.image
}

build {
  sources = ["oci.child"]
  provisioner "shell" {
    inline = ["cat /app.txt"]
  }
"#;

#[test]
fn what_is_published_is_not_built_again() {
    let Some((world, repository)) = world() else { return };
    let hook = r#"on_success {
    inline = ["echo $KILN_OUTCOME $KILN_IMAGE $KILN_DIGEST >> hooks.txt"]
  }"#;
    let text = template(&repository, r#"["1.2.3", "latest"]"#, "skip_if_exists = true", &format!("{hook}{CHILD}"));
    world.write("a.pkr.hcl", &text);
    let first = events(&world, &["a.pkr.hcl"], 0);
    let published = digest(&first, "oci.app");
    // The content changed, and nobody asked for it to be built.
    let change = "-var=content=two";
    let second = events(&world, &[change, "a.pkr.hcl"], 0);
    let app = finished(&second, "oci.app");
    assert_eq!((app["outcome"].as_str(), digest(&second, "oci.app")), (Some("skipped"), published.clone()));
    assert_eq!(app["reason"], format!("{repository}:1.2.3 is in its registry already"));
    assert!(!second.iter().any(|event| event["event"] == "step-started" && event["build"] == "oci.app"));
    let run = second.last().unwrap();
    assert_eq!(
        (run["succeeded"].as_u64(), run["skipped"].as_u64(), run["failed"].as_u64()),
        (Some(1), Some(1), Some(0))
    );
    // Those that are built upon it have the published one.
    assert_eq!(finished(&second, "oci.child")["outcome"], "succeeded", "{second:#?}");
    let manifest: Json = serde_json::from_str(&world.read("manifest.json")).unwrap();
    let builds = manifest["builds"].as_array().unwrap();
    assert!(builds[0].get("kiln").is_none());
    assert_eq!(builds[1]["kiln"]["skipped"], true);
    // There is no machine that could tell.
    assert_ne!(builds[0]["custom_data"]["machine"], "by ");
    assert_eq!(builds[1]["custom_data"]["machine"], "by ");
    assert_eq!(builds[1]["kiln"]["digest"], published);
    assert_eq!(builds[1]["artifact_id"], format!("{repository}:latest"));
    let hooks = world.read("hooks.txt");
    assert!(hooks.ends_with(&format!("skipped {repository}@{published} {published}\n")), "{hooks}");
    // As people see it, and before it is done.
    let plan = world.succeed(&["plan", change, "a.pkr.hcl"]).stdout;
    assert!(plan.contains("skipped"), "{plan}");
    let outcome = world.succeed(&["build", change, "-only=oci.app", "a.pkr.hcl"]);
    insta::assert_snapshot!("skipped", stable(&outcome.stderr.replace(&repository, "[repository]"), &world));
    let lines = world.succeed(&["-machine-readable", "build", change, "-only=oci.app", "a.pkr.hcl"]).stdout;
    assert!(lines.contains(",oci.app,skipped,") && lines.contains(",oci.app,artifact-count,1"), "{lines}");
    // Who insists builds, and moves the names.
    let forced = events(&world, &["-force", change, "-only=oci.app", "a.pkr.hcl"], 0);
    assert_ne!(digest(&forced, "oci.app"), published);
}

#[test]
fn what_was_published_without_latest_gets_it_from_a_skipped_run() {
    let Some((world, repository)) = world() else { return };
    world.write("a.pkr.hcl", &template(&repository, r#"["1.2.3"]"#, "skip_if_exists = true", ""));
    let published = digest(&events(&world, &["a.pkr.hcl"], 0), "oci.app");
    world.write("a.pkr.hcl", &template(&repository, r#"["1.2.3", "latest"]"#, "skip_if_exists = true", ""));
    let change = "-var=content=two";
    let plan = world.succeed(&["plan", change, "a.pkr.hcl"]).stdout;
    assert!(plan.contains(&format!("already; named {repository}:latest, too")), "{plan}");
    let second = events(&world, &[change, "a.pkr.hcl"], 0);
    assert_eq!(finished(&second, "oci.app")["outcome"], "skipped");
    assert!(!second.iter().any(|event| event["event"] == "step-started"));
    let logins = second.iter().filter(|event| event["text"].as_str().is_some_and(|text| text.contains("logging in")));
    assert_eq!(logins.count(), 1, "asking and pushing tell of one login");
    let third = events(&world, &[change, "a.pkr.hcl"], 0);
    let reason = finished(&third, "oci.app")["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason, format!("{repository}:1.2.3 is in its registry already"));
    assert!(!third.iter().any(|event| event["event"] == "warning"), "{third:#?}");
    let tags = finished(&third, "oci.app")["artifacts"][0]["tags"].clone();
    assert_eq!(tags, serde_json::json!([format!("{repository}:1.2.3"), format!("{repository}:latest")]));
    assert_eq!(digest(&third, "oci.app"), published);
}

#[test]
fn what_only_a_published_build_needs_is_not_built() {
    let Some((world, repository)) = world() else { return };
    let base = r#"source "oci" "base" {
  from = { busybox = true }
}

build {
  sources = ["oci.base"]
  provisioner "file" {
    content     = var.content
    destination = "/base.txt"
  }
}
"#;
    let template = template(&repository, r#"["1.2.3"]"#, "skip_if_exists = true", "");
    let template = template.replacen("{ busybox = true }", "artifact.base.image", 1);
    world.write("a.pkr.hcl", &(template.replace("by ${build.ID}", "${artifact.base.digest}") + base));
    let only = ["-only=oci.app", "a.pkr.hcl"];
    let first = events(&world, &only, 0);
    assert_eq!(finished(&first, "oci.base")["outcome"], "succeeded");
    let changed = [&["-var=content=two"], &only[..]].concat();
    let second = events(&world, &changed, 0);
    let why = "not needed: `oci.app` is not built";
    let base = finished(&second, "oci.base");
    assert_eq!((base["outcome"].as_str(), base["reason"].as_str()), (Some("skipped"), Some(why)));
    assert!(!second.iter().any(|event| event["event"] == "build-started" && event["build"] == "oci.base"));
    assert_eq!(finished(&second, "oci.app")["outcome"], "skipped");
    let plan = world.succeed(&[&["plan"], &changed[..]].concat()).stdout;
    assert!(plan.contains(&format!("  skipped  {why}\n")) && plan.contains("no step would run"), "{plan}");
    // Whoever selects it has it built.
    let all = events(&world, &["-var=content=two", "a.pkr.hcl"], 0);
    assert_eq!(finished(&all, "oci.base")["outcome"], "succeeded");
    assert_eq!(finished(&all, "oci.app")["outcome"], "skipped");
}

#[test]
fn an_engines_child_is_built_upon_what_is_published() {
    let Some((mut world, repository)) = world() else { return };
    if !docker::is_there() {
        return;
    }
    let registry = repository.split('/').next().unwrap().to_owned();
    world.env("CI_REGISTRY", &registry).env("CI_REGISTRY_USER", "deployer").env("CI_REGISTRY_PASSWORD", "deploy-token");
    let text = template(&repository, r#"["1.2.3"]"#, "skip_if_exists = true", CHILD);
    world.write(
        "a.pkr.hcl",
        &text.replace(r#""oci" "child""#, r#""docker" "child""#).replace("oci.child", "docker.child"),
    );
    let text = world.read("a.pkr.hcl").replace("from = artifact", "commit = true\n  image = artifact");
    world.write("a.pkr.hcl", &text);
    let first = events(&world, &["a.pkr.hcl", "-only=oci.app"], 0);
    let second = events(&world, &["a.pkr.hcl"], 0);
    let _removed = Removed(vec![
        finished(&second, "docker.child")["artifacts"][0]["id"].as_str().unwrap().to_owned(),
        format!("{repository}@{}", digest(&first, "oci.app")),
    ]);
    assert_eq!(finished(&second, "oci.app")["outcome"], "skipped");
    let output = second.iter().find(|event| event["event"] == "output" && event["build"] == "docker.child").unwrap();
    assert_eq!(output["line"], "one");
}

#[test]
fn a_registry_that_does_not_answer_stops_the_build() {
    let Some((world, _)) = world() else { return };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let repository = format!("{closed}/group/app");
    world.write("a.pkr.hcl", &template(&repository, r#"["1.2.3"]"#, "skip_if_exists = true", ""));
    let outcome = world.run(&["build", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    let told = outcome.stderr.lines().filter(|line| line.contains("error:") || line.contains("hint:"));
    let told: Vec<&str> = told.map(|line| line.trim_start_matches("==> oci.app: ")).collect();
    let told = told.join("\n").replace(&repository, "[repository]");
    let told =
        regex::Regex::new(r"failed \d+ times in \d+ s").unwrap().replace_all(&told, "failed [often]").into_owned();
    insta::assert_snapshot!("unknown", stable(&told, &world));
    assert!(!outcome.stderr.contains("[1/1]"), "{}", outcome.stderr);
    assert!(world.leftovers().is_empty());
    // The plan asks, too; what only checks does not.
    assert_ne!(world.run(&["plan", "a.pkr.hcl"]).code, 0);
    world.succeed(&["validate", "a.pkr.hcl"]);
}

#[test]
fn a_wrong_password_is_no_answer() {
    let Some((mut world, repository)) = world() else { return };
    world.env("REGISTRY_PASSWORD", "wrong-password");
    world.write("a.pkr.hcl", &template(&repository, r#"["1.2.3"]"#, "skip_if_exists = true", ""));
    let outcome = world.run(&["build", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("cannot find out whether") && !outcome.stderr.contains("wrong-password"));
}

#[test]
fn a_tag_that_looks_fixed_is_not_moved() {
    let Some((world, repository)) = world() else { return };
    world.write("a.pkr.hcl", &template(&repository, r#"["latest", "release-3f2a91c"]"#, "", ""));
    let first = digest(&events(&world, &["a.pkr.hcl"], 0), "oci.app");
    // The same image once more: there is nothing to push but `latest`.
    let again = world.succeed(&["build", "a.pkr.hcl"]).stderr;
    assert!(again.contains("release-3f2a91c means this image already"), "{again}");
    let change = "-var=content=two";
    let outcome = world.run(&["build", change, "a.pkr.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("nothing was pushed") && outcome.stderr.contains(&first), "{}", outcome.stderr);
    assert!(!outcome.stderr.contains(&format!("pushing {repository}")), "{}", outcome.stderr);
    let text = world.read("a.pkr.hcl").replace("login          = true", "login = true\n immutable_tags = \"warn\"");
    world.write("b.pkr.hcl", &text);
    let warned = events(&world, &[change, "b.pkr.hcl"], 0);
    assert_ne!(digest(&warned, "oci.app"), first);
    let forced = events(&world, &["-force", "a.pkr.hcl"], 0);
    assert_eq!(digest(&forced, "oci.app"), first);
    // `latest` stands first in the template, and is pushed last.
    let pushes: Vec<&str> = forced
        .iter()
        .filter_map(|event| event["text"].as_str()?.strip_prefix("pushing "))
        .map(|name| name.rsplit(':').next().unwrap())
        .collect();
    assert_eq!(pushes, ["release-3f2a91c", "latest"]);
}

#[test]
fn an_engine_does_not_move_it_either() {
    let Some((world, repository)) = world() else { return };
    if !docker::is_there() {
        return;
    }
    let text = template(&repository, r#"["1.2.3"]"#, "", "")
        .replace(r#"source "oci" "app""#, r#"source "docker" "app""#)
        .replace("from = { busybox = true }", "image = \"debian:bookworm\"\n  pull = false\n  commit = true")
        .replace("oci.app", "docker.app");
    world.write("a.pkr.hcl", &text);
    let _removed = Removed(vec![format!("{repository}:1.2.3")]);
    let first = events(&world, &["a.pkr.hcl"], 0);
    let old = digest(&first, "docker.app");
    let outcome = world.run(&["build", "-var=content=two", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&old) && outcome.stderr.contains("nothing was pushed"), "{}", outcome.stderr);
    let forced = events(&world, &["-force", "-var=content=two", "a.pkr.hcl"], 0);
    let new = digest(&forced, "docker.app");
    assert_ne!(new, old);
}

#[test]
fn nobody_pushes_without_consent() {
    let Some((world, repository)) = world() else { return };
    world.write("a.pkr.hcl", &template(&repository, r#"["1.2"]"#, "confirm = \"Release the app?\"", ""));
    let outcome = world.run(&["build", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    insta::assert_snapshot!("unconfirmed", stable(&outcome.stderr.replace(&repository, "[repository]"), &world));
    events(&world, &["-yes", "a.pkr.hcl"], 0);
    world.succeed(&["validate", "a.pkr.hcl"]);
}

#[test]
fn hooks_and_scans_that_fail_leave_the_build_as_it_is() {
    let Some((world, repository)) = world() else { return };
    let more = r#"
  post-processor "shell-local" {
    inline   = ["echo 3 holes >&2", "exit 7"]
    on_error = "continue"
  }
  on_failure {
    inline = ["echo \"$KILN_BUILD: $KILN_ERROR\" > failed.txt"]
  }
  always {
    inline  = ["echo \"$KILN_OUTCOME $KILN_TAGS $KILN_TOLERATED ${var.password}\" | tee always.txt", "exit 9"]
    timeout = "1m"
  }
"#;
    world.write("a.pkr.hcl", &template(&repository, r#"["1.2"]"#, "", more));
    let outcome = world.succeed(&["build", "a.pkr.hcl"]);
    assert!(!outcome.stderr.contains("deploy-token"), "{}", outcome.stderr);
    let stable = stable(&outcome.stderr.replace(&repository, "[repository]"), &world);
    let closing = stable.rfind("\n\n").unwrap();
    insta::assert_snapshot!("tolerated", stable[closing..]);
    let told = world.read("always.txt");
    assert!(told.starts_with(&format!("succeeded {repository}:1.2 shell-local (a.pkr.hcl:")), "{told}");
    assert!(!world.path().join("failed.txt").exists());
    // The path goes through a file.
    world.write("b.pkr.hcl", &world.read("a.pkr.hcl").replace("/app.txt", "/bin/busybox/app.txt"));
    let outcome = world.run(&["build", "b.pkr.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(world.read("failed.txt").starts_with("oci.app: step 1 of 1, `file`"), "{}", world.read("failed.txt"));
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn two_builds_do_not_push_one_name() {
    let world = World::new();
    let build = |name: &str| {
        format!(
            "source \"oci\" \"{name}\" {{\n  from = {{ busybox = true }}\n}}\n\nbuild {{\n  sources = [\"oci.{name}\"]\n  post-processors {{\n    post-processor \"docker-tag\" {{\n      repository = \"registry.example.org/app\"\n      tags       = [\"1.2.3\", \"{name}\"]\n    }}\n    post-processor \"docker-push\" {{}}\n  }}\n}}\n\n"
        )
    };
    world.write("a.pkr.hcl", &(build("api") + &build("web")));
    let outcome = world.run(&["validate", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!("same_name", stable(&(outcome.stdout + &outcome.stderr), &world));
    world.succeed(&["validate", "-only=oci.api", "a.pkr.hcl"]);
}
