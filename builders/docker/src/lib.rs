//! The `docker` source: a container of a Docker engine, provisioned and then committed, exported or thrown away.
//!
//! Owns: the source's arguments, the container's life, the communicator over the engine's API, the config of the committed
//! image, and which states of containers are kept as images. Must not know: any provisioner or post-processor.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
//! use kiln_docker::BollardEngine;
//!
//! # fn example() -> Result<(), kiln_docker::EngineError> {
//! let engine = Arc::new(BollardEngine::connect(None, &std::env::vars().collect())?);
//! let kind = DockerBuilderKind::new(DockerSettings::new(engine));
//! # let _ = kind;
//! # Ok(())
//! # }
//! ```

mod base;
mod changes;
mod commit;
mod communicator;
mod config;
mod handed;
mod hosts;
mod image_machines;
mod keep;
mod launch;
mod machine;
mod merge;
mod owner;
mod prepare;
mod running;
mod schema;
mod snapshots;
mod squash;
pub mod states;

use std::path::PathBuf;
use std::sync::Arc;

use kiln_docker::Engine;
use kiln_registry::CredentialSources;

pub use communicator::DockerCommunicator;
pub use hosts::PLATFORM_HOSTS;
pub use image_machines::{ImageMachine, ImageMachines, image_artifact};
pub use prepare::DockerBuilderKind;

/// What the source needs from outside.
#[derive(Clone)]
pub struct DockerSettings {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The engine that other builds use, where a source named this one for its platform.
    pub usual: Option<Arc<dyn Engine>>,
    /// Where logins for private base images are looked for. Its environment also serves `-e NAME` in `run_command`.
    pub credentials: CredentialSources,
    /// What `~/` in `volumes` means.
    pub home: Option<PathBuf>,
    /// The store that knows which images of the engine are states and results of this user's. Without, none are kept.
    pub store: Option<PathBuf>,
    /// Bound on what all states take, in bytes; beyond it the oldest go.
    pub states_size: Option<u64>,
}

impl DockerSettings {
    /// An engine, without logins, home and states.
    pub fn new(engine: Arc<dyn Engine>) -> DockerSettings {
        DockerSettings {
            engine,
            usual: None,
            credentials: CredentialSources::default(),
            home: None,
            store: None,
            states_size: Some(20 << 30),
        }
    }
}
