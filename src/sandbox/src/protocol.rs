//! What program, helper, process 1 and keepers say to each other: JSON in packets, with files beside it.
//!
//! A packet is one byte and a body. Where the body is too long for a packet, it is in a file in memory that comes as the last of
//! the files. Everything that is said comes from this program; nothing of the guest can write to these sockets.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::Report;
use crate::spec::{IdMap, RootFs, SandboxSpec};

/// What a helper is for; the first packet that it gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Fork a helper that takes orders from the file that comes with this. Answered with a [`Reply`].
    Fork,
    /// Enter this user name space now and wait for another order.
    Prepare(IdMap),
    /// All of a guest but its root, which follows with [`Order::Root`] when it is known.
    Ground(Box<SandboxSpec>),
    /// The root of a guest that is ready but for that. Answered as [`Order::Session`] is.
    Root(RootFs),
    /// A guest. Answered with a [`Reply`] by process 1, which then takes [`Request`]s.
    Session(Box<SandboxSpec>),
    /// File work as the guest's root. Files: its input and its output, where it has them. Answered with a [`Reply`].
    Work(Box<crate::worker::Job>),
    /// What isolation works? Answered with a [`Reply`].
    Probe(crate::probe::Trial),
    /// A program of the host. Files: its output and its errors. Answered with a [`Reply`] when it runs, and when it ended.
    Program(crate::program::ProgramSpec),
}

/// What process 1 is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A command. Files: its own socket, and those of `ExecRequest::files`.
    Exec(Box<ExecRequest>),
    /// Work with the guest's files. Files: its own socket, and the stream if the work has one.
    Files(FilesRequest),
    /// The end of everything that runs, and of what was mounted.
    Stop,
}

/// What process 1 answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// A helper's process id.
    Forked(i32),
    /// The guest's root is there.
    Ready,
    /// All has ended, and the root is as the commands left it.
    Stopped,
    /// File work is done.
    Worked(Box<crate::worker::Outcome>),
    /// How each candidate went, up to the first that works.
    Probed(Vec<crate::probe::Finding>),
    /// A program and all that it started has ended.
    Ended(crate::session::ExitStatus),
    /// It did not work.
    Failed(Report),
}

/// A command for a guest.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecRequest {
    pub argv: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub directory: Option<String>,
    pub user: Option<String>,
    /// Columns and rows.
    pub terminal: Option<(u16, u16)>,
    pub script: Option<ScriptFile>,
    pub files: ExecFiles,
}

/// A file that is written from a command's input before the command runs, which then reads nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ScriptFile {
    /// Absolute, in the guest.
    pub path: String,
    /// How long it is, where that is known: a shorter one was cut on its way and must not run.
    pub size: Option<u64>,
    /// Whether it is left there when the command has ended.
    pub stays: bool,
}

/// Which of its files come with a command, in this order.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct ExecFiles {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Work with the guest's files, by a process of ours in its root.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FilesRequest {
    /// What is there?
    Stat { path: String, follow: bool },
    /// The stream is an archive; its content goes below this directory.
    Unpack { to: String },
    /// An archive of this goes to the stream.
    Pack { from: String },
}

/// What a keeper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToKeeper {
    /// A signal for the command's first process.
    Signal(i32),
    /// The end of the command and of all that it started. The end of the socket means the same.
    Kill,
}

/// What a keeper tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromKeeper {
    /// The program runs. File: the terminal's master side, if it has a terminal.
    Started { pid: u32 },
    /// It ended.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// The program never ran, or the work failed.
    Failed(Report),
    /// The answer to a look at a file; `None`: nothing is there.
    Stat(Option<crate::files::FileInfo>),
    /// So many entries were packed or unpacked.
    Moved(u64),
}

/// Bodies up to this size travel in the packet.
const INLINE: usize = 32 * 1024;
/// Bodies beyond this are a mistake.
const LONGEST: u64 = 64 * 1024 * 1024;
/// As many files as a packet can have.
const FILES: usize = 8;

/// One end of a socket.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    /// Two ends.
    pub(crate) fn pair() -> io::Result<(Channel, Channel)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Channel(one), Channel(other)))
    }

    /// An end that came from elsewhere.
    pub(crate) fn from_fd(fd: OwnedFd) -> Channel {
        Channel(fd)
    }

    /// Gives the file back.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Says something, with files beside it.
    pub(crate) fn send<T: Serialize>(&self, message: &T, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        send(self.0.as_fd(), &encode(message)?, files)
    }

    /// The next packet; `None` at the end.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        receive(self.0.as_fd())
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A message as it travels.
pub(crate) struct Encoded {
    packet: Vec<u8>,
    long: Option<OwnedFd>,
}

pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Encoded> {
    let mut packet = vec![0];
    serde_json::to_writer(&mut packet, message)?;
    if packet.len() <= INLINE {
        return Ok(Encoded { packet, long: None });
    }
    let mut file = std::fs::File::from(rustix::fs::memfd_create(c"kiln-message", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(&packet[1..])?;
    file.rewind()?;
    Ok(Encoded { packet: vec![1], long: Some(file.into()) })
}

/// Sends a packet; where the socket does not block, `EAGAIN` means that nothing was sent.
pub(crate) fn send(socket: BorrowedFd<'_>, encoded: &Encoded, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut all: Vec<BorrowedFd<'_>> = files.to_vec();
    all.extend(encoded.long.as_ref().map(AsFd::as_fd));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !all.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&all)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let body = [IoSlice::new(&encoded.packet)];
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &body, &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives a packet; `None` at the end.
pub(crate) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut body = vec![0; INLINE + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut slices = [IoSliceMut::new(&mut body)];
        rustix::net::recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::other("a packet was cut"));
    }
    body.truncate(received.bytes);
    if body[0] == 0 {
        return Ok(Some((serde_json::from_slice(&body[1..])?, files)));
    }
    let file = files.pop().ok_or_else(|| io::Error::other("a packet has no body"))?;
    let mut long = Vec::new();
    std::fs::File::from(file).take(LONGEST).read_to_end(&mut long)?;
    Ok(Some((serde_json::from_slice(&long)?, files)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_arrive_with_their_files_however_long_they_are() {
        let (one, other) = Channel::pair().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        for length in [0, 10, INLINE, 3 * 1024 * 1024] {
            let text = "x".repeat(length);
            one.send(&text, &[writer.as_fd()]).unwrap();
            let (received, files) = other.receive::<String>().unwrap().unwrap();
            assert_eq!(received, text);
            assert_eq!(files.len(), 1);
            std::fs::File::from(files.into_iter().next().unwrap()).write_all(b"!").unwrap();
        }
        drop((one, writer));
        assert!(other.receive::<String>().unwrap().is_none());
        assert_eq!(std::io::read_to_string(reader).unwrap(), "!!!!");
    }
}
