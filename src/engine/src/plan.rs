//! What a run would do, without doing it: `kiln plan`.

mod report;

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use kiln_core::{
    Artifact, ArtifactValues, Artifacts, BuildContext, Caching, EntryId, Events, Failure, FailureClass, Journal, Key,
    Published, RunOptions, Undo,
};

use crate::cache::Reason;
use crate::cache::chain::{Chain, Look, Passed, Setting};
use crate::cache::explain::{self, Present};
use crate::cache::memory::RunMemory;
use crate::cleanup::scratch_name;
use crate::needs::{ASKED_AT_ONCE, Needs, published_values};
use crate::prepare::{Again, PreparedBuild, PreparedPostProcessor, PreparedRun};
use crate::publication::{is_known_ahead, published, unclean};
use crate::run::{RunSettings, Surroundings, journal_keys};

pub use report::{BuildPlan, GroupPlan, KeptState, PLAN_FORMAT, PlanReport, SealPlan, StepAction, StepPlan};

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
        let Published { artifact, reason, .. } = self.published(index)?.completed();
        let values = published_values(&planning.build.spec, artifact.values());
        Some((planning.skipped(&reason, true), Some(values)))
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
            Ok(Some(published)) => {
                let Published { artifact, reason, .. } = published.completed();
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
