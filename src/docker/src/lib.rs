//! The Docker Engine API behind one narrow trait.
//!
//! Owns: the connection (`DOCKER_HOST`: unix, tcp with TLS, ssh), the calls that builders and post-processors need, and
//! how a journal's entries of a Docker engine are undone. Must not know: templates, steps, the user's home.
//!
//! ```no_run
//! # async fn example() -> Result<(), kiln_docker::EngineError> {
//! use kiln_docker::{BollardEngine, Engine};
//!
//! let engine = BollardEngine::connect(None, &std::env::vars().collect())?;
//! let image = engine.inspect_image("debian:bookworm").await?;
//! # let _ = image;
//! # Ok(())
//! # }
//! ```

pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod fake;
/// The Engine API's own shapes.
pub use bollard::models;

pub use engine::{Engine, ImageInfo};
pub use error::EngineError;
