//! What goes wrong: each fault is told with its place and what to do, and leaves nothing behind.

use std::io::{Read, Write};

use serde_json::Value as Json;

use crate::support::docker::{self, Removed};
use crate::support::{World, available, stable};

const BUILDER: &str =
    r#"{"type": "docker", "name": "worker", "image": "debian:bookworm", "pull": false, "commit": true}"#;

/// Nothing of a run is left: no container, no image, no file.
#[track_caller]
fn nothing_is_left(world: &World, run: &str) {
    let label = format!("kiln.run={run}");
    assert_eq!(docker::containers_with(&label), Vec::<String>::new(), "containers");
    assert_eq!(docker::images_with(&label), Vec::<String>::new(), "images");
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "files");
}

#[test]
fn no_daemon_is_an_environment_error_with_hints() {
    let mut world = World::new();
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    world.write("a.json", &format!("{{\"builders\": [{BUILDER}]}}"));
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 4, "{}", outcome.stderr);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn an_unknown_image_is_named() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "image": "kiln-test/no-such-image:1", "pull": "never", "commit": true}]}"#,
    );
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
}

#[test]
fn a_failed_script_names_build_step_place_status_and_last_lines() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("fails.sh", "#!/bin/sh\necho about to fail\nsleep 0.3\necho the reason >&2\nexit 3\n");
    world.write("a.json", &format!("{{\n  \"builders\": [{BUILDER}],\n  \"provisioners\": [\n    {{ \"type\": \"shell\", \"inline\": \"true\" }},\n    {{ \"type\": \"shell\", \"script\": \"fails.sh\" }}\n  ]\n}}\n"));
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1);
    insta::assert_snapshot!(stable(&outcome.stderr, &world));
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_full_disk_at_export_is_told_and_leaves_no_partial_file() {
    if !docker::is_there() || !available("root", is_root()) {
        return;
    }
    let world = World::new();
    let small = world.path().join("small");
    std::fs::create_dir(&small).unwrap();
    let mount = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program).args(arguments).arg(&small).status().unwrap().success()
    };
    assert!(mount("mount", &["-t", "tmpfs", "-o", "size=8m", "kiln-test"]));
    world.write("a.json", r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "export_path": "small/root.tar"}]}"#);
    let outcome = world.run(&["build", "a.json"]);
    let left: Vec<_> = std::fs::read_dir(&small).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(mount("umount", &[]));
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("small/root.tar") && outcome.stderr.contains("No space left"),
        "{}",
        outcome.stderr
    );
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

fn is_root() -> bool {
    std::process::Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

/// Killed in each phase; `cleanup` finishes what the journal says.
#[test]
fn kill_9_in_any_phase_then_cleanup_leaves_nothing() {
    if !docker::is_there() {
        return;
    }
    type Phase = (&'static str, fn(&Json) -> bool);
    let phases: [Phase; 5] = [
        ("start", |event| event["event"] == "build-started"),
        ("first step", |event| event["event"] == "step-started" && event["index"] == 1),
        ("running step", |event| event["event"] == "output" && event["line"] == "running"),
        ("commit", |event| event["event"] == "step-finished" && event["index"] == 2),
        ("post-processing", |event| event["event"] == "output" && event["line"] == "processing"),
    ];
    for (phase, fits) in phases {
        let world = World::new();
        // The tag existed before with another image: cleanup puts it back.
        let tag = format!("kiln-test/killed:{}", phase.replace(' ', "-"));
        assert!(std::process::Command::new("docker").args(["tag", docker::BASE, &tag]).status().unwrap().success());
        let _removed = Removed(vec![tag.clone()]);
        let (repository, name) = tag.split_once(':').unwrap();
        world.write(
            "a.json",
            &format!(
                r#"{{"builders": [{BUILDER}],
                "provisioners": [{{"type": "file", "source": "a.json", "destination": "/a.json"}},
                                 {{"type": "shell", "inline": ["echo running", "sleep 1"]}}],
                "post-processors": [[{{"type": "docker-tag", "repository": "{repository}", "tag": "{name}"}},
                                     {{"type": "shell-local", "inline": ["echo processing", "sleep 60"]}}]]}}"#
            ),
        );
        let mut running = world.start(&["build", "-json", "a.json"]);
        running.wait_for(phase, fits);
        let run = running.run.clone();
        running.signal("KILL");
        assert_eq!(running.end().0, -1, "{phase}");
        let dry = world.succeed(&["cleanup", "--dry-run"]);
        let cleaned = world.succeed(&["cleanup"]);
        nothing_is_left(&world, &run);
        assert_eq!(
            docker::image(&tag).unwrap()["Id"],
            docker::image(docker::BASE).unwrap()["Id"],
            "{phase}: {}{}",
            dry.stderr,
            cleaned.stderr
        );
        let again = world.succeed(&["cleanup"]);
        assert!(again.stderr.contains("nothing to clean up"), "{phase}: {}", again.stderr);
    }
}

#[test]
fn cleanup_leaves_a_living_run_alone() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("a.json", &format!(r#"{{"builders": [{BUILDER}], "provisioners": [{{"type": "shell", "inline": ["echo running", "sleep 30"]}}]}}"#));
    let mut running = world.start(&["build", "-json", "a.json"]);
    running.wait_for("output", |event| event["event"] == "output");
    world.succeed(&["cleanup"]);
    assert_eq!(docker::containers_with(&format!("kiln.run={}", running.run)).len(), 1);
    let run = running.run.clone();
    running.signal("INT");
    assert_eq!(running.end().0, 130);
    nothing_is_left(&world, &run);
}

#[test]
fn ctrl_c_unwinds_within_seconds() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("a.json", &format!(r#"{{"builders": [{BUILDER}], "provisioners": [{{"type": "shell", "inline": ["echo running", "sleep 300"]}}]}}"#));
    let mut running = world.start(&["build", "-json", "a.json"]);
    running.wait_for("output", |event| event["event"] == "output");
    let (run, start) = (running.run.clone(), std::time::Instant::now());
    running.signal("INT");
    running.wait_for("cancelled", |event| event["event"] == "build-finished" && event["outcome"] == "cancelled");
    assert_eq!(running.end().0, 130);
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    nothing_is_left(&world, &run);
}

/// The question stands on a terminal, and nothing waits for it once the run is stopped.
#[test]
fn ctrl_c_at_a_question_unwinds_too() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        &format!(r#"{{"builders": [{BUILDER}], "provisioners": [{{"type": "shell", "inline": ["exit 3"]}}]}}"#),
    );
    let kiln = world.command(&["build", "-on-error=ask", "a.json"]);
    // `script` gives it a terminal, and passes on what is typed.
    let mut command = std::process::Command::new("script");
    let line = format!("{} build -on-error=ask a.json", kiln.get_program().display());
    command.args(["-qefc", &line, "/dev/null"]).current_dir(world.path());
    command.env_clear().envs(kiln.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = Screen { output: child.stdout.take().unwrap(), seen: String::new() };
    screen.read_until("[r]etry the failed step?", 1);
    assert!(screen.seen.contains("exited with status 3"), "the question is about what was said: {}", screen.seen);
    keyboard.write_all(b"r\n").unwrap();
    screen.read_until("[r]etry the failed step?", 2);
    let start = std::time::Instant::now();
    keyboard.write_all(b"\x03").unwrap();
    screen.read_until("stopped\r\n", 1);
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", screen.seen);
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
}

struct Screen {
    output: std::process::ChildStdout,
    seen: String,
}

impl Screen {
    #[track_caller]
    fn read_until(&mut self, wanted: &str, times: usize) {
        while self.seen.matches(wanted).count() < times {
            let mut chunk = [0; 4096];
            let count = self.output.read(&mut chunk).unwrap();
            assert!(count > 0, "no `{wanted}` in {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    }
}

/// What a step started is gone when its time is up: it would meddle with the steps that follow.
#[test]
fn a_step_whose_time_is_up_leaves_nothing_running() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.pkr.hcl",
        r#"source "docker" "a" {
  image   = "debian:bookworm"
  pull    = false
  discard = true
}
build {
  sources = ["docker.a"]
  provisioner "shell" {
    timeout           = "1s"
    continue_on_error = true
    inline            = ["sleep 3001 & sleep 3002"]
  }
  provisioner "shell" {
    inline = ["cat /proc/[0-9]*/cmdline | tr '\\0' '\n' | grep -c '^300[12]$' || true"]
  }
}
"#,
    );
    let outcome = world.succeed(&["build", "-json", "a.pkr.hcl"]);
    assert!(outcome.stdout.contains(r#""line":"0""#), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("it took longer than its `timeout`"), "{}", outcome.stdout);
}

#[test]
fn abort_leaves_the_machine_and_cleanup_removes_it() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        &format!(r#"{{"builders": [{BUILDER}], "provisioners": [{{"type": "shell", "inline": ["exit 3"]}}]}}"#),
    );
    let outcome = world.run(&["build", "-on-error=abort", "a.json"]);
    assert_eq!(outcome.code, 1);
    let run = stable_run(&outcome.stderr);
    assert_eq!(docker::containers_with(&format!("kiln.run={run}")).len(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("docker exec -it"), "{}", outcome.stderr);
    world.succeed(&["cleanup"]);
    nothing_is_left(&world, &run);
}

fn stable_run(stderr: &str) -> String {
    let run = regex::Regex::new(r"run ([0-9a-f-]{36})").unwrap();
    run.captures(stderr).unwrap_or_else(|| panic!("no run id in {stderr}"))[1].to_owned()
}

#[test]
fn the_error_cleanup_provisioner_runs_on_the_living_machine() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        &format!(
            r#"{{"builders": [{BUILDER}], "provisioners": [{{"type": "shell", "inline": ["echo trace > /trace", "exit 3"]}}],
            "error-cleanup-provisioner": {{"type": "file", "direction": "download", "source": "/trace", "destination": "trace.txt"}}}}"#
        ),
    );
    assert_eq!(world.run(&["build", "a.json"]).code, 1);
    assert_eq!(world.read("trace.txt"), "trace\n");
}

#[test]
fn a_base_volume_with_provisioned_data_is_warned_of() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write("base.json", r#"{"builders": [{"type": "docker", "image": "debian:bookworm", "pull": false, "commit": true, "changes": ["VOLUME /var/lib/data"]}],
        "post-processors": [{"type": "docker-tag", "repository": "kiln-test/volume", "tag": "1"}]}"#);
    let _removed = Removed(vec!["kiln-test/volume:1".into()]);
    world.succeed(&["build", "base.json"]);
    world.write(
        "a.json",
        r#"{"builders": [{"type": "docker", "image": "kiln-test/volume:1", "pull": false, "commit": true}],
        "provisioners": [{"type": "shell", "inline": ["echo lost > /var/lib/data/file"]}]}"#,
    );
    let outcome = world.run(&["build", "-json", "a.json"]);
    let _image = Removed(docker::built_images(&outcome.stdout));
    assert!(
        outcome.stdout.lines().any(|line| line.contains("\"warning\"") && line.contains("/var/lib/data")),
        "{}",
        outcome.stdout
    );
}

#[test]
fn a_broken_manifest_is_not_overwritten() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    world.write(
        "a.json",
        &format!(r#"{{"builders": [{BUILDER}], "post-processors": [{{"type": "manifest", "output": "m.json"}}]}}"#),
    );
    world.write("m.json", "not json");
    let outcome = world.run(&["build", "a.json"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert_eq!(world.read("m.json"), "not json");
    assert!(outcome.stderr.contains("m.json"), "{}", outcome.stderr);
}

#[test]
fn a_directory_without_templates_is_told() {
    let world = World::new();
    std::fs::create_dir(world.path().join("empty")).unwrap();
    let outcome = world.run(&["build", "empty"]);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stderr.contains("empty"), "{}", outcome.stderr);
}
