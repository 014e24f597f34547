//! What to do when a push fails: the registry's words, and what usually lies behind them.

use kiln_docker::EngineError;
use kiln_registry::{Credentials, Origin, Reference, RegistryError};

use crate::error::PublishError;

/// What a push was tried with.
#[derive(Debug, Default)]
pub(super) struct Login {
    pub(super) credentials: Option<Credentials>,
    /// Where they come from; `None` for the block's own.
    pub(super) origin: Option<Origin>,
    /// The registry of a login in the block that was not used, because it is for another one.
    pub(super) own_server: Option<String>,
}

/// One sentence each; none where the error speaks for itself.
pub(super) fn hints(error: &PublishError, reference: &Reference, login: &Login, engine: &str) -> Vec<String> {
    let source = match error {
        PublishError::Push { source, .. } => source,
        PublishError::Registry { source: RegistryError::Denied { reason, .. }, .. }
        | PublishError::Unknown { source: RegistryError::Denied { reason, .. }, .. } => {
            return refusal_hints(reference, login, &reason.to_lowercase());
        }
        PublishError::Registry { source, .. } => return source.hints(),
        _ => return Vec::new(),
    };
    let EngineError::Refused { message, .. } = source else { return source.hints() };
    let message = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    let registry = &reference.registry;
    if has(&["denied", "unauthorized", "authentication required", "no basic auth credentials", "insufficient_scope"]) {
        return refusal_hints(reference, login, &message);
    }
    let hint = if has(&["http response to https client"]) {
        format!(
            "{registry} speaks plain HTTP, which the engine allows on 127.0.0.0/8 only: give the registry a certificate, or list it under `insecure-registries` in the engine's daemon.json (podman: with `insecure = true` in registries.conf)."
        )
    } else if has(&["x509", "certificate"]) {
        format!(
            "The engine does not trust the certificate of {registry}: put its authority into /etc/docker/certs.d/{registry}/ca.crt on the engine's host."
        )
    } else if has(&["connection refused", "no such host", "i/o timeout", "no route to host"]) {
        format!(
            "It is the engine at {engine} that must reach {registry}, not this host: check the registry's name and that it runs."
        )
    } else if has(&["toomanyrequests", "too many requests", "429"]) {
        format!("{registry} limits how much is pushed: try again later, or log in if you did not.")
    } else if has(&["no space left", "quota"]) {
        format!("{registry} is full: remove old tags there.")
    } else {
        return Vec::new();
    };
    vec![hint]
}

fn refusal_hints(reference: &Reference, login: &Login, message: &str) -> Vec<String> {
    let registry = &reference.registry;
    let mut hints = Vec::new();
    if let Some(server) = &login.own_server {
        hints.push(format!(
            "The login of this docker-push is for {server}; set `login_server = \"{registry}\"` if it is meant for this registry."
        ));
    }
    let is_gitlab_job = matches!(login.origin, Some(Origin::Variable("CI_REGISTRY_USER" | "CI_JOB_TOKEN")));
    // The realm refuses a wrong password itself; a right one without the right comes back as "denied".
    let is_wrong_password = message.contains("access denied") || message.contains("incorrect username or password");
    match (&login.credentials, &login.origin) {
        (Some(_), Some(origin)) if is_wrong_password => hints.push(format!(
            "{registry} refused the login from {origin}: check that the password that belongs to it is set, right, and not expired."
        )),
        _ if is_gitlab_job => {
            hints.push(
                "GitLab's job token pushes only to the registry of its own project: the name must begin with $CI_REGISTRY_IMAGE, and have at most two levels more.".to_owned(),
            );
            hints.push(
                "For another project, log in with a deploy token of that project that has the scope write_registry.".to_owned(),
            );
        }
        (Some(_), Some(origin)) => {
            hints.push(format!("The login is from {origin}: check that it may push to {}.", reference.repository));
        }
        (Some(_), None) => hints.push(format!(
            "Check `login_username` and `login_password`, and that this user may push to {}.",
            reference.repository
        )),
        (None, _) => hints.push(format!(
            "No login was found for {registry} (in GitLab CI, is CI_REGISTRY_PASSWORD empty? protected variables are, on branches that are not): run `docker login {registry}`, or set `login`, `login_server`, `login_username` and `login_password`."
        )),
    }
    if registry == kiln_registry::reference::DOCKER_HUB {
        hints.push(
            "The name has no registry in front, so it goes to Docker Hub: write `registry.example.org/group/image` for another.".to_owned(),
        );
    }
    hints
}
