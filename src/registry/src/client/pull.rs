//! Images on their way from a registry.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use kiln_image::{Digest, Layout};

use super::manifest::{Content, Manifest, Part, choose};
use super::mirrors::{Candidate, candidates};
use super::repository::Repository;
use super::retry::describe;
use super::shared::Shared;
use super::token::Scope;
use crate::error::RegistryError;
use crate::options::{Note, Progress, ProgressSink, PullOptions, Pulled, Resolved, Stage};
use crate::reference::Reference;

/// The digest where there is one, else the tag.
pub(crate) fn wanted(reference: &Reference) -> &str {
    reference.digest.as_deref().unwrap_or_else(|| reference.tag_or_latest())
}

/// Runs blocking work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, RegistryError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| RegistryError::Setup(error.into()))
}

impl Shared {
    pub(crate) async fn resolve(self: &Arc<Shared>, reference: &Reference) -> Result<Resolved, RegistryError> {
        for candidate in candidates(self, reference) {
            let head = candidate.repository.resolve(wanted(reference)).await;
            if let Some(resolved) = self.judge(reference, &candidate, head)? {
                return Ok(resolved);
            }
        }
        Err(not_found(reference))
    }

    pub(crate) async fn pull(
        self: &Arc<Shared>,
        reference: &Reference,
        layout: &Layout,
        options: &PullOptions,
        progress: &ProgressSink,
    ) -> Result<Pulled, RegistryError> {
        for candidate in candidates(self, reference) {
            let repository = candidate.repository.clone();
            let pull = Pull { repository, layout, options, progress, reference, moved: 0 };
            let pulled = pull.run(wanted(reference)).await;
            if let Some(pulled) = self.judge(reference, &candidate, pulled)? {
                return Ok(pulled);
            }
        }
        Err(not_found(reference))
    }

    /// What came of asking one place: `None` sends on to the next, as far as the mirrors' rules let it.
    fn judge<T>(
        &self,
        reference: &Reference,
        candidate: &Candidate,
        outcome: Result<Option<T>, RegistryError>,
    ) -> Result<Option<T>, RegistryError> {
        let reason = match outcome {
            Ok(Some(found)) => {
                if candidate.is_mirror {
                    self.note(Note::Mirror {
                        reference: reference.to_string(),
                        from: candidate.repository.to_string(),
                    });
                }
                return Ok(Some(found));
            }
            Ok(None) => "it is not there".to_owned(),
            Err(error) if candidate.may_fail => describe(&error),
            Err(error) => return Err(error),
        };
        if candidate.is_mirror {
            let mirror = candidate.repository.to_string();
            self.note(Note::MirrorPassed { reference: reference.to_string(), mirror, reason });
        }
        Ok(None)
    }
}

/// Indexes may name indexes, but nobody nests them deeply.
const MOST_LEVELS: usize = 4;
/// An index has an image for each platform; all of its documents are in memory for a while.
const MOST_DOCUMENTS: usize = 1000;

/// Refuses an index that would never end.
pub(crate) fn check_extent(
    depth: usize,
    documents: usize,
    registry: &str,
    index: &Digest,
) -> Result<(), RegistryError> {
    let problem = match (depth, documents) {
        (MOST_LEVELS.., _) => format!("indexes lie within indexes, more than {MOST_LEVELS} deep"),
        (_, MOST_DOCUMENTS..) => format!("it names more than {MOST_DOCUMENTS} manifests"),
        _ => return Ok(()),
    };
    Err(RegistryError::Malformed { registry: registry.to_owned(), what: format!("the index {index}"), problem })
}

fn not_found(reference: &Reference) -> RegistryError {
    let mut full = reference.clone();
    if full.digest.is_none() {
        full.tag.get_or_insert_with(|| "latest".to_owned());
    }
    RegistryError::NotFound { what: full.to_string() }
}

impl Repository {
    async fn resolve(&self, name: &str) -> Result<Option<Resolved>, RegistryError> {
        let head = self.head_manifest(name, Scope::pull(&self.path)).await?;
        let from = self.to_string();
        Ok(head.map(|head| Resolved { digest: head.digest, media_type: head.media_type, size: head.size, from }))
    }
}

impl Repository {
    /// The digest of what a name means, asked with the leave that a push needs anyhow.
    pub(crate) async fn meaning(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let head = self.head_manifest(wanted(reference), Scope::push(&self.path)).await?;
        Ok(head.map(|head| head.digest))
    }

    /// The digest of an image's config.
    pub(crate) async fn image_id(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        let found = self.get_manifest(wanted(reference), Scope::pull(&self.path)).await?;
        Ok(found.and_then(|manifest| match manifest.content {
            // The config comes first.
            Content::Image(parts) => parts.into_iter().next().map(|config| config.digest),
            Content::Index(_) => None,
        }))
    }
}

/// One pull from one place.
struct Pull<'a> {
    repository: Repository,
    layout: &'a Layout,
    options: &'a PullOptions,
    progress: &'a ProgressSink,
    reference: &'a Reference,
    moved: u64,
}

impl Pull<'_> {
    async fn run(mut self, name: &str) -> Result<Option<Pulled>, RegistryError> {
        let Some(root) = self.root(name).await? else { return Ok(None) };
        let mut parts = Vec::new();
        let (image, index) = match (&root.content, &self.options.platform) {
            (Content::Index(children), Some(platform)) => {
                let child = choose(children, platform).map_err(|available| RegistryError::Platform {
                    reference: self.reference.to_string(),
                    platform: platform.to_string(),
                    available,
                })?;
                let child = self.child(&child.digest).await?;
                (child, Some(root.digest.clone()))
            }
            (Content::Index(_), None) => (root.clone(), Some(root.digest.clone())),
            (Content::Image(_), _) => (root.clone(), None),
        };
        let mut documents = Vec::new();
        self.collect(&image, &mut parts, &mut documents, 0).await?;
        if index.is_some() && image.digest != root.digest {
            documents.push(root);
        }
        self.blobs(parts).await?;
        // Last: what is named is there.
        let layout = self.layout.clone();
        blocking(move || documents.iter().try_for_each(|document| layout.put_document(&document.bytes).map(drop)))
            .await??;
        Ok(Some(Pulled {
            manifest: image.digest,
            media_type: image.media_type,
            size: image.bytes.len() as u64,
            index,
            from: self.repository.to_string(),
            moved: self.moved,
        }))
    }

    /// The manifest that the reference names. What the layout has is not fetched: registries count that.
    async fn root(&mut self, name: &str) -> Result<Option<Manifest>, RegistryError> {
        let scope = Scope::pull(&self.repository.path);
        let known = match Digest::parse(name) {
            Ok(digest) => Some((digest, String::new())),
            Err(_) => match self.repository.head_manifest(name, scope.clone()).await? {
                Some(head) => Some((head.digest, head.media_type)),
                None => return Ok(None),
            },
        };
        if let Some((digest, media_type)) = known
            && let Some(manifest) = self.local(&digest, &media_type).await
        {
            return Ok(Some(manifest));
        }
        let manifest = match self.tagged(name, &scope).await? {
            None => self.repository.get_manifest(name, scope).await?,
            found => found,
        };
        self.moved += manifest.as_ref().map_or(0, |manifest| manifest.bytes.len() as u64);
        Ok(manifest)
    }

    /// Where tag and digest are written, what the tag means if it is what the digest says: zuul-registry fails when it is
    /// asked by digest for a manifest that does not name its own type, as podman writes them.
    async fn tagged(&mut self, name: &str, scope: &Scope) -> Result<Option<Manifest>, RegistryError> {
        let Some(tag) = self.reference.tag.as_deref().filter(|tag| *tag != name) else { return Ok(None) };
        let found = self.repository.get_manifest(tag, scope.clone()).await?;
        Ok(found.filter(|manifest| manifest.digest.as_str() == name))
    }

    /// What the layout has of it. What is damaged there is fetched again.
    async fn local(&self, digest: &Digest, media_type: &str) -> Option<Manifest> {
        if !self.layout.has(digest) {
            return None;
        }
        let (layout, wanted) = (self.layout.clone(), digest.clone());
        let bytes = blocking(move || layout.document(&wanted)).await.ok()?.ok()?;
        Manifest::read(bytes.into(), Some(media_type)).ok()
    }

    async fn child(&mut self, digest: &Digest) -> Result<Manifest, RegistryError> {
        if let Some(manifest) = self.local(digest, "").await {
            return Ok(manifest);
        }
        let scope = Scope::pull(&self.repository.path);
        let found = self.repository.get_manifest(digest.as_str(), scope).await?;
        let manifest =
            found.ok_or_else(|| RegistryError::NotFound { what: format!("{}@{digest}", self.repository) })?;
        self.moved += manifest.bytes.len() as u64;
        Ok(manifest)
    }

    /// All blobs and documents below a manifest; what is named comes before what names it.
    async fn collect(
        &mut self,
        manifest: &Manifest,
        parts: &mut Vec<Part>,
        documents: &mut Vec<Manifest>,
        depth: usize,
    ) -> Result<(), RegistryError> {
        match &manifest.content {
            Content::Image(own) => parts.extend(own.iter().cloned()),
            Content::Index(children) => {
                for child in children {
                    if documents.iter().any(|known| known.digest == child.digest) {
                        continue;
                    }
                    check_extent(depth, documents.len(), &self.repository.to_string(), &manifest.digest)?;
                    let child = self.child(&child.digest).await?;
                    Box::pin(self.collect(&child, parts, documents, depth + 1)).await?;
                }
            }
        }
        documents.push(manifest.clone());
        Ok(())
    }

    async fn blobs(&mut self, parts: Vec<Part>) -> Result<(), RegistryError> {
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_foreign()) {
            if !seen.insert(part.digest.clone()) {
                continue;
            }
            if self.layout.size(&part.digest) == Some(part.size) {
                let (digest, total) = (part.digest, part.size);
                (self.progress)(Progress { digest, done: total, total, stage: Stage::Present });
            } else {
                missing.push(part);
            }
        }
        self.moved += missing.iter().map(|part| part.size).sum::<u64>();
        // The largest first: the end is not waited for alone.
        missing.sort_by_key(|part| std::cmp::Reverse(part.size));
        let repository = &self.repository;
        // Boxed: the compiler cannot see that futures made by a closure may move between threads.
        let pulls: Vec<_> =
            missing.iter().map(|part| repository.pull_blob(part, self.layout, self.progress).boxed()).collect();
        stream::iter(pulls).buffer_unordered(self.options.jobs.max(1)).try_collect::<()>().await
    }
}
