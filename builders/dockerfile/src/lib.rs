//! The `dockerfile` source: an image built from a Dockerfile by BuildKit or by an engine's own builder, and provisioned further
//! where steps follow.
//!
//! Owns: the source's arguments, reading Dockerfiles as far as places in them are told and images of other builds are put in,
//! contexts (directories, git, archives), and where the result lands. A machine for steps is one of the `docker` source's
//! library: a container of the image that was built. Must not know: any provisioner or post-processor.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
//! use kiln_builder_dockerfile::DockerfileKind;
//! use kiln_docker::BollardEngine;
//!
//! # fn example() -> Result<(), kiln_docker::EngineError> {
//! let engine = Arc::new(BollardEngine::connect(None, &std::env::vars().collect())?);
//! let kind = DockerfileKind::new(DockerSettings::new(engine));
//! # let _ = kind;
//! # Ok(())
//! # }
//! ```

mod archive;
mod builder;
mod check;
mod classic;
mod config;
mod context;
mod daemon;
mod dockerfile;
mod fault;
mod git;
mod heredoc;
mod labels;
mod logins;
mod made;
mod named;
mod prepare;
mod pull;
mod run;
mod schema;
mod substitute;
mod testing;

pub use prepare::DockerfileKind;
