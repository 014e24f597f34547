//! SSH: sessions, logins, host keys, and the communicator over them.

mod address;
mod algorithms;
mod connect;
pub mod hostkey;
pub mod keys;
pub mod options;
mod pin;
mod policy;
mod process;
mod tunnel;

pub use connect::Endpoint;
pub use hostkey::HostKey;
pub use keys::{KeyKind, KeyPair};
pub use options::{FIELDS, SshOptions};
pub use policy::{HostKeyJudge, HostKeyPolicy, Verdict};
pub use process::SshProcess;
pub use tunnel::Tunnel;
