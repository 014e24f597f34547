//! The process between process 1 and a command. Whatever the command starts and leaves behind falls to it, so that it can end
//! all of that.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::Guest;
use super::command::{self, Files};
use super::processes;
use crate::error::{Report, SandboxError, Trying};
use crate::protocol::{Channel, ExecRequest, FromKeeper, ScriptFile, ToKeeper};
use crate::sys::{self, Fork};
use crate::terminal;

/// Runs a command to its end, then ends.
pub(super) fn keep(channel: &Channel, request: &ExecRequest, guest: &Guest, files: Vec<OwnedFd>) -> ! {
    if let Err(error) = run(channel, request, guest, files) {
        // The caller may be gone.
        _ = channel.send(&FromKeeper::Failed(Report::from(&error)), &[]);
    }
    sys::exit(0)
}

fn run(channel: &Channel, request: &ExecRequest, guest: &Guest, files: Vec<OwnedFd>) -> Result<(), SandboxError> {
    _ = rustix::thread::set_name(c"kiln-exec");
    sys::reset_signals();
    sys::block_signals(&[libc::SIGCHLD]);
    let children = sys::signal_file(libc::SIGCHLD).trying("watch children")?;
    sys::adopt_orphans().trying("watch the command's children")?;
    let (files, master) = match request.terminal {
        Some((columns, rows)) => {
            let (master, slave) = terminal::open(guest.terminals.as_ref(), columns, rows)?;
            (Files::terminal(slave)?, Some(master))
        }
        None => (Files::new(request, guest, files)?, None),
    };
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).trying("make a pipe")?;
    let pid = match sys::fork().trying("fork")? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            let error = command::become_command(request, guest, files, writer.as_fd());
            tell(&error, writer);
            sys::exit(127)
        }
    };
    drop((files, writer));
    if let Some(error) = read_report(reader)? {
        return Err(error);
    }
    let passed: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    let started = FromKeeper::Started { pid: pid.as_raw_nonzero().get().unsigned_abs() };
    let told = channel.send(&started, &passed);
    drop(master);
    if told.is_err() {
        end(guest, pid);
        return Ok(());
    }
    watch(channel, guest, pid, &children, request.script.as_ref())
}

/// A script whose command has ended is of no more use. One that is gone already is fine.
fn remove(script: Option<&ScriptFile>) {
    if let Some(script) = script.filter(|script| !script.stays) {
        _ = std::fs::remove_file(&script.path);
    }
}

/// Until the command has ended or is no longer wanted.
fn watch(
    channel: &Channel,
    guest: &Guest,
    pid: Pid,
    children: &OwnedFd,
    script: Option<&ScriptFile>,
) -> Result<(), SandboxError> {
    loop {
        if let Some(status) = reap(pid)? {
            remove(script);
            _ = channel.send(&status, &[]);
            return Ok(());
        }
        let mut polled = [PollFd::new(channel, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None)).trying("wait")?;
        let [spoken, died] = polled.map(|file| !file.revents().is_empty());
        if died {
            sys::drain(children.as_fd());
        }
        if spoken {
            match channel.receive::<ToKeeper>() {
                Ok(Some((ToKeeper::Signal(signal), _))) => sys::signal(pid, signal),
                // Nobody waits for it any more.
                Ok(Some((ToKeeper::Kill, _)) | None) | Err(_) => {
                    let status = end(guest, pid);
                    remove(script);
                    if let Some(status) = status {
                        _ = channel.send(&status, &[]);
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// Collects the dead; tells how the command ended if it is among them.
fn reap(command: Pid) -> Result<Option<FromKeeper>, SandboxError> {
    let mut ended = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => ended = Some(status_of(status)),
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(ended),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SandboxError::system("wait for the command", error)),
        }
    }
}

fn status_of(status: WaitStatus) -> FromKeeper {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => FromKeeper::Exited(status),
        (None, signal) => FromKeeper::Signalled(signal.unwrap_or(Signal::KILL.as_raw())),
    }
}

/// Ends the command and all that came of it.
fn end(guest: &Guest, command: Pid) -> Option<FromKeeper> {
    // Its group at once, so that a pipeline does not see its members go one by one.
    _ = rustix::process::kill_process_group(command, Signal::KILL);
    let mut ended = None;
    processes::end_children(guest.proc.as_ref(), |pid, status| {
        if pid == command {
            ended = Some(status_of(status));
        }
    });
    ended
}

fn tell(error: &SandboxError, report: OwnedFd) {
    let text = serde_json::to_vec(&Report::from(error)).unwrap_or_default();
    // The keeper sees an empty report otherwise, and says so.
    _ = std::fs::File::from(report).write_all(&text);
}

/// What the child says; nothing if it became the program.
fn read_report(reader: OwnedFd) -> Result<Option<SandboxError>, SandboxError> {
    let mut text = Vec::new();
    std::fs::File::from(reader).read_to_end(&mut text).trying("hear of the command")?;
    if text.is_empty() {
        return Ok(None);
    }
    let report: Report = serde_json::from_slice(&text).map_err(io::Error::from).trying("hear of the command")?;
    Ok(Some(report.into()))
}
