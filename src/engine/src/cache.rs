//! The step cache's half that decides: keys, the walk along them, and why a step runs although it ran before.

mod arguments;
pub(crate) mod chain;
pub(crate) mod explain;
mod files;
mod keys;
pub(crate) mod memory;
mod reason;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::{Failure, FailureClass, PlanMemory, suggest};

use crate::error::EngineError;
use crate::prepare::PreparedRun;

pub use reason::{Change, ChangeKind, Reason};

/// How a run uses the step cache.
#[derive(Clone, Default)]
pub struct CachePolicy {
    /// What is remembered of earlier runs. `None`: nothing is restored, nothing is kept.
    pub memory: Option<Arc<dyn PlanMemory>>,
    /// The template's absolute path: records are kept by it.
    pub template: PathBuf,
    /// `--no-cache`: every step runs, and is kept anew.
    pub no_cache: bool,
    /// `--from-step`: this step and those after it run.
    pub from_step: Option<StepChoice>,
    /// `--post-only`: nothing but post-processors, on what sealing gave before.
    pub post_only: bool,
}

impl fmt::Debug for CachePolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CachePolicy")
            .field("is_on", &self.memory.is_some())
            .field("no_cache", &self.no_cache)
            .field("from_step", &self.from_step)
            .field("post_only", &self.post_only)
            .finish_non_exhaustive()
    }
}

/// Fails where `--from-step` names a step that no build has.
pub fn check_choice(prepared: &PreparedRun, policy: &CachePolicy) -> Result<(), Failure> {
    let Some(choice) = &policy.from_step else { return Ok(()) };
    if prepared.builds.iter().any(|build| chain::find_step(build, choice).is_some()) {
        return Ok(());
    }
    let error = EngineError::NoSuchStep { choice: choice.to_string() };
    let failure = Failure::new(FailureClass::Usage, error);
    let steps = prepared.builds.iter().flat_map(|build| &build.steps);
    let mut names: Vec<&str> = steps.filter_map(|step| step.spec.component.name.as_deref()).collect();
    names.retain(|name| !name.is_empty());
    Err(match (choice, names.as_slice()) {
        (StepChoice::Name(_), []) => failure.hint("no step has a `name`; name it by its number, from 1"),
        (StepChoice::Name(_), names) => {
            failure.hint(format!("the steps that have a name: {}", suggest::enumerate(names.iter().copied())))
        }
        (StepChoice::Number(_), _) => {
            let most = prepared.builds.iter().map(|build| build.steps.len()).max().unwrap_or_default();
            failure.hint(format!("steps count from 1, and no build has more than {most}"))
        }
    })
}

/// A step as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepChoice {
    /// Its place in the build, from 1.
    Number(usize),
    /// Its `name`.
    Name(String),
}

impl From<&str> for StepChoice {
    fn from(text: &str) -> StepChoice {
        text.parse().map_or_else(|_| StepChoice::Name(text.to_owned()), StepChoice::Number)
    }
}

impl fmt::Display for StepChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepChoice::Number(number) => write!(formatter, "{number}"),
            StepChoice::Name(name) => write!(formatter, "`{name}`"),
        }
    }
}
