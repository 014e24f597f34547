//! Images as archives: what `docker save` writes and `docker load` reads, and OCI layouts, as directories and as tar files.

mod export;
mod import;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use serde_json::Value;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::Image;
use crate::layout::Layout;
use crate::names;

pub use export::{export_docker_archive, export_layout_archive};
pub use import::import_archive;

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The names it bears in the archive, `debian:12`; they are not set in the layout.
    pub names: Vec<String>,
    /// Of its manifest, or of an index of several ([`Image::open_for`] takes both).
    pub digest: Digest,
    /// What the digest names.
    pub media_type: String,
}

/// Copies images of another layout's directory into this one: that with this name or digest, else all.
///
/// # Errors
/// The directory is no layout, has no such image, or a blob is damaged or missing.
pub fn import_layout(from: &Path, wanted: Option<&str>, layout: &Layout) -> Result<Vec<Imported>, ImageError> {
    let from = Layout::open(from)?;
    let mut imported: Vec<Imported> = Vec::new();
    for entry in from.names()? {
        let is_wanted =
            wanted.is_none_or(|wanted| entry.name.as_deref() == Some(wanted) || entry.digest.as_str() == wanted);
        if !is_wanted {
            continue;
        }
        match imported.iter_mut().find(|earlier| earlier.digest == entry.digest) {
            Some(earlier) => earlier.names.extend(entry.name),
            None => {
                copy_image(&from, &entry.digest, layout)?;
                let names = entry.name.into_iter().collect();
                imported.push(Imported { names, digest: entry.digest, media_type: entry.media_type });
            }
        }
    }
    if imported.is_empty() {
        let known = from.names()?.into_iter().map(|entry| entry.name.unwrap_or_else(|| entry.digest.to_string()));
        return Err(ImageError::NoImage {
            path: from.root().to_owned(),
            wanted: wanted.map(str::to_owned),
            known: known.collect(),
        });
    }
    Ok(imported)
}

/// Copies an image into a layout in this directory, which is made if need be; other images in it stay.
///
/// # Errors
/// The image is not whole, or the directory cannot be written.
pub fn export_layout(layout: &Layout, manifest: &Digest, names: &[String], to: &Path) -> Result<(), ImageError> {
    let to = Layout::create(to)?;
    copy_image(layout, manifest, &to)?;
    for name in names {
        to.set_name(name, manifest)?;
    }
    if names.is_empty() { to.add_unnamed(manifest) } else { Ok(()) }
}

/// Copies an image, or all of an index that are there, with all blobs that the other layout lacks. Every blob is checked.
///
/// # Errors
/// A blob is damaged or missing, or cannot be written.
pub fn copy_image(from: &Layout, digest: &Digest, to: &Layout) -> Result<(), ImageError> {
    let document = from.document(digest)?;
    let children = children(&document, digest)?;
    if let Some(children) = children {
        for child in children.iter().filter(|child| from.has(child)) {
            copy_one(from, child, to)?;
        }
        return to.put_document(&document).map(drop);
    }
    copy_one(from, digest, to)
}

/// Copies an image; an index is none, whatever another one says that it is.
fn copy_one(from: &Layout, digest: &Digest, to: &Layout) -> Result<(), ImageError> {
    let image = Image::open(from, digest)?;
    to.put_document(&image.raw_config)?;
    for layer in &image.layers {
        copy_blob(from, &layer.digest, layer.size, to)?;
    }
    to.put_document(&image.manifest).map(drop)
}

/// What an index names, each once; `None`: it is no index. An index within an index is for nobody.
fn children(document: &[u8], digest: &Digest) -> Result<Option<Vec<Digest>>, ImageError> {
    let what = || format!("the document {digest}");
    let value: Value = serde_json::from_slice(document)
        .map_err(|error| ImageError::Malformed { what: what(), problem: error.to_string() })?;
    let Some(entries) = value.get("manifests").and_then(Value::as_array) else { return Ok(None) };
    let mut seen = HashSet::new();
    let mut children = Vec::new();
    for entry in entries {
        let child = names::named(entry).map_err(|problem| ImageError::Malformed { what: what(), problem })?;
        if !crate::media::is_index(&child.media_type) && seen.insert(child.digest.clone()) {
            children.push(child.digest);
        }
    }
    Ok(Some(children))
}

fn copy_blob(from: &Layout, digest: &Digest, size: u64, to: &Layout) -> Result<(), ImageError> {
    if to.has(digest) {
        return Ok(());
    }
    let mut writer = to.blob_writer()?;
    // No more than it should have: what lies there may never end.
    let mut file = open_blob(from, digest)?.take(size.saturating_add(1));
    io::copy(&mut file, &mut writer).map_err(ImageError::io("copy", from.blob_path(digest)))?;
    writer.finish_as(digest, Some(size))
}

fn open_blob(layout: &Layout, digest: &Digest) -> Result<File, ImageError> {
    let path = layout.blob_path(digest);
    File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ImageError::Missing { digest: digest.clone(), layout: layout.root().to_owned() },
        _ => ImageError::io("read", path)(error),
    })
}
