//! Files of this host.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kiln_core::Undo;
use serde::{Deserialize, Serialize};

use crate::error::EngineError;

/// What undoing a file needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUndo {
    /// The unfinished file, absolute.
    pub path: PathBuf,
    /// Where it goes once it is whole, absolute: there only the very same file is removed.
    #[serde(default)]
    pub finished: Option<FinishedFile>,
}

/// A file that was written to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishedFile {
    /// Where it belongs, absolute.
    pub path: PathBuf,
    /// Device and inode, which a move within a directory keeps.
    pub inode: (u64, u64),
    /// Size in bytes: an inode's number is used again once its file is gone.
    pub size: u64,
    /// When it was written last: seconds and nanoseconds.
    pub modified: (i64, i64),
}

impl FinishedFile {
    /// The file that stands at `from` now and belongs at `path`.
    pub fn new(from: &std::fs::Metadata, path: PathBuf) -> FinishedFile {
        FinishedFile {
            path,
            inode: (from.dev(), from.ino()),
            size: from.size(),
            modified: (from.mtime(), from.mtime_nsec()),
        }
    }
}

impl FileUndo {
    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        super::undo("docker.file", self, format!("file {}", self.path.display()))
    }

    pub(super) async fn remove(&self) -> Result<bool, EngineError> {
        let mut has_removed = remove_file(&self.path).await?;
        if let Some(finished) = &self.finished
            && let Ok(found) = tokio::fs::symlink_metadata(&finished.path).await
            && FinishedFile::new(&found, finished.path.clone()) == *finished
        {
            has_removed |= remove_file(&finished.path).await?;
        }
        Ok(has_removed)
    }
}

async fn remove_file(path: &Path) -> Result<bool, EngineError> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(EngineError::Local { action: "remove", path: path.to_path_buf(), source }),
    }
}
