//! Undoes journal entries: at the end of a build that failed, and for `kiln cleanup`.

use kiln_core::{EntryId, Events, Failure, FailureClass, Journal, Kinds, UndoOutcome};
use tokio_util::sync::CancellationToken;

use crate::error::EngineError;
use crate::guard::bounded;
use crate::journal::{FileJournal, OpenEntry};

/// How undoing one entry went.
#[derive(Debug)]
pub(crate) struct Undone {
    pub(crate) entry: EntryId,
    pub(crate) description: String,
    pub(crate) result: Result<UndoOutcome, Failure>,
}

/// Undoes entries in the order given (the latest first) and strikes those that are gone. One that cannot be undone is
/// told and stays in the journal; the others are undone all the same, but for earlier ones of its build if it took too long.
pub(crate) async fn undo_entries(
    journal: &FileJournal,
    entries: Vec<OpenEntry>,
    kinds: &Kinds,
    events: &Events,
    hurry: &CancellationToken,
) -> Vec<Undone> {
    let mut undone = Vec::with_capacity(entries.len());
    let mut overdue: Vec<String> = Vec::new();
    for entry in entries {
        let description = entry.undo.description.clone();
        // Whoever makes a thing may be at it still: what it is made from goes after it.
        let result = if overdue.contains(&entry.build) {
            Err(Failure::build(EngineError::LaterFirst))
        } else {
            undo_entry(journal, &entry, kinds, events, hurry).await
        };
        if let Err(failure) = &result
            && matches!(failure.error.downcast_ref(), Some(EngineError::TookTooLong { .. }))
        {
            overdue.push(entry.build.clone());
        }
        match &result {
            Ok(UndoOutcome::Removed) => events.message(format!("removed {description}")),
            Ok(UndoOutcome::AlreadyGone) => {}
            Err(failure) => {
                events.warn(format!("cannot remove {description}: {}; try `kiln cleanup` later", failure.chain()));
            }
        }
        undone.push(Undone { entry: entry.id, description, result });
    }
    undone
}

async fn undo_entry(
    journal: &FileJournal,
    entry: &OpenEntry,
    kinds: &Kinds,
    events: &Events,
    hurry: &CancellationToken,
) -> Result<UndoOutcome, Failure> {
    let undo = &entry.undo;
    let Some(undoer) = kinds.undoer(&undo.kind) else {
        return Err(Failure::new(FailureClass::Environment, EngineError::UnknownUndo { kind: undo.kind.clone() }));
    };
    let what = format!("removing {}", undo.description);
    let outcome = bounded(hurry, events, &what, undoer.limit(), undoer.undo(undo)).await?;
    journal.strike(entry.id)?;
    Ok(outcome)
}
