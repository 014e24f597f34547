//! `test` blocks: what was sealed is tried out before anything is made of it.

use std::process::Command;

use crate::support::docker::{self, Removed};
use crate::support::{World, stable};

/// A `docker` build with these tests, which tags its image afterwards.
fn docker_template(tag: &str, source: &str, tests: &str) -> String {
    format!(
        r#"source "docker" "worker" {{
  image   = "debian:bookworm"
  pull    = false
  commit  = true
  changes = ["ENTRYPOINT [\"/serve\"]", "ENV PORT=7000"]
  {source}
}}
build {{
  sources = ["source.docker.worker"]
  provisioner "shell" {{
    inline = [
      "printf '#!/bin/sh\\necho \"serving on $PORT\" $*; sleep 0.3; touch /tmp/ready; test \"$1\" = once || exec sleep 600\\n' > /serve",
      "chmod +x /serve",
    ]
  }}
{tests}
  post-processor "docker-tag" {{
    repository = "kiln-test/tested"
    tags       = ["{tag}"]
  }}
}}
"#
    )
}

fn run_of(stderr: &str) -> String {
    let (_, rest) = stderr.split_once("run ").unwrap();
    rest.split(':').next().unwrap().to_owned()
}

/// Containers, networks and images of a run.
fn left(run: &str) -> Vec<String> {
    let label = format!("kiln.run={run}");
    let mut left = docker::containers_with(&label);
    left.extend(docker::images_with(&label));
    let arguments = ["network", "ls", "-q", "--filter", &format!("label={label}")];
    let output = Command::new("docker").args(arguments).output().unwrap();
    left.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
    left
}

#[test]
fn what_was_sealed_passes_its_tests_and_is_tagged() {
    if !docker::is_there() {
        return;
    }
    let world = World::new();
    let tag = format!("good-{}", std::process::id());
    // The service of the steps and that of the test have one port, one after the other.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!(
        r#"service "db" {{
    image   = "debian:bookworm"
    command = "echo here > /tmp/up; exec sleep 600"
    ports   = ["127.0.0.1:{port}:7000"]
    health_check {{
      command = "test -e /tmp/up"
    }}
  }}"#
    );
    let tests = r#"  test "is there" {
    command       = ["test", "-x", "/serve"]
  }
  test "as it is" {
    arguments     = ["once", "and", "away"]
    environment   = { PORT = "81" }
    expect_output = "^serving on 81 once and away\\n"
  }
  test "refuses" {
    inline      = ["echo to stderr >&2", "exit 3"]
    expect_exit = [3, 4]
    expect_output = "to stderr"
  }
  test "gets ready" {
    health {
      command = "test -e /tmp/ready"
    }
    command       = "echo $PORT; getent hosts db"
    services      = ["db"]
    expect_output = "(?m)^7000$"
  }"#;
    world.write("a.kiln.hcl", &docker_template(&tag, &source, tests));
    let _removed = Removed(vec![format!("kiln-test/tested:{tag}")]);
    for is_cached in [false, true] {
        let outcome = world.succeed(&["build", "a.kiln.hcl"]);
        assert_eq!(outcome.stderr.contains("CACHED seal"), is_cached, "{}", outcome.stderr);
        for name in ["is there", "as it is", "refuses", "gets ready"] {
            assert!(outcome.stderr.contains(&format!("test {name} passed")), "{name}: {}", outcome.stderr);
        }
        let place = |text: &str| outcome.stderr.find(text).unwrap();
        assert!(place("test gets ready passed") < place("docker-tag"));
        assert_eq!(docker::containers_with(&format!("kiln.run={}", run_of(&outcome.stderr))), Vec::<String>::new());
        assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new());
    }
    assert!(docker::image(&format!("kiln-test/tested:{tag}")).is_some());
}

#[test]
fn a_failing_test_fails_the_build_and_nothing_is_tagged() {
    if !docker::is_there() {
        return;
    }
    let tag = format!("bad-{}", std::process::id());
    let cases = [
        ("command = \"echo going down; exit 5\"", "it ended with status 5, and 0 is expected"),
        ("command = [\"echo\", \"hello\"]\n    expect_output = \"^bye\"", "what it printed does not match `^bye`"),
        (
            "health {\n      command = \"echo no port >&2; false\"\n      interval = \"1s\"\n    }",
            "did not become healthy within 3.0s: its health check `echo no port >&2; false` exits with 1: no port",
        ),
        ("command = [\"sleep\", \"60\"]\n    timeout = \"700ms\"", "it took longer than its `timeout` of 700ms"),
        ("command = [\"/missing\"]", "no such file or directory"),
    ];
    for (index, (test, why)) in cases.into_iter().enumerate() {
        let world = World::new();
        world.write("a.kiln.hcl", &docker_template(&tag, "", &format!("  test \"smoke\" {{\n    {test}\n  }}")));
        let outcome = world.run(&["build", "a.kiln.hcl"]);
        assert!(outcome.code == 1 && outcome.stderr.contains(why), "{test}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("test `smoke` (a.kiln.hcl:16) failed"), "{}", outcome.stderr);
        assert_eq!(left(&run_of(&outcome.stderr)), Vec::<String>::new(), "{test}");
        assert_eq!(world.leftovers(), Vec::<std::path::PathBuf>::new(), "{test}");
        assert!(docker::image(&format!("kiln-test/tested:{tag}")).is_none(), "{test}");
        if index == 0 {
            let run = run_of(&outcome.stderr);
            insta::assert_snapshot!("a_test_fails", stable(&outcome.stderr, &world).replace(&run[..8], "[run8]"));
        }
    }
}

#[test]
fn mistakes_in_tests_are_told_at_their_place() {
    let world = World::new();
    let tests = r#"  test "both" {
    command = ["true"]
    inline  = ["true"]
  }
  test "nothing" {
    timeout = "1m"
  }
  test "wrong" {
    command       = ["true"]
    expect_exit   = "zero"
  }
  test "pattern" {
    command       = ["true"]
    expect_output = "(unclosed"
    services      = ["bd"]
  }
  test {
    command = ["true"]
  }
  test "misspelt" {
    comand = ["true"]
    health {
      intervall = "1s"
    }
  }"#;
    let source = "service \"db\" {\n    image = \"postgres:17\"\n  }";
    let mut text = docker_template("x", source, tests);
    text.push_str("source \"null\" \"none\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"null.none\"]\n  test \"it\" {\n    command = [\"true\"]\n  }\n}\n");
    world.write("a.kiln.hcl", &text);
    let outcome = world.run(&["validate", "a.kiln.hcl"]);
    assert_eq!(outcome.code, 3);
    insta::assert_snapshot!("mistakes_in_tests", stable(&outcome.stderr, &world));
}
