//! The stores of this user in the cache directory, and their upkeep.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use kiln_cache::{CacheError, PrunePolicy, Remover, Store, StoreOptions};
use kiln_core::{Failure, FailureClass};
use kiln_sandbox::{HelperProgram, Isolation, Worker};

use crate::amount;
use crate::settings::Settings;

/// No store grows beyond this unless told.
pub(crate) const USUAL_SIZE: u64 = 20 << 30;

/// A store on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StorePlace {
    /// `0`, `1000-subuid`: whose it is, and how ids are mapped in it.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// The stores that are there.
pub(crate) fn places(settings: &Settings) -> Vec<StorePlace> {
    let own = settings.host.uid.to_string();
    let is_own = |name: &str| name.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let entries = std::fs::read_dir(&settings.cache_dir).into_iter().flatten().flatten();
    let mut places: Vec<StorePlace> = entries
        .filter_map(|entry| Some(StorePlace { name: entry.file_name().into_string().ok()?, path: entry.path() }))
        .filter(|place| is_own(&place.name) && place.path.join("version").exists())
        .collect();
    places.sort_by(|one, other| one.name.cmp(&other.name));
    places
}

/// Opens one of them, to remove something from it: files of a rootless machine belong to ids that only a helper reaches.
pub(crate) fn open_to_prune(place: &StorePlace, settings: &Settings) -> Result<Store, Failure> {
    let mut options = StoreOptions::default();
    if place.name.contains('-') {
        let helper = HelperProgram::this_program();
        let userns = kiln_sandbox::probe(&helper, &settings.cache_dir).choose(Some(Isolation::Userns));
        // Where that does not work any more, what cannot be removed is left as trash for a time when it does.
        if let Some(chosen) = userns.ok().filter(|chosen| chosen.store_suffix == place.name) {
            options.remover = Arc::new(WorkerRemover(Worker::new(&chosen, &helper)));
        }
    }
    Store::open(&place.path, &options).map_err(not_usable)
}

struct WorkerRemover(Worker);

impl Remover for WorkerRemover {
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(&[path.to_path_buf()]).map_err(io::Error::other)
    }
}

/// Opens one of them.
pub(crate) fn open(place: &StorePlace) -> Result<Store, Failure> {
    Store::open(&place.path, &StoreOptions::default()).map_err(not_usable)
}

/// The store that remembers what builds were made of; also the one of machines that run as this user.
pub(crate) fn memory(settings: &Settings) -> Result<Arc<Store>, CacheError> {
    let path = settings.cache_dir.join(settings.host.uid.to_string());
    Store::open(&path, &StoreOptions::default()).map(Arc::new)
}

/// With what to do about it.
pub(crate) fn not_usable(error: CacheError) -> Failure {
    let is_foreign = matches!(error, CacheError::Untrusted { .. });
    let failure = Failure::environment(error);
    if is_foreign { failure.hint("set KILN_CACHE_DIR to a directory of your own") } else { failure }
}

/// What is collected without being asked: what is beyond the usual size.
pub(crate) fn usual_policy(place: &StorePlace, settings: &Settings) -> Result<PrunePolicy, Failure> {
    Ok(PrunePolicy { max_size: usual_size(place, settings)?, ..PrunePolicy::default() })
}

/// `KILN_CACHE_MAX_SIZE`, or the smaller of 20 GiB and a tenth of the disk.
fn usual_size(place: &StorePlace, settings: &Settings) -> Result<Option<u64>, Failure> {
    match settings.cache_max_size.as_deref() {
        Some("unlimited") => Ok(None),
        Some(text) => match amount::size(text) {
            Ok(size) => Ok(Some(size)),
            Err(problem) => Err(Failure::new(FailureClass::Usage, MaxSize(problem))),
        },
        None => {
            let tenth = rustix::fs::statvfs(&place.path).map(|disk| disk.f_blocks.saturating_mul(disk.f_frsize) / 10);
            Ok(Some(tenth.unwrap_or(USUAL_SIZE).min(USUAL_SIZE)))
        }
    }
}

/// Leaves the upkeep of stores that have changed to a process of its own, which nobody waits for: syncing and removing
/// take as long as the disk wants. Whatever becomes of it, the next build's does the rest.
pub(crate) fn start_tidying(settings: &Settings) {
    if !places(settings).iter().any(|place| kiln_cache::has_unsynced(&place.path)) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.args(["cache", "tidy"]).env("KILN_CACHE_DIR", &settings.cache_dir).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A signal for the build's process group is none of its business.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let _ = command.spawn();
}

/// The upkeep itself.
pub(crate) fn tidy(settings: &Settings) -> Result<(), Failure> {
    for place in places(settings) {
        let store = open_to_prune(&place, settings)?;
        store.prune(&usual_policy(&place, settings)?).map_err(not_usable)?;
        // Last: what it removed counts as a change, too.
        store.sync().map_err(not_usable)?;
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("KILN_CACHE_MAX_SIZE: {0}, or `unlimited`")]
struct MaxSize(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_others_are_not_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings { cache_dir: directory.path().to_owned(), ..Settings::for_tests() };
        settings.host.uid = 100;
        for name in ["100", "100-subuid", "1000", "0", "100x"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
            std::fs::write(directory.path().join(name).join("version"), "1").unwrap();
        }
        std::fs::create_dir(directory.path().join("100-empty")).unwrap();
        let names: Vec<String> = places(&settings).into_iter().map(|place| place.name).collect();
        assert_eq!(names, ["100", "100-subuid"]);
    }

    #[test]
    fn the_usual_size_may_be_set() {
        let place = StorePlace { name: "0".to_owned(), path: PathBuf::from("/") };
        let with = |text: &str| {
            let settings = Settings { cache_max_size: Some(text.to_owned()), ..Settings::for_tests() };
            usual_size(&place, &settings).map_err(|failure| failure.chain())
        };
        assert_eq!(with("1GiB"), Ok(Some(1 << 30)));
        assert_eq!(with("unlimited"), Ok(None));
        assert!(with("much").unwrap_err().contains("KILN_CACHE_MAX_SIZE: `much` is not a size"));
        let usual = usual_size(&place, &Settings::for_tests()).unwrap().unwrap();
        assert!(usual > 0 && usual <= USUAL_SIZE);
    }
}
