//! Who we are at a registry, and where that was found.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use kiln_core::{Failure, Secret};

use crate::ecr::Amazon;
use crate::helper;
use crate::reference::normalize_registry;
use crate::store::{Entry, Store};

/// A login at one registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The user; empty with an identity token.
    pub username: String,
    /// The password or access token.
    pub password: Secret,
    /// An OAuth refresh token, from a credential helper or docker's configuration.
    pub identity_token: Option<Secret>,
}

/// Credentials and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The login.
    pub credentials: Credentials,
    /// For the message: `logging in with CI_REGISTRY_USER`.
    pub origin: Origin,
}

/// Where credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// This program, as this file says.
    Helper {
        /// `docker-credential-pass`.
        program: String,
        /// The file (or variable) that names it.
        named_in: String,
    },
    /// This variable of the environment.
    Variable(&'static str),
    /// AWS, for one of its own registries.
    Amazon,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path) => write!(formatter, "{}", path.display()),
            Origin::Helper { program, named_in } => write!(formatter, "{program} (named in {named_in})"),
            Origin::Variable(name) => formatter.write_str(name),
            Origin::Amazon => formatter.write_str("AWS"),
        }
    }
}

/// Why credentials cannot be read. Never holds what was read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read credentials from {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not JSON.
    #[error("{origin} is not JSON: line {line}, column {column}")]
    Syntax {
        /// The file or variable.
        origin: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// It is JSON, and not what docker or podman write.
    #[error("{origin}: `{place}` {problem}")]
    Malformed {
        /// The file or variable.
        origin: String,
        /// Where in it, e.g. `auths."registry.example.org".auth`.
        place: String,
        /// What is wrong, e.g. `is not base64`.
        problem: &'static str,
    },
    /// The helper is not installed.
    #[error("{named_in} names the credential helper {program} for {registry}, which is in no directory of PATH")]
    HelperMissing {
        /// `docker-credential-pass`.
        program: String,
        /// The file that names it.
        named_in: String,
        /// Whose credentials were wanted.
        registry: String,
    },
    /// The helper could not be run.
    #[error("cannot run the credential helper {program} for {registry}")]
    HelperRun {
        /// `docker-credential-pass`.
        program: String,
        /// Whose credentials were wanted.
        registry: String,
        /// Why.
        source: std::io::Error,
    },
    /// The helper took too long.
    #[error("the credential helper {program} did not answer for {registry} within {seconds} seconds")]
    HelperTimeout {
        /// `docker-credential-pass`.
        program: String,
        /// Whose credentials were wanted.
        registry: String,
        /// The bound.
        seconds: u64,
    },
    /// The helper failed.
    #[error("the credential helper {program} failed for {registry}: {message}")]
    HelperFailed {
        /// `docker-credential-pass`.
        program: String,
        /// Whose credentials were wanted.
        registry: String,
        /// Its own words, or its exit status; one line.
        message: String,
    },
    /// AWS was to give the password.
    #[error("cannot log in to {registry}: AWS gives no password")]
    Amazon {
        /// Whose credentials were wanted.
        registry: String,
        /// Why.
        source: Failure,
    },
}

/// Where credentials are looked for; the caller reads the environment and the home, this crate does not.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// Directories that may hold docker's `config.json`, or files in podman's `auth.json` form; earlier ones win.
    pub files: Vec<PathBuf>,
    /// The environment: `CI_REGISTRY`, `CI_REGISTRY_USER`, `CI_REGISTRY_PASSWORD`, `CI_JOB_TOKEN`, `PATH` for helpers.
    pub environment: BTreeMap<String, String>,
    /// Amazon's registries, where `ecr_login` is set.
    pub amazon: Amazon,
}

/// GitLab CI's variables: the registry, then the users to try with their passwords. A user in lower case is the user
/// itself, as the job token's has no variable.
const GITLAB: &[(&str, &str, &str)] = &[
    ("CI_REGISTRY", "CI_REGISTRY_USER", "CI_REGISTRY_PASSWORD"),
    ("CI_REGISTRY", "gitlab-ci-token", "CI_JOB_TOKEN"),
    ("CI_REGISTRY", "CI_DEPLOY_USER", "CI_DEPLOY_PASSWORD"),
    ("CI_DEPENDENCY_PROXY_SERVER", "CI_DEPENDENCY_PROXY_USER", "CI_DEPENDENCY_PROXY_PASSWORD"),
];

impl CredentialSources {
    /// The usual places, for an environment and a home that the caller read: `$REGISTRY_AUTH_FILE`; `$DOCKER_CONFIG`, or
    /// else `~/.docker`; `$XDG_RUNTIME_DIR/containers/auth.json`; `$XDG_CONFIG_HOME/containers/auth.json`, or else below
    /// `~/.config`. None of them needs to exist.
    pub fn usual(environment: BTreeMap<String, String>, home: Option<&Path>) -> CredentialSources {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let files = [
            variable("REGISTRY_AUTH_FILE"),
            variable("DOCKER_CONFIG").or_else(|| home.map(|home| home.join(".docker"))),
            variable("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json")),
            variable("XDG_CONFIG_HOME")
                .or_else(|| home.map(|home| home.join(".config")))
                .map(|directory| directory.join("containers/auth.json")),
        ];
        CredentialSources { files: files.into_iter().flatten().collect(), environment, amazon: Amazon::default() }
    }

    /// Looks for credentials. `registry` is a host with port as [`crate::Reference::registry`] has it; a repository may
    /// follow (`registry.example.org/group/image`), and then podman's narrower keys are found too.
    ///
    /// In this order: AWS, where it is to be asked for its own registries; the variable `DOCKER_AUTH_CONFIG` (docker's configuration as a text), the files, GitLab CI's
    /// variables. Within one file: the helper that it names for this registry, what stands in the file itself, the helper
    /// for all registries. A file that does not exist is passed over; one that cannot be read is an error.
    pub async fn find(&self, registry: &str) -> Result<Option<Found>, CredentialError> {
        let host = registry.split('/').next().unwrap_or(registry);
        let given = self.amazon.find(host).await;
        let given = given.map_err(|source| CredentialError::Amazon { registry: host.to_owned(), source })?;
        if let Some(credentials) = given {
            return Ok(Some(Found { credentials, origin: Origin::Amazon }));
        }
        if let Some(text) = self.variable("DOCKER_AUTH_CONFIG") {
            let store = Store::parse("DOCKER_AUTH_CONFIG", text)?;
            let found = self.find_in(&store, registry, || Origin::Variable("DOCKER_AUTH_CONFIG")).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        for path in &self.files {
            let Some((path, text)) = read(path).await? else { continue };
            let store = Store::parse(&path.display().to_string(), &text)?;
            let found = self.find_in(&store, registry, || Origin::File(path.clone())).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(self.find_in_gitlab(registry))
    }

    async fn find_in(
        &self,
        store: &Store,
        registry: &str,
        origin: impl Fn() -> Origin,
    ) -> Result<Option<Found>, CredentialError> {
        let host = normalize_registry(registry);
        let entry = match store.helper_of(&host)? {
            Some(helper) => Some(Entry::Helper(helper)),
            None => match store.login(registry)? {
                Some(credentials) => Some(Entry::Login(credentials)),
                None => store.helper_of_all()?.map(Entry::Helper),
            },
        };
        match entry {
            None => Ok(None),
            Some(Entry::Login(credentials)) => Ok(Some(Found { credentials, origin: origin() })),
            Some(Entry::Helper(name)) => {
                let call = helper::Call { name: &name, named_in: store.origin(), registry: &host };
                let credentials = helper::get(&call, &self.environment, helper::TIMEOUT).await?;
                let origin = Origin::Helper { program: helper::program(&name), named_in: store.origin().to_owned() };
                Ok(credentials.map(|credentials| Found { credentials, origin }))
            }
        }
    }

    fn find_in_gitlab(&self, registry: &str) -> Option<Found> {
        let host = normalize_registry(registry);
        GITLAB.iter().find_map(|(server, user, password)| {
            if normalize_registry(self.variable(server)?) != host {
                return None;
            }
            let is_variable = user.starts_with("CI_");
            let username = if is_variable { self.variable(user)? } else { user };
            let password_text = self.variable(password)?;
            Some(Found {
                credentials: Credentials {
                    username: username.to_owned(),
                    password: Secret::new(password_text),
                    identity_token: None,
                },
                origin: Origin::Variable(if is_variable { user } else { password }),
            })
        })
    }

    /// A variable that is set and not empty: GitLab leaves masked ones empty in unprotected branches.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Reads a file, or `config.json` in a directory; `None` where there is none.
async fn read(path: &Path) -> Result<Option<(PathBuf, String)>, CredentialError> {
    let is_directory = tokio::fs::metadata(path).await.is_ok_and(|metadata| metadata.is_dir());
    let path = if is_directory { path.join("config.json") } else { path.to_path_buf() };
    match tokio::fs::read_to_string(&path).await {
        Ok(text) => Ok(Some((path, text))),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(CredentialError::Read { path, source }),
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

#[cfg(test)]
pub(crate) mod tests;
