//! Undoing what a run left in a store, from the journal alone.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{Failure, Undo, UndoOutcome, Undoer};
use kiln_image::Digest;
use kiln_image::undo::NameUndo;
use kiln_sandbox::{Chosen, HelperProgram, Worker};
use serde::{Deserialize, Serialize};

use crate::error;
use crate::place::Place;

const WORKSPACE: &str = "oci.workspace";
const BOOTSTRAP: &str = "oci.bootstrap";
const LAYOUT: &str = "oci.layout";

/// Begins the name of a directory for bootstrapping.
const BOOTSTRAP_NAME: &str = "kiln-bootstrap-";

/// How often removing such a directory is tried, and the time between: whoever ends what runs in it may be at it still.
const TRIES: (u32, Duration) = (20, Duration::from_millis(100));

/// A build's directory in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WorkspaceUndo {
    /// It lies in `work` of a store.
    directory: PathBuf,
    /// Whose files are in it.
    chosen: Chosen,
}

impl WorkspaceUndo {
    pub(crate) fn new(place: &Place, directory: &Path) -> WorkspaceUndo {
        WorkspaceUndo { directory: crate::prepare::absolute(directory), chosen: place.chosen.clone() }
    }

    pub(crate) fn entry(&self) -> Undo {
        let name = self.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Undo {
            kind: WORKSPACE.to_owned(),
            data: serde_json::json!(self),
            description: format!("workspace {name} in kiln's store"),
        }
    }

    /// Removes it. Its mounts and processes ended with the process that had them.
    pub(crate) fn remove(&self, helper: &HelperProgram) -> Result<UndoOutcome, Failure> {
        if !self.directory.exists() {
            return Ok(UndoOutcome::AlreadyGone);
        }
        // An entry of a journal that was tampered with must not remove anything else.
        if self.directory.parent().and_then(Path::file_name) != Some(std::ffi::OsStr::new("work")) {
            let text = format!("{} is no workspace", self.directory.display());
            return Err(Failure::build(error::OciError::Base(text)));
        }
        let worker = Worker::new(&self.chosen, helper);
        worker.remove(std::slice::from_ref(&self.directory)).map_err(error::sandbox)?;
        Ok(UndoOutcome::Removed)
    }
}

/// A directory that a bootstrapping program works in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BootstrapUndo {
    directory: PathBuf,
    /// Whose files are in it.
    chosen: Chosen,
}

impl BootstrapUndo {
    /// One in a directory that others may write to.
    pub(crate) fn new(place: &Place, parent: &Path) -> BootstrapUndo {
        let mut random = [0u8; 8];
        // A name that is taken is refused when the directory is made.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let name = format!("{BOOTSTRAP_NAME}{:016x}", u64::from_le_bytes(random));
        BootstrapUndo { directory: crate::prepare::absolute(&parent.join(name)), chosen: place.chosen.clone() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn entry(&self) -> Undo {
        Undo {
            kind: BOOTSTRAP.to_owned(),
            data: serde_json::json!(self),
            description: format!("bootstrapping directory {}", self.directory.display()),
        }
    }

    /// Removes it. The program ends with the process that started it.
    pub(crate) fn remove(&self, helper: &HelperProgram) -> Result<UndoOutcome, Failure> {
        let Ok(metadata) = std::fs::symlink_metadata(&self.directory) else { return Ok(UndoOutcome::AlreadyGone) };
        let name = self.directory.file_name().unwrap_or_default().as_encoded_bytes();
        let is_ours = metadata.is_dir() && metadata.uid() == rustix::process::geteuid().as_raw();
        if !is_ours || !name.starts_with(BOOTSTRAP_NAME.as_bytes()) {
            let text = format!("{} was not made for bootstrapping", self.directory.display());
            return Err(Failure::build(error::OciError::Base(text)));
        }
        let worker = Worker::new(&self.chosen, helper);
        let mut removed = worker.remove(std::slice::from_ref(&self.directory));
        for _ in 0..TRIES.0 {
            if removed.is_ok() {
                break;
            }
            std::thread::sleep(TRIES.1);
            removed = worker.remove(std::slice::from_ref(&self.directory));
        }
        removed.map_err(error::sandbox).map(|()| UndoOutcome::Removed)
    }
}

/// A layout that is written for the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayoutUndo {
    /// Where it is written.
    temporary: PathBuf,
    /// Where it is once it is whole.
    finished: Option<FinishedLayout>,
}

/// What tells a layout from one that somebody changed or put in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FinishedLayout {
    path: PathBuf,
    /// Device and inode.
    inode: (u64, u64),
    /// Of its index.
    index: Digest,
}

impl FinishedLayout {
    /// The layout at `from`, which belongs at `path`.
    fn new(from: &Path, path: &Path) -> std::io::Result<FinishedLayout> {
        let found = std::fs::symlink_metadata(from)?;
        let index = Digest::of(&std::fs::read(from.join("index.json"))?);
        Ok(FinishedLayout { path: path.to_path_buf(), inode: (found.dev(), found.ino()), index })
    }
}

impl LayoutUndo {
    /// Before it is made; the path is absolute.
    pub(crate) fn new(temporary: &Path) -> LayoutUndo {
        LayoutUndo { temporary: temporary.to_path_buf(), finished: None }
    }

    /// It is whole, and about to be moved here.
    pub(crate) fn finished(&mut self, to: &Path) -> Result<(), Failure> {
        let finished = FinishedLayout::new(&self.temporary, to);
        self.finished = Some(finished.map_err(error::local("read", &self.temporary))?);
        Ok(())
    }

    pub(crate) fn entry(&self) -> Undo {
        let path = self.finished.as_ref().map_or(&self.temporary, |finished| &finished.path);
        Undo {
            kind: LAYOUT.to_owned(),
            data: serde_json::json!(self),
            description: format!("OCI layout {}", path.display()),
        }
    }

    #[cfg(test)]
    pub(crate) fn read(undo: &Undo) -> serde_json::Result<LayoutUndo> {
        LayoutUndo::deserialize(&undo.data)
    }

    /// Removes it where nobody has changed it since. What else somebody put into its directory stays.
    pub(crate) fn remove(&self) -> Result<UndoOutcome, Failure> {
        let unfinished = self.temporary.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = unfinished.starts_with('.') && unfinished.contains(".kiln-");
        let mut has_removed = is_ours && removed(&self.temporary, std::fs::remove_dir_all(&self.temporary))?;
        if let Some(finished) = &self.finished
            && FinishedLayout::new(&finished.path, &finished.path).is_ok_and(|now| now == *finished)
        {
            has_removed = true;
            // The index first: without it, what is left is no layout to anybody.
            for name in ["index.json", "oci-layout"] {
                let path = finished.path.join(name);
                removed(&path, std::fs::remove_file(&path))?;
            }
            let blobs = finished.path.join("blobs");
            removed(&blobs, std::fs::remove_dir_all(&blobs))?;
            let _ = std::fs::remove_dir(&finished.path);
        }
        Ok(if has_removed { UndoOutcome::Removed } else { UndoOutcome::AlreadyGone })
    }
}

/// Whether something was there to be removed.
fn removed(path: &Path, result: std::io::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(error::local("remove", path)(source)),
    }
}

/// Undoes workspaces of stores, directories for bootstrapping, layouts, and names of images in layouts.
#[derive(Debug)]
pub struct OciUndoer {
    helper: HelperProgram,
}

impl OciUndoer {
    /// With this program as helper: files of other users are removed as the guest's root.
    pub fn new(helper: HelperProgram) -> OciUndoer {
        OciUndoer { helper }
    }
}

#[async_trait]
impl Undoer for OciUndoer {
    fn kinds(&self) -> &'static [&'static str] {
        &[WORKSPACE, BOOTSTRAP, LAYOUT, NameUndo::KIND]
    }

    async fn undo(&self, undo: &Undo) -> Result<UndoOutcome, Failure> {
        let unreadable = |error: serde_json::Error| {
            let text = format!("the journal's entry cannot be read: {error}");
            Failure::build(error::OciError::Base(text))
        };
        let (data, helper) = (undo.data.clone(), self.helper.clone());
        if undo.kind == NameUndo::KIND {
            let undo: NameUndo = serde_json::from_value(data).map_err(unreadable)?;
            return error::blocking(move || undo.undo().map_err(error::image)).await;
        }
        if undo.kind == LAYOUT {
            let undo: LayoutUndo = serde_json::from_value(data).map_err(unreadable)?;
            return error::blocking(move || undo.remove()).await;
        }
        if undo.kind == BOOTSTRAP {
            let undo: BootstrapUndo = serde_json::from_value(data).map_err(unreadable)?;
            return error::blocking(move || undo.remove(&helper)).await;
        }
        let undo: WorkspaceUndo = serde_json::from_value(data).map_err(unreadable)?;
        error::blocking(move || undo.remove(&helper)).await
    }
}
