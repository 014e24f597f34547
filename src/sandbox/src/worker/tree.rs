//! Trees made, copied and removed. They are a guest's work, so that no name in them is trusted: everything goes by the open
//! directory and never through a link.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::error::{SandboxError, Trying};

pub(super) fn make_directories(directories: &[PathBuf], mode: u32) -> Result<(), SandboxError> {
    for directory in directories {
        if directory.is_dir() {
            continue;
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        // What the process's mask took away is given back.
        let made = made.and_then(|()| fs::set_permissions(directory, fs::Permissions::from_mode(mode)));
        made.trying(&format!("make {}", directory.display()))?;
    }
    Ok(())
}

/// All of them, whatever happens to one; the first failure is told.
pub(super) fn remove(paths: &[PathBuf]) -> Result<(), SandboxError> {
    let mut result = Ok(());
    for path in paths {
        let removed = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
        };
        result = result.and(removed.trying(&format!("remove {}", path.display())));
    }
    result
}

pub(super) fn copy(from: &Path, to: &Path) -> Result<(), SandboxError> {
    copy_tree(from, to).trying(&format!("copy {} to {}", from.display(), to.display()))
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const SOURCE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const TARGET: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let source = rustix::fs::open(from, DIRECTORY, Mode::empty())?;
    rustix::fs::mkdir(to, Mode::RWXU)?;
    let target = rustix::fs::open(to, DIRECTORY, Mode::empty())?;
    // Without these rights owners cannot be kept.
    let owners = rustix::process::geteuid().is_root();
    let root = target.as_fd();
    let mut copier = Copier { root, path: Vec::new(), links: HashMap::new(), buffer: Vec::new(), owners };
    let stat = rustix::fs::fstat(&source)?;
    copier.children(source.as_fd(), target.as_fd())?;
    copier.finish(source.as_fd(), target.as_fd(), &stat)
}

struct Copier<'a> {
    /// The copy's root, and where below it the walk is.
    root: BorrowedFd<'a>,
    path: Vec<u8>,
    /// Where a file with further names was copied to.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
    /// Owners are set.
    owners: bool,
}

impl Copier<'_> {
    fn children(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
        for entry in Dir::read_from(source)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let length = self.path.len();
                self.path.extend_from_slice(name.to_bytes());
                self.entry(source, target, name)?;
                self.path.truncate(length);
            }
        }
        Ok(())
    }

    fn entry(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let stat = rustix::fs::statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let from = rustix::fs::openat(source, name, DIRECTORY, Mode::empty())?;
            rustix::fs::mkdirat(target, name, Mode::RWXU)?;
            let to = rustix::fs::openat(target, name, DIRECTORY, Mode::empty())?;
            self.path.push(b'/');
            self.children(from.as_fd(), to.as_fd())?;
            return self.finish(from.as_fd(), to.as_fd(), &stat);
        }
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                return Ok(rustix::fs::linkat(self.root, first.as_slice(), target, name, AtFlags::empty())?);
            }
            self.links.insert(identity, self.path.clone());
        }
        match kind {
            FileType::RegularFile => {
                let from = File::from(rustix::fs::openat(source, name, SOURCE, Mode::empty())?);
                let mut to = File::from(rustix::fs::openat(target, name, TARGET, Mode::RUSR | Mode::WUSR)?);
                copy_content(&from, &mut to, stat.st_size)?;
                self.finish(from.as_fd(), to.as_fd(), &stat)
            }
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(source, name, std::mem::take(&mut self.buffer))?;
                rustix::fs::symlinkat(&link, target, name)?;
                self.buffer = link.into_bytes();
                self.finish_by_name(target, name, &stat)
            }
            // Nobody listens on a copy.
            FileType::Socket => Ok(()),
            _ => {
                let mode = Mode::from_raw_mode(stat.st_mode);
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)?;
                self.finish_by_name(target, name, &stat)?;
                Ok(rustix::fs::chmodat(target, name, mode, AtFlags::empty())?)
            }
        }
    }

    /// Owner before mode, since a change of owner drops set-user-id, and both before attributes, of which capabilities go too;
    /// times last.
    fn finish(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        if self.owners {
            let (uid, gid) = owner(stat);
            rustix::fs::fchown(target, uid, gid)?;
        }
        rustix::fs::fchmod(target, Mode::from_raw_mode(stat.st_mode))?;
        copy_attributes(source, target)?;
        Ok(rustix::fs::futimens(target, &times(stat))?)
    }

    fn finish_by_name(&self, target: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
        if self.owners {
            let (uid, gid) = owner(stat);
            rustix::fs::chownat(target, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn owner(stat: &Stat) -> (Option<rustix::fs::Uid>, Option<rustix::fs::Gid>) {
    (Some(rustix::fs::Uid::from_raw(stat.st_uid)), Some(rustix::fs::Gid::from_raw(stat.st_gid)))
}

fn times(stat: &Stat) -> rustix::fs::Timestamps {
    let time = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    rustix::fs::Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Shares the blocks where the file system can; else copies what is there, and leaves holes holes.
fn copy_content(from: &File, to: &mut File, size: i64) -> io::Result<()> {
    if size == 0 || rustix::fs::ioctl_ficlone(&*to, from).is_ok() {
        return Ok(());
    }
    let size = u64::try_from(size).unwrap_or(0);
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(from, rustix::fs::SeekFrom::Data(at)) {
            Ok(start) => start,
            // Only a hole is left.
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, rustix::fs::SeekFrom::Hole(start)).unwrap_or(size).max(start + 1);
        copy_range(from, to, start, end)?;
        at = end;
    }
    to.set_len(size)
}

fn copy_range(from: &File, to: &mut File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let wanted = usize::try_from(end - read_at).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read_at), &*to, Some(&mut write_at), wanted) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Between some file systems it does not work.
            Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                return copy_range_by_hand(from, to, read_at, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_range_by_hand(from: &File, to: &mut File, start: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 256 << 10];
    let mut at = start;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let count = from.read_at(&mut buffer[..wanted], at)?;
        if count == 0 {
            break;
        }
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

fn copy_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let mut names = vec![0; 1 << 16];
    let length = match rustix::fs::flistxattr(source, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = Vec::new();
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // The target gets its own of the host.
        if name == c"security.selinux" {
            continue;
        }
        value.resize(1 << 16, 0);
        let length = rustix::fs::fgetxattr(source, name, &mut value[..])?;
        rustix::fs::fsetxattr(target, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}
