//! Writing the file.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Failure, FailureClass};
use kiln_transport::outputs::{OutputError, PendingFile};

/// Where the content comes from.
#[derive(Clone)]
pub(crate) enum Origin {
    /// The template.
    Content(String),
    /// A file of this host.
    Copy(PathBuf),
}

impl Origin {
    /// Permission bits of a new file, less the umask. Packer's: a template's text may be a secret.
    fn mode(&self) -> u32 {
        match self {
            Origin::Content(_) => 0o600,
            Origin::Copy(_) => 0o666,
        }
    }
}

/// Writes the target: whole or not at all, unless it is a device or a pipe, which has no whole.
pub(crate) async fn write(origin: &Origin, target: &Path, context: &BuildContext) -> Result<(), Failure> {
    if let Origin::Copy(source) = origin {
        context.events.message(format!("copying {} to {}", source.display(), target.display()));
    }
    let found = tokio::fs::metadata(target).await.ok();
    let is_device = found.is_some_and(|found| found.file_type().is_char_device() || found.file_type().is_fifo());
    let (pending, file) = if is_device {
        let file = tokio::fs::OpenOptions::new().write(true).open(target).await;
        (None, file.map_err(OutputError::of("write", target))?.into_std().await)
    } else {
        let (pending, file) = PendingFile::create(context, target, origin.mode()).await?;
        (Some(pending), file)
    };
    let (work, path) = (origin.clone(), target.to_path_buf());
    let written = tokio::task::spawn_blocking(move || fill(&work, file, &path)).await;
    let bytes = written.map_err(|error| Failure::new(FailureClass::Bug, error))??;
    if let Some(pending) = pending {
        pending.finish().await?;
    }
    if matches!(origin, Origin::Copy(_)) {
        context.events.message(format!("copied {bytes} bytes"));
    }
    Ok(())
}

fn fill(origin: &Origin, mut file: File, target: &Path) -> Result<u64, OutputError> {
    match origin {
        Origin::Content(text) => {
            file.write_all(text.as_bytes()).map_err(OutputError::of("write", target))?;
            Ok(text.len() as u64)
        }
        Origin::Copy(source) => {
            let mut from = File::open(source).map_err(OutputError::of("read", source))?;
            std::io::copy(&mut from, &mut file).map_err(OutputError::of("write", target))
        }
    }
}
