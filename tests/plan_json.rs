//! The JSON of `kiln plan` and `kiln graph`, as it really is, against the schemas of the reference.

use serde_json::Value as Json;

use crate::support::schema::{differences, read};
use crate::support::{World, stable};

const TEMPLATE: &str = r#"
variable "text" { default = "one" }

source "oci" "base" {
  from = { busybox = true }
  tags = ["team/base:1"]
  push = ["localhost:5000/team/base:1"]
}

source "oci" "app" {
  from = artifact.base.image
}

steps "common" {
  provisioner "shell" { inline = ["echo common >/common"] }
}

build {
  sources = ["oci.base"]
  provisioner "shell" {
    name   = "text"
    inline = ["echo ${var.text} >/text"]
  }
  steps "common" {}
  provisioner "shell-local" { inline = ["true"] }
}

build {
  sources = ["oci.app"]
  provisioner "shell" {
    inline    = ["date >/date"]
    cache_ttl = "1h"
  }
  post-processors {
    post-processor "docker-tag" {
      repository = "localhost:5000/team/app"
      tags       = ["1.2", "latest"]
    }
    post-processor "docker-push" {}
  }
}
"#;

fn plan(world: &World, more: &[&str], code: i32) -> Json {
    let outcome = world.run(&[&["plan", "-json"], more, &["a.pkr.hcl"]].concat());
    assert_eq!(outcome.code, code, "{}", outcome.stderr);
    let plan = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(differences(&read("plan.schema.json"), &plan), [""; 0], "{}", outcome.stdout);
    plan
}

#[test]
fn plans_are_what_the_schema_says() {
    let world = World::new();
    world.write("a.pkr.hcl", TEMPLATE);
    let first = plan(&world, &[], 0);
    insta::assert_snapshot!("plan_json", stable(&keyless(first.clone()), &world));
    world.succeed(&["build", "-no-push", "a.pkr.hcl"]);
    let kept = plan(&world, &[], 0);
    assert_eq!(
        (&kept["builds"][0]["steps"][0]["action"], &kept["builds"][1]["sealing"]),
        (&"cached".into(), &"cached".into())
    );
    let changed = plan(&world, &["-var", "text=two"], 0);
    assert_eq!(changed["builds"][0]["steps"][0]["reason"]["kind"], "changed");
    plan(&world, &["-no-cache"], 0);
    plan(&world, &["-no-deps", "-only=oci.app"], 0);
    plan(&world, &["-from-step=text"], 0);
    // A parent that was never built as it is now fails, and so does what is built upon it: nothing of them runs.
    let vain = plan(&world, &["-no-deps", "-only=oci.app", "-var", "text=three"], 1);
    let app = &vain["builds"][1];
    assert_eq!(app["error"], "`oci.base`, which it is built upon, would fail");
    for build in vain["builds"].as_array().unwrap() {
        assert_eq!(
            (&build["sealing"], &build["steps"][0]["action"]),
            (&"skipped".into(), &"skipped".into()),
            "{vain:#}"
        );
    }
    let outcome = world.run(&["plan", "-no-deps", "-only=oci.app", "-var", "text=three", "a.pkr.hcl"]);
    assert!(
        !outcome.stdout.contains("  runs ") && outcome.stdout.ends_with("no step would run\n"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn platforms_and_mistakes_are_in_plans_as_the_schema_says() {
    let world = World::new();
    let template = "source \"oci\" \"x\" {\n  from = \"scratch\"\n  platforms = [\"linux/amd64\", \"linux/arm64\"]\n}\nsource \"oci\" \"y\" { from = \"127.0.0.1:1/nothing:1\" }\nbuild {\n  sources = [\"oci.x\", \"oci.y\"]\n  require_clean = true\n}\n";
    world.write("a.pkr.hcl", template);
    let found = plan(&world, &[], 4);
    let builds = found["builds"].as_array().unwrap();
    let index = builds.iter().find(|build| build["build"] == "oci.x").unwrap();
    assert_eq!(index["platforms"], serde_json::json!(["linux/amd64", "linux/arm64"]));
    assert!(builds.iter().all(|build| build["refused"].is_string()), "{found:#}");
    assert!(builds.iter().any(|build| build["error"].is_string()), "{found:#}");
}

/// Without what differs with each kiln and each host.
fn keyless(mut plan: Json) -> String {
    fn hide(value: &mut Json) {
        match value {
            Json::Object(entries) => entries.iter_mut().for_each(|(name, inner)| match name.as_str() {
                "key" | "base_key" | "digest" => *inner = Json::from("[digest]"),
                // The others tell of the host.
                "base" => {
                    inner.as_array_mut().unwrap().truncate(1);
                    hide(inner);
                }
                _ => hide(inner),
            }),
            Json::Array(items) => items.iter_mut().for_each(hide),
            _ => {}
        }
    }
    hide(&mut plan);
    format!("{plan:#}")
}

#[test]
fn graphs_are_what_their_schema_says() {
    let world = World::new();
    world.write("a.pkr.hcl", TEMPLATE);
    world.write("m/m.pkr.hcl", "source \"oci\" \"x\" {\n  from = \"scratch\"\n  platforms = [\"linux/amd64\", \"linux/arm64\"]\n}\nbuild { sources = [\"oci.x\"] }\n");
    world.write("b.pkr.hcl", "module \"m\" { source = \"./m\" }\nsource \"null\" \"n\" { communicator = \"none\" }\nbuild {\n  sources = [\"null.n\"]\n  depends_on = [\"module.m\"]\n}\n");
    let graph = |arguments: &[&str]| {
        let outcome = world.succeed(&[&["graph", "-json"], arguments].concat());
        let graph: Json = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(differences(&read("graph.schema.json"), &graph), [""; 0], "{}", outcome.stdout);
        graph
    };
    graph(&["-no-deps", "-only=oci.app", "a.pkr.hcl"]);
    insta::assert_snapshot!("graph_json", format!("{:#}", graph(&["b.pkr.hcl"])));
    for format in ["text", "dot", "mermaid", "svg"] {
        let outcome = world.succeed(&["graph", &format!("-format={format}"), "b.pkr.hcl"]);
        for build in ["null.n", "module.m.oci.x@linux/arm64"] {
            assert!(outcome.stdout.contains(build), "{format}: {}", outcome.stdout);
        }
        let outcome = world.run(&["graph", &format!("-format={format}"), "ring.pkr.hcl"]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (3, ""), "no template, no picture");
    }
    world.write("ring.pkr.hcl", "source \"oci\" \"a\" { from = artifact.oci.b.image }\nsource \"oci\" \"b\" { from = artifact.oci.a.image }\nbuild { sources = [\"oci.a\", \"oci.b\"] }\n");
    let outcome = world.run(&["graph", "ring.pkr.hcl"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (3, ""));
    assert!(outcome.stderr.contains("oci.a") && outcome.stderr.contains("oci.b"), "{}", outcome.stderr);
}
