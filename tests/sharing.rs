//! What templates share: groups of steps, and modules.

use std::path::Path;

use serde_json::Value as Json;

use crate::support::{World, available, stable};

const GROUPS: &str = r#"
source "oci" "web" { from = { busybox = true } }
source "oci" "db" { from = { busybox = true } }

steps "common" {
  provisioner "shell" { inline = ["echo ${source.name} > /who"] }
  provisioner "shell" {
    only   = ["oci.web"]
    inline = ["echo web >> /who"]
  }
}

build {
  sources = ["oci.web", "oci.db"]
  steps "common" {}
  provisioner "shell" { inline = ["cat /who"] }
}
"#;

/// A world for sandboxes from busybox; `None` without it.
fn world() -> Option<World> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|path| Path::new(path).exists());
    available("a static busybox", found).then(World::new)
}

#[test]
fn groups_of_steps_run_are_restored_and_name_their_places() {
    let Some(world) = world() else { return };
    world.write("t.kiln.hcl", GROUPS);
    insta::assert_snapshot!(stable(&world.succeed(&["plan", "t.kiln.hcl"]).stdout, &world), @r#"
    oci.web (oci, t.kiln.hcl:2)
      base     busybox ([id])
      runs     [1/3] shell: 1 inline command (t.kiln.hcl:6, by common at t.kiln.hcl:15)  never built
      runs     [2/3] shell: 1 inline command (t.kiln.hcl:7, by common at t.kiln.hcl:15)  a step before it runs
      runs     [3/3] shell: 1 inline command (t.kiln.hcl:16)                             a step before it runs
      runs     seal

    oci.db (oci, t.kiln.hcl:3)
      base     busybox ([id])
      runs     [1/2] shell: 1 inline command (t.kiln.hcl:6, by common at t.kiln.hcl:15)  never built
      runs     [2/2] shell: 1 inline command (t.kiln.hcl:16)                             a step before it runs
      runs     seal

    5 of 5 steps would run
    "#);
    world.succeed(&["build", "t.kiln.hcl"]);
    let again = world.succeed(&["plan", "t.kiln.hcl"]).stdout;
    assert!(again.ends_with("no step would run\n") || again.contains("no step would run;"), "{again}");
    // The step's own place is told, and where the group is used.
    world.write("t.kiln.hcl", &GROUPS.replace("echo web >> /who", "exit 3"));
    let failed = world.run(&["build", "-only=oci.web", "t.kiln.hcl"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("step 2 of 3, `shell` (t.kiln.hcl:7), failed"), "{}", failed.stderr);
    assert!(failed.stderr.contains("by `steps \"common\"` at t.kiln.hcl:15"), "{}", failed.stderr);
}

const FAMILY: &str = r#"
source "oci" "base" {
  from = { busybox = true }
}

source "oci" "product" {
  from = module.worker.image
}

build {
  sources = ["oci.base"]
  provisioner "shell" { inline = ["echo base > /base.txt"] }
}

build {
  sources = ["oci.product"]
  provisioner "shell" { inline = ["grep -q 'worker of ${module.worker.user}' /worker.txt", "cat /base.txt /notes.txt"] }
}

module "worker" {
  source = "./images/worker"
  image  = artifact.base.image
  user   = "rugged"
}
"#;

const WORKER: &str = r#"
variable "image" { type = string }

variable "user" { default = "nobody" }

locals {
  labels = { "org.example.base" = var.image }
}

source "oci" "app" {
  from   = var.image
  labels = local.labels
}

build {
  sources = ["oci.app"]

  provisioner "shell" {
    inline = ["echo worker of ${var.user} > /worker.txt"]
  }

  provisioner "file" {
    source      = "${path.root}/notes.txt"
    destination = "/notes.txt"
  }
}

output "image" {
  value = artifact.app.image
}

output "user" {
  value = upper(var.user)
}
"#;

/// As [`world`], with a family that uses a module.
fn family() -> Option<World> {
    let world = world()?;
    world.write(
        "t.kiln.hcl",
        &FAMILY.replace("worker of ${module.worker.user}", "worker of ${lower(module.worker.user)}"),
    );
    world.write("images/worker/worker.pkr.hcl", WORKER);
    world.write("images/worker/notes.txt", "notes\n");
    Some(world)
}

/// Builds whose steps began.
fn running(world: &World, arguments: &[&str]) -> Vec<String> {
    let outcome = world.succeed(&[&["build", "-json"], arguments, &["t.kiln.hcl"]].concat());
    let events = outcome.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let started = events.filter(|event| event["event"] == "step-started");
    started.map(|event| event["build"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn builds_of_a_module_are_built_upon_others_and_others_upon_them() {
    let Some(world) = family() else { return };
    let worker = "module.worker.oci.app";
    assert_eq!(running(&world, &[]), ["oci.base", worker, worker, "oci.product"]);
    // All is as it was; then a file of the module changes, and with it what is built upon it.
    assert!(running(&world, &[]).is_empty());
    world.write("images/worker/notes.txt", "other notes\n");
    let plan = world.succeed(&["plan", "t.kiln.hcl"]).stdout;
    assert!(plan.contains("`module.worker.oci.app` comes first, and would run"), "{plan}");
    assert_eq!(running(&world, &["-only=module.worker.*"]), [worker]);
    assert_eq!(running(&world, &[]), ["oci.product"]);
    // The whole of the image's base is known once that is built: also behind a local.
    world.write("t.kiln.hcl", &world.read("t.kiln.hcl").replace("\"rugged\"", "\"signer\""));
    assert_eq!(running(&world, &["-only=oci.product"]), [worker, worker, "oci.product"]);
}

#[test]
fn commands_that_look_know_modules() {
    let Some(world) = family() else { return };
    world.succeed(&["validate", "t.kiln.hcl"]);
    let graph = world.succeed(&["graph", "t.kiln.hcl"]).stdout;
    insta::assert_snapshot!(graph, @r"
    oci.base
    └── module.worker.oci.app
        └── oci.product
    ");
    let inspected = world.succeed(&["inspect", "t.kiln.hcl"]).stdout;
    insta::assert_snapshot!(inspected);
    // A module is a template of its own, too.
    world.succeed(&["validate", "-var", "image=scratch", "images/worker"]);
    world.write("images/worker/worker.pkr.hcl", &WORKER.replace("user\" { default", "user\"   { default"));
    let unformatted = world.run(&["fmt", "-check", "-recursive", "."]);
    assert_ne!(unformatted.code, 0);
    assert!(unformatted.stdout.contains("images/worker/worker.pkr.hcl"), "{}", unformatted.stdout);
}

#[test]
fn a_failure_in_a_module_is_told_at_its_place() {
    let Some(world) = family() else { return };
    world.write("images/worker/worker.pkr.hcl", &WORKER.replace("echo worker of", "exit 3 #"));
    let failed = world.run(&["build", "t.kiln.hcl"]);
    assert_eq!(failed.code, 1, "{}", failed.stderr);
    assert!(failed.stderr.contains("`shell` (images/worker/worker.pkr.hcl:18), failed"), "{}", failed.stderr);
    assert!(failed.stderr.contains("oci.product"), "{}", failed.stderr);
    world.write("images/worker/worker.pkr.hcl", &WORKER.replace("${path.root}/notes.txt", "notes.txt"));
    let told = world.run(&["validate", "t.kiln.hcl"]).stderr;
    assert!(told.contains("\"${path.root}/notes.txt\""), "{told}");
}
