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
mod tests {
    use super::*;
    use crate::engine::ContainerSpec;
    use crate::fake::FakeEngine;

    fn undoer(engine: &Arc<FakeEngine>) -> DockerUndoer {
        let engine = Arc::clone(engine);
        DockerUndoer::with(move |_| Ok(engine.clone()))
    }

    fn address() -> String {
        "fake://engine".to_owned()
    }

    /// Else what a killed run made would stay for ever.
    #[tokio::test]
    async fn every_entry_can_be_undone_by_a_later_run() {
        let undoer = undoer(&Arc::new(FakeEngine::new()));
        let file = FileUndo { path: "/nowhere/kiln".into(), ..FileUndo::default() };
        let entries = [
            ContainerUndo::default().entry(),
            NetworkUndo::default().entry(),
            ImageUndo::default().entry(),
            BaseUndo::default().entry(),
            TagUndo::default().entry(),
            LentNameUndo::default().entry(),
            file.entry(),
        ];
        for entry in &entries {
            assert!(undoer.kinds().contains(&entry.kind.as_str()), "{}", entry.kind);
            assert_eq!(undoer.undo(entry).await.unwrap(), UndoOutcome::AlreadyGone, "{}", entry.kind);
        }
        assert_eq!(entries.len(), undoer.kinds().len());
    }

    #[tokio::test]
    async fn a_lent_name_goes_and_its_image_stays() {
        let engine = Arc::new(FakeEngine::new());
        let id = engine.add_image("kiln.local/lent:1");
        let entry =
            LentNameUndo { engine: address(), reference: "kiln.local/lent:1".into(), image: Some(id.clone()) }.entry();
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
        assert!(engine.inspect_image("kiln.local/lent:1").await.unwrap().is_none());
        assert!(engine.inspect_image(&id).await.unwrap().is_some());
        assert_eq!(engine.images().len(), 1, "what took the name over is still there");
        // An import under the name would take the image with it, in containerd's image store.
        assert!(!engine.calls().iter().any(|call| call.starts_with("import /dev/null kiln.local/lent:1 ")));
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
    }

    #[tokio::test]
    async fn a_container_goes_once() {
        let engine = Arc::new(FakeEngine::new());
        engine.add_image("debian");
        let mut spec = ContainerSpec { name: "kiln-1".into(), ..ContainerSpec::default() };
        spec.config.image = Some("debian".into());
        engine.create_container(&spec).await.unwrap();
        let data = ContainerUndo {
            engine: address(),
            name: "kiln-1".into(),
            run: Some("r1".into()),
            at: seconds_since_epoch(),
            ..ContainerUndo::default()
        };
        assert_eq!(undoer(&engine).undo(&data.entry()).await.unwrap(), UndoOutcome::AlreadyGone, "not of this run");
        let entry = ContainerUndo { run: None, ..data }.entry();
        assert_eq!(entry.description, "container kiln-1");
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
    }

    #[tokio::test]
    async fn an_image_goes_by_its_labels_and_never_by_nothing() {
        let engine = Arc::new(FakeEngine::new());
        let labels = BTreeMap::from([("kiln.run".to_owned(), "r1".to_owned())]);
        engine.add_image_with("", ImageInfo { labels: labels.clone(), ..ImageInfo::default() });
        let other = engine.add_image("other");
        let nothing = ImageUndo { engine: address(), ..ImageUndo::default() };
        assert_eq!(undoer(&engine).undo(&nothing.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
        let entry = ImageUndo { labels, ..nothing }.entry();
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
        let left: Vec<String> = engine.images().into_iter().map(|image| image.id).collect();
        assert_eq!(left, [other]);
    }

    #[tokio::test]
    async fn a_name_goes_back_to_whom_it_was_taken_from() {
        let engine = Arc::new(FakeEngine::new());
        let old = engine.add_image("app:1");
        let new = engine.add_image("scratch:1");
        engine.tag(&new, "app", "1").await.unwrap();
        let imported = engine.add_image("import:1");
        let undo = |reference: &str, previous: Option<&String>, image: &String| {
            let (previous, image) = (previous.cloned(), Some(image.clone()));
            TagUndo { engine: address(), reference: reference.into(), previous, image, ..TagUndo::default() }.entry()
        };
        let entry = undo("import:1", Some(&old), &imported);
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
        assert!(engine.inspect_image(&imported).await.unwrap().is_none(), "without names nobody finds it again");
        let entry = undo("app:1", Some(&old), &new);
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
        assert_eq!(engine.inspect_image("app:1").await.unwrap().unwrap().id, old);
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
        let entry = undo("scratch:1", None, &new);
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
        assert!(engine.inspect_image("scratch:1").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_name_that_went_to_another_image_since_stays_with_it() {
        let engine = Arc::new(FakeEngine::new());
        let old = engine.add_image("");
        let killed = engine.add_image("");
        let newer = engine.add_image_with("app:1", ImageInfo { created: Some(1000), ..ImageInfo::default() });
        let undo = TagUndo { engine: address(), reference: "app:1".into(), previous: Some(old), ..TagUndo::default() };
        for undo in [
            TagUndo { image: Some(killed), ..undo.clone() },
            TagUndo { created_since: Some(1001), ..undo.clone() },
            undo.clone(),
        ] {
            assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
            assert_eq!(engine.inspect_image("app:1").await.unwrap().unwrap().id, newer);
        }
        let before = serde_json::json!({ "engine": address(), "reference": "app:1", "previous": null });
        let entry = Undo { data: before, ..undo.entry() };
        assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
        let undo = TagUndo { created_since: Some(1000), ..undo };
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
        assert_ne!(engine.inspect_image("app:1").await.unwrap().unwrap().id, newer);
    }

    #[tokio::test]
    async fn an_image_that_was_there_or_is_named_or_used_or_labelled_stays() {
        let engine = Arc::new(FakeEngine::new());
        let before = engine.add_image("");
        let named = engine.add_image("mine:1");
        let used = engine.add_image("");
        let labels = BTreeMap::from([("kiln.run".to_owned(), "other".to_owned())]);
        let other = engine.add_image_with("", ImageInfo { labels, ..ImageInfo::default() });
        engine.add_image("");
        let mut spec = ContainerSpec { name: "user".into(), ..ContainerSpec::default() };
        spec.config.image = Some(used.clone());
        engine.create_container(&spec).await.unwrap();
        let undo = ImageUndo {
            engine: address(),
            parent: Some("sha256:0".into()),
            comment: Some(String::new()),
            others: vec![before.clone()],
            ..ImageUndo::default()
        };
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
        let left: Vec<String> = engine.images().into_iter().map(|image| image.id).collect();
        assert_eq!(left, [before, named.clone(), used, other]);
        let undo = ImageUndo { id: Some(named), ..undo };
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
    }

    #[tokio::test]
    async fn a_container_of_the_same_name_made_at_another_time_stays() {
        let engine = Arc::new(FakeEngine::new());
        engine.add_image("debian");
        let mut spec = ContainerSpec { name: "mine".into(), ..ContainerSpec::default() };
        spec.config.image = Some("debian".into());
        let id = engine.create_container(&spec).await.unwrap().id;
        engine.date_container("mine", 10_000);
        for at in [0, 10_000 - 301, 10_000 + 301] {
            let undo = ContainerUndo { engine: address(), name: "mine".into(), at, ..ContainerUndo::default() };
            assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone, "{at}");
            let undo = ContainerUndo { id: Some("another".into()), at: 10_000, ..undo };
            assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone, "{at}");
        }
        let undo = ContainerUndo { engine: address(), name: "x".into(), id: Some(id), ..ContainerUndo::default() };
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
    }

    #[tokio::test]
    async fn a_finished_file_goes_only_if_it_is_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let (path, to) = (directory.path().join(".part"), directory.path().join("root.tar"));
        std::fs::write(&path, "one").unwrap();
        let finished = FinishedFile::new(&std::fs::metadata(&path).unwrap(), to.clone());
        let undo = FileUndo { path: path.clone(), finished: Some(finished) }.entry();
        let undoer = undoer(&Arc::new(FakeEngine::new()));
        std::fs::rename(&path, &to).unwrap();
        assert_eq!(undoer.undo(&undo).await.unwrap(), UndoOutcome::Removed);
        assert!(!to.exists());
        std::fs::write(&to, "other").unwrap();
        std::fs::write(&path, "one").unwrap();
        assert_eq!(undoer.undo(&undo).await.unwrap(), UndoOutcome::Removed);
        assert_eq!(undoer.undo(&undo).await.unwrap(), UndoOutcome::AlreadyGone);
        assert!(to.exists() && !path.exists());
    }

    #[tokio::test]
    async fn of_a_base_goes_what_its_own_steps_made_and_nobody_named() {
        let engine = Arc::new(FakeEngine::new());
        let first = engine.add_image_with("", ImageInfo::default());
        let second = engine.add_image_with("", ImageInfo::default());
        let named = engine.add_image("mine:1");
        let images = vec![first.clone(), named.clone(), second.clone()];
        let steps = DockerfileSteps { images, ..DockerfileSteps::default() };
        let data = BaseUndo { engine: address(), steps, at: 0 };
        assert_eq!(undoer(&engine).undo(&data.entry()).await.unwrap(), UndoOutcome::Removed);
        let left: Vec<String> = engine.images().into_iter().map(|image| image.id).collect();
        assert_eq!(left, [named]);
        let removals: Vec<String> = engine.calls().into_iter().filter(|call| call.starts_with("remove")).collect();
        assert_eq!(removals, [format!("remove_image_alone {second}"), format!("remove_image_alone {first}")]);
        assert_eq!(undoer(&engine).undo(&data.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
    }

    #[tokio::test(start_paused = true)]
    async fn an_image_whose_commit_still_runs_is_waited_for() {
        let engine = Arc::new(FakeEngine::new());
        engine.add_image("debian");
        let mut spec = ContainerSpec { name: "kiln-1".into(), ..ContainerSpec::default() };
        spec.config.image = Some("debian".into());
        engine.create_container(&spec).await.unwrap();
        engine.pause("kiln-1", true);
        let labels = BTreeMap::from([("kiln.run".to_owned(), "r1".to_owned())]);
        let data = ImageUndo { labels: labels.clone(), container: Some("kiln-1".into()), ..ImageUndo::default() };
        let undoer = undoer(&engine);
        let commit = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            engine.add_image_with("", ImageInfo { labels, ..ImageInfo::default() });
            engine.pause("kiln-1", false);
        };
        let entry = data.entry();
        let (undone, ()) = tokio::join!(undoer.undo(&entry), commit);
        assert_eq!(undone.unwrap(), UndoOutcome::Removed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_container_that_is_only_being_made_is_waited_for() {
        let engine = Arc::new(FakeEngine::new());
        engine.add_image("debian");
        let at = seconds_since_epoch();
        let data = ContainerUndo { engine: address(), name: "kiln-1".into(), at, ..ContainerUndo::default() };
        let undoer = undoer(&engine);
        let create = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut spec = ContainerSpec { name: "kiln-1".into(), ..ContainerSpec::default() };
            spec.config.image = Some("debian".into());
            engine.create_container(&spec).await.unwrap();
        };
        let entry = data.entry();
        let (undone, ()) = tokio::join!(undoer.undo(&entry), create);
        assert_eq!(undone.unwrap(), UndoOutcome::Removed);
    }
}
