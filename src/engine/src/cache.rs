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
use crate::prepare::{PreparedBuild, PreparedRun};

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
    /// `--from-step`: this step and those after it run, in the builds that were selected.
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

impl CachePolicy {
    /// What of it holds for one build of the run.
    pub(crate) fn for_build(&self, build: &PreparedBuild) -> CachePolicy {
        CachePolicy {
            // Steps of what others are built upon have the same numbers, and are not meant.
            from_step: self.from_step.clone().filter(|_| !build.is_brought()),
            post_only: self.post_only || build.is_taken(),
            ..self.clone()
        }
    }
}

/// Fails where `--from-step` names a step that no build has that was selected.
pub fn check_choice(prepared: &PreparedRun, policy: &CachePolicy) -> Result<(), Failure> {
    let Some(choice) = &policy.from_step else { return Ok(()) };
    let (brought, builds): (Vec<_>, Vec<_>) = prepared.builds.iter().partition(|build| build.is_brought());
    let has_it = |build: &&&PreparedBuild| chain::find_step(build, choice).is_some();
    if builds.iter().any(|build| has_it(&build)) {
        return Ok(());
    }
    let error = EngineError::NoSuchStep { choice: choice.to_string() };
    let failure = Failure::new(FailureClass::Usage, error);
    if let Some(build) = brought.iter().find(has_it) {
        let name = &build.name;
        let hint =
            format!("`{name}` has one, but is only there for what is built upon it; select it with `-only={name}`");
        return Err(failure.hint(hint));
    }
    let steps = builds.iter().flat_map(|build| &build.steps);
    let mut names: Vec<&str> = steps.filter_map(|step| step.spec.component.name.as_deref()).collect();
    names.retain(|name| !name.is_empty());
    Err(match (choice, names.as_slice()) {
        (StepChoice::Name(_), []) => failure.hint("no step has a `name`; name it by its number, from 1"),
        (StepChoice::Name(_), names) => {
            failure.hint(format!("the steps that have a name: {}", suggest::enumerate(names.iter().copied())))
        }
        (StepChoice::Number(_), _) => {
            let most = builds.iter().map(|build| build.steps.len()).max().unwrap_or_default();
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
