//! Images that builds without an engine made, or builds at another engine: the engine gets them when one is asked for by its id.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use kiln_cache::{EngineResult, Store, StoreOptions};
use kiln_core::{BuildContext, Failure, Key};
use kiln_docker::{EngineError, ImageInfo};
use kiln_image::{Digest, archive};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::DockerSettings;

/// Held while an image is brought to an engine: several builds of one run may be built upon it.
static TAKING_OVER: Mutex<()> = Mutex::const_new(());

/// An image of a store of this user's.
struct Handed {
    /// Whose lease keeps the image there.
    store: Arc<Store>,
    manifest: Digest,
}

/// Whether a text is the id of an image, and not its name.
pub(crate) fn is_id(image: &str) -> bool {
    Digest::parse(image).is_ok()
}

/// What an image that was asked for is known by wherever it lies: its id, which an engine may have another one for.
pub(crate) fn identity<'a>(asked_for: &'a str, found: &'a ImageInfo) -> &'a str {
    if is_id(asked_for) { asked_for } else { &found.id }
}

impl DockerSettings {
    /// The image of this id in the engine; brought there first where a store or the engine of other builds has it. It stays
    /// there, as one that was pulled does. Its id is another one where the engine has containerd's image store.
    ///
    /// # Errors
    /// What the store or the engine says; nobody has it.
    pub async fn handed(&self, context: &BuildContext, id: &str) -> Result<ImageInfo, Failure> {
        if let Some(found) = self.found(id).await? {
            return Ok(found);
        }
        let _one = TAKING_OVER.lock().await;
        // Another build of this run may have brought it meanwhile.
        let found = match self.found(id).await? {
            Some(found) => Some(found),
            None => self.take_over(context, id).await?,
        };
        found.ok_or_else(|| {
            let message = "neither the engine's store nor kiln's has it".to_owned();
            let error = EngineError::NotFound { what: format!("image {id}"), message };
            Failure::from(error).hint("build it again, or name an image")
        })
    }

    /// The image, where the engine has it by this id, or by the one that it gave it when it was brought there.
    async fn found(&self, id: &str) -> Result<Option<ImageInfo>, Failure> {
        if let Some(found) = self.engine.inspect_image(id).await? {
            return Ok(Some(found));
        }
        let (Some(root), key) = (self.store.clone(), self.brought_key(id)) else { return Ok(None) };
        let noted = blocking(move || {
            // One that cannot be opened knows nothing.
            let Ok(store) = Store::open(&root, &StoreOptions::default()) else { return Ok(None) };
            store.engine_result(&key).map_err(Failure::environment)
        });
        match noted.await? {
            Some(noted) => Ok(self.engine.inspect_image(&noted.image).await?),
            None => Ok(None),
        }
    }

    async fn take_over(&self, context: &BuildContext, id: &str) -> Result<Option<ImageInfo>, Failure> {
        let path = context.scratch.join("base.tar");
        let brought = context.unless_cancelled(self.bring(context, id, &path)).await.flatten();
        let _ = tokio::fs::remove_file(&path).await;
        let Some(brought) = brought? else { return Ok(None) };
        if brought != id {
            self.note(context, id, &brought).await?;
        }
        Ok(self.engine.inspect_image(&brought).await?)
    }

    /// Brings an image to the engine; returns the id that it has there.
    async fn bring(&self, context: &BuildContext, id: &str, archive: &Path) -> Result<Option<String>, Failure> {
        let short = id.trim_start_matches("sha256:");
        // Its lease ends only when the engine has the image.
        let handed = self.handed_by_store(id).await?;
        if let Some(Handed { store, manifest }) = &handed {
            context.events.message(format!("loading image {short:.12} into the Docker engine"));
            let (to, layout, manifest) = (archive.to_path_buf(), store.layout().clone(), manifest.clone());
            blocking(move || export(&layout, &manifest, &to)).await?;
        } else {
            let Some(usual) = &self.usual else { return Ok(None) };
            if usual.inspect_image(id).await?.is_none() {
                return Ok(None);
            }
            context.events.message(format!("taking image {short:.12} over to {}", self.engine.address()));
            usual.save(&[id.to_owned()], archive).await?;
        }
        let loaded = self.engine.load(archive).await?;
        Ok(Some(loaded.into_iter().next_back().unwrap_or_else(|| id.to_owned())))
    }

    async fn handed_by_store(&self, id: &str) -> Result<Option<Handed>, Failure> {
        let (Some(root), Ok(digest)) = (self.store.clone(), Digest::parse(id)) else { return Ok(None) };
        blocking(move || Ok(find(&root, &digest))).await
    }

    /// Notes the id that the engine has for an image, so that it is brought there once.
    async fn note(&self, context: &BuildContext, id: &str, brought: &str) -> Result<(), Failure> {
        let (Some(root), key) = (self.store.clone(), self.brought_key(id)) else { return Ok(()) };
        let result = EngineResult {
            build: Some(context.build.to_string()),
            image: brought.to_owned(),
            created: SystemTime::now(),
            facts: Default::default(),
        };
        blocking(move || {
            let store = Store::open(&root, &StoreOptions::default()).map_err(Failure::environment)?;
            store.put_engine_result(&key, &result).map_err(Failure::environment)
        })
        .await
    }

    fn brought_key(&self, id: &str) -> Key {
        let parts = format!("brought\n{}\n{id}", self.engine.address());
        Key::from_digest(Sha256::digest(parts).into())
    }
}

/// Writes an image of a store as an archive that engines load.
fn export(layout: &kiln_image::Layout, manifest: &Digest, to: &Path) -> Result<(), Failure> {
    let local = |action| {
        let path = to.to_path_buf();
        move |source| Failure::build(EngineError::Local { action, path, source })
    };
    let file = std::fs::File::create(to).map_err(local("create"))?;
    let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
    archive::export_docker_archive(layout, manifest, &[], &mut file).map_err(Failure::build)?;
    file.flush().map_err(local("write"))
}

/// Looks into the store of this user, and into those that the same user has for other id maps: they lie beside it.
fn find(root: &Path, id: &Digest) -> Option<Handed> {
    let own = root.file_name()?.to_str()?;
    let others = std::fs::read_dir(root.parent()?).ok()?.flatten().map(|entry| entry.path());
    let is_same_user = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.strip_prefix(own).is_some_and(|rest| rest.starts_with('-'))
    };
    std::iter::once(root.to_path_buf()).chain(others.filter(is_same_user)).filter(|path| path.is_dir()).find_map(
        |path| {
            // One that cannot be opened has nothing that could be used.
            let store = Arc::new(Store::open(&path, &StoreOptions::default()).ok()?);
            let manifest = store.manifest_of(id).ok()??;
            Some(Handed { store, manifest })
        },
    )
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(Failure::build)?
}
