//! How a machine is logged in to: over SSH, not at all, or as a test says.

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{BuildContext, Command, Communicator, ExitStatus, Failure, OutputSink, Payload};
use kiln_ssh::{Endpoint, SshOptions, SshProcess};

/// Logs in to machines.
#[async_trait]
pub trait Reach: Send + Sync {
    /// Waits until the machine can be logged in to.
    ///
    /// # Errors
    /// It cannot, or it is another one.
    async fn reach(
        &self,
        options: &SshOptions,
        endpoint: Endpoint,
        context: &BuildContext,
    ) -> Result<Box<dyn Communicator>, Failure>;
}

/// Over SSH.
#[derive(Debug, Clone)]
pub struct OverSsh(
    /// Home and environment.
    pub SshProcess,
);

#[async_trait]
impl Reach for OverSsh {
    async fn reach(
        &self,
        options: &SshOptions,
        endpoint: Endpoint,
        context: &BuildContext,
    ) -> Result<Box<dyn Communicator>, Failure> {
        Ok(Box::new(kiln_ssh::connect(options, endpoint, &self.0, context).await?))
    }
}

/// A machine that nobody logs in to.
pub(crate) struct Unreached;

fn unreached() -> CommunicatorError {
    CommunicatorError::Impossible {
        action: "do anything".to_owned(),
        source: "`communicator` is `none`, so nobody is logged in to it".into(),
    }
}

#[async_trait]
impl Communicator for Unreached {
    async fn exec(&self, _command: &Command, _sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        Err(unreached())
    }

    async fn upload(&self, _payload: &Payload, _to: &str) -> Result<(), CommunicatorError> {
        Err(unreached())
    }

    async fn download(&self, _from: &str, _to: &std::path::Path) -> Result<Downloaded, CommunicatorError> {
        Err(unreached())
    }
}
