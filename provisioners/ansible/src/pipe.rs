//! A named pipe as the input of a command: what is written there goes to the command while it runs.

use std::io;
use std::path::{Path, PathBuf};

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

/// A named pipe, and our end of it. [`kiln_core::Stdin::File`] takes it like any file; its end comes with
/// [`InputPipe::close`].
#[derive(Debug)]
pub(crate) struct InputPipe {
    path: PathBuf,
    writer: Option<pipe::Sender>,
}

impl InputPipe {
    /// Makes one in a directory that nobody else may enter.
    pub(crate) fn open(directory: &Path) -> io::Result<InputPipe> {
        let path = directory.join(format!("input-{}", uuid::Uuid::new_v4().simple()));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )?;
        // Read and write: opening does not wait for a reader then, nor does a reader's opening for us.
        let writer = pipe::OpenOptions::new().read_write(true).open_sender(&path);
        match writer {
            Ok(writer) => Ok(InputPipe { path, writer: Some(writer) }),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    /// Where a command's input is opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes to the command.
    pub(crate) async fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) => writer.write_all(data).await,
            None => Ok(()),
        }
    }

    /// Ends the command's input.
    pub(crate) fn close(&mut self) {
        self.writer = None;
    }
}

impl Drop for InputPipe {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
