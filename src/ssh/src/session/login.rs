//! The session's end of a login.

use std::path::Path;

use libssh2_sys as raw;
use ssh2::{ErrorCode, KeyboardInteractivePrompt};

use super::failure::{is_again, is_fatal, lost};
use super::request::{Login, LoginMethod, Prompt, Responder};
use crate::SshError;

/// A login under way.
pub(super) struct Attempt {
    user: String,
    method: LoginMethod,
    stage: Stage,
}

enum Stage {
    /// What is offered: without it, a refusal cannot be told from "accepted, and more is wanted".
    Before,
    Try,
    /// The keys of an agent, the last of which is being tried.
    Keys(ssh2::Agent, Vec<ssh2::PublicKey>),
    /// What is offered after an answer that was no welcome.
    After,
}

enum Answer {
    Accepted,
    /// The peer did not want it.
    Refused,
    /// The key was welcome, and the proof was not enough.
    NotEnough,
    Pending,
}

impl Attempt {
    pub(super) fn new(user: String, method: LoginMethod) -> Attempt {
        Attempt { user, method, stage: Stage::Before }
    }

    /// Does what can be done now; `None`: the peer has to answer first. `offered` is what the peer offered last.
    pub(super) fn turn(
        &mut self,
        session: &ssh2::Session,
        offered: &mut Vec<String>,
    ) -> Result<Option<Login>, SshError> {
        loop {
            let answer = match &mut self.stage {
                Stage::Before if offered.is_empty() => {
                    let Some(now) = methods(session, &self.user)? else { return Ok(None) };
                    if session.authenticated() {
                        return Ok(Some(Login::Done));
                    }
                    *offered = now;
                    continue;
                }
                Stage::Before => {
                    self.stage = match &self.method {
                        LoginMethod::None => return Ok(Some(Login::Refused(offered.clone()))),
                        LoginMethod::Agent { socket } => agent(session, socket)?,
                        _ => Stage::Try,
                    };
                    continue;
                }
                Stage::After => {
                    let Some(now) = methods(session, &self.user)? else { return Ok(None) };
                    return Ok(Some(self.judge(std::mem::replace(offered, now.clone()), now)));
                }
                Stage::Keys(_, keys) if keys.is_empty() => return Ok(Some(Login::Refused(offered.clone()))),
                Stage::Keys(agent, keys) => {
                    let answer = match keys.last() {
                        Some(key) => answer(agent.userauth(&self.user, key), "a key of the agent")?,
                        None => Answer::Refused,
                    };
                    if matches!(answer, Answer::Refused) {
                        keys.pop();
                        continue;
                    }
                    answer
                }
                Stage::Try => attempt(session, &self.user, &self.method)?,
            };
            match answer {
                Answer::Accepted => return Ok(Some(Login::Done)),
                Answer::Pending => return Ok(None),
                // Asking costs one of the few tries that servers allow, and of a key that is not known nothing is new.
                Answer::Refused if matches!(self.method, LoginMethod::PrivateKey { .. }) => {
                    return Ok(Some(Login::Refused(offered.clone())));
                }
                Answer::Refused | Answer::NotEnough => self.stage = Stage::After,
            }
        }
    }

    /// libssh2 keeps to itself that a method was accepted in part: but then it is offered no more.
    fn judge(&self, before: Vec<String>, now: Vec<String>) -> Login {
        let is_in = |list: &[String]| list.iter().any(|name| name == self.method.name());
        if is_in(&before) && !is_in(&now) { Login::Partial(now) } else { Login::Refused(now) }
    }
}

/// What the peer offers; `None`: it has to answer first. Empty after a login.
pub(super) fn methods(session: &ssh2::Session, user: &str) -> Result<Option<Vec<String>>, SshError> {
    match session.auth_methods(user) {
        Ok(list) => Ok(Some(list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())),
        Err(error) if is_again(&error) => Ok(None),
        Err(error) => Err(lost(&error)),
    }
}

fn agent(session: &ssh2::Session, socket: &Path) -> Result<Stage, SshError> {
    let unusable = |error: ssh2::Error| SshError::Unusable {
        what: format!("the agent at {}", socket.display()),
        reason: error.message().to_owned(),
    };
    let mut agent = session.agent().map_err(unusable)?;
    agent.set_identity_path(socket).map_err(unusable)?;
    agent.connect().map_err(unusable)?;
    agent.list_identities().map_err(unusable)?;
    let mut keys = agent.identities().map_err(unusable)?;
    keys.reverse();
    Ok(Stage::Keys(agent, keys))
}

fn attempt(session: &ssh2::Session, user: &str, method: &LoginMethod) -> Result<Answer, SshError> {
    match method {
        LoginMethod::Password(password) => answer(session.userauth_password(user, password.expose()), "the password"),
        LoginMethod::KeyboardInteractive(responder) => {
            answer(session.userauth_keyboard_interactive(user, &mut Prompter(responder)), "the answers")
        }
        LoginMethod::PrivateKey { private, certificate, passphrase } => {
            let passphrase = passphrase.as_ref().map(kiln_core::Secret::expose);
            let done = session.userauth_pubkey_memory(user, certificate.as_deref(), private.expose(), passphrase);
            answer(done, "the private key")
        }
        LoginMethod::None | LoginMethod::Agent { .. } => Ok(Answer::Refused),
    }
}

fn answer(done: Result<(), ssh2::Error>, what: &str) -> Result<Answer, SshError> {
    let Err(error) = done else { return Ok(Answer::Accepted) };
    match error.code() {
        _ if is_again(&error) => Ok(Answer::Pending),
        _ if is_fatal(&error) => Err(lost(&error)),
        ErrorCode::Session(raw::LIBSSH2_ERROR_AUTHENTICATION_FAILED | raw::LIBSSH2_ERROR_AGENT_PROTOCOL) => {
            Ok(Answer::Refused)
        }
        ErrorCode::Session(raw::LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED) => Ok(Answer::NotEnough),
        _ => Err(SshError::Unusable { what: what.to_owned(), reason: error.message().to_owned() }),
    }
}

struct Prompter<'a>(&'a Responder);

impl KeyboardInteractivePrompt for Prompter<'_> {
    fn prompt<'a>(&mut self, _user: &str, instructions: &str, prompts: &[ssh2::Prompt<'a>]) -> Vec<String> {
        let prompts: Vec<Prompt> =
            prompts.iter().map(|prompt| Prompt { text: prompt.text.to_string(), echo: prompt.echo }).collect();
        (self.0)(instructions, &prompts).iter().map(|answer| answer.expose().to_owned()).collect()
    }
}
