//! The cache of steps, from the command line: what is restored, why not, what is kept and how it goes.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::support::{World, available, docker, stable};

/// Whether machines of a busybox base can run here.
pub(crate) fn is_there() -> bool {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|path| PathBuf::from(path).exists());
    available("a static busybox", found)
}

/// Three steps, of which the last one uploads a file.
const TEMPLATE: &str = r#"source "oci" "worker" {
  from = { busybox = true }
  tags = ["worker:1"]
}

build {
  sources = ["source.oci.worker"]

  provisioner "shell" {
    inline = ["echo one >> /steps"]
  }

  provisioner "shell" {
    name   = "second"
    inline = ["echo two >> /steps"]
  }

  provisioner "file" {
    source      = "motd"
    destination = "/etc/motd"
  }
}
"#;

fn world() -> World {
    let world = World::new();
    world.write("a.pkr.hcl", TEMPLATE);
    world.write("motd", "hello\n");
    world
}

/// What became of each step of a build, as far as it came, and the digest of its image.
fn build(world: &World, arguments: &[&str]) -> (Vec<&'static str>, Option<String>, i32) {
    let outcome = world.run(&[&["build", "-json"], arguments, &["a.pkr.hcl"]].concat());
    let events = outcome.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let (mut steps, mut digest) = (Vec::new(), None);
    for event in events {
        match event["event"].as_str() {
            Some("step-cached") => steps.push("cached"),
            Some("step-started") => steps.push("ran"),
            Some("artifact") => digest = event["digest"].as_str().map(str::to_owned),
            _ => {}
        }
    }
    (steps, digest, outcome.code)
}

fn plan(world: &World, arguments: &[&str]) -> String {
    stable(&world.succeed(&[&["plan"], arguments, &["a.pkr.hcl"]].concat()).stdout, world)
}

fn store(world: &World) -> PathBuf {
    let own = rustix::process::getuid().as_raw();
    let cache = world.path().join(".home/.cache/kiln");
    let entries = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    // The store of machines; that of records alone has no layers.
    entries
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&own.to_string()))
        .find(|path| std::fs::read_dir(path.join("layers")).is_ok_and(|mut layers| layers.next().is_some()))
        .unwrap()
}

#[test]
fn a_rebuild_runs_nothing_and_gives_the_same_image() {
    if !is_there() {
        return;
    }
    let world = world();
    insta::assert_snapshot!("plan_before", plan(&world, &[]));
    let (steps, digest, code) = build(&world, &[]);
    assert_eq!((steps.as_slice(), code), (["ran"; 3].as_slice(), 0));
    assert!(digest.is_some());
    insta::assert_snapshot!("plan_after", plan(&world, &[]));
    let again = build(&world, &[]);
    assert_eq!(again, (vec!["cached"; 3], digest, 0));
    let shown = world.succeed(&["build", "a.pkr.hcl"]).stderr;
    assert!(shown.contains("[2/3] CACHED shell \"second\": 1 inline command (a.pkr.hcl:13)"), "{shown}");
}

#[test]
fn a_plan_tells_which_input_changed() {
    if !is_there() {
        return;
    }
    let world = world();
    build(&world, &[]);
    world.write("motd", "hello again\n");
    let text = plan(&world, &[]);
    assert!(text.contains("cached   [2/3]") && text.contains("`motd` changed"), "{text}");
    assert_eq!(build(&world, &[]).0, ["cached", "cached", "ran"]);

    world.write("a.pkr.hcl", &TEMPLATE.replace("echo two", "echo zwei"));
    let text = plan(&world, &[]);
    assert!(text.contains("`inline` changed") && text.contains("a step before it runs"), "{text}");
    let report: Json = serde_json::from_str(&world.succeed(&["plan", "-json", "a.pkr.hcl"]).stdout).unwrap();
    let actions: Vec<_> = report["builds"][0]["steps"].as_array().unwrap().iter().map(|step| &step["action"]).collect();
    assert_eq!(actions, ["cached", "runs", "runs"]);
    assert_eq!(report["builds"][0]["steps"][1]["reason"]["changes"][0]["name"], "inline");
}

#[test]
fn after_a_failure_a_build_resumes_at_the_step_that_failed() {
    if !is_there() {
        return;
    }
    let world = world();
    world.write("a.pkr.hcl", &TEMPLATE.replace("echo two >> /steps", "test -e /run/never"));
    let (steps, _, code) = build(&world, &[]);
    assert_eq!((steps.as_slice(), code), (["ran", "ran"].as_slice(), 1));
    world.write("a.pkr.hcl", TEMPLATE);
    assert_eq!(build(&world, &[]).0, ["cached", "ran", "ran"]);
}

#[test]
fn steps_run_where_that_is_asked_for() {
    if !is_there() {
        return;
    }
    let world = world();
    build(&world, &[]);
    assert_eq!(build(&world, &["-from-step=second"]).0, ["cached", "ran", "ran"]);
    assert_eq!(build(&world, &["-from-step=3"]).0, ["cached", "cached", "ran"]);
    assert_eq!(build(&world, &["-no-cache"]).0, ["ran"; 3]);
    assert_eq!(build(&world, &["-post-only"]).2, 0);
    assert_eq!(world.run(&["plan", "-post-only", "a.pkr.hcl"]).code, 0);
    assert_eq!(world.run(&["build", "-post-only", "-no-cache", "a.pkr.hcl"]).code, 2);
    assert_eq!(build(&world, &["-from-step=none"]).2, 2);
    assert_eq!(world.run(&["plan", "-from-step=none", "a.pkr.hcl"]).code, 2);
    let text = plan(&world, &["-from-step=second"]);
    assert!(text.contains("`--from-step`"), "{text}");
    world.write("motd", "changed\n");
    let outcome = world.run(&["build", "-post-only", "a.pkr.hcl"]);
    assert_ne!(outcome.code, 0, "{}", outcome.stderr);
    let planned = world.run(&["plan", "-post-only", "a.pkr.hcl"]);
    assert_eq!(
        (planned.code, planned.stdout.contains("  fails    nothing is sealed")),
        (outcome.code, true),
        "{}",
        planned.stdout
    );
}

#[test]
fn a_shell_looks_into_a_kept_state_and_changes_nothing() {
    if !is_there() {
        return;
    }
    let world = world();
    build(&world, &[]);
    let outcome = world.run(&["shell", "oci.worker:1", "a.pkr.hcl", "-c", "cat /steps; echo x > /steps; exit 7"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (7, "one\n"), "{}", outcome.stderr);
    let outcome = world.run(&["shell", "worker:second", "a.pkr.hcl", "-c", "cat /steps >&2"]);
    assert!(outcome.code == 0 && outcome.stderr.contains("one\ntwo\n"), "{}", outcome.stderr);
    let mut child = world
        .command(&["shell", "worker", "a.pkr.hcl"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"cat /etc/motd\nexit 3\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(3), b"hello\n".as_slice()));
    let work = std::fs::read_dir(store(&world).join("work")).unwrap();
    assert_eq!(work.count(), 0, "nothing is left of the machines");
    assert_eq!(build(&world, &[]).0, ["cached"; 3]);
    for target in ["oci.worker:9", "oci.worker:none", "oci.other"] {
        let outcome = world.run(&["shell", target, "a.pkr.hcl", "-c", "true"]);
        assert_eq!(outcome.code, 2, "{}", outcome.stderr);
    }
}

/// A pseudo terminal as a person has it.
#[test]
fn a_shell_has_the_size_of_the_terminal_and_its_keys() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    if !is_there() {
        return;
    }
    let world = world();
    build(&world, &[]);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 101, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).unwrap();
    let terminal = || std::fs::File::options().read(true).write(true).open(&name).unwrap();
    let before = rustix::termios::tcgetattr(terminal()).unwrap().local_modes;
    let held = terminal();
    let mut child = world
        .command(&["shell", "oci.worker", "a.pkr.hcl"])
        .env("TERM", "xterm")
        .stdin(terminal())
        .stdout(terminal())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut master = std::fs::File::from(master);
    let mut seen = String::new();
    let mut expect = |master: &mut std::fs::File, text: &str| {
        let end = Instant::now() + Duration::from_secs(30);
        let mut chunk = [0; 4096];
        while !seen.contains(text) {
            assert!(Instant::now() < end, "no `{text}` in {seen:?}");
            let count = master.read(&mut chunk).unwrap();
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        seen.clear();
    };
    expect(&mut master, "# ");
    master.write_all(b"stty size; echo term=$TERM\n").unwrap();
    expect(&mut master, "33 101");
    // The key, not a signal for kiln.
    // In a shell of its own, which dies of it at any moment: one that has just forked for `sleep` may lose the key.
    master.write_all(b"sh -c 'echo start$((1+1)); exec sleep 100'\n").unwrap();
    expect(&mut master, "start2");
    master.write_all(b"\x03").unwrap();
    expect(&mut master, "# ");
    master.write_all(b"exit 9\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(rustix::termios::tcgetattr(&held).unwrap().local_modes, before, "the terminal is as it was");
}

#[test]
fn what_is_kept_is_listed_explained_and_removed() {
    if !is_there() {
        return;
    }
    let world = world();
    assert_eq!(world.succeed(&["cache", "ls"]).stdout, "nothing is kept\n");
    build(&world, &[]);
    let listed: Json = serde_json::from_str(&world.succeed(&["cache", "ls", "-json"]).stdout).unwrap();
    let items: Vec<&Json> = listed["stores"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|store| store["usage"]["items"].as_array())
        .flatten()
        .collect();
    let count = |kind: &str| items.iter().filter(|item| item["kind"] == kind).count();
    assert_eq!(["state", "sealed", "base", "layer", "image"].map(count), [3, 1, 1, 1, 1]);
    let text = world.succeed(&["cache", "explain", "worker:second"]).stdout;
    assert!(text.contains("[2] shell \"second\": 1 inline command") && text.contains("kept as "), "{text}");
    let outcome = world.run(&["cache", "explain", "wroker"]);
    assert_eq!((outcome.code, outcome.stderr.contains("did you mean")), (2, false), "{}", outcome.stderr);

    let would = world.succeed(&["cache", "prune", "-all", "-dry-run"]).stderr;
    assert!(would.contains("6 would be removed"), "{would}");
    assert_eq!(build(&world, &[]).0, ["cached"; 3]);
    let pruned = world.succeed(&["cache", "prune", "-all"]).stderr;
    assert!(pruned.contains("6 removed"), "{pruned}");
    let text = plan(&world, &[]);
    assert!(text.contains("no longer in the cache"), "{text}");
    let (steps, digest, code) = build(&world, &[]);
    assert_eq!((steps.as_slice(), digest.is_some(), code), (["ran"; 3].as_slice(), true, 0));
}

#[test]
fn a_store_is_cut_back_after_a_build() {
    if !is_there() {
        return;
    }
    let mut world = world();
    world.env("KILN_CACHE_MAX_SIZE", "1");
    assert_eq!(build(&world, &[]).2, 0);
    let steps = world.path().join(".home/.cache/kiln");
    let end = Instant::now() + Duration::from_secs(60);
    let is_empty = || {
        let stores = std::fs::read_dir(&steps).unwrap().map(|entry| entry.unwrap().path().join("steps"));
        stores.filter_map(|path| std::fs::read_dir(path).ok()).all(|mut entries| entries.next().is_none())
    };
    while !is_empty() {
        assert!(Instant::now() < end, "nothing was collected");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut world = World::new();
    world.env("KILN_CACHE_MAX_SIZE", "much");
    std::fs::create_dir_all(world.path().join(".home/.cache/kiln")).unwrap();
    world.succeed(&["cache", "prune"]);
}

#[test]
fn a_broken_cache_is_a_miss() {
    if !is_there() {
        return;
    }
    let mut world = world();
    // Steps that run anew make files anew.
    world.env("SOURCE_DATE_EPOCH", "1700000000");
    let (_, digest, _) = build(&world, &[]);
    let store = store(&world);
    for directory in ["steps", "layers"] {
        for entry in std::fs::read_dir(store.join(directory)).unwrap() {
            std::fs::write(entry.unwrap().path().join("meta.json"), "{").unwrap();
        }
    }
    for directory in ["sealed", "bases", "plans"] {
        for entry in std::fs::read_dir(store.join(directory)).into_iter().flatten() {
            std::fs::write(entry.unwrap().path(), "[]").unwrap();
        }
    }
    assert_eq!(build(&world, &[]), (vec!["ran"; 3], digest.clone(), 0));
    assert_eq!(build(&world, &[]), (vec!["cached"; 3], digest, 0));
}

#[test]
fn a_cache_that_others_may_write_to_is_refused() {
    if !is_there() {
        return;
    }
    let world = world();
    build(&world, &[]);
    std::fs::set_permissions(store(&world), std::fs::Permissions::from_mode(0o777)).unwrap();
    let outcome = world.run(&["cache", "ls"]);
    assert_eq!(outcome.code, 4);
    assert!(outcome.stderr.contains("may be written to by others") && outcome.stderr.contains("KILN_CACHE_DIR"));
    assert_eq!(world.run(&["build", "a.pkr.hcl"]).code, 4);
}

#[test]
fn two_builds_at_once_share_what_is_kept() {
    if !is_there() {
        return;
    }
    let world = world();
    let start = || world.command(&["build", "a.pkr.hcl"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let running = [start(), start(), start()];
    for child in running {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(build(&world, &[]).0, ["cached"; 3]);
}

#[test]
fn docker_sources_run_without_a_daemon_and_are_kept_too() {
    if !is_there() {
        return;
    }
    let mut world = world();
    build(&world, &[]);
    let template = r#"source "docker" "app" {
  image   = "worker:1"
  pull    = false
  commit  = true
  changes = ["ENV STAGE=app"]

  platform_hosts = { "linux/arm64" = "tcp://arm.example.org:2375" }
}

build {
  sources = ["source.docker.app"]

  provisioner "shell" {
    inline = ["cat /etc/motd /steps > /all"]
  }
}
"#;
    world.write("a.pkr.hcl", template);
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let told = world.succeed(&["validate", "-docker-as=oci", "a.pkr.hcl"]).stderr;
    assert!(told.contains("`platform_hosts` has no effect without the Docker engine"), "{told}");
    assert_eq!(build(&world, &["-docker-as=oci"]).0, ["ran"]);
    assert_eq!(build(&world, &["-docker-as=docker"]).2, 4, "there is no engine");
    world.env("KILN_DOCKER_AS", "oci");
    let (steps, digest, code) = build(&world, &[]);
    assert_eq!((steps.as_slice(), digest.is_some(), code), (["cached"].as_slice(), true, 0));
    let outcome = world.succeed(&["shell", "docker.app", "a.pkr.hcl", "-c", "cat /all"]);
    assert_eq!(outcome.stdout, "hello\none\ntwo\n");
}

#[test]
fn who_runs_docker_sources_must_be_known() {
    let mut world = World::new();
    world.env("KILN_DOCKER_AS", "podman");
    world.write("a.pkr.hcl", "source \"docker\" \"a\" {\n  image = \"x\"\n  commit = true\n}\nbuild {\n  sources = [\"source.docker.a\"]\n}\n");
    let outcome = world.run(&["validate", "a.pkr.hcl"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("KILN_DOCKER_AS is `podman`"), "{}", outcome.stderr);
}

/// What `docs/guide/artifacts.md` begins with: nothing but sources.
const SOURCES: &str = r#"source "oci" "base" {
  from = { busybox = true }
}

source "oci" "dev" {
  from = artifact.base.image
}

source "docker" "prod" {
  image   = artifact.base.image
  commit  = true
  changes = ["LABEL org.example.dev=${artifact.dev.digest}", "LABEL org.example.run=RUN"]
}

build {
  sources = ["oci.base", "oci.dev", "docker.prod"]
}
"#;

/// What a build without steps came to: builds with their images, and those of them that started no machine.
fn sealed(world: &World, arguments: &[&str]) -> (Vec<(String, String)>, Vec<String>) {
    let outcome = world.succeed(&[&["build", "-json"], arguments, &["a.pkr.hcl"]].concat());
    let (mut images, mut cached) = (Vec::new(), Vec::new());
    for event in outcome.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap()) {
        let build = event["build"].as_str().unwrap_or_default().to_owned();
        if event["event"] == "build-finished" {
            images.push((build, event["artifacts"][0]["id"].as_str().unwrap().to_owned()));
        } else if event.to_string().contains("CACHED seal") {
            cached.push(build);
        }
    }
    (images, cached)
}

#[test]
fn builds_without_steps_are_remembered_too() {
    if !is_there() || !docker::is_there() {
        return;
    }
    let world = World::new();
    // An image of this test alone, which it may remove.
    let run = format!("{:?}", world.path());
    world.write("a.pkr.hcl", &SOURCES.replace("RUN", &run.replace(['"', '/'], "")));
    let never = world.run(&["build", "-post-only", "a.pkr.hcl"]);
    assert_eq!(never.code, 1, "{}", never.stderr);
    let (first, _) = sealed(&world, &[]);
    let removed = first.iter().filter(|(build, _)| build == "docker.prod").map(|(_, image)| image.clone()).collect();
    let _images = docker::Removed(removed);
    assert_eq!(plan(&world, &[]).matches("cached   seal").count(), 3);
    let all = ["oci.base", "oci.dev", "docker.prod"];
    for more in [&[][..], &["-post-only"]] {
        let (again, cached) = sealed(&world, more);
        assert_eq!((&again, cached), (&first, all.map(str::to_owned).to_vec()), "{more:?}");
    }
    for more in [&["-only=oci.dev", "-no-deps"][..], &["-except=oci.base"]] {
        let (again, cached) = sealed(&world, more);
        assert!(again.iter().all(|image| first.contains(image)), "{again:?}");
        assert!(cached.contains(&"oci.dev".to_owned()) && !cached.contains(&"oci.base".to_owned()), "{cached:?}");
    }
    let shell = world.succeed(&["shell", "oci.dev", "a.pkr.hcl", "-c", "echo inside"]);
    assert_eq!(shell.stdout, "inside\n");
    let (_, cached) = sealed(&world, &["-no-cache", "-only=oci.dev"]);
    assert_eq!(cached, Vec::<String>::new());
}

#[test]
fn what_a_failure_proposes_works_upon_a_base_without_steps() {
    if !is_there() {
        return;
    }
    let world = World::new();
    let sources = SOURCES.replace(r#", "docker.prod""#, "");
    let step = "  provisioner \"shell\" {\n    only   = [\"oci.dev\"]\n    inline = [\"exit 3\"]\n  }\n}\n";
    world.write("a.pkr.hcl", &format!("{}{step}", sources.trim_end().trim_end_matches('}')));
    let failed = world.run(&["build", "a.pkr.hcl"]);
    assert!(failed.stderr.contains("`kiln shell oci.dev:0 a.pkr.hcl`"), "{}", failed.stderr);
    let shell = world.succeed(&["shell", "oci.dev:0", "a.pkr.hcl", "-c", "echo inside"]);
    assert_eq!(shell.stdout, "inside\n");
}
