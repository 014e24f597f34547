//! Random changes of a tree, the same for the same seed.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// Few names, so that changes meet; one needs a PAX header, one is no text.
const NAMES: [&[u8]; 7] = [b"a", b"b", b"c", b"d", "\u{fc}".as_bytes(), b"\xff\xfe", &[b'n'; 120]];

/// Numbers that look random (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

fn place(random: &mut Random, root: &Path) -> PathBuf {
    let mut path = root.to_owned();
    for _ in 0..=random.below(3) {
        let name = NAMES[random.below(NAMES.len() as u64) as usize];
        path.push(std::ffi::OsString::from_vec(name.to_vec()));
    }
    path
}

/// Makes some changes. What cannot be done (no such directory, a name that is taken) is not: the trees are compared, not the
/// calls. Tells what worked.
pub(crate) fn change(random: &mut Random, root: &Path, count: u64) -> Vec<String> {
    let mut log = Vec::new();
    for _ in 0..count {
        let (path, other, kind) = (place(random, root), place(random, root), random.below(22));
        // A link on the way would lead out of the tree.
        let parent = path.parent().unwrap();
        let is_inside = parent.canonicalize().is_ok_and(|real| real == parent) || !parent.exists();
        if is_inside && one(random, kind, &path, &other).is_ok() {
            let short =
                |path: &Path| path.strip_prefix(root).unwrap_or(path).to_string_lossy().replace("nnnnnnnnnn", "");
            log.push(format!("{kind} {} {}", short(&path), short(&other)));
        }
    }
    log
}

fn one(random: &mut Random, kind: u64, path: &Path, other: &Path) -> std::io::Result<()> {
    let number = random.next();
    let is_link = path.is_symlink();
    match kind {
        0 | 1 => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            // Neither through a link nor into a device or a fifo.
            let is_free = path.symlink_metadata().map_or(true, |metadata| metadata.is_file());
            if is_free { fs::write(path, content(random)) } else { Ok(()) }
        }
        2..=4 => fs::create_dir_all(path),
        5 => fs::remove_file(path),
        6 | 7 => fs::remove_dir_all(path),
        // A directory that is new hides the old one's content.
        8 => fs::remove_dir_all(path).and_then(|()| fs::create_dir(path)),
        9 => fs::remove_dir_all(path).and_then(|()| fs::write(path, content(random))),
        10 => fs::remove_file(path).and_then(|()| fs::create_dir(path)),
        11 | 12 => fs::rename(path, other),
        13 => fs::hard_link(path, other),
        14 => std::os::unix::fs::symlink(if number.is_multiple_of(2) { "/etc/passwd" } else { "a/b" }, path),
        15 if !is_link => {
            Ok(rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(number as u32 & 0o7777), AtFlags::empty())?)
        }
        16 => {
            // One beyond what a tar header holds.
            let ids = [0, 1, 1000, 65534, 3_000_000];
            let (uid, gid) = (ids[random.below(5) as usize], ids[random.below(5) as usize]);
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            Ok(rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        17 => {
            let seconds = [0, 1, 1_700_000_000, -5, 9_000_000_000][random.below(5) as usize];
            let time = Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
            let times = Timestamps { last_access: time, last_modification: time };
            Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
        }
        // No newline in it: the reader of archives in `apply` stumbles over one.
        18 if !is_link => Ok(rustix::fs::lsetxattr(
            path,
            "user.kiln",
            &(number | 0x80_8080_8080).to_le_bytes()[..5],
            XattrFlags::empty(),
        )?),
        // Only a program can have one that means something.
        19 if path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) => {
            // CAP_NET_RAW, permitted and effective; version 2.
            let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            Ok(rustix::fs::lsetxattr(path, "security.capability", &capability, XattrFlags::empty())?)
        }
        20 => match number % 4 {
            0 => Ok(rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0)?),
            1 => Ok(rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3))?),
            2 => Ok(rustix::fs::mknodat(CWD, path, FileType::BlockDevice, Mode::RUSR, rustix::fs::makedev(7, 300))?),
            _ => socket(path),
        },
        21 if !is_link => append(path, &content(random)),
        _ => Ok(()),
    }
}

/// A socket's address is short: the directory is named by its number, and the socket moved.
fn socket(path: &Path) -> std::io::Result<()> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Ok(()) };
    // A fifo would wait for its writer.
    let parent = if parent.is_dir() { fs::File::open(parent)? } else { return Ok(()) };
    use std::os::fd::AsRawFd;
    let short = Path::new("/proc/self/fd").join(parent.as_raw_fd().to_string()).join("s");
    drop(UnixListener::bind(&short)?);
    fs::rename(short, path.with_file_name(name))
}

fn append(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    if !path.symlink_metadata()?.is_file() {
        return Ok(());
    }
    fs::File::options().append(true).open(path)?.write_all(bytes)
}

fn content(random: &mut Random) -> Vec<u8> {
    let sizes = [0, 1, 511, 512, 513, 3000, 300_000];
    let size = sizes[random.below(sizes.len() as u64) as usize];
    let byte = random.next() as u8;
    vec![byte; size]
}
