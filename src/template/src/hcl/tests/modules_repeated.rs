//! `module` blocks with `for_each` and `enabled`.

use super::modules::edges;
use super::*;

const WORKER: &str = r#"
variable "user" {}
variable "image" { default = "debian" }
source "docker" "app" {
  image   = var.image
  changes = ["LABEL user=${var.user} at=${path.module}"]
}
build { sources = ["docker.app"] }
output "image" { value = artifact.app.image }
output "user" { value = var.user }
"#;

const ROOT: &str = r#"
variable "users" {
  type    = map(number)
  default = { root = 1, targets = 2 }
}
locals { users = { for name, id in var.users : name => id if id > 0 } }
module "worker" {
  source   = "./worker"
  for_each = local.users
  user     = "${each.key}:${each.value}"
}
source "docker" "one" {
  image   = artifact.module.worker-root.app.image
  message = module.worker-root.user
}
source "docker" "all" {
  image   = "x"
  changes = [for name, it in module.worker : "LABEL ${name}=${it.image}"]
}
source "docker" "last" { image = module.worker-targets.image }
build { sources = ["docker.one", "docker.all", "docker.last"] }
build {
  name       = "after"
  sources    = ["docker.last"]
  depends_on = ["module.worker"]
}
"#;

fn workers(root: &str) -> Fixture {
    Fixture::directory(&[("main.kiln.hcl", root), ("worker/worker.pkr.hcl", WORKER)])
}

#[test]
fn each_element_is_a_module_of_its_own() {
    let loaded = workers(ROOT).load();
    assert_eq!(report(&loaded, &loaded.diagnostics), "");
    assert_eq!(
        edges(plan(&loaded)),
        [
            "docker.one <- module.worker-root.docker.app",
            "docker.all <- module.worker-targets.docker.app, module.worker-root.docker.app",
            "docker.last <- module.worker-targets.docker.app",
            "after.docker.last <- module.worker-root.docker.app, module.worker-targets.docker.app",
            "module.worker-root.docker.app <- ",
            "module.worker-targets.docker.app <- ",
        ]
    );
    let source = |name: &str| {
        let spec = plan(&loaded).builds.iter().find(|spec| &*spec.name == name).unwrap();
        body(&loaded, &spec.source, &Facts::default())
    };
    assert!(source("module.worker-targets.docker.app").contains("LABEL user=targets:2 at=./worker"));
    assert!(source("docker.one").contains("\"root:1\""), "{}", source("docker.one"));
}

#[test]
fn they_are_selected_one_by_one_and_together() {
    let selected = |patterns: &[&str]| {
        let loaded = workers(ROOT).only(patterns).load();
        let builds = plan(&loaded).builds.iter().map(|spec| spec.name.to_string());
        builds.collect::<Vec<_>>()
    };
    assert_eq!(selected(&["module.worker-root.*"]), ["module.worker-root.docker.app"]);
    assert_eq!(selected(&["module.worker.*"]), ["module.worker-root.docker.app", "module.worker-targets.docker.app"]);
    assert_eq!(selected(&["docker.one"]), ["docker.one", "module.worker-root.docker.app"]);
}

#[test]
fn there_may_be_none() {
    let none = workers(
        &ROOT.replace("artifact.module.worker-root.app.image", "\"x\"").replace("module.worker-root.user", "\"x\""),
    )
    .var("users", "{}");
    let text = std::fs::read_to_string(none.options.working_dir.join("main.kiln.hcl")).unwrap();
    let without = text.replace(
        "source \"docker\" \"last\" { image = module.worker-targets.image }",
        "source \"docker\" \"last\" { image = \"x\" }",
    );
    none.write("main.kiln.hcl", &without.replace("  depends_on = [\"module.worker\"]\n", ""));
    assert_eq!(
        edges(plan(&none.load())),
        ["docker.one <- ", "docker.all <- ", "docker.last <- ", "after.docker.last <- "]
    );

    let enabled = "variable \"is_on\" {\n  type = bool\n  default = false\n}\nmodule \"worker\" {\n  source = \"./worker\"\n  enabled = var.is_on\n  user = \"a\"\n}\nsource \"docker\" \"x\" { image = \"x\" }\nbuild { sources = [\"docker.x\"] }\n";
    assert_eq!(edges(plan(&workers(enabled).load())), ["docker.x <- "]);
    let on = workers(enabled).var("is_on", "true");
    assert_eq!(edges(plan(&on.load())), ["docker.x <- ", "module.worker.docker.app <- "]);
    let chosen = ROOT.replace("for_each = local.users", "for_each = local.users\n  enabled = each.value > 0");
    assert_eq!(edges(plan(&workers(&chosen).load())).len(), 6);
}

#[test]
fn modules_of_modules_are_repeated_by_what_they_were_given() {
    let team = "variable \"of\" { type = list(string) }\nlocals { of = [for it in var.of : upper(it)] }\nmodule \"worker\" {\n  source = \"../worker\"\n  for_each = local.of\n  user = each.key\n}\noutput \"users\" { value = [for it in module.worker : it.user] }\n";
    let root = "locals { teams = { a = [\"x\", \"y\"], b = [\"z\"] } }\nmodule \"team\" {\n  source = \"./team\"\n  for_each = local.teams\n  of = each.value\n}\nsource \"docker\" \"x\" { image = join(\",\", module.team[\"a\"].users) }\nbuild { sources = [\"docker.x\"] }\n";
    let fixture =
        Fixture::directory(&[("main.kiln.hcl", root), ("team/team.kiln.hcl", team), ("worker/worker.pkr.hcl", WORKER)]);
    let loaded = fixture.load();
    let names: Vec<String> = plan(&loaded).builds.iter().map(|spec| spec.name.to_string()).collect();
    assert_eq!(
        names,
        [
            "docker.x",
            "module.team-a.module.worker-X.docker.app",
            "module.team-a.module.worker-Y.docker.app",
            "module.team-b.module.worker-Z.docker.app"
        ]
    );
    let spec = &plan(&loaded).builds[0];
    assert!(body(&loaded, &spec.source, &Facts::default()).contains("\"X,Y\""));
    let only = fixture.only(&["module.team.module.worker.*"]);
    assert_eq!(plan(&only.load()).builds.len(), 3);
}

#[test]
fn mistakes_in_repetitions_are_told() {
    let with =
        |for_each: &str| workers(&ROOT.replace("for_each = local.users", &format!("for_each = {for_each}"))).report();
    insta::assert_snapshot!("module_keys_are_words", with("[\"a.b\"]"));
    insta::assert_snapshot!("module_for_each_of_an_artifact", with("[artifact.docker.last.image]"));
    insta::assert_snapshot!("module_for_each_of_nonsense", with("local.nowhere"));
    let data = ROOT.replace("local.users\n", "[data.http.x.body]\n")
        + "data \"http\" \"x\" { url = \"http://example.org\" }\n";
    insta::assert_snapshot!("module_for_each_of_data", workers(&data).report());
    let twice = ROOT.to_owned() + "module \"worker-root\" {\n  source = \"./worker\"\n  user = \"x\"\n}\n";
    insta::assert_snapshot!("module_called_as_an_element", workers(&twice).report());
}
