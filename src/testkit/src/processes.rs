//! Processes of this host, as `/proc` shows them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) name: String,
}

impl Process {
    /// All that may be seen.
    pub(crate) fn all() -> Vec<Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Process::of(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold any itself.
        let (front, back) = stat.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let mut fields = back.split_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        (state != "Z").then_some(Process { pid, parent, name })
    }

    /// Whether it was started with this `NAME=VALUE` in its environment.
    pub(crate) fn has_variable(&self, variable: &str) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    }
}

/// Sends a signal, where the process is there yet.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
