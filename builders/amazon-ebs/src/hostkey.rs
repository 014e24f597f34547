//! Whether the key that an instance shows is its own: by the key that it was given, else by its console, else on trust.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kiln_ssh::{HostKey, HostKeyJudge, Verdict};
use tokio::time::Instant;

use crate::cloud::Cloud;

/// How long the console is given to tell keys, from the moment that the machine shows one.
const CONSOLE: Duration = Duration::from_secs(45);

/// Between two looks at the console.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Judges the keys of one instance.
pub(crate) struct InstanceJudge {
    cloud: Arc<dyn Cloud>,
    instance: String,
    /// The public half of the key that it was given.
    given: Option<HostKey>,
    state: Mutex<State>,
    patience: Duration,
}

#[derive(Default)]
struct State {
    /// When a key was shown first that is not the given one.
    since: Option<Instant>,
    /// When the console was looked at last.
    looked: Option<Instant>,
    /// The key that was accepted.
    accepted: Option<HostKey>,
}

impl InstanceJudge {
    pub(crate) fn new(cloud: Arc<dyn Cloud>, instance: &str, given: Option<HostKey>) -> InstanceJudge {
        InstanceJudge { cloud, instance: instance.to_owned(), given, state: Mutex::default(), patience: CONSOLE }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(&self, key: &HostKey, said: Option<String>) -> Verdict {
        self.state().accepted = Some(key.clone());
        Verdict::Accepted(said)
    }

    /// What the console tells of keys: `None` while nothing.
    async fn console(&self) -> Option<Vec<String>> {
        let text = self.cloud.console_output(&self.instance).await.ok().flatten()?;
        let keys = keys_in(&text);
        (!keys.is_empty()).then_some(keys)
    }
}

#[async_trait]
impl HostKeyJudge for InstanceJudge {
    fn expected(&self) -> Vec<String> {
        self.given.iter().map(HostKey::to_openssh).collect()
    }

    async fn judge(&self, key: &HostKey) -> Verdict {
        if self.given.as_ref() == Some(key) {
            return self.accept(key, None);
        }
        let accepted = self.state().accepted.clone();
        if let Some(accepted) = accepted {
            if accepted == *key {
                return Verdict::Accepted(None);
            }
            return Verdict::Refused(vec![accepted.fingerprint_sha256()]);
        }
        let (since, may_look) = {
            let mut state = self.state();
            let since = *state.since.get_or_insert_with(Instant::now);
            let may_look = state.looked.is_none_or(|looked| looked.elapsed() >= LOOK_AGAIN);
            if may_look {
                state.looked = Some(Instant::now());
            }
            (since, may_look)
        };
        if may_look && let Some(keys) = self.console().await {
            let fingerprint = key.fingerprint_sha256();
            return if keys.contains(&fingerprint) {
                self.accept(key, Some(format!("the console of {} shows this host key too: {key}", self.instance)))
            } else {
                Verdict::Refused(keys)
            };
        }
        if since.elapsed() < self.patience {
            return Verdict::NotYet(
                "the instance does not show the key that it was given, and its console shows none".to_owned(),
            );
        }
        let why = if self.given.is_some() {
            "the instance did not take the host key that it was given"
        } else {
            "no host key was given to the instance"
        };
        self.accept(
            key,
            Some(format!(
                "{why}, and its console shows none; taking {key} on trust, and no other for the rest of the build"
            )),
        )
    }
}

/// Fingerprints (`SHA256:...`) of the host keys that a console shows: cloud-init writes both keys and fingerprints there.
fn keys_in(console: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_inside = false;
    for line in console.lines() {
        if line.contains("BEGIN SSH HOST KEY") {
            is_inside = true;
        } else if line.contains("END SSH HOST KEY") {
            is_inside = false;
        } else if is_inside {
            // The kernel's log or a prefix of cloud-init may stand in front.
            let key = line
                .find("ssh-")
                .or_else(|| line.find("ecdsa-"))
                .and_then(|at| HostKey::from_openssh(&line[at..]).ok());
            let word = || line.split_whitespace().find(|word| word.starts_with("SHA256:")).map(str::to_owned);
            found.extend(key.map(|key| key.fingerprint_sha256()).or_else(word));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use kiln_ssh::keys::{KeyKind, generate};

    use super::*;
    use crate::fake::FakeCloud;

    fn key() -> HostKey {
        generate(KeyKind::Ed25519, "").unwrap().key().unwrap()
    }

    fn judge(cloud: &Arc<FakeCloud>, given: Option<HostKey>) -> InstanceJudge {
        InstanceJudge { patience: Duration::ZERO, ..InstanceJudge::new(cloud.clone(), "i-1", given) }
    }

    #[tokio::test]
    async fn the_given_key_needs_no_call() {
        let (cloud, given) = (FakeCloud::new(), key());
        let judge = judge(&cloud, Some(given.clone()));
        assert_eq!(judge.judge(&given).await, Verdict::Accepted(None));
        assert!(cloud.calls().is_empty());
        assert!(matches!(judge.judge(&key()).await, Verdict::Refused(_)));
    }

    #[tokio::test]
    async fn the_console_tells_right_from_wrong() {
        let (cloud, shown) = (FakeCloud::new(), key());
        let (plain, print) = (shown.to_openssh(), shown.fingerprint_sha256());
        for text in [
            format!(
                "[ 9.1] cloud-init: -----BEGIN SSH HOST KEY KEYS-----\r\n{plain} root@x\r\n-----END SSH HOST KEY KEYS-----"
            ),
            format!(
                "ci-info: -----BEGIN SSH HOST KEY FINGERPRINTS-----\nec2: 256 {print} root@x (ED25519)\nec2: -----END"
            ),
        ] {
            cloud.show_on_console(&text);
            assert!(matches!(judge(&cloud, Some(key())).judge(&shown).await, Verdict::Accepted(Some(_))), "{text}");
            assert_eq!(judge(&cloud, None).judge(&key()).await, Verdict::Refused(vec![print.clone()]));
        }
    }

    #[tokio::test]
    async fn trust_is_said_and_lasts() {
        let (cloud, shown) = (FakeCloud::new(), key());
        let judge = judge(&cloud, None);
        let Verdict::Accepted(Some(said)) = judge.judge(&shown).await else { panic!("not accepted") };
        assert!(said.contains("on trust") && said.contains(&shown.fingerprint_sha256()), "{said}");
        assert_eq!(judge.judge(&shown).await, Verdict::Accepted(None));
        assert_eq!(judge.judge(&key()).await, Verdict::Refused(vec![shown.fingerprint_sha256()]));
    }

    #[tokio::test]
    async fn the_console_is_given_time() {
        let cloud = FakeCloud::new();
        let judge = InstanceJudge::new(cloud.clone(), "i-1", Some(key()));
        assert!(matches!(judge.judge(&key()).await, Verdict::NotYet(_)));
        assert!(matches!(judge.judge(&key()).await, Verdict::NotYet(_)));
        assert_eq!(cloud.calls().len(), 1);
    }
}
