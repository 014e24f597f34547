//! SSH: sessions, logins, host keys, and the communicator over them.

mod access;
mod address;
mod algorithms;
mod certificate;
pub mod communicator;
mod config_file;
mod connect;
mod dial;
mod error;
pub mod hostkey;
mod interactive;
mod keyring;
pub mod keys;
pub mod known_hosts;
mod login;
pub mod options;
mod pattern;
mod pin;
mod policy;
mod process;
mod proxy;
mod route;
pub mod session;
mod sftp;
mod trust;
mod tunnel;
mod walk;

pub use communicator::{Connector, Habits, SshCommunicator, Transfer};
pub use connect::{Endpoint, connect};
pub use error::SshError;
pub use hostkey::HostKey;
pub use keys::{KeyKind, KeyPair};
pub use options::{FIELDS, SshOptions};
pub use policy::{HostKeyJudge, HostKeyPolicy, Verdict};
pub use process::SshProcess;
pub use session::Session;
pub use tunnel::Tunnel;

#[cfg(test)]
mod garbage;
#[cfg(test)]
mod test_support;
