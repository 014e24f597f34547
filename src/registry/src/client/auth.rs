//! What goes into `Authorization`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_core::Secret;
use reqwest::header::HeaderValue;
use url::Url;

use super::challenge::Challenge;
use super::endpoint::Login;
use super::exchange::Call;
use super::realm::TokenRequest;
use super::repository::Repository;
use super::retry::{Fault, describe};
use super::token::{Access, Scope, missing};
use crate::error::RegistryError;
use crate::options::Note;

/// What a request is allowed by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grant {
    pub(crate) header: Option<HeaderValue>,
    pub(crate) is_basic: bool,
    /// As whom; `None` without a login.
    pub(crate) username: Option<String>,
    /// What a token allows, where it can be read.
    pub(crate) access: Option<Vec<Access>>,
    /// Not to be shown.
    pub(crate) secrets: Vec<Secret>,
    token: Option<(String, Instant)>,
    login: Option<Arc<Login>>,
}

impl Repository {
    /// What allows a request with these scopes.
    pub(crate) async fn grant(&self, scopes: &[Scope]) -> Result<Grant, Fault> {
        let is_pull = scopes.iter().all(Scope::is_pull);
        match self.endpoint.challenge() {
            Challenge::Open => Ok(Grant::default()),
            Challenge::Basic => {
                let login = self.usable_login(is_pull).await?;
                Ok(login.map_or_else(Grant::default, basic))
            }
            Challenge::Bearer { realm, service } => self.token(&realm, service.as_deref(), scopes, is_pull).await,
        }
    }

    /// The login; for pulling none where it was refused.
    async fn usable_login(&self, is_pull: bool) -> Result<Option<Arc<Login>>, Fault> {
        let login = self.endpoint.login(&self.shared, &self.path, is_pull).await?;
        match login {
            Some(login) if self.endpoint.is_refused(&login) && is_pull => {
                self.tell_of_going_without(&login, "it was refused before");
                Ok(None)
            }
            Some(login) if self.endpoint.is_refused(&login) => {
                let reason = format!("the login from {} is not accepted", login.origin);
                Err(self.denied_because(&format!("a login for {}", self.path), reason, Some(login.username())).into())
            }
            login => Ok(login),
        }
    }

    async fn token(&self, realm: &Url, service: Option<&str>, scopes: &[Scope], is_pull: bool) -> Result<Grant, Fault> {
        let mut names: Vec<String> = scopes.iter().map(Scope::to_string).collect();
        names.sort();
        let key = names.join(" ");
        let slot = self.endpoint.tokens.slot(&key);
        let mut slot = slot.lock().await;
        let token = match slot.as_ref().filter(|token| token.is_fresh()) {
            Some(token) => token.clone(),
            None => {
                let login = self.usable_login(is_pull).await?;
                let request = TokenRequest { realm, service, scopes: &names };
                let token = match self.fetch(&request, login.as_deref()).await {
                    Err(Fault::Final(error @ RegistryError::Denied { .. })) => {
                        let Some(login) = login else { return Err(error.into()) };
                        // Some realms give nothing at all where one of the repositories is out of bounds.
                        if scopes.len() > 1 {
                            return Err(error.into());
                        }
                        self.endpoint.refuse(&login);
                        if !is_pull {
                            return Err(error.into());
                        }
                        self.tell_of_going_without(&login, &describe(&error));
                        self.fetch(&request, None).await?
                    }
                    fetched => fetched?,
                };
                slot.insert(token).clone()
            }
        };
        let header = sensitive(format!("Bearer {}", token.text.expose()))
            .ok_or_else(|| self.refused("to give a token", "the token is malformed"))?;
        Ok(Grant {
            header: Some(header),
            username: token.username,
            access: token.access,
            secrets: vec![token.text],
            token: Some((key, token.obtained)),
            ..Grant::default()
        })
    }

    /// Once.
    fn tell_of_going_without(&self, login: &Login, reason: &str) {
        if self.endpoint.has_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let reason = format!("the login from {} is not accepted: {reason}", login.origin);
        self.shared.note(Note::Anonymous { registry: self.endpoint.registry.clone(), reason });
    }

    /// Whether what allowed a request may have become too old for it since `started`.
    pub(crate) fn is_old(&self, grant: &Grant, scopes: &[Scope], started: Instant) -> bool {
        match &grant.token {
            // What it never allowed a new one will not allow either.
            Some(_) if grant.access.as_ref().is_some_and(|access| missing(scopes, access).is_some()) => false,
            Some((_, obtained)) => *obtained < started,
            // A password that was right before: the registry may have stumbled.
            None => grant.is_basic && self.endpoint.is_proven.load(Ordering::Relaxed),
        }
    }

    /// The token that was refused is not used again.
    pub(crate) async fn forget(&self, grant: &Grant) {
        if let Some((key, obtained)) = &grant.token {
            let slot = self.endpoint.tokens.slot(key);
            let mut slot = slot.lock().await;
            // Somebody else may have fetched a new one meanwhile.
            if slot.as_ref().is_some_and(|token| token.obtained == *obtained) {
                *slot = None;
            }
        }
    }

    /// Remembers a password that was refused; whether the request is worth another try without it.
    pub(crate) fn goes_without(&self, call: &Call, grant: &Grant) -> bool {
        let Some(login) = &grant.login else { return false };
        self.endpoint.refuse(login);
        let is_pull = call.scopes.iter().all(Scope::is_pull);
        if is_pull {
            self.tell_of_going_without(login, "401 Unauthorized");
        }
        is_pull
    }
}

/// User and password with each request.
fn basic(login: Arc<Login>) -> Grant {
    Grant {
        header: basic_header(&login),
        is_basic: true,
        username: Some(login.username()),
        secrets: login.secrets(),
        login: Some(login),
        ..Grant::default()
    }
}

/// The header with user and password; an identity token stands for a password where only that is understood.
pub(crate) fn basic_header(login: &Login) -> Option<HeaderValue> {
    let credentials = &login.credentials;
    let password = credentials.identity_token.as_ref().unwrap_or(&credentials.password);
    let username = if credentials.username.is_empty() { "<token>" } else { &credentials.username };
    sensitive(format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose()))))
}

fn sensitive(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
