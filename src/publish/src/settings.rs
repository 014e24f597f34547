//! What post-processors are given from outside.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::Failure;
use kiln_docker::Engine;
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

/// What [`crate::register`] needs.
#[derive(Clone)]
pub struct PublishSettings {
    /// The engine that holds the images.
    pub engine: Arc<dyn EngineProvider>,
    /// Where logins are looked for that the template does not give.
    pub credentials: CredentialSources,
}
