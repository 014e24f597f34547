//! Who we are at a registry.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_core::Secret;

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

/// Where credentials are looked for; the caller reads the environment and the home, this crate does not.
#[derive(Debug, Clone, Default)]
pub struct CredentialSources {
    /// Directories that may hold docker's `config.json`, or files in podman's `auth.json` form; earlier ones win.
    pub files: Vec<PathBuf>,
    /// The environment: `CI_REGISTRY`, `CI_REGISTRY_USER`, `CI_REGISTRY_PASSWORD`, `CI_JOB_TOKEN`, `PATH` for helpers.
    pub environment: BTreeMap<String, String>,
}
