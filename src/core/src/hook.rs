//! What runs on this host when a build has ended, and what it is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::context::BuildContext;
use crate::diagnostic::Diagnostics;
use crate::failure::Failure;
use crate::kinds::PrepareContext;
use crate::plan::ComponentSpec;
use crate::schema::{Decoded, Schema};

/// How long a hook may take where the template does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// After which builds a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookEvent {
    /// Those that ended well.
    Success,
    /// Those that failed.
    Failure,
    /// All that began, cancelled ones too.
    Always,
}

impl HookEvent {
    /// All of them, in the order in which those run that fit.
    pub const ALL: [HookEvent; 3] = [HookEvent::Success, HookEvent::Failure, HookEvent::Always];

    /// The block in a template.
    pub fn block(self) -> &'static str {
        match self {
            HookEvent::Success => "on_success",
            HookEvent::Failure => "on_failure",
            HookEvent::Always => "always",
        }
    }

    /// The event of a block.
    pub fn of_block(block: &str) -> Option<HookEvent> {
        HookEvent::ALL.into_iter().find(|event| event.block() == block)
    }
}

/// A hook as it stands in the template.
#[derive(Debug, Clone)]
pub struct HookSpec {
    /// When it runs.
    pub event: HookEvent,
    /// Its arguments; its kind is the block's name.
    pub component: ComponentSpec,
    /// Bound on it.
    pub timeout: Duration,
}

/// The kind of all hooks.
pub trait HookKind: Send + Sync {
    /// Its arguments.
    fn schema(&self) -> &'static Schema;

    /// As [`crate::BuilderKind::prepare`].
    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Hook>>;
}

/// A configured hook.
#[async_trait]
pub trait Hook: Send + Sync {
    /// Runs it with facts of the build in its environment. Heeds `context.cancel`.
    async fn run(&self, facts: BTreeMap<String, String>, context: &BuildContext) -> Result<(), Failure>;
}
