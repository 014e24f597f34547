//! Kept states of machines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use kiln_core::{Key, StateInfo};
use serde::{Deserialize, Serialize};

use crate::disk::Stored;
use crate::error::CacheError;
use crate::files;
use crate::store::{Locked, Store};

/// States lie upon each other; the kernel takes 500 layers of an overlay, and a ring would never end.
const DEPTH_LIMIT: usize = 500;

/// What a builder notes of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateMeta {
    /// As the engine gave it.
    pub info: StateInfo,
    /// The kept state that lies below; `None` where the base does, whatever `info.parent` says.
    pub parent: Option<Key>,
    /// Digest of what it differs in from what lies below, where that is known.
    #[serde(default)]
    pub content: Option<String>,
    /// Chain id (`sha256:...`) of the uppermost layer of its base; empty for `scratch`.
    pub base: String,
    /// Bytes on disk.
    pub size: u64,
    /// Whatever else the builder wants to find again. Never a secret.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

/// A state that can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateEntry {
    /// Its key.
    pub key: Key,
    /// As the engine gave it.
    pub info: StateInfo,
    /// Where it lies: `upper/`, or whatever else [`Store::begin_state`]'s directory was filled with.
    pub directory: PathBuf,
    /// The kept state that lies below; `None` where the base does.
    pub parent: Option<Key>,
    /// See [`StateMeta::content`].
    pub content: Option<String>,
    /// See [`StateMeta::base`].
    pub base: String,
    /// Bytes on disk.
    pub size: u64,
    /// See [`StateMeta::details`].
    pub details: BTreeMap<String, String>,
}

/// `meta.json` of a state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StateRecord {
    pub(crate) key: Key,
    pub(crate) stored: Stored,
    /// Names of what its directory was filled with.
    #[serde(default)]
    pub(crate) parts: Vec<String>,
    pub(crate) state: StateMeta,
}

impl Store {
    /// What is kept under a key, if it and all below it is usable. It is in use from now on, and stamped as used.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn find_state(&self, key: &Key) -> Result<Option<StateEntry>, CacheError> {
        if let Some(entry) = self.remembered(key) {
            return Ok(Some(entry));
        }
        let locked = self.lock_shared()?;
        self.find_whole(key, &locked)
    }

    /// A state and all below it, newest first, down to the one that lies on the base. Empty where there is no such state.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn chain(&self, key: &Key) -> Result<Vec<StateEntry>, CacheError> {
        let mut chain = Vec::new();
        let mut next = self.find_state(key)?;
        while let Some(entry) = next {
            next = entry.parent.as_ref().and_then(|parent| self.remembered(parent));
            chain.push(entry);
        }
        Ok(chain)
    }

    /// A directory to fill with a state; it is removed some day if it is never committed.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin_state(&self, key: &Key) -> Result<PathBuf, CacheError> {
        let locked = self.lock_shared()?;
        self.lease(&locked, Some(entry_name(key)))?;
        files::make_temporary(&self.temporary(), "state-")
    }

    /// Puts a filled directory of this file system in its place, in one move. `false`: somebody else was first, and ours is
    /// dropped. Either way the state is in use from now on.
    ///
    /// # Errors
    /// It cannot be written or moved.
    pub fn commit_state(&self, key: &Key, filled: &Path, meta: &StateMeta) -> Result<bool, CacheError> {
        let path = filled.join("meta.json");
        let parts = files::names(filled);
        let record = StateRecord { key: key.clone(), stored: self.durability.now(), parts, state: meta.clone() };
        files::write_new(&path, &files::record_bytes(&path, &record)?, false)
            .map_err(CacheError::io("write", &path))?;
        // Before it can be seen: who collects right then must not take it from under the machine that goes on from it.
        self.lease(&self.lock_shared()?, Some(entry_name(key)))?;
        let to = self.state_directory(key);
        self.place(filled, &to, || self.read_state(key).is_some())
    }

    pub(crate) fn state_directory(&self, key: &Key) -> PathBuf {
        self.root.join("steps").join(key.as_str())
    }

    /// The record of a state that looks whole, alone.
    pub(crate) fn read_state(&self, key: &Key) -> Option<StateRecord> {
        let directory = self.state_directory(key);
        if !files::is_directory(&directory) {
            return None;
        }
        let record: StateRecord = files::read_record(&directory.join("meta.json"))?;
        let is_there = |part: &String| directory.join(part).symlink_metadata().is_ok();
        let is_whole = record.key == *key && self.durability.holds(&record.stored) && record.parts.iter().all(is_there);
        is_whole.then_some(record)
    }

    fn remembered(&self, key: &Key) -> Option<StateEntry> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    fn find_whole(&self, key: &Key, locked: &Locked) -> Result<Option<StateEntry>, CacheError> {
        let mut entries: Vec<StateEntry> = Vec::new();
        let mut next = Some(key.clone());
        while let Some(key) = next.take() {
            if let Some(below) = self.remembered(&key) {
                if entries.last().is_some_and(|above| above.base != below.base) {
                    return Ok(None);
                }
                break;
            }
            let Some(record) = self.read_state(&key).filter(|_| entries.len() < DEPTH_LIMIT) else { return Ok(None) };
            if entries.last().is_some_and(|above| above.base != record.state.base) {
                return Ok(None);
            }
            next.clone_from(&record.state.parent);
            entries.push(self.entry(record));
        }
        for entry in &entries {
            self.lease(locked, Some(entry_name(&entry.key)))?;
            files::stamp(&entry.directory.join("meta.json"));
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
        Ok(found.get(key).cloned())
    }

    fn entry(&self, record: StateRecord) -> StateEntry {
        let StateRecord { key, state, .. } = record;
        StateEntry {
            directory: self.state_directory(&key),
            key,
            info: state.info,
            parent: state.parent,
            content: state.content,
            base: state.base,
            size: state.size,
            details: state.details,
        }
    }
}

pub(crate) fn entry_name(key: &Key) -> String {
    format!("steps/{key}")
}
