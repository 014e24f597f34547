//! Images on their way to registries.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use kiln_image::{Digest, ImageError, Layout};

use super::body::{FileSource, Source};
use super::manifest::{Content, Manifest, Part};
use super::pull::{blocking, check_extent, wanted};
use super::remote::RemoteSource;
use super::repository::Repository;
use super::shared::Shared;
use super::token::Scope;
use super::upload::Job;
use crate::error::RegistryError;
use crate::options::{Moves, ProgressSink, PushOptions, Pushed, Stage};
use crate::reference::Reference;

/// Where the blobs of an image are.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// In a layout.
    Layout(Layout),
    /// In another repository.
    Remote(Repository),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Layout(layout) => layout.root().display().fmt(formatter),
            Origin::Remote(repository) => repository.fmt(formatter),
        }
    }
}

impl Origin {
    async fn document(&self, digest: &Digest) -> Result<Manifest, RegistryError> {
        match self {
            Origin::Layout(layout) => {
                let (layout, wanted) = (layout.clone(), digest.clone());
                let bytes = blocking(move || layout.document(&wanted)).await??;
                let what = format!("the manifest {digest}");
                Ok(Manifest::read(bytes.into(), None).map_err(|problem| ImageError::Malformed { what, problem })?)
            }
            Origin::Remote(repository) => {
                let found = repository.get_manifest(digest.as_str(), Scope::pull(&repository.path)).await?;
                found.ok_or_else(|| RegistryError::NotFound { what: format!("{repository}@{digest}") })
            }
        }
    }

    fn source(&self, part: &Part) -> Arc<dyn Source> {
        match self {
            Origin::Layout(layout) => {
                Arc::new(FileSource::new(&layout.blob_path(&part.digest), &part.digest, part.size))
            }
            Origin::Remote(repository) => Arc::new(RemoteSource::new(repository.clone(), part.digest.clone())),
        }
    }
}

/// An image or an index with all it names.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) root: Manifest,
    /// Manifests below it, each before what names it.
    children: Vec<Manifest>,
    parts: Vec<Part>,
}

impl Tree {
    /// Reads what is below a manifest.
    pub(crate) async fn load(origin: &Origin, root: Manifest) -> Result<Tree, RegistryError> {
        let mut tree = Tree { root: root.clone(), children: Vec::new(), parts: Vec::new() };
        tree.add(origin, &root, 0).await?;
        let mut seen = HashSet::new();
        tree.parts.retain(|part| !part.is_foreign() && seen.insert(part.digest.clone()));
        // The largest first: the end is not waited for alone.
        tree.parts.sort_by_key(|part| std::cmp::Reverse(part.size));
        Ok(tree)
    }

    async fn add(&mut self, origin: &Origin, manifest: &Manifest, depth: usize) -> Result<(), RegistryError> {
        match &manifest.content {
            Content::Image(parts) => self.parts.extend(parts.iter().cloned()),
            Content::Index(children) => {
                for child in children {
                    if self.children.iter().any(|known| known.digest == child.digest) {
                        continue;
                    }
                    check_extent(depth, self.children.len(), &origin.to_string(), &manifest.digest)?;
                    let child = origin.document(&child.digest).await?;
                    Box::pin(self.add(origin, &child, depth + 1)).await?;
                    self.children.push(child);
                }
            }
        }
        Ok(())
    }
}

/// A repository and the names that the image is to have there.
struct Target {
    repository: Repository,
    names: Vec<String>,
}

impl Shared {
    pub(crate) async fn push(
        self: &Arc<Shared>,
        layout: &Layout,
        manifest: &Digest,
        references: &[Reference],
        options: &PushOptions,
        progress: &ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        let origin = Origin::Layout(layout.clone());
        let root = origin.document(manifest).await?;
        self.spread(&origin, root, references, options, progress).await
    }

    pub(crate) async fn copy(
        self: &Arc<Shared>,
        from: &Reference,
        to: &[Reference],
        options: &PushOptions,
        progress: &ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        let repository = self.repository(from);
        let found = repository.get_manifest(wanted(from), Scope::pull(&repository.path)).await?;
        let root = found.ok_or_else(|| RegistryError::NotFound { what: from.to_string() })?;
        let mut options = options.clone();
        options.mount_from.push(from.clone());
        self.spread(&Origin::Remote(repository), root, to, &options, progress).await
    }

    /// Brings an image to all references: registries side by side, the repositories of one registry one after the other, so
    /// that later ones take layers over from the first.
    async fn spread(
        self: &Arc<Shared>,
        origin: &Origin,
        root: Manifest,
        references: &[Reference],
        options: &PushOptions,
        progress: &ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        let digest = root.digest.clone();
        let registries = self.targets(&digest, references)?;
        let tree = &Tree::load(origin, root).await?;
        // Boxed: the compiler cannot see that futures made by a closure may move between threads.
        let pushes: Vec<_> =
            registries.iter().map(|targets| fill_all(targets, origin, tree, options, progress).boxed()).collect();
        let mut pushed = Pushed { digest, moved: 0, blobs: Moves::default() };
        // All of them end before the first failure is told: what can succeed does.
        for outcome in join_all(pushes).await {
            let (moved, blobs) = outcome?;
            pushed.moved += moved;
            pushed.blobs = pushed.blobs.plus(blobs);
        }
        Ok(pushed)
    }

    /// The references by registry and repository, in their order.
    fn targets(
        self: &Arc<Shared>,
        digest: &Digest,
        references: &[Reference],
    ) -> Result<Vec<Vec<Target>>, RegistryError> {
        let mut registries: Vec<Vec<Target>> = Vec::new();
        for reference in references {
            let repository = self.repository(reference);
            let name = wanted(reference).to_owned();
            if reference.digest.as_deref().is_some_and(|other| other != digest.as_str()) {
                let reason = format!("the image has digest {digest}");
                return Err(repository.refused(&format!("PUT {}", repository.name_of(&name)), reason));
            }
            let place = registries.iter().position(|targets| targets[0].repository.is_beside(&repository));
            let targets = match place {
                Some(place) => &mut registries[place],
                None => {
                    registries.push(Vec::new());
                    let last = registries.len() - 1;
                    &mut registries[last]
                }
            };
            match targets.iter_mut().find(|target| target.repository.path == repository.path) {
                Some(target) if target.names.contains(&name) => {}
                Some(target) => target.names.push(name),
                None => targets.push(Target { repository, names: vec![name] }),
            }
        }
        Ok(registries)
    }
}

/// One registry's targets, one after the other.
async fn fill_all(
    targets: &[Target],
    origin: &Origin,
    tree: &Tree,
    options: &PushOptions,
    progress: &ProgressSink,
) -> Result<(u64, Moves), RegistryError> {
    let mut beside: Vec<String> = Vec::new();
    let mut total = (0, Moves::default());
    for target in targets {
        let registry = &target.repository.endpoint.registry;
        let mounts = options.mount_from.iter().filter(|from| from.registry == *registry);
        let mut mount_from = beside.clone();
        mount_from.extend(mounts.map(|from| from.repository.clone()));
        let (moved, blobs) = target.fill(origin, tree, mount_from, options.jobs, progress).await?;
        beside.push(target.repository.path.clone());
        total = (total.0 + moved, total.1.plus(blobs));
    }
    Ok(total)
}

impl Target {
    /// Blobs, then manifests from below, then the names.
    async fn fill(
        &self,
        origin: &Origin,
        tree: &Tree,
        mount_from: Vec<String>,
        jobs: usize,
        progress: &ProgressSink,
    ) -> Result<(u64, Moves), RegistryError> {
        let done = self.blobs(origin, tree, mount_from, jobs, progress).await?;
        match self.manifests(tree).await {
            // It has lost a blob that it said it had, or took over from where it is no more.
            Err(RegistryError::Refused { reason, .. }) if reason.contains("BLOB_UNKNOWN") => {
                let (moved, _) = self.blobs(origin, tree, Vec::new(), jobs, progress).await?;
                self.manifests(tree).await?;
                Ok((done.0 + moved, done.1))
            }
            outcome => outcome.map(|()| done),
        }
    }

    async fn manifests(&self, tree: &Tree) -> Result<(), RegistryError> {
        for child in &tree.children {
            self.repository.put_manifest(child, child.digest.as_str()).await?;
        }
        for name in &self.names {
            self.repository.put_manifest(&tree.root, name).await?;
        }
        Ok(())
    }

    async fn blobs(
        &self,
        origin: &Origin,
        tree: &Tree,
        mount_from: Vec<String>,
        jobs: usize,
        progress: &ProgressSink,
    ) -> Result<(u64, Moves), RegistryError> {
        let mut list = Vec::new();
        for part in &tree.parts {
            list.push(Job {
                digest: part.digest.clone(),
                size: part.size,
                source: origin.source(part),
                mount_from: mount_from.clone(),
                progress: progress.clone(),
            });
        }
        let uploads: Vec<_> = list.iter().map(|job| self.push(job).boxed()).collect();
        let outcomes: Vec<(u64, Stage)> = stream::iter(uploads).buffer_unordered(jobs.max(1)).try_collect().await?;
        let mut moved = 0;
        let mut moves = Moves::default();
        for (size, stage) in outcomes {
            match stage {
                Stage::Present => moves.present += 1,
                Stage::Mounted => moves.mounted += 1,
                Stage::Moved | Stage::Moving => {
                    moves.moved += 1;
                    moved += size;
                }
            }
        }
        Ok((moved, moves))
    }
}

impl Target {
    async fn push(&self, job: &Job) -> Result<(u64, Stage), RegistryError> {
        Ok((job.size, self.repository.push_blob(job).await?))
    }
}

impl Moves {
    fn plus(self, other: Moves) -> Moves {
        Moves {
            moved: self.moved + other.moved,
            mounted: self.mounted + other.mounted,
            present: self.present + other.present,
        }
    }
}
