//! One SSH connection. A thread of its own owns it and serves all its channels; the handles here talk to that thread
//! over bounded channels, and may be used from any task.

mod channel;
mod request;
mod stream;

use std::os::fd::OwnedFd;

pub use channel::{Channel, ChannelEvent, ChannelInput, Ending, InputClosed};
pub use request::{ExecRequest, Login, LoginMethod, Prompt, PseudoTerminal, Responder, SessionSettings, Start};
pub use stream::{ChannelStream, Listener};

use crate::{HostKey, SshError};

/// A connection. It ends when the last handle and the last channel of it are dropped.
#[derive(Clone)]
pub struct Session {
    host_key: HostKey,
}

impl Session {
    /// Exchanges keys over a connected socket: anything that reads and writes (TCP, unix).
    ///
    /// # Errors
    /// The peer speaks no SSH, no common algorithm, or not within `settings.handshake_timeout`.
    pub async fn handshake(socket: OwnedFd, settings: SessionSettings) -> Result<Session, SshError> {
        let _ = (socket, settings);
        Err(SshError::Handshake("not yet".into()))
    }

    /// What the peer showed. Nothing may be sent that matters before this was checked.
    pub fn host_key(&self) -> &HostKey {
        &self.host_key
    }

    /// Tries one way to log in.
    ///
    /// # Errors
    /// The connection broke, or the key cannot be used. A refusal is none.
    pub async fn login(&self, user: &str, method: LoginMethod) -> Result<Login, SshError> {
        let _ = (user, method);
        Err(SshError::Lost("not yet".into()))
    }

    /// What the peer offers for this user; empty where it lets in without any.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn methods(&self, user: &str) -> Result<Vec<String>, SshError> {
        let _ = user;
        Err(SshError::Lost("not yet".into()))
    }

    /// Starts a command, a subsystem or a login shell.
    ///
    /// # Errors
    /// The connection broke, or the peer refused.
    pub async fn exec(&self, request: ExecRequest) -> Result<Channel, SshError> {
        let _ = request;
        Err(SshError::Lost("not yet".into()))
    }

    /// A connection from the peer to somewhere else: for bastions and local tunnels.
    ///
    /// # Errors
    /// The connection broke, or the peer does not get there.
    pub async fn open_direct(&self, host: &str, port: u16) -> Result<ChannelStream, SshError> {
        let _ = (host, port);
        Err(SshError::Lost("not yet".into()))
    }

    /// Lets the peer listen: for remote tunnels. Port 0: one that the peer chooses.
    ///
    /// # Errors
    /// The connection broke, or the peer refused.
    pub async fn listen(&self, host: &str, port: u16) -> Result<Listener, SshError> {
        let _ = (host, port);
        Err(SshError::Lost("not yet".into()))
    }

    /// Why the connection is gone; `None` while it lives.
    pub fn closed(&self) -> Option<SshError> {
        None
    }

    /// Says goodbye and waits until the connection is closed. Channels that are open end as lost.
    pub async fn close(&self) {}
}
