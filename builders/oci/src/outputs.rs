//! Where a sealed image goes: names in the store, registries, files, the Docker engine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, Content, Failure, Image};
use kiln_image::pack::PackSettings;
use kiln_image::undo::NameUndo;
use kiln_image::{Digest, Layout, archive};
use kiln_registry::{Client, Progress, PushOptions, Reference, RegistryError, Stage, normalize_registry};

use crate::OciSettings;
use crate::error::{self, OciError};
use crate::files;
use crate::guest::Ground;
use crate::machine::{IMAGE, OTHER};
use crate::place::Place;
use crate::prepare::Recipe;

/// The names that an image gets in the store.
fn names_in_store(recipe: &Recipe) -> Result<Vec<Reference>, Failure> {
    let parse =
        |name: &String| Reference::parse(name).map_err(|error| Failure::build(OciError::Base(error.to_string())));
    recipe.config.tags.iter().map(parse).collect()
}

/// As people write it.
pub(crate) fn familiar(reference: &Reference) -> String {
    format!("{}:{}", reference.familiar_name(), reference.tag_or_latest())
}

/// Those, and the names that it is pushed under; each once.
fn all_names(recipe: &Recipe) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = names_in_store(recipe)?.iter().map(familiar).collect();
    for name in recipe.push.iter().map(familiar) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// An image of the store, with the names that it has wherever it is brought. Nobody owns it yet.
pub(crate) fn image_artifact(
    recipe: &Recipe,
    manifest: &Digest,
    config: &Digest,
    layout: PathBuf,
) -> Result<Artifact, Failure> {
    Ok(artifact_named(all_names(recipe)?, manifest, config, layout))
}

fn artifact_named(tags: Vec<String>, manifest: &Digest, config: &Digest, layout: PathBuf) -> Artifact {
    let id = config.to_string();
    Artifact {
        builder_id: IMAGE.to_owned(),
        id: id.clone(),
        description: match tags.is_empty() {
            true => format!("OCI image: {id}"),
            false => format!("OCI image: {id} ({})", tags.join(", ")),
        },
        content: Content::Image(Image {
            id,
            tags,
            digest: Some(manifest.to_string()),
            layout: Some(layout),
            ..Image::default()
        }),
        owner: None,
    }
}

/// What bringing an image somewhere needs.
pub(crate) struct Bringing<'a> {
    pub(crate) recipe: &'a Arc<Recipe>,
    pub(crate) place: &'a Arc<Place>,
    pub(crate) settings: &'a OciSettings,
    pub(crate) client: &'a Client,
    /// The base's repository.
    pub(crate) mount_from: Option<Reference>,
    pub(crate) context: &'a BuildContext,
}

impl Bringing<'_> {
    /// What sealing gives: the image brought to where the arguments say, or, where tests come first, as it is in the store.
    pub(crate) async fn seal(&self, manifest: &Digest, config: &Digest) -> Result<Artifact, Failure> {
        if !self.recipe.is_tested {
            return self.bring(manifest, config).await;
        }
        self.place.store.put_id(config, manifest).map_err(error::cache)?;
        let layout = self.place.store.layout().root().to_path_buf();
        Ok(artifact_named(Vec::new(), manifest, config, layout))
    }

    /// Brings an image of the store to all places that the arguments name.
    pub(crate) async fn bring(&self, manifest: &Digest, config: &Digest) -> Result<Artifact, Failure> {
        let arguments = &self.recipe.config;
        let names = names_in_store(self.recipe)?;
        self.set_names(&names, manifest).await?;
        let shown: Vec<String> = names.iter().map(familiar).collect();
        self.push(manifest).await?;
        if let Some(path) = &arguments.oci_layout {
            self.oci_layout(manifest, &shown, path).await?;
        }
        if let Some(path) = &arguments.docker_archive {
            self.context.events.message(format!("writing {}", path.display()));
            self.docker_archive(manifest, &shown, path).await?;
        }
        if arguments.load {
            // In full: podman takes a name without a registry for one of its own `localhost/`.
            let whole: Vec<String> = names.iter().map(Reference::in_full).collect();
            self.load(manifest, &whole).await?;
        }
        // So that builds that are built upon it find it.
        self.place.store.put_id(config, manifest).map_err(error::cache)?;
        let layout = self.place.store.layout().root().to_path_buf();
        let owner = Owner { layout: layout.clone(), names: names.iter().map(Reference::in_full).collect() };
        let artifact = image_artifact(self.recipe, manifest, config, layout)?;
        Ok(Artifact { owner: Some(Arc::new(owner)), ..artifact })
    }

    /// The same for an index of images of the store. The names that it has, and who takes those of the store away again.
    pub(crate) async fn bring_index(&self, index: &Digest) -> Result<(Vec<String>, Arc<dyn ArtifactOwner>), Failure> {
        let names = names_in_store(self.recipe)?;
        self.set_names(&names, index).await?;
        let shown: Vec<String> = names.iter().map(familiar).collect();
        self.push(index).await?;
        if let Some(path) = &self.recipe.config.oci_layout {
            self.oci_layout(index, &shown, path).await?;
        }
        let layout = self.place.store.layout().root().to_path_buf();
        let owner = Owner { layout, names: names.iter().map(Reference::in_full).collect() };
        Ok((all_names(self.recipe)?, Arc::new(owner)))
    }

    async fn set_names(&self, names: &[Reference], manifest: &Digest) -> Result<(), Failure> {
        let (layout, manifest) = (self.place.store.layout().clone(), manifest.clone());
        let (journal, build) = (self.context.journal.clone(), self.context.build.clone());
        let names: Vec<String> = names.iter().map(Reference::in_full).collect();
        if names.is_empty() {
            return Ok(());
        }
        // Another process may hold the layout's lock.
        error::blocking(move || {
            names.iter().try_for_each(|name| {
                let note = |undo| journal.record(&build, undo).map(drop);
                NameUndo::give(&layout, name, &manifest, note).map_err(error::image)?
            })
        })
        .await
    }

    async fn push(&self, manifest: &Digest) -> Result<(), Failure> {
        // `latest` never means what is not there under its own name.
        let mut references = self.recipe.push.clone();
        references.sort_by_key(|reference| reference.tag_or_latest() == "latest");
        if self.context.options.no_push {
            for reference in &references {
                self.context.events.message(format!("not pushed: {}, by `-no-push`", familiar(reference)));
            }
            return Ok(());
        }
        if references.is_empty() {
            return Ok(());
        }
        self.check_moves(manifest).await?;
        let events = self.context.events.clone();
        let progress = Arc::new(move |step: Progress| {
            let action = match step.stage {
                Stage::Moving | Stage::Moved => "pushing",
                Stage::Present => "there already",
                Stage::Mounted => "mounted",
            };
            events.progress(format!("{:.12}", step.digest.hex()), action, step.done, Some(step.total));
        });
        let options = PushOptions { mount_from: self.mount_from.iter().cloned().collect(), ..PushOptions::default() };
        for reference in &references {
            self.context.events.message(format!("pushing {}:{}", reference.familiar_name(), reference.tag_or_latest()));
        }
        let layout = self.place.store.layout();
        let pushed = self.context.unless_cancelled(async {
            let pushed = self.client.push(layout, manifest, &references, &options, progress).await;
            pushed.map_err(|error| self.not_pushed(error))
        });
        let pushed = pushed.await??;
        for reference in &references {
            self.context.events.message(format!("pushed {}@{}", reference.familiar_name(), pushed.digest));
        }
        Ok(())
    }

    /// At the place of the name that the registry in the error is in.
    pub(crate) fn not_pushed(&self, error: RegistryError) -> Failure {
        let registry = error.registry().map(normalize_registry);
        let index =
            self.recipe.push.iter().position(|reference| registry == Some(normalize_registry(&reference.registry)));
        let failure = error::registry(error);
        match index.and_then(|index| self.recipe.push_spans.get(index)) {
            Some(span) => failure.at(*span),
            None => failure,
        }
    }

    async fn oci_layout(&self, manifest: &Digest, names: &[String], to: &Path) -> Result<(), Failure> {
        self.context.events.message(format!("writing the OCI layout {}", to.display()));
        let (layout, manifest, names) = (self.place.store.layout().clone(), manifest.clone(), names.to_vec());
        if to.extension().is_none_or(|extension| extension != "tar") {
            return files::write_layout(self.context, layout, manifest, names, to).await;
        }
        files::write_file(self.context, to, move |file| {
            archive::export_layout_archive(&layout, &manifest, &names, file).map_err(error::image)
        })
        .await
    }

    async fn docker_archive(&self, manifest: &Digest, names: &[String], to: &Path) -> Result<(), Failure> {
        let (layout, manifest, names) = (self.place.store.layout().clone(), manifest.clone(), names.to_vec());
        files::write_file(self.context, to, move |file| {
            archive::export_docker_archive(&layout, &manifest, &names, file).map_err(error::image)
        })
        .await
    }

    async fn load(&self, manifest: &Digest, names: &[String]) -> Result<(), Failure> {
        self.context.events.message("loading the image into the Docker engine");
        let archive = self.context.scratch.join("load.tar");
        let (layout, manifest, names) = (self.place.store.layout().clone(), manifest.clone(), names.to_vec());
        let to = archive.clone();
        error::blocking(move || {
            let file = std::fs::File::create(&to).map_err(error::local("create", &to))?;
            let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
            archive::export_docker_archive(&layout, &manifest, &names, &mut file).map_err(error::image)?;
            file.flush().map_err(error::local("write", &to))
        })
        .await?;
        let loaded =
            self.context.unless_cancelled(async { Ok(self.settings.engine.load(&archive).await?) }).await.flatten();
        let _ = tokio::fs::remove_file(&archive).await;
        loaded.map(drop)
    }

    /// The whole file system as a plain tar.
    pub(crate) async fn export(&self, ground: &Ground, to: &Path) -> Result<(), Failure> {
        self.context.events.message(format!("exporting the file system to {}", to.display()));
        let settings = PackSettings {
            exclude: self.recipe.config.exclude.clone(),
            user_xattr: self.place.chosen.user_xattr(),
            ..PackSettings::default()
        };
        let (whole, worker) = (ground.whole.clone(), Arc::clone(&self.place.worker));
        files::write_file(self.context, to, move |file| whole.pack(&worker, &settings, file).map(drop)).await
    }
}

/// The artifact of an export.
pub(crate) fn exported(path: &Path) -> Artifact {
    Artifact {
        builder_id: OTHER.to_owned(),
        id: "Container".to_owned(),
        description: format!("Exported file system: {}", path.display()),
        content: Content::Files(vec![path.to_path_buf()]),
        owner: Some(Arc::new(Owner { layout: PathBuf::new(), names: Vec::new() })),
    }
}

/// Takes an artifact away: its names and files. What it is made of is the cache's.
struct Owner {
    layout: PathBuf,
    names: Vec<String>,
}

#[async_trait]
impl ArtifactOwner for Owner {
    async fn destroy(&self, artifact: &Artifact, _context: &BuildContext) -> Result<(), Failure> {
        if let Some(digest) = artifact.image().and_then(|image| image.digest.as_deref()) {
            let digest = Digest::parse(digest).map_err(error::image)?;
            let (root, names) = (self.layout.clone(), self.names.clone());
            error::blocking(move || {
                let layout = Layout::create(&root).map_err(error::image)?;
                names.iter().try_for_each(|name| layout.take_name(name, &digest).map(drop).map_err(error::image))
            })
            .await?;
        }
        for path in artifact.files() {
            match tokio::fs::remove_file(path).await {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error::local("remove", path)(source));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
