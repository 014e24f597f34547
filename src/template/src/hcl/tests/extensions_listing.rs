//! What a template uses beyond Packer, as `inspect` lists it, and the files that Packer does not read.

use super::extensions::outline;
use super::{Fixture, plan};

/// What a template uses beyond Packer, with file and line.
fn used(fixture: &Fixture) -> Vec<String> {
    let loaded = fixture.load();
    let shown = |extension: &kiln_core::Extension| {
        let file = loaded.sources.get(extension.span.source).unwrap();
        let name = file.name.trim_start_matches("./");
        format!("{name}:{} {}", loaded.sources.line_column(extension.span).0, extension.what)
    };
    plan(&loaded).extensions.iter().map(shown).collect()
}

#[test]
fn what_packer_does_not_have_is_listed_once() {
    let text = r#"
locals {
  tag = "${try(git.tag, "none")}-${host.arch}"
  git = [for git in [1] : git]
}
source "docker" "x" {
  for_each = ["a"]
  message  = "${host.uid} ${try(git.tag, 0)} ${host.arch} ${try(templatestring("", {}), "")}"
}
build {
  sources = ["docker.x"]
  enabled = true
  provisioner "shell" {
    enabled = true
  }
  provisioner "file" {
    enabled  = false
    override = { "docker.x" = {} }
  }
  dynamic "provisioner" {
    for_each = []
    labels   = ["shell"]
    content {
      for_each = [1]
    }
  }
  post-processors {
    post-processor "manifest" {
      enabled = true
    }
  }
}
"#;
    let found = used(&Fixture::directory(&[("b.pkr.hcl", text), ("a.kiln.hcl", "locals {\n  b = 1\n}\n")]));
    assert_eq!(
        found,
        [
            "a.kiln.hcl:1 files named `*.kiln.hcl`",
            "b.pkr.hcl:3 `git.tag`",
            "b.pkr.hcl:3 `host.arch`",
            "b.pkr.hcl:7 `for_each` of a `source`",
            "b.pkr.hcl:8 `host.uid`",
            "b.pkr.hcl:8 the function `templatestring`",
            "b.pkr.hcl:12 `enabled` of a `build`",
            "b.pkr.hcl:14 `enabled` of a `provisioner`",
            "b.pkr.hcl:18 `TYPE.NAME` in `override`",
            "b.pkr.hcl:24 `for_each` of a `provisioner`",
            "b.pkr.hcl:29 `enabled` of a `post-processor`",
        ]
    );
    assert_eq!(used(&Fixture::file("build {\n  sources = []\n}\n")), [""; 0]);
}

#[test]
fn files_of_kiln_stand_beside_those_of_packer() {
    let shared = "variable \"image\" {\n  default = \"debian\"\n}\nsource \"docker\" \"x\" {\n  message = var.image\n}\n\
                  build {\n  sources = [\"docker.x\"]\n}\n";
    let own = "locals {\n  more = \"${var.image}+\"\n}\nbuild {\n  name = \"kiln\"\n  source \"docker.x\" {}\n  \
               provisioner \"shell\" {\n    message = local.more\n  }\n}\n";
    let both = Fixture::directory(&[("main.pkr.hcl", shared), ("more.kiln.hcl", own)]);
    assert_eq!(outline(&both.load()), ["docker.x: debian | ", "kiln.docker.x: debian | shell debian+"]);
    // A file of kiln's replaces nothing: what is declared twice is a mistake, in whichever files.
    let again = "variable \"image\" {\n  default = \"alpine\"\n}\n";
    let twice = Fixture::directory(&[("main.pkr.hcl", shared), ("more.kiln.hcl", again)]).report();
    assert!(twice.contains("the variable `image` is declared twice"), "{twice}");
    // A value is given by a variable file, which Packer reads too.
    let given = Fixture::directory(&[("main.pkr.hcl", shared), ("x.auto.pkrvars.hcl", "image = \"alpine\"\n")]);
    assert_eq!(outline(&given.load()), ["docker.x: alpine | "]);
    // Alone, a file is the whole template.
    let mut alone = Fixture::directory(&[("main.pkr.hcl", shared), ("more.kiln.hcl", own)]);
    alone.options.template = "more.kiln.hcl".into();
    assert!(alone.report().contains("the variable `image` is not declared"), "{}", alone.report());
}

#[test]
fn an_outline_shows_what_is_repeated() {
    let text = r#"
source "docker" "x" {
  for_each = ["a", "b"]
}
source "docker" "off" {
  enabled = false
}
build {
  for_each = ["1", "2"]
  name     = "n"
  sources  = ["docker.x", "docker.off", "docker.nowhere"]
  provisioner "shell" {
    for_each = ["p", "q"]
    name     = each.key
  }
  provisioner "shell" {
    enabled = source.name == "x-a"
  }
  provisioner "file" {
    enabled = false
  }
}
build {
  enabled = false
  sources = ["docker.x-b"]
}
build {
  source "docker.x-b" {}
}
"#;
    let loaded = Fixture::file(text).load();
    let outline = &loaded.partial.as_ref().unwrap().outline;
    let names: Vec<_> = outline.builds.iter().map(|build| build.name.as_deref()).collect();
    assert_eq!(names, [Some("n-1"), Some("n-2"), None]);
    assert_eq!(outline.builds[1].sources, ["docker.x-a", "docker.x-b", "docker.nowhere"]);
    assert_eq!(outline.builds[2].sources, ["docker.x-b"]);
    let steps: Vec<_> = outline.builds[0].steps.iter().map(|step| (&*step.kind, step.name.as_deref())).collect();
    assert_eq!(steps, [("shell", Some("p")), ("shell", Some("q")), ("shell", None)]);
}
