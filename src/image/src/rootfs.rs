//! Images of one layer that are made of a root file system.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use kiln_core::Platform;

use crate::compress::{Compression, LayerWriter};
use crate::config::{History, ImageConfig, RunConfig};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Assembly, NewLayer, assemble, creation_time};
use crate::layout::{BlobWriter, Layout};
use crate::media::{LayerCompression, ManifestFormat};

/// What is read and written at once.
const BUFFER: usize = 256 * 1024;

/// What is said of a root file system beside its files.
#[derive(Debug, Clone, PartialEq)]
pub struct Rootfs {
    /// What it runs on.
    pub platform: Platform,
    /// What a container of it starts with.
    pub config: RunConfig,
    /// Its line in the history.
    pub history: History,
    /// When it was made, in seconds since 1970, where that is told (`SOURCE_DATE_EPOCH`).
    pub created: Option<i64>,
}

impl Default for Rootfs {
    fn default() -> Rootfs {
        let history = History { created_by: Some("kiln".to_owned()), ..History::default() };
        Rootfs { platform: Platform::host(), config: RunConfig::default(), history, created: None }
    }
}

impl Rootfs {
    /// An image of a tar file. One that is compressed with gzip or zstd stays as it is.
    ///
    /// # Errors
    /// It is no tar or compressed in a way that no layer can have; a file cannot be read or written.
    pub fn of_tar(&self, mut file: File, path: &Path, layout: &Layout) -> Result<Digest, ImageError> {
        let mut start = [0; 6];
        let length = file.read(&mut start).map_err(ImageError::io("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(ImageError::io("read", path))?;
        if let Some(other) = other_compression(&start[..length]) {
            return Err(ImageError::Malformed {
                what: path.display().to_string(),
                problem: format!("it is compressed with {other}, and layers with gzip or zstd alone"),
            });
        }
        let compression = LayerCompression::detect(&start[..length]);
        if compression == LayerCompression::None {
            return self.of_stream(file, path, layout);
        }
        // One pass: the blob takes what is read for the digest of what is in it.
        let mut blob = layout.blob_writer()?;
        let tee = Tee { from: file, to: &mut blob };
        let diff_id = match compression {
            LayerCompression::Zstd => zstd::Decoder::new(tee).and_then(digest_of),
            _ => digest_of(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(BUFFER, tee))),
        };
        let diff_id = diff_id.map_err(ImageError::io("read", path))?;
        let (digest, size) = blob.finish()?;
        self.image(NewLayer { digest, size, diff_id, compression, history: self.history.clone() }, layout, None)
    }

    /// An image of a tar that is not compressed (any more); `path` names it in errors.
    ///
    /// # Errors
    /// It is no tar; it cannot be read, or not be written.
    pub fn of_stream(&self, tar: impl Read, path: &Path, layout: &Layout) -> Result<Digest, ImageError> {
        let mut writer = LayerWriter::new(layout.blob_writer()?, Compression::default());
        read_tar(Tee { from: tar, to: &mut writer }).map_err(ImageError::io("read", path))?;
        self.finish(writer, layout, None)
    }

    /// Ends a layer, and makes an image of it alone. `newest` is the time of its newest file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(
        &self,
        writer: LayerWriter<BlobWriter>,
        layout: &Layout,
        newest: Option<i64>,
    ) -> Result<Digest, ImageError> {
        let (blob, digests) = writer.finish().map_err(ImageError::io("write", layout.root()))?;
        blob.finish_as(&digests.digest, Some(digests.size))?;
        let layer = NewLayer {
            digest: digests.digest,
            size: digests.size,
            diff_id: digests.diff_id,
            compression: LayerCompression::Gzip,
            history: self.history.clone(),
        };
        self.image(layer, layout, newest)
    }

    fn image(&self, layer: NewLayer, layout: &Layout, newest: Option<i64>) -> Result<Digest, ImageError> {
        let config = ImageConfig {
            architecture: self.platform.architecture.clone(),
            variant: self.platform.variant.clone(),
            os: self.platform.os.clone(),
            config: self.config.clone(),
            ..ImageConfig::default()
        };
        let assembly = Assembly {
            base: None,
            layers: vec![layer],
            config,
            format: ManifestFormat::Oci,
            created: creation_time(self.created, newest, None),
            squash_history: false,
            annotations: BTreeMap::new(),
        };
        assemble(layout, &assembly).map(|assembled| assembled.manifest)
    }
}

/// A compression of tar files that layers cannot have, by the first bytes.
pub fn other_compression(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    }
}

fn digest_of(reader: impl Read) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    read_tar(Tee { from: reader, to: &mut Hasher(&mut hash) })?;
    Ok(Digest::from_hash(hash.finalize().into()))
}

/// Reads all of a tar, and what stands behind its end. What is none is seen here, and not by who unpacks it some day.
fn read_tar(reader: impl Read) -> io::Result<()> {
    let mut archive = tar::Archive::new(BufReader::with_capacity(BUFFER, reader));
    archive.entries()?.try_for_each(|entry| entry.map(drop))?;
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map(drop)
}

/// Writes what is read through it.
struct Tee<'a, R, W> {
    from: R,
    to: &'a mut W,
}

impl<R: Read, W: Write> Read for Tee<'_, R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.to.write_all(&buffer[..length])?;
        Ok(length)
    }
}

struct Hasher<'a>(&'a mut Sha256);

impl Write for Hasher<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    fn tar() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in [("etc/hostname", vec![b'k'; 5]), ("opt/data", vec![7; 300_000])] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn import(bytes: &[u8]) -> (tempfile::TempDir, Result<Digest, ImageError>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.tar");
        std::fs::write(&path, bytes).unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        let made = Rootfs::default().of_tar(File::open(&path).unwrap(), &path, &layout);
        (directory, made)
    }

    #[test]
    fn tars_become_images_however_they_are_compressed() {
        let plain = tar();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
        for (bytes, compression) in [
            (plain.clone(), LayerCompression::Gzip),
            (gzip.finish().unwrap(), LayerCompression::Gzip),
            (zstd, LayerCompression::Zstd),
        ] {
            let (directory, made) = import(&bytes);
            let layout = Layout::open(directory.path().join("layout")).unwrap();
            let image = Image::open(&layout, &made.unwrap()).unwrap();
            let layer = &image.layers[0];
            assert_eq!(layer.diff_id, Digest::of(&plain));
            assert_eq!(LayerCompression::of_media_type(&layer.media_type), Some(compression));
            assert!(layout.has(&layer.digest));
        }
    }

    #[test]
    fn what_is_no_tar_is_refused() {
        let mut cut = tar();
        cut.truncate(4000);
        for bytes in [vec![b'x'; 4096], cut, b"\xfd7zXZ\0 and so on".to_vec(), b"BZh9".to_vec()] {
            assert!(import(&bytes).1.is_err());
        }
    }
}
