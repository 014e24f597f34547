//! One image of a layout: read as a whole, and put together from a base, new layers and a config.

use std::collections::BTreeMap;

use kiln_core::Platform;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::config::{History, ImageConfig};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::index::choose;
use crate::layout::Layout;
use crate::media::{self, LayerCompression, ManifestFormat};
use crate::{ImageIndex, ImageManifest};

/// A layer as a manifest names it, with what its config says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerReference {
    /// Of the blob.
    pub digest: Digest,
    /// Of the blob, in bytes.
    pub size: u64,
    /// As written.
    pub media_type: String,
    /// Of the tar within.
    pub diff_id: Digest,
    /// Where it lies when no registry has it (layers that may not be distributed).
    pub urls: Vec<String>,
    /// As written, sorted.
    pub annotations: BTreeMap<String, String>,
}

/// An image of a layout, all its documents read and checked against their digests. Its layers need not be there.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Of its manifest.
    pub digest: Digest,
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// The manifest's type.
    pub media_type: String,
    /// Of its config: what Docker calls the image's id.
    pub config_digest: Digest,
    /// The config's bytes.
    pub raw_config: Vec<u8>,
    /// What they mean.
    pub config: ImageConfig,
    /// The lowest first.
    pub layers: Vec<LayerReference>,
}

impl Image {
    /// Reads one by the digest of its manifest.
    ///
    /// # Errors
    /// A document is missing, damaged, or not what it should be: also when it has not as many layers as diff ids.
    pub fn open(layout: &Layout, digest: &Digest) -> Result<Image, ImageError> {
        let raw = layout.document(digest)?;
        let what = || format!("the manifest {digest}");
        let malformed = |problem: String| ImageError::Malformed { what: what(), problem };
        let manifest: ImageManifest = serde_json::from_slice(&raw).map_err(|error| malformed(error.to_string()))?;
        let config_digest = Digest::parse(manifest.config().digest().as_ref())?;
        let raw_config = layout.document(&config_digest)?;
        let config = ImageConfig::parse(&raw_config, &config_digest)?;
        if manifest.layers().len() != config.rootfs.diff_ids.len() {
            let problem =
                format!("it has {} layers, its config {}", manifest.layers().len(), config.rootfs.diff_ids.len());
            return Err(malformed(problem));
        }
        let mut layers = Vec::new();
        for (descriptor, diff_id) in manifest.layers().iter().zip(&config.rootfs.diff_ids) {
            layers.push(LayerReference {
                digest: Digest::parse(descriptor.digest().as_ref())?,
                size: descriptor.size(),
                media_type: descriptor.media_type().to_string(),
                diff_id: diff_id.clone(),
                urls: descriptor.urls().clone().unwrap_or_default(),
                annotations: descriptor.annotations().clone().unwrap_or_default().into_iter().collect(),
            });
        }
        let media_type = match manifest.media_type() {
            Some(media_type) => media_type.to_string(),
            // OCI 1.0 left it out.
            None => media::OCI_MANIFEST.to_owned(),
        };
        Ok(Image { digest: digest.clone(), manifest: raw, media_type, config_digest, raw_config, config, layers })
    }

    /// Opens what this digest names, be it a manifest or an index that holds one for this platform.
    ///
    /// # Errors
    /// As [`Image::open`]; no image of the index is for this platform.
    pub fn open_for(layout: &Layout, digest: &Digest, platform: &Platform) -> Result<Image, ImageError> {
        let raw = layout.document(digest)?;
        let value: Value = serde_json::from_slice(&raw).map_err(|error| ImageError::Malformed {
            what: format!("the document {digest}"),
            problem: error.to_string(),
        })?;
        if value.get("manifests").is_none() {
            return Image::open(layout, digest);
        }
        let index: ImageIndex = serde_json::from_value(value).map_err(|error| ImageError::Malformed {
            what: format!("the index {digest}"),
            problem: error.to_string(),
        })?;
        let chosen = choose(platform, &index).ok_or_else(|| ImageError::Malformed {
            what: format!("the index {digest}"),
            problem: format!("no image in it is for {platform}"),
        })?;
        Image::open(layout, &Digest::parse(chosen.digest().as_ref())?)
    }

    /// For each layer, the lowest first, what names it together with all below it.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(self.layers.iter().map(|layer| &layer.diff_id))
    }
}

/// OCI's chain ids of these diff ids, the lowest first.
pub fn chain_ids<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::new();
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => {
                let mut hash = Sha256::new();
                hash.update(below.as_str());
                hash.update(" ");
                hash.update(diff_id.as_str());
                Digest::from_hash(hash.finalize().into())
            }
        };
        chain.push(next);
    }
    chain
}

/// A layer that a build made; its blob is in the layout, or on its way to a registry.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLayer {
    /// Of the blob.
    pub digest: Digest,
    /// Of the blob, in bytes.
    pub size: u64,
    /// Of the tar within.
    pub diff_id: Digest,
    /// How the blob is compressed.
    pub compression: LayerCompression,
    /// Its line in the history; `created` and `empty_layer` are set by [`assemble`].
    pub history: History,
}

/// What an image is put together from.
#[derive(Debug, Clone)]
pub struct Assembly<'a> {
    /// What it is built on; `None` from scratch.
    pub base: Option<&'a Image>,
    /// The lowest first.
    pub layers: Vec<NewLayer>,
    /// The base's config with what the build changed; layers, history and time are filled in.
    pub config: ImageConfig,
    /// The words of its manifest.
    pub format: ManifestFormat,
    /// Seconds since 1970. Never the clock: the same content must have the same digest.
    pub created: i64,
    /// The base's history is reduced to one line a layer, without commands.
    pub squash_history: bool,
    /// Of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// An image that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Of its manifest.
    pub manifest: Digest,
    /// The manifest's type.
    pub media_type: String,
    /// The manifest's size in bytes.
    pub manifest_size: u64,
    /// Of its config.
    pub config: Digest,
    /// Bytes of the config and of all layers' blobs.
    pub size: u64,
}

/// Writes the config and the manifest of an image. Equal input gives equal digests.
///
/// # Errors
/// Docker's format and a layer in zstd; a document cannot be written; the time is no time.
pub fn assemble(layout: &Layout, assembly: &Assembly<'_>) -> Result<Assembled, ImageError> {
    let config = finished_config(assembly)?;
    let raw_config = to_json(&config)?;
    let config_digest = layout.put_document(&raw_config)?;
    let mut layers = Vec::new();
    let mut size = raw_config.len() as u64;
    for layer in assembly.base.iter().flat_map(|base| &base.layers) {
        layers.push(descriptor_of(layer, assembly.format)?);
        size += layer.size;
    }
    for layer in &assembly.layers {
        let media_type = assembly.format.layer(layer.compression)?;
        layers.push(json!({"mediaType": media_type, "digest": layer.digest.as_str(), "size": layer.size}));
        size += layer.size;
    }
    let mut manifest = Map::new();
    manifest.insert("schemaVersion".to_owned(), json!(2));
    manifest.insert("mediaType".to_owned(), json!(assembly.format.manifest()));
    manifest.insert(
        "config".to_owned(),
        json!({
            "mediaType": assembly.format.config(), "digest": config_digest.as_str(), "size": raw_config.len(),
        }),
    );
    manifest.insert("layers".to_owned(), Value::Array(layers));
    if !assembly.annotations.is_empty() && assembly.format == ManifestFormat::Oci {
        manifest.insert("annotations".to_owned(), json!(assembly.annotations));
    }
    let raw = to_json(&manifest)?;
    let digest = layout.put_document(&raw)?;
    Ok(Assembled {
        manifest: digest,
        media_type: assembly.format.manifest().to_owned(),
        manifest_size: raw.len() as u64,
        config: config_digest,
        size,
    })
}

fn descriptor_of(layer: &LayerReference, format: ManifestFormat) -> Result<Value, ImageError> {
    let mut descriptor = Map::new();
    descriptor.insert("mediaType".to_owned(), json!(format.convert_layer(&layer.media_type)?));
    descriptor.insert("digest".to_owned(), json!(layer.digest.as_str()));
    descriptor.insert("size".to_owned(), json!(layer.size));
    if !layer.urls.is_empty() {
        descriptor.insert("urls".to_owned(), json!(layer.urls));
    }
    if !layer.annotations.is_empty() && format == ManifestFormat::Oci {
        descriptor.insert("annotations".to_owned(), json!(layer.annotations));
    }
    Ok(Value::Object(descriptor))
}

/// Fields of Docker's configs that speak of the container which the image was made from.
const OF_ANOTHER_CONTAINER: [&str; 5] = ["container", "container_config", "docker_version", "id", "parent"];

fn finished_config(assembly: &Assembly<'_>) -> Result<ImageConfig, ImageError> {
    let created = timestamp(assembly.created)?;
    let mut config = assembly.config.clone();
    config.created = Some(created.clone());
    for field in OF_ANOTHER_CONTAINER {
        config.other.remove(field);
    }
    if config.architecture.is_empty() {
        config.architecture = Platform::host().architecture;
    }
    if config.os.is_empty() {
        config.os = "linux".to_owned();
    }
    let base_layers = assembly.base.map_or(&[][..], |base| &base.layers);
    let base_history = assembly.base.map_or(&[][..], |base| &base.config.history);
    config.rootfs.kind = "layers".to_owned();
    config.rootfs.diff_ids = base_layers.iter().map(|layer| layer.diff_id.clone()).collect();
    config.history = history_of_base(base_history, base_layers.len(), assembly.squash_history);
    for layer in &assembly.layers {
        config.rootfs.diff_ids.push(layer.diff_id.clone());
        config.history.push(History { created: Some(created.clone()), empty_layer: false, ..layer.history.clone() });
    }
    if assembly.layers.is_empty() && assembly.base.is_none_or(|base| base.config.config != config.config) {
        let history = History {
            created: Some(created),
            created_by: Some("kiln".to_owned()),
            empty_layer: true,
            ..History::default()
        };
        config.history.push(history);
    }
    Ok(config)
}

/// As many lines with a layer as there are layers: some builders leave history out, and some tools then refuse the image.
fn history_of_base(history: &[History], layers: usize, squash: bool) -> Vec<History> {
    let with_layer = history.iter().filter(|line| !line.empty_layer).count();
    if !squash && with_layer == layers {
        return history.to_vec();
    }
    let mut created = history.iter().filter(|line| !line.empty_layer).map(|line| line.created.clone());
    (0..layers).map(|_| History { created: created.next().flatten(), ..History::default() }).collect()
}

/// RFC 3339 of seconds since 1970.
///
/// # Errors
/// Beyond the year 9999.
pub fn timestamp(seconds: i64) -> Result<String, ImageError> {
    jiff::Timestamp::from_second(seconds)
        .map(|time| time.to_string())
        .map_err(|error| ImageError::Malformed { what: "the time of creation".to_owned(), problem: error.to_string() })
}

/// When an image was made, as far as its content says: what the caller was told (`SOURCE_DATE_EPOCH`), else the newest file of
/// its new layers, else what its base says, else 1970. Never the clock.
pub fn creation_time(told: Option<i64>, newest_file: Option<i64>, base: Option<&Image>) -> i64 {
    let of_base = || base?.config.created.as_deref()?.parse::<jiff::Timestamp>().ok().map(|time| time.as_second());
    told.or(newest_file).or_else(of_base).unwrap_or(0)
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, ImageError> {
    serde_json::to_vec(value)
        .map_err(|error| ImageError::Malformed { what: "a document".to_owned(), problem: error.to_string() })
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
