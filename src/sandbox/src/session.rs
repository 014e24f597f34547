//! A guest that runs, and commands in it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::error::{SandboxError, Trying};
use crate::files::FileInfo;
use crate::helper::{Beforehand, Helper};
use crate::protocol::{
    self, Channel, Encoded, ExecFiles, ExecRequest, FilesRequest, FromKeeper, Order, Reply, Request, ScriptFile,
    ToKeeper,
};
use crate::spec::{HelperProgram, Isolation, SandboxSpec};
use crate::starter::Process;

/// How long a guest may take to start; that is a few milliseconds, and more where a disk is slow.
const STARTING: Duration = Duration::from_secs(60);

/// How long a guest may take to end in good order; then it is killed.
const STOPPING: Duration = Duration::from_secs(10);

/// A guest. Dropping it ends everything in it; [`Session::stop`] does that and waits, and then the root is final.
#[derive(Debug)]
pub struct Session {
    channel: Arc<AsyncChannel>,
    helper: Option<Process>,
}

/// A command for a guest.
#[derive(Debug)]
pub struct Exec {
    /// Program and arguments. A name without `/` is looked for in the `PATH` that the command gets.
    pub argv: Vec<String>,
    /// Environment on top of the image's.
    pub environment: Vec<(String, String)>,
    /// Working directory; `/` if absent.
    pub directory: Option<String>,
    /// `NAME|UID[:GROUP|GID]`, as the guest knows them; root if absent.
    pub user: Option<String>,
    /// Runs on a terminal with this many columns and rows; its other side is [`Running::take_terminal`], and it takes the place of all
    /// three files.
    pub terminal: Option<(u16, u16)>,
    /// Where its input is stored first, as a program for everybody; it then reads nothing.
    pub script: Option<ScriptFile>,
    /// What it reads; nothing if absent.
    pub stdin: Option<OwnedFd>,
    /// Where it writes; nowhere if absent.
    pub stdout: Option<OwnedFd>,
    /// Where its messages go; to `stdout` if absent.
    pub stderr: Option<OwnedFd>,
}

impl Exec {
    /// A command that writes all to one file.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>, output: OwnedFd) -> Exec {
        Exec { stdout: Some(output), ..Exec::silent(argv) }
    }

    /// A command that writes nowhere.
    pub fn silent<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Exec {
        Exec {
            argv: argv.into_iter().map(Into::into).collect(),
            environment: Vec::new(),
            directory: None,
            user: None,
            terminal: None,
            script: None,
            stdin: None,
            stdout: None,
            stderr: None,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ExitStatus {
    /// With this status.
    Exited(i32),
    /// By this signal.
    Signalled(i32),
}

/// A command that runs. Dropping it kills the command and all that it started.
#[derive(Debug)]
pub struct Running {
    channel: AsyncChannel,
    /// The session's.
    guest: Arc<AsyncChannel>,
    pid: u32,
    terminal: Option<OwnedFd>,
    /// For sizes, after the terminal was taken.
    size: Option<OwnedFd>,
    ended: Option<ExitStatus>,
}

impl Session {
    /// Starts a guest; it is ready when this returns.
    pub async fn start(spec: SandboxSpec, helper: &HelperProgram) -> Result<Session, SandboxError> {
        if spec.chosen.isolation == Isolation::Chroot {
            return Session::begin(Helper::start(helper).await?, &Order::Session(Box::new(spec))).await;
        }
        let work = Beforehand::of(&spec);
        let root = matches!(work, Beforehand::Guest(_)).then(|| Order::Root(spec.root.clone()));
        let order = Order::Session(Box::new(spec));
        let spare = Helper::take_spare(helper, &work);
        let is_spare = spare.is_some();
        let first = match spare {
            Some(spare) => spare,
            None => Helper::start(helper).await?,
        };
        // Made while this one starts, as the next one may be wanted soon.
        Helper::keep_spare(helper, work);
        let wanted = root.as_ref().filter(|_| is_spare).unwrap_or(&order);
        match Session::begin(first, wanted).await {
            // It ended while it waited, or what it had made is of no use.
            Err(error) if is_spare && (root.is_some() || matches!(error, SandboxError::Ended)) => {
                Session::begin(Helper::start(helper).await?, &order).await
            }
            result => result,
        }
    }

    async fn begin(helper: Helper, order: &Order) -> Result<Session, SandboxError> {
        let Helper { process, channel } = helper;
        let mut session = Session { channel: Arc::new(AsyncChannel::new(channel)?), helper: Some(process) };
        let order = protocol::encode(order).trying("describe the sandbox")?;
        let asked = async {
            session.channel.send(order, &[]).await?;
            session.reply().await
        };
        let late = |_| Err(SandboxError::system("start the sandbox", io::ErrorKind::TimedOut));
        let answer = tokio::time::timeout(STARTING, asked).await.unwrap_or_else(late);
        match answer {
            Ok(Reply::Ready) => Ok(session),
            Ok(_) => Err(SandboxError::Protocol("process 1 stopped unasked".to_owned())),
            Err(error) => {
                session.end().await?;
                Err(error)
            }
        }
    }

    /// The helper's process id: journals note it.
    pub fn helper_pid(&self) -> u32 {
        self.helper.as_ref().map_or(0, Process::id)
    }

    /// Runs a command. Returns when its program has begun: a program that cannot be started is an error here.
    pub async fn exec(&self, exec: Exec) -> Result<Running, SandboxError> {
        let files =
            ExecFiles { stdin: exec.stdin.is_some(), stdout: exec.stdout.is_some(), stderr: exec.stderr.is_some() };
        let request = ExecRequest {
            argv: exec.argv,
            environment: exec.environment,
            directory: exec.directory,
            user: exec.user,
            terminal: exec.terminal,
            script: exec.script,
            files,
        };
        let passed = [exec.stdin, exec.stdout, exec.stderr];
        let passed: Vec<BorrowedFd<'_>> = passed.iter().flatten().map(AsFd::as_fd).collect();
        let channel = self.request(&Request::Exec(Box::new(request)), &passed).await?;
        let guest = self.channel.clone();
        match channel.receive::<FromKeeper>().await? {
            Some((FromKeeper::Started { pid }, files)) => {
                let terminal = files.into_iter().next();
                let size = terminal.as_ref().map(OwnedFd::try_clone).transpose().trying("keep the terminal")?;
                Ok(Running { channel, guest, pid, terminal, size, ended: None })
            }
            Some((FromKeeper::Failed(report), _)) => Err(report.into()),
            Some((other, _)) => Err(SandboxError::Protocol(format!("{other:?}"))),
            None if guest.has_ended() => Err(SandboxError::Ended),
            // It began, and killed all that it could reach before its keeper had told.
            None => {
                let ended = Some(ExitStatus::Signalled(libc::SIGKILL));
                Ok(Running { channel, guest, pid: 0, terminal: None, size: None, ended })
            }
        }
    }

    /// What is at a path of the guest; with `follow` at the end of all links. `None`: nothing.
    pub async fn stat(&self, path: &str, follow: bool) -> Result<Option<FileInfo>, SandboxError> {
        match self.files(FilesRequest::Stat { path: path.to_owned(), follow }, None).await? {
            FromKeeper::Stat(info) => Ok(info),
            other => Err(SandboxError::Protocol(format!("{other:?}"))),
        }
    }

    /// Unpacks an archive, uncompressed, below a directory of the guest, as `tar -x` as root does. Tells how many entries it had.
    /// Nothing in it and nothing in the guest leads out of the guest.
    pub async fn unpack(&self, archive: OwnedFd, to: &str) -> Result<u64, SandboxError> {
        self.moved(FilesRequest::Unpack { to: to.to_owned() }, archive).await
    }

    /// Writes an archive of a path of the guest, under its last name (the content alone for `/`). A link is packed as a link.
    pub async fn pack(&self, from: &str, archive: OwnedFd) -> Result<u64, SandboxError> {
        self.moved(FilesRequest::Pack { from: from.to_owned() }, archive).await
    }

    async fn moved(&self, request: FilesRequest, archive: OwnedFd) -> Result<u64, SandboxError> {
        match self.files(request, Some(archive)).await? {
            FromKeeper::Moved(count) => Ok(count),
            other => Err(SandboxError::Protocol(format!("{other:?}"))),
        }
    }

    async fn files(&self, request: FilesRequest, stream: Option<OwnedFd>) -> Result<FromKeeper, SandboxError> {
        let passed: Vec<BorrowedFd<'_>> = stream.iter().map(AsFd::as_fd).collect();
        let channel = self.request(&Request::Files(request), &passed).await?;
        // The other side must see the end of it when its writer goes.
        drop(stream);
        match channel.receive::<FromKeeper>().await? {
            Some((FromKeeper::Failed(report), _)) => Err(report.into()),
            Some((answer, _)) => Ok(answer),
            None => Err(SandboxError::Ended),
        }
    }

    /// Ends everything in the guest and waits for that; mounts are gone, and the root is as the commands left it.
    pub async fn stop(self) -> Result<(), SandboxError> {
        self.rest().await?.end().await
    }

    /// Ends everything that runs in the guest. From here on the root is as the commands left it and may be read, but it is
    /// still mounted: that ends with [`Resting::end`].
    pub async fn rest(mut self) -> Result<Resting, SandboxError> {
        let stop = protocol::encode(&Request::Stop).trying("stop the sandbox")?;
        let asked = async {
            // A guest that is gone needs not be asked.
            _ = self.channel.send(stop, &[]).await;
            self.reply().await
        };
        let answer = tokio::time::timeout(STOPPING, asked).await;
        if let Ok(Ok(Reply::Stopped)) = answer {
            return Ok(Resting(self));
        }
        self.end().await?;
        match answer {
            Ok(Ok(_)) => Err(SandboxError::Protocol("process 1 did not stop".to_owned())),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SandboxError::Ended),
        }
    }

    async fn reply(&self) -> Result<Reply, SandboxError> {
        match self.channel.receive::<Reply>().await? {
            Some((Reply::Failed(report), _)) => Err(report.into()),
            Some((reply, _)) => Ok(reply),
            None => Err(SandboxError::Ended),
        }
    }

    /// A request with a socket of its own, on which the answers come.
    async fn request(&self, request: &Request, files: &[BorrowedFd<'_>]) -> Result<AsyncChannel, SandboxError> {
        let (ours, theirs) = Channel::pair().trying("make a socket")?;
        let encoded = protocol::encode(request).trying("describe the command")?;
        let mut all = vec![theirs.as_fd()];
        all.extend_from_slice(files);
        self.channel.send(encoded, &all).await?;
        AsyncChannel::new(ours)
    }

    /// Waits for the helper, which waits for process 1; kills it where that takes too long.
    async fn end(&mut self) -> Result<(), SandboxError> {
        let Some(mut helper) = self.helper.take() else { return Ok(()) };
        self.channel.shut_down();
        let pid = helper.id();
        let waited = tokio::task::spawn_blocking(move || helper.wait());
        tokio::pin!(waited);
        let result = match tokio::time::timeout(STOPPING, &mut waited).await {
            Ok(result) => result,
            Err(_) => {
                kill(pid);
                waited.await
            }
        };
        result.map_err(io::Error::other).flatten().trying("wait for the helper")?;
        Ok(())
    }
}

/// A guest in which nothing runs any more.
#[derive(Debug)]
pub struct Resting(Session);

impl Resting {
    /// Waits until its mounts are gone.
    pub async fn end(mut self) -> Result<(), SandboxError> {
        self.0.end().await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.channel.shut_down();
        if let Some(mut helper) = self.helper.take() {
            // It ends by the end of the socket; somebody has to wait for it. Without a thread for that, it stays a zombie for as
            // long as we run.
            _ = std::thread::Builder::new().name("kiln-helper-end".to_owned()).spawn(move || helper.wait());
        }
    }
}

/// Only for a helper that nobody has waited for: its number is still its own.
fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

impl Running {
    /// Its process id, as the guest counts.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The terminal's other side: what is written to it is typed, what is read from it is shown.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Tells the terminal its new size.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<(), SandboxError> {
        match &self.size {
            Some(terminal) => crate::terminal::set_size(terminal.as_fd(), columns, rows).trying("resize the terminal"),
            None => Ok(()),
        }
    }

    /// Waits for its end. May be called again, also after a call that was dropped.
    pub async fn wait(&mut self) -> Result<ExitStatus, SandboxError> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = match self.channel.receive::<FromKeeper>().await? {
            Some((FromKeeper::Exited(status), _)) => ExitStatus::Exited(status),
            Some((FromKeeper::Signalled(signal), _)) => ExitStatus::Signalled(signal),
            Some((other, _)) => return Err(SandboxError::Protocol(format!("{other:?}"))),
            None if self.guest.has_ended() => return Err(SandboxError::Ended),
            // Somebody in the guest kills all that he may: who keeps the command is gone, and so is the command.
            None => ExitStatus::Signalled(libc::SIGKILL),
        };
        self.ended = Some(status);
        Ok(status)
    }

    /// Sends a signal to its first process.
    pub async fn signal(&self, signal: i32) -> Result<(), SandboxError> {
        self.tell(&ToKeeper::Signal(signal)).await
    }

    /// Kills it and all that it started; [`Running::wait`] tells when its first process has ended.
    pub async fn kill(&self) -> Result<(), SandboxError> {
        self.tell(&ToKeeper::Kill).await
    }

    async fn tell(&self, message: &ToKeeper) -> Result<(), SandboxError> {
        if self.ended.is_some() {
            return Ok(());
        }
        let encoded = protocol::encode(message).trying("reach the command")?;
        match self.channel.send(encoded, &[]).await {
            // It has just ended by itself.
            Err(SandboxError::Ended) => Ok(()),
            result => result,
        }
    }
}

/// A socket end in the runtime.
#[derive(Debug)]
struct AsyncChannel(AsyncFd<OwnedFd>);

impl AsyncChannel {
    #[allow(unsafe_code, reason = "the runtime wants a promise about the file")]
    fn new(channel: Channel) -> Result<AsyncChannel, SandboxError> {
        let fd = channel.into_fd();
        rustix::io::ioctl_fionbio(&fd, true).trying("use a socket")?;
        // SAFETY: an `OwnedFd` is the same open file for as long as it lives, and it lives in there.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(AsyncChannel(registered.map_err(io::Error::from).trying("use a socket")?))
    }

    async fn send(&self, encoded: Encoded, files: &[BorrowedFd<'_>]) -> Result<(), SandboxError> {
        let sending = self.0.async_io(Interest::WRITABLE, |fd| protocol::send(fd.as_fd(), &encoded, files));
        match sending.await {
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => Err(SandboxError::Ended),
            Err(error) if error.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => Err(SandboxError::Ended),
            result => result.trying("write to the sandbox"),
        }
    }

    async fn receive<T: DeserializeOwned>(&self) -> Result<Option<(T, Vec<OwnedFd>)>, SandboxError> {
        match self.0.async_io(Interest::READABLE, |fd| protocol::receive(fd.as_fd())).await {
            Err(error) if error.raw_os_error() == Some(Errno::CONNRESET.raw_os_error()) => Ok(None),
            result => result.trying("read from the sandbox"),
        }
    }

    /// The other side is gone.
    fn has_ended(&self) -> bool {
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        !matches!(rustix::net::recv(self.0.get_ref(), &mut byte, flags), Ok((1.., _)) | Err(Errno::AGAIN))
    }

    fn shut_down(&self) {
        // Fails where the other side is gone already.
        _ = rustix::net::shutdown(self.0.get_ref(), rustix::net::Shutdown::Both);
    }
}
