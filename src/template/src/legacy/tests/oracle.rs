//! Verdicts and variables that Packer 1.6.6 gives, recorded from `packer validate` and `packer inspect`.
//!
//! With `KILN_TEST_PACKER=1` and Packer 1.6.6 installed, the records themselves are checked against it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{load_with, with_variables};

/// A template and what Packer says of it.
struct Record {
    name: &'static str,
    template: &'static str,
    /// `-var` options.
    given: &'static [(&'static str, &'static str)],
    /// Whether `packer validate` accepts it.
    is_accepted: bool,
    /// Where kiln decides otherwise, why.
    differs: Option<&'static str>,
}

const fn accepted(name: &'static str, template: &'static str) -> Record {
    Record { name, template, given: &[], is_accepted: true, differs: None }
}

const fn rejected(name: &'static str, template: &'static str) -> Record {
    Record { is_accepted: false, ..accepted(name, template) }
}

impl Record {
    const fn given(mut self, given: &'static [(&'static str, &'static str)]) -> Record {
        self.given = given;
        self
    }

    const fn differs(mut self, why: &'static str) -> Record {
        self.differs = Some(why);
        self
    }
}

macro_rules! with_builder {
    ($rest:literal) => {
        concat!(r#"{ "builders": [{ "type": "null", "communicator": "none" }], "#, $rest, " }")
    };
}

const RECORDS: &[Record] = &[
    accepted("string post-processor", with_builder!(r#""post-processors": ["manifest"]"#)),
    accepted("chain", with_builder!(r#""post-processors": [["manifest", { "type": "manifest" }], "manifest"]"#)),
    rejected("chain in a chain", with_builder!(r#""post-processors": [[["manifest"]]]"#)),
    rejected("post-processors is no list", with_builder!(r#""post-processors": "manifest""#)),
    rejected("post-processor without type", with_builder!(r#""post-processors": [{ "output": "x" }]"#)),
    rejected("step with an empty type", with_builder!(r#""provisioners": [{ "type": "" }]"#)),
    rejected("post-processor for nobody", with_builder!(r#""post-processors": [{ "type": "manifest", "only": ["x"] }]"#)),
    accepted("two of one name", with_builder!(r#""post-processors": [{ "type": "manifest", "name": "a" }, { "type": "manifest", "name": "a" }]"#)),
    rejected("keep as text", with_builder!(r#""post-processors": [{ "type": "manifest", "keep_input_artifact": "true" }]"#))
        .differs("texts stand for bools everywhere else, too"),
    accepted("only as text", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "only": "null" }]"#)),
    rejected("only and except", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "only": ["null"], "except": ["null"] }]"#)),
    rejected("only for nobody", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "only": ["nul"] }]"#)),
    rejected("override for nobody", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "override": { "nul": {} } }]"#)),
    rejected("override with a number", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "override": { "null": 5 } }]"#)),
    accepted("override", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "override": { "null": { "duration": "1ms" } } }]"#)),
    rejected("provisioner without type", with_builder!(r#""provisioners": [{ "duration": "0s" }]"#)),
    rejected("provisioners is no list", with_builder!(r#""provisioners": { "type": "sleep", "duration": "0s" }"#)),
    rejected("pause that is none", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "pause_before": "soon" }]"#)),
    accepted("pause without unit", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "pause_before": 5 }]"#))
        .differs("it means 5 nanoseconds, which nobody wants"),
    rejected("templated timeout", with_builder!(r#""variables": { "t": "3s" }, "provisioners": [{ "type": "sleep", "duration": "0s", "timeout": "{{user `t`}}" }]"#))
        .differs("it is rendered, as `max_retries` is"),
    accepted("templated retries", with_builder!(r#""variables": { "r": "3" }, "provisioners": [{ "type": "sleep", "duration": "0s", "max_retries": "{{user `r`}}" }]"#)),
    accepted("number of retries", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "max_retries": 3 }]"#)),
    rejected("retries that are none", with_builder!(r#""provisioners": [{ "type": "sleep", "duration": "0s", "max_retries": "many" }]"#)),
    accepted("error clean-up", with_builder!(r#""error-cleanup-provisioner": { "type": "sleep", "duration": "0s" }"#)),
    rejected("list of error clean-ups", with_builder!(r#""error-cleanup-provisioner": [{ "type": "sleep", "duration": "0s" }]"#)),
    rejected("unknown root key", with_builder!(r#""variable": {}"#)),
    accepted("comment", with_builder!(r#""_note": "a", "comments": [{ "b": "c" }], "push": {}"#)),
    rejected("comment that is a number", with_builder!(r#""_note": 5"#)).differs("a comment may be anything"),
    rejected("newer packer needed", with_builder!(r#""min_packer_version": "9.0.0""#)),
    rejected("version that is none", with_builder!(r#""min_packer_version": "new""#)),
    rejected("description that is a number", with_builder!(r#""description": 5"#)),
    accepted("nulls", with_builder!(r#""provisioners": null, "post-processors": null, "variables": null"#)),
    rejected("list of variables", with_builder!(r#""variables": []"#)),
    rejected("number as default", with_builder!(r#""variables": { "a": 5 }"#)),
    rejected("sensitive-variables is no list", with_builder!(r#""sensitive-variables": "a""#)),
    accepted("unknown sensitive variable", with_builder!(r#""sensitive-variables": ["a"]"#))
        .differs("nothing would be hidden"),
    rejected("required variable", with_builder!(r#""variables": { "a": null }"#)),
    accepted("required variable, given", with_builder!(r#""variables": { "a": null }"#)).given(&[("a", "1")]),
    accepted("undeclared variable, given", with_builder!(r#""variables": {}"#)).given(&[("a", "1")]),
    rejected("undeclared variable in a default", with_builder!(r#""variables": { "a": "{{user `b`}}" }"#)),
    accepted("given variable in a default", with_builder!(r#""variables": { "a": "{{user `b`}}" }"#)).given(&[("b", "1")]),
    rejected("circle", with_builder!(r#""variables": { "a": "{{user `b`}}", "b": "{{user `a`}}" }"#)),
    rejected("build_name in a default", with_builder!(r#""variables": { "a": "{{build_name}}" }"#)),
    accepted("variables in order of need", with_builder!(r#""variables": { "a": "{{user `b`}}", "b": "{{user `c`}}", "c": "{{isotime \"2006\"}}" }"#)),
    rejected("duplicate key", r#"{ "builders": [{ "type": "null", "communicator": "none" }], "builders": [] }"#),
    rejected("duplicate key deep below", r#"{ "builders": [{ "type": "null", "communicator": "none", "a": { "b": 1, "b": 2 } }] }"#),
    rejected("duplicate builder", r#"{ "builders": [{ "type": "null", "communicator": "none" }, { "type": "null", "communicator": "none" }] }"#),
    accepted("templated name", r#"{ "variables": { "n": "a" }, "builders": [{ "type": "null", "communicator": "none", "name": "x-{{user `n`}}" }], "provisioners": [{ "type": "sleep", "duration": "0s", "only": ["x-{{user `n`}}"] }] }"#),
    rejected("only with the rendered name", r#"{ "variables": { "n": "a" }, "builders": [{ "type": "null", "communicator": "none", "name": "x-{{user `n`}}" }], "provisioners": [{ "type": "sleep", "duration": "0s", "only": ["x-a"] }] }"#)
        .differs("the name that output shows works as well"),
    rejected("build_type in a name", r#"{ "builders": [{ "type": "null", "communicator": "none", "name": "{{build_type}}" }] }"#),
    rejected("templated type", r#"{ "variables": { "t": "null" }, "builders": [{ "type": "{{user `t`}}", "communicator": "none" }] }"#),
    rejected("no builders", r#"{ "builders": [] }"#),
    rejected("builder without type", r#"{ "builders": [{ "name": "a" }] }"#),
    rejected("builders is no list", r#"{ "builders": { "type": "null" } }"#),
    accepted("root key in another case", r#"{ "Builders": [{ "type": "null", "communicator": "none" }] }"#)
        .differs("names have one spelling"),
    rejected("byte order mark", "\u{feff}{ \"builders\": [{ \"type\": \"null\", \"communicator\": \"none\" }] }"),
    rejected("trailing comma", r#"{ "builders": [{ "type": "null", "communicator": "none", }] }"#),
    rejected("comment line", "{ // a\n \"builders\": [{ \"type\": \"null\", \"communicator\": \"none\" }] }"),
    rejected("line break in a string", "{ \"description\": \"a\nb\", \"builders\": [{ \"type\": \"null\", \"communicator\": \"none\" }] }"),
    rejected("tab in a string", "{ \"description\": \"a\tb\", \"builders\": [{ \"type\": \"null\", \"communicator\": \"none\" }] }"),
    accepted("lone surrogate", r#"{ "description": "\ud800", "builders": [{ "type": "null", "communicator": "none" }] }"#)
        .differs("it is no character"),
    rejected("leading zero", r#"{ "builders": [{ "type": "null", "communicator": "none", "ssh_port": 022 }] }"#),
    rejected("empty file", ""),
    rejected("list", "[]"),
];

#[test]
fn kiln_decides_as_packer_does_but_for_the_listed_differences() {
    for record in RECORDS {
        let loaded = load_with(record.template, &with_variables(record.given));
        let is_accepted = loaded.is_accepted();
        let expected = record.is_accepted == record.differs.is_none();
        assert_eq!(is_accepted, expected, "{}: {}", record.name, loaded.rendered());
    }
}

/// The variables a build sees, as Packer 1.6.6 printed them.
#[test]
fn variables_have_the_values_packer_gives_them() {
    for (name, variables, given, expected) in VALUES {
        let template = format!(r#"{{ "builders": [{{ "type": "null" }}], "variables": {variables} }}"#);
        let loaded = load_with(&template, &with_variables(given));
        let scope = &loaded.plan().text_scope;
        let values = scope.user_variables.as_ref().unwrap();
        for (variable, value) in *expected {
            assert_eq!(values[*variable], *value, "{name}: {variable}");
        }
    }
}

type Pairs = &'static [(&'static str, &'static str)];

const VALUES: &[(&str, &str, Pairs, Pairs)] = &[
    ("chain", r#"{ "a": "{{user `b`}}-x", "b": "{{user `c`}}y", "c": "z" }"#, &[], &[("a", "zy-x"), ("b", "zy")]),
    ("given texts are rendered", r#"{ "a": "1", "b": "2" }"#, &[("a", "{{user `b`}}!")], &[("a", "2!")]),
    ("absent environment", r#"{ "a": "[{{env `KILN_TEST_ABSENT_VARIABLE`}}]" }"#, &[], &[("a", "[]")]),
    (
        "data fields wait for their data",
        r#"{ "a": "{{.Vars}} sudo", "b": "{{user `a`}} sh {{ .Path }} {{len `x`}}" }"#,
        &[],
        &[("a", "{{.Vars}} sudo"), ("b", "{{.Vars}} sudo sh {{ .Path }} 1")],
    ),
    ("rendered once", r#"{ "a": "{{`{{timestamp}}`}}", "b": "<{{user `a`}}>" }"#, &[], &[("b", "<{{timestamp}}>")]),
    (
        "functions",
        r#"{ "a": "{{upper `x`}}{{split `a-b` `-` 1}}{{replace_all `a` `b` `aa`}}" }"#,
        &[],
        &[("a", "Xbbb")],
    ),
    ("later wins", r#"{ "a": "1" }"#, &[("a", "2"), ("a", "3")], &[("a", "3")]),
    ("empty", r#"{ "a": "", "b": "{{user `a`}}" }"#, &[], &[("a", ""), ("b", "")]),
];

#[allow(clippy::print_stderr)]
fn packer() -> Option<Command> {
    let wanted = std::env::var_os("KILN_TEST_PACKER").is_some_and(|value| value == "1");
    let version = Command::new("packer").arg("version").env("CHECKPOINT_DISABLE", "1").output();
    let is_oracle = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v1.6.6"));
    assert!(!wanted || is_oracle, "KILN_TEST_PACKER=1, and there is no Packer 1.6.6");
    if !wanted {
        eprintln!("SKIPPED: the records of Packer 1.6.6; set KILN_TEST_PACKER=1 to check them against it");
        return None;
    }
    let mut command = Command::new("packer");
    command.env("CHECKPOINT_DISABLE", "1");
    Some(command)
}

#[test]
fn the_records_are_what_packer_says() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("template.json");
    for record in RECORDS {
        let Some(mut command) = packer() else { return };
        fs::write(&path, record.template).unwrap();
        command.arg("validate").env("HOME", directory.path());
        for (name, value) in record.given {
            command.arg("-var").arg(format!("{name}={value}"));
        }
        let output = command.arg(&path).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.success(), record.is_accepted, "{}: {text}", record.name);
    }
    for (name, variables, given, expected) in VALUES {
        let Some(mut command) = packer() else { return };
        let template =
            format!(r#"{{ "builders": [{{ "type": "null", "communicator": "none" }}], "variables": {variables} }}"#,);
        fs::write(&path, template).unwrap();
        command.arg("console").env("HOME", directory.path());
        for (name, value) in *given {
            command.arg("-var").arg(format!("{name}={value}"));
        }
        let mut console = command.arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        console.stdin.take().unwrap().write_all(b"variables\n").unwrap();
        let output = console.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for (variable, value) in *expected {
            assert!(text.contains(&format!("\n{variable}: {value},")), "{name}: {text}");
        }
    }
}
