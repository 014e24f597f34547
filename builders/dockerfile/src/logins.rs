//! Logins for base images and caches.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_buildkit::Logins;
use kiln_core::{Failure, Redactor};
use kiln_registry::{CredentialSources, Credentials, Origin, normalize_registry};

use crate::config::Config;

/// The login that the template gives, and the places where others are kept.
pub(crate) struct SourceLogins {
    given: Option<(String, Credentials)>,
    sources: CredentialSources,
    redactor: Arc<Redactor>,
}

impl SourceLogins {
    pub(crate) fn new(config: &Config, sources: CredentialSources, redactor: Arc<Redactor>) -> SourceLogins {
        let given = (config.login && !config.ecr.ecr_login).then(|| {
            let registry = normalize_registry(config.login_server.as_deref().unwrap_or_default());
            let credentials = Credentials {
                username: config.login_username.clone().unwrap_or_default(),
                password: config.login_password.clone().unwrap_or_default(),
                identity_token: None,
            };
            (registry, credentials)
        });
        SourceLogins { given, sources, redactor }
    }

    pub(crate) async fn credentials(&self, registry: &str) -> Result<Option<Credentials>, Failure> {
        if let Some((server, credentials)) = &self.given
            && server == registry
        {
            return Ok(Some(credentials.clone()));
        }
        let found = self.sources.find(registry).await.map_err(Failure::environment)?;
        if let Some(found) = found.as_ref().filter(|found| found.origin == Origin::Amazon) {
            self.redactor.add(found.credentials.password.expose());
        }
        Ok(found.map(|found| found.credentials))
    }
}

#[async_trait]
impl Logins for SourceLogins {
    async fn find(&self, registry: &str) -> Result<Option<Credentials>, String> {
        self.credentials(registry).await.map_err(|failure| failure.chain())
    }
}
