//! An image whose layers are plain tars, as engines hand them out, with layers as registries are to get them.

use std::io;

use serde_json::{Value, json};

use crate::compress::{Compression, LayerWriter};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Image, to_json};
use crate::layout::Layout;
use crate::media::{self, LayerCompression, ManifestFormat};

/// Compresses the plain layers of an image of the layout; its config, and so its id, stays. The digest of the image's new
/// manifest, or of its own where there was nothing to do. Equal images give equal ones.
///
/// # Errors
/// The image is not whole, or the layout cannot be written.
pub fn compress_layers(layout: &Layout, manifest: &Digest) -> Result<Digest, ImageError> {
    let image = Image::open(layout, manifest)?;
    let is_docker = image.media_type == media::DOCKER_MANIFEST;
    let format = if is_docker { ManifestFormat::Docker } else { ManifestFormat::Oci };
    let mut document: Value = serde_json::from_slice(&image.manifest)
        .map_err(|error| ImageError::Malformed { what: manifest.to_string(), problem: error.to_string() })?;
    let mut has_changed = false;
    for (index, layer) in image.layers.iter().enumerate() {
        if LayerCompression::of_media_type(&layer.media_type) != Some(LayerCompression::None) || !layer.urls.is_empty()
        {
            continue;
        }
        let path = layout.blob_path(&layer.digest);
        let mut plain = std::fs::File::open(&path).map_err(ImageError::io("read", &path))?;
        let mut writer = LayerWriter::new(layout.blob_writer()?, Compression::default());
        io::copy(&mut plain, &mut writer).map_err(ImageError::io("compress", &path))?;
        let (blob, digests) = writer.finish().map_err(ImageError::io("compress", &path))?;
        if digests.diff_id != layer.diff_id {
            return Err(ImageError::Mismatch { wanted: layer.diff_id.clone(), found: digests.diff_id });
        }
        blob.finish_as(&digests.digest, Some(digests.size))?;
        document["layers"][index] = json!({
            "mediaType": format.layer(LayerCompression::Gzip)?,
            "digest": digests.digest.as_str(),
            "size": digests.size,
        });
        has_changed = true;
    }
    if !has_changed {
        return Ok(manifest.clone());
    }
    layout.put_document(&to_json(&document)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{export_docker_archive, import_archive};
    use crate::rootfs::Rootfs;

    #[test]
    fn plain_layers_are_compressed_and_the_id_stays() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(3);
        tar.append_data(&mut header, "file", &b"abc"[..]).unwrap();
        let tar = tar.into_inner().unwrap();
        let compressed = Rootfs::default().of_stream(tar.as_slice(), "x".as_ref(), &layout).unwrap();
        let before = Image::open(&layout, &compressed).unwrap();
        assert_eq!(compress_layers(&layout, &compressed).unwrap(), compressed, "nothing to do");
        // As an engine hands it out: the layer is its plain tar.
        let plain = layout.put_document(&tar).unwrap();
        let mut document: Value = serde_json::from_slice(&before.manifest).unwrap();
        document["layers"][0] = json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": plain.as_str(), "size": tar.len(),
        });
        let handed_out = layout.put_document(document.to_string().as_bytes()).unwrap();
        let again = Image::open(&layout, &compress_layers(&layout, &handed_out).unwrap()).unwrap();
        assert_eq!((&again.config_digest, &again.layers), (&before.config_digest, &before.layers));
        let mut archive = Vec::new();
        export_docker_archive(&layout, &again.digest, &[], &mut archive).unwrap();
        assert_eq!(import_archive(archive.as_slice(), &layout).unwrap().len(), 1);
    }
}
