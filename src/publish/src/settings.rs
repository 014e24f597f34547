//! What post-processors are given from outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Failure, Image};
use kiln_docker::{BollardEngine, Engine};
use kiln_image::Layout;
use kiln_registry::CredentialSources;

/// Gives a Docker engine when one is first needed, so that a template without images needs none.
#[async_trait]
pub trait EngineProvider: Send + Sync {
    /// Connects, or gives what is connected already.
    async fn engine(&self) -> Result<Arc<dyn Engine>, Failure>;

    /// The engine that holds an image: the same one, where there are no others.
    async fn engine_of(&self, image: &Image) -> Result<Arc<dyn Engine>, Failure> {
        let _ = image;
        self.engine().await
    }
}

/// An engine that is there already, and those that sources name for a platform.
pub struct GivenEngine {
    /// The usual engine.
    pub engine: Arc<dyn Engine>,
    /// Says how others are connected to: certificates, and what SSH needs.
    pub environment: BTreeMap<String, String>,
}

#[async_trait]
impl EngineProvider for GivenEngine {
    async fn engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        Ok(Arc::clone(&self.engine))
    }

    async fn engine_of(&self, image: &Image) -> Result<Arc<dyn Engine>, Failure> {
        match &image.engine {
            Some(address) if address != self.engine.address() => {
                Ok(Arc::new(BollardEngine::connect(Some(address), &self.environment)?))
            }
            _ => self.engine().await,
        }
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
