//! A communicator that records what it is asked and answers as it was told.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{Command, Communicator, ExitStatus, OutputSink, Payload, Stdin, Stream};

use crate::lock;

/// A command as the communicator got it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment beside the command line, in clear.
    pub environment: Vec<(String, String)>,
    /// Working directory.
    pub directory: Option<String>,
    /// User.
    pub user: Option<String>,
    /// Pseudo terminal.
    pub pty: bool,
    /// All of standard input; `None` when it was closed.
    pub stdin: Option<Vec<u8>>,
}

impl Executed {
    /// The value of an environment variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Standard input as text; empty when closed.
    pub fn stdin_text(&self) -> String {
        String::from_utf8_lossy(self.stdin.as_deref().unwrap_or_default()).into_owned()
    }
}

/// An upload as the communicator got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// One file.
    File {
        /// Where to.
        to: String,
        /// All of it.
        content: Vec<u8>,
        /// Permission bits; `None`: those of the file on the host.
        mode: Option<u32>,
    },
    /// A directory.
    Directory {
        /// Where to.
        to: String,
        /// The directory on the host.
        path: PathBuf,
        /// Whether without the directory itself.
        contents_only: bool,
        /// Its regular files by their path inside it, with their content.
        files: BTreeMap<String, Vec<u8>>,
    },
}

/// One call, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// A command.
    Exec(Executed),
    /// An upload.
    Upload(Uploaded),
    /// A download: from, to.
    Download(String, PathBuf),
}

#[derive(Debug, Clone)]
enum End {
    Status(ExitStatus),
    NotFound(String),
    Disconnected,
    Ended,
    Refused,
    Impossible,
    Never,
}

/// What a call is answered with.
#[derive(Debug, Clone)]
pub struct Reply {
    delay: Duration,
    output: Vec<(Stream, Vec<u8>)>,
    end: End,
}

impl Reply {
    fn new(end: End) -> Reply {
        Reply { delay: Duration::ZERO, output: Vec::new(), end }
    }

    /// Goes well.
    pub fn ok() -> Reply {
        Reply::exit(0)
    }

    /// The command exits with this status.
    pub fn exit(status: i64) -> Reply {
        Reply::new(End::Status(ExitStatus::Exited(status)))
    }

    /// The command is killed by this signal.
    pub fn killed(signal: i32) -> Reply {
        Reply::new(End::Status(ExitStatus::Signalled(signal)))
    }

    /// The connection breaks.
    pub fn disconnected() -> Reply {
        Reply::new(End::Disconnected)
    }

    /// The machine has ended before.
    pub fn ended() -> Reply {
        Reply::new(End::Ended)
    }

    /// The transport refuses.
    pub fn refused() -> Reply {
        Reply::new(End::Refused)
    }

    /// The machine refuses, and always will.
    pub fn impossible() -> Reply {
        Reply::new(End::Impossible)
    }

    /// There is no such file on the machine.
    pub fn not_found(path: &str) -> Reply {
        Reply::new(End::NotFound(path.to_owned()))
    }

    /// No end comes: the call hangs until it is dropped.
    pub fn never() -> Reply {
        Reply::new(End::Never)
    }

    /// With this on standard output.
    #[must_use]
    pub fn stdout(mut self, text: impl AsRef<[u8]>) -> Reply {
        self.output.push((Stream::Stdout, text.as_ref().to_vec()));
        self
    }

    /// With this on standard error.
    #[must_use]
    pub fn stderr(mut self, text: impl AsRef<[u8]>) -> Reply {
        self.output.push((Stream::Stderr, text.as_ref().to_vec()));
        self
    }

    /// After this time, by tokio's clock (which a test can pause).
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Reply {
        self.delay = delay;
        self
    }

    async fn play(self, action: &str, sink: Option<&mut dyn OutputSink>) -> Result<ExitStatus, CommunicatorError> {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        if let Some(sink) = sink {
            for (stream, chunk) in &self.output {
                sink.write(*stream, chunk);
            }
        }
        match self.end {
            End::Status(status) => Ok(status),
            End::NotFound(path) => Err(CommunicatorError::NotFound(path)),
            End::Disconnected => Err(CommunicatorError::Disconnected("scripted: connection reset".into())),
            End::Ended => Err(CommunicatorError::Ended("scripted: it is not running".into())),
            End::Refused => {
                Err(CommunicatorError::Transport { action: action.to_owned(), source: "scripted: refused".into() })
            }
            End::Impossible => Err(CommunicatorError::Impossible {
                action: action.to_owned(),
                source: "scripted: no such user".into(),
            }),
            End::Never => std::future::pending().await,
        }
    }
}

type Answer = Box<dyn Fn(&Executed) -> Reply + Send + Sync>;

/// Records every call in order. Replies are used up in the order given, per kind of call; without one a command exits
/// with 0, an upload succeeds, and a download finds what [`ScriptedCommunicator::serve`] put there.
#[derive(Default)]
pub struct ScriptedCommunicator {
    calls: Mutex<Vec<Call>>,
    execs: Mutex<VecDeque<Reply>>,
    uploads: Mutex<VecDeque<Reply>>,
    downloads: Mutex<VecDeque<Reply>>,
    served: Mutex<BTreeMap<String, Vec<u8>>>,
    answer: Mutex<Option<Answer>>,
    called: tokio::sync::Notify,
    has_terminal: std::sync::atomic::AtomicBool,
}

impl std::fmt::Debug for ScriptedCommunicator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ScriptedCommunicator").field("calls", &*lock(&self.calls)).finish_non_exhaustive()
    }
}

impl ScriptedCommunicator {
    /// Answers everything well.
    pub fn new() -> ScriptedCommunicator {
        ScriptedCommunicator::default()
    }

    /// From now on commands without input run on a terminal.
    pub fn on_terminal(&self) {
        self.has_terminal.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Answers the next command not answered yet.
    pub fn on_exec(&self, reply: Reply) {
        lock(&self.execs).push_back(reply);
    }

    /// Answers every command for which no [`ScriptedCommunicator::on_exec`] is left.
    pub fn on_every_exec(&self, answer: impl Fn(&Executed) -> Reply + Send + Sync + 'static) {
        *lock(&self.answer) = Some(Box::new(answer));
    }

    /// Answers the next upload.
    pub fn on_upload(&self, reply: Reply) {
        lock(&self.uploads).push_back(reply);
    }

    /// Answers the next download; a reply that goes well still takes the content from what is served.
    pub fn on_download(&self, reply: Reply) {
        lock(&self.downloads).push_back(reply);
    }

    /// Puts a file on the machine, for downloads.
    pub fn serve(&self, path: &str, content: impl AsRef<[u8]>) {
        lock(&self.served).insert(path.to_owned(), content.as_ref().to_vec());
    }

    /// All calls so far, in order.
    pub fn calls(&self) -> Vec<Call> {
        lock(&self.calls).clone()
    }

    /// The commands so far.
    pub fn execs(&self) -> Vec<Executed> {
        let pick = |call| match call {
            Call::Exec(executed) => Some(executed),
            _ => None,
        };
        self.calls().into_iter().filter_map(pick).collect()
    }

    /// The uploads so far.
    pub fn uploads(&self) -> Vec<Uploaded> {
        let pick = |call| match call {
            Call::Upload(uploaded) => Some(uploaded),
            _ => None,
        };
        self.calls().into_iter().filter_map(pick).collect()
    }

    /// Whether a text stands in the arguments of any command: where a secret must never be.
    pub fn is_in_any_argument(&self, text: &str) -> bool {
        self.execs().iter().any(|executed| executed.argv.iter().any(|argument| argument.contains(text)))
    }

    /// Waits until this many calls have come.
    pub async fn wait_for_calls(&self, count: usize) {
        loop {
            let called = self.called.notified();
            if lock(&self.calls).len() >= count {
                return;
            }
            called.await;
        }
    }

    fn record(&self, call: Call) {
        lock(&self.calls).push(call);
        self.called.notify_waiters();
    }
}

#[async_trait]
impl Communicator for ScriptedCommunicator {
    fn has_terminal(&self) -> bool {
        self.has_terminal.load(std::sync::atomic::Ordering::SeqCst)
    }

    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let stdin = match &command.stdin {
            Stdin::Closed => None,
            Stdin::Bytes(bytes) => Some(bytes.to_vec()),
            Stdin::File(path) => Some(read(path).await?),
        };
        let executed = Executed {
            argv: command.argv.clone(),
            environment: command.environment.clone(),
            directory: command.directory.clone(),
            user: command.user.clone(),
            pty: command.pty,
            stdin,
        };
        self.record(Call::Exec(executed.clone()));
        let queued = lock(&self.execs).pop_front();
        let reply = queued.or_else(|| lock(&self.answer).as_ref().map(|answer| answer(&executed)));
        reply.unwrap_or_else(Reply::ok).play("run a command", Some(sink)).await
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        let to = to.to_owned();
        let action = format!("upload to {to}");
        let uploaded = match payload {
            Payload::Bytes { content, mode } => Uploaded::File { to, content: content.to_vec(), mode: Some(*mode) },
            Payload::File { path, mode } => Uploaded::File { to, content: read(path).await?, mode: *mode },
            Payload::Directory { path, contents_only } => Uploaded::Directory {
                to,
                path: path.clone(),
                contents_only: *contents_only,
                files: files_below(path).map_err(|source| local("read", path, source))?,
            },
        };
        self.record(Call::Upload(uploaded));
        let reply = lock(&self.uploads).pop_front();
        reply.unwrap_or_else(Reply::ok).play(&action, None).await.map(|_| ())
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        self.record(Call::Download(from.to_owned(), to.to_owned()));
        let reply = lock(&self.downloads).pop_front();
        reply.unwrap_or_else(Reply::ok).play(&format!("download {from}"), None).await?;
        let served = lock(&self.served).clone();
        if let Some(content) = served.get(from) {
            write(to, content)?;
            return Ok(Downloaded::File);
        }
        let directory = from.trim_end_matches('/');
        let prefix = format!("{directory}/");
        let base = if from.ends_with('/') { None } else { directory.rsplit('/').next() };
        let target = base.map_or_else(|| to.to_owned(), |name| to.join(name));
        let mut is_there = false;
        for (path, content) in &served {
            if let Some(inside) = path.strip_prefix(&prefix) {
                write(&target.join(inside), content)?;
                is_there = true;
            }
        }
        if is_there { Ok(Downloaded::Directory) } else { Err(CommunicatorError::NotFound(from.to_owned())) }
    }
}

fn local(action: &'static str, path: &Path, source: io::Error) -> CommunicatorError {
    CommunicatorError::Local { action, path: path.to_owned(), source }
}

async fn read(path: &Path) -> Result<Vec<u8>, CommunicatorError> {
    tokio::fs::read(path).await.map_err(|source| local("read", path, source))
}

fn write(path: &Path, content: &[u8]) -> Result<(), CommunicatorError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)
        .and_then(|()| std::fs::write(path, content))
        .map_err(|source| local("write", path, source))
}

fn files_below(root: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.is_file() {
                let inside = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                files.insert(inside, std::fs::read(&path)?);
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use kiln_core::communicator::NullSink;

    use super::*;

    #[tokio::test]
    async fn records_everything_about_a_command_and_plays_its_reply() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("a.sh");
        std::fs::write(&script, "echo hi").unwrap();
        let communicator = ScriptedCommunicator::new();
        communicator.on_exec(Reply::killed(9));
        communicator.on_every_exec(|executed| Reply::exit(executed.argv.len().try_into().unwrap()));
        let command = Command {
            environment: vec![("A".into(), "1".into())],
            user: Some("nobody".into()),
            stdin: Stdin::File(script),
            ..Command::shell("x")
        };
        let first = communicator.exec(&command, &mut NullSink).await.unwrap();
        let second = communicator.exec(&Command::new(["true"]), &mut NullSink).await.unwrap();
        assert_eq!((first, second), (ExitStatus::Signalled(9), ExitStatus::Exited(1)));
        let seen = &communicator.execs()[0];
        assert_eq!((seen.stdin_text().as_str(), seen.variable("A")), ("echo hi", Some("1")));
        assert_eq!(seen.user.as_deref(), Some("nobody"));
        assert!(communicator.is_in_any_argument("/bin/sh") && !communicator.is_in_any_argument("echo hi"));
    }

    #[tokio::test]
    async fn downloads_follow_the_trailing_slash() {
        let directory = tempfile::tempdir().unwrap();
        let communicator = ScriptedCommunicator::new();
        communicator.serve("/var/log/a/b.txt", "log");
        let whole = communicator.download("/var/log", &directory.path().join("whole")).await.unwrap();
        communicator.download("/var/log/", &directory.path().join("content")).await.unwrap();
        communicator.download("/var/log/a/b.txt", &directory.path().join("file")).await.unwrap();
        assert_eq!(whole, Downloaded::Directory);
        for path in ["whole/log/a/b.txt", "content/a/b.txt", "file"] {
            assert_eq!(std::fs::read_to_string(directory.path().join(path)).unwrap(), "log", "{path}");
        }
        let missing = communicator.download("/etc", &directory.path().join("x")).await;
        assert!(matches!(missing, Err(CommunicatorError::NotFound(path)) if path == "/etc"));
    }

    #[tokio::test]
    async fn errors_come_as_scripted() {
        let communicator = ScriptedCommunicator::new();
        communicator.on_upload(Reply::refused());
        let payload = Payload::Bytes { content: "x".into(), mode: 0o600 };
        let refused = communicator.upload(&payload, "/tmp/x").await;
        assert!(matches!(refused, Err(CommunicatorError::Transport { .. })));
        communicator.upload(&payload, "/tmp/y").await.unwrap();
        let to = |to: &str| Uploaded::File { to: to.into(), content: b"x".to_vec(), mode: Some(0o600) };
        assert_eq!(communicator.uploads(), [to("/tmp/x"), to("/tmp/y")]);
    }
}
