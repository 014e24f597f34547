//! What the walk leaves for later runs: the states after steps, and what the build came past.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use kiln_core::{Caching, Failure, Kept, Key, PlanRecord, StateInfo, StepRecord};

use super::{Halt, Walk};
use crate::build::Stopped;
use crate::cache::chain::Look;
use crate::cache::memory::Taken;
use crate::cleanup::blocking;
use crate::guard::supervise;
use crate::policy::Decision;

impl Walk<'_> {
    /// Keeps the state after a step.
    pub(super) async fn keep(
        &mut self,
        index: usize,
        look: Look,
        started: Instant,
        turn: Option<Taken>,
    ) -> Result<(), Halt> {
        let (run, took) = (self.run, started.elapsed());
        let (Some(chain), Some(live)) = (&mut self.chain, &self.live) else { return Ok(()) };
        let inputs = chain.inputs(index).await.ok();
        if let Some(inputs) = &inputs
            && !chain.is_unchanged(inputs).await
        {
            run.events.warn("files of this step changed while it ran, so its result is not kept");
            turn.inspect(Taken::open);
            self.record(index, None, false, Some("its files changed while it ran")).await;
            self.leave_states();
            return Ok(());
        }
        let step = &run.prepared.steps[index];
        let component = &step.spec.component;
        let name = component.name.as_deref().filter(|name| !name.is_empty());
        let name = name.map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let title = format!("{}{name}: {}", component.kind, step.title());
        let info = StateInfo {
            parent: self.at.kept.clone(),
            title: run.shared.redactor.redact(&title).into_owned(),
            build: run.shared.redactor.redact(&run.prepared.name).into_owned(),
            took,
            created: SystemTime::now(),
            used_secrets: inputs.as_ref().is_some_and(|inputs| inputs.uses_secrets),
            is_checkpoint: chain.is_checkpoint(index),
        };
        let facts = Arc::new(run.facts(live.machine.facts()));
        let context = run.stage_context(live.scope.clone(), facts);
        let work = live.machine.keep(&look.state, &info, &context);
        let kept = match supervise(&run.shared.stop, &context.cancel, None, work).await {
            Ok(kept) => kept,
            Err(failure) => {
                turn.inspect(Taken::open);
                return self.not_kept(index, failure).await;
            }
        };
        if let Some(computed) = &look.computed {
            chain.memory.link(computed, &look.state);
        }
        let mut why = None;
        match kept {
            Kept::Kept { content } => {
                chain.run_memory().made(&look.state);
                if let Some(content) = content {
                    let parent = self.at.kept.clone().unwrap_or_else(|| chain.base_key.clone());
                    let parent = chain.memory.canonical(&parent);
                    chain.memory.learn(&parent, &content, &look.state);
                }
                self.at.kept = Some(look.state.clone());
            }
            Kept::NotWorth(reason) => {
                turn.inspect(Taken::open);
                why = Some(reason);
            }
        }
        let key = chain.memory.canonical(&look.state);
        // What comes after a step that needed the machine was not looked at yet.
        self.at.is_new = key == look.state && !step.needs_facts();
        self.at.key = Some(key);
        self.at.state = Some(look.state.clone());
        self.record(index, Some(look.state), false, why).await;
        Ok(())
    }

    /// The build does not fail because of its cache.
    async fn not_kept(&mut self, index: usize, failure: Failure) -> Result<(), Halt> {
        if failure.is_cancelled() {
            return Err(Stopped::new(failure, Decision::CleanUp).into());
        }
        self.run.events.warn(format!("cannot keep the state after this step: {}", failure.chain()));
        self.record(index, None, false, Some("keeping it failed")).await;
        self.leave_states();
        Ok(())
    }

    /// From now on nothing has a key.
    pub(super) fn leave_states(&mut self) {
        self.at.key = None;
        if let Some(live) = &self.live {
            live.machine.leave_states();
        }
    }

    pub(super) async fn record(&mut self, index: usize, state: Option<Key>, has_failed: bool, not_kept: Option<&str>) {
        let Some(chain) = &mut self.chain else { return };
        let step = &self.run.prepared.steps[index];
        let is_keyed = step.component.ready.caching() == Caching::Restorable;
        let inputs = if is_keyed { chain.inputs(index).await.ok() } else { None };
        let (inputs, files) = inputs.map(|inputs| (inputs.inputs, inputs.record)).unwrap_or_default();
        let clean = |text: &str| self.run.shared.redactor.redact(text).into_owned();
        self.steps[index] = Some(StepRecord {
            kind: step.spec.component.kind.clone(),
            name: step.spec.component.name.as_deref().filter(|name| !name.is_empty()).map(clean),
            title: clean(&step.title()),
            inputs,
            state,
            has_failed,
            not_kept: not_kept.map(str::to_owned),
            files,
        });
    }

    /// Remembers what the build came past, for the next one.
    pub(crate) async fn remember(&mut self) {
        let Some(chain) = self.chain.take() else { return };
        if self.run.cache.post_only {
            return;
        }
        let (builder, base) = (chain.build.builder_kind.to_string(), chain.base.clone());
        let (memory, store, template, build) = chain.into_memory();
        let mut steps: Vec<StepRecord> = self.steps.iter_mut().map_while(Option::take).collect();
        // What lies behind the last step is as the build before had it.
        let old = memory.last.as_ref();
        steps.extend(old.into_iter().flat_map(|old| old.steps.iter().skip(steps.len())).cloned().collect::<Vec<_>>());
        steps.truncate(self.run.prepared.steps.len());
        let sealed = self.sealed.take().or_else(|| old.and_then(|old| old.sealed.clone()));
        let record = PlanRecord { builder, base, steps, sealed, ..PlanRecord::default() };
        let write = move || memory.write(store.as_ref(), &template, &build, record);
        if let Err(failure) = blocking(write).await.and_then(|written| written) {
            self.run.events.warn(format!("cannot remember what this build depends on: {}", failure.chain()));
        }
    }
}
