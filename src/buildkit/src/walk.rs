//! The files of a directory as BuildKit's file transfer counts them: which of them, in which order, with which stats.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use bollard_buildkit_proto::fsutil::types::Stat;
use kiln_docker::ignore::{IgnoreRules, Pattern};

/// Bits of Go's `os.FileMode`, which is what travels.
mod mode {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const LINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const PIPE: u32 = 1 << 25;
    pub(super) const SET_USER: u32 = 1 << 23;
    pub(super) const SET_GROUP: u32 = 1 << 22;
    pub(super) const CHARACTER_DEVICE: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
}

/// Which paths are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    /// All, where `None`.
    pub(crate) included: Option<Vec<Pattern>>,
    pub(crate) excluded: IgnoreRules,
}

impl Selection {
    fn wants(&self, path: &str) -> bool {
        let is_included = match &self.included {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches_or_holds(path)),
        };
        is_included && !self.excluded.ignores(path)
    }

    fn enters(&self, directory: &str) -> bool {
        let may_hold = match &self.included {
            None => true,
            Some(patterns) => {
                patterns.iter().any(|pattern| pattern.matches_or_holds(directory) || pattern.may_match_below(directory))
            }
        };
        may_hold && (!self.excluded.ignores(directory) || self.excluded.may_hold_exception(directory))
    }
}

/// A file, and how to call it when it cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub(crate) struct WalkError {
    path: PathBuf,
    source: io::Error,
}

/// Goes through a directory in the order of the transfer: each directory before what is in it, names by their bytes.
/// `emit` takes the stat of each wanted file with its path on this host, and says whether to go on.
pub(crate) fn walk(
    root: &Path,
    selection: &Selection,
    emit: &mut dyn FnMut(Stat, &Path) -> bool,
) -> Result<(), WalkError> {
    let mut walk = Walk { selection, emit, waiting: Vec::new(), inodes: HashMap::new(), is_over: false };
    walk.directory(root, "")
}

struct Walk<'a> {
    selection: &'a Selection,
    emit: &'a mut dyn FnMut(Stat, &Path) -> bool,
    /// Directories that are entries only if something in them is.
    waiting: Vec<(Stat, PathBuf)>,
    /// Where files with several names were seen first.
    inodes: HashMap<(u64, u64), String>,
    is_over: bool,
}

impl Walk<'_> {
    fn directory(&mut self, directory: &Path, inside: &str) -> Result<(), WalkError> {
        let failed = |source| WalkError { path: directory.to_path_buf(), source };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            names.push(entry.map_err(failed)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            let path = directory.join(&name);
            let failed = |source| WalkError { path: path.clone(), source };
            let Some(text) = name.to_str() else {
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "its name is not UTF-8")));
            };
            let inside = if inside.is_empty() { text.to_owned() } else { format!("{inside}/{text}") };
            // Most that is not wanted is known by its name alone.
            let (is_wanted, is_entered) = (self.selection.wants(&inside), self.selection.enters(&inside));
            if !is_wanted && !is_entered {
                continue;
            }
            let metadata = match path.symlink_metadata() {
                Ok(metadata) => metadata,
                // Somebody removed it just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            self.entry(&path, inside, &metadata, is_wanted, is_entered)?;
            if self.is_over {
                return Ok(());
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        inside: String,
        metadata: &Metadata,
        is_wanted: bool,
        is_entered: bool,
    ) -> Result<(), WalkError> {
        let kind = metadata.file_type();
        // A socket means nothing elsewhere.
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_dir() {
            let depth = self.waiting.len();
            self.waiting.push((stat(&inside, metadata), path.to_path_buf()));
            if is_wanted {
                self.tell_waiting();
            }
            if is_entered && !self.is_over {
                self.directory(path, &inside)?;
            }
            self.waiting.truncate(depth);
            return Ok(());
        }
        if !is_wanted {
            return Ok(());
        }
        let mut stat = stat(&inside, metadata);
        if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(|source| WalkError { path: path.to_path_buf(), source })?;
            stat.linkname = target.to_string_lossy().into_owned();
        } else if metadata.nlink() > 1 {
            match self.inodes.get(&(metadata.dev(), metadata.ino())) {
                Some(first) => stat.linkname.clone_from(first),
                None => _ = self.inodes.insert((metadata.dev(), metadata.ino()), inside),
            }
        }
        self.tell_waiting();
        if !self.is_over {
            self.is_over = !(self.emit)(stat, path);
        }
        Ok(())
    }

    fn tell_waiting(&mut self) {
        for (stat, path) in &mut self.waiting {
            // One that was told already has no path any more.
            if !stat.path.is_empty() && !self.is_over {
                self.is_over = !(self.emit)(std::mem::take(stat), path);
            }
        }
    }
}

/// As it is, but for the owner: files of a context belong to root, whoever has them here.
fn stat(inside: &str, metadata: &Metadata) -> Stat {
    let kind = metadata.file_type();
    let bits = metadata.mode();
    let mut mode = bits & 0o777;
    for (is_set, bit) in [
        (bits & 0o4000 != 0, mode::SET_USER),
        (bits & 0o2000 != 0, mode::SET_GROUP),
        (bits & 0o1000 != 0, mode::STICKY),
        (kind.is_dir(), mode::DIRECTORY),
        (kind.is_symlink(), mode::LINK),
        (kind.is_fifo(), mode::PIPE),
        (kind.is_block_device() || kind.is_char_device(), mode::DEVICE),
        (kind.is_char_device(), mode::CHARACTER_DEVICE),
    ] {
        if is_set {
            mode |= bit;
        }
    }
    let is_device = kind.is_block_device() || kind.is_char_device();
    Stat {
        path: inside.to_owned(),
        mode,
        size: if kind.is_dir() { 0 } else { i64::try_from(metadata.len()).unwrap_or(i64::MAX) },
        mod_time: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        devmajor: if is_device { i64::from(device_major(metadata.rdev())) } else { 0 },
        devminor: if is_device { i64::from(device_minor(metadata.rdev())) } else { 0 },
        ..Stat::default()
    }
}

// Linux's encoding of a device number.

fn device_major(device: u64) -> u32 {
    (((device >> 31 >> 1) & 0xffff_f000) | ((device >> 8) & 0x0000_0fff)) as u32
}

fn device_minor(device: u64) -> u32 {
    (((device >> 12) & 0xffff_ff00) | (device & 0x0000_00ff)) as u32
}

/// Whether a stat is that of a file whose content can be asked for.
pub(crate) fn has_content(stat: &Stat) -> bool {
    let not_plain = mode::DIRECTORY | mode::LINK | mode::DEVICE | mode::PIPE | mode::CHARACTER_DEVICE;
    stat.mode & not_plain == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walked(root: &Path, included: Option<&[&str]>, excluded: &str) -> Vec<String> {
        let included = included.map(|patterns| patterns.iter().filter_map(|pattern| Pattern::parse(pattern)).collect());
        let selection = Selection { included, excluded: IgnoreRules::parse(excluded) };
        let mut seen = Vec::new();
        walk(root, &selection, &mut |stat, _| {
            seen.push(stat.path);
            true
        })
        .unwrap();
        seen
    }

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "content").unwrap();
        }
        root
    }

    #[test]
    fn each_directory_comes_before_what_is_in_it() {
        let root = tree(&["a/b", "a.txt", "a/a", "z"]);
        assert_eq!(walked(root.path(), None, ""), ["a", "a/a", "a/b", "a.txt", "z"]);
    }

    #[test]
    fn directories_on_the_way_to_a_file_are_sent_and_others_not() {
        let root = tree(&["one/two/file", "one/other", "empty/x", "vendor/keep/a.c", "vendor/b.c"]);
        assert_eq!(walked(root.path(), Some(&["one/two"]), ""), ["one", "one/two", "one/two/file"]);
        assert_eq!(walked(root.path(), Some(&["one/*.x"]), ""), Vec::<String>::new());
        let left = walked(root.path(), None, "vendor\n!vendor/keep\none\nempty");
        assert_eq!(left, ["vendor", "vendor/keep", "vendor/keep/a.c"]);
    }

    #[test]
    fn second_names_links_and_sockets() {
        let root = tree(&["file"]);
        std::fs::hard_link(root.path().join("file"), root.path().join("second")).unwrap();
        std::os::unix::fs::symlink("file", root.path().join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
        let mut seen = Vec::new();
        walk(root.path(), &Selection::default(), &mut |stat, _| {
            seen.push((stat.path.clone(), stat.linkname.clone(), stat.mode & mode::LINK != 0, has_content(&stat)));
            true
        })
        .unwrap();
        let expected = [("file", "", false, true), ("link", "file", true, false), ("second", "file", false, true)];
        assert_eq!(seen, expected.map(|(path, link, is_link, has)| (path.into(), link.into(), is_link, has)));
    }
}
