//! Whether a key that was shown is the machine's, by its policy.

use std::sync::{Mutex, PoisonError};

use kiln_core::Events;

use crate::algorithms;
use crate::hostkey::HostKey;
use crate::known_hosts::{HostName, Known, KnownHosts};
use crate::pin::Pin;
use crate::policy::{HostKeyPolicy, Verdict};

/// Why a key is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TrustError {
    /// Another key is known.
    #[error("{host} shows the host key {shown}, which is not its own: {expected}")]
    Other {
        /// Which host.
        host: String,
        /// As a fingerprint.
        shown: String,
        /// What is known, with fingerprints and places.
        expected: String,
    },
    /// Nothing is known of the host.
    #[error("the host key of {host} is not known; it shows {shown}")]
    Unknown {
        /// Which host.
        host: String,
        /// As a fingerprint.
        shown: String,
        /// The same as it is written in a template.
        fingerprint: String,
    },
    /// The key was given up.
    #[error("{host} shows the host key {shown}, which was revoked ({place})")]
    Revoked {
        /// Which host.
        host: String,
        /// As a fingerprint.
        shown: String,
        /// Where that stands.
        place: String,
    },
    /// It comes with a certificate that does not hold.
    #[error("{host} shows the host key {shown} with a certificate that does not hold: {reason}")]
    Certificate {
        /// Which host.
        host: String,
        /// As a fingerprint.
        shown: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It may be told later.
    #[error("the host key of {host}, {shown}, cannot be checked yet: {reason}")]
    NotYet {
        /// Which host.
        host: String,
        /// As a fingerprint.
        shown: String,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl TrustError {
    /// What to do about it.
    pub(crate) fn hints(&self) -> Vec<String> {
        match self {
            TrustError::Other { .. } => vec![
                "if the machine was made anew, give its new key by `ssh_host_key` (a bastion's by `ssh_bastion_host_key`), or \
                 bring known_hosts up to date; if not, somebody may stand between you and it"
                    .to_owned(),
            ],
            TrustError::Unknown { fingerprint, .. } => vec![
                format!(
                    "if that is its own key, write `ssh_host_key = [\"{fingerprint}\"]` (for a bastion \
                     `ssh_bastion_host_key`), or add it to known_hosts"
                ),
                "`ssh_accept_any_host_key = true` takes whatever comes, as Packer does".to_owned(),
            ],
            _ => Vec::new(),
        }
    }
}

/// What has to be said of a key that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing: it was checked, in this way (`known by ~/.ssh/known_hosts:3`).
    Checked(String),
    /// What the one who judged it says.
    Judged(String),
    /// That nobody checked it.
    Unchecked(String),
}

impl Said {
    /// Says what has to be said.
    pub(crate) fn say(&self, events: &Events) {
        match self {
            Said::Checked(_) => {}
            Said::Judged(text) => events.message(text.clone()),
            Said::Unchecked(text) => events.warn(text.clone()),
        }
    }
}

/// The policy for one host, and what was seen of it.
#[derive(Debug)]
pub(crate) struct Trust {
    policy: HostKeyPolicy,
    name: HostName,
    accepted: Mutex<Option<HostKey>>,
}

impl Trust {
    pub(crate) fn new(policy: HostKeyPolicy, name: HostName) -> Trust {
        Trust { policy, name, accepted: Mutex::new(None) }
    }

    /// The key that was accepted last.
    pub(crate) fn accepted(&self) -> Option<HostKey> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What to ask the host to prove itself with.
    pub(crate) fn algorithms(&self) -> Vec<String> {
        let (mut kinds, mut has_authority) = match &self.policy {
            HostKeyPolicy::KnownHosts(files) => {
                KnownHosts::read(files).map(|known| known.kinds(&self.name)).unwrap_or_default()
            }
            HostKeyPolicy::Pinned(pins) => (pin_kinds(pins), false),
            HostKeyPolicy::Judged(judge) => (pin_kinds(&judge.expected()), false),
            HostKeyPolicy::FirstUse | HostKeyPolicy::AcceptAny => (Vec::new(), false),
        };
        if let Some(accepted) = self.accepted() {
            has_authority |= accepted.is_certificate();
            kinds = vec![accepted.algorithm];
        }
        algorithms::host_key_algorithms(&kinds, has_authority)
    }

    /// Decides on a key, and remembers it.
    pub(crate) async fn check(&self, key: &HostKey) -> Result<Said, TrustError> {
        let accepted = match &self.policy {
            HostKeyPolicy::KnownHosts(files) => self.known(files, key)?,
            HostKeyPolicy::Pinned(pins) => self.pinned(pins, key)?,
            HostKeyPolicy::AcceptAny => match self.accepted() {
                Some(accepted) if accepted == *key => Said::Checked("the same as before".to_owned()),
                // After a restart too: the output says so each time.
                _ => self.unchecked(key, "not checked"),
            },
            HostKeyPolicy::FirstUse => self.first_use(key)?,
            HostKeyPolicy::Judged(_) if self.accepted().is_some() => self.first_use(key)?,
            HostKeyPolicy::Judged(judge) => match judge.judge(key).await {
                Verdict::Accepted(None) => Said::Checked("the one that it was given".to_owned()),
                Verdict::Accepted(Some(text)) => Said::Judged(text),
                Verdict::Refused(expected) => {
                    return Err(self.other(key, format!("{} is expected", shown_pins(&expected))));
                }
                Verdict::NotYet(reason) => {
                    let (host, shown) = (self.name.for_people(), key.to_string());
                    return Err(TrustError::NotYet { host, shown, reason });
                }
            },
        };
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        Ok(accepted)
    }

    fn first_use(&self, key: &HostKey) -> Result<Said, TrustError> {
        match self.accepted() {
            None => Ok(self.unchecked(key, "taken as it is, and kept for this build")),
            Some(accepted) if accepted == *key => Ok(Said::Checked("the same as before".to_owned())),
            Some(accepted) => Err(self.other(key, format!("it showed {accepted} before"))),
        }
    }

    fn pinned(&self, pins: &[String], key: &HostKey) -> Result<Said, TrustError> {
        if pins.iter().filter_map(|pin| pin.parse::<Pin>().ok()).any(|pin| pin.fits(key)) {
            return Ok(Said::Checked("the one that the template names".to_owned()));
        }
        Err(self.other(key, format!("{} is expected", shown_pins(pins))))
    }

    fn known(&self, files: &[std::path::PathBuf], key: &HostKey) -> Result<Said, TrustError> {
        let (host, shown) = (self.name.for_people(), key.to_string());
        let known = KnownHosts::read(files).map_err(|(path, error)| TrustError::File {
            path: path.display().to_string(),
            reason: error.to_string(),
        })?;
        match known.look_up(&self.name, key) {
            Known::Yes(place) => Ok(Said::Checked(format!("known by {place}"))),
            Known::No => Err(TrustError::Unknown { host, shown, fingerprint: key.fingerprint_sha256() }),
            Known::Other(others) => {
                let others: Vec<String> =
                    others.iter().map(|(key, place)| format!("{key} is known ({place})")).collect();
                Err(self.other(key, others.join(", ")))
            }
            Known::Revoked(place) => Err(TrustError::Revoked { host, shown, place }),
            Known::Certificate(reason) => Err(TrustError::Certificate { host, shown, reason }),
        }
    }

    fn unchecked(&self, key: &HostKey, how: &str) -> Said {
        Said::Unchecked(format!("the host key of {} is {how}: {key}", self.name.for_people()))
    }

    fn other(&self, key: &HostKey, expected: String) -> TrustError {
        TrustError::Other { host: self.name.for_people(), shown: key.to_string(), expected }
    }
}

fn pin_kinds(pins: &[String]) -> Vec<String> {
    let pins = pins.iter().filter_map(|pin| pin.parse::<Pin>().ok());
    pins.filter_map(|pin| pin.kind().map(str::to_owned)).collect()
}

fn shown_pins(pins: &[String]) -> String {
    let shown = |pin: &String| pin.parse::<Pin>().map_or_else(|_| pin.clone(), |pin| pin.shown());
    pins.iter().map(shown).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, generate};

    fn key() -> HostKey {
        generate(KeyKind::Ed25519, "").unwrap().key().unwrap()
    }

    fn trust(policy: HostKeyPolicy) -> Trust {
        Trust::new(policy, HostName::new("web", 22))
    }

    #[tokio::test]
    async fn pins_show_both_fingerprints() {
        let (one, two) = (key(), key());
        let trust = trust(HostKeyPolicy::Pinned(vec![one.to_openssh()]));
        assert!(matches!(trust.check(&one).await.unwrap(), Said::Checked(_)));
        let error = trust.check(&two).await.unwrap_err();
        assert_eq!(error.to_string(), format!("web shows the host key {two}, which is not its own: {one} is expected"));
        assert_eq!(error.hints().len(), 1);
    }

    #[tokio::test]
    async fn first_use_demands_the_same_key_afterwards() {
        let (one, two) = (key(), key());
        let trust = trust(HostKeyPolicy::FirstUse);
        assert!(matches!(trust.check(&one).await.unwrap(), Said::Unchecked(_)));
        assert!(matches!(trust.check(&one).await.unwrap(), Said::Checked(_)));
        let error = trust.check(&two).await.unwrap_err().to_string();
        assert!(error.ends_with(&format!("it showed {one} before")), "{error}");
    }

    #[tokio::test]
    async fn any_key_is_taken_and_each_new_one_is_said() {
        let (one, two) = (key(), key());
        let trust = trust(HostKeyPolicy::AcceptAny);
        assert!(matches!(trust.check(&one).await.unwrap(), Said::Unchecked(_)));
        assert!(matches!(trust.check(&one).await.unwrap(), Said::Checked(_)));
        let said = trust.check(&two).await.unwrap();
        assert_eq!(said, Said::Unchecked(format!("the host key of web is not checked: {two}")));
    }

    #[tokio::test]
    async fn an_unknown_key_says_how_to_make_it_known() {
        let one = key();
        let error = trust(HostKeyPolicy::KnownHosts(vec!["/nowhere".into()])).check(&one).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the host key of web is not known; it shows {one}"));
        assert!(error.hints()[0].contains(&format!("ssh_host_key = [\"{}\"]", one.fingerprint_sha256())));
    }

    #[tokio::test]
    async fn a_known_host_with_another_key_is_refused_and_asked_for_the_known_kind() {
        let (one, two) = (generate(KeyKind::Ecdsa(256), "").unwrap().key().unwrap(), key());
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("known_hosts");
        std::fs::write(&file, crate::known_hosts::line(&HostName::new("web", 22), &one)).unwrap();
        let trust = trust(HostKeyPolicy::KnownHosts(vec![file.clone()]));
        assert_eq!(trust.algorithms()[0], "ecdsa-sha2-nistp256");
        let error = trust.check(&two).await.unwrap_err().to_string();
        let expected =
            format!("web shows the host key {two}, which is not its own: {one} is known ({}:1)", file.display());
        assert_eq!(error, expected);
    }
}
