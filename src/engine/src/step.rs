//! One step: pause, tries, time bound. Unlike Packer, where `pause_before` silently switches `timeout` off and a retry
//! reports the first error, all of them hold together, and the last error is the one told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_core::event::Outcome;
use kiln_core::{EventKind, Facts, Failure, FailureClass, Machine, Provisioner, duration};
use tokio::time::{sleep, timeout};

use crate::build::{BuildRun, wrap};
use crate::error::BuildError;
use crate::guard::{GRACE, supervise};
use crate::prepare::{Binding, BoundStep, PreparedStep};

impl BuildRun {
    /// Runs a step to its end, retries included. The failure names the step and its place.
    pub(crate) async fn step(
        &self,
        step: &PreparedStep,
        index: usize,
        total: usize,
        machine: &dyn Machine,
        bound: Option<&BoundStep>,
    ) -> Result<(), Failure> {
        self.tail.clear();
        let component = &step.spec.component;
        let facts = Arc::new(self.facts(machine.facts()));
        let bound = match bound {
            Some((provisioner, _)) => Ok(Arc::clone(provisioner)),
            None => step.component.bind(component, &self.binding(&facts)).map(|(provisioner, _)| provisioner),
        };
        let title = bound.as_ref().map_or_else(|_| step.title(), |provisioner| provisioner.title());
        let kind = component.kind.clone();
        let name = component.name.clone().filter(|name| !name.is_empty());
        let place = step.place.clone();
        self.events.emit(EventKind::StepStarted { index, total, kind: kind.clone(), name, title, place });
        let started = Instant::now();
        let result = match bound {
            Ok(provisioner) => self.with_secrets(step, provisioner.as_ref(), facts, machine).await,
            Err(failure) => Err(failure),
        };
        let outcome = outcome(&result);
        self.events.emit(EventKind::StepFinished { index, outcome, seconds: started.elapsed().as_secs_f64() });
        result.map_err(|failure| {
            let (build, place) = (self.prepared.name.to_string(), step.place.clone());
            let failure = match step.origin() {
                Some(origin) => failure.hint(format!("the step came into the build {origin}")),
                None => failure,
            };
            wrap(failure, |source| BuildError::Step { build, index, total, kind, place, source }).at(component.span)
        })
    }

    pub(crate) fn binding<'a>(&'a self, facts: &'a Facts) -> Binding<'a> {
        Binding {
            facts,
            context: &self.prepared.context,
            sources: &self.shared.sources,
            redactor: &self.shared.redactor,
        }
    }

    pub(crate) async fn tries(
        &self,
        step: &PreparedStep,
        provisioner: &dyn Provisioner,
        facts: Arc<Facts>,
        machine: &dyn Machine,
    ) -> Result<(), Failure> {
        self.pause(step.spec.pause_before).await?;
        let retries = step.spec.max_retries;
        let mut retry = 0;
        loop {
            self.shared.stop.check()?;
            let mut context = self.stage_context(self.stepping.clone(), Arc::clone(&facts));
            if !step.spec.secrets.is_empty() {
                context.secrets = machine.secrets_directory().map(Into::into);
            }
            let work = provisioner.provision(machine, &context);
            let failure = match supervise(&self.shared.stop, &context.cancel, step.spec.timeout, work).await {
                // Done just as the user stopped the run: done all the same, and the build ends before its next stage.
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            self.end_dropped(machine).await;
            let is_final = matches!(failure.class, FailureClass::Cancelled | FailureClass::Bug);
            if is_final || retry == retries {
                return Err(failure);
            }
            retry += 1;
            self.events.warn(format!("{}; trying again (retry {retry} of {retries})", failure.chain()));
            self.tail.clear();
        }
    }

    /// A step whose time is up may leave commands running, which would meddle with what comes next. Where the run is
    /// stopped, the machine is removed with all that runs on it.
    async fn end_dropped(&self, machine: &dyn Machine) {
        if self.shared.stop.cancel.is_cancelled() {
            return;
        }
        let why = match timeout(GRACE, machine.communicator().end_dropped()).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => Failure::environment(error).chain(),
            Err(_) => "the machine does not answer".to_owned(),
        };
        self.events.warn(format!("what this step started may still run on the machine: {why}"));
    }

    async fn pause(&self, pause: Duration) -> Result<(), Failure> {
        if pause.is_zero() {
            return Ok(());
        }
        self.events.message(format!("waiting {} before this step (`pause_before`)", duration::display(pause)));
        tokio::select! {
            biased;
            () = self.shared.stop.cancel.cancelled() => Err(Failure::cancelled()),
            () = sleep(pause) => Ok(()),
        }
    }
}

/// How something ended, as events say it.
pub(crate) fn outcome<T>(result: &Result<T, Failure>) -> Outcome {
    match result {
        Ok(_) => Outcome::Succeeded,
        Err(failure) if failure.is_cancelled() => Outcome::Cancelled,
        Err(_) => Outcome::Failed,
    }
}
