//! Files of this host that a build leaves. They appear whole or not at all: written beside their place, then renamed; the
//! journal knows of the unfinished.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, EntryId, Failure, Journal, Undo, UndoOutcome, Undoer};
use serde_json::json;

/// The kind of undo for an unfinished file; its data is `{"path": "/absolute/path"}`.
const KIND: &str = "file.temp";

/// What unfinished files end with. The undoer removes nothing else, whatever a journal says.
const SUFFIX: &str = ".kiln-unfinished";

/// Why a file of this host cannot be made or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct OutputError {
    /// `make`, `write`, `remove`.
    action: &'static str,
    /// The file.
    path: PathBuf,
    /// Why.
    source: std::io::Error,
}

impl OutputError {
    /// For `map_err` on file operations.
    pub fn of(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> OutputError + use<> {
        let path = path.to_path_buf();
        move |source| OutputError { action, path, source }
    }
}

impl From<OutputError> for Failure {
    fn from(error: OutputError) -> Failure {
        Failure::build(error)
    }
}

/// An output that is being written.
pub struct PendingFile {
    temporary: PathBuf,
    target: PathBuf,
    journal: Arc<dyn Journal>,
    entry: EntryId,
}

impl PendingFile {
    /// Chooses a name beside `target`, whose parents are made, and notes it in the journal. The file is not made yet.
    /// A link at `target` stays one: what it points to is replaced.
    pub async fn reserve(context: &BuildContext, target: &Path) -> Result<PendingFile, Failure> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let target = resolve(target).await?;
        if let Ok(found) = tokio::fs::metadata(&target).await
            && !found.is_file()
        {
            // Renaming over a device would replace it for everybody.
            let error = match found.is_dir() {
                true => std::io::Error::from(std::io::ErrorKind::IsADirectory),
                false => std::io::Error::other("there is something that is no regular file"),
            };
            return Err(OutputError::of("write", &target)(error).into());
        }
        let parent = target.parent().unwrap_or(Path::new("/"));
        tokio::fs::create_dir_all(parent).await.map_err(OutputError::of("make the directory", parent))?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = parent.join(format!(".{name}.{}-{number}{SUFFIX}", std::process::id()));
        let undo = Undo {
            kind: KIND.to_owned(),
            data: json!({ "path": temporary }),
            description: format!("unfinished file {}", temporary.display()),
        };
        let entry = context.journal.record(&context.build, undo)?;
        Ok(PendingFile { temporary, target, journal: Arc::clone(&context.journal), entry })
    }

    /// As [`PendingFile::reserve`], and makes the file with these permission bits, less the umask; where the target
    /// exists, it gets its bits.
    pub async fn create(context: &BuildContext, target: &Path, mode: u32) -> Result<(PendingFile, File), Failure> {
        let pending = PendingFile::reserve(context, target).await?;
        let mut options = tokio::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(mode);
        let file = options.open(&pending.temporary).await.map_err(OutputError::of("make", &pending.temporary))?;
        if let Ok(existing) = tokio::fs::metadata(&pending.target).await {
            let bits = existing.permissions();
            file.set_permissions(bits).await.map_err(OutputError::of("set permissions of", &pending.temporary))?;
        }
        Ok((pending, file.into_std().await))
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Puts the finished file in its place.
    pub async fn finish(self) -> Result<(), Failure> {
        tokio::fs::rename(&self.temporary, &self.target).await.map_err(OutputError::of("write", &self.target))?;
        // Dropping strikes the entry; there is nothing left to remove.
        Ok(())
    }
}

impl Drop for PendingFile {
    /// One unlink, also when the future that wrote was dropped; waiting for another thread would gain nothing.
    fn drop(&mut self) {
        let removed = std::fs::remove_file(&self.temporary);
        if !removed.is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound) {
            // An entry that cannot be struck is undone later, which does no harm.
            let _ = self.journal.strike(self.entry);
        }
    }
}

/// The absolute path, with links followed where the file exists.
async fn resolve(path: &Path) -> Result<PathBuf, OutputError> {
    match tokio::fs::canonicalize(path).await {
        Ok(resolved) => Ok(resolved),
        Err(_) => std::path::absolute(path).map_err(OutputError::of("find", path)),
    }
}

/// Removes unfinished files that a killed run left.
pub struct TempFileUndoer;

#[async_trait]
impl Undoer for TempFileUndoer {
    fn kinds(&self) -> &'static [&'static str] {
        &[KIND]
    }

    async fn undo(&self, undo: &Undo) -> Result<UndoOutcome, Failure> {
        let path = undo.data.get("path").and_then(serde_json::Value::as_str).map(Path::new);
        let Some(path) = path.filter(|path| path.is_absolute() && path.to_string_lossy().ends_with(SUFFIX)) else {
            // Not a name that this crate gives, so not a file to remove.
            return Ok(UndoOutcome::AlreadyGone);
        };
        match tokio::fs::remove_file(path).await {
            Ok(()) => Ok(UndoOutcome::Removed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(UndoOutcome::AlreadyGone),
            Err(error) => Err(OutputError::of("remove", path)(error).into()),
        }
    }
}

/// Removes the files of an artifact that is not kept. Directories are left: nothing here makes one.
pub struct FilesOwner {
    /// Those that the artifact brought into being, or was told to own.
    pub files: Vec<PathBuf>,
}

#[async_trait]
impl ArtifactOwner for FilesOwner {
    async fn destroy(&self, _artifact: &Artifact, _context: &BuildContext) -> Result<(), Failure> {
        for path in &self.files {
            if tokio::fs::symlink_metadata(path).await.is_ok_and(|metadata| metadata.is_dir()) {
                continue;
            }
            match tokio::fs::remove_file(path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(OutputError::of("remove", path)(error).into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_finished_file_replaces_the_old_one_and_keeps_its_bits() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, context) = (tempfile::tempdir().unwrap(), kiln_testkit::context().build());
        let target = directory.path().join("deep/out");
        for (text, mode) in [("one", 0o640), ("two", 0o600)] {
            let (pending, mut file) = PendingFile::create(&context, &target, 0o644).await.unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            pending.finish().await.unwrap();
            assert_eq!(std::fs::read_to_string(&target).unwrap(), text);
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let (pending, _file) = PendingFile::create(&context, &target, 0o644).await.unwrap();
        pending.finish().await.unwrap();
        assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(context.journal.open().is_empty());
    }

    #[tokio::test]
    async fn an_unfinished_file_is_gone_when_dropped_and_known_to_the_journal_until_then() {
        let (directory, context) = (tempfile::tempdir().unwrap(), kiln_testkit::context().build());
        let (pending, _file) = PendingFile::create(&context, &directory.path().join("out"), 0o644).await.unwrap();
        let entries = context.journal.open();
        assert_eq!(entries.len(), 1);
        let left_behind = pending.path().to_path_buf();
        drop(pending);
        assert!(!left_behind.exists());
        assert!(context.journal.open().is_empty());

        // What a killed process leaves: the file and the entry.
        std::fs::write(&left_behind, "half").unwrap();
        assert_eq!(TempFileUndoer.undo(&entries[0]).await.unwrap(), UndoOutcome::Removed);
        assert_eq!(TempFileUndoer.undo(&entries[0]).await.unwrap(), UndoOutcome::AlreadyGone);
        assert!(!left_behind.exists());
    }

    #[tokio::test]
    async fn the_undoer_removes_only_unfinished_files() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "x").unwrap();
        let undo = Undo { kind: KIND.into(), data: json!({ "path": precious }), description: String::new() };
        assert_eq!(TempFileUndoer.undo(&undo).await.unwrap(), UndoOutcome::AlreadyGone);
        assert!(precious.exists());
    }

    #[tokio::test]
    async fn devices_are_not_replaced() {
        let context = kiln_testkit::context().build();
        let directory = tempfile::tempdir().unwrap();
        let device = directory.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        let failure = PendingFile::reserve(&context, &device).await.err().unwrap();
        assert!(failure.chain().contains("no regular file"), "{}", failure.chain());
    }
}
