//! The same without an engine: the image is made in a store of this host.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use kiln_core::{ArtifactOwner, BuildContext, Decoded, Diagnostic, Diagnostics, Failure, Image};
use kiln_image::changes::Changes;
use kiln_image::config::{History, RunConfig};
use kiln_image::rootfs::other_compression;
use kiln_image::{Digest, ImageError, Layout, Platform, Rootfs};
use kiln_registry::Reference;

use super::KIND;
use crate::error::PublishError;
use crate::layout::{LayoutImage, LayoutNameOwner};
use crate::prepare;
use crate::settings::StoreProvider;

/// What is imported how.
pub(super) struct StoreImport {
    store: Arc<dyn StoreProvider>,
    config: RunConfig,
    platform: Platform,
    /// `SOURCE_DATE_EPOCH`.
    epoch: Option<i64>,
}

impl StoreImport {
    /// Checks what an engine would check itself.
    pub(super) fn new(
        store: &Arc<dyn StoreProvider>,
        changes: &[String],
        platform: Option<&str>,
        decoded: &Decoded,
        diagnostics: &mut Diagnostics,
    ) -> Option<StoreImport> {
        let mut found = Diagnostics::new();
        let mut wrong = |path: &str, message: String, help: Option<String>| {
            if !decoded.is_unknown(path) {
                let diagnostic = Diagnostic::error("wrong-value", decoded.span(path), message);
                found.push(help.into_iter().fold(diagnostic, Diagnostic::help));
            }
        };
        let (changes, errors) = Changes::parse(changes);
        for (index, error) in errors.into_iter().chain(changes.check()) {
            wrong(&format!("changes[{index}]"), error.message, error.help);
        }
        let mut config = RunConfig::default();
        // What can be wrong with them was told just now.
        let _ = changes.apply(&mut config);
        let parsed = platform.map(|text| (text, kiln_registry::Platform::parse(text)));
        let platform = match parsed {
            None => Platform::host(),
            Some((_, Some(platform))) => {
                Platform { os: platform.os, architecture: platform.architecture, variant: platform.variant }
            }
            Some((text, None)) => {
                wrong("platform", format!("`{text}` is no platform such as `linux/arm64`"), None);
                Platform::host()
            }
        };
        let is_wrong = found.has_errors();
        diagnostics.extend(found);
        (!is_wrong).then(|| StoreImport { store: Arc::clone(store), config, platform, epoch: None })
    }

    /// The same with a time that the image is to be of.
    pub(super) fn created(self, epoch: Option<i64>) -> StoreImport {
        StoreImport { epoch, ..self }
    }

    /// Makes the image, and names it.
    pub(super) async fn run(
        &self,
        file: &Path,
        reference: &Reference,
        context: &BuildContext,
    ) -> Result<(Image, Arc<dyn ArtifactOwner>), Failure> {
        let layout = context.unless_cancelled(self.store.layout()).await??;
        context.events.message(format!("importing {} as {reference}", file.display()));
        let rootfs = Rootfs {
            platform: self.platform.clone(),
            config: self.config.clone(),
            history: History { created_by: Some(KIND.to_owned()), ..History::default() },
            created: self.epoch,
        };
        let (path, its_layout) = (file.to_path_buf(), layout.clone());
        let importing = prepare::blocking(context, path.clone(), move |_| {
            let failed = PublishError::layout(format!("import {}", path.display()));
            let imported = import(&rootfs, &path, &its_layout).and_then(|manifest| {
                let image = kiln_image::Image::open(&its_layout, &manifest)?;
                Ok((manifest, image.config_digest))
            });
            imported.map_err(failed)
        });
        let (manifest, config) = importing.await?;
        let image = Image {
            id: config.to_string(),
            tags: vec![reference.to_string()],
            digest: Some(manifest.to_string()),
            layout: Some(layout.root().to_path_buf()),
            ..Image::default()
        };
        if let Some(stored) = LayoutImage::of(&image)? {
            stored.name(reference, context)?;
        }
        Ok((image, Arc::new(LayoutNameOwner(vec![reference.in_full()]))))
    }
}

/// Reads the tar, also where it is compressed in ways that engines take and layers cannot have.
fn import(rootfs: &Rootfs, path: &Path, layout: &Layout) -> Result<Digest, ImageError> {
    let failed = || ImageError::io("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut start = Vec::new();
    (&mut file).take(6).read_to_end(&mut start).map_err(failed())?;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    match other_compression(&start) {
        None => rootfs.of_tar(file, path, layout),
        Some("xz") => {
            let decoder = liblzma::read::XzDecoder::new_multi_decoder(BufReader::new(file));
            rootfs.of_stream(decoder, path, layout)
        }
        Some(_) => rootfs.of_stream(bzip2::read::MultiBzDecoder::new(BufReader::new(file)), path, layout),
    }
}

#[cfg(test)]
mod tests;
