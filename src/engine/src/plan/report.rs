//! What `kiln plan` tells: the form of its JSON.

use std::time::{Duration, SystemTime};

use kiln_core::{Input, Key};
use serde::{Serialize, Serializer};

use crate::cache::Reason;

/// The form of the JSON. The first number changes where a reader must look anew, the second where something is added.
pub const PLAN_FORMAT: &str = "1.1";

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// Of the JSON: see `docs/reference/plan.md`.
    pub format_version: &'static str,
    /// Its builds, in the template's order.
    pub builds: Vec<BuildPlan>,
}

/// What a build would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuildPlan {
    /// Its name.
    pub build: String,
    /// The builder's kind.
    pub builder: String,
    /// `file:line` of the source.
    pub place: String,
    /// The builds that come before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Whether it does not run, and is taken as it was sealed before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_taken: bool,
    /// Of a build that joins images for several platforms to an index: those platforms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Why it has nothing to do: what it would push is there already, or nothing that is built needs it. Nothing of what
    /// follows happens then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What its machine starts as; empty where the builder keeps no states, or where that is not known.
    pub base: Vec<Input>,
    /// The state that the machine starts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_key: Option<Key>,
    /// Its steps, in order.
    pub steps: Vec<StepPlan>,
    /// What becomes of the last state.
    pub sealing: SealPlan,
    /// Kinds of its post-processors, chain by chain.
    pub post_processors: Vec<Vec<String>>,
    /// The names that its builder and its post-processors would give to its image, in full, in order.
    pub names: Vec<String>,
    /// Those of them that would be pushed.
    pub pushed: Vec<String>,
    /// Why `kiln build` would not begin with it as things are now: its work tree is not clean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why it would fail: nothing can be said of what its machine starts as (a registry that does not answer), nothing is
    /// sealed of what is to be taken as it is, or a build that it is built upon would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl BuildPlan {
    /// Whether a step runs.
    pub fn runs_steps(&self) -> bool {
        self.steps.iter().any(|step| step.action == StepAction::Runs)
    }

    /// Whether it is known to fail; where it only cannot be told what it would do, that is an error as well.
    pub fn is_failing(&self) -> bool {
        self.error.is_some() && self.sealing == SealPlan::Skipped
    }
}

/// What happens with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepAction {
    /// Its result is restored.
    Cached,
    /// It runs.
    Runs,
    /// It is left out: it passes time for a step that is restored, or its build has nothing to do, or fails before.
    Skipped,
}

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepPlan {
    /// Position in the build, from 1.
    pub index: usize,
    /// The provisioner's kind.
    pub kind: String,
    /// Its `name`, where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does, in a few words.
    pub title: String,
    /// `file:line` of the step.
    pub place: String,
    /// The `steps` blocks by which it came into the build, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupPlan>,
    /// What would happen.
    pub action: StepAction,
    /// Why it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The state after it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// What is kept of it, whether it is used or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptState>,
}

/// A use of a `steps` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupPlan {
    /// What the block is called.
    pub name: String,
    /// `file:line` of the use.
    pub place: String,
}

/// A state that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptState {
    /// When it was made; in JSON in milliseconds since the epoch, as in events.
    #[serde(serialize_with = "milliseconds")]
    pub created: SystemTime,
    /// How long making it took; in JSON in seconds.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
}

fn milliseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What would become of the machine after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SealPlan {
    /// Its artifact is there from an earlier time; no machine is started.
    Cached,
    /// It is made.
    Runs,
    /// It does not come to that: what would be pushed is there already, or the build fails before.
    Skipped,
}
