//! Places in a guest's root, opened below it.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Timestamps};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::restrict;
use crate::error::{SandboxError, Trying};

/// What a mount point has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
}

/// As many links as a path may have.
const LINKS: usize = 16;

/// The guest's root, with what was made in it for mounts.
pub(super) struct Targets {
    root: OwnedFd,
    /// The device of the root's own file system.
    device: u64,
    made: Vec<Made>,
}

/// A mount point that was not there.
struct Made {
    parent: OwnedFd,
    name: PathBuf,
    kind: Kind,
    /// The parent's times before.
    times: Timestamps,
}

impl Targets {
    pub(super) fn new(root: OwnedFd) -> Result<Targets, SandboxError> {
        let device = rustix::fs::fstat(&root).trying("look at the root")?.st_dev;
        Ok(Targets { root, device, made: Vec::new() })
    }

    /// A place of our own file systems and of directories that must be what they seem: no link may lead elsewhere.
    pub(super) fn system(&mut self, target: &str, kind: Kind) -> Result<OwnedFd, SandboxError> {
        self.locate(target, kind, ResolveFlags::NO_SYMLINKS)
    }

    /// A place; links on the way are followed, as the guest would.
    pub(super) fn find_or_make(&mut self, target: &str, kind: Kind) -> Result<OwnedFd, SandboxError> {
        self.locate(target, kind, ResolveFlags::empty())
    }

    fn locate(&mut self, target: &str, kind: Kind, resolve: ResolveFlags) -> Result<OwnedFd, SandboxError> {
        self.open_or_make(Path::new(target), kind, resolve, LINKS).trying(&format!("reach the mount point {target}"))
    }

    fn open(&self, path: &Path, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // Somebody renames on the way.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    fn open_or_make(&mut self, path: &Path, kind: Kind, resolve: ResolveFlags, links: usize) -> Result<OwnedFd, Errno> {
        match self.open(path, resolve) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
        let name = Path::new(name);
        let directory = self.open_or_make(parent, Kind::Directory, resolve, links)?;
        // A link that leads to nothing: what it names is made.
        if let Ok(link) = rustix::fs::readlinkat(&directory, name, Vec::new()) {
            use std::os::unix::ffi::OsStrExt;
            let Some(links) = links.checked_sub(1) else { return Err(Errno::LOOP) };
            let link = Path::new(std::ffi::OsStr::from_bytes(link.to_bytes())).to_owned();
            return self.open_or_make(&parent.join(link), kind, resolve, links);
        }
        self.make(&directory, name, kind)?;
        self.open(path, resolve)
    }

    fn make(&mut self, parent: &OwnedFd, name: &Path, kind: Kind) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(parent)?;
        match kind {
            Kind::Directory => rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?,
            Kind::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                drop(rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        // In our own file systems, and in what the host lent, it may stay.
        if stat.st_dev == self.device {
            self.made.push(Made {
                parent: parent.try_clone().map_err(|_| Errno::MFILE)?,
                name: name.to_owned(),
                kind,
                times: times(&stat),
            });
        }
        Ok(())
    }

    /// Attaches a mount at a place of our own.
    pub(super) fn attach(&mut self, mount: &OwnedFd, target: &str, kind: Kind) -> Result<(), SandboxError> {
        let place = self.system(target, kind)?;
        self.attach_at(mount, &place, target)
    }

    /// Attaches a mount.
    pub(super) fn attach_at(&self, mount: &OwnedFd, place: &OwnedFd, target: &str) -> Result<(), SandboxError> {
        let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(mount, "", place, "", empty).trying(&format!("mount {target}"))
    }

    /// Hides a file of the kernel's.
    pub(super) fn cover(&self, path: &str, cover: OwnedFd) -> Result<(), SandboxError> {
        match self.open(Path::new(path), ResolveFlags::NO_SYMLINKS) {
            Ok(place) => self.attach_at(&cover, &place, path),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(SandboxError::system(format!("hide {path}"), error)),
        }
    }

    /// Makes a part of a mount read-only.
    pub(super) fn make_read_only(&self, path: &str) -> Result<(), SandboxError> {
        let place = match self.open(Path::new(path), ResolveFlags::NO_SYMLINKS) {
            Ok(place) => place,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(SandboxError::system(format!("protect {path}"), error)),
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE
            | OpenTreeFlags::AT_EMPTY_PATH;
        let mount = rustix::mount::open_tree(&place, "", flags).trying(&format!("protect {path}"))?;
        restrict(&mount, libc::MOUNT_ATTR_RDONLY, true)?;
        self.attach_at(&mount, &place, path)
    }

    /// Removes what was made, the last first, and gives its parents their times back. What the guest put there stays.
    pub(super) fn clear(&mut self) {
        while let Some(made) = self.made.pop() {
            if rustix::process::fchdir(&made.parent).is_err() {
                continue;
            }
            let detach = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            // Nothing is mounted on the directories above a mount point.
            while rustix::mount::unmount(&made.name, detach).is_ok() {}
            let flags = if made.kind == Kind::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            if rustix::fs::unlinkat(rustix::fs::CWD, &made.name, flags).is_ok() {
                _ = rustix::fs::utimensat(rustix::fs::CWD, ".", &made.times, AtFlags::empty());
            }
        }
        _ = rustix::process::fchdir(self.root.as_fd());
    }
}

fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
