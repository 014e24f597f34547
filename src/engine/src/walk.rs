//! The way from nothing to an artifact, past all that was done before.
//!
//! ```text
//!   base ──step 1──► state 1 ──step 2──► state 2 ──step 3──► ...
//!    │                 │ kept              │ not kept
//!    └ launch          └ restore           └ only by running step 2
//! ```
//!
//! A machine is started when something must run on it, and not before: where all states are known and the last one was
//! sealed, none is.

mod keeping;

use std::sync::Arc;
use std::time::Instant;

use kiln_core::{Caching, EventKind, Facts, Failure, Key, Launched, Machine, StepRecord};

use crate::build::{BuildRun, Stopped, wrap};
use crate::cache::chain::{Chain, Look, Passed, Setting};
use crate::cache::memory::Taken;
use crate::error::BuildError;
use crate::guard::supervise;
use crate::policy::Decision;
use crate::post_process::Product;
use crate::prepare::BoundStep;
use crate::scope::Scope;

/// A machine with the journal entries of its start.
pub(crate) struct Live {
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) scope: Arc<Scope>,
    /// Whether what steps need beside it runs.
    pub(crate) is_ready: bool,
}

/// What a build came to before its post-processors.
pub(crate) struct Made {
    pub(crate) product: Product,
    /// Values for `build.*`.
    pub(crate) facts: Arc<Facts>,
}

/// Why the walk ends before its end.
pub(crate) enum Halt {
    /// Something failed, or was stopped.
    Stopped(Box<Stopped>),
    /// The builder gave its artifact at once.
    Artifact(Box<Product>),
    /// What was kept is of no use.
    CannotRestore(Failure),
}

impl From<Stopped> for Halt {
    fn from(stopped: Stopped) -> Halt {
        Halt::Stopped(Box::new(stopped))
    }
}

/// How a step went that did not end the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Well.
    Clean,
    /// It failed on the way, so that nobody can say what the machine is like now.
    Dirty,
}

/// Where the build is.
#[derive(Debug, Clone, Default)]
struct At {
    /// What the keys of later steps are made of; `None`: they have none.
    key: Option<Key>,
    /// The state that it is in.
    state: Option<Key>,
    /// The last state on the way that a machine can be restored in; `None` for the base.
    kept: Option<Key>,
    /// Whether the last step that leads anywhere was restored. Where no machine lives, it is in `kept` then.
    is_restored: bool,
    /// Whether nothing can be known of what comes after this state: it is new, or that was looked at before.
    is_new: bool,
}

/// A build on its way.
pub(crate) struct Walk<'a> {
    run: &'a BuildRun,
    chain: Option<Chain<'a>>,
    /// The machine, in the state that the build is in.
    pub(crate) live: Option<Live>,
    at: At,
    steps: Vec<Option<StepRecord>>,
    sealed: Option<Key>,
    /// What is known to be sealed no more.
    not_sealed: Option<Key>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(run: &'a BuildRun) -> Walk<'a> {
        let steps = vec![None; run.prepared.steps.len()];
        Walk { run, chain: None, live: None, at: At::default(), steps, sealed: None, not_sealed: None }
    }

    /// Goes all the way. On failure a machine may be left in [`Walk::live`].
    pub(crate) async fn go(&mut self) -> Result<Made, Stopped> {
        let mut halted = match self.open().await {
            Ok(()) if self.run.cache.post_only => self.only_sealed().await,
            Ok(()) => self.forward().await,
            Err(stopped) => return Err(stopped),
        };
        if let Err(Halt::CannotRestore(failure)) = &halted {
            let warning = format!("{}; running the steps again", failure.chain());
            self.run.events.warn(warning);
            self.leave_machine().await;
            if let Some(chain) = &mut self.chain {
                chain.distrust();
            }
            self.start();
            halted = self.forward().await;
        }
        match halted {
            Ok(made) => Ok(made),
            Err(Halt::Artifact(product)) => {
                Ok(Made { product: *product, facts: Arc::new(self.run.facts(std::collections::BTreeMap::new())) })
            }
            Err(Halt::Stopped(stopped)) => Err(*stopped),
            Err(Halt::CannotRestore(failure)) => {
                self.run.events.error(&failure);
                Err(Stopped::new(failure, Decision::CleanUp))
            }
        }
    }

    /// Finds out what the machine starts as.
    async fn open(&mut self) -> Result<(), Stopped> {
        let run = self.run;
        loop {
            let shared = &run.shared;
            let setting = Setting {
                policy: &run.cache,
                run_id: &shared.settings.run_id,
                run_memory: &shared.run_memory,
                secrets: &shared.secrets,
            };
            let scope = run.scope();
            let context = run.stage_context(scope.clone(), Arc::default());
            let opening = Chain::open(&run.prepared, &run.key, setting, &context);
            match supervise(&shared.stop, &context.cancel, None, opening).await {
                Ok(chain) => {
                    self.chain = chain;
                    self.start();
                    return Ok(());
                }
                Err(failure) => run.not_launched(failure, &scope).await?,
            }
        }
    }

    fn start(&mut self) {
        let key = self.chain.as_ref().map(|chain| chain.base_key.clone());
        self.at = At { state: key.clone(), key, ..At::default() };
        self.steps = vec![None; self.run.prepared.steps.len()];
    }

    async fn forward(&mut self) -> Result<Made, Halt> {
        let total = self.run.prepared.steps.len();
        let mut index = 0;
        loop {
            self.run.shared.stop.check().map_err(|failure| Stopped::new(failure, Decision::CleanUp))?;
            if let Some(made) = self.jump(&mut index).await? {
                return Ok(made);
            }
            if index == total {
                break;
            }
            self.step(index).await?;
            index += 1;
        }
        self.machine().await?;
        let live = self.live()?;
        // Who debugs may have been in it by hand.
        if let Some(chain) = self.chain.as_ref().filter(|chain| chain.seals_base())
            && !self.run.shared.settings.debug
        {
            live.machine.stands_at_base(&chain.base_key);
        }
        let product = self.run.seal(live.machine.as_ref()).await?;
        // Sealing tells more (a committed image's digest), and the post-processors may use it.
        let facts = Arc::new(self.run.facts(live.machine.facts()));
        self.sealed = self.at.key.as_ref().and(self.at.state.clone());
        Ok(Made { product, facts })
    }

    /// Goes on past all that need not run; to the very end where that was sealed before.
    async fn jump(&mut self, index: &mut usize) -> Result<Option<Made>, Halt> {
        let (Some(chain), Some(key)) = (&mut self.chain, &self.at.key) else { return Ok(None) };
        if self.at.is_new {
            return Ok(None);
        }
        let ahead = chain.ahead(*index, key).await;
        let is_at_end = *index == self.run.prepared.steps.len() && self.at.is_restored;
        let end = match self.at.state.clone().filter(|_| is_at_end) {
            Some(state) => Some((state, Vec::new())),
            None => ahead.end,
        };
        if let Some((last, seen)) = end
            && let Some(made) = self.sealed(last, &seen).await?
        {
            return Ok(Some(made));
        }
        if let Some((last, _)) = ahead.passed.last() {
            *index = last + 1;
            self.pass(ahead.passed).await;
            // What comes next may be something that passes time.
            return Box::pin(self.jump(index)).await;
        }
        Ok(None)
    }

    /// Moves to a state that is kept.
    async fn pass(&mut self, passed: Passed) {
        self.leave_machine().await;
        self.tell_cached(&passed).await;
        let Some((_, Some(look))) = passed.into_iter().next_back() else { return };
        let key = match &mut self.chain {
            Some(chain) => chain.memory.canonical(&look.state),
            None => return,
        };
        let state = Some(look.state);
        self.at = At { key: Some(key), kept: state.clone(), state, is_restored: true, is_new: false };
    }

    async fn tell_cached(&mut self, passed: &[(usize, Option<Look>)]) {
        for (index, look) in passed {
            let took = look.as_ref().and_then(|look| look.found.as_ref()).map(|info| info.took);
            let state = look.as_ref().map(|look| look.state.clone());
            self.run.step_cached(*index, state.as_ref(), took);
            let why = look.as_ref().filter(|look| !look.is_hit).and_then(|look| self.why_not_kept(*index, &look.state));
            self.record(*index, state, false, why.as_deref()).await;
        }
    }

    /// Why a state that is passed by was not kept when it was made.
    fn why_not_kept(&self, index: usize, state: &Key) -> Option<String> {
        let step = self.chain.as_ref()?.memory.last.as_ref()?.steps.get(index)?;
        step.not_kept.clone().filter(|_| step.state.as_ref() == Some(state))
    }

    /// The present state's machine, started where none lives.
    async fn machine(&mut self) -> Result<(), Halt> {
        if self.live.is_some() {
            return Ok(());
        }
        let (launched, scope) = match (&self.chain, &self.at.kept) {
            (Some(chain), Some(key)) => self.restore(chain, key).await?,
            _ => self.run.launch().await?,
        };
        match launched {
            Launched::Machine(machine) => self.live = Some(Live { machine, scope, is_ready: false }),
            Launched::Artifact(artifact) => return Err(Halt::Artifact(Box::new(Product { artifact, scope }))),
        }
        self.run.debug_pause("the machine runs").await;
        Ok(())
    }

    /// The same, ready for a step.
    async fn machine_for_step(&mut self) -> Result<(), Halt> {
        self.machine().await?;
        if let Some(live) = self.live.as_mut().filter(|live| !live.is_ready) {
            self.run.before_steps(live).await?;
            live.is_ready = true;
        }
        Ok(())
    }

    async fn restore(&self, chain: &Chain<'_>, key: &Key) -> Result<(Launched, Arc<Scope>), Halt> {
        let run = self.run;
        run.tail.clear();
        let scope = run.scope();
        let context = run.stage_context(scope.clone(), Arc::default());
        let work = chain.snapshots.restore(key, &context);
        match supervise(&run.shared.stop, &context.cancel, None, work).await {
            Ok(launched) => Ok((launched, scope)),
            Err(failure) => {
                run.undo_scope(&scope).await;
                if failure.is_cancelled() {
                    return Err(Stopped::new(failure, Decision::CleanUp).into());
                }
                Err(Halt::CannotRestore(wrap(failure, |source| BuildError::Restore { source })))
            }
        }
    }

    fn live(&self) -> Result<&Live, Halt> {
        // `machine` was called before.
        self.live.as_ref().ok_or_else(|| Halt::CannotRestore(Failure::build("no machine lives")))
    }

    /// The machine is not in the state that the build goes on from.
    async fn leave_machine(&mut self) {
        if let Some(live) = self.live.take() {
            self.run.remove(&live).await;
        }
    }

    async fn step(&mut self, index: usize) -> Result<(), Halt> {
        let caching = self.run.prepared.steps[index].component.ready.caching();
        match caching {
            Caching::Restorable if self.chain.is_some() && self.at.key.is_some() => self.keyed_step(index).await,
            Caching::Passing if self.at.is_restored && self.live.is_none() => {
                self.tell_cached(&[(index, None)]).await;
                Ok(())
            }
            _ => {
                self.machine_for_step().await?;
                let live = self.live()?;
                self.run.step_with_policy(index, live.machine.as_ref(), None, self.way_in().as_deref()).await?;
                if caching == Caching::Outside
                    && let Some(chain) = &mut self.chain
                {
                    chain.forget_inputs(index + 1);
                    // What comes after it was not looked at yet.
                    self.at.is_new = false;
                    if chain.is_entered_before(index + 1) {
                        self.leave_states();
                    }
                }
                self.record(index, None, false, None).await;
                Ok(())
            }
        }
    }

    /// A step whose result is kept, or found kept after all.
    async fn keyed_step(&mut self, index: usize) -> Result<(), Halt> {
        let bound = self.bind(index).await?;
        let look = self.look(index).await?;
        if look.is_hit {
            self.pass(vec![(index, Some(look))]).await;
            return Ok(());
        }
        let turn = self.turn(&look).await?;
        if turn.is_some() && self.chain.as_ref().is_some_and(|chain| chain.has_made(&look.state)) {
            let look = self.look(index).await?;
            if look.is_hit {
                self.pass(vec![(index, Some(look))]).await;
                return Ok(());
            }
        }
        self.machine_for_step().await?;
        let started = Instant::now();
        let machine = self.live()?.machine.as_ref();
        let passage = self.run.step_with_policy(index, machine, bound.as_ref(), self.way_in().as_deref()).await;
        self.at.is_restored = false;
        match passage {
            Ok(Passage::Clean) => self.keep(index, look, started, turn).await,
            Ok(Passage::Dirty) => {
                turn.inspect(Taken::open);
                self.record(index, None, true, None).await;
                self.leave_states();
                Ok(())
            }
            Err(stopped) => {
                turn.inspect(Taken::open);
                if !stopped.failure.is_cancelled() {
                    self.record(index, None, true, None).await;
                }
                Err(stopped.into())
            }
        }
    }

    /// How to look at the machine as it is before the present step; `None` where that state is not kept.
    fn way_in(&self) -> Option<String> {
        let (chain, at) = (self.chain.as_ref()?, &self.at);
        at.key.as_ref()?;
        let number = match &at.kept {
            None if at.state.as_ref() == Some(&chain.base_key) => 0,
            Some(kept) if at.state.as_ref() == Some(kept) => {
                let is_kept =
                    |step: &Option<StepRecord>| step.as_ref().is_some_and(|step| step.state.as_ref() == Some(kept));
                self.steps.iter().rposition(is_kept)? + 1
            }
            _ => return None,
        };
        let template = match self.run.shared.settings.template.as_str() {
            "" | "." => String::new(),
            template => format!(" {template}"),
        };
        let way = format!(
            "`kiln shell {}:{number}{template}` opens a shell in the machine as it was before this step",
            self.run.prepared.name
        );
        Some(if number == 0 { way } else { format!("the next build goes on from here; {way}") })
    }

    /// The step with the machine's values, where it needs them. A step whose arguments turn out wrong fails when it runs.
    async fn bind(&mut self, index: usize) -> Result<Option<BoundStep>, Halt> {
        let step = &self.run.prepared.steps[index];
        if !step.needs_facts() {
            return Ok(None);
        }
        self.machine().await?;
        let facts = self.run.facts(self.live()?.machine.facts());
        let bound = step.component.bind(&step.spec.component, &self.run.binding(&facts)).ok();
        if let (Some((provisioner, body)), Some(chain)) = (&bound, &mut self.chain) {
            let _ = chain.bound_inputs(index, provisioner.as_ref(), body).await;
        }
        Ok(bound)
    }

    async fn look(&mut self, index: usize) -> Result<Look, Halt> {
        match (&mut self.chain, &self.at.key) {
            (Some(chain), Some(key)) => Ok(chain.look(index, key).await),
            _ => Err(Halt::CannotRestore(Failure::build("a step without a key"))),
        }
    }

    async fn turn(&self, look: &Look) -> Result<Option<Taken>, Halt> {
        let Some(chain) = self.chain.as_ref().filter(|_| look.is_shared) else { return Ok(None) };
        let told = |holder: &str| {
            self.run.events.message(format!("waiting for `{holder}`, which runs the same step"));
        };
        tokio::select! {
            biased;
            () = self.run.shared.stop.cancel.cancelled() => {
                Err(Stopped::new(Failure::cancelled(), Decision::CleanUp).into())
            }
            turn = chain.run_memory().turn(&look.state, &self.run.prepared.name, told) => Ok(turn),
        }
    }

    /// What sealing this state gave before, past these steps.
    async fn sealed(&mut self, key: Key, passed: &Passed) -> Result<Option<Made>, Halt> {
        let run = self.run;
        let Some(chain) = self.chain.as_ref().filter(|_| self.not_sealed.as_ref() != Some(&key)) else {
            return Ok(None);
        };
        if !chain.snapshots.is_sealed(&key).await.unwrap_or(false) {
            self.not_sealed = Some(key);
            return Ok(None);
        }
        self.tell_cached(passed).await;
        while let Some(chain) = &self.chain {
            run.tail.clear();
            let scope = run.scope();
            let context = run.stage_context(scope.clone(), Arc::default());
            let work = chain.snapshots.sealed(&key, &context);
            match supervise(&run.shared.stop, &context.cancel, None, work).await {
                Ok(Some(sealed)) => {
                    let facts = Arc::new(run.facts(sealed.facts));
                    self.sealed = Some(key);
                    run.events.emit(EventKind::Artifact { artifact: sealed.artifact.summary() });
                    return Ok(Some(Made { product: Product { artifact: sealed.artifact, scope }, facts }));
                }
                Ok(None) => break,
                Err(failure) => run.not_sealed(failure, &scope).await?,
            }
        }
        self.not_sealed = Some(key);
        Ok(None)
    }

    /// `--post-only`.
    async fn only_sealed(&mut self) -> Result<Made, Halt> {
        let mut hits = 0;
        let is_kept = self.chain.is_some();
        if let Some(chain) = &mut self.chain {
            let start = chain.base_key.clone();
            let ahead = chain.ahead(0, &start).await;
            hits = ahead.passed.last().map_or(0, |(index, _)| index + 1);
            let made = match ahead.end {
                Some((last, _)) if self.run.prepared.is_taken() => self.taken(&last).await,
                Some((last, seen)) => self.sealed(last, &seen).await?,
                None => None,
            };
            if let Some(made) = made {
                return Ok(made);
            }
        }
        let steps = self.run.prepared.steps.iter().enumerate().skip(hits);
        let steps = steps.filter(|(_, step)| step.component.ready.caching() == Caching::Restorable);
        let name = |(index, step): (usize, &crate::prepare::PreparedStep)| {
            format!("step {}, `{}` ({})", index + 1, step.spec.component.kind, step.place)
        };
        let failure = if is_kept {
            let error = BuildError::NothingSealed { steps: steps.map(name).collect() };
            let how =
                if self.run.prepared.is_taken() { "build it first" } else { "build it once without `--post-only`" };
            Failure::build(error).hint(how)
        } else {
            let (kind, place) = (self.run.prepared.builder_kind.to_string(), self.run.prepared.place.clone());
            Failure::build(BuildError::NothingKept { kind, place })
        };
        self.run.events.error(&failure);
        Err(Stopped::new(failure, Decision::CleanUp).into())
    }

    /// What sealing this state gave, left where it is: others are built upon it.
    async fn taken(&mut self, key: &Key) -> Option<Made> {
        let run = self.run;
        let found = self.chain.as_ref()?.snapshots.sealed_before(key).await;
        let artifact = found.inspect_err(|failure| run.events.warn(failure.chain())).ok()??;
        run.events.message("taken as it was built before");
        // Nothing of this run may remove it.
        let product = Product { artifact: kiln_core::Artifact { owner: None, ..artifact }, scope: run.scope() };
        Some(Made { product, facts: Arc::new(run.facts(std::collections::BTreeMap::new())) })
    }
}

impl BuildRun {
    fn step_cached(&self, index: usize, state: Option<&Key>, took: Option<std::time::Duration>) {
        let step = &self.prepared.steps[index];
        let component = &step.spec.component;
        self.events.emit(EventKind::StepCached {
            index: index + 1,
            total: self.prepared.steps.len(),
            kind: component.kind.clone(),
            name: component.name.clone().filter(|name| !name.is_empty()),
            title: step.title(),
            place: step.place.clone(),
            key: state.map(Key::to_string),
            seconds: took.map(|took| took.as_secs_f64()),
        });
    }
}
