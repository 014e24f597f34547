//! A machine as it is after a step, for a person to look around in: `kiln shell`.

use std::ops::AsyncFnOnce;

use kiln_core::{BuildContext, Failure, Machine};

use crate::cache::StepChoice;
use crate::prepare::PreparedRun;
use crate::run::{RunSettings, Surroundings};

/// A state that a build kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChoice {
    /// The build's name.
    pub build: String,
    /// The step after which; `None` for the last one whose state is kept.
    pub step: Option<StepChoice>,
}

/// Starts a machine in a state that an earlier build kept, lends it to `work`, and removes it, whatever comes of that.
/// What `work` changes on the machine is kept nowhere.
pub async fn visit<T>(
    prepared: PreparedRun,
    choice: &StateChoice,
    settings: RunSettings,
    surroundings: Surroundings,
    work: impl AsyncFnOnce(&dyn Machine, &BuildContext) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let _ = (prepared, choice, settings, surroundings, work);
    Err(Failure::build("not yet"))
}
