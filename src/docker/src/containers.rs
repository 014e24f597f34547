//! Containers: the calls behind [`crate::Engine`] that concern them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models;
use bollard::query_parameters::{
    CommitContainerOptions, ContainerArchiveInfoOptions, CreateContainerOptions, DownloadFromContainerOptions,
    InspectContainerOptions, KillContainerOptions, ListContainersOptions, RemoveContainerOptions, ResizeExecOptions,
    TopOptions, UploadToContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};
use kiln_core::{Command, OutputSink, Stream, Terminal};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::client::{BollardEngine, failed, seconds_of};
use crate::engine::{ByteStream, CommitSpec, ContainerInfo, ContainerSpec, Created, PathStat};
use crate::error::EngineError;
use crate::images::{whole_id, write_stream};

/// Bytes of output that one read may take.
const OUTPUT_BUFFER: usize = 64 * 1024;

/// How long podman may take for what comes after the end of a container, and the time between two looks.
const TIDYING_UP: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Bounds on the wait between two looks at a command whose output ended before it did.
const FIRST_LOOK: Duration = Duration::from_millis(1);
const LAST_LOOK: Duration = Duration::from_millis(250);

/// Go's file mode bits, as the engine tells them.
const MODE_DIRECTORY: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;

fn container_info(container: models::ContainerInspectResponse) -> ContainerInfo {
    let state = container.state.unwrap_or_default();
    let settings = container.network_settings.unwrap_or_default();
    let (networks, published) = (settings.networks.unwrap_or_default(), settings.ports);
    let mut addresses: Vec<_> =
        networks.into_iter().filter_map(|(name, network)| Some((name, network.ip_address?))).collect();
    addresses.sort();
    let mounted = container.mounts.unwrap_or_default();
    let is_volume = |mount: &&models::MountPoint| mount.typ.as_deref() == Some("volume");
    let volumes = mounted.iter().filter(is_volume);
    let volumes = volumes.filter_map(|mount| Some((mount.destination.clone()?, mount.name.clone()?))).collect();
    let mounts = mounted.into_iter();
    let tmpfs = container.host_config.as_ref().and_then(|config| config.tmpfs.clone()).unwrap_or_default();
    let mut mounts: Vec<(String, String)> = mounts
        .filter_map(|mount| Some((mount.destination?, mount.typ.map(|kind| kind.to_string()).unwrap_or_default())))
        .chain(tmpfs.into_keys().map(|path| (path, "tmpfs".to_owned())))
        .collect();
    mounts.sort();
    let mut ports = Vec::new();
    for (inner, bindings) in published.unwrap_or_default() {
        for binding in bindings.unwrap_or_default() {
            let address = binding.host_ip.unwrap_or_default();
            let address = if address.contains(':') { format!("[{address}]") } else { address };
            ports.push((inner.clone(), format!("{address}:{}", binding.host_port.unwrap_or_default())));
        }
    }
    ports.sort();
    ContainerInfo {
        id: container.id.unwrap_or_default(),
        name: container.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: whole_id(container.image.unwrap_or_default()),
        created: container.created.as_deref().and_then(seconds_of),
        is_running: state.running.unwrap_or(false),
        is_paused: state.paused.unwrap_or(false),
        exit_code: if state.running == Some(true) { None } else { state.exit_code },
        address: addresses.into_iter().map(|(_, address)| address).find(|address| !address.is_empty()),
        labels: container.config.and_then(|config| config.labels).unwrap_or_default().into_iter().collect(),
        mounts,
        volumes,
        ports,
    }
}

/// Asks again while podman calls a container `stopped`, which is no state of Docker's API: its process has ended, and podman is
/// tidying up behind it.
async fn once_tidied_up<T, F: Future<Output = Result<T, EngineError>>>(ask: impl Fn() -> F) -> Result<T, EngineError> {
    let start = tokio::time::Instant::now();
    loop {
        match ask().await {
            Err(EngineError::Connection { source, .. })
                if source.to_string().contains("unknown variant `stopped`") && start.elapsed() < TIDYING_UP =>
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            answer => return answer,
        }
    }
}

type Output = Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>;

/// Feeds a command and takes its output until that ends.
async fn attached(
    mut output: Output,
    mut pipe: Pin<Box<dyn AsyncWrite + Send>>,
    input: Option<ByteStream>,
    sink: &mut dyn OutputSink,
    failed: impl Fn(bollard::errors::Error) -> EngineError,
) -> Result<(), EngineError> {
    let feed = async {
        let Some(mut input) = input else { return Ok(()) };
        while let Some(chunk) = input.next().await {
            // A command that does not read to the end is no error; input that cannot be read is one.
            if pipe.write_all(&chunk?).await.is_err() {
                return Ok(());
            }
        }
        let _ = pipe.shutdown().await;
        std::io::Result::Ok(())
    };
    let drain = async {
        while let Some(chunk) = output.try_next().await? {
            match chunk {
                LogOutput::StdErr { message } => sink.write(Stream::Stderr, &message),
                other => sink.write(Stream::Stdout, &other.into_bytes()),
            }
        }
        Ok(())
    };
    tokio::pin!(feed, drain);
    tokio::select! {
        drained = &mut drain => drained.map_err(&failed),
        fed = &mut feed => match fed {
            Ok(()) => drain.await.map_err(&failed),
            Err(source) => Err(EngineError::Connection {
                action: "read a command's input".to_owned(),
                source: source.into(),
            }),
        },
    }
}

fn exec_config(command: &Command, has_input: bool, has_terminal: bool) -> models::ExecConfig {
    let environment = command.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    models::ExecConfig {
        attach_stdin: Some(has_input),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(has_terminal),
        env: Some(environment),
        cmd: Some(command.argv.clone()),
        user: command.user.clone(),
        working_dir: command.directory.clone(),
        ..models::ExecConfig::default()
    }
}

fn not_attached() -> EngineError {
    EngineError::Refused {
        action: "run a command".to_owned(),
        message: "the engine did not attach to it".to_owned(),
        status: None,
    }
}

impl BollardEngine {
    pub(crate) async fn create_container_call(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            platform: spec.platform.clone().unwrap_or_default(),
        };
        let action = format!("create container {}", spec.name);
        let what = format!("image {}", spec.config.image.as_deref().unwrap_or_default());
        let docker = self.unbounded().await?;
        let created = docker.create_container(Some(options), spec.config.clone()).await;
        let created = created.map_err(failed(&action, &what))?;
        Ok(Created { id: created.id, warnings: created.warnings })
    }

    pub(crate) async fn start_container_call(&self, container: &str) -> Result<(), EngineError> {
        let (action, what) = (format!("start container {container}"), format!("container {container}"));
        self.unbounded().await?.start_container(container, None).await.map_err(failed(&action, &what))
    }

    pub(crate) async fn inspect_container_call(&self, container: &str) -> Result<Option<ContainerInfo>, EngineError> {
        let action = format!("inspect container {container}");
        let docker = self.short().await?;
        let ask = || async { docker.inspect_container(container, None).await.map_err(failed(&action, container)) };
        match once_tidied_up(ask).await {
            Ok(found) => Ok(Some(container_info(found))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn find_containers_call(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, EngineError> {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let docker = self.short().await?;
        let ask = async || {
            docker.list_containers(Some(options.clone())).await.map_err(failed("list containers", "container"))
        };
        let found = once_tidied_up(ask).await?;
        Ok(found.into_iter().filter_map(|container| container.id).collect())
    }

    pub(crate) async fn remove_container_call(&self, container: &str) -> Result<bool, EngineError> {
        let action = format!("remove container {container}");
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let docker = self.unbounded().await?;
        if self.connection().await?.is_podman {
            // Its `force` gives the container ten seconds to end by itself. What is gone or has ended cannot be killed.
            let _ = docker.kill_container(container, None::<KillContainerOptions>).await;
        }
        match docker.remove_container(container, Some(options)).await.map_err(failed(&action, container)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            // Somebody else removes it already; it is as good as gone.
            Err(EngineError::Refused { status: Some(409), message, .. }) if message.contains("already in progress") => {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn exec_call(
        &self,
        container: &str,
        command: &Command,
        input: Option<ByteStream>,
        sink: &mut dyn OutputSink,
    ) -> Result<i64, EngineError> {
        let what = format!("container {container}");
        let failed = failed("run a command", &what);
        let config = exec_config(command, input.is_some(), command.pty);
        let docker = self.short().await?;
        let id = docker.create_exec(container, config).await.map_err(&failed)?.id;
        let options = StartExecOptions { detach: false, tty: command.pty, output_capacity: Some(OUTPUT_BUFFER) };
        let started = docker.start_exec(&id, Some(options)).await.map_err(&failed)?;
        let StartExecResults::Attached { output, input: pipe } = started else {
            return Err(not_attached());
        };
        attached(output, pipe, input, sink, &failed).await?;
        self.exit_status(&id, &what).await
    }

    pub(crate) async fn interact_call(
        &self,
        container: &str,
        command: &Command,
        terminal: Terminal,
    ) -> Result<i64, EngineError> {
        let what = format!("container {container}");
        let failed = failed("run a command", &what);
        let Terminal { mut input, output: mut screen, mut size } = terminal;
        let docker = self.short().await?;
        let id = docker.create_exec(container, exec_config(command, true, true)).await.map_err(&failed)?.id;
        let options = StartExecOptions { detach: false, tty: true, output_capacity: Some(OUTPUT_BUFFER) };
        let started = docker.start_exec(&id, Some(options)).await.map_err(&failed)?;
        let StartExecResults::Attached { mut output, input: mut typed } = started else { return Err(not_attached()) };
        let typing = async {
            // The end of the input is not the end of the command; whoever sits there sees that.
            let _ = tokio::io::copy(&mut input, &mut typed).await;
            std::future::pending::<()>().await;
        };
        let sizing = async {
            loop {
                let (columns, rows) = *size.borrow_and_update();
                let options = ResizeExecOptions { w: i32::from(columns), h: i32::from(rows) };
                // One that ended meanwhile has no size any more.
                let _ = docker.resize_exec(&id, options).await;
                if size.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let showing = async {
            while let Some(chunk) = output.try_next().await? {
                // A screen that went away does not change what runs on the machine.
                if screen.write_all(&chunk.into_bytes()).await.is_err() || screen.flush().await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        tokio::select! {
            shown = showing => shown.map_err(&failed)?,
            () = typing => {}
            () = sizing => {}
        }
        self.exit_status(&id, &what).await
    }

    pub(crate) async fn processes_call(&self, container: &str) -> Result<Vec<String>, EngineError> {
        let (action, what) = (format!("list the processes of {container}"), format!("container {container}"));
        let top = self.short().await?.top_processes(container, None::<TopOptions>).await;
        let top = top.map_err(failed(&action, &what))?;
        let lines = top.processes.unwrap_or_default().into_iter().filter_map(|mut columns| columns.pop());
        // What ended and was not waited for runs no more.
        Ok(lines.filter(|line| !line.ends_with("<defunct>")).collect())
    }

    pub(crate) async fn container_size_call(&self, container: &str) -> Result<u64, EngineError> {
        let (action, what) = (format!("measure container {container}"), format!("container {container}"));
        let options = InspectContainerOptions { size: true };
        let found = self.unbounded().await?.inspect_container(container, Some(options)).await;
        let found = found.map_err(failed(&action, &what))?;
        Ok(found.size_rw.and_then(|size| u64::try_from(size).ok()).unwrap_or(0))
    }

    /// The output may end before the command does (it closed it), and the engine has no call that waits for its end.
    async fn exit_status(&self, id: &str, what: &str) -> Result<i64, EngineError> {
        let mut wait = FIRST_LOOK;
        loop {
            let docker = self.short().await?;
            let seen = docker.inspect_exec(id).await.map_err(failed("look at a command", what))?;
            if let (Some(false), Some(code)) = (seen.running, seen.exit_code) {
                return Ok(code);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LAST_LOOK);
        }
    }

    pub(crate) async fn put_archive_call(
        &self,
        container: &str,
        directory: &str,
        tar: ByteStream,
    ) -> Result<(), EngineError> {
        let options = UploadToContainerOptions {
            path: directory.to_owned(),
            // A directory and a file never replace each other: a link like /lib would be lost.
            no_overwrite_dir_non_dir: Some("1".to_owned()),
            copy_uidgid: None,
        };
        let (action, what) = (format!("copy files into {directory}"), format!("{directory} in container {container}"));
        let docker = self.unbounded().await?;
        let sent = docker.upload_to_container(container, Some(options), body_try_stream(tar)).await;
        sent.map_err(failed(&action, &what))
    }

    pub(crate) async fn get_archive_call(&self, container: &str, path: &str) -> Result<ByteStream, EngineError> {
        let (action, what) = (format!("copy {path}"), format!("{path} in container {container}"));
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let mut stream = self.unbounded().await?.download_from_container(container, Some(options));
        // The first chunk tells whether there is anything at all.
        let first = stream.try_next().await.map_err(failed(&action, &what))?;
        let rest = stream.map_err(std::io::Error::other);
        Ok(Box::pin(futures_util::stream::iter(first.map(Ok)).chain(rest)))
    }

    pub(crate) async fn stat_path_call(&self, container: &str, path: &str) -> Result<Option<PathStat>, EngineError> {
        let (action, what) = (format!("look at {path}"), format!("{path} in container {container}"));
        let options = ContainerArchiveInfoOptions { path: path.to_owned() };
        let docker = self.short().await?;
        match docker.get_container_archive_info(container, Some(options)).await.map_err(failed(&action, &what)) {
            Ok(stat) => {
                let is_link = stat.file_mode & MODE_SYMLINK != 0 && !stat.link_target.is_empty();
                Ok(Some(PathStat {
                    is_directory: stat.file_mode & MODE_DIRECTORY != 0,
                    link_target: is_link.then_some(stat.link_target),
                    size: u64::try_from(stat.size).unwrap_or(0),
                }))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn commit_call(&self, spec: &CommitSpec) -> Result<String, EngineError> {
        let options = CommitContainerOptions {
            container: Some(spec.container.clone()),
            comment: spec.comment.clone(),
            author: spec.author.clone(),
            pause: true,
            changes: (!spec.changes.is_empty()).then(|| spec.changes.join("\n")),
            ..CommitContainerOptions::default()
        };
        let what = format!("container {}", spec.container);
        let docker = self.unbounded().await?;
        let committed = docker.commit_container(options, spec.config.clone()).await;
        Ok(whole_id(committed.map_err(failed("commit", &what))?.id))
    }

    pub(crate) async fn export_call(&self, container: &str, to: &Path) -> Result<u64, EngineError> {
        let (action, what) = (format!("export container {container}"), format!("container {container}"));
        let stream = self.unbounded().await?.export_container(container);
        write_stream(stream, to, failed(&action, &what)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_state_that_only_podman_knows_passes_or_is_told() {
        let stopped = || EngineError::Connection {
            action: "inspect container x".into(),
            source: "Failed to deserialize JSON: unknown variant `stopped`, expected one of `exited`".into(),
        };
        let looks = std::cell::Cell::new(0);
        let answer = once_tidied_up(|| async {
            looks.set(looks.get() + 1);
            if looks.get() < 3 { Err(stopped()) } else { Ok("exited") }
        });
        assert_eq!(answer.await.unwrap(), "exited");
        assert!(once_tidied_up(|| async { Err::<(), _>(stopped()) }).await.is_err());
    }
}
