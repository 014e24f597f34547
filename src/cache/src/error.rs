//! Why the store cannot be used.

use std::io;
use std::path::PathBuf;

/// What is wrong with the store as a whole. A broken entry is no error: it is not found.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// A file of the store.
    #[error("cannot {action} {} of the cache", path.display())]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user owns the store, or may write to it.
    #[error("the cache {} {problem}; what is restored from it would run as you", path.display())]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// `belongs to another user`.
        problem: &'static str,
    },
    /// The store is of another version of kiln, which uses it now.
    #[error("the cache {} is in use by another version of kiln", .0.display())]
    OtherVersion(PathBuf),
    /// The image layout in it.
    #[error("the images of the cache cannot be used")]
    Image(#[from] kiln_image::ImageError),
}

impl CacheError {
    /// For `map_err` on a call that touches a file.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.into();
        move |source| CacheError::Io { action, path, source }
    }
}
