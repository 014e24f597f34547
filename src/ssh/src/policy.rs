//! Which keys a machine may show.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::hostkey::HostKey;

/// Which keys a machine may show. Whatever the policy, a machine whose key was accepted has to show one that the policy
/// accepts after each reconnect too; with [`HostKeyPolicy::FirstUse`] and [`HostKeyPolicy::Judged`] that is the same key.
#[derive(Clone)]
pub enum HostKeyPolicy {
    /// Those that stand in these `known_hosts` files; files that are not there hold none.
    KnownHosts(Vec<PathBuf>),
    /// These: `SHA256:...`, `MD5:...`, or whole public keys.
    Pinned(Vec<String>),
    /// Any at first, and then the same for the rest of the build. For machines that were made a moment ago; the output says so.
    FirstUse,
    /// Any. The output says so.
    AcceptAny,
    /// The one who knows the machine decides when it sees the key.
    Judged(Arc<dyn HostKeyJudge>),
}

impl fmt::Debug for HostKeyPolicy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostKeyPolicy::KnownHosts(files) => formatter.debug_tuple("KnownHosts").field(files).finish(),
            HostKeyPolicy::Pinned(keys) => formatter.debug_tuple("Pinned").field(keys).finish(),
            HostKeyPolicy::FirstUse => formatter.write_str("FirstUse"),
            HostKeyPolicy::AcceptAny => formatter.write_str("AcceptAny"),
            HostKeyPolicy::Judged(_) => formatter.write_str("Judged"),
        }
    }
}

/// Decides on a key that a machine shows: a builder that gave the machine a key, or can ask the cloud for it.
#[async_trait]
pub trait HostKeyJudge: Send + Sync {
    /// Keys or fingerprints that are known beforehand, so that the machine is asked for one of their kind.
    fn expected(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether this is the machine's key. May take its time, within the time for connecting.
    async fn judge(&self, key: &HostKey) -> Verdict;
}

/// What is thought of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the machine's; the text, where there is one, is said in the output.
    Accepted(Option<String>),
    /// It is another's; these (as fingerprints) would be right.
    Refused(Vec<String>),
    /// That cannot be told yet, for this reason; the connection is tried again later.
    NotYet(String),
}
