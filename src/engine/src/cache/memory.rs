//! Where keys lead: what earlier runs remembered, what this one learns, and whose turn it is to run a step.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_core::{ContentRecord, Failure, Key, Link, PlanMemory, PlanRecord};
use tokio::sync::OwnedMutexGuard;

/// Entries of each sort that a record holds at most.
const LIMIT: usize = 256;

/// What the builds of one run tell each other.
#[derive(Default)]
pub(crate) struct RunMemory {
    learnt: Mutex<Learnt>,
    turns: Mutex<BTreeMap<Key, Arc<Turn>>>,
}

#[derive(Default)]
struct Learnt {
    /// States that were kept in this run.
    made: BTreeSet<Key>,
    links: BTreeMap<Key, Key>,
    contents: Vec<ContentRecord>,
}

/// The right to run a step that several builds have in common.
#[derive(Default)]
struct Turn {
    /// Who has it, for the message of those who wait.
    holder: Mutex<Option<Arc<str>>>,
    lock: Arc<tokio::sync::Mutex<()>>,
    /// Running it gave nothing to share, so nobody needs to wait any more.
    is_open: AtomicBool,
}

/// A turn that was taken; it is given back when this is dropped.
pub(crate) struct Taken {
    turn: Arc<Turn>,
    _guard: OwnedMutexGuard<()>,
}

impl Taken {
    /// Those who wait may all go on at once.
    pub(crate) fn open(&self) {
        self.turn.is_open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *lock(&self.turn.holder) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunMemory {
    /// Whether this run kept the state.
    pub(crate) fn has_made(&self, key: &Key) -> bool {
        lock(&self.learnt).made.contains(key)
    }

    pub(crate) fn made(&self, key: &Key) {
        lock(&self.learnt).made.insert(key.clone());
    }

    /// Takes the turn for a state once nobody else has it; `None` where nobody needs one. `told` is called with the
    /// holder's name where it has to wait.
    pub(crate) async fn turn(&self, key: &Key, build: &Arc<str>, told: impl FnOnce(&str)) -> Option<Taken> {
        let turn = Arc::clone(lock(&self.turns).entry(key.clone()).or_default());
        if turn.is_open.load(Ordering::SeqCst) {
            return None;
        }
        let guard = match Arc::clone(&turn.lock).try_lock_owned() {
            Ok(guard) => guard,
            Err(_) => {
                let holder = lock(&turn.holder).clone();
                told(holder.as_deref().unwrap_or("another build"));
                Arc::clone(&turn.lock).lock_owned().await
            }
        };
        if turn.is_open.load(Ordering::SeqCst) {
            return None;
        }
        *lock(&turn.holder) = Some(Arc::clone(build));
        Some(Taken { turn, _guard: guard })
    }
}

/// What one build knows.
pub(crate) struct BuildMemory {
    run: Arc<RunMemory>,
    /// Of its last run.
    pub(crate) last: Option<PlanRecord>,
    links: Vec<Link>,
    contents: Vec<ContentRecord>,
}

impl BuildMemory {
    /// A record of another kind of builder says nothing. Blocking.
    pub(crate) fn read(
        store: &dyn PlanMemory,
        run: &Arc<RunMemory>,
        template: &Path,
        build: &str,
        builder: &str,
    ) -> BuildMemory {
        let last = store.last_plan(template, build).filter(|record| record.builder == builder);
        let (links, contents) =
            last.as_ref().map(|record| (record.links.clone(), record.contents.clone())).unwrap_or_default();
        BuildMemory { run: Arc::clone(run), last, links, contents }
    }

    /// The state that a computed key stands for.
    pub(crate) fn follow(&mut self, computed: &Key) -> Key {
        let learnt = lock(&self.run.learnt).links.get(computed).cloned();
        if let Some(to) = learnt {
            self.note_link(computed, &to);
            return to;
        }
        let known = self.links.iter().rev().find(|link| link.from == *computed);
        known.map_or_else(|| computed.clone(), |link| link.to.clone())
    }

    /// A computed key stands for this state from now on.
    pub(crate) fn link(&mut self, computed: &Key, state: &Key) {
        let is_known = self.follow(computed) == *state;
        if !is_known {
            self.note_link(computed, state);
            lock(&self.run.learnt).links.insert(computed.clone(), state.clone());
        }
    }

    fn note_link(&mut self, from: &Key, to: &Key) {
        self.links.retain(|link| link.from != *from);
        self.links.push(Link { from: from.clone(), to: to.clone() });
    }

    /// The first state that has the content of this one: what comes after is named by it.
    pub(crate) fn canonical(&mut self, state: &Key) -> Key {
        let learnt = lock(&self.run.learnt).contents.iter().find(|known| known.state == *state).cloned();
        let Some(own) = self.contents.iter().find(|known| known.state == *state).cloned().or(learnt) else {
            return state.clone();
        };
        self.first_with(&own.parent, &own.content).unwrap_or_else(|| state.clone())
    }

    fn first_with(&mut self, parent: &Key, content: &str) -> Option<Key> {
        let fits = |known: &&ContentRecord| known.parent == *parent && known.content == content;
        if let Some(own) = self.contents.iter().find(fits) {
            return Some(own.state.clone());
        }
        let learnt = lock(&self.run.learnt).contents.iter().find(fits).cloned()?;
        self.contents.push(learnt.clone());
        Some(learnt.state)
    }

    /// What a state differs in from the one before it.
    pub(crate) fn learn(&mut self, parent: &Key, content: &str, state: &Key) {
        if self.contents.iter().any(|known| known.state == *state) {
            return;
        }
        self.first_with(parent, content);
        let record = ContentRecord { parent: parent.clone(), content: content.to_owned(), state: state.clone() };
        self.contents.push(record.clone());
        lock(&self.run.learnt).contents.push(record);
    }

    /// Keeps it for the next run. Blocking.
    pub(crate) fn write(
        mut self,
        store: &dyn PlanMemory,
        template: &Path,
        build: &str,
        mut record: PlanRecord,
    ) -> Result<(), Failure> {
        self.links.drain(..self.links.len().saturating_sub(LIMIT));
        self.contents.drain(..self.contents.len().saturating_sub(LIMIT));
        (record.links, record.contents) = (self.links, self.contents);
        store.put_plan(template, build, &record)
    }
}
