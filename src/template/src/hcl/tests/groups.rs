//! `steps` blocks.

use kiln_core::BuildSpec;

use super::*;

const SHARED: &str = r#"
source "docker" "web" { image = "debian" }
source "docker" "db" { image = "debian" }
source "oci" "plain" { from = "scratch" }

steps "users" {
  provisioner "shell" { inline = ["useradd ${source.name}"] }
}

steps "common" {
  steps "users" {}
  provisioner "shell" {
    only   = ["docker.web"]
    inline = ["echo ${each.value} ${path.root}"]
  }
  dynamic "provisioner" {
    for_each = [1, 2]
    labels   = ["file"]
    content { message = "${provisioner.value}" }
  }
}

build {
  name    = "first"
  sources = ["docker.web", "docker.db"]
  provisioner "shell" { inline = ["before"] }
  steps "common" {
    for_each = ["a", "b"]
    except   = ["docker.db"]
  }
  provisioner "shell" { inline = ["between"] }
  steps "users" {}
}

build {
  for_each = { one = "x" }
  name     = "second-${each.key}"
  sources  = ["oci.plain"]
  steps "common" {}
  steps "users" { enabled = false }
}
"#;

/// What the steps of a build do, with the names of the groups they came by.
fn steps(loaded: &Loaded, build: &BuildSpec) -> Vec<String> {
    let line = |step: &kiln_core::StepSpec| {
        let groups: Vec<&str> = step.groups.iter().map(|group| group.name.as_str()).collect();
        let body = body(loaded, &step.component, &Facts::default());
        let (line, _) = loaded.sources.line_column(step.component.span);
        format!("{line} {}: {}", groups.join("/"), body.trim().replace('\n', " "))
    };
    build.steps.iter().map(line).collect()
}

#[test]
fn the_steps_of_a_group_stand_where_it_is_used() {
    let loaded = Fixture::file(SHARED).load();
    let plan = plan(&loaded);
    let shown: Vec<String> =
        plan.builds.iter().map(|build| format!("{}\n{}", build.name, steps(&loaded, build).join("\n"))).collect();
    insta::assert_snapshot!(shown.join("\n\n"));
    // The places of the uses are those in the build and in the group.
    let within = &plan.builds[0].steps[1].groups;
    let lines: Vec<usize> = within.iter().map(|used| loaded.sources.line_column(used.span).0).collect();
    assert_eq!(lines, [27, 11]);
}

#[test]
fn groups_are_listed_with_the_builds_and_as_beyond_packer() {
    let loaded = Fixture::file(SHARED).load();
    let plan = plan(&loaded);
    let kinds: Vec<&str> = plan.outline.builds[1].steps.iter().map(|step| step.kind.as_str()).collect();
    assert_eq!(kinds, ["shell", "shell", "file", "file"]);
    assert!(plan.extensions.iter().any(|extension| extension.what == "`steps` blocks"));
}

#[test]
fn what_a_group_mentions_makes_edges_and_is_brought_along() {
    let text = r#"
source "oci" "base" { from = "scratch" }
source "oci" "app" { from = "scratch" }
steps "inner" {
  provisioner "shell" { inline = [artifact.base.id] }
}
steps "outer" {
  steps "inner" {}
}
build { sources = ["oci.base"] }
build {
  sources = ["oci.app"]
  steps "outer" {}
}
"#;
    let loaded = Fixture::file(text).only(&["oci.app"]).load();
    let names: Vec<&str> = plan(&loaded).builds.iter().map(|build| &*build.name).collect();
    assert_eq!(names, ["oci.base", "oci.app"]);
    assert_eq!(&*plan(&loaded).builds[1].parents[0].build, "oci.base");
}

#[test]
fn json_templates_have_groups_too() {
    let text = r#"{
  "source": { "docker": { "web": { "image": "debian" } } },
  "steps": {
    "inner": { "provisioner": { "shell": { "inline": ["one"] } } },
    "outer": { "steps": { "inner": {} }, "provisioner": [{ "shell": { "inline": ["two"] } }] }
  },
  "build": { "sources": ["docker.web"], "steps": { "outer": { "only": ["docker.web"] } } }
}"#;
    let fixture = Fixture::directory(&[("t.pkr.json", text)]);
    let loaded = fixture.load();
    let found = steps(&loaded, &plan(&loaded).builds[0]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("outer/inner: inline = [\"one\""), "{found:?}");
}

fn told(text: &str) -> String {
    Fixture::file(&format!("source \"docker\" \"web\" {{ image = \"x\" }}\n{text}")).report()
}

#[test]
fn mistakes_are_told_at_their_places() {
    let build = |inside: &str| format!("build {{\n  sources = [\"docker.web\"]\n  {inside}\n}}\n");
    let group = "steps \"common\" {\n  provisioner \"shell\" {}\n}\n";
    let shown = [
        told(&format!("{group}{}", build("steps \"comon\" {}"))),
        told(&build("steps \"common\" {}")),
        told(&format!("{group}{group}{}", build("steps \"common\" {}"))),
        told(&format!("{group}{}", build("steps \"common\" { onyl = [] }"))),
        told(&format!("{group}{}", build("steps \"common\" { only = [\"docker.wbe\"] }"))),
        told(&format!("{group}{}", build("steps {}"))),
        told(&format!("steps \"a\" {{\n  post-processor \"x\" {{}}\n  only = []\n}}\n{}", build("steps \"a\" {}"))),
        told(&format!(
            "steps \"a\" {{\n  provisioner \"shell\" {{ only = [\"docker.wbe\"] }}\n}}\n{}",
            build("steps \"a\" {}")
        )),
        told(&format!("steps \"a\" {{\n  steps \"a\" {{}}\n}}\n{}", build(""))),
        told(&format!(
            "steps \"a\" {{\n  steps \"b\" {{}}\n}}\nsteps \"b\" {{\n  steps \"c\" {{}}\n}}\nsteps \"c\" {{\n  steps \"a\" {{}}\n}}\n{}",
            build("steps \"b\" {}")
        )),
    ];
    insta::assert_snapshot!(shown.join("\n=====\n\n"));
}
