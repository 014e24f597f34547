//! Waiting for a machine, and getting into it.

use kiln_core::{BuildContext, Failure, Secret};

use crate::communicator::SshCommunicator;
use crate::options::SshOptions;
use crate::policy::HostKeyPolicy;
use crate::process::SshProcess;

/// What a builder knows of a machine beyond the options of the template.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port; that of the options where absent.
    pub port: Option<u16>,
    /// User; that of the options where absent.
    pub user: Option<String>,
    /// A private key, in PEM form, besides those of the options.
    pub key: Option<Secret>,
    /// Which keys the machine may show, where the template says nothing about it; known hosts where absent.
    pub host_keys: Option<HostKeyPolicy>,
}

impl Endpoint {
    /// A machine of which only the options are known; `None` without `ssh_host`.
    pub fn of_options(options: &SshOptions) -> Option<Endpoint> {
        let host = options.host.clone()?;
        Some(Endpoint { host, ..Endpoint::default() })
    }
}

/// Waits until the machine can be logged in to, within `ssh_timeout` and `ssh_handshake_attempts`, and says meanwhile what it
/// waits for.
///
/// # Errors
/// The machine cannot be reached in time, refuses the login, or shows a key that is not its own; or the build was cancelled.
pub async fn connect(
    options: &SshOptions,
    endpoint: Endpoint,
    process: &SshProcess,
    context: &BuildContext,
) -> Result<SshCommunicator, Failure> {
    let _ = (options, endpoint, process, context);
    Err(Failure::build("not yet"))
}
