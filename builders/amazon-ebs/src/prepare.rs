//! The kind `amazon-ebs`: from arguments to a builder, all mistakes at once, without a call.

use std::sync::Arc;

use kiln_core::{Builder, BuilderKind, Decoded, Diagnostics, PrepareContext, Schema};
use kiln_ssh::SshOptions;

use crate::AmazonSettings;
use crate::access::{Connections, access};
use crate::check::Check;
use crate::config::Config;
use crate::launch::AmazonBuilder;
use crate::schema::AMAZON_EBS;
use crate::source::FACTS;
use crate::undo::AmazonUndoer;

/// The kind `amazon-ebs`.
pub struct AmazonEbsKind {
    settings: AmazonSettings,
    connections: Arc<Connections>,
}

impl AmazonEbsKind {
    /// Works with these clouds.
    pub fn new(settings: AmazonSettings) -> AmazonEbsKind {
        let connections = Arc::new(Connections::new(Arc::clone(&settings.clouds)));
        AmazonEbsKind { settings, connections }
    }

    /// Undoes what builds of this kind made, with the keys that those of this process were given.
    pub fn undoer(&self) -> AmazonUndoer {
        AmazonUndoer::new(Arc::clone(&self.connections), self.settings.pace)
    }
}

impl BuilderKind for AmazonEbsKind {
    fn schema(&self) -> &'static Schema {
        &AMAZON_EBS
    }

    fn fact_names(&self) -> &'static [&'static str] {
        FACTS
    }

    fn prepare(
        &self,
        decoded: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let config: Config = decoded.read_or_tell(diagnostics)?;
        let ssh = SshOptions::read(decoded, &self.settings.ssh, context, diagnostics);
        let mut check = Check::new(decoded, &config);
        check.all(ssh.as_ref());
        let found = check.found;
        let is_wrong = found.has_errors();
        diagnostics.extend(found);
        let ssh = ssh.filter(|_| !is_wrong)?;
        Some(Arc::new(AmazonBuilder {
            access: access(&config),
            config: Arc::new(config),
            ssh,
            settings: self.settings.clone(),
            connections: Arc::clone(&self.connections),
        }))
    }
}
