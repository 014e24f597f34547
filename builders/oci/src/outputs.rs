//! Where a sealed image goes: names in the store, registries, files, the Docker engine.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, Content, Failure, Image};
use kiln_docker::{FileUndo, FinishedFile};
use kiln_image::pack::PackSettings;
use kiln_image::undo::NameUndo;
use kiln_image::{Digest, Layout, archive};
use kiln_registry::{Client, Progress, PushOptions, Reference, Stage};

use crate::OciSettings;
use crate::error::{self, OciError};
use crate::guest::Ground;
use crate::machine::{IMAGE, OTHER};
use crate::place::Place;
use crate::prepare::{Recipe, absolute};

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
    /// Brings an image of the store to all places that the arguments name.
    pub(crate) async fn bring(&self, manifest: &Digest, config: &Digest) -> Result<Artifact, Failure> {
        let arguments = &self.recipe.config;
        let names = self.names()?;
        for name in &names {
            self.set_name(name, manifest)?;
        }
        let familiar = |reference: &Reference| format!("{}:{}", reference.familiar_name(), reference.tag_or_latest());
        let shown: Vec<String> = names.iter().map(familiar).collect();
        if !self.recipe.push.is_empty() {
            self.push(manifest).await?;
        }
        if let Some(path) = &arguments.oci_layout {
            self.oci_layout(manifest, &shown, path).await?;
        }
        if let Some(path) = &arguments.docker_archive {
            self.context.events.message(format!("writing {}", path.display()));
            self.docker_archive(manifest, &shown, path).await?;
        }
        if arguments.load {
            self.load(manifest, &shown).await?;
        }
        let pushed = self.recipe.push.iter().map(familiar);
        let mut tags = shown.clone();
        tags.extend(pushed.filter(|name| !shown.contains(name)));
        let id = config.to_string();
        let layout = self.place.store.layout();
        let owner =
            Owner { layout: layout.root().to_path_buf(), names: names.iter().map(Reference::in_full).collect() };
        Ok(Artifact {
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
                layout: Some(layout.root().to_path_buf()),
            }),
            owner: Some(Arc::new(owner)),
        })
    }

    fn names(&self) -> Result<Vec<Reference>, Failure> {
        let parse =
            |name: &String| Reference::parse(name).map_err(|error| Failure::build(OciError::Base(error.to_string())));
        self.recipe.config.tags.iter().map(parse).collect()
    }

    fn set_name(&self, name: &Reference, manifest: &Digest) -> Result<(), Failure> {
        let layout = self.place.store.layout();
        let name = name.in_full();
        if let Some(undo) = NameUndo::of(layout, &name, manifest).map_err(error::image)? {
            self.context.journal.record(&self.context.build, undo.entry())?;
            layout.set_name(&name, manifest).map_err(error::image)?;
        }
        Ok(())
    }

    async fn push(&self, manifest: &Digest) -> Result<(), Failure> {
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
        for reference in &self.recipe.push {
            self.context.events.message(format!("pushing {}:{}", reference.familiar_name(), reference.tag_or_latest()));
        }
        let layout = self.place.store.layout();
        let pushed = self.context.unless_cancelled(async {
            let pushed = self.client.push(layout, manifest, &self.recipe.push, &options, progress).await;
            pushed.map_err(error::registry)
        });
        let pushed = pushed.await??;
        for reference in &self.recipe.push {
            self.context.events.message(format!("pushed {}@{}", reference.familiar_name(), pushed.digest));
        }
        Ok(())
    }

    async fn oci_layout(&self, manifest: &Digest, names: &[String], to: &Path) -> Result<(), Failure> {
        self.context.events.message(format!("writing the OCI layout {}", to.display()));
        let (layout, manifest, names) = (self.place.store.layout().clone(), manifest.clone(), names.to_vec());
        if to.extension().is_none_or(|extension| extension != "tar") {
            let to = to.to_path_buf();
            return error::blocking(move || {
                archive::export_layout(&layout, &manifest, &names, &to).map_err(error::image)
            })
            .await;
        }
        let directory = self.context.scratch.join("oci-layout");
        self.write_file(to, move |file| {
            archive::export_layout(&layout, &manifest, &names, &directory).map_err(error::image)?;
            let archived = tar_of(&directory, file).map_err(error::local("write", &directory));
            let _ = std::fs::remove_dir_all(&directory);
            archived
        })
        .await
    }

    async fn docker_archive(&self, manifest: &Digest, names: &[String], to: &Path) -> Result<(), Failure> {
        let (layout, manifest, names) = (self.place.store.layout().clone(), manifest.clone(), names.to_vec());
        self.write_file(to, move |file| {
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
        loaded
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
        self.write_file(to, move |file| whole.pack(&worker, &settings, file).map(drop)).await
    }

    /// Written beside its place and moved there when whole, so that no half file is ever taken for a result.
    async fn write_file(
        &self,
        to: &Path,
        write: impl FnOnce(&mut dyn Write) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::build(OciError::Base(format!("{} names no file", to.display()))));
        }
        let to = absolute(to);
        let directory = to.parent().map(Path::to_path_buf).unwrap_or_default();
        tokio::fs::create_dir_all(&directory).await.map_err(error::local("create", &directory))?;
        let run: String = self.context.run.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        let temporary = directory.join(format!(".{name}.kiln-{run}"));
        let mut undo = FileUndo { path: temporary.clone(), finished: None };
        let entry = self.context.journal.record(&self.context.build, undo.entry())?;
        let place = temporary.clone();
        let written = error::blocking(move || {
            let file = std::fs::File::create(&place).map_err(error::local("create", &place))?;
            let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
            write(&mut file)?;
            file.flush().map_err(error::local("write", &place))
        });
        let placed = async {
            self.context.unless_cancelled(written).await??;
            let whole = tokio::fs::metadata(&temporary).await.map_err(error::local("look at", &temporary))?;
            undo.finished = Some(FinishedFile::new(&whole, to.clone()));
            self.context.journal.amend(entry, undo.entry())?;
            tokio::fs::rename(&temporary, &to).await.map_err(error::local("write", &to))
        }
        .await;
        if placed.is_err() {
            let _ = tokio::fs::remove_file(&temporary).await;
            self.context.journal.strike(entry)?;
        }
        placed
    }
}

/// A directory's files in the order of their names.
fn tar_of(directory: &Path, to: &mut dyn Write) -> std::io::Result<()> {
    let mut tar = tar::Builder::new(to);
    tar.mode(tar::HeaderMode::Deterministic);
    let mut files: Vec<PathBuf> = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() { waiting.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    for path in files {
        let name = path.strip_prefix(directory).unwrap_or(&path);
        tar.append_path_with_name(&path, name)?;
    }
    tar.finish()
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
            let layout = Layout::create(&self.layout).map_err(error::image)?;
            for name in &self.names {
                let now = layout.resolve_name(name).map_err(error::image)?;
                if now.is_some_and(|now| now.as_str() == digest) {
                    layout.remove_name(name).map_err(error::image)?;
                }
            }
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
