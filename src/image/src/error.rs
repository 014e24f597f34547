//! What can be wrong with an image on disk.

use std::path::PathBuf;

use crate::digest::Digest;

/// Why an image cannot be read, written, packed or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a digest kiln can check.
    #[error("`{0}` is no digest of the form sha256:HEX")]
    Digest(String),
    /// A file of this host.
    #[error("cannot {action} {path}")]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A blob's content is not what its digest says.
    #[error("the content of {wanted} is damaged: it has digest {found}")]
    Mismatch {
        /// Its name.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob is not as long as was said.
    #[error("{digest} has {found} bytes instead of {wanted}")]
    Size {
        /// Its name.
        digest: Digest,
        /// What was said.
        wanted: u64,
        /// What it is.
        found: u64,
    },
    /// A blob is not there.
    #[error("{digest} is not in {}", layout.display())]
    Missing {
        /// Its name.
        digest: Digest,
        /// Where it was looked for.
        layout: PathBuf,
    },
    /// An entry of an archive breaks a rule that keeps the host safe.
    #[error("the entry `{entry}` is refused: {problem}")]
    Refused {
        /// Its path in the archive.
        entry: String,
        /// The rule.
        problem: String,
    },
    /// The file system has no room for an entry of an archive.
    #[error("the entry `{entry}` has no room: it has {size} bytes, and {free} are free here, of which {stays} stay so")]
    NoRoom {
        /// Its path in the archive.
        entry: String,
        /// Its size in bytes.
        size: u64,
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        stays: u64,
    },
    /// A layout has another image than was asked for, or none.
    #[error("{} has no image{}", path.display(), wanted_of(wanted.as_deref(), known))]
    NoImage {
        /// The layout.
        path: PathBuf,
        /// What was asked for.
        wanted: Option<String>,
        /// What it has: names, or digests of images without one.
        known: Vec<String>,
    },
    /// A document is not what it should be.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// `the manifest sha256:...`.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Names that are told at most.
const NAMES: usize = 8;

fn wanted_of(wanted: Option<&str>, known: &[String]) -> String {
    let wanted = wanted.map(|wanted| format!(" `{wanted}`")).unwrap_or_default();
    match known {
        [] => wanted,
        known => format!("{wanted}; it has {}", known[..known.len().min(NAMES)].join(", ")),
    }
}

impl ImageError {
    /// For `map_err` on a call that touches a file.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> ImageError {
        let path = path.into();
        move |source| ImageError::Io { action, path, source }
    }
}
