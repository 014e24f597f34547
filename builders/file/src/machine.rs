//! What stands in a machine's place, and the artifact.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Communicator, Content, Failure, Machine};
use kiln_transport::absent::AbsentMachine;
use kiln_transport::outputs::FilesOwner;

/// Why nothing can be done on the machine.
const WHY: &str = "a `file` source has no machine; `shell-local` runs commands on this host";

/// No machine, and a file that was written.
pub(crate) struct NoMachine {
    target: PathBuf,
    communicator: AbsentMachine,
}

impl NoMachine {
    pub(crate) fn new(target: PathBuf) -> NoMachine {
        NoMachine { target, communicator: AbsentMachine::new(WHY) }
    }
}

#[async_trait]
impl Machine for NoMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.communicator
    }

    async fn seal(&self, _context: &BuildContext) -> Result<Artifact, Failure> {
        Ok(Artifact {
            builder_id: "packer.file".to_owned(),
            id: "File".to_owned(),
            description: format!("Stored file: {}", self.target.display()),
            content: Content::Files(vec![self.target.clone()]),
            owner: Some(Arc::new(FilesOwner { files: vec![self.target.clone()] })),
        })
    }

    async fn destroy(&self, _context: &BuildContext) -> Result<(), Failure> {
        Ok(())
    }
}
