//! The rules: what each entry of a layer becomes in the tree.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::metadata::{self, Attributes, Metadata, Writer};
use super::stream::{Source, truncated};
use super::tar::{self, Entry, Kind, Segment, Sparse};
use super::tree::{self, Directory, Outcome, Tree};
use super::{Devices, Skipped, TreeFormat, UnpackOptions, lowers};
use crate::error::ImageError;

/// Linux's own limits.
const LONGEST_PATH: usize = 4095;
const LONGEST_NAME: usize = 255;
/// More are not told.
const SKIPPED_TOLD: usize = 1000;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Free space is asked for after so many bytes.
const ASK_AFTER: u64 = 64 << 20;

/// Applies the entries of one layer to a tree.
pub(super) struct Applier<'a> {
    pub(super) tree: Tree,
    options: &'a UnpackOptions,
    writer: Writer,
    /// Directories get their owners, modes and times last: until then everything can be made in them.
    directories: Vec<(Vec<u8>, Metadata)>,
    /// In the plain format, what this layer made: the inode of the directory and the name.
    own: HashSet<(u64, Box<[u8]>)>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
    bytes_until_asked: u64,
    pub(super) skipped: Vec<Skipped>,
}

impl<'a> Applier<'a> {
    pub(super) fn new(tree: Tree, options: &'a UnpackOptions) -> Applier<'a> {
        let writer = Writer::new(tree.root(), options.owners);
        Applier {
            tree,
            options,
            writer,
            directories: Vec::new(),
            own: HashSet::new(),
            entries: 0,
            bytes: 0,
            bytes_until_asked: 0,
            skipped: Vec::new(),
        }
    }

    /// Applies one entry, and takes its data.
    pub(super) fn entry(&mut self, source: &mut Source<'_>, entry: Entry) -> Result<(), ImageError> {
        self.entries += 1;
        if self.entries > self.options.limits.entries {
            return Err(
                self.refused(&entry.path, format!("the layer has more than {} entries", self.options.limits.entries))
            );
        }
        let path = clean(&entry.path).map_err(|problem| self.refused(&entry.path, problem))?;
        if entry.kind == Kind::Symlink || entry.kind == Kind::HardLink {
            check_link(&entry).map_err(|problem| self.refused(&path, problem))?;
        }
        let (parent, name) = split(&path);
        if parent.split(|byte| *byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
            // AUFS kept its hard links in `.wh..wh.plnk`.
            return self.skip(source, &path, entry.size, "below a whiteout");
        }
        if name.starts_with(WHITEOUT) {
            self.whiteout(parent, name, &path)?;
            return source.skip(entry.size + tar::padding(entry.size)).map_err(|error| self.damaged(error));
        }
        match entry.kind {
            Kind::Directory => self.directory(parent, name, &path, entry),
            Kind::File => self.file(source, parent, name, &path, &entry),
            Kind::Symlink => self.symlink(parent, name, &path, &entry),
            Kind::HardLink => self.hard_link(parent, name, &path, &entry),
            Kind::Fifo | Kind::Character | Kind::Block => self.node(parent, name, &path, &entry),
            Kind::Other(flag) => {
                let reason = format!("an entry of type {:?}", char::from(flag));
                self.skip(source, &path, entry.size, &reason)
            }
        }
    }

    /// Sets what waited for all entries to be there.
    pub(super) fn finish(&mut self) -> Result<(), ImageError> {
        let mut seen = HashSet::new();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        // What came last counts; and a directory's own mode may shut out from what is below it.
        for (path, metadata) in std::mem::take(&mut self.directories).into_iter().rev() {
            let fd = match self.tree.resolve(&path, flags) {
                Ok(fd) => fd,
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(self.tree.error("open", &path)(errno)),
            };
            let stat = fs::fstat(&fd).map_err(self.tree.error("read", &path))?;
            if seen.insert((stat.st_dev, stat.st_ino)) {
                self.writer
                    .directory(fd.as_fd(), &stat, &metadata)
                    .map_err(|(action, errno)| self.tree.error(action, &path)(errno))?;
                self.attributes(&Attributes::of_open(fd.as_fd(), &metadata.xattrs), &path)?;
            }
        }
        Ok(())
    }

    fn refused(&self, path: &[u8], problem: impl Into<String>) -> ImageError {
        ImageError::Refused { entry: String::from_utf8_lossy(path).into_owned(), problem: problem.into() }
    }

    fn damaged(&self, error: std::io::Error) -> ImageError {
        super::damaged(&error)
    }

    fn note(&mut self, path: &[u8], reason: impl Into<String>) {
        if self.skipped.len() < SKIPPED_TOLD {
            self.skipped.push(Skipped { path: String::from_utf8_lossy(path).into_owned(), reason: reason.into() });
        }
    }

    fn skip(&mut self, source: &mut Source<'_>, path: &[u8], size: u64, reason: &str) -> Result<(), ImageError> {
        self.note(path, reason);
        source.skip(size + tar::padding(size)).map_err(|error| self.damaged(error))
    }

    /// The directory an entry is made in; what is missing of it is made.
    fn parent(&mut self, path: &[u8]) -> Result<Rc<Directory>, ImageError> {
        match self.tree.directory(path) {
            Ok(directory) => return Ok(directory),
            Err(Errno::NOENT | Errno::NOTDIR) if !path.is_empty() => {}
            Err(errno) => return Err(self.tree.error("open", path)(errno)),
        }
        // From the top down; the depth of a path is bounded by its length.
        let ends = (0..path.len()).filter(|index| path[*index] == b'/').chain([path.len()]);
        for end in ends.collect::<Vec<_>>() {
            let here = &path[..end];
            match self.tree.directory(here) {
                Ok(_) => continue,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(self.tree.error("open", here)(errno)),
            }
            let (above, name) = split(here);
            let above = self.tree.directory(above).map_err(self.tree.error("open", above))?;
            match fs::mkdirat(&above.fd, c_name(name), Mode::RWXU) {
                Ok(()) => {}
                // It is a whiteout that the archive takes back, or a link that leads nowhere.
                Err(Errno::EXIST) => self.replace_whiteout(&above, name, here)?,
                Err(errno) => return Err(self.tree.error("create", here)(errno)),
            }
            let metadata = lowers::directory(&self.options.lowers, here).unwrap_or_else(Metadata::of_unnamed_directory);
            self.directories.push((here.to_vec(), metadata));
            self.remember(&above, name);
        }
        self.tree.directory(path).map_err(self.tree.error("open", path))
    }

    fn replace_whiteout(&mut self, above: &Directory, name: &[u8], path: &[u8]) -> Result<(), ImageError> {
        let stat = tree::look(above.fd.as_fd(), name).map_err(self.tree.error("read", path))?;
        if !stat.is_some_and(|stat| tree::is_whiteout(&stat)) {
            return Err(self.refused(path, "it is no directory, and an entry is to lie below it"));
        }
        self.make_room(above, name, path)?;
        fs::mkdirat(&above.fd, c_name(name), Mode::RWXU).map_err(self.tree.error("create", path))?;
        self.hide_below(path)
    }

    fn remember(&mut self, directory: &Directory, name: &[u8]) {
        if self.options.format == TreeFormat::Plain {
            self.own.insert((directory.inode, name.into()));
        }
    }

    /// Removes what an entry takes the place of.
    fn make_room(&mut self, parent: &Directory, name: &[u8], path: &[u8]) -> Result<(), ImageError> {
        let Some(stat) = tree::look(parent.fd.as_fd(), name).map_err(self.tree.error("read", path))? else {
            return Ok(());
        };
        // Paths through it lead elsewhere from now on.
        self.tree.forget();
        let removed = if tree::is_directory(&stat) {
            tree::remove_tree(parent.fd.as_fd(), name)
        } else {
            fs::unlinkat(&parent.fd, c_name(name), AtFlags::empty())
        };
        removed.map_err(self.tree.error("remove", path))
    }

    /// Makes something; if there is something already, it makes room first.
    fn make<T>(
        &mut self,
        parent: &Directory,
        name: &[u8],
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &CString) -> Outcome<T>,
    ) -> Result<T, ImageError> {
        let c_name = c_name(name);
        let made = match make(parent.fd.as_fd(), &c_name) {
            Err(Errno::EXIST) => {
                self.make_room(parent, name, path)?;
                make(parent.fd.as_fd(), &c_name)
            }
            made => made,
        };
        let made = made.map_err(self.tree.error("create", path))?;
        self.remember(parent, name);
        Ok(made)
    }

    fn directory(&mut self, parent: &[u8], name: &[u8], path: &[u8], entry: Entry) -> Result<(), ImageError> {
        let metadata = self.metadata(&entry, path)?;
        if !path.is_empty() {
            let above = self.parent(parent)?;
            match fs::mkdirat(&above.fd, c_name(name), Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => self.directory_over(&above, name, path)?,
                Err(errno) => return Err(self.tree.error("create", path)(errno)),
            }
            self.remember(&above, name);
        }
        self.directories.push((path.to_vec(), metadata));
        Ok(())
    }

    fn directory_over(&mut self, above: &Directory, name: &[u8], path: &[u8]) -> Result<(), ImageError> {
        let stat = tree::look(above.fd.as_fd(), name).map_err(self.tree.error("read", path))?;
        if stat.is_some_and(|stat| tree::is_directory(&stat)) {
            return Ok(());
        }
        self.make_room(above, name, path)?;
        fs::mkdirat(&above.fd, c_name(name), Mode::RWXU).map_err(self.tree.error("create", path))?;
        // The layer hid what is below before it made the directory.
        self.hide_below(path)
    }

    /// Whatever the layers below have in this directory is gone.
    fn hide_below(&mut self, path: &[u8]) -> Result<(), ImageError> {
        let TreeFormat::Overlay { user_xattr } = self.options.format else { return Ok(()) };
        let name = if user_xattr { c"user.overlay.opaque" } else { c"trusted.overlay.opaque" };
        let fd = self.tree.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(self.tree.error("open", path))?;
        fs::fsetxattr(&fd, name, b"y", fs::XattrFlags::empty()).map_err(self.tree.error("mark", path))
    }

    fn whiteout(&mut self, parent: &[u8], name: &[u8], path: &[u8]) -> Result<(), ImageError> {
        if name == OPAQUE {
            let directory = self.parent(parent)?;
            if self.options.format != TreeFormat::Plain {
                return self.hide_below(parent);
            }
            let own = &self.own;
            self.tree.forget();
            let mut stays = |inode, name: &[u8]| own.contains(&(inode, name.into()));
            return tree::empty_where(directory.fd.as_fd(), &mut stays).map_err(self.tree.error("empty", parent));
        }
        let hidden = &name[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(self.refused(path, "it is a whiteout of nothing that has a name"));
        }
        if hidden.starts_with(WHITEOUT) {
            self.note(path, "a file of AUFS");
            return Ok(());
        }
        match self.options.format {
            TreeFormat::Overlay { .. } => self.overlay_whiteout(parent, hidden, path),
            TreeFormat::Plain => self.remove_hidden(parent, hidden),
        }
    }

    /// Only what lies in layers below is hidden, never what this layer has.
    fn overlay_whiteout(&mut self, parent: &[u8], hidden: &[u8], path: &[u8]) -> Result<(), ImageError> {
        let directory = self.parent(parent)?;
        let hidden_path = join(parent, hidden);
        match tree::look(directory.fd.as_fd(), hidden).map_err(self.tree.error("read", &hidden_path))? {
            Some(stat) if tree::is_directory(&stat) => self.hide_below(&hidden_path),
            Some(_) => Ok(()),
            None => {
                let made = fs::mknodat(&directory.fd, c_name(hidden), FileType::CharacterDevice, Mode::empty(), 0);
                made.map_err(self.tree.error("create", path))
            }
        }
    }

    fn remove_hidden(&mut self, parent: &[u8], hidden: &[u8]) -> Result<(), ImageError> {
        let directory = match self.tree.directory(parent) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(self.tree.error("open", parent)(errno)),
        };
        let path = join(parent, hidden);
        let Some(stat) = tree::look(directory.fd.as_fd(), hidden).map_err(self.tree.error("read", &path))? else {
            return Ok(());
        };
        self.tree.forget();
        let own = &self.own;
        let mut stays = |inode, name: &[u8]| own.contains(&(inode, name.into()));
        let is_own = stays(directory.inode, hidden);
        let removed = if tree::is_directory(&stat) {
            tree::remove_where(directory.fd.as_fd(), hidden, is_own, &mut stays)
        } else if is_own {
            Ok(())
        } else {
            fs::unlinkat(&directory.fd, c_name(hidden), AtFlags::empty())
        };
        removed.map_err(self.tree.error("remove", &path))
    }

    fn file(
        &mut self,
        source: &mut Source<'_>,
        parent: &[u8],
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), ImageError> {
        let metadata = self.metadata(entry, path)?;
        let length = entry.sparse.as_ref().map_or(entry.size, |sparse| sparse.length);
        self.check_room(path, length, entry.size)?;
        let directory = self.parent(parent)?;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make(&directory, name, path, |at, name| fs::openat(at, name, flags, mode))?;
        let written = match &entry.sparse {
            None => copy(source, &fd, entry.size),
            Some(sparse) => copy_sparse(source, &fd, sparse),
        };
        written.and_then(|()| source.skip(tar::padding(entry.size))).map_err(|error| match error.raw_os_error() {
            Some(_) => ImageError::io("write", self.tree.name_of(path))(error),
            None => self.damaged(error),
        })?;
        self.bytes += entry.size;
        let set = self.writer.file(fd.as_fd(), &metadata, directory.group);
        set.map_err(|(action, errno)| self.tree.error(action, path)(errno))?;
        self.attributes(&Attributes::of_open(fd.as_fd(), &metadata.xattrs), path)?;
        // Attributes change no time, but the file was written after it was made.
        metadata::set_times(fd.as_fd(), metadata.mtime).map_err(self.tree.error("set the time of", path))
    }

    fn check_room(&mut self, path: &[u8], length: u64, size: u64) -> Result<(), ImageError> {
        let limits = &self.options.limits;
        if length > limits.file {
            return Err(self.refused(path, format!("it is {length} bytes long; {} are allowed", limits.file)));
        }
        if self.bytes.saturating_add(size) > limits.bytes {
            return Err(self.refused(path, format!("the layer's files have more than {} bytes", limits.bytes)));
        }
        if self.bytes + size >= self.bytes_until_asked {
            self.bytes_until_asked = self.bytes + size + ASK_AFTER;
            let found = fs::fstatvfs(self.tree.root()).map_err(self.tree.error("ask for the free space of", b""))?;
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            if free < size.saturating_add(limits.keep_free) {
                let entry = String::from_utf8_lossy(path).into_owned();
                return Err(ImageError::NoRoom { entry, size, free, stays: limits.keep_free });
            }
        }
        Ok(())
    }

    fn symlink(&mut self, parent: &[u8], name: &[u8], path: &[u8], entry: &Entry) -> Result<(), ImageError> {
        let metadata = self.metadata(entry, path)?;
        let directory = self.parent(parent)?;
        let target = c_name(&entry.link);
        self.make(&directory, name, path, |at, name| fs::symlinkat(&target, at, name))?;
        self.node_metadata(&directory, name, path, &metadata, false)
    }

    fn node_metadata(
        &mut self,
        directory: &Directory,
        name: &[u8],
        path: &[u8],
        metadata: &Metadata,
        has_mode: bool,
    ) -> Result<(), ImageError> {
        let set = self.writer.node(directory.fd.as_fd(), &c_name(name), metadata, directory.group, has_mode);
        set.map_err(|(action, errno)| self.tree.error(action, path)(errno))?;
        if metadata.xattrs.iter().any(|(name, _)| metadata::is_wanted(name)) {
            self.note(path, "attributes of something that is no file and no directory");
        }
        Ok(())
    }

    fn hard_link(&mut self, parent: &[u8], name: &[u8], path: &[u8], entry: &Entry) -> Result<(), ImageError> {
        let target = clean(&entry.link).map_err(|problem| self.refused(path, format!("its target {problem}")))?;
        if target.is_empty() {
            return Err(self.refused(path, "it is a hard link to a directory"));
        }
        let directory = self.parent(parent)?;
        let (from, from_name) = self.link_source(&target, path)?;
        let (c_from, c_to) = (c_name(&from_name), c_name(name));
        let link = || fs::linkat(&from.fd, &c_from, &directory.fd, &c_to, AtFlags::empty());
        let linked = match link() {
            Err(Errno::EXIST) => {
                let same =
                    |stat: &fs::Stat, other: &fs::Stat| (stat.st_dev, stat.st_ino) == (other.st_dev, other.st_ino);
                let there = tree::look(directory.fd.as_fd(), name).map_err(self.tree.error("read", path))?;
                let source = tree::look(from.fd.as_fd(), &from_name).map_err(self.tree.error("read", &target))?;
                if there.zip(source).is_some_and(|(there, source)| same(&there, &source)) {
                    return Ok(());
                }
                self.make_room(&directory, name, path)?;
                link()
            }
            linked => linked,
        };
        linked.map_err(self.tree.error("link", path))?;
        self.remember(&directory, name);
        Ok(())
    }

    /// The directory and the name of what is linked to: something that is no directory, of this layer or copied up from below.
    fn link_source(&mut self, target: &[u8], path: &[u8]) -> Result<(Rc<Directory>, Vec<u8>), ImageError> {
        let (parent, name) = split(target);
        let there = match self.tree.directory(parent) {
            Ok(directory) => {
                let stat = tree::look(directory.fd.as_fd(), name).map_err(self.tree.error("read", target))?;
                stat.map(|stat| (directory, stat))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => None,
            Err(errno) => return Err(self.tree.error("open", parent)(errno)),
        };
        let missing = format!("it is a hard link to `{}`, which is not there", String::from_utf8_lossy(target));
        match there {
            Some((_, stat)) if tree::is_directory(&stat) => Err(self.refused(path, "it is a hard link to a directory")),
            Some((_, stat)) if tree::is_whiteout(&stat) => Err(self.refused(path, missing)),
            Some((directory, _)) => Ok((directory, name.to_vec())),
            None => {
                let Some(found) = lowers::file(&self.options.lowers, target) else {
                    return Err(self.refused(path, missing));
                };
                let directory = self.parent(parent)?;
                self.copy_up(&directory, name, target, &found)?;
                Ok((directory, name.to_vec()))
            }
        }
    }

    fn copy_up(
        &mut self,
        directory: &Directory,
        name: &[u8],
        path: &[u8],
        found: &lowers::Found,
    ) -> Result<(), ImageError> {
        if let Some(target) = &found.link {
            self.make(directory, name, path, |at, name| fs::symlinkat(target, at, name))?;
            return self.node_metadata(directory, name, path, &found.metadata, false);
        }
        self.check_room(path, found.length, found.length)?;
        let mode = Mode::from_raw_mode(found.metadata.mode & 0o777);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.make(directory, name, path, |at, name| fs::openat(at, name, flags, mode))?;
        let (mut from, mut to) = (std::fs::File::from(found.open()?), std::fs::File::from(fd));
        self.bytes += std::io::copy(&mut from, &mut to).map_err(ImageError::io("write", self.tree.name_of(path)))?;
        let set = self.writer.file(to.as_fd(), &found.metadata, directory.group);
        set.map_err(|(action, errno)| self.tree.error(action, path)(errno))?;
        self.attributes(&Attributes::of_open(to.as_fd(), &found.metadata.xattrs), path)?;
        metadata::set_times(to.as_fd(), found.metadata.mtime).map_err(self.tree.error("set the time of", path))
    }

    fn node(&mut self, parent: &[u8], name: &[u8], path: &[u8], entry: &Entry) -> Result<(), ImageError> {
        let kind = match entry.kind {
            Kind::Fifo => FileType::Fifo,
            Kind::Block => FileType::BlockDevice,
            _ => FileType::CharacterDevice,
        };
        if kind == FileType::CharacterDevice && entry.device == (0, 0) {
            return Err(self.refused(path, "it is a device 0:0, which an overlay takes for a file that is gone"));
        }
        let is_wanted = match self.options.devices {
            Devices::Skip => false,
            Devices::Known => kind == FileType::CharacterDevice && is_known(entry.device),
            Devices::All => true,
        };
        if kind != FileType::Fifo && !is_wanted {
            self.note(path, "a device");
            return Ok(());
        }
        let metadata = self.metadata(entry, path)?;
        let directory = self.parent(parent)?;
        let device = match entry.device {
            _ if kind == FileType::Fifo => 0,
            (major, minor) => fs::makedev(u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)),
        };
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let made = self.make(&directory, name, path, |at, name| match fs::mknodat(at, name, kind, mode, device) {
            // No privilege for devices; a machine has a /dev of its own.
            Err(Errno::PERM) if kind != FileType::Fifo => Ok(false),
            other => other.map(|()| true),
        })?;
        if !made {
            self.note(path, "a device");
            return Ok(());
        }
        self.node_metadata(&directory, name, path, &metadata, true)
    }

    fn attributes(&mut self, attributes: &Attributes<'_>, path: &[u8]) -> Result<(), ImageError> {
        for name in attributes.set().map_err(self.tree.error("set attributes of", path))? {
            self.note(path, format!("the attribute {}", String::from_utf8_lossy(name)));
        }
        Ok(())
    }

    fn metadata(&self, entry: &Entry, path: &[u8]) -> Result<Metadata, ImageError> {
        // The largest number means "leave it" to the kernel.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let (Some(uid), Some(gid)) = (id(entry.uid), id(entry.gid)) else {
            return Err(self.refused(path, format!("its owner {}:{} is no owner", entry.uid, entry.gid)));
        };
        Ok(Metadata { mode: entry.mode, uid, gid, mtime: entry.mtime, xattrs: entry.xattrs.clone() })
    }
}

/// A path below the root: without `.`, empty parts and leading slashes; the root's is empty.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, String> {
    let mut clean = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("leads out of its directory with `..`".to_owned()),
            _ if part.len() > LONGEST_NAME => return Err(format!("has a part of more than {LONGEST_NAME} bytes")),
            _ if part.contains(&0) => return Err("holds a NUL".to_owned()),
            _ => {}
        }
        if !clean.is_empty() {
            clean.push(b'/');
        }
        clean.extend_from_slice(part);
    }
    if clean.len() > LONGEST_PATH { Err(format!("has more than {LONGEST_PATH} bytes")) } else { Ok(clean) }
}

fn check_link(entry: &Entry) -> Result<(), String> {
    match entry.link.len() {
        0 => Err("it is a link to nothing".to_owned()),
        length if length > LONGEST_PATH => Err(format!("its target has more than {LONGEST_PATH} bytes")),
        _ => Ok(()),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Cleaned names and texts from headers hold no NUL: they were cut at the first.
fn c_name(name: &[u8]) -> CString {
    CString::new(name).unwrap_or_default()
}

/// `null`, `zero`, `full`, `random`, `urandom`, `tty`, `console`, `ptmx`.
fn is_known(device: (u64, u64)) -> bool {
    matches!(device, (1, 3 | 5 | 7 | 8 | 9) | (5, 0..=2))
}

fn copy(source: &mut Source<'_>, fd: &OwnedFd, mut left: u64) -> std::io::Result<()> {
    while left > 0 {
        let mut part = source.take(left)?;
        if part.is_empty() {
            return Err(truncated());
        }
        left -= part.len() as u64;
        while !part.is_empty() {
            let written = rustix::io::write(fd, part)?;
            part = &part[written..];
        }
    }
    Ok(())
}

/// Holes are made by leaving them out, not by writing zeros.
fn copy_sparse(source: &mut Source<'_>, fd: &OwnedFd, sparse: &Sparse) -> std::io::Result<()> {
    fs::ftruncate(fd, sparse.length)?;
    for Segment { offset, length } in &sparse.segments {
        fs::seek(fd, fs::SeekFrom::Start(*offset))?;
        copy(source, fd, *length)?;
    }
    Ok(())
}
