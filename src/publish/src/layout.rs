//! Images that lie in an OCI layout of this host, as builders without a daemon make them: named, pushed and saved there.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, Failure, FailureClass, Image};
use kiln_image::undo::NameUndo;
use kiln_image::{Digest, ImageError, Layout, archive};
use kiln_registry::{Client, ClientOptions, Note, Progress, PushOptions, Pushed, Reference, RegistryError, Stage};

use crate::error::PublishError;
use crate::prepare;

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
            Ok(LayoutImage { layout: Layout::create(root)?, manifest })
        };
        open().map(Some).map_err(failed)
    }

    /// Names it in its layout, where a build finds it as its base.
    pub(crate) fn name(&self, reference: &Reference, context: &BuildContext) -> Result<(), Failure> {
        let name = reference.in_full();
        let failed = |error| PublishError::layout(format!("name the image {reference}"))(error);
        if let Some(undo) = NameUndo::of(&self.layout, &name, &self.manifest).map_err(failed)? {
            context.journal.record(&context.build, undo.entry())?;
            self.layout.set_name(&name, &self.manifest).map_err(failed)?;
        }
        Ok(())
    }

    /// Takes names away again that still mean it.
    fn unname(&self, names: &[String]) -> Result<(), ImageError> {
        for name in names {
            if self.layout.resolve_name(name)?.as_ref() == Some(&self.manifest) {
                self.layout.remove_name(name)?;
            }
        }
        Ok(())
    }

    /// Pushes it under these names, without an engine.
    pub(crate) async fn push(
        &self,
        references: &[Reference],
        options: ClientOptions,
        context: &BuildContext,
    ) -> Result<Pushed, Failure> {
        let events = context.events.clone();
        let notes = Arc::new(move |note: Note| match note {
            Note::Retry { .. } => events.warn(note.to_string()),
            note => events.message(note.to_string()),
        });
        let shown: Vec<String> = references.iter().map(Reference::to_string).collect();
        let failed = |source: RegistryError| {
            let hints = source.hints();
            let class = if source.is_environment() { FailureClass::Environment } else { FailureClass::Build };
            let failure = Failure::new(class, PublishError::Registry { references: shown.join(", "), source });
            hints.into_iter().fold(failure, Failure::hint)
        };
        let client = Client::new(ClientOptions { notes, ..options }).map_err(failed)?;
        let events = context.events.clone();
        let progress = Arc::new(move |step: Progress| {
            let action = match step.stage {
                Stage::Moving | Stage::Moved => "pushing",
                Stage::Present => "there already",
                Stage::Mounted => "mounted",
            };
            events.progress(format!("{:.12}", step.digest.hex()), action, step.done, Some(step.total));
        });
        shown.iter().for_each(|name| context.events.message(format!("pushing {name}")));
        let options = PushOptions::default();
        let push = client.push(&self.layout, &self.manifest, references, &options, progress);
        prepare::unless_cancelled(context, push).await?.map_err(failed)
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
mod tests {
    use kiln_core::{Content, Image};
    use kiln_docker::fake::FakeEngine;
    use kiln_image::config::ImageConfig;
    use kiln_image::image::{Assembly, assemble};
    use kiln_image::{Digest, Layout, ManifestFormat};
    use serde_json::json;

    use crate::docker_save::DockerSaveKind;
    use crate::docker_tag::DockerTagKind;
    use crate::test_support::{Bench, image_artifact, processor, provider};

    /// An image without layers, as a builder without a daemon gives it.
    fn image(bench: &Bench) -> kiln_core::Artifact {
        let layout = Layout::create(bench.path("layout")).unwrap();
        let assembly = Assembly {
            base: None,
            layers: Vec::new(),
            config: ImageConfig::default(),
            format: ManifestFormat::Oci,
            created: 0,
            squash_history: false,
            annotations: std::collections::BTreeMap::new(),
        };
        let made = assemble(&layout, &assembly).unwrap();
        let id = made.config.to_string();
        let content = Image {
            id: id.clone(),
            tags: Vec::new(),
            digest: Some(made.manifest.to_string()),
            layout: Some(layout.root().to_path_buf()),
        };
        kiln_core::Artifact { content: Content::Image(content), ..image_artifact(&id, &[]) }
    }

    #[tokio::test]
    async fn an_image_in_a_layout_is_named_and_saved_without_an_engine() {
        let bench = Bench::new();
        let engine = std::sync::Arc::new(FakeEngine::new());
        let artifact = image(&bench);
        let tag =
            processor(&DockerTagKind { engine: provider(&engine) }, json!({"repository": "a/b", "tags": ["1", "2"]}));
        let tagged = tag.process(&artifact, &bench.context).await.unwrap().artifact;
        assert_eq!(tagged.image().unwrap().tags, ["a/b:1", "a/b:2"]);
        let layout = Layout::create(bench.path("layout")).unwrap();
        let meaning = |name: &str| layout.resolve_name(name).unwrap().map(|digest: Digest| digest.to_string());
        assert_eq!(meaning("docker.io/a/b:1"), artifact.image().unwrap().digest);
        let kinds: Vec<String> = bench.context.journal.open().into_iter().map(|undo| undo.kind).collect();
        assert_eq!(kinds, ["image.name", "image.name"]);

        let path = bench.path("image.tar");
        let save = processor(&DockerSaveKind { engine: provider(&engine) }, json!({"path": path}));
        save.process(&tagged, &bench.context).await.unwrap();
        let saved = Layout::create(bench.path("again")).unwrap();
        let images = kiln_image::archive::import_archive(std::fs::File::open(&path).unwrap(), &saved).unwrap();
        assert_eq!(images[0].names, ["a/b:1", "a/b:2"]);

        tagged.owner.clone().unwrap().destroy(&tagged, &bench.context).await.unwrap();
        assert_eq!((meaning("docker.io/a/b:1"), meaning("docker.io/a/b:2")), (None, None));
        assert!(engine.calls().is_empty(), "{:?}", engine.calls());
    }
}
