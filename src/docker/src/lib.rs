//! The Docker Engine API behind one narrow trait.
//!
//! Owns: the connection (`DOCKER_HOST`: unix, tcp with TLS, ssh), and the calls that builders and post-processors need.
//! Must not know: templates, builds, steps.

pub mod engine;

pub use engine::{Engine, EngineError};
