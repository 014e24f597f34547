//! Why a step is not restored.

use std::fmt;
use std::time::Duration;

use kiln_core::duration;
use serde::Serialize;

/// One thing that differs from the last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What: `inline`, `scripts/apt.sh`, `image`.
    pub name: String,
    /// How.
    pub change: ChangeKind,
    /// What it was in a few words, where that may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// What it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<String>,
}

/// How a thing differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It has another value.
    Changed,
    /// It was not there.
    New,
    /// It is not there any more.
    Gone,
}

/// Why a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Reason {
    /// It depends on something that is not what it was.
    Changed {
        /// What.
        changes: Vec<Change>,
    },
    /// What the build starts from is not what it was.
    BaseChanged {
        /// What of it.
        changes: Vec<Change>,
    },
    /// A step before it runs.
    StepBefore,
    /// No build has come past it yet.
    NeverBuilt,
    /// It stood elsewhere among the steps.
    Moved,
    /// It failed last time.
    Failed,
    /// What was kept is older than `cache_ttl`.
    Expired {
        /// Seconds.
        #[serde(rename = "ttl_seconds", serialize_with = "seconds")]
        ttl: Duration,
    },
    /// Its state was not kept, for this reason.
    NotKept {
        /// As the builder says it.
        why: String,
    },
    /// Its state was kept, and is not there any more.
    Removed,
    /// `cache = false` on the step or its source.
    Off,
    /// `--no-cache`.
    NoCache,
    /// `--from-step`.
    FromStep,
    /// Its arguments depend on values of the machine, so nothing can be said of it before.
    NotKnownYet,
    /// It reaches outside the machine, so it always runs.
    Outside,
    /// A step before it that reaches outside knows the machine, and may have changed it.
    Entered,
    /// Something it depends on cannot be read.
    Unreadable {
        /// What, and why.
        what: String,
    },
    /// The builder keeps no states.
    NoStates,
    /// It cannot be found out what the build starts from.
    NoBase,
    /// A build runs that this one is built upon.
    Parent {
        /// Its name.
        build: String,
    },
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.change {
            ChangeKind::Changed => "changed",
            ChangeKind::New => "is new",
            ChangeKind::Gone => "is gone",
        };
        write!(formatter, "`{}` {verb}", self.name)?;
        match (&self.was, &self.now) {
            (Some(was), Some(now)) if was != now => write!(formatter, " ({was} -> {now})"),
            _ => Ok(()),
        }
    }
}

/// At most this many changes are told one by one.
const TOLD: usize = 3;

fn told(changes: &[Change]) -> String {
    let shown = changes.iter().take(TOLD).map(Change::to_string);
    let more = changes.len().saturating_sub(TOLD);
    let more = (more > 0).then(|| format!("{more} more changed"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Reason::Changed { changes } => return formatter.write_str(&told(changes)),
            Reason::BaseChanged { changes } => {
                return write!(formatter, "what it starts from changed: {}", told(changes));
            }
            Reason::Expired { ttl } => return write!(formatter, "expired after {}", duration::display(*ttl)),
            Reason::NotKept { why } => return write!(formatter, "not kept: {why}"),
            Reason::Unreadable { what } => return formatter.write_str(what),
            Reason::StepBefore => "a step before it runs",
            Reason::NeverBuilt => "never built",
            Reason::Moved => "what comes before it changed",
            Reason::Failed => "it failed last time",
            Reason::Removed => "no longer in the cache",
            Reason::Off => "`cache = false`",
            Reason::NoCache => "`--no-cache`",
            Reason::FromStep => "`--from-step`",
            Reason::NotKnownYet => "depends on the running machine",
            Reason::Outside => "always runs",
            Reason::Entered => "a step on this host that knows the machine may have changed it",
            Reason::Parent { build } => return write!(formatter, "`{build}` comes first, and would run"),
            Reason::NoBase => "what it starts from is not known",
            Reason::NoStates => "this builder keeps no states",
        };
        formatter.write_str(text)
    }
}
