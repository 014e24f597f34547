//! What becomes of what a build made: its machine goes, failed stages are undone, and the journal is brought in line.

use std::sync::{Arc, PoisonError};

use kiln_core::{BuildContext, EntryId, Failure, Journal, Machine};
use tokio_util::sync::CancellationToken;

use super::{BuildRun, Ended, Stopped};
use crate::guard::bounded;
use crate::journal::OpenEntry;
use crate::policy::Decision;
use crate::run::Shared;
use crate::scope::Scope;
use crate::undo::undo_entries;
use crate::walk::Live;

impl BuildRun {
    /// The way back with a machine at hand.
    pub(super) async fn unwind(&self, live: &Live, stopped: &Stopped) {
        let machine = live.machine.as_ref();
        if live.is_ready && !stopped.failure.is_cancelled() {
            let context = self.stage_context(live.scope.clone(), Arc::default());
            let (what, limit) = ("keeping the logs", kiln_core::journal::REMOVAL_LIMIT);
            let keeping = async {
                machine.keep_logs(&context).await;
                Ok(())
            };
            if let Err(failure) = bounded(&self.shared.stop.hurry, &self.events, what, limit, keeping).await {
                self.events.warn(format!("cannot keep the logs: {}", failure.chain()));
            }
        }
        let runs_cleanup = match stopped.decision {
            Decision::CleanUp => !stopped.failure.is_cancelled(),
            Decision::Leave { run_cleanup_provisioner } => run_cleanup_provisioner,
            Decision::Retry => false,
        };
        if runs_cleanup && !self.shared.stop.cancel.is_cancelled() {
            self.error_cleanup(machine).await;
        }
        if matches!(stopped.decision, Decision::Leave { .. }) {
            if let Some(hint) = machine.enter_hint() {
                self.events.message(format!("the machine is left as it is; enter it with `{hint}`"));
            } else {
                self.events.message("the machine is left as it is");
            }
            return;
        }
        if stopped.is_stuck {
            self.events.warn("the machine is left as well, as what was made of it could not be removed");
            return;
        }
        self.destroy(live).await;
    }

    async fn error_cleanup(&self, machine: &dyn Machine) {
        let Some(step) = &self.prepared.error_cleanup else { return };
        self.events.message("running the error-cleanup provisioner");
        let number = self.prepared.steps.len() + 1;
        if let Err(failure) = self.step(step, number, number, machine, None).await {
            self.events.warn(format!("the error-cleanup provisioner failed too: {}", failure.chain()));
        }
    }

    /// Removes the machine, by the builder or else by the journal. What cannot be removed is told and stays in the journal.
    pub(super) async fn destroy(&self, live: &Live) {
        self.debug_pause("next the machine is removed").await;
        self.remove(live).await;
    }

    /// The same without a pause.
    pub(crate) async fn remove(&self, live: &Live) {
        // Removing goes on when the run is cancelled; that is what cancelling is for.
        let context = BuildContext { cancel: CancellationToken::new(), ..self.context.clone() };
        let context = BuildContext { journal: live.scope.clone(), ..context };
        let hurry = &self.shared.stop.hurry;
        let (limit, work) = (live.machine.removal_limit(), live.machine.destroy(&context));
        let destroyed = bounded(hurry, &self.events, "removing the machine", limit, work).await;
        let not_undone = self.undo_scope(&live.scope).await;
        if let Err(failure) = destroyed {
            // An engine that cannot be reached is told once.
            let reason = failure.chain();
            if !not_undone.contains(&reason) {
                self.events.warn(format!("cannot remove the machine: {reason}"));
            }
        }
    }

    /// Brings the journal in line with what the build came to, and removes its scratch directory.
    pub(super) async fn settle(&self, ended: &Ended) {
        let key = &*self.key;
        let journal = &self.shared.journal;
        let kept: Vec<EntryId> =
            ended.kept.iter().flat_map(|scope| scope.open_entries()).map(|entry| entry.id).collect();
        let rest = || {
            let mut open = journal.open_entries(Some(key));
            open.retain(|entry| !kept.contains(&entry.id));
            open
        };
        let stays = ended.is_left || ended.is_stuck;
        if !stays {
            let not_undone = self.not_undone.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut untried = rest();
            untried.retain(|entry| !not_undone.contains(&entry.id));
            self.undo(untried).await;
        }
        let rest = rest();
        // At best in one record: a crash between two would give the user half of what belongs together.
        let handed_over =
            if rest.is_empty() { journal.hand_over(key) } else { journal.release(&kept).map_err(Failure::from) };
        if let Err(failure) = handed_over {
            self.events.warn(format!("cannot bring the cleanup journal up to date: {}", failure.chain()));
        }
        if stays && !rest.is_empty() {
            let when = if ended.is_left { "when you are done with it, " } else { "" };
            self.events.message(format!("{when}`kiln cleanup` removes what this build left"));
            return;
        }
        self.remove_scratch().await;
    }

    /// Undoes what a stage left. Why some of it could not be undone.
    pub(crate) async fn undo_scope(&self, scope: &Scope) -> Vec<String> {
        self.undo(scope.open_entries()).await
    }

    async fn undo(&self, entries: Vec<OpenEntry>) -> Vec<String> {
        let Shared { journal, kinds, stop, .. } = &*self.shared;
        let undone = undo_entries(journal, entries, kinds, &self.events, &stop.hurry).await;
        let mut not_undone = self.not_undone.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = undone.into_iter().filter_map(|undone| undone.result.err().map(|failure| (undone.entry, failure)));
        failed
            .map(|(entry, failure)| {
                not_undone.push(entry);
                failure.chain()
            })
            .collect()
    }
}
