//! One registry: how it is reached, and as whom.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_core::Secret;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::sync::OnceCell;
use url::{Host, Url};

use super::challenge::Challenge;
use super::retry::{Again, Attempts, Fault};
use super::shared::Shared;
use super::token::Tokens;
use crate::credentials::Credentials;
use crate::error::RegistryError;
use crate::options::Note;
use crate::reference::{DOCKER_HUB, normalize_registry};

/// A registry, with what was learned about it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// As references and logins name it.
    pub(crate) registry: String,
    /// The host to ask.
    host: String,
    /// May be reached without checks.
    pub(crate) insecure: bool,
    base: OnceCell<Url>,
    /// When it was given up lately, and how that went.
    lost: Mutex<Option<(Instant, Lost)>>,
    /// Until when somebody who waits for it has told so.
    told_until: Mutex<Option<Instant>>,
    challenge: Mutex<Challenge>,
    logins: tokio::sync::Mutex<HashMap<String, Option<Arc<Login>>>>,
    refused: Mutex<HashSet<String>>,
    /// Its password was right once.
    pub(crate) is_proven: AtomicBool,
    /// It was said that it is asked without a login.
    pub(crate) has_told: AtomicBool,
    pub(crate) tokens: Tokens,
    /// It has answered.
    pub(crate) is_known: AtomicBool,
    /// It does not know how to take layers over from another repository.
    pub(crate) cannot_mount: AtomicBool,
    /// To which repository we may not take layers over, and from which.
    pub(crate) may_not_mount: Mutex<HashSet<(String, String)>>,
    /// How it takes blobs, as far as is known.
    pub(crate) manner: AtomicU8,
}

/// How a registry was given up.
#[derive(Debug, Clone)]
struct Lost {
    attempts: u32,
    elapsed: Duration,
    problem: String,
}

impl Lost {
    fn of(error: &RegistryError) -> Option<Lost> {
        let RegistryError::Unavailable { attempts, elapsed, source, .. } = error else { return None };
        Some(Lost { attempts: *attempts, elapsed: *elapsed, problem: source.to_string() })
    }

    fn error(self, registry: &str) -> RegistryError {
        RegistryError::Unavailable {
            registry: registry.to_owned(),
            action: "GET /v2/".to_owned(),
            attempts: self.attempts,
            elapsed: self.elapsed,
            source: self.problem.into(),
        }
    }
}

/// As whom a registry is asked.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) credentials: Credentials,
    pub(crate) origin: String,
}

impl Login {
    fn key(&self) -> String {
        format!("{} {}", self.credentials.username, self.origin)
    }

    /// What of it is not to be shown.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let identity = self.credentials.identity_token.iter();
        identity.chain([&self.credentials.password]).cloned().collect()
    }

    /// For messages.
    pub(crate) fn username(&self) -> String {
        match self.credentials.username.as_str() {
            "" => "the token".to_owned(),
            username => username.to_owned(),
        }
    }
}

impl Endpoint {
    pub(crate) fn new(registry: &str, insecure: &[String]) -> Endpoint {
        let host = if registry == DOCKER_HUB { "registry-1.docker.io" } else { registry };
        let is_named = |name: &String| normalize_registry(name) == normalize_registry(registry);
        Endpoint {
            registry: registry.to_owned(),
            host: host.to_owned(),
            insecure: insecure.iter().any(is_named),
            base: OnceCell::new(),
            lost: Mutex::default(),
            told_until: Mutex::default(),
            challenge: Mutex::new(Challenge::Open),
            logins: tokio::sync::Mutex::default(),
            refused: Mutex::default(),
            is_proven: AtomicBool::new(false),
            has_told: AtomicBool::new(false),
            tokens: Tokens::default(),
            is_known: AtomicBool::new(false),
            cannot_mount: AtomicBool::new(false),
            may_not_mount: Mutex::default(),
            manner: AtomicU8::new(0),
        }
    }

    /// Its root, `https://registry.example.org/`, found by asking it once.
    pub(crate) async fn base(&self, shared: &Shared) -> Result<&Url, Fault> {
        self.base.get_or_try_init(|| self.reach(shared)).await
    }

    /// Asks until it answers: one series of tries, however many requests wait for that, and one failure for all of them.
    async fn reach(&self, shared: &Shared) -> Result<Url, Fault> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, lost)) = lost.filter(|(since, _)| since.elapsed() < shared.options.budget) {
            return Err(lost.error(&self.registry).into());
        }
        let mut attempts = Attempts::default();
        loop {
            let again = match self.ping(shared).await {
                Ok(base) => return Ok(base),
                Err(Fault::Again(again)) => again,
                Err(fault) => return Err(fault),
            };
            if let Err(error) = attempts.pause(shared, self, "GET /v2/", again).await {
                let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                *lost = Lost::of(&error).map(|error| (Instant::now(), error));
                return Err(error.into());
            }
        }
    }

    /// Whether a wait is to be told: of requests side by side that all miss the same connection, one tells.
    pub(crate) fn may_tell(&self, wait: Duration) -> bool {
        let mut told_until = self.told_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if told_until.is_some_and(|until| now < until) {
            return false;
        }
        *told_until = Some(now + wait);
        true
    }

    /// Asks for `/v2/`. Loopback addresses usually speak plain HTTP, insecure hosts may.
    async fn ping(&self, shared: &Shared) -> Result<Url, Fault> {
        let is_local = is_loopback(&self.host);
        let schemes: &[&str] = match (is_local, self.insecure) {
            (true, _) => &["http", "https"],
            (false, true) => &["https", "http"],
            (false, false) => &["https"],
        };
        let mut first = None;
        for scheme in schemes {
            let wrong = |_| RegistryError::Refused {
                registry: self.registry.clone(),
                action: "to be reached".to_owned(),
                reason: format!("`{}` is not a host", self.host),
            };
            let base = Url::parse(&format!("{scheme}://{}/", self.host)).map_err(wrong)?;
            match self.ping_at(shared, &base).await {
                Ok(Some(challenge)) => {
                    self.set_challenge(challenge);
                    return Ok(base);
                }
                // A TLS server to whom plain HTTP was spoken.
                Ok(None) if *scheme == "http" => {}
                Ok(None) => return Ok(base),
                Err(Fault::Again(again)) if again.after.is_none() => {
                    first.get_or_insert(Fault::Again(again));
                }
                Err(fault @ Fault::Final(RegistryError::Untrusted { .. })) if schemes.len() > 1 => {
                    first.get_or_insert(fault);
                }
                Err(fault) => return Err(fault),
            }
        }
        Err(first.unwrap_or_else(|| {
            let reason = "it answers, but not as a registry does".to_owned();
            let action = "GET /v2/".to_owned();
            RegistryError::Refused { registry: self.registry.clone(), action, reason }.into()
        }))
    }

    /// `None`: the answer is that of somebody who expected something else.
    async fn ping_at(&self, shared: &Shared, base: &Url) -> Result<Option<Challenge>, Fault> {
        let mut url = base.clone();
        url.set_path("/v2/");
        let started = Instant::now();
        let request = shared.client(self.insecure).await?.request(Method::GET, url);
        let answer = shared.bounded(&self.registry, request.send()).await?;
        self.is_known.store(true, Ordering::Relaxed);
        let status = answer.status().as_u16();
        match status {
            401 => Ok(Some(Challenge::of(answer.headers()).unwrap_or(Challenge::Open))),
            400 => Ok(None),
            _ if super::exchange::is_passing(answer.status()) => {
                Err(super::exchange::passing(&answer, &format!("{status}"), started).into())
            }
            // Some answer 404 or 403 here and yet know their images.
            _ => Ok(Some(Challenge::Open)),
        }
    }

    pub(crate) fn challenge(&self) -> Challenge {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether it is another one than before.
    pub(crate) fn set_challenge(&self, challenge: Challenge) -> bool {
        let mut known = self.challenge.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *known != challenge;
        *known = challenge;
        is_new
    }

    /// Takes over what the headers of a 401 ask for; says whether that is something new.
    pub(crate) fn learn(&self, headers: &HeaderMap) -> bool {
        Challenge::of(headers).is_some_and(|challenge| self.set_challenge(challenge))
    }

    /// The login for a repository. For pulling it may be missing, unreadable, or refused before.
    pub(crate) async fn login(
        &self,
        shared: &Shared,
        repository: &str,
        is_pull: bool,
    ) -> Result<Option<Arc<Login>>, RegistryError> {
        let mut logins = self.logins.lock().await;
        if let Some(login) = logins.get(repository) {
            return Ok(login.clone());
        }
        let login = match shared.find_login(&self.registry, repository).await {
            Ok(login) => login.map(Arc::new),
            Err(error) if is_pull => {
                let reason = super::retry::describe(&error);
                shared.note(Note::Anonymous { registry: self.registry.clone(), reason });
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(login) = &login {
            let is_told = logins.values().flatten().any(|known| known.key() == login.key());
            if !is_told {
                let (username, origin) = (login.credentials.username.clone(), login.origin.clone());
                shared.note(Note::Login { registry: self.registry.clone(), username, origin });
            }
        }
        logins.insert(repository.to_owned(), login.clone());
        Ok(login)
    }

    pub(crate) fn is_refused(&self, login: &Login) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).contains(&login.key())
    }

    /// It is not tried again: registries lock out who tries often.
    pub(crate) fn refuse(&self, login: &Login) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(login.key());
    }

    /// The root, if it was found yet.
    pub(crate) fn known_base(&self) -> Option<&Url> {
        self.base.get()
    }
}

/// Whether a host with port is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| is_loopback_url(&url))
}

/// Whether an address is on this machine.
pub(crate) fn is_loopback_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// What the browser's rules call the same origin: only there a login may go.
pub(crate) fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

impl From<reqwest::Error> for Again {
    fn from(error: reqwest::Error) -> Again {
        let unreachable = error.is_connect();
        Again { unreachable, ..Again::new(error.without_url()) }
    }
}
