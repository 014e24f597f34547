//! The order of builds: as soon as those are done that they are built upon, as many at a time as allowed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{ArtifactValues, Artifacts, EventKind, Events, Failure, FailureClass};
use tokio::task::{Id, JoinError, JoinSet};

use crate::build::BuildRun;
use crate::guard::bug;
use crate::policy::ParallelBuilds;
use crate::prepare::{Again, PreparedBuild};
use crate::run::{BuildReport, Shared, journal_keys};
use crate::undo::undo_entries;

/// Starts builds in the template's order among those that can start, and waits for all.
pub(crate) async fn schedule(builds: Vec<PreparedBuild>, shared: &Arc<Shared>) -> Vec<BuildReport> {
    let limit = if shared.settings.debug { 1.into() } else { shared.settings.parallel_builds.clone() };
    let keys = journal_keys(&builds);
    let builds: Vec<Build> = builds.into_iter().zip(keys).map(Build::new).collect();
    let mut schedule = Schedule { builds, shared, limit, running: JoinSet::new(), indices: BTreeMap::new() };
    schedule.run().await;
    schedule.builds.into_iter().filter_map(|build| build.report).collect()
}

/// A build on its way through the schedule.
struct Build {
    name: Arc<str>,
    kind: Arc<str>,
    key: Arc<str>,
    parents: Vec<usize>,
    /// Until it starts.
    waiting: Option<PreparedBuild>,
    /// Once it ended.
    report: Option<BuildReport>,
    /// What it left, where it ended well.
    values: Option<ArtifactValues>,
}

impl Build {
    fn new((build, key): (PreparedBuild, Arc<str>)) -> Build {
        Build {
            name: Arc::clone(&build.name),
            kind: Arc::clone(&build.builder_kind),
            key,
            parents: build.parents.clone(),
            waiting: Some(build),
            report: None,
            values: None,
        }
    }
}

struct Schedule<'a> {
    builds: Vec<Build>,
    shared: &'a Arc<Shared>,
    limit: ParallelBuilds,
    running: JoinSet<BuildReport>,
    indices: BTreeMap<Id, usize>,
}

impl Schedule<'_> {
    async fn run(&mut self) {
        loop {
            if self.shared.stop.cancel.is_cancelled() {
                self.give_up();
            } else {
                self.start_ready();
            }
            // Whoever still waits does so for a build that runs: rings are refused with the template.
            let ended = tokio::select! {
                biased;
                ended = self.running.join_next_with_id() => ended,
                () = self.shared.stop.cancel.cancelled(), if self.is_anyone_waiting() => continue,
            };
            match ended {
                None => break,
                Some(Ok((id, report))) => self.ended(id, report),
                Some(Err(error)) => {
                    let id = error.id();
                    let Some(index) = self.indices.get(&id).copied() else { continue };
                    let report = broken(error, &self.builds[index], self.shared).await;
                    self.ended(id, report);
                }
            }
        }
        // Nothing runs and somebody waits: only a plan with a ring, which no template gives.
        self.give_up();
    }

    fn is_anyone_waiting(&self) -> bool {
        self.builds.iter().any(|build| build.waiting.is_some())
    }

    fn start_ready(&mut self) {
        for index in 0..self.builds.len() {
            if self.builds[index].waiting.is_none() {
                continue;
            }
            let parents = &self.builds[index].parents;
            if let Some(parent) = parents.iter().map(|parent| &self.builds[*parent]).find(|parent| parent.has_failed())
            {
                let parent = Arc::clone(&parent.name);
                self.skip(index, &parent);
            } else if parents.iter().all(|parent| self.builds[*parent].values.is_some()) && self.has_room(index) {
                self.start(index);
            }
        }
    }

    /// Whether one more of its kind may run.
    fn has_room(&self, index: usize) -> bool {
        let kind = &self.builds[index].kind;
        let same = self.indices.values().filter(|running| self.builds[**running].kind == *kind).count();
        self.limit.allows(kind, self.running.len(), same)
    }

    fn start(&mut self, index: usize) {
        let artifacts: Artifacts = self.builds[index]
            .parents
            .iter()
            .map(|parent| &self.builds[*parent])
            .filter_map(|parent| Some((Arc::clone(&parent.name), parent.values.clone()?)))
            .collect();
        let build = &mut self.builds[index];
        let (Some(prepared), key) = (build.waiting.take(), Arc::clone(&build.key)) else { return };
        let shared = Arc::clone(self.shared);
        let task = self.running.spawn(async move {
            let prepared = if artifacts.is_empty() { Ok(prepared) } else { again(prepared, artifacts, &shared) };
            match prepared {
                Ok(prepared) => BuildRun::new(prepared, key, index, shared).run().await,
                Err(report) => *report,
            }
        });
        self.indices.insert(task.id(), index);
    }

    fn ended(&mut self, id: Id, report: BuildReport) {
        let Some(build) = self.indices.remove(&id).map(|index| &mut self.builds[index]) else { return };
        if report.outcome.is_good() {
            build.values = Some(left(&report));
        }
        build.report = Some(report);
    }

    /// A build that another one needed did not end well.
    fn skip(&mut self, index: usize, parent: &str) {
        let build = &mut self.builds[index];
        build.waiting = None;
        let why = format!("`{parent}`, which it is built upon, did not end well");
        build.report = Some(never_started(build, Outcome::NotRun, Some(why), self.shared));
    }

    /// The run was stopped: what has not begun does not.
    fn give_up(&mut self) {
        for build in self.builds.iter_mut().filter(|build| build.waiting.is_some()) {
            build.waiting = None;
            build.report = Some(never_started(build, Outcome::Cancelled, None, self.shared));
        }
    }
}

impl Build {
    fn has_failed(&self) -> bool {
        self.report.is_some() && self.values.is_none()
    }
}

/// What those may use that are built upon it: what it sealed, with the names and the digest that post-processors gave it.
pub(crate) fn left(report: &BuildReport) -> ArtifactValues {
    let mut values = ArtifactValues::new();
    for artifact in report.artifacts.iter().rev() {
        let more = artifact.values();
        // Files of a manifest, say, are not what the build is about: the first artifact has the last word.
        values.extend(more);
    }
    // Names accumulate along a chain, so the longest list has them all.
    let tags = report.artifacts.iter().filter_map(|artifact| artifact.image()).max_by_key(|image| image.tags.len());
    if let Some(image) = tags {
        values.insert("tags", kiln_core::ArtifactValue::List(image.tags.clone()));
    }
    values
}

/// The build with the values that it was waiting for.
fn again(build: PreparedBuild, artifacts: Artifacts, shared: &Shared) -> Result<PreparedBuild, Box<BuildReport>> {
    let again = Again { kinds: &shared.kinds, options: &shared.prepare, redactor: &shared.redactor };
    again.prepare(&build, Arc::new(artifacts)).map_err(|failure| {
        let events = build_events(&build.name, shared);
        events.emit(EventKind::BuildStarted { builder: build.builder_kind.to_string() });
        events.error(&failure);
        let (outcome, error) = (Outcome::Failed, Some(failure.chain()));
        events.emit(EventKind::BuildFinished { outcome, seconds: 0.0, error, reason: None, artifacts: Vec::new() });
        let report = empty(Arc::clone(&build.name), Arc::clone(&build.builder_kind), outcome);
        Box::new(BuildReport { failures: vec![failure], ..report })
    })
}

fn empty(name: Arc<str>, builder_kind: Arc<str>, outcome: Outcome) -> BuildReport {
    BuildReport {
        name,
        builder_kind,
        outcome,
        reason: None,
        tolerated: Vec::new(),
        artifacts: Vec::new(),
        failures: Vec::new(),
        last_lines: Vec::new(),
        duration: Duration::ZERO,
    }
}

fn build_events(name: &Arc<str>, shared: &Shared) -> Events {
    Events::new(Arc::clone(&shared.reporter), Arc::clone(&shared.redactor)).for_build(Arc::clone(name))
}

/// Its turn never came: it is reported as finished without ever having started.
fn never_started(build: &Build, outcome: Outcome, error: Option<String>, shared: &Shared) -> BuildReport {
    let finished = EventKind::BuildFinished { outcome, seconds: 0.0, error, reason: None, artifacts: Vec::new() };
    build_events(&build.name, shared).emit(finished);
    empty(Arc::clone(&build.name), Arc::clone(&build.kind), outcome)
}

/// The engine itself panicked in a build's task: the journal still knows what to remove.
async fn broken(error: JoinError, build: &Build, shared: &Shared) -> BuildReport {
    let events = build_events(&build.name, shared);
    let failure = match error.try_into_panic() {
        Ok(panic) => bug(panic.as_ref()),
        Err(error) => Failure::new(FailureClass::Bug, error),
    };
    events.error(&failure);
    let entries = shared.journal.open_entries(Some(&build.key));
    undo_entries(&shared.journal, entries, &shared.kinds, &events, &shared.stop.hurry).await;
    let error = Some(failure.chain());
    let outcome = Outcome::Failed;
    events.emit(EventKind::BuildFinished { outcome, seconds: 0.0, error, reason: None, artifacts: Vec::new() });
    BuildReport { failures: vec![failure], ..empty(Arc::clone(&build.name), Arc::clone(&build.kind), outcome) }
}
