//! From the access options to connections, shared with the undoers: what a template says of keys is nowhere but in memory.

use std::sync::{Arc, Mutex, PoisonError};

use kiln_core::Failure;

use crate::accounts::Accounts;
use crate::cloud::{Access, Cloud, Clouds};
use crate::config::Config;
use crate::undo::Place;

/// The access options of a source.
pub(crate) fn access(config: &Config) -> Access {
    let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let secret = |secret: &Option<kiln_core::Secret>| secret.clone().filter(|secret| !secret.expose().is_empty());
    Access {
        access_key: secret(&config.access_key),
        secret_key: secret(&config.secret_key),
        token: secret(&config.token),
        profile: full(&config.profile),
        region: full(&config.region),
        shared_credentials_file: full(&config.shared_credentials_file),
        mfa_code: secret(&config.mfa_code),
        assume_role: config.assume_role.clone().filter(|role| !role.role_arn.is_empty()),
        endpoint: full(&config.custom_endpoint_ec2),
        skip_tls_verify: config.insecure_skip_tls_verify,
        max_retries: config.max_retries.and_then(|count| u32::try_from(count).ok()),
        skip_metadata: config.skip_metadata_api_check,
        decode_authorization_messages: config.decode_authorization_messages,
    }
}

/// Connections to the clouds that this process has used.
pub(crate) struct Connections {
    clouds: Arc<dyn Clouds>,
    used: Mutex<Vec<Used>>,
    pub(crate) accounts: Accounts,
}

/// Access options as they were used, with their keys.
#[derive(Clone)]
struct Used {
    access: Access,
    /// Ids of the access keys that came of them.
    keys: Vec<String>,
}

impl Connections {
    pub(crate) fn new(clouds: Arc<dyn Clouds>) -> Connections {
        Connections { clouds, used: Mutex::default(), accounts: Accounts::default() }
    }

    pub(crate) fn clouds(&self) -> &dyn Clouds {
        &*self.clouds
    }

    /// The cloud in a region; the options are remembered for undoing what was made with them.
    pub(crate) async fn cloud(&self, access: &Access, region: Option<&str>) -> Result<Arc<dyn Cloud>, Failure> {
        let cloud = self.clouds.cloud(access, region).await?;
        let key = cloud.caller().await.key;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match used.iter_mut().find(|used| used.access == *access) {
            Some(known) => known.keys.extend(key.filter(|key| !known.keys.contains(key))),
            None => used.push(Used { access: access.clone(), keys: key.into_iter().collect() }),
        }
        Ok(cloud)
    }

    /// The same from a journal's entry, which has no keys: with those that this process used, else as the surroundings say.
    /// And whether it is this process that made the thing.
    pub(crate) async fn reach_again(&self, place: &Place) -> Result<(Arc<dyn Cloud>, bool), Failure> {
        let Place { access, region, maker } = place;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        used.retain(|used| without_keys(&used.access) == *access);
        let own = used.iter().find(|used| maker.key.as_ref().is_some_and(|key| used.keys.contains(key)));
        let known = own.or(used.first()).map_or(access, |used| &used.access);
        Ok((self.clouds.cloud(known, Some(region)).await?, own.is_some()))
    }
}

/// As the journal knows it.
pub(crate) fn without_keys(access: &Access) -> Access {
    Access { access_key: None, secret_key: None, token: None, mfa_code: None, ..access.clone() }
}
