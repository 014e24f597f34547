//! Registries: image references and credentials (the distribution client comes here too).
//!
//! Owns: reference grammar, where credentials come from. Must not know: any engine, any template.
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

pub mod credentials;
mod helper;
pub mod reference;
mod store;

pub use credentials::{CredentialError, CredentialSources, Credentials, Found, Origin};
pub use reference::{Reference, ReferenceError, normalize_registry};
