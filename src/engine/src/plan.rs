//! What a run would do, without doing it: `kiln plan`.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use kiln_core::{
    Artifact, ArtifactValues, Artifacts, BuildContext, Caching, EntryId, Events, Failure, FailureClass, Input, Journal,
    Key, Published, RunOptions, Undo,
};
use serde::{Serialize, Serializer};

use crate::cache::Reason;
use crate::cache::chain::{Chain, Look, Passed, Setting};
use crate::cache::explain::{self, Present};
use crate::cache::memory::RunMemory;
use crate::cleanup::scratch_name;
use crate::needs::{ASKED_AT_ONCE, Needs, published_values};
use crate::prepare::{Again, PreparedBuild, PreparedPostProcessor, PreparedRun};
use crate::publication::{is_known_ahead, published, unclean};
use crate::run::{RunSettings, Surroundings, journal_keys};

/// The form of the JSON. The first number changes where a reader must look anew, the second where something is added.
pub const PLAN_FORMAT: &str = "1.1";

/// What a run would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// Of the JSON: see `docs/reference/plan.md`.
    pub format_version: &'static str,
    /// Its builds, in the template's order.
    pub builds: Vec<BuildPlan>,
}

/// What a build would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BuildPlan {
    /// Its name.
    pub build: String,
    /// The builder's kind.
    pub builder: String,
    /// `file:line` of the source.
    pub place: String,
    /// The builds that come before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Whether it does not run, and is taken as it was sealed before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_taken: bool,
    /// Of a build that joins images for several platforms to an index: those platforms.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<String>,
    /// Why it has nothing to do: what it would push is there already, or nothing that is built needs it. Nothing of what
    /// follows happens then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// What its machine starts as; empty where the builder keeps no states, or where that is not known.
    pub base: Vec<Input>,
    /// The state that the machine starts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_key: Option<Key>,
    /// Its steps, in order.
    pub steps: Vec<StepPlan>,
    /// What becomes of the last state.
    pub sealing: SealPlan,
    /// Kinds of its post-processors, chain by chain.
    pub post_processors: Vec<Vec<String>>,
    /// The names that its builder and its post-processors would give to its image, in full, in order.
    pub names: Vec<String>,
    /// Those of them that would be pushed.
    pub pushed: Vec<String>,
    /// Why `kiln build` would not begin with it as things are now: its work tree is not clean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why it would fail: nothing can be said of what its machine starts as (a registry that does not answer), nothing is
    /// sealed of what is to be taken as it is, or a build that it is built upon would fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl BuildPlan {
    /// Whether a step runs.
    pub fn runs_steps(&self) -> bool {
        self.steps.iter().any(|step| step.action == StepAction::Runs)
    }

    /// Whether it is known to fail; where it only cannot be told what it would do, that is an error as well.
    pub fn is_failing(&self) -> bool {
        self.error.is_some() && self.sealing == SealPlan::Skipped
    }
}

/// What happens with a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepAction {
    /// Its result is restored.
    Cached,
    /// It runs.
    Runs,
    /// It is left out: it passes time for a step that is restored, or its build has nothing to do, or fails before.
    Skipped,
}

/// What would become of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepPlan {
    /// Position in the build, from 1.
    pub index: usize,
    /// The provisioner's kind.
    pub kind: String,
    /// Its `name`, where given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does, in a few words.
    pub title: String,
    /// `file:line` of the step.
    pub place: String,
    /// The `steps` blocks by which it came into the build, the outermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupPlan>,
    /// What would happen.
    pub action: StepAction,
    /// Why it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// The state after it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// What is kept of it, whether it is used or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptState>,
}

/// A use of a `steps` block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupPlan {
    /// What the block is called.
    pub name: String,
    /// `file:line` of the use.
    pub place: String,
}

/// A state that is there.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeptState {
    /// When it was made; in JSON in milliseconds since the epoch, as in events.
    #[serde(serialize_with = "milliseconds")]
    pub created: SystemTime,
    /// How long making it took; in JSON in seconds.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub took: Duration,
}

fn milliseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    serializer.serialize_u64(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

/// What would become of the machine after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SealPlan {
    /// Its artifact is there from an earlier time; no machine is started.
    Cached,
    /// It is made.
    Runs,
    /// It does not come to that: what would be pushed is there already, or the build fails before.
    Skipped,
}

/// What a run of these builds would do. Nothing is run or made; a registry may be asked what an image is now.
pub async fn plan(prepared: &PreparedRun, settings: &RunSettings, surroundings: &Surroundings) -> PlanReport {
    prepared.secrets.iter().for_each(|secret| surroundings.redactor.add(secret));
    let run_memory = Arc::default();
    let names = journal_keys(&prepared.builds);
    let planning = |index: usize| Planning {
        prepared,
        build: &prepared.builds[index],
        settings,
        surroundings,
        run_memory: &run_memory,
    };
    let ahead = Ahead::find_out(&prepared.builds, planning).await;
    let mut plans: Vec<Option<(BuildPlan, Option<ArtifactValues>)>> = vec![None; prepared.builds.len()];
    for index in parents_first(&prepared.builds) {
        let left = |parent: usize| plans[parent].as_ref().and_then(|(_, values)| values.clone());
        let is_failing = |parent: usize| plans[parent].as_ref().is_some_and(|(plan, _)| plan.is_failing());
        let in_vain = prepared.builds[index].parents.iter().copied().find(|parent| is_failing(*parent));
        let planned = match (ahead.settled(index, planning(index)), in_vain) {
            (Some(settled), _) => settled,
            (None, Some(parent)) => (planning(index).in_vain(&prepared.builds[parent]), None),
            (None, None) => planning(index).after_parents(&names[index], ahead.is_asked(index), left).await,
        };
        plans[index] = Some(planned);
    }
    PlanReport { format_version: PLAN_FORMAT, builds: plans.into_iter().flatten().map(|(plan, _)| plan).collect() }
}

/// What is settled before those are there that builds are built upon, as in a run.
struct Ahead {
    needs: Needs,
    answers: Vec<Option<Result<Option<Published>, Failure>>>,
}

impl Ahead {
    async fn find_out<'a>(builds: &[PreparedBuild], planning: impl Fn(usize) -> Planning<'a>) -> Ahead {
        let mut needs = Needs::of(builds);
        let mut answers: Vec<_> = builds.iter().map(|_| None).collect();
        let mut wanted = needs.first();
        while !wanted.is_empty() {
            let asking = wanted.into_iter().map(|index| {
                let planning = planning(index);
                async move { (index, planning.ask_ahead().await) }
            });
            let asked: Vec<_> = stream::iter(asking).buffered(ASKED_AT_ONCE).collect().await;
            wanted = Vec::new();
            for (index, answer) in asked {
                if matches!(answer, None | Some(Ok(None))) {
                    wanted.extend(needs.is_built(index));
                }
                answers[index] = answer;
            }
        }
        Ahead { needs, answers }
    }

    fn is_asked(&self, index: usize) -> bool {
        self.answers[index].is_some()
    }

    fn published(&self, index: usize) -> Option<&Published> {
        self.answers[index].as_ref()?.as_ref().ok()?.as_ref()
    }

    /// What becomes of a build that is not built, and what it leaves.
    fn settled(&self, index: usize, planning: Planning<'_>) -> Option<(BuildPlan, Option<ArtifactValues>)> {
        if !self.needs.is_needed(index) {
            let joining = self.needs.index_of(index).and_then(|joining| self.published(joining));
            let values = joining.map(|published| published.artifact.values());
            return Some((planning.skipped(&self.needs.why_not(index), false), values));
        }
        if let Some(Err(failure)) = &self.answers[index] {
            return Some((planning.uncached(&Reason::NoBase, Some(planning.clean(&failure.chain()))), None));
        }
        let Published { artifact, reason, .. } = self.published(index)?;
        let values = published_values(&planning.build.spec, artifact.values());
        Some((planning.skipped(reason, true), Some(values)))
    }
}

/// The builds by their index, each after those that it is built upon; as in the template otherwise.
pub(crate) fn parents_first(builds: &[PreparedBuild]) -> Vec<usize> {
    let mut order = Vec::with_capacity(builds.len());
    let mut is_seen = vec![false; builds.len()];
    for start in 0..builds.len() {
        let mut path = vec![(start, 0)];
        while let Some((index, next)) = path.last_mut() {
            let index = *index;
            if *next == 0 && std::mem::replace(&mut is_seen[index], true) {
                path.pop();
                continue;
            }
            match builds[index].parents.get(*next) {
                Some(parent) => {
                    *next += 1;
                    path.push((*parent, 0));
                }
                None => {
                    order.push(index);
                    path.pop();
                }
            }
        }
    }
    order
}

/// A plan makes nothing, so there is nothing to undo.
struct NoJournal;

impl Journal for NoJournal {
    fn record(&self, _build: &str, _undo: Undo) -> Result<EntryId, Failure> {
        Err(Failure::new(FailureClass::Bug, "a plan must make nothing"))
    }

    fn amend(&self, _entry: EntryId, _undo: Undo) -> Result<(), Failure> {
        Ok(())
    }

    fn strike(&self, _entry: EntryId) -> Result<(), Failure> {
        Ok(())
    }

    fn hand_over(&self, _build: &str) -> Result<(), Failure> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Planning<'a> {
    prepared: &'a PreparedRun,
    build: &'a PreparedBuild,
    settings: &'a RunSettings,
    surroundings: &'a Surroundings,
    run_memory: &'a Arc<RunMemory>,
}

impl Planning<'_> {
    /// What becomes of the build, and what those may use that are built upon it, where that is there already.
    async fn after_parents(
        &self,
        name: &Arc<str>,
        is_asked: bool,
        left: impl Fn(usize) -> Option<ArtifactValues>,
    ) -> (BuildPlan, Option<ArtifactValues>) {
        if self.build.parents.is_empty() {
            return self.build(name, is_asked).await;
        }
        let mut artifacts = Artifacts::new();
        for parent in &self.build.parents {
            let parent_name = Arc::clone(&self.prepared.builds[*parent].name);
            let Some(values) = left(*parent) else {
                let reason = Reason::Parent { build: self.clean(&parent_name) };
                return (self.uncached(&reason, None), None);
            };
            artifacts.insert(parent_name, values);
        }
        let (kinds, redactor) = (&*self.surroundings.kinds, &*self.surroundings.redactor);
        let again = Again { kinds, options: &self.prepared.options, redactor };
        match again.prepare(self.build, Arc::new(artifacts)) {
            Ok(build) => Planning { build: &build, ..*self }.build(name, is_asked).await,
            Err(failure) => {
                let told = self.surroundings.redactor.redact(&failure.chain()).into_owned();
                (self.uncached(&Reason::NoBase, Some(told)), None)
            }
        }
    }

    /// Whether it has anything to do; `None` where that cannot be asked yet.
    async fn ask_ahead(&self) -> Option<Result<Option<Published>, Failure>> {
        if !is_known_ahead(self.build) {
            return None;
        }
        Some(published(self.build, &self.context()).await)
    }

    async fn build(&self, name: &Arc<str>, is_asked: bool) -> (BuildPlan, Option<ArtifactValues>) {
        let asked = if is_asked { Ok(None) } else { published(self.build, &self.context()).await };
        match asked {
            Ok(None) => {}
            Ok(Some(Published { artifact, reason, .. })) => {
                let values = published_values(&self.build.spec, artifact.values());
                return (self.skipped(&reason, true), Some(values));
            }
            Err(failure) => return (self.uncached(&Reason::NoBase, Some(self.clean(&failure.chain()))), None),
        }
        let policy = self.settings.cache.for_build(self.build);
        let setting = Setting {
            policy: &policy,
            run_id: &self.settings.run_id,
            run_memory: self.run_memory,
            secrets: &self.prepared.secrets,
        };
        let mut values = None;
        let plan = match Chain::open(self.build, name, setting, &self.context()).await {
            Ok(Some(chain)) => {
                let (plan, sealed) = Steps::new(self, chain).plan().await;
                values = sealed.map(|artifact| artifact.values());
                plan
            }
            Ok(None) if self.build.cache.is_off => self.uncached(&Reason::Off, None),
            Ok(None) if self.settings.cache.memory.is_none() => self.uncached(&Reason::NoCache, None),
            Ok(None) => self.uncached(&Reason::NoStates, None),
            Err(failure) => {
                let told = self.surroundings.redactor.redact(&failure.chain()).into_owned();
                self.uncached(&Reason::NoBase, Some(told))
            }
        };
        if policy.post_only && plan.sealing == SealPlan::Runs && plan.error.is_none() {
            let told = match self.build.is_taken() {
                true => "it was never built as it stands here, and is not built now",
                false => "nothing is sealed that post-processors alone could start from",
            };
            return (failing(plan, told.to_owned()), None);
        }
        (plan, values)
    }

    fn context(&self) -> BuildContext {
        let (build, settings, around) = (self.build, self.settings, self.surroundings);
        let events = Events::new(Arc::clone(&around.reporter), Arc::clone(&around.redactor));
        BuildContext {
            run: Arc::clone(&settings.run_id),
            build: Arc::clone(&build.name),
            builder_kind: Arc::clone(&build.builder_kind),
            build_name: Arc::clone(&build.build_name),
            events: events.for_build(Arc::clone(&build.name)),
            cancel: around.cancel.child_token(),
            journal: Arc::new(NoJournal),
            redactor: Arc::clone(&around.redactor),
            scratch: settings.scratch_root.join(scratch_name(&settings.run_id)),
            options: Arc::new(RunOptions {
                force: settings.force,
                debug: settings.debug,
                origin: settings.origin.clone(),
                looks_only: true,
                no_push: true,
                logs: None,
            }),
            prompt: Arc::clone(&around.prompt),
            facts: Arc::default(),
            text_scope: build.text_scope(&self.prepared.text_scope),
            secrets: None,
        }
    }

    fn uncached(&self, reason: &Reason, error: Option<String>) -> BuildPlan {
        let steps = (0..self.build.steps.len()).map(|index| self.step(index, StepAction::Runs, Some(reason), None));
        BuildPlan { error, ..self.whole(steps.collect(), SealPlan::Runs) }
    }

    /// A build that it is built upon does not come to an end.
    fn in_vain(&self, parent: &PreparedBuild) -> BuildPlan {
        let steps = (0..self.build.steps.len()).map(|index| self.step(index, StepAction::Skipped, None, None));
        let told = format!("`{}`, which it is built upon, would fail", self.clean(&parent.name));
        failing(self.whole(steps.collect(), SealPlan::Skipped), told)
    }

    /// Nothing of it happens, but for what takes note where it is published.
    fn skipped(&self, reason: &str, is_published: bool) -> BuildPlan {
        let steps = (0..self.build.steps.len()).map(|index| self.step(index, StepAction::Skipped, None, None));
        let mut plan = self.whole(steps.collect(), SealPlan::Skipped);
        plan.post_processors = Vec::new();
        for chain in self.build.chains.iter().filter(|_| is_published) {
            let notes = chain.iter().filter(|step| step.component.ready.takes_note());
            let kinds: Vec<String> = notes.map(|step| step.spec.component.kind.clone()).collect();
            plan.post_processors.extend(Some(kinds).filter(|kinds| !kinds.is_empty()));
        }
        BuildPlan { skipped: Some(self.clean(reason)), ..plan }
    }

    fn whole(&self, steps: Vec<StepPlan>, sealing: SealPlan) -> BuildPlan {
        let kinds = |chain: &Vec<PreparedPostProcessor>| {
            chain.iter().map(|post_processor| post_processor.spec.component.kind.clone()).collect()
        };
        BuildPlan {
            build: self.clean(&self.build.name),
            builder: self.build.builder_kind.to_string(),
            place: self.build.place.clone(),
            parents: self.build.parents().map(|parent| self.clean(parent)).collect(),
            is_taken: self.build.is_taken(),
            platforms: self.build.platforms(),
            skipped: None,
            base: Vec::new(),
            base_key: None,
            steps,
            sealing,
            post_processors: self.build.chains.iter().map(kinds).collect(),
            names: self.build.image_names(false).iter().map(|name| self.clean(name)).collect(),
            pushed: self.build.image_names(true).iter().map(|name| self.clean(name)).collect(),
            refused: unclean(self.build, false).map(|failure| self.clean(&failure.chain())),
            error: None,
        }
    }

    fn clean(&self, text: &str) -> String {
        self.surroundings.redactor.redact(text).into_owned()
    }

    fn step(&self, index: usize, action: StepAction, reason: Option<&Reason>, look: Option<&Look>) -> StepPlan {
        let step = &self.build.steps[index];
        let component = &step.spec.component;
        let found = look.and_then(|look| look.found.as_ref());
        let key = look.and_then(|look| if look.is_hit { Some(&look.state) } else { look.computed.as_ref() });
        StepPlan {
            index: index + 1,
            kind: component.kind.clone(),
            name: component.name.as_deref().filter(|name| !name.is_empty()).map(|name| self.clean(name)),
            title: self.clean(&step.title()),
            place: step.place.clone(),
            groups: step
                .groups
                .iter()
                .map(|(name, at)| GroupPlan { name: self.clean(name), place: at.clone() })
                .collect(),
            action,
            reason: reason.cloned(),
            because: reason.map(|reason| self.clean(&reason.to_string())),
            key: key.cloned(),
            kept: found.map(|info| KeptState { created: info.created, took: info.took }),
        }
    }
}

/// A build that is known to fail. Why its steps would have to run is told all the same: that is why.
fn failing(mut plan: BuildPlan, told: String) -> BuildPlan {
    for step in plan.steps.iter_mut().filter(|step| step.action == StepAction::Runs) {
        step.action = StepAction::Skipped;
    }
    BuildPlan { sealing: SealPlan::Skipped, post_processors: Vec::new(), error: Some(told), ..plan }
}

/// Goes the way that a run would go.
struct Steps<'a> {
    planning: &'a Planning<'a>,
    chain: Chain<'a>,
    steps: Vec<StepPlan>,
    /// What keys are made of, and the state that it names.
    at: (Key, Key),
    is_restored: bool,
    /// A step that leads to a state runs.
    has_missed: bool,
}

impl<'a> Steps<'a> {
    fn new(planning: &'a Planning<'a>, chain: Chain<'a>) -> Steps<'a> {
        let at = (chain.base_key.clone(), chain.base_key.clone());
        Steps { planning, chain, steps: Vec::new(), at, is_restored: false, has_missed: false }
    }

    async fn plan(mut self) -> (BuildPlan, Option<Artifact>) {
        let total = self.planning.build.steps.len();
        let mut sealing = SealPlan::Runs;
        let mut state = None;
        // Also for a build without steps: what it starts from may have been sealed.
        loop {
            let ahead = self.chain.ahead(self.steps.len(), &self.at.0).await;
            if let Some((last, seen)) = ahead.end
                && self.is_sealed(&last).await
            {
                self.pass(&seen);
                sealing = SealPlan::Cached;
                state = Some(last);
                break;
            }
            if self.steps.len() == total {
                break;
            }
            if ahead.passed.is_empty() {
                self.miss().await;
            } else {
                self.pass(&ahead.passed);
            }
        }
        if self.steps.len() == total
            && self.is_restored
            && !self.chain.is_entered_before(total)
            && self.is_sealed(&self.at.1.clone()).await
        {
            sealing = SealPlan::Cached;
            state = Some(self.at.1.clone());
        }
        let artifact = match &state {
            // Who is built upon it cannot be planned without; that it is gone meanwhile is no reason to fail.
            Some(state) => self.chain.snapshots.sealed_before(state).await.ok().flatten(),
            None => None,
        };
        let (base, base_key) = (self.chain.base.clone(), Some(self.chain.base_key.clone()));
        (BuildPlan { base, base_key, ..self.planning.whole(self.steps, sealing) }, artifact)
    }

    async fn is_sealed(&self, key: &Key) -> bool {
        self.chain.snapshots.is_sealed(key).await.unwrap_or(false)
    }

    fn pass(&mut self, passed: &Passed) {
        for (index, look) in passed {
            let action = if look.is_some() { StepAction::Cached } else { StepAction::Skipped };
            self.steps.push(self.planning.step(*index, action, None, look.as_ref()));
            if let Some(look) = look {
                self.at = (self.chain.memory.canonical(&look.state), look.state.clone());
                self.is_restored = true;
            }
        }
    }

    async fn miss(&mut self) {
        let index = self.steps.len();
        let step = match self.planning.build.steps[index].component.ready.caching() {
            Caching::Outside => self.planning.step(index, StepAction::Runs, Some(&Reason::Outside), None),
            Caching::Passing if self.is_restored => self.planning.step(index, StepAction::Skipped, None, None),
            Caching::Passing => self.planning.step(index, StepAction::Runs, Some(&Reason::Outside), None),
            Caching::Restorable => {
                let look = self.chain.look(index, &self.at.0.clone()).await;
                let reason = match &look.bar {
                    _ if self.chain.is_entered_before(index) => Reason::Entered,
                    Some(bar) => bar.clone(),
                    None if self.has_missed => Reason::StepBefore,
                    None => self.explain(index).await,
                };
                (self.has_missed, self.is_restored) = (true, false);
                self.at = (self.chain.memory.canonical(&look.state), look.state.clone());
                self.planning.step(index, StepAction::Runs, Some(&reason), Some(&look))
            }
        };
        self.steps.push(step);
    }

    async fn explain(&mut self, index: usize) -> Reason {
        let Ok(inputs) = self.chain.inputs(index).await else { return Reason::NotKnownYet };
        let has_next = index + 1 < self.planning.build.steps.len();
        let next = if has_next { self.chain.inputs(index + 1).await.ok() } else { None };
        let present = Present {
            index,
            kind: &self.planning.build.steps[index].spec.component.kind,
            inputs: &inputs.inputs,
            next: next.as_ref().map(|next| next.inputs.as_slice()),
        };
        explain::miss(self.chain.memory.last.as_ref(), &self.chain.base, &present)
    }
}
