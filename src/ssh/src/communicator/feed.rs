//! What a command reads: the header, then bytes, a file or a stream.

use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use kiln_core::Stdin;
use kiln_core::communicator::CommunicatorError;
use kiln_transport::tar::ByteStream;

use crate::session::ChannelInput;

/// Size of the pieces, in bytes.
const PIECE: usize = 512 * 1024;

/// Where input comes from.
pub(super) enum Source {
    Bytes(Bytes),
    /// A file, of which as much is sent as was promised: its size when it was opened.
    File(PathBuf, tokio::fs::File, Option<u64>),
    Stream(ByteStream),
}

impl Source {
    pub(super) async fn of(stdin: &Stdin) -> Result<Source, CommunicatorError> {
        match stdin {
            Stdin::Closed => Ok(Source::Bytes(Bytes::new())),
            Stdin::Bytes(content) => Ok(Source::Bytes(content.clone())),
            Stdin::File(path) => Source::file(path).await,
        }
    }

    pub(super) async fn file(path: &Path) -> Result<Source, CommunicatorError> {
        let unreadable = |source| CommunicatorError::Local { action: "read", path: path.to_path_buf(), source };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let metadata = file.metadata().await.map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
        }
        let size = metadata.is_file().then_some(metadata.len());
        Ok(Source::File(path.to_path_buf(), file, size))
    }

    /// How many bytes will come, where that is known.
    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Source::Bytes(content) => Some(content.len() as u64),
            Source::File(_, _, size) => *size,
            Source::Stream(_) => None,
        }
    }

    /// Sends the header and all that comes; a command that does not read to the end is no error.
    pub(super) async fn feed(self, header: String, input: ChannelInput) -> Result<(), CommunicatorError> {
        if input.send(Bytes::from(header)).await.is_err() {
            return Ok(());
        }
        match self {
            Source::Bytes(content) => {
                if input.send(content).await.is_err() {
                    return Ok(());
                }
            }
            Source::File(path, file, size) => {
                let file = file.into_std().await;
                // A thread that reads and hands on by itself: nothing is copied, and nobody is woken for each piece.
                let copied = tokio::task::spawn_blocking(move || copy(file, size, input)).await;
                let copied = copied.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                let unreadable = |source| CommunicatorError::Local { action: "read", path, source };
                if let Some(input) = copied.map_err(unreadable)? {
                    let _ = input.finish().await;
                }
                return Ok(());
            }
            Source::Stream(mut stream) => {
                while let Some(piece) = stream.next().await {
                    let piece = piece.map_err(|source| CommunicatorError::Transport {
                        action: "send files".to_owned(),
                        source: source.into(),
                    })?;
                    if input.send(piece).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        let _ = input.finish().await;
        Ok(())
    }
}

/// Hands a file on, as long as it was; gives the way in back where the command took it all.
fn copy(mut file: std::fs::File, size: Option<u64>, input: ChannelInput) -> std::io::Result<Option<ChannelInput>> {
    let mut left = size.unwrap_or(u64::MAX);
    while left > 0 {
        let mut piece = Vec::with_capacity(PIECE);
        let length = file.by_ref().take(left.min(PIECE as u64)).read_to_end(&mut piece)?;
        if length == 0 {
            break;
        }
        left -= length as u64;
        if input.blocking_send(Bytes::from(piece)).is_err() {
            return Ok(None);
        }
    }
    if size.is_some() && left > 0 {
        return Err(std::io::Error::other("it became shorter while it was read"));
    }
    Ok(Some(input))
}
