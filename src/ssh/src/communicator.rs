//! A machine behind SSH.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{Command, Communicator, Events, ExitStatus, OutputSink, Payload, SshAccess};

use crate::{Session, SshError};

/// Makes sessions that are logged in: the first one, and another after a machine restarted.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Connects once, within bounded time; the host key must be the one that was accepted before.
    async fn connect(&self) -> Result<Session, SshError>;

    /// How OpenSSH reaches the same machine; `None` where it cannot.
    async fn access(&self) -> Result<Option<SshAccess>, SshError>;
}

/// By which means files travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transfer {
    /// The machine's `tar` and `cat`, with SFTP where it has none.
    #[default]
    Programs,
    /// SFTP alone.
    Sftp,
}

/// What is the same for all commands on one machine.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// Commands without input run on a pseudo terminal.
    pub pty: bool,
    /// How files travel.
    pub transfer: Transfer,
    /// The agent that commands may use.
    pub agent: Option<PathBuf>,
}

/// A machine behind SSH. Connects again when the connection is gone.
pub struct SshCommunicator {
    connector: Arc<dyn Connector>,
    habits: Habits,
    events: Events,
}

impl SshCommunicator {
    /// Connects when first used. `events` takes warnings of files that cannot be sent.
    pub fn new(connector: Arc<dyn Connector>, habits: Habits, events: Events) -> SshCommunicator {
        SshCommunicator { connector, habits, events }
    }

    /// The same with a session that is logged in already.
    #[must_use]
    pub fn with_session(self, session: Session) -> SshCommunicator {
        let _ = session;
        self
    }
}

#[async_trait]
impl Communicator for SshCommunicator {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let _ = (command, sink, &self.habits, &self.events, &self.connector);
        Err(CommunicatorError::Ended("not yet".into()))
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        let _ = (payload, to);
        Err(CommunicatorError::Ended("not yet".into()))
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let _ = (from, to);
        Err(CommunicatorError::Ended("not yet".into()))
    }
}
