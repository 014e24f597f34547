//! The `ansible-local` provisioner: brings playbooks to the machine and runs the Ansible that is there.
//!
//! Owns: the arguments, where files go on the machine, the command lines. Must not know: any builder.

mod prepare;
mod run;
mod schema;

use std::sync::Arc;

use kiln_core::{Decoded, Diagnostics, PrepareContext, Provisioner, ProvisionerKind, Schema};

pub use schema::SCHEMA;

/// The kind `ansible-local`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AnsibleLocalKind;

impl ProvisionerKind for AnsibleLocalKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        let step = prepare::read(config, diagnostics)?;
        Some(Arc::new(step))
    }
}

#[cfg(test)]
mod tests;
