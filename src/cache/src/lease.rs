//! Leases: what a living process uses, so that nobody collects it.
//!
//! A lease is a file that its process holds a lock on, with a line per entry. The kernel drops the lock when the process
//! dies, however that happens.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::CacheError;
use crate::files;

/// A held lease; its end is its drop.
#[derive(Debug)]
pub(crate) struct Lease {
    path: PathBuf,
    file: File,
    entries: BTreeSet<String>,
}

impl Lease {
    /// Starts one. The store's lock must be held: a collector must not see the file before it is locked.
    pub(crate) fn start(directory: &Path) -> Result<Lease, CacheError> {
        let path = directory.join(files::random_name());
        let file = File::options().append(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(CacheError::io("create", &path))?;
        file.try_lock().map_err(|error| CacheError::io("lock", &path)(error.into()))?;
        Ok(Lease { path, file, entries: BTreeSet::new() })
    }

    /// Adds an entry, such as `steps/KEY`. The store's lock must be held.
    pub(crate) fn add(&mut self, entry: String) -> Result<(), CacheError> {
        if self.entries.contains(&entry) {
            return Ok(());
        }
        self.file.write_all(format!("{entry}\n").as_bytes()).map_err(CacheError::io("write", &self.path))?;
        self.entries.insert(entry);
        Ok(())
    }

    fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A file that stays is told from a living lease by its lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// What living processes use.
#[derive(Debug, Default)]
pub(crate) struct Leased {
    /// Their entries.
    pub(crate) entries: BTreeSet<String>,
    /// Whether anybody but the asking store holds a lease.
    pub(crate) others: bool,
}

/// Reads all living leases and removes the dead ones. The store's lock must be held exclusively.
pub(crate) fn living(directory: &Path, own: Option<&Lease>) -> Leased {
    let mut leased = Leased::default();
    let own_name = own.and_then(Lease::name);
    for name in files::names(directory) {
        let path = directory.join(&name);
        if own_name == Some(name.as_str()) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() {
            let _ = std::fs::remove_file(&path);
            continue;
        }
        leased.others = true;
        let text = files::read_limited(&path, u64::from(u32::MAX)).unwrap_or_default();
        leased.entries.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
    }
    if let Some(own) = own {
        leased.entries.extend(own.entries.iter().cloned());
    }
    leased
}
