//! The command's error: a class that picks the exit code, a message with its causes, and what to do next.

use kiln_core::{Failure, FailureClass};

/// Why a command ends without having done its work.
#[derive(Debug)]
pub(crate) enum CliError {
    /// What went wrong, not shown yet.
    Failure(Failure),
    /// It was shown already, in the form that was asked for.
    Reported(FailureClass),
    /// The reader of our output went away (`kiln inspect | head`): no error at all.
    ClosedPipe,
}

impl CliError {
    /// See `docs/reference/exit-codes.md`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            CliError::Failure(failure) => failure.class.exit_code(),
            CliError::Reported(class) => class.exit_code(),
            CliError::ClosedPipe => 0,
        }
    }
}

impl From<Failure> for CliError {
    fn from(failure: Failure) -> CliError {
        CliError::Failure(failure)
    }
}

/// A failed write to standard output.
pub(crate) fn output_error(error: std::io::Error) -> CliError {
    if error.kind() == std::io::ErrorKind::BrokenPipe {
        return CliError::ClosedPipe;
    }
    CliError::Failure(Failure::environment(WriteError(error)))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct WriteError(#[source] std::io::Error);
