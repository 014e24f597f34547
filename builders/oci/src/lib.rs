//! The `oci` source: an image without a daemon. A base is unpacked, provisioned in a sandbox of our own, and sealed.
//!
//! ```text
//!   from ──► base (image in the store, layers unpacked) ──► guest (overlay + sandbox) ──► steps ──► states in the store
//!                                                                                  └──► seal: layer, config, manifest ──► outputs
//! ```
//!
//! Owns: the source's arguments, what machines start from, the machine's life, the communicator over the sandbox's own
//! process 1, what sealing makes and where it goes. Must not know: any provisioner or post-processor, another builder.

mod base;
mod communicator;
mod config;
mod digest;
mod docker;
mod error;
mod files;
mod fixed;
mod from;
mod guest;
mod index;
mod launch;
mod machine;
mod missing;
mod outputs;
mod place;
mod prepare;
mod runtime;
mod schema;
mod seal;
mod services;
mod snapshots;
mod trial;
mod undo;

use std::path::PathBuf;
use std::sync::Arc;

use kiln_docker::Engine;
use kiln_registry::CredentialSources;
use kiln_sandbox::HelperProgram;

pub use communicator::OciCommunicator;
pub use prepare::OciBuilderKind;
pub use undo::OciUndoer;

/// What the source needs from outside.
#[derive(Clone)]
pub struct OciSettings {
    /// Where stores lie, one for each user and id map.
    pub cache: PathBuf,
    /// How this program is started as a sandbox's helper.
    pub helper: HelperProgram,
    /// Where logins are looked for. Its environment also serves `-e NAME` in `run_command`, proxies, and
    /// `SOURCE_DATE_EPOCH`.
    pub credentials: CredentialSources,
    /// What `~/` in `volumes` means.
    pub home: Option<PathBuf>,
    /// For `docker_daemon` and `load`.
    pub engine: Arc<dyn Engine>,
}
