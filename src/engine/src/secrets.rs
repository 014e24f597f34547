//! Secrets of a step: files in a directory of the machine that is held in memory, there while the step runs.

use std::sync::Arc;

use bytes::Bytes;
use kiln_core::communicator::CaptureSink;
use kiln_core::journal::REMOVAL_LIMIT;
use kiln_core::{Command, Communicator, Facts, Failure, Machine, Provisioner, Secret, Stdin};

use crate::build::BuildRun;
use crate::error::EngineError;
use crate::guard::{bounded, supervise};
use crate::prepare::PreparedStep;

/// Writes its input to `$1`, whose directory is made where it is missing; tells so then. Not an upload: an engine may put
/// that into the machine's own files, below the directory.
const WRITE: &str =
    "umask 377 && { [ -d \"${1%/*}\" ] || { mkdir -m 700 \"${1%/*}\" && echo made; }; } && cat > \"$1\"";

impl BuildRun {
    /// Runs a step to its end with its secrets at hand.
    pub(crate) async fn with_secrets(
        &self,
        step: &PreparedStep,
        provisioner: &dyn Provisioner,
        facts: Arc<Facts>,
        machine: &dyn Machine,
    ) -> Result<(), Failure> {
        let secrets = &step.spec.secrets;
        if secrets.is_empty() {
            return self.tries(step, provisioner, facts, machine).await;
        }
        let directory = machine.secrets_directory().ok_or_else(|| {
            Failure::build(EngineError::NoSecretsDirectory)
                .hint("hand the secret over by the environment, e.g. `env` of `shell`")
        })?;
        let paths: Vec<String> = secrets.iter().map(|(name, _)| format!("{directory}/{name}")).collect();
        let mut is_made = false;
        let writing = async {
            for ((name, secret), path) in secrets.iter().zip(&paths) {
                is_made |= write(machine.communicator(), name, secret, path).await?;
            }
            Ok(())
        };
        // A machine that does not answer holds up neither the step's time bound nor the end of the run.
        let token = self.shared.stop.cancel.child_token();
        let mut result = supervise(&self.shared.stop, &token, step.spec.timeout, writing).await;
        if result.is_ok() {
            result = self.tries(step, provisioner, facts, machine).await;
        }
        let command = if is_made {
            Command::new(["rm", "-rf", directory])
        } else {
            Command::new(["rm", "-f"].into_iter().map(str::to_owned).chain(paths))
        };
        let removing = async { run(machine.communicator(), &command).await.map_err(Failure::build) };
        let what = "removing the step's secrets";
        let removed = bounded(&self.shared.stop.hurry, &self.events, what, REMOVAL_LIMIT, removing).await;
        // Where the step failed, the machine goes, and with it its memory.
        if let (Err(failure), Ok(())) = (removed, &result) {
            let error = EngineError::SecretStays { why: failure.chain() };
            result = Err(Failure::build(error));
        }
        result
    }
}

/// Writes one of them; tells whether its directory had to be made.
async fn write(communicator: &dyn Communicator, name: &str, secret: &Secret, path: &str) -> Result<bool, Failure> {
    let argv = ["/bin/sh", "-c", WRITE, "sh", path];
    let stdin = Stdin::Bytes(Bytes::copy_from_slice(secret.expose().as_bytes()));
    let command = Command { stdin, ..Command::new(argv) };
    match run(communicator, &command).await {
        Ok(told) => Ok(told == b"made\n"),
        Err(why) => Err(Failure::build(EngineError::Secret { name: name.to_owned(), why })),
    }
}

/// What it says, or what went wrong, in a few words.
async fn run(communicator: &dyn Communicator, command: &Command) -> Result<Vec<u8>, String> {
    let mut sink = CaptureSink::default();
    match communicator.exec(command, &mut sink).await {
        Ok(status) if status.is_success() => Ok(sink.stdout),
        Ok(status) => {
            let told = String::from_utf8_lossy(&sink.stderr).trim().to_owned();
            Err(if told.is_empty() { format!("status {}", status.code()) } else { told })
        }
        Err(error) => Err(Failure::build(error).chain()),
    }
}
