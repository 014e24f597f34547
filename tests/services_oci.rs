//! Side-cars and `test` blocks of `oci` builds: without a daemon, in this host's network, gone afterwards.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::support::{World, available, stable};

/// What services and machines start from.
const BASE: &str = r#"source "oci" "base" {
  from = { busybox = true }
  #more
}
build {
  sources = ["source.oci.base"]
}
"#;

/// A service that answers at a port a moment after its start, in the words of the environment variable `GREETING`, from
/// memory. What it needs must be there as on a host of its own: a user, shared memory of a size, a list of hosts.
const SERVER: &str = r#"
    image       = artifact.base.image
    environment = { GREETING = "hello" }
    command     = <<-END
      mkdir -p /data/www && grep -q ' /data ' /proc/mounts && df -m /dev/shm | grep -q ' 8 ' || echo poor >&2
      echo $GREETING > /data/www/greeting; echo serving; sleep 0.4
      exec httpd -f -p 127.0.0.1:PORT -h /data/www
    END
    tmpfs       = { "/data" = "size=1m" }
    shm_size    = "8m"
    aliases     = ["database"]
    health_check {
      command = ["wget", "-q", "-O", "-", "http://127.0.0.1:PORT/greeting"]
    }
"#;

/// A world where machines can be made; `None` without busybox or root.
fn world() -> Option<World> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|path| PathBuf::from(path).exists());
    let is_root = rustix::process::geteuid().is_root();
    available("root with a static busybox", found && is_root).then(World::new)
}

/// A port of this host that no other of these tests has.
fn port() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    (20_000 + (std::process::id() % 2_000) as u16 * 10 + next).to_string()
}

/// A template: arguments of the source, what runs, and what stands behind that in the build.
fn template(source: &str, inline: &[&str], behind: &str) -> String {
    let inline = serde_json::to_string(inline).unwrap();
    format!(
        "{BASE}source \"oci\" \"worker\" {{\n  from = artifact.base.image\n{source}\n}}\nbuild {{\n  sources = \
         [\"source.oci.worker\"]\n  provisioner \"shell\" {{\n    inline = {inline}\n  }}\n{behind}\n}}\n"
    )
}

/// The run's id, as its first line says.
fn run_of(stderr: &str) -> String {
    let (_, rest) = stderr.split_once("run ").unwrap();
    rest.split(':').next().unwrap().to_owned()
}

/// What builds have in the stores, and what is in the journals.
fn left(world: &World) -> Vec<PathBuf> {
    let stores = std::fs::read_dir(world.path().join(".home/.cache/kiln")).into_iter().flatten();
    let work = stores.flat_map(|store| std::fs::read_dir(store.unwrap().path().join("work")).into_iter().flatten());
    work.map(|entry| entry.unwrap().path()).chain(world.leftovers()).collect()
}

#[test]
fn steps_and_tests_reach_a_healthy_service_by_its_names() {
    for isolation in ["", "isolation = \"chroot\""] {
        let Some(world) = world() else { return };
        let source = format!("  {isolation}\n  tags = [\"worker:1\"]\n  service \"db\" {{{SERVER}  }}");
        let source = if isolation.is_empty() { source } else { source.replace("|| echo poor >&2", "|| true") };
        let ask = |name: &str| format!("wget -q -O - http://{name}:PORT/greeting");
        let tests = format!(
            r#"  test "asks a new one" {{
    command       = "{}; cat /step"
    services      = ["db"]
    expect_output = "^hello\\nmade$"
  }}
  test "has none" {{
    inline      = ["exec 2>&1", "! {}"]
  }}"#,
            ask("database"),
            ask("127.0.0.1"),
        );
        let text = template(&source, &[&ask("db"), &ask("database"), "echo made > /step"], &tests);
        let text = text.replace("PORT", &port()).replace("#more", isolation);
        world.write("a.kiln.hcl", &text);
        let outcome = world.succeed(&["build", "a.kiln.hcl"]);
        assert_eq!(outcome.stderr.matches("oci.worker: hello").count(), 3, "{isolation}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("poor") && !outcome.stderr.contains("is taken"), "{}", outcome.stderr);
        assert_eq!(left(&world), Vec::<PathBuf>::new(), "{isolation}");
        // Tests run each time, steps do not.
        let again = world.succeed(&["build", "a.kiln.hcl"]).stderr;
        assert!(again.contains("CACHED shell") && again.contains("test has none passed"), "{again}");
        assert_eq!(again.matches("starting service db").count(), 1, "{again}");
        // Another service is another result.
        world.write("a.kiln.hcl", &text.replace("GREETING = \"hello\"", "GREETING = \"good day\""));
        let changed = world.run(&["build", "a.kiln.hcl"]);
        assert!(changed.stderr.contains("good day") && !changed.stderr.contains("CACHED shell"), "{}", changed.stderr);
        assert_eq!((changed.code, left(&world)), (1, Vec::new()), "{}", changed.stderr);
    }
}

#[test]
fn one_that_never_gets_healthy_shows_its_log_and_leaves_nothing() {
    let Some(mut world) = world() else { return };
    world.env("DB_PASSWORD", "correct-horse");
    let source = r#"  discard = true
  service "db" {
    image       = artifact.base.image
    environment = { PASSWORD = var.password }
    command     = "echo starting with $PASSWORD; echo disk full; sleep 600"
    health_check {
      command  = "echo no connection >&2; exit 2"
      interval = "1s"
      retries  = 3
    }
  }"#;
    let variable = "variable \"password\" {\n  default   = env(\"DB_PASSWORD\")\n  sensitive = true\n}\n";
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let text = template(source, &["true"], "").replace("#more", &format!("changes = [\"EXPOSE {port} 1/udp\"]"));
    world.write("a.kiln.hcl", &format!("{variable}{text}"));
    let outcome = world.run(&["build", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let run = run_of(&outcome.stderr);
    let told = stable(&outcome.stderr, &world).replace(&run[..8], "[run8]").replace(&port, "[port]");
    assert!(!told.contains("[1/1]"), "no step runs: {told}");
    let of_worker: Vec<&str> = told.lines().skip_while(|line| !line.contains("starting service")).collect();
    insta::assert_snapshot!("an_oci_service_never_gets_healthy", of_worker.join("\n"));
    let log = world.state().join(format!("logs/{}-oci.worker-db.log", &run[..8]));
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("disk full") && !log.contains("correct-horse"), "{log}");
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

#[test]
fn a_failing_test_fails_the_build_and_nothing_is_made_of_it() {
    let Some(world) = world() else { return };
    let port = port();
    let cases = [
        ("command = \"echo going down; exit 5\"", "it ended with status 5, and 0 is expected"),
        ("arguments = [\"once\"]\n    expect_output = \"^bye\"", "what it printed does not match `^bye`"),
        (
            "health {\n      command = \"echo no port >&2; false\"\n      interval = \"1s\"\n      retries = 2\n    }",
            "did not become healthy within 2.0s: its health check `echo no port >&2; false` exits with 1: no port",
        ),
        ("command = [\"sleep\", \"60\"]\n    timeout = \"700ms\"", "it took longer than its `timeout` of 700ms"),
        ("command = [\"/missing\"]", "it ended with status 127"),
    ];
    for (test, why) in cases {
        let source =
            "  tags = [\"tested:1\"]\n  oci_layout = \"layout\"\n  changes = [\"ENTRYPOINT [\\\"/serve\\\"]\"]";
        let script =
            "printf '#!/bin/sh\\necho serving $*; test \"$1\" = once || exec sleep 600\\n' > /serve; chmod +x /serve";
        let behind = format!("  test \"smoke\" {{\n    {test}\n  }}\n  post-processor \"manifest\" {{}}");
        world.write("a.kiln.hcl", &template(source, &[script], &behind).replace("PORT", &port));
        let outcome = world.run(&["build", "a.kiln.hcl"]);
        assert!(outcome.code == 1 && outcome.stderr.contains(why), "{test}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("test `smoke` (a.kiln.hcl:"), "{}", outcome.stderr);
        assert_eq!(left(&world), Vec::<PathBuf>::new(), "{test}");
        assert!(!world.path().join("packer-manifest.json").exists() && !world.path().join("layout").exists(), "{test}");
        let named =
            "source \"oci\" \"next\" {\n  from = { local = \"tested:1\" }\n}\nbuild {\n  sources = [\"oci.next\"]\n}\n";
        world.write("b.kiln.hcl", named);
        let named = world.run(&["build", "b.kiln.hcl"]);
        assert!(named.stderr.contains("no image in kiln's store is named tested:1"), "{test}: {}", named.stderr);
    }
}

#[test]
fn an_image_as_it_is_gets_ready_beside_a_service() {
    let Some(world) = world() else { return };
    let (port, own) = (port(), port());
    let source = format!(
        "  changes = [\"ENTRYPOINT [\\\"/serve\\\"]\", \"HEALTHCHECK --interval=1s --retries=60 CMD test -e /tmp/ready\"]\n  \
         service \"db\" {{{SERVER}  }}"
    );
    let script = "printf '#!/bin/sh\\necho serving; sleep 0.3; touch /tmp/ready; exec httpd -f -p 127.0.0.1:OWN -h /etc\\n' \
                  > /serve; chmod +x /serve";
    let tests = r#"  test "gets ready" {
    health {}
    command       = "wget -q -O - http://db:PORT/greeting; wget -q -O - http://127.0.0.1:OWN/hostname"
    services      = ["db"]
    expect_output = "^hello\\nkiln$"
  }"#;
    let text = template(&source, &[script], tests).replace("PORT", &port).replace("OWN", &own);
    world.write("a.kiln.hcl", &text);
    let outcome = world.succeed(&["build", "a.kiln.hcl"]);
    assert!(outcome.stderr.contains("test gets ready passed"), "{}", outcome.stderr);
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

/// All of them are in one network, where two cannot have one port.
#[test]
fn services_of_two_builds_take_turns() {
    let Some(world) = world() else { return };
    let source = format!("  discard = true\n  service \"db\" {{{SERVER}  }}");
    let ask = "wget -q -O - http://db:PORT/greeting";
    let text = template(&source, &[ask, "sleep 0.3"], "")
        .replace("[\"source.oci.worker\"]", "[\"source.oci.worker\", \"source.oci.other\"]");
    let other =
        format!("source \"oci\" \"other\" {{\n  from = artifact.base.image\n{source}\n}}\n").replace("hello", "moin");
    world.write("a.kiln.hcl", &format!("{text}{other}").replace("PORT", &port()));
    let told = world.succeed(&["build", "a.kiln.hcl"]).stderr;
    assert!(told.contains("oci.worker: hello") && told.contains("oci.other: moin"), "{told}");
    assert_eq!(told.matches("waiting for the services of another build").count(), 1, "{told}");
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

/// Ended while a service is waited for, from the outside or by Ctrl-C.
#[test]
fn a_run_that_is_cut_off_leaves_nothing() {
    for how in ["KILL", "INT"] {
        let Some(world) = world() else { return };
        let mark = format!("6{}.{}", port(), how.len());
        let source = format!(
            "  discard = true\n  service \"db\" {{\n    image = artifact.base.image\n    command = [\"sleep\", \"{mark}\"]\n    \
             health_check {{\n      command = \"exit 1\"\n    }}\n  }}"
        );
        world.write("a.kiln.hcl", &template(&source, &["true"], ""));
        let mut running = world.start(&["build", "-json", "a.kiln.hcl"]);
        running.wait_for("a service starts", |event| {
            event["text"].as_str().is_some_and(|text| text.starts_with("starting service db"))
        });
        let is_running = || processes(&mark) > 0;
        wait_until("the service runs", is_running);
        if how == "INT" {
            running.ctrl_c()
        } else {
            running.signal(how)
        }
        let (code, stderr) = running.end();
        wait_until("the service has ended", || !is_running());
        if how == "KILL" {
            assert_eq!(left(&world).iter().filter(|path| path.parent().unwrap().ends_with("work")).count(), 2);
            world.succeed(&["cleanup"]);
        } else {
            assert_eq!(code, 130, "{stderr}");
        }
        assert_eq!(left(&world), Vec::<PathBuf>::new(), "{how}: {stderr}");
    }
}

/// How many processes have this among their arguments.
fn processes(mark: &str) -> usize {
    let lines = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).split('\0').any(|word| word == mark).then_some(())
    });
    lines.count()
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A template of a `docker` source, unchanged.
#[test]
fn docker_sources_without_an_engine_have_services_and_tests_too() {
    let Some(mut world) = world() else { return };
    world.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("KILN_DOCKER_AS", "oci");
    let source = format!("  pull = false\n  commit = true\n  service \"db\" {{{SERVER}    ports = [\"PORT\"]\n  }}");
    let tests = "  test \"it\" {\n    command = \"grep -q db /etc/hosts && wget -q -O - http://db:PORT/greeting\"\n    services = [\"db\"]\n    network = \"bridge\"\n  }";
    let text = template(&source, &["wget -q -O - http://db:PORT/greeting"], tests).replace("PORT", &port());
    let text = text.replace("from = artifact", "image = artifact").replace("oci\" \"worker", "docker\" \"worker");
    world.write("a.kiln.hcl", &text.replace("source.oci.worker", "source.docker.worker"));
    let told = world.succeed(&["build", "a.kiln.hcl"]).stderr;
    assert_eq!(told.matches("docker.worker: hello").count(), 2, "{told}");
    assert!(told.contains("`ports` of service `db` has no effect: it is in this host's network"), "{told}");
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

/// A source that pushes by itself waits for the tests, with its names too: nobody is even spoken to before.
#[test]
fn nothing_is_named_or_sent_before_the_tests_passed() {
    let Some(world) = world() else { return };
    let registry = TcpListener::bind("127.0.0.1:0").unwrap();
    registry.set_nonblocking(true).unwrap();
    let is_asked = || registry.accept().is_ok();
    let address = registry.local_addr().unwrap();
    let source = format!("  tags = [\"worker:1\"]\n  oci_layout = \"out\"\n  push = [\"{address}/worker:1\"]");
    let test = |words: &str| format!("  test \"it\" {{\n    command = {words}\n  }}");
    let named = |world: &World| {
        world.write(
            "b.kiln.hcl",
            "source \"oci\" \"b\" {\n  from = { local = \"worker:1\" }\n}\nbuild {\n  sources = [\"oci.b\"]\n}\n",
        );
        world.run(&["build", "b.kiln.hcl"]).code == 0
    };
    for is_cached in [false, true] {
        world.write("a.kiln.hcl", &template(&source, &["echo 1 > /step"], &test("[\"false\"]")));
        let outcome = world.run(&["build", "a.kiln.hcl"]);
        assert_eq!(outcome.code, 1, "{}", outcome.stderr);
        assert!(outcome.stderr.contains("test `it` (a.kiln.hcl:19) failed"), "{}", outcome.stderr);
        assert_eq!(outcome.stderr.contains("CACHED seal"), is_cached, "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("pushing") && !is_asked(), "{}", outcome.stderr);
        assert!(!named(&world) && !world.path().join("out").exists());
    }
    // It is spoken to once they have, and what it does not take up fails the build: then nothing keeps its name, either.
    drop(registry);
    world.write("a.kiln.hcl", &template(&source, &["echo 1 > /step"], &test("[\"true\"]")));
    let outcome = world.run(&["build", "a.kiln.hcl"]);
    let place = |text: &str| outcome.stderr.find(text).unwrap_or_else(|| panic!("{text}: {}", outcome.stderr));
    assert!(place("test it passed") < place("pushing 127.0.0.1"));
    assert!(
        outcome.code != 0 && outcome.stderr.contains("cannot name or send what the `oci` source"),
        "{}",
        outcome.stderr
    );
    assert!(!named(&world));
    world.write("a.kiln.hcl", &template(&source, &["echo 1 > /step"], &test("[\"true\"]")));
    world.succeed(&["build", "-no-push", "a.kiln.hcl"]);
    assert!(named(&world) && world.path().join("out/index.json").exists());
    assert_eq!(left(&world), Vec::<PathBuf>::new());
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let world = World::new();
    let source = r#"  network = "none"
  push    = ["registry.example.org/worker:1"]
  service "db" {
    image    = "postgres:17"
    ports    = ["5432", "55432:5432"]
    volumes  = { "data" = "/var/lib/postgresql/data" }
    cap_add  = ["SYS_ALL"]
    shm_size = "lots"
  }
  service "empty" {
    image = "scratch"
    tmpfs = ["data"]
    ports = ["80"]
  }"#;
    let tests = "  test \"it\" {\n    command  = [\"true\"]\n    network  = \"none\"\n    services = [\"db\"]\n  }\n  test \"other\" {\n    command = [\"true\"]\n    network = \"mine\"\n  }";
    world.write("a.kiln.hcl", &template(source, &["true"], tests));
    let outcome = world.run(&["validate", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    insta::assert_snapshot!("mistakes_in_oci_services", stable(&outcome.stderr, &world));
    let source = "  service \"db\" {\n    image = \"postgres:17\"\n  }";
    world.write("a.kiln.hcl", &template(source, &["true"], tests));
    let outcome = world.run(&["validate", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 3, "{}", outcome.stderr);
    insta::assert_snapshot!("mistakes_in_oci_tests", stable(&outcome.stderr, &world));
}
