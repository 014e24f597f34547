//! What post-processors are given from outside.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::Failure;
use kiln_docker::Engine;
use kiln_image::Layout;
use kiln_registry::CredentialSources;

/// Gives a Docker engine when one is first needed, so that a template without images needs none.
#[async_trait]
pub trait EngineProvider: Send + Sync {
    /// Connects, or gives what is connected already.
    async fn engine(&self) -> Result<Arc<dyn Engine>, Failure>;
}

/// An engine that is there already.
pub struct GivenEngine(
    /// The engine.
    pub Arc<dyn Engine>,
);

#[async_trait]
impl EngineProvider for GivenEngine {
    async fn engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        Ok(Arc::clone(&self.0))
    }
}

/// Gives the OCI layout that images without an engine lie in, when it is first needed.
#[async_trait]
pub trait StoreProvider: Send + Sync {
    /// Makes it, or gives what is there already. Images in it that nothing names stay until this process ends.
    async fn layout(&self) -> Result<Layout, Failure>;
}

/// What [`crate::register`] needs.
#[derive(Clone)]
pub struct PublishSettings {
    /// The engine that holds the images.
    pub engine: Arc<dyn EngineProvider>,
    /// Where logins are looked for that the template does not give.
    pub credentials: CredentialSources,
    /// Where images go that are not made by an engine, if none is to be used where one would have to be.
    pub store: Option<Arc<dyn StoreProvider>>,
}
