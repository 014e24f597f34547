//! What is asked of a session.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::Secret;

/// How a connection is made and watched.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How long the key exchange may take.
    pub handshake_timeout: Duration,
    /// How often the peer is asked for a sign of life when nothing comes by itself; `None`: never, and then a frozen peer
    /// is not noticed.
    pub keep_alive: Option<Duration>,
    /// A peer that sent nothing for this long is dead.
    pub dead_after: Duration,
    /// As `dead_after`, where it is shorter: Packer's `ssh_read_write_timeout`.
    pub read_write_timeout: Option<Duration>,
    /// The agent that commands on the peer may ask.
    pub lent_agent: Option<LentAgent>,
    /// Ciphers in the order of preference; empty: libssh2's own list. The same for the two lists below.
    pub ciphers: Vec<String>,
    /// Key exchange algorithms.
    pub key_exchange: Vec<String>,
    /// Algorithms of host keys.
    pub host_key_algorithms: Vec<String>,
}

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        SessionSettings {
            handshake_timeout: Duration::from_secs(60),
            keep_alive: Some(Duration::from_secs(5)),
            dead_after: Duration::from_secs(30),
            read_write_timeout: None,
            lent_agent: None,
            ciphers: Vec::new(),
            key_exchange: Vec::new(),
            host_key_algorithms: Vec::new(),
        }
    }
}

/// An agent of this host for the commands on a peer.
#[derive(Clone)]
pub struct LentAgent {
    /// Where it listens.
    pub socket: PathBuf,
    /// Called when the peer does not let its commands use it.
    pub on_refusal: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for LentAgent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LentAgent").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// A question of a keyboard-interactive login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// `Password: `.
    pub text: String,
    /// Whether the answer may be shown while it is typed.
    pub echo: bool,
}

/// Answers a round of questions (with the server's instructions, often empty), one text each. It is called on the
/// session's own thread, which stands still meanwhile.
pub type Responder = Arc<dyn Fn(&str, &[Prompt]) -> Vec<Secret> + Send + Sync>;

/// One way to log in.
#[derive(Clone)]
pub enum LoginMethod {
    /// By name alone.
    None,
    /// A password.
    Password(Secret),
    /// Questions and answers.
    KeyboardInteractive(Responder),
    /// A key.
    PrivateKey {
        /// As PEM or in OpenSSH's form.
        private: Secret,
        /// The certificate for it, one line as in `id_ed25519-cert.pub`.
        certificate: Option<String>,
        /// What the key is encrypted with.
        passphrase: Option<Secret>,
    },
    /// The keys of an agent, one after the other.
    Agent {
        /// The agent's socket.
        socket: PathBuf,
    },
}

impl LoginMethod {
    /// As the protocol calls it.
    pub fn name(&self) -> &'static str {
        match self {
            LoginMethod::None => "none",
            LoginMethod::Password(_) => "password",
            LoginMethod::KeyboardInteractive(_) => "keyboard-interactive",
            LoginMethod::PrivateKey { .. } | LoginMethod::Agent { .. } => "publickey",
        }
    }
}

impl std::fmt::Debug for LoginMethod {
    // The rest is secret.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What the peer says to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Welcome.
    Done,
    /// Accepted, and one of these is wanted as well.
    Partial(Vec<String>),
    /// Refused; these are offered.
    Refused(Vec<String>),
}

/// A pseudo terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PseudoTerminal {
    /// `TERM`.
    pub kind: String,
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// What a channel starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// A command line, which the login's shell reads.
    Command(String),
    /// `sftp`.
    Subsystem(String),
    /// The login's shell.
    Shell,
}

/// One command.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// What to start.
    pub start: Start,
    /// Its terminal, where it has one. Then there is no standard error.
    pub terminal: Option<PseudoTerminal>,
}

impl ExecRequest {
    /// A command line.
    pub fn command(line: impl Into<String>) -> ExecRequest {
        ExecRequest { start: Start::Command(line.into()), terminal: None }
    }
}
