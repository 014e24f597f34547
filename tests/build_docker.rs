//! `kiln build` with the docker builder, against a real engine.

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, stable};

/// A build whose events come back, its image removed at the end.
fn build(world: &World, arguments: &[&str]) -> (Vec<Json>, Removed) {
    let mut all = vec!["build", "-json"];
    all.extend(arguments);
    let outcome = world.succeed(&all);
    let removed = Removed(docker::built_images(&outcome.stdout));
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
    (outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), removed)
}

/// An engine of API 1.41 writes a reset list as empty, later ones leave it out; to a container they are the same.
fn is_empty(value: &Json) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

#[test]
fn a_legacy_template_gives_a_provisioned_tagged_image() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("scripts/one.sh", "#!/bin/sh -e\necho \"$GREETING from $PACKER_BUILD_NAME\" > /one\r\n");
    world.write("data/inner/file.txt", "content");
    world.write(
        "worker.json",
        r#"{
  "variables": { "version": "1.2", "greeting": "hello" },
  "builders": [{
    "type": "docker", "name": "worker", "image": "debian:bookworm", "pull": "false", "commit": "true",
    "changes": ["ENV MODE=worker", "LABEL team=\"infra team\"", "WORKDIR /srv", "CMD [\"sleep\", \"1\"]"],
    "author": "An Author", "message": "a message"
  }],
  "provisioners": [
    { "type": "shell", "script": "scripts/one.sh", "environment_vars": ["GREETING={{user `greeting`}}"] },
    { "type": "shell", "inline": ["echo out", "echo err >&2"] },
    { "type": "file", "source": "data/", "destination": "/data" }
  ],
  "post-processors": [[
    { "type": "docker-tag", "repository": "kiln-test/legacy", "tags": ["{{user `version`}}"] },
    { "type": "docker-tag", "repository": "kiln-test/legacy", "tags": ["latest"] }
  ], { "type": "manifest", "output": "manifest.json" }]
}
"#,
    );
    let removed = Removed(vec!["kiln-test/legacy:1.2".into(), "kiln-test/legacy:latest".into()]);
    let (events, _image) = build(&world, &["worker.json"]);
    let outputs: Vec<(&str, &str)> = events
        .iter()
        .filter(|event| event["event"] == "output")
        .map(|event| (event["stream"].as_str().unwrap(), event["line"].as_str().unwrap()))
        .collect();
    assert!(outputs.contains(&("stdout", "out")) && outputs.contains(&("stderr", "err")), "{outputs:?}");

    let image = docker::image("kiln-test/legacy:1.2").unwrap();
    assert_eq!(image["Id"], docker::image("kiln-test/legacy:latest").unwrap()["Id"]);
    let config = &image["Config"];
    assert_eq!(config["Cmd"], serde_json::json!(["sleep", "1"]));
    assert!(is_empty(&config["Entrypoint"]), "{config}");
    assert_eq!(config["WorkingDir"], "/srv");
    assert!(config["Env"].as_array().unwrap().contains(&"MODE=worker".into()));
    assert_eq!(config["Labels"]["team"], "infra team");
    assert_eq!(config["Labels"]["kiln.build"], "worker");
    assert_eq!((&image["Author"], &image["Comment"]), (&"An Author".into(), &"a message".into()));
    assert!(!config["Tty"].as_bool().unwrap_or(false));
    assert!(!config["OpenStdin"].as_bool().unwrap_or(false));

    let inside = docker::run_in(
        "kiln-test/legacy:1.2",
        "cat /one /data/inner/file.txt; ls -d /packer-files /tmp/* 2>/dev/null || true",
    );
    assert_eq!(inside.trim_end(), "hello from worker\ncontent");

    let manifest: Json = serde_json::from_str(&world.read("manifest.json")).unwrap();
    assert_eq!(manifest["builds"][0]["name"], "worker");
    assert_eq!(manifest["builds"][0]["artifact_id"], image["Id"]);
    assert_eq!(manifest["last_run_uuid"], manifest["builds"][0]["packer_run_uuid"]);
    drop(removed);
}

#[test]
fn the_same_in_hcl2_with_overrides_locals_and_dynamic_blocks() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "worker.pkr.hcl",
        r#"variable "names" {
  type    = list(string)
  default = ["a", "b"]
}
locals {
  greeting = "hello ${join(" and ", var.names)}"
}
source "docker" "base" {
  image  = "debian:bookworm"
  pull   = false
  commit = true
}
build {
  name = "images"
  source "docker.base" {
    name    = "worker"
    message = "built by a test"
  }
  provisioner "shell" {
    env    = { GREETING = local.greeting }
    inline = ["echo \"$GREETING from ${build.name}\" > /greeting", "echo ${build.ID} > /id"]
  }
  dynamic "provisioner" {
    for_each = var.names
    labels   = ["shell"]
    content {
      inline = ["touch /${provisioner.value}"]
    }
  }
  post-processor "docker-tag" {
    repository = "kiln-test/hcl"
    tags       = [for name in var.names : "tag-${name}"]
  }
}
"#,
    );
    let _removed = Removed(vec!["kiln-test/hcl:tag-a".into(), "kiln-test/hcl:tag-b".into()]);
    let (events, _image) = build(&world, &["-only=images.docker.*", "worker.pkr.hcl"]);
    assert_eq!(events[0]["builds"], serde_json::json!(["images.docker.worker"]));
    let text = docker::run_in("kiln-test/hcl:tag-b", "cat /greeting; ls /a /b; wc -c < /id");
    assert_eq!(text, "hello a and b from images\n/a\n/b\n65\n");
}

/// The base's ENTRYPOINT, CMD, USER and WORKDIR stay unless changed, and can be reset.
#[test]
fn the_bases_configuration_is_kept() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let base = r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": "never", "commit": true,
        "changes": ["ENTRYPOINT [\"/bin/echo\"]", "CMD [\"hi\"]", "USER nobody", "WORKDIR /tmp", "ONBUILD RUN true"]}],
        "post-processors": [{"type": "docker-tag", "repository": "kiln-test/base", "tags": ["1"]}]}"#;
    world.write("base.json", base);
    let child = r#"{"builders": [
        {"type": "docker", "name": "kept", "image": "kiln-test/base:1", "pull": "never", "commit": true},
        {"type": "docker", "name": "reset", "image": "kiln-test/base:1", "pull": "never", "commit": true,
         "changes": ["ENTRYPOINT []", "CMD []"]}],
        "provisioners": [{"type": "shell", "inline": ["id -un > /tmp/who"]}],
        "post-processors": [{"type": "docker-tag", "repository": "kiln-test/{{build_name}}", "tags": ["1"]}]}"#;
    world.write("child.json", child);
    let _removed = Removed(vec!["kiln-test/kept:1".into(), "kiln-test/reset:1".into(), "kiln-test/base:1".into()]);
    let _base = build(&world, &["base.json"]);
    let _children = build(&world, &["child.json"]);
    let kept = docker::image("kiln-test/kept:1").unwrap()["Config"].clone();
    assert_eq!(kept["Entrypoint"], serde_json::json!(["/bin/echo"]));
    assert_eq!(kept["Cmd"], serde_json::json!(["hi"]));
    assert_eq!((&kept["User"], &kept["WorkingDir"]), (&"nobody".into(), &"/tmp".into()));
    let reset = docker::image("kiln-test/reset:1").unwrap()["Config"].clone();
    assert!(is_empty(&reset["Entrypoint"]) && is_empty(&reset["Cmd"]), "{reset}");
    assert_eq!(docker::run_in("kiln-test/kept:1", "cat /tmp/who"), "nobody\n");
    assert_eq!(docker::image("kiln-test/base:1").unwrap()["Config"]["OnBuild"], serde_json::json!(["RUN true"]));
}

#[test]
fn labels_can_be_switched_off() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("a.json", r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "commit": true, "kiln_labels": false}]}"#);
    let (_, image) = build(&world, &["a.json"]);
    let labels = docker::image(&image.0[0]).unwrap()["Config"]["Labels"].clone();
    assert!(labels.is_null() || labels.as_object().is_some_and(serde_json::Map::is_empty), "{labels}");
}

#[test]
fn files_go_both_ways_with_their_modes() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("up/bin/tool", "#!/bin/sh\necho tool\n");
    world.write("up/note", "note");
    std::fs::set_permissions(world.path().join("up/bin/tool"), std::os::unix::fs::PermissionsExt::from_mode(0o750))
        .unwrap();
    std::os::unix::fs::symlink("note", world.path().join("up/link")).unwrap();
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "discard": true}],
        "provisioners": [
          {"type": "file", "source": "up", "destination": "/opt/whole"},
          {"type": "file", "source": "up/", "destination": "/opt/content"},
          {"type": "file", "source": "up/note", "destination": "/opt/content/"},
          {"type": "shell", "inline": ["cd /opt; find . | sort; stat -c '%a %u %g' content/bin/tool; readlink content/link; content/bin/tool"]},
          {"type": "file", "direction": "download", "source": "/opt/content/", "destination": "down"},
          {"type": "file", "direction": "download", "source": "/opt/content/note", "destination": "down.txt"}
        ]}"#,
    );
    let (events, _) = build(&world, &["a.json"]);
    let lines: Vec<&str> =
        events.iter().filter(|event| event["event"] == "output").filter_map(|event| event["line"].as_str()).collect();
    insta::assert_snapshot!(lines.join("\n"));
    assert_eq!(world.read("down/bin/tool"), "#!/bin/sh\necho tool\n");
    assert_eq!(world.read("down.txt"), "note");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(world.path().join("down/bin/tool")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o750);
    assert_eq!(std::fs::read_link(world.path().join("down/link")).unwrap(), std::path::Path::new("note"));
}

#[test]
fn an_export_is_imported_saved_checked_and_compressed() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "export_path": "out/root.tar"}],
        "provisioners": [{"type": "shell", "inline": ["echo exported > /exported"]}],
        "post-processors": [
          [{"type": "docker-import", "repository": "kiln-test/imported", "tag": "1", "keep_input_artifact": true,
            "changes": ["CMD [\"cat\", \"/exported\"]"]},
           {"type": "docker-save", "path": "out/saved.tar"}],
          [{"type": "checksum", "checksum_types": ["sha256"], "output": "out/{{.ChecksumType}}.txt"}]
        ]}"#,
    );
    let _removed = Removed(vec!["kiln-test/imported:1".into()]);
    let _image = build(&world, &["a.json"]);
    assert_eq!(docker::run_in("kiln-test/imported:1", "cat /exported"), "exported\n");
    let sum = std::process::Command::new("sha256sum").arg(world.path().join("out/root.tar")).output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert_eq!(world.read("out/sha256.txt"), format!("{}\troot.tar\n", sum.split(' ').next().unwrap()));
    assert!(world.path().join("out/saved.tar").metadata().unwrap().len() > 1_000_000);
}

#[test]
fn a_build_from_a_dockerfile_is_provisioned_further() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("context/Dockerfile.base", "FROM debian:bookworm\nARG WORD\nCOPY note /note\nRUN echo $WORD > /word\n");
    world.write("context/note", "a note\n");
    world.write(
        "a.pkr.hcl",
        r#"source "docker" "a" {
  build {
    path      = "context/Dockerfile.base"
    build_dir = "context"
    pull      = false
    arguments = { WORD = "spoken" }
  }
  commit = true
}
build {
  sources = ["docker.a"]
  provisioner "shell" {
    inline = ["cat /note /word > /both"]
  }
  post-processor "docker-tag" {
    repository = "kiln-test/dockerfile"
    tags       = ["1"]
  }
}
"#,
    );
    let _removed = Removed(vec!["kiln-test/dockerfile:1".into()]);
    let _image = build(&world, &["a.pkr.hcl"]);
    assert_eq!(docker::run_in("kiln-test/dockerfile:1", "cat /both"), "a note\nspoken\n");
}

#[test]
fn builds_run_in_parallel_and_one_failure_stops_no_other() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let builders: Vec<String> = (0..3)
        .map(|index| format!(r#"{{"type": "docker", "name": "b{index}", "image": "debian:bookworm", "pull": false, "discard": true}}"#))
        .collect();
    let template = format!(
        r#"{{"builders": [{}], "provisioners": [{{"type": "shell", "only": ["b1"], "inline": ["exit 3"]}}, {{"type": "shell", "inline": ["echo ran"]}}]}}"#,
        builders.join(",")
    );
    world.write("a.json", &template);
    let outcome = world.run(&["build", "-json", "a.json"]);
    assert_eq!(outcome.code, 1);
    let events: Vec<Json> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let outcomes: std::collections::BTreeMap<&str, &str> = events
        .iter()
        .filter(|event| event["event"] == "build-finished")
        .map(|event| (event["build"].as_str().unwrap(), event["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, [("b0", "succeeded"), ("b1", "failed"), ("b2", "succeeded")].into());
    let starts: Vec<usize> =
        events.iter().enumerate().filter(|(_, event)| event["event"] == "build-started").map(|(at, _)| at).collect();
    let first_end = events.iter().position(|event| event["event"] == "build-finished").unwrap();
    assert!(starts.iter().all(|start| *start < first_end), "all start before the first ends");
}

#[test]
fn what_a_person_sees() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "name": "worker", "image": "debian:bookworm", "pull": false, "commit": true}],
        "provisioners": [{"type": "shell", "inline": ["echo out", "sleep 0.3; echo err >&2"]}],
        "post-processors": [{"type": "docker-tag", "repository": "kiln-test/seen", "tags": ["1"]}]}"#,
    );
    let _removed = Removed(vec!["kiln-test/seen:1".into()]);
    let outcome = world.succeed(&["build", "a.json"]);
    assert_eq!(outcome.stdout, "");
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn packers_machine_readable_lines() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("a.json", r#"{"builders": [{"type": "docker", "name": "worker", "image": "debian:bookworm", "pull": false, "commit": true}]}"#);
    let outcome = world.succeed(&["build", "-machine-readable", "a.json"]);
    let fields: Vec<Vec<&str>> = outcome.stdout.lines().map(|line| line.splitn(4, ',').collect()).collect();
    assert!(fields.iter().all(|field| field.len() >= 3 && field[0].parse::<u64>().is_ok()), "{}", outcome.stdout);
    let id = fields.iter().find(|field| field[2] == "artifact" && field[3].starts_with("0,id,")).unwrap()[3];
    let _removed = Removed(vec![id.trim_start_matches("0,id,").to_owned()]);
    assert!(id.starts_with("0,id,sha256:"), "{id}");
    assert!(fields.iter().any(|field| field[1] == "worker" && field[2] == "artifact-count" && field[3] == "1"));
    assert!(
        fields
            .iter()
            .any(|field| field[2] == "artifact" && field[3] == "0,builder-id,packer.post-processor.docker-import")
    );
}

#[test]
fn secrets_of_a_step_lie_in_memory_and_go_with_it() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "worker.pkr.hcl",
        r#"
source "docker" "worker" {
  image  = "debian:bookworm"
  pull   = false
  commit = true
}
build {
  sources = ["source.docker.worker"]
  provisioner "shell" {
    inline = [
      "stat -f -c %T $KILN_SECRETS; stat -c %a $KILN_SECRETS/token; wc -c < $KILN_SECRETS/token",
      "echo $KILN_SECRETS > /directory",
    ]
    secrets = { token = "hush-hush-hush", other = "x" }
  }
  provisioner "shell" {
    inline = ["echo now ${KILN_SECRETS:-nowhere}; ls -d $(cat /directory) || true"]
  }
}
"#
        .replace("${KILN", "$${KILN")
        .as_str(),
    );
    let (events, _image) = build(&world, &["worker.pkr.hcl"]);
    let lines: Vec<&str> = events.iter().filter_map(|event| event["line"].as_str()).collect();
    for line in ["tmpfs", "400", "14", "now nowhere"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    assert!(lines.iter().any(|line| line.contains("No such file or directory")), "{lines:?}");
}

/// What became of each step, as far as the build came.
fn steps(events: &str) -> Vec<&'static str> {
    let events = events.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let names = events.filter_map(|event| match event["event"].as_str() {
        Some("step-cached") => Some("cached"),
        Some("step-started") => Some("ran"),
        _ => None,
    });
    names.collect()
}

#[test]
fn a_build_that_failed_goes_on_from_the_checkpoint_before() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    // Nobody else's state may be taken for this one.
    let mark = world.path().display();
    world.write(
        "a.pkr.hcl",
        &format!(
            r#"variable "status" {{ default = "1" }}
source "docker" "w" {{
  image  = "debian:bookworm"
  pull   = false
  commit = true
}}
build {{
  sources = ["source.docker.w"]
  provisioner "shell" {{
    inline     = ["echo {mark} > /mark; echo step-one-alone > /root/key"]
    checkpoint = true
  }}
  provisioner "shell" {{
    inline = ["rm /root/key; exit ${{var.status}}"]
  }}
}}
"#
        ),
    );
    let failed = world.run(&["build", "-json", "a.pkr.hcl"]);
    assert_eq!((failed.code, steps(&failed.stdout)), (1, vec!["ran", "ran"]));
    let mended = world.succeed(&["build", "-json", "-var=status=0", "a.pkr.hcl"]);
    let image = Removed(docker::built_images(&mended.stdout));
    assert_eq!(steps(&mended.stdout), ["cached", "ran"]);
    // As if there had been no state: one layer on the base, nothing in labels and history.
    let (base, built) = (docker::image(docker::BASE).unwrap(), docker::image(&image.0[0]).unwrap());
    let layers = |image: &Json| image["RootFS"]["Layers"].as_array().unwrap().len();
    assert_eq!(layers(&built), layers(&base) + 1);
    assert!(!built["Config"]["Labels"].to_string().contains("kiln.cache"), "{}", built["Config"]["Labels"]);
    assert_eq!(docker::history(&image.0[0]).as_array().unwrap().len(), layers(&base) + 1);
    assert_eq!(docker::run_in(&image.0[0], "cat /mark; ls /root").trim(), mark.to_string());

    let again = world.succeed(&["build", "-json", "-var=status=0", "a.pkr.hcl"]);
    assert_eq!(steps(&again.stdout), ["cached", "cached"]);
    assert_eq!(docker::built_images(&again.stdout), image.0);
    let shell = world.run(&["shell", "w:1", "-c", "cat /root/key; exit 3", "a.pkr.hcl"]);
    assert_eq!((shell.code, shell.stdout.as_str()), (3, "step-one-alone\n"), "{}", shell.stderr);
    let shell = world.run(&["shell", "w:2", "-c", "true", "a.pkr.hcl"]);
    assert!(shell.stderr.contains("is not kept: it took too little time"), "{}", shell.stderr);
    let listed = world.succeed(&["cache", "ls"]).stdout;
    assert!(listed.contains("images of the Docker engine") && listed.contains("docker.w: shell"), "{listed}");
    let pruned = world.succeed(&["cache", "prune", "--all"]).stderr;
    assert!(pruned.contains("images of the Docker engine") && pruned.contains("1 removed"), "{pruned}");
    let plan = world.succeed(&["plan", "-var=status=0", "a.pkr.hcl"]).stdout;
    assert!(plan.contains("no longer in the cache") && plan.contains("runs     seal"), "{plan}");
    assert!(docker::image(&image.0[0]).is_some(), "the image is the user's, and stays");
}
