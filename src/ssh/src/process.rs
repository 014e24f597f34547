//! What SSH may know of the process that kiln runs in; the command hands it down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Home and environment.
#[derive(Debug, Clone, Default)]
pub struct SshProcess {
    /// The user's home: `~/` in names of files, `~/.ssh/known_hosts`.
    pub home: Option<PathBuf>,
    /// The environment: `SSH_AUTH_SOCK`, `USER`.
    pub environment: BTreeMap<String, String>,
}

impl SshProcess {
    /// The socket of the agent, where one is said to run.
    pub fn agent(&self) -> Option<PathBuf> {
        self.variable("SSH_AUTH_SOCK").map(PathBuf::from)
    }

    /// The name of the user who runs kiln.
    pub fn user(&self) -> Option<&str> {
        self.variable("USER").or_else(|| self.variable("LOGNAME"))
    }

    /// A path with its `~/` resolved.
    pub fn path(&self, text: &str) -> PathBuf {
        match (&self.home, text.strip_prefix('~')) {
            (Some(home), Some("")) => home.clone(),
            (Some(home), Some(rest)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
            _ => PathBuf::from(text),
        }
    }

    /// Where OpenSSH looks for known hosts.
    pub fn known_hosts(&self) -> Vec<PathBuf> {
        let own =
            self.home.iter().flat_map(|home| ["known_hosts", "known_hosts2"].map(|name| home.join(".ssh").join(name)));
        own.chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
    }

    /// A path for messages: with `~` for the home.
    pub(crate) fn shown(&self, path: &Path) -> String {
        match self.home.as_deref().and_then(|home| path.strip_prefix(home).ok()) {
            Some(rest) => format!("~/{}", rest.display()),
            None => path.display().to_string(),
        }
    }

    /// A variable of the environment, where it is set to something.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}
