//! What happens while kiln runs. The engine and the components emit events; reporters consume them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::communicator::Stream;
use crate::redact::Redactor;

/// Something that happened, already free of secrets.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// When, in milliseconds since the epoch.
    pub time: u64,
    /// The build it belongs to; `None` for the run as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Arc<str>>,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// The artifact as events and the closing table show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ArtifactSummary {
    /// Packer's builder id, e.g. `packer.docker`; names who made it.
    pub builder_id: String,
    /// Image id, AMI ids, or file.
    pub id: String,
    /// One or more lines for people.
    pub description: String,
    /// Tags it bears.
    pub tags: Vec<String>,
    /// The digest in the registry, after a push.
    pub digest: Option<String>,
    /// Files on disk.
    pub files: Vec<String>,
    /// Of an index: the ids of its images, by platform.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub platforms: BTreeMap<String, String>,
}

/// How a build, step or post-processor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Well.
    Succeeded,
    /// Not well.
    Failed,
    /// Stopped by the user.
    Cancelled,
    /// Nothing had to be done: what a build would give is in its registry already, or nothing that is built needs it.
    Skipped,
    /// Of a build: it never began, as one that it is built upon did not end well.
    #[serde(rename = "not-run")]
    NotRun,
}

impl Outcome {
    /// Whether what was wanted is there.
    pub fn is_good(self) -> bool {
        matches!(self, Outcome::Succeeded | Outcome::Skipped)
    }
}

/// What became of one task of a tool that a step runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskResult {
    /// Nothing had to be done.
    Ok,
    /// It changed something.
    Changed,
    /// It did not apply.
    Skipped,
    /// It failed.
    Failed,
    /// It failed, and the tool was told to go on.
    Ignored,
    /// The machine did not answer.
    Unreachable,
}

/// The kinds of event. `event` in JSON names the kind; see `docs/reference/events.md`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventKind {
    /// The run starts with these builds.
    RunStarted {
        /// The run's id, as in the label `kiln.run`.
        run: String,
        /// Names of the builds, in the template's order.
        builds: Vec<String>,
    },
    /// A build starts.
    BuildStarted {
        /// The builder's kind.
        builder: String,
        /// Of a build that only joins images to an index: their platforms.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        joins: Vec<String>,
    },
    /// A step starts.
    StepStarted {
        /// Position in the build, from 1.
        index: usize,
        /// How many steps the build has.
        total: usize,
        /// The provisioner's kind.
        kind: String,
        /// Its `name`, where given.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it does, in a few words.
        title: String,
        /// `file:line` in the template.
        place: String,
    },
    /// A step is not run: its result was kept by an earlier build.
    StepCached {
        /// Position in the build, from 1.
        index: usize,
        /// How many steps the build has.
        total: usize,
        /// The provisioner's kind.
        kind: String,
        /// Its `name`, where given.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it does, in a few words.
        title: String,
        /// `file:line` in the template.
        place: String,
        /// The state after it; none for a step that only passes time.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// How long it took when it ran, in seconds, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
    },
    /// A step ended.
    StepFinished {
        /// Position in the build, from 1.
        index: usize,
        /// How.
        outcome: Outcome,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// A test of what the build sealed starts.
    TestStarted {
        /// Its name.
        name: String,
        /// `file:line` in the template.
        place: String,
    },
    /// A test ended.
    TestFinished {
        /// Its name.
        name: String,
        /// How.
        outcome: Outcome,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// A post-processor starts.
    PostProcessorStarted {
        /// Its kind.
        kind: String,
        /// `file:line` in the template.
        place: String,
    },
    /// A post-processor ended.
    PostProcessorFinished {
        /// Its kind.
        kind: String,
        /// How.
        outcome: Outcome,
        /// Wall time in seconds.
        seconds: f64,
        /// What went wrong, where the build goes on all the same (`on_error = "continue"`).
        #[serde(skip_serializing_if = "Option::is_none")]
        tolerated: Option<String>,
    },
    /// kiln itself says what it does.
    Message {
        /// One line.
        text: String,
    },
    /// Something that may not be as meant.
    Warning {
        /// One line.
        text: String,
    },
    /// Something failed; the build or run ends, or goes on as told.
    Error {
        /// One or more lines.
        text: String,
        /// What to do next.
        hints: Vec<String>,
    },
    /// A line that a command on the machine printed.
    Output {
        /// Standard output or standard error.
        stream: Stream,
        /// The line without its end.
        line: String,
    },
    /// A task of a tool that a step runs has ended: one of a playbook, for example.
    Task {
        /// The play that it belongs to.
        play: String,
        /// Its name.
        task: String,
        /// The host of the inventory that it ran for.
        host: String,
        /// What became of it.
        result: TaskResult,
        /// `file:line`, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<String>,
        /// What it says of a failure.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// Wall time in seconds.
        seconds: f64,
    },
    /// How far a long transfer is.
    Progress {
        /// What is under way, e.g. a layer's id; unique within the build.
        item: String,
        /// What is done with it, e.g. `pulling`.
        action: String,
        /// Units done.
        current: u64,
        /// Units in all, where known.
        total: Option<u64>,
    },
    /// An artifact was made.
    Artifact {
        /// It.
        #[serde(flatten)]
        artifact: ArtifactSummary,
    },
    /// A build ended.
    BuildFinished {
        /// How.
        outcome: Outcome,
        /// Wall time in seconds.
        seconds: f64,
        /// The failure, where it failed.
        error: Option<String>,
        /// Why nothing had to be done, where it was skipped.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Artifacts that are left.
        artifacts: Vec<ArtifactSummary>,
    },
    /// The run ended.
    RunFinished {
        /// Builds that succeeded.
        succeeded: usize,
        /// Builds of which nothing had to be done.
        #[serde(skip_serializing_if = "is_zero")]
        skipped: usize,
        /// Builds that failed or were cancelled.
        failed: usize,
        /// Wall time in seconds.
        seconds: f64,
    },
}

/// Serde hands it a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for this signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Consumes events: bars, plain lines, JSON lines, Packer's machine-readable lines.
pub trait Reporter: Send + Sync {
    /// Takes one event. Called from many tasks; must not block for long.
    fn report(&self, event: Event);
}

/// A handle to emit events with; cheap to clone. Everything passes the redactor here.
#[derive(Clone)]
pub struct Events {
    reporter: Arc<dyn Reporter>,
    redactor: Arc<Redactor>,
    build: Option<Arc<str>>,
    /// What is said only once, and was.
    said: Arc<Mutex<BTreeSet<String>>>,
}

impl fmt::Debug for Events {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Events").field("build", &self.build).finish_non_exhaustive()
    }
}

impl Events {
    /// For the run as a whole.
    pub fn new(reporter: Arc<dyn Reporter>, redactor: Arc<Redactor>) -> Events {
        Events { reporter, redactor, build: None, said: Arc::default() }
    }

    /// For one build of it.
    #[must_use]
    pub fn for_build(&self, build: Arc<str>) -> Events {
        let build = match self.redactor.redact(&build) {
            std::borrow::Cow::Owned(clean) => clean.into(),
            std::borrow::Cow::Borrowed(_) => build,
        };
        Events { build: Some(build), said: Arc::default(), ..self.clone() }
    }

    /// Hides secrets.
    pub fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Emits any event.
    pub fn emit(&self, mut kind: EventKind) {
        self.clean(&mut kind);
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.reporter.report(Event { time, build: self.build.clone(), kind });
    }

    /// Says what is done.
    pub fn message(&self, text: impl Into<String>) {
        self.emit(EventKind::Message { text: text.into() });
    }

    /// Says it, unless it was said of this build before: what several components find out.
    pub fn message_once(&self, text: impl Into<String>) {
        let text = text.into();
        if self.said.lock().unwrap_or_else(PoisonError::into_inner).insert(text.clone()) {
            self.message(text);
        }
    }

    /// Warns.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(EventKind::Warning { text: text.into() });
    }

    /// Tells a failure.
    pub fn error(&self, failure: &crate::failure::Failure) {
        self.emit(EventKind::Error { text: failure.chain(), hints: failure.hints.clone() });
    }

    /// Passes on a line of output.
    pub fn output(&self, stream: Stream, line: impl Into<String>) {
        self.emit(EventKind::Output { stream, line: line.into() });
    }

    /// Tells how far a transfer is.
    pub fn progress(&self, item: impl Into<String>, action: impl Into<String>, current: u64, total: Option<u64>) {
        self.emit(EventKind::Progress { item: item.into(), action: action.into(), current, total });
    }

    fn clean(&self, kind: &mut EventKind) {
        let redact = |text: &mut String| {
            if let std::borrow::Cow::Owned(clean) = self.redactor.redact(text) {
                *text = clean;
            }
        };
        let redact_artifact = |artifact: &mut ArtifactSummary| {
            redact(&mut artifact.id);
            redact(&mut artifact.description);
            artifact.tags.iter_mut().for_each(redact);
            artifact.files.iter_mut().for_each(redact);
        };
        match kind {
            EventKind::RunStarted { builds, .. } => builds.iter_mut().for_each(redact),
            EventKind::StepStarted { name, title, .. } | EventKind::StepCached { name, title, .. } => {
                name.iter_mut().for_each(redact);
                redact(title);
            }
            EventKind::Message { text } | EventKind::Warning { text } => redact(text),
            EventKind::Error { text, hints } => {
                redact(text);
                hints.iter_mut().for_each(redact);
            }
            EventKind::Output { line, .. } => redact(line),
            EventKind::Task { play, task, host, message, .. } => {
                redact(play);
                redact(task);
                redact(host);
                message.iter_mut().for_each(redact);
            }
            EventKind::Progress { item, action, .. } => {
                redact(item);
                redact(action);
            }
            EventKind::Artifact { artifact } => redact_artifact(artifact),
            EventKind::PostProcessorFinished { tolerated, .. } => tolerated.iter_mut().for_each(redact),
            EventKind::BuildFinished { error, reason, artifacts, .. } => {
                error.iter_mut().chain(reason).for_each(redact);
                artifacts.iter_mut().for_each(redact_artifact);
            }
            EventKind::TestStarted { name, .. } | EventKind::TestFinished { name, .. } => redact(name),
            EventKind::BuildStarted { .. }
            | EventKind::StepFinished { .. }
            | EventKind::PostProcessorStarted { .. }
            | EventKind::RunFinished { .. } => {}
        }
    }
}
