//! A layer into a directory, as safely as fast.
//!
//! The archive is not trusted: whatever it holds, nothing outside the root is read, made, changed or removed, and what it may
//! use up is bounded. Every rule is one test in `unpack/tests.rs`.

mod apply;
mod lowers;
mod metadata;
mod pax;
pub(crate) mod stream;
pub(crate) mod tar;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub(crate) use apply::clean as clean_path;
pub use stream::decoder;

use crate::digest::Digest;
use crate::error::ImageError;

/// How a tree says that something of the layers below it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TreeFormat {
    /// As the kernel's overlay does: a device 0:0 for what is gone, an attribute on a directory that hides what is below it.
    Overlay {
        /// The attribute is `user.overlay.opaque` (mounts with `userxattr`: all within a user namespace).
        user_xattr: bool,
    },
    /// Not at all: the layer is applied to the tree that is there, what is gone is removed.
    Plain,
}

/// What becomes of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Devices {
    /// None is made. A machine gets a `/dev` of its own.
    #[default]
    Skip,
    /// Those that every system has are made (`null`, `zero`, `full`, `random`, `urandom`, `tty`, `console`, `ptmx`).
    Known,
    /// All are made: for archives that this host made itself.
    All,
}

/// Bounds for hostile archives. The defaults are far beyond every honest image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Entries of one layer.
    pub entries: u64,
    /// Bytes of all its files together, holes not counted; also of the uncompressed archive.
    pub bytes: u64,
    /// Length of one file, holes counted.
    pub file: u64,
    /// Bytes of one extended header.
    pub header: u64,
    /// Bytes out for one byte in, looked at beyond 4 GiB.
    pub ratio: u64,
    /// Bytes that must stay free on the file system.
    pub keep_free: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            entries: 4_000_000,
            bytes: 256 << 30,
            file: 1 << 40,
            header: 1 << 20,
            ratio: 2000,
            keep_free: 64 << 20,
        }
    }
}

/// How to unpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnpackOptions {
    /// How whiteouts are kept.
    pub format: TreeFormat,
    /// Bounds.
    pub limits: Limits,
    /// Unpacked layers below this one in overlay format, the top first: a hard link to a file of theirs gets a copy of it, a
    /// directory that the archive does not name gets its owner and mode from theirs. They must be complete. May be empty.
    pub lowers: Vec<PathBuf>,
    /// Device nodes.
    pub devices: Devices,
    /// Owners are set; otherwise all belongs to the caller (one mapped id, or no privileges).
    pub owners: bool,
    /// What the uncompressed archive must be.
    pub diff_id: Option<Digest>,
}

impl UnpackOptions {
    /// In this format, with default bounds.
    pub fn new(format: TreeFormat) -> UnpackOptions {
        UnpackOptions {
            format,
            limits: Limits::default(),
            lowers: Vec::new(),
            devices: Devices::Skip,
            owners: true,
            diff_id: None,
        }
    }
}

/// An entry that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path in the layer.
    pub path: String,
    /// `a device`.
    pub reason: String,
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Entries, whiteouts included.
    pub entries: u64,
    /// Bytes of all files, holes not counted.
    pub bytes: u64,
    /// What was left out; the first thousand.
    pub skipped: Vec<Skipped>,
}

/// Unpacks a layer (compressed or not, which is seen by its first bytes) into an existing directory. Not atomic: a caller
/// unpacks into a temporary directory and renames it after an `Ok`. Decompressing and hashing have threads of their own; after
/// an error it returns as soon as the reader answers.
///
/// # Errors
/// The archive is damaged or breaks a rule, is not what `diff_id` says, or a file cannot be made.
pub fn unpack(reader: impl Read + Send, root: &Path, options: &UnpackOptions) -> Result<Unpacked, ImageError> {
    let applier = apply::Applier::new(tree::Tree::open(root)?, options);
    run(reader, applier, options)
}

fn run(
    reader: impl Read + Send,
    mut applier: apply::Applier<'_>,
    options: &UnpackOptions,
) -> Result<Unpacked, ImageError> {
    let diff_id = std::thread::scope(|scope| {
        let mut source = stream::Source::start(scope, reader, &options.limits);
        while let Some(entry) = tar::next(&mut source, &options.limits).map_err(|error| damaged(&error))? {
            applier.entry(&mut source, entry)?;
        }
        source.finish().map_err(|error| damaged(&error))
    })?;
    applier.finish()?;
    if let Some(wanted) = options.diff_id.as_ref().filter(|wanted| **wanted != diff_id) {
        return Err(ImageError::Mismatch { wanted: wanted.clone(), found: diff_id });
    }
    Ok(Unpacked { diff_id, entries: applier.entries, bytes: applier.bytes, skipped: applier.skipped })
}

fn damaged(error: &std::io::Error) -> ImageError {
    ImageError::Malformed { what: "the layer".to_owned(), problem: error.to_string() }
}

/// Removes a directory and all that is in it, however deep it is. Links are removed, not followed; no file system is left.
///
/// # Errors
/// Something cannot be removed.
pub fn remove_tree(path: &Path) -> Result<(), ImageError> {
    use std::os::fd::AsFd;
    use std::os::unix::ffi::OsStrExt;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else {
        let source = std::io::ErrorKind::InvalidInput.into();
        return Err(ImageError::Io { action: "remove", path: path.to_owned(), source });
    };
    let above = std::fs::File::open(parent).map_err(ImageError::io("open", parent))?;
    tree::remove_tree(above.as_fd(), name.as_bytes()).map_err(|errno| ImageError::io("remove", path)(errno.into()))
}
