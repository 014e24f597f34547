//! Owners, modes, times and attributes: set by open files, and only where they are not so already.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// What goes wrong, with what was to be done.
type Attempt = Result<(), (&'static str, Errno)>;

/// Names and values.
pub(super) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// Of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) xattrs: Xattrs,
}

impl Metadata {
    /// Of a directory that must be there and has no entry.
    pub(super) fn of_unnamed_directory() -> Metadata {
        Metadata { mode: 0o755, uid: 0, gid: 0, mtime: (0, 0), xattrs: Vec::new() }
    }

    /// As something of this host has it.
    pub(super) fn of_stat(stat: &Stat, xattrs: Xattrs) -> Metadata {
        let mtime = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default());
        Metadata { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, mtime, xattrs }
    }

    fn timestamps(&self) -> Timestamps {
        timestamps(self.mtime)
    }

    /// Bits that say "as its owner" mean nothing good when the owner is somebody else.
    fn mode(&self, keeps_owners: bool) -> Mode {
        Mode::from_raw_mode(if keeps_owners { self.mode } else { self.mode & 0o1777 })
    }
}

fn timestamps(mtime: (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: mtime.0, tv_nsec: mtime.1.into() };
    Timestamps { last_access: time, last_modification: time }
}

pub(super) fn set_times(fd: BorrowedFd<'_>, mtime: (i64, u32)) -> Result<(), Errno> {
    fs::futimens(fd, &timestamps(mtime))
}

/// Knows what new files get by themselves.
pub(super) struct Writer {
    uid: u32,
    gid: u32,
    umask: u32,
    owners: bool,
}

impl Writer {
    pub(super) fn new(root: BorrowedFd<'_>, owners: bool) -> Writer {
        // The mask cannot be asked for without changing it for all threads: a file without a name shows it.
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let probe = fs::openat(root, c".", flags, Mode::from_raw_mode(0o777)).and_then(fs::fstat);
        let umask = probe.map_or(0o777, |stat| 0o777 & !stat.st_mode);
        Writer { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw(), umask, owners }
    }

    fn new_owner(&self, metadata: &Metadata, group: Option<u32>) -> Option<(Option<Uid>, Option<Gid>)> {
        let is_so = (metadata.uid, metadata.gid) == (self.uid, group.unwrap_or(self.gid));
        if is_so || !self.owners {
            return None;
        }
        Some((Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid))))
    }

    /// Of a file that was just made with the mode of `metadata`.
    pub(super) fn file(&self, fd: BorrowedFd<'_>, metadata: &Metadata, group: Option<u32>) -> Attempt {
        let owner = self.new_owner(metadata, group);
        if let Some((uid, gid)) = owner {
            fs::fchown(fd, uid, gid).map_err(|errno| ("set the owner of", errno))?;
        }
        if metadata.mode & (self.umask | 0o7000) != 0 || self.umask == 0o777 {
            fs::fchmod(fd, metadata.mode(self.owners)).map_err(|errno| ("set the mode of", errno))?;
        }
        Ok(())
    }

    /// Of a directory.
    pub(super) fn directory(&self, fd: BorrowedFd<'_>, stat: &Stat, metadata: &Metadata) -> Attempt {
        if self.owners && (stat.st_uid, stat.st_gid) != (metadata.uid, metadata.gid) {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            fs::fchown(fd, Some(uid), Some(gid)).map_err(|errno| ("set the owner of", errno))?;
        }
        fs::fchmod(fd, metadata.mode(self.owners)).map_err(|errno| ("set the mode of", errno))?;
        fs::futimens(fd, &metadata.timestamps()).map_err(|errno| ("set the time of", errno))
    }

    /// Of something that is not opened: a link, a pipe, a device; it was just made, so the name is no link to elsewhere.
    pub(super) fn node(
        &self,
        directory: BorrowedFd<'_>,
        name: &CString,
        metadata: &Metadata,
        group: Option<u32>,
        has_mode: bool,
    ) -> Attempt {
        if let Some((uid, gid)) = self.new_owner(metadata, group) {
            fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| ("set the owner of", errno))?;
        }
        if has_mode {
            fs::chmodat(directory, name, metadata.mode(self.owners), AtFlags::empty())
                .map_err(|errno| ("set the mode of", errno))?;
        }
        fs::utimensat(directory, name, &metadata.timestamps(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| ("set the time of", errno))
    }
}

/// Attributes that may be set: not those that mean something to the overlay itself, to the host's policy, or to the kernel.
pub(super) fn is_wanted(name: &[u8]) -> bool {
    let foreign: [&[u8]; 5] = [b"trusted.overlay.", b"user.overlay.", b"system.", b"security.selinux", b"security.ima"];
    !foreign.iter().any(|prefix| name.starts_with(prefix)) && name != b"security.evm"
}

/// Attributes for an open file.
pub(super) struct Attributes<'a> {
    fd: BorrowedFd<'a>,
    attributes: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Attributes<'a> {
    pub(super) fn of_open(fd: BorrowedFd<'a>, attributes: &'a [(Vec<u8>, Vec<u8>)]) -> Attributes<'a> {
        Attributes { fd, attributes }
    }

    /// Sets them, and tells those that could not be.
    pub(super) fn set(&self) -> Result<Vec<&'a [u8]>, Errno> {
        let mut left_out = Vec::new();
        for (name, value) in self.attributes {
            let Ok(c_name) = CString::new(name.as_slice()) else { continue };
            if !is_wanted(name) {
                left_out.push(name.as_slice());
                continue;
            }
            match fs::fsetxattr(self.fd.as_fd(), &c_name, value, XattrFlags::empty()) {
                Ok(()) => {}
                // The file system has none, or we may not, or the value means nothing to the kernel.
                Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL | Errno::RANGE | Errno::TOOBIG) => {
                    left_out.push(name.as_slice());
                }
                Err(errno) => return Err(errno),
            }
        }
        Ok(left_out)
    }
}
