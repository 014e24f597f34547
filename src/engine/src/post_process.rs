//! Chains of post-processors, and what is kept of what they make.
//!
//! Packer's rules hold. Whether a post-processor's input is kept: always where it insists, else as the template says,
//! else its default. The first of a chain: if any chain keeps it, the builder's artifact is kept, else it is removed at
//! the end. Later ones: the input joins the list, or is removed at once. A chain that fails ends there, the others run;
//! the build fails, and what is kept by then stays. One difference: Packer does not list the last artifact of a chain
//! that failed, though it leaves it where it is; kiln lists it.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use kiln_core::{Artifact, BuildContext, EventKind, Facts, Failure, FailureClass, Processed, Tolerated};
use tokio_util::sync::CancellationToken;

use crate::build::{BuildRun, wrap};
use crate::error::{BuildError, EngineError};
use crate::guard::{bounded, supervise};
use crate::policy::Decision;
use crate::prepare::PreparedPostProcessor;
use crate::publication::order;
use crate::scope::Scope;
use crate::step::outcome;

/// An artifact with the journal entries of the stage that made it.
pub(crate) struct Product {
    pub(crate) artifact: Artifact,
    pub(crate) scope: Arc<Scope>,
}

/// The failure of a post-processor, with its place.
fn named(post_processor: &PreparedPostProcessor, failure: Failure) -> Failure {
    let component = &post_processor.spec.component;
    let (kind, place) = (component.kind.clone(), post_processor.place.clone());
    wrap(failure, |source| BuildError::PostProcessor { kind, place, source }).at(component.span)
}

/// A failure without the output that is repeated below it: that stands above already.
fn in_one_line(failure: &str) -> String {
    let line = failure.lines().next().unwrap_or_default();
    line.split("; the last lines of its output").next().unwrap_or(line).trim_end_matches(':').to_owned()
}

/// Whether the build goes on after it failed so.
fn is_tolerated(post_processor: &PreparedPostProcessor, failure: &Failure) -> bool {
    post_processor.spec.continue_on_error && !matches!(failure.class, FailureClass::Cancelled | FailureClass::Bug)
}

/// What post-processing came to.
#[derive(Default)]
pub(crate) struct Processing {
    /// What is left, in the order of Packer's list.
    pub(crate) kept: Vec<Product>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) is_cancelled: bool,
    /// The user wants to look at what failed: nothing more is removed.
    pub(crate) is_left: bool,
    /// What is pushed later may rely on what was to be pushed before.
    has_failed_push: bool,
}

impl Processing {
    /// Takes note of a failure and what is to be done about it.
    fn fail(&mut self, failure: Failure, decision: Decision) {
        if failure.is_cancelled() {
            self.is_cancelled = true;
        } else {
            self.is_left |= matches!(decision, Decision::Leave { .. });
            self.failures.push(failure);
        }
    }
}

impl BuildRun {
    /// Runs all chains, one after the other, and removes what is not kept.
    pub(crate) async fn post_process(&self, sealed: Product, facts: Arc<Facts>) -> Processing {
        let mut processing = Processing::default();
        let chains = &self.prepared.chains;
        let mut keeps_sealed = chains.is_empty();
        // Stopped while the artifact was made: it is not wanted any more.
        let mut is_stopped = self.shared.stop.check().is_err();
        for chain in order(chains).into_iter().map(|index| &chains[index]) {
            is_stopped = is_stopped || processing.is_cancelled || self.shared.stop.check().is_err();
            if is_stopped {
                break;
            }
            keeps_sealed |= self.chain(chain, &sealed, &facts, &mut processing).await;
        }
        if is_stopped || processing.is_cancelled {
            return self.take_back(sealed, processing).await;
        }
        if keeps_sealed {
            processing.kept.insert(0, sealed);
        } else if !processing.is_left
            && let Err(failure) = self.discard(&sealed).await
        {
            self.events.error(&failure);
            processing.failures.push(failure);
        }
        processing
    }

    /// Runs one chain. Whether its first member keeps the builder's artifact.
    async fn chain(
        &self,
        chain: &[PreparedPostProcessor],
        sealed: &Product,
        facts: &Arc<Facts>,
        processing: &mut Processing,
    ) -> bool {
        let mut keeps_sealed = false;
        let mut prior: Option<Product> = None;
        // What nobody takes up stays.
        keeps_sealed |= chain.iter().all(|post_processor| post_processor.is_left_out);
        for post_processor in chain {
            if post_processor.is_left_out {
                let (kind, place) = (&post_processor.spec.component.kind, &post_processor.place);
                self.events.message(format!("not pushed: `{kind}` ({place}) is left out, by `-no-push`"));
                continue;
            }
            let input = prior.as_ref().map_or(&sealed.artifact, |product| &product.artifact);
            let pushes = post_processor.component.ready.pushes();
            if pushes && processing.has_failed_push {
                let failure = named(post_processor, Failure::build(EngineError::EarlierPushFailed));
                self.events.error(&failure);
                processing.fail(failure, Decision::CleanUp);
                break;
            }
            let (processed, scope) = match self.process(post_processor, input, facts).await {
                Ok(Some(made)) => made,
                // It failed, and the next one takes what it was given.
                Ok(None) => continue,
                Err((failure, decision)) => {
                    processing.has_failed_push |= pushes;
                    processing.fail(failure, decision);
                    break;
                }
            };
            let keeps = processed.force_keep || post_processor.spec.keep_input.unwrap_or(processed.keep_input);
            let input = prior.replace(Product { artifact: processed.artifact, scope });
            match input {
                None => keeps_sealed |= keeps,
                Some(input) if keeps => processing.kept.push(input),
                Some(input) => {
                    if let Err(failure) = self.discard(&input).await {
                        self.events.error(&failure);
                        processing.failures.push(failure);
                    }
                }
            }
        }
        // All of them failed, and the build goes on: what they were given is all there is.
        let is_untouched = prior.is_none() && chain.iter().all(|post_processor| post_processor.spec.continue_on_error);
        processing.kept.extend(prior);
        keeps_sealed || is_untouched
    }

    /// Runs one post-processor, again as long as the user wants. `None`: it failed, and the build goes on without it.
    async fn process(
        &self,
        post_processor: &PreparedPostProcessor,
        input: &Artifact,
        facts: &Arc<Facts>,
    ) -> Result<Option<(Processed, Arc<Scope>)>, (Failure, Decision)> {
        let component = &post_processor.spec.component;
        let (kind, place) = (&component.kind, &post_processor.place);
        loop {
            self.shared.stop.check().map_err(|failure| (failure, Decision::CleanUp))?;
            self.tail.clear();
            self.events.emit(EventKind::PostProcessorStarted { kind: kind.clone(), place: place.clone() });
            let started = Instant::now();
            let scope = Scope::new(&self.shared.journal, &self.key);
            let result = self.process_once(post_processor, input, facts, &scope).await;
            let (outcome, seconds) = (outcome(&result), started.elapsed().as_secs_f64());
            let tolerated = result.as_ref().err().filter(|failure| is_tolerated(post_processor, failure));
            let tolerated = tolerated.map(|failure| in_one_line(&failure.chain()));
            let finished =
                EventKind::PostProcessorFinished { kind: kind.clone(), outcome, seconds, tolerated: tolerated.clone() };
            self.events.emit(finished);
            if let Some(error) = tolerated {
                self.tolerate(kind, place, error);
                self.undo_scope(&scope).await;
                return Ok(None);
            }
            let failure = match result {
                Ok(processed) => {
                    let summary = processed.artifact.summary();
                    if summary != input.summary() {
                        self.events.emit(EventKind::Artifact { artifact: summary });
                    }
                    return Ok(Some((processed, scope)));
                }
                Err(failure) => failure,
            };
            let failure = named(post_processor, failure);
            let decision = self.decide(&failure).await;
            if !matches!(decision, Decision::Leave { .. }) {
                // At once: a name that it gave would hinder removing the image.
                self.undo_scope(&scope).await;
            }
            if decision != Decision::Retry {
                return Err((failure, decision));
            }
        }
    }

    async fn process_once(
        &self,
        post_processor: &PreparedPostProcessor,
        input: &Artifact,
        facts: &Arc<Facts>,
        scope: &Arc<Scope>,
    ) -> Result<Processed, Failure> {
        let bound = post_processor.component.bind(&post_processor.spec.component, &self.binding(facts))?;
        let context = self.stage_context(scope.clone(), Arc::clone(facts));
        let history = self.history();
        let work = async {
            self.may_push(bound.as_ref(), input).await?;
            bound.process_after(input, &history, &context).await
        };
        supervise(&self.shared.stop, &context.cancel, None, work).await
    }

    /// Takes note of a failure that the build goes on after.
    fn tolerate(&self, kind: &str, place: &str, error: String) {
        let told = format!("`{kind}` ({place}) failed: {error}; going on all the same (`on_error = \"continue\"`)");
        self.events.warn(told);
        let tolerated = Tolerated { kind: kind.to_owned(), place: place.to_owned(), error };
        self.history.lock().unwrap_or_else(PoisonError::into_inner).tolerated.push(tolerated);
    }

    /// Lets those take note that keep lists of what was built, as nothing was.
    pub(crate) async fn take_note(&self, artifact: &Artifact) -> Vec<Failure> {
        let facts = Arc::new(self.facts_without_machine());
        let mut failures = Vec::new();
        for post_processor in self.prepared.chains.iter().flatten() {
            if !post_processor.component.ready.takes_note() {
                continue;
            }
            if let Err((failure, _)) = self.process(post_processor, artifact, &facts).await {
                failures.push(failure);
            }
        }
        failures
    }

    /// Removes an artifact that is not kept, by its owner; its journal entries have had their day then.
    async fn discard(&self, product: &Product) -> Result<(), Failure> {
        let Some(owner) = &product.artifact.owner else { return Ok(()) };
        let context = self.stage_context(product.scope.clone(), Arc::default());
        // Removing goes on when the run is cancelled.
        let context = BuildContext { cancel: CancellationToken::new(), ..context };
        let id = &product.artifact.id;
        let work = owner.destroy(&product.artifact, &context);
        bounded(&self.shared.stop.hurry, &self.events, &format!("removing {id}"), owner.removal_limit(), work)
            .await
            .map_err(|failure| wrap(failure, |source| BuildError::Discard { artifact: id.clone(), source }))
    }

    /// The run was stopped: nothing of this build is kept, the latest goes first. Owners of what post-processors made are
    /// not asked: they may own files that were there before, and what is not the user's stands in the journal.
    async fn take_back(&self, sealed: Product, processing: Processing) -> Processing {
        for product in processing.kept.iter().rev().chain(std::iter::once(&sealed)) {
            self.undo_scope(&product.scope).await;
        }
        if let Err(failure) = self.discard(&sealed).await {
            self.events.warn(failure.chain());
        }
        Processing { kept: Vec::new(), is_cancelled: true, ..processing }
    }
}
