//! How commands and files reach a machine.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;

/// Which of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a command reads.
#[derive(Debug, Clone, Default)]
pub enum Stdin {
    /// Nothing: end of file at once.
    #[default]
    Closed,
    /// These bytes, then end of file.
    Bytes(Bytes),
    /// The content of a file on this host, streamed.
    File(PathBuf),
}

/// A command for a machine. The environment travels beside the command line, never on it, where the transport can do
/// that at all; it may hold secrets.
#[derive(Clone, Default)]
pub struct Command {
    /// Program and arguments; no shell is put in front of them.
    pub argv: Vec<String>,
    /// Environment on top of the machine's own.
    pub environment: Vec<(String, String)>,
    /// Working directory; the machine's default where absent.
    pub directory: Option<String>,
    /// User; the machine's default where absent.
    pub user: Option<String>,
    /// Whether it runs on a pseudo terminal (then there is no separate standard error).
    pub pty: bool,
    /// What it reads.
    pub stdin: Stdin,
}

impl std::fmt::Debug for Command {
    // The environment may hold secrets, so only its names are shown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        formatter.debug_struct("Command").field("argv", &self.argv).field("environment", &names).finish_non_exhaustive()
    }
}

impl Command {
    /// `/bin/sh -c SCRIPT`.
    pub fn shell(script: impl Into<String>) -> Command {
        Command { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], ..Command::default() }
    }

    /// A program with arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Command {
        Command { argv: argv.into_iter().map(Into::into).collect(), ..Command::default() }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this status.
    Exited(i64),
    /// Killed by this signal.
    Signalled(i32),
}

impl ExitStatus {
    /// The status as shells show it: 128 + signal for a killed command.
    pub fn code(self) -> i64 {
        match self {
            ExitStatus::Exited(code) => code,
            ExitStatus::Signalled(signal) => 128 + i64::from(signal),
        }
    }

    /// Whether it is 0.
    pub fn is_success(self) -> bool {
        self.code() == 0
    }
}

/// A script that a machine is to run.
#[derive(Debug, Clone)]
pub struct Script {
    /// Where it lies on the machine while it runs; absolute.
    pub path: String,
    /// Its bytes. Never [`Stdin::Closed`].
    pub content: Stdin,
    /// Whether it stays there afterwards.
    pub stays: bool,
}

/// What became of a script.
#[derive(Debug)]
pub enum ScriptRun {
    /// It could not be stored, for this reason; nothing ran.
    NotStored(String),
    /// It ran.
    Ended(ExitStatus),
    /// It was started, and how it ended is not known.
    Lost(CommunicatorError),
}

/// Takes a command's output as it comes, in chunks that end anywhere.
pub trait OutputSink: Send {
    /// Takes a chunk.
    fn write(&mut self, stream: Stream, chunk: &[u8]);
}

/// Throws output away.
#[derive(Debug, Default)]
pub struct NullSink;

impl OutputSink for NullSink {
    fn write(&mut self, _stream: Stream, _chunk: &[u8]) {}
}

/// Keeps output, up to a bound in bytes per stream; what is beyond is dropped.
#[derive(Debug, Default)]
pub struct CaptureSink {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl CaptureSink {
    /// Bytes kept per stream.
    pub const LIMIT: usize = 1024 * 1024;
}

impl OutputSink for CaptureSink {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        let buffer = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = Self::LIMIT.saturating_sub(buffer.len());
        buffer.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
}

/// What to upload.
#[derive(Debug, Clone)]
pub enum Payload {
    /// A file with this content.
    Bytes {
        /// The content.
        content: Bytes,
        /// Permission bits.
        mode: u32,
    },
    /// A file of this host, streamed; symbolic links are followed.
    File {
        /// The file.
        path: PathBuf,
        /// Permission bits; those of the file where absent.
        mode: Option<u32>,
    },
    /// A directory of this host with all that is in it, streamed; symbolic links inside are kept as links.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Whether only its content goes to the target, or the directory itself (rsync's trailing slash).
        contents_only: bool,
    },
}

/// What a download found at its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downloaded {
    /// One file.
    File,
    /// A directory.
    Directory,
}

/// Why a machine could not be reached or did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum CommunicatorError {
    /// No such file or directory on the machine.
    #[error("no such file or directory on the machine: {0}")]
    NotFound(String),
    /// A file of this host cannot be read or written.
    #[error("cannot {action} {path}")]
    Local {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The machine went away or the connection broke; it may come back.
    #[error("lost the connection to the machine")]
    Disconnected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The machine had ended before what was asked began, and does not come back by itself; the text says how.
    #[error("the machine has ended: {0}")]
    Ended(String),
    /// The machine refused, and will refuse it again: there is no such user, for example.
    #[error("cannot {action} on the machine")]
    Impossible {
        /// What was tried, as a verb: `run a command`.
        action: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The transport refused.
    #[error("cannot {action} on the machine")]
    Transport {
        /// What was tried, as a verb: `run a command`, `upload to /tmp/x`.
        action: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A person's terminal, for [`Communicator::interact`]. Bytes go both ways unchanged; the caller has put it into raw mode.
pub struct Terminal {
    /// What is typed.
    pub input: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// What is shown.
    pub output: Box<dyn tokio::io::AsyncWrite + Send + Unpin>,
    /// Its size in columns and rows, now and whenever that changes.
    pub size: tokio::sync::watch::Receiver<(u16, u16)>,
}

/// How a program of this host reaches a machine by OpenSSH: what `ansible-playbook` or a person's `ssh` needs. Every file
/// lies in scratch space or belongs to the user; none is written for the caller to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAccess {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Login.
    pub user: String,
    /// A private key, 0600; `None` where an agent or a password is used.
    pub identity_file: Option<PathBuf>,
    /// A certificate for the key.
    pub certificate_file: Option<PathBuf>,
    /// A password, where the login is by one.
    pub password: Option<crate::Secret>,
    /// A `known_hosts` file that holds the keys that kiln verified, and nothing else.
    pub known_hosts: PathBuf,
    /// An `ssh_config` file, where options beyond these are needed to get there: bastions, proxies, lists of ciphers.
    pub config_file: Option<PathBuf>,
}

/// Runs commands on a machine and moves files; everything streams. Dropping a future ends the transfer, and the command
/// as far as the transport can; what it cannot end that way, [`Communicator::end_dropped`] ends.
#[async_trait]
pub trait Communicator: Send + Sync {
    /// Runs a command to its end.
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError>;

    /// Whether [`Communicator::run_script`] can be used: then a script needs no shell, `cat`, `chmod` and `rm` around it.
    fn runs_scripts(&self) -> bool {
        false
    }

    /// Stores a script, which everybody may then read and run, runs it with nothing to read, and removes it. Of `command` only the
    /// environment, the directory and the user count. As with a shell, one without an interpreter is run by `/bin/sh`.
    ///
    /// # Errors
    /// Nothing was started.
    async fn run_script(
        &self,
        script: &Script,
        command: &Command,
        sink: &mut dyn OutputSink,
    ) -> Result<ScriptRun, CommunicatorError> {
        let _ = (script, command, sink);
        let source = "this machine does not keep scripts".into();
        Err(CommunicatorError::Transport { action: "run a script".to_owned(), source })
    }

    /// Whether commands that read nothing run on a pseudo terminal. Those with input never do: a terminal would echo it,
    /// change it, and know no end of it.
    fn has_terminal(&self) -> bool {
        false
    }

    /// Uploads. A file: `to` is its new path, or, where `to` is an existing directory or ends with `/`, the directory it
    /// goes into under `name`. A directory: it lands at `to/BASENAME`, with `contents_only` its content lands in `to`.
    /// Missing parents are created. Modes are kept; owners as the machine's rule says (see the builder's
    /// `fix_upload_owner`).
    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError>;

    /// Downloads. A file: `to` is its new path. A directory: as for uploads, a trailing `/` on `from` means "its content".
    /// Missing parents are created; nothing lands outside `to`, whatever the machine sends.
    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError>;

    /// Runs a command on a pseudo terminal that a person sits at.
    async fn interact(&self, command: &Command, terminal: Terminal) -> Result<ExitStatus, CommunicatorError> {
        let _ = (command, terminal);
        let source = "this machine has no interactive terminal".into();
        Err(CommunicatorError::Transport { action: "open a terminal".to_owned(), source })
    }

    /// How programs of this host reach the same machine by OpenSSH; `None` where they cannot.
    ///
    /// # Errors
    /// Files that they need cannot be written.
    async fn ssh_access(&self) -> Result<Option<SshAccess>, CommunicatorError> {
        Ok(None)
    }

    /// Ends the commands that still run although the futures of their calls were dropped, and all that they started. For
    /// transports where dropping does not end a command by itself.
    async fn end_dropped(&self) -> Result<(), CommunicatorError> {
        Ok(())
    }
}
