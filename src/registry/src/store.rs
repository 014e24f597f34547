//! Docker's `config.json` and podman's `auth.json`, which share their shape.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kiln_core::Secret;
use serde_json::{Map, Value};

use crate::credentials::{CredentialError, Credentials};
use crate::reference::normalize_registry;

/// What docker writes is padded; what people write by hand often is not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a file says about a registry.
pub(crate) enum Entry {
    /// The login itself.
    Login(Credentials),
    /// The helper to ask, e.g. `pass`.
    Helper(String),
}

/// One such file. It is picked apart by hand: the errors of typed decoding quote what they found, and that may be a
/// password.
pub(crate) struct Store {
    origin: String,
    root: Map<String, Value>,
}

impl Store {
    /// Reads the text; `origin` names the file or variable in errors. An empty text is an empty store.
    pub(crate) fn parse(origin: &str, text: &str) -> Result<Store, CredentialError> {
        let origin = origin.to_owned();
        if text.trim().is_empty() {
            return Ok(Store { origin, root: Map::new() });
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(root)) => Ok(Store { origin, root }),
            Ok(_) => {
                Err(CredentialError::Malformed { origin, place: "the whole text".to_owned(), problem: "is no object" })
            }
            Err(error) => Err(CredentialError::Syntax { origin, line: error.line(), column: error.column() }),
        }
    }

    /// The file or variable.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The helper that `credHelpers` names for a registry, given in its normal form.
    pub(crate) fn helper_of(&self, host: &str) -> Result<Option<String>, CredentialError> {
        let Some(helpers) = self.object("credHelpers")? else { return Ok(None) };
        let Some((key, name)) = helpers.iter().find(|(key, _)| normalize_registry(key) == host) else {
            return Ok(None);
        };
        self.helper_name(name, || format!("credHelpers.\"{key}\""))
    }

    /// The helper that `credsStore` names for all registries.
    pub(crate) fn helper_of_all(&self) -> Result<Option<String>, CredentialError> {
        match self.root.get("credsStore") {
            None | Some(Value::Null) => Ok(None),
            Some(name) => self.helper_name(name, || "credsStore".to_owned()),
        }
    }

    /// What `auths` holds for a registry or, narrower and therefore first, for a repository or a group in it. An empty
    /// entry (docker writes one beside a helper) is none.
    pub(crate) fn login(&self, registry: &str) -> Result<Option<Credentials>, CredentialError> {
        let Some(auths) = self.object("auths")? else { return Ok(None) };
        let host = normalize_registry(registry);
        let mut wanted = match registry.split_once('/') {
            Some((_, path)) if !registry.contains("://") && !path.is_empty() => format!("{host}/{path}"),
            _ => host,
        };
        loop {
            for (key, entry) in auths.iter().filter(|(key, _)| normalize_key(key) == wanted) {
                if let Some(credentials) = self.entry(key, entry)? {
                    return Ok(Some(credentials));
                }
            }
            match wanted.rfind('/') {
                Some(slash) => wanted.truncate(slash),
                None => return Ok(None),
            }
        }
    }

    fn entry(&self, key: &str, entry: &Value) -> Result<Option<Credentials>, CredentialError> {
        let place = |field: &str| format!("auths.\"{key}\".{field}");
        let Value::Object(fields) = entry else {
            return Err(self.malformed(format!("auths.\"{key}\""), "is no object"));
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(self.malformed(place(name), "is no text")),
        };
        let mut credentials = Credentials {
            username: text("username")?.to_owned(),
            password: Secret::new(text("password")?),
            identity_token: Some(text("identitytoken")?).filter(|token| !token.is_empty()).map(Secret::new),
        };
        let auth = text("auth")?.trim();
        if !auth.is_empty() {
            let (username, password) = self.decode(auth, &place("auth"))?;
            credentials.username = username;
            credentials.password = password;
        }
        let is_empty = credentials.identity_token.is_none()
            && (credentials.username.is_empty() || credentials.password.expose().is_empty());
        Ok((!is_empty).then_some(credentials))
    }

    fn decode(&self, auth: &str, place: &str) -> Result<(String, Secret), CredentialError> {
        let bytes = BASE64.decode(auth).map_err(|_| self.malformed(place.to_owned(), "is not base64"))?;
        let text = String::from_utf8(bytes).map_err(|_| self.malformed(place.to_owned(), "does not encode UTF-8"))?;
        let (username, password) =
            text.split_once(':').ok_or_else(|| self.malformed(place.to_owned(), "does not encode `user:password`"))?;
        // Docker's own decoder cuts the NUL bytes that old versions padded with.
        Ok((username.to_owned(), Secret::new(password.trim_end_matches('\0'))))
    }

    fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, CredentialError> {
        match self.root.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(entries)) => Ok(Some(entries)),
            Some(_) => Err(self.malformed(name.to_owned(), "is no object")),
        }
    }

    /// The name becomes part of a program's, so it must not lead anywhere else. Empty means none, as for docker.
    fn helper_name(&self, name: &Value, place: impl Fn() -> String) -> Result<Option<String>, CredentialError> {
        match name.as_str() {
            Some("") => Ok(None),
            Some(name) if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) => {
                Ok(Some(name.to_owned()))
            }
            Some(_) => Err(self.malformed(place(), "is not the name of a credential helper")),
            None => Err(self.malformed(place(), "is no text")),
        }
    }

    fn malformed(&self, place: String, problem: &'static str) -> CredentialError {
        CredentialError::Malformed { origin: self.origin.clone(), place, problem }
    }
}

/// A key of `auths`: an address (docker's old form) means its host; anything else may be narrower than a host (podman).
fn normalize_key(key: &str) -> String {
    let trimmed = key.trim_end_matches('/');
    let is_address = key.contains("://");
    let bare = trimmed.strip_suffix("/v1").or_else(|| trimmed.strip_suffix("/v2")).unwrap_or(trimmed);
    match bare.split_once('/') {
        Some((host, path)) if !is_address => format!("{}/{path}", normalize_registry(host)),
        _ => normalize_registry(key),
    }
}
