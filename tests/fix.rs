//! `kiln fix`. What each fixer does is tested in `kiln-template`.

use std::io::Write;
use std::process::Stdio;

use crate::support::World;

const OLD: &str = r#"{
  "builders": [{ "type": "vmware", "iso_md5": "abc", "ssh_key_path": "id" }],
  "post-processors": [{ "type": "docker-tag", "tag": "1" }]
}
"#;

#[test]
fn prints_the_mended_template_and_says_what_was_mended_where() {
    let world = World::new();
    world.write("worker.json", OLD);
    let outcome = world.succeed(&["fix", "worker.json"]);
    insta::assert_snapshot!(outcome.stdout);
    insta::assert_snapshot!(outcome.stderr);
    assert_eq!(world.read("worker.json"), OLD);
}

#[test]
fn standard_input_is_read() {
    let world = World::new();
    let mut child = world
        .command(&["fix", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(OLD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("<stdin>:2:"));
}

#[test]
fn the_mended_template_is_checked_unless_told_otherwise() {
    let world = World::new();
    world.write("worker.json", r#"{ "builders": [{ "type": "vmware", "iso_md5": "abc" }], "unknown": 1 }"#);
    let outcome = world.run(&["fix", "worker.json"]);
    assert_eq!(outcome.code, 3);
    assert!(outcome.stdout.contains("md5:abc"));
    assert!(outcome.stderr.contains("worker.json (mended):"), "{}", outcome.stderr);
    assert_eq!(world.succeed(&["fix", "-validate=false", "worker.json"]).stdout, outcome.stdout);
}

#[test]
fn what_is_no_legacy_template_is_refused() {
    let world = World::new();
    world.write("worker.pkr.hcl", "");
    world.write("broken.json", "{");
    for name in ["worker.pkr.hcl", "broken.json", "missing.json", "."] {
        let outcome = world.run(&["fix", name]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (3, ""), "{name}");
        assert!(outcome.stderr.contains("error"), "{name}: {}", outcome.stderr);
    }
}
