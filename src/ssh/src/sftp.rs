//! SFTP, version 3: what is needed of it to move files when a machine has no programs for that. Requests are sent without
//! waiting for the answers to earlier ones.

mod packet;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use kiln_core::Stream;
use tokio::sync::oneshot;

pub(crate) use packet::{Attributes, Entry, OpenFor};
use packet::{Request, Response, Status};

use crate::session::{Channel, ChannelEvent, ChannelInput, Ending, ExecRequest, Start};
use crate::{Session, SshError};

/// How much a read or a write moves at once, in bytes: what every server takes.
pub(crate) const PIECE: usize = 32 * 1024;

/// The largest answer that is taken, in bytes.
const LONGEST: usize = 1024 * 1024;

/// How much the names in one directory may take, in bytes: a list is held whole, and a machine may send one without end.
const LONGEST_LIST: usize = 64 * 1024 * 1024;

/// Why something did not work.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SftpError {
    /// Nothing is there.
    #[error("no such file")]
    NotFound,
    /// The server refuses.
    #[error("{0}")]
    Refused(String),
    /// The server answers something else than what was asked, or nothing that can be understood.
    #[error("the SFTP server sent what makes no sense: {0}")]
    Protocol(&'static str),
    /// The connection, or the server on it, is gone.
    #[error(transparent)]
    Gone(#[from] SshError),
    /// The server ended.
    #[error("the SFTP server ended")]
    Ended,
}

type Waiting = HashMap<u32, oneshot::Sender<Result<Response, SftpError>>>;

/// What the reading task and the callers share.
#[derive(Default)]
struct Shared {
    waiting: Mutex<(Waiting, Option<SftpError>)>,
}

/// A connection to a machine's SFTP server.
pub(crate) struct Sftp {
    input: ChannelInput,
    shared: Arc<Shared>,
    last: AtomicU32,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Sftp {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// An open file or directory.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Bytes);

impl Sftp {
    /// Starts the server.
    pub(crate) async fn start(session: &Session) -> Result<Sftp, SftpError> {
        let request = ExecRequest { start: Start::Subsystem("sftp".to_owned()), terminal: None };
        let mut channel = session.exec(request).await?;
        let input = channel.input().ok_or(SftpError::Ended)?;
        input.send(packet::hello()).await.map_err(|_| SftpError::Ended)?;
        let mut reader = Reader { channel, buffer: BytesMut::new() };
        let mut version = reader.packet().await?;
        if version.len() < 5 || version.get_u8() != packet::VERSION || version.get_u32() < 3 {
            return Err(SftpError::Protocol("its version"));
        }
        let shared = Arc::new(Shared::default());
        let reader = tokio::spawn(deliver(reader, Arc::clone(&shared)));
        Ok(Sftp { input, shared, last: AtomicU32::new(0), reader })
    }

    /// Sends a request; the answer may be waited for later.
    async fn send(&self, request: Request<'_>) -> Result<Answer, SftpError> {
        let id = self.last.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = &waiting.1 {
                return Err(error.clone());
            }
            waiting.0.insert(id, sender);
        }
        // One that is not sent is answered by the end of the server.
        let _ = self.input.send(request.encode(id)).await;
        Ok(Answer(receiver))
    }

    async fn ask(&self, request: Request<'_>) -> Result<Response, SftpError> {
        self.send(request).await?.response().await
    }

    /// Opens a file; `mode` is what a new one gets, as far as the machine's mask allows.
    pub(crate) async fn open(&self, path: &str, how: OpenFor, mode: u32) -> Result<Handle, SftpError> {
        self.ask(Request::Open { path, how, mode }).await?.handle().map(Handle)
    }

    /// Writes at a place; waits only until it is sent.
    pub(crate) async fn write(&self, file: &Handle, at: u64, content: &[u8]) -> Result<Answer, SftpError> {
        self.send(Request::Write { handle: &file.0, at, content }).await
    }

    /// Reads from a place; the answer is for [`Answer::data`].
    pub(crate) async fn read(&self, file: &Handle, at: u64, length: usize) -> Result<Answer, SftpError> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.send(Request::Read { handle: &file.0, at, length }).await
    }

    /// Sets permission bits of an open file.
    pub(crate) async fn set_mode(&self, file: &Handle, mode: u32) -> Result<Answer, SftpError> {
        self.send(Request::SetMode { handle: &file.0, mode }).await
    }

    /// Sets permission bits.
    pub(crate) async fn set_path_mode(&self, path: &str, mode: u32) -> Result<(), SftpError> {
        self.ask(Request::SetPathMode { path, mode }).await?.done()
    }

    /// Closes a file or directory.
    pub(crate) async fn close(&self, file: &Handle) -> Result<Answer, SftpError> {
        self.send(Request::Close { handle: &file.0 }).await
    }

    /// What is at a path, links followed.
    pub(crate) async fn stat(&self, path: &str) -> Result<Attributes, SftpError> {
        self.ask(Request::Stat { path }).await?.attributes()
    }

    /// Makes a directory.
    pub(crate) async fn make_directory(&self, path: &str) -> Result<(), SftpError> {
        self.ask(Request::MakeDirectory { path }).await?.done()
    }

    /// Removes what is no directory.
    pub(crate) async fn remove(&self, path: &str) -> Result<(), SftpError> {
        self.ask(Request::Remove { path }).await?.done()
    }

    /// Makes a symbolic link.
    pub(crate) async fn link(&self, path: &str, leads_to: &str) -> Result<(), SftpError> {
        self.ask(Request::Link { path, leads_to }).await?.done()
    }

    /// What a symbolic link leads to.
    pub(crate) async fn read_link(&self, path: &str) -> Result<String, SftpError> {
        let mut names = self.ask(Request::ReadLink { path }).await?.names()?;
        if names.len() == 1 { Ok(names.swap_remove(0).name) } else { Err(SftpError::Protocol("a link")) }
    }

    /// All that is in a directory, but `.` and `..`.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Entry>, SftpError> {
        let directory = self.ask(Request::OpenDirectory { path }).await?.handle().map(Handle)?;
        let (mut all, mut length) = (Vec::<Entry>::new(), 0);
        let ended = loop {
            match self.ask(Request::ReadDirectory { handle: &directory.0 }).await?.names() {
                Ok(names) if names.is_empty() => break Err(SftpError::Protocol("an empty list")),
                Ok(_) if length > LONGEST_LIST => break Err(SftpError::Protocol("a directory without an end")),
                Ok(names) => {
                    length += names.iter().map(|entry| size_of::<Entry>() + entry.name.len()).sum::<usize>();
                    all.extend(names.into_iter().filter(|entry| !matches!(entry.name.as_str(), "." | "..")));
                }
                Err(SftpError::Refused(text)) if text == packet::END => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.close(&directory).await?.done().await?;
        ended.map(|()| all)
    }
}

/// An answer that is on its way.
pub(crate) struct Answer(oneshot::Receiver<Result<Response, SftpError>>);

impl Answer {
    async fn response(self) -> Result<Response, SftpError> {
        self.0.await.unwrap_or(Err(SftpError::Ended))
    }

    /// It was done.
    pub(crate) async fn done(self) -> Result<(), SftpError> {
        self.response().await?.done()
    }

    /// What was read; empty at the end of the file.
    pub(crate) async fn data(self) -> Result<Bytes, SftpError> {
        match self.response().await? {
            Response::Data(content) => Ok(content),
            Response::Status(Status::End, _) => Ok(Bytes::new()),
            other => Err(other.error("data")),
        }
    }
}

struct Reader {
    channel: Channel,
    buffer: BytesMut,
}

impl Reader {
    /// The next packet, without its length.
    async fn packet(&mut self) -> Result<Bytes, SftpError> {
        loop {
            if let Some(length) = self.buffer.get(..4) {
                let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                if length > LONGEST || length == 0 {
                    return Err(SftpError::Protocol("a packet's length"));
                }
                if self.buffer.len() >= 4 + length {
                    self.buffer.advance(4);
                    return Ok(self.buffer.split_to(length).freeze());
                }
            }
            match self.channel.next().await {
                Some(ChannelEvent::Output(Stream::Stdout, chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(ChannelEvent::Output(Stream::Stderr, _) | ChannelEvent::OutputEnded) => {}
                Some(ChannelEvent::Ended(Ending::Failed(error))) => return Err(error.into()),
                Some(ChannelEvent::Ended(_)) | None => return Err(SftpError::Ended),
            }
        }
    }
}

/// Gives each answer to who asked, until the server is gone.
async fn deliver(mut reader: Reader, shared: Arc<Shared>) {
    let error = loop {
        let decoded = match reader.packet().await {
            Ok(packet) => Response::decode(packet),
            Err(error) => Err(error),
        };
        let (id, response) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => break error,
        };
        let asked = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).0.remove(&id);
        match asked {
            // Nobody may wait for it any more.
            Some(sender) => drop(sender.send(Ok(response))),
            None => break SftpError::Protocol("an answer to no question"),
        }
    };
    let mut waiting = shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.1 = Some(error.clone());
    for (_, sender) in waiting.0.drain() {
        let _ = sender.send(Err(error.clone()));
    }
}
