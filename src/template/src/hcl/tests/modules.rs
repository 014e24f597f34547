//! `module` blocks.

use kiln_core::{ArtifactValue, Artifacts, BuildSpec, Plan};

use super::*;

const ROOT: &str = r#"
variable "release" { default = "12" }
source "docker" "base" { image = "debian:${var.release}" }
source "docker" "prod" {
  image   = module.worker.image
  changes = ["LABEL name=${module.worker.name} of=${module.other.name}"]
}
build { sources = ["docker.base", "docker.prod"] }
module "worker" {
  source = "./images/worker"
  image  = artifact.base.image
  user   = { name = "rugged", id = "440" }
}
module "other" {
  source = "./images/worker"
  image  = "alpine:${var.release}"
}
"#;

const WORKER: &str = r#"
variable "image" { type = string }
variable "user" {
  type    = object({ name = string, id = number })
  default = { name = "nobody", id = 65534 }
  validation {
    condition     = var.user.id > 100
    error_message = "The id must be above 100."
  }
}
locals { labels = ["LABEL user=${var.user.name}", "LABEL base=${var.image}", "LABEL at=${path.root}"] }
source "docker" "app" {
  image   = var.image
  changes = local.labels
}
source "docker" "checks" { image = artifact.app.image }
build { sources = ["docker.app"] }
build {
  name    = "late"
  sources = ["docker.checks"]
  provisioner "shell" { inline = ["echo ${build.name} ${source.name} ${local.labels[0]}"] }
}
output "image" { value = artifact.app.image }
output "name" { value = "${var.user.name}:${var.user.id}" }
"#;

fn family() -> Fixture {
    Fixture::directory(&[("main.kiln.hcl", ROOT), ("images/worker/worker.pkr.hcl", WORKER)])
}

fn loaded(fixture: &Fixture) -> Loaded {
    let loaded = fixture.load();
    assert!(loaded.diagnostics.items.is_empty(), "{}", report(&loaded, &loaded.diagnostics));
    loaded
}

pub(super) fn edges(plan: &Plan) -> Vec<String> {
    let edge = |spec: &BuildSpec| {
        let parents: Vec<&str> = spec.parents.iter().map(|parent| &*parent.build).collect();
        format!("{} <- {}", spec.name, parents.join(", "))
    };
    plan.builds.iter().map(edge).collect()
}

fn source_of(loaded: &Loaded, build: &str, facts: &Facts) -> String {
    let plan = plan(loaded);
    let spec = plan.builds.iter().find(|spec| &*spec.name == build).unwrap();
    body(loaded, &spec.source, facts)
}

fn facts(left: &[(&str, &str)]) -> Facts {
    let values = |image: &str| [("image", ArtifactValue::Text(image.to_owned()))].into();
    let artifacts: Artifacts = left.iter().map(|(build, image)| ((*build).into(), values(image))).collect();
    Facts { artifacts: Arc::new(artifacts), ..Facts::default() }
}

#[test]
fn builds_of_modules_join_the_graph() {
    let expected = [
        "docker.base <- ",
        "docker.prod <- module.worker.docker.app",
        "module.worker.docker.app <- docker.base",
        "module.worker.late.docker.checks <- module.worker.docker.app, docker.base",
        "module.other.docker.app <- ",
        "module.other.late.docker.checks <- module.other.docker.app",
    ];
    assert_eq!(edges(plan(&loaded(&family()))), expected);
}

#[test]
fn patterns_select_builds_of_modules_and_bring_what_they_need() {
    let only = |pattern: &str| edges(plan(&loaded(&family().only(&[pattern]))));
    let worker = ["docker.base <- ", "module.worker.docker.app <- docker.base"];
    assert_eq!(only("module.worker.docker.app"), worker);
    assert_eq!(only("module.worker.*").len(), 3);
    assert_eq!(only("docker.prod").len(), 3, "through an output, and through an argument");
    assert_eq!(only("module.other.docker.*").len(), 1);
    assert_eq!(only("module.*.late.*").len(), 5);
    let except = edges(plan(&loaded(&family().except(&["module.*", "docker.prod"]))));
    assert_eq!(except, ["docker.base <- "]);
}

#[test]
fn arguments_reach_bodies_before_and_after_builds_are_done() {
    let loaded = loaded(&family());
    let worker = |facts: &Facts| source_of(&loaded, "module.worker.docker.app", facts);
    let done = [("docker.base", "sha256:b")];
    let shown = [
        worker(&Facts::default()),
        worker(&facts(&done)),
        source_of(&loaded, "module.other.docker.app", &facts(&done)),
        source_of(&loaded, "docker.prod", &Facts::default()),
        source_of(&loaded, "docker.prod", &facts(&[("module.worker.docker.app", "sha256:w")])),
    ];
    insta::assert_snapshot!(shown.join("\n"));
    let step = &plan(&loaded).builds[3].steps[0].component;
    assert!(body(&loaded, step, &Facts::default()).contains("echo late checks LABEL user=rugged"));
}

#[test]
fn modules_may_hold_modules_and_be_ordered_as_a_whole() {
    let inner = "variable \"tag\" { default = \"x\" }\nsource \"oci\" \"in\" { from = var.tag }\nbuild { sources = [\"oci.in\"] }\noutput \"it\" { value = artifact.in.image }\n";
    let outer = "variable \"tag\" {}\nmodule \"deep\" {\n  source = \"../inner\"\n  tag = var.tag\n}\noutput \"it\" { value = module.deep.it }\n";
    let root = r#"
source "oci" "base" { from = "scratch" }
source "oci" "end" { from = module.outer.it }
source "oci" "names" { from = artifact.module.outer.module.deep.in.image }
build { sources = ["oci.base", "oci.end", "oci.names"] }
module "outer" {
  source = "./outer"
  tag    = artifact.base.image
}
module "after" {
  source     = "./inner"
  depends_on = ["module.outer"]
}
"#;
    let files = [("t.kiln.hcl", root), ("outer/o.pkr.hcl", outer), ("inner/i.pkr.hcl", inner)];
    let fixture = Fixture::directory(&files);
    let loaded = loaded(&fixture);
    let deep = "module.outer.module.deep.oci.in";
    let expected = [
        "oci.base <- ".to_owned(),
        format!("oci.end <- {deep}"),
        format!("oci.names <- {deep}"),
        format!("module.after.oci.in <- {deep}"),
        format!("{deep} <- oci.base"),
    ];
    assert_eq!(edges(plan(&loaded)), expected);
    let body = source_of(&loaded, deep, &facts(&[("oci.base", "sha256:b")]));
    assert!(body.contains("from = \"sha256:b\""), "{body}");
    let names: Vec<&str> = plan(&loaded).outline.modules.iter().map(|module| module.name.as_str()).collect();
    assert_eq!(names, ["module.outer", "module.after", "module.outer.module.deep"]);
}

#[test]
fn values_go_through_modules_to_locals_names_and_loops() {
    let module = "variable \"of\" { type = list(string) }\nlocals { upper = [for it in var.of : upper(it)] }\nsource \"null\" \"x\" { for_each = local.upper }\nbuild {\n  name = join(\"-\", var.of)\n  sources = [\"null.x\"]\n}\noutput \"all\" { value = local.upper }\n";
    let root = "locals {\n  of = [\"a\", \"b\"]\n  back = module.m.all\n}\nmodule \"m\" {\n  source = \"./m\"\n  of = local.of\n}\nsource \"null\" \"y\" { for_each = local.back }\nbuild { sources = [\"null.y\"] }\n";
    let fixture = Fixture::directory(&[("t.kiln.hcl", root), ("m/m.pkr.hcl", module)]);
    let names = edges(plan(&loaded(&fixture)));
    assert_eq!(names, ["null.y-A <- ", "null.y-B <- ", "module.m.a-b.null.x-A <- ", "module.m.a-b.null.x-B <- "]);
}

#[test]
fn sensitive_values_stay_so() {
    let module = "variable \"token\" { sensitive = true }\nvariable \"plain\" {}\nsource \"docker\" \"x\" { message = \"${var.token} ${var.plain}\" }\nbuild { sources = [\"docker.x\"] }\noutput \"out\" {\n  value = \"out-of-it\"\n  sensitive = true\n}\n";
    let root = "variable \"mine\" {\n  default = \"hush-hush\"\n  sensitive = true\n}\nmodule \"m\" {\n  source = \"./m\"\n  token = \"to-be-hidden\"\n  plain = var.mine\n}\nlocals { out = module.m.out }\n";
    let fixture = Fixture::directory(&[("t.kiln.hcl", root), ("m/m.pkr.hcl", module)]);
    let loaded = loaded(&fixture);
    for secret in ["hush-hush", "to-be-hidden", "out-of-it"] {
        assert!(loaded.secrets.iter().any(|known| known == secret), "{secret}: {:?}", loaded.secrets);
    }
    assert!(source_of(&loaded, "module.m.docker.x", &Facts::default()).contains("!@"));
}

fn told(root: &str, module: &str) -> String {
    let root = format!("source \"docker\" \"own\" {{ image = \"x\" }}\nbuild {{ sources = [\"docker.own\"] }}\n{root}");
    let fixture = Fixture::directory(&[("t.kiln.hcl", &root), ("m/m.pkr.hcl", module)]);
    let loaded = fixture.load();
    let mut diagnostics = loaded.diagnostics.items.clone();
    if let Some(plan) = loaded.plan.as_ref().or(loaded.partial.as_ref()) {
        let mut found = Diagnostics::new();
        for build in &plan.builds {
            build.source.config.evaluate(&Schema::UNTYPED, &Facts::default(), &mut found);
        }
        diagnostics.extend(found.items);
    }
    let shown = diagnostics.iter().map(|item| render::render(item, &loaded.sources, false));
    shown.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn mistakes_are_told_at_both_places() {
    let module = "variable \"image\" {\n  type = string\n}\nvariable \"size\" {\n  type    = number\n  default = 1\n  validation {\n    condition     = var.size > 0\n    error_message = \"The size must be above 0.\"\n  }\n}\nsource \"docker\" \"app\" { image = var.image }\nbuild { sources = [\"docker.app\"] }\noutput \"image\" { value = artifact.app.image }\n";
    let with = |arguments: &str| told(&format!("module \"m\" {{\n  source = \"./m\"\n  {arguments}\n}}\n"), module);
    let shown = [
        with(""),
        with("imgae = \"x\""),
        with("image = \"x\"\n  colour = 1"),
        with("image = \"x\"\n  count = 2"),
        with("image = [\"x\"]"),
        with("image = null"),
        with("image = \"x\"\n  size = -1"),
        with("image = artifact.owm.image"),
        with("image = artifact.own.image\n  size = artifact.own.id"),
        with("image = var.nothing"),
        with("image = source.name\n  validation {}"),
        told("module \"m\" {}", module),
        told("module \"m\" { source = \"./n\" }", module),
        told("module \"m\" { source = \"m\" }", module),
        told("module \"m\" { source = \"git::https://example.org/x.git\" }", module),
        told("module \"m\" { source = var.x }", module),
        told("module \"m\" {\n  source = \"./m\"\n  image = \"x\"\n}\nmodule \"m\" { source = \"./m\" }", module),
        told(
            "module \"m\" {\n  source = \"./m\"\n  image = \"x\"\n}\nlocals { x = [module.n.image, module.m.imgae] }",
            module,
        ),
        told("locals { x = module.m.image }", module),
        told(
            "module \"m\" {\n  source = \"./m\"\n  image = \"x\"\n}\nsource \"docker\" \"two\" {\n  image = artifact.app.image\n}\nbuild { sources = [\"docker.two\"] }",
            module,
        ),
        told("module \"m\" { source = \"./m\" }", "variable \"x\" {"),
        told("module \"m\" { source = \"./m\" }", "build { sources = [\"docker.none\"] }\n"),
    ];
    insta::assert_snapshot!(shown.join("\n=====\n\n"));
}

#[test]
fn rings_are_told_whole() {
    let ring_of_values = "module \"a\" {\n  source = \"./m\"\n  image = module.b.image\n}\nmodule \"b\" {\n  source = \"./m\"\n  image = module.a.image\n}\n";
    let passing = "variable \"image\" {}\noutput \"image\" { value = var.image }\n";
    let building = "variable \"image\" {}\nsource \"docker\" \"app\" { image = var.image }\nbuild { sources = [\"docker.app\"] }\noutput \"image\" { value = artifact.app.image }\n";
    let shown = [
        told(ring_of_values, passing),
        told(ring_of_values, building),
        told("module \"a\" {\n  source = \"./m\"\n}\n", "module \"again\" {\n  source = \"../m\"\n}\n"),
        told("module \"a\" {\n  source = \"./m\"\n}\n", "module \"up\" {\n  source = \"..\"\n}\n"),
    ];
    insta::assert_snapshot!(shown.join("\n=====\n\n"));
}

#[test]
fn what_must_be_known_before_anything_runs_cannot_come_from_a_build() {
    let module = "variable \"of\" {}\nlocals { names = [var.of] }\nsource \"docker\" \"app\" {\n  for_each = local.names\n  image = \"x\"\n}\ndata \"http\" \"x\" { url = var.of }\nbuild {\n  name = var.of\n  sources = [\"docker.app\"]\n  provisioner \"shell\" { only = [var.of] }\n}\n";
    let root = "module \"m\" {\n  source = \"./m\"\n  of = artifact.own.image\n}\n";
    insta::assert_snapshot!(told(root, module));
}
