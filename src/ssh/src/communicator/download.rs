//! Downloads by the machine's own programs, in one command each: what a path is comes in a first line, then the content.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{Command, ExitStatus, Stream};
use kiln_transport::place;
use kiln_transport::tar::ByteStream;
use kiln_transport::unpack::{UnpackOptions, unpack_stream};
use tokio::sync::mpsc;

use super::SshCommunicator;
use super::command::{self, quote};
use super::link::{refused, status};
use super::upload::{NO_TAR, anchored, without_tar};
use crate::session::{Channel, ChannelEvent};

/// The status that tells that there is nothing at the path.
const ABSENT: i64 = 94;

/// Mode of a file whose own one the machine does not tell.
const PLAIN: u32 = 0o644;

/// How much a program may say that is kept, in bytes.
const LONGEST_WORDS: usize = 4096;

/// The first line is not longer, in bytes.
const LONGEST_LINE: usize = 64;

/// How many pieces of a file may wait to be written.
const CHUNKS_WAITING: usize = 8;

/// Output that is taken as fast as it can be written.
struct Reader {
    channel: Channel,
    /// What came behind the first line.
    rest: Option<Bytes>,
    words: Vec<u8>,
    end: Option<ExitStatus>,
}

impl Reader {
    /// The next piece; `None` at the end of the command.
    async fn next(&mut self) -> Result<Option<Bytes>, CommunicatorError> {
        if let Some(rest) = self.rest.take() {
            return Ok(Some(rest));
        }
        while self.end.is_none() {
            match self.channel.next().await {
                Some(ChannelEvent::Output(Stream::Stdout, chunk)) => return Ok(Some(chunk)),
                Some(ChannelEvent::Output(Stream::Stderr, chunk)) => {
                    let room = LONGEST_WORDS.saturating_sub(self.words.len());
                    self.words.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Some(ChannelEvent::Ended(ending)) => self.end = Some(status(ending)?),
                Some(ChannelEvent::OutputEnded) => {}
                None => break,
            }
        }
        Ok(None)
    }

    /// The first line, without its end; `None` where nothing comes.
    async fn line(&mut self) -> Result<Option<String>, CommunicatorError> {
        let mut line = BytesMut::new();
        while let Some(chunk) = self.next().await? {
            line.extend_from_slice(&chunk);
            if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                let first = line.split_to(end + 1).freeze();
                self.rest = Some(line.freeze()).filter(|rest| !rest.is_empty());
                return Ok(Some(String::from_utf8_lossy(first.trim_ascii_end()).into_owned()));
            }
            if line.len() > LONGEST_LINE {
                break;
            }
        }
        Ok(None)
    }

    /// Whether all came, once nothing more comes.
    fn check(&self, action: &str) -> Result<(), CommunicatorError> {
        match self.end {
            Some(status) if status.is_success() => Ok(()),
            Some(status) => Err(refused(action, self.said(status))),
            None => Err(refused(action, "its end was not told")),
        }
    }

    fn said(&self, status: ExitStatus) -> String {
        match String::from_utf8_lossy(&self.words).trim() {
            "" => format!("the shell on the machine ended with {}", status.code()),
            words => words.to_owned(),
        }
    }
}

impl SshCommunicator {
    pub(super) async fn download_by_programs(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let action = format!("download {from}");
        let shell = format!(
            "_kf={}; if [ -d \"$_kf\" ]; then command -v tar >/dev/null 2>&1 || exit {NO_TAR}; echo D; \
             exec tar -cf - -C \"$_kf\" .; \
             elif [ -e \"$_kf\" ]; then echo \"F $(stat -Lc %a \"$_kf\" 2>/dev/null)\"; exec cat <\"$_kf\"; \
             else exit {ABSENT}; fi",
            quote(&anchored(from)),
        );
        let header = command::header(&Command::default(), &shell).map_err(|error| refused(&action, error))?;
        let mut channel = self.link.open(self.request()).await?;
        if let Some(input) = channel.input() {
            // A command that takes no input ends, and tells how.
            let _ = input.send(header.into()).await;
            let _ = input.finish().await;
        }
        let mut reader = Reader { channel, rest: None, words: Vec::new(), end: None };
        let Some(line) = reader.line().await? else {
            return match reader.end {
                Some(ExitStatus::Exited(ABSENT)) => Err(CommunicatorError::NotFound(from.to_owned())),
                Some(ExitStatus::Exited(NO_TAR)) => self.download_by_sftp(from, to).await.map_err(without_tar),
                _ => reader.check(&action).and_then(|()| Err(refused(&action, "the machine's shell said nothing"))),
            };
        };
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("F", mode) => {
                write_file(reader, &action, u32::from_str_radix(mode.trim(), 8).unwrap_or(PLAIN), to).await?;
                Ok(Downloaded::File)
            }
            ("D", _) => {
                write_tree(reader, &action, &place::downloaded_directory(from, to)).await?;
                Ok(Downloaded::Directory)
            }
            _ => Err(refused(action, format!("the machine's shell said `{line}`"))),
        }
    }
}

/// Writes a file beside its place, and puts it there when it is whole.
async fn write_file(mut reader: Reader, action: &str, mode: u32, to: &Path) -> Result<(), CommunicatorError> {
    let failed = |source: io::Error| CommunicatorError::Local { action: "write", path: to.to_path_buf(), source };
    let temporary = beside(to).await.map_err(failed)?;
    let mut file = temporary.as_file().try_clone().map_err(failed)?;
    let (chunks, mut waiting) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let write = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = waiting.blocking_recv() {
            file.write_all(&chunk)?;
        }
        Ok(())
    });
    while let Some(chunk) = reader.next().await? {
        if chunks.send(chunk).await.is_err() {
            // The writer failed, and tells why.
            break;
        }
    }
    drop(chunks);
    write.await.map_err(io::Error::other).flatten().map_err(failed)?;
    reader.check(action)?;
    put(temporary, mode, to).map_err(failed)
}

/// A file in the directory of another one, which is made where it is missing.
pub(super) async fn beside(to: &Path) -> io::Result<tempfile::NamedTempFile> {
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tokio::fs::create_dir_all(parent).await?;
    tempfile::Builder::new().prefix(".kiln-").tempfile_in(parent)
}

/// Gives a file its mode and its place. What comes from a machine gives nobody else's rights away on this host.
pub(super) fn put(temporary: tempfile::NamedTempFile, mode: u32, to: &Path) -> io::Result<()> {
    temporary.as_file().set_permissions(std::fs::Permissions::from_mode(mode & 0o1777))?;
    temporary.persist(to).map(drop).map_err(|error| error.error)
}

async fn write_tree(reader: Reader, action: &str, to: &Path) -> Result<(), CommunicatorError> {
    let failure: Arc<Mutex<Option<CommunicatorError>>> = Arc::default();
    let note = {
        let failure = Arc::clone(&failure);
        move |error: CommunicatorError| {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            io::Error::from(io::ErrorKind::ConnectionAborted)
        }
    };
    let state = Some((reader, note, action.to_owned()));
    let stream: ByteStream = Box::pin(futures_util::stream::unfold(state, |state| async move {
        let (mut reader, note, action) = state?;
        match reader.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some((reader, note, action)))),
            // A command that failed did not send all, whatever the archive looks like.
            Ok(None) => reader.check(&action).err().map(|error| (Err(note(error)), None)),
            Err(error) => Some((Err(note(error)), None)),
        }
    }));
    let unpacked = unpack_stream(stream, to, UnpackOptions::as_tar_does(false)).await;
    let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failure {
        Some(error) => Err(error),
        None => unpacked.map(drop).map_err(Into::into),
    }
}
