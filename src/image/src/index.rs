//! Indexes: one name for the images of several platforms.
//!
//! Source: OCI image specification, "Image Index" 1.1; Docker's "Image Manifest V 2, Schema 2", manifest lists.

use kiln_core::Platform;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::{Image, to_json};
use crate::layout::Layout;
use crate::{Descriptor, ImageIndex, media};

/// The entry of an index that is for a platform: of the variant asked for, else the first that fits.
pub fn choose<'a>(platform: &Platform, index: &'a ImageIndex) -> Option<&'a Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform().as_ref().is_some_and(|found| {
            found.os().to_string() == platform.os && found.architecture().to_string() == platform.architecture
        })
    };
    let fitting = || index.manifests().iter().filter(fits);
    let variant_of = |descriptor: &Descriptor| descriptor.platform().as_ref()?.variant().clone();
    match &platform.variant {
        Some(variant) => fitting()
            .find(|descriptor| variant_of(descriptor).as_deref() == Some(variant))
            .or_else(|| fitting().find(|descriptor| variant_of(descriptor).is_none())),
        None => fitting().next().or_else(|| match index.manifests().as_slice() {
            // One that says nothing is for everybody.
            [only] if only.platform().is_none() => Some(only),
            _ => None,
        }),
    }
}

/// Writes an index of images of the layout, in this order: OCI's, or Docker's manifest list where all of them are
/// Docker's. Equal images give an equal index.
///
/// # Errors
/// An image is not there, or is for another platform than it is said to be; the index cannot be written.
pub fn write_index(layout: &Layout, images: &[(Platform, Digest)]) -> Result<Digest, ImageError> {
    let mut entries = Vec::new();
    let mut is_docker = true;
    for (platform, digest) in images {
        let image = Image::open(layout, digest)?;
        check_platform(&image, platform)?;
        is_docker &= image.media_type == media::DOCKER_MANIFEST;
        entries.push(entry(&image, platform));
    }
    let media_type = if is_docker && !entries.is_empty() { media::DOCKER_INDEX } else { media::OCI_INDEX };
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
    layout.put_document(&to_json(&index)?)
}

/// What an image is for, as its config says.
pub fn platform_of(image: &Image) -> Platform {
    let config = &image.config;
    Platform { os: config.os.clone(), architecture: config.architecture.clone(), variant: config.variant.clone() }
}

fn check_platform(image: &Image, wanted: &Platform) -> Result<(), ImageError> {
    let found = platform_of(image);
    // A config often has no variant although its programs need one.
    let is_it = (&found.os, &found.architecture) == (&wanted.os, &wanted.architecture)
        && (found.variant.is_none() || found.is(wanted));
    let problem = || format!("its config says that it is for {found}, and it is to be the one for {wanted}");
    is_it
        .then_some(())
        .ok_or_else(|| ImageError::Malformed { what: format!("the image {}", image.digest), problem: problem() })
}

fn entry(image: &Image, platform: &Platform) -> Value {
    let mut runs = Map::new();
    runs.insert("architecture".to_owned(), json!(platform.architecture));
    runs.insert("os".to_owned(), json!(platform.os));
    if let Some(variant) = &platform.variant {
        runs.insert("variant".to_owned(), json!(variant));
    }
    json!({
        "mediaType": image.media_type,
        "digest": image.digest.as_str(),
        "size": image.manifest.len(),
        "platform": runs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{History, ImageConfig, RunConfig};
    use crate::image::{Assembly, assemble};
    use crate::media::ManifestFormat;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    fn image(layout: &Layout, text: &str, format: ManifestFormat) -> Digest {
        let runs = platform(text);
        let config = ImageConfig {
            architecture: runs.architecture,
            os: runs.os,
            variant: runs.variant,
            config: RunConfig::default(),
            history: vec![History::default()],
            ..ImageConfig::default()
        };
        let assembly = Assembly {
            base: None,
            layers: Vec::new(),
            config,
            format,
            created: 0,
            squash_history: false,
            annotations: Default::default(),
        };
        assemble(layout, &assembly).unwrap().manifest
    }

    #[test]
    fn an_index_says_what_each_image_is_for() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let images = ["linux/amd64", "linux/arm64", "linux/arm/v7"]
            .map(|text| (platform(text), image(&layout, text, ManifestFormat::Oci)));
        let digest = write_index(&layout, &images).unwrap();
        let document: Value = serde_json::from_slice(&layout.document(&digest).unwrap()).unwrap();
        let expected = |(platform, digest): &(Platform, Digest)| {
            let mut runs = json!({ "architecture": platform.architecture, "os": "linux" });
            if let Some(variant) = &platform.variant {
                runs["variant"] = json!(variant);
            }
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest.as_str(),
                "size": layout.size(digest).unwrap(), "platform": runs,
            })
        };
        let manifests: Vec<Value> = images.iter().map(expected).collect();
        let media_type = "application/vnd.oci.image.index.v1+json";
        assert_eq!(document, json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests }));
        // As others read it.
        let index: ImageIndex = serde_json::from_value(document).unwrap();
        assert_eq!(index.manifests().len(), 3);
        for (platform, digest) in &images {
            assert_eq!(
                Image::open_for(&layout, &write_index(&layout, &images).unwrap(), platform).unwrap().digest,
                *digest
            );
        }
        assert_eq!(write_index(&layout, &images).unwrap(), digest, "equal images, equal index");
    }

    #[test]
    fn images_of_docker_get_its_manifest_list_and_mixed_ones_an_index_of_oci() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let docker = (platform("linux/amd64"), image(&layout, "linux/amd64", ManifestFormat::Docker));
        let oci = (platform("linux/arm64"), image(&layout, "linux/arm64", ManifestFormat::Oci));
        let media_type = |images: &[(Platform, Digest)]| {
            let document = layout.document(&write_index(&layout, images).unwrap()).unwrap();
            serde_json::from_slice::<Value>(&document).unwrap()["mediaType"].as_str().unwrap().to_owned()
        };
        assert_eq!(media_type(std::slice::from_ref(&docker)), media::DOCKER_INDEX);
        assert_eq!(media_type(&[docker, oci]), media::OCI_INDEX);
    }

    #[test]
    fn an_image_of_another_platform_is_no_part_of_it() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let amd64 = image(&layout, "linux/amd64", ManifestFormat::Oci);
        let error = write_index(&layout, &[(platform("linux/arm64"), amd64.clone())]).unwrap_err();
        assert!(
            error.to_string().ends_with("says that it is for linux/amd64, and it is to be the one for linux/arm64"),
            "{error}"
        );
        // A config that leaves the variant out is no other platform.
        let plain = image(&layout, "linux/arm", ManifestFormat::Oci);
        assert!(write_index(&layout, &[(platform("linux/arm/v7"), plain)]).is_ok());
        let missing = Digest::of(b"x");
        assert!(matches!(write_index(&layout, &[(platform("linux/amd64"), missing)]), Err(ImageError::Missing { .. })));
    }
}
