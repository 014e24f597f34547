//! What can go wrong in this builder itself.

use std::path::PathBuf;

use kiln_cache::CacheError;
use kiln_core::{Failure, FailureClass};
use kiln_image::ImageError;
use kiln_registry::RegistryError;
use kiln_sandbox::SandboxError;

/// Why a machine cannot be made, kept or sealed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    /// A file of this host.
    #[error("cannot {action} {}", path.display())]
    Local {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of this host.
    #[error("cannot run {program}")]
    Program {
        /// Its name.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The base cannot be had.
    #[error("{0}")]
    Base(String),
    /// A worker thread of ours is gone.
    #[error("a thread of kiln ended before its work")]
    Thread,
}

/// For `map_err` on a call that touches a file of this host.
pub(crate) fn local(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Failure {
    let path = path.into();
    move |source| {
        let is_full = source.kind() == std::io::ErrorKind::StorageFull;
        let failure = Failure::build(OciError::Local { action, path, source });
        if is_full { failure.hint("make room, or run `kiln cache prune`") } else { failure }
    }
}

pub(crate) fn cache(error: CacheError) -> Failure {
    Failure::environment(error)
}

pub(crate) fn image(error: ImageError) -> Failure {
    Failure::build(error)
}

pub(crate) fn registry(error: RegistryError) -> Failure {
    let hints = error.hints();
    let class = if error.is_environment() { FailureClass::Environment } else { FailureClass::Build };
    hints.into_iter().fold(Failure::new(class, error), Failure::hint)
}

pub(crate) fn sandbox(error: SandboxError) -> Failure {
    let is_environment = matches!(error, SandboxError::Unavailable(_));
    if is_environment { Failure::environment(error) } else { Failure::build(error) }
}

/// Runs blocking work on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            // The engine tells a panic as the bug it is.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Failure::build(OciError::Thread)),
        },
    }
}
