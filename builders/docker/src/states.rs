//! Kept states: images of the engine that bear labels which tell of what they are.
//!
//! A state is trusted only with a code that this user's kiln alone can make: a hit is code that runs, and anybody may put
//! labels on an image that is pulled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use kiln_cache::{Store, StoreOptions};
use kiln_core::{Failure, Key, StateInfo};
use kiln_docker::engine::ListedImage;
use kiln_docker::{Engine, EngineError};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OnceCell};

/// The state's key. A container that started from a state bears it empty, so that nothing made of it is taken for the state.
pub(crate) const KEY: &str = "kiln.cache.key";
const STATE: &str = "kiln.cache.state";
const CODE: &str = "kiln.cache.code";

/// All labels of states; no sealed image bears one.
pub(crate) const LABELS: [&str; 3] = [KEY, STATE, CODE];

/// A kept state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// Of its image: `sha256:...`.
    pub id: String,
    /// What it is kept under.
    pub key: Key,
    /// How it came about.
    pub info: StateInfo,
    /// The image that its machine started from before any step: `sha256:...`.
    pub base: String,
    /// What it differs in from there, in bytes.
    pub size: u64,
    /// A secret was at hand in it or in a state before it.
    pub has_had_secrets: bool,
}

/// What a label holds of it.
#[derive(Serialize, Deserialize)]
struct Told {
    info: StateInfo,
    base: String,
    size: u64,
    has_had_secrets: bool,
}

impl KeptImage {
    /// The labels of an image that is about to be committed.
    pub(crate) fn labels(&self, store: &Store) -> [(String, String); 3] {
        let told = Told {
            info: self.info.clone(),
            base: self.base.clone(),
            size: self.size,
            has_had_secrets: self.has_had_secrets,
        };
        // Plain values, which always have a JSON form.
        let told = serde_json::to_string(&told).unwrap_or_default();
        let code = code(store, self.key.as_str(), &told);
        [(KEY.to_owned(), self.key.to_string()), (STATE.to_owned(), told), (CODE.to_owned(), code)]
    }

    fn read(image: ListedImage, store: &Store) -> Option<KeptImage> {
        let key = Key::parse(image.labels.get(KEY)?)?;
        let told = image.labels.get(STATE)?;
        if image.labels.get(CODE)? != &code(store, key.as_str(), told) {
            return None;
        }
        let Told { info, base, size, has_had_secrets } = serde_json::from_str(told).ok()?;
        Some(KeptImage { id: image.id, key, info, base, size, has_had_secrets })
    }
}

fn code(store: &Store, key: &str, told: &str) -> String {
    store.keyed_digest(format!("docker state {key} {told}").as_bytes())
}

/// The labels of a container that starts from a state.
pub(crate) fn disowned() -> impl Iterator<Item = (String, String)> {
    LABELS.into_iter().map(|name| (name.to_owned(), String::new()))
}

/// The states of an engine that this user kept, the newest first.
///
/// # Errors
/// The engine does not answer.
pub async fn list(engine: &dyn Engine, store: &Store) -> Result<Vec<KeptImage>, EngineError> {
    let images = engine.labelled_images(KEY).await?;
    let mut states: Vec<KeptImage> = images.into_iter().filter_map(|image| KeptImage::read(image, store)).collect();
    states.sort_by_key(|state| std::cmp::Reverse(state.info.created));
    Ok(states)
}

/// Removes states; returns those that are gone now. What a container or another image is made from stays.
///
/// # Errors
/// The engine does not answer.
pub async fn remove(engine: &dyn Engine, states: Vec<KeptImage>) -> Result<Vec<KeptImage>, EngineError> {
    let mut left = states;
    let mut gone = Vec::new();
    // The newest first: a state goes only after those that were made from it.
    left.sort_by_key(|state| std::cmp::Reverse(state.info.created));
    for state in left {
        match engine.remove_image_alone(&state.id).await {
            Ok(_) => gone.push(state),
            Err(EngineError::Refused { status: Some(409), .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gone)
}

/// The states as the builds of one run see them.
pub(crate) struct States {
    engine: Arc<dyn Engine>,
    root: Option<PathBuf>,
    store: OnceCell<Option<Arc<Store>>>,
    /// As listed once, and with what was kept since.
    listed: Mutex<Option<BTreeMap<Key, KeptImage>>>,
    /// What a build of this run found or made, and may go on from.
    used: std::sync::Mutex<BTreeSet<Key>>,
}

impl States {
    pub(crate) fn new(engine: Arc<dyn Engine>, root: Option<PathBuf>) -> States {
        States { engine, root, store: OnceCell::new(), listed: Mutex::new(None), used: std::sync::Mutex::default() }
    }

    /// The store that keeps what the engine cannot.
    pub(crate) async fn store(&self) -> Result<Arc<Store>, Failure> {
        let open = || async {
            let Some(root) = self.root.clone() else { return Ok(None) };
            let opened = tokio::task::spawn_blocking(move || Store::open(&root, &StoreOptions::default())).await;
            opened.map_err(Failure::build)?.map(|store| Some(Arc::new(store))).map_err(Failure::environment)
        };
        let store = self.store.get_or_try_init(open).await?;
        store.clone().ok_or_else(|| Failure::environment("there is no cache directory"))
    }

    pub(crate) async fn find(&self, key: &Key) -> Result<Option<KeptImage>, Failure> {
        let store = self.store().await?;
        let mut listed = self.listed.lock().await;
        let states = match &mut *listed {
            Some(states) => states,
            unknown => {
                let found = list(&*self.engine, &store).await?;
                // Of several of one key the newest is taken.
                let states = found.into_iter().rev().map(|state| (state.key.clone(), state)).collect();
                unknown.insert(states)
            }
        };
        let found = states.get(key).cloned();
        // Still under the lock, so that nobody trims in between.
        found.iter().for_each(|state| self.note_use(&state.key));
        Ok(found)
    }

    fn note_use(&self, key: &Key) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
    }

    pub(crate) async fn add(&self, state: KeptImage) {
        self.note_use(&state.key);
        if let Some(states) = &mut *self.listed.lock().await {
            states.insert(state.key.clone(), state);
        }
    }

    /// Removes the oldest ones until no more than so many bytes are left. What this run found or made stays, and so does what
    /// has containers.
    pub(crate) async fn trim(&self, limit: u64) -> Result<(), Failure> {
        let store = self.store().await?;
        let mut listed = self.listed.lock().await;
        let states = list(&*self.engine, &store).await?;
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut old = beyond(states, limit);
        old.retain(|state| !used.contains(&state.key));
        let gone = remove(&*self.engine, old).await?;
        if let Some(listed) = &mut *listed {
            listed.retain(|_, state| gone.iter().all(|gone| gone.id != state.id));
        }
        Ok(())
    }
}

/// Of these, the newest first, those beyond a size.
pub fn beyond(states: Vec<KeptImage>, limit: u64) -> Vec<KeptImage> {
    let mut total = 0_u64;
    let mut left = states;
    left.retain(|state| {
        total = total.saturating_add(state.size);
        total > limit
    });
    left
}

/// Of these, those that were made longer ago.
pub fn older(states: Vec<KeptImage>, than: std::time::Duration, now: SystemTime) -> Vec<KeptImage> {
    let age = |state: &KeptImage| now.duration_since(state.info.created).unwrap_or_default();
    states.into_iter().filter(|state| age(state) > than).collect()
}
