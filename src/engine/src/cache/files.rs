//! Digests of files that steps depend on: content, mode, link target and relative path; never a time.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_core::{FilesRecord, Input, Key};

use super::keys::Fields;

/// What scripts call the build's name, playbooks in small letters. One that mentions it may give each build another result.
const BUILD_NAME: &[u8] = b"_BUILD_NAME";

/// A file that was written later than this before it was read may be written again without another time.
const SETTLED: Duration = Duration::from_secs(2);

/// What files are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) record: FilesRecord,
    /// Whether the stamp is enough to tell that nothing was written since.
    pub(crate) is_settled: bool,
}

/// A file that cannot be part of a key; reads as a sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("`{}` cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is neither a file nor a directory", path.display())]
    Special { path: PathBuf },
}

/// Reads files, and directories with all that is in them. Links are followed at the top only. What is known of them from
/// an earlier time counts, where nobody wrote them since. Blocking.
pub(crate) fn read(paths: &[PathBuf], known: &[FilesRecord]) -> Result<Files, FileError> {
    if !known.is_empty() {
        let now = stamp(paths)?;
        if let Some(record) = known.iter().find(|known| known.stamp == now) {
            return Ok(Files { record: record.clone(), is_settled: true });
        }
    }
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let mut stamp = Stamp::new();
    let mut reading = Reading { mention_build: false, buffer: vec![0; 128 * 1024] };
    let mut inputs = Vec::with_capacity(paths.len());
    for path in paths {
        let digest = reading.top(path, &mut stamp)?;
        inputs.push(Input { name: path.display().to_string(), digest: digest.to_string(), shown: None });
    }
    let is_settled = Duration::from_secs(stamp.newest) + SETTLED < started;
    let record = FilesRecord { inputs, stamp: stamp.fields.key(), mention_build: reading.mention_build };
    Ok(Files { record, is_settled })
}

/// [`FilesRecord::stamp`] alone: whether something changed since. Blocking.
pub(crate) fn stamp(paths: &[PathBuf]) -> Result<Key, FileError> {
    let mut stamp = Stamp::new();
    for path in paths {
        let failed = |source| FileError::Read { path: path.clone(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        stamp.add(path, &metadata);
        if metadata.is_dir() {
            walk(path, &mut |entry, _, metadata| {
                stamp.add(entry, metadata);
                Ok(())
            })?;
        }
    }
    Ok(stamp.fields.key())
}

/// What files look like from outside.
struct Stamp {
    fields: Fields,
    /// When one of them was written last, in seconds since the epoch.
    newest: u64,
}

impl Stamp {
    fn new() -> Stamp {
        Stamp { fields: Fields::new("stamp"), newest: 0 }
    }

    fn add(&mut self, path: &Path, metadata: &Metadata) {
        let last = metadata.mtime().max(metadata.ctime());
        self.newest = self.newest.max(u64::try_from(last).unwrap_or_default());
        add_stamp(&mut self.fields, path, metadata);
    }
}

fn add_stamp(stamp: &mut Fields, path: &Path, metadata: &Metadata) {
    stamp.add(path.as_os_str().as_bytes());
    let numbers = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    numbers.into_iter().for_each(|number| stamp.add(number.to_le_bytes()));
    [metadata.ino(), metadata.dev(), metadata.size()].into_iter().for_each(|number| stamp.add(number.to_le_bytes()));
    stamp.add(metadata.mode().to_le_bytes());
}

/// Everything below a directory, parents first, names in order: the path, the same relative to `top`, what it is.
fn walk(top: &Path, found: &mut dyn FnMut(&Path, &Path, &Metadata) -> Result<(), FileError>) -> Result<(), FileError> {
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        let failed = |source| FileError::Read { path: directory.clone(), source };
        let entries = std::fs::read_dir(&directory).map_err(failed)?;
        let mut entries: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().map_err(failed)?;
        entries.sort();
        let mut inner = Vec::new();
        for path in entries {
            let metadata = path.symlink_metadata().map_err(|source| FileError::Read { path: path.clone(), source })?;
            found(&path, path.strip_prefix(top).unwrap_or(&path), &metadata)?;
            if metadata.is_dir() {
                inner.push(path);
            }
        }
        waiting.extend(inner.into_iter().rev());
    }
    Ok(())
}

struct Reading {
    mention_build: bool,
    buffer: Vec<u8>,
}

impl Reading {
    fn top(&mut self, path: &Path, stamp: &mut Stamp) -> Result<Key, FileError> {
        let metadata = std::fs::metadata(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        stamp.add(path, &metadata);
        // Its own name counts, as it may be what it is called on the machine; and a slash at its end means "what is in it".
        let mut digest = Fields::new("file").field(path.file_name().unwrap_or_default().as_bytes());
        digest.add([u8::from(path.as_os_str().as_bytes().ends_with(b"/"))]);
        if metadata.is_file() {
            self.file(path, &metadata, &mut digest)?;
        } else if metadata.is_dir() {
            // A directory that is made on the machine gets its mode.
            digest.add(metadata.mode().to_le_bytes());
            walk(path, &mut |entry, relative, metadata| {
                stamp.add(entry, metadata);
                digest.add(relative.as_os_str().as_bytes());
                self.entry(entry, metadata, &mut digest)
            })?;
        } else {
            // A named pipe would be read only once.
            return Err(FileError::Special { path: path.to_owned() });
        }
        Ok(digest.key())
    }

    fn entry(&mut self, path: &Path, metadata: &Metadata, digest: &mut Fields) -> Result<(), FileError> {
        if metadata.is_file() {
            return self.file(path, metadata, digest);
        }
        digest.add((metadata.mode()).to_le_bytes());
        if metadata.is_symlink() {
            let target =
                std::fs::read_link(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
            digest.add(target.as_os_str().as_bytes());
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, metadata: &Metadata, digest: &mut Fields) -> Result<(), FileError> {
        digest.add(metadata.mode().to_le_bytes());
        let content = self.content(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        digest.add(content.as_str());
        Ok(())
    }

    /// Digest of a file's bytes. What a search for the build's name could miss between two reads is kept in front.
    fn content(&mut self, path: &Path) -> io::Result<Key> {
        let mut file = File::open(path)?;
        let mut content = Fields::new("content");
        let mut held = 0;
        loop {
            let length = match file.read(&mut self.buffer[held..]) {
                Ok(0) => return Ok(content.key()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            content.more(&self.buffer[held..held + length]);
            let end = held + length;
            if !self.mention_build {
                self.mention_build = mentions_build(&self.buffer[..end]);
            }
            let keep = end.min(BUILD_NAME.len() - 1);
            self.buffer.copy_within(end - keep..end, 0);
            held = keep;
        }
    }
}

/// Whether a text may depend on what the build is called.
pub(crate) fn mentions_build(bytes: &[u8]) -> bool {
    // Rare enough as a first byte, so that the rest is seldom compared.
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == b'_') {
        if rest[at..].get(..BUILD_NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(BUILD_NAME)) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Tree {
            let tree = Tree(tempfile::tempdir().unwrap());
            std::fs::create_dir_all(tree.path("conf/inner")).unwrap();
            std::fs::write(tree.path("conf/a"), "one").unwrap();
            std::fs::write(tree.path("conf/inner/b"), "two").unwrap();
            symlink("a", tree.path("conf/link")).unwrap();
            tree
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn digest(&self, name: &str) -> String {
            read(&[self.path(name)], &[]).unwrap().record.inputs.remove(0).digest
        }

        fn stamp(&self) -> Key {
            let stamped = stamp(&[self.path("conf")]).unwrap();
            assert_eq!(stamped, read(&[self.path("conf")], &[]).unwrap().record.stamp);
            stamped
        }
    }

    #[test]
    fn content_mode_target_and_names_count() {
        type Change = fn(&Tree);
        let changes: [(&str, Change); 7] = [
            ("content", |tree| std::fs::write(tree.path("conf/inner/b"), "TWO").unwrap()),
            ("mode", |tree| {
                std::fs::set_permissions(tree.path("conf/a"), std::fs::Permissions::from_mode(0o755)).unwrap();
            }),
            ("the top's mode", |tree| {
                std::fs::set_permissions(tree.path("conf"), std::fs::Permissions::from_mode(0o700)).unwrap();
            }),
            ("target", |tree| {
                std::fs::remove_file(tree.path("conf/link")).unwrap();
                symlink("inner/b", tree.path("conf/link")).unwrap();
            }),
            ("name", |tree| std::fs::rename(tree.path("conf/a"), tree.path("conf/z")).unwrap()),
            ("place", |tree| std::fs::rename(tree.path("conf/a"), tree.path("conf/inner/a")).unwrap()),
            ("an empty directory", |tree| std::fs::create_dir(tree.path("conf/new")).unwrap()),
        ];
        for (what, change) in changes {
            let tree = Tree::new();
            let (before, stamp) = (tree.digest("conf"), tree.stamp());
            change(&tree);
            assert_ne!(tree.digest("conf"), before, "{what}");
            assert_ne!(tree.stamp(), stamp, "{what}");
        }
    }

    #[test]
    fn times_and_the_place_of_the_whole_do_not_count() {
        let (one, other) = (Tree::new(), Tree::new());
        assert_eq!(one.digest("conf"), other.digest("conf"));
        let (before, stamp) = (one.digest("conf"), one.stamp());
        let file = File::options().write(true).open(one.path("conf/a")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(one.digest("conf"), before);
        assert_ne!(one.stamp(), stamp, "a stamp sees every write");
    }

    #[test]
    fn the_name_at_the_top_and_a_slash_behind_it_count() {
        let tree = Tree::new();
        assert_ne!(tree.digest("conf"), tree.digest("conf/"));
        let before = tree.digest("conf/a");
        std::fs::rename(tree.path("conf/a"), tree.path("conf/b")).unwrap();
        assert_ne!(tree.digest("conf/b"), before);
    }

    #[test]
    fn a_link_at_the_top_is_followed() {
        let tree = Tree::new();
        symlink("conf/a", tree.path("top")).unwrap();
        let before = tree.digest("top");
        std::fs::write(tree.path("conf/a"), "other").unwrap();
        assert_ne!(tree.digest("top"), before);
    }

    #[test]
    fn what_nobody_wrote_since_is_not_read_again() {
        let tree = Tree::new();
        let path = tree.path("conf");
        let fresh = read(std::slice::from_ref(&path), &[]).unwrap();
        assert!(!fresh.is_settled, "it may be written again within one tick of the clock");
        let known = FilesRecord { inputs: Vec::new(), ..fresh.record.clone() };
        let again = read(std::slice::from_ref(&path), std::slice::from_ref(&known)).unwrap();
        assert_eq!(again.record, known, "what is known is taken for true");
        std::fs::write(tree.path("conf/a"), "ONE").unwrap();
        let changed = read(std::slice::from_ref(&path), &[known]).unwrap();
        assert_ne!(changed.record.inputs, fresh.record.inputs);
        assert!(read(&["/bin/sh".into()], &[]).unwrap().is_settled);
    }

    #[test]
    fn what_is_not_there_or_no_file_has_no_digest() {
        let tree = Tree::new();
        let told = |name: &str| read(&[tree.path(name)], &[]).unwrap_err().to_string();
        assert!(told("none").contains("none` cannot be read: No such file"), "{}", told("none"));
        assert!(read(&["/dev/null".into()], &[]).unwrap_err().to_string().contains("neither a file nor a directory"));
    }

    #[test]
    fn the_builds_name_is_found_wherever_it_stands() {
        let tree = Tree::new();
        let mentions = |content: &[u8]| {
            std::fs::write(tree.path("conf/a"), content).unwrap();
            read(&[tree.path("conf")], &[]).unwrap().record.mention_build
        };
        assert!(!mentions(b"echo _BUILD __BUILD_NAM"));
        assert!(mentions(b"echo $PACKER_BUILD_NAME"));
        assert!(mentions(b"- debug: var=packer_build_name"));
        for before in [128 * 1024 - 18, 128 * 1024 - 10, 128 * 1024 - 1, 128 * 1024, 256 * 1024 - 20] {
            assert!(mentions(&[&vec![b'x'; before][..], b"$KILN_BUILD_NAME x"].concat()), "{before}");
        }
    }
}
