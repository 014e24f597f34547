//! What all requests of a client share.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, Login, is_loopback_url};
use super::repository::Repository;
use super::retry::{Again, Fault};
use super::transport::{Transport, is_head_too_large};
use crate::credentials::CredentialError;
use crate::error::RegistryError;
use crate::options::{ClientOptions, Note};
use crate::reference::{Reference, normalize_registry};
use url::Url;

/// Options, connections, and what was learned about registries.
pub(crate) struct Shared {
    pub(crate) options: ClientOptions,
    transport: Transport,
    endpoints: Mutex<HashMap<String, Arc<Endpoint>>>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn new(options: ClientOptions) -> Shared {
        Shared { options, transport: Transport::default(), endpoints: Mutex::default() }
    }

    /// Connections to a host that is named as insecure, or to any other.
    pub(crate) async fn client(&self, is_insecure: bool) -> Result<&reqwest::Client, RegistryError> {
        self.transport.client(is_insecure, &self.options).await
    }

    pub(crate) fn note(&self, note: Note) {
        (self.options.notes)(note);
    }

    pub(crate) fn endpoint(&self, registry: &str) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoint = endpoints
            .entry(registry.to_owned())
            .or_insert_with(|| Arc::new(Endpoint::new(registry, &self.options.insecure)));
        endpoint.clone()
    }

    /// The repository of a reference, at its own registry.
    pub(crate) fn repository(self: &Arc<Shared>, reference: &Reference) -> Repository {
        Repository::new(self.clone(), self.endpoint(&reference.registry), reference.repository.clone())
    }

    /// How long nothing may move before an attempt is over.
    pub(crate) fn stall(&self) -> Duration {
        self.options.stall.min(self.options.budget)
    }

    /// How long a registry may take to put what it has got in its place.
    pub(crate) fn settling(&self) -> Duration {
        (self.options.stall * 5).min(self.options.budget).max(self.stall())
    }

    /// Waits for the answer to a request without much of a body.
    pub(crate) async fn bounded(
        &self,
        registry: &str,
        request: impl Future<Output = reqwest::Result<reqwest::Response>>,
    ) -> Result<reqwest::Response, Fault> {
        let started = Instant::now();
        match tokio::time::timeout(self.stall(), request).await {
            Ok(answer) => answer.map_err(|error| self.fault(registry, error, started.elapsed())),
            Err(_) => Err(silence(self.stall()).into()),
        }
    }

    /// What a failed request means.
    pub(crate) fn fault(&self, registry: &str, error: reqwest::Error, idle: Duration) -> Fault {
        if is_head_too_large(&error) {
            // It would be as large the next time.
            let problem = "its head is too large".to_owned();
            let registry = registry.to_owned();
            return Fault::Final(RegistryError::Malformed { registry, what: "an answer".to_owned(), problem });
        }
        match kiln_http::tls_error(&error) {
            // Whoever hangs up amid the handshake may be restarting.
            Some(tls) => Fault::Final(RegistryError::Untrusted { registry: registry.to_owned(), source: tls.into() }),
            None => Fault::Again(Again { idle, ..Again::from(error) }),
        }
    }

    /// Whether plain HTTP is fine there.
    pub(crate) fn may_be_plain(&self, url: &Url) -> bool {
        is_loopback_url(url) || self.is_insecure(url)
    }

    /// Whether the user named the host as insecure.
    pub(crate) fn is_insecure(&self, url: &Url) -> bool {
        let host = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return false,
        };
        self.options.insecure.iter().any(|name| normalize_registry(name) == normalize_registry(&host))
    }

    /// The narrowest of the explicit logins, else what the usual places have.
    pub(crate) async fn find_login(&self, registry: &str, repository: &str) -> Result<Option<Login>, CredentialError> {
        let full = format!("{registry}/{repository}");
        let matching = self.options.explicit.iter().filter(|(place, _)| covers(place, &full));
        if let Some((_, credentials)) = matching.max_by_key(|(place, _)| place.matches('/').count()) {
            return Ok(Some(Login { credentials: credentials.clone(), origin: "the template".to_owned() }));
        }
        let found = self.options.credentials.find(&full).await?;
        Ok(found.map(|found| Login { credentials: found.credentials, origin: found.origin.to_string() }))
    }
}

/// Nothing came for so long.
pub(crate) fn silence(stall: Duration) -> Again {
    let text = format!("no answer within {:.0} s", stall.as_secs_f64().max(1.0));
    Again { idle: stall, ..Again::new(text) }
}

/// Whether a registry, or a repository or group in it, covers a repository.
fn covers(place: &str, repository: &str) -> bool {
    let bare = place.split_once("://").map_or(place, |(_, rest)| rest).trim_end_matches('/');
    let (host, path) = match bare.split_once('/') {
        // Docker's old form of an address.
        Some((host, "v1" | "v2")) => (host, None),
        Some((host, path)) => (host, Some(path)),
        None => (bare, None),
    };
    let wanted = path.map_or_else(|| normalize_registry(host), |path| format!("{}/{path}", normalize_registry(host)));
    repository.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_covers_its_registry_or_a_part_of_it() {
        for (place, repository, is_covered) in [
            ("registry.example.org", "registry.example.org/a/b", true),
            ("https://index.docker.io/v1/", "docker.io/library/debian", true),
            ("registry.example.org/a", "registry.example.org/a/b", true),
            ("registry.example.org/a/b", "registry.example.org/a/b", true),
            ("registry.example.org/a", "registry.example.org/ab", false),
            ("registry.example.org", "registry.example.org:5000/a", false),
        ] {
            assert_eq!(covers(place, repository), is_covered, "{place} {repository}");
        }
    }
}
