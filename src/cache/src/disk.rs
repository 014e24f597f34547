//! What survives a power cut. Nothing is synced while a build runs; what was stored in this boot of the machine is read
//! from memory anyway, and of what an earlier boot stored only that counts which was synced then.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::error::CacheError;
use crate::files;

/// The boot of this machine; `None` where it cannot be told, as if each look were after another boot.
pub(crate) fn boot_id() -> Option<String> {
    let bytes = files::read_limited(Path::new("/proc/sys/kernel/random/boot_id"), 64)?;
    Some(String::from_utf8(bytes).ok()?.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Who stored an entry, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The boot it was stored in.
    pub(crate) boot: Option<String>,
    /// When, in milliseconds since the epoch.
    pub(crate) at: u64,
}

/// What of a store is on the disk for sure.
#[derive(Debug, Clone)]
pub(crate) struct Durability {
    boot: Option<String>,
    /// Everything stored before this is on the disk.
    synced_until: u64,
}

impl Durability {
    /// Reads the store's note.
    pub(crate) fn of(root: &Path, boot: Option<String>) -> Durability {
        let synced_until = files::read_limited(&root.join("synced"), 64)
            .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse().ok())
            .unwrap_or(0);
        Durability { boot, synced_until }
    }

    /// For an entry that is stored now.
    pub(crate) fn now(&self) -> Stored {
        Stored { boot: self.boot.clone(), at: files::milliseconds(SystemTime::now()) }
    }

    /// Whether an entry is whole, for all that is known.
    pub(crate) fn holds(&self, stored: &Stored) -> bool {
        (self.boot.is_some() && stored.boot == self.boot) || self.is_synced(stored.at)
    }

    fn is_synced(&self, at: u64) -> bool {
        at < self.synced_until
    }

    /// Whether nobody opened the store since the machine started.
    pub(crate) fn is_first_look(&self, root: &Path) -> bool {
        let Some(boot) = &self.boot else { return false };
        files::read_limited(&root.join("boot"), 128).as_deref() != Some(boot.as_bytes())
    }

    /// Removes what an earlier boot left unsynced where nobody else would notice: blobs, whose content is only checked when
    /// they are read, and an index or a layout's version that was cut off. The store's lock must be held exclusively.
    pub(crate) fn forget_unsynced(&self, root: &Path) -> Result<(), CacheError> {
        // Somebody else may have been faster.
        let Some(boot) = self.boot.as_ref().filter(|_| self.is_first_look(root)) else { return Ok(()) };
        let note = root.join("boot");
        if note.exists() {
            let blobs = root.join("blobs/sha256");
            for name in files::names(&blobs) {
                let blob = blobs.join(name);
                if !self.is_synced(files::milliseconds(files::stamped(&blob))) {
                    let _ = std::fs::remove_file(blob);
                }
            }
            for path in ["index.json", "oci-layout"].map(|name| root.join(name)) {
                if path.exists() && files::read_record::<serde_json::Value>(&path).is_none() {
                    std::fs::remove_file(&path).map_err(CacheError::io("remove", &path))?;
                }
            }
        }
        files::write_whole(&root.join("tmp"), &note, boot.as_bytes(), false)
    }
}

/// Whether a store got anything since it was synced last. Cheap; the store need not be open.
pub fn has_unsynced(root: &Path) -> bool {
    let synced_until = Durability::of(root, None).synced_until;
    let is_newer = |path: &Path| files::milliseconds(files::stamped(path)) >= synced_until;
    let is_filled = |path: &Path| std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let directories = ["steps", "layers", "sealed", "bases", "blobs/sha256"];
    directories.into_iter().map(|name| root.join(name)).any(|path| is_newer(&path) && is_filled(&path))
}

/// Brings all to the disk, and notes it.
pub(crate) fn sync(root: &Path) -> Result<(), CacheError> {
    let until = files::milliseconds(SystemTime::now());
    let directory = File::open(root).map_err(CacheError::io("read", root))?;
    rustix::fs::syncfs(&directory).map_err(|error| CacheError::io("sync", root)(error.into()))?;
    files::write_whole(&root.join("tmp"), &root.join("synced"), until.to_string().as_bytes(), true)
}
