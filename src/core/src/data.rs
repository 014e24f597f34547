//! Data sources: values that a template asks of the outside before anything is built.
//!
//! ```text
//!   data block ──► DataSourceKind::prepare ──► DataSource ──► DataReader::start ──► DataOutputs
//!   (evaluated)         checks only                               async
//! ```

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::diagnostic::Diagnostics;
use crate::failure::Failure;
use crate::schema::{Decoded, FieldType, Schema};

/// One value that a data source gives: `data.TYPE.NAME.<name>`.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Its name.
    pub name: &'static str,
    /// Its type, which holds also while the value is unknown. No blocks.
    pub kind: FieldType,
    /// Whether it must not be shown whatever the arguments are (the value of a secret store).
    pub sensitive: bool,
    /// A sentence for the reference.
    pub doc: &'static str,
}

impl Output {
    /// A value that may be shown.
    pub const fn new(name: &'static str, kind: FieldType, doc: &'static str) -> Output {
        Output { name, kind, sensitive: false, doc }
    }

    /// It must not be shown.
    #[must_use]
    pub const fn sensitive(mut self) -> Output {
        self.sensitive = true;
        self
    }
}

/// What reading gave, by the names of [`DataSourceKind::outputs`]; one that is missing is null.
pub type DataOutputs = serde_json::Map<String, serde_json::Value>;

/// A kind of data source.
pub trait DataSourceKind: Send + Sync {
    /// Its arguments.
    fn schema(&self) -> &'static Schema;

    /// The values that it gives.
    fn outputs(&self) -> &'static [Output];

    /// Checks the arguments and returns the data source; all mistakes go into `diagnostics`, and `None` comes back only
    /// with at least one error there. No network. What is unknown in `config` is not checked; such a one is never read.
    fn prepare(&self, config: &Decoded, diagnostics: &mut Diagnostics) -> Option<Arc<dyn DataSource>>;
}

/// A configured data source.
#[async_trait]
pub trait DataSource: Send + Sync {
    /// The values where the arguments alone decide them: nothing outside is asked, so commands that do not read data
    /// sources have them too.
    fn known(&self) -> Option<DataOutputs> {
        None
    }

    /// Asks the outside. Changes nothing there, and gives up by itself after a bounded time. An error cites no secret.
    async fn read(&self) -> Result<DataOutputs, Failure>;
}

/// What is called with the result of a reading; dropped uncalled where the reading came to nothing.
pub type Done = Box<dyn FnOnce(Result<DataOutputs, Failure>) + Send>;

/// Runs readings for a loader that waits in a thread of its own.
pub trait DataReader: Send + Sync + fmt::Debug {
    /// Starts a reading and returns at once; several run side by side.
    fn start(&self, source: Arc<dyn DataSource>, done: Done);

    /// How long the loader waits for an answer before it calls [`DataReader::waiting`].
    fn patience(&self) -> Duration {
        Duration::from_secs(3)
    }

    /// Is told by the loader, once a reading, which data sources it still waits for: `data.TYPE.NAME` each. Returns at once.
    fn waiting(&self, names: &[String]) {
        let _ = names;
    }
}
