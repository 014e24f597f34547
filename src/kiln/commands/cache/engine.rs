//! Kept states of containers: images of the Docker engine.

use std::time::{Duration, SystemTime};

use kiln_builder_docker::states::{self, KeptImage};
use kiln_cache::{PrunePolicy, Store};
use kiln_core::Failure;
use kiln_docker::{BollardEngine, Engine, EngineError};

use super::super::{block_on, stores};
use crate::error::CliError;
use crate::settings::Settings;

/// An engine that does not answer for so long is not there.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an engine keeps.
pub(super) struct Engines {
    pub(super) address: String,
    /// The newest first.
    pub(super) states: Vec<KeptImage>,
}

/// What removing came to.
pub(super) struct Removed {
    pub(super) address: String,
    pub(super) removed: Vec<KeptImage>,
    pub(super) left: u64,
    /// What was asked for and is used by a container or another image.
    pub(super) in_use: usize,
}

/// The states that this user keeps in the engine; `None` where there is no engine, or where nothing was ever kept.
pub(super) fn kept(settings: &Settings) -> Result<Option<Engines>, CliError> {
    let Some((engine, store)) = place(settings)? else { return Ok(None) };
    let Some(states) = block_on(async { Ok(list(&engine, &store).await?) })? else { return Ok(None) };
    Ok(Some(Engines { address: engine.address().to_owned(), states }))
}

/// Removes those that a policy means.
pub(super) fn prune(policy: &PrunePolicy, settings: &Settings) -> Result<Option<Removed>, CliError> {
    let Some((engine, store)) = place(settings)? else { return Ok(None) };
    let pruned = block_on(async {
        let Some(states) = list(&engine, &store).await? else { return Ok(None) };
        let chosen = chosen(&states, policy, SystemTime::now());
        let asked = chosen.len();
        let removed = match policy.dry_run {
            true => chosen,
            false => states::remove(&engine, chosen).await.map_err(Failure::from)?,
        };
        let is_left = |state: &&KeptImage| removed.iter().all(|gone| gone.id != state.id);
        let left = states.iter().filter(is_left).map(|state| state.size).sum();
        let in_use = asked - removed.len();
        Ok(Some(Removed { address: engine.address().to_owned(), removed, left, in_use }))
    })?;
    Ok(pruned)
}

fn place(settings: &Settings) -> Result<Option<(BollardEngine, std::sync::Arc<Store>)>, CliError> {
    let own = settings.host.uid.to_string();
    // The store that makes the codes of states. Without one there are none.
    if !stores::places(settings).iter().any(|place| place.name == own) {
        return Ok(None);
    }
    let store = stores::memory(settings).map_err(stores::not_usable)?;
    let engine = BollardEngine::connect(None, &settings.environment).map_err(Failure::from)?;
    Ok(Some((engine, store)))
}

async fn list(engine: &BollardEngine, store: &Store) -> Result<Option<Vec<KeptImage>>, Failure> {
    match tokio::time::timeout(PATIENCE, states::list(engine, store)).await {
        Ok(Ok(states)) => Ok(Some(states)),
        // Many hosts have none.
        Err(_) | Ok(Err(EngineError::Unreachable { .. })) => Ok(None),
        Ok(Err(error)) => Err(error.into()),
    }
}

fn chosen(states: &[KeptImage], policy: &PrunePolicy, now: SystemTime) -> Vec<KeptImage> {
    if policy.all {
        return states.to_vec();
    }
    let old = policy.older_than.map(|age| states::older(states.to_vec(), age, now)).unwrap_or_default();
    let of_builds = |state: &&KeptImage| policy.builds.contains(&state.info.build);
    let mut chosen: Vec<KeptImage> = states.iter().filter(of_builds).cloned().chain(old).collect();
    chosen.sort_by(|one, other| one.id.cmp(&other.id));
    chosen.dedup_by(|one, other| one.id == other.id);
    let Some(limit) = policy.max_size else { return chosen };
    let mut rest = states.to_vec();
    rest.retain(|state| chosen.iter().all(|gone| gone.id != state.id));
    chosen.extend(states::beyond(rest, limit));
    chosen
}

#[cfg(test)]
mod tests {
    use kiln_core::{Key, StateInfo};

    use super::*;

    #[test]
    fn what_is_asked_for_goes() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let state = |number: u8, build: &str| KeptImage {
            id: format!("sha256:{number}"),
            key: Key::from_digest([number; 32]),
            info: StateInfo {
                parent: None,
                title: "shell: x".to_owned(),
                build: build.to_owned(),
                took: Duration::from_secs(20),
                created: now - Duration::from_secs(u64::from(number)),
                used_secrets: false,
                is_checkpoint: false,
            },
            base: "sha256:0".to_owned(),
            size: 100,
            has_had_secrets: false,
        };
        let states = [state(1, "a"), state(2, "b"), state(50, "a")];
        let ids = |policy: PrunePolicy| -> Vec<String> {
            chosen(&states, &policy, now).into_iter().map(|state| state.id).collect()
        };
        let none: [&str; 0] = [];
        assert_eq!(ids(PrunePolicy::default()), none);
        assert_eq!(ids(PrunePolicy { all: true, ..PrunePolicy::default() }).len(), 3);
        let old = Some(Duration::from_secs(10));
        assert_eq!(ids(PrunePolicy { older_than: old, ..PrunePolicy::default() }), ["sha256:50"]);
        assert_eq!(ids(PrunePolicy { builds: vec!["b".to_owned()], ..PrunePolicy::default() }), ["sha256:2"]);
        assert_eq!(ids(PrunePolicy { max_size: Some(150), ..PrunePolicy::default() }), ["sha256:2", "sha256:50"]);
    }
}
