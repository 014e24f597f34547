//! Commands and files in a guest: to its own process 1, without a network, an agent or a program in the image.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{
    Command, Communicator, Events, ExitStatus, OutputSink, Payload, Script, ScriptRun, Stdin, Stream, Terminal,
};
use kiln_sandbox::{Exec, Running, SandboxError, ScriptFile, Session};
use kiln_transport::tar::{ByteStream, Layout, Owner, PackError, Packing, pack_payload};
use kiln_transport::unpack::{UnpackOptions, unpack_file, unpack_stream};
use kiln_transport::{owner, place};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::OnceCell;
use tokio_util::io::ReaderStream;

use crate::guest::Guest;

/// Size of the pieces that output is read in, in bytes.
const CHUNK: usize = 64 * 1024;

/// The size of a terminal that nobody sits at.
const TERMINAL: (u16, u16) = (80, 24);

/// Bound on `/etc/passwd` and `/etc/group`, in bytes; larger ones are not read.
const LONGEST_LIST: u64 = 4 * 1024 * 1024;

/// How commands run where they say nothing themselves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habits {
    /// Of commands.
    pub(crate) user: Option<String>,
    /// Of commands.
    pub(crate) directory: Option<String>,
    /// On top of the image's.
    pub(crate) environment: Vec<(String, String)>,
    /// `USER` of the image, to whom uploads belong.
    pub(crate) image_user: String,
    pub(crate) pty: bool,
    pub(crate) fix_upload_owner: bool,
}

/// A guest as a machine.
pub struct OciCommunicator {
    guest: Arc<Guest>,
    habits: Habits,
    events: Events,
    owner: OnceCell<Owner>,
}

impl OciCommunicator {
    pub(crate) fn new(guest: Arc<Guest>, habits: Habits, events: Events) -> OciCommunicator {
        OciCommunicator { guest, habits, events, owner: OnceCell::new() }
    }

    async fn session(&self) -> Result<Arc<Session>, CommunicatorError> {
        self.guest.session().await.map_err(|error| failed("start the sandbox", error))
    }

    fn exec_of(&self, command: &Command) -> Exec {
        let mut environment = self.habits.environment.clone();
        environment.extend(command.environment.iter().cloned());
        Exec {
            environment,
            directory: command.directory.clone().or_else(|| self.habits.directory.clone()),
            user: command.user.clone().or_else(|| self.habits.user.clone()),
            ..Exec::silent(command.argv.iter().cloned())
        }
    }

    async fn start(&self, exec: Exec) -> Result<Running, CommunicatorError> {
        let session = self.session().await?;
        session.exec(exec).await.map_err(|error| failed("run a command", error))
    }

    /// On pipes: the two outputs stay apart.
    async fn exec_piped(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        match self.start_piped(self.exec_of(command), &command.stdin).await {
            Ok(piped) => piped.finish(sink).await,
            Err(CommunicatorError::Transport { source, .. }) if is_missing(&*source) => {
                Ok(refused(&*source, &source.to_string(), sink))
            }
            Err(error) => Err(error),
        }
    }

    async fn start_piped(&self, exec: Exec, stdin: &Stdin) -> Result<Piped, CommunicatorError> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| plumbing(error.into()));
        let (stdout, theirs_out) = pipe()?;
        let (stderr, theirs_err) = pipe()?;
        let (stdin, feeder) = input(stdin)?;
        // Before it runs: a script comes first.
        let feeding = feeder.map(Feeding::start).transpose()?;
        let exec = Exec { stdin, stdout: Some(theirs_out), stderr: Some(theirs_err), ..exec };
        let running = self.start(exec).await?;
        Ok(Piped { running, stdout, stderr, feeding })
    }

    /// On a terminal that nobody sits at.
    async fn exec_on_terminal(
        &self,
        command: &Command,
        sink: &mut dyn OutputSink,
    ) -> Result<ExitStatus, CommunicatorError> {
        let exec = Exec { terminal: Some(TERMINAL), ..self.exec_of(command) };
        let mut running = self.start(exec).await?;
        let Some(terminal) = running.take_terminal() else {
            return Err(plumbing(io::Error::other("the sandbox gave no terminal")));
        };
        let (mut shown, _typed) = terminal_ends(terminal).map_err(plumbing)?;
        let mut buffer = vec![0; CHUNK];
        let mut is_open = true;
        let status = loop {
            tokio::select! {
                biased;
                read = shown.read(&mut buffer), if is_open => {
                    is_open = pass(read, Stream::Stdout, &buffer, sink)?;
                }
                status = running.wait() => break status.map_err(|error| failed("run a command", error))?,
            }
        };
        if is_open {
            drain(&shown, Stream::Stdout, &mut buffer, sink)?;
        }
        Ok(status_of(status))
    }

    async fn owner(&self) -> Result<Option<Owner>, CommunicatorError> {
        if !self.habits.fix_upload_owner {
            return Ok(None);
        }
        let resolve = || async {
            let session = self.session().await?;
            let read = |list| read_list(Arc::clone(&session), list);
            owner::resolve(&self.habits.image_user, read).await.map_err(|error| CommunicatorError::Transport {
                action: "find the owner of uploads".to_owned(),
                source: error.into(),
            })
        };
        self.owner.get_or_try_init(resolve).await.map(|owner| Some(*owner))
    }

    /// What stands at a path, links followed; `None` for nothing. Otherwise: whether it is a directory, and its real name.
    async fn look(&self, session: &Session, path: &str) -> Result<Option<(bool, String)>, CommunicatorError> {
        let found = session.stat(path, true).await.map_err(|error| failed("look at a path", error))?;
        Ok(found.map(|found| (found.is_directory(), found.path)))
    }

    /// Where a payload lands, and whether a directory is there already.
    async fn target(
        &self,
        session: &Session,
        payload: &Payload,
        to: &str,
    ) -> Result<(String, bool), CommunicatorError> {
        let to = if to.starts_with('/') { to.to_owned() } else { format!("/{to}") };
        match payload {
            Payload::Directory { path, contents_only } => {
                let target = if *contents_only { to } else { place::join(&to, &place::base_name(path)) };
                // Through a link to a directory, whose own name an archive would put a directory in the place of.
                Ok(match self.look(session, &target).await? {
                    Some((true, real)) => (real, true),
                    Some((false, _)) => (target, true),
                    None => (target, false),
                })
            }
            Payload::File { path, .. } => {
                let is_directory =
                    to.ends_with('/') || self.look(session, &to).await?.is_some_and(|(is_directory, _)| is_directory);
                Ok((if is_directory { place::join(&to, &place::base_name(path)) } else { to }, false))
            }
            Payload::Bytes { .. } => Ok((to, false)),
        }
    }

    /// Directories that are missing above a path, outermost first.
    async fn missing_parents(
        &self,
        session: &Session,
        target: &str,
        owner: Option<Owner>,
    ) -> Result<Vec<PathBuf>, CommunicatorError> {
        let mut missing = Vec::new();
        if owner.is_none_or(|owner| owner == Owner { user: 0, group: 0 }) {
            return Ok(missing);
        }
        let mut parent = Path::new(target.trim_end_matches('/')).parent();
        while let Some(path) = parent.filter(|path| *path != Path::new("/")) {
            if self.look(session, &path.display().to_string()).await?.is_some() {
                break;
            }
            missing.push(relative(path));
            parent = path.parent();
        }
        missing.reverse();
        Ok(missing)
    }
}

#[async_trait]
impl Communicator for OciCommunicator {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let has_terminal = (self.habits.pty || command.pty) && matches!(command.stdin, Stdin::Closed);
        if has_terminal { self.exec_on_terminal(command, sink).await } else { self.exec_piped(command, sink).await }
    }

    fn has_terminal(&self) -> bool {
        self.habits.pty
    }

    fn runs_scripts(&self) -> bool {
        true
    }

    async fn run_script(
        &self,
        script: &Script,
        command: &Command,
        sink: &mut dyn OutputSink,
    ) -> Result<ScriptRun, CommunicatorError> {
        let size = match &script.content {
            Stdin::Bytes(bytes) => Some(bytes.len() as u64),
            Stdin::Closed | Stdin::File(_) => None,
        };
        let file = ScriptFile { path: script.path.clone(), size, stays: script.stays };
        let exec = Exec { argv: vec![script.path.clone()], script: Some(file), ..self.exec_of(command) };
        match self.start_piped(exec, &script.content).await {
            Ok(piped) => Ok(piped.finish(sink).await.map_or_else(ScriptRun::Lost, ScriptRun::Ended)),
            Err(CommunicatorError::Transport { source, .. }) if is_missing(&*source) => {
                Ok(ScriptRun::Ended(refused(&*source, &source.to_string(), sink)))
            }
            Err(CommunicatorError::Transport { source, .. }) if is_unstored(&*source) => {
                let cause = source.source().map(ToString::to_string);
                Ok(ScriptRun::NotStored(cause.unwrap_or_else(|| source.to_string())))
            }
            Err(error) => Err(error),
        }
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        if let Payload::File { path, .. } | Payload::Directory { path, .. } = payload {
            // Said before a sandbox is started for it.
            let metadata = tokio::fs::metadata(path).await;
            metadata.map_err(|source| CommunicatorError::Local { action: "read", path: path.clone(), source })?;
        }
        let session = self.session().await?;
        let (target, exists) = self.target(&session, payload, to).await?;
        let owner = self.owner().await?;
        let parents = self.missing_parents(&session, &target, owner).await?;
        let layout = Layout { target: relative(Path::new(&target)), include_root: !exists, parents, owner };
        let Packing { stream, outcome } = pack_payload(payload.clone(), layout);
        let (theirs, ours) = pipe_pair()?;
        let ours = pipe::Sender::from_owned_fd(ours).map_err(plumbing)?;
        let (sent, unpacked) = tokio::join!(send(stream, ours), session.unpack(theirs, "/"));
        let unpacked = unpacked.map(drop).map_err(|error| failed(format!("upload to {target}"), error));
        match outcome.await.unwrap_or(Ok(Vec::new())) {
            Ok(skipped) => {
                for path in skipped {
                    self.events.warn(format!("{} is a socket or device and was not uploaded", path.display()));
                }
                unpacked.and(sent)
            }
            // The other side gave up first and says why.
            Err(PackError::Abandoned(_)) if unpacked.is_err() => unpacked,
            Err(error) => Err(error.into()),
        }
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let path = match from.trim_end_matches('/') {
            "" => "/".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let session = self.session().await?;
        let found = self.look(&session, &path).await?;
        let (is_directory, path) = found.ok_or_else(|| CommunicatorError::NotFound(from.to_owned()))?;
        let (ours, theirs) = pipe_pair()?;
        let stream = ReaderStream::with_capacity(pipe::Receiver::from_owned_fd(ours).map_err(plumbing)?, CHUNK);
        let stream: ByteStream = Box::pin(stream);
        let packing =
            async { session.pack(&path, theirs).await.map_err(|error| failed(format!("download {from}"), error)) };
        if is_directory {
            let place = place::downloaded_directory(from, to);
            // The archive of `/` has no directory of its own in front.
            let options = UnpackOptions::as_tar_does(path != "/");
            let (unpacked, packed) = tokio::join!(unpack_stream(stream, &place, options), packing);
            packed?;
            for path in unpacked? {
                self.events.warn(format!("{} is a device or pipe and was not downloaded", path.display()));
            }
            return Ok(Downloaded::Directory);
        }
        let (unpacked, packed) = tokio::join!(unpack_file(stream, to, UnpackOptions::as_tar_does(false)), packing);
        packed?;
        unpacked?;
        Ok(Downloaded::File)
    }

    async fn interact(&self, command: &Command, terminal: Terminal) -> Result<ExitStatus, CommunicatorError> {
        let Terminal { mut input, mut output, mut size } = terminal;
        let now = *size.borrow_and_update();
        let mut running = self.start(Exec { terminal: Some(now), ..self.exec_of(command) }).await?;
        let Some(guest) = running.take_terminal() else {
            return Err(plumbing(io::Error::other("the sandbox gave no terminal")));
        };
        let (mut shown, mut typed) = terminal_ends(guest).map_err(plumbing)?;
        let typing = async {
            // The end of the input is not the end of the command; whoever sits there sees that.
            let _ = tokio::io::copy(&mut input, &mut typed).await;
            std::future::pending::<()>().await;
        };
        let showing = async {
            let mut buffer = vec![0; CHUNK];
            while let Ok(length) = shown.read(&mut buffer).await {
                if length == 0 || output.write_all(&buffer[..length]).await.is_err() || output.flush().await.is_err() {
                    break;
                }
            }
        };
        tokio::pin!(typing, showing);
        let mut is_showing = true;
        let mut is_sized = true;
        loop {
            tokio::select! {
                biased;
                () = &mut showing, if is_showing => is_showing = false,
                changed = size.changed(), if is_sized => {
                    is_sized = changed.is_ok();
                    let (columns, rows) = *size.borrow_and_update();
                    running.resize(columns, rows).map_err(|error| failed("resize the terminal", error))?;
                }
                () = &mut typing => {}
                status = running.wait() => {
                    if is_showing {
                        // What it said last.
                        let _ = tokio::time::timeout(std::time::Duration::from_millis(50), &mut showing).await;
                    }
                    return status.map(status_of).map_err(|error| failed("run a command", error));
                }
            }
        }
    }
}

/// A command on pipes.
struct Piped {
    running: Running,
    stdout: OwnedFd,
    stderr: OwnedFd,
    feeding: Option<Feeding>,
}

impl Piped {
    /// Hands its output on until it ends.
    async fn finish(mut self, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let receiver = |fd| pipe::Receiver::from_owned_fd(fd).map_err(plumbing);
        let (mut stdout, mut stderr) = (receiver(self.stdout)?, receiver(self.stderr)?);
        let (mut buffer_out, mut buffer_err) = (vec![0; CHUNK], vec![0; CHUNK]);
        let (mut open_out, mut open_err) = (true, true);
        let status = loop {
            tokio::select! {
                biased;
                read = stdout.read(&mut buffer_out), if open_out => {
                    open_out = pass(read, Stream::Stdout, &buffer_out, sink)?;
                }
                read = stderr.read(&mut buffer_err), if open_err => {
                    open_err = pass(read, Stream::Stderr, &buffer_err, sink)?;
                }
                status = self.running.wait() => break status.map_err(|error| failed("run a command", error))?,
            }
        };
        // All that it wrote is in the pipes; what it left running may hold them open for as long as it likes.
        drain(&stdout, Stream::Stdout, &mut buffer_out, sink)?;
        drain(&stderr, Stream::Stderr, &mut buffer_err, sink)?;
        drop(self.feeding);
        Ok(status_of(status))
    }
}

/// Reads a list of users or groups; empty where there is none.
async fn read_list(session: Arc<Session>, list: &'static str) -> Result<String, SandboxError> {
    let found = session.stat(list, true).await?;
    if found.is_none_or(|found| found.is_directory() || found.size > LONGEST_LIST) {
        return Ok(String::new());
    }
    let text = |error: io::Error| SandboxError::system(format!("read {list}"), error);
    let (ours, theirs) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| text(error.into()))?;
    let mut archive = Vec::new();
    let receiver = pipe::Receiver::from_owned_fd(ours).map_err(text)?;
    let mut limited = receiver.take(LONGEST_LIST + 64 * 1024);
    let (read, packed) = tokio::join!(limited.read_to_end(&mut archive), session.pack(list, theirs));
    packed?;
    read.map_err(text)?;
    let mut bytes = Vec::new();
    let mut archive = tar::Archive::new(archive.as_slice());
    if let Some(entry) = archive.entries().map_err(text)?.next() {
        std::io::Read::read_to_end(&mut entry.map_err(text)?, &mut bytes).map_err(text)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Bytes, and the pipe that they go into.
type Feed = (OwnedFd, Bytes);

/// What a command reads, and what has to be written for that.
fn input(stdin: &Stdin) -> Result<(Option<OwnedFd>, Option<Feed>), CommunicatorError> {
    match stdin {
        Stdin::Closed => Ok((None, None)),
        Stdin::File(path) => {
            let opened = std::fs::File::open(path);
            let file =
                opened.map_err(|source| CommunicatorError::Local { action: "read", path: path.clone(), source })?;
            // The guest could write through what it can open again in its /proc.
            let (theirs, ours) = pipe_pair()?;
            std::thread::spawn(move || copy_file(file, ours));
            Ok((Some(theirs), None))
        }
        Stdin::Bytes(bytes) => {
            let (theirs, ours) = pipe_pair()?;
            Ok((Some(theirs), Some((ours, bytes.clone()))))
        }
    }
}

/// Feeds a file into a pipe, until that breaks.
fn copy_file(mut file: std::fs::File, to: OwnedFd) {
    let _ = io::copy(&mut file, &mut std::fs::File::from(to));
}

/// Bytes on their way into a command; dropping it ends that.
struct Feeding(tokio::task::JoinHandle<()>);

impl Feeding {
    fn start((to, bytes): Feed) -> Result<Feeding, CommunicatorError> {
        let mut sender = pipe::Sender::from_owned_fd(to).map_err(plumbing)?;
        Ok(Feeding(tokio::spawn(async move {
            // A command need not read what it is given.
            let _ = sender.write_all(&bytes).await;
        })))
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(mut stream: ByteStream, mut to: pipe::Sender) -> Result<(), CommunicatorError> {
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(plumbing)?;
        to.write_all(&chunk).await.map_err(plumbing)?;
    }
    Ok(())
}

fn pipe_pair() -> Result<(OwnedFd, OwnedFd), CommunicatorError> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|error| plumbing(error.into()))
}

/// Hands a chunk on; whether more may come.
fn pass(
    read: io::Result<usize>,
    stream: Stream,
    buffer: &[u8],
    sink: &mut dyn OutputSink,
) -> Result<bool, CommunicatorError> {
    match read {
        Ok(0) => Ok(false),
        Ok(length) => {
            sink.write(stream, &buffer[..length]);
            Ok(true)
        }
        // A terminal whose other side is gone.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Ok(false),
        Err(error) => Err(plumbing(error)),
    }
}

fn drain(
    from: &pipe::Receiver,
    stream: Stream,
    buffer: &mut [u8],
    sink: &mut dyn OutputSink,
) -> Result<(), CommunicatorError> {
    use std::os::fd::AsFd;
    // Not through the runtime, which may not know yet that something is there.
    loop {
        match rustix::io::read(from.as_fd(), &mut *buffer) {
            // A terminal whose other side is gone is at its end, too.
            Ok(0) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::IO) => return Ok(()),
            Ok(length) => sink.write(stream, &buffer[..length]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(plumbing(error.into())),
        }
    }
}

/// A program that cannot be started ends as in a shell: 127 where it does not exist, else 126.
fn refused(source: &(dyn std::error::Error + 'static), text: &str, sink: &mut dyn OutputSink) -> ExitStatus {
    let cause = source.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    sink.write(Stream::Stderr, format!("{text}{cause}\n").as_bytes());
    let is_absent = source
        .downcast_ref::<SandboxError>()
        .and_then(SandboxError::errno)
        .is_some_and(|errno| errno == rustix::io::Errno::NOENT.raw_os_error());
    ExitStatus::Exited(if is_absent { 127 } else { 126 })
}

fn is_missing(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref::<SandboxError>(), Some(SandboxError::Program { .. }))
}

fn is_unstored(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref::<SandboxError>(), Some(SandboxError::Script { .. }))
}

fn status_of(status: kiln_sandbox::ExitStatus) -> ExitStatus {
    match status {
        kiln_sandbox::ExitStatus::Exited(code) => ExitStatus::Exited(code.into()),
        kiln_sandbox::ExitStatus::Signalled(signal) => ExitStatus::Signalled(signal),
    }
}

/// The path inside of an archive that is unpacked at `/`.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

/// The sandbox's errors as a communicator's.
fn failed(action: impl Into<String>, error: SandboxError) -> CommunicatorError {
    match error {
        SandboxError::Ended => CommunicatorError::Disconnected(Box::new(error)),
        SandboxError::NotFound(path) => CommunicatorError::NotFound(path),
        SandboxError::User(_) => CommunicatorError::Impossible { action: action.into(), source: Box::new(error) },
        _ => CommunicatorError::Transport { action: action.into(), source: Box::new(error) },
    }
}

fn plumbing(error: io::Error) -> CommunicatorError {
    CommunicatorError::Transport { action: "move bytes".to_owned(), source: Box::new(error) }
}

/// Our side of a terminal: what is shown, and what is typed. Both are read and written as pipes are.
fn terminal_ends(fd: OwnedFd) -> io::Result<(pipe::Receiver, pipe::Sender)> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    let shown = pipe::Receiver::from_owned_fd_unchecked(fd.try_clone()?)?;
    Ok((shown, pipe::Sender::from_owned_fd_unchecked(fd)?))
}
