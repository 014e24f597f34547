//! Registries: image references, credentials, and a client that pulls and pushes.
//!
//! Owns: reference grammar, where credentials come from, the distribution protocol. Must not know: any engine, any template.
//!
//! ```
//! use kiln_registry::Reference;
//!
//! let reference = Reference::parse("rabbitmq:3")?;
//! assert_eq!(reference.registry, "docker.io");
//! assert_eq!(reference.repository, "library/rabbitmq");
//! assert_eq!(reference.to_string(), "rabbitmq:3");
//! # Ok::<(), kiln_registry::ReferenceError>(())
//! ```

pub mod client;
pub mod credentials;
pub mod ecr;
pub mod error;
mod helper;
pub mod options;
pub mod reference;
mod store;
pub mod tag;

pub use client::{Client, Upload};
pub use credentials::{CredentialError, CredentialSources, Credentials, Found, Origin};
pub use ecr::{Amazon, EcrLogins, EcrOptions, EcrRegistry};
pub use error::RegistryError;
pub use kiln_core::Platform;
pub use options::{
    ClientOptions, Mirror, Moves, Note, Progress, ProgressSink, PullOptions, Pulled, PushOptions, Pushed, Resolved,
    Stage, no_progress,
};
pub use reference::{Reference, ReferenceError, normalize_registry};
