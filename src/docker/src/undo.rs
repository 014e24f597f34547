//! Undoing what a run left in an engine, from the journal alone.

mod file;
mod lent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{Failure, Undo, UndoOutcome, Undoer};
use serde::{Deserialize, Serialize};

use crate::client::BollardEngine;
use crate::engine::{Engine, ImageFilter, ImageInfo};
use crate::error::EngineError;
use crate::steps::DockerfileSteps;

pub use file::{FileUndo, FinishedFile};
pub use lent::LentNameUndo;

/// Bound on undoing one thing.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Between two looks at something that is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the end of what the engine was asked for is waited for, if that was less than [`FRESH`] seconds ago.
const LAST_ANSWER: Duration = Duration::from_secs(3);
const FRESH: u64 = 60;

/// The engine's clock and this host's may differ by this much, in seconds.
pub const CLOCK_SKEW: i64 = 300;

/// What undoing a container needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUndo {
    /// The engine's address.
    pub engine: String,
    /// The container's name.
    pub name: String,
    /// The value of its label `kiln.run`, where it bears one: somebody else's container of that name stays.
    #[serde(default)]
    pub run: Option<String>,
    /// The value of its label `kiln.build`, likewise.
    #[serde(default)]
    pub build: Option<String>,
    /// When it was asked for, in seconds since the epoch; a container without labels is known by it until its id is.
    #[serde(default)]
    pub at: u64,
    /// The container, once it is known.
    #[serde(default)]
    pub id: Option<String>,
}

/// What undoing a network needs. It is known by its labels, as several may bear one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkUndo {
    /// The engine's address.
    pub engine: String,
    /// The network's name.
    pub name: String,
    /// The labels that it bears.
    pub labels: BTreeMap<String, String>,
}

/// What undoing an image needs: its id, or what is known of it before it exists.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUndo {
    /// The engine's address.
    pub engine: String,
    /// The image, once it is known.
    pub id: Option<String>,
    /// The container it is made from, by name.
    #[serde(default)]
    pub container: Option<String>,
    /// Labels that it will bear (`kiln.run` and `kiln.build`).
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Without labels: the image it is made from.
    #[serde(default)]
    pub parent: Option<String>,
    /// Without labels: its comment.
    #[serde(default)]
    pub comment: Option<String>,
    /// Not older than this, in seconds since the epoch.
    #[serde(default)]
    pub created_since: Option<i64>,
    /// Images that all of this fits, but that were there before.
    #[serde(default)]
    pub others: Vec<String>,
    /// Without labels of its own: the `kiln.run` of the image it is made from, which it has from there.
    #[serde(default)]
    pub inherited_run: Option<String>,
}

/// What undoing the base image of a `build {}` needs: how far the Dockerfile has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseUndo {
    /// The engine's address.
    pub engine: String,
    /// Its steps.
    pub steps: DockerfileSteps,
    /// When that was, in seconds since the epoch.
    pub at: u64,
}

/// What undoing a name needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagUndo {
    /// The engine's address.
    pub engine: String,
    /// `repository:tag`.
    pub reference: String,
    /// The image that bore the name before, if one did.
    pub previous: Option<String>,
    /// The image that the name was given to; if it means another by now, it stays.
    #[serde(default)]
    pub image: Option<String>,
    /// Until that is known: not made before this, in seconds since the epoch.
    #[serde(default)]
    pub created_since: Option<i64>,
}

fn undo(kind: &str, data: &impl Serialize, description: String) -> Undo {
    // Plain strings and maps of strings always serialise.
    let data = serde_json::to_value(data).unwrap_or_default();
    Undo { kind: kind.to_owned(), data, description }
}

impl ContainerUndo {
    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        undo("docker.container", self, format!("container {}", self.name))
    }
}

impl NetworkUndo {
    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        undo("docker.network", self, format!("network {}", self.name))
    }
}

impl ImageUndo {
    /// What is known of the image before its id is.
    pub fn filter(&self) -> ImageFilter {
        ImageFilter {
            labels: self.labels.clone(),
            parent: self.parent.clone(),
            comment: self.comment.clone(),
            created_since: self.created_since,
            created_by: None,
        }
    }

    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        let what = match (&self.id, self.labels.get("kiln.build")) {
            (Some(id), _) => id.clone(),
            (None, Some(build)) => format!("committed by build {build}"),
            (None, None) => "committed by the build".to_owned(),
        };
        undo("docker.image", self, format!("image {what}"))
    }
}

impl BaseUndo {
    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        let what = self.steps.images.last().map_or_else(String::new, |id| format!(" {id}"));
        undo("docker.base", self, format!("base image{what}"))
    }
}

impl TagUndo {
    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        undo("docker.tag", self, format!("image name {}", self.reference))
    }
}

/// Finds the engine of an address.
type Connect = dyn Fn(&str) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync;

/// Undoes `docker.container`, `docker.network`, `docker.image`, `docker.base`, `docker.tag`, `docker.lent` and `docker.file`.
pub struct DockerUndoer {
    connect: Box<Connect>,
}

impl DockerUndoer {
    /// Reaches engines as [`BollardEngine::connect`] does; `environment` gives the TLS certificates.
    pub fn new(environment: BTreeMap<String, String>) -> DockerUndoer {
        DockerUndoer::with(move |address| {
            BollardEngine::connect(Some(address), &environment).map(|engine| Arc::new(engine) as Arc<dyn Engine>)
        })
    }

    /// Reaches engines by this function.
    pub fn with(
        connect: impl Fn(&str) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync + 'static,
    ) -> DockerUndoer {
        DockerUndoer { connect: Box::new(connect) }
    }

    async fn run(&self, undo: &Undo) -> Result<UndoOutcome, Failure> {
        let is_gone = match undo.kind.as_str() {
            "docker.container" => {
                let data: ContainerUndo = read(undo)?;
                remove_expected_container(&*(self.connect)(&data.engine)?, &data).await?
            }
            "docker.network" => {
                let data: NetworkUndo = read(undo)?;
                remove_network(&*(self.connect)(&data.engine)?, &data).await?
            }
            "docker.image" => {
                let data: ImageUndo = read(undo)?;
                remove_images(&*(self.connect)(&data.engine)?, &data).await?
            }
            "docker.base" => {
                let data: BaseUndo = read(undo)?;
                remove_base(&*(self.connect)(&data.engine)?, &data).await?
            }
            "docker.tag" => {
                let data: TagUndo = read(undo)?;
                restore_tag(&*(self.connect)(&data.engine)?, &data).await?
            }
            "docker.lent" => {
                let data: LentNameUndo = read(undo)?;
                data.take_back(&*(self.connect)(&data.engine)?).await?
            }
            "docker.file" => read::<FileUndo>(undo)?.remove().await?,
            other => {
                return Err(Failure::new(kiln_core::FailureClass::Bug, format!("`{other}` is no kind of Docker's")));
            }
        };
        Ok(if is_gone { UndoOutcome::Removed } else { UndoOutcome::AlreadyGone })
    }
}

fn read<'a, T: Deserialize<'a>>(undo: &'a Undo) -> Result<T, Failure> {
    T::deserialize(&undo.data).map_err(Failure::build)
}

/// Removes the container that an entry means; returns whether it was there.
pub async fn remove_container(engine: &dyn Engine, data: &ContainerUndo) -> Result<bool, EngineError> {
    if let Some(id) = &data.id {
        return engine.remove_container(id).await;
    }
    let Some(found) = engine.inspect_container(&data.name).await? else { return Ok(false) };
    let is_ours = match &data.run {
        Some(run) => {
            found.labels.get("kiln.run") == Some(run)
                && data.build.as_ref().is_none_or(|build| found.labels.get("kiln.build") == Some(build))
        }
        // Made when it was asked for, not before nor long after.
        None => found.created.is_some_and(|created| {
            i64::try_from(data.at).is_ok_and(|at| at > 0 && created.abs_diff(at) <= CLOCK_SKEW.unsigned_abs())
        }),
    };
    if is_ours { engine.remove_container(&found.id).await } else { Ok(false) }
}

/// Removes the networks that an entry means; returns whether there were any.
pub async fn remove_network(engine: &dyn Engine, data: &NetworkUndo) -> Result<bool, EngineError> {
    // Without labels every network would fit.
    if data.labels.is_empty() {
        return Ok(false);
    }
    let mut has_removed = false;
    for network in engine.find_networks(&data.labels).await?.iter().filter(|network| network.name == data.name) {
        has_removed |= engine.remove_network(&network.id).await?;
    }
    Ok(has_removed)
}

/// The same for a container whose making nobody waits for any more: the engine may still be at it.
async fn remove_expected_container(engine: &dyn Engine, data: &ContainerUndo) -> Result<bool, EngineError> {
    let is_fresh = is_fresh(data.at);
    let start = tokio::time::Instant::now();
    while !remove_container(engine, data).await? {
        if !is_fresh || start.elapsed() >= LAST_ANSWER {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

/// Whether what was asked for then may be under way still.
fn is_fresh(at: u64) -> bool {
    seconds_since_epoch().saturating_sub(at) < FRESH
}

/// Removes the images that an entry means; returns whether there were any. What bears a name or is used stays: a build
/// takes its own names away first.
pub async fn remove_images(engine: &dyn Engine, data: &ImageUndo) -> Result<bool, EngineError> {
    let ids = match &data.id {
        Some(id) => vec![id.clone()],
        // Without anything to know it by, every image would fit.
        None if data.labels.is_empty() && (data.parent.is_none() || data.comment.is_none()) => Vec::new(),
        None => {
            if let Some(container) = &data.container {
                commit_is_over(engine, container).await?;
            }
            unfinished_images(engine, data).await?
        }
    };
    let mut has_removed = false;
    for id in ids {
        has_removed |= remove_unnamed(engine, &id).await?;
    }
    Ok(has_removed)
}

/// The images that fit an entry without an id.
async fn unfinished_images(engine: &dyn Engine, data: &ImageUndo) -> Result<Vec<String>, EngineError> {
    let mut found = engine.find_images(&data.filter()).await?;
    found.retain(|id| !data.others.contains(id));
    if !data.labels.is_empty() {
        return Ok(found);
    }
    let mut unlabelled = Vec::new();
    for id in found {
        // A run that labels may commit the same at the same time.
        let is_of_run = |image: ImageInfo| image.labels.get("kiln.run") == data.inherited_run.as_ref();
        if engine.inspect_image(&id).await?.is_some_and(is_of_run) {
            unlabelled.push(id);
        }
    }
    Ok(unlabelled)
}

/// Waits while a container is paused: a commit that nobody waits for any more goes on, and pauses it until its image is
/// there.
async fn commit_is_over(engine: &dyn Engine, container: &str) -> Result<(), EngineError> {
    while engine.inspect_container(container).await?.is_some_and(|container| container.is_paused) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Removes what the steps of a Dockerfile made, the last first; what bears a name, is used or is built upon stays.
async fn remove_base(engine: &dyn Engine, data: &BaseUndo) -> Result<bool, EngineError> {
    let mut has_removed = false;
    for id in image_under_way(engine, data).await?.iter().chain(data.steps.images.iter().rev()) {
        has_removed |= remove_unnamed(engine, id).await?;
    }
    Ok(has_removed)
}

/// The image of the step that was under way: an engine ends it although nobody listens any more, perhaps only now.
async fn image_under_way(engine: &dyn Engine, data: &BaseUndo) -> Result<Vec<String>, EngineError> {
    let (Some(from), Some(mark)) = (&data.steps.from, data.steps.mark()) else { return Ok(Vec::new()) };
    let Some(from) = engine.inspect_image(from).await? else { return Ok(Vec::new()) };
    let filter = ImageFilter {
        parent: Some(from.id),
        created_by: Some(mark.to_owned()),
        created_since: i64::try_from(data.at).ok().map(|at| at - CLOCK_SKEW),
        ..ImageFilter::default()
    };
    let is_fresh = is_fresh(data.at);
    let start = tokio::time::Instant::now();
    loop {
        let found = engine.find_images(&filter).await?;
        if !found.is_empty() || !is_fresh || start.elapsed() >= LAST_ANSWER {
            return Ok(found);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The time, in seconds since the epoch.
pub fn seconds_since_epoch() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Removes an image without names; one that others need stays.
async fn remove_unnamed(engine: &dyn Engine, id: &str) -> Result<bool, EngineError> {
    if engine.inspect_image(id).await?.is_none_or(|image| !image.tags.is_empty()) {
        return Ok(false);
    }
    match engine.remove_image_alone(id).await {
        Err(EngineError::Refused { status: Some(409), .. }) => Ok(false),
        removed => removed,
    }
}

async fn restore_tag(engine: &dyn Engine, data: &TagUndo) -> Result<bool, EngineError> {
    let Some(current) = engine.inspect_image(&data.reference).await? else { return Ok(false) };
    let is_ours = match (&data.image, data.created_since) {
        (Some(image), _) => current.id == *image,
        (None, Some(since)) => current.created.is_some_and(|created| created >= since),
        // Nothing tells that the name was not given anew since.
        (None, None) => false,
    };
    if !is_ours {
        return Ok(false);
    }
    match &data.previous {
        Some(previous) if current.id == *previous => Ok(false),
        Some(previous) if engine.inspect_image(previous).await?.is_some() => {
            let (repository, tag) = data.reference.rsplit_once(':').unwrap_or((&data.reference, "latest"));
            engine.tag(previous, repository, tag).await?;
            // Its only name is gone, and nobody would find it again.
            remove_unnamed(engine, &current.id).await?;
            Ok(true)
        }
        _ => engine.remove_image(&data.reference, false).await,
    }
}

#[async_trait]
impl Undoer for DockerUndoer {
    fn kinds(&self) -> &'static [&'static str] {
        &[
            "docker.base",
            "docker.container",
            "docker.image",
            "docker.network",
            "docker.tag",
            "docker.lent",
            "docker.file",
        ]
    }

    async fn undo(&self, undo: &Undo) -> Result<UndoOutcome, Failure> {
        tokio::time::timeout(TIMEOUT, self.run(undo)).await.unwrap_or_else(|_| {
            let text = format!("the engine did not remove {} within {} seconds", undo.description, TIMEOUT.as_secs());
            Err(Failure::environment(text))
        })
    }
}

#[cfg(test)]
mod tests;
