//! What a tree was like, to tell later what changed in it: for where no overlay can be mounted.
//!
//! A file is the same while its inode and the time of its last change are: the kernel sets that time, and no guest can set
//! it back. A few that are moved away and back meanwhile have another time then; of those the content is recorded too.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::error::ImageError;
use crate::pack::{Attributes, Meta, failed, overlay_prefix};
use crate::union::{Below, Names, open_directory, open_root};

/// One entry as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: Box<[u8]>,
    meta: Meta,
    /// A directory's; a file's changes show in its time.
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of what is moved away and back.
    content: Option<Content>,
}

/// What a file or a link holds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    bytes: Vec<u8>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Larger files are not held.
const MOST_CONTENT: u64 = 64 * 1024;

impl Content {
    /// `None` for what is neither a small file nor a link, and for what cannot be read.
    fn read(root: BorrowedFd<'_>, path: &[u8], meta: &Meta) -> Option<Content> {
        if meta.kind == FileType::Symlink {
            let target = rustix::fs::readlinkat(root, path, Vec::new()).ok()?;
            return Some(Content { bytes: target.into_bytes(), attributes: Vec::new() });
        }
        if meta.kind != FileType::RegularFile || meta.size > MOST_CONTENT {
            return None;
        }
        // Not to wait for a fifo that took its place.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(root, path, flags, Mode::empty()).ok()?);
        let attributes = Attributes::read(&file, overlay_prefix(false)).ok()?.kept;
        let mut bytes = Vec::new();
        file.take(MOST_CONTENT + 1).read_to_end(&mut bytes).ok()?;
        Some(Content { bytes, attributes })
    }
}

/// A tree as it was when it was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeManifest {
    root: Option<Record>,
    /// Directories by their paths; their entries sorted.
    directories: HashMap<Vec<u8>, Vec<Record>>,
    /// Of all.
    entries: u64,
}

impl TreeManifest {
    /// Records a tree. Nothing may change it meanwhile.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub fn record(tree: &Path) -> Result<TreeManifest, ImageError> {
        TreeManifest::record_with(tree, &[])
    }

    /// As [`TreeManifest::record`]; small files and links at some paths (relative ones) may be moved away and back without
    /// being taken for changed.
    ///
    /// # Errors
    /// Something in it cannot be read.
    pub fn record_with(tree: &Path, moved: &[&str]) -> Result<TreeManifest, ImageError> {
        let space = Vec::with_capacity(32 * 1024);
        let mut walk = Walk { root: open_root(tree)?, moved, manifest: TreeManifest::default(), space };
        walk.run()?;
        walk.manifest.settle();
        Ok(walk.manifest)
    }

    /// Waits until whatever changes from now on bears another time than what was recorded: file systems know ticks of some
    /// milliseconds, old ones seconds.
    fn settle(&self) {
        let records = || self.directories.values().flatten().chain(&self.root);
        let Some(newest) = records().map(|record| record.meta.ctime).max() else { return };
        let knows_only_seconds = records().all(|record| record.meta.ctime.1 == 0);
        // A time in the future, by a clock that was set back, is not waited for.
        for _ in 0..1100 {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
            let is_later = now.tv_sec > newest.0
                || (now.tv_sec == newest.0 && now.tv_nsec > i64::from(newest.1) && !knows_only_seconds);
            if is_later {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// How many entries it has.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    fn find(&self, path: &[u8]) -> Option<&Record> {
        if path.is_empty() {
            return self.root.as_ref();
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        let records = self.directories.get(parent)?;
        records.binary_search_by(|record| record.name.as_ref().cmp(name)).ok().map(|index| &records[index])
    }
}

struct Walk<'a> {
    root: OwnedFd,
    moved: &'a [&'a str],
    manifest: TreeManifest,
    space: Vec<u8>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), ImageError> {
        self.manifest.root = self.record(b"", b"")?;
        let mut waiting = vec![Vec::new()];
        while let Some(path) = waiting.pop() {
            let mut names = Names::default();
            let directory = open_directory(self.root.as_fd(), &path)?;
            names.read(directory.as_fd(), 0, &mut self.space).map_err(failed("read", &path))?;
            names.settle();
            let mut records = Vec::new();
            for name in names.iter() {
                let below = if path.is_empty() { name.to_vec() } else { [&path, b"/".as_slice(), name].concat() };
                let Some(record) = self.record(&below, name)? else { continue };
                if record.meta.is_directory() {
                    waiting.push(below);
                }
                records.push(record);
            }
            self.manifest.entries += records.len() as u64;
            self.manifest.directories.insert(path, records);
        }
        Ok(())
    }

    fn record(&self, path: &[u8], name: &[u8]) -> Result<Option<Record>, ImageError> {
        let Some(meta) = Meta::look(self.root.as_fd(), path).map_err(failed("read", path))? else { return Ok(None) };
        let attributes = match meta.is_directory() {
            true => {
                let directory = open_directory(self.root.as_fd(), path)?;
                Attributes::read(directory, overlay_prefix(false)).map_err(failed("read", path))?.kept
            }
            false => Vec::new(),
        };
        let is_moved = self.moved.iter().any(|moved| moved.as_bytes() == path);
        let content = is_moved.then(|| Content::read(self.root.as_fd(), path, &meta)).flatten();
        Ok(Some(Record { name: name.into(), meta, attributes, content }))
    }
}

/// A manifest as a walk looks at it.
pub(crate) struct Before<'a> {
    manifest: &'a TreeManifest,
    /// The tree as it is now.
    root: OwnedFd,
    path: Vec<Vec<u8>>,
}

impl<'a> Before<'a> {
    pub(crate) fn new(manifest: &'a TreeManifest, tree: &Path) -> Result<Before<'a>, ImageError> {
        Ok(Before { manifest, root: open_root(tree)?, path: Vec::new() })
    }
}

impl Below for Before<'_> {
    fn enter(&mut self, path: &[u8]) {
        self.path.push(path.to_vec());
    }

    fn leave(&mut self) {
        self.path.pop();
    }

    fn has(&mut self, path: &[u8]) -> Result<bool, ImageError> {
        Ok(self.manifest.find(path).is_some())
    }

    fn directory(&mut self, path: &[u8]) -> Result<Option<(Meta, Attributes)>, ImageError> {
        let record = self.manifest.find(path).filter(|record| record.meta.is_directory());
        let attributes = |record: &Record| Attributes { kept: record.attributes.clone(), ..Attributes::default() };
        Ok(record.map(|record| (record.meta, attributes(record))))
    }

    fn names(&mut self, names: &mut Names) -> Result<(), ImageError> {
        let records = self.path.last().and_then(|path| self.manifest.directories.get(path));
        for record in records.into_iter().flatten() {
            names.add_below(&record.name);
        }
        Ok(())
    }

    fn is_same(&self, path: &[u8], meta: &Meta) -> bool {
        self.manifest.find(path).is_some_and(|record| {
            let told = |meta: &Meta| (meta.kind, meta.device, meta.inode, meta.size);
            let shown = |meta: &Meta| (meta.mode, meta.uid, meta.gid, meta.mtime, meta.links);
            let is_untouched = record.meta.ctime == meta.ctime
                || (record.content.is_some()
                    && shown(&record.meta) == shown(meta)
                    && record.content == Content::read(self.root.as_fd(), path, meta));
            told(&record.meta) == told(meta) && is_untouched
        })
    }
}
