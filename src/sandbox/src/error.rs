//! What can go wrong, here and in the helper.

use std::io;

use serde::{Deserialize, Serialize};

/// Why a sandbox did not do as told.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The system refused.
    #[error("cannot {action}")]
    System {
        /// What was tried, as a verb: `mount the overlay`.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The program of a command cannot be started. Shells answer 127 where it does not exist, else 126.
    #[error("cannot run `{program}` in the guest")]
    Program {
        /// As it was given.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The directory of a command cannot be entered.
    #[error("cannot enter the directory `{directory}` in the guest")]
    Directory {
        /// As it was given.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// The script of a command cannot be stored.
    #[error("cannot store `{path}` in the guest")]
    Script {
        /// Where it was to lie.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The guest knows no such user or group.
    #[error("{0}")]
    User(String),
    /// No such file in the guest.
    #[error("no such file or directory in the guest: {0}")]
    NotFound(String),
    /// The guest's process 1 is gone.
    #[error("the sandbox has ended")]
    Ended,
    /// This isolation cannot be had here.
    #[error("{0}")]
    Unavailable(String),
    /// The specification cannot be met.
    #[error("{0}")]
    Invalid(String),
    /// A failure of file work in the helper; its causes are in the text.
    #[error("{0}")]
    Work(String),
    /// Such a failure, for want of space on the file system.
    #[error("{0}")]
    NoRoom(String),
    /// Helper and program do not understand each other.
    #[error("the helper's answer makes no sense: {0}")]
    Protocol(String),
}

impl SandboxError {
    /// A refusal of the system, where `action` was tried.
    pub fn system(action: impl Into<String>, source: impl Into<io::Error>) -> SandboxError {
        SandboxError::System { action: action.into(), source: source.into() }
    }

    /// The system's number for the refusal, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            SandboxError::System { source, .. }
            | SandboxError::Program { source, .. }
            | SandboxError::Script { source, .. }
            | SandboxError::Directory { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Adds what was tried to a refusal.
pub(crate) trait Trying<T> {
    /// `action` is a verb: `mount /proc`.
    fn trying(self, action: &str) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Trying<T> for Result<T, E> {
    fn trying(self, action: &str) -> Result<T, SandboxError> {
        self.map_err(|error| SandboxError::system(action, error))
    }
}

/// An error on its way through a socket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    kind: Kind,
    text: String,
    errno: Option<i32>,
    cause: String,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Kind {
    System,
    Program,
    Directory,
    Script,
    User,
    NotFound,
    Ended,
    Unavailable,
    Invalid,
    Work,
    NoRoom,
    Protocol,
}

impl From<&SandboxError> for Report {
    fn from(error: &SandboxError) -> Report {
        let plain = |kind: Kind, text: &str| Report { kind, text: text.to_owned(), errno: None, cause: String::new() };
        let caused = |kind: Kind, text: &str, source: &io::Error| Report {
            kind,
            text: text.to_owned(),
            errno: source.raw_os_error(),
            cause: source.to_string(),
        };
        match error {
            SandboxError::System { action, source } => caused(Kind::System, action, source),
            SandboxError::Program { program, source } => caused(Kind::Program, program, source),
            SandboxError::Directory { directory, source } => caused(Kind::Directory, directory, source),
            SandboxError::Script { path, source } => caused(Kind::Script, path, source),
            SandboxError::User(text) => plain(Kind::User, text),
            SandboxError::NotFound(path) => plain(Kind::NotFound, path),
            SandboxError::Ended => plain(Kind::Ended, ""),
            SandboxError::Unavailable(text) => plain(Kind::Unavailable, text),
            SandboxError::Invalid(text) => plain(Kind::Invalid, text),
            SandboxError::Work(text) => plain(Kind::Work, text),
            SandboxError::NoRoom(text) => plain(Kind::NoRoom, text),
            SandboxError::Protocol(text) => plain(Kind::Protocol, text),
        }
    }
}

impl From<Report> for SandboxError {
    fn from(report: Report) -> SandboxError {
        let source = || match report.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::other(report.cause.clone()),
        };
        match report.kind {
            Kind::System => SandboxError::System { source: source(), action: report.text },
            Kind::Program => SandboxError::Program { source: source(), program: report.text },
            Kind::Directory => SandboxError::Directory { source: source(), directory: report.text },
            Kind::Script => SandboxError::Script { source: source(), path: report.text },
            Kind::User => SandboxError::User(report.text),
            Kind::NotFound => SandboxError::NotFound(report.text),
            Kind::Ended => SandboxError::Ended,
            Kind::Unavailable => SandboxError::Unavailable(report.text),
            Kind::Invalid => SandboxError::Invalid(report.text),
            Kind::Work => SandboxError::Work(report.text),
            Kind::NoRoom => SandboxError::NoRoom(report.text),
            Kind::Protocol => SandboxError::Protocol(report.text),
        }
    }
}
