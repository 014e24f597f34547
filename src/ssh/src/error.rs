//! What goes wrong on an SSH connection.

use std::time::Duration;

/// Why something could not be done over SSH. What a machine answers (a refused login, a command's status) is no error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SshError {
    /// The peers could not agree on keys, or the peer does not speak SSH.
    #[error("the SSH handshake failed: {0}")]
    Handshake(String),
    /// The handshake did not end in time.
    #[error("the SSH handshake did not end within {}", kiln_core::duration::display(*.0))]
    HandshakeTimeout(Duration),
    /// The connection ended; the text says how.
    #[error("the SSH connection was lost: {0}")]
    Lost(String),
    /// The peer is connected and sends nothing, not even answers to keep-alive messages.
    #[error("the SSH connection is dead: nothing came from the machine for {}", kiln_core::duration::display(*.0))]
    Silent(Duration),
    /// It was closed by this side.
    #[error("the SSH connection was closed")]
    Closed,
    /// No session was had: the machine is not there, shows another host key, or lets nobody in. The reason names the host.
    #[error("{reason}")]
    Connect {
        /// Why.
        reason: String,
        /// Whether another try is of no use.
        is_final: bool,
    },
    /// The machine refused to do one thing; the connection stays.
    #[error("the machine refused to {action}: {reason}")]
    Refused {
        /// As a verb: `run a command`, `connect to 10.0.0.1:22`.
        action: String,
        /// What it said.
        reason: String,
    },
    /// A key, a user name or a list of algorithms that cannot be used.
    #[error("cannot use {what}: {reason}")]
    Unusable {
        /// `the private key`.
        what: String,
        /// Why.
        reason: String,
    },
    /// This host could not do its part: a thread, a descriptor.
    #[error("cannot {action}: {reason}")]
    Host {
        /// As a verb.
        action: String,
        /// Why.
        reason: String,
    },
}

impl SshError {
    /// Whether the connection is gone, so that a new one may help.
    pub fn is_disconnected(&self) -> bool {
        match self {
            SshError::Handshake(_) | SshError::HandshakeTimeout(_) | SshError::Lost(_) | SshError::Silent(_) => true,
            SshError::Connect { is_final, .. } => !is_final,
            _ => false,
        }
    }
}
