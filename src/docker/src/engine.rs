//! The driver seam: everything kiln asks of a Docker engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use kiln_core::{Command, OutputSink, Terminal};
use kiln_registry::Credentials;

use crate::models;

/// Bytes on their way to or from the engine.
pub type ByteStream = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// Takes a line of a build's output.
pub type OnLine<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// What a pull or push tells while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferProgress {
    /// The layer's short id, or empty for the whole.
    pub item: String,
    /// `Downloading`, `Pushed`, ...
    pub status: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// Takes the progress of a transfer.
pub type OnProgress<'a> = &'a (dyn Fn(TransferProgress) + Send + Sync);

pub use crate::error::EngineError;
use crate::upgrade::Connection;

/// An image as the engine knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImageInfo {
    /// `sha256:...`.
    pub id: String,
    /// `name:tag`s.
    pub tags: Vec<String>,
    /// `name@sha256:...`s.
    pub digests: Vec<String>,
    /// `USER`; empty for root.
    pub user: String,
    /// `ENTRYPOINT`.
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    pub command: Option<Vec<String>>,
    /// `WORKDIR`.
    pub working_dir: String,
    /// `VOLUME`s.
    pub volumes: Vec<String>,
    /// `ENV`.
    pub environment: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// The comment it was committed with.
    pub comment: String,
    /// When it was made, in seconds since the epoch, where the engine says so.
    pub created: Option<i64>,
    /// Its layers, the lowest first: digests of their plain tars.
    pub layers: Vec<String>,
    /// All of its config, for making another image like it.
    pub config: models::ImageConfig,
}

/// An image in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedImage {
    /// `sha256:...`.
    pub id: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in seconds since the epoch.
    pub created: i64,
}

/// What a push left in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pushed {
    /// `sha256:...` of the manifest.
    pub digest: Option<String>,
}

/// An import of a root file system.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Repository to name it with.
    pub repository: Option<String>,
    /// Tag to name it with.
    pub tag: Option<String>,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// `linux/arm64`.
    pub platform: Option<String>,
}

/// What answers at the address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineVersion {
    /// `20.10.24`.
    pub version: String,
    /// `1.41`.
    pub api: String,
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
}

/// A build from a Dockerfile, by the engine's classic builder.
#[derive(Debug, Clone, Default)]
pub struct BuildRequest {
    /// The Dockerfile on this host; inside the context or not.
    pub dockerfile: PathBuf,
    /// The context on this host.
    pub context: PathBuf,
    /// `ARG`s.
    pub arguments: BTreeMap<String, String>,
    /// Labels of the image.
    pub labels: BTreeMap<String, String>,
    /// Look for newer base images.
    pub pull: bool,
    /// Send the context gzipped.
    pub compress: bool,
    /// The stage to build.
    pub target: Option<String>,
    /// Use nothing that was made before.
    pub no_cache: bool,
    /// Network of `RUN`.
    pub network: Option<String>,
    /// Images whose layers may be used.
    pub cache_from: Vec<String>,
    /// A line for `/etc/hosts` of `RUN`, `NAME:ADDRESS`.
    pub extra_host: Option<String>,
    /// Size of `/dev/shm` of `RUN`, in bytes.
    pub shm_size: Option<u64>,
    /// `linux/arm64`.
    pub platform: Option<String>,
    /// Logins by registry, for private base images.
    pub credentials: BTreeMap<String, Credentials>,
}

/// A container to make. The config is the Engine API's own, so that every flag of `docker run` has its place.
#[derive(Debug, Clone, Default)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// `linux/arm64`.
    pub platform: Option<String>,
    /// Everything else.
    pub config: models::ContainerCreateBody,
}

/// A container as made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: String,
    /// What the engine warns of.
    pub warnings: Vec<String>,
}

/// A container as the engine knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its id.
    pub id: String,
    /// Its name, without the slash in front.
    pub name: String,
    /// Its image's id.
    pub image: String,
    /// When it was made, in seconds since the epoch, where the engine says so.
    pub created: Option<i64>,
    /// Whether it runs.
    pub is_running: bool,
    /// Whether it is paused, as it is during a commit.
    pub is_paused: bool,
    /// The status its first process ended with, where it ended.
    pub exit_code: Option<i64>,
    /// Its first address, where it has one.
    pub address: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where something is mounted in it: path, and kind (`volume`, `bind`, `tmpfs`).
    pub mounts: Vec<(String, String)>,
    /// The volumes among them: path, and the engine's name of the volume.
    pub volumes: Vec<(String, String)>,
    /// Ports of it that the engine's host has too: `5432/tcp`, and the address and port there.
    pub ports: Vec<(String, String)>,
}

/// A network to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Nothing outside of it is reached from it.
    pub is_internal: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A network as the engine knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkInfo {
    /// Its id.
    pub id: String,
    /// Its name, which others may bear too.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A file in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathStat {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Where it leads to, for a symbolic link; absolute, all links followed as far as the engine does.
    pub link_target: Option<String>,
    /// Size in bytes.
    pub size: u64,
}

/// A commit.
#[derive(Debug, Clone, Default)]
pub struct CommitSpec {
    /// The container's id or name.
    pub container: String,
    /// Author.
    pub author: Option<String>,
    /// Comment.
    pub comment: Option<String>,
    /// Dockerfile instructions, applied to `config`.
    pub changes: Vec<String>,
    /// The image's config. What is absent here the engine takes from the container, save for empty lists.
    pub config: models::ContainerConfig,
}

/// Which images to find; all that is given must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFilter {
    /// Labels with these values.
    pub labels: BTreeMap<String, String>,
    /// Made from this image (id).
    pub parent: Option<String>,
    /// With this comment.
    pub comment: Option<String>,
    /// Not older than this, in seconds since the epoch.
    pub created_since: Option<i64>,
    /// A text in what its history says of its making.
    pub created_by: Option<String>,
}

/// A Docker engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// The address, for messages.
    fn address(&self) -> &str;

    /// Who answers there.
    async fn version(&self) -> Result<EngineVersion, EngineError>;

    /// An image by reference or id; `None` where it does not exist.
    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError>;

    /// Names an image.
    async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError>;

    /// Removes a name, or the image with its last name; returns whether it was there.
    async fn remove_image(&self, reference: &str, force: bool) -> Result<bool, EngineError>;

    /// Removes an image that nothing needs, by its id, and none of those it was made from; returns whether it was there.
    async fn remove_image_alone(&self, id: &str) -> Result<bool, EngineError>;

    /// Pushes one `repository:tag`. A refusal inside the engine's stream is an error.
    async fn push(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<Pushed, EngineError>;

    /// Pulls one image; without a tag `latest`. A refusal inside the engine's stream is an error.
    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), EngineError>;

    /// Writes images with their names as a tar archive; streamed, the file is made new.
    async fn save(&self, references: &[String], to: &Path) -> Result<(), EngineError>;

    /// Takes over the images of an archive as [`Engine::save`] writes it, with their names; streamed. Returns the ids of
    /// those without a name, which differ from those of another engine where one has containerd's image store.
    async fn load(&self, archive: &Path) -> Result<Vec<String>, EngineError>;

    /// Makes an image from a root file system's tar; returns its id.
    async fn import(&self, tar: &Path, options: &ImportOptions) -> Result<String, EngineError>;

    /// Builds an image from a Dockerfile; returns its id.
    async fn build_image(&self, request: &BuildRequest, on_line: OnLine<'_>) -> Result<String, EngineError>;

    /// A connection to a part of the engine that is not asked in HTTP: `/grpc` and `/session` of its BuildKit. An engine
    /// without it refuses.
    async fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Result<Connection, EngineError> {
        let _ = headers;
        let message = "the engine has no BuildKit".to_owned();
        Err(EngineError::Refused { action: format!("open {path}"), message, status: Some(404) })
    }

    /// Ids of the images that fit.
    async fn find_images(&self, filter: &ImageFilter) -> Result<Vec<String>, EngineError>;

    /// The images that bear a label of this name, whatever its value.
    async fn labelled_images(&self, label: &str) -> Result<Vec<ListedImage>, EngineError>;

    /// The digest that the registry has for a reference now, of the index where there is one; `None` where the engine cannot
    /// ask. Nothing is pulled.
    async fn registry_digest(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError>;

    /// The same, but what the engine cannot ask is an error: `None` means that the registry has no such image.
    async fn registry_has(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError>;

    /// Makes a container; its image must be there.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<Created, EngineError>;

    /// Starts a container.
    async fn start_container(&self, container: &str) -> Result<(), EngineError>;

    /// A container by name or id; `None` where it does not exist.
    async fn inspect_container(&self, container: &str) -> Result<Option<ContainerInfo>, EngineError>;

    /// Ids of the containers, running or not, that bear all of these labels.
    async fn find_containers(&self, labels: &BTreeMap<String, String>) -> Result<Vec<String>, EngineError>;

    /// Kills and removes a container with its anonymous volumes; returns whether it was there.
    async fn remove_container(&self, container: &str) -> Result<bool, EngineError>;

    /// The last `lines` lines that a container's first process printed, in their order, not marked by where they went.
    async fn log(&self, container: &str, lines: usize) -> Result<Vec<u8>, EngineError>;

    /// What a container's first process prints, from its beginning to its end, which is waited for.
    async fn follow(&self, container: &str, sink: &mut dyn OutputSink) -> Result<(), EngineError>;

    /// Makes a network of the kind `bridge`; returns its id.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError>;

    /// The networks that bear all of these labels.
    async fn find_networks(&self, labels: &BTreeMap<String, String>) -> Result<Vec<NetworkInfo>, EngineError>;

    /// Lets a container take part in one more network.
    async fn connect_network(&self, network: &str, container: &str) -> Result<(), EngineError>;

    /// Removes a network by its id; returns whether it was there. One that containers take part in stays, with an error.
    async fn remove_network(&self, id: &str) -> Result<bool, EngineError>;

    /// Runs a command in a running container and returns its exit status. `command.stdin` is not looked at: `input` is
    /// what it reads. With `command.pty` all output comes as standard output.
    async fn exec(
        &self,
        container: &str,
        command: &Command,
        input: Option<ByteStream>,
        sink: &mut dyn OutputSink,
    ) -> Result<i64, EngineError>;

    /// Runs a command on a terminal that a person sits at, and returns its exit status.
    async fn interact(&self, container: &str, command: &Command, terminal: Terminal) -> Result<i64, EngineError>;

    /// The processes that run in a container, as command lines; the first one is among them.
    async fn processes(&self, container: &str) -> Result<Vec<String>, EngineError>;

    /// How many bytes a container's own files take, beside its image.
    async fn container_size(&self, container: &str) -> Result<u64, EngineError>;

    /// Unpacks a tar in a directory of a container; numeric owners and modes are kept, missing parents are created.
    async fn put_archive(&self, container: &str, directory: &str, tar: ByteStream) -> Result<(), EngineError>;

    /// A file or directory of a container as a tar whose first component is its base name.
    async fn get_archive(&self, container: &str, path: &str) -> Result<ByteStream, EngineError>;

    /// Looks at a path of a container; `None` where it does not exist.
    async fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>, EngineError>;

    /// Makes an image from a container, which is paused meanwhile; returns its id.
    async fn commit(&self, spec: &CommitSpec) -> Result<String, EngineError>;

    /// Writes a container's file system as a tar; streamed, the file is made new. Returns its size in bytes.
    async fn export(&self, container: &str, to: &Path) -> Result<u64, EngineError>;
}
