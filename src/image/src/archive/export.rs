//! A layout's image into an archive, streaming: nothing but a blob of zstd is read twice.

use serde_json::{Map, json};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::image::{LayerReference, to_json};
use crate::media::LayerCompression;
use crate::names::{CONTAINERD_NAME, REF_NAME};
use crate::unpack::stream::decoder;

/// Writes an image as an archive for `docker load`, which is an OCI layout as well unless layers had to be decompressed: those
/// in zstd, which Docker's archives cannot have, are written as plain tar.
///
/// # Errors
/// The image is not whole, or the writer fails.
pub fn export_docker_archive(
    layout: &Layout,
    manifest: &Digest,
    names: &[String],
    writer: impl Write,
) -> Result<(), ImageError> {
    let image = Image::open(layout, manifest)?;
    let is_layout = !image.layers.iter().any(is_zstd);
    let paths: Vec<String> = image
        .layers
        .iter()
        .map(|layer| blob_name(if is_zstd(layer) { &layer.diff_id } else { &layer.digest }))
        .collect();
    let described = json!([{
        "Config": blob_name(&image.config_digest), "RepoTags": names, "Layers": paths,
    }]);
    let mut archive = Archive::new(writer);
    if is_layout {
        archive.layout_files(&image.digest, &image.media_type, image.manifest.len(), names)?;
    }
    archive.file("manifest.json", &to_json(&described)?)?;
    if is_layout {
        archive.file(&blob_name(&image.digest), &image.manifest)?;
    }
    archive.image_blobs(layout, &image, true)?;
    archive.finish()
}

/// Writes an image, or all of an index that are there, as a tar of an OCI layout.
///
/// # Errors
/// The image is not whole, or the writer fails.
pub fn export_layout_archive(
    layout: &Layout,
    digest: &Digest,
    names: &[String],
    writer: impl Write,
) -> Result<(), ImageError> {
    let document = layout.document(digest)?;
    let media_type = names::media_type_of(&document)
        .ok_or_else(|| ImageError::Malformed { what: digest.to_string(), problem: "it is no manifest".to_owned() })?;
    let mut archive = Archive::new(writer);
    archive.layout_files(digest, &media_type, document.len(), names)?;
    archive.file(&blob_name(digest), &document)?;
    match children(&document, digest)? {
        None => archive.image_blobs(layout, &Image::open(layout, digest)?, false)?,
        Some(children) => {
            for child in children.iter().filter(|child| layout.has(child)) {
                let image = Image::open(layout, child)?;
                archive.file(&blob_name(child), &image.manifest)?;
                archive.image_blobs(layout, &image, false)?;
            }
        }
    }
    archive.finish()
}

fn is_zstd(layer: &LayerReference) -> bool {
    LayerCompression::of_media_type(&layer.media_type) == Some(LayerCompression::Zstd)
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// A tar that depends on nothing but its content; each name once.
struct Archive<W: Write> {
    builder: tar::Builder<W>,
    written: std::collections::HashSet<String>,
}

impl<W: Write> Archive<W> {
    fn new(writer: W) -> Archive<W> {
        Archive { builder: tar::Builder::new(writer), written: std::collections::HashSet::new() }
    }

    fn layout_files(
        &mut self,
        digest: &Digest,
        media_type: &str,
        size: usize,
        names: &[String],
    ) -> Result<(), ImageError> {
        let entry = |name: Option<&String>| {
            let mut entry = Map::new();
            entry.insert("mediaType".to_owned(), json!(media_type));
            entry.insert("digest".to_owned(), json!(digest.as_str()));
            entry.insert("size".to_owned(), json!(size));
            if let Some(name) = name {
                entry.insert("annotations".to_owned(), json!({CONTAINERD_NAME: name, REF_NAME: name}));
            }
            Value::Object(entry)
        };
        let mut entries: Vec<Value> = names.iter().map(|name| entry(Some(name))).collect();
        if entries.is_empty() {
            entries.push(entry(None));
        }
        self.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        self.file("index.json", &to_json(&json!({"schemaVersion": 2, "manifests": entries}))?)
    }

    fn image_blobs(&mut self, layout: &Layout, image: &Image, plain: bool) -> Result<(), ImageError> {
        self.file(&blob_name(&image.config_digest), &image.raw_config)?;
        for layer in &image.layers {
            if plain && is_zstd(layer) {
                self.decompressed(layout, layer)?;
            } else {
                self.blob(layout, layer)?;
            }
        }
        Ok(())
    }

    fn blob(&mut self, layout: &Layout, layer: &LayerReference) -> Result<(), ImageError> {
        let file = open_blob(layout, &layer.digest)?;
        let size = file.metadata().map_err(ImageError::io("read", layout.blob_path(&layer.digest)))?.len();
        if size != layer.size {
            return Err(ImageError::Size { digest: layer.digest.clone(), wanted: layer.size, found: size });
        }
        self.checked(&layer.digest, size, file)
    }

    /// A tar's header needs the length before the content: once to count, once to write.
    fn decompressed(&mut self, layout: &Layout, layer: &LayerReference) -> Result<(), ImageError> {
        let open = || {
            decoder(open_blob(layout, &layer.digest)?).map_err(ImageError::io("read", layout.blob_path(&layer.digest)))
        };
        let size = io::copy(&mut open()?, &mut io::sink())
            .map_err(ImageError::io("decompress", layout.blob_path(&layer.digest)))?;
        self.checked(&layer.diff_id, size, open()?)
    }

    fn checked(&mut self, digest: &Digest, size: u64, reader: impl Read) -> Result<(), ImageError> {
        let mut reader = Hashing { inner: reader.take(size), hash: Sha256::new(), count: 0 };
        self.append(&blob_name(digest), size, &mut reader)?;
        if reader.count != size {
            return Err(ImageError::Size { digest: digest.clone(), wanted: size, found: reader.count });
        }
        let found = Digest::from_hash(reader.hash.finalize().into());
        if found == *digest { Ok(()) } else { Err(ImageError::Mismatch { wanted: digest.clone(), found }) }
    }

    fn file(&mut self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        self.append(name, content.len() as u64, content)
    }

    fn append(&mut self, name: &str, size: u64, mut reader: impl Read) -> Result<(), ImageError> {
        if !self.written.insert(name.to_owned()) {
            return io::copy(&mut reader, &mut io::sink()).map(drop).map_err(ImageError::io("read", name));
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        self.builder.append_data(&mut header, name, reader).map_err(ImageError::io("write", name))
    }

    fn finish(self) -> Result<(), ImageError> {
        let mut writer = self.builder.into_inner().map_err(ImageError::io("write", "the archive's end"))?;
        writer.flush().map_err(ImageError::io("write", "the archive's end"))
    }
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
    count: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}
