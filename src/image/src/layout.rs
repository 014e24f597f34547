//! An OCI image layout: a directory of blobs named by their digests, and an index of named images.
//!
//! Source: OCI image specification, "Image Layout Specification" 1.1.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::error::ImageError;

/// Documents (manifests, configs, indexes) larger than this are refused; registries draw the line at 4 MiB.
pub const DOCUMENT_LIMIT: u64 = 4 * 1024 * 1024;

/// A layout on disk. Cheap to clone; several processes may use one at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Opens one, or makes an empty one.
    ///
    /// # Errors
    /// The directory cannot be made, or holds a layout of another version.
    pub fn create(root: impl Into<PathBuf>) -> Result<Layout, ImageError> {
        let root = root.into();
        let blobs = root.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).map_err(ImageError::io("create", &blobs))?;
        let layout = Layout { root };
        layout.write_if_missing("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        layout.write_if_missing("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)?;
        Layout::open(layout.root)
    }

    /// Opens one that is there.
    ///
    /// # Errors
    /// It is none, or of another version.
    pub fn open(root: impl Into<PathBuf>) -> Result<Layout, ImageError> {
        let layout = Layout { root: root.into() };
        let path = layout.root.join("oci-layout");
        let bytes = crate::names::read_bounded(&path)?;
        let version: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match version.get("imageLayoutVersion").and_then(serde_json::Value::as_str) {
            Some("1.0.0") => Ok(layout),
            other => {
                let problem = format!("its version is {}, not 1.0.0", other.unwrap_or("not told"));
                Err(ImageError::Malformed { what: format!("the layout {}", layout.root.display()), problem })
            }
        }
    }

    /// Another process that does the same sees the whole file or none, and none is written twice.
    fn write_if_missing(&self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        let path = self.root.join(name);
        if path.exists() {
            return Ok(());
        }
        let mut blob = self.blob_writer()?;
        blob.write_all(content).map_err(ImageError::io("write", &path))?;
        match std::fs::hard_link(&blob.path, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked.map_err(ImageError::io("create", path)),
        }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob lies, or would lie.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    /// Whether a blob is there. Its content is checked when it is read.
    pub fn has(&self, digest: &Digest) -> bool {
        self.blob_path(digest).is_file()
    }

    /// The size of a blob's file; `None` where there is none.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        std::fs::metadata(self.blob_path(digest)).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    }

    /// A document's bytes, checked against its digest.
    ///
    /// # Errors
    /// It is missing, damaged, or larger than [`DOCUMENT_LIMIT`].
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::Missing { digest: digest.clone(), layout: self.root.clone() });
            }
            opened => opened.map_err(ImageError::io("read", &path))?,
        };
        let mut bytes = Vec::new();
        file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(ImageError::io("read", &path))?;
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            let problem = format!("it is larger than {} MiB", DOCUMENT_LIMIT >> 20);
            return Err(ImageError::Malformed { what: digest.to_string(), problem });
        }
        let found = Digest::of(&bytes);
        if found != *digest {
            return Err(ImageError::Mismatch { wanted: digest.clone(), found });
        }
        Ok(bytes)
    }

    /// Adds a document.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_document(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let mut writer = self.blob_writer()?;
        writer.write_all(bytes).map_err(ImageError::io("write", &self.root))?;
        writer.finish().map(|(digest, _)| digest)
    }

    /// Starts a blob.
    ///
    /// # Errors
    /// No file can be made in the layout.
    pub fn blob_writer(&self) -> Result<BlobWriter, ImageError> {
        BlobWriter::new(self.clone())
    }
}

/// A blob that is being written: hashed on the way, and in its place only when whole. Dropped unfinished, it is gone.
#[derive(Debug)]
pub struct BlobWriter {
    layout: Layout,
    path: PathBuf,
    file: Option<File>,
    hash: Sha256,
    size: u64,
}

impl BlobWriter {
    fn new(layout: Layout) -> Result<BlobWriter, ImageError> {
        use std::os::unix::fs::OpenOptionsExt;
        let directory = layout.root.join("blobs/sha256");
        loop {
            let mut random = [0u8; 8];
            // A name that is taken is tried again; one that is guessed does no harm (`create_new`).
            let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
            let path = directory.join(format!(".{:016x}.tmp", u64::from_le_bytes(random)));
            match File::options().write(true).create_new(true).mode(0o600).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = Some(opened.map_err(ImageError::io("create", &path))?);
                    return Ok(BlobWriter { layout, path, file, hash: Sha256::new(), size: 0 });
                }
            }
        }
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Puts it in its place.
    ///
    /// # Errors
    /// It cannot be moved there.
    pub fn finish(mut self) -> Result<(Digest, u64), ImageError> {
        let digest = Digest::from_hash(std::mem::take(&mut self.hash).finalize().into());
        self.place(&digest)?;
        Ok((digest, self.size))
    }

    /// Puts it in its place if it is what was expected.
    ///
    /// # Errors
    /// Another digest or size, or it cannot be moved.
    pub fn finish_as(mut self, wanted: &Digest, size: Option<u64>) -> Result<(), ImageError> {
        if let Some(wanted_size) = size.filter(|size| *size != self.size) {
            return Err(ImageError::Size { digest: wanted.clone(), wanted: wanted_size, found: self.size });
        }
        let found = Digest::from_hash(std::mem::take(&mut self.hash).finalize().into());
        if found != *wanted {
            return Err(ImageError::Mismatch { wanted: wanted.clone(), found });
        }
        self.place(wanted)
    }

    fn place(&mut self, digest: &Digest) -> Result<(), ImageError> {
        self.file = None;
        let to = self.layout.blob_path(digest);
        std::fs::rename(&self.path, &to).map_err(ImageError::io("write", to))?;
        self.path.clear();
        Ok(())
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the blob is finished"))?;
        let written = file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            // Nobody asks for a half-written blob; what is left of a killed process goes with the next collection.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
