//! The options of a source that is reached over SSH: what they are called, what they mean together, what is wrong with
//! them.

mod check;
mod fields;
mod raw;

use std::path::PathBuf;
use std::time::Duration;

use kiln_core::{Decoded, Diagnostics, PrepareContext, Secret};

pub use fields::FIELDS;

use crate::keys::KeyKind;
use crate::process::SshProcess;
use crate::tunnel::Tunnel;

/// SSH's port.
pub const DEFAULT_PORT: u16 = 22;

/// Whether and how the machine is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Over SSH.
    #[default]
    Ssh,
    /// Not at all: `communicator = "none"`.
    None,
}

/// How files travel, as the template says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileTransfer {
    /// A stream of tar through a command, and SFTP where there is no `tar`.
    #[default]
    Tar,
    /// SFTP.
    Sftp,
    /// SCP's old protocol.
    Scp,
}

/// A private key that the template names or holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, `~/` resolved.
    File(PathBuf),
    /// Its text.
    Text(Secret),
}

/// How to log in; what is absent is not tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoginOptions {
    /// The password.
    pub password: Option<Secret>,
    /// The private key.
    pub key: Option<KeySource>,
    /// The certificate for it.
    pub certificate_file: Option<PathBuf>,
    /// Whether the agent's keys are tried.
    pub agent: bool,
    /// Whether the person at the terminal is asked what the server asks for.
    pub is_interactive: bool,
}

impl LoginOptions {
    /// Whether there is anything to try.
    pub fn is_empty(&self) -> bool {
        self.password.is_none() && self.key.is_none() && !self.agent && !self.is_interactive
    }
}

/// A host to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BastionOptions {
    /// Name or address.
    pub host: String,
    /// Port, where it is written.
    pub port: Option<u16>,
    /// User, where it is written.
    pub user: Option<String>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyKind {
    /// SOCKS version 5; names are resolved by the proxy.
    #[default]
    Socks5,
    /// HTTP's CONNECT.
    Http,
}

/// A proxy to go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyOptions {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

/// How long and how often to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// `ssh_timeout`: in all; without end where absent.
    pub timeout: Option<Duration>,
    /// `ssh_handshake_attempts`: refused logins; any number where absent.
    pub attempts: Option<u32>,
}

/// All options, checked.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// `communicator`.
    pub reach: Reach,
    /// `pause_before_connecting`.
    pub pause_before_connecting: Duration,
    /// `ssh_host`.
    pub host: Option<String>,
    /// `ssh_port`, where it is set.
    pub port: Option<u16>,
    /// `ssh_username`.
    pub user: Option<String>,
    /// How to log in to the machine.
    pub login: LoginOptions,
    /// `ssh_agent_forwarding`, or `false` for `ssh_disable_agent_forwarding`.
    pub lends_agent: Option<bool>,
    /// `ssh_keypair_name`.
    pub keypair_name: Option<String>,
    /// `temporary_key_pair_name`.
    pub temporary_key_pair_name: Option<String>,
    /// `temporary_key_pair_type` and `temporary_key_pair_bits`.
    pub temporary_key_kind: KeyKind,
    /// `ssh_clear_authorized_keys`.
    pub clears_authorized_keys: bool,
    /// `ssh_ciphers`.
    pub ciphers: Vec<String>,
    /// `ssh_key_exchange_algorithms`.
    pub key_exchange: Vec<String>,
    /// `ssh_pty`.
    pub pty: bool,
    /// `ssh_timeout` and `ssh_handshake_attempts`.
    pub patience: Patience,
    /// `ssh_keep_alive_interval`; none where it is below zero.
    pub keep_alive: Option<Duration>,
    /// `ssh_read_write_timeout`.
    pub read_write_timeout: Option<Duration>,
    /// `ssh_file_transfer_method`.
    pub file_transfer: FileTransfer,
    /// `ssh_bastion_host`: one after the other.
    pub bastions: Vec<BastionOptions>,
    /// How to log in to them.
    pub bastion_login: LoginOptions,
    /// `ssh_proxy_host`.
    pub proxy: Option<ProxyOptions>,
    /// `ssh_local_tunnels`.
    pub local_tunnels: Vec<Tunnel>,
    /// `ssh_remote_tunnels`.
    pub remote_tunnels: Vec<Tunnel>,
    /// `ssh_host_key`.
    pub host_keys: Vec<String>,
    /// `ssh_bastion_host_key`.
    pub bastion_host_keys: Vec<String>,
    /// `ssh_known_hosts_file`.
    pub known_hosts_file: Option<PathBuf>,
    /// `ssh_accept_any_host_key`.
    pub accepts_any_host_key: bool,
    /// `ssh_config_file`.
    pub config_file: Option<PathBuf>,
}

impl SshOptions {
    /// Decodes and checks the options of a source; all mistakes go into `diagnostics`, and `None` comes back only with at
    /// least one error there. Files that are named are looked at. Whether there are a host, a user (`ssh_username` is asked
    /// for here unless a configuration may name one) and a way to log in is the builder's to say.
    pub fn read(
        config: &Decoded,
        process: &SshProcess,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<SshOptions> {
        check::read(config, process, context, diagnostics)
    }

    /// The port, SSH's where none is set.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }
}

#[cfg(test)]
mod tests;
