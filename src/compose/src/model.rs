//! Projects as they are used here: services, their images, their named volumes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_core::Span;

/// What runs a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `docker compose` or `docker-compose`.
    Compose,
    /// `ddev`.
    Ddev,
}

/// A text with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// With the values of its variables.
    pub text: String,
    /// Where it is written.
    pub span: Span,
}

/// Services that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// What runs it.
    pub tool: Tool,
    /// As the user calls it: DDEV's site name, or compose's project name.
    pub name: String,
    /// The label `com.docker.compose.project` of its containers.
    pub label: String,
    /// Where its tool is started.
    pub directory: PathBuf,
    /// The files that make it up, in the order in which they are merged.
    pub files: Vec<PathBuf>,
    /// Its services, in the order of the text.
    pub services: Vec<Service>,
    /// Its named volumes, by the key that services use: the engine's name of each.
    pub volumes: BTreeMap<String, String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `image`.
    pub image: Option<Placed>,
    /// What an image of its own is built upon, where it has `build`.
    pub bases: Vec<Base>,
    /// Whether an image of its own is built.
    pub is_built: bool,
    /// `platform`.
    pub platform: Option<Placed>,
    /// `pull_policy`.
    pub pull_policy: Option<Placed>,
    /// Whether it is started only when it is asked for: it has `profiles`, none of which `COMPOSE_PROFILES` names.
    pub is_off: bool,
    /// Named volumes.
    pub mounts: Vec<Mount>,
}

/// An image that a service's own image is built upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The image.
    pub image: String,
    /// Where that is written, in the compose file.
    pub span: Span,
}

/// A named volume in a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its key in the project's volumes.
    pub volume: String,
    /// Where it is in the container.
    pub target: String,
    /// Where that is written.
    pub span: Span,
}
