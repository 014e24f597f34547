//! `docker-import`: an image from a root file system's tar.

mod store;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, ArtifactOwner, BuildContext, Content, Decoded, Diagnostic, Diagnostics, Failure, Field, Image,
    PostProcessor, PostProcessorKind, PrepareContext, Processed, Schema,
};
use kiln_docker::engine::ImportOptions;
use kiln_docker::secret_in_image;
use kiln_docker::undo::seconds_since_epoch;
use kiln_registry::Reference;
use serde::Deserialize;

use crate::docker_tag::{NameOwner, name_undo};
use crate::error::PublishError;
use crate::prepare;
use crate::settings::{EngineProvider, StoreProvider};
use store::StoreImport;

const KIND: &str = "docker-import";

static SCHEMA: Schema = Schema {
    kind: KIND,
    title: "a `docker-import` post-processor",
    doc: "Makes an image from the artifact's one file, a tar of a root file system (`export_path`, or artifice). The file is removed unless `keep_input_artifact` is set.",
    fields: &[
        Field::string("repository", "The repository to name the image with.").required(),
        Field::string("tag", "The tag; `latest` without one."),
        Field::strings("changes", "Dockerfile instructions for the image, e.g. `USER worker`."),
        Field::string("platform", "The image's platform, e.g. `linux/arm64`; that of the engine without one."),
        Field::string("docker_path", "Taken for Packer's sake, without effect."),
    ],
    example: "post-processor \"docker-import\" {\n  repository = \"group/image\"\n  tag        = \"1.2\"\n  changes    = [\"CMD /bin/bash\"]\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    repository: String,
    tag: Option<String>,
    changes: Vec<String>,
    platform: Option<String>,
}

/// The kind.
pub(crate) struct DockerImportKind {
    pub(crate) engine: Arc<dyn EngineProvider>,
    /// Where images go instead, where no engine is to be used.
    pub(crate) store: Option<Arc<dyn StoreProvider>>,
    /// `SOURCE_DATE_EPOCH`.
    pub(crate) epoch: Option<i64>,
}

struct DockerImport {
    place: Place,
    /// As written, for the artifact's id.
    written: String,
    repository: Reference,
    tag: Option<String>,
}

/// Where the image is made.
enum Place {
    Engine { engine: Arc<dyn EngineProvider>, changes: Vec<String>, platform: Option<String> },
    Store(Box<StoreImport>),
}

impl PostProcessorKind for DockerImportKind {
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
        let changes = (0..arguments.changes.len()).map(|index| format!("changes[{index}]"));
        diagnostics.extend(changes.filter_map(|path| secret_in_image(config, &path)));
        let repository = prepare::repository(config, &arguments.repository, context, diagnostics);
        let mut is_right = repository.is_some() || config.is_unknown("repository");
        let tag = arguments.tag.filter(|tag| !tag.is_empty());
        if let Some(tag) = &tag
            && let Err(error) = Reference::parse(&format!("any:{tag}"))
        {
            let diagnostic = Diagnostic::error("wrong-tag", config.span("tag"), error.to_string());
            diagnostics.push(prepare::wrong_tag(tag, diagnostic, context));
            is_right = false;
        }
        let platform = arguments.platform.filter(|platform| !platform.is_empty());
        let place = match &self.store {
            None => Some(Place::Engine { engine: Arc::clone(&self.engine), changes: arguments.changes, platform }),
            Some(store) => {
                let import = StoreImport::new(store, &arguments.changes, platform.as_deref(), config, diagnostics);
                import.map(|import| Place::Store(Box::new(import.created(self.epoch))))
            }
        };
        // A repository that is not known yet is never looked at.
        let unknown = Reference { registry: String::new(), repository: String::new(), tag: None, digest: None };
        Some(Arc::new(DockerImport {
            place: place.filter(|_| is_right)?,
            written: arguments.repository,
            repository: repository.unwrap_or(unknown),
            tag,
        }))
    }
}

#[async_trait]
impl PostProcessor for DockerImport {
    fn names(&self) -> Vec<String> {
        if self.repository.repository.is_empty() {
            return Vec::new();
        }
        let tag = self.tag.clone().unwrap_or_else(|| "latest".to_owned());
        vec![Reference { tag: Some(tag), ..self.repository.clone() }.pushed_name()]
    }

    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let file = match artifact.files() {
            [file] => file,
            [] => {
                let builder_id = artifact.builder_id.clone();
                return Err(PublishError::NoFiles { processor: KIND, builder_id }.into());
            }
            files => {
                return Err(PublishError::NotOneFile { processor: KIND.to_owned(), count: files.len() }.into());
            }
        };
        let tag = self.tag.clone().unwrap_or_else(|| "latest".to_owned());
        let reference = Reference { tag: Some(tag), ..self.repository.clone() };
        let (image, owner) = match &self.place {
            Place::Store(import) => import.run(file, &reference, context).await?,
            Place::Engine { engine, changes, platform } => {
                let options = ImportOptions {
                    repository: Some(reference.familiar_name()),
                    tag: reference.tag.clone(),
                    changes: changes.clone(),
                    platform: platform.clone(),
                };
                import(engine, file, &options, &reference.to_string(), context).await?
            }
        };
        context.events.message(format!("imported {}", image.id));
        let written = match &self.tag {
            Some(tag) => format!("{}:{tag}", self.written),
            None => self.written.clone(),
        };
        Ok(Processed {
            artifact: Artifact {
                builder_id: "packer.post-processor.docker-import".to_owned(),
                description: format!("Imported Docker image: {written}"),
                id: written,
                content: Content::Image(image),
                owner: Some(owner),
            },
            keep_input: false,
            force_keep: false,
        })
    }
}

/// Lets an engine make the image.
async fn import(
    provider: &Arc<dyn EngineProvider>,
    file: &Path,
    options: &ImportOptions,
    name: &str,
    context: &BuildContext,
) -> Result<(Image, Arc<dyn ArtifactOwner>), Failure> {
    let engine = context.unless_cancelled(provider.engine()).await??;
    context.events.message(format!("importing {} as {name}", file.display()));
    let importing = async {
        // Taking the name away removes the image with it. Until the image is known, its age must do.
        let mut undo = name_undo(engine.as_ref(), name).await?;
        undo.created_since = i64::try_from(seconds_since_epoch()).ok();
        let entry = context.journal.record(&context.build, undo.entry())?;
        let imported = engine.import(file, options).await;
        let id = imported.map_err(PublishError::engine(format!("import {}", file.display())))?;
        undo.image = Some(id.clone());
        context.journal.amend(entry, undo.entry())?;
        Ok::<String, Failure>(id)
    };
    let id = context.unless_cancelled(importing).await??;
    let names = vec![name.to_owned()];
    let image = Image { id, tags: names.clone(), ..Image::default() };
    Ok((image, Arc::new(NameOwner { engine: Arc::clone(provider), names })))
}

#[cfg(test)]
mod tests {
    use kiln_docker::Engine;
    use kiln_docker::fake::FakeEngine;
    use serde_json::json;

    use super::*;
    use crate::test_support::{self, Bench, files_artifact, image_artifact, processor, provider, titles_of};

    #[tokio::test]
    async fn a_tar_becomes_a_named_image() {
        let bench = Bench::new();
        let engine = Arc::new(FakeEngine::new());
        let old = engine.add_image("group/image:1");
        let tar = bench.write("root.tar", "tar");
        let kind = DockerImportKind { store: None, epoch: None, engine: provider(&engine) };
        let arguments = json!({"repository": "docker.io/group/image", "tag": "1", "changes": ["USER a"], "platform": "linux/arm64"});
        let processed = processor(&kind, arguments).process(&files_artifact(&[&tar]), &bench.context).await.unwrap();
        let import = format!("import {} group/image:1 [USER a] for linux/arm64", tar.display());
        assert_eq!(engine.changes(), [import]);
        let artifact = processed.artifact;
        assert_eq!(artifact.id, "docker.io/group/image:1");
        assert_eq!(artifact.builder_id, "packer.post-processor.docker-import");
        assert_eq!(artifact.image().unwrap().tags, ["group/image:1"]);
        assert_eq!((processed.keep_input, processed.force_keep), (false, false));
        let undo = &bench.context.journal.open()[0];
        assert_eq!(undo.data["previous"], json!(old));
        assert_eq!(undo.data["image"], json!(artifact.image().unwrap().id));
        let first = &bench.context.journal.history()[0];
        assert!(first.data["image"].is_null() && first.data["created_since"].is_i64(), "{first:?}");
        artifact.owner.as_ref().unwrap().destroy(&artifact, &bench.context).await.unwrap();
        assert!(engine.inspect_image("group/image:1").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn takes_exactly_one_file() {
        let bench = Bench::new();
        let engine = Arc::new(FakeEngine::new());
        let import = processor(
            &DockerImportKind { store: None, epoch: None, engine: provider(&engine) },
            json!({"repository": "a"}),
        );
        let (one, two) = (bench.write("1", ""), bench.write("2", ""));
        for (artifact, words) in [
            (image_artifact("sha256:1", &[]), "docker-import takes files, and this artifact (packer.docker) has none"),
            (files_artifact(&[&one, &two]), "docker-import takes one file, and this artifact has 2"),
        ] {
            let failure = import.process(&artifact, &bench.context).await.err().unwrap();
            assert_eq!(failure.to_string(), words);
            assert_eq!(failure.hints.len(), 1);
        }
        assert!(engine.calls().is_empty());
    }

    #[test]
    fn a_secret_in_the_images_configuration_is_a_warning() {
        let kind = DockerImportKind { store: None, epoch: None, engine: provider(&Arc::new(FakeEngine::new())) };
        let arguments = kiln_testkit::Arguments::new(json!({"repository": "a", "changes": ["USER a", "ENV TOKEN=x"]}));
        for (path, place) in [("changes[1]", "\"ENV TOKEN=x\""), ("changes", "[\"USER a\", \"ENV TOKEN=x\", ]")] {
            let (prepared, diagnostics) = test_support::prepare(&kind, arguments.clone().sensitive(path));
            assert!(prepared.is_some());
            let [warning] = diagnostics.items.as_slice() else { panic!("{diagnostics:?}") };
            assert_eq!(warning.title, "a sensitive value would stand in the image for everyone to read");
            assert_eq!(arguments.text_at(warning.primary.as_ref().unwrap().span), place);
        }
        let (_, diagnostics) = test_support::prepare(&kind, arguments.sensitive("repository"));
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
    }

    #[test]
    fn mistakes_are_told_all_at_once() {
        let kind = DockerImportKind { store: None, epoch: None, engine: provider(&Arc::new(FakeEngine::new())) };
        let titles = titles_of(&kind, json!({"repository": "a:1", "tag": "b c", "docker_path": "podman"}));
        assert_eq!(titles.len(), 3, "{titles:?}");
        assert!(titles[1].contains("names a tag") && titles[2].contains("`b c` is not a tag"), "{titles:?}");
    }
}
