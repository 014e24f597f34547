//! The communicator of a build without a machine.

use std::path::Path;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{Command, Communicator, ExitStatus, OutputSink, Payload};

/// Refuses all that is asked for, and says why.
#[derive(Debug, Clone)]
pub struct AbsentMachine {
    why: &'static str,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Absent(&'static str);

impl AbsentMachine {
    /// `why` stands as the cause of each refusal: "a `file` source has no machine".
    pub const fn new(why: &'static str) -> AbsentMachine {
        AbsentMachine { why }
    }

    fn refuse<T>(&self, action: &str) -> Result<T, CommunicatorError> {
        Err(CommunicatorError::Impossible { action: action.to_owned(), source: Absent(self.why).into() })
    }
}

#[async_trait]
impl Communicator for AbsentMachine {
    async fn exec(&self, _command: &Command, _sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        self.refuse("run a command")
    }

    async fn upload(&self, _payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        self.refuse(&format!("upload to {to}"))
    }

    async fn download(&self, from: &str, _to: &Path) -> Result<Downloaded, CommunicatorError> {
        self.refuse(&format!("download {from}"))
    }
}
