//! What can go wrong in this builder itself.

use std::io::ErrorKind;
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
    /// A name that looks as if it never moved means another image.
    #[error("{reference} is in its registry and means {found}, and this is {ours}")]
    Moved {
        /// The name.
        reference: String,
        /// The digest that it means.
        found: String,
        /// The digest of what was to be pushed.
        ours: String,
    },
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
        if is_full { failure.hint(ROOM) } else { failure }
    }
}

/// For a store that is full.
const ROOM: &str = "make room (`kiln cache prune`), or have KILN_CACHE_DIR name a directory with more";

pub(crate) fn cache(error: CacheError) -> Failure {
    let hint = match &error {
        CacheError::Untrusted { .. } => Some("have KILN_CACHE_DIR name a directory of your own"),
        CacheError::Io { source, .. } => match source.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                Some("have KILN_CACHE_DIR name a directory that can be written to")
            }
            ErrorKind::StorageFull => Some(ROOM),
            _ => None,
        },
        CacheError::OtherVersion(_) | CacheError::Image(_) => None,
    };
    hint.into_iter().fold(Failure::environment(error), Failure::hint)
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
    match error {
        SandboxError::Unavailable(_) => Failure::environment(error),
        SandboxError::NoRoom(_) => Failure::environment(error).hint(ROOM),
        _ => Failure::build(error),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_cannot_be_used_is_told_with_a_way_out() {
        let io = |kind: ErrorKind| CacheError::Io { action: "create", path: "/c".into(), source: kind.into() };
        let untrusted = CacheError::Untrusted { path: "/c".into(), problem: "belongs to another user" };
        let full = SandboxError::NoRoom("the entry `a` is refused".to_owned());
        let failures = [
            cache(io(ErrorKind::ReadOnlyFilesystem)),
            cache(io(ErrorKind::PermissionDenied)),
            cache(io(ErrorKind::StorageFull)),
            cache(untrusted),
            sandbox(full),
        ];
        for failure in failures {
            assert!(failure.hints[0].contains("KILN_CACHE_DIR"), "{failure}: {:?}", failure.hints);
            assert_eq!(failure.class, FailureClass::Environment);
        }
    }
}
