//! `kiln fmt`: files, options, exit codes. What becomes of the texts is tested in kiln-language.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use crate::support::World;

const MESSY: &str = "a=1\nbb = 2\n";
const TIDY: &str = "a  = 1\nbb = 2\n";

/// Kiln with a text as standard input: exit code, standard output, standard error.
fn with_stdin(arguments: &[&str], text: &str) -> (i32, String, String) {
    let world = World::new();
    let mut command = world.command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn files_are_written_anew_and_named() {
    let world = World::new();
    world.write("a.pkr.hcl", MESSY);
    world.write("b.pkrvars.hcl", TIDY);
    let outcome = world.succeed(&["fmt", "a.pkr.hcl", "b.pkrvars.hcl"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("a.pkr.hcl\n", ""));
    assert_eq!(world.read("a.pkr.hcl"), TIDY);
    assert_eq!(world.succeed(&["fmt", "."]).stdout, "");
}

#[test]
fn a_directory_gives_its_templates_and_variable_files() {
    let world = World::new();
    for name in [
        "z.pkr.hcl",
        "a.pkrvars.hcl",
        "b.auto.pkrvars.hcl",
        "c.kiln.hcl",
        "d.hcl",
        "e.json",
        ".f.pkr.hcl",
        "g.pkr.hcl~",
        "#h.pkr.hcl#",
        "below/i.pkr.hcl",
        "below/.git/j.pkr.hcl",
        "dir.pkr.hcl/x",
    ] {
        world.write(name, MESSY);
    }
    symlink("z.pkr.hcl", world.path().join("link.pkr.hcl")).unwrap();
    symlink(".", world.path().join("below/again")).unwrap();
    let own = "link.pkr.hcl\nz.pkr.hcl\na.pkrvars.hcl\nb.auto.pkrvars.hcl\nc.kiln.hcl\n";
    assert_eq!(world.run(&["fmt", "-check", "."]).stdout, own);
    let outcome = world.run(&["fmt", "-check", "-recursive", "./"]);
    assert_eq!((outcome.code, outcome.stdout), (3, format!("{own}below/i.pkr.hcl\n")));
    // A file that is named is taken, hidden or not.
    assert_eq!(world.run(&["fmt", "-check", ".f.pkr.hcl"]).stdout, ".f.pkr.hcl\n");
}

#[test]
fn check_changes_nothing_and_exits_with_3() {
    let world = World::new();
    world.write("a.pkr.hcl", MESSY);
    let outcome = world.run(&["fmt", "-check", "a.pkr.hcl"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (3, "a.pkr.hcl\n"));
    assert_eq!(world.read("a.pkr.hcl"), MESSY);
    world.write("a.pkr.hcl", TIDY);
    let outcome = world.succeed(&["fmt", "-check", "a.pkr.hcl"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
}

#[test]
fn without_write_names_are_all() {
    let world = World::new();
    world.write("a.pkr.hcl", MESSY);
    assert_eq!(world.succeed(&["fmt", "-write=false", "a.pkr.hcl"]).stdout, "a.pkr.hcl\n");
    assert_eq!(world.read("a.pkr.hcl"), MESSY);
}

#[test]
fn diff_shows_what_changes_and_changes_it() {
    let world = World::new();
    world.write("a.pkr.hcl", MESSY);
    let expected = "a.pkr.hcl\n--- old/a.pkr.hcl\n+++ new/a.pkr.hcl\n@@ -1,2 +1,2 @@\n-a=1\n+a  = 1\n bb = 2\n";
    assert_eq!(world.succeed(&["fmt", "-diff", "a.pkr.hcl"]).stdout, expected);
    assert_eq!(world.read("a.pkr.hcl"), TIDY);
}

#[test]
fn standard_input_goes_to_standard_output() {
    assert_eq!(with_stdin(&["fmt", "-"], MESSY), (0, TIDY.to_owned(), String::new()));
    assert_eq!(with_stdin(&["fmt", "-"], TIDY), (0, TIDY.to_owned(), String::new()));
    assert_eq!(with_stdin(&["fmt", "-check", "-"], MESSY), (3, "<stdin>\n".to_owned(), String::new()));
    assert_eq!(with_stdin(&["fmt", "-check", "-"], TIDY), (0, String::new(), String::new()));
    let (code, stdout, _) = with_stdin(&["fmt", "-diff", "-"], MESSY);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("<stdin>\n--- old/<stdin>\n"), "{stdout}");
    let (code, stdout, stderr) = with_stdin(&["fmt", "-"], "a = \n");
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("<stdin>:1"), "{stderr}");
}

#[test]
fn mistakes_are_shown_at_their_places_and_the_other_files_are_formatted() {
    let world = World::new();
    world.write("a.pkr.hcl", "source \"docker\" \"a\" {\n  image = debian:bookworm\n  commit: true\n}\n");
    world.write("b.pkr.hcl", MESSY);
    let outcome = world.run(&["fmt", "."]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, "b.pkr.hcl\n"));
    assert_eq!(world.read("b.pkr.hcl"), TIDY);
    insta::assert_snapshot!(outcome.stderr);
    // A mistake weighs more than what would change.
    world.write("b.pkr.hcl", MESSY);
    assert_eq!(world.run(&["fmt", "-check", "."]).code, 1);
}

#[test]
fn what_is_no_template_is_told() {
    let world = World::new();
    world.write("a.hcl", MESSY);
    world.write("b.json", "{}");
    std::fs::write(world.path().join("c.pkr.hcl"), b"# x\na = \"\xff\"\n").unwrap();
    let outcome = world.run(&["fmt", "a.hcl", "b.json", "c.pkr.hcl", "d.pkr.hcl", "e"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    insta::assert_snapshot!(outcome.stderr);
    assert_eq!(world.run(&["fmt"]).code, 2);
}

#[test]
fn modes_and_links_stay() {
    let world = World::new();
    let path = world.write("a.pkr.hcl", MESSY);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("a.pkr.hcl", world.path().join("b.pkr.hcl")).unwrap();
    world.succeed(&["fmt", "b.pkr.hcl"]);
    assert_eq!(world.read("a.pkr.hcl"), TIDY);
    assert!(world.path().join("b.pkr.hcl").is_symlink());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let names: Vec<_> = std::fs::read_dir(world.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

#[test]
fn comments_in_another_encoding_stay() {
    let world = World::new();
    let path = world.path().join("a.pkr.hcl");
    std::fs::write(&path, b"a=1 # caf\xe9\nbbb=/* \xe9\xe9 */ 2 # x\n").unwrap();
    world.succeed(&["fmt", "a.pkr.hcl"]);
    let expected = b"a   = 1          # caf\xe9\nbbb = /* \xe9\xe9 */ 2 # x\n";
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    // Such a template loads, too.
    std::fs::write(&path, b"# caf\xe9\nvariable \"x\" {\n  default = 1\n}\n").unwrap();
    assert!(world.succeed(&["inspect", "a.pkr.hcl"]).stdout.contains("var.x: \"1\""));
}

#[test]
fn byte_order_marks_go_and_line_ends_stay() {
    let world = World::new();
    world.write("a.pkr.hcl", "\u{feff}a=1\r\nbb = 2\r\n");
    world.succeed(&["fmt", "a.pkr.hcl"]);
    assert_eq!(world.read("a.pkr.hcl"), "a  = 1\r\nbb = 2\r\n");
}
