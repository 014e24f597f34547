//! The step cache's half that decides: keys, the walk along them, and why a step runs although it ran before.

mod reason;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::PlanMemory;

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
