//! What a run would do, without doing it: `kiln plan`.

use std::time::{Duration, SystemTime};

use kiln_core::{Input, Key};
use serde::Serialize;

use crate::cache::Reason;
use crate::prepare::PreparedRun;
use crate::run::{RunSettings, Surroundings};

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
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
    /// Why nothing can be said of what its machine starts as (a registry that does not answer).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What happens with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepAction {
    /// Its result is restored.
    Cached,
    /// It runs.
    Runs,
    /// It passes time for a step that is restored, so it is left out.
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

/// A state that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptState {
    /// When it was made.
    pub created: SystemTime,
    /// How long making it took.
    pub took: Duration,
}

/// What would become of the machine after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SealPlan {
    /// Its artifact is there from an earlier time; no machine is started.
    Cached,
    /// It is made.
    Runs,
}

/// What a run of these builds would do. Nothing is run or made; a registry may be asked what an image is now.
pub async fn plan(prepared: &PreparedRun, settings: &RunSettings, surroundings: &Surroundings) -> PlanReport {
    let _ = (prepared, settings, surroundings);
    PlanReport { builds: Vec::new() }
}
