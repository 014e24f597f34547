//! Media types: two families say the same things with different words.

use crate::error::ImageError;

/// A manifest of Docker's family.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// An index of Docker's family.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A config of Docker's family.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A manifest of OCI's family.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of OCI's family.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A config of OCI's family.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// Which words a manifest uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ManifestFormat {
    /// OCI image specification 1.1.
    #[default]
    Oci,
    /// Docker's image manifest, version 2, schema 2.
    Docker,
}

impl ManifestFormat {
    /// Of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            ManifestFormat::Oci => OCI_MANIFEST,
            ManifestFormat::Docker => DOCKER_MANIFEST,
        }
    }

    /// Of a config.
    pub fn config(self) -> &'static str {
        match self {
            ManifestFormat::Oci => OCI_CONFIG,
            ManifestFormat::Docker => DOCKER_CONFIG,
        }
    }

    /// Of a layer.
    ///
    /// # Errors
    /// Docker's family has no word for zstd.
    pub fn layer(self, compression: LayerCompression) -> Result<&'static str, ImageError> {
        Ok(match (self, compression) {
            (ManifestFormat::Oci, LayerCompression::None) => OCI_LAYER,
            (ManifestFormat::Oci, LayerCompression::Gzip) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (ManifestFormat::Oci, LayerCompression::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (ManifestFormat::Docker, LayerCompression::None) => DOCKER_LAYER,
            (ManifestFormat::Docker, LayerCompression::Gzip) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (ManifestFormat::Docker, LayerCompression::Zstd) => {
                return Err(ImageError::Malformed {
                    what: "the manifest".to_owned(),
                    problem: "Docker's manifests cannot name layers that are compressed with zstd; the OCI ones can"
                        .to_owned(),
                });
            }
        })
    }

    /// The word of this family for a layer's type of either; types of neither stay.
    ///
    /// # Errors
    /// Docker's family has no word for zstd.
    pub fn convert_layer(self, media_type: &str) -> Result<String, ImageError> {
        let Some((is_foreign, compression)) = layer_kind(media_type) else { return Ok(media_type.to_owned()) };
        let plain = self.layer(compression)?;
        Ok(match (is_foreign, self) {
            (false, _) => plain.to_owned(),
            (true, ManifestFormat::Oci) => plain.replace(OCI_LAYER, OCI_FOREIGN),
            (true, ManifestFormat::Docker) => plain.replace(DOCKER_LAYER, DOCKER_FOREIGN),
        })
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// gzip, of one member or several.
    Gzip,
    /// zstd, of one frame or several.
    Zstd,
}

impl LayerCompression {
    /// By the first bytes. Whatever has no magic of its own is taken for a tar.
    pub fn detect(start: &[u8]) -> LayerCompression {
        match start {
            [0x1f, 0x8b, ..] => LayerCompression::Gzip,
            // A frame, or a frame to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => LayerCompression::Zstd,
            _ => LayerCompression::None,
        }
    }

    /// By the media type of a layer, of either family.
    pub fn of_media_type(media_type: &str) -> Option<LayerCompression> {
        layer_kind(media_type).map(|(_, compression)| compression)
    }
}

/// Whether the layer lies somewhere else, and its compression.
fn layer_kind(media_type: &str) -> Option<(bool, LayerCompression)> {
    for (prefix, is_foreign) in [(OCI_LAYER, false), (OCI_FOREIGN, true), (DOCKER_LAYER, false), (DOCKER_FOREIGN, true)]
    {
        let compression = match media_type.strip_prefix(prefix) {
            Some("") => LayerCompression::None,
            Some("+gzip" | ".gzip") => LayerCompression::Gzip,
            Some("+zstd" | ".zstd") => LayerCompression::Zstd,
            _ => continue,
        };
        return Some((is_foreign, compression));
    }
    None
}

/// Whether a document of this type names several images.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// Whether a document of this type is one image.
pub fn is_manifest(media_type: &str) -> bool {
    matches!(media_type, OCI_MANIFEST | DOCKER_MANIFEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_change_families_and_keep_their_meaning() {
        let gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let converted = ManifestFormat::Oci.convert_layer(gzip).unwrap();
        assert_eq!(converted, "application/vnd.oci.image.layer.v1.tar+gzip");
        assert_eq!(ManifestFormat::Docker.convert_layer(&converted).unwrap(), gzip);
        let foreign = ManifestFormat::Oci.convert_layer(&gzip.replace("rootfs.", "rootfs.foreign.")).unwrap();
        assert_eq!(foreign, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
        assert_eq!(ManifestFormat::Oci.convert_layer("application/x-own").unwrap(), "application/x-own");
        assert!(ManifestFormat::Docker.convert_layer("application/vnd.oci.image.layer.v1.tar+zstd").is_err());
    }

    #[test]
    fn compression_is_seen_by_the_first_bytes() {
        assert_eq!(LayerCompression::detect(&[0x1f, 0x8b, 8]), LayerCompression::Gzip);
        assert_eq!(LayerCompression::detect(&[0x28, 0xb5, 0x2f, 0xfd, 4]), LayerCompression::Zstd);
        assert_eq!(LayerCompression::detect(&[0x50, 0x2a, 0x4d, 0x18]), LayerCompression::Zstd);
        assert_eq!(LayerCompression::detect(b"etc/passwd"), LayerCompression::None);
        assert_eq!(LayerCompression::detect(b""), LayerCompression::None);
    }
}
