//! The order of builds: first it is found out which have anything to do; those that have run as soon as those are done that
//! they are built upon, as many at a time as allowed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{ArtifactValues, Artifacts, BuildSpec, EventKind, Events, Failure, FailureClass};
use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};

use crate::build::BuildRun;
use crate::guard::bug;
use crate::needs::{ASKED_AT_ONCE, Needs, published_values};
use crate::policy::ParallelBuilds;
use crate::prepare::{Again, PreparedBuild};
use crate::publication::is_known_ahead;
use crate::run::{BuildReport, Shared, journal_keys};
use crate::undo::undo_entries;

/// Starts builds in the template's order among those that can start, and waits for all.
pub(crate) async fn schedule(builds: Vec<PreparedBuild>, shared: &Arc<Shared>) -> Vec<BuildReport> {
    let limit = if shared.settings.debug { 1.into() } else { shared.settings.parallel_builds.clone() };
    let keys = journal_keys(&builds);
    let needs = Needs::of(&builds);
    let new = |(index, (build, key))| Build::new(build, key, index, shared);
    let builds: Vec<Build> = builds.into_iter().zip(keys).enumerate().map(new).collect();
    let asking = Arc::new(Semaphore::new(ASKED_AT_ONCE));
    let mut schedule =
        Schedule { builds, needs, shared, limit, asking, running: JoinSet::new(), indices: BTreeMap::new() };
    schedule.run().await;
    schedule.builds.into_iter().filter_map(|build| build.report).collect()
}

/// A build on its way through the schedule.
struct Build {
    name: Arc<str>,
    kind: Arc<str>,
    key: Arc<str>,
    spec: Arc<BuildSpec>,
    parents: Vec<usize>,
    /// Until it starts, but for the time in which it is asked about.
    waiting: Option<Box<BuildRun>>,
    is_asked_about: bool,
    /// It is needed, and what can be settled ahead is.
    may_start: bool,
    /// Once it ended.
    report: Option<BuildReport>,
    /// What it left, where it ended well.
    values: Option<ArtifactValues>,
}

impl Build {
    fn new(build: PreparedBuild, key: Arc<str>, index: usize, shared: &Arc<Shared>) -> Build {
        Build {
            name: Arc::clone(&build.name),
            kind: Arc::clone(&build.builder_kind),
            key: Arc::clone(&key),
            spec: Arc::clone(&build.spec),
            parents: build.parents.clone(),
            waiting: Some(Box::new(BuildRun::new(build, key, index, Arc::clone(shared)))),
            is_asked_about: false,
            may_start: false,
            report: None,
            values: None,
        }
    }
}

/// What a task came to.
enum Done {
    /// It is known whether the build has anything to do.
    Asked(Box<BuildRun>),
    /// The build is over.
    Ended(Box<BuildReport>),
}

struct Schedule<'a> {
    builds: Vec<Build>,
    needs: Needs,
    shared: &'a Arc<Shared>,
    limit: ParallelBuilds,
    /// How many more may be asked about.
    asking: Arc<Semaphore>,
    running: JoinSet<Done>,
    indices: BTreeMap<Id, usize>,
}

impl Schedule<'_> {
    async fn run(&mut self) {
        let first = self.needs.first();
        self.need(first);
        loop {
            if self.shared.stop.cancel.is_cancelled() {
                self.give_up();
            } else {
                self.leave_out();
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
                Some(Ok((id, Done::Asked(run)))) => self.asked(id, run),
                Some(Ok((id, Done::Ended(report)))) => self.ended(id, *report),
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

    /// Finds out whether these have anything to do, and what they need for that.
    fn need(&mut self, mut wanted: Vec<usize>) {
        while let Some(index) = wanted.pop() {
            let build = &mut self.builds[index];
            match build.waiting.take_if(|run| is_known_ahead(&run.prepared)) {
                Some(run) => {
                    build.is_asked_about = true;
                    let asking = Arc::clone(&self.asking);
                    let task = self.running.spawn(async move {
                        let _turn = asking.acquire().await;
                        Done::Asked(Box::new(run.ask_ahead().await))
                    });
                    self.indices.insert(task.id(), index);
                }
                None => {
                    build.may_start = true;
                    wanted.extend(self.needs.is_built(index));
                }
            }
        }
    }

    fn asked(&mut self, id: Id, run: Box<BuildRun>) {
        let Some(index) = self.indices.remove(&id) else { return };
        let is_built = run.is_to_be_built();
        let build = &mut self.builds[index];
        (build.waiting, build.is_asked_about, build.may_start) = (Some(run), false, true);
        if is_built {
            let needed = self.needs.is_built(index);
            self.need(needed);
        }
    }

    /// Leaves out what is not needed, as soon as nothing that is asked about can change that.
    fn leave_out(&mut self) {
        if self.builds.iter().any(|build| build.is_asked_about) {
            return;
        }
        for index in 0..self.builds.len() {
            if self.builds[index].waiting.is_none() || self.needs.is_needed(index) {
                continue;
            }
            let joining = self.needs.index_of(index).filter(|joining| self.needs.is_needed(*joining));
            let joining = joining.map(|joining| &self.builds[joining]);
            if joining.is_some_and(|joining| joining.report.is_none()) {
                continue;
            }
            // Who is built upon it gets what is published.
            let values = joining.and_then(|joining| joining.values.clone());
            let why = self.needs.why_not(index);
            let build = &mut self.builds[index];
            (build.waiting, build.values) = (None, values);
            build.report = Some(not_needed(build, why, self.shared));
        }
    }

    fn start_ready(&mut self) {
        for index in 0..self.builds.len() {
            let build = &self.builds[index];
            let Some(run) = build.waiting.as_ref().filter(|_| build.may_start) else { continue };
            let parents = || build.parents.iter().filter(|_| run.is_to_be_built()).map(|parent| &self.builds[*parent]);
            if let Some(parent) = parents().find(|parent| parent.has_failed()) {
                let parent = Arc::clone(&parent.name);
                self.skip(index, &parent);
            } else if parents().all(|parent| parent.values.is_some()) && self.has_room(index) {
                self.start(index);
            }
        }
    }

    /// Whether one more of its kind may run.
    fn has_room(&self, index: usize) -> bool {
        let kind = &self.builds[index].kind;
        let running = || self.indices.values().map(|running| &self.builds[*running]).filter(|it| !it.is_asked_about);
        self.limit.allows(kind, running().count(), running().filter(|it| it.kind == *kind).count())
    }

    fn start(&mut self, index: usize) {
        let artifacts: Artifacts = self.builds[index]
            .parents
            .iter()
            .map(|parent| &self.builds[*parent])
            .filter_map(|parent| Some((Arc::clone(&parent.name), parent.values.clone()?)))
            .collect();
        let Some(mut run) = self.builds[index].waiting.take() else { return };
        let shared = Arc::clone(self.shared);
        let task = self.running.spawn(async move {
            if run.is_to_be_built() && !artifacts.is_empty() {
                match again(&run.prepared, artifacts, &shared) {
                    Ok(prepared) => run.prepared = prepared,
                    Err(report) => return Done::Ended(report),
                }
            }
            Done::Ended(Box::new(run.run().await))
        });
        self.indices.insert(task.id(), index);
    }

    fn ended(&mut self, id: Id, report: BuildReport) {
        let Some(index) = self.indices.remove(&id) else { return };
        let build = &mut self.builds[index];
        build.is_asked_about = false;
        build.values = match report.outcome {
            Outcome::Skipped => Some(published_values(&build.spec, left(&report))),
            outcome => outcome.is_good().then(|| left(&report)),
        };
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
fn again(build: &PreparedBuild, artifacts: Artifacts, shared: &Shared) -> Result<PreparedBuild, Box<BuildReport>> {
    let again = Again { kinds: &shared.kinds, options: &shared.prepare, redactor: &shared.redactor };
    again.prepare(build, Arc::new(artifacts)).map_err(|failure| {
        let events = build_events(&build.name, shared);
        events.emit(build.started());
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

/// It is not wanted for itself, and nothing that is built needs it.
fn not_needed(build: &Build, why: String, shared: &Shared) -> BuildReport {
    let (outcome, reason) = (Outcome::Skipped, Some(why));
    let finished =
        EventKind::BuildFinished { outcome, seconds: 0.0, error: None, reason: reason.clone(), artifacts: Vec::new() };
    build_events(&build.name, shared).emit(finished);
    BuildReport { reason, ..empty(Arc::clone(&build.name), Arc::clone(&build.kind), outcome) }
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
