//! The `amazon-ebs` source: an EC2 instance, provisioned over SSH, stopped, and made an AMI.
//!
//! ```text
//!   look: regions, name, source AMI, network          nothing is made yet
//!     └► key pair, security group, instance profile ─► instance ─► SSH ─► steps
//!                                                                          │
//!        artifact ◄─ attributes ◄─ copies ◄─ image ◄─ stopped instance ◄───┘
//! ```
//!
//! Each thing is written into the journal before the call that makes it, by what kiln chose: names, client tokens, tags. Who
//! loses an answer, or the whole process, finds it again by those.
//!
//! Owns: the source's arguments, the steps of launching and sealing, and how each is undone. Must not know: any SDK (the
//! cloud is behind [`cloud::Cloud`]), any provisioner or post-processor.

mod access;
mod accounts;
mod artifact;
mod attributes;
mod check;
pub mod cloud;
mod cloud_values;
mod config;
mod copies;
mod devices;
mod error;
#[cfg(test)]
mod fake;
mod group;
mod hostkey;
mod image;
mod instance;
mod keypair;
mod launch;
mod machine;
mod marks;
mod network;
mod pace;
mod prepare;
mod profile;
mod reach;
mod remove;
mod request;
mod schema;
mod session;
mod source;
mod spot;
#[cfg(test)]
mod tests;
mod undo;
mod userdata;

use std::sync::Arc;

use kiln_ssh::SshProcess;

pub use pace::Pace;
pub use prepare::AmazonEbsKind;
pub use reach::{OverSsh, Reach};
pub use schema::ACCESS as ACCESS_FIELDS;
pub use undo::AmazonUndoer;

/// What the source needs from outside.
#[derive(Clone)]
pub struct AmazonSettings {
    /// The clouds.
    pub clouds: Arc<dyn cloud::Clouds>,
    /// Home and environment, for SSH.
    pub ssh: SshProcess,
    /// How machines are logged in to.
    pub reach: Arc<dyn Reach>,
    /// How often states are asked for.
    pub pace: Pace,
}

impl AmazonSettings {
    /// The usual ones.
    pub fn new(clouds: Arc<dyn cloud::Clouds>, ssh: SshProcess) -> AmazonSettings {
        AmazonSettings { clouds, reach: Arc::new(OverSsh(ssh.clone())), ssh, pace: Pace::default() }
    }
}
