//! Builds that are built upon others, with and without a Docker engine.

use serde_json::Value as Json;

use crate::support::{World, docker};

const FAMILY: &str = r#"
source "oci" "base" {
  from = { busybox = true }
}

source "docker" "tools" {
  image  = artifact.oci.base.image
  commit = true
}

source "oci" "product" {
  from = artifact.docker.tools.image
}

source "oci" "aside" {
  from = "scratch"
}

build {
  sources = ["oci.base"]
  provisioner "file" {
    source      = "base.txt"
    destination = "/base.txt"
  }
}

build {
  sources = ["docker.tools"]
  provisioner "shell" {
    inline     = ["cat /base.txt > /tools.txt", "echo tools >> /tools.txt"]
    checkpoint = true
  }
}

build {
  sources = ["oci.product"]
  provisioner "shell" { inline = ["grep -q tools /tools.txt", "echo product of ${artifact.base.image}"] }
}

build {
  sources    = ["oci.aside"]
  depends_on = ["product"]
  provisioner "file" {
    content     = "aside"
    destination = "/aside"
  }
}
"#;

fn world() -> Option<World> {
    if !docker::is_there() {
        return None;
    }
    let world = World::new();
    world.write("a.pkr.hcl", FAMILY);
    world.write("base.txt", &format!("first {:?}\n", std::time::SystemTime::now()));
    Some(world)
}

/// Events of a run, and its exit code.
fn build(world: &World, more: &[&str]) -> (Vec<Json>, i32) {
    let outcome = world.run(&[&["build", "-json"], more, &["a.pkr.hcl"]].concat());
    let events = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (events, outcome.code)
}

fn of_kind<'a>(events: &'a [Json], kind: &str) -> Vec<&'a str> {
    events.iter().filter(|event| event["event"] == kind).filter_map(|event| event["build"].as_str()).collect()
}

/// Images that the engine got; they go when this does.
fn images(events: &[Json]) -> docker::Removed {
    let finished = events.iter().filter(|event| event["event"] == "build-finished" && event["build"] == "docker.tools");
    let ids = finished.flat_map(|event| event["artifacts"].as_array().into_iter().flatten());
    let parents = events.iter().filter(|event| event["event"] == "build-finished" && event["build"] == "oci.base");
    let parents = parents.flat_map(|event| event["artifacts"].as_array().into_iter().flatten());
    docker::Removed(ids.chain(parents).filter_map(|artifact| Some(artifact["id"].as_str()?.to_owned())).collect())
}

#[test]
fn a_family_is_built_in_order_and_only_what_changed_again() {
    let Some(world) = world() else { return };
    let (first, code) = build(&world, &[]);
    let _images = images(&first);
    assert_eq!(code, 0, "{first:#?}");
    assert_eq!(of_kind(&first, "build-finished"), ["oci.base", "docker.tools", "oci.product", "oci.aside"]);
    // Nothing changed: nothing runs, and the plan says so.
    let plan: Json = serde_json::from_str(&world.succeed(&["plan", "-json", "a.pkr.hcl"]).stdout).unwrap();
    let sealing: Vec<&str> =
        plan["builds"].as_array().unwrap().iter().filter_map(|build| build["sealing"].as_str()).collect();
    assert_eq!(sealing, ["cached"; 4], "{plan:#}");
    let (second, _) = build(&world, &[]);
    assert_eq!(of_kind(&second, "step-started"), Vec::<&str>::new());
    // The base changed, and with it all that is built upon it.
    world.write("base.txt", &format!("second {:?}\n", std::time::SystemTime::now()));
    let text = world.succeed(&["plan", "a.pkr.hcl"]).stdout;
    assert!(text.contains("  after    oci.base") && text.contains("`oci.base` comes first, and would run"), "{text}");
    let (third, code) = build(&world, &["-only=oci.product"]);
    let _images = images(&third);
    assert_eq!(code, 0, "{third:#?}");
    assert_eq!(
        of_kind(&third, "step-started"),
        ["oci.base", "docker.tools", "oci.product"],
        "`-only` brings what it needs"
    );
}

#[test]
fn what_is_needed_may_be_taken_as_it_is() {
    let Some(world) = world() else { return };
    let (never, code) = build(&world, &["-only=docker.tools", "-no-deps"]);
    assert_ne!(code, 0, "{never:#?}");
    let (first, _) = build(&world, &["-only=docker.tools"]);
    let _images = images(&first);
    let (taken, code) = build(&world, &["-only=docker.tools", "-no-deps", "-no-cache"]);
    let _more = images(&taken);
    assert_eq!((of_kind(&taken, "step-started"), code), (vec!["docker.tools"], 0), "{taken:#?}");
    let shell = world.run(&["shell", "docker.tools", "a.pkr.hcl", "-c", "cat /tools.txt"]);
    assert!(shell.stdout.contains("tools"), "{} {}", shell.stdout, shell.stderr);
}

#[test]
fn a_failure_stops_those_that_are_built_upon_it() {
    let Some(world) = world() else { return };
    world.write("a.pkr.hcl", &FAMILY.replace("\"cat /base.txt > /tools.txt\"", "\"exit 3\""));
    let (events, code) = build(&world, &[]);
    assert_eq!(code, 1, "{events:#?}");
    let outcomes: Vec<String> = events
        .iter()
        .filter(|event| event["event"] == "build-finished")
        .map(|event| format!("{} {}", event["build"].as_str().unwrap(), event["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, ["oci.base succeeded", "docker.tools failed", "oci.product not-run", "oci.aside not-run"]);
    let text = world.run(&["build", "a.pkr.hcl"]).stderr;
    assert!(text.contains("oci.product: not run: `docker.tools`, which it is built upon, did not end well"), "{text}");
    let _images = images(&events);
}

/// Three levels that need no engine, each with a step.
const LEVELS: &str = r#"
source "oci" "base" {
  from = { busybox = true }
}

source "oci" "dev" {
  from = artifact.base.image
}

source "oci" "prod" {
  from = artifact.dev.image
}

source "file" "notes" {
  content = "notes"
  target  = "notes.txt"
}

build {
  sources = ["oci.base"]
  provisioner "file" {
    content     = "base"
    destination = "/base.txt"
  }
}

build {
  sources = ["oci.dev"]
  provisioner "file" {
    content     = "dev of ${artifact.base.image}"
    destination = "/dev.txt"
  }
}

build {
  sources    = ["oci.prod"]
  depends_on = ["notes"]
  provisioner "file" {
    content     = "prod"
    destination = "/prod.txt"
  }
}

build {
  sources = ["file.notes"]
}
"#;

/// Id of the image that a build ended with.
fn image<'a>(events: &'a [Json], build: &str) -> Option<&'a str> {
    let finished = events.iter().find(|event| event["event"] == "build-finished" && event["build"] == build)?;
    finished["artifacts"][0]["id"].as_str()
}

#[test]
fn what_was_not_selected_stays_as_it_is_through_all_levels() {
    let world = World::new();
    world.write("a.pkr.hcl", LEVELS);
    let (first, code) = build(&world, &[]);
    assert_eq!(code, 0, "{first:#?}");
    for more in [&["-only=oci.prod", "-no-deps"][..], &["-only=oci.prod", "-except=oci.dev"]] {
        let (again, code) = build(&world, &[more, &["-from-step=1"]].concat());
        assert_eq!((of_kind(&again, "step-started"), code), (vec!["oci.prod"], 0), "{again:#?}");
        for build in ["oci.base", "oci.dev"] {
            assert_eq!(image(&again, build), image(&first, build), "{again:#?}");
        }
    }
    let (again, code) = build(&world, &["-only=oci.dev", "-from-step=1"]);
    assert_eq!((of_kind(&again, "step-started"), code), (vec!["oci.dev"], 0), "{again:#?}");
    assert_eq!(image(&again, "oci.base"), image(&first, "oci.base"), "{again:#?}");
    let (_, code) = build(&world, &["-only=oci.prod", "-no-deps", "-except=file.notes"]);
    assert_eq!(code, 0, "what stands for the order alone may be missing");
}
