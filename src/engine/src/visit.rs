//! A machine as it is after a step, for a person to look around in: `kiln shell`.

use std::ops::AsyncFnOnce;
use std::sync::Arc;

use kiln_core::{Artifacts, BuildContext, Events, Failure, FailureClass, Key, Launched, Machine, suggest};

use crate::build::BuildRun;
use crate::cache::StepChoice;
use crate::cache::chain::find_step;
use crate::cleanup::blocking;
use crate::error::EngineError;
use crate::guard::supervise;
use crate::plan::parents_first;
use crate::prepare::{Again, PreparedBuild, PreparedRun};
use crate::run::{RunSettings, Shared, Surroundings, close, journal_keys, open};
use crate::schedule::left;
use crate::walk::Live;

/// A state that a build kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChoice {
    /// The build's name.
    pub build: String,
    /// The step after which, 0 for what the machine starts as; `None` for the last one whose state is kept.
    pub step: Option<StepChoice>,
}

/// Starts a machine in a state that an earlier build kept, or as builds start it, lends it to `work`, and removes it, whatever comes of that.
/// What `work` changes on the machine is kept nowhere.
pub async fn visit<T>(
    prepared: PreparedRun,
    choice: &StateChoice,
    settings: RunSettings,
    surroundings: Surroundings,
    work: impl AsyncFnOnce(&dyn Machine, &BuildContext) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let events = Events::new(Arc::clone(&surroundings.reporter), Arc::clone(&surroundings.redactor));
    prepared.secrets.iter().for_each(|secret| surroundings.redactor.add(secret));
    let shared = open(settings, surroundings, &prepared).await?;
    let result = enter(prepared, choice, &shared, work).await;
    close(&shared, &events).await;
    result
}

async fn enter<T>(
    prepared: PreparedRun,
    choice: &StateChoice,
    shared: &Arc<Shared>,
    work: impl AsyncFnOnce(&dyn Machine, &BuildContext) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let keys = journal_keys(&prepared.builds);
    let Some(index) = prepared.builds.iter().position(|build| *build.name == *choice.build) else {
        let names = suggest::enumerate(prepared.builds.iter().map(|build| &*build.name));
        let failure = no_state(format!("there is no build `{}`", choice.build));
        return Err(failure.hint(format!("the builds of this template: {names}")));
    };
    let key = Arc::clone(&keys[index]);
    let build = upon_parents(prepared.builds, &keys, index, shared).await?;
    let run = BuildRun::new(build, key, 0, Arc::clone(shared));
    run.make_scratch().await?;
    let state = match &choice.step {
        Some(StepChoice::Number(0)) => None,
        // What it starts from is all that it leaves.
        None if run.prepared.steps.is_empty() => None,
        _ => Some(find(&run, choice).await?),
    };
    let builder = Arc::clone(&run.prepared.builder);
    let scope = run.scope();
    let context = run.stage_context(scope.clone(), Arc::default());
    let launching = async {
        match &state {
            Some(state) => builder.snapshots().ok_or_else(no_states)?.restore(state, &context).await,
            None => builder.launch(&context).await,
        }
    };
    let machine = match supervise(&shared.stop, &context.cancel, None, launching).await {
        Ok(Launched::Machine(machine)) => machine,
        Ok(Launched::Artifact(_)) => return Err(no_states()),
        Err(failure) => {
            run.undo_scope(&scope).await;
            return Err(failure);
        }
    };
    let live = Live { machine, scope, is_ready: true };
    let facts = Arc::new(run.facts(live.machine.facts()));
    let beside = run.stage_context(live.scope.clone(), Arc::clone(&facts));
    let starting = live.machine.before_steps(&beside);
    match supervise(&shared.stop, &beside.cancel, None, starting).await {
        Err(failure) if !failure.is_cancelled() => {
            run.events.warn(format!("not all that its steps need beside it runs: {}", failure.chain()));
        }
        _ => {}
    }
    let context = run.stage_context(run.stepping.clone(), facts);
    let result = work(live.machine.as_ref(), &context).await;
    run.remove(&live).await;
    run.undo_scope(&run.stepping).await;
    run.remove_scratch().await;
    result
}

/// A build that knows what its parents left when they were built before.
async fn upon_parents(
    builds: Vec<PreparedBuild>,
    keys: &[Arc<str>],
    wanted: usize,
    shared: &Arc<Shared>,
) -> Result<PreparedBuild, Failure> {
    let again = Again { kinds: &shared.kinds, options: &shared.prepare, redactor: &shared.redactor };
    let mut needed = vec![wanted];
    let mut next = 0;
    while next < needed.len() {
        let parents = builds[needed[next]].parents.iter().copied().filter(|parent| !needed.contains(parent));
        needed.extend(parents.collect::<Vec<_>>());
        next += 1;
    }
    let mut order = parents_first(&builds);
    order.retain(|index| needed.contains(index));
    let mut builds: Vec<Option<PreparedBuild>> = builds.into_iter().map(Some).collect();
    let mut artifacts = Artifacts::new();
    for index in order {
        let Some(build) = builds[index].take() else { continue };
        let mut build = match build.parents.is_empty() {
            true => build,
            false => again.prepare(&build, Arc::new(artifacts.clone()))?,
        };
        if index == wanted {
            return Ok(build);
        }
        build.take();
        let name = Arc::clone(&build.name);
        let report = BuildRun::new(build, Arc::clone(&keys[index]), index, Arc::clone(shared)).run().await;
        if !report.outcome.is_good() {
            let why = format!("what `{name}` left is not there, and this is built upon it");
            return Err(no_state(why).hint("build it first"));
        }
        artifacts.insert(name, left(&report));
    }
    Err(no_state("a build is built upon itself".to_owned()))
}

fn no_state(why: String) -> Failure {
    Failure::new(FailureClass::Usage, EngineError::NoState { why })
}

fn no_states() -> Failure {
    no_state("this builder keeps no states".to_owned())
}

fn no_such_step(run: &BuildRun, choice: &StateChoice, step: &StepChoice) -> Failure {
    let failure = no_state(format!("`{}` has no step {step}", choice.build));
    let steps = &run.prepared.steps;
    match (steps.len(), step) {
        (0, _) => failure,
        (count, StepChoice::Number(_)) => {
            failure.hint(format!("its steps count from 1 to {count}; 0 is what it starts from"))
        }
        (_, StepChoice::Name(name)) => {
            let names = steps.iter().filter_map(|step| step.spec.component.name.as_deref());
            let near = suggest::nearest(name, names);
            near.map(|near| format!("did you mean `{near}`?")).into_iter().fold(failure, Failure::hint)
        }
    }
}

/// The key of the state that is meant, as the last build left it.
async fn find(run: &BuildRun, choice: &StateChoice) -> Result<Key, Failure> {
    let snapshots = run.prepared.builder.snapshots().ok_or_else(no_states)?;
    let policy = &run.shared.settings.cache;
    let record = match &policy.memory {
        Some(memory) => {
            let (memory, template, name) = (Arc::clone(memory), policy.template.clone(), Arc::clone(&run.key));
            blocking(move || memory.last_plan(&template, &name)).await?
        }
        None => None,
    };
    let Some(record) = record.filter(|record| record.builder == *run.prepared.builder_kind) else {
        let hint = format!("build it first; `kiln shell {}:0` shows what it starts from", choice.build);
        return Err(no_state(format!("`{}` was never built here", choice.build)).hint(hint));
    };
    let wanted = match &choice.step {
        Some(step) => {
            let index = find_step(&run.prepared, step);
            let index = index.ok_or_else(|| no_such_step(run, choice, step))?;
            index..index + 1
        }
        None => 0..record.steps.len(),
    };
    for index in wanted.clone().rev() {
        let Some(state) = record.steps.get(index).and_then(|step| step.state.clone()) else { continue };
        if snapshots.find(&state).await?.is_some() {
            return Ok(state);
        }
    }
    let which = match &choice.step {
        Some(step) => format!("the state after step {step} of `{}` is not kept", choice.build),
        None => format!("no state of `{}` is kept", choice.build),
    };
    let why = record.steps.get(wanted.start).filter(|_| choice.step.is_some()).and_then(|step| step.not_kept.clone());
    let failure = no_state(which + &why.map(|why| format!(": {why}")).unwrap_or_default());
    let last = record.steps.iter().rev().find_map(|step| step.state.as_ref());
    let is_sealed = match last {
        Some(state) => snapshots.is_sealed(state).await.unwrap_or(false),
        None => false,
    };
    // With the image of the last time at hand, a build runs nothing.
    let again = if is_sealed { "then build again with `--no-cache`" } else { "then build again" };
    Err(failure.hint(format!("`checkpoint = true` on the step keeps it whatever that costs; {again}")))
}
