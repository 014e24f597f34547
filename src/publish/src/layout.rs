//! Images that lie in an OCI layout of this host, as builders without a daemon make them: named, pushed and saved there.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, Failure, Image};
use kiln_docker::engine::TransferProgress;
use kiln_image::undo::NameUndo;
use kiln_image::{Digest, ImageError, Layout, archive};
use kiln_registry::{Client, ClientOptions, Note, Platform, Progress, PushOptions, Pushed, Reference, Stage};

use crate::error::PublishError;
use crate::{prepare, progress};

/// An image of a layout.
#[derive(Debug, Clone)]
pub(crate) struct LayoutImage {
    layout: Layout,
    manifest: Digest,
}

impl LayoutImage {
    /// The image if it lies in a layout; `None` for one of an engine.
    pub(crate) fn of(image: &Image) -> Result<Option<LayoutImage>, PublishError> {
        let Some(root) = &image.layout else { return Ok(None) };
        let failed = PublishError::layout(format!("look at the image {}", image.id));
        let open = || {
            let manifest = Digest::parse(image.digest.as_deref().unwrap_or_default())?;
            Ok(LayoutImage { layout: Layout::open(root)?, manifest })
        };
        open().map(Some).map_err(failed)
    }

    /// Names it in its layout, where a build finds it as its base.
    pub(crate) fn name(&self, reference: &Reference, context: &BuildContext) -> Result<(), Failure> {
        let name = reference.in_full();
        let failed = |error| PublishError::layout(format!("name the image {reference}"))(error);
        let note = |undo| context.journal.record(&context.build, undo).map(drop);
        NameUndo::give(&self.layout, &name, &self.manifest, note).map_err(failed)?
    }

    /// Takes names away again that still mean it.
    fn unname(&self, names: &[String]) -> Result<(), ImageError> {
        for name in names {
            self.layout.take_name(name, &self.manifest)?;
        }
        Ok(())
    }

    /// The digest that names it.
    pub(crate) fn manifest(&self) -> &Digest {
        &self.manifest
    }

    /// The image for a platform, where one is asked for: of an index its own; one that is for another is refused.
    pub(crate) fn for_platform(&self, wanted: Option<&str>) -> Result<LayoutImage, PublishError> {
        let Some(text) = wanted else { return Ok(self.clone()) };
        let failed = || PublishError::layout("look at the image's platform");
        let wanted = Platform::parse(text);
        let any = || Platform { os: String::new(), architecture: String::new(), variant: None };
        let image = kiln_image::Image::open_for(&self.layout, &self.manifest, &wanted.clone().unwrap_or_else(any));
        let image = image.map_err(failed())?;
        let found = kiln_image::index::platform_of(&image);
        let is_wanted = wanted.is_some_and(|wanted| {
            (&wanted.os, &wanted.architecture) == (&found.os, &found.architecture)
                && wanted.variant.is_none_or(|variant| found.variant.as_ref().is_none_or(|found| *found == variant))
        });
        let found = format!("{}/{}", found.os, found.architecture);
        match is_wanted {
            true => Ok(LayoutImage { layout: self.layout.clone(), manifest: image.digest }),
            false => Err(PublishError::Platform { wanted: text.to_owned(), found }),
        }
    }

    /// Repositories beside `target` that should have layers of this image, since images of the layout that share them are
    /// named after them: those in `pushed`, and the one that shares most.
    pub(crate) async fn relatives(
        &self,
        target: &Reference,
        pushed: &[Reference],
        context: &BuildContext,
    ) -> Result<Vec<Reference>, PublishError> {
        let (image, target, pushed) = (self.clone(), target.clone(), pushed.to_vec());
        prepare::blocking(context, self.layout.root().to_path_buf(), move |_| {
            let is_beside = |other: &Reference| other.registry == target.registry && other.name() != target.name();
            let mut relatives: Vec<Reference> = pushed.into_iter().filter(&is_beside).collect();
            if relatives.is_empty() {
                relatives.extend(image.closest(&is_beside));
            }
            Ok(relatives)
        })
        .await
    }

    /// What cannot be read is no relative: it would only save some bytes.
    fn closest(&self, is_candidate: &dyn Fn(&Reference) -> bool) -> Option<Reference> {
        let layers = |digest: &Digest| {
            let image = kiln_image::Image::open(&self.layout, digest).ok()?;
            Some(image.layers.into_iter().map(|layer| layer.digest).collect::<Vec<_>>())
        };
        let own = layers(&self.manifest)?;
        let mut best: Option<(usize, Reference)> = None;
        for named in self.layout.names().ok()? {
            let Some(reference) = named.name.and_then(|name| Reference::parse(&name).ok()) else { continue };
            if !is_candidate(&reference) {
                continue;
            }
            let theirs = layers(&named.digest).unwrap_or_default();
            let shared = own.iter().filter(|layer| theirs.contains(layer)).count();
            if shared > best.as_ref().map_or(0, |(most, _)| *most) {
                best = Some((shared, reference));
            }
        }
        best.map(|(_, reference)| reference)
    }

    /// Pushes it under these names, without an engine.
    pub(crate) async fn push(
        &self,
        client: &Client,
        references: &[Reference],
        mount_from: Vec<Reference>,
        context: &BuildContext,
    ) -> Result<Pushed, PublishError> {
        let shown: Vec<String> = references.iter().map(Reference::to_string).collect();
        shown.iter().for_each(|name| context.events.message(format!("pushing {name}")));
        let steps = progress::Progress::new("", context.events.clone());
        let progress = Arc::new(move |step: Progress| {
            let status = match step.stage {
                Stage::Moving | Stage::Moved => "pushing",
                Stage::Present => "there already",
                Stage::Mounted => "mounted",
            };
            let item = format!("{:.12}", step.digest.hex());
            steps.report(TransferProgress {
                item,
                status: status.to_owned(),
                current: step.done,
                total: Some(step.total),
            });
        });
        let options = PushOptions { mount_from, ..PushOptions::default() };
        let push = client.push(&self.layout, &self.manifest, references, &options, progress);
        let pushed = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(PublishError::Cancelled),
            pushed = push => pushed,
        };
        pushed.map_err(|source| PublishError::Registry { references: shown.join(", "), source })
    }

    /// Gives it one more name in a repository that has it under another.
    pub(crate) async fn name_beside(
        &self,
        client: &Client,
        known: &Reference,
        reference: &Reference,
        context: &BuildContext,
    ) -> Result<(), PublishError> {
        context.events.message(format!("pushing {reference}"));
        let tags = [reference.tag_or_latest().to_owned()];
        let named = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(PublishError::Cancelled),
            named = client.retag(known, &tags) => named,
        };
        named.map(drop).map_err(|source| PublishError::Registry { references: reference.to_string(), source })
    }

    /// Writes it as an archive for `docker load`; blocks.
    pub(crate) fn save(&self, names: &[String], to: &std::path::Path) -> Result<(), PublishError> {
        let file = |action| move |source| PublishError::File { action, path: to.to_path_buf(), source };
        let archive = std::fs::File::create(to).map_err(file("create"))?;
        let mut archive = std::io::BufWriter::with_capacity(1 << 20, archive);
        archive::export_docker_archive(&self.layout, &self.manifest, names, &mut archive)
            .map_err(PublishError::layout(format!("save the image to {}", to.display())))?;
        std::io::Write::flush(&mut archive).map_err(file("write"))
    }
}

/// A client that tells what it tries again. Logins are told by who chose them.
pub(crate) fn client(options: ClientOptions, context: &BuildContext) -> Client {
    let events = context.events.clone();
    let notes = Arc::new(move |note: Note| {
        if let Note::Retry { .. } = note {
            events.warn(note.to_string());
        }
    });
    Client::new(ClientOptions { notes, ..options })
}

/// Takes names of a layout away again.
pub(crate) struct LayoutNameOwner(
    /// In full.
    pub(crate) Vec<String>,
);

#[async_trait]
impl ArtifactOwner for LayoutNameOwner {
    async fn destroy(&self, artifact: &Artifact, _context: &BuildContext) -> Result<(), Failure> {
        let Some(image) = artifact.image() else { return Ok(()) };
        let gone = image.layout.as_ref().is_none_or(|root: &PathBuf| !root.join("oci-layout").exists());
        if gone {
            return Ok(());
        }
        if let Some(image) = LayoutImage::of(image)? {
            image.unname(&self.0).map_err(PublishError::layout("take the image's names away"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
