//! What goes wrong around a playbook.

use std::path::PathBuf;

use kiln_core::ExitStatus;
use kiln_core::communicator::CommunicatorError;

use crate::results::TaskFailure;

/// Why a playbook was not run, or failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnsibleError {
    #[error("there is no program `{0}` on this host")]
    Missing(String),
    #[error("cannot start {program}")]
    Start { program: String, source: std::io::Error },
    #[error("cannot wait for {program}")]
    Wait { program: String, source: std::io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot tell how to reach the machine by SSH")]
    Access(#[source] CommunicatorError),
    #[error("{program} {}{}", ended(*status), tail(lines))]
    Galaxy { program: String, status: ExitStatus, lines: Vec<String> },
    #[error("{}", failed(failures))]
    Tasks { failures: Vec<TaskFailure> },
    #[error("{program} {} on `{playbook}`{}", ended(*status), tail(lines))]
    Playbook { program: String, playbook: String, status: ExitStatus, lines: Vec<String> },
}

fn failed(failures: &[TaskFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("exited with status {code}"),
        ExitStatus::Signalled(signal) => format!("was killed by signal {signal}"),
    }
}

fn tail(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|line| format!("\n    {line}")).collect();
    format!("; the last lines of its output:{lines}")
}
