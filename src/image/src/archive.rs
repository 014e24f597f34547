//! Images as archives: what `docker save` writes and `docker load` reads, and OCI layouts, as directories and as tar files.

use std::io::{Read, Write};
use std::path::Path;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::layout::Layout;

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The names it bears in the archive, `debian:12`; they are not set in the layout.
    pub names: Vec<String>,
    /// Of its manifest, or of an index of several.
    pub digest: Digest,
    /// What the digest names.
    pub media_type: String,
}

/// Reads an archive of images into a layout: of `docker save` (all its forms), of skopeo, podman, buildah or bazel, or a tar
/// of an OCI layout; compressed or not. Everything is checked against the digests that the archive tells.
///
/// # Errors
/// It is no such archive, or damaged.
pub fn import_archive(reader: impl Read + Send, layout: &Layout) -> Result<Vec<Imported>, ImageError> {
    let _ = (reader, layout);
    Err(ImageError::Malformed { what: "the archive".to_owned(), problem: "not there yet".to_owned() })
}

/// Copies images of another layout's directory into this one: that with this name or digest, else all.
///
/// # Errors
/// The directory is no layout, has no such image, or a blob is damaged or missing.
pub fn import_layout(from: &Path, wanted: Option<&str>, layout: &Layout) -> Result<Vec<Imported>, ImageError> {
    let _ = (wanted, layout);
    Err(ImageError::Malformed { what: from.display().to_string(), problem: "not there yet".to_owned() })
}

/// Writes an image as an archive for `docker load`, which is an OCI layout as well. Layers in zstd, which Docker's archives
/// cannot have, are written as plain tar.
///
/// # Errors
/// The image is not whole, or the writer fails.
pub fn export_docker_archive(
    layout: &Layout,
    manifest: &Digest,
    names: &[String],
    writer: impl Write,
) -> Result<(), ImageError> {
    let _ = (layout, names, writer);
    Err(ImageError::Malformed { what: manifest.to_string(), problem: "not there yet".to_owned() })
}

/// Copies an image into a layout in this directory, which is made if need be; other images in it stay.
///
/// # Errors
/// The image is not whole, or the directory cannot be written.
pub fn export_layout(layout: &Layout, manifest: &Digest, names: &[String], to: &Path) -> Result<(), ImageError> {
    let _ = (layout, names, to);
    Err(ImageError::Malformed { what: manifest.to_string(), problem: "not there yet".to_owned() })
}
