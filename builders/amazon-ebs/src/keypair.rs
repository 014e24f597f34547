//! The key that logs in: kiln's own, of which EC2 gets the public half.

use kiln_core::{EntryId, Failure};
use kiln_ssh::keys::{self, KeyKind};
use kiln_ssh::{HostKey, KeyPair};

use crate::cloud::ErrorKind;
use crate::error::{failure, wrong};
use crate::launch::Attempt;
use crate::undo::KeyPairUndo;

/// A key pair that was imported.
pub(crate) struct TemporaryKey {
    pub(crate) pair: KeyPair,
    pub(crate) entry: EntryId,
    pub(crate) undo: KeyPairUndo,
}

/// Makes a pair; RSA takes its time.
pub(crate) async fn generate(kind: KeyKind, comment: String) -> Result<KeyPair, Failure> {
    let made = tokio::task::spawn_blocking(move || keys::generate(kind, &comment)).await.map_err(Failure::build)?;
    made.map_err(Failure::build)
}

/// The fingerprint as EC2 shows that of an imported ed25519 key.
fn fingerprint(pair: &KeyPair) -> String {
    pair.key().as_ref().map(HostKey::fingerprint_sha256).unwrap_or_default()
}

impl Attempt<'_> {
    /// Makes a key and imports it, where the template brings none.
    pub(crate) async fn key_pair(&self) -> Result<Option<TemporaryKey>, Failure> {
        let ssh = &self.builder.ssh;
        let brings_login = ssh.keypair_name.is_some() || ssh.login.key.is_some() || ssh.login.password.is_some();
        if brings_login || ssh.login.agent || !self.is_reached() {
            return Ok(None);
        }
        let name = ssh.temporary_key_pair_name.clone().unwrap_or_else(|| self.marks.name());
        let pair = generate(ssh.temporary_key_kind, name.clone()).await?;
        self.context.redactor.add(pair.private.expose());
        let undo = KeyPairUndo { place: self.place(), name: name.clone(), fingerprint: fingerprint(&pair) };
        let entry = self.record(undo.entry())?;
        self.context.events.message(format!("importing the key pair {name}"));
        let imported = self.cloud.import_key_pair(&name, &pair.public, &self.run_tags()).await;
        match imported {
            Ok(_) => {}
            // An earlier try of the same call may have been carried out, and its answer lost.
            Err(error) if matches!(error.kind, ErrorKind::Duplicate | ErrorKind::Lost) => {
                let found = self.cloud.describe_key_pairs(std::slice::from_ref(&name)).await.unwrap_or_default();
                let is_ours = |shown: Option<&str>| crate::remove::is_fingerprint(shown, &undo.fingerprint);
                if !found.iter().any(|found| is_ours(found.fingerprint.as_deref())) {
                    if error.kind == ErrorKind::Duplicate {
                        self.context.journal.strike(entry)?;
                        return Err(wrong(format!("there is another key pair with the name {name} already"))
                            .hint("leave `temporary_key_pair_name` out, or choose another one"));
                    }
                    return Err(failure(format!("import the key pair {name}"), error));
                }
            }
            Err(error) => {
                self.strike_refused(entry, &error)?;
                return Err(failure(format!("import the key pair {name}"), error));
            }
        }
        Ok(Some(TemporaryKey { pair, entry, undo }))
    }
}
