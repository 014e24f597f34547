//! Registries: image references and credentials (the distribution client comes here too).
//!
//! Owns: reference grammar, where credentials come from. Must not know: any engine, any template.

pub mod credentials;
pub mod reference;

pub use credentials::{CredentialSources, Credentials};
pub use reference::Reference;
