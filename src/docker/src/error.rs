//! Why an engine's call failed, and what to do about it.

use std::error::Error as StdError;
use std::io::ErrorKind;
use std::path::PathBuf;

use kiln_core::{Failure, FailureClass};

type Cause = Box<dyn StdError + Send + Sync>;

/// Why an engine's call failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the address.
    #[error("no Docker engine answers at {address}")]
    Unreachable {
        /// The address tried.
        address: String,
        /// Why.
        source: Cause,
    },
    /// The address, or what belongs to it (certificates), is wrong.
    #[error("cannot use the Docker engine's address {address}: {message}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong.
        message: String,
    },
    /// The thing asked for does not exist.
    #[error("{what} does not exist: {message}")]
    NotFound {
        /// `image debian:bookwurm`, `container 4f1c`.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// The engine or the registry behind it refused: its own words.
    #[error("{action} failed: {message}")]
    Refused {
        /// `pull debian:bookworm`, `commit`.
        action: String,
        /// The engine's own words.
        message: String,
        /// The HTTP status, where there was one.
        status: Option<u16>,
    },
    /// The connection broke.
    #[error("{action} failed")]
    Connection {
        /// What was under way.
        action: String,
        /// Why.
        source: Cause,
    },
    /// A file of this host.
    #[error("cannot {action} {path}")]
    Local {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl EngineError {
    /// Whether the engine answered that the thing is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, EngineError::NotFound { .. } | EngineError::Refused { status: Some(404), .. })
    }

    /// What to do about it; one sentence each.
    pub fn hints(&self) -> Vec<String> {
        match self {
            EngineError::Unreachable { address, source } => unreachable_hints(address, io_kind(source.as_ref())),
            EngineError::Address { .. } => vec![
                "set DOCKER_HOST to unix:///path/to/socket, tcp://host:2376 or ssh://user@host, or unset it".to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// The kind of the first I/O error in a chain of causes.
fn io_kind(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

fn unreachable_hints(address: &str, kind: Option<ErrorKind>) -> Vec<String> {
    let elsewhere = "set DOCKER_HOST if the engine listens elsewhere (unix://, tcp:// or ssh://)".to_owned();
    if let Some(host) = address.strip_prefix("ssh://") {
        return vec![
            format!(
                "`ssh {host}` must get in without asking: its host key known, your key in an agent or without a passphrase"
            ),
            "the far host needs the `docker` program, and its user may use the engine: try `docker version` there"
                .to_owned(),
        ];
    }
    let Some(path) = address.strip_prefix("unix://") else {
        return vec![format!("check that an engine listens at {address} and that this host may reach it"), elsewhere];
    };
    match kind {
        Some(ErrorKind::PermissionDenied) => vec![
            format!("you may not open {path}: `sudo usermod -aG docker \"$USER\"` and a new login let you"),
            "or use an engine of your own, such as rootless Docker or Podman, and point DOCKER_HOST to its socket"
                .to_owned(),
        ],
        Some(ErrorKind::NotFound) => vec![
            format!("{path} does not exist: start the engine with `systemctl start docker`, or install one"),
            elsewhere,
        ],
        _ => vec![format!("nothing listens on {path}: start the engine with `systemctl start docker`"), elsewhere],
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Failure {
        let class = match &error {
            EngineError::Unreachable { .. } | EngineError::Address { .. } => FailureClass::Environment,
            _ => FailureClass::Build,
        };
        let hints = error.hints();
        hints.into_iter().fold(Failure::new(class, error), Failure::hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(address: &str, kind: ErrorKind) -> Failure {
        EngineError::Unreachable { address: address.into(), source: std::io::Error::from(kind).into() }.into()
    }

    #[test]
    fn a_forbidden_socket_and_a_missing_one_are_told_apart() {
        let forbidden = unreachable("unix:///run/d.sock", ErrorKind::PermissionDenied);
        assert_eq!(forbidden.class, FailureClass::Environment);
        assert!(forbidden.hints[0].contains("usermod -aG docker"), "{:?}", forbidden.hints);
        let missing = unreachable("unix:///run/d.sock", ErrorKind::NotFound);
        assert!(missing.hints[0].contains("systemctl start docker"), "{:?}", missing.hints);
        assert!(missing.hints[1].contains("DOCKER_HOST"));
        let remote = unreachable("tcp://far:2375", ErrorKind::ConnectionRefused);
        assert!(remote.hints[0].contains("tcp://far:2375"), "{:?}", remote.hints);
    }

    #[test]
    fn other_errors_fail_the_build() {
        let refused =
            EngineError::Refused { action: "commit".into(), message: "no space left".into(), status: Some(500) };
        let failure = Failure::from(refused);
        assert_eq!(failure.class, FailureClass::Build);
        assert_eq!(failure.chain(), "commit failed: no space left");
    }
}
