//! The options as they stand in a template.

use std::time::Duration;

use kiln_core::{Secret, duration};
use serde::Deserialize;

/// Named as in the template.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    pub(super) communicator: Option<String>,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub(super) pause_before_connecting: Option<Duration>,
    pub(super) ssh_host: Option<String>,
    pub(super) ssh_port: Option<i64>,
    pub(super) ssh_username: Option<String>,
    pub(super) ssh_password: Option<Secret>,
    pub(super) ssh_private_key_file: Option<String>,
    pub(super) ssh_private_key: Option<serde_json::Value>,
    pub(super) ssh_certificate_file: Option<String>,
    pub(super) ssh_agent_auth: bool,
    pub(super) ssh_agent_forwarding: bool,
    pub(super) ssh_disable_agent_forwarding: bool,
    pub(super) ssh_keypair_name: Option<String>,
    pub(super) temporary_key_pair_name: Option<String>,
    pub(super) temporary_key_pair_type: Option<String>,
    pub(super) temporary_key_pair_bits: Option<i64>,
    pub(super) ssh_clear_authorized_keys: bool,
    pub(super) ssh_ciphers: Vec<String>,
    pub(super) ssh_key_exchange_algorithms: Vec<String>,
    pub(super) ssh_pty: bool,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub(super) ssh_timeout: Option<Duration>,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub(super) ssh_wait_timeout: Option<Duration>,
    pub(super) ssh_handshake_attempts: Option<i64>,
    pub(super) ssh_keep_alive_interval: Option<String>,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub(super) ssh_read_write_timeout: Option<Duration>,
    pub(super) ssh_file_transfer_method: Option<String>,
    pub(super) ssh_bastion_host: Option<String>,
    pub(super) ssh_bastion_port: Option<i64>,
    pub(super) ssh_bastion_username: Option<String>,
    pub(super) ssh_bastion_password: Option<Secret>,
    pub(super) ssh_bastion_interactive: bool,
    pub(super) ssh_bastion_agent_auth: bool,
    pub(super) ssh_bastion_private_key_file: Option<String>,
    pub(super) ssh_bastion_certificate_file: Option<String>,
    pub(super) ssh_proxy_host: Option<String>,
    pub(super) ssh_proxy_port: Option<i64>,
    pub(super) ssh_proxy_username: Option<String>,
    pub(super) ssh_proxy_password: Option<Secret>,
    pub(super) ssh_proxy_type: Option<String>,
    pub(super) ssh_local_tunnels: Vec<String>,
    pub(super) ssh_remote_tunnels: Vec<String>,
    pub(super) ssh_host_key: Vec<String>,
    pub(super) ssh_bastion_host_key: Vec<String>,
    pub(super) ssh_known_hosts_file: Option<String>,
    pub(super) ssh_accept_any_host_key: bool,
    pub(super) ssh_config_file: Option<String>,
}
