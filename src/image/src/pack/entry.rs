//! What a file system says of one entry.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

/// One entry's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) kind: FileType,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: (i64, u32),
    pub(crate) ctime: (i64, u32),
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) links: u64,
    /// Of a device node.
    pub(crate) node: u64,
}

impl Meta {
    /// Of a path below a directory; links are not followed. `None` where nothing is there.
    pub(crate) fn look(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<Meta>> {
        match rustix::fs::statat(root, or_dot(path), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Meta::from(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Overlayfs marks what is removed by a character device 0:0.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind == FileType::CharacterDevice && self.node == 0
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }
}

impl From<&Stat> for Meta {
    #[allow(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    fn from(stat: &Stat) -> Meta {
        Meta {
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size as u64,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            node: stat.st_rdev as u64,
        }
    }
}

/// The empty path is the root.
pub(crate) fn or_dot(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"." } else { path }
}

/// Extended attributes of one entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Those that belong to the image, by name.
    pub(crate) kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Overlayfs shows nothing of the layers below it.
    pub(crate) is_opaque: bool,
    /// Overlayfs takes its content, or its name, from elsewhere (`redirect`, `metacopy`).
    pub(crate) is_redirected: bool,
}

/// Where overlayfs keeps its marks.
pub(crate) fn overlay_prefix(user_xattr: bool) -> &'static [u8] {
    if user_xattr { b"user.overlay." } else { b"trusted.overlay." }
}

impl Attributes {
    /// Of an open file. `user.*` and file capabilities belong to the image; marks of overlayfs, labels of the host's security
    /// modules, and what only a host's root may set do not.
    pub(crate) fn read(file: impl AsFd, overlay: &[u8]) -> io::Result<Attributes> {
        let file = file.as_fd();
        let mut space = [0u8; 1024];
        let mut large = Vec::new();
        let names = match rustix::fs::flistxattr(file, &mut space[..]) {
            Ok(size) => &space[..size],
            Err(Errno::RANGE) => {
                large = vec![0; 65536];
                let size = rustix::fs::flistxattr(file, &mut large[..])?;
                &large[..size]
            }
            Err(Errno::NOTSUP) => &[],
            Err(error) => return Err(error.into()),
        };
        let mut found = Attributes::default();
        for name in names.split_inclusive(|byte| *byte == 0) {
            found.add(file, name, overlay)?;
        }
        drop(large);
        found.kept.sort();
        Ok(found)
    }

    fn add(&mut self, file: BorrowedFd<'_>, name: &[u8], overlay: &[u8]) -> io::Result<()> {
        let Ok(c_name) = CStr::from_bytes_with_nul(name) else { return Ok(()) };
        let name = c_name.to_bytes();
        match name.strip_prefix(overlay) {
            Some(b"opaque") => self.is_opaque = read_attribute(file, c_name)? == b"y",
            Some(b"redirect" | b"metacopy") => self.is_redirected = true,
            _ if is_kept(name) => self.kept.push((name.to_vec(), read_attribute(file, c_name)?)),
            _ => {}
        }
        Ok(())
    }
}

fn is_kept(name: &[u8]) -> bool {
    let is_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    // PAX has no way to say a `=` in a name.
    (is_user || name == b"security.capability") && !name.contains(&b'=')
}

fn read_attribute(file: BorrowedFd<'_>, name: &CStr) -> io::Result<Vec<u8>> {
    let mut value = vec![0; 256];
    loop {
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(size) => {
                value.truncate(size);
                return Ok(value);
            }
            // 64 KiB is the kernel's limit.
            Err(Errno::RANGE) if value.len() < 65536 => value.resize(65536, 0),
            Err(error) => return Err(error.into()),
        }
    }
}
