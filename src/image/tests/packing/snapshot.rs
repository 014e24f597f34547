//! What a tree is, as text: two trees are compared so.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// One line an entry. Times are whole seconds; the root's is left out.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut links: BTreeMap<(u64, u64), String> = BTreeMap::new();
    walk(root, root, &mut found, &mut links);
    found
}

fn walk(root: &Path, directory: &Path, found: &mut BTreeMap<String, String>, links: &mut BTreeMap<(u64, u64), String>) {
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    for name in names {
        let path = directory.join(&name);
        let metadata = path.symlink_metadata().unwrap();
        // A layer cannot have it.
        if metadata.file_type().is_socket() {
            continue;
        }
        let shown = path.strip_prefix(root).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let mut line = format!(
            "{:o} {}:{} {} {}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.mtime(),
            if metadata.file_type().is_char_device() || metadata.file_type().is_block_device() {
                metadata.rdev()
            } else {
                0
            }
        );
        if metadata.is_symlink() {
            write!(line, " -> {:?}", fs::read_link(&path).unwrap()).unwrap();
        } else {
            write!(line, " {}", attributes(&path)).unwrap();
        }
        if metadata.is_file() {
            write!(line, " {} {:x?}", metadata.len(), kiln_image::Digest::of(&fs::read(&path).unwrap()).hex()).unwrap();
        }
        if !metadata.is_dir() {
            let first = links.entry((metadata.dev(), metadata.ino())).or_insert_with(|| shown.clone());
            write!(line, " first {first}").unwrap();
        }
        found.insert(shown, line);
        if metadata.is_dir() {
            walk(root, &path, found, links);
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut names = [0u8; 4096];
    let size = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let mut shown: Vec<String> = Vec::new();
    for name in names[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = [0u8; 256];
        let size = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        shown.push(format!("{}={}", name.escape_ascii(), value[..size].escape_ascii()));
    }
    shown.sort();
    shown.join(",")
}

/// The differences, a line each; empty for equal trees.
pub(crate) fn differences(wanted: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (path, line) in wanted {
        match found.get(path) {
            None => writeln!(text, "{path} is missing: {line}").unwrap(),
            Some(other) if other != line => writeln!(text, "{path}\n  wanted {line}\n  found  {other}").unwrap(),
            Some(_) => {}
        }
    }
    for (path, line) in found.iter().filter(|(path, _)| !wanted.contains_key(*path)) {
        writeln!(text, "{path} is too much: {line}").unwrap();
    }
    text
}
