//! Part of a build's journal: what one stage noted, so that it can be undone or handed over by itself.

use std::sync::{Arc, Mutex, PoisonError};

use kiln_core::{EntryId, Failure, Journal, Undo};

use crate::journal::{FileJournal, OpenEntry};

/// The journal that a stage of a build is given.
pub(crate) struct Scope {
    journal: Arc<FileJournal>,
    /// The build as the journal knows it. Two builds may bear one name; their entries must not be mixed up.
    build: Arc<str>,
    entries: Mutex<Vec<EntryId>>,
}

impl Scope {
    pub(crate) fn new(journal: &Arc<FileJournal>, build: &Arc<str>) -> Arc<Scope> {
        Arc::new(Scope { journal: Arc::clone(journal), build: Arc::clone(build), entries: Mutex::new(Vec::new()) })
    }

    /// What this stage noted and nobody struck since, the latest first.
    pub(crate) fn open_entries(&self) -> Vec<OpenEntry> {
        let mine = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut open = self.journal.open_entries(Some(&self.build));
        open.retain(|entry| mine.contains(&entry.id));
        open
    }
}

impl Journal for Scope {
    fn record(&self, _build: &str, undo: Undo) -> Result<EntryId, Failure> {
        let id = self.journal.record(&self.build, undo)?;
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        Ok(id)
    }

    fn amend(&self, entry: EntryId, undo: Undo) -> Result<(), Failure> {
        self.journal.amend(entry, undo)
    }

    fn strike(&self, entry: EntryId) -> Result<(), Failure> {
        self.journal.strike(entry)
    }

    fn hand_over(&self, _build: &str) -> Result<(), Failure> {
        self.journal.hand_over(&self.build)
    }
}
