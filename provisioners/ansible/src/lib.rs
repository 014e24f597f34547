//! The `ansible` provisioner: runs `ansible-playbook` of this host against the machine.
//!
//! Machines that OpenSSH reaches are handed to Ansible's own `ssh` connection, with the host keys that kiln verified. All
//! others are reached through kiln: a connection plug-in, which lies in the build's scratch directory, asks over a unix
//! socket, and the machine's communicator does what it asks. A callback plug-in tells what becomes of each task.
//!
//! Owns: the arguments, the inventory, the plug-ins and their socket. Must not know: any builder.

mod arguments;
mod configuration;
mod error;
mod galaxy;
mod inputs;
mod inventory;
mod native;
mod pipe;
mod prepare;
mod process;
mod program;
mod results;
mod run;
mod schema;
mod service;
mod workspace;

use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::plan::ProcessEnvironment;
use kiln_core::{Decoded, Diagnostics, PrepareContext, Provisioner, ProvisionerKind, Schema};

pub use schema::SCHEMA;

/// What the provisioner is told of the process that it runs in.
#[derive(Debug, Clone, Default)]
pub struct AnsibleSettings {
    /// The environment: `PATH` finds Ansible, `ANSIBLE_*` configures it.
    pub environment: ProcessEnvironment,
    /// The user's home, where Ansible looks for its configuration.
    pub home: Option<PathBuf>,
    /// Whether Ansible's output may be coloured.
    pub color: bool,
}

/// The kind `ansible`.
#[derive(Debug, Clone, Default)]
pub struct AnsibleKind {
    settings: AnsibleSettings,
}

impl AnsibleKind {
    /// With these settings.
    pub fn new(settings: AnsibleSettings) -> AnsibleKind {
        AnsibleKind { settings }
    }
}

impl ProvisionerKind for AnsibleKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        let playbook = prepare::read(config, context, &self.settings, diagnostics)?;
        Some(Arc::new(playbook))
    }
}

#[cfg(test)]
mod tests;
