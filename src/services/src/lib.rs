//! Side-cars: what runs beside a machine while a build's steps run on it, a database for example.
//!
//! Owns: the arguments of a `service` block, what is wrong with them, in which order services start, when one is ready, and
//! what is told and kept where one is not. Must not know: what they run in; a builder brings that, as a [`ServiceHost`].
//!
//! ```
//! use kiln_services::Health;
//!
//! let health = Health { command: vec!["pg_isready".to_owned()], ..Health::default() };
//! assert_eq!(health.patience().as_secs(), 90);
//! ```

mod check;
mod log;
mod run;
mod schema;
mod service;
pub mod trial;

pub use kiln_core::health::{Health, HealthCheck};
pub use log::keep_log;
pub use run::{ServiceError, ServiceHost, Status, start_all};
pub use schema::{SERVICE, SERVICES};
pub use service::{Port, Pull, Service, Wait, read};
