//! `docs/reference/events.md` shows every event exactly as it is written.

use kiln_core::event::{ArtifactSummary, Outcome, TaskResult};
use kiln_core::{Event, EventKind, Stream};

const REFERENCE: &str = include_str!("../../../../docs/reference/events.md");

fn artifact() -> ArtifactSummary {
    ArtifactSummary {
        builder_id: "packer.docker".into(),
        id: "sha256:0c1d".into(),
        description: "Imported Docker image: sha256:0c1d".into(),
        tags: vec!["app:1".into()],
        digest: None,
        files: vec![],
        platforms: Default::default(),
    }
}

/// One of each kind, in the order of the page.
fn samples() -> Vec<EventKind> {
    vec![
        EventKind::RunStarted {
            run: "5f0c8d4e-2f54-4f0e-9d2c-1a7f4c0b9a11".into(),
            builds: vec!["docker.worker".into(), "docker.web".into()],
        },
        EventKind::RunFinished { succeeded: 1, skipped: 0, failed: 1, seconds: 12.5 },
        EventKind::BuildStarted { builder: "docker".into(), joins: vec![] },
        EventKind::BuildFinished {
            outcome: Outcome::Failed,
            seconds: 4.25,
            error: Some("step 2 of 3, `shell` (worker.pkr.hcl:12), failed: exit status 3".into()),
            reason: None,
            artifacts: vec![artifact()],
        },
        EventKind::StepStarted {
            index: 2,
            total: 3,
            kind: "shell".into(),
            name: Some("packages".into()),
            title: "scripts/apt.sh".into(),
            place: "worker.pkr.hcl:12".into(),
        },
        EventKind::StepCached {
            index: 1,
            total: 3,
            kind: "shell".into(),
            name: None,
            title: "2 inline commands".into(),
            place: "worker.pkr.hcl:8".into(),
            key: Some("9f2c".repeat(16)),
            seconds: Some(41.5),
        },
        EventKind::StepFinished { index: 2, outcome: Outcome::Succeeded, seconds: 1.5 },
        EventKind::TestStarted { name: "serves".into(), place: "worker.pkr.hcl:24".into() },
        EventKind::TestFinished { name: "serves".into(), outcome: Outcome::Succeeded, seconds: 1.25 },
        EventKind::PostProcessorStarted { kind: "docker-tag".into(), place: "worker.pkr.hcl:30".into() },
        EventKind::PostProcessorFinished {
            kind: "docker-tag".into(),
            outcome: Outcome::Succeeded,
            seconds: 0.25,
            tolerated: None,
        },
        EventKind::Artifact { artifact: artifact() },
        EventKind::Message { text: "waiting 10.0s before this step (`pause_before`)".into() },
        EventKind::Warning { text: "cannot remove the machine: daemon is gone".into() },
        EventKind::Error {
            text: "cannot start the `docker` source (worker.pkr.hcl:3): no daemon".into(),
            hints: vec!["start the daemon, or set DOCKER_HOST".into()],
        },
        EventKind::Output { stream: Stream::Stderr, line: "E: Unable to locate package x".into() },
        EventKind::Task {
            play: "workers".into(),
            task: "worker : install supervisor".into(),
            host: "default".into(),
            result: TaskResult::Failed,
            place: Some("roles/worker/tasks/main.yml:12".into()),
            message: Some("No package matching 'supervisr' is available".into()),
            seconds: 2.5,
        },
        EventKind::Progress { item: "9b1c2d".into(), action: "pulling".into(), current: 1048576, total: Some(4194304) },
    ]
}

/// Fails to compile when a kind is added, so that it finds its way into [`samples`].
fn is_of_the_run(kind: &EventKind) -> bool {
    match kind {
        EventKind::RunStarted { .. } | EventKind::RunFinished { .. } => true,
        EventKind::BuildStarted { .. }
        | EventKind::BuildFinished { .. }
        | EventKind::StepStarted { .. }
        | EventKind::StepCached { .. }
        | EventKind::StepFinished { .. }
        | EventKind::TestStarted { .. }
        | EventKind::TestFinished { .. }
        | EventKind::PostProcessorStarted { .. }
        | EventKind::PostProcessorFinished { .. }
        | EventKind::Artifact { .. }
        | EventKind::Message { .. }
        | EventKind::Warning { .. }
        | EventKind::Error { .. }
        | EventKind::Output { .. }
        | EventKind::Task { .. }
        | EventKind::Progress { .. } => false,
    }
}

#[test]
fn every_sample_is_what_is_written() {
    let shown: Vec<serde_json::Value> = REFERENCE
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap_or_default()).unwrap())
        // Told by the command itself, outside of a run.
        .filter(|sample: &serde_json::Value| sample["event"] != "diagnostic" && sample["event"] != "service")
        .collect();
    let written: Vec<serde_json::Value> = samples()
        .into_iter()
        .map(|kind| {
            let build = (!is_of_the_run(&kind)).then(|| "docker.worker".into());
            serde_json::to_value(Event { time: 1_767_225_600_000, build, kind }).unwrap()
        })
        .collect();
    assert_eq!(shown.len(), written.len());
    for (shown, written) in shown.iter().zip(&written) {
        assert_eq!(shown, written);
    }
}
