//! Readings on a tokio runtime, for a loader in a thread of its own.

use std::sync::Arc;

use kiln_core::data::Done;
use kiln_core::{DataReader, DataSource};
use tokio::runtime::Handle;

/// Runs each reading as a task of the runtime. The loader must not wait on one of the runtime's own workers.
#[derive(Debug, Clone)]
pub struct RuntimeReader(Handle);

impl RuntimeReader {
    /// On the runtime that this is called in.
    pub fn new(handle: Handle) -> RuntimeReader {
        RuntimeReader(handle)
    }
}

impl DataReader for RuntimeReader {
    fn start(&self, source: Arc<dyn DataSource>, done: Done) {
        self.0.spawn(async move { done(source.read().await) });
    }
}
