//! Machines that are reached over SSH, and builds without a machine: `null` and `file` sources, end to end.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use kiln_testkit::{SshAgent, Sshd};
use serde_json::{Value as Json, json};

use crate::support::ssh::{Remote, wait_until};
use crate::support::{World, stable};

#[test]
fn steps_change_the_machine_and_a_step_is_one_command_there() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    world.write(
        "greet.sh",
        "#!/bin/sh\necho \"greeted by $0\"\necho \"$WHO, $PACKER_BUILD_NAME, $PACKER_BUILDER_TYPE\"\n",
    );
    let template = remote.template(
        &world,
        remote.source(),
        json!([
            { "type": "shell", "inline": ["echo one; echo two >&2", "id -un"] },
            { "type": "shell", "script": "greet.sh", "environment_vars": ["WHO=the world"] },
        ]),
    );
    let outcome = world.succeed(&["build", template]);
    for line in ["one", "two", &remote.sshd.user(), "the world, null, null"] {
        assert!(outcome.stderr.lines().any(|shown| shown.ends_with(line)), "no `{line}`: {}", outcome.stderr);
    }
    assert_eq!(remote.commands(), 2, "{}", remote.sshd.log());
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn files_and_directories_go_up_and_come_down() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    world.write("tree/a", "a");
    world.write("tree/deep/b", "b");
    std::fs::set_permissions(world.path().join("tree/a"), std::fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("a", world.path().join("tree/link")).unwrap();
    let there = |name: &str| remote.path(name).display().to_string();
    let template = remote.template(
        &world,
        remote.source(),
        json!([
            { "type": "file", "source": "tree/a", "destination": there("new/file") },
            { "type": "file", "source": "tree", "destination": there("") },
            { "type": "file", "source": "tree/", "destination": there("content") },
            { "type": "file", "content": "said\n", "destination": there("said") },
            { "type": "shell", "inline": [format!("echo more >> {}", there("tree/deep/b"))] },
            { "type": "file", "direction": "download", "source": there("tree/deep/b"), "destination": "down/b" },
            { "type": "file", "direction": "download", "source": there("tree/"), "destination": "down/tree" },
        ]),
    );
    world.succeed(&["build", template]);
    let read = |name: &str| std::fs::read_to_string(remote.path(name)).unwrap();
    assert_eq!([read("new/file"), read("tree/a"), read("content/deep/b"), read("said")], ["a", "a", "b", "said\n"]);
    assert_eq!(std::fs::metadata(remote.path("tree/a")).unwrap().permissions().mode() & 0o777, 0o750);
    assert_eq!(std::fs::read_link(remote.path("content/link")).unwrap().to_str(), Some("a"));
    assert_eq!([world.read("down/b"), world.read("down/tree/deep/b")], ["bmore\n", "bmore\n"]);
}

#[test]
fn another_host_key_is_refused_and_both_are_shown() {
    let Some(mut remote) = Remote::start() else { return };
    let expected = remote.sshd.host_fingerprint();
    let source = remote.source_with(json!({ "ssh_host_key": [expected] }));
    remote.sshd.stop();
    remote.sshd.new_host_keys();
    remote.sshd.start_again();
    let world = World::new();
    let ran = remote.path("ran");
    let template =
        remote.template(&world, source, json!([{ "type": "shell", "inline": [format!("touch {}", ran.display())] }]));
    let outcome = world.run(&["build", template]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    for fingerprint in [&expected, &remote.sshd.host_fingerprint()] {
        assert!(outcome.stderr.contains(fingerprint.as_str()), "no {fingerprint}: {}", outcome.stderr);
    }
    assert!(!ran.exists());
    assert!(!remote.sshd.log().contains("Accepted"), "nothing is sent to a machine that is another's");
}

#[test]
fn an_unknown_host_key_is_refused_unless_any_will_do() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let mut source = remote.source();
    source.as_object_mut().unwrap().remove("ssh_host_key");
    let steps = json!([{ "type": "shell", "inline": ["echo in"] }]);
    let template = remote.template(&world, source.clone(), steps.clone());
    let refused = world.run(&["build", template]);
    assert_eq!(refused.code, 4, "{}", refused.stderr);
    assert!(refused.stderr.contains(&remote.sshd.host_fingerprint()), "{}", refused.stderr);

    source["ssh_accept_any_host_key"] = json!(true);
    let template = remote.template(&world, source.clone(), steps.clone());
    let warned = world.succeed(&["build", template]).stderr;
    assert!(warned.contains(&remote.sshd.host_fingerprint()), "what was accepted is said: {warned}");

    // The file that OpenSSH's client keeps.
    source.as_object_mut().unwrap().remove("ssh_accept_any_host_key");
    world.write(".home/.ssh/known_hosts", &remote.sshd.known_hosts());
    let template = remote.template(&world, source, steps);
    world.succeed(&["build", template]);
}

#[test]
fn passwords_bastions_and_terminals() {
    let Some(sshd) = Sshd::builder().passwords().start() else { return };
    let Some(remote) = Remote::of(sshd) else { return };
    let Some(bastion) = Sshd::start() else { return };
    let world = World::new();
    let mut source = remote.source_with(json!({
        "ssh_username": Sshd::ORDINARY_USER,
        "ssh_password": Sshd::PASSWORD,
        "ssh_pty": true,
        "ssh_bastion_host": bastion.host(),
        "ssh_bastion_port": bastion.port(),
        "ssh_bastion_username": bastion.user(),
        "ssh_bastion_private_key_file": bastion.user_key(),
        "ssh_bastion_host_key": bastion.host_keys(),
    }));
    source.as_object_mut().unwrap().remove("ssh_private_key_file");
    let template = remote.template(
        &world,
        source,
        json!([{ "type": "shell", "inline": ["id -un", "test -t 1 && echo on a terminal"] }]),
    );
    let outcome = world.succeed(&["build", template]);
    for line in [Sshd::ORDINARY_USER, "on a terminal"] {
        assert!(outcome.stderr.lines().any(|shown| shown.ends_with(line)), "no `{line}`: {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains(Sshd::PASSWORD));
    assert!(bastion.log().contains("Accepted"), "{}", bastion.log());
    assert!(remote.sshd.log().contains("Accepted password") || remote.sshd.log().contains("Accepted keyboard"));
}

#[test]
fn a_secret_is_seen_nowhere_on_the_machine() {
    let Some(remote) = Remote::start() else { return };
    let mut world = World::new();
    let secret = "s3cr3t-\"quoted\"-value";
    world.env("PKR_VAR_token", secret);
    let go_on = remote.path("go-on");
    let wait = format!("printf %s \"$TOKEN\" | sha256sum; while ! test -e {}; do sleep 0.05; done", go_on.display());
    world.write(
        "a.pkr.hcl",
        &format!(
            r#"variable "token" {{
  type      = string
  sensitive = true
}}
source "null" "a" {{
  ssh_host             = "{host}"
  ssh_port             = {port}
  ssh_username         = "{user}"
  ssh_private_key_file = "{key}"
  ssh_host_key         = ["{fingerprint}"]
}}
build {{
  sources = ["null.a"]
  provisioner "shell" {{
    env    = {{ TOKEN = var.token }}
    inline = [{wait}]
  }}
  provisioner "shell" {{
    environment_vars = ["TOKEN=${{var.token}}"]
    execute_command  = "chmod +x {{{{.Path}}}}; {{{{.Vars}}}} sh -c '{{{{.Path}}}}'"
    inline           = [{wait}]
  }}
}}
"#,
            host = remote.sshd.host(),
            port = remote.sshd.port(),
            user = remote.sshd.user(),
            key = remote.sshd.user_key().display(),
            fingerprint = remote.sshd.host_fingerprint(),
            wait = json!(wait),
        ),
    );
    let mut running = world.start(&["build", "-json", "a.pkr.hcl"]);
    let mut digests = Vec::new();
    for _ in 0..2 {
        let event = running.wait_for("the digest", |event| event["event"] == "output");
        digests.push(event["line"].as_str().unwrap().to_owned());
        let seen = remote.command_lines();
        assert!(seen.contains("sh"), "the step is seen: {seen}");
        assert!(!seen.contains("s3cr3t"), "{seen}");
        std::fs::write(&go_on, "").unwrap();
        running.wait_for("the step's end", |event| event["event"] == "step-finished");
        std::fs::remove_file(&go_on).unwrap();
    }
    let (code, stderr) = running.end();
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(digests[0], digests[1], "the step got the secret as it is");
    assert!(!remote.sshd.log().contains("s3cr3t"));
}

#[test]
fn builds_without_a_machine() {
    let world = World::new();
    world.write(
        "local.pkr.hcl",
        r#"source "null" "n" {
  communicator = "none"
}
source "file" "f" {
  content = "written by ${source.name}\n"
  target  = "out/f"
}
build {
  sources = ["null.n", "file.f"]
  provisioner "shell-local" {
    only   = ["file.f"]
    inline = ["cat out/f"]
  }
  provisioner "shell-local" {
    only   = ["null.n"]
    inline = ["echo ID is ${build.ID}, $PACKER_BUILDER_TYPE"]
  }
  post-processor "checksum" {
    only           = ["file.f"]
    checksum_types = ["sha256"]
    output         = "out/f.sum"
  }
}
"#,
    );
    let outcome = world.succeed(&["build", "-parallel-builds=1", "local.pkr.hcl"]);
    insta::assert_snapshot!("builds_without_a_machine", stable(&outcome.stderr, &world));
    assert_eq!(world.read("out/f"), "written by f\n");

    world.write(
        "wrong.pkr.hcl",
        r#"source "null" "n" {
  communicator = "none"
}
build {
  sources = ["null.n"]
  provisioner "shell" {
    inline = ["echo never"]
  }
}
"#,
    );
    let outcome = world.run(&["build", "wrong.pkr.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("this source has no machine"), "{}", outcome.stderr);
}

/// `examples/instance`, with its own server.
#[test]
fn the_example_does_what_it_says() {
    // Says where there is no server, and gives a port that is free once it is gone.
    let Some(port) = Sshd::start().map(|sshd| sshd.port()) else { return };
    let world = World::new();
    let kiln = world.command(&[]);
    let mut example = Command::new(crate::examples::root().join("examples/instance/try.sh"));
    for (name, value) in kiln.get_envs() {
        value.map(|value| example.env(name, value));
    }
    let output = example.env("KILN", kiln.get_program()).env("PORT", port.to_string()).output().unwrap();
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{shown}{said}");
    assert!(shown.starts_with("hello from ") && shown.trim_end().ends_with("@127.0.0.1"), "{shown}{said}");
}

#[test]
fn an_agent_is_lent_where_the_template_says_so_and_only_there() {
    let Some(remote) = Remote::start() else { return };
    let mut world = World::new();
    let socket = world.path().join("agent");
    let _agent = SshAgent::start(&socket, &remote.sshd.user_key());
    world.env("SSH_AUTH_SOCK", &socket.display().to_string());
    let steps =
        |line: &str| json!([{ "type": "shell", "inline": [line, line] }, { "type": "shell", "inline": [line] }]);
    let lent = remote.source_with(json!({ "ssh_agent_forwarding": true }));
    world.succeed(&["build", remote.template(&world, lent, steps("ssh-add -l | grep ED25519"))]);
    let none = steps("test -z \"${SSH_AUTH_SOCK-}\"");
    world.succeed(&["build", remote.template(&world, remote.source(), none)]);
    // What the user's configuration says holds where it is asked for, and the template has the last word.
    let config = world.path().join("config");
    let other = SshAgent::start(&world.path().join("other"), &remote.sshd.user_key());
    world.env("OTHER_AGENT", &other.socket().display().to_string());
    let configured = |more: Json| {
        let mut source = remote.source_with(json!({ "ssh_config_file": config }));
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        source
    };
    for (value, line) in [
        ("yes", "ssh-add -l"),
        ("$OTHER_AGENT", "ssh-add -l"),
        (&other.socket().display().to_string(), "ssh-add -l"),
        ("No", "test -z \"${SSH_AUTH_SOCK-}\""),
        ("false", "test -z \"${SSH_AUTH_SOCK-}\""),
        ("$UNSET_AGENT", "test -z \"${SSH_AUTH_SOCK-}\""),
        ("yes\n  IdentityAgent $OTHER_AGENT", "ssh-add -l"),
        ("yes\n  IdentityAgent none", "test -z \"${SSH_AUTH_SOCK-}\""),
        ("/nowhere/agent", "test -z \"${SSH_AUTH_SOCK-}\""),
    ] {
        world.write("config", &format!("ForwardAgent {value}\n"));
        let template = remote.template(&world, configured(json!({})), steps(line));
        let outcome = world.succeed(&["build", template]);
        let is_missing = ["UNSET", "nowhere", "none"].iter().any(|part| value.contains(part));
        assert_eq!(outcome.stderr.contains("and there is none"), is_missing, "{value}: {}", outcome.stderr);
    }
    world.write("config", "ForwardAgent yes\n");
    let kept = configured(json!({ "ssh_disable_agent_forwarding": true }));
    world.succeed(&["build", remote.template(&world, kept, steps("test -z \"${SSH_AUTH_SOCK-}\""))]);
}

#[test]
fn pausing_before_connecting_connects_twice() {
    let Some(remote) = Remote::start() else { return };
    let world = World::new();
    let source = remote.source_with(json!({ "pause_before_connecting": "200ms" }));
    let template = remote.template(&world, source, json!([{ "type": "shell", "inline": ["echo in"] }]));
    world.succeed(&["build", template]);
    assert_eq!(remote.sshd.log().matches("Accepted publickey").count(), 2, "{}", remote.sshd.log());
    wait_until("all connections are closed", || remote.sshd.connections().is_empty());
}
