//! Walks stacked overlay directories as one tree, without mounting them, and says what it differs in from what lies below.
//!
//! Per name the newest upper wins; a whiteout or anything but a directory ends the search, an opaque directory hides what is
//! older. What is hidden so of the layers below becomes whiteouts, which "hidden" carries down the tree.

mod lowers;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use rustix::fs::{Mode, OFlags, RawDir};

pub(crate) use lowers::Lowers;

use crate::error::ImageError;
use crate::pack::{Attributes, Emitter, Meta, PackSettings, Packed, failed, or_dot, overlay_prefix, redirected};

/// What a layer is held against. It follows the walk: [`Below::enter`] and [`Below::leave`] with each directory.
pub(crate) trait Below {
    /// The walk goes into this directory.
    fn enter(&mut self, path: &[u8]);
    /// And out of it.
    fn leave(&mut self);
    /// Whether something is at a path in the present directory.
    fn has(&mut self, path: &[u8]) -> Result<bool, ImageError>;
    /// The directory at a path in the present directory (or the root), if there is one.
    fn directory(&mut self, path: &[u8]) -> Result<Option<(Meta, Attributes)>, ImageError>;
    /// Adds the names in the present directory.
    fn names(&mut self, names: &mut Names) -> Result<(), ImageError>;
    /// Whether anything but a directory at a path in the present directory is as it was.
    fn is_same(&self, path: &[u8], meta: &Meta) -> bool;
}

/// Names in one directory, each with the layer it comes from.
#[derive(Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    /// Start, end, layer.
    items: Vec<(u32, u32, u32)>,
    next: usize,
}

/// The names that only what is below has.
const BELOW: u32 = u32::MAX;

impl Names {
    pub(crate) fn add(&mut self, name: &[u8], layer: u32) {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name);
        self.items.push((start, self.bytes.len() as u32, layer));
    }

    /// A name that what is below has.
    pub(crate) fn add_below(&mut self, name: &[u8]) {
        self.add(name, BELOW);
    }

    /// Sorts them; of equal ones the newest layer's stays.
    pub(crate) fn settle(&mut self) {
        let Names { bytes, items, .. } = self;
        let name = |item: &(u32, u32, u32)| &bytes[item.0 as usize..item.1 as usize];
        items.sort_unstable_by(|one, other| name(one).cmp(name(other)).then(one.2.cmp(&other.2)));
        items.dedup_by(|later, earlier| name(later) == name(earlier));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.items.iter().map(|item| &self.bytes[item.0 as usize..item.1 as usize])
    }

    /// Reads a directory.
    pub(crate) fn read(&mut self, directory: BorrowedFd<'_>, layer: u32, space: &mut Vec<u8>) -> std::io::Result<()> {
        space.clear();
        let mut entries = RawDir::new(directory, space.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.add(name, layer);
            }
        }
        Ok(())
    }
}

/// One directory on the way down.
struct Level {
    /// The uppers that it is made of, the newest first.
    uppers: Vec<u32>,
    /// Nothing of what is below shows through.
    hidden: bool,
    /// Of its path.
    length: usize,
    names: Names,
}

/// A walk.
pub(crate) struct Union<'a> {
    roots: Vec<OwnedFd>,
    /// Whether whiteouts and opaque directories mean something, and what is below shows through.
    is_overlay: bool,
    overlay: &'static [u8],
    below: Box<dyn Below + 'a>,
    exclude: Option<GlobSet>,
    emitter: Emitter<'a>,
    levels: Vec<Level>,
    path: Vec<u8>,
    /// For `getdents64`.
    space: Vec<u8>,
}

impl<'a> Union<'a> {
    pub(crate) fn open(
        uppers: &[PathBuf],
        below: Box<dyn Below + 'a>,
        settings: &PackSettings,
        out: &'a mut dyn Write,
    ) -> Result<Union<'a>, ImageError> {
        let roots = uppers.iter().map(|path| open_root(path)).collect::<Result<_, _>>()?;
        Ok(Union {
            roots,
            is_overlay: true,
            overlay: overlay_prefix(settings.user_xattr),
            below,
            exclude: globs(&settings.exclude)?,
            emitter: Emitter::new(settings, out)?,
            levels: Vec::new(),
            path: Vec::new(),
            space: Vec::with_capacity(32 * 1024),
        })
    }

    /// A tree that is whole in itself.
    pub(crate) fn open_tree(
        tree: &Path,
        below: Box<dyn Below + 'a>,
        settings: &PackSettings,
        out: &'a mut dyn Write,
    ) -> Result<Union<'a>, ImageError> {
        Ok(Union { is_overlay: false, ..Union::open(&[tree.to_owned()], below, settings, out)? })
    }

    /// Walks it all.
    pub(crate) fn run(mut self) -> Result<Packed, ImageError> {
        if self.roots.is_empty() {
            return self.emitter.finish();
        }
        self.root()?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.length);
            let Some(&(start, end, layer)) = level.names.items.get(level.names.next) else {
                self.leave()?;
                continue;
            };
            level.names.next += 1;
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&level.names.bytes[start as usize..end as usize]);
            self.item(layer)?;
        }
        self.emitter.finish()
    }

    /// The root's own entry is there only where it says something: its time is when some mount was made.
    fn root(&mut self) -> Result<(), ImageError> {
        let all: Vec<u32> = (0..self.roots.len() as u32).collect();
        let (uppers, hidden, attributes) = self.resolve(&all, !self.is_overlay)?;
        let meta = Meta::look(self.roots[0].as_fd(), b"").map_err(failed("read", b"/"))?;
        let Some(meta) = meta else { return Ok(()) };
        let plain = (0o755, 0, 0, Vec::new());
        let before = match self.below.directory(b"")? {
            Some((meta, attributes)) => (meta.mode, meta.uid, meta.gid, attributes.kept),
            None => plain,
        };
        if before != (meta.mode, meta.uid, meta.gid, attributes.kept.clone()) {
            self.emitter.enter(b"", meta, attributes);
            self.emitter.write_pending(b"")?;
        }
        self.descend(uppers, hidden)
    }

    /// What is at the present path, which these uppers may have: those that make up the directory there, and whether what is
    /// below is hidden. The first one has a directory there.
    fn resolve(&mut self, uppers: &[u32], hidden: bool) -> Result<(Vec<u32>, bool, Attributes), ImageError> {
        let (mut members, mut hidden, mut first) = (Vec::new(), hidden, None);
        for &layer in uppers {
            let root = self.roots[layer as usize].as_fd();
            // The caller knows of the first.
            if !members.is_empty() {
                match Meta::look(root, &self.path).map_err(failed("read", &self.path))? {
                    None => continue,
                    Some(meta) if meta.is_directory() => {}
                    Some(_) => {
                        hidden = true;
                        break;
                    }
                }
            }
            let directory = open_directory(root, &self.path)?;
            let attributes = Attributes::read(&directory, self.overlay).map_err(failed("read", &self.path))?;
            if attributes.is_redirected {
                return Err(redirected(&self.path));
            }
            members.push(layer);
            let is_opaque = self.is_overlay && attributes.is_opaque;
            first.get_or_insert(attributes);
            if is_opaque {
                hidden = true;
                break;
            }
        }
        Ok((members, hidden, first.unwrap_or_default()))
    }

    /// Goes into the directory at the present path.
    fn descend(&mut self, uppers: Vec<u32>, hidden: bool) -> Result<(), ImageError> {
        let mut names = Names::default();
        for &layer in &uppers {
            let directory = open_directory(self.roots[layer as usize].as_fd(), &self.path)?;
            names.read(directory.as_fd(), layer, &mut self.space).map_err(failed("read", &self.path))?;
        }
        self.below.enter(&self.path);
        if hidden {
            self.below.names(&mut names)?;
        }
        names.settle();
        self.levels.push(Level { uppers, hidden, length: self.path.len(), names });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), ImageError> {
        self.levels.pop();
        self.below.leave();
        if !self.emitter.is_pending() {
            return Ok(());
        }
        let before = self.below.directory(&self.path)?;
        let is_same = match (self.emitter.last_pending(), before) {
            (Some((meta, attributes)), Some((old, old_attributes))) => {
                let told = |meta: &Meta| (meta.mode, meta.uid, meta.gid, meta.mtime);
                told(meta) == told(&old) && attributes.kept == old_attributes.kept
            }
            _ => false,
        };
        if is_same {
            self.emitter.forget();
            return Ok(());
        }
        self.emitter.write_pending(&self.path)
    }

    /// What is at the present path.
    fn item(&mut self, layer: u32) -> Result<(), ImageError> {
        if self.exclude.as_ref().is_some_and(|globs| globs.is_match(as_path(&self.path))) {
            return Ok(());
        }
        if layer == BELOW {
            return self.removed();
        }
        let root = self.roots[layer as usize].as_fd();
        let Some(meta) = Meta::look(root, &self.path).map_err(failed("read", &self.path))? else { return Ok(()) };
        if meta.is_directory() {
            return self.directory(layer, meta);
        }
        if self.is_overlay && meta.is_whiteout() {
            return self.removed();
        }
        if self.below.is_same(&self.path, &meta) || self.emitter.other(root, &self.path, &meta)? {
            return Ok(());
        }
        // It stays out of the layer, but what it stands for is gone.
        self.removed()
    }

    fn removed(&mut self) -> Result<(), ImageError> {
        if self.below.has(&self.path)? { self.emitter.whiteout(&self.path) } else { Ok(()) }
    }

    fn directory(&mut self, layer: u32, meta: Meta) -> Result<(), ImageError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let hidden = level.hidden;
        let candidates: Vec<u32> = level.uppers.iter().copied().filter(|upper| *upper >= layer).collect();
        let (uppers, hidden, attributes) = self.resolve(&candidates, hidden)?;
        self.emitter.enter(&self.path, meta, attributes);
        self.descend(uppers, hidden)
    }
}

/// Opens the root of a tree.
pub(crate) fn open_root(path: &Path) -> Result<OwnedFd, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| ImageError::io("open", path)(error.into()))
}

/// Opens a directory below a root; it is none of a link's.
pub(crate) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root, or_dot(path), flags, Mode::empty()).map_err(failed("open", path))
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn globs(patterns: &[String]) -> Result<Option<GlobSet>, ImageError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let wrong = |pattern: &str, error: globset::Error| ImageError::Malformed {
        what: format!("the pattern `{pattern}`"),
        problem: error.kind().to_string(),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anchored = pattern.trim_start_matches('/');
        let glob = GlobBuilder::new(anchored).literal_separator(true).build().map_err(|error| wrong(pattern, error))?;
        set.add(glob);
    }
    set.build().map(Some).map_err(|error| wrong("exclude", error))
}
