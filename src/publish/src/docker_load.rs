//! `docker-load`: an image that was made without an engine, for one.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Content, Decoded, Diagnostics, Failure, Field, Image, PostProcessor, PostProcessorKind,
    PrepareContext, Processed, Schema,
};
use kiln_docker::{Engine, TagUndo};
use kiln_registry::Reference;

use crate::docker_tag::{NameOwner, name_undo};
use crate::error::PublishError;
use crate::index;
use crate::layout::LayoutImage;
use crate::prepare;
use crate::settings::EngineProvider;

/// Its kind.
pub(crate) const KIND: &str = "docker-load";

static SCHEMA: Schema = Schema {
    kind: KIND,
    title: "a `docker-load` post-processor",
    doc: "Brings an image that was made without a Docker engine into one, under all its names. An image that the engine has already is left as it is. The image is always kept. Beyond Packer.",
    fields: &[Field::string("docker_path", "Taken for the sake of the other docker post-processors, without effect.")],
    example: "post-processors {\n  post-processor \"docker-tag\" {\n    repository = \"group/image\"\n    tags       = [\"1.2\"]\n  }\n  post-processor \"docker-load\" {}\n}",
};

/// The kind.
pub(crate) struct DockerLoadKind {
    pub(crate) engine: Arc<dyn EngineProvider>,
}

struct DockerLoad {
    engine: Arc<dyn EngineProvider>,
}

impl PostProcessorKind for DockerLoadKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        prepare::warn_unused(config, "docker_path", prepare::DOCKER_PATH_UNUSED, diagnostics);
        Some(Arc::new(DockerLoad { engine: Arc::clone(&self.engine) }))
    }
}

#[async_trait]
impl PostProcessor for DockerLoad {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let image = artifact.image().ok_or_else(|| PublishError::not_an_image(KIND, artifact))?;
        let mut names = Vec::new();
        if let Some(layout) = LayoutImage::of(image)? {
            index::refuse(KIND, image)?;
            let engine = context.unless_cancelled(self.engine.engine()).await??;
            names = missing_names(engine.as_ref(), image, context).await?;
            if names.is_empty() && !image.tags.is_empty() {
                context.events.message("the Docker engine has the image already");
            } else {
                load(engine.as_ref(), layout, image, &names, context).await?;
            }
        }
        let loaded = Artifact {
            builder_id: artifact.builder_id.clone(),
            id: artifact.id.clone(),
            description: artifact.description.clone(),
            content: Content::Image(image.clone()),
            owner: Some(Arc::new(NameOwner { engine: Arc::clone(&self.engine), names })),
        };
        Ok(Processed { artifact: loaded, keep_input: true, force_keep: true })
    }
}

/// The names of an image that mean another one in the engine, or none.
async fn missing_names(engine: &dyn Engine, image: &Image, context: &BuildContext) -> Result<Vec<String>, Failure> {
    let mut missing = Vec::new();
    for name in &image.tags {
        let found = context.unless_cancelled(engine.inspect_image(name)).await?;
        let found = found.map_err(PublishError::engine(format!("look up {name}")))?;
        if found.is_none_or(|found| found.id != image.id) {
            missing.push(name.clone());
        }
    }
    Ok(missing)
}

async fn load(
    engine: &dyn Engine,
    layout: LayoutImage,
    image: &Image,
    names: &[String],
    context: &BuildContext,
) -> Result<(), Failure> {
    for name in names {
        let undo = name_undo(engine, name).await?;
        context.journal.record(&context.build, TagUndo { image: Some(image.id.clone()), ..undo }.entry())?;
    }
    if names.is_empty() {
        context.events.warn("the image has no name; the Docker engine knows it by its id alone");
    }
    context.events.message("loading the image into the Docker engine");
    let archive = context.scratch.join("docker-load.tar");
    // In full: podman takes a name without a registry for one of its own `localhost/`.
    let whole = |name: &String| Reference::parse(name).map_or_else(|_| name.clone(), |reference| reference.in_full());
    let (to, whole) = (archive.clone(), names.iter().map(whole).collect::<Vec<String>>());
    let loading = async {
        prepare::blocking(context, archive.clone(), move |_| layout.save(&whole, &to)).await?;
        let loaded = engine.load(&archive).await;
        loaded.map_err(PublishError::engine(format!("load {}", image.id))).map_err(Failure::from)
    };
    let loaded = context.unless_cancelled(loading).await;
    let _ = tokio::fs::remove_file(&archive).await;
    loaded??;
    names.iter().for_each(|name| context.events.message(format!("the Docker engine has {name}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use kiln_docker::fake::FakeEngine;
    use serde_json::json;

    use super::*;
    use crate::test_support::{Bench, files_artifact, image_artifact, processor, provider};

    #[tokio::test]
    async fn an_image_of_the_engine_is_left_alone() {
        let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
        let id = engine.add_image("a:1");
        let load = processor(&DockerLoadKind { engine: provider(&engine) }, json!({}));
        let processed = load.process(&image_artifact(&id, &["a:1"]), &bench.context).await.unwrap();
        assert_eq!(processed.artifact.image().unwrap().tags, ["a:1"]);
        assert!(processed.force_keep && engine.changes().is_empty() && bench.context.journal.open().is_empty());
        // Taking the artifact away would not take the user's name.
        let owner = processed.artifact.owner.clone().unwrap();
        owner.destroy(&processed.artifact, &bench.context).await.unwrap();
        assert!(engine.changes().is_empty());
    }

    #[tokio::test]
    async fn files_are_refused() {
        let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
        let load = processor(&DockerLoadKind { engine: provider(&engine) }, json!({}));
        let path = bench.write("a.tar", "");
        let failure = load.process(&files_artifact(&[&path]), &bench.context).await.err().unwrap();
        assert!(failure.to_string().contains("docker-load takes a container image"), "{failure}");
    }
}
