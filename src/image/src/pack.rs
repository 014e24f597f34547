//! Packs what changed in a tree as one layer: a tar archive that is the same for the same tree.
//!
//! Entries are sorted, times are whole seconds, what is removed is said by whiteouts of the OCI image specification: only
//! where a layer below has something to remove, and never by opaque markers.

mod emit;
mod entry;
mod header;
mod needles;

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::tree::{Before, TreeManifest};
use crate::union::{Lowers, Union};
use crate::unpack::Skipped;

pub(crate) use emit::{Emitter, failed, redirected};
pub(crate) use entry::{Attributes, Meta, or_dot, overlay_prefix};

/// What a layer is made of.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PackOptions {
    /// Upper directories of overlay mounts, the newest first; they become one layer.
    pub uppers: Vec<PathBuf>,
    /// The layers below them, the top one first, unpacked in overlay format.
    pub lowers: Vec<PathBuf>,
    /// How.
    #[serde(flatten)]
    pub settings: PackSettings,
}

/// How a layer is made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PackSettings {
    /// Globs of paths from the root (`tmp/*`, `**/*.pyc`) that stay out of the layer, with all that is below them. `*` stops
    /// at a slash.
    pub exclude: Vec<String>,
    /// Later times become this one, in seconds.
    pub timestamp: Option<i64>,
    /// Texts that must not be in a layer.
    pub needles: Vec<Vec<u8>>,
    /// Overlayfs marks are in `user.overlay.*` (a mount with `userxattr`).
    pub user_xattr: bool,
    /// Whether to compute [`Packed::content`]; it costs one more hash of everything.
    pub content: bool,
}

/// What a layer came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Entries; none: nothing changed, and the layer need not be in the image.
    pub entries: u64,
    /// Content of files.
    pub bytes: u64,
    /// The latest time in it, in seconds; 0 without entries.
    pub newest_mtime: i64,
    /// Where needles were found.
    pub found: Vec<FoundSecret>,
    /// What a layer cannot have; the first thousand.
    pub skipped: Vec<Skipped>,
    /// Digest of all but times; where it was asked for.
    pub content: Option<Digest>,
}

/// A secret in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundSecret {
    /// The entry: in its content, its name, what it links to, or an extended attribute.
    pub path: String,
    /// Index in [`PackSettings::needles`].
    pub needle: usize,
}

/// Packs upper directories of overlay mounts as one layer. Nothing may change them meanwhile.
///
/// # Errors
/// Something cannot be read or written; a tree has marks of overlayfs that kiln's mounts do not make.
pub fn pack(options: &PackOptions, tar: &mut dyn Write) -> Result<Packed, ImageError> {
    let below = Lowers::open(&options.lowers, options.settings.user_xattr)?;
    Union::open(&options.uppers, Box::new(below), &options.settings, tar)?.run()
}

/// Packs what a tree differs in from what was recorded of it. An empty manifest packs all of it.
///
/// # Errors
/// Something cannot be read or written.
pub fn pack_difference(
    before: &TreeManifest,
    tree: &Path,
    settings: &PackSettings,
    out: &mut dyn Write,
) -> Result<Packed, ImageError> {
    Union::open_tree(tree, Box::new(Before::new(before, tree)?), settings, out)?.run()
}

#[cfg(test)]
mod tests;
