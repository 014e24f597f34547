//! The arguments as read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use kiln_core::Secret;
use kiln_registry::EcrOptions;
use serde::Deserialize;

use crate::fixed::ImmutableTags;

/// When a registry is asked for the base image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum Pull {
    #[default]
    #[serde(rename = "true", alias = "always")]
    Always,
    #[serde(rename = "missing")]
    Missing,
    #[serde(rename = "false", alias = "never")]
    Never,
}

/// What to do with a secret in a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SecretScan {
    #[default]
    Fail,
    Warn,
    Off,
}

/// How many layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layers {
    #[default]
    Squash,
    PerStep,
}

/// Media types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Oci,
    Docker,
}

/// A level of isolation by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IsolationName {
    Ns,
    Userns,
    Chroot,
}

/// The arguments of a source; those of a `docker` source too, as far as they mean something here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    pub(crate) from: Option<serde_json::Value>,
    pub(crate) image: Option<String>,
    #[serde(default)]
    pub(crate) pull: Pull,
    pub(crate) platform: Option<String>,
    pub(crate) commit: Option<bool>,
    #[serde(default)]
    pub(crate) discard: bool,
    pub(crate) export_path: Option<PathBuf>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) push: Vec<String>,
    #[serde(default)]
    pub(crate) immutable_tags: ImmutableTags,
    pub(crate) oci_layout: Option<PathBuf>,
    pub(crate) docker_archive: Option<PathBuf>,
    #[serde(default)]
    pub(crate) load: bool,
    #[serde(default)]
    pub(crate) changes: Vec<String>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) author: Option<String>,
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) layers: Layers,
    pub(crate) compression: Option<String>,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) secret_scan: SecretScan,
    pub(crate) kiln_labels: Option<bool>,
    pub(crate) isolation: Option<IsolationName>,
    pub(crate) network: Option<String>,
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
    #[serde(default)]
    pub(crate) run_command: Vec<String>,
    pub(crate) exec_user: Option<String>,
    #[serde(default)]
    pub(crate) pty: bool,
    #[serde(default = "yes")]
    pub(crate) fix_upload_owner: bool,
    #[serde(default)]
    pub(crate) login: bool,
    pub(crate) login_server: Option<String>,
    pub(crate) login_username: Option<String>,
    pub(crate) login_password: Option<Secret>,
    #[serde(flatten)]
    pub(crate) ecr: EcrOptions,
    #[serde(default)]
    pub(crate) insecure_registries: Vec<String>,
    #[serde(default)]
    pub(crate) registry_ca_files: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) registry_mirrors: BTreeMap<String, String>,
    pub(crate) communicator: Option<String>,
}

fn yes() -> bool {
    true
}
