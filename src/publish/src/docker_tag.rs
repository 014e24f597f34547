//! `docker-tag`: names for an image.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, ArtifactOwner, BuildContext, Content, Decoded, Diagnostic, Diagnostics, Failure, Field, FieldType, Image,
    PostProcessor, PostProcessorKind, PrepareContext, Processed, Schema,
};
use kiln_docker::{Engine, TagUndo};
use kiln_registry::Reference;
use serde::Deserialize;

use crate::error::PublishError;
use crate::index;
use crate::layout::{LayoutImage, LayoutNameOwner};
use crate::prepare;
use crate::settings::EngineProvider;

const KIND: &str = "docker-tag";

static SCHEMA: Schema = Schema {
    kind: KIND,
    title: "a `docker-tag` post-processor",
    doc: "Gives names to an image. The names of several docker-tags in one chain add up. The image is always kept.",
    fields: &[
        Field::string("repository", "The repository, with its registry where that is not Docker Hub.").required(),
        Field::strings("tags", "The tags; without any, the image is named `latest`."),
        Field::strings("tag", "As `tags`.").deprecated("write `tags = [\"...\"]`"),
        Field::new("force", FieldType::Bool, "Taken for Packer's sake: a name always moves to the new image.")
            .default("false"),
        Field::string("docker_path", "Taken for Packer's sake, without effect."),
    ],
    example: "post-processor \"docker-tag\" {\n  repository = \"registry.example.org/group/image\"\n  tags       = [\"1.2\", \"latest\"]\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    repository: String,
    tags: Vec<String>,
    tag: Vec<String>,
}

/// The kind.
pub(crate) struct DockerTagKind {
    pub(crate) engine: Arc<dyn EngineProvider>,
}

struct DockerTag {
    engine: Arc<dyn EngineProvider>,
    /// As written, for the artifact's id.
    written: String,
    repository: Reference,
    tags: Vec<String>,
}

impl PostProcessorKind for DockerTagKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let arguments: Arguments = config.read_or_tell(diagnostics)?;
        prepare::warn_unused(config, "docker_path", prepare::DOCKER_PATH_UNUSED, diagnostics);
        let is_unknown = config.is_unknown("repository");
        let repository = prepare::repository(config, &arguments.repository, context, diagnostics);
        // Tags are checked whatever the repository is, so that all mistakes are told at once.
        let any = Reference { registry: String::new(), repository: String::new(), tag: None, digest: None };
        let mut tags: Vec<String> = Vec::new();
        let mut is_right = repository.is_some() || is_unknown;
        for (field, given) in [("tags", &arguments.tags), ("tag", &arguments.tag)] {
            for (index, text) in given.iter().enumerate() {
                let path = format!("{field}[{index}]");
                if config.is_unknown(&path) {
                    continue;
                }
                // Legacy templates write `"tag": "1.2,latest"`.
                for tag in text.split(',').map(str::trim) {
                    if let Err(error) = any.with_tag(tag) {
                        let diagnostic = Diagnostic::error("wrong-tag", config.span(&path), error.to_string());
                        diagnostics.push(prepare::wrong_tag(tag, diagnostic, context));
                        is_right = false;
                    } else if !tags.iter().any(|known| known == tag) {
                        tags.push(tag.to_owned());
                    }
                }
            }
        }
        if tags.is_empty() && config.is_emptied("tags") {
            let title = "every entry of `tags` is `null`, so that no name is left for the image";
            let help = "give it a tag that is always there, or leave the post-processor out with `enabled`";
            diagnostics.push(Diagnostic::error("no-tags", config.span("tags"), title).help(help));
            is_right = false;
        }
        if !is_right {
            return None;
        }
        if tags.is_empty() && config.is_set("tags") && !config.is_unknown("tags") {
            let title = "`tags` has no entries, so the image is named `latest`";
            let help = "leave the post-processor out with `enabled`, or give it a tag that is always there";
            diagnostics.push(Diagnostic::warning("no-tags", config.span("tags"), title).help(help));
        }
        let engine = Arc::clone(&self.engine);
        let repository = repository.unwrap_or(any);
        Some(Arc::new(DockerTag { engine, written: arguments.repository, repository, tags }))
    }
}

#[async_trait]
impl PostProcessor for DockerTag {
    fn names(&self) -> Vec<String> {
        let named = |tag: String| Reference { tag: Some(tag), ..self.repository.clone() }.pushed_name();
        if self.repository.repository.is_empty() { Vec::new() } else { self.wanted().into_iter().map(named).collect() }
    }

    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let image = artifact.image().ok_or_else(|| PublishError::not_an_image(KIND, artifact))?;
        let repository = self.repository.familiar_name();
        let mut names = Vec::new();
        let wanted = self.wanted();
        if let Some(layout) = LayoutImage::of(image)? {
            return self.name_in_layout(&layout, image, &wanted, context);
        }
        let Some(own) = index::in_engine(image, &repository, context) else {
            // The names are for registries then.
            let all = with_names(image, wanted.iter().map(|tag| format!("{repository}:{tag}")));
            let owner = NameOwner { engine: Arc::clone(&self.engine), names };
            return Ok(Processed {
                artifact: self.artifact(image, all, Arc::new(owner)),
                keep_input: true,
                force_keep: true,
            });
        };
        let engine = context.unless_cancelled(self.engine.engine_of(own)).await??;
        for tag in &wanted {
            let name = format!("{repository}:{tag}");
            let tagging = async {
                let found = engine.inspect_image(&own.id).await;
                let found = found.map_err(PublishError::engine(format!("look up {}", own.id)))?;
                let id = found.map_or_else(|| own.id.clone(), |found| found.id);
                let undo = name_undo(engine.as_ref(), &name).await?;
                context.journal.record(&context.build, TagUndo { image: Some(id), ..undo }.entry())?;
                let tagged = engine.tag(&own.id, &repository, tag).await;
                tagged.map_err(PublishError::engine(format!("name the image {name}")))?;
                Ok::<(), Failure>(())
            };
            context.unless_cancelled(tagging).await??;
            context.events.message(format!("named the image {name}"));
            names.push(name);
        }
        let all = with_names(image, names.iter().cloned());
        let owner = NameOwner { engine: Arc::clone(&self.engine), names };
        Ok(Processed { artifact: self.artifact(image, all, Arc::new(owner)), keep_input: true, force_keep: true })
    }
}

/// The names of an image, and more.
fn with_names(image: &Image, more: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = image.tags.clone();
    all.extend(more.filter(|name| !image.tags.contains(name)));
    all
}

impl DockerTag {
    fn wanted(&self) -> Vec<String> {
        if self.tags.is_empty() { vec!["latest".to_owned()] } else { self.tags.clone() }
    }

    /// The same for an image that no engine has.
    fn name_in_layout(
        &self,
        layout: &LayoutImage,
        image: &Image,
        tags: &[String],
        context: &BuildContext,
    ) -> Result<Processed, Failure> {
        let mut all = image.tags.clone();
        let mut own = Vec::new();
        for tag in tags {
            let reference = Reference { tag: Some(tag.clone()), ..self.repository.clone() };
            layout.name(&reference, context)?;
            let name = reference.to_string();
            context.events.message(format!("named the image {name}"));
            own.push(reference.in_full());
            if !all.contains(&name) {
                all.push(name);
            }
        }
        let artifact = self.artifact(image, all, Arc::new(LayoutNameOwner(own)));
        Ok(Processed { artifact, keep_input: true, force_keep: true })
    }

    fn artifact(&self, image: &Image, all: Vec<String>, owner: Arc<dyn ArtifactOwner>) -> Artifact {
        // Packer's ids: the last name as it was written, or the bare repository.
        let id = match self.tags.last() {
            Some(tag) => format!("{}:{tag}", self.written),
            None => self.written.clone(),
        };
        let mut description = format!("Imported Docker image: {id}");
        if !self.tags.is_empty() {
            description.push_str(&format!(" with tags {}", all.join(" ")));
        }
        Artifact {
            builder_id: "packer.post-processor.docker-tag".to_owned(),
            id,
            description,
            content: Content::Image(Image { tags: all, ..image.clone() }),
            owner: Some(owner),
        }
    }
}

/// What bears a name now, before the name moves.
pub(crate) async fn name_undo(engine: &dyn Engine, name: &str) -> Result<TagUndo, Failure> {
    let previous = engine.inspect_image(name).await.map_err(PublishError::engine(format!("look up {name}")))?;
    Ok(TagUndo {
        engine: engine.address().to_owned(),
        reference: name.to_owned(),
        previous: previous.map(|image| image.id),
        ..TagUndo::default()
    })
}

/// Takes names away again; the image goes with its last one.
pub(crate) struct NameOwner {
    pub(crate) engine: Arc<dyn EngineProvider>,
    pub(crate) names: Vec<String>,
}

#[async_trait]
impl ArtifactOwner for NameOwner {
    async fn destroy(&self, artifact: &Artifact, _context: &BuildContext) -> Result<(), Failure> {
        let engine = match artifact.image() {
            Some(image) => self.engine.engine_of(image).await?,
            None => self.engine.engine().await?,
        };
        for name in &self.names {
            let found = engine.inspect_image(name).await.map_err(PublishError::engine(format!("look up {name}")))?;
            // Another run may have given it away since.
            if found.is_none_or(|found| artifact.image().is_none_or(|image| image.id != found.id)) {
                continue;
            }
            let removed = engine.remove_image(name, false).await;
            removed.map_err(PublishError::engine(format!("remove the name {name}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
