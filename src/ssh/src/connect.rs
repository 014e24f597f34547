//! Waiting for a machine, and getting into it.

use kiln_core::Secret;

use crate::options::SshOptions;
use crate::policy::HostKeyPolicy;

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
