//! One request and its answer: login, redirections, what is worth another try.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use kiln_core::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::auth::Grant;
use super::body::{Patience, Payload, watch};
use super::endpoint::is_same_origin;
use super::repository::Repository;
use super::retry::{Again, Attempts, Fault, retry_after};
use super::shared::{Shared, silence};
use super::token::{Scope, missing};
use crate::error::RegistryError;

const MOST_REDIRECTIONS: usize = 10;
/// Of a refusal's text, this much is read.
const WORDS_LIMIT: usize = 16 * 1024;
/// And this much shown.
const WORDS_SHOWN: usize = 400;

/// A request to a registry.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
    /// For messages: `GET group/image:1`.
    pub(crate) action: String,
}

/// Where a request goes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Below `/v2/NAME/`, with its query.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

impl Call {
    pub(crate) fn new(method: Method, target: Target, scope: Scope, action: impl Into<String>) -> Call {
        Call {
            method,
            target,
            scopes: vec![scope],
            headers: HeaderMap::new(),
            payload: Payload::None,
            action: action.into(),
        }
    }

    #[must_use]
    pub(crate) fn header(mut self, name: reqwest::header::HeaderName, value: HeaderValue) -> Call {
        self.headers.append(name, value);
        self
    }

    #[must_use]
    pub(crate) fn payload(mut self, payload: Payload) -> Call {
        self.payload = payload;
        self
    }
}

/// What came back: anything but what is worth another try, and what is denied.
pub(crate) struct Answer {
    pub(crate) response: Response,
    /// Who answered, after redirections.
    pub(crate) url: Url,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    pub(crate) fn is_success(&self) -> bool {
        self.response.status().is_success()
    }

    pub(crate) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }
}

impl Repository {
    /// Sends a request until it is answered or the budget is spent.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer, RegistryError> {
        let mut attempts = Attempts::default();
        loop {
            match self.once(call).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => self.pause(&mut attempts, &call.action, fault).await?,
            }
        }
    }

    /// Waits before the next attempt, or gives up.
    pub(crate) async fn pause(&self, attempts: &mut Attempts, action: &str, fault: Fault) -> Result<(), RegistryError> {
        let again = match fault {
            Fault::Again(again) => again,
            Fault::Final(error) => return Err(error),
        };
        attempts.pause(&self.shared, &self.endpoint, action, again).await
    }

    /// The error of something that cannot be tried again.
    pub(crate) fn give_up(&self, action: &str, fault: Fault) -> RegistryError {
        match fault {
            Fault::Final(error) => error,
            Fault::Again(again) => RegistryError::Unavailable {
                registry: self.endpoint.registry.clone(),
                action: action.to_owned(),
                attempts: 1,
                elapsed: again.idle,
                source: again.problem,
            },
        }
    }

    /// Sends a request once; or twice, where a token has become too old.
    pub(crate) async fn once(&self, call: &Call) -> Result<Answer, Fault> {
        let started = Instant::now();
        let mut has_renewed = false;
        let mut has_learned = false;
        loop {
            let base = self.endpoint.base(&self.shared).await?.clone();
            let grant = self.grant(&call.scopes).await?;
            let sent = Instant::now();
            let answer = self.follow(call, &base, &grant).await?;
            self.endpoint.is_known.store(true, Ordering::Relaxed);
            let status = answer.response.status();
            if !is_same_origin(&answer.url, &base) {
                return self.elsewhere(answer, sent);
            }
            if is_passing(status) {
                let mut again = passing(&answer.response, "", sent);
                let words = words(answer.response, &grant.secrets).await;
                again.problem = speak(status, &words).into();
                return Err(again.into());
            }
            match status {
                StatusCode::UNAUTHORIZED => {
                    if !has_learned && self.endpoint.learn(answer.response.headers()) {
                        has_learned = true;
                    } else if !has_renewed && self.is_old(&grant, &call.scopes, started) {
                        self.forget(&grant).await;
                        has_renewed = true;
                    } else if self.goes_without(call, &grant) {
                        has_renewed = true;
                    } else {
                        return Err(self.denied(call, grant, answer).await.into());
                    }
                }
                StatusCode::FORBIDDEN => return Err(self.denied(call, grant, answer).await.into()),
                _ => {
                    if grant.is_basic {
                        self.endpoint.is_proven.store(true, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
            }
        }
    }

    /// A storage behind the registry. Its refusals are not the registry's: an address that it signed may have expired.
    fn elsewhere(&self, answer: Answer, sent: Instant) -> Result<Answer, Fault> {
        let status = answer.response.status();
        if is_passing(status) || matches!(status.as_u16(), 401 | 403) {
            let host = answer.url.host_str().unwrap_or_default();
            return Err(passing(&answer.response, &format!("{host} answers {status}"), sent).into());
        }
        Ok(answer)
    }

    /// Follows redirections, without the login where they lead elsewhere.
    async fn follow(&self, call: &Call, base: &Url, grant: &Grant) -> Result<Answer, Fault> {
        let mut url = match &call.target {
            Target::Path(path) => base.join(&format!("v2/{}/{path}", self.path)).map_err(|error| {
                Fault::Final(self.refused(&call.action, format!("its address is malformed: {error}")))
            })?,
            Target::Url(url) => url.clone(),
        };
        for _ in 0..MOST_REDIRECTIONS {
            let response = self.transfer(call, base, &url, grant).await?;
            let is_safe = matches!(call.method, Method::GET | Method::HEAD);
            let follows = match response.status().as_u16() {
                301..=303 => is_safe,
                307 | 308 => true,
                _ => false,
            };
            if !follows || !response.headers().contains_key(LOCATION) {
                return Ok(Answer { response, url });
            }
            url = self.location(&response, &url, &call.action)?;
        }
        Err(self.refused(&call.action, format!("it redirects more than {MOST_REDIRECTIONS} times")).into())
    }

    async fn transfer(&self, call: &Call, base: &Url, url: &Url, grant: &Grant) -> Result<Response, Fault> {
        let is_home = is_same_origin(url, base);
        let insecure = if is_home { self.endpoint.insecure } else { self.shared.is_insecure(url) };
        let started = Instant::now();
        let (body, meter) = call.payload.open().await?;
        let mut request = self.shared.client(insecure).await?.request(call.method.clone(), url.clone());
        request = request.headers(call.headers.clone());
        if let Some((body, length)) = body {
            if let Some(length) = length {
                request = request.header(CONTENT_LENGTH, length);
            }
            request = request.body(body);
        }
        if let Some(login) = grant.header.as_ref().filter(|_| is_home) {
            request = request.header(AUTHORIZATION, login.clone());
        }
        let stall = self.shared.stall();
        let settling = if call.payload.is_large() { self.shared.settling() } else { stall };
        let patience = Patience { stall, settling, is_patient: call.payload.is_patient() };
        match watch(request.send(), &meter, patience).await? {
            Ok(response) => Ok(response),
            Err(error) => {
                let idle = if call.payload.is_large() { meter.idle() } else { started.elapsed() };
                Err(self.shared.fault(&self.endpoint.registry, error, idle))
            }
        }
    }

    /// The address that an answer names, if it may be used.
    pub(crate) fn location(&self, response: &Response, at: &Url, action: &str) -> Result<Url, RegistryError> {
        let value = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let may_be_plain = |url: &Url| self.shared.may_be_plain(url);
        value
            .ok_or("its answer names no Location")
            .and_then(|value| next_address(at, value, may_be_plain))
            .map_err(|problem| self.refused(action, problem))
    }

    async fn denied(&self, call: &Call, grant: Grant, answer: Answer) -> RegistryError {
        let status = answer.response.status();
        let words = words(answer.response, &grant.secrets).await;
        let lacks = grant.access.as_ref().and_then(|access| missing(&call.scopes, access));
        let reason = match lacks {
            // Registries do not tell strangers what there is.
            Some(lacks) if call.scopes.iter().all(Scope::is_pull) => {
                format!("its token does not give {lacks}, or there is no such repository")
            }
            Some(lacks) => format!("its token does not give {lacks}"),
            None if words.is_empty() => status.to_string(),
            None => words,
        };
        self.denied_because(&call.action, reason, grant.username)
    }

    pub(crate) fn denied_because(&self, action: &str, reason: String, username: Option<String>) -> RegistryError {
        RegistryError::Denied { registry: self.endpoint.registry.clone(), action: action.to_owned(), reason, username }
    }

    pub(crate) fn refused(&self, action: &str, reason: impl Into<String>) -> RegistryError {
        RegistryError::Refused {
            registry: self.endpoint.registry.clone(),
            action: action.to_owned(),
            reason: reason.into(),
        }
    }

    /// For an answer that nobody expects.
    pub(crate) async fn unexpected(&self, call: &Call, answer: Answer) -> RegistryError {
        let status = answer.response.status();
        let words = words(answer.response, &[]).await;
        if status == StatusCode::NOT_FOUND {
            let what = call.action.split_once(' ').map_or(call.action.as_str(), |(_, what)| what);
            return RegistryError::NotFound { what: format!("{}/{what}", self.endpoint.registry) };
        }
        self.refused(&call.action, speak(status, &words))
    }
}

/// Where an answer sends on to: never from TLS to plain HTTP.
pub(crate) fn next_address(at: &Url, value: &str, may_be_plain: impl Fn(&Url) -> bool) -> Result<Url, &'static str> {
    let mut url = at.join(value).map_err(|_| "the Location of its answer is malformed")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the Location of its answer is no address of HTTP");
    }
    if at.scheme() == "http" || url.scheme() == "https" || may_be_plain(&url) {
        return Ok(url);
    }
    // A registry behind a proxy that does not tell it about TLS.
    if url.host() == at.host() && url.set_scheme("https").is_ok() && url.set_port(at.port()).is_ok() {
        return Ok(url);
    }
    Err("it leads from https to http")
}

/// Whether an answer may be another one next time.
pub(crate) fn is_passing(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 425 | 429 => true,
        // Not implemented, version not supported: they will not be next time either.
        501 | 505 => false,
        code => code >= 500,
    }
}

/// What such an answer means.
pub(crate) fn passing(response: &Response, problem: &str, sent: Instant) -> Again {
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Again {
        after: after.and_then(|value| retry_after(value, SystemTime::now())),
        idle: sent.elapsed().min(Duration::from_secs(5)),
        ..Again::new(problem)
    }
}

fn speak(status: StatusCode, words: &str) -> String {
    if words.is_empty() { status.to_string() } else { format!("{words} ({})", status.as_u16()) }
}

/// What a refusal says, without the secrets that were sent.
pub(crate) async fn words(mut response: Response, secrets: &[Secret]) -> String {
    let mut text = Vec::new();
    let read = async {
        while let Ok(Some(piece)) = response.chunk().await {
            text.extend_from_slice(&piece);
            if text.len() > WORDS_LIMIT {
                break;
            }
        }
    };
    // Words are a courtesy: what does not come soon is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
    scrub(&spoken(&text), secrets)
}

/// The messages of a registry's error document, or the text that came instead.
fn spoken(body: &[u8]) -> String {
    if let Ok(document) = serde_json::from_slice::<Value>(body) {
        let error = |error: &Value| {
            let field = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
            match (field("code"), field("message")) {
                (code, message) if message.is_empty() => code,
                (code, message) if code.is_empty() => message,
                (code, message) => format!("{message} ({code})"),
            }
        };
        let errors = document.get("errors").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let texts: Vec<String> = errors.iter().map(error).filter(|text| !text.is_empty()).collect();
        if !texts.is_empty() {
            return texts.join("; ");
        }
        let fields = ["message", "details", "error_description", "error"];
        return fields.iter().find_map(|name| document.get(*name)?.as_str()).unwrap_or_default().to_owned();
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    // A page for browsers says nothing in one line.
    if text.starts_with('<') { String::new() } else { text.lines().next().unwrap_or_default().to_owned() }
}

fn scrub(text: &str, secrets: &[Secret]) -> String {
    let mut text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    for secret in secrets.iter().map(|secret| secret.expose()).filter(|secret| secret.len() >= 3) {
        text = text.replace(secret, kiln_core::redact::MASK);
    }
    match text.char_indices().nth(WORDS_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A document's bytes, as far as they may go.
pub(crate) async fn read_document(mut response: Response, limit: u64, shared: &Shared) -> Result<Option<Bytes>, Again> {
    let (started, longest) = (Instant::now(), shared.settling());
    let mut bytes = Vec::new();
    loop {
        // Drop by drop, a document would take a day.
        let stall = shared.stall().min(longest.saturating_sub(started.elapsed()));
        match tokio::time::timeout(stall, response.chunk()).await {
            Ok(Ok(Some(piece))) => bytes.extend_from_slice(&piece),
            Ok(Ok(None)) => return Ok(Some(bytes.into())),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(silence(started.elapsed())),
        }
        if bytes.len() as u64 > limit {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leads_from_tls_to_plain_http() {
        let at = Url::parse("https://registry.example.org:5000/v2/a/blobs/uploads/").unwrap();
        let next = |value: &str| next_address(&at, value, |url| url.host_str() == Some("127.0.0.1")).map(String::from);
        assert_eq!(next("/v2/x?_state=a%2Fb").unwrap(), "https://registry.example.org:5000/v2/x?_state=a%2Fb");
        assert_eq!(next("https://storage.example.org/x").unwrap(), "https://storage.example.org/x");
        assert_eq!(next("http://127.0.0.1/x").unwrap(), "http://127.0.0.1/x");
        // Its own host is reached as before.
        assert_eq!(next("http://registry.example.org/v2/x").unwrap(), "https://registry.example.org:5000/v2/x");
        assert!(next("http://storage.example.org/x").is_err());
        assert!(next("ftp://storage.example.org/x").is_err());
        assert!(next("https://[").is_err());
        let plain = Url::parse("http://127.0.0.1/").unwrap();
        assert!(next_address(&plain, "http://storage.example.org/x", |_| false).is_ok());
    }

    #[test]
    fn what_a_registry_says_fits_one_line() {
        let coded = br#"{"errors":[{"code":"DENIED","message":"no"},{"code":"UNKNOWN"},{"message":"other"}]}"#;
        assert_eq!(spoken(coded), "no (DENIED); UNKNOWN; other");
        assert_eq!(spoken(br#"{"message":"one"}"#), "one");
        assert_eq!(spoken(b"<html>502</html>"), "");
        assert_eq!(spoken(b"plain\nsecond"), "plain");
        assert_eq!(spoken(b""), "");
        let secret = [Secret::new("s3cret")];
        assert_eq!(scrub("a\u{1b}[31m s3cret", &secret), "a [31m <sensitive>");
        assert_eq!(scrub(&"x".repeat(500), &[]).len(), 403);
    }
}
