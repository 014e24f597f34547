//! A directory tree that cannot be left: every path is resolved below one open directory, as if that were `/`.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use crate::error::ImageError;

/// Open directories that are kept: entries of an archive come directory by directory.
const KEPT: usize = 64;
/// As the kernel's.
const MOST_LINKS: usize = 40;

pub(crate) type Outcome<T> = Result<T, Errno>;

/// A tree, by its root.
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// The kernel's own resolution is there and not forbidden.
    has_openat2: Cell<bool>,
    kept: HashMap<Vec<u8>, Rc<Directory>>,
}

/// An open directory of the tree.
pub(crate) struct Directory {
    pub(crate) fd: OwnedFd,
    pub(crate) inode: u64,
    /// What is made in it gets its group.
    pub(crate) group: Option<u32>,
}

impl Tree {
    /// Opens it.
    pub(crate) fn open(path: &Path) -> Result<Tree, ImageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            fs::openat(CWD, path, flags, Mode::empty()).map_err(|errno| ImageError::io("open", path)(errno.into()))?;
        Ok(Tree { path: path.to_owned(), root, has_openat2: Cell::new(true), kept: HashMap::new() })
    }

    /// Does without `openat2`, as where a filter of system calls forbids it.
    #[cfg(test)]
    pub(crate) fn walk_by_hand(&self) {
        self.has_openat2.set(false);
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// For messages.
    pub(crate) fn name_of(&self, path: &[u8]) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        self.path.join(std::ffi::OsStr::from_bytes(path))
    }

    /// An error of this path.
    pub(crate) fn error<'a>(&'a self, action: &'static str, path: &'a [u8]) -> impl FnOnce(Errno) -> ImageError + 'a {
        move |errno| ImageError::io(action, self.name_of(path))(errno.into())
    }

    /// An open directory; links on the way are followed within the tree. `path` has no `..`, no empty parts; the root's is empty.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Outcome<Rc<Directory>> {
        if let Some(kept) = self.kept.get(path) {
            return Ok(Rc::clone(kept));
        }
        let fd = self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)?;
        let stat = fs::fstat(&fd)?;
        let group = (stat.st_mode & 0o2000 != 0).then_some(stat.st_gid);
        let directory = Rc::new(Directory { fd, inode: stat.st_ino, group });
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(path.to_owned(), Rc::clone(&directory));
        Ok(directory)
    }

    /// A path may lead to another directory from now on.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
    }

    /// Opens what a path names, within the tree.
    pub(crate) fn resolve(&self, path: &[u8], flags: OFlags) -> Outcome<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        if path.is_empty() {
            return fs::openat(&self.root, c".", flags, Mode::empty());
        }
        if self.has_openat2.get() {
            let path = CString::new(path).map_err(|_| Errno::INVAL)?;
            loop {
                let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
                match fs::openat2(&self.root, &path, flags, Mode::empty(), how) {
                    // Something was renamed meanwhile; nobody else writes here, so it is something far away.
                    Err(Errno::AGAIN) => {}
                    // A filter answers so to what it does not know.
                    Err(Errno::NOSYS | Errno::PERM) => {
                        self.has_openat2.set(false);
                        break;
                    }
                    other => return other,
                }
            }
        }
        self.walk(path, flags)
    }

    /// The same by hand: part for part, no link is ever followed by the kernel.
    fn walk(&self, path: &[u8], flags: OFlags) -> Outcome<OwnedFd> {
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut todo: Vec<Vec<u8>> = parts(path);
        let mut stack: Vec<OwnedFd> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part == b".." {
                // Above the root is the root.
                stack.pop();
                continue;
            }
            let here = stack.last().map_or(self.root.as_fd(), AsFd::as_fd);
            let name = CString::new(part).map_err(|_| Errno::INVAL)?;
            let fd = fs::openat(here, &name, step, Mode::empty())?;
            let is_link = FileType::from_raw_mode(fs::fstat(&fd)?.st_mode) == FileType::Symlink;
            if !is_link {
                stack.push(fd);
                continue;
            }
            if todo.is_empty() && flags.contains(OFlags::NOFOLLOW) {
                return if flags.contains(OFlags::PATH) { Ok(fd) } else { Err(Errno::LOOP) };
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            let target = fs::readlinkat(here, &name, Vec::new())?.into_bytes();
            if target.first() == Some(&b'/') {
                stack.clear();
            }
            todo.extend(parts(&target));
        }
        let here = stack.last().map_or(self.root.as_fd(), AsFd::as_fd);
        if flags.contains(OFlags::PATH) && !flags.contains(OFlags::DIRECTORY) {
            return rustix::io::fcntl_dupfd_cloexec(here, 0);
        }
        // Only directories and, without NOFOLLOW, files that were just made are opened for more than their path.
        fs::openat(here, c".", flags - OFlags::NOFOLLOW, Mode::empty())
    }
}

/// Parts of a path, the last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let named = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    named.rev().map(<[u8]>::to_vec).collect()
}

/// What an entry is, without following it; `None` if it is not there.
pub(crate) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> Outcome<Option<Stat>> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    match fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(crate) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// The overlay's sign that something is gone.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Removes a whole directory.
pub(crate) fn remove_tree(directory: BorrowedFd<'_>, name: &[u8]) -> Outcome<()> {
    remove_where(directory, name, false, &mut |_, _| false)
}

/// Removes what is in a directory, and the directory unless it `remains`, but for what is to stay and what holds something that
/// stays. `stays` gets the inode of the directory and the name in it.
pub(crate) fn remove_where(
    directory: BorrowedFd<'_>,
    name: &[u8],
    remains: bool,
    stays: &mut dyn FnMut(u64, &[u8]) -> bool,
) -> Outcome<()> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    let top = fs::openat(directory, &name, Level::FLAGS, Mode::empty())?;
    empty_where(top.as_fd(), stays)?;
    if remains {
        return Ok(());
    }
    match fs::unlinkat(directory, &name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Removes what is in a directory, but for what is to stay.
pub(crate) fn empty_where(top: BorrowedFd<'_>, stays: &mut dyn FnMut(u64, &[u8]) -> bool) -> Outcome<()> {
    // A list of its own instead of recursion: a hostile tree is deeper than a stack, and than a process may have files open.
    let mut levels = vec![Level::open(top, c".", false)?];
    while let Some(level) = levels.last_mut() {
        if let Some((name, is_directory)) = level.names.pop() {
            let remains = stays(level.inode, name.to_bytes());
            if is_directory {
                let next = Level::open(level.fd()?, &name, remains)?;
                levels.push(next);
                if let Some(far) = levels.len().checked_sub(OPEN_LEVELS) {
                    levels[far].fd = None;
                }
            } else if !remains {
                fs::unlinkat(level.fd()?, &name, AtFlags::empty())?;
            }
            continue;
        }
        let Some(done) = levels.pop() else { break };
        let Some(above) = levels.last_mut() else { break };
        above.open_again(&done)?;
        if !done.remains {
            match fs::unlinkat(above.fd()?, &done.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Directories that [`empty_where`] holds open.
const OPEN_LEVELS: usize = 100;

/// A directory that is being emptied.
struct Level {
    fd: Option<OwnedFd>,
    inode: u64,
    /// What is left to do, and whether it is a directory.
    names: Vec<(CString, bool)>,
    name: CString,
    remains: bool,
}

impl Level {
    const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    fn open(above: BorrowedFd<'_>, name: &CStr, remains: bool) -> Outcome<Level> {
        let fd = fs::openat(above, name, Level::FLAGS, Mode::empty())?;
        let inode = fs::fstat(&fd)?.st_ino;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push((entry.file_name().to_owned(), entry.file_type() == FileType::Directory));
            }
        }
        Ok(Level { fd: Some(fd), inode, names, name: name.to_owned(), remains })
    }

    fn fd(&self) -> Outcome<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn open_again(&mut self, below: &Level) -> Outcome<()> {
        if self.fd.is_none() {
            let fd = fs::openat(below.fd()?, c"..", Level::FLAGS, Mode::empty())?;
            // Somebody moved the directory away: what is above it now is none of ours.
            if fs::fstat(&fd)?.st_ino != self.inode {
                return Err(Errno::BUSY);
            }
            self.fd = Some(fd);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join("root").join(name);
        std::fs::create_dir_all(at("usr/lib/deep")).unwrap();
        std::fs::create_dir_all(directory.path().join("outside")).unwrap();
        for (target, name) in [
            ("usr/lib", "lib"),
            ("/usr/lib", "absolute"),
            ("../../../../outside", "above"),
            ("loop", "loop"),
            ("../lib/deep", "usr/up"),
            ("/proc/self/root", "magic"),
        ] {
            std::os::unix::fs::symlink(target, at(name)).unwrap();
        }
        let tree = Tree::open(&directory.path().join("root")).unwrap();
        (directory, tree)
    }

    #[test]
    fn both_ways_to_resolve_agree_and_stay_inside() {
        let (directory, tree) = tree();
        let inode = |path: &str| {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(directory.path().join(path)).unwrap().ino()
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        for by_hand in [false, true] {
            if by_hand {
                tree.walk_by_hand();
            }
            let found = |path: &str| tree.resolve(path.as_bytes(), flags).map(|fd| fs::fstat(fd).unwrap().st_ino);
            assert_eq!(found("").unwrap(), inode("root"));
            for path in ["lib", "absolute", "usr/lib"] {
                assert_eq!(found(path).unwrap(), inode("root/usr/lib"), "{path}");
            }
            assert_eq!(found("usr/up").unwrap(), inode("root/usr/lib/deep"));
            for outside in ["above", "loop", "magic", "missing", "lib/none"] {
                assert!(found(outside).is_err(), "{outside}");
            }
            let link = tree.resolve(b"lib", OFlags::PATH | OFlags::NOFOLLOW).unwrap();
            assert_eq!(FileType::from_raw_mode(fs::fstat(&link).unwrap().st_mode), FileType::Symlink);
            assert!(tree.resolve(b"lib", OFlags::RDONLY | OFlags::NOFOLLOW).is_err());
        }
    }

    #[test]
    fn a_tree_deeper_than_a_path_can_be_goes() {
        let directory = tempfile::tempdir().unwrap();
        let top = fs::openat(CWD, directory.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        fs::mkdirat(&top, c"d", Mode::RWXU).unwrap();
        let mut here = fs::openat(&top, c"d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            fs::mkdirat(&here, c"dd", Mode::RWXU).unwrap();
            here = fs::openat(&here, c"dd", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(here);
        remove_tree(top.as_fd(), b"d").unwrap();
        assert!(look(top.as_fd(), b"d").unwrap().is_none());
    }
}
