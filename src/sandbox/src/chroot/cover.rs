//! Files and directories in the place of the tree's own, for as long as a session lasts.
//!
//! What was there is set aside under another name in the same directory, and put back in the end, inode and all. The times of
//! the directory are put back too, unless the guest has changed it itself. To be used by a process whose root directory is the
//! tree: then no link in it leads anywhere else.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Stat};

use crate::error::{SandboxError, Trying};

/// Everything that was put into a tree.
#[derive(Default)]
pub(super) struct Covers {
    entries: Vec<Cover>,
    parents: Vec<Parent>,
}

struct Cover {
    path: PathBuf,
    /// Where the tree's own is.
    aside: Option<PathBuf>,
}

/// A directory of the tree that gained an entry.
struct Parent {
    path: PathBuf,
    before: Stat,
    /// After all was put there.
    sealed: Option<Stat>,
}

impl Covers {
    /// An empty directory.
    pub(super) fn directory(&mut self, path: &str, mode: u32) -> Result<(), SandboxError> {
        let action = format!("make {path} in the guest");
        let path = self.take_place(path).trying(&action)?;
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode))).trying(&action)
    }

    /// A file that all may read.
    pub(super) fn file(&mut self, path: &str, content: &[u8]) -> Result<(), SandboxError> {
        let action = format!("write {path} in the guest");
        let path = self.take_place(path).trying(&action)?;
        let mut file = fs::File::options().write(true).create_new(true).open(path).trying(&action)?;
        io::Write::write_all(&mut file, content).trying(&action)
    }

    /// All is in its place: changes from here on are the guest's.
    pub(super) fn seal(&mut self) {
        for parent in &mut self.parents {
            parent.sealed = rustix::fs::lstat(&parent.path).ok();
        }
    }

    /// Puts everything back, the last first. Goes on after a failure, and tells the first one.
    pub(super) fn remove(self) -> Result<(), SandboxError> {
        // Before anything is touched: putting back changes these times too.
        let changed: Vec<bool> = self.parents.iter().map(Parent::is_changed).collect();
        let mut result = Ok(());
        for cover in self.entries.iter().rev() {
            let removed = cover.remove();
            result = result.and(removed.trying(&format!("remove {} from the guest", cover.path.display())));
        }
        for (parent, changed) in self.parents.iter().zip(changed).rev() {
            if !changed {
                // A directory that the guest has removed has no times.
                _ = parent.restore_times();
            }
        }
        result
    }

    /// Makes sure that nothing is at the path, and gives it back with no link in it.
    fn take_place(&mut self, path: &str) -> io::Result<PathBuf> {
        let wanted = Path::new(path);
        let name = wanted.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = self.make_parents(wanted.parent().unwrap_or(Path::new("/")))?;
        self.note_parent(&parent)?;
        let path = parent.join(name);
        let aside = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
            Ok(_) => {
                let mut hidden = OsString::from(".kiln-aside-");
                hidden.push(name);
                let aside = parent.join(hidden);
                fs::rename(&path, &aside)?;
                Some(aside)
            }
        };
        self.entries.push(Cover { path: path.clone(), aside });
        Ok(path)
    }

    /// The directory with its links followed; what is missing is made, and removed in the end.
    fn make_parents(&mut self, parent: &Path) -> io::Result<PathBuf> {
        let mut there = PathBuf::from("/");
        for component in parent.components() {
            let Component::Normal(name) = component else { continue };
            let next = there.join(name);
            there = match fs::canonicalize(&next) {
                Ok(path) => path,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.note_parent(&there)?;
                    fs::DirBuilder::new().mode(0o755).create(&next)?;
                    self.entries.push(Cover { path: next.clone(), aside: None });
                    next
                }
                Err(error) => return Err(error),
            };
        }
        Ok(there)
    }

    fn note_parent(&mut self, path: &Path) -> io::Result<()> {
        if !self.parents.iter().any(|parent| parent.path == path) {
            let before = rustix::fs::lstat(path)?;
            self.parents.push(Parent { path: path.to_owned(), before, sealed: None });
        }
        Ok(())
    }
}

impl Cover {
    fn remove(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&self.path)?,
            Ok(_) => fs::remove_file(&self.path)?,
            // The guest may have removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match self.aside.as_ref().map(|aside| fs::rename(aside, &self.path)) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Parent {
    fn is_changed(&self) -> bool {
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        match (&self.sealed, rustix::fs::lstat(&self.path)) {
            (Some(sealed), Ok(now)) => time(sealed) != time(&now),
            (None, Ok(_)) => false,
            (_, Err(_)) => true,
        }
    }

    fn restore_times(&self) -> io::Result<()> {
        let time = |seconds: i64, nanoseconds: u64| rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
        };
        let times = rustix::fs::Timestamps {
            last_access: time(self.before.st_atime, self.before.st_atime_nsec),
            last_modification: time(self.before.st_mtime, self.before.st_mtime_nsec),
        };
        Ok(rustix::fs::utimensat(CWD, &self.path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }
}
