//! One build from launch to its last post-processor, and the way back when something fails.

mod way_back;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kiln_core::event::{ArtifactSummary, Outcome};
use kiln_core::{
    ARTIFACT_VALUES, Artifact, ArtifactShape, ArtifactValue, ArtifactValues, BuildContext, EntryId, EventKind, Events,
    Facts, Failure, FailureClass, History, Launched, Machine, Published,
};

use crate::cache::CachePolicy;
use crate::cleanup::{blocking, remove_directory};
use crate::error::BuildError;
use crate::guard::supervise;
use crate::policy::{Decision, OnError};
use crate::post_process::{Processing, Product};
use crate::prepare::{BoundStep, PreparedBuild, RUN_FACT};
use crate::run::{BuildReport, Shared, make_scratch};
use crate::scope::Scope;
use crate::tail::Tail;
use crate::walk::{Live, Made, Passage, Walk};

/// `build.*` values that are secrets by nature.
const SECRET_FACTS: &[&str] = &["Password", "SSHPrivateKey", "WinRMPassword"];

/// A build that runs.
pub(crate) struct BuildRun {
    pub(crate) prepared: PreparedBuild,
    pub(crate) shared: Arc<Shared>,
    /// How it uses what is kept.
    pub(crate) cache: CachePolicy,
    /// What the journal calls it.
    pub(crate) key: Arc<str>,
    pub(crate) events: Events,
    pub(crate) tail: Arc<Tail>,
    /// What components are given, but for facts, journal and cancellation of their stage.
    context: BuildContext,
    /// What the steps noted: never part of the result.
    pub(crate) stepping: Arc<Scope>,
    /// What the first stage that failed for good printed last.
    last_lines: Mutex<Vec<String>>,
    /// What happened that artifacts do not show.
    pub(crate) history: Mutex<History>,
    /// Names that somebody agreed to push.
    pub(crate) confirmed: Mutex<Vec<String>>,
    /// What was settled before those were there that it is built upon.
    ahead: Option<Result<Option<Published>, Stopped>>,
    /// The machine's values, once they are known.
    last_facts: Mutex<Arc<Facts>>,
    /// What could not be undone: it is tried once, the rest is for `kiln cleanup`.
    not_undone: Mutex<Vec<EntryId>>,
}

/// A build that did not come to an artifact, or was stopped after it.
pub(crate) struct Stopped {
    pub(crate) failure: Failure,
    pub(crate) decision: Decision,
    /// What sealing left could not be removed, so the machine it is made from stays too.
    pub(crate) is_stuck: bool,
}

impl Stopped {
    pub(crate) fn new(failure: Failure, decision: Decision) -> Stopped {
        Stopped { failure, decision, is_stuck: false }
    }
}

/// What a build came to.
#[derive(Default)]
struct Ended {
    /// Why nothing had to be done.
    skipped: Option<String>,
    artifacts: Vec<Artifact>,
    failures: Vec<Failure>,
    is_cancelled: bool,
    /// What was made stays as it is, by the user's wish.
    is_left: bool,
    /// The same, but because removing it failed.
    is_stuck: bool,
    /// Stages whose things belong to the user now.
    kept: Vec<Arc<Scope>>,
}

impl BuildRun {
    pub(crate) fn new(prepared: PreparedBuild, key: Arc<str>, index: usize, shared: Arc<Shared>) -> BuildRun {
        let tail = Arc::new(Tail::new(Arc::clone(&shared.reporter)));
        let events = Events::new(tail.clone(), Arc::clone(&shared.redactor)).for_build(Arc::clone(&prepared.name));
        let stepping = Scope::new(&shared.journal, &key);
        let context = BuildContext {
            run: Arc::clone(&shared.settings.run_id),
            build: Arc::clone(&prepared.name),
            builder_kind: Arc::clone(&prepared.builder_kind),
            build_name: Arc::clone(&prepared.build_name),
            events: events.clone(),
            cancel: shared.stop.cancel.child_token(),
            journal: stepping.clone(),
            redactor: Arc::clone(&shared.redactor),
            scratch: shared.scratch.join(format!("build-{}", index + 1)),
            options: Arc::clone(&shared.options),
            prompt: Arc::clone(&shared.prompt),
            facts: Arc::new(Facts::default()),
            text_scope: prepared.text_scope(&shared.text_scope),
            secrets: None,
        };
        let cache = shared.settings.cache.for_build(&prepared);
        BuildRun {
            key,
            cache,
            prepared,
            shared,
            events,
            tail,
            context,
            stepping,
            last_lines: Mutex::default(),
            history: Mutex::default(),
            confirmed: Mutex::default(),
            ahead: None,
            last_facts: Mutex::default(),
            not_undone: Mutex::default(),
        }
    }

    /// Runs it to its end; everything it made is removed, handed over, or left as the user wished.
    pub(crate) async fn run(mut self) -> BuildReport {
        let started = Instant::now();
        self.events.emit(self.prepared.started());
        let ahead = self.ahead.take();
        let ended = self.execute(ahead).await;
        self.settle(&ended).await;
        let outcome = match &ended {
            Ended { failures, .. } if !failures.is_empty() => Outcome::Failed,
            Ended { is_cancelled: true, .. } => Outcome::Cancelled,
            Ended { skipped: Some(_), .. } => Outcome::Skipped,
            _ => Outcome::Succeeded,
        };
        let duration = started.elapsed();
        let mut artifacts: Vec<ArtifactSummary> = Vec::new();
        for artifact in &ended.artifacts {
            // Post-processors that pass their input on would show it once more each.
            let summary = artifact.summary();
            if !artifacts.contains(&summary) {
                artifacts.push(summary);
            }
        }
        let tolerated = self.history().tolerated;
        let report = BuildReport {
            name: Arc::clone(&self.prepared.name),
            builder_kind: Arc::clone(&self.prepared.builder_kind),
            outcome,
            reason: ended.skipped,
            tolerated,
            artifacts: ended.artifacts,
            last_lines: self.last_lines(),
            failures: ended.failures,
            duration,
        };
        self.run_hooks(&report).await;
        self.events.emit(EventKind::BuildFinished {
            outcome,
            seconds: duration.as_secs_f64(),
            error: report.failures.first().map(Failure::chain),
            reason: report.reason.clone(),
            artifacts,
        });
        report
    }

    /// Settles what can be settled before those are there that it is built upon.
    pub(crate) async fn ask_ahead(mut self) -> BuildRun {
        self.ahead = Some(self.already_published().await);
        self
    }

    /// Whether it has anything to do, as far as that is settled.
    pub(crate) fn is_to_be_built(&self) -> bool {
        matches!(self.ahead, None | Some(Ok(None)))
    }

    async fn execute(&self, ahead: Option<Result<Option<Published>, Stopped>>) -> Ended {
        if let Err(failure) = self.make_scratch().await {
            self.events.error(&failure);
            return Ended { failures: vec![failure], ..Ended::default() };
        }
        let published = match ahead {
            Some(settled) => settled,
            None => self.already_published().await,
        };
        match published {
            Ok(Some(published)) => return self.skip(published).await,
            Ok(None) => {}
            Err(stopped) => return Ended::from_stopped(stopped),
        }
        if let Err(stopped) = self.claim_own_pushes() {
            return Ended::from_stopped(stopped);
        }
        let mut walk = Walk::new(self);
        let gone = walk.go().await;
        walk.remember().await;
        let live = walk.live.take();
        match gone {
            Ok(made) => match self.pass_tests(made, live.as_ref()).await {
                Ok(made) => self.finish(made, live).await,
                Err(stopped) => self.give_up(stopped, live).await,
            },
            Err(stopped) => self.give_up(stopped, live).await,
        }
    }

    async fn give_up(&self, stopped: Stopped, live: Option<Live>) -> Ended {
        if let Some(live) = live {
            self.unwind(&live, &stopped).await;
        }
        Ended::from_stopped(stopped)
    }

    /// What it would give is there: that is all that is left to tell.
    async fn skip(&self, published: Published) -> Ended {
        self.events.message(format!("{}; nothing is built (`-force` builds all the same)", published.reason));
        let Published { artifact, reason, .. } = match self.name_published(&published).await {
            Ok(names) => published.named(names),
            Err(stopped) => return Ended::from_stopped(stopped),
        };
        self.history.lock().unwrap_or_else(PoisonError::into_inner).is_skipped = true;
        let failures = self.take_note(&artifact).await;
        self.events.emit(EventKind::Artifact { artifact: artifact.summary() });
        Ended { artifacts: vec![artifact], failures, skipped: Some(reason), ..Ended::default() }
    }

    /// What happened so far that artifacts do not show.
    pub(crate) fn history(&self) -> History {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The machine's values, as far as there was one.
    pub(crate) fn facts_at_end(&self) -> Arc<Facts> {
        let last = Arc::clone(&self.last_facts.lock().unwrap_or_else(PoisonError::into_inner));
        if last.build.is_some() { last } else { Arc::new(self.facts_without_machine()) }
    }

    /// What is told where there was no machine, and perhaps nothing of what it would have been built upon: all that nobody
    /// knows is empty, so that texts that mention it are what they are without it.
    pub(crate) fn facts_without_machine(&self) -> Facts {
        let names = self.prepared.fact_names.iter().filter(|name| *name != RUN_FACT);
        let facts = self.facts(names.map(|name| (name.clone(), String::new())).collect());
        let mut artifacts = (*facts.artifacts).clone();
        for parent in &self.prepared.spec.parents {
            artifacts.entry(Arc::clone(&parent.build)).or_insert_with(no_values);
        }
        Facts { artifacts: Arc::new(artifacts), ..facts }
    }

    async fn finish(&self, made: Made, live: Option<Live>) -> Ended {
        let Made { product, facts } = made;
        *self.last_facts.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&facts);
        let Some(live) = live else { return Ended::from(self.post_process(product, facts).await) };
        if self.shared.settings.debug {
            self.destroy(&live).await;
            return Ended::from(self.post_process(product, facts).await);
        }
        // Nobody needs the machine any more; removing it costs no time beside the post-processors.
        let (processing, ()) = tokio::join!(self.post_process(product, facts), self.destroy(&live));
        Ended::from(processing)
    }

    /// A journal for a stage.
    pub(crate) fn scope(&self) -> Arc<Scope> {
        Scope::new(&self.shared.journal, &self.key)
    }

    /// Starts the base machine.
    pub(crate) async fn launch(&self) -> Result<(Launched, Arc<Scope>), Stopped> {
        loop {
            if self.prepared.source_is_unknown {
                let error = BuildError::SourceNotKnown { place: self.prepared.place.clone() };
                let failure = Failure::new(FailureClass::Template, error).at(self.prepared.source_span);
                self.events.error(&failure);
                return Err(Stopped::new(failure, Decision::CleanUp));
            }
            self.tail.clear();
            let scope = self.scope();
            let context = self.stage_context(scope.clone(), Arc::default());
            let work = self.prepared.builder.launch(&context);
            match supervise(&self.shared.stop, &context.cancel, None, work).await {
                Ok(launched) => return Ok((launched, scope)),
                Err(failure) => self.not_launched(failure, &scope).await?,
            }
        }
    }

    /// What is done where no machine comes: comes back for another try.
    pub(crate) async fn not_launched(&self, failure: Failure, scope: &Scope) -> Result<(), Stopped> {
        let (kind, place) = (self.prepared.builder_kind.to_string(), self.prepared.place.clone());
        let failure =
            wrap(failure, |source| BuildError::Launch { kind, place, source }).within(self.prepared.source_span);
        match self.decide(&failure).await {
            // What the failed try may have left.
            Decision::Retry => {
                self.undo_scope(scope).await;
                Ok(())
            }
            decision => Err(Stopped::new(failure, decision)),
        }
    }

    /// Starts what steps need beside the machine.
    pub(crate) async fn before_steps(&self, live: &Live) -> Result<(), Stopped> {
        loop {
            self.tail.clear();
            let context = self.stage_context(live.scope.clone(), Arc::new(self.facts(live.machine.facts())));
            let work = live.machine.before_steps(&context);
            let Err(failure) = supervise(&self.shared.stop, &context.cancel, None, work).await else { return Ok(()) };
            let (kind, place) = (self.prepared.builder_kind.to_string(), self.prepared.place.clone());
            let failure = wrap(failure, |source| BuildError::Services { kind, place, source });
            let failure = failure.within(self.prepared.source_span);
            match self.decide(&failure).await {
                Decision::Retry => {}
                decision => return Err(Stopped::new(failure, decision)),
            }
        }
    }

    /// Runs a step until it ends well, or it is borne that it does not, or the build ends. `hint` is told with a failure.
    pub(crate) async fn step_with_policy(
        &self,
        index: usize,
        machine: &dyn Machine,
        bound: Option<&BoundStep>,
        hint: Option<&str>,
    ) -> Result<Passage, Stopped> {
        let step = &self.prepared.steps[index];
        let (number, total) = (index + 1, self.prepared.steps.len());
        let mut passage = Passage::Clean;
        loop {
            if let Err(failure) = self.shared.stop.check() {
                return Err(Stopped::new(failure, Decision::CleanUp));
            }
            self.debug_pause(&format!("next is step {number} of {total}, `{}`", step.spec.component.kind)).await;
            let Err(failure) = self.step(step, number, total, machine, bound).await else { return Ok(passage) };
            let is_bearable = !matches!(failure.class, FailureClass::Cancelled | FailureClass::Bug);
            if step.spec.continue_on_error && is_bearable {
                self.events.warn(format!("{}; going on all the same (`continue_on_error`)", failure.chain()));
                return Ok(Passage::Dirty);
            }
            let failure = hint.filter(|_| is_bearable).into_iter().fold(failure, Failure::hint);
            match self.decide(&failure).await {
                // Somebody may have mended the machine by hand.
                Decision::Retry => passage = Passage::Dirty,
                decision => return Err(Stopped::new(failure, decision)),
            }
        }
    }

    /// Turns the machine's state into an artifact.
    pub(crate) async fn seal(&self, machine: &dyn Machine) -> Result<Product, Stopped> {
        loop {
            if let Err(failure) = self.shared.stop.check() {
                return Err(Stopped::new(failure, Decision::CleanUp));
            }
            self.tail.clear();
            let scope = self.scope();
            let context = self.stage_context(scope.clone(), Arc::new(self.facts(machine.facts())));
            match supervise(&self.shared.stop, &context.cancel, None, machine.seal(&context)).await {
                Ok(artifact) => {
                    self.events.emit(EventKind::Artifact { artifact: artifact.summary() });
                    return Ok(Product { artifact, scope });
                }
                Err(failure) => self.not_sealed(failure, &scope).await?,
            }
        }
    }

    /// What is done where no artifact comes: comes back for another try.
    pub(crate) async fn not_sealed(&self, failure: Failure, scope: &Scope) -> Result<(), Stopped> {
        let (kind, place) = (self.prepared.builder_kind.to_string(), self.prepared.place.clone());
        let failure =
            wrap(failure, |source| BuildError::Seal { kind, place, source }).within(self.prepared.source_span);
        let decision = self.decide(&failure).await;
        // Before the machine: an engine may go on making the image although nobody waits for it any more, and what
        // it is made from tells when that is over.
        let is_undone = matches!(decision, Decision::Leave { .. }) || self.undo_scope(scope).await.is_empty();
        if decision == Decision::Retry { Ok(()) } else { Err(Stopped { failure, decision, is_stuck: !is_undone }) }
    }

    pub(crate) async fn make_scratch(&self) -> Result<(), Failure> {
        let scratch = self.context.scratch.clone();
        blocking(move || make_scratch(&scratch)).await?
    }

    pub(crate) async fn remove_scratch(&self) {
        let scratch = self.context.scratch.clone();
        if let Ok(Err(error)) = blocking(move || remove_directory(&scratch)).await {
            self.events.warn(format!("cannot remove {}: {error}", self.context.scratch.display()));
        }
    }

    fn last_lines(&self) -> Vec<String> {
        self.last_lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells a failure and finds out what to do about it.
    pub(crate) async fn decide(&self, failure: &Failure) -> Decision {
        if failure.is_cancelled() {
            return Decision::CleanUp;
        }
        self.events.error(failure);
        let lines = self.tail.lines();
        let decision = match self.shared.settings.on_error {
            // Whoever stops the run wants it gone.
            _ if self.shared.stop.cancel.is_cancelled() => Decision::CleanUp,
            OnError::Cleanup => Decision::CleanUp,
            OnError::Abort => Decision::Leave { run_cleanup_provisioner: false },
            OnError::RunCleanupProvisioner => Decision::Leave { run_cleanup_provisioner: true },
            OnError::Ask => self.ask().await,
        };
        let mut last_lines = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        if decision != Decision::Retry && last_lines.is_empty() {
            *last_lines = lines;
        }
        decision
    }

    async fn ask(&self) -> Decision {
        let question = "[c]lean up and end, [a]bort and leave it as it is, or [r]etry the failed step? ";
        loop {
            let answer = tokio::select! {
                biased;
                () = self.shared.stop.cancel.cancelled() => return Decision::CleanUp,
                answer = self.shared.prompt.ask(&self.prepared.name, question) => answer,
            };
            let Some(answer) = answer else {
                self.events.warn("nobody is there to answer; cleaning up");
                return Decision::CleanUp;
            };
            match answer.trim().to_lowercase().as_str() {
                "c" | "clean" | "cleanup" => return Decision::CleanUp,
                "a" | "abort" => return Decision::Leave { run_cleanup_provisioner: false },
                "r" | "retry" => return Decision::Retry,
                other => self.events.message(format!("`{other}` is none of `c`, `a` and `r`")),
            }
        }
    }

    /// With `-debug`: waits for Enter.
    pub(crate) async fn debug_pause(&self, what: &str) {
        if !self.shared.settings.debug || self.shared.stop.cancel.is_cancelled() {
            return;
        }
        let question = format!("debug: {what}; press Enter to go on ");
        tokio::select! {
            biased;
            () = self.shared.stop.cancel.cancelled() => {}
            _ = self.shared.prompt.ask(&self.prepared.name, &question) => {}
        }
    }

    /// The context of one stage: a token of its own, and a journal that knows the stage's entries.
    pub(crate) fn stage_context(&self, scope: Arc<Scope>, facts: Arc<Facts>) -> BuildContext {
        let cancel = self.shared.stop.cancel.child_token();
        BuildContext { cancel, facts, journal: scope, ..self.context.clone() }
    }

    /// The machine's values with those that every build has. Secrets among them are hidden from now on.
    pub(crate) fn facts(&self, mut values: BTreeMap<String, String>) -> Facts {
        values.entry(RUN_FACT.to_owned()).or_insert_with(|| self.shared.settings.run_id.to_string());
        SECRET_FACTS.iter().filter_map(|name| values.get(*name)).for_each(|secret| self.shared.redactor.add(secret));
        Facts { build: Some(values), artifacts: Arc::clone(&self.prepared.artifacts), ..Facts::default() }
    }
}

impl Ended {
    fn from_stopped(stopped: Stopped) -> Ended {
        let Stopped { failure, decision, is_stuck } = stopped;
        if failure.is_cancelled() {
            return Ended { is_cancelled: true, is_stuck, ..Ended::default() };
        }
        let is_left = matches!(decision, Decision::Leave { .. });
        Ended { failures: vec![failure], is_left, is_stuck, ..Ended::default() }
    }
}

impl From<Processing> for Ended {
    fn from(processing: Processing) -> Ended {
        let Processing { kept, failures, is_cancelled, is_left, .. } = processing;
        let (artifacts, kept) = kept.into_iter().map(|product| (product.artifact, product.scope)).unzip();
        Ended { artifacts, failures, is_cancelled, is_left, kept, ..Ended::default() }
    }
}

/// What an artifact has that is not there.
fn no_values() -> ArtifactValues {
    let empty = |shape| match shape {
        ArtifactShape::Text => ArtifactValue::Text(String::new()),
        ArtifactShape::List => ArtifactValue::List(Vec::new()),
        ArtifactShape::Map => ArtifactValue::Map(BTreeMap::new()),
    };
    ARTIFACT_VALUES.into_iter().map(|(name, shape, _)| (name, empty(shape))).collect()
}

/// Puts the stage's words before a component's failure; class, hints and place stay. Cancellation has no stage.
pub(crate) fn wrap(failure: Failure, stage: impl FnOnce(Failure) -> BuildError) -> Failure {
    if failure.is_cancelled() {
        return failure;
    }
    let (class, hints, span) = (failure.class, failure.hints.clone(), failure.span);
    Failure { hints, span, ..Failure::new(class, stage(failure)) }
}
