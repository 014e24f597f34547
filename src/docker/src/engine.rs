//! The driver seam: everything kiln asks of a Docker engine.

use std::path::Path;

use async_trait::async_trait;
use kiln_registry::Credentials;

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

/// Why an engine's call failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers at the address.
    #[error("no Docker engine answers at {address}")]
    Unreachable {
        /// The address tried.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The thing asked for does not exist.
    #[error("{what} does not exist")]
    NotFound {
        /// `image debian:bookwurm`, `container 4f1c`.
        what: String,
        /// The engine's own words.
        message: String,
    },
    /// The engine or the registry behind it refused: its own words.
    #[error("{action} failed: {message}")]
    Refused {
        /// `pull debian:bookworm`, `commit`.
        action: String,
        /// The engine's own words.
        message: String,
        /// The HTTP status, where there was one.
        status: Option<u16>,
    },
    /// The connection broke.
    #[error("{action} failed")]
    Connection {
        /// What was under way.
        action: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of this host.
    #[error("cannot {action} {path}")]
    Local {
        /// `read`, `write`.
        action: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

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
    pub labels: std::collections::BTreeMap<String, String>,
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
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

/// A Docker engine. (Calls for containers stand in the same trait; `builders/docker` uses them.)
#[async_trait]
pub trait Engine: Send + Sync {
    /// The address, for messages.
    fn address(&self) -> &str;

    /// An image by reference or id; `None` where it does not exist.
    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError>;

    /// Names an image.
    async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError>;

    /// Removes a name, or the image with its last name; returns whether it was there.
    async fn remove_image(&self, reference: &str, force: bool) -> Result<bool, EngineError>;

    /// Pushes one `repository:tag`. A refusal inside the engine's stream is an error.
    async fn push(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<Pushed, EngineError>;

    /// Writes images with their names as a tar archive; streamed, the file is made new.
    async fn save(&self, references: &[String], to: &Path) -> Result<(), EngineError>;

    /// Makes an image from a root file system's tar; returns its id.
    async fn import(&self, tar: &Path, options: &ImportOptions) -> Result<String, EngineError>;
}
