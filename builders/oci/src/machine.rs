//! The machine: facts, kept states, sealing, removal.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kiln_cache::{StateEntry, StateMeta};
use kiln_core::{Artifact, BuildContext, Communicator, Content, EntryId, Failure, Kept, Key, Machine, StateInfo};
use kiln_image::config::RunConfig;
use kiln_image::pack::{PackSettings, Packed};
use kiln_registry::Client;
use kiln_sandbox::Isolation;
use tokio::sync::OwnedMutexGuard;

use crate::OciSettings;
use crate::base::{Base, Resolved};
use crate::communicator::OciCommunicator;
use crate::config::SecretScan;
use crate::error::{self, OciError};
use crate::guest::{Ground, Guest, state_uppers};
use crate::launch::SECRETS;
use crate::outputs;
use crate::place::{Place, Places};
use crate::prepare::Recipe;
use crate::runtime::Runtime;
use crate::seal;
use crate::services::Group;
use crate::undo::WorkspaceUndo;

/// Builder id of an image: post-processors for images know it as the one of an imported image.
pub(crate) const IMAGE: &str = "packer.post-processor.docker-import";

/// Builder id of everything else.
pub(crate) const OTHER: &str = "packer.docker";

/// Changes up to this size are always digested when a state is kept, in bytes.
const CHEAP: u64 = 1 << 20;

/// Larger ones where that takes no more than a twentieth of what the step took: bytes for each second.
const DIGESTED_PER_SECOND: f64 = 25e6;

/// What the machine knows of its making.
pub(crate) struct Making {
    pub(crate) settings: OciSettings,
    pub(crate) recipe: Arc<Recipe>,
    pub(crate) place: Arc<Place>,
    pub(crate) base: Base,
    pub(crate) resolved: Resolved,
    pub(crate) runtime: Runtime,
    pub(crate) guest: Arc<Guest>,
    pub(crate) communicator: OciCommunicator,
    /// Kept states below the changes, the newest first.
    pub(crate) states: Vec<StateEntry>,
    pub(crate) id: String,
    pub(crate) user: String,
}

impl Making {
    pub(crate) fn recorded(self, entry: EntryId, client: Client) -> OciMachine {
        let progress =
            Progress { states: self.states.clone(), base: None, has_left: false, image: None, is_gone: false };
        OciMachine { making: self, entry, client, progress: Mutex::new(progress), beside: None }
    }
}

/// The machine.
pub(crate) struct OciMachine {
    making: Making,
    entry: EntryId,
    client: Client,
    progress: Mutex<Progress>,
    beside: Option<Beside>,
}

/// What runs beside it.
struct Beside {
    services: Group,
    places: Arc<Places>,
    /// Held while they run.
    turn: Mutex<Option<OwnedMutexGuard<()>>>,
}

impl Beside {
    async fn start(&self, context: &BuildContext) -> Result<(), Failure> {
        if self.turn().is_none() {
            let turn = self.places.turn(context).await?;
            *self.turn() = Some(turn);
        }
        self.services.start(context).await
    }

    async fn remove(&self, context: &BuildContext) -> Result<(), Failure> {
        self.services.remove(context).await?;
        self.turn().take();
        Ok(())
    }

    fn turn(&self) -> MutexGuard<'_, Option<OwnedMutexGuard<()>>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changes while it lives.
struct Progress {
    states: Vec<StateEntry>,
    /// The base's key, where nothing ran on it.
    base: Option<Key>,
    /// What it does now leads to no state that has a key.
    has_left: bool,
    /// The sealed image's id.
    image: Option<String>,
    is_gone: bool,
}

impl OciMachine {
    /// The same with services, none of which is started.
    pub(crate) fn beside(self, services: Group, places: Arc<Places>) -> OciMachine {
        OciMachine { beside: Some(Beside { services, places, turn: Mutex::default() }), ..self }
    }

    /// What its base's image says of its first process.
    pub(crate) fn image_config(&self) -> Option<&RunConfig> {
        self.making.base.image.as_ref().map(|image| &image.config.config)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for secrets in what is about to be kept, digests it where that costs little, and tells how large it is.
    async fn examine(&self, info: &StateInfo, context: &BuildContext) -> Result<(Packed, Size), Failure> {
        let needles = match self.making.recipe.config.secret_scan {
            SecretScan::Off => Vec::new(),
            _ => context.redactor.needles(),
        };
        let affordable = CHEAP.max((info.took.as_secs_f64() * DIGESTED_PER_SECOND) as u64);
        let is_worth_it = self.making.place.worker.is_in_process() || info.took.as_secs() > 0;
        let mut below = state_uppers(&self.progress().states);
        below.extend(self.making.base.lowers.iter().cloned());
        let user_xattr = self.making.place.chosen.user_xattr();
        let is_packed_now = self.making.place.chosen.isolation == Isolation::Chroot;
        let recent = self.making.guest.recent(below).await;
        error::blocking(move || {
            let before = Size::of(&recent.directory);
            let content = before.bytes <= affordable && is_worth_it;
            let is_wanted = !needles.is_empty() || content;
            let settings = PackSettings { needles, content, user_xattr, ..PackSettings::default() };
            let packed = recent.collect(&settings, is_wanted)?;
            Ok((packed, if is_packed_now { Size::of(&recent.directory) } else { before }))
        })
        .await
    }

    async fn keep_state(&self, key: &Key, info: &StateInfo, context: &BuildContext) -> Result<Kept, Failure> {
        self.making.guest.rest().await?;
        // It is looked through while the kernel takes the guest's mounts apart.
        let (examined, stopped) = tokio::join!(self.examine(info, context), self.making.guest.stop());
        stopped?;
        let (packed, size) = examined?;
        if !packed.found.is_empty() {
            seal::tell_secrets(&packed.found, self.making.recipe.config.secret_scan, context)?;
            return Ok(Kept::NotWorth("a secret is in it"));
        }
        let content = packed.content.map(|digest| digest.to_string());
        let meta = StateMeta {
            info: info.clone(),
            parent: self.progress().states.first().map(|state| state.key.clone()),
            content: content.clone(),
            base: self.making.base.chain.clone(),
            size: size.on_disk,
            details: BTreeMap::new(),
        };
        let (store, key) = (Arc::clone(&self.making.place.store), key.clone());
        let base = self.making.base.lowers.clone();
        let move_to_store = move |filled: &Path| {
            // Somebody may have been first: then theirs is the state that the machine goes on from, and ours is removed.
            store.commit_state(&key, filled, &meta).map_err(error::cache)?;
            let states = store.chain(&key).map_err(error::cache)?;
            if states.is_empty() {
                return Err(Failure::build(OciError::Base("a state that was just kept is gone".to_owned())));
            }
            Ok((state_uppers(&states).into_iter().chain(base).collect(), states))
        };
        self.progress().states = self.making.guest.turn(move_to_store).await?;
        Ok(Kept::Kept { content })
    }

    /// The present root, at rest, and the key of its state, or of the base, where it is one.
    async fn ground(&self) -> Result<(Ground, Option<Key>), Failure> {
        let (states, base) = {
            let progress = self.progress();
            (progress.states.clone(), progress.base.clone())
        };
        let ground = self.making.guest.ground(&states, &self.making.base).await?;
        let is_state = !ground.is_changed && !self.progress().has_left;
        Ok((ground, states.first().map(|state| state.key.clone()).or(base).filter(|_| is_state)))
    }

    async fn seal_image(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        let (ground, key) = self.ground().await?;
        let making = &self.making;
        let sealing = seal::Sealing {
            recipe: &making.recipe,
            place: &making.place,
            runtime: &making.runtime,
            client: &self.client,
            context,
            is_examined: !ground.is_changed,
            epoch: seal::source_date_epoch(&making.settings.credentials.environment),
        };
        let sealed = sealing.run(&ground, &making.base).await?;
        let id = sealed.config.to_string();
        self.progress().image = Some(id);
        if let Some(key) = key.filter(|_| sealed.is_clean && seal::is_repeatable(&making.recipe)) {
            let entry = seal::entry(context, &sealed, self.facts());
            let seal_key = seal::seal_key(&key, &making.recipe, &making.settings);
            making.place.store.put_sealed(&seal_key, &entry).map_err(error::cache)?;
        }
        let bringing = outputs::Bringing {
            recipe: &making.recipe,
            place: &making.place,
            settings: &making.settings,
            client: &self.client,
            mount_from: making.resolved.repository.clone(),
            context,
        };
        if let Some(path) = &making.recipe.config.export_path {
            bringing.export(&ground, path).await?;
        }
        bringing.seal(&sealed.manifest, &sealed.config).await
    }

    /// Looks for secrets in all that the steps changed, where no layer is made of it.
    async fn look_through(&self, ground: &Ground, context: &BuildContext) -> Result<(), Failure> {
        let config = &self.making.recipe.config;
        let needles = context.redactor.needles();
        if config.secret_scan == SecretScan::Off || needles.is_empty() {
            return Ok(());
        }
        let user_xattr = self.making.place.chosen.user_xattr();
        let settings = PackSettings { needles, user_xattr, exclude: config.exclude.clone(), ..PackSettings::default() };
        let (changes, worker) = (ground.squashed.clone(), Arc::clone(&self.making.place.worker));
        let packed = error::blocking(move || changes.pack(&worker, &settings, &mut std::io::sink())).await?;
        seal::tell_secrets(&packed.found, config.secret_scan, context)
    }

    async fn export_only(&self, context: &BuildContext, path: &std::path::Path) -> Result<Artifact, Failure> {
        let (ground, _) = self.ground().await?;
        self.look_through(&ground, context).await?;
        let making = &self.making;
        let bringing = outputs::Bringing {
            recipe: &making.recipe,
            place: &making.place,
            settings: &making.settings,
            client: &self.client,
            mount_from: None,
            context,
        };
        bringing.export(&ground, path).await?;
        Ok(outputs::exported(path))
    }
}

#[async_trait]
impl Machine for OciMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        let Making { resolved, base, .. } = &self.making;
        let image = self.progress().image.clone();
        let base_id = base.image.as_ref().map(|image| image.config_digest.to_string());
        let is_isolated = self.making.runtime.network == kiln_sandbox::Network::None;
        [
            ("ID", self.making.id.clone()),
            ("Host", if is_isolated { String::new() } else { "127.0.0.1".to_owned() }),
            ("Port", "0".to_owned()),
            ("User", self.making.user.clone()),
            ("Password", String::new()),
            ("ConnType", if self.making.recipe.is_docker { "docker" } else { "oci" }.to_owned()),
            // Packer's placeholders until there is one.
            ("ImageSha256", image.unwrap_or_else(|| "ERR_IMAGE_SHA256_NOT_FOUND".to_owned())),
            (
                "SourceImageDigest",
                resolved.digest.clone().unwrap_or_else(|| "ERR_SOURCE_IMAGE_DIGEST_NOT_FOUND".to_owned()),
            ),
            ("SourceImageSha256", base_id.unwrap_or_default()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.making.communicator
    }

    async fn before_steps(&self, context: &BuildContext) -> Result<(), Failure> {
        match &self.beside {
            Some(beside) => beside.start(context).await,
            None => Ok(()),
        }
    }

    async fn keep_logs(&self, context: &BuildContext) {
        if let Some(beside) = &self.beside {
            beside.services.keep_logs(context).await;
        }
    }

    async fn seal(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        if let Some(beside) = &self.beside {
            // No step comes any more, and tests start them anew, at the same ports.
            beside.remove(context).await?;
        }
        let recipe = &self.making.recipe;
        match &recipe.config.export_path {
            _ if recipe.makes_image() => self.seal_image(context).await,
            Some(path) if !recipe.config.discard => self.export_only(context, path).await,
            _ => Ok(discarded()),
        }
    }

    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure> {
        if let Some(beside) = &self.beside {
            beside.remove(context).await?;
        }
        if self.progress().is_gone {
            return Ok(());
        }
        // A command that somebody still waits for goes with its sandbox's end, at the latest with this process.
        let stopped = self.making.guest.stop().await;
        let undo = WorkspaceUndo::new(&self.making.place, self.making.guest.directory());
        let helper = self.making.settings.helper.clone();
        error::blocking(move || undo.remove(&helper)).await?;
        self.progress().is_gone = true;
        context.journal.strike(self.entry)?;
        stopped
    }

    async fn keep(&self, key: &Key, info: &StateInfo, context: &BuildContext) -> Result<Kept, Failure> {
        if self.progress().has_left {
            return Ok(Kept::NotWorth("a step before it failed"));
        }
        self.keep_state(key, info, context).await
    }

    fn leave_states(&self) {
        self.progress().has_left = true;
    }

    fn stands_at_base(&self, base: &Key) {
        self.progress().base = Some(base.clone());
    }

    fn secrets_directory(&self) -> Option<&str> {
        Some(SECRETS)
    }
}

/// What is left of a machine that is thrown away.
pub(crate) fn discarded() -> Artifact {
    Artifact {
        builder_id: OTHER.to_owned(),
        id: "Container".to_owned(),
        description: "Discarded machine".to_owned(),
        content: Content::Nothing,
        owner: None,
    }
}

/// How large changes are.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    /// Of files' content.
    bytes: u64,
    on_disk: u64,
}

impl Size {
    /// Of a tree. What cannot be looked at by this user is not counted.
    fn of(root: &std::path::Path) -> Size {
        use std::os::unix::fs::MetadataExt;
        let mut size = Size::default();
        let mut waiting = vec![root.to_path_buf()];
        while let Some(directory) = waiting.pop() {
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            for entry in entries.flatten() {
                let Ok(metadata) = entry.metadata() else { continue };
                size.on_disk += metadata.blocks() * 512;
                if metadata.is_dir() {
                    waiting.push(entry.path());
                } else if metadata.is_file() {
                    size.bytes += metadata.len();
                }
            }
        }
        size
    }
}
