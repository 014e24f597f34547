//! Commands and files over the engine's API: no `docker` program, no shared directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::communicator::{CaptureSink, CommunicatorError, Downloaded};
use kiln_core::{Command, Communicator, Events, ExitStatus, OutputSink, Payload, Stdin, Terminal};
use kiln_docker::engine::ByteStream;
use kiln_docker::{Engine, EngineError};
use kiln_transport::place;
use kiln_transport::tar::{Layout, Owner, PackError, Packing, pack_payload};
use kiln_transport::unpack::{UnpackOptions, unpack_file, unpack_stream};
use tokio::sync::OnceCell;
use tokio_util::io::ReaderStream;

use crate::owner;
use crate::running::{self, Running};

/// Size of the pieces a file is fed to a command in, in bytes.
const CHUNK: usize = 256 * 1024;

/// What the engine's client was doing when a command's end could not be had.
const LOOK_AT_COMMAND: &str = "look at a command";

/// A container as a machine.
pub struct DockerCommunicator {
    engine: Arc<dyn Engine>,
    container: String,
    image_user: String,
    events: Events,
    exec_user: Option<String>,
    pty: bool,
    fix_upload_owner: bool,
    in_memory: Vec<String>,
    owner: OnceCell<Owner>,
    running: Running,
}

impl DockerCommunicator {
    /// For a running container whose image has this `USER`. `events` takes warnings of files that cannot be sent.
    pub fn new(engine: Arc<dyn Engine>, container: String, image_user: String, events: Events) -> DockerCommunicator {
        DockerCommunicator {
            engine,
            container,
            image_user,
            events,
            exec_user: None,
            pty: false,
            fix_upload_owner: true,
            in_memory: Vec::new(),
            owner: OnceCell::new(),
            running: Running::default(),
        }
    }

    /// Commands run as this user unless they say otherwise.
    #[must_use]
    pub fn exec_user(mut self, user: Option<String>) -> DockerCommunicator {
        self.exec_user = user;
        self
    }

    /// All commands get a pseudo terminal, but for those with input.
    #[must_use]
    pub fn pty(mut self, pty: bool) -> DockerCommunicator {
        self.pty = pty;
        self
    }

    /// Whether uploads belong to the image's user; else their numeric owners stay.
    #[must_use]
    pub fn fix_upload_owner(mut self, fix: bool) -> DockerCommunicator {
        self.fix_upload_owner = fix;
        self
    }

    /// Paths that are held in memory. The engine's archive calls do not see into them.
    #[must_use]
    pub fn in_memory(mut self, paths: Vec<String>) -> DockerCommunicator {
        self.in_memory = paths;
        self
    }

    fn is_in_memory(&self, path: &str) -> bool {
        self.in_memory.iter().any(|mounted| Path::new(path).starts_with(mounted))
    }

    /// The engine's errors as a communicator's. Whether a container comes back is known only by looking at it: a paused
    /// or restarting one does, a stopped or removed one never.
    async fn failed(&self, action: impl Into<String>, error: EngineError) -> CommunicatorError {
        if !refuses_container(&error, &self.container) {
            return broken(action, error);
        }
        match self.engine.inspect_container(&self.container).await {
            Ok(Some(info)) if !info.is_running => {
                let status = info.exit_code.map(|code| format!(" (it ended with status {code})")).unwrap_or_default();
                CommunicatorError::Ended(format!("container {} is not running{status}", info.name))
            }
            Ok(None) => CommunicatorError::Ended(format!("container {} does not exist any more", self.container)),
            Ok(Some(_)) | Err(_) => CommunicatorError::Disconnected(Box::new(error)),
        }
    }

    async fn owner(&self) -> Result<Option<Owner>, CommunicatorError> {
        if !self.fix_upload_owner {
            return Ok(None);
        }
        let resolve = || owner::resolve(&*self.engine, &self.container, &self.image_user);
        let owner = self.owner.get_or_try_init(resolve).await;
        owner.map(|owner| Some(*owner)).map_err(|error| CommunicatorError::Transport {
            action: "find the owner of uploads".to_owned(),
            source: error.into(),
        })
    }

    /// What stands at a path, links followed; `None` for nothing. Otherwise: whether it is a directory, and its real path.
    async fn look(&self, path: &str) -> Result<Option<(bool, String)>, CommunicatorError> {
        let mut path = path.to_owned();
        if self.is_in_memory(&path) {
            return self.look_by_command(&path).await;
        }
        let stat = |path: String| async move {
            self.engine.stat_path(&self.container, &path).await.map_err(|error| broken("look at a path", error))
        };
        let Some(mut found) = stat(path.clone()).await? else { return Ok(None) };
        if let Some(target) = found.link_target {
            path.clone_from(&target);
            match stat(target).await? {
                Some(there) => found = there,
                None => return Ok(None),
            }
        }
        Ok(Some((found.is_directory, path)))
    }

    async fn look_by_command(&self, path: &str) -> Result<Option<(bool, String)>, CommunicatorError> {
        let script = "if [ -d \"$1\" ]; then exit 10; elif [ -e \"$1\" ]; then exit 11; else exit 12; fi";
        let command = Command { user: Some("0".into()), ..Command::new(["/bin/sh", "-c", script, "sh", path]) };
        let status = self.engine.exec(&self.container, &command, None, &mut CaptureSink::default()).await;
        let status = match status {
            Ok(status) => status,
            Err(error) => return Err(self.failed("look at a path", error).await),
        };
        match status {
            10 => Ok(Some((true, path.to_owned()))),
            11 => Ok(Some((false, path.to_owned()))),
            _ => Ok(None),
        }
    }

    /// Where a payload lands, and whether a directory is there already.
    async fn target(&self, payload: &Payload, to: &str) -> Result<(String, bool), CommunicatorError> {
        let to = if to.starts_with('/') { to.to_owned() } else { format!("/{to}") };
        match payload {
            Payload::Directory { path, contents_only } => {
                let target = if *contents_only { to } else { place::join(&to, &place::base_name(path)) };
                let exists = self.look(&target).await?.is_some();
                Ok((target, exists))
            }
            Payload::File { path, .. } => {
                let is_directory =
                    to.ends_with('/') || self.look(&to).await?.is_some_and(|(is_directory, _)| is_directory);
                Ok((if is_directory { place::join(&to, &place::base_name(path)) } else { to }, false))
            }
            Payload::Bytes { .. } => Ok((to, false)),
        }
    }

    /// Directories that are missing above a path, outermost first. The engine makes them too, but as root's.
    async fn missing_parents(&self, target: &str, owner: Option<Owner>) -> Result<Vec<PathBuf>, CommunicatorError> {
        let mut missing = Vec::new();
        if owner.is_none_or(|owner| owner == Owner { user: 0, group: 0 }) {
            return Ok(missing);
        }
        let mut parent = Path::new(target.trim_end_matches('/')).parent();
        while let Some(path) = parent.filter(|path| *path != Path::new("/")) {
            if self.look(&path.display().to_string()).await?.is_some() {
                break;
            }
            missing.push(relative(path));
            parent = path.parent();
        }
        missing.reverse();
        Ok(missing)
    }

    async fn send(&self, target: &str, stream: ByteStream) -> Result<(), CommunicatorError> {
        let action = || format!("upload to {target}");
        if !self.is_in_memory(target) {
            let sent = self.engine.put_archive(&self.container, "/", stream).await;
            return match sent {
                Ok(()) => Ok(()),
                Err(error) => Err(self.failed(action(), error).await),
            };
        }
        let command = Command { user: Some("0".into()), ..Command::new(["tar", "-xpf", "-", "-C", "/"]) };
        let mut sink = CaptureSink::default();
        let status = self.engine.exec(&self.container, &command, Some(stream), &mut sink).await;
        let status = match status {
            Ok(status) => status,
            Err(error) => return Err(self.failed(action(), error).await),
        };
        match status {
            0 => Ok(()),
            code => {
                let words = [sink.stdout, sink.stderr].concat();
                let words = String::from_utf8_lossy(&words).trim().to_owned();
                let text = format!(
                    "{target} is held in memory, where only `tar` in the container reaches; it exited with {code}: {words}"
                );
                Err(CommunicatorError::Transport { action: action(), source: text.into() })
            }
        }
    }
}

/// The path inside of an archive that is unpacked at `/`.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, std::path::Component::Normal(_))).collect()
}

/// Whether the engine did not begin because of the state of the container. A command's end is looked up by another name
/// and action: a container that dies under a command is a lost connection.
fn refuses_container(error: &EngineError, container: &str) -> bool {
    match error {
        EngineError::NotFound { message, .. } => message.contains(container),
        EngineError::Refused { status: Some(409), action, .. } => action != LOOK_AT_COMMAND,
        _ => false,
    }
}

/// The engine's errors as a communicator's, where the container's state needs no look.
fn broken(action: impl Into<String>, error: EngineError) -> CommunicatorError {
    match error {
        EngineError::Local { action, path, source } => CommunicatorError::Local { action, path, source },
        EngineError::Connection { .. } | EngineError::Unreachable { .. } => {
            CommunicatorError::Disconnected(Box::new(error))
        }
        EngineError::NotFound { ref what, .. } if what.starts_with("container ") => {
            CommunicatorError::Disconnected(Box::new(error))
        }
        // 409: the container does not run any more.
        EngineError::Refused { status: Some(409), .. } => CommunicatorError::Disconnected(Box::new(error)),
        other => CommunicatorError::Transport { action: action.into(), source: Box::new(other) },
    }
}

async fn input(stdin: &Stdin) -> Result<Option<ByteStream>, CommunicatorError> {
    Ok(match stdin {
        Stdin::Closed => None,
        Stdin::Bytes(content) => Some(Box::pin(futures_util::stream::iter([Ok(content.clone())]))),
        Stdin::File(path) => {
            let file = tokio::fs::File::open(path).await;
            let file =
                file.map_err(|source| CommunicatorError::Local { action: "read", path: path.clone(), source })?;
            Some(Box::pin(ReaderStream::with_capacity(file, CHUNK)))
        }
    })
}

#[async_trait]
impl Communicator for DockerCommunicator {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let input = input(&command.stdin).await?;
        let has_terminal = command.pty || (self.pty && input.is_none());
        let user = command.user.clone().or_else(|| self.exec_user.clone());
        let mark = self.running.start(user.as_deref());
        let mut environment = command.environment.clone();
        environment.push((running::VARIABLE.to_owned(), mark.clone()));
        // Standard input is not copied along: it may be large.
        let command = Command {
            argv: command.argv.clone(),
            environment,
            directory: command.directory.clone(),
            user,
            pty: has_terminal,
            stdin: Stdin::Closed,
        };
        let code = self.engine.exec(&self.container, &command, input, sink).await;
        self.running.end(&mark);
        match code {
            Ok(code) => Ok(ExitStatus::Exited(code)),
            Err(error) => Err(self.failed("run a command", error).await),
        }
    }

    fn has_terminal(&self) -> bool {
        self.pty
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        if let Payload::File { path, .. } | Payload::Directory { path, .. } = payload {
            // Said before anything is asked of the engine.
            let metadata = tokio::fs::metadata(path).await;
            metadata.map_err(|source| CommunicatorError::Local { action: "read", path: path.clone(), source })?;
        }
        let (target, exists) = self.target(payload, to).await?;
        let owner = self.owner().await?;
        let parents = self.missing_parents(&target, owner).await?;
        let layout = Layout { target: relative(Path::new(&target)), include_root: !exists, parents, owner };
        let Packing { stream, outcome } = pack_payload(payload.clone(), layout);
        let sent = self.send(&target, stream).await;
        match outcome.await.unwrap_or(Ok(Vec::new())) {
            Ok(skipped) => {
                for path in skipped {
                    self.events.warn(format!("{} is a socket or device and was not uploaded", path.display()));
                }
                sent
            }
            // The other side gave up first and says why.
            Err(PackError::Abandoned(_)) if sent.is_err() => sent,
            Err(error) => Err(error.into()),
        }
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let path = match from.trim_end_matches('/') {
            "" => "/".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/{path}"),
        };
        let not_found = || CommunicatorError::NotFound(from.to_owned());
        let (is_directory, path) = self.look(&path).await?.ok_or_else(not_found)?;
        if self.is_in_memory(&path) {
            let text = "it is held in memory, where the engine cannot read; copy it elsewhere first";
            return Err(CommunicatorError::Transport { action: format!("download {from}"), source: text.into() });
        }
        let stream = match self.engine.get_archive(&self.container, &path).await {
            Ok(stream) => stream,
            Err(error) if error.is_not_found() => return Err(not_found()),
            Err(error) => return Err(broken(format!("download {from}"), error)),
        };
        if is_directory {
            let place = place::downloaded_directory(from, to);
            // The archive of `/` has no directory of its own in front.
            let skipped = unpack_stream(stream, &place, UnpackOptions::as_tar_does(path != "/")).await?;
            for path in skipped {
                self.events.warn(format!("{} is a device or pipe and was not downloaded", path.display()));
            }
            return Ok(Downloaded::Directory);
        }
        unpack_file(stream, to, UnpackOptions::as_tar_does(false)).await?;
        Ok(Downloaded::File)
    }

    async fn interact(&self, command: &Command, terminal: Terminal) -> Result<ExitStatus, CommunicatorError> {
        let user = command.user.clone().or_else(|| self.exec_user.clone());
        let command = Command { user, stdin: Stdin::Closed, ..command.clone() };
        match self.engine.interact(&self.container, &command, terminal).await {
            Ok(code) => Ok(ExitStatus::Exited(code)),
            Err(error) => Err(self.failed("run a command", error).await),
        }
    }

    async fn end_dropped(&self) -> Result<(), CommunicatorError> {
        let (marks, users) = self.running.take();
        if marks.is_empty() {
            return Ok(());
        }
        let failed = |error| broken("end a command", error);
        let mut found = CaptureSink::default();
        for user in users {
            let command = running::kill(user, "", &marks);
            self.engine.exec(&self.container, &command, None, &mut found).await.map_err(failed)?;
        }
        let sessions = String::from_utf8_lossy(&found.stdout).replace('\n', "");
        let mut sink = CaptureSink::default();
        let command = running::kill(Some("0".to_owned()), &sessions, &marks);
        match self.engine.exec(&self.container, &command, None, &mut sink).await.map_err(failed)? {
            0 => Ok(()),
            _ => {
                let words = String::from_utf8_lossy(&sink.stderr).trim().to_owned();
                Err(CommunicatorError::Transport { action: "end a command".to_owned(), source: words.into() })
            }
        }
    }
}
