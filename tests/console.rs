//! `kiln console`: piped, from a file, and on a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::support::{Outcome, World, packer};

/// Runs the console with lines from a pipe.
pub(crate) fn piped(world: &World, arguments: &[&str], input: &str) -> Outcome {
    let mut command = world.command(&[&["console"], arguments].concat());
    outcome_of(&mut command, input)
}

fn outcome_of(command: &mut Command, input: &str) -> Outcome {
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

const HCL: &str = r#"variable "name" {
  default = "web"
}
variable "ports" {
  type    = list(number)
  default = [80, 443]
}
variable "token" {
  default   = "hunter2"
  sensitive = true
}
variable "later" {
  type = string
}
locals {
  image = "${var.name}-image"
}
source "null" "a" {
}
build {
  sources = ["null.a"]
}
"#;

const JSON: &str = r#"{
  "variables": { "name": "web", "full": "{{user `name`}}-1", "token": "hunter2", "empty": "" },
  "sensitive-variables": ["token"],
  "builders": [{ "type": "null" }]
}"#;

fn world() -> World {
    let world = World::new();
    world.write("a.pkr.hcl", HCL);
    world.write("a.json", JSON);
    world
}

const HCL_ARGUMENTS: &[&str] = &["a.pkr.hcl"];
const NO_TEMPLATE: &[&str] = &["-config-type=hcl2"];
const JSON_ARGUMENTS: &[&str] = &["a.json"];

/// Arguments, lines, and what Packer 1.6.6 prints. It prints mistakes too, and on standard output: so none here.
const RECORDS: &[(&[&str], &str, &str)] = &[
    (HCL_ARGUMENTS, "var.name\n", "web\n"),
    (HCL_ARGUMENTS, "var.name", "web\n"),
    (HCL_ARGUMENTS, "  var.name \t\r\n", "web\n"),
    (HCL_ARGUMENTS, "1\n2\nlocal.image\n", "web-image\n"),
    (HCL_ARGUMENTS, "var.ports\n", "[\n  80,\n  443,\n]\n"),
    (HCL_ARGUMENTS, "var.token\n", "<sensitive>\n"),
    (HCL_ARGUMENTS, "[var.token]\n", "[\n  \"<sensitive>\",\n]\n"),
    (HCL_ARGUMENTS, "var.later\n", "<unknown>\n"),
    (HCL_ARGUMENTS, "[1, var.later]\n", "<unknown>\n"),
    (HCL_ARGUMENTS, "1\n\n", "\n"),
    (HCL_ARGUMENTS, "", "\n"),
    (HCL_ARGUMENTS, "1\nexit\n2\n", "2\n"),
    (HCL_ARGUMENTS, "exit\n", "\n"),
    (HCL_ARGUMENTS, "1 # one\n", "1\n"),
    (HCL_ARGUMENTS, "\"{{timestamp}}\"\n", "{{timestamp}}\n"),
    (HCL_ARGUMENTS, "\"two\\nlines\"\n", "two\nlines\n"),
    (HCL_ARGUMENTS, "path.root\n", ".\n"),
    (HCL_ARGUMENTS, "source.name\n", "<unknown>\n"),
    (
        HCL_ARGUMENTS,
        "variables\n",
        "> input-variables:\n\nvar.later: \"<unknown>\"\nvar.name: \"web\"\nvar.ports: \"[\\n  80,\\n  443,\\n]\"\nvar.token: \
         \"<sensitive>\"\n\n> local-variables:\n\nlocal.image: \"web-image\"\n\n",
    ),
    (&["-var", "name=db", "a.pkr.hcl"], "local.image\n", "db-image\n"),
    (&["."], "local.image\n", "web-image\n"),
    (NO_TEMPLATE, "upper(\"a\")\n", "A\n"),
    (NO_TEMPLATE, "path.root\n", "\n"),
    (NO_TEMPLATE, "var\n", "{}\n"),
    (NO_TEMPLATE, "variables\n", "> input-variables:\n\n\n> local-variables:\n\n\n"),
    (JSON_ARGUMENTS, "{{user `full`}}, {{user `name` | upper}}\n", "web-1, WEB\n"),
    (JSON_ARGUMENTS, "{{user `token`}}\n", "<sensitive>\n"),
    (JSON_ARGUMENTS, "plain [1, 2]\n", "plain [1, 2]\n"),
    (JSON_ARGUMENTS, "{{.Vars}}\n", "<no value>\n"),
    (JSON_ARGUMENTS, "a{{\"\\n\"}}b\n", "a\nb\n"),
    (JSON_ARGUMENTS, "", "\n"),
    (&["-var", "name=db", "a.json"], "{{user `full`}}\n", "db-1\n"),
    // Without a template, texts of legacy JSON.
    (&[], "upper(\"a\")\n", "upper(\"a\")\n"),
    (&["-var", "x=y"], "{{user `x`}}\n", "y\n"),
    (&["-config-type=json"], "{{upper `x`}}\n", "X\n"),
];

#[test]
fn answers_as_packer_does() {
    let world = world();
    for (arguments, input, expected) in RECORDS {
        let outcome = piped(&world, arguments, input);
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (0, *expected),
            "{arguments:?} {input}\n{}",
            outcome.stderr
        );
        if *input != "{{.Vars}}\n" {
            assert_eq!(outcome.stderr, "", "{arguments:?} {input}");
        }
    }
}

#[test]
fn the_records_are_what_packer_says() {
    let Some(packer) = packer() else { return };
    let world = world();
    for (arguments, input, expected) in RECORDS {
        let mut command = Command::new(&packer);
        command.arg("console").args(*arguments).current_dir(world.path()).env_clear();
        command.envs([("CHECKPOINT_DISABLE", "1"), ("PACKER_NO_COLOR", "1"), ("PATH", "/usr/bin:/bin")]);
        let outcome = outcome_of(command.env("HOME", world.path()), input);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (0, *expected), "{arguments:?} {input}");
    }
}

#[test]
fn of_a_file_every_line_is_answered() {
    let world = world();
    let lines = world.write("lines", "1\n\n var.name\nvar.nothing\n2\nexit\n3\n");
    let input = std::fs::File::open(lines).unwrap();
    let output = world.command(&["console", "a.pkr.hcl"]).stdin(input).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n\nweb\n2\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn mistakes_point_into_the_line_and_make_the_command_fail() {
    let world = world();
    let mut text = String::new();
    for (arguments, input) in [
        (HCL_ARGUMENTS, "var.nmae\nvar.name\n"),
        (HCL_ARGUMENTS, "1 +\n"),
        (HCL_ARGUMENTS, "[uper(\"a\"), var.token + 1]\n"),
        (HCL_ARGUMENTS, "env(\"HOME\")\n"),
        (JSON_ARGUMENTS, "x {{user `nmae`}}\n"),
        (JSON_ARGUMENTS, "{{usr `name`}}\n"),
        (JSON_ARGUMENTS, "{{build_name}}\n"),
        (JSON_ARGUMENTS, "{{if}}\n"),
    ] {
        let outcome = piped(&world, arguments, input);
        assert_eq!(outcome.code, 1, "{input}");
        assert!(!outcome.stderr.contains("hunter2"), "{}", outcome.stderr);
        text.push_str(&format!("> {input}{}---\n{}\n", outcome.stdout, outcome.stderr));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn the_rest_has_its_values_whatever_is_wrong_in_locals_and_builds() {
    let world = World::new();
    world.write("a.pkr.hcl", "locals {\n  a = var.nothing\n  b = 5\n}\nbuild {\n  sources = [\"null.nothing\"]\n}\n");
    let outcome = piped(&world, &["a.pkr.hcl"], "local.b + 1\n");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, "6\n"));
    assert!(outcome.stderr.contains("warning: the variable `nothing` is not declared"), "{}", outcome.stderr);
    assert_eq!(
        piped(&world, &["a.pkr.hcl"], "[local, try(local.a, 1)]\n").stdout,
        "[\n  {\n    \"b\" = 5\n  },\n  1,\n]\n"
    );
    let outcome = piped(&world, &["a.pkr.hcl"], "local.a\n");
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("error: the local `a` has no value"), "{}", outcome.stderr);
    // What is wrong with the files themselves is not passed over.
    world.write("b.pkr.hcl", "locals {\n  a = \n}\n");
    assert_eq!(piped(&world, &["b.pkr.hcl"], "1\n").code, 3);
    assert_eq!(piped(&world, &["-config-type=hcl2", "-var", "nobody=1"], "1\n").code, 3);
    assert_eq!(piped(&world, &["nothing.pkr.hcl"], "1\n").code, 3);
    assert_eq!(piped(&world, &["-"], "1\n").code, 2);
}

#[test]
fn variables_and_help_of_both_languages() {
    let world = world();
    let of = |arguments: &[&str], line: &str| piped(&world, arguments, line).stdout;
    insta::assert_snapshot!(
        [of(JSON_ARGUMENTS, "variables"), of(JSON_ARGUMENTS, "help"), of(HCL_ARGUMENTS, "help")].join("---\n")
    );
}

/// The console on a terminal, which `script` makes. The keys are typed with pauses, as the editor redraws after each.
fn on_a_terminal(world: &World, keys: &[&str]) -> Option<String> {
    let kiln = env!("CARGO_BIN_EXE_kiln");
    let has_script = Command::new("script").arg("--version").output().is_ok();
    if !crate::support::available("the program `script`", has_script) {
        return None;
    }
    let mut command = Command::new("script");
    command.args(["--quiet", "--command", &format!("{kiln} console a.pkr.hcl"), "/dev/null"]);
    command.current_dir(world.path()).env("KILN_STATE_DIR", world.state()).env("TERM", "xterm").env("NO_COLOR", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let (sender, pieces) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    let mut bytes = Vec::new();
    // Before the first words, keys would go to the terminal itself.
    while !String::from_utf8_lossy(&bytes).contains("Ctrl-D ends") {
        bytes.extend(pieces.recv_timeout(std::time::Duration::from_secs(30)).unwrap());
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    for key in keys {
        std::thread::sleep(std::time::Duration::from_millis(300));
        input.write_all(key.as_bytes()).unwrap();
    }
    bytes.extend(pieces.iter().flatten());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(child.wait().unwrap().success(), "{text}");
    Some(text)
}

#[test]
fn on_a_terminal_names_are_completed_lines_go_on_and_are_kept() {
    let world = world();
    let keys = ["upp\t\"a\")\r", "[1,\r", "2]\r", "var.tok\t\r", "\"hunter2\"\r", " 7 * 6\r", "var.nmae\r", "exit\r"];
    let Some(text) = on_a_terminal(&world, &keys) else { return };
    assert!(text.contains("kiln console: HCL2 expressions"), "{text}");
    assert!(text.contains("upper("), "{text}");
    assert!(text.contains("\r\nA\r\n") && text.contains("[\r\n  1,\r\n  2,\r\n]\r\n"), "{text}");
    assert!(text.contains("\r\n<sensitive>\r\n") && text.contains("\r\n42\r\n"), "{text}");
    assert!(text.contains("did you mean `name`?"), "{text}");
    let file = world.state().join("console_history");
    let history = std::fs::read_to_string(&file).unwrap();
    assert!(history.contains("upper(\"a\")\n") && history.contains("var.token\n"), "{history}");
    assert!(!history.contains("hunter2") && !history.contains("7 * 6"), "{history}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn an_interrupt_gives_up_the_line_and_then_the_console() {
    let world = world();
    let Some(text) = on_a_terminal(&world, &["var.na", "\u{3}", "1 + 1\r", "\u{3}"]) else { return };
    assert!(text.contains("\r\n2\r\n"), "{text}");
}
