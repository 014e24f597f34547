//! Builds that are built upon others.

use kiln_core::{ArtifactValue, Artifacts, Plan};

use super::*;

const FAMILY: &str = r#"
source "oci" "base" { from = "scratch" }
source "oci" "dev" { from = artifact.base.image }
source "docker" "prod" {
  image   = artifact.oci.base.image
  changes = ["LABEL tools=${artifact.dev.digest}"]
}
source "docker" "alone" { image = "x" }
build { sources = ["oci.base", "oci.dev", "docker.prod", "docker.alone"] }
build {
  name       = "checks"
  sources    = ["docker.alone"]
  depends_on = ["docker.prod"]
  provisioner "shell" { inline = ["echo ${artifact.dev.image}"] }
}
"#;

fn edges(plan: &Plan) -> Vec<String> {
    let edge = |spec: &kiln_core::BuildSpec| {
        let parents: Vec<&str> = spec.parents.iter().map(|parent| &*parent.build).collect();
        let taken = if spec.is_taken { " (taken)" } else { "" };
        format!("{}{taken} <- {}", spec.name, parents.join(", "))
    };
    plan.builds.iter().map(edge).collect()
}

fn plan(fixture: &Fixture) -> Plan {
    let loaded = fixture.load();
    assert!(!loaded.diagnostics.has_errors(), "{:?}", loaded.diagnostics.items);
    loaded.plan.unwrap()
}

#[test]
fn mentions_and_depends_on_make_edges() {
    let expected = [
        "oci.base <- ",
        "oci.dev <- oci.base",
        "docker.prod <- oci.base, oci.dev",
        "docker.alone <- ",
        "checks.docker.alone <- docker.prod, oci.dev",
    ];
    assert_eq!(edges(&plan(&Fixture::file(FAMILY))), expected);
}

#[test]
fn what_is_selected_brings_all_that_it_is_built_upon() {
    let only = |pattern: &str| edges(&plan(&Fixture::file(FAMILY).only(&[pattern])));
    assert_eq!(only("oci.dev"), ["oci.base <- ", "oci.dev <- oci.base"]);
    assert_eq!(only("docker.alone"), ["docker.alone <- "]);
    assert_eq!(only("checks.*").len(), 4);
    // Excepted, it is taken as it is.
    let excepted = edges(&plan(&Fixture::file(FAMILY).only(&["docker.prod"]).except(&["oci.dev"])));
    assert_eq!(excepted, ["oci.base <- ", "oci.dev (taken) <- oci.base", "docker.prod <- oci.base, oci.dev"]);
    assert_eq!(alone(FAMILY, "oci.dev"), ["oci.base (taken) <- ", "oci.dev <- oci.base"]);
}

/// As with `-no-deps`.
fn alone(text: &str, pattern: &str) -> Vec<String> {
    let mut fixture = Fixture::file(text).only(&[pattern]);
    fixture.options.without_parents = true;
    edges(&plan(&fixture))
}

const LEVELS: &str = r#"
source "oci" "ground" { from = "scratch" }
source "oci" "base" { from = artifact.ground.image }
source "oci" "dev" { from = artifact.base.image }
source "oci" "tools" { from = "scratch" }
source "oci" "labels" { from = "scratch" }
source "docker" "prod" { image = artifact.dev.image }
build { sources = ["oci.ground", "oci.base", "oci.tools", "oci.labels", "docker.prod"] }
build {
  sources    = ["oci.dev"]
  depends_on = ["oci.ground"]
  provisioner "shell" { inline = ["echo ${artifact.tools.digest}"] }
  post-processor "manifest" { output = artifact.labels.id }
}
"#;

#[test]
fn what_is_taken_is_known_by_what_it_was_made_of() {
    // All the way down; what comes before it for the order or for post-processors makes no difference to what it is.
    let taken = [
        "oci.ground (taken) <- ",
        "oci.base (taken) <- oci.ground",
        "oci.tools (taken) <- ",
        "docker.prod <- oci.dev",
        "oci.dev (taken) <- oci.base, oci.tools",
    ];
    assert_eq!(alone(LEVELS, "docker.prod"), taken);
    // What lies below one that is excepted is not built for it either.
    assert_eq!(edges(&plan(&Fixture::file(LEVELS).only(&["docker.prod"]).except(&["oci.dev"]))), taken);
    assert_eq!(
        edges(&plan(&Fixture::file(LEVELS).only(&["docker.prod", "oci.base"]).except(&["oci.dev"])))[..2],
        ["oci.ground <- ", "oci.base <- oci.ground"]
    );
}

#[test]
fn what_comes_first_for_the_order_alone_is_not_taken() {
    let text = r#"
source "file" "notes" {
  content = "x"
  target  = "notes.txt"
}
source "oci" "base" { from = "scratch" }
source "oci" "dev" { from = artifact.base.image }
build { sources = ["file.notes", "oci.base"] }
build {
  sources    = ["oci.dev"]
  depends_on = ["notes", "base"]
}
"#;
    assert_eq!(edges(&plan(&Fixture::file(text)))[2], "oci.dev <- file.notes, oci.base");
    // A value of the base is used, so that stays.
    assert_eq!(alone(text, "oci.dev"), ["oci.base (taken) <- ", "oci.dev <- oci.base"]);
    let excepted = edges(&plan(&Fixture::file(text).only(&["oci.dev"]).except(&["file.*"])));
    assert_eq!(excepted, ["oci.base <- ", "oci.dev <- oci.base"]);
}

#[test]
fn a_build_knows_whether_it_was_selected() {
    let brought = |fixture: Fixture| plan(&fixture).builds.iter().map(|spec| spec.is_brought).collect::<Vec<_>>();
    assert_eq!(brought(Fixture::file(FAMILY)), [false; 5]);
    assert_eq!(brought(Fixture::file(FAMILY).only(&["oci.dev"])), [true, false]);
    assert_eq!(brought(Fixture::file(FAMILY).only(&["oci.*"])), [false, false]);
}

#[test]
fn values_are_unknown_until_the_build_is_done() {
    let plan = plan(&Fixture::file(FAMILY));
    let image = |facts: &Facts| {
        let mut diagnostics = Diagnostics::new();
        let body = plan.builds[2].source.config.evaluate(&Schema::UNTYPED, facts, &mut diagnostics);
        assert!(diagnostics.is_empty(), "{:?}", diagnostics.items);
        body.attributes["image"].node.value.clone()
    };
    assert!(matches!(image(&Facts::default()), Value::Unknown));
    let values = [("image", ArtifactValue::Text("sha256:1".to_owned()))].into();
    let artifacts: Artifacts = [("oci.base".into(), values)].into();
    let facts = Facts { artifacts: Arc::new(artifacts), ..Facts::default() };
    assert_eq!(image(&facts), Value::String("sha256:1".to_owned()));
}

#[test]
fn elements_of_for_each_are_builds_of_their_own() {
    let text = r#"
source "oci" "base" {
  for_each = ["a", "b"]
  from     = "scratch"
}
source "oci" "child" { from = artifact.base-b.image }
build { sources = ["oci.base", "oci.child"] }
"#;
    assert_eq!(edges(&plan(&Fixture::file(text)))[2], "oci.child <- oci.base-b");
}

fn told(text: &str) -> String {
    let loaded = Fixture::file(text).load();
    let mut diagnostics = loaded.diagnostics;
    for component in loaded.plan.iter().flat_map(|plan| &plan.builds).map(|build| &build.source) {
        component.config.evaluate(&Schema::UNTYPED, &Facts::default(), &mut diagnostics);
    }
    let shown = diagnostics.items.iter().map(|item| render::render(item, &loaded.sources, false));
    shown.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn mistakes_are_told_at_their_places() {
    let rest =
        "\nbuild { sources = [\"oci.a\", \"oci.b\", \"docker.b\"] }\nsource \"docker\" \"b\" { image = \"x\" }\n";
    let pair = |one: &str, other: &str| {
        told(&format!("source \"oci\" \"a\" {{ {one} }}\nsource \"oci\" \"b\" {{ {other} }}{rest}"))
    };
    let shown = [
        pair("from = artifact.oci.b.image", "from = artifact.oci.a.image"),
        pair("from = artifact.oci.a.image", ""),
        pair("from = artifact.oci.c.image", "from = artifact.b.image"),
        pair("depends_on = [\"oci.x\"]", "from = artifact.oci.a.imge"),
        told("locals { x = artifact.oci.a.image }\nsource \"oci\" \"a\" {}\nbuild { sources = [\"oci.a\"] }"),
    ]
    .join("\n=====\n\n");
    insta::assert_snapshot!(shown);
}
