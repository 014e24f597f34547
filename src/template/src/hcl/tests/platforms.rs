//! `platforms`: which builds there are, what they are built upon, and what is said where it is wrong.

use kiln_core::{ArtifactValue, Artifacts, Plan};

use super::*;

const FAMILY: &str = r#"
source "oci" "base" {
  from      = "debian:bookworm"
  platforms = ["linux/amd64", "linux/arm64/v8"]
}
source "oci" "app" {
  from      = artifact.base.image
  platforms = ["linux/arm64"]
}
source "oci" "far" {
  from     = artifact.oci.base.image
  platform = "linux/arm64"
}
source "oci" "plain" { from = artifact.base.image }
source "docker" "label" { image = "x" }
build {
  sources = ["oci.base", "oci.app", "oci.far", "oci.plain"]
  provisioner "shell" {
    enabled = source.platform != "linux/arm64"
    message = "for ${try(coalesce(source.platform), "one")}"
  }
  post-processor "docker-tag" { message = "x" }
}
build {
  sources = ["docker.label"]
  provisioner "shell" { message = artifact.base.digest }
}
"#;

/// Each build with its parents, and the kinds of what it does.
fn outline(plan: &Plan) -> Vec<String> {
    let line = |spec: &kiln_core::BuildSpec| {
        let parents: Vec<&str> = spec.parents.iter().map(|parent| &*parent.build).collect();
        let taken = if spec.is_taken { " (taken)" } else { "" };
        let does = spec.steps.iter().map(|step| &step.component.kind);
        let does = does.chain(spec.post_processors.iter().flatten().map(|link| &link.component.kind));
        let does: Vec<&str> = does.map(String::as_str).collect();
        format!("{}{taken} <- {} | {}", spec.name, parents.join(", "), does.join(", "))
    };
    plan.builds.iter().map(line).collect()
}

fn plan(fixture: &Fixture) -> Plan {
    let loaded = fixture.load();
    assert!(!loaded.diagnostics.has_errors(), "{}", report(&loaded, &loaded.diagnostics));
    loaded.plan.unwrap()
}

fn only(pattern: &str) -> Vec<String> {
    outline(&plan(&Fixture::file(FAMILY).only(&[pattern])))
}

#[test]
fn each_platform_is_a_build_and_one_joins_them() {
    let expected = [
        "oci.base@linux/amd64 <-  | shell",
        "oci.base@linux/arm64 <-  | ",
        "oci.base <- oci.base@linux/amd64, oci.base@linux/arm64 | docker-tag",
        "oci.app@linux/arm64 <- oci.base@linux/arm64 | ",
        "oci.app <- oci.app@linux/arm64 | docker-tag",
        "oci.far <- oci.base@linux/arm64 | shell, docker-tag",
        "oci.plain <- oci.base@linux/amd64 | shell, docker-tag",
        "docker.label <- oci.base | shell",
    ];
    assert_eq!(outline(&plan(&Fixture::file(FAMILY))), expected);
}

#[test]
fn a_family_or_one_platform_can_be_selected() {
    let base = [
        "oci.base@linux/amd64 <-  | shell",
        "oci.base@linux/arm64 <-  | ",
        "oci.base <- oci.base@linux/amd64, oci.base@linux/arm64 | docker-tag",
    ];
    assert_eq!(only("oci.base"), base);
    // Neither the index nor what it does.
    assert_eq!(only("oci.base@linux/arm64"), [base[1]]);
    // What is needed comes along, and no more.
    assert_eq!(only("oci.far"), [base[1], "oci.far <- oci.base@linux/arm64 | shell, docker-tag"]);
    assert_eq!(only("docker.label")[..3], base);
    let excepted = outline(&plan(&Fixture::file(FAMILY).only(&["oci.base"]).except(&["*@linux/arm64"])));
    assert_eq!(excepted[1], "oci.base@linux/arm64 (taken) <-  | ");
    let mut fixture = Fixture::file(FAMILY).only(&["docker.label"]);
    fixture.options.without_parents = true;
    let taken = [
        "oci.base@linux/amd64 (taken) <-  | shell",
        "oci.base@linux/arm64 (taken) <-  | ",
        // Joining makes nothing.
        "oci.base <- oci.base@linux/amd64, oci.base@linux/arm64 | ",
        "docker.label <- oci.base | shell",
    ];
    assert_eq!(outline(&plan(&fixture)), taken);
}

const WITH_PLATFORM: Schema = Schema {
    fields: &[Field::string("from", ""), Field::string("platform", ""), Field::string("message", "")],
    ..SCHEMA
};

#[test]
fn a_source_gets_its_platform_and_the_image_for_it() {
    let plan = plan(&Fixture::file(FAMILY));
    let left = |id: &str| [("image", ArtifactValue::Text(id.to_owned()))].into();
    let artifacts: Artifacts = [
        ("oci.base@linux/amd64".into(), left("sha256:amd")),
        ("oci.base@linux/arm64".into(), left("sha256:arm")),
        ("oci.base".into(), [("digest", ArtifactValue::Text("sha256:index".into()))].into()),
    ]
    .into();
    let facts = Facts { artifacts: Arc::new(artifacts), ..Facts::default() };
    let value = |name: &str, component: &dyn Fn(&kiln_core::BuildSpec) -> ComponentSpec, argument: &str| {
        let spec = plan.builds.iter().find(|spec| *spec.name == *name).unwrap();
        let mut diagnostics = Diagnostics::new();
        let mut body = component(spec).config.evaluate(&WITH_PLATFORM, &facts, &mut diagnostics);
        assert_eq!(diagnostics.items, [], "{name}");
        body.attributes.shift_remove(argument).map(|attribute| attribute.node.value)
    };
    let source = |name: &str, argument: &str| value(name, &|spec| spec.source.clone(), argument);
    let text = |text: &str| Some(Value::String(text.to_owned()));
    assert_eq!(source("oci.base@linux/arm64", "platform"), text("linux/arm64"));
    assert_eq!(source("oci.base", "platform"), None);
    assert_eq!(source("oci.app@linux/arm64", "from"), text("sha256:arm"));
    assert_eq!(source("oci.far", "from"), text("sha256:arm"));
    assert_eq!(source("oci.plain", "from"), text("sha256:amd"));
    // What its images are built from is nothing to an index.
    assert_eq!(source("oci.app", "from"), Some(Value::Unknown));
    let step = |name: &str| value(name, &|spec| spec.steps[0].component.clone(), "message");
    assert_eq!(step("docker.label"), text("sha256:index"));
    assert_eq!(step("oci.base@linux/amd64"), text("for linux/amd64"));
    assert_eq!(step("oci.plain"), text("for one"));
}

#[test]
fn an_empty_list_and_null_are_none() {
    for platforms in ["[]", "null"] {
        let text = FAMILY.replace(r#"["linux/arm64"]"#, platforms);
        assert_eq!(
            only_of(&text, "oci.app"),
            ["oci.base@linux/amd64 <-  | shell", "oci.app <- oci.base@linux/amd64 | shell, docker-tag"]
        );
    }
}

fn only_of(text: &str, pattern: &str) -> Vec<String> {
    outline(&plan(&Fixture::file(text).only(&[pattern])))
}

#[test]
fn families_have_platforms_too() {
    let text = r#"
source "oci" "app" {
  for_each  = { slim = ["linux/amd64"], full = ["linux/amd64", "linux/arm64"] }
  from      = "x"
  platforms = each.value
}
build {
  source "oci.app" { name = "web" }
}
"#;
    let names = |pattern: &str| {
        let plan = plan(&Fixture::file(text).only(&[pattern]));
        plan.builds.iter().map(|spec| spec.name.to_string()).collect::<Vec<_>>()
    };
    let all = [
        "oci.web-full@linux/amd64",
        "oci.web-full@linux/arm64",
        "oci.web-full",
        "oci.web-slim@linux/amd64",
        "oci.web-slim",
    ];
    assert_eq!(names("oci.web"), all);
    assert_eq!(names("oci.web@linux/amd64"), [all[0], all[3]]);
    assert_eq!(names("oci.web-slim"), all[3..]);
}

#[test]
fn mistakes_are_told_where_they_are() {
    let text = r#"
source "oci" "app" {
  from      = "x"
  platform  = "linux/amd64"
  platforms = ["linux/amd64", "linux/aarch64", "linux/arm64", "linux/arm64/v8", "plan9/amd64"]
}
build { sources = ["oci.app"] }
"#;
    insta::assert_snapshot!(Fixture::file(text).report());
    let text = r#"
source "file" "notes" { platforms = ["linux/amd64"] }
source "oci" "base" {
  from      = "x"
  platforms = ["linux/s390x", "linux/riscv64"]
}
source "oci" "app" { from = artifact.base.image }
build { sources = ["file.notes", "oci.base", "oci.app"] }
"#;
    let loaded = Fixture::file(text).load();
    let shown: Vec<String> = ["file.notes@linux/amd64", "oci.app"]
        .map(|name| {
            let plan = loaded.plan.as_ref().unwrap();
            let spec = plan.builds.iter().find(|spec| *spec.name == *name).unwrap();
            let mut diagnostics = Diagnostics::new();
            spec.source.config.evaluate(&SCHEMA, &Facts::default(), &mut diagnostics);
            report(&loaded, &diagnostics)
        })
        .into();
    insta::assert_snapshot!(shown.join("\n\n"));
}

#[test]
fn engines_are_for_platforms_that_are_asked_for() {
    let text = r#"
source "docker" "app" {
  image          = "debian"
  platforms      = ["linux/amd64", "linux/arm64"]
  platform_hosts = {
    "linux/arm64" = "tcp://arm:2375"
    "linux/s390x" = "tcp://frame:2375"
  }
}
build { sources = ["docker.app"] }
"#;
    let loaded = Fixture::file(text).load();
    let told = report(&loaded, &loaded.diagnostics);
    assert!(told.contains("has an engine for linux/s390x, and `platforms` does not ask for that"), "{told}");
    assert!(told.contains(":7:5") && told.contains("the platforms are here"), "{told}");
    assert!(!told.contains("linux/arm64,"), "{told}");
}
