//! This host as a machine: what `shell-local` runs on.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{Command, Communicator, ExitStatus, OutputSink, Payload, Stdin, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;

use crate::place;
use crate::tar::{Layout, PackError, Packing, pack_payload};
use crate::unpack::{UnpackError, UnpackOptions, unpack_file, unpack_stream};

/// How long output is still read after the command ended, when something it started holds it open.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Runs commands on this host, each in a process group of its own, which is killed as a whole when the call is dropped.
#[derive(Debug, Clone, Default)]
pub struct LocalCommunicator;

/// Kills a command's group unless it ended.
struct Group {
    leader: Option<rustix::process::Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Gone already is fine.
            let _ = rustix::process::kill_process_group(leader, rustix::process::Signal::KILL);
        }
    }
}

fn refused(
    action: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CommunicatorError {
    CommunicatorError::Transport { action: action.into(), source: source.into() }
}

#[async_trait]
impl Communicator for LocalCommunicator {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let mut child = spawn(command).await?;
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        let mut group = Group { leader };
        let stdin = child.stdin.take();
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let feed = async {
            if let (Some(mut pipe), Stdin::Bytes(content)) = (stdin, &command.stdin) {
                // A command that does not read to the end is no error.
                let _ = pipe.write_all(content).await;
            }
        };
        let watch = async {
            let mut status = None;
            let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
            while stdout.is_some() || stderr.is_some() {
                tokio::select! {
                    length = read(&mut stdout, &mut out), if stdout.is_some() => match length {
                        Ok(length) if length > 0 => sink.write(Stream::Stdout, &out[..length]),
                        _ => stdout = None,
                    },
                    length = read(&mut stderr, &mut err), if stderr.is_some() => match length {
                        Ok(length) if length > 0 => sink.write(Stream::Stderr, &err[..length]),
                        _ => stderr = None,
                    },
                    ended = child.wait(), if status.is_none() => status = Some((ended, tokio::time::Instant::now())),
                    () = grace(status.as_ref().map(|(_, since)| *since)), if status.is_some() => break,
                }
            }
            match status {
                Some((ended, _)) => ended,
                None => child.wait().await,
            }
        };
        let ((), ended) = tokio::join!(feed, watch);
        group.leader = None;
        ended.map(exit_status).map_err(|source| refused("wait for a command", source))
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        let target = Path::new(to);
        match payload {
            Payload::Directory { path, contents_only } => {
                let place = if *contents_only { target.to_path_buf() } else { target.join(place::base_name(path)) };
                copy_tree(payload.clone(), &place).await
            }
            Payload::File { path, .. } if to.ends_with('/') || target.is_dir() => {
                copy_file(payload.clone(), &target.join(place::base_name(path))).await
            }
            Payload::File { .. } | Payload::Bytes { .. } => copy_file(payload.clone(), target).await,
        }
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let path = PathBuf::from(from);
        let metadata = tokio::fs::metadata(&path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CommunicatorError::NotFound(from.to_owned()),
            _ => CommunicatorError::Local { action: "read", path: path.clone(), source },
        })?;
        if metadata.is_dir() {
            let place = place::downloaded_directory(from, to);
            copy_tree(Payload::Directory { path, contents_only: true }, &place).await?;
            return Ok(Downloaded::Directory);
        }
        copy_file(Payload::File { path, mode: None }, to).await?;
        Ok(Downloaded::File)
    }
}

async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn grace(since: Option<tokio::time::Instant>) {
    match since {
        Some(since) => tokio::time::sleep_until(since + OUTPUT_GRACE).await,
        None => std::future::pending().await,
    }
}

async fn spawn(command: &Command) -> Result<Child, CommunicatorError> {
    let Some((program, arguments)) = command.argv.split_first() else {
        return Err(refused("run a command", "it has no program"));
    };
    if let Some(user) = &command.user {
        return Err(refused("run a command", format!("this host's commands cannot run as `{user}`")));
    }
    let mut process = tokio::process::Command::new(program);
    process.args(arguments).envs(command.environment.iter().map(|(name, value)| (name, value))).process_group(0);
    if let Some(directory) = &command.directory {
        process.current_dir(directory);
    }
    match &command.stdin {
        Stdin::Closed => process.stdin(Stdio::null()),
        Stdin::Bytes(_) => process.stdin(Stdio::piped()),
        Stdin::File(path) => {
            let file = tokio::fs::File::open(path).await;
            let file =
                file.map_err(|source| CommunicatorError::Local { action: "read", path: path.clone(), source })?;
            process.stdin(file.into_std().await)
        }
    };
    process.stdout(Stdio::piped()).stderr(Stdio::piped());
    process.spawn().map_err(|source| refused(format!("run {program}"), source))
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Exited(code.into()),
        (None, Some(signal)) => ExitStatus::Signalled(signal),
        (None, None) => ExitStatus::Exited(-1),
    }
}

/// This host's own files, as they are.
fn options(strip_first: bool) -> UnpackOptions {
    UnpackOptions { keep_set_id: true, ..UnpackOptions::as_tar_does(strip_first) }
}

async fn copy_tree(payload: Payload, to: &Path) -> Result<(), CommunicatorError> {
    let layout = Layout { target: PathBuf::from("root"), include_root: true, ..Layout::default() };
    let Packing { stream, outcome } = pack_payload(payload, layout);
    let result = unpack_stream(stream, to, options(true)).await;
    finish(result.map(drop), outcome).await
}

async fn copy_file(payload: Payload, to: &Path) -> Result<(), CommunicatorError> {
    let layout = Layout { target: PathBuf::from("file"), ..Layout::default() };
    let Packing { stream, outcome } = pack_payload(payload, layout);
    let result = unpack_file(stream, to, options(false)).await;
    finish(result, outcome).await
}

/// The error of the side that failed first.
async fn finish(
    written: Result<(), UnpackError>,
    packed: tokio::task::JoinHandle<Result<Vec<PathBuf>, PackError>>,
) -> Result<(), CommunicatorError> {
    let packed = packed.await.unwrap_or(Ok(Vec::new()));
    match (packed, written) {
        (Err(error), written) if !matches!(error, PackError::Abandoned(_)) || written.is_ok() => Err(error.into()),
        (_, Err(error)) => Err(error.into()),
        (_, Ok(())) => Ok(()),
    }
}

impl From<PackError> for CommunicatorError {
    fn from(error: PackError) -> CommunicatorError {
        match error {
            PackError::Read { path, source } => CommunicatorError::Local { action: "read", path, source },
            other => refused("send files", other),
        }
    }
}

impl From<UnpackError> for CommunicatorError {
    fn from(error: UnpackError) -> CommunicatorError {
        match error {
            UnpackError::Write { path, source } => CommunicatorError::Local { action: "write", path, source },
            other => refused("take files", other),
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::communicator::{CaptureSink, NullSink};

    use super::*;

    #[tokio::test]
    async fn this_host_conforms() {
        let directory = tempfile::tempdir().unwrap();
        crate::conformance::check_host(&LocalCommunicator, &directory.path().display().to_string()).await;
    }

    #[tokio::test]
    async fn a_dropped_call_takes_the_whole_group_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        // The grandchild holds the pipe open for writing as long as it lives.
        let script = format!("(exec sleep 600 > {0}) & wait", fifo.display());
        let communicator = LocalCommunicator;
        let command = Command::shell(script);
        let mut sink = NullSink;
        let mut call = communicator.exec(&command, &mut sink);
        let reader = tokio::task::spawn_blocking({
            let fifo = fifo.clone();
            move || {
                let mut pipe = std::fs::File::open(fifo).unwrap();
                std::io::Read::read_to_end(&mut pipe, &mut Vec::new()).unwrap()
            }
        });
        let opened = async {
            // Opening for writing without blocking works only while a reader waits.
            while !reader.is_finished() {
                tokio::task::yield_now().await;
                if std::fs::read_dir("/proc/self/fd")
                    .unwrap()
                    .flatten()
                    .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| link == fifo))
                {
                    return;
                }
            }
        };
        tokio::select! {
            _ = &mut call => panic!("the command ended by itself"),
            () = opened => {}
        }
        drop(call);
        assert_eq!(reader.await.unwrap(), 0, "the pipe closes only when the grandchild is dead");
    }

    #[tokio::test]
    async fn what_cannot_run_says_so() {
        let command = Command::new(["/nowhere/at/all"]);
        let error = LocalCommunicator.exec(&command, &mut CaptureSink::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot run /nowhere/at/all on the machine");
        let command = Command { user: Some("nobody".into()), ..Command::shell("true") };
        let error = LocalCommunicator.exec(&command, &mut CaptureSink::default()).await.unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("nobody"));
    }

    #[tokio::test]
    async fn a_killed_command_tells_the_signal() {
        let status = LocalCommunicator.exec(&Command::shell("kill -9 $$"), &mut NullSink).await.unwrap();
        assert_eq!(status, ExitStatus::Signalled(9));
        assert_eq!(status.code(), 137);
    }
}
