//! Tokens: what a realm gives, how long it lasts, what it allows.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kiln_core::Secret;
use serde_json::Value;

/// What a token lasts where nothing says so. Source: the token authentication specification of distribution.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(60);
/// A token is not used up to its very end: a request takes time.
const MARGIN: Duration = Duration::from_secs(10);
/// Nothing that a realm says is believed beyond this: a time that no clock can show is a mistake, or malice.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A right to ask for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Scope {
    repository: String,
    actions: &'static str,
}

impl Scope {
    pub(crate) fn pull(repository: &str) -> Scope {
        Scope { repository: repository.to_owned(), actions: "pull" }
    }

    pub(crate) fn push(repository: &str) -> Scope {
        Scope { repository: repository.to_owned(), actions: "pull,push" }
    }

    pub(crate) fn delete(repository: &str) -> Scope {
        Scope { repository: repository.to_owned(), actions: "delete" }
    }

    pub(crate) fn is_pull(&self) -> bool {
        self.actions == "pull"
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "repository:{}:{}", self.repository, self.actions)
    }
}

/// A right that a token gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    repository: String,
    actions: Vec<String>,
}

/// What of the wanted rights is missing, for a message: `` `push` on group/image ``. `None` when all are there.
pub(crate) fn missing(wanted: &[Scope], access: &[Access]) -> Option<String> {
    let mut lacks = Vec::new();
    for scope in wanted {
        let has = |action: &str| {
            let here = access.iter().filter(|access| access.repository == scope.repository);
            here.flat_map(|access| &access.actions).any(|given| given == action || given == "*")
        };
        let actions: Vec<String> =
            scope.actions.split(',').filter(|action| !has(action)).map(|action| format!("`{action}`")).collect();
        if !actions.is_empty() {
            lacks.push(format!("{} on {}", actions.join(" and "), scope.repository));
        }
    }
    (!lacks.is_empty()).then(|| lacks.join(", "))
}

/// A token as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) text: Secret,
    pub(crate) obtained: Instant,
    expires: Instant,
    /// What it allows, where it can be read.
    pub(crate) access: Option<Vec<Access>>,
    /// As whom; `None` without a login.
    pub(crate) username: Option<String>,
}

impl Token {
    /// From a realm's answer to a request that began at `asked`.
    pub(crate) fn read(
        answer: &[u8],
        asked: Instant,
        now: SystemTime,
        username: Option<String>,
    ) -> Result<Token, &'static str> {
        let answer: Value = serde_json::from_slice(answer).map_err(|_| "the answer is not JSON")?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let text = text("token").or_else(|| text("access_token")).ok_or("the answer holds no token")?;
        let claims = claims(text);
        let said = answer.get("expires_in").and_then(Value::as_u64).map(Duration::from_secs);
        let own = claims.as_ref().and_then(|claims| lifetime(claims, now));
        let lifetime = own.into_iter().chain(said).min().unwrap_or(UNKNOWN_LIFETIME).min(LONGEST_LIFETIME);
        // Of a token that lives for seconds, some of them are used too.
        let expires = asked + lifetime - MARGIN.min(lifetime / 3);
        let access = claims.as_ref().and_then(access);
        Ok(Token { text: Secret::new(text), obtained: Instant::now(), expires, access, username })
    }

    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.expires
    }
}

/// The claims of a token that is a JWT; others tell nothing. The signature is the registry's business.
fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _) = (parts.next()?, parts.next()?, parts.next()?);
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?).ok()
}

/// From when it was made, if that is said: then it does not matter how the two clocks differ.
fn lifetime(claims: &Value, now: SystemTime) -> Option<Duration> {
    let time = |name: &str| claims.get(name).and_then(Value::as_f64).filter(|time| *time > 0.0 && *time < 1e11);
    let end = time("exp")?;
    let start = time("iat")
        .unwrap_or_else(|| now.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |elapsed| elapsed.as_secs_f64()));
    Some(Duration::from_secs_f64((end - start).max(0.0)))
}

fn access(claims: &Value) -> Option<Vec<Access>> {
    let entries = match claims.get("access")? {
        Value::Array(entries) => entries.as_slice(),
        Value::Null => &[],
        _ => return None,
    };
    let read = |entry: &Value| {
        let actions = entry.get("actions")?.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Access { repository: entry.get("name")?.as_str()?.to_owned(), actions })
    };
    Some(entries.iter().filter_map(read).collect())
}

/// One token for each set of scopes. Whoever needs one that is not there fetches it while the others wait for it.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    slots: Mutex<HashMap<String, Slot>>,
}

/// The place of one token.
pub(crate) type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

impl Tokens {
    pub(crate) fn slot(&self, key: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key.to_owned()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    fn seconds(answer: &str) -> f64 {
        let asked = Instant::now();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let token = Token::read(answer.as_bytes(), asked, now, None).unwrap();
        (token.expires - asked).as_secs_f64()
    }

    #[test]
    fn the_shortest_known_lifetime_holds_less_a_margin() {
        assert_eq!(seconds(r#"{"token":"opaque"}"#), 50.0);
        assert_eq!(seconds(r#"{"access_token":"opaque","expires_in":300}"#), 290.0);
        let five_minutes = jwt(r#"{"iat":5000,"exp":5300}"#);
        assert_eq!(seconds(&format!(r#"{{"token":"{five_minutes}"}}"#)), 290.0);
        assert_eq!(seconds(&format!(r#"{{"token":"{five_minutes}","expires_in":100}}"#)), 90.0);
        let three = jwt(r#"{"exp":1003}"#);
        assert_eq!(seconds(&format!(r#"{{"token":"{three}"}}"#)), 2.0);
        assert_eq!(seconds(&format!(r#"{{"token":"{}"}}"#, jwt(r#"{"exp":1}"#))), 0.0);
        assert_eq!(seconds(&format!(r#"{{"token":"{}"}}"#, jwt(r#"{"exp":1e300}"#))), 50.0);
    }

    #[test]
    fn a_lifetime_that_no_clock_can_show_is_cut() {
        let day = 24.0 * 3600.0 - 10.0;
        assert_eq!(seconds(&format!(r#"{{"token":"opaque","expires_in":{}}}"#, u64::MAX)), day);
        assert_eq!(seconds(&format!(r#"{{"token":"{}"}}"#, jwt(r#"{"iat":1,"exp":99999999999}"#))), day);
    }

    #[test]
    fn an_answer_without_token_is_none() {
        for wrong in ["", "[]", "{}", r#"{"token":""}"#, r#"{"token":1}"#] {
            assert!(Token::read(wrong.as_bytes(), Instant::now(), SystemTime::now(), None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn missing_rights_are_named() {
        let claims = r#"{"access":[{"type":"repository","name":"a/b","actions":["pull"]}]}"#;
        let access = access(&serde_json::from_str(claims).unwrap()).unwrap();
        let wanted = [Scope::push("a/b"), Scope::pull("c")];
        assert_eq!(missing(&wanted, &access).unwrap(), "`push` on a/b, `pull` on c");
        assert_eq!(missing(&[Scope::pull("a/b")], &access), None);
        let all = [Access { repository: "a/b".into(), actions: vec!["*".into()] }];
        assert_eq!(missing(&[Scope::delete("a/b")], &all), None);
    }
}
