//! The client: what callers see of it. Source of the protocol: OCI distribution specification 1.1, and what registries do.

mod auth;
mod body;
mod challenge;
mod download;
mod endpoint;
mod exchange;
mod manifest;
mod mirrors;
mod pull;
mod push;
mod realm;
mod remote;
mod repository;
mod retry;
mod shared;
mod streamed;
mod tags;
#[cfg(test)]
mod tests;
mod token;
mod transport;
mod upload;

use std::sync::Arc;

use kiln_image::{Digest, Layout};

use crate::error::RegistryError;
use crate::options::{ClientOptions, ProgressSink, PullOptions, Pulled, PushOptions, Pushed, Resolved};
use crate::reference::Reference;
use shared::Shared;
pub use streamed::Upload;

/// Pulls from registries and pushes to them. Cheap to clone; tokens and connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// A client. Nothing is connected or read yet: certificates and proxies that cannot be used are told by the first request.
    pub fn new(options: ClientOptions) -> Client {
        Client { shared: Arc::new(Shared::new(options)) }
    }

    /// What a reference means now.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        self.shared.resolve(reference).await
    }

    /// The digest that a reference means in its own registry, whatever mirrors there are: what a push would move. `None` where
    /// it is not there.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn meaning(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        self.shared.repository(reference).meaning(reference).await
    }

    /// The id of the image that a reference means now, which is the digest of its config; `None` where it is not there, or
    /// an index of several images.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn image_id(&self, reference: &Reference) -> Result<Option<Digest>, RegistryError> {
        self.shared.repository(reference).image_id(reference).await
    }

    /// Brings an image into a layout: what the layout has is not moved. The image gets no name there.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn pull(
        &self,
        reference: &Reference,
        layout: &Layout,
        options: &PullOptions,
        progress: ProgressSink,
    ) -> Result<Pulled, RegistryError> {
        self.shared.pull(reference, layout, options, &progress).await
    }

    /// Pushes an image or index of a layout, with all it names, to each reference (`latest` where one has no tag). What a
    /// registry has is not moved.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn push(
        &self,
        layout: &Layout,
        manifest: &Digest,
        references: &[Reference],
        options: &PushOptions,
        progress: ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        self.shared.push(layout, manifest, references, options, &progress).await
    }

    /// Starts to upload a blob whose size and digest are not known yet, to a repository.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn start_upload(&self, repository: &Reference) -> Result<Upload, RegistryError> {
        Upload::start(self.shared.repository(repository)).await
    }

    /// All tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn tags(&self, repository: &Reference) -> Result<Vec<String>, RegistryError> {
        self.shared.repository(repository).list_tags().await
    }

    /// Removes a tag (`latest` where none is written) and nothing else: other tags of the same image stay. A tag that is not
    /// there is no error.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn untag(&self, reference: &Reference) -> Result<(), RegistryError> {
        self.shared.repository(reference).untag(reference.tag_or_latest()).await
    }

    /// Puts further tags on an image or index of the same repository, byte for byte.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn retag(&self, reference: &Reference, tags: &[String]) -> Result<Digest, RegistryError> {
        self.shared.retag(reference, tags).await
    }

    /// Copies an image, or an index with all its images, to other repositories, byte for byte and without a detour over the
    /// disk.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn copy(
        &self,
        from: &Reference,
        to: &[Reference],
        options: &PushOptions,
        progress: ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        self.shared.copy(from, to, options, &progress).await
    }
}
