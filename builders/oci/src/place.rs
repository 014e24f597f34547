//! Where machines of this host can live: the isolation that works here, and the store that goes with it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_cache::{Remover, Store, StoreOptions};
use kiln_core::{BuildContext, Failure};
use kiln_sandbox::{Chosen, HelperProgram, Isolation, Worker, probe};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::IsolationName;
use crate::error;

/// All places, opened when they are first needed.
pub(crate) struct Places {
    cache: PathBuf,
    helper: HelperProgram,
    open: Mutex<HashMap<Option<Isolation>, Arc<Place>>>,
    /// Who holds it has services in this host's network.
    turn: Arc<Mutex<()>>,
}

/// An isolation with its store.
pub(crate) struct Place {
    pub(crate) chosen: Chosen,
    pub(crate) store: Arc<Store>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) helper: HelperProgram,
    is_told: AtomicBool,
    /// What is being brought into the store by builds of this run, each thing by one of them.
    under_way: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Places {
    pub(crate) fn new(cache: PathBuf, helper: HelperProgram) -> Places {
        Places { cache, helper, open: Mutex::default(), turn: Arc::default() }
    }

    /// The place for this isolation, or for the best that works here.
    pub(crate) async fn get(&self, wanted: Option<IsolationName>) -> Result<Arc<Place>, Failure> {
        let wanted = wanted.map(|name| match name {
            IsolationName::Ns => Isolation::Ns,
            IsolationName::Userns => Isolation::Userns,
            IsolationName::Chroot => Isolation::Chroot,
        });
        let mut open = self.open.lock().await;
        if let Some(place) = open.get(&wanted) {
            return Ok(Arc::clone(place));
        }
        let (cache, helper) = (self.cache.clone(), self.helper.clone());
        let place = error::blocking(move || Place::open(&cache, helper, wanted)).await?;
        let same = open.values().find(|other| other.chosen == place.chosen).cloned();
        let place = same.unwrap_or_else(|| Arc::new(place));
        open.insert(wanted, Arc::clone(&place));
        Ok(place)
    }

    /// To be held while services run: those of two builds would listen at the same ports, and be taken for each other.
    pub(crate) async fn turn(&self, context: &BuildContext) -> Result<OwnedMutexGuard<()>, Failure> {
        if let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() {
            return Ok(turn);
        }
        context.events.message("waiting for the services of another build: all share this host's network");
        context.unless_cancelled(Arc::clone(&self.turn).lock_owned()).await
    }

    /// What was found out about isolation may hold no more: the next run tries anew.
    pub(crate) fn distrust(&self) {
        probe(&self.helper, &self.cache).forget();
    }
}

impl Place {
    fn open(cache: &Path, helper: HelperProgram, wanted: Option<Isolation>) -> Result<Place, Failure> {
        // Before the probe, which remembers in it what works here.
        kiln_cache::make_place(cache).map_err(error::cache)?;
        let chosen = probe(&helper, cache).choose(wanted).map_err(|error| {
            let failure = Failure::environment(error);
            match wanted {
                Some(_) => failure.hint("without `isolation`, kiln takes the best that works here"),
                None => failure,
            }
        })?;
        let worker = Arc::new(Worker::new(&chosen, &helper));
        let options = StoreOptions { remover: Arc::new(WorkerRemover(Arc::clone(&worker))), ..StoreOptions::default() };
        let store = Store::open(&cache.join(&chosen.store_suffix), &options).map_err(error::cache)?;
        Ok(Place {
            chosen,
            store: Arc::new(store),
            worker,
            helper,
            is_told: AtomicBool::new(false),
            under_way: Mutex::default(),
        })
    }

    /// Held by who brings one thing into the store; another one waits, and finds it there.
    pub(crate) async fn lock(&self, name: &str) -> OwnedMutexGuard<()> {
        let mutex = Arc::clone(self.under_way.lock().await.entry(name.to_owned()).or_default());
        mutex.lock_owned().await
    }

    /// Says, once a run, which isolation was taken and what it cannot do.
    pub(crate) fn tell(&self, context: &BuildContext) {
        if self.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        context.events.message(format!("isolation: {}", self.chosen.isolation.name()));
        if !self.chosen.lacks.is_empty() {
            let name = self.chosen.isolation.name();
            context.events.warn(format!("isolation `{name}` is not whole here: {}", self.chosen.lacks.join("; ")));
        }
    }
}

/// Removes trees as the guest's root, who owns them.
struct WorkerRemover(Arc<Worker>);

impl Remover for WorkerRemover {
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(&[path.to_path_buf()]).map_err(io::Error::other)
    }
}
