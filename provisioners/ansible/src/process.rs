//! Programs of this host: `ansible-playbook` and `ansible-galaxy`, with all that they start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kiln_core::lines::LineSink;
use kiln_core::{BuildContext, ExitStatus, Failure, OutputSink, Stream};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::Instant;

use crate::error::AnsibleError;

/// How long a program that is stopped may take to clean up behind itself.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// How long output is still read after the program ended, when something it started holds it open.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);

/// Marks all that a program starts, however far it goes: Ansible's workers leave their process group.
const MARK: &str = "KILN_ANSIBLE_RUN";

/// A program with its arguments, ready to start.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(OsString, OsString)>,
}

impl Program {
    /// Runs it to its end, with its output as events. When the build is cancelled, it is ended with all that it started.
    pub(crate) async fn run(
        &self,
        context: &BuildContext,
        sink: &mut LineSink,
        beside: impl Future<Output = ()>,
    ) -> Result<ExitStatus, Failure> {
        let mark = uuid::Uuid::new_v4().simple().to_string();
        let mut process = tokio::process::Command::new(&self.path);
        process
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let started = process.spawn().map_err(|source| {
            Failure::environment(AnsibleError::Start { program: self.path.display().to_string(), source })
        });
        let mut running = Running::new(started?, mark);
        let ended = tokio::select! {
            biased;
            () = context.cancel.cancelled() => None,
            status = running.watch(sink) => Some(status),
            () = beside => None,
        };
        sink.finish();
        match ended {
            Some(status) => {
                running.leader = None;
                let status = status.map_err(|source| {
                    Failure::build(AnsibleError::Wait { program: self.path.display().to_string(), source })
                })?;
                Ok(exit_status(status))
            }
            None => {
                running.stop().await;
                Err(Failure::cancelled())
            }
        }
    }
}

/// A program that runs; dropping it kills it and all that it started.
struct Running {
    child: Child,
    leader: Option<Pid>,
    mark: String,
}

impl Running {
    fn new(child: Child, mark: String) -> Running {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Running { child, leader, mark }
    }

    /// Hands its output on until it ends.
    async fn watch(&mut self, sink: &mut LineSink) -> std::io::Result<std::process::ExitStatus> {
        let (mut stdout, mut stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        let mut ended = None;
        while stdout.is_some() || stderr.is_some() {
            let until = ended.as_ref().map(|(_, at)| *at + OUTPUT_GRACE);
            tokio::select! {
                length = read(&mut stdout, &mut out) => match length {
                    Ok(length) if length > 0 => sink.write(Stream::Stdout, &out[..length]),
                    _ => stdout = None,
                },
                length = read(&mut stderr, &mut err) => match length {
                    Ok(length) if length > 0 => sink.write(Stream::Stderr, &err[..length]),
                    _ => stderr = None,
                },
                status = self.child.wait(), if ended.is_none() => ended = Some((status, Instant::now())),
                () = sleep_until(until) => break,
            }
        }
        match ended {
            Some((status, _)) => status,
            None => self.child.wait().await,
        }
    }

    /// Asks it to end, then ends it.
    async fn stop(&mut self) {
        if let Some(leader) = self.leader {
            // It removes its temporary files, and ends its workers.
            let _ = kill_process_group(leader, Signal::TERM);
            let _ = tokio::time::timeout(STOP_GRACE, self.child.wait()).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // Gone already is fine.
            let _ = kill_process_group(leader, Signal::KILL);
            kill_marked(&self.mark);
        }
    }
}

/// Kills every process of this host that bears the mark in its environment. Those that it started while we looked are
/// found by looking again.
fn kill_marked(mark: &str) {
    let wanted = format!("{MARK}={mark}");
    for _ in 0..10 {
        let marked = marked(Path::new("/proc"), wanted.as_bytes());
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn marked(proc: &Path, wanted: &[u8]) -> Vec<Pid> {
    let own = rustix::process::getpid();
    let numbers = std::fs::read_dir(proc).into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| *pid != own)
        .filter(|pid| {
            // Empty for what has ended, and not to be read for what is another user's.
            let environment = std::fs::read(proc.join(pid.as_raw_nonzero().to_string()).join("environ"));
            environment.is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == wanted))
        })
        .collect()
}

async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn exit_status(status: std::process::ExitStatus) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Exited(code.into()),
        (None, Some(signal)) => ExitStatus::Signalled(signal),
        (None, None) => ExitStatus::Exited(-1),
    }
}

#[cfg(test)]
mod tests {
    use kiln_testkit::context;

    use super::*;

    fn shell(script: &str) -> Program {
        let arguments = ["-c", script].map(str::to_owned).to_vec();
        Program { path: "/bin/sh".into(), arguments, environment: vec![("WORD".into(), "hello".into())] }
    }

    #[tokio::test]
    async fn output_and_status_come_through() {
        let context = context().build();
        let mut sink = LineSink::new(context.events.clone());
        let program = shell("echo \"$WORD\"; echo no >&2; exit 3");
        let status = program.run(&context, &mut sink, std::future::pending()).await.unwrap();
        assert_eq!(status, ExitStatus::Exited(3));
        let mut lines = context.reporter.output();
        lines.sort();
        assert_eq!(lines, ["hello", "no"]);
    }

    #[tokio::test]
    async fn cancelling_ends_what_left_the_process_group_too() {
        let context = context().build();
        let pid_file = context.scratch.join("pid");
        let script = format!("setsid sh -c 'echo $$ > {0}; exec sleep 600' & wait", pid_file.display());
        let program = shell(&script);
        let mut sink = LineSink::new(context.events.clone());
        let started = async {
            while std::fs::read_to_string(&pid_file).unwrap_or_default().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            context.cancel.cancel();
        };
        let (ended, ()) = tokio::join!(program.run(&context, &mut sink, std::future::pending()), started);
        assert!(ended.unwrap_err().is_cancelled());
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let environment = std::fs::read(format!("/proc/{}/environ", pid.trim()));
        assert!(environment.is_err() || environment.unwrap().is_empty(), "process {pid} still runs");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told() {
        let context = context().build();
        let program = Program { path: "/no/such/program".into(), ..shell("") };
        let mut sink = LineSink::new(context.events.clone());
        let failure = program.run(&context, &mut sink, std::future::pending()).await.unwrap_err();
        assert_eq!(failure.to_string(), "cannot start /no/such/program");
    }
}
