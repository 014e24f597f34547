//! Logging in: what is tried, in which order, and what is said when nothing fits.

use std::sync::Arc;

use kiln_core::Secret;

use crate::SshError;
use crate::session::{Login, LoginMethod, Prompt, Responder, Session};

/// One way to log in, with what it is called in messages.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// `key ~/.ssh/id_ed25519`, `password`.
    pub(crate) label: String,
    pub(crate) method: LoginMethod,
}

/// Why nobody was let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} refused the login as `{user}`: tried {tried}; it offers {offered}")]
pub(crate) struct Refused {
    pub(crate) host: String,
    pub(crate) user: String,
    /// What was tried, or that nothing was.
    pub(crate) tried: String,
    pub(crate) offered: String,
}

/// Why there was no login.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LoginError {
    #[error(transparent)]
    Refused(Refused),
    #[error(transparent)]
    Broken(SshError),
}

/// Answers every question with the password, as Packer does.
pub(crate) fn password_responder(password: Secret) -> Responder {
    Arc::new(move |_: &str, prompts: &[Prompt]| prompts.iter().map(|_| password.clone()).collect())
}

/// Tries one way after the other, of those that the peer offers, until it lets in.
pub(crate) async fn log_in(session: &Session, host: &str, user: &str, ways: &[Way]) -> Result<(), LoginError> {
    let mut offered = session.methods(user).await.map_err(LoginError::Broken)?;
    // Nothing is asked for: that was the login.
    if offered.is_empty() {
        return Ok(());
    }
    let mut tried: Vec<String> = Vec::new();
    let mut left: Vec<&Way> = ways.iter().collect();
    let (mut unusable, mut was_refused) = (None, false);
    // After a part of several was accepted, what was of no use before may be now.
    let usable = |way: &&Way, offered: &[String]| offered.iter().any(|name| name == way.method.name());
    while let Some(index) = left.iter().position(|way| usable(way, &offered)) {
        let way = left.remove(index);
        match session.login(user, way.method.clone()).await {
            Ok(Login::Done) => return Ok(()),
            // An agent that is gone, for example: another way may be open.
            Err(SshError::Unusable { what, reason }) => {
                tried.push(format!("{} ({reason})", way.label));
                unusable.get_or_insert(SshError::Unusable { what, reason });
            }
            Err(error) => return Err(LoginError::Broken(error)),
            Ok(Login::Partial(next)) => {
                tried.push(format!("{} (accepted, but not enough)", way.label));
                offered = next;
            }
            Ok(Login::Refused(next)) => {
                was_refused = true;
                tried.push(way.label.clone());
                if !next.is_empty() {
                    offered = next;
                }
            }
        }
    }
    // Nothing that can change by itself was refused.
    if let Some(error) = unusable.filter(|_| !was_refused) {
        return Err(LoginError::Broken(error));
    }
    let tried = if tried.is_empty() { nothing(ways) } else { tried.join(", ") };
    let (host, user) = (host.to_owned(), user.to_owned());
    Err(LoginError::Refused(Refused { host, user, tried, offered: offered.join(", ") }))
}

fn nothing(ways: &[Way]) -> String {
    if ways.is_empty() {
        return "nothing, as neither a key nor a password is given".to_owned();
    }
    let labels: Vec<&str> = ways.iter().map(|way| way.label.as_str()).collect();
    format!("nothing (there is {})", labels.join(", "))
}
