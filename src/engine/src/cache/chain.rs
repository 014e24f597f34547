//! A build's steps as the cache sees them: their keys, what is kept under them, how far one may go without running any.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use kiln_core::{
    Body, BuildContext, Caching, Failure, FilesRecord, Input, Key, PlanMemory, Provisioner, Snapshots, StateInfo,
};

use super::arguments::{self, Surroundings};
use super::files;
use super::memory::{BuildMemory, RunMemory};
use super::{CachePolicy, Reason, StepChoice, keys};
use crate::cleanup::blocking;
use crate::prepare::{PreparedBuild, PreparedStep, STEP_ARGUMENTS, STEP_EXTENSIONS};

/// What a run's builds have in common.
pub(crate) struct Setting<'a> {
    pub(crate) policy: &'a CachePolicy,
    pub(crate) run_id: &'a str,
    pub(crate) run_memory: &'a Arc<RunMemory>,
    /// Texts that the template knows to be secret.
    pub(crate) secrets: &'a [String],
}

/// What a step depends on.
#[derive(Debug, Clone)]
pub(crate) struct StepInputs {
    pub(crate) inputs: Vec<Input>,
    /// What they come to.
    digest: Key,
    pub(crate) uses_secrets: bool,
    pub(crate) files: Vec<PathBuf>,
    /// What the files looked like.
    stamp: Option<Key>,
    /// What to remember of them.
    pub(crate) record: Option<FilesRecord>,
}

/// A step's place among the states.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// The key that it comes to; `None` where that cannot be told.
    pub(crate) computed: Option<Key>,
    /// The state that it leads to: kept already, or to be made.
    pub(crate) state: Key,
    /// What is kept under its key, used or not.
    pub(crate) found: Option<StateInfo>,
    /// Why that may not be used.
    pub(crate) bar: Option<Reason>,
    /// Whether `state` is there to be used.
    pub(crate) is_hit: bool,
    /// Whether other builds of this run may share what is made.
    pub(crate) is_shared: bool,
}

/// Steps that need not run; those that lead to no state have no look.
pub(crate) type Passed = Vec<(usize, Option<Look>)>;

/// How far one comes from a step on.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    /// The steps up to the last one whose state is kept.
    pub(crate) passed: Passed,
    /// The last state of the build and the steps up to it, where nothing stands in the way but that it may not be kept.
    /// For a build whose steps lead to no state, that is the base.
    pub(crate) end: Option<(Key, Passed)>,
}

/// The steps of one build.
pub(crate) struct Chain<'a> {
    pub(crate) build: &'a PreparedBuild,
    /// The build as nobody else is called in this run.
    name: Arc<str>,
    pub(crate) snapshots: &'a dyn Snapshots,
    store: Arc<dyn PlanMemory>,
    setting: Setting<'a>,
    pub(crate) memory: BuildMemory,
    context: BuildContext,
    pub(crate) base: Vec<Input>,
    pub(crate) base_key: Key,
    from_step: Option<usize>,
    inputs: Vec<Option<Result<StepInputs, Reason>>>,
    /// Nothing that is kept is trusted any more, as some of it could not be restored.
    distrusts: bool,
    /// That the cache cannot be read was told.
    has_warned: AtomicBool,
}

impl<'a> Chain<'a> {
    /// `None` where nothing is restored or kept. The error is the builder's, about what its machines start as.
    pub(crate) async fn open(
        build: &'a PreparedBuild,
        name: &Arc<str>,
        setting: Setting<'a>,
        context: &BuildContext,
    ) -> Result<Option<Chain<'a>>, Failure> {
        let (Some(store), Some(snapshots)) = (&setting.policy.memory, build.builder.snapshots()) else {
            return Ok(None);
        };
        if build.cache.is_off || build.source_is_unknown {
            return Ok(None);
        }
        let base = snapshots.base(context).await?;
        let (store, run_memory) = (Arc::clone(store), Arc::clone(setting.run_memory));
        let memory = {
            let (store, template) = (Arc::clone(&store), setting.policy.template.clone());
            let (name, kind) = (Arc::clone(name), Arc::clone(&build.builder_kind));
            blocking(move || BuildMemory::read(store.as_ref(), &run_memory, &template, &name, &kind)).await?
        };
        let base_key = keys::base(&build.builder_kind, &base);
        let from_step = setting.policy.from_step.as_ref().and_then(|choice| find_step(build, choice));
        Ok(Some(Chain {
            build,
            name: Arc::clone(name),
            snapshots,
            store,
            memory,
            context: context.clone(),
            base,
            base_key,
            from_step,
            inputs: vec![None; build.steps.len()],
            distrusts: false,
            has_warned: AtomicBool::new(false),
            setting,
        }))
    }

    fn step(&self, index: usize) -> &'a PreparedStep {
        &self.build.steps[index]
    }

    /// Nothing that is kept is used from now on.
    pub(crate) fn distrust(&mut self) {
        self.distrusts = true;
    }

    /// Files may have changed: those of later steps are read again.
    pub(crate) fn forget_inputs(&mut self, from: usize) {
        self.inputs.iter_mut().skip(from).for_each(|inputs| *inputs = None);
    }

    /// What a step depends on.
    pub(crate) async fn inputs(&mut self, index: usize) -> Result<StepInputs, Reason> {
        if let Some(known) = &self.inputs[index] {
            return known.clone();
        }
        let step = self.step(index);
        let found = if step.needs_facts() {
            Err(Reason::NotKnownYet)
        } else {
            self.read_inputs(index, step.component.ready.as_ref(), &step.component.body).await
        };
        self.inputs[index] = Some(found.clone());
        found
    }

    /// The same with the machine's values put in.
    pub(crate) async fn bound_inputs(
        &mut self,
        index: usize,
        provisioner: &dyn Provisioner,
        body: &Body,
    ) -> Result<StepInputs, Reason> {
        let found = self.read_inputs(index, provisioner, body).await;
        self.inputs[index] = Some(found.clone());
        found
    }

    async fn read_inputs(
        &self,
        index: usize,
        provisioner: &dyn Provisioner,
        body: &Body,
    ) -> Result<StepInputs, Reason> {
        let step = self.step(index);
        let schema = step.component.schema();
        let own = |name: &&&str| schema.fields.iter().any(|field| field.name == **name);
        let mut skip: Vec<&str> =
            STEP_ARGUMENTS.iter().chain(&STEP_EXTENSIONS).filter(|name| !own(name)).copied().collect();
        skip.extend(provisioner.path_arguments());
        let around = Surroundings {
            memory: &self.store,
            redactor: &self.context.redactor,
            secrets: self.setting.secrets,
            are_secret: step.needs_facts(),
            text_scope: &self.context.text_scope,
            build_name: &self.build.build_name,
        };
        let mut read = arguments::read(body, schema, &skip, &around).ok_or(Reason::NotKnownYet)?;
        let names: Vec<&str> = step.spec.secrets.iter().map(|(name, _)| name.as_str()).collect();
        if !names.is_empty() {
            // Not what they hold: a token that is renewed makes nothing new.
            let digest = names.iter().fold(keys::Fields::new("secrets"), keys::Fields::field).key().to_string();
            read.inputs.push(Input { name: "secrets".into(), digest, shown: None });
        }
        let (files, mut stamp, mut record) = (provisioner.input_files(), None, None);
        let first_file = read.inputs.len();
        if !files.is_empty() {
            let paths = files.clone();
            let unreadable = |what: String| Reason::Unreadable { what };
            let last = self.memory.last.iter().flat_map(|last| &last.steps);
            let known: Vec<FilesRecord> = last.filter_map(|step| step.files.clone()).collect();
            let found = blocking(move || files::read(&paths, &known)).await;
            let found = found.map_err(|failure| unreadable(failure.chain()))?;
            let found = found.map_err(|error| unreadable(error.to_string()))?;
            read.mention_build |= found.record.mention_build;
            stamp = Some(found.record.stamp.clone());
            read.inputs.extend(found.record.inputs.iter().cloned());
            record = found.is_settled.then_some(found.record);
        }
        if read.mention_build {
            read.inputs.push(arguments::build_name(&around));
        }
        let uses_secrets = read.have_secrets || !names.is_empty();
        let digest = keys::inputs(&read.inputs, |index| (first_file..first_file + files.len()).contains(&index));
        Ok(StepInputs { inputs: read.inputs, digest, uses_secrets, files, stamp, record })
    }

    /// Whether the files that a step read are still as they were when its key was made.
    pub(crate) async fn is_unchanged(&self, inputs: &StepInputs) -> bool {
        let Some(before) = inputs.stamp.clone() else { return true };
        let files = inputs.files.clone();
        matches!(blocking(move || files::stamp(&files)).await, Ok(Ok(now)) if now == before)
    }

    /// Where a step leads from a state.
    pub(crate) async fn look(&mut self, index: usize, before: &Key) -> Look {
        let inputs = match self.inputs(index).await {
            Ok(inputs) => inputs,
            Err(reason) => {
                let number = index.to_string();
                let state = keys::anew(before, &[self.setting.run_id, &self.name, &number]);
                return Look { computed: None, state, found: None, bar: Some(reason), is_hit: false, is_shared: false };
            }
        };
        let computed = keys::step(before, &self.step(index).spec.component.kind, &inputs.digest);
        let state = self.memory.follow(&computed);
        let found = self.find(&state).await;
        let is_ours = self.setting.run_memory.has_made(&state);
        let bar = self.bar(index, found.as_ref(), is_ours);
        let is_off = bar == Some(Reason::Off);
        let look = Look { computed: Some(computed.clone()), state, is_hit: false, is_shared: !is_off, found, bar };
        let run = self.setting.run_id;
        match (&look.bar, &look.found) {
            (None, found) => Look { is_hit: found.is_some(), ..look },
            (Some(Reason::Off), _) => Look { state: keys::anew(&computed, &[run, &self.name]), ..look },
            // Under the old key nothing new could be kept.
            (Some(_), Some(_)) => {
                let trust = if self.distrusts { "distrusted" } else { "" };
                Look { state: keys::anew(&computed, &[run, trust]), ..look }
            }
            (Some(_), None) => look,
        }
    }

    async fn find(&self, key: &Key) -> Option<StateInfo> {
        match self.snapshots.find(key).await {
            Ok(found) => found,
            Err(failure) => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    self.context.events.warn(format!("cannot look into the cache: {}", failure.chain()));
                }
                None
            }
        }
    }

    /// Why a step must run whatever is kept of it.
    fn bar(&self, index: usize, found: Option<&StateInfo>, is_ours: bool) -> Option<Reason> {
        let (policy, rules) = (self.setting.policy, self.step(index).spec.cache);
        if policy.post_only {
            return None;
        }
        if rules.is_off {
            return Some(Reason::Off);
        }
        if self.distrusts {
            return Some(Reason::NoCache);
        }
        if is_ours {
            return None;
        }
        if policy.no_cache {
            return Some(Reason::NoCache);
        }
        if self.from_step.is_some_and(|from| index >= from) {
            return Some(Reason::FromStep);
        }
        let ttl = self.ttl(index)?;
        let age = SystemTime::now().duration_since(found?.created).unwrap_or(Duration::ZERO);
        (age > ttl).then_some(Reason::Expired { ttl })
    }

    fn ttl(&self, index: usize) -> Option<Duration> {
        self.step(index).spec.cache.ttl.or(self.build.cache.ttl)
    }

    /// Whether the state after a step is kept whatever that costs: its age must be known later.
    pub(crate) fn is_checkpoint(&self, index: usize) -> bool {
        let spec = &self.step(index).spec;
        spec.is_checkpoint || spec.cache.ttl.is_some()
    }

    /// Goes from step to step as long as nothing must run: up to the next one that reaches outside, whose files may
    /// change what comes after it.
    pub(crate) async fn ahead(&mut self, from: usize, start: &Key) -> Ahead {
        let mut ahead = Ahead::default();
        if self.is_entered_before(from) {
            return ahead;
        }
        let mut seen: Passed = Vec::new();
        let mut before = start.clone();
        let mut last: Option<Key> = None;
        let mut is_last_found = true;
        for index in from..self.build.steps.len() {
            let step = self.step(index);
            match step.component.ready.caching() {
                Caching::Outside if self.setting.policy.post_only => continue,
                Caching::Outside => return ahead,
                Caching::Passing => {
                    seen.push((index, None));
                    continue;
                }
                Caching::Restorable => {}
            }
            let look = self.look(index, &before).await;
            if look.bar.is_some() {
                return ahead;
            }
            before = self.memory.canonical(&look.state);
            (last, is_last_found) = (Some(look.state.clone()), look.is_hit);
            let is_needed = step.spec.cache.ttl.is_some() && !self.setting.policy.post_only;
            let (is_hit, is_stuck) = (look.is_hit, is_needed && !look.is_hit);
            seen.push((index, Some(look)));
            if is_stuck {
                return ahead;
            }
            if is_hit {
                ahead.passed.clone_from(&seen);
            }
        }
        let is_aged = self.build.cache.ttl.is_some() && !self.setting.policy.post_only;
        let end = match last {
            Some(last) => Some(last).filter(|_| is_last_found || !is_aged),
            None => Some(start.clone()).filter(|start| self.may_seal_base(start)),
        };
        ahead.end = end.map(|end| (end, seen));
        ahead
    }

    /// Whether a step before this one reaches outside and is told about the machine (`docker exec ${build.ID} ...`): it may
    /// well change the machine, which no key would tell.
    pub(crate) fn is_entered_before(&self, index: usize) -> bool {
        let enters = |step: &PreparedStep| step.component.ready.caching() == Caching::Outside && step.needs_facts();
        self.build.steps.iter().take(index).any(enters)
    }

    /// Whether this is the base, and what sealing it gave may be used. There is no state to tell how old that is.
    fn may_seal_base(&self, state: &Key) -> bool {
        let policy = self.setting.policy;
        let is_barred = self.distrusts || policy.no_cache || self.from_step.is_some() || self.build.cache.ttl.is_some();
        *state == self.base_key && self.seals_base() && (policy.post_only || !is_barred)
    }

    /// Whether a machine that came past all steps is what it started as. Steps that reach outside should leave it so, but
    /// nobody sees to it: a command on this host may well enter a container.
    pub(crate) fn seals_base(&self) -> bool {
        self.build.steps.iter().all(|step| step.component.ready.caching() == Caching::Passing)
    }

    /// For the record: blocking.
    pub(crate) fn into_memory(self) -> (BuildMemory, Arc<dyn PlanMemory>, PathBuf, Arc<str>) {
        (self.memory, self.store, self.setting.policy.template.clone(), self.name)
    }

    /// Whether another build of this run has kept the state just now.
    pub(crate) fn has_made(&self, state: &Key) -> bool {
        self.setting.run_memory.has_made(state)
    }

    /// What all builds of this run learn.
    pub(crate) fn run_memory(&self) -> &'a Arc<RunMemory> {
        self.setting.run_memory
    }
}

/// The step that a user means.
pub(crate) fn find_step(build: &PreparedBuild, choice: &StepChoice) -> Option<usize> {
    match choice {
        StepChoice::Number(number) => number.checked_sub(1).filter(|index| *index < build.steps.len()),
        StepChoice::Name(name) => {
            build.steps.iter().position(|step| step.spec.component.name.as_deref() == Some(name.as_str()))
        }
    }
}
