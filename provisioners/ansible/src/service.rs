//! The machine behind a unix socket: what the connection plug-in asks, done by the communicator.
//!
//! Each operation is a connection of its own, so several may run at once. What the plug-in sends: a request, then its
//! input in pieces, then the end of the input. What it gets: output in pieces, then a status, or why there is none.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use kiln_core::communicator::CommunicatorError;
use kiln_core::{Command, Communicator, ExitStatus, OutputSink, Stdin, Stream};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::pipe::InputPipe;
use crate::results::Results;

/// The longest path that fits into a socket's address, with room to spare.
const LONGEST_ADDRESS: usize = 100;

/// The longest frame that is taken, in bytes.
const LONGEST_FRAME: u32 = 64 * 1024 * 1024;

/// Letters of frames.
mod letter {
    pub(super) const REQUEST: u8 = b'R';
    pub(super) const INPUT: u8 = b'I';
    pub(super) const END: u8 = b'E';
    pub(super) const STDOUT: u8 = b'O';
    pub(super) const STDERR: u8 = b'X';
    pub(super) const STATUS: u8 = b'S';
    pub(super) const FAILURE: u8 = b'F';
}

/// What the plug-ins ask for.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase")]
enum Request {
    /// Run this. Where it asks for a password, its input goes on after output came.
    Exec { argv: Vec<String>, asks: bool },
    /// Store a file of this host on the machine.
    Put { from: PathBuf, to: String },
    /// Store a file of the machine on this host.
    Fetch { from: String, to: PathBuf },
    /// Take results of tasks.
    Results,
}

/// A socket that waits for plug-ins.
#[derive(Debug)]
pub(crate) struct Service {
    listener: UnixListener,
    directory: PathBuf,
    path: PathBuf,
}

impl Service {
    /// Makes the socket in a directory that nobody else may enter.
    pub(crate) fn open(directory: &Path) -> io::Result<Service> {
        let path = directory.join("socket");
        let listener = if path.as_os_str().len() <= LONGEST_ADDRESS {
            UnixListener::bind(&path)?
        } else {
            // The directory is named by its descriptor, which is short.
            let held = std::fs::File::open(directory)?;
            let number = std::os::fd::AsRawFd::as_raw_fd(&held);
            UnixListener::bind(format!("/proc/self/fd/{number}/socket"))?
        };
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(Service { listener, directory: directory.to_owned(), path })
    }

    /// Where plug-ins find it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Does what is asked until it is dropped.
    pub(crate) async fn serve(&self, communicator: &dyn Communicator, results: &Results) {
        let mut sessions = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => sessions.push(self.session(stream, communicator, results)),
                    // Out of descriptors: those of running sessions come back.
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                },
                Some(()) = sessions.next(), if !sessions.is_empty() => {}
            }
        }
    }

    async fn session(&self, stream: UnixStream, communicator: &dyn Communicator, results: &Results) {
        let (reader, writer) = stream.into_split();
        let mut reader = Reader(reader);
        let Ok(Some((letter::REQUEST, request))) = reader.frame().await else { return };
        let answer = Answer(writer);
        match serde_json::from_slice(&request) {
            Ok(Request::Results) => {
                while let Ok(Some((letter::INPUT, told))) = reader.frame().await {
                    results.take(&told);
                }
            }
            Ok(Request::Exec { argv, asks: false }) => {
                let Ok(input) = reader.input().await else { return };
                run(communicator, command(argv, Stdin::Bytes(input)), None, reader, answer).await;
            }
            Ok(Request::Exec { argv, asks: true }) => match InputPipe::open(&self.directory) {
                Ok(pipe) => {
                    let command = command(argv, Stdin::File(pipe.path().to_owned()));
                    run(communicator, command, Some(pipe), reader, answer).await;
                }
                Err(error) => answer.fail(&format!("cannot make a pipe for the command's input: {error}")).await,
            },
            Ok(Request::Put { from, to }) => {
                let argv = ["/bin/sh", "-c", "cat >\"$0\"", &to].map(str::to_owned).to_vec();
                run(communicator, command(argv, Stdin::File(from)), None, reader, answer).await;
            }
            Ok(Request::Fetch { from, to }) => fetch(communicator, &from, &to, reader, answer).await,
            Err(error) => answer.fail(&format!("kiln does not understand its plug-in: {error}")).await,
        }
    }
}

/// A command with input, even if there is none: commands without may get a terminal, which changes what they print.
fn command(argv: Vec<String>, stdin: Stdin) -> Command {
    Command { stdin, ..Command::new(argv) }
}

/// Output on its way to the plug-in.
struct Sender(mpsc::UnboundedSender<(u8, Bytes)>);

impl OutputSink for Sender {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        let letter = match stream {
            Stream::Stdout => letter::STDOUT,
            Stream::Stderr => letter::STDERR,
        };
        // The plug-in may have gone; the command is ended then.
        let _ = self.0.send((letter, Bytes::copy_from_slice(chunk)));
    }
}

async fn run(
    communicator: &dyn Communicator,
    command: Command,
    pipe: Option<InputPipe>,
    mut reader: Reader,
    mut answer: Answer,
) {
    let (sender, mut chunks) = mpsc::unbounded_channel();
    let (wrote, has_written) = tokio::sync::watch::channel(false);
    let work = async {
        let mut sink = Sender(sender);
        communicator.exec(&command, &mut sink).await
    };
    let forward = async {
        while let Some((letter, chunk)) = chunks.recv().await {
            let _ = wrote.send(true);
            answer.send(letter, &chunk).await?;
        }
        io::Result::Ok(())
    };
    let ended = {
        let both = async { tokio::join!(work, forward).0 };
        tokio::pin!(both);
        tokio::select! {
            ended = &mut both => Some(ended),
            () = feed(&mut reader, pipe, has_written) => None,
        }
    };
    match ended {
        Some(Ok(status)) => answer.status(status).await,
        Some(Err(error)) => answer.fail(&told(&error)).await,
        // The plug-in gave up: a task's time was up, or the playbook was stopped.
        None => {
            let _ = communicator.end_dropped().await;
        }
    }
}

/// Hands on what the command reads; ends when the plug-in has gone.
async fn feed(reader: &mut Reader, pipe: Option<InputPipe>, mut has_written: tokio::sync::watch::Receiver<bool>) {
    let Some(mut pipe) = pipe else {
        reader.gone().await;
        return;
    };
    while let Ok(Some((letter::INPUT, chunk))) = reader.frame().await {
        // A command need not read what it is given.
        let _ = pipe.write(&chunk).await;
    }
    // Something must have opened the pipe before its end may be told; what has printed has been started.
    let _ = has_written.wait_for(|has_written| *has_written).await;
    pipe.close();
    reader.gone().await;
}

async fn fetch(communicator: &dyn Communicator, from: &str, to: &Path, mut reader: Reader, answer: Answer) {
    let file = match tokio::fs::File::create(to).await {
        Ok(file) => file.into_std().await,
        Err(error) => return answer.fail(&format!("cannot write {}: {error}", to.display())).await,
    };
    let mut sink = FileSink { file, stderr: Vec::new(), error: None };
    let argv = ["/bin/sh", "-c", "cat \"$0\"", from].map(str::to_owned).to_vec();
    let command = command(argv, Stdin::Bytes(Bytes::new()));
    let ended = tokio::select! {
        ended = communicator.exec(&command, &mut sink) => ended,
        () = reader.gone() => {
            let _ = communicator.end_dropped().await;
            return;
        }
    };
    let mut answer = answer;
    match (ended, sink.error) {
        (Ok(_), Some(error)) => answer.fail(&format!("cannot write {}: {error}", to.display())).await,
        (Ok(status), None) => {
            let _ = answer.send(letter::STDERR, &sink.stderr).await;
            answer.status(status).await;
        }
        (Err(error), _) => answer.fail(&told(&error)).await,
    }
}

/// What a fetched file is written by.
struct FileSink {
    file: std::fs::File,
    stderr: Vec<u8>,
    error: Option<io::Error>,
}

impl OutputSink for FileSink {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        match stream {
            Stream::Stdout if self.error.is_none() => {
                self.error = io::Write::write_all(&mut self.file, chunk).err();
            }
            Stream::Stdout => {}
            Stream::Stderr => self.stderr.extend_from_slice(chunk),
        }
    }
}

/// An error with its causes, as one line.
fn told(error: &CommunicatorError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!(": {source}"));
        cause = source.source();
    }
    text
}

/// What a plug-in sends.
struct Reader(OwnedReadHalf);

impl Reader {
    /// The next frame; `None` at the end.
    async fn frame(&mut self) -> io::Result<Option<(u8, Bytes)>> {
        let letter = match self.0.read_u8().await {
            Ok(letter) => letter,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = self.0.read_u32().await?;
        if length > LONGEST_FRAME {
            return Err(io::Error::other("a frame is too long"));
        }
        let mut data = BytesMut::zeroed(length as usize);
        self.0.read_exact(&mut data).await?;
        Ok(Some((letter, data.freeze())))
    }

    /// All input up to its end.
    async fn input(&mut self) -> io::Result<Bytes> {
        let mut input = BytesMut::new();
        loop {
            match self.frame().await? {
                Some((letter::INPUT, data)) if input.is_empty() => input = data.into(),
                Some((letter::INPUT, data)) => input.extend_from_slice(&data),
                Some((letter::END, _)) => return Ok(input.freeze()),
                _ => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }

    /// Waits until the other side is closed.
    async fn gone(&mut self) {
        while let Ok(Some(_)) = self.frame().await {}
    }
}

/// What a plug-in gets.
struct Answer(OwnedWriteHalf);

impl Answer {
    async fn send(&mut self, letter: u8, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(data.len() + 5);
        frame.push(letter);
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(data);
        self.0.write_all(&frame).await
    }

    async fn status(mut self, status: ExitStatus) {
        let status = serde_json::json!({ "status": status.code() }).to_string();
        let _ = self.send(letter::STATUS, status.as_bytes()).await;
    }

    async fn fail(mut self, why: &str) {
        let _ = self.send(letter::FAILURE, why.as_bytes()).await;
    }
}
