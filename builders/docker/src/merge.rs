//! Several layers as one: what the upper ones hide of the lower ones is in it no more.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Blocks of a tar, in bytes.
const BLOCK: u64 = 512;
/// What extended headers call extended attributes.
const XATTR: &str = "SCHILY.xattr.";

/// An entry of a layer.
#[derive(Debug)]
struct Entry {
    layer: usize,
    /// Where it begins, with the headers that extend its own.
    start: u64,
    /// Where its content begins.
    data: u64,
    size: u64,
    kind: EntryType,
    header: Header,
    xattrs: Vec<(String, Vec<u8>)>,
    /// What a hard link leads to.
    link: Vec<u8>,
}

impl Entry {
    fn end(&self) -> u64 {
        self.data + self.size.div_ceil(BLOCK) * BLOCK
    }
}

/// What the layers come to at a path.
#[derive(Debug)]
enum Node {
    /// This entry (by its place in [`Merging::entries`]). Whether all that lies below it underneath the layers is hidden.
    There { entry: usize, is_opaque: bool },
    /// Nothing, whatever there was before.
    Gone,
}

/// Merges layers that lie on those of a base; plain tars, the lowest first.
pub(crate) fn merge(base: &[PathBuf], layers: &[PathBuf], to: impl Write) -> io::Result<()> {
    let base = Merging::of(base)?;
    Merging::of(layers)?.write(&base.tree, to)
}

/// Paths without slashes around them; the empty one is the root.
type Tree = BTreeMap<Vec<u8>, Node>;

#[derive(Default)]
struct Merging {
    layers: Vec<File>,
    entries: Vec<Entry>,
    tree: Tree,
    /// The entries of each layer.
    places: Vec<HashMap<Vec<u8>, usize>>,
}

impl Merging {
    fn of(layers: &[PathBuf]) -> io::Result<Merging> {
        let mut merging = Merging::default();
        for path in layers {
            merging.read(File::open(path)?)?;
        }
        Ok(merging)
    }

    fn read(&mut self, file: File) -> io::Result<()> {
        let layer = self.layers.len();
        let (mut whiteouts, mut others, mut start) = (Vec::new(), Vec::new(), 0);
        let mut archive = tar::Archive::new(io::BufReader::new(file.try_clone()?));
        for entry in archive.entries_with_seek()? {
            let mut entry = entry?;
            let path = clean(&entry.path_bytes());
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let (data, size) = (entry.raw_file_position(), entry.size());
            let is_whiteout = name.starts_with(WHITEOUT);
            if is_whiteout {
                whiteouts.push(path);
            } else {
                let found = Entry {
                    layer,
                    start,
                    data,
                    size,
                    kind: entry.header().entry_type(),
                    header: entry.header().clone(),
                    xattrs: xattrs(&mut entry)?,
                    link: entry.link_name_bytes().map(|link| clean(&link)).unwrap_or_default(),
                };
                others.push((path, found));
            }
            start = data + size.div_ceil(BLOCK) * BLOCK;
        }
        // Whiteouts speak of lower layers alone.
        whiteouts.iter().for_each(|path| self.hide(path));
        let mut places = HashMap::new();
        for (path, entry) in others {
            self.entries.push(entry);
            places.insert(path.clone(), self.entries.len() - 1);
            self.put(path, self.entries.len() - 1);
        }
        self.places.push(places);
        self.layers.push(file);
        Ok(())
    }

    fn hide(&mut self, path: &[u8]) {
        let split = path.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = split.map_or((&[][..], path), |at| (&path[..at], &path[at + 1..]));
        if name == OPAQUE {
            self.remove_below(parent);
            if let Some(Node::There { is_opaque, .. }) = self.tree.get_mut(parent) {
                *is_opaque = true;
            } else {
                // Its directory follows among the layer's own entries, and takes this over.
                self.tree.insert(parent.to_vec(), Node::Gone);
            }
            return;
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT).filter(|name| !name.is_empty() && !name.starts_with(WHITEOUT))
        else {
            // A storage driver's own notes.
            return;
        };
        let path = join(parent, hidden);
        self.remove_below(&path);
        self.tree.insert(path, Node::Gone);
    }

    fn put(&mut self, path: Vec<u8>, entry: usize) {
        let is_directory = self.entries[entry].kind.is_dir();
        let is_opaque = match self.tree.get(&path) {
            None => false,
            Some(Node::Gone) => is_directory,
            Some(Node::There { entry: old, is_opaque }) => {
                is_directory && (*is_opaque || !self.entries[*old].kind.is_dir())
            }
        };
        if !is_directory {
            self.remove_below(&path);
        }
        self.tree.insert(path, Node::There { entry, is_opaque });
    }

    fn remove_below(&mut self, path: &[u8]) {
        if path.is_empty() {
            self.tree.retain(|path, _| path.is_empty());
            return;
        }
        let below: Vec<Vec<u8>> = self.tree.range(below(path)).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.tree.remove(&path);
        }
    }

    /// Names only what the base has as hidden.
    fn write(mut self, base: &Tree, to: impl Write) -> io::Result<()> {
        let mut builder = Builder::new(BufWriter::with_capacity(1 << 20, to));
        // Where the content of files with several names went.
        let mut written: HashMap<usize, Vec<u8>> = HashMap::new();
        let tree = std::mem::take(&mut self.tree);
        for (path, node) in tree {
            let Node::There { entry, is_opaque } = node else {
                if matches!(base.get(&path), Some(Node::There { .. })) {
                    white_out(&mut builder, &whiteout_of(&path))?;
                }
                continue;
            };
            let root = self.root_of(entry)?;
            match written.get(&root) {
                Some(first) => self.write_link(&mut builder, root, &path, first)?,
                None if root != entry => self.write_content(&mut builder, root, &path)?,
                None => self.copy(&mut builder, entry)?,
            }
            if self.entries[root].kind.is_file() {
                written.entry(root).or_insert_with(|| path.clone());
            }
            if is_opaque && base.range(below(&path)).next().is_some() {
                white_out(&mut builder, &join(&path, OPAQUE))?;
            }
        }
        builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.flush()
    }

    /// The entry that a hard link comes down to.
    fn root_of(&self, entry: usize) -> io::Result<usize> {
        let mut at = entry;
        // A layer's links lead back to an entry before them.
        while self.entries[at].kind == EntryType::Link {
            let found = self.places[self.entries[at].layer].get(&self.entries[at].link).copied();
            at = found.filter(|found| *found < at).ok_or_else(|| {
                let link = String::from_utf8_lossy(&self.entries[at].link).into_owned();
                io::Error::new(io::ErrorKind::InvalidData, format!("a hard link leads to {link}, which is not there"))
            })?;
        }
        Ok(at)
    }

    /// As it stands in its layer.
    fn copy<W: Write>(&mut self, builder: &mut Builder<W>, entry: usize) -> io::Result<()> {
        let entry = &self.entries[entry];
        let file = &mut self.layers[entry.layer];
        file.seek(SeekFrom::Start(entry.start))?;
        let length = entry.end() - entry.start;
        let copied = io::copy(&mut file.take(length), builder.get_mut())?;
        if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// A file's content under another name.
    fn write_content<W: Write>(&mut self, builder: &mut Builder<W>, entry: usize, path: &[u8]) -> io::Result<()> {
        let entry = &self.entries[entry];
        if !entry.xattrs.is_empty() {
            let records = entry.xattrs.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
            builder.append_pax_extensions(records)?;
        }
        let file = &mut self.layers[entry.layer];
        file.seek(SeekFrom::Start(entry.data))?;
        let mut header = entry.header.clone();
        header.set_size(entry.size);
        builder.append_data(&mut header, as_path(path), file.take(entry.size))
    }

    fn write_link<W: Write>(&self, builder: &mut Builder<W>, root: usize, path: &[u8], to: &[u8]) -> io::Result<()> {
        let mut header = self.entries[root].header.clone();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        builder.append_link(&mut header, as_path(path), as_path(to))
    }
}

fn xattrs<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<(String, Vec<u8>)>> {
    let Some(extensions) = entry.pax_extensions()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for extension in extensions {
        let extension = extension?;
        if let Some(name) = extension.key().ok().filter(|name| name.starts_with(XATTR)) {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

fn white_out<W: Write>(builder: &mut Builder<W>, path: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0);
    header.set_size(0);
    builder.append_data(&mut header, as_path(path), io::empty())
}

/// All paths below one that is not the root.
fn below(path: &[u8]) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    (Bound::Included(join(path, b"")), Bound::Excluded([path, &[b'/' + 1]].concat()))
}

fn whiteout_of(path: &[u8]) -> Vec<u8> {
    let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..at], WHITEOUT, &path[at..]].concat()
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Without `./`, `/` and the like.
fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    parts.collect::<Vec<_>>().join(&b'/')
}

fn as_path(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a layer: `dir/`, `file=content`, `link>target` (hard), and whiteouts as files.
    fn layer(directory: &Path, name: &str, lines: &[&str]) -> std::path::PathBuf {
        let path = directory.join(name);
        let mut builder = Builder::new(File::create(&path).unwrap());
        for line in lines {
            let mut header = Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(0);
            if let Some((name, target)) = line.split_once('>') {
                header.set_entry_type(EntryType::Link);
                builder.append_link(&mut header, name, target).unwrap();
            } else if line.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, line, io::empty()).unwrap();
            } else {
                let (name, content) = line.split_once('=').unwrap_or((line, ""));
                header.set_size(content.len() as u64);
                if content == "capable" {
                    let xattr = ("SCHILY.xattr.security.capability", &b"\x01\x00"[..]);
                    builder.append_pax_extensions([xattr]).unwrap();
                }
                builder.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
        }
        builder.into_inner().unwrap();
        path
    }

    fn merged(layers: &[&[&str]]) -> Vec<String> {
        on_base(&["root/", "root/key=1", "d/", "d/e=1", "x/", "x/base=1", "a=1"], layers)
    }

    fn on_base(base: &[&str], layers: &[&[&str]]) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let names: Vec<_> = layers
            .iter()
            .enumerate()
            .map(|(index, lines)| layer(directory.path(), &index.to_string(), lines))
            .collect();
        let mut tar = Vec::new();
        merge(&[layer(directory.path(), "base", base)], &names, &mut tar).unwrap();
        let mut archive = tar::Archive::new(tar.as_slice());
        let mut shown = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let marks = xattrs(&mut entry).unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            let link = entry.link_name_bytes().map(|link| format!(">{}", String::from_utf8_lossy(&link)));
            let content = if content.is_empty() { String::new() } else { format!("={content}") };
            let marks = if marks.is_empty() { "" } else { " +" };
            shown.push(format!("{path}{}{content}{marks}", link.unwrap_or_default()));
        }
        shown
    }

    #[test]
    fn what_is_hidden_is_not_in_it() {
        let lower: &[&str] = &["root/", "root/key=secret", "a/", "a/b=1", "a/c=1", "d/", "d/e=1"];
        let upper: &[&str] = &["root/", "root/.wh.key", "a/", "a/b=2", ".wh.d"];
        assert_eq!(merged(&[lower, upper]), ["a/", "a/b=2", "a/c=1", ".wh.d", "root/", "root/.wh.key"]);
    }

    #[test]
    fn what_the_base_never_had_is_not_told_of() {
        let layers: &[&[&str]] = &[&["x/", "x/key=1", "y=1"], &["x/", "x/.wh.key", ".wh.y", ".wh.z", "z/", "z/a=1"]];
        assert_eq!(on_base(&["x/"], layers), ["x/", "z/", "z/a=1"]);
    }

    #[test]
    fn whiteouts_reach_below_the_layers_and_never_into_their_own() {
        assert_eq!(merged(&[&[".wh.x"], &["x/", "x/y=1"]]), ["x/", "x/.wh..wh..opq", "x/y=1"]);
        assert_eq!(merged(&[&[".wh.x"], &["x=1"]]), ["x=1"]);
        assert_eq!(merged(&[&["x=1"], &["x/", "x/y=1"]]), ["x/", "x/.wh..wh..opq", "x/y=1"]);
        assert_eq!(
            merged(&[&["x/", "x/old=1"], &["x/", "x/.wh..wh..opq", "x/new=1"]]),
            ["x/", "x/.wh..wh..opq", "x/new=1"]
        );
        assert_eq!(merged(&[&["x/", "x/old=1", "x-y=1"], &["x=file"]]), ["x=file", "x-y=1"]);
        assert_eq!(merged(&[&["x/", "x/a=1"], &[".wh.x", "x/", "x/b=1"]]), ["x/", "x/.wh..wh..opq", "x/b=1"]);
    }

    #[test]
    fn hard_links_stay_together() {
        assert_eq!(merged(&[&["b=1", "c>b"], &["z=1"]]), ["b=1", "c>b", "z=1"]);
        // The one with the content sorts last, or is gone.
        assert_eq!(merged(&[&["c=1", "a>c", "b>a"]]), ["a=1", "b>a", "c>a"]);
        assert_eq!(merged(&[&["a=capable", "b>a", "c>a"], &[".wh.a"]]), [".wh.a", "b=capable +", "c>b"]);
        assert_eq!(merged(&[&["a=1", "b>a"], &["a=2"]]), ["a=2", "b=1"]);
    }

    #[test]
    fn long_names_and_attributes_are_copied() {
        let long = format!("{}/{}=1", "d".repeat(90), "f".repeat(90));
        assert_eq!(merged(&[&[&long], &["cap=capable"]]), ["cap=capable +".to_owned(), long.clone()]);
    }
}
