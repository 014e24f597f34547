//! A file or directory of a guest as an archive: downloads.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use tar::{Builder, EntryType, Header};

use crate::error::{SandboxError, Trying};

/// Packs what is at a path, under its last name (the content alone for `/`); a link is packed as a link. Tells how many entries
/// there were.
pub(super) fn pack(from: &Path, archive: impl Write) -> Result<u64, SandboxError> {
    let metadata = match fs::symlink_metadata(from) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(SandboxError::NotFound(from.display().to_string()));
        }
        Err(error) => return Err(SandboxError::system(format!("look at {}", from.display()), error)),
    };
    let mut packing =
        Packing { archive: Builder::new(archive), linked: HashMap::new(), device: metadata.dev(), count: 0 };
    let name = from.file_name().unwrap_or(OsStr::new("."));
    packing.tree(from, Path::new(name), &metadata).trying(&format!("read {}", from.display()))?;
    let mut archive = packing.archive.into_inner().trying("write the archive")?;
    archive.flush().trying("write the archive")?;
    Ok(packing.count)
}

struct Packing<W: Write> {
    archive: Builder<W>,
    /// Files with several names, and the first of these.
    linked: HashMap<(u64, u64), PathBuf>,
    /// Where it began: /proc and the like are not followed into.
    device: u64,
    count: u64,
}

impl<W: Write> Packing<W> {
    /// Directories deeper than the stack may be: the list of what is to come is ours.
    fn tree(&mut self, from: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        self.entry(from, name, metadata)?;
        if !metadata.is_dir() {
            return Ok(());
        }
        let mut pending = vec![(from.to_owned(), name.to_owned())];
        while let Some((directory, name)) = pending.pop() {
            for child in sorted(&directory)? {
                let (path, name) = (directory.join(&child), name.join(&child));
                // What has gone since it was listed was never there.
                let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
                self.entry(&path, &name, &metadata)?;
                if metadata.is_dir() && metadata.dev() == self.device {
                    pending.push((path, name));
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(u64::from(metadata.uid()));
        header.set_gid(u64::from(metadata.gid()));
        header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
        header.set_size(0);
        let kind = metadata.file_type();
        if metadata.nlink() > 1 && !kind.is_dir() {
            let file = (metadata.dev(), metadata.ino());
            if let Some(first) = self.linked.get(&file) {
                header.set_entry_type(EntryType::Link);
                self.count += 1;
                return self.archive.append_link(&mut header, name, first);
            }
            self.linked.insert(file, name.to_owned());
        }
        if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            let Ok(target) = fs::read_link(path) else { return Ok(()) };
            self.archive.append_link(&mut header, name, target)?;
        } else if kind.is_file() {
            let Some(file) = open(path)? else { return Ok(()) };
            header.set_entry_type(EntryType::Regular);
            header.set_size(metadata.len());
            self.archive.append_data(&mut header, name, Exactly { file, left: metadata.len() })?;
        } else {
            header.set_entry_type(match () {
                () if kind.is_dir() => EntryType::Directory,
                () if kind.is_fifo() => EntryType::Fifo,
                () if kind.is_char_device() => EntryType::Char,
                () if kind.is_block_device() => EntryType::Block,
                // A socket is nothing without who listens.
                () => return Ok(()),
            });
            if kind.is_char_device() || kind.is_block_device() {
                header.set_device_major(rustix::fs::major(metadata.rdev()))?;
                header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
            }
            self.archive.append_data(&mut header, name, io::empty())?;
        }
        self.count += 1;
        Ok(())
    }
}

fn sorted(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<OsString>>>()?;
    names.sort();
    Ok(names)
}

/// A file whose kind may have changed since it was looked at: a pipe must not hold us up. `None`: it has gone.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file.into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// As many bytes as the header promised: a file that shrinks is filled up with zeroes, one that grows is cut.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let mut count = self.file.read(&mut buffer[..room])?;
        if count == 0 {
            buffer[..room].fill(0);
            count = room;
        }
        self.left -= count as u64;
        Ok(count)
    }
}
