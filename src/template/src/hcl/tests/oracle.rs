//! Variables and locals as Packer 1.6.6 (`packer inspect`) gives them, compared case by case. The expectations were taken
//! from its output; the two-line head of a case names the arguments and environment it was given. With `KILN_TEST_PACKER=1`
//! they are compared with the packer of this machine.

use std::process::Command;

use kiln_core::plan::VariableSummary;

use super::{Fixture, plan};

struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    expected: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "types_and_defaults",
        files: &[(
            "t.pkr.hcl",
            r#"variable "s" {
  default = "x"
}
variable "n" {
  type    = number
  default = "12"
}
variable "b" {
  type    = bool
  default = "true"
}
variable "l" {
  type    = list(string)
  default = ["a", 1, true]
}
variable "m" {
  type    = map(string)
  default = { b = 2, a = "x" }
}
variable "o" {
  type = object({ a = number, b = list(string) })
  default = { a = "1", b = [2] }
}
variables {
  short = "y"
  mixed = ["a", 1]
}
"#,
        )],
        arguments: &[],
        environment: &[],
        expected: r#"var.b: "true"
var.l: "[\n  \"a\",\n  \"1\",\n  \"true\",\n]"
var.m: "{\n  \"a\" = \"x\"\n  \"b\" = \"2\"\n}"
var.mixed: "[\n  \"a\",\n  1,\n]"
var.n: "12"
var.o: "{\n  \"a\" = 1\n  \"b\" = [\n    \"2\",\n  ]\n}"
var.s: "x"
var.short: "y""#,
    },
    Case {
        name: "precedence_default_env",
        files: &[(
            "t.pkr.hcl",
            r#"variable "a" {
  default = "d"
}
"#,
        )],
        arguments: &[],
        environment: &[("PKR_VAR_a", "env")],
        expected: r#"var.a: "env""#,
    },
    Case {
        name: "precedence_auto_over_env",
        files: &[
            (
                "t.pkr.hcl",
                r#"variable "a" {
  default = "d"
}
"#,
            ),
            (
                "b.auto.pkrvars.hcl",
                r#"a = "b"
"#,
            ),
            (
                "a.auto.pkrvars.hcl",
                r#"a = "a"
"#,
            ),
        ],
        arguments: &[],
        environment: &[("PKR_VAR_a", "env")],
        expected: r#"var.a: "b""#,
    },
    Case {
        name: "precedence_file_over_auto",
        files: &[
            (
                "t.pkr.hcl",
                r#"variable "a" {
  default = "d"
}
"#,
            ),
            (
                "b.auto.pkrvars.hcl",
                r#"a = "b"
"#,
            ),
            (
                "x.pkrvars.hcl",
                r#"a = "x"
"#,
            ),
        ],
        arguments: &["-var-file", "x.pkrvars.hcl"],
        environment: &[("PKR_VAR_a", "env")],
        expected: r#"var.a: "x""#,
    },
    Case {
        name: "precedence_var_over_file",
        files: &[
            (
                "t.pkr.hcl",
                r#"variable "a" {
  default = "d"
}
"#,
            ),
            (
                "x.pkrvars.hcl",
                r#"a = "x"
"#,
            ),
        ],
        arguments: &["-var", "a=one", "-var", "a=t=wo", "-var-file", "x.pkrvars.hcl"],
        environment: &[],
        expected: r#"var.a: "t=wo""#,
    },
    Case {
        name: "json_var_file",
        files: &[
            (
                "t.pkr.hcl",
                r#"variable "a" {
  default = "d"
}
variable "l" {
  type    = list(string)
  default = []
}
"#,
            ),
            (
                "x.pkrvars.json",
                r#"{"a": "x $y", "l": ["1", "2"]}
"#,
            ),
        ],
        arguments: &["-var-file", "x.pkrvars.json"],
        environment: &[],
        expected: r#"var.a: "x $y"
var.l: "[\n  \"1\",\n  \"2\",\n]""#,
    },
    Case {
        name: "text_or_expression",
        files: &[(
            "t.pkr.hcl",
            r#"variable "s" {
  type = string
}
variable "l" {
  type = list(string)
}
variable "u" {
}
variable "n" {
  type = number
}
variable "b" {
  type = bool
}
"#,
        )],
        arguments: &[
            "-var",
            r#"s=["a"]"#,
            "-var",
            r#"l=["a", "b"]"#,
            "-var",
            "u=[1]",
            "-var",
            "n=1.50",
            "-var",
            "b=true",
        ],
        environment: &[],
        expected: r#"var.b: "true"
var.l: "[\n  \"a\",\n  \"b\",\n]"
var.n: "1.5"
var.s: "[\"a\"]"
var.u: "[1]""#,
    },
    Case {
        name: "locals_in_any_order",
        files: &[(
            "t.pkr.hcl",
            r#"variable "v" {
  default = "v"
}
locals {
  c = "${local.b}-c"
  b = "${local.a}-b"
  a = "${var.v}-a"
}
locals {
  n = [for x in [local.a, local.c] : upper(x)]
  t = length(local.n) > 1 ? "many" : "one"
}
"#,
        )],
        arguments: &[],
        environment: &[],
        expected: r#"var.v: "v"
local.a: "v-a"
local.b: "v-a-b"
local.c: "v-a-b-c"
local.n: "[\n  \"V-A\",\n  \"V-A-B-C\",\n]"
local.t: "many""#,
    },
    Case {
        name: "locals_of_all_types",
        files: &[(
            "t.pkr.hcl",
            r#"locals {
  n = 1 + 2 * 3
  f = 0.1 + 0.2
  b = !false && true
  l = concat(["a"], ["b"])
  m = merge({ a = 1 }, { b = "x" })
  o = { (upper("k")) = ["v"] }
  h = <<-EOT
    one
      two
  EOT
}
"#,
        )],
        arguments: &[],
        environment: &[],
        expected: r#"local.b: "true"
local.f: "0.3"
local.h: "one\n  two\n"
local.l: "[\n  \"a\",\n  \"b\",\n]"
local.m: "{\n  \"a\" = 1\n  \"b\" = \"x\"\n}"
local.n: "7"
local.o: "{\n  \"K\" = [\n    \"v\",\n  ]\n}""#,
    },
    Case {
        name: "sensitive",
        files: &[(
            "t.pkr.hcl",
            r#"variable "s" {
  default   = "hidden"
  sensitive = true
}
variable "o" {
  default = "open"
}
"#,
        )],
        arguments: &[],
        environment: &[],
        expected: r#"var.o: "open"
var.s: "<sensitive>""#,
    },
    Case {
        name: "unset",
        files: &[(
            "t.pkr.hcl",
            r#"variable "u" {
  type = string
}
variable "d" {
  default = "d"
}
"#,
        )],
        arguments: &[],
        environment: &[],
        expected: r#"var.d: "d"
var.u: "<unknown>""#,
    },
    Case {
        name: "path_and_files",
        files: &[
            (
                "t.pkr.hcl",
                r#"locals {
  root = path.root
  text = file("note.txt")
  up   = abspath(".") == path.cwd
}
"#,
            ),
            ("note.txt", "hello"),
        ],
        arguments: &[],
        environment: &[],
        expected: r#"local.root: "."
local.text: "hello"
local.up: "true""#,
    },
    Case {
        name: "directory_of_files",
        files: &[
            (
                "b.pkr.hcl",
                r#"locals {
  b = local.a
}
"#,
            ),
            (
                "a.pkr.hcl",
                r#"locals {
  a = var.x
}
"#,
            ),
            (
                "c.pkr.hcl",
                r#"variable "x" {
  default = { k = [1, 2] }
}
"#,
            ),
        ],
        arguments: &[],
        environment: &[],
        expected: r#"var.x: "{\n  \"k\" = [\n    1,\n    2,\n  ]\n}"
local.a: "{\n  \"k\" = [\n    1,\n    2,\n  ]\n}"
local.b: "{\n  \"k\" = [\n    1,\n    2,\n  ]\n}""#,
    },
];

impl Case {
    fn fixture(&self) -> Fixture {
        let mut fixture = Fixture::directory(self.files);
        for pair in self.arguments.chunks(2) {
            match pair {
                ["-var", assignment] => {
                    let (name, value) = assignment.split_once('=').unwrap();
                    fixture = fixture.var(name, value);
                }
                ["-var-file", file] => fixture.options.variable_files.push((*file).into()),
                _ => panic!("unknown argument in {}", self.name),
            }
        }
        for (name, value) in self.environment {
            fixture = fixture.env(name, value);
        }
        fixture
    }
}

#[test]
fn variables_and_locals_are_those_of_packer() {
    for case in CASES {
        let mut fixture = case.fixture();
        fixture.options.allow_unset = true;
        let loaded = fixture.load();
        let plan = plan(&loaded);
        let line = |root: &str, value: &VariableSummary| format!("{root}.{}: {:?}", value.name, value.shown);
        let variables = plan.variables.iter().map(|variable| line("var", variable));
        let locals = plan.locals.iter().map(|local| line("local", local));
        let found: Vec<String> = variables.chain(locals).collect();
        assert_eq!(found.join("\n"), case.expected, "{}", case.name);
    }
}

#[test]
fn the_expectations_are_those_of_packer() {
    let Some(packer) = packer() else { return };
    for case in CASES {
        let shown = packer.run(&case.fixture(), "inspect").unwrap_or_default();
        let values: Vec<&str> =
            shown.lines().filter(|line| line.starts_with("var.") || line.starts_with("local.")).collect();
        assert_eq!(values.join("\n"), case.expected, "{}", case.name);
    }
}

/// Packer 1.6.6 on this machine.
pub(super) struct Packer;

/// Packer, where the records are to be checked against it.
#[allow(clippy::print_stderr, reason = "a test says what it skips")]
pub(super) fn packer() -> Option<Packer> {
    if std::env::var_os("KILN_TEST_PACKER").is_none_or(|value| value != "1") {
        eprintln!("SKIPPED: KILN_TEST_PACKER=1 compares the record with packer 1.6.6");
        return None;
    }
    let version = Command::new("packer").arg("version").env("CHECKPOINT_DISABLE", "1").output();
    let is_there = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v1.6.6"));
    assert!(is_there, "KILN_TEST_PACKER=1, and there is no Packer 1.6.6");
    Some(Packer)
}

impl Packer {
    /// The output of a command on a fixture, where it succeeds.
    pub(super) fn run(&self, fixture: &Fixture, command: &str) -> Option<String> {
        let options = &fixture.options;
        let variables = options.variables.iter().flat_map(|(name, value)| ["-var".into(), format!("{name}={value}")]);
        let files =
            options.variable_files.iter().flat_map(|file| ["-var-file".into(), file.to_string_lossy().into_owned()]);
        let output = Command::new("packer")
            .arg(command)
            .args(variables.chain(files))
            .arg(".")
            .current_dir(&options.working_dir)
            .env_clear()
            .envs([("CHECKPOINT_DISABLE", "1"), ("PACKER_NO_COLOR", "1"), ("PATH", "/usr/bin:/bin")])
            .env("HOME", &options.working_dir)
            .envs(&options.environment)
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
