//! Undoing what a run left in a store, from the journal alone.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use kiln_core::{Failure, Undo, UndoOutcome, Undoer};
use kiln_image::undo::NameUndo;
use kiln_sandbox::{Chosen, HelperProgram, Worker};
use serde::{Deserialize, Serialize};

use crate::error;
use crate::place::Place;

const WORKSPACE: &str = "oci.workspace";

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

/// Undoes workspaces of stores, and names of images in layouts.
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
        &[WORKSPACE, NameUndo::KIND]
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
        let undo: WorkspaceUndo = serde_json::from_value(data).map_err(unreadable)?;
        error::blocking(move || undo.remove(&helper)).await
    }
}
