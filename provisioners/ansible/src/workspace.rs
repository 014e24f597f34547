//! A directory of one playbook's run: plug-ins, socket, inventory, temporary files. It goes when the playbook ends.

use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use kiln_core::Failure;

use crate::error::AnsibleError;

/// Reaches the machine through kiln.
const CONNECTION: &str = include_str!("plugins/connection.py");

/// Tells kiln what becomes of tasks.
const CALLBACK: &str = include_str!("plugins/callback.py");

/// The directory. Nobody else may enter it.
#[derive(Debug)]
pub(crate) struct Workspace {
    directory: tempfile::TempDir,
}

impl Workspace {
    /// Makes it in the build's scratch directory, with the plug-ins. Blocking.
    pub(crate) fn create(scratch: &Path) -> Result<Workspace, Failure> {
        let failed = |path: &Path, source| Failure::environment(AnsibleError::Write { path: path.to_owned(), source });
        let directory = tempfile::Builder::new()
            .prefix("ansible-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(scratch)
            .map_err(|source| failed(scratch, source))?;
        let workspace = Workspace { directory };
        for name in ["connection", "callback", "tmp", "control", "inventory"] {
            let path = workspace.path(name);
            std::fs::create_dir(&path).map_err(|source| failed(&path, source))?;
        }
        workspace.write("connection/kiln.py", CONNECTION)?;
        workspace.write("callback/kiln.py", CALLBACK)?;
        Ok(workspace)
    }

    /// Where something in it lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only the user can read, and gives its path. Blocking, and short.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        match write_private(&path, content) {
            Ok(()) => Ok(path),
            Err(source) => Err(Failure::environment(AnsibleError::Write { path, source })),
        }
    }
}

/// Writes a new file that only the user can read.
pub(crate) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())
}
