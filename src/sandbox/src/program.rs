//! Programs of the host that bring a tree into being, such as bootstrappers: nothing of them outlives who started them.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Report, SandboxError, Trying};
use crate::helper::Helper;
use crate::init::processes;
use crate::protocol::{Channel, Order, Reply};
use crate::session::ExitStatus;
use crate::spec::HelperProgram;
use crate::sys;

/// How often the helper looks whether the program has ended, in nanoseconds.
const LOOK: i64 = 50_000_000;

/// A program and its surroundings. Its standard input is empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProgramSpec {
    /// Its name or path, and its arguments.
    pub argv: Vec<String>,
    /// All of its environment. `PATH` is also where it is looked for.
    pub environment: Vec<(String, String)>,
}

/// A program that runs. Dropping it, and the end of this process in whatever way, ends it with all that it started; what it
/// mounted goes with it.
#[derive(Debug)]
pub struct Program(Helper);

impl Program {
    /// Starts one; blocks, as all of it does.
    ///
    /// # Errors
    /// [`SandboxError::Program`] where it cannot be run.
    pub fn start(
        spec: &ProgramSpec,
        helper: &HelperProgram,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Program, SandboxError> {
        let program = Program(Helper::start_blocking(helper)?);
        let channel = &program.0.channel;
        channel.send(&Order::Program(spec.clone()), &[stdout.as_fd(), stderr.as_fd()]).trying("tell the helper")?;
        match channel.receive::<Reply>().trying("read what the helper did")? {
            Some((Reply::Ready, _)) => Ok(program),
            Some((Reply::Failed(report), _)) => Err(report.into()),
            Some((other, _)) => Err(SandboxError::Protocol(format!("{other:?}"))),
            None => Err(SandboxError::Ended),
        }
    }

    /// Waits for its end, and for that of all that it started.
    ///
    /// # Errors
    /// Somebody killed the helper.
    pub fn wait(&mut self) -> Result<ExitStatus, SandboxError> {
        match self.0.channel.receive::<Reply>().trying("wait for the program")? {
            Some((Reply::Ended(status), _)) => Ok(status),
            Some((other, _)) => Err(SandboxError::Protocol(format!("{other:?}"))),
            None => Err(SandboxError::Ended),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Not killed: the helper ends what the program left behind, and then itself.
        _ = rustix::net::shutdown(&self.0.channel, rustix::net::Shutdown::Both);
        _ = self.0.process.wait();
    }
}

/// The helper's part.
pub(crate) fn serve(spec: &ProgramSpec, files: Vec<OwnedFd>, channel: &Channel) -> Result<(), SandboxError> {
    // It must outlive its parent, to end the program; that the parent is gone is told by the socket.
    rustix::process::set_parent_process_death_signal(None).trying("outlive the parent")?;
    sys::adopt_orphans().trying("adopt what the program leaves behind")?;
    // Mounts of a program that is killed would stay. Who may not do this may not mount either.
    if sys::unshare(UnshareFlags::NEWNS).is_ok() {
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private).trying("keep mounts to ourselves")?;
    }
    let directory = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let proc = rustix::fs::open("/proc", directory, Mode::empty()).trying("open /proc")?;
    let mut child = match start(spec, files) {
        Ok(child) => child,
        Err(error) => {
            channel.send(&Reply::Failed(Report::from(&error)), &[]).trying("answer")?;
            return Ok(());
        }
    };
    channel.send(&Reply::Ready, &[]).trying("answer")?;
    let mut status = None;
    while status.is_none() && !is_left_alone(channel) {
        status = child.try_wait().trying("wait for the program")?;
    }
    processes::end_children(Some(&proc), |_, _| {});
    if let Some(status) = status {
        channel.send(&Reply::Ended(told(status)), &[]).trying("answer")?;
    }
    Ok(())
}

fn start(spec: &ProgramSpec, files: Vec<OwnedFd>) -> Result<std::process::Child, SandboxError> {
    let mut files = files.into_iter().map(Stdio::from);
    let missing = || SandboxError::Protocol("a program has no output".to_owned());
    let (Some(stdout), Some(stderr), [name, arguments @ ..]) = (files.next(), files.next(), spec.argv.as_slice())
    else {
        return Err(missing());
    };
    let mut command = Command::new(name);
    command.args(arguments).env_clear().envs(spec.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    // A key on the terminal is kiln's to act upon.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|source| SandboxError::Program { program: name.clone(), source })
}

fn told(status: std::process::ExitStatus) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    match status.code() {
        Some(code) => ExitStatus::Exited(code),
        None => ExitStatus::Signalled(status.signal().unwrap_or_default()),
    }
}

/// Whether the other side is gone; waits for that for a moment.
fn is_left_alone(channel: &Channel) -> bool {
    let mut waiting = [PollFd::from_borrowed_fd(channel.as_fd(), PollFlags::IN)];
    let patience = Timespec { tv_sec: 0, tv_nsec: LOOK };
    // Nothing else is ever said from there.
    rustix::event::poll(&mut waiting, Some(&patience)).is_ok_and(|count| count > 0)
}
