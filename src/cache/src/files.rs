//! Small work on files: whole or not at all, and never more than expected.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CacheError;

/// No record of ours comes near this.
const RECORD_LIMIT: u64 = 16 * 1024 * 1024;

/// Random digits for a name nobody has.
pub(crate) fn random_name() -> String {
    let mut random = [0u8; 8];
    // A name that is taken is an error where it is used, so failing randomness does no harm.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    format!("{:016x}", u64::from_le_bytes(random))
}

/// Makes a directory for its owner alone, with those above it; one that is there is left as it is.
pub(crate) fn create_private(path: &Path) -> Result<(), CacheError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(CacheError::io("create", path))
}

/// Writes a file for its owner alone, by way of `temporary` (a directory of the same file system).
pub(crate) fn write_whole(temporary: &Path, path: &Path, bytes: &[u8], durable: bool) -> Result<(), CacheError> {
    let draft = temporary.join(format!("file-{}", random_name()));
    let written = write_new(&draft, bytes, durable).and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&draft);
        CacheError::io("write", path)(error)
    })
}

pub(crate) fn write_new(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

/// A file's bytes, up to a limit; `None` where there is nothing usable.
pub(crate) fn read_limited(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let file = File::options().read(true).custom_flags(nofollow()).open(path).ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

/// A link, or a pipe that nobody writes to, must not hold us up.
fn nofollow() -> i32 {
    (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC).bits() as i32
}

/// A record; `None` for a missing, damaged or foreign one.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_limited(path, RECORD_LIMIT)?).ok()
}

/// A record's bytes. Ours are plain data that always can be written as JSON.
pub(crate) fn record_bytes<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>, CacheError> {
    serde_json::to_vec(value).map_err(|error| CacheError::io("write", path)(error.into()))
}

/// Notes that a file is used now: its time of change says when it was used last.
pub(crate) fn stamp(path: &Path) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    // A store on a read-only medium still serves.
    let _ = utimensat(CWD, path, &Timestamps { last_access: now, last_modification: now }, AtFlags::SYMLINK_NOFOLLOW);
}

/// When a file was used last, as [`stamp`] notes it.
pub(crate) fn stamped(path: &Path) -> SystemTime {
    std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Milliseconds since the epoch.
pub(crate) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Names in a directory; none where it cannot be read.
pub(crate) fn names(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Whether it is a directory itself, not a link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// A new directory for its owner alone.
pub(crate) fn make_temporary(parent: &Path, prefix: &str) -> Result<PathBuf, CacheError> {
    let path = parent.join(format!("{prefix}{}", random_name()));
    std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(CacheError::io("create", &path))?;
    Ok(path)
}
