//! Whose things are looked for: what these credentials do not find may be gone, or be another account's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_core::Failure;
use serde::{Deserialize, Serialize};

use crate::cloud::{Caller, Cloud};
use crate::error::failure;

/// Who made a thing, for the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Maker {
    /// The id of the access key, which is no secret. It tells the account, and those of temporary credentials change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The account's number, once an answer has told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
}

impl Maker {
    pub(crate) fn new(caller: Caller) -> Maker {
        Maker { key: caller.key, account: caller.account }
    }

    /// Entries of older versions do not tell.
    pub(crate) fn is_unknown(&self) -> bool {
        self.key.is_none() && self.account.is_none()
    }

    /// With an account that an answer told. Whether that is news.
    pub(crate) fn is_told(&mut self, account: Option<&str>) -> bool {
        let is_news = account.is_some() && account != self.account.as_deref();
        if is_news {
            self.account = account.map(str::to_owned);
        }
        is_news
    }
}

/// What this process found out about accounts; each is asked for once.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Accounts of access keys; `None` where it cannot be found out.
    of_keys: BTreeMap<String, Option<String>>,
    /// Keys of one account: the second one found what the first one made.
    together: BTreeSet<(String, String)>,
}

impl Accounts {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These credentials found what that one made.
    pub(crate) fn found(&self, maker: &Maker, caller: Caller) {
        if let (Some(made), Some(asks)) = (&maker.key, caller.key) {
            self.known().together.insert((made.clone(), asks));
        }
    }

    /// Refuses to believe that a thing is gone which another account may have.
    pub(crate) async fn check_gone(&self, maker: &Maker, cloud: &dyn Cloud) -> Result<(), Failure> {
        if maker.is_unknown() {
            return Ok(());
        }
        let asks = cloud.caller().await.key;
        if asks.is_some() && asks == maker.key {
            return Ok(());
        }
        if let (Some(made), Some(asks)) = (&maker.key, &asks)
            && self.known().together.contains(&(made.clone(), asks.clone()))
        {
            return Ok(());
        }
        let Some(account) = self.of_maker(maker, cloud).await else {
            let key = maker.key.as_deref().unwrap_or_default();
            return Err(elsewhere(format!(
                "these credentials do not find it, and may be of another account than access key {key}, which made it"
            )));
        };
        let here = self.here(asks, cloud).await?;
        if here == account {
            return Ok(());
        }
        Err(elsewhere(format!("it was made in account {account}, and these credentials are of account {here}")))
    }

    async fn of_maker(&self, maker: &Maker, cloud: &dyn Cloud) -> Option<String> {
        if maker.account.is_some() {
            return maker.account.clone();
        }
        let key = maker.key.as_ref()?;
        let known = self.known().of_keys.get(key).cloned();
        if let Some(known) = known {
            return known;
        }
        // Few have the right for it; then it stays unknown.
        let account = cloud.account_of_key(key).await.ok();
        self.known().of_keys.insert(key.clone(), account.clone());
        account
    }

    async fn here(&self, key: Option<String>, cloud: &dyn Cloud) -> Result<String, Failure> {
        let known = key.as_ref().and_then(|key| self.known().of_keys.get(key).cloned().flatten());
        if let Some(known) = known {
            return Ok(known);
        }
        let account = cloud.account().await;
        let account = account.map_err(|error| failure("find out which account the credentials are of", error))?;
        if let Some(key) = key {
            self.known().of_keys.insert(key, Some(account.clone()));
        }
        Ok(account)
    }
}

fn elsewhere(text: String) -> Failure {
    Failure::environment(text).hint("use the credentials and the profile of the run that made it")
}
