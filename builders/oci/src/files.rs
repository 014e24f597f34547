//! What sealing leaves on this host: files and layouts that appear whole or not at all, and are known to the journal before.

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Failure};
use kiln_docker::{FileUndo, FinishedFile};
use kiln_image::undo::NameUndo;
use kiln_image::{Digest, Layout, archive};
use tokio_util::sync::CancellationToken;

use crate::error::{self, OciError};
use crate::prepare::absolute;
use crate::undo::LayoutUndo;

/// Writes a file beside its place and moves it there when it is whole. A build that is cancelled stops writing.
pub(crate) async fn write_file(
    context: &BuildContext,
    to: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let (to, temporary) = places(context, to).await?;
    let mut undo = FileUndo { path: temporary.clone(), finished: None };
    let entry = context.journal.record(&context.build, undo.entry())?;
    let place = temporary.clone();
    let cancel = context.cancel.clone();
    let written = error::blocking(move || {
        let file = std::fs::File::create(&place).map_err(error::local("create", &place))?;
        let file = Cancellable { to: file, cancel };
        let mut file = std::io::BufWriter::with_capacity(1 << 20, file);
        write(&mut file)?;
        file.flush().map_err(error::local("write", &place))
    });
    let placed = async {
        unless_cancelled(context, written.await)?;
        let whole = tokio::fs::metadata(&temporary).await.map_err(error::local("look at", &temporary))?;
        undo.finished = Some(FinishedFile::new(&whole, to.clone()));
        context.journal.amend(entry, undo.entry())?;
        tokio::fs::rename(&temporary, &to).await.map_err(error::local("write", &to))
    }
    .await;
    if placed.is_err() {
        let _ = tokio::fs::remove_file(&temporary).await;
        context.journal.strike(entry)?;
    }
    placed
}

/// Writes an image into a layout in a directory: one that is made whole, or one that is there, whose other images stay.
pub(crate) async fn write_layout(
    context: &BuildContext,
    from: Layout,
    manifest: Digest,
    names: Vec<String>,
    to: &Path,
) -> Result<(), Failure> {
    let (to, temporary) = places(context, to).await?;
    if is_free(&to).await && new_layout(context, (&from, &manifest, &names), &to, &temporary).await? {
        return Ok(());
    }
    let (journal, build) = (context.journal.clone(), context.build.clone());
    let cancel = context.cancel.clone();
    let added = error::blocking(move || {
        let layout = Layout::create(&to).map_err(error::image)?;
        archive::copy_image(&from, &manifest, &layout).map_err(error::image)?;
        for name in &names {
            if cancel.is_cancelled() {
                return Err(Failure::cancelled());
            }
            let note = |undo| journal.record(&build, undo).map(drop);
            NameUndo::give(&layout, name, &manifest, note).map_err(error::image)??;
        }
        if names.is_empty() { layout.add_unnamed(&manifest).map_err(error::image) } else { Ok(()) }
    });
    unless_cancelled(context, added.await)
}

/// Makes a layout beside its place and moves it there. `false`: somebody else made one there meanwhile.
async fn new_layout(
    context: &BuildContext,
    (from, manifest, names): (&Layout, &Digest, &[String]),
    to: &Path,
    temporary: &Path,
) -> Result<bool, Failure> {
    let mut undo = LayoutUndo::new(temporary);
    let entry = context.journal.record(&context.build, undo.entry())?;
    let (from, manifest, names, place) = (from.clone(), manifest.clone(), names.to_vec(), temporary.to_path_buf());
    let written =
        error::blocking(move || archive::export_layout(&from, &manifest, &names, &place).map_err(error::image));
    let placed = async {
        unless_cancelled(context, written.await)?;
        undo.finished(to)?;
        context.journal.amend(entry, undo.entry())?;
        match tokio::fs::rename(temporary, to).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(error::local("write", to)(error)),
        }
    }
    .await;
    if !matches!(placed, Ok(true)) {
        let _ = tokio::fs::remove_dir_all(temporary).await;
        context.journal.strike(entry)?;
    }
    placed
}

/// Nothing is there, or an empty directory.
async fn is_free(path: &Path) -> bool {
    match tokio::fs::read_dir(path).await {
        Ok(mut entries) => matches!(entries.next_entry().await, Ok(None)),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Where something belongs, whose directory is made, and where it is written meanwhile.
async fn places(context: &BuildContext, to: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let to = absolute(to);
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(name), Some(directory)) = (name, to.parent()) else {
        return Err(Failure::build(OciError::Base(format!("{} names no file", to.display()))));
    };
    tokio::fs::create_dir_all(directory).await.map_err(error::local("create", directory))?;
    let run: String = context.run.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let temporary = directory.join(format!(".{name}.kiln-{run}"));
    Ok((to, temporary))
}

/// What was written for a build that is cancelled is of no use, however that went.
fn unless_cancelled<T>(context: &BuildContext, result: Result<T, Failure>) -> Result<T, Failure> {
    if context.cancel.is_cancelled() { Err(Failure::cancelled()) } else { result }
}

/// Takes nothing more once the build is cancelled: nobody could end the thread that writes.
struct Cancellable<W> {
    to: W,
    cancel: CancellationToken,
}

impl<W: Write> Write for Cancellable<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other("the build is cancelled"));
        }
        self.to.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::UndoOutcome;

    use super::*;

    fn image(directory: &Path, mark: &str) -> (Layout, Digest) {
        let layout = Layout::create(directory.join("from")).unwrap();
        let config = layout.put_document(format!("{{\"mark\":\"{mark}\"}}").as_bytes()).unwrap();
        let document = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config.as_str(),
                "size": layout.size(&config),
            },
            "layers": [],
        });
        let manifest = layout.put_document(document.to_string().as_bytes()).unwrap();
        (layout, manifest)
    }

    fn listing(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| name != "from").collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_new_layout_is_undone_as_a_whole_unless_somebody_changed_it() {
        let (directory, context) = (tempfile::tempdir().unwrap(), kiln_testkit::context().build());
        let to = directory.path().join("deep/layout");
        let write = async |mark: &str, names: &[&str]| {
            let (from, manifest) = image(directory.path(), mark);
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            write_layout(&context, from, manifest.clone(), names, &to).await.unwrap();
            manifest
        };
        let one = write("1", &["a:1"]).await;
        assert_eq!(listing(to.parent().unwrap()), ["layout"], "nothing lies beside it");
        let made = LayoutUndo::read(&context.journal.open()[0]).unwrap();
        let two = write("2", &["a:1", "a:2"]).await;
        assert_eq!(context.journal.open().len(), 3, "a layout, then two names");
        assert_eq!(made.remove().unwrap(), UndoOutcome::AlreadyGone, "it holds another image by now");
        for undo in context.journal.open()[1..].iter().rev() {
            let undo: NameUndo = serde_json::from_value(undo.data.clone()).unwrap();
            assert_eq!(undo.undo().unwrap(), UndoOutcome::Removed);
        }
        let layout = Layout::open(&to).unwrap();
        assert_eq!(layout.resolve_name("a:1").unwrap(), Some(one));
        assert!(layout.resolve_name("a:2").unwrap().is_none() && layout.has(&two));
        assert_eq!(made.remove().unwrap(), UndoOutcome::Removed, "it is again as it was made");
        assert!(!to.exists());
    }

    #[tokio::test]
    async fn a_cancelled_build_stops_writing_and_leaves_nothing() {
        let (directory, context) = (tempfile::tempdir().unwrap(), kiln_testkit::context().build());
        let cancel = context.cancel.clone();
        let out = directory.path().join("out");
        let written = write_file(&context, &out, move |to| {
            for piece in 0.. {
                if piece == 3 {
                    cancel.cancel();
                }
                to.write_all(&vec![0; 1 << 20]).map_err(error::local("write", "out"))?;
            }
            Ok(())
        });
        assert!(written.await.unwrap_err().is_cancelled());
        assert!(listing(directory.path()).is_empty() && context.journal.open().is_empty());

        let (from, manifest) = image(directory.path(), "1");
        let written = write_layout(&context, from, manifest, Vec::new(), &directory.path().join("layout")).await;
        assert!(written.unwrap_err().is_cancelled());
        assert!(listing(directory.path()).is_empty() && context.journal.open().is_empty());
    }
}
