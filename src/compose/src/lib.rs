//! What projects on this host use which images: compose files and DDEV's additions to them.
//!
//! Owns: which files make up a project, their YAML with places, `${VARIABLES}`, merging, `extends` and `include`, and which
//! service uses which of some given images. Must not know: templates, builds, engines, the process. It only reads: whatever it
//! does not understand it tells, since a service that is overlooked silently keeps its old image.
//!
//! ```no_run
//! use kiln_compose::{Offer, ReadOptions, read};
//!
//! let found = read(&ReadOptions::new("."));
//! let offers = [Offer { build: "docker.worker".to_owned(), names: vec!["docker.io/group/worker:1".to_owned()] }];
//! for project in &found.projects {
//!     for used in project.matches(&offers).used {
//!         assert_eq!(used.build, "docker.worker");
//!     }
//! }
//! ```

mod ddev;
mod dockerfile;
mod dotenv;
mod files;
mod interpolate;
mod matching;
mod model;
mod services;
#[cfg(test)]
mod tests;
mod tree;
mod yaml;

pub use files::{Found, ReadOptions, read};
pub use matching::{Because, Matches, Near, Offer, Used};
pub use model::{Base, Mount, Placed, Project, Service, Tool};
