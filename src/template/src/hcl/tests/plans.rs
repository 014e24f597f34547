//! Builds, names, selection, steps.

use std::time::Duration;

use super::{Fixture, plan};
use crate::load::{ConfigType, Loaded};

const TEMPLATE: &str = r#"
packer {
  required_version = ">= 1.7.0"
  required_plugins {
    docker = {
      version = "~> 1.0"
      source  = "github.com/hashicorp/docker"
    }
  }
}

source "docker" "base" {
  image = "debian"
}

source "docker" "other" {
  image = "alpine"
}

communicator "ssh" "unused" {
}

build {
  name        = "images"
  description = "all of them"
  sources     = ["source.docker.base"]

  source "docker.other" {
    name   = "worker"
    commit = true
  }

  provisioner "shell" {
    name              = "first"
    only              = ["docker.base"]
    pause_before      = "10s"
    timeout           = "1h"
    max_retries       = 3
    continue_on_error = true
    inline            = ["true"]
  }

  provisioner "file" {
    except = ["docker.base"]
    source = "a"
  }

  dynamic "provisioner" {
    for_each = ["a", "b"]
    iterator = step
    labels   = ["shell-${step.value}"]
    content {
      name = "${source.name}-${step.key}"
    }
  }

  error-cleanup-provisioner "shell-local" {
    inline = ["true"]
  }

  post-processor "manifest" {
    only = ["docker.worker"]
  }

  post-processors {
    post-processor "docker-tag" {
      keep_input_artifact = false
    }
    post-processor "docker-push" {
      name = "push"
    }
    post-processor "checksum" {
    }
  }
}

build {
  sources = ["docker.base"]
}
"#;

/// The builds with their steps and chains, one a line.
fn outline(loaded: &Loaded) -> String {
    let mut lines = Vec::new();
    for build in &plan(loaded).builds {
        lines.push(format!("{} ({})", build.name, build.build_name));
        for step in &build.steps {
            lines.push(format!("  step {} {:?}", step.component.kind, step.component.name));
        }
        if let Some(step) = &build.error_cleanup {
            lines.push(format!("  cleanup {}", step.component.kind));
        }
        for chain in &build.post_processors {
            let chain: Vec<String> =
                chain.iter().map(|spec| format!("{} {:?}", spec.component.kind, spec.keep_input)).collect();
            lines.push(format!("  chain {}", chain.join(" -> ")));
        }
    }
    lines.join("\n")
}

#[test]
fn a_template_becomes_a_plan() {
    let loaded = Fixture::file(TEMPLATE).load();
    insta::assert_snapshot!("outline", outline(&loaded));
    let plan = plan(&loaded);
    assert_eq!(plan.description.as_deref(), Some("all of them"));
    assert_eq!(
        plan.required_plugins,
        [("docker".to_owned(), "github.com/hashicorp/docker".to_owned(), "~> 1.0".to_owned())]
    );
    let step = &plan.builds[0].steps[0];
    assert_eq!(step.pause_before, Duration::from_secs(10));
    assert_eq!(step.timeout, Some(Duration::from_secs(3600)));
    assert_eq!((step.max_retries, step.continue_on_error), (3, true));
}

fn names(loaded: &Loaded) -> Vec<String> {
    plan(loaded).builds.iter().map(|build| build.name.to_string()).collect()
}

#[test]
fn only_and_except_select_builds() {
    let fixture = || Fixture::file(TEMPLATE);
    assert_eq!(names(&fixture().only(&["images.*"]).load()), ["images.docker.base", "images.docker.worker"]);
    assert_eq!(names(&fixture().only(&["docker.base"]).load()), ["docker.base"]);
    assert_eq!(names(&fixture().except(&["*worker"]).load()), ["images.docker.base", "docker.base"]);
    assert_eq!(names(&fixture().only(&["*base"]).except(&["images*"]).load()), ["docker.base"]);
}

#[test]
fn except_cuts_a_chain_at_the_post_processor() {
    let loaded = Fixture::file(TEMPLATE).only(&["*worker"]).except(&["push"]).load();
    assert_eq!(loaded.diagnostics.items, []);
    insta::assert_snapshot!("outline_without_push", outline(&loaded));
}

#[test]
fn what_is_not_selected_is_not_evaluated() {
    let text = r#"
source "docker" "good" {
  image = "debian"
}
source "docker" "bad" {
  image = var.nowhere
}
build {
  sources = ["docker.good", "docker.bad"]
  provisioner "shell" {
    only         = ["docker.bad"]
    pause_before = "${source.name == "bad" ? "soon" : "1s"}"
  }
}
"#;
    let loaded = Fixture::file(text).only(&["docker.good"]).load();
    assert_eq!(names(&loaded), ["docker.good"]);
    assert!(Fixture::file(text).load().diagnostics.has_errors());
}

#[test]
fn files_of_a_directory_are_one_template() {
    let fixture = Fixture::directory(&[
        ("b.pkr.hcl", "source \"docker\" \"x\" {\n  image = local.image\n}\n"),
        ("a.kiln.hcl", "build {\n  sources = [\"docker.x\"]\n}\n"),
        ("c.pkr.hcl", "locals {\n  image = \"debian\"\n}\n"),
        ("d.hcl", "nonsense"),
        ("e.json", "nonsense"),
    ]);
    assert_eq!(names(&fixture.load()), ["docker.x"]);
    let sources = fixture.load().sources;
    let read: Vec<&str> = sources.files().map(|(_, file)| file.name.as_str()).collect();
    assert_eq!(read, ["a.kiln.hcl", "b.pkr.hcl", "c.pkr.hcl"]);
}

#[test]
fn standard_input_is_json_unless_said_otherwise() {
    let mut fixture = Fixture::directory(&[]);
    fixture.options.template = "-".into();
    assert_eq!(fixture.options.form(), ConfigType::Json);
    fixture.options.stdin = Some("source \"null\" \"x\" {\n}\nbuild {\n  sources = [\"null.x\"]\n}\n".to_owned());
    fixture.options.config_type = Some(ConfigType::Hcl2);
    assert_eq!(names(&fixture.load()), ["null.x"]);
}

#[test]
fn forms_follow_names() {
    let form = |name: &str| crate::LoadOptions::new(name, "/nowhere").form();
    for name in ["a.pkr.hcl", "a.kiln.hcl", "x/a.pkr.json"] {
        assert_eq!(form(name), ConfigType::Hcl2, "{name}");
    }
    for name in ["a.json", "template", "a.hcl"] {
        assert_eq!(form(name), ConfigType::Json, "{name}");
    }
}

#[test]
fn a_syntax_check_stops_before_values() {
    let mut fixture = Fixture::file("variable \"unset\" {}\nlocals {\n  a = var.nowhere\n}\n");
    fixture.options.syntax_only = true;
    let loaded = fixture.load();
    assert_eq!(loaded.diagnostics.items, []);
    assert!(plan(&loaded).builds.is_empty());
}

#[test]
fn dynamic_sources_get_names_of_their_own() {
    let text = r#"
source "docker" "base" {
  image = "debian"
}
build {
  dynamic "source" {
    for_each = { web = "a", worker = "b" }
    labels   = ["source.docker.base"]
    content {
      name    = source.key
      message = source.value
    }
  }
}
"#;
    assert_eq!(names(&Fixture::file(text).load()), ["docker.web", "docker.worker"]);
}

/// Templates for HCP Packer put them into a manifest.
#[test]
fn names_of_versions_at_hcp_packer_are_empty() {
    let text = "locals {\n  a = \"<${packer.versionFingerprint}${packer.iterationID}>\"\n}\n\
                source \"docker\" \"a\" {\n}\nbuild {\n  sources = [\"docker.a\"]\n}\n";
    let loaded = Fixture::file(text).load();
    assert_eq!(plan(&loaded).locals[0].value, "\"<>\"");
}
