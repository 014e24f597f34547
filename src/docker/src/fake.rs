//! An engine in memory for tests: records every call as one line and answers from a simple state.

mod calls;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::{CommitSpec, ContainerInfo, ContainerSpec, EngineError, ImageInfo, NetworkInfo};

/// The digest that a push to the fake gives.
pub const PUSHED_DIGEST: &str = "sha256:d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1";

/// What a command in a fake container does.
#[derive(Debug, Clone, Default)]
pub struct ExecReply {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit status.
    pub status: i64,
}

#[derive(Default)]
struct State {
    images: Vec<ImageInfo>,
    remote: BTreeMap<String, ImageInfo>,
    containers: Vec<(ContainerInfo, ContainerSpec)>,
    networks: Vec<NetworkInfo>,
    logs: BTreeMap<String, Vec<u8>>,
    archives: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
    directories: BTreeSet<String>,
    commits: Vec<CommitSpec>,
    uploads: Vec<(String, Vec<u8>)>,
    calls: Vec<String>,
    failures: VecDeque<(String, EngineError)>,
    execs: VecDeque<ExecReply>,
    processes: Vec<String>,
    container_size: u64,
    made: u64,
}

/// The engine. All containers share one set of files.
#[derive(Default)]
pub struct FakeEngine {
    state: Mutex<State>,
}

impl std::fmt::Debug for FakeEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("FakeEngine").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl State {
    fn next_id(&mut self) -> String {
        self.made += 1;
        format!("{:064x}", self.made)
    }

    fn image(&self, reference: &str) -> Option<usize> {
        let full = with_tag(reference);
        self.images.iter().position(|image| {
            image.id == reference
                || image.id.strip_prefix("sha256:").is_some_and(|id| reference.len() >= 12 && id.starts_with(reference))
                || image.tags.contains(&full)
                || image.digests.iter().any(|digest| digest == reference)
        })
    }

    fn container(&self, name: &str) -> Option<usize> {
        self.containers.iter().position(|(info, _)| info.id == name || info.name == name)
    }

    /// Moves a name to an image, as the engine does: whoever bore it loses it.
    fn name(&mut self, index: usize, name: String) {
        for image in &mut self.images {
            image.tags.retain(|tag| *tag != name);
        }
        self.images[index].tags.push(name);
    }
}

/// The reference with `:latest` where it has no tag.
fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

impl FakeEngine {
    /// An engine without images.
    pub fn new() -> FakeEngine {
        FakeEngine::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an image into the store under a name; returns its id.
    pub fn add_image(&self, reference: &str) -> String {
        self.add_image_with(reference, ImageInfo { os: "linux".into(), ..ImageInfo::default() })
    }

    /// Puts an image with this config into the store under a name; returns its id, a new one where it has none.
    pub fn add_image_with(&self, reference: &str, mut image: ImageInfo) -> String {
        let mut state = self.state();
        if image.id.is_empty() {
            image.id = format!("sha256:{}", state.next_id());
        }
        image.created = image.created.or_else(now);
        let id = image.id.clone();
        state.images.push(image);
        let index = state.images.len() - 1;
        if !reference.is_empty() {
            state.name(index, with_tag(reference));
        }
        id
    }

    /// Makes an image that a pull finds.
    pub fn add_remote_image(&self, reference: &str, image: ImageInfo) {
        self.state().remote.insert(with_tag(reference), image);
    }

    /// Puts a file into all containers.
    pub fn add_file(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.state().files.insert(path.to_owned(), content.into());
    }

    /// Puts a directory into all containers.
    pub fn add_directory(&self, path: &str) {
        self.state().directories.insert(path.to_owned());
    }

    /// Sets the archive that saving an image gives, instead of a file that none can read.
    pub fn set_archive(&self, id: &str, archive: Vec<u8>) {
        self.state().archives.insert(id.to_owned(), archive);
    }

    /// Lets the next call whose line begins with this text fail.
    pub fn fail_next(&self, call: &str, error: EngineError) {
        self.state().failures.push_back((call.to_owned(), error));
    }

    /// Pauses a container, or lets it go on.
    pub fn pause(&self, container: &str, is_paused: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = state.container(container) {
            state.containers[index].0.is_paused = is_paused;
        }
    }

    /// Dates a container back, or forward.
    pub fn date_container(&self, container: &str, created: i64) {
        let mut state = self.state();
        if let Some(index) = state.container(container) {
            state.containers[index].0.created = Some(created);
        }
    }

    /// Answers the next command not answered yet; without one a command exits with 0.
    pub fn on_exec(&self, reply: ExecReply) {
        self.state().execs.push_back(reply);
    }

    /// Sets what a container of this name has printed.
    pub fn set_log(&self, container: &str, log: &str) {
        self.state().logs.insert(container.to_owned(), log.as_bytes().to_vec());
    }

    /// Ends a container's first process with this status.
    pub fn end(&self, container: &str, status: i64) {
        let mut state = self.state();
        if let Some(index) = state.container(container) {
            let info = &mut state.containers[index].0;
            (info.is_running, info.exit_code) = (false, Some(status));
        }
    }

    /// The networks that were made.
    pub fn networks(&self) -> Vec<NetworkInfo> {
        self.state().networks.clone()
    }

    /// Sets what runs in all containers, beside their first process.
    pub fn set_processes(&self, processes: &[&str]) {
        self.state().processes = processes.iter().map(|line| (*line).to_owned()).collect();
    }

    /// Sets how large all containers are, in bytes.
    pub fn set_container_size(&self, size: u64) {
        self.state().container_size = size;
    }

    /// All calls so far, in order, one line each: `tag sha256:00.. repository tag`, `push repository:tag as user`.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The calls that change something: all that do not merely look.
    pub fn changes(&self) -> Vec<String> {
        let reads = ["inspect", "stat", "find", "version", "processes", "container_size", "registry_digest"];
        self.calls().into_iter().filter(|call| !reads.iter().any(|read| call.starts_with(read))).collect()
    }

    /// The images in the store.
    pub fn images(&self) -> Vec<ImageInfo> {
        self.state().images.clone()
    }

    /// The containers there are, with what they were made from.
    pub fn containers(&self) -> Vec<(ContainerInfo, ContainerSpec)> {
        self.state().containers.clone()
    }

    /// The commits so far.
    pub fn commits(&self) -> Vec<CommitSpec> {
        self.state().commits.clone()
    }

    /// The tars put into containers, with the directory each was unpacked in.
    pub fn uploads(&self) -> Vec<(String, Vec<u8>)> {
        self.state().uploads.clone()
    }

    /// Records a call and fails it if it was told to.
    fn call(&self, line: String) -> Result<MutexGuard<'_, State>, EngineError> {
        let mut state = self.state();
        let failure = state.failures.iter().position(|(call, _)| line.starts_with(call.as_str()));
        state.calls.push(line);
        match failure.and_then(|index| state.failures.remove(index)) {
            Some((_, error)) => Err(error),
            None => Ok(state),
        }
    }
}

fn now() -> Option<i64> {
    i64::try_from(crate::undo::seconds_since_epoch()).ok()
}

fn missing(what: &str, name: &str) -> EngineError {
    EngineError::NotFound { what: format!("{what} {name}"), message: format!("No such {what}: {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;

    #[tokio::test]
    async fn a_name_moves_and_the_last_name_takes_the_image_with_it() {
        let engine = FakeEngine::new();
        let old = engine.add_image("app:1");
        let new = engine.add_image("app:2");
        engine.tag(&new, "app", "1").await.unwrap();
        assert_eq!(engine.inspect_image("app:1").await.unwrap().unwrap().id, new);
        assert!(engine.inspect_image(&old).await.unwrap().unwrap().tags.is_empty());
        assert!(engine.remove_image("app:1", false).await.unwrap());
        assert!(engine.inspect_image("app:2").await.unwrap().is_some());
        assert!(engine.remove_image("app:2", false).await.unwrap());
        assert!(!engine.remove_image("app:2", false).await.unwrap());
        assert_eq!(engine.changes()[0], format!("tag {new} app 1"));
    }

    #[tokio::test]
    async fn a_call_fails_once_when_told_to() {
        let engine = FakeEngine::new();
        engine.add_image("app:1");
        let refusal = EngineError::Refused { action: "push".into(), message: "denied".into(), status: None };
        engine.fail_next("push app:1", refusal);
        let ignore = |_| ();
        assert_eq!(engine.push("app:1", None, None, &ignore).await.unwrap_err().to_string(), "push failed: denied");
        assert!(engine.push("app:1", None, None, &ignore).await.is_ok());
    }
}
