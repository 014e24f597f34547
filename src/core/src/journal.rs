//! The cleanup journal: what would have to be undone if kiln died now.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// How to undo one thing. Written to disk *before* the thing is made, so it names the thing by what is known then (a
/// name or a label chosen by kiln), and undoing what was never made is fine. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Undo {
    /// Who can undo it, e.g. `docker.container`; see [`Undoer::kinds`].
    pub kind: String,
    /// What the undoer needs to know.
    pub data: serde_json::Value,
    /// For people: `container kiln-4f1c-worker`.
    pub description: String,
}

/// Names an entry of a run's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId(pub u64);

/// A run's journal. What must not be lost is on disk when a call returns.
pub trait Journal: Send + Sync {
    /// Notes an undo for a build of this run.
    fn record(&self, build: &str, undo: Undo) -> Result<EntryId, Failure>;

    /// Puts a better undo in an entry's place, e.g. now that the id is known.
    fn amend(&self, entry: EntryId, undo: Undo) -> Result<(), Failure>;

    /// Strikes an entry: the thing was undone, or is one that may be undone again without harm. After a power cut the entry may
    /// be back.
    fn strike(&self, entry: EntryId) -> Result<(), Failure>;

    /// Strikes all entries of a build that succeeded: what is left of it now belongs to the user.
    fn hand_over(&self, build: &str) -> Result<(), Failure>;
}

/// How long removing one thing may take, where nobody says else.
pub const REMOVAL_LIMIT: Duration = Duration::from_secs(60);

/// What undoing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoOutcome {
    /// It was there and is gone now.
    Removed,
    /// It was not there.
    AlreadyGone,
}

/// Undoes journal entries; needs no template and no running build.
#[async_trait]
pub trait Undoer: Send + Sync {
    /// The kinds of [`Undo`] it knows.
    fn kinds(&self) -> &'static [&'static str];

    /// How long undoing one thing may take.
    fn limit(&self) -> Duration {
        REMOVAL_LIMIT
    }

    /// Undoes one; safe to repeat.
    async fn undo(&self, undo: &Undo) -> Result<UndoOutcome, Failure>;
}
