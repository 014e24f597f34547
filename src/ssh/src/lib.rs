//! SSH: sessions, logins, host keys, and the communicator over them.

mod address;
mod algorithms;
mod certificate;
pub mod communicator;
mod connect;
mod error;
pub mod hostkey;
pub mod keys;
pub mod known_hosts;
pub mod options;
mod pattern;
mod pin;
mod policy;
mod process;
pub mod session;
mod tunnel;

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
