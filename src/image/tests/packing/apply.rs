//! Applies a layer to a directory, with another's reader of archives and the rules of the OCI image specification alone.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

/// Applies the archive in order; whiteouts first remove what was there before.
pub(crate) fn apply(tar: &[u8], root: &Path) {
    let mut directories = BTreeMap::new();
    let mut archive = tar::Archive::new(tar);
    let mut before = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&entry.path_bytes()));
        // A slash at its end would follow a link.
        let path: PathBuf = path.components().collect();
        assert!(path.is_relative() && !path.to_string_lossy().contains(".."), "{path:?}");
        assert!(before < order(&path), "entries are not sorted: {path:?}");
        before = order(&path);
        let target = root.join(&path);
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        if let Some(removed) = name.strip_prefix(b".wh.") {
            let removed = target.with_file_name(std::ffi::OsStr::from_bytes(removed));
            assert!(removed.symlink_metadata().is_ok(), "a whiteout removes nothing: {removed:?}");
            remove(&removed);
            continue;
        }
        make(&mut entry, &path, &target, root);
        if entry.header().entry_type().is_dir() {
            directories.insert(target, seconds(&mut entry));
        }
    }
    // Their times change while they are filled.
    for (directory, mtime) in directories {
        set_time(&directory, mtime);
    }
}

/// Sorted name by name; a directory is before what is in it.
fn order(path: &Path) -> Vec<Vec<u8>> {
    let names = path.components().filter(|part| *part != std::path::Component::CurDir);
    let plain = |name: &[u8]| name.strip_prefix(b".wh.").unwrap_or(name).to_vec();
    std::iter::once(Vec::new()).chain(names.map(|part| plain(part.as_os_str().as_bytes()))).collect()
}

fn make<R: Read>(entry: &mut tar::Entry<'_, R>, path: &Path, target: &Path, root: &Path) {
    let kind = entry.header().entry_type();
    let is_directory = target.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    if !(kind.is_dir() && is_directory) {
        remove(target);
    }
    let link = entry.link_name_bytes().map(|link| PathBuf::from(std::ffi::OsStr::from_bytes(&link)));
    let mode = Mode::from_raw_mode(entry.header().mode().unwrap());
    let node = |kind, device| rustix::fs::mknodat(CWD, target, kind, Mode::RUSR, device).unwrap();
    match kind {
        tar::EntryType::Directory if is_directory => {}
        tar::EntryType::Directory => fs::create_dir(target).unwrap(),
        tar::EntryType::Regular => {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            fs::write(target, content).unwrap();
        }
        tar::EntryType::Symlink => std::os::unix::fs::symlink(link.unwrap(), target).unwrap(),
        tar::EntryType::Link => return fs::hard_link(root.join(link.unwrap()), target).unwrap(),
        tar::EntryType::Fifo => node(FileType::Fifo, 0),
        tar::EntryType::Char => node(FileType::CharacterDevice, device(entry.header())),
        tar::EntryType::Block => node(FileType::BlockDevice, device(entry.header())),
        other => panic!("{path:?} is {other:?}"),
    }
    let (uid, gid) = (entry.header().uid().unwrap() as u32, entry.header().gid().unwrap() as u32);
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    rustix::fs::chownat(CWD, target, uid, gid, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    if !kind.is_symlink() {
        rustix::fs::chmodat(CWD, target, mode, AtFlags::empty()).unwrap();
    }
    set_attributes(entry, target);
    let mtime = seconds(entry);
    set_time(target, mtime);
}

fn set_attributes<R: Read>(entry: &mut tar::Entry<'_, R>, target: &Path) {
    // An existing directory's are replaced.
    let mut names = [0u8; 4096];
    let size = rustix::fs::llistxattr(target, &mut names[..]).unwrap();
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let _ = rustix::fs::lremovexattr(target, name);
    }
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
            rustix::fs::lsetxattr(target, name, extension.value_bytes(), XattrFlags::empty()).unwrap();
        }
    }
}

fn seconds<R: Read>(entry: &mut tar::Entry<'_, R>) -> i64 {
    for extension in entry.pax_extensions().unwrap().into_iter().flatten() {
        let extension = extension.unwrap();
        if extension.key() == Ok("mtime") {
            return extension.value().unwrap().parse().unwrap();
        }
    }
    entry.header().mtime().unwrap() as i64
}

fn set_time(target: &Path, mtime: i64) {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn device(header: &tar::Header) -> u64 {
    let part = |number: std::io::Result<Option<u32>>| number.unwrap().unwrap();
    rustix::fs::makedev(part(header.device_major()), part(header.device_minor()))
}

fn remove(target: &Path) {
    match target.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(target).unwrap(),
        Ok(_) => fs::remove_file(target).unwrap(),
        Err(_) => {}
    }
}
