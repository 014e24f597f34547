//! What is called, and what becomes of real playbooks on this host.

mod calls;
mod mistakes;
mod playbooks;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{
    Artifact, BuildContext, Command, Communicator, ExitStatus, Failure, Machine, OutputSink, Payload, Provisioner,
    SshAccess,
};
use kiln_testkit::Arguments;
use kiln_transport::LocalCommunicator;
use serde_json::Value as Json;

use crate::{AnsibleKind, AnsibleSettings};

/// This host as a machine.
#[derive(Default)]
struct Here {
    facts: BTreeMap<String, String>,
    communicator: Reached,
}

/// This host, perhaps by SSH too.
#[derive(Default)]
struct Reached {
    access: Option<SshAccess>,
}

#[async_trait]
impl Communicator for Reached {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        LocalCommunicator.exec(command, sink).await
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        LocalCommunicator.upload(payload, to).await
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        LocalCommunicator.download(from, to).await
    }

    async fn ssh_access(&self) -> Result<Option<SshAccess>, CommunicatorError> {
        Ok(self.access.clone())
    }
}

#[async_trait]
impl Machine for Here {
    fn facts(&self) -> BTreeMap<String, String> {
        self.facts.clone()
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.communicator
    }

    async fn seal(&self, _context: &BuildContext) -> Result<Artifact, Failure> {
        Err(Failure::build("it is not sealed"))
    }

    async fn destroy(&self, _context: &BuildContext) -> Result<(), Failure> {
        Ok(())
    }
}

/// Writes a program.
fn program(path: &Path, text: &str) -> PathBuf {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

fn settings(path: &Path) -> AnsibleSettings {
    let environment: BTreeMap<String, String> =
        [("PATH".to_owned(), format!("{}:/usr/bin:/bin", path.display()))].into();
    AnsibleSettings { environment: environment.into(), home: None, color: false }
}

/// A step, whose programs lie there.
fn ansible(programs: &Path, arguments: Json) -> Arc<dyn Provisioner> {
    let kind = AnsibleKind::new(settings(programs));
    let (step, diagnostics) = Arguments::new(arguments).provisioner(&kind);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    step.unwrap()
}
