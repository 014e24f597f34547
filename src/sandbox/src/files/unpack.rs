//! An archive into a guest: uploads.
//!
//! The archive is our own, the file system is the guest's, and this process can reach nothing else: what a hostile guest does
//! to the paths under our hands, it does to itself.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tar::EntryType;

use crate::error::{SandboxError, Trying};

/// Unpacks as `tar -x` as root does: modes, owners and times are the archive's, what is in the way is replaced, directories
/// that exist stay. Missing parents are made. Tells how many entries there were.
pub(super) fn unpack(archive: impl Read, to: &Path) -> Result<u64, SandboxError> {
    if !to.is_dir() {
        return Err(SandboxError::NotFound(to.display().to_string()));
    }
    let mut archive = tar::Archive::new(archive);
    let mut directories = Vec::new();
    let mut count = 0;
    for entry in archive.entries().trying("read the archive")? {
        let mut entry = entry.trying("read the archive")?;
        let name = entry.path().trying("read the archive")?.into_owned();
        let path = place(to, &name)?;
        let what = format!("write {}", path.display());
        one(&mut entry, to, &path, &mut directories).trying(&what)?;
        count += 1;
    }
    // Last, because files that came later changed them.
    for (path, seconds) in directories.iter().rev() {
        set_time(path, *seconds).trying("set the times of a directory")?;
    }
    Ok(count)
}

fn place(to: &Path, name: &Path) -> Result<PathBuf, SandboxError> {
    let mut path = to.to_owned();
    for part in name.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(SandboxError::Invalid(format!("the archive holds {}", name.display()))),
        }
    }
    Ok(path)
}

fn one(
    entry: &mut tar::Entry<'_, impl Read>,
    to: &Path,
    path: &Path,
    directories: &mut Vec<(PathBuf, i64)>,
) -> io::Result<()> {
    let header = entry.header();
    let kind = header.entry_type();
    let mode = Mode::from_raw_mode(header.mode()? & 0o7777);
    let seconds = i64::try_from(header.mtime()?).unwrap_or_default();
    let (uid, gid) = (id(header.uid()?)?, id(header.gid()?)?);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match kind {
        EntryType::Directory => {
            if fs::symlink_metadata(path).is_ok_and(|found| !found.is_dir()) {
                fs::remove_file(path)?;
            }
            match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
                Err(rustix::io::Errno::EXIST) => {}
                result => result?,
            }
            directories.push((path.to_owned(), seconds));
        }
        EntryType::Symlink | EntryType::Link => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned();
            clear(path)?;
            if kind == EntryType::Link {
                let target = place(to, &target).map_err(|error| io::Error::other(error.to_string()))?;
                return Ok(rustix::fs::linkat(CWD, target, CWD, path, AtFlags::empty())?);
            }
            std::os::unix::fs::symlink(target, path)?;
            own(path, uid, gid)?;
            return set_time(path, seconds);
        }
        EntryType::Fifo => {
            clear(path)?;
            rustix::fs::mknodat(CWD, path, FileType::Fifo, mode, 0)?;
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(path)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?);
            let size = entry.size();
            copy(entry, size, &mut file)?;
        }
        // Nothing that an upload holds.
        _ => return Ok(()),
    }
    own(path, uid, gid)?;
    // After the owner: a change of that takes set-user-id away.
    rustix::fs::chmod(path, mode)?;
    set_time(path, seconds)
}

/// As `io::copy`, in pieces that a disk likes.
fn copy(from: &mut impl Read, size: u64, to: &mut File) -> io::Result<()> {
    let mut buffer = vec![0; usize::try_from(size).unwrap_or(super::CHUNK).clamp(1, super::CHUNK)];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The largest number is nobody's: to the kernel it means that nothing changes.
fn id(number: u64) -> io::Result<u32> {
    let id = u32::try_from(number).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| io::Error::other(format!("{number} is no id of a user or group")))
}

/// What is in the way of something that is no directory.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match rustix::fs::chownat(CWD, path.as_os_str().as_bytes(), uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
        // The guest has no such user: one mapped id, or fewer than the archive names.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => Ok(()),
        result => Ok(result?),
    }
}

fn set_time(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}
