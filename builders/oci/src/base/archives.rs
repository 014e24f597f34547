//! Bases from files of this host: layouts, archives, trees. Each is brought into the store once for as long as it stays
//! what it is: same inode, size and times.

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kiln_core::{Failure, Key};
use kiln_image::compress::{Compression, LayerWriter};
use kiln_image::pack::{PackOptions, PackSettings};
use kiln_image::{Digest, archive};

use super::{Bases, base_key, rootfs};
use crate::digest::Parts;
use crate::error::{self, OciError};
use crate::prepare::absolute;

impl Bases<'_> {
    /// An image of an OCI layout or of an archive of images.
    pub(super) async fn import_archive(
        &self,
        path: &Path,
        name: Option<&str>,
        is_layout: bool,
    ) -> Result<Digest, Failure> {
        let path = absolute(path);
        let metadata = std::fs::metadata(&path).map_err(error::local("read", &path))?;
        let stamp = if metadata.is_dir() { path.join("index.json") } else { path.clone() };
        let key = self.file_key("archive", &stamp)?;
        let key = Parts::new("archive").with(key.as_str()).with(name.unwrap_or_default()).key();
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)? {
            return Ok(entry.manifest);
        }
        self.context.events.message(format!("reading {}", path.display()));
        self.store().hold().map_err(error::cache)?;
        let layout = self.store().layout().clone();
        let (wanted, from) = (name.map(str::to_owned), path.clone());
        let is_directory = metadata.is_dir();
        let imported = error::blocking(move || {
            if is_directory {
                return archive::import_layout(&from, wanted.as_deref(), &layout).map_err(error::image);
            }
            let file = std::fs::File::open(&from).map_err(error::local("read", &from))?;
            archive::import_archive(file, &layout).map_err(error::image)
        });
        let manifest = choose(imported.await?, name, is_directory && name.is_some(), is_layout, &path)?;
        // An index of several platforms names the one that is wanted.
        let manifest = self.open(&manifest)?.digest;
        self.note(&key, &manifest, None)?;
        Ok(manifest)
    }

    /// A root file system in a tar file.
    pub(super) async fn import_tar(&self, path: &Path) -> Result<Digest, Failure> {
        let path = absolute(path);
        let key = self.file_key("tar", &path)?;
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)? {
            return Ok(entry.manifest);
        }
        self.context.events.message(format!("reading {}", path.display()));
        self.store().hold().map_err(error::cache)?;
        let layout = self.store().layout().clone();
        let rootfs = rootfs(&self.recipe.platform, None, "kiln");
        let manifest = error::blocking(move || {
            let file = std::fs::File::open(&path).map_err(error::local("read", &path))?;
            rootfs.of_tar(file, &path, &layout).map_err(error::image)
        });
        let manifest = manifest.await?;
        self.note(&key, &manifest, None)?;
        Ok(manifest)
    }

    /// A root file system in a directory.
    pub(super) async fn import_directory(&self, path: &Path) -> Result<Digest, Failure> {
        let path = absolute(path);
        let walked = path.clone();
        let fingerprint = error::blocking(move || fingerprint(&walked)).await?;
        let key = base_key("directory", &self.recipe.platform)
            .with(path.as_os_str().as_encoded_bytes())
            .with(fingerprint)
            .key();
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)? {
            return Ok(entry.manifest);
        }
        self.context.events.message(format!("reading {}", path.display()));
        self.store().hold().map_err(error::cache)?;
        let (layout, worker) = (self.store().layout().clone(), self.place.worker.clone());
        let rootfs = rootfs(&self.recipe.platform, None, "kiln");
        let made = error::blocking(move || {
            let settings = PackSettings { content: true, ..PackSettings::default() };
            let options = PackOptions { uppers: vec![path], lowers: Vec::new(), settings };
            let blob = layout.blob_writer().map_err(error::image)?;
            let mut writer = LayerWriter::new(blob, Compression::default());
            let packed = worker.pack(&options, &mut writer).map_err(error::sandbox)?;
            let manifest = rootfs.finish(writer, &layout, Some(packed.newest_mtime)).map_err(error::image)?;
            Ok((manifest, packed.content))
        });
        let (made, content) = made.await?;
        // What differs from an earlier base in its times alone is that base.
        let content = content.map(|content| content.to_string()).unwrap_or_default();
        let by_content = base_key("directory content", &self.recipe.platform).with(content).key();
        let manifest = self.known(&by_content)?.map_or(made, |entry| entry.manifest);
        self.note(&by_content, &manifest, None)?;
        self.note(&key, &manifest, None)?;
        Ok(manifest)
    }

    /// What names a file as it is now.
    pub(super) fn file_key(&self, kind: &str, path: &Path) -> Result<Key, Failure> {
        let metadata = std::fs::metadata(path).map_err(error::local("read", path))?;
        let parts = base_key(kind, &self.recipe.platform).with(path.as_os_str().as_encoded_bytes());
        Ok(stamp(parts, &metadata).key())
    }
}

fn stamp(parts: Parts, metadata: &std::fs::Metadata) -> Parts {
    let numbers = [
        metadata.dev() as i64,
        metadata.ino() as i64,
        metadata.size() as i64,
        metadata.mtime(),
        metadata.mtime_nsec(),
        // Nobody can set this one back.
        metadata.ctime(),
        metadata.ctime_nsec(),
    ];
    numbers.into_iter().fold(parts, |parts, number| parts.with(number.to_be_bytes()))
}

/// What names a tree as it is now, without reading its files.
fn fingerprint(root: &Path) -> Result<String, Failure> {
    let mut parts = Parts::new("tree");
    let mut waiting: Vec<PathBuf> = vec![root.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        let entries = std::fs::read_dir(&directory).map_err(error::local("read", &directory))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(error::local("read", &directory))?;
        names.sort();
        parts = parts.with(directory.as_os_str().as_encoded_bytes());
        for name in names {
            let path = directory.join(&name);
            let metadata = std::fs::symlink_metadata(&path).map_err(error::local("read", &path))?;
            parts = stamp(parts.with(name.as_encoded_bytes()), &metadata);
            if metadata.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(parts.hex())
}

/// The image that is meant.
fn choose(
    imported: Vec<archive::Imported>,
    name: Option<&str>,
    is_chosen: bool,
    is_layout: bool,
    path: &Path,
) -> Result<Digest, Failure> {
    let what = if is_layout { "oci_layout" } else { "docker_archive" };
    let names = || {
        let names: Vec<&str> = imported.iter().flat_map(|image| image.names.iter().map(String::as_str)).collect();
        if names.is_empty() { "none with a name".to_owned() } else { names.join(", ") }
    };
    let found = match (name, imported.as_slice()) {
        (_, []) => None,
        (Some(_), [only]) if is_chosen => Some(only),
        (Some(name), all) => all.iter().find(|image| {
            image.digest.as_str() == name
                || image.names.iter().any(|its| its == name || its.strip_suffix(":latest") == Some(name))
        }),
        (None, [only]) => Some(only),
        (None, _) => {
            let text = format!("{} holds several images: {}", path.display(), names());
            return Err(
                Failure::build(OciError::Base(text)).hint(format!("`from = {{ {what} = ..., name = ... }}` picks one"))
            );
        }
    };
    match found {
        Some(image) => Ok(image.digest.clone()),
        None => {
            let wanted = name.map(|name| format!(" named {name}")).unwrap_or_default();
            let text = format!("{} has no image{wanted}; it has {}", path.display(), names());
            Err(Failure::build(OciError::Base(text)))
        }
    }
}

/// Copies with a buffer that suits archives.
pub(super) fn copy(from: &mut dyn Read, to: &mut dyn Write) -> std::io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(length) => {
                to.write_all(&buffer[..length])?;
                total += length as u64;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
