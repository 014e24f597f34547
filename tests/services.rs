//! Side-cars of `docker` builds against a real engine: reached by name, healthy before the first step, gone afterwards.

use std::process::Command;

use crate::support::docker::{self, Removed};
use crate::support::{World, stable};

/// A service that answers at port 7000 a moment after its start, in the words of the environment variable `GREETING`.
const SERVER: &str = r#"
    image       = "debian:bookworm"
    environment = { GREETING = "hello" }
    command     = "sleep 0.4; touch /data/ready; echo serving; exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 7000, Listen => 5, ReuseAddr => 1) or die; while ($c = $s->accept) { print $c qq($ENV{GREETING}\n); close $c }'"
    tmpfs       = { "/data" = "size=1m" }
    aliases     = ["database"]
    health_check {
      command = ["perl", "-MIO::Socket::INET", "-e", "IO::Socket::INET->new('127.0.0.1:7000') or die qq(not yet\\n)"]
    }
"#;

/// Asks the server by a name.
fn ask(name: &str) -> String {
    format!("perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(q({name}:7000))->getline'")
}

/// A template: arguments of the source, and what runs.
fn template(source: &str, inline: &[&str]) -> String {
    let inline = serde_json::to_string(inline).unwrap();
    format!(
        "source \"docker\" \"worker\" {{\n  image   = \"debian:bookworm\"\n  pull    = false\n{source}\n}}\nbuild {{\n  \
         sources = [\"source.docker.worker\"]\n  provisioner \"shell\" {{\n    inline = {inline}\n  }}\n}}\n"
    )
}

/// Containers and networks of a run.
fn left(run: &str) -> Vec<String> {
    let mut left = docker::containers_with(&format!("kiln.run={run}"));
    left.extend(networks(run));
    left
}

fn networks(run: &str) -> Vec<String> {
    let filter = format!("label=kiln.run={run}");
    let output = Command::new("docker").args(["network", "ls", "-q", "--filter", &filter]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The run's id, as its first line says.
fn run_of(stderr: &str) -> String {
    let (_, rest) = stderr.split_once("run ").unwrap();
    rest.split(':').next().unwrap().to_owned()
}

/// What one run says, without ids and times.
fn told(stderr: &str, world: &World) -> String {
    stable(stderr, world).replace(&run_of(stderr)[..8], "[run8]")
}

#[test]
fn steps_reach_a_healthy_service_by_its_names_and_a_rebuild_starts_none() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let source = format!("  commit = true\n  service \"db\" {{{SERVER}  }}");
    let inline = [ask("db"), ask("database"), "hostname -i".to_owned()];
    world.write("a.kiln.hcl", &template(&source, &inline.each_ref().map(String::as_str)));
    let outcome = world.succeed(&["build", "-machine-readable", "a.kiln.hcl"]);
    assert_eq!(outcome.stdout.matches("hello").count(), 2, "{}", outcome.stdout);
    let again = world.succeed(&["build", "a.kiln.hcl"]);
    assert!(again.stderr.contains("CACHED shell") && !again.stderr.contains("starting"), "{}", again.stderr);
    let id = again.stderr.rsplit("sha256:").next().unwrap().trim().to_owned();
    let _image = Removed(vec![format!("sha256:{id}")]);
    assert_eq!(left(&run_of(&again.stderr)), Vec::<String>::new());
    // Another service is another result.
    let text = world.read("a.kiln.hcl").replace("GREETING = \"hello\"", "GREETING = \"good day\"");
    world.write("a.kiln.hcl", &text);
    let changed = world.succeed(&["build", "a.kiln.hcl"]);
    assert!(changed.stderr.contains("good day") && !changed.stderr.contains("CACHED"), "{}", changed.stderr);
    let id = changed.stderr.rsplit("sha256:").next().unwrap().trim().to_owned();
    let _image = Removed(vec![format!("sha256:{id}")]);
    assert_eq!(left(&run_of(&changed.stderr)), Vec::<String>::new());
}

#[test]
fn one_that_never_gets_healthy_shows_its_log_and_leaves_nothing() {
    if !docker::is_there() {
        return;
    }
    let mut world = World::new();
    world.env("DB_PASSWORD", "correct-horse");
    let source = r#"  discard = true
  service "db" {
    image       = "debian:bookworm"
    environment = { PASSWORD = var.password }
    command     = "echo starting with $PASSWORD; echo disk full; sleep 600"
    health_check {
      command  = "echo no connection >&2; exit 2"
      interval = "1s"
      retries  = 3
    }
  }
  service "mail" {
    image   = "debian:bookworm"
    command = ["sleep", "600"]
  }"#;
    let variable = "variable \"password\" {\n  default   = env(\"DB_PASSWORD\")\n  sensitive = true\n}\n";
    world.write("a.kiln.hcl", &format!("{variable}{}", template(source, &["true"])));
    let outcome = world.run(&["build", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let told = told(&outcome.stderr, &world);
    assert!(!told.contains("[1/1]"), "no step runs: {told}");
    // Which of both starts first is a matter of luck.
    let mut lines: Vec<&str> = told.lines().filter(|line| !line.contains("starting service mail")).collect();
    lines.retain(|line| !line.contains("starting service db"));
    insta::assert_snapshot!("a_service_never_gets_healthy", lines.join("\n"));
    let run = run_of(&outcome.stderr);
    let log = format!("logs/{}-docker.worker-db.log", &run[..8]);
    let log = std::fs::read_to_string(world.state().join(log)).unwrap();
    assert!(log.contains("disk full") && !log.contains("correct-horse"), "{log}");
    assert_eq!((left(&run), world.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn a_failing_step_keeps_the_logs_and_migrations_come_before_it() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let source = format!(
        "  discard = true\n  service \"db\" {{{SERVER}  }}\n  service \"migrate\" {{\n    image = \"debian:bookworm\"\n    \
         command = <<-END\n      echo migrating; {}\n    END\n    after = [\"db\"]\n    wait = \"completed\"\n  }}",
        ask("db")
    );
    world.write("a.kiln.hcl", &template(&source, &["echo in the step", "exit 5"]));
    let outcome = world.run(&["build", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let place = |text: &str| outcome.stderr.find(text).unwrap_or_else(|| panic!("no `{text}`: {}", outcome.stderr));
    assert!(place("service db is healthy") < place("starting service migrate"));
    assert!(place("service migrate is done") < place("in the step"));
    let run = run_of(&outcome.stderr);
    let log = |name: &str| {
        let file = format!("logs/{}-docker.worker-{name}.log", &run[..8]);
        std::fs::read_to_string(world.state().join(file)).unwrap()
    };
    assert_eq!((log("db").as_str(), log("migrate").as_str()), ("serving\n", "migrating\nhello\n"));
    assert_eq!((left(&run), world.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn every_kind_of_network_reaches_services() {
    if !docker::is_there() {
        return;
    }
    let name = format!("kiln-test-{}", std::process::id());
    let made = Command::new("docker").args(["network", "create", &name]).output().unwrap();
    assert!(made.status.success());
    let run = ["run", "-d", "--rm", "--name", &name, "--label", "kiln.test", "debian:bookworm", "sleep", "300"];
    assert!(Command::new("docker").args(run).output().unwrap().status.success());
    let borrowed = format!("container:{name}");
    let outside = "ls /sys/class/net | grep -v lo | wc -l";
    let cases: [(&str, String, &str); 7] = [
        ("network = \"host\"", ask("db"), "true"),
        ("network = \"none\"", ask("db"), outside),
        ("network = \"bridge\"", ask("database"), outside),
        (&format!("network = \"{name}\""), ask("db"), "test $(ls -d /sys/class/net/eth* | wc -l) = 2"),
        (&format!("network = \"{borrowed}\""), ask("127.0.0.1"), outside),
        ("share_network = true", ask("database"), outside),
        ("network = \"none\"\n  share_network = true", ask("db"), "test $(ls /sys/class/net) = lo"),
    ];
    for (network, asked, more) in cases {
        let world = World::new();
        let source = format!("  discard = true\n  {network}\n  service \"db\" {{{SERVER}  }}");
        // In the host's network the port is everybody's.
        let port = (20_000 + std::process::id() % 20_000).to_string();
        world.write("a.kiln.hcl", &template(&source, &[&asked, more]).replace("7000", &port));
        let outcome = world.run(&["build", "a.kiln.hcl"]);
        assert!(outcome.code == 0 && outcome.stderr.contains("hello"), "{network}: {}", outcome.stderr);
        assert_eq!(left(&run_of(&outcome.stderr)), Vec::<String>::new(), "{network}");
    }
    let _ = Command::new("docker").args(["rm", "-f", &name]).output();
    let _ = Command::new("docker").args(["network", "rm", &name]).output();
}

#[test]
fn ports_are_at_loopback() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let source = format!("  discard = true\n  service \"db\" {{{SERVER}    ports = [\"7000\"]\n  }}");
    world.write("a.kiln.hcl", &template(&source, &["true"]));
    let outcome = world.succeed(&["build", "a.kiln.hcl"]);
    let told = outcome.stderr.lines().find(|line| line.contains("port 7000/tcp of service db is at 127.0.0.1:"));
    assert!(told.is_some(), "{}", outcome.stderr);
}

/// Killed while a service is waited for: the journal alone tells what to remove.
#[test]
fn cleanup_removes_services_and_their_network() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let source = "  discard = true\n  service \"db\" {\n    image = \"debian:bookworm\"\n    command = [\"sleep\", \"600\"]\n    health_check {\n      command = \"exit 1\"\n    }\n  }";
    world.write("a.kiln.hcl", &template(source, &["true"]));
    let mut running = world.start(&["build", "-json", "a.kiln.hcl"]);
    running.wait_for("a service starts", |event| {
        event["text"].as_str().is_some_and(|text| text.starts_with("starting service db"))
    });
    std::thread::sleep(std::time::Duration::from_millis(700));
    let run = running.run.clone();
    running.signal("KILL");
    running.end();
    assert_eq!((docker::containers_with(&format!("kiln.run={run}")).len(), networks(&run).len()), (2, 1));
    world.succeed(&["cleanup"]);
    assert_eq!((left(&run), world.leftovers()), (Vec::new(), Vec::new()));
}

#[test]
fn mistakes_are_told_before_anything_runs() {
    let world = World::new();
    let source = r#"  commit = true
  network = "none"
  service "db" {
    image = "postgres:17"
    imag  = "x"
    wait  = "heathy"
    after = ["mqq"]
    ports = ["5432", "x:y"]
    health_check {
      intervall = "1s"
    }
  }
  service "mq" {
    command    = 3
    aliases    = ["db"]
    after      = ["cache"]
    shm_size   = "lots"
    image      = "mq"
  }
  service "cache" {
    image = "redis"
    after = ["mq"]
  }
  service "cache" {
    image = "redis"
  }
  service {
    image = "redis"
  }
  service "my db" {
    image = artifact.bass.image
  }"#;
    world.write("a.kiln.hcl", &template(source, &["true"]));
    let outcome = world.run(&["validate", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!("mistakes_in_services", stable(&outcome.stderr, &world));
}
