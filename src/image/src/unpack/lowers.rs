//! What the layers below have at a path, as an overlay of them would show it. Links are not followed: a directory of a path that
//! is a link is no directory of it.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{self, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::metadata::{Metadata, Xattrs, is_wanted};
use super::tree;
use crate::error::ImageError;

/// A file or a link below.
pub(super) struct Found {
    directory: OwnedFd,
    name: CString,
    pub(super) metadata: Metadata,
    pub(super) link: Option<CString>,
    pub(super) length: u64,
}

impl Found {
    pub(super) fn open(&self) -> Result<OwnedFd, ImageError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.directory, &self.name, flags, Mode::empty()).map_err(|errno| {
            ImageError::io("read", PathBuf::from(self.name.to_string_lossy().into_owned()))(errno.into())
        })
    }
}

/// A directory's owner, mode and time.
pub(super) fn directory(lowers: &[PathBuf], path: &[u8]) -> Option<Metadata> {
    let (_, _, stat) = find(lowers, path)?;
    tree::is_directory(&stat).then(|| Metadata::of_stat(&stat, Vec::new()))
}

/// A regular file or a link.
pub(super) fn file(lowers: &[PathBuf], path: &[u8]) -> Option<Found> {
    let (directory, name, stat) = find(lowers, path)?;
    let (link, xattrs) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => (Some(fs::readlinkat(&directory, &name, Vec::new()).ok()?), Vec::new()),
        FileType::RegularFile => (None, attributes(&directory, &name)),
        _ => return None,
    };
    let length = u64::try_from(stat.st_size).unwrap_or_default();
    Some(Found { directory, name, metadata: Metadata::of_stat(&stat, xattrs), link, length })
}

fn find(lowers: &[PathBuf], path: &[u8]) -> Option<(OwnedFd, CString, Stat)> {
    for lower in lowers {
        match find_in(lower, path) {
            Layer::Has(directory, name, stat) => return Some((directory, name, *stat)),
            Layer::Hides => return None,
            Layer::LacksIt => {}
        }
    }
    None
}

/// What one layer says of a path.
enum Layer {
    Has(OwnedFd, CString, Box<Stat>),
    /// Nothing below it shows.
    Hides,
    LacksIt,
}

fn find_in(lower: &PathBuf, path: &[u8]) -> Layer {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(mut here) = fs::openat(CWD, lower, flags - OFlags::NOFOLLOW, Mode::empty()) else { return Layer::LacksIt };
    let mut hides = false;
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        hides |= is_opaque(&here);
        let missing = if hides { Layer::Hides } else { Layer::LacksIt };
        let stat = match tree::look(here.as_fd(), part) {
            Ok(Some(stat)) => stat,
            _ => return missing,
        };
        if tree::is_whiteout(&stat) {
            return Layer::Hides;
        }
        let Ok(name) = CString::new(part) else { return Layer::Hides };
        if parts.peek().is_none() {
            return Layer::Has(here, name, Box::new(stat));
        }
        match fs::openat(&here, &name, flags, Mode::empty()) {
            Ok(next) => here = next,
            Err(_) => return Layer::Hides,
        }
    }
    Layer::LacksIt
}

fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    [c"trusted.overlay.opaque", c"user.overlay.opaque"]
        .iter()
        .any(|name| fs::fgetxattr(directory, *name, &mut value).is_ok_and(|length| value[..length] == *b"y"))
}

fn attributes(directory: &OwnedFd, name: &CString) -> Xattrs {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let read = || -> Result<Xattrs, Errno> {
        let fd = fs::openat(directory, name, flags, Mode::empty())?;
        let mut names = vec![0u8; 64 * 1024];
        let length = fs::flistxattr(&fd, &mut names)?;
        let mut found = Vec::new();
        for attribute in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty() && is_wanted(name)) {
            let mut value = vec![0u8; 64 * 1024];
            let c_name = CString::new(attribute).map_err(|_| Errno::INVAL)?;
            let length = fs::fgetxattr(&fd, &c_name, &mut value)?;
            value.truncate(length);
            found.push((attribute.to_vec(), value));
        }
        Ok(found)
    };
    read().unwrap_or_default()
}
