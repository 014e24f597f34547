//! The running container: facts, commit or export, removal.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use kiln_cache::EngineResult;
use kiln_core::{
    Artifact, ArtifactOwner, BuildContext, Communicator, Content, EntryId, Failure, Image, Kept, Key, Machine,
    StateInfo,
};
use kiln_docker::engine::ContainerSpec;
use kiln_docker::naming::{container_name, run_labels};
use kiln_docker::services::Group;
use kiln_docker::{DEFAULT_HOST, Engine, EngineError, FileUndo, FinishedFile, ImageInfo, ImageUndo, undo};

use crate::changes::Changes;
use crate::commit::{self, CommitPlan};
use crate::communicator::DockerCommunicator;
use crate::config::Config;
use crate::keep::Progress;
use crate::snapshots::{self, Marks};
use crate::squash::squash;
use crate::states::{KeptImage, States};

/// Builder id of a committed image: Packer gives it the one of an imported image.
const COMMITTED: &str = "packer.post-processor.docker-import";

/// Builder id of everything else.
const EXPORTED: &str = "packer.docker";

/// Bound on the removal of a container.
const REMOVAL: Duration = Duration::from_secs(60);

/// Where secrets of a step lie: in the memory that every container has. A mount of their own would need a directory to be
/// mounted on, which stays in the image.
const SECRETS: &str = "/dev/shm/kiln-secrets";

/// The engine's clock and this host's may differ by this much, in seconds.
const CLOCK_SKEW: i64 = 300;

/// Waits for a container's removal, within a bound.
pub(crate) async fn bounded(
    container: &str,
    removal: impl Future<Output = Result<bool, EngineError>>,
) -> Result<(), Failure> {
    match tokio::time::timeout(REMOVAL, removal).await {
        Ok(removed) => Ok(removed.map(drop)?),
        Err(_) => {
            let text = format!("the engine did not remove container {container} within {} seconds", REMOVAL.as_secs());
            Err(Failure::environment(text).hint("`kiln cleanup` tries again"))
        }
    }
}

/// A container that runs.
pub(crate) struct Started {
    pub(crate) id: String,
    pub(crate) address: String,
    /// Path and kind of what is mounted.
    pub(crate) mounts: Vec<(String, String)>,
}

/// What the journal knows of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entries {
    pub(crate) container: EntryId,
    /// Of the base image, where a Dockerfile made it.
    pub(crate) base: Option<EntryId>,
}

/// What the machine knows of its making.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) changes: Changes,
    pub(crate) base: ImageInfo,
    /// The state that it started from, where that is not the base.
    pub(crate) state: Option<KeptImage>,
    pub(crate) states: Arc<States>,
    pub(crate) states_size: Option<u64>,
    pub(crate) spec: ContainerSpec,
    pub(crate) started: Started,
    pub(crate) entries: Entries,
    /// What runs beside it.
    pub(crate) services: Option<Group>,
}

/// The machine.
pub(crate) struct DockerMachine {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) plan: Plan,
    pub(crate) progress: Mutex<Progress>,
    communicator: DockerCommunicator,
    is_gone: AtomicBool,
    committed: Mutex<Option<String>>,
}

impl DockerMachine {
    pub(crate) fn new(engine: Arc<dyn Engine>, plan: Plan, communicator: DockerCommunicator) -> DockerMachine {
        let progress = Mutex::new(Progress::from(plan.state.as_ref()));
        DockerMachine {
            engine,
            plan,
            progress,
            communicator,
            is_gone: AtomicBool::new(false),
            committed: Mutex::new(None),
        }
    }

    async fn commit(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        let config = &self.plan.config;
        let mut labels = HashMap::new();
        let comment = config.message.clone().filter(|message| !message.is_empty());
        let mut undo = ImageUndo {
            engine: self.engine.address().to_owned(),
            container: Some(self.plan.spec.name.clone()),
            ..ImageUndo::default()
        };
        if config.kiln_labels {
            labels = run_labels(context);
            undo.labels = labels.clone().into_iter().collect();
            labels.extend(context.options.origin.labels());
        } else {
            // Nothing in the image tells whose it is before its id is known, but it is none of those there are.
            undo.comment = Some(comment.clone().unwrap_or_default());
            undo.parent = Some(self.plan.state.as_ref().map_or(&self.plan.base.id, |state| &state.id).clone());
            undo.created_since = Some(seconds_since_epoch() - CLOCK_SKEW);
            undo.inherited_run = self.plan.base.labels.get("kiln.run").cloned();
            undo.others = self.engine.find_images(&undo.filter()).await?;
        }
        let spec = commit::spec(
            &self.plan.started.id,
            CommitPlan {
                base: &self.plan.base,
                changes: &self.plan.changes,
                labels,
                author: config.author.clone().filter(|author| !author.is_empty()),
                comment,
                container_has_user: self.plan.spec.config.user.is_some(),
                container_has_directory: self.plan.spec.config.working_dir.is_some(),
            },
        );
        context.events.message(format!("committing container {}", self.plan.spec.name));
        let entry = context.journal.record(&context.build, undo.entry())?;
        // Not stopped halfway: the engine would go on and leave an image that nobody knows of.
        let id = match self.engine.commit(&spec).await {
            Ok(id) => id,
            Err(error) => {
                if undo::remove_images(&*self.engine, &undo).await.is_ok() {
                    context.journal.strike(entry)?;
                }
                return Err(error.into());
            }
        };
        undo.id = Some(id.clone());
        if context.cancel.is_cancelled() {
            undo::remove_images(&*self.engine, &undo).await?;
            context.journal.strike(entry)?;
            return Err(Failure::cancelled());
        }
        context.journal.amend(entry, undo.entry())?;
        let id = self.without_states(context, id, entry).await?;
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.clone());
        self.remember(context, &id).await;
        Ok(committed(&self.engine, id))
    }

    /// The image as it would be had the machine started from its base.
    async fn without_states(&self, context: &BuildContext, id: String, entry: EntryId) -> Result<String, Failure> {
        if self.plan.state.is_none() {
            return Ok(id);
        }
        context.events.message("taking what kept states brought out of the image's layers");
        let squashed = squash(&*self.engine, &self.plan.base, &id, context).await;
        self.engine.remove_image_alone(&id).await?;
        context.journal.strike(entry)?;
        squashed
    }

    /// Notes what sealing this state gave. A build does not fail because of its cache.
    async fn remember(&self, context: &BuildContext, image: &str) {
        let Some(state) = self.progress().state.clone() else { return };
        let Ok(store) = self.plan.states.store().await else { return };
        let key = snapshots::result_key(&state, &self.plan.config, self.engine.address(), &Marks::of(context));
        let build = Some(context.build.to_string());
        let result = EngineResult { build, image: image.to_owned(), created: SystemTime::now(), facts: self.facts() };
        if let Err(error) = store.put_engine_result(&key, &result) {
            context
                .events
                .warn(format!("cannot remember the image for the next build: {}", Failure::environment(error).chain()));
        }
    }

    /// Written beside its place and moved there when whole, so that no half file is ever taken for a result.
    async fn export(&self, context: &BuildContext, to: &Path) -> Result<Artifact, Failure> {
        let local = |action, path: &Path| {
            let path = path.to_path_buf();
            move |source| Failure::build(EngineError::Local { action, path, source })
        };
        let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::build(format!("`export_path` {} names no file", to.display())));
        }
        let directory = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        tokio::fs::create_dir_all(directory).await.map_err(local("create", directory))?;
        // Not the container's own name, which another run may use too.
        let temporary = directory.join(format!(".{name}.{}", container_name(context)));
        let absolute = std::path::absolute(&temporary).unwrap_or_else(|_| temporary.clone());
        let mut undo = FileUndo { path: absolute, finished: None };
        let entry = context.journal.record(&context.build, undo.entry())?;
        context.events.message(format!("exporting container {} to {}", self.plan.spec.name, to.display()));
        let exported = context
            .unless_cancelled(async {
                self.engine.export(&self.plan.started.id, &temporary).await.map_err(|error| {
                    let is_full = matches!(&error, EngineError::Local { source, .. }
                    if source.kind() == std::io::ErrorKind::StorageFull);
                    let failure = Failure::from(error);
                    if is_full { failure.hint(format!("make room in {}", directory.display())) } else { failure }
                })
            })
            .await
            .flatten();
        // The move is not stopped halfway, and both places are noted before it: the result belongs to the user once the
        // whole build is well.
        let placed = async {
            exported?;
            let whole = tokio::fs::metadata(&temporary).await.map_err(local("look at", &temporary))?;
            let absolute = std::path::absolute(to).unwrap_or_else(|_| to.to_path_buf());
            undo.finished = Some(FinishedFile::new(&whole, absolute));
            context.journal.amend(entry, undo.entry())?;
            tokio::fs::rename(&temporary, to).await.map_err(local("write", to))
        }
        .await;
        if placed.is_err() {
            // Gone already where the engine's side failed.
            let _ = tokio::fs::remove_file(&temporary).await;
            context.journal.strike(entry)?;
        }
        placed?;
        Ok(Artifact {
            builder_id: EXPORTED.to_owned(),
            id: "Container".to_owned(),
            description: format!("Exported Docker file: {}", to.display()),
            content: Content::Files(vec![to.to_path_buf()]),
            owner: Some(Arc::new(Owner { engine: Arc::clone(&self.engine) })),
        })
    }
}

fn seconds_since_epoch() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Machine for DockerMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        let Plan { config, base, started, .. } = &self.plan;
        let committed = self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let user = config.exec_user.clone().unwrap_or_else(|| base.user.clone());
        [
            ("ID", started.id.clone()),
            ("Host", started.address.clone()),
            ("Port", "0".to_owned()),
            ("User", user),
            ("Password", String::new()),
            ("ConnType", "docker".to_owned()),
            // Packer's placeholder until there is one.
            ("ImageSha256", committed.unwrap_or_else(|| "ERR_IMAGE_SHA256_NOT_FOUND".to_owned())),
            (
                "SourceImageDigest",
                base.digests.first().cloned().unwrap_or_else(|| "ERR_SOURCE_IMAGE_DIGEST_NOT_FOUND".to_owned()),
            ),
            ("SourceImageSha256", base.id.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.communicator
    }

    async fn before_steps(&self, context: &BuildContext) -> Result<(), Failure> {
        match &self.plan.services {
            Some(services) => services.start(context).await,
            None => Ok(()),
        }
    }

    async fn keep_logs(&self, context: &BuildContext) {
        if let Some(services) = &self.plan.services {
            services.keep_logs(context).await;
        }
    }

    async fn before_tests(&self, context: &BuildContext) -> Result<(), Failure> {
        match &self.plan.services {
            Some(services) => services.remove_containers(context).await,
            None => Ok(()),
        }
    }

    async fn seal(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        match &self.plan.config.export_path {
            _ if self.plan.config.commit => self.commit(context).await,
            Some(path) if !self.plan.config.discard => self.export(context, path).await,
            _ => Ok(discarded()),
        }
    }

    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure> {
        if self.is_gone.load(Ordering::Acquire) {
            return Ok(());
        }
        bounded(&self.plan.spec.name, self.engine.remove_container(&self.plan.started.id)).await?;
        if let Some(services) = &self.plan.services {
            services.remove(context).await?;
        }
        self.is_gone.store(true, Ordering::Release);
        context.journal.strike(self.plan.entries.container)?;
        // From here on the base image is the engine's build cache, whatever becomes of the build.
        self.plan.entries.base.map_or(Ok(()), |entry| context.journal.strike(entry))
    }

    async fn keep(&self, key: &Key, info: &StateInfo, context: &BuildContext) -> Result<Kept, Failure> {
        self.keep_state(key, info, context).await
    }

    fn leave_states(&self) {
        self.progress().leave();
    }

    fn stands_at_base(&self, base: &Key) {
        self.note_base(base);
    }

    fn secrets_directory(&self) -> Option<&str> {
        Some(SECRETS)
    }

    fn enter_hint(&self) -> Option<String> {
        let address = self.engine.address();
        let host = if address == DEFAULT_HOST { String::new() } else { format!(" -H {address}") };
        Some(format!("docker{host} exec -it {} /bin/sh", self.plan.spec.name))
    }
}

/// What is left of a machine that is thrown away.
pub(crate) fn discarded() -> Artifact {
    Artifact {
        builder_id: EXPORTED.to_owned(),
        id: "Container".to_owned(),
        description: "Discarded Docker container".to_owned(),
        content: Content::Nothing,
        owner: None,
    }
}

/// A committed image of the engine.
pub(crate) fn committed(engine: &Arc<dyn Engine>, id: String) -> Artifact {
    Artifact {
        builder_id: COMMITTED.to_owned(),
        id: id.clone(),
        description: format!("Imported Docker image: {id}"),
        content: Content::Image(Image { id, engine: Some(engine.address().to_owned()), ..Image::default() }),
        owner: Some(Arc::new(Owner { engine: Arc::clone(engine) })),
    }
}

/// Removes images and exported files.
struct Owner {
    engine: Arc<dyn Engine>,
}

#[async_trait]
impl ArtifactOwner for Owner {
    async fn destroy(&self, artifact: &Artifact, context: &BuildContext) -> Result<(), Failure> {
        match &artifact.content {
            Content::Image(image) => match self.engine.remove_image(&image.id, false).await {
                Ok(_) => Ok(()),
                Err(EngineError::Refused { status: Some(409), message, .. }) => {
                    context.events.warn(format!("image {} stays: {message}", image.id));
                    Ok(())
                }
                Err(error) => Err(error.into()),
            },
            Content::Files(files) => remove_files(files).await,
            Content::Nothing => Ok(()),
        }
    }
}

async fn remove_files(files: &[PathBuf]) -> Result<(), Failure> {
    for path in files {
        match tokio::fs::remove_file(path).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::build(EngineError::Local { action: "remove", path: path.clone(), source }));
            }
            _ => {}
        }
    }
    Ok(())
}
