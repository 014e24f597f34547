//! What to do when a build fails.

use std::fmt;
use std::str::FromStr;

/// `-on-error`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// Run the error-cleanup provisioner, remove the machine and what else was made.
    #[default]
    Cleanup,
    /// Leave everything as it is, to be looked at; `kiln cleanup` removes it later.
    Abort,
    /// Ask each time: clean up, abort, or try the failed step again.
    Ask,
    /// As abort, but the error-cleanup provisioner runs.
    RunCleanupProvisioner,
}

impl OnError {
    /// All of them, in the order of the help text.
    pub const ALL: [OnError; 4] = [OnError::Cleanup, OnError::Abort, OnError::Ask, OnError::RunCleanupProvisioner];

    /// As it is written on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            OnError::Cleanup => "cleanup",
            OnError::Abort => "abort",
            OnError::Ask => "ask",
            OnError::RunCleanupProvisioner => "run-cleanup-provisioner",
        }
    }
}

impl fmt::Display for OnError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Not one of [`OnError::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is none of `cleanup`, `abort`, `ask` and `run-cleanup-provisioner`")]
pub struct UnknownOnError(String);

impl FromStr for OnError {
    type Err = UnknownOnError;

    fn from_str(text: &str) -> Result<OnError, UnknownOnError> {
        OnError::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| UnknownOnError(text.to_owned()))
    }
}

/// What is done about one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Remove what was made.
    CleanUp,
    /// Leave it.
    Leave {
        /// Whether the error-cleanup provisioner runs all the same.
        run_cleanup_provisioner: bool,
    },
    /// Try the failed stage again.
    Retry,
}
