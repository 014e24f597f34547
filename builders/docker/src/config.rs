//! The arguments as read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use kiln_core::Secret;
use kiln_registry::EcrOptions;
use kiln_services::Pull;
use serde::Deserialize;

/// `build { ... }`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BuildBlock {
    #[serde(default)]
    pub(crate) path: PathBuf,
    #[serde(default = "here")]
    pub(crate) build_dir: PathBuf,
    #[serde(default)]
    pub(crate) arguments: BTreeMap<String, String>,
    #[serde(default = "yes")]
    pub(crate) pull: bool,
    #[serde(default)]
    pub(crate) compress: bool,
}

fn here() -> PathBuf {
    PathBuf::from(".")
}

fn yes() -> bool {
    true
}

fn always() -> Pull {
    Pull::Always
}

/// The arguments of a source.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub(crate) image: Option<String>,
    pub(crate) build: Option<BuildBlock>,
    #[serde(default)]
    pub(crate) commit: bool,
    #[serde(default)]
    pub(crate) discard: bool,
    pub(crate) export_path: Option<PathBuf>,
    #[serde(default = "always")]
    pub(crate) pull: Pull,
    #[serde(default)]
    pub(crate) changes: Vec<String>,
    pub(crate) author: Option<String>,
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) run_command: Vec<String>,
    #[serde(default)]
    pub(crate) volumes: IndexMap<String, String>,
    #[serde(default)]
    pub(crate) tmpfs: Vec<String>,
    #[serde(default)]
    pub(crate) device: Vec<String>,
    #[serde(default)]
    pub(crate) cap_add: Vec<String>,
    #[serde(default)]
    pub(crate) cap_drop: Vec<String>,
    #[serde(default)]
    pub(crate) privileged: bool,
    pub(crate) runtime: Option<String>,
    pub(crate) platform: Option<String>,
    #[serde(default)]
    pub(crate) platform_hosts: BTreeMap<String, String>,
    pub(crate) network: Option<String>,
    #[serde(default)]
    pub(crate) share_network: bool,
    pub(crate) container_dir: Option<String>,
    pub(crate) exec_user: Option<String>,
    #[serde(default)]
    pub(crate) pty: bool,
    #[serde(default = "yes")]
    pub(crate) fix_upload_owner: bool,
    #[serde(default = "yes")]
    pub(crate) kiln_labels: bool,
    #[serde(default)]
    pub(crate) login: bool,
    pub(crate) login_server: Option<String>,
    pub(crate) login_username: Option<String>,
    pub(crate) login_password: Option<Secret>,
    #[serde(flatten)]
    pub(crate) ecr: EcrOptions,
    #[serde(default)]
    pub(crate) windows_container: bool,
    pub(crate) communicator: Option<String>,
}
