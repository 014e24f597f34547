//! A machine behind SSH.
//!
//! Each call of the communicator is one command on the machine, and no more: a script, a file and a tree travel on the
//! standard input of the command that stores them.

mod command;
mod download;
mod feed;
mod interact;
mod leftover;
mod link;
mod script;
mod sftp;
mod sftp_tree;
mod signal;
#[cfg(test)]
mod tests;
mod upload;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{
    Command, Communicator, Events, ExitStatus, OutputSink, Payload, Script, ScriptRun, SshAccess, Stdin, Terminal,
};

use self::feed::Source;
use self::link::{Link, failed, refused};
use crate::session::{ExecRequest, PseudoTerminal};
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
}

/// A machine behind SSH. Connects again when the connection is gone.
pub struct SshCommunicator {
    link: Link,
    habits: Habits,
    events: Events,
}

impl SshCommunicator {
    /// Connects when first used. `events` takes warnings of files that cannot be sent.
    pub fn new(connector: Arc<dyn Connector>, habits: Habits, events: Events) -> SshCommunicator {
        SshCommunicator { link: Link::new(connector), habits, events }
    }

    /// The same with a session that is logged in already.
    #[must_use]
    pub fn with_session(mut self, session: Session) -> SshCommunicator {
        self.link.set(session);
        self
    }

    /// What every command is started with.
    fn request(&self) -> ExecRequest {
        ExecRequest::command(command::LINE)
    }

    /// Runs shell of kiln's own, without a terminal.
    async fn run_own(
        &self,
        action: &str,
        shell: &str,
        source: Source,
        sink: &mut dyn OutputSink,
    ) -> Result<ExitStatus, CommunicatorError> {
        let mark = self.link.mark();
        let command = Command::default();
        let header = command::environment(&command, &mark)
            .and_then(|environment| command::header(&command, &format!("{environment}{shell}")));
        let header = header.map_err(|error| refused(action, error))?;
        self.link.run(self.request(), mark, header, source, sink).await
    }
}

#[async_trait]
impl Communicator for SshCommunicator {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let has_input = !matches!(command.stdin, Stdin::Closed);
        if command.pty || (self.habits.pty && !has_input) {
            let terminal = PseudoTerminal { kind: "xterm".to_owned(), columns: 80, rows: 40 };
            let (request, mark) = self.on_terminal(command, terminal).await?;
            return self.link.run_without_input(request, mark, sink).await;
        }
        let source = Source::of(&command.stdin).await?;
        let mark = self.link.mark();
        let header = command::whole(command, &mark).map_err(|error| refused("run a command", error))?;
        self.link.run(self.request(), mark, header, source, sink).await
    }

    fn runs_scripts(&self) -> bool {
        !self.habits.pty
    }

    async fn run_script(
        &self,
        script: &Script,
        command: &Command,
        sink: &mut dyn OutputSink,
    ) -> Result<ScriptRun, CommunicatorError> {
        self.run_stored(script, command, sink).await
    }

    fn has_terminal(&self) -> bool {
        self.habits.pty
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        if let Payload::File { path, .. } | Payload::Directory { path, .. } = payload {
            // Said before anything is asked of the machine.
            let metadata = tokio::fs::metadata(path).await;
            metadata.map_err(|source| CommunicatorError::Local { action: "read", path: path.clone(), source })?;
        }
        match self.habits.transfer {
            Transfer::Programs => self.upload_by_programs(payload, to).await,
            Transfer::Sftp => self.upload_by_sftp(payload, to).await,
        }
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        match self.habits.transfer {
            Transfer::Programs => self.download_by_programs(from, to).await,
            Transfer::Sftp => self.download_by_sftp(from, to).await,
        }
    }

    async fn interact(&self, command: &Command, terminal: Terminal) -> Result<ExitStatus, CommunicatorError> {
        self.sit_at(command, terminal).await
    }

    async fn ssh_access(&self) -> Result<Option<SshAccess>, CommunicatorError> {
        self.link.connector().access().await.map_err(|error| failed("tell how to reach it", error))
    }

    async fn end_dropped(&self) -> Result<(), CommunicatorError> {
        self.end_leftovers().await
    }
}
