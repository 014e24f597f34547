//! What every part of a running build is given.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::event::Events;
use crate::failure::Failure;
use crate::journal::Journal;
use crate::origin::Origin;
use crate::plan::{Facts, TextScope};
use crate::redact::Redactor;

/// Settings of a run that components may heed.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `-force`: overwrite what an earlier run left.
    pub force: bool,
    /// `-debug`.
    pub debug: bool,
    /// Where the template comes from, for labels.
    pub origin: Origin,
    /// Nothing may be made or fetched: what a run would do is asked for (`kiln plan`).
    pub looks_only: bool,
    /// `-no-push`: nothing is sent to a registry.
    pub no_push: bool,
    /// Where logs are kept that tell why a build failed; `None`: nowhere.
    pub logs: Option<PathBuf>,
}

/// Asks the person at the terminal.
#[async_trait]
pub trait Prompt: Send + Sync {
    /// Shows a question and reads one line; `None` where nobody is there to answer.
    async fn ask(&self, build: &str, question: &str) -> Option<String>;

    /// Whether somebody may be there to answer.
    fn is_there(&self) -> bool {
        true
    }
}

/// A build's context: ids, events, cancellation, redaction, scratch space, journal. Results never travel in it.
#[derive(Clone)]
pub struct BuildContext {
    /// The run's id: label `kiln.run`, and `PackerRunUUID` in templates. A UUID.
    pub run: Arc<str>,
    /// The build's name as shown and as in label `kiln.build`.
    pub build: Arc<str>,
    /// The builder's kind (`PACKER_BUILDER_TYPE`).
    pub builder_kind: Arc<str>,
    /// What `{{build_name}}` and `PACKER_BUILD_NAME` give: the source's name in HCL2, the builder's in JSON.
    pub build_name: Arc<str>,
    /// Emits this build's events.
    pub events: Events,
    /// Cancelled when the user stops the run or the step's time is up.
    pub cancel: CancellationToken,
    /// The run's cleanup journal.
    pub journal: Arc<dyn Journal>,
    /// Hides secrets.
    pub redactor: Arc<Redactor>,
    /// A directory of this build alone, 0700, removed at the end.
    pub scratch: PathBuf,
    /// Settings of the run.
    pub options: Arc<RunOptions>,
    /// Asks the user.
    pub prompt: Arc<dyn Prompt>,
    /// Values of `build.*` for Go templates that a component renders itself; filled once the machine runs.
    pub facts: Arc<Facts>,
    /// What Go template texts that a component renders itself may use.
    pub text_scope: Arc<TextScope>,
    /// The machine's directory with the secrets of the step that runs (`KILN_SECRETS`), where it has any.
    pub secrets: Option<Arc<str>>,
}

impl BuildContext {
    /// Waits for a future, unless the user stops the build (or the step's time is up) first.
    ///
    /// # Errors
    /// [`Failure::cancelled`]; the future is dropped then.
    pub async fn unless_cancelled<T>(&self, future: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Failure::cancelled()),
            output = future => Ok(output),
        }
    }
}

impl std::fmt::Debug for BuildContext {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BuildContext")
            .field("run", &self.run)
            .field("build", &self.build)
            .finish_non_exhaustive()
    }
}
