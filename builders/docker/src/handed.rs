//! Images that builds without an engine made: the engine gets them from kiln's store when one is asked for by its id.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::{Store, StoreOptions};
use kiln_core::{BuildContext, Failure};
use kiln_docker::EngineError;
use kiln_image::{Digest, archive};

use crate::DockerSettings;
use crate::launch::DockerBuilder;

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

impl DockerBuilder {
    /// Brings an image of this id into the engine, where a store has it.
    pub(crate) async fn take_over(&self, context: &BuildContext, id: &str) -> Result<bool, Failure> {
        self.settings.take_over(context, id).await
    }
}

impl DockerSettings {
    /// Brings an image of this id into the engine, where a store or the engine of other builds has it. It stays there, as one that was pulled does.
    ///
    /// # Errors
    /// What the store or the engine says.
    pub async fn take_over(&self, context: &BuildContext, id: &str) -> Result<bool, Failure> {
        let (Some(root), Ok(digest)) = (self.store.clone(), Digest::parse(id)) else { return Ok(false) };
        let found = blocking(move || Ok(find(&root, &digest))).await?;
        let Some(Handed { store, manifest }) = found else { return self.fetch(context, id).await };
        context
            .events
            .message(format!("loading image {:.12} into the Docker engine", id.trim_start_matches("sha256:")));
        let path = context.scratch.join("base.tar");
        let (to, layout) = (path.clone(), store.layout().clone());
        blocking(move || {
            let local = |action| {
                let path = to.clone();
                move |source| Failure::build(EngineError::Local { action, path, source })
            };
            let file = std::fs::File::create(&to).map_err(local("create"))?;
            let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
            archive::export_docker_archive(&layout, &manifest, &[], &mut file).map_err(Failure::build)?;
            file.flush().map_err(local("write"))
        })
        .await?;
        let loaded = self.engine.load(&path).await;
        let _ = tokio::fs::remove_file(&path).await;
        loaded?;
        drop(store);
        Ok(true)
    }
}

impl DockerSettings {
    /// Brings an image over from the engine that other builds use.
    async fn fetch(&self, context: &BuildContext, id: &str) -> Result<bool, Failure> {
        let Some(usual) = &self.usual else { return Ok(false) };
        let found = usual.inspect_image(id).await?;
        if found.is_none() {
            return Ok(false);
        }
        let engine = self.engine.address();
        context.events.message(format!("taking image {:.12} over to {engine}", id.trim_start_matches("sha256:")));
        let path = context.scratch.join("base.tar");
        let moved = async {
            usual.save(&[id.to_owned()], &path).await?;
            self.engine.load(&path).await
        };
        let moved = context.unless_cancelled(moved).await;
        let _ = tokio::fs::remove_file(&path).await;
        moved??;
        Ok(self.engine.inspect_image(id).await?.is_some())
    }
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
