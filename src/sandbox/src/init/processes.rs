//! Ending processes with all that came of them.

use std::io::Read;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

/// Kills this process's children, then theirs as they fall to it, until none is left. For processes that adopt orphans.
/// `proc` is a procfs, maybe of an outer process name space; `ended` hears of each child.
pub(crate) fn end_children(proc: Option<&OwnedFd>, mut ended: impl FnMut(Pid, WaitStatus)) {
    loop {
        if let Some(proc) = proc {
            for child in children(proc) {
                _ = rustix::process::kill_process(child, Signal::KILL);
            }
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => ended(pid, status),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        // All that is dead already, before the list is read again.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            ended(pid, status);
        }
    }
}

/// The children of this process, which has one thread, as this process counts.
fn children(proc: &OwnedFd) -> Vec<Pid> {
    let Some(list) = read(proc, "thread-self/children") else { return Vec::new() };
    list.split_whitespace().filter_map(|pid| here(proc, pid)).collect()
}

/// That process's number in the innermost name space, which is ours.
fn here(proc: &OwnedFd, pid: &str) -> Option<Pid> {
    let status = read(proc, &format!("{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let innermost = line.and_then(|numbers| numbers.split_whitespace().last()).unwrap_or(pid);
    innermost.parse().ok().and_then(Pid::from_raw)
}

fn read(proc: &OwnedFd, path: &str) -> Option<String> {
    let file = rustix::fs::openat(proc, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = String::new();
    std::fs::File::from(file).read_to_string(&mut text).ok()?;
    Some(text)
}
