//! `docker-save`: an image as a tar that `docker load` reads.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Decoded, Diagnostic, Diagnostics, Failure, Field, PostProcessor, PostProcessorKind,
    PrepareContext, Processed, Schema,
};
use kiln_transport::outputs::PendingFile;
use serde::Deserialize;

use crate::error::PublishError;
use crate::index;
use crate::layout::LayoutImage;
use crate::prepare;
use crate::settings::EngineProvider;

const KIND: &str = "docker-save";

static SCHEMA: Schema = Schema {
    kind: KIND,
    title: "a `docker-save` post-processor",
    doc: "Writes the image, under all its names, to a tar for `docker load`. The image is passed on and kept.",
    fields: &[
        Field::string("path", "The file; its directory is made, and an older file is replaced.").required(),
        Field::string("docker_path", "Taken for Packer's sake, without effect."),
    ],
    example: "post-processor \"docker-save\" {\n  path = \"image.tar\"\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    path: String,
}

/// The kind.
pub(crate) struct DockerSaveKind {
    pub(crate) engine: Arc<dyn EngineProvider>,
}

struct DockerSave {
    engine: Arc<dyn EngineProvider>,
    path: PathBuf,
}

impl PostProcessorKind for DockerSaveKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let arguments: Arguments = config.read_or_tell(diagnostics)?;
        prepare::warn_unused(config, "docker_path", prepare::DOCKER_PATH_UNUSED, diagnostics);
        if arguments.path.is_empty() && !config.is_unknown("path") {
            if config.is_set("path") {
                diagnostics.push(Diagnostic::error("empty-value", config.span("path"), "`path` is empty"));
            }
            return None;
        }
        Some(Arc::new(DockerSave { engine: Arc::clone(&self.engine), path: PathBuf::from(arguments.path) }))
    }
}

#[async_trait]
impl PostProcessor for DockerSave {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let image = artifact.image().ok_or_else(|| PublishError::not_an_image(KIND, artifact))?;
        index::refuse(KIND, image)?;
        let references = if image.tags.is_empty() { vec![image.id.clone()] } else { image.tags.clone() };
        if let Some(layout) = LayoutImage::of(image)? {
            return self.save_from_layout(layout, artifact, image.tags.clone(), context).await;
        }
        let engine = context.unless_cancelled(self.engine.engine_of(image)).await??;
        context.events.message(format!("saving {}", references.join(", ")));
        let pending = PendingFile::reserve(context, &self.path).await?;
        let saved = context.unless_cancelled(engine.save(&references, pending.path())).await?;
        saved.map_err(PublishError::engine(format!("save the image to {}", self.path.display())))?;
        pending.finish().await?;
        context.events.message(format!("saved to {}", self.path.display()));
        Ok(Processed { artifact: artifact.clone(), keep_input: true, force_keep: false })
    }
}

impl DockerSave {
    /// The same for an image that no engine has.
    async fn save_from_layout(
        &self,
        layout: LayoutImage,
        artifact: &Artifact,
        names: Vec<String>,
        context: &BuildContext,
    ) -> Result<Processed, Failure> {
        context.events.message(format!("saving to {}", self.path.display()));
        let pending = PendingFile::reserve(context, &self.path).await?;
        let path = pending.path().to_path_buf();
        let saving = prepare::blocking(context, self.path.clone(), move |_| layout.save(&names, &path));
        context.unless_cancelled(saving).await??;
        pending.finish().await?;
        Ok(Processed { artifact: artifact.clone(), keep_input: true, force_keep: false })
    }
}

#[cfg(test)]
mod tests {
    use kiln_docker::fake::FakeEngine;
    use serde_json::json;

    use super::*;
    use crate::test_support::{Bench, files_artifact, image_artifact, processor, provider, refused, titles_of};

    #[tokio::test]
    async fn saves_all_names_and_replaces_the_file_when_whole() {
        let bench = Bench::new();
        let engine = Arc::new(FakeEngine::new());
        let id = engine.add_image("a:1");
        kiln_docker::Engine::tag(&*engine, &id, "a", "2").await.unwrap();
        let path = bench.path("deep/image.tar");
        let save = processor(&DockerSaveKind { engine: provider(&engine) }, json!({"path": path}));
        let artifact = image_artifact(&id, &["a:1", "a:2"]);

        let processed = save.process(&artifact, &bench.context).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a:1\na:2");
        assert_eq!((processed.keep_input, processed.force_keep), (true, false));
        assert_eq!(processed.artifact.image(), artifact.image());

        engine.fail_next("save", refused("no space left on device"));
        let failure = save.process(&artifact, &bench.context).await.err().unwrap();
        assert!(failure.chain().contains("no space left on device"), "{}", failure.chain());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a:1\na:2");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(bench.context.journal.open().is_empty());
        assert_eq!(bench.context.journal.history()[0].kind, "file.temp");
    }

    #[tokio::test]
    async fn an_image_without_names_is_saved_by_id_and_files_are_refused() {
        let bench = Bench::new();
        let engine = Arc::new(FakeEngine::new());
        let id = engine.add_image("");
        let path = bench.path("image.tar");
        let save = processor(&DockerSaveKind { engine: provider(&engine) }, json!({"path": path}));
        save.process(&image_artifact(&id, &[]), &bench.context).await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), id);
        let failure = save.process(&files_artifact(&[&path]), &bench.context).await.err().unwrap();
        assert!(failure.to_string().contains("docker-save takes a container image"), "{failure}");
    }

    #[test]
    fn the_path_must_be_there() {
        let kind = DockerSaveKind { engine: provider(&Arc::new(FakeEngine::new())) };
        assert_eq!(titles_of(&kind, json!({"path": ""})), ["`path` is empty"]);
        assert_eq!(titles_of(&kind, json!({})), ["a `docker-save` post-processor needs `path`"]);
    }
}
