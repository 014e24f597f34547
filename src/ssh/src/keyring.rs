//! Private keys ready for use: read, and their passphrases asked for, once each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Failure, Secret};

use crate::keys::{self, KeyError};
use crate::login::Way;
use crate::options::KeySource;
use crate::process::SshProcess;
use crate::session::LoginMethod;

/// A private key.
#[derive(Debug, Clone)]
pub(crate) struct LoadedKey {
    pub(crate) text: Secret,
    pub(crate) passphrase: Option<Secret>,
    /// The file that it came from.
    pub(crate) file: Option<PathBuf>,
}

/// Reads keys for a build.
pub(crate) struct Keyring<'a> {
    pub(crate) process: &'a SshProcess,
    pub(crate) context: &'a BuildContext,
    loaded: BTreeMap<PathBuf, LoadedKey>,
}

impl<'a> Keyring<'a> {
    pub(crate) fn new(process: &'a SshProcess, context: &'a BuildContext) -> Keyring<'a> {
        Keyring { process, context, loaded: BTreeMap::new() }
    }

    /// A key that the template names or holds.
    pub(crate) async fn load(&mut self, source: &KeySource) -> Result<LoadedKey, Failure> {
        match source {
            KeySource::Text(text) => {
                let passphrase = self.passphrase(text, "the private key").await?;
                Ok(LoadedKey { text: text.clone(), passphrase, file: None })
            }
            KeySource::File(path) => self.load_file(path).await,
        }
    }

    pub(crate) async fn load_file(&mut self, path: &Path) -> Result<LoadedKey, Failure> {
        if let Some(key) = self.loaded.get(path) {
            return Ok(key.clone());
        }
        let shown = self.process.shown(path);
        let text = Secret::new(read(path, &shown)?);
        let passphrase = self.passphrase(&text, &shown).await?;
        let key = LoadedKey { text, passphrase, file: Some(path.to_owned()) };
        self.loaded.insert(path.to_owned(), key.clone());
        Ok(key)
    }

    /// Whether a file holds a key that can be used without asking anybody.
    pub(crate) fn is_open(path: &Path) -> bool {
        std::fs::read_to_string(path).is_ok_and(|text| keys::inspect(&text).is_ok_and(|info| !info.is_encrypted))
    }

    async fn passphrase(&self, text: &Secret, shown: &str) -> Result<Option<Secret>, Failure> {
        let wrong = |error: KeyError| Failure::environment(format!("{shown}: {error}"));
        if !keys::inspect(text.expose()).map_err(wrong)?.is_encrypted {
            return Ok(None);
        }
        let question = format!("Passphrase of {shown}:");
        let answer = self.context.unless_cancelled(self.context.prompt.ask(&self.context.build, &question)).await?;
        let Some(answer) = answer.filter(|answer| !answer.is_empty()) else {
            let error = format!("{shown} is protected by a passphrase, and nobody is there to type it");
            return Err(Failure::environment(error).hint("add the key to an agent, and set `ssh_agent_auth = true`"));
        };
        self.context.redactor.add(&answer);
        Ok(Some(Secret::new(answer)))
    }
}

/// The text of a file that belongs to a login.
pub(crate) fn read(path: &Path, shown: &str) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|source| Failure::environment(KeyError::Read { path: shown.to_owned(), source }))
}

impl LoadedKey {
    /// Logging in with it.
    pub(crate) fn way(&self, label: String, certificate: Option<String>) -> Way {
        let (private, passphrase) = (self.text.clone(), self.passphrase.clone());
        Way { label, method: LoginMethod::PrivateKey { private, certificate, passphrase } }
    }

    /// The key without a passphrase, where it has none or can be had without.
    pub(crate) fn opened(&self) -> Option<Secret> {
        let Some(passphrase) = &self.passphrase else { return Some(self.text.clone()) };
        let key = ssh_key::PrivateKey::from_openssh(self.text.expose()).ok()?;
        let key = key.decrypt(passphrase.expose()).ok()?;
        Some(Secret::new(key.to_openssh(ssh_key::LineEnding::LF).ok()?.as_str()))
    }
}
