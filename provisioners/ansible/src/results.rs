//! What becomes of tasks, as the callback plug-in tells it.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use kiln_core::event::TaskResult;
use kiln_core::{EventKind, Events};
use serde::Deserialize;

/// How many failed tasks are remembered: the last ones.
const REMEMBERED: usize = 5;

/// A task that failed, for the failure of the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TaskFailure {
    pub(crate) play: String,
    pub(crate) task: String,
    pub(crate) host: String,
    pub(crate) place: Option<String>,
    pub(crate) message: String,
    pub(crate) is_unreachable: bool,
}

impl std::fmt::Display for TaskFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TaskFailure { play, task, host, place, message, is_unreachable } = self;
        write!(formatter, "task `{task}`")?;
        if let Some(place) = place {
            write!(formatter, " ({place})")?;
        }
        let what = if *is_unreachable { "could not reach" } else { "failed on" };
        write!(formatter, " of play `{play}` {what} host `{host}`")?;
        let mut lines = message.lines();
        if let Some(first) = lines.next() {
            write!(formatter, ": {first}")?;
        }
        lines.try_for_each(|line| write!(formatter, "\n    {line}"))
    }
}

/// One line of the callback plug-in.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Task {
        play: String,
        task: String,
        host: String,
        result: TaskResult,
        place: Option<String>,
        message: Option<String>,
        seconds: f64,
    },
    NoHosts {
        no_hosts: String,
    },
}

/// Passes results on as events, and keeps what failed.
#[derive(Debug)]
pub(crate) struct Results {
    events: Events,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    failures: Vec<TaskFailure>,
    without_hosts: Option<String>,
    tasks: usize,
}

impl Results {
    /// For the tasks of one playbook.
    pub(crate) fn new(events: Events) -> Results {
        Results { events, found: Mutex::default() }
    }

    /// Takes one line; what cannot be read is passed over.
    pub(crate) fn take(&self, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(Told::Task { play, task, host, result, place, message, seconds }) => {
                let place = place.map(|place| shortened(&place));
                let is_unreachable = result == TaskResult::Unreachable;
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.tasks += usize::from(result != TaskResult::Skipped);
                if is_unreachable || result == TaskResult::Failed {
                    if found.failures.len() == REMEMBERED {
                        found.failures.remove(0);
                    }
                    let message = message.clone().unwrap_or_default();
                    let (play, task, host, place) = (play.clone(), task.clone(), host.clone(), place.clone());
                    found.failures.push(TaskFailure { play, task, host, place, message, is_unreachable });
                }
                drop(found);
                self.events.emit(EventKind::Task { play, task, host, result, place, message, seconds });
            }
            Ok(Told::NoHosts { no_hosts }) => {
                self.found.lock().unwrap_or_else(PoisonError::into_inner).without_hosts = Some(no_hosts);
            }
            Err(_) => {}
        }
    }

    /// What failed, in order.
    pub(crate) fn failures(&self) -> Vec<TaskFailure> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).failures.clone()
    }

    /// The last play that found none of its hosts, where no task ran at all.
    pub(crate) fn idle_play(&self) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.tasks == 0 { found.without_hosts.clone() } else { None }
    }
}

/// A place relative to the working directory where it lies below.
fn shortened(place: &str) -> String {
    let relative = std::env::current_dir().ok();
    let relative = relative.as_deref().and_then(|directory| Path::new(place).strip_prefix(directory).ok());
    relative.map_or_else(|| place.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use kiln_testkit::context;

    use super::*;

    #[test]
    fn failures_are_kept_and_all_results_are_events() {
        let context = context().secret("hunter22").build();
        let results = Results::new(context.events.clone());
        let line = |result: &str, message: &str| {
            serde_json::json!({
                "play": "all", "task": "install", "host": "default", "result": result, "place": "/etc/play.yml:3",
                "message": message, "seconds": 0.5,
            })
            .to_string()
        };
        results.take(line("ok", "").as_bytes());
        results.take(line("ignored", "never mind").as_bytes());
        results.take(line("failed", "no hunter22\nhere").as_bytes());
        results.take(b"nonsense");
        let failures: Vec<String> = results.failures().iter().map(ToString::to_string).collect();
        assert_eq!(
            failures,
            ["task `install` (/etc/play.yml:3) of play `all` failed on host `default`: no hunter22\n    here"]
        );
        let told: Vec<_> = context
            .reporter
            .events()
            .into_iter()
            .filter_map(|event| match event.kind {
                EventKind::Task { result, message, .. } => Some((result, message.unwrap_or_default())),
                _ => None,
            })
            .collect();
        let expected =
            [(TaskResult::Ok, ""), (TaskResult::Ignored, "never mind"), (TaskResult::Failed, "no <sensitive>\nhere")];
        assert_eq!(told, expected.map(|(result, text)| (result, text.to_owned())));
    }

    #[test]
    fn a_playbook_without_hosts_is_noticed() {
        let context = context().build();
        let results = Results::new(context.events.clone());
        results.take(br#"{"no_hosts":"webservers"}"#);
        assert_eq!(results.idle_play().as_deref(), Some("webservers"));
    }
}
