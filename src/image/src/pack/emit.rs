//! Writes entries of a layer.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};

use super::entry::{Attributes, Meta, overlay_prefix};
use super::header::{self, Header};
use super::needles::Needles;
use super::{FoundSecret, PackSettings, Packed};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::unpack::Skipped;

/// Content is read in pieces of this size.
const PIECE: usize = 256 * 1024;

/// A directory whose entry may turn out to say nothing new.
struct Pending {
    /// Of its path, which all that comes below it starts with.
    length: usize,
    meta: Meta,
    attributes: Attributes,
}

/// Writes a tar archive of what it is told, in that order.
pub(crate) struct Emitter<'a> {
    out: &'a mut dyn Write,
    timestamp: Option<i64>,
    overlay: &'static [u8],
    needles: Option<Needles>,
    content: Option<Sha256>,
    /// Directories above the present place that are not written yet.
    pending: Vec<Pending>,
    /// The first path of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Blocks on their way.
    blocks: Vec<u8>,
    piece: Vec<u8>,
    packed: Packed,
}

impl<'a> Emitter<'a> {
    pub(crate) fn new(settings: &PackSettings, out: &'a mut dyn Write) -> Result<Emitter<'a>, ImageError> {
        Ok(Emitter {
            out,
            timestamp: settings.timestamp,
            overlay: overlay_prefix(settings.user_xattr),
            needles: Needles::new(&settings.needles)?,
            content: settings.content.then(Sha256::new),
            pending: Vec::new(),
            links: HashMap::new(),
            blocks: Vec::new(),
            piece: vec![0; PIECE],
            packed: Packed::default(),
        })
    }

    /// A directory begins. It is written when something below it is, or by [`Emitter::write_pending`].
    pub(crate) fn enter(&mut self, path: &[u8], meta: Meta, attributes: Attributes) {
        self.pending.push(Pending { length: path.len(), meta, attributes });
    }

    /// The directory whose entries all came: whether it is still unwritten.
    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// What is known of that directory.
    pub(crate) fn last_pending(&self) -> Option<(&Meta, &Attributes)> {
        self.pending.last().map(|pending| (&pending.meta, &pending.attributes))
    }

    /// That directory says nothing new.
    pub(crate) fn forget(&mut self) {
        self.pending.pop();
    }

    /// Writes the directories down to this path.
    pub(crate) fn write_pending(&mut self, path: &[u8]) -> Result<(), ImageError> {
        for Pending { length, meta, attributes } in std::mem::take(&mut self.pending) {
            let mut name = if length == 0 { b".".to_vec() } else { path[..length].to_vec() };
            name.push(b'/');
            self.start(b'5', &name, &meta, 0, &[], &attributes)?;
            self.send()?;
        }
        Ok(())
    }

    /// What the layers below have here is gone.
    pub(crate) fn whiteout(&mut self, path: &[u8]) -> Result<(), ImageError> {
        self.write_pending(path)?;
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = [&path[..start], b".wh.", &path[start..]].concat();
        // No time of its own: it says that something is not there.
        let header = Header {
            path: &name,
            kind: b'0',
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            link: &[],
            device: (0, 0),
            attributes: &[],
        };
        header.encode(&mut self.blocks);
        self.packed.entries += 1;
        if let Some(content) = &mut self.content {
            hash_field(content, b"whiteout");
            hash_field(content, path);
        }
        self.send()
    }

    /// Anything but a directory. `Ok(false)`: it cannot be in a layer.
    pub(crate) fn other(&mut self, root: BorrowedFd<'_>, path: &[u8], meta: &Meta) -> Result<bool, ImageError> {
        let kind = match meta.kind {
            FileType::RegularFile => b'0',
            FileType::Symlink => b'2',
            FileType::CharacterDevice if meta.is_whiteout() => {
                return self.skip(path, "a device 0:0, which would remove a file,");
            }
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            FileType::Socket => return self.skip(path, "a socket"),
            _ => return self.skip(path, "of an unknown type"),
        };
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        if name.starts_with(b".wh.") {
            // It stays where it is, and that may be a kept state.
            self.look_into(root, path, meta)?;
            return self.skip(path, "named as if it removed a file");
        }
        self.write_pending(path)?;
        if meta.links > 1 {
            if let Some(first) = self.links.get(&(meta.device, meta.inode)) {
                let first = first.clone();
                self.start(b'1', path, meta, 0, &first, &Attributes::default())?;
                return self.send().map(|()| true);
            }
            self.links.insert((meta.device, meta.inode), path.to_vec());
        }
        match kind {
            b'0' => self.file(root, path, meta)?,
            b'2' => {
                let target = rustix::fs::readlinkat(root, path, Vec::new()).map_err(failed("read", path))?;
                self.start(kind, path, meta, 0, target.as_bytes(), &Attributes::default())?;
            }
            _ => self.start(kind, path, meta, 0, &[], &Attributes::default())?,
        }
        self.send().map(|()| true)
    }

    fn file(&mut self, root: BorrowedFd<'_>, path: &[u8], meta: &Meta) -> Result<(), ImageError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = rustix::fs::openat(root, path, flags, Mode::empty()).map_err(failed("read", path))?;
        let attributes = Attributes::read(&file, self.overlay).map_err(|error| failed("read", path)(error))?;
        if attributes.is_redirected {
            return Err(redirected(path));
        }
        self.start(b'0', path, meta, meta.size, &[], &attributes)?;
        self.send()?;
        self.copy(&mut std::fs::File::from(file), path, meta.size)?;
        header::pad(meta.size, &mut self.blocks);
        Ok(())
    }

    fn copy(&mut self, file: &mut std::fs::File, path: &[u8], size: u64) -> Result<(), ImageError> {
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let read = match file.read(&mut self.piece[..most]) {
                Ok(0) => return Err(failed("read", path)(io::Error::other("it became shorter while it was read"))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(failed("read", path))?,
            };
            let piece = &self.piece[..read];
            self.out.write_all(piece).map_err(ImageError::io("write", "the layer"))?;
            if let Some(needles) = &mut self.needles {
                needles.push(piece);
            }
            if let Some(content) = &mut self.content {
                content.update(piece);
            }
            left -= read as u64;
        }
        self.packed.bytes += size;
        self.note_secrets(path);
        Ok(())
    }

    /// An entry's header.
    fn start(
        &mut self,
        kind: u8,
        path: &[u8],
        meta: &Meta,
        size: u64,
        link: &[u8],
        attributes: &Attributes,
    ) -> Result<(), ImageError> {
        if let Some(content) = &mut self.content {
            hash_entry(content, kind, path, meta, size, link, attributes);
        }
        self.look_for_secrets(path, link, attributes);
        let mtime = self.timestamp.map_or(meta.mtime.0, |latest| meta.mtime.0.min(latest));
        let newest = if self.packed.entries == 0 { mtime } else { self.packed.newest_mtime.max(mtime) };
        self.packed.newest_mtime = newest;
        self.packed.entries += 1;
        let device = match kind {
            b'3' | b'4' => (rustix::fs::major(meta.node), rustix::fs::minor(meta.node)),
            _ => (0, 0),
        };
        let (uid, gid, attributes) = (meta.uid, meta.gid, attributes.kept.as_slice());
        let header = Header { path, kind, mode: meta.mode, uid, gid, size, mtime, link, device, attributes };
        header.encode(&mut self.blocks);
        Ok(())
    }

    fn look_for_secrets(&mut self, path: &[u8], link: &[u8], attributes: &Attributes) {
        let Some(needles) = &mut self.needles else { return };
        needles.push(path);
        let mut found = needles.finish();
        needles.push(link);
        found.extend(needles.finish());
        for part in attributes.kept.iter().flat_map(|(name, value)| [name, value]) {
            needles.push(part);
            found.extend(needles.finish());
        }
        self.add_found(path, found);
    }

    /// Looks for secrets in what is left out.
    fn look_into(&mut self, root: BorrowedFd<'_>, path: &[u8], meta: &Meta) -> Result<(), ImageError> {
        if self.needles.is_none() {
            return Ok(());
        }
        let link = match meta.kind {
            FileType::Symlink => {
                rustix::fs::readlinkat(root, path, Vec::new()).map_err(failed("read", path))?.into_bytes()
            }
            _ => Vec::new(),
        };
        self.look_for_secrets(path, &link, &Attributes::default());
        if meta.kind == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::openat(root, path, flags, Mode::empty()).map_err(failed("read", path))?;
            let mut file = std::fs::File::from(file);
            loop {
                match file.read(&mut self.piece) {
                    Ok(0) => break,
                    Ok(read) => self.needles.iter_mut().for_each(|needles| needles.push(&self.piece[..read])),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(failed("read", path)(error)),
                }
            }
            self.note_secrets(path);
        }
        Ok(())
    }

    fn note_secrets(&mut self, path: &[u8]) {
        if let Some(needles) = &mut self.needles {
            let found = needles.finish();
            self.add_found(path, found);
        }
    }

    fn add_found(&mut self, path: &[u8], needles: Vec<usize>) {
        for needle in needles {
            let secret = FoundSecret { path: String::from_utf8_lossy(path).into_owned(), needle };
            if !self.packed.found.contains(&secret) {
                self.packed.found.push(secret);
            }
        }
    }

    fn skip(&mut self, path: &[u8], reason: &str) -> Result<bool, ImageError> {
        if self.packed.skipped.len() < 1000 {
            let path = String::from_utf8_lossy(path).into_owned();
            self.packed.skipped.push(Skipped { path, reason: reason.to_owned() });
        }
        Ok(false)
    }

    fn send(&mut self) -> Result<(), ImageError> {
        self.out.write_all(&self.blocks).map_err(ImageError::io("write", "the layer"))?;
        self.blocks.clear();
        Ok(())
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Result<Packed, ImageError> {
        self.blocks.resize(2 * header::BLOCK, 0);
        self.send()?;
        self.packed.content = self.content.map(|hash| Digest::from_hash(hash.finalize().into()));
        Ok(self.packed)
    }
}

/// All but the time: a state that was made again an hour later is the same.
fn hash_entry(hash: &mut Sha256, kind: u8, path: &[u8], meta: &Meta, size: u64, link: &[u8], attributes: &Attributes) {
    hash_field(hash, &[kind]);
    hash_field(hash, path);
    for number in [u64::from(meta.mode), u64::from(meta.uid), u64::from(meta.gid), meta.node, size] {
        hash.update(number.to_be_bytes());
    }
    hash_field(hash, link);
    hash.update((attributes.kept.len() as u64).to_be_bytes());
    for (name, value) in &attributes.kept {
        hash_field(hash, name);
        hash_field(hash, value);
    }
}

fn hash_field(hash: &mut Sha256, field: &[u8]) {
    hash.update((field.len() as u64).to_be_bytes());
    hash.update(field);
}

/// For `map_err` on a call about an entry.
pub(crate) fn failed<E: Into<io::Error>>(action: &'static str, path: &[u8]) -> impl Fn(E) -> ImageError {
    let path = PathBuf::from(String::from_utf8_lossy(path).into_owned());
    move |error| ImageError::Io { action, path: path.clone(), source: error.into() }
}

/// Content that lies elsewhere is never packed: a mark that says so was not made by a mount of kiln's.
pub(crate) fn redirected(path: &[u8]) -> ImageError {
    let what = format!("{} in a layer", String::from_utf8_lossy(path));
    ImageError::Malformed { what, problem: "it has a mark of overlayfs that points elsewhere".to_owned() }
}
