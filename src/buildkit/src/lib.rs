//! A client of BuildKit: one solve of a frontend, with a session that serves what BuildKit asks of its caller.
//!
//! Owns: the control API (`Solve`, `Status`), the session and what is served over it (files of directories, logins, secrets,
//! SSH agents, results), the two ways to a BuildKit (a Docker engine's own, a daemon's address), and what its answers mean.
//! Must not know: Dockerfiles, templates, steps.
//!
//! ```no_run
//! # async fn example(engine: std::sync::Arc<dyn kiln_docker::Engine>) -> Result<(), kiln_buildkit::SolveError> {
//! use kiln_buildkit::{Directory, Request, Session, Transport, solve};
//!
//! let mut session = Session::new("example");
//! session.directories.insert("context".to_owned(), Directory::Path(".".into()));
//! session.directories.insert("dockerfile".to_owned(), Directory::Path(".".into()));
//! let request = Request { frontend: "dockerfile.v0".to_owned(), exporter: Some("moby".to_owned()), ..Request::default() };
//! let answer = solve(&Transport::Engine(engine), session, request, &mut |_| {}).await?;
//! assert!(answer.contains_key("containerimage.digest"));
//! # Ok(())
//! # }
//! ```
//!
//! Files go over the wire as BuildKit asks for them: first the stats of all that it may want, then the content of what it
//! has not got yet. So a context costs what changed in it, and not its size.

mod agent;
mod error;
mod files;
mod follow;
mod logins;
mod output;
mod progress;
mod secrets;
mod session;
mod solve;
mod transport;
mod walk;

pub use error::{SolveError, SourceRange};
pub use files::{Directory, Sent};
pub use logins::Logins;
pub use progress::Progress;
pub use secrets::SecretSource;
pub use session::Session;
pub use solve::{CacheEntry, Request, solve};
pub use transport::{DaemonAddress, Transport};
