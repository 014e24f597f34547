//! A sensitive value appears nowhere: not in output, events, manifest, journal, image, container, or process list.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::support::World;
use crate::support::docker::{self, Removed};

const SECRET: &str = "s3cr3t-\"quoted\"-välue";

fn forms() -> Vec<String> {
    vec![
        SECRET.to_owned(),
        STANDARD.encode(SECRET),
        SECRET.replace('"', "\\\""),
        "s3cr3t-%22quoted%22-v%C3%A4lue".to_owned(),
    ]
}

#[track_caller]
fn holds_no_secret(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} holds the secret as {form}: {text}");
    }
}

/// What can be seen while the step runs: processes, the container's inspection, the journal.
#[test]
fn a_sensitive_value_is_seen_nowhere() {
    if !docker::is_there() {
        return;
    }
    let mut world = World::new();
    world.env("PKR_VAR_token", SECRET);
    world.write(
        "a.pkr.hcl",
        r#"variable "token" {
  type      = string
  sensitive = true
}
source "docker" "a" {
  image  = "debian:bookworm"
  pull   = false
  commit = true
}
build {
  sources = ["docker.a"]
  provisioner "shell" {
    env    = { TOKEN = var.token }
    inline = ["printf %s \"$TOKEN\" | base64 -w0; echo; printf '%s\n' \"$TOKEN\"; printf %s \"$TOKEN\" | sha256sum > /sum"]
  }
  provisioner "shell" {
    environment_vars = ["TOKEN=${var.token}"]
    execute_command  = "chmod +x {{.Path}}; {{.Vars}} sh -c '{{.Path}}'"
    inline           = ["printf %s \"$TOKEN\" | sha256sum | cmp - /sum && echo same", "echo running; sleep 2"]
  }
  provisioner "shell-local" {
    env    = { TOKEN = var.token }
    inline = ["echo local \"$TOKEN\""]
  }
  provisioner "shell" {
    execute_command = "echo '${var.token}' | sh {{.Path}}"
    inline          = ["read -r token; printf %s \"$token\" | sha256sum | cmp - /sum && echo same again", "echo running too; sleep 2"]
  }
  post-processor "manifest" {
    output      = "manifest.json"
    custom_data = { token = upper(lower(var.token)) == "x" ? "a" : "b" }
  }
}
"#,
    );
    let mut running = world.start(&["build", "-json", "a.pkr.hcl"]);
    let mut seen = String::new();
    running.wait_for("running", |event| {
        seen.push_str(&event.to_string());
        event["event"] == "output" && event["line"] == "running"
    });
    assert!(seen.contains("\"same\""), "the secret reached the scripts: {seen}");
    let processes = Command::new("ps").args(["axww", "-o", "args"]).output().unwrap();
    holds_no_secret("ps", &String::from_utf8_lossy(&processes.stdout));
    let container = docker::containers_with(&format!("kiln.run={}", running.run)).remove(0);
    holds_no_secret("docker inspect", &docker::container(&container).unwrap().to_string());
    for file in std::fs::read_dir(world.state().join("runs")).unwrap() {
        holds_no_secret("the journal", &std::fs::read_to_string(file.unwrap().path()).unwrap());
    }
    running.wait_for("running too", |event| {
        seen.push_str(&event.to_string());
        event["event"] == "output" && event["line"] == "running too"
    });
    assert!(seen.contains("\"same again\""), "the secret reached the script: {seen}");
    let processes = Command::new("ps").args(["axww", "-o", "args"]).output().unwrap();
    holds_no_secret("ps with a secret in `execute_command`", &String::from_utf8_lossy(&processes.stdout));
    let finished = running.wait_for("build-finished", |event| {
        seen.push_str(&event.to_string());
        event["event"] == "build-finished"
    });
    let (code, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    holds_no_secret("the events", &seen);
    holds_no_secret("standard error", &stderr);
    assert!(seen.contains("<sensitive>"), "masked, not dropped: {seen}");
    holds_no_secret("the manifest", &world.read("manifest.json"));
    let image = finished["artifacts"][0]["id"].as_str().unwrap().to_owned();
    let _removed = Removed(vec![image.clone()]);
    holds_no_secret("the image's history", &docker::history(&image).to_string());
    holds_no_secret("the image", &docker::image(&image).unwrap().to_string());
}

/// Pieces that derive from a sensitive value and stand inside longer texts are masked too.
#[test]
fn what_derives_from_a_sensitive_value_is_masked() {
    if !docker::is_there() {
        return;
    }
    let mut world = World::new();
    world.env("PKR_VAR_token", "pass-word-xyz");
    world.write(
        "a.pkr.hcl",
        r#"variable "token" {
  sensitive = true
}
source "docker" "a" {
  image   = "debian:bookworm"
  pull    = false
  discard = true
}
build {
  sources = ["docker.a"]
  provisioner "shell" {
    environment_vars = ["CHANGED=x${replace(var.token, "-", "_")}"]
    inline           = ["echo ${upper(var.token)} ${substr(var.token, 0, 6)}-tail; echo $CHANGED"]
  }
}
"#,
    );
    let template = r#"{"variables": {"token": "{{env `PKR_VAR_token`}}", "derived": "{{user `token` | upper}}"},
        "sensitive-variables": ["token"],
        "builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "discard": true}],
        "provisioners": [{"type": "shell", "inline": ["echo {{user `derived`}} {{user `token` | replace_all `-` `_`}}"]}]}"#;
    world.write("a.json", template);
    for name in ["a.pkr.hcl", "a.json"] {
        let outcome = world.succeed(&["build", "-json", name]);
        for piece in ["PASS-WORD", "pass-w", "pass_word"] {
            assert!(!outcome.stdout.contains(piece), "{name}: {piece} in {}", outcome.stdout);
        }
        assert!(outcome.stdout.contains("<sensitive>"), "{}", outcome.stdout);
    }
    assert!(!world.succeed(&["inspect", "a.json"]).stdout.contains("PASS-WORD"));
}

/// A mistake in a line that holds a secret does not show it.
#[test]
fn a_diagnostic_does_not_quote_a_secret() {
    let mut world = World::new();
    world.env("PKR_VAR_token", SECRET);
    world.write("a.pkr.hcl", "variable \"token\" {\n  type      = number\n  sensitive = true\n}\n");
    let outcome = world.run(&["validate", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 3);
    holds_no_secret("standard error", &outcome.stderr);
}

#[test]
fn inspect_masks_sensitive_values_and_what_derives_from_them() {
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        &format!(
            "variable \"token\" {{\n  default   = {}\n  sensitive = true\n}}\nlocals {{\n  both = \"x-${{var.token}}\"\n  upper = upper(var.token)\n}}\n",
            serde_json::Value::from(SECRET)
        ),
    );
    let text = world.succeed(&["inspect", "a.pkr.hcl"]).stdout;
    holds_no_secret("inspect", &text);
    assert!(!text.contains(&SECRET.to_uppercase()), "{text}");
}
