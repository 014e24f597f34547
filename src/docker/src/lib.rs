//! The Docker Engine API behind one narrow trait.
//!
//! Owns: the connection (`DOCKER_HOST`: unix, tcp with TLS, ssh), the calls that builders and post-processors need, the flags
//! of `docker run`, and how a journal's entries of a Docker engine are undone. Must not know: templates, steps, the user's home.
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

mod bollard_engine;
mod client;
mod containers;
mod content;
mod context;
pub mod engine;
pub mod error;
#[doc(hidden)]
pub mod fake;
pub mod ignore;
mod images;
mod login;
pub mod naming;
mod networks;
mod old_images;
mod public;
pub mod run_command;
pub mod services;
mod ssh;
pub mod steps;
mod take_over;
pub mod undo;
pub mod upgrade;

/// The Engine API's own shapes.
pub use bollard::models;

pub use client::{BollardEngine, DEFAULT_HOST};
pub use content::{Content, content};
pub use engine::{Engine, ImageInfo};
pub use error::EngineError;
pub use login::login_mistakes;
pub use old_images::{OldImage, OldImages};
pub use public::secret_in_image;
pub use take_over::{TakeOverError, take_over};
pub use undo::{
    BaseUndo, ContainerUndo, DockerUndoer, FileUndo, FinishedFile, ImageUndo, LentNameUndo, NetworkUndo, TagUndo,
};
