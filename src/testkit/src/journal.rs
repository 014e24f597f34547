//! A cleanup journal in memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use kiln_core::{EntryId, Failure, Journal, Undo};

use crate::lock;

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    open: BTreeMap<EntryId, (String, Undo)>,
    history: Vec<Undo>,
    fail: bool,
}

/// Remembers what would have to be undone, and all that ever was noted.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    entries: Mutex<Entries>,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> MemoryJournal {
        MemoryJournal::default()
    }

    /// What is noted and not struck out, in the order noted.
    pub fn open(&self) -> Vec<Undo> {
        lock(&self.entries).open.values().map(|(_, undo)| undo.clone()).collect()
    }

    /// All that was ever noted or amended, in order.
    pub fn history(&self) -> Vec<Undo> {
        lock(&self.entries).history.clone()
    }

    /// From now on every call fails, as on a full disk.
    pub fn fail(&self) {
        lock(&self.entries).fail = true;
    }

    fn entries(&self) -> Result<std::sync::MutexGuard<'_, Entries>, Failure> {
        let entries = lock(&self.entries);
        if entries.fail { Err(Failure::environment("cannot write the journal")) } else { Ok(entries) }
    }
}

impl Journal for MemoryJournal {
    fn record(&self, build: &str, undo: Undo) -> Result<EntryId, Failure> {
        let mut entries = self.entries()?;
        let id = EntryId(entries.next);
        entries.next += 1;
        entries.history.push(undo.clone());
        entries.open.insert(id, (build.to_owned(), undo));
        Ok(id)
    }

    fn amend(&self, entry: EntryId, undo: Undo) -> Result<(), Failure> {
        let mut entries = self.entries()?;
        entries.history.push(undo.clone());
        if let Some(slot) = entries.open.get_mut(&entry) {
            slot.1 = undo;
        }
        Ok(())
    }

    fn strike(&self, entry: EntryId) -> Result<(), Failure> {
        self.entries()?.open.remove(&entry);
        Ok(())
    }

    fn hand_over(&self, build: &str) -> Result<(), Failure> {
        self.entries()?.open.retain(|_, (owner, _)| owner != build);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undo(description: &str) -> Undo {
        Undo { kind: "test".into(), data: serde_json::Value::Null, description: description.into() }
    }

    #[test]
    fn what_is_struck_or_handed_over_is_no_longer_open() {
        let journal = MemoryJournal::new();
        let first = journal.record("a", undo("one")).unwrap();
        journal.record("a", undo("two")).unwrap();
        let third = journal.record("b", undo("three")).unwrap();
        journal.amend(third, undo("three, with its id")).unwrap();
        journal.strike(first).unwrap();
        assert_eq!(journal.open(), [undo("two"), undo("three, with its id")]);
        journal.hand_over("a").unwrap();
        assert_eq!(journal.open(), [undo("three, with its id")]);
        assert_eq!(journal.history().len(), 4);
        journal.fail();
        assert!(journal.record("a", undo("x")).is_err());
    }
}
