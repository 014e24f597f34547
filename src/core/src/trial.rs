//! Tests of what a build sealed, run before anything is made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::artifact::Artifact;
use crate::communicator::OutputSink;
use crate::context::BuildContext;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::duration;
use crate::failure::Failure;
use crate::health::{HEALTH_CHECK, Health, HealthBlock, HealthCheck, Tmpfs, Words};
use crate::schema::{Decoded, Field, FieldType, Schema};
use crate::source::Span;

/// How long a test may take where nothing is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// The arguments of a `test` block.
pub const TEST: Schema = Schema {
    kind: "test",
    title: "a `test` block",
    doc: "A test of what the build sealed: it is started as the artifact is, after sealing, and before any post-processor. \
          Where a test fails, the build does, and what it sealed is removed. Its label is its name. Beyond Packer.",
    fields: &[
        Field::new(
            "command",
            FieldType::Any,
            "What runs instead of the image's `ENTRYPOINT` and `CMD`; with `health`, beside them once they are healthy. A list \
             of words, or a text for `/bin/sh -c`.",
        ),
        Field::strings("inline", "Lines of a script for `/bin/sh -ec`, instead of `command`."),
        Field::strings("arguments", "What is given to the image's `ENTRYPOINT`, as `docker run IMAGE ARGUMENTS` does."),
        Field::new(
            "health",
            FieldType::Block(&HEALTH_CHECK),
            "Starts the image as it is, and waits until it is healthy: by this command, or else by the image's `HEALTHCHECK`.",
        ),
        Field::new("expect_exit", FieldType::Any, "The exit status that is right, or a list of them.").default("0"),
        Field::string(
            "expect_output",
            "A regular expression that what it prints must match somewhere; `^` and `$` are the ends of a line.",
        ),
        Field::map("environment", "Environment variables, over those of the image."),
        Field::string("user", "The user that it runs as; the image's `USER` where absent."),
        Field::string("workdir", "The directory that it runs in; the image's `WORKDIR` where absent."),
        Field::new("tmpfs", FieldType::Any, "Paths that are held in memory, as in a `service` block."),
        Field::string("network", "Its network, as on the source, but of the test's own."),
        Field::strings("services", "Services of the source that it needs; they are started anew for it."),
        Field::duration("timeout", "Bound on the whole test.").default("10m"),
    ],
    example: "test \"serves\" {\n  health {\n    command = \"wget -q -O - localhost:8080\"\n  }\n}",
};

/// What a test runs.
#[derive(Debug, Clone, PartialEq)]
pub enum TestRun {
    /// This, instead of what the artifact says.
    Command(Vec<String>),
    /// What the artifact says, with these arguments.
    Arguments(Vec<String>),
    /// What the artifact says, until it is healthy.
    Health {
        /// How that is found out; `None` for what the artifact says.
        check: Option<Health>,
        /// Runs in it then.
        command: Option<Vec<String>>,
    },
}

/// A test. Its arguments may hold secrets.
#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub run: TestRun,
    /// Over the artifact's environment.
    pub environment: BTreeMap<String, String>,
    /// Instead of the artifact's user.
    pub user: Option<String>,
    /// Instead of the artifact's directory.
    pub workdir: Option<String>,
    /// Paths that are held in memory, with their options.
    pub tmpfs: BTreeMap<String, String>,
    /// Its network.
    pub network: Option<String>,
    /// Services that it needs, by name.
    pub services: Vec<String>,
    /// Exit statuses that are right.
    pub expect_exit: Vec<i64>,
    /// What its output must match.
    pub expect_output: Option<String>,
    /// Bound on all of it.
    pub timeout: Duration,
    /// Its block in the template.
    pub span: Span,
}

/// How a test's command ended; 0 where the artifact only had to be healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestEnd {
    /// The exit status.
    pub status: i64,
}

/// Runs tests of what a builder seals.
#[async_trait]
pub trait Tester: Send + Sync {
    /// Tells what the builder cannot do of a test.
    fn check(&self, test: &Test, decoded: &Decoded, diagnostics: &mut Diagnostics);

    /// Starts the artifact as the test says, and waits for its end. Notes every undo in the journal first; when it returns, what
    /// it started is gone again.
    ///
    /// # Errors
    /// It could not be started, or did not get healthy. That a command ended with whatever status is no error.
    async fn run(
        &self,
        artifact: &Artifact,
        test: &Test,
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure>;
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Statuses {
    One(i64),
    Several(Vec<i64>),
}

#[derive(Deserialize)]
struct Block {
    command: Option<Words>,
    inline: Option<Vec<String>>,
    arguments: Option<Vec<String>>,
    health: Option<HealthBlock>,
    expect_exit: Option<Statuses>,
    expect_output: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    user: Option<String>,
    workdir: Option<String>,
    tmpfs: Option<Tmpfs>,
    network: Option<String>,
    #[serde(default)]
    services: Vec<String>,
    #[serde(default, deserialize_with = "duration::deserialize_option")]
    timeout: Option<Duration>,
}

impl Test {
    /// Reads a test; `None` with an error told.
    pub fn read(name: &str, span: Span, decoded: &Decoded, diagnostics: &mut Diagnostics) -> Option<Arc<Test>> {
        let mut wrong = |path: &str, title: String, help: &str| {
            let diagnostic = Diagnostic::error("test", decoded.span(path), title);
            diagnostics.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
        };
        let set: Vec<&str> =
            ["command", "inline", "arguments"].into_iter().filter(|name| decoded.is_set(name)).collect();
        let has_health = decoded.is_set("health");
        match (set.as_slice(), has_health) {
            ([], false) => {
                let help = "write one of `command`, `inline`, `arguments`, or a `health` block";
                wrong("", format!("the test `{name}` runs nothing"), help);
                return None;
            }
            ([first, second, ..], _) => {
                let title = format!("`{first}` and `{second}` are both set; a test runs one of them");
                wrong(second, title, "");
                return None;
            }
            (["arguments"], true) => {
                let title = "`arguments` and `health` are both set; with `health` the image runs as it is";
                wrong("arguments", title.to_owned(), "write `command` for what runs beside it");
                return None;
            }
            _ => {}
        }
        for (field, what) in [
            ("command", "is neither a list of strings nor a string"),
            ("expect_exit", "is neither a whole number nor a list of them"),
            ("tmpfs", "is neither a list of paths nor a map from path to options"),
        ] {
            let value = decoded.values().get(field).filter(|value| !value.is_null());
            let fits = value.is_none_or(|value| match field {
                "command" => Words::deserialize(value).is_ok(),
                "tmpfs" => Tmpfs::deserialize(value).is_ok(),
                _ => Statuses::deserialize(value).is_ok(),
            });
            if !fits && !decoded.is_unknown(field) {
                wrong(field, format!("`{field}` {what}"), "");
                return None;
            }
        }
        let read: Block = match decoded.read() {
            Ok(read) => read,
            // What is not known yet may be of any shape.
            Err(_) if ["command", "tmpfs", "expect_exit"].iter().any(|field| decoded.is_unknown(field)) => return None,
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                return None;
            }
        };
        Some(Arc::new(read.into_test(name, span)))
    }
}

impl Block {
    fn into_test(self, name: &str, span: Span) -> Test {
        let script = |lines: Vec<String>| vec!["/bin/sh".to_owned(), "-ec".to_owned(), lines.join("\n")];
        let command = self.command.map(Words::into_words).or(self.inline.map(script));
        let run = match (self.health, command, self.arguments) {
            (Some(health), command, _) => {
                let check = match health.read() {
                    Some(HealthCheck::By(check)) => Some(check),
                    Some(HealthCheck::Off) | None => None,
                };
                TestRun::Health { check, command }
            }
            (None, Some(command), _) => TestRun::Command(command),
            (None, None, arguments) => TestRun::Arguments(arguments.unwrap_or_default()),
        };
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        Test {
            name: name.to_owned(),
            run,
            environment: self.environment,
            user: full(self.user),
            workdir: full(self.workdir),
            tmpfs: self.tmpfs.map(Tmpfs::into_paths).unwrap_or_default(),
            network: full(self.network),
            services: self.services,
            expect_exit: match self.expect_exit {
                Some(Statuses::One(status)) => vec![status],
                Some(Statuses::Several(statuses)) => statuses,
                None => vec![0],
            },
            expect_output: full(self.expect_output),
            timeout: self.timeout.unwrap_or(DEFAULT_TIMEOUT),
            span,
        }
    }
}
