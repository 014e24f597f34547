//! Images of one layer that are made of a root file system.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use kiln_core::Failure;
use kiln_image::compress::{Compression, LayerWriter};
use kiln_image::config::{History, ImageConfig, RunConfig};
use kiln_image::image::{Assembly, NewLayer, assemble, creation_time};
use kiln_image::{BlobWriter, Digest, LayerCompression, Layout, ManifestFormat};
use kiln_registry::Platform;
use sha2::{Digest as _, Sha256};

use super::archives::{Hashing, compression_of, copy};
use crate::error::{self, OciError};

/// The search path of a machine whose image says nothing; as docker has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is said of a root file system beside its files.
#[derive(Debug, Clone)]
pub(super) struct Rootfs {
    pub(super) platform: Platform,
    pub(super) command: Option<Vec<String>>,
    pub(super) made_by: String,
}

impl Default for Rootfs {
    fn default() -> Rootfs {
        Rootfs { platform: Platform::host(), command: None, made_by: "kiln".to_owned() }
    }
}

/// An image of a tar file. One that is compressed already stays as it is.
pub(super) fn of_tar(mut file: File, path: &Path, layout: &Layout, rootfs: &Rootfs) -> Result<Digest, Failure> {
    let mut start = [0; 6];
    let length = file.read(&mut start).map_err(error::local("read", path))?;
    file.seek(SeekFrom::Start(0)).map_err(error::local("read", path))?;
    let unknown = match &start[..length] {
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    };
    if let Some(unknown) = unknown {
        let text = format!("{} is compressed with {unknown}, which no image can have", path.display());
        return Err(Failure::build(OciError::Base(text)).hint("unpack it first, or compress it with gzip or zstd"));
    }
    let compression = compression_of(&start[..length]);
    if compression == LayerCompression::None {
        let mut writer = LayerWriter::new(layout.blob_writer().map_err(error::image)?, Compression::default());
        copy(&mut file, &mut writer).map_err(error::local("read", path))?;
        return finish(writer, layout, rootfs, None);
    }
    // One pass: the blob takes what is read for the digest of what is in it.
    let mut blob = layout.blob_writer().map_err(error::image)?;
    let tee = Tee { from: file, to: &mut blob };
    let diff_id = match compression {
        LayerCompression::Zstd => {
            let decoder = zstd::Decoder::new(tee).map_err(error::local("read", path))?;
            digest_of(decoder)
        }
        _ => digest_of(flate2::bufread::MultiGzDecoder::new(std::io::BufReader::with_capacity(256 * 1024, tee))),
    };
    let diff_id = diff_id.map_err(error::local("read", path))?;
    let (digest, size) = blob.finish().map_err(error::image)?;
    let layer = NewLayer { digest, size, diff_id, compression, history: history(rootfs) };
    image(layout, rootfs, layer, None)
}

fn digest_of(reader: impl Read) -> std::io::Result<Digest> {
    let mut reader = Hashing { inner: reader, hash: Sha256::new() };
    copy(&mut reader, &mut std::io::sink())?;
    Ok(Digest::from_hash(reader.hash.finalize().into()))
}

/// Writes what is read through it.
struct Tee<'a> {
    from: File,
    to: &'a mut BlobWriter,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.to.write_all(&buffer[..length])?;
        Ok(length)
    }
}

/// Ends a layer, and makes an image of it alone.
pub(super) fn finish(
    writer: LayerWriter<BlobWriter>,
    layout: &Layout,
    rootfs: &Rootfs,
    newest: Option<i64>,
) -> Result<Digest, Failure> {
    let (blob, digests) = writer.finish().map_err(error::local("write", layout.root()))?;
    blob.finish_as(&digests.digest, Some(digests.size)).map_err(error::image)?;
    let layer = NewLayer {
        digest: digests.digest,
        size: digests.size,
        diff_id: digests.diff_id,
        compression: LayerCompression::Gzip,
        history: history(rootfs),
    };
    image(layout, rootfs, layer, newest)
}

fn history(rootfs: &Rootfs) -> History {
    History { created_by: Some(rootfs.made_by.clone()), ..History::default() }
}

fn image(layout: &Layout, rootfs: &Rootfs, layer: NewLayer, newest: Option<i64>) -> Result<Digest, Failure> {
    let config = ImageConfig {
        architecture: rootfs.platform.architecture.clone(),
        variant: rootfs.platform.variant.clone(),
        os: rootfs.platform.os.clone(),
        config: RunConfig { env: Some(vec![PATH.to_owned()]), cmd: rootfs.command.clone(), ..RunConfig::default() },
        ..ImageConfig::default()
    };
    let assembly = Assembly {
        base: None,
        layers: vec![layer],
        config,
        format: ManifestFormat::Oci,
        created: creation_time(None, newest, None),
        squash_history: false,
        annotations: std::collections::BTreeMap::new(),
    };
    assemble(layout, &assembly).map(|assembled| assembled.manifest).map_err(error::image)
}
