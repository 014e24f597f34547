//! Whole templates, from text to plan and component bodies.

mod artifacts;
mod caching;
mod components;
mod data;
mod dynamic;
mod extensions;
mod extensions_ambient;
mod extensions_git;
mod extensions_listing;
mod extensions_mistakes;
mod groups;
mod mistakes;
mod modules;
mod modules_remote;
mod modules_repeated;
mod oracle;
mod plans;
mod platforms;
mod variables;
mod verdicts;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_core::config::{Body, Node, Value};
use kiln_core::{ComponentSpec, Diagnostics, Facts, Field, FieldType, Kinds, Schema, render};

use crate::load::{LoadOptions, Loaded, load};

/// A directory with a template's files.
pub(super) struct Fixture {
    directory: tempfile::TempDir,
    pub(super) options: LoadOptions,
}

impl Fixture {
    /// One file, loaded as such.
    pub(super) fn file(text: &str) -> Fixture {
        let mut fixture = Fixture::directory(&[("t.pkr.hcl", text)]);
        fixture.options.template = "t.pkr.hcl".into();
        fixture
    }

    /// Files, loaded as a directory.
    pub(super) fn directory(files: &[(&str, &str)]) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut options = LoadOptions::new(".", directory.path());
        options.started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let mut kinds = Kinds::new();
        kiln_data::register(&mut kinds, kiln_data::DataSettings::default());
        options.data.kinds = Arc::new(kinds);
        Fixture { directory, options }
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).unwrap();
    }

    pub(super) fn var(mut self, name: &str, value: &str) -> Fixture {
        self.options.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Fixture {
        self.options.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn only(mut self, patterns: &[&str]) -> Fixture {
        self.options.only = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        self
    }

    pub(super) fn except(mut self, patterns: &[&str]) -> Fixture {
        self.options.except = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        self
    }

    pub(super) fn load(&self) -> Loaded {
        load(&self.options)
    }

    /// What loading says.
    pub(super) fn report(&self) -> String {
        let loaded = self.load();
        assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors());
        report(&loaded, &loaded.diagnostics)
    }
}

/// Diagnostics as text.
pub(super) fn report(loaded: &Loaded, diagnostics: &Diagnostics) -> String {
    let texts: Vec<String> =
        diagnostics.items.iter().map(|item| render::render(item, &loaded.sources, false)).collect();
    texts.join("\n\n")
}

/// The plan of a template without mistakes.
pub(super) fn plan(loaded: &Loaded) -> &kiln_core::Plan {
    match &loaded.plan {
        Some(plan) => plan,
        None => panic!("{}", report(loaded, &loaded.diagnostics)),
    }
}

const INNER: Schema = Schema {
    kind: "build",
    title: "a `build` block",
    doc: "",
    fields: &[Field::string("path", ""), Field::map("arguments", ""), Field::string("command", "").deferred()],
    example: "",
};

const PORT: Schema = Schema {
    kind: "port",
    title: "a `port` block",
    doc: "",
    fields: &[Field::string("name", ""), Field::new("number", FieldType::Integer, "")],
    example: "",
};

/// A schema that has a bit of everything.
pub(super) const SCHEMA: Schema = Schema {
    kind: "docker",
    title: "a `docker` source",
    doc: "",
    fields: &[
        Field::string("image", "the base image").required(),
        Field::bool("commit", ""),
        Field::strings("changes", ""),
        Field::map("volumes", ""),
        Field::string("message", ""),
        Field::strings("run_command", "").deferred(),
        Field::strings("inline", ""),
        Field::map("env", ""),
        Field::string("execute_command", "").deferred(),
        Field::new("build", FieldType::Block(&INNER), ""),
        Field::new("port", FieldType::Blocks(&PORT), ""),
    ],
    example: "",
};

/// A component's body as text, and what evaluating it said.
pub(super) fn body(loaded: &Loaded, component: &ComponentSpec, facts: &Facts) -> String {
    let mut diagnostics = Diagnostics::new();
    let body = component.config.evaluate(&SCHEMA, facts, &mut diagnostics);
    let mut text = String::new();
    show_body(&body, 0, loaded, &mut text);
    let said = report(loaded, &diagnostics);
    if !said.is_empty() {
        let _ = write!(text, "---\n{said}\n");
    }
    text
}

fn show_body(body: &Body, depth: usize, loaded: &Loaded, text: &mut String) {
    let indent = "  ".repeat(depth);
    for (name, attribute) in &body.attributes {
        let _ = writeln!(text, "{indent}{name} = {}", show_node(&attribute.node, loaded));
    }
    for block in &body.blocks {
        let _ = writeln!(text, "{indent}{} {:?}:", block.kind, block.labels);
        show_body(&block.body, depth + 1, loaded, text);
    }
}

/// A value with the column it was written at.
fn show_node(node: &Node, loaded: &Loaded) -> String {
    let value = match &node.value {
        Value::Null => "null".to_owned(),
        Value::Unknown => "<unknown>".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(text) => text.clone(),
        Value::String(text) => format!("{text:?}"),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(|item| show_node(item, loaded)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, item)| format!("{key}: {}", show_node(item, loaded))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    };
    let (line, column) = loaded.sources.line_column(node.span);
    let mark = if node.sensitive { "!" } else { "" };
    format!("{value}{mark}@{line}:{column}")
}
