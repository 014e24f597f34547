//! The arguments as read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use kiln_core::Secret;
use kiln_registry::EcrOptions;
use serde::Deserialize;

/// When images in `FROM` are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum Pull {
    #[serde(rename = "always", alias = "true")]
    Always,
    #[default]
    #[serde(rename = "missing")]
    Missing,
    #[serde(rename = "never", alias = "false")]
    Never,
}

fn yes() -> bool {
    true
}

fn here() -> String {
    ".".to_owned()
}

/// The arguments of a source.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    #[serde(default = "here")]
    pub(crate) context: String,
    pub(crate) dockerfile: Option<PathBuf>,
    pub(crate) dockerfile_inline: Option<String>,
    #[serde(default)]
    pub(crate) build_args: BTreeMap<String, String>,
    pub(crate) target: Option<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default = "yes")]
    pub(crate) kiln_labels: bool,
    #[serde(default)]
    pub(crate) secrets: BTreeMap<String, Secret>,
    #[serde(default)]
    pub(crate) secret_files: BTreeMap<String, PathBuf>,
    #[serde(default)]
    pub(crate) secret_env: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) ssh: Vec<String>,
    #[serde(default)]
    pub(crate) contexts: IndexMap<String, String>,
    #[serde(default)]
    pub(crate) cache_from: Vec<String>,
    #[serde(default)]
    pub(crate) cache_to: Vec<String>,
    pub(crate) platform: Option<String>,
    #[serde(default)]
    pub(crate) platform_hosts: BTreeMap<String, String>,
    pub(crate) network: Option<String>,
    #[serde(default)]
    pub(crate) no_cache: bool,
    #[serde(default)]
    pub(crate) pull: Pull,
    #[serde(default)]
    pub(crate) extra_hosts: Vec<String>,
    pub(crate) shm_size: Option<String>,
    #[serde(default)]
    pub(crate) ulimit: Vec<String>,
    pub(crate) buildkitd: Option<String>,
    pub(crate) buildkitd_ca: Option<PathBuf>,
    pub(crate) buildkitd_cert: Option<PathBuf>,
    pub(crate) buildkitd_key: Option<PathBuf>,
    #[serde(default)]
    pub(crate) login: bool,
    pub(crate) login_server: Option<String>,
    pub(crate) login_username: Option<String>,
    pub(crate) login_password: Option<Secret>,
    #[serde(flatten)]
    pub(crate) ecr: EcrOptions,
}
