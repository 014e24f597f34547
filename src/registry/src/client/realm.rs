//! Who gives tokens.

use std::time::{Instant, SystemTime};

use kiln_core::Secret;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use reqwest::{RequestBuilder, StatusCode};
use url::Url;
use url::form_urlencoded::Serializer;

use super::auth::basic_header;
use super::endpoint::Login;
use super::exchange::{is_passing, passing, read_document, words};
use super::repository::Repository;
use super::retry::Fault;
use super::token::Token;

const ANSWER_LIMIT: u64 = 1024 * 1024;
const ACTION: &str = "to give a token";

/// What a token is wanted for.
pub(crate) struct TokenRequest<'a> {
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
    pub(crate) scopes: &'a [String],
}

enum Reply {
    Token(Token),
    /// The realm does not know what was asked for in this way.
    Unknown(StatusCode),
}

impl Repository {
    /// Asks the realm. Its refusals are final: asking again locks people out.
    pub(crate) async fn fetch(&self, request: &TokenRequest<'_>, login: Option<&Login>) -> Result<Token, Fault> {
        let base_is_safe = self.endpoint.known_base().is_some_and(|base| base.scheme() == "https");
        if base_is_safe && request.realm.scheme() != "https" && !self.shared.may_be_plain(request.realm) {
            let reason = "it sends for tokens to an address without TLS";
            return Err(self.refused(ACTION, reason).into());
        }
        let identity = login.and_then(|login| login.credentials.identity_token.as_ref());
        if let Some(identity) = identity
            && let Some(token) = self.post(request, login, identity).await?
        {
            return Ok(token);
        }
        self.get(request, login).await
    }

    /// `None`: the realm does not know this way.
    async fn post(
        &self,
        request: &TokenRequest<'_>,
        login: Option<&Login>,
        identity: &Secret,
    ) -> Result<Option<Token>, Fault> {
        let client = self.shared.client(self.realm_is_insecure(request.realm)).await?;
        let sent = client
            .post(request.realm.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(request, identity));
        match self.ask(sent, login).await? {
            Reply::Token(token) => Ok(Some(token)),
            Reply::Unknown(_) => Ok(None),
        }
    }

    async fn get(&self, request: &TokenRequest<'_>, login: Option<&Login>) -> Result<Token, Fault> {
        let mut url = request.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = request.service {
                query.append_pair("service", service);
            }
            for scope in request.scopes {
                query.append_pair("scope", scope);
            }
            if let Some(login) = login.filter(|login| !login.credentials.username.is_empty()) {
                query.append_pair("account", &login.credentials.username);
            }
        }
        let client = self.shared.client(self.realm_is_insecure(request.realm)).await?;
        let mut sent = client.get(url).header(ACCEPT, "application/json");
        if let Some(header) = login.and_then(basic_header) {
            sent = sent.header(AUTHORIZATION, header);
        }
        match self.ask(sent, login).await? {
            Reply::Token(token) => Ok(token),
            Reply::Unknown(status) => Err(self.refused(ACTION, format!("its realm answers {status}")).into()),
        }
    }

    async fn ask(&self, request: RequestBuilder, login: Option<&Login>) -> Result<Reply, Fault> {
        let asked = Instant::now();
        let response = self.shared.bounded(&self.endpoint.registry, request.send()).await?;
        let status = response.status();
        if is_passing(status) {
            return Err(passing(&response, &format!("its token realm answers {status}"), asked).into());
        }
        match status.as_u16() {
            200..=299 => {}
            401 | 403 => {
                let secrets = login.map(Login::secrets).unwrap_or_default();
                let words = words(response, &secrets).await;
                let reason = if words.is_empty() { status.to_string() } else { words };
                let action = format!("a login for {}", self.path);
                return Err(self.denied_because(&action, reason, login.map(Login::username)).into());
            }
            _ => return Ok(Reply::Unknown(status)),
        }
        let Some(document) = read_document(response, ANSWER_LIMIT, &self.shared).await? else {
            return Err(self.refused(ACTION, "its realm's answer is too long").into());
        };
        match Token::read(&document, asked, SystemTime::now(), login.map(Login::username)) {
            Ok(token) => Ok(Reply::Token(token)),
            Err(problem) => Err(self.refused(ACTION, format!("its realm is wrong: {problem}")).into()),
        }
    }

    fn realm_is_insecure(&self, realm: &Url) -> bool {
        let is_same_host = self.endpoint.known_base().is_some_and(|base| base.host() == realm.host());
        self.shared.is_insecure(realm) || (self.endpoint.insecure && is_same_host)
    }
}

fn form(request: &TokenRequest<'_>, identity: &Secret) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "kiln");
    form.append_pair("refresh_token", identity.expose()).append_pair("scope", &request.scopes.join(" "));
    if let Some(service) = request.service {
        form.append_pair("service", service);
    }
    form.finish()
}
