//! Why a post-processor failed.

use std::path::{Path, PathBuf};

use kiln_core::{Artifact, Content, Failure, FailureClass};
use kiln_docker::EngineError;
use kiln_gotemplate::RenderError;
use kiln_registry::{CredentialError, ReferenceError};

/// Why a post-processor failed.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It wants an image and got something else.
    #[error("{processor} takes a container image, and this artifact ({builder_id}) is {what}")]
    NotAnImage {
        /// `docker-push`.
        processor: &'static str,
        /// Who made the artifact.
        builder_id: String,
        /// `files` or `nothing`.
        what: &'static str,
    },
    /// It wants files and got none.
    #[error("{processor} takes files, and this artifact ({builder_id}) has none")]
    NoFiles {
        /// `compress`.
        processor: &'static str,
        /// Who made the artifact.
        builder_id: String,
    },
    /// It wants one file and got several.
    #[error("{processor} takes one file, and this artifact has {count}")]
    NotOneFile {
        /// `docker-import`, or `compress` with the format in words.
        processor: String,
        /// How many.
        count: usize,
    },
    /// The image has no name that a registry could take.
    #[error("docker-push has nothing to push: the image {id} has no name")]
    NoName {
        /// The image's id.
        id: String,
    },
    /// An image in a layout of this host.
    #[error("cannot {action}")]
    Layout {
        /// What was tried, as a verb.
        action: String,
        /// Why.
        source: kiln_image::ImageError,
    },
    /// Images of several platforms, where there is room for one.
    #[error("{processor} writes the image of one platform, and this is an index of {platforms}")]
    Index {
        /// Who refuses.
        processor: &'static str,
        /// Which there are.
        platforms: String,
    },
    /// An image of an index, which its engine does not hand out.
    #[error("cannot take the image for {platform} over from the engine")]
    TakeOver {
        /// Which one.
        platform: String,
        /// Why.
        source: kiln_docker::TakeOverError,
    },
    /// An image that was made for another platform.
    #[error("the image is for {found}, not for {wanted}")]
    Platform {
        /// What `platform` says.
        wanted: String,
        /// What its config says.
        found: String,
    },
    /// A registry does not take it.
    #[error("cannot push {references}")]
    Registry {
        /// The names.
        references: String,
        /// Why.
        source: kiln_registry::RegistryError,
    },
    /// A registry does not say what a name means there.
    #[error("cannot find out whether {reference} is in its registry")]
    Unknown {
        /// The name.
        reference: String,
        /// Why.
        source: kiln_registry::RegistryError,
    },
    /// A name that looks as if it never moved means another image.
    #[error("{reference} is in its registry and means {found}, and this is {ours}; nothing was pushed")]
    Moved {
        /// The name.
        reference: String,
        /// The digest that it means.
        found: String,
        /// The digest of what was to be pushed, or its id where it has none yet.
        ours: String,
    },
    /// A name that is none.
    #[error("cannot use the image's name `{name}`")]
    Name {
        /// The name.
        name: String,
        /// Why.
        source: ReferenceError,
    },
    /// `artifice` found nothing.
    #[error("no file matches {patterns}")]
    NothingMatched {
        /// All of them, quoted.
        patterns: String,
    },
    /// A pattern that is none.
    #[error("`{pattern}` is not a pattern for files")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// Why.
        source: globset::Error,
    },
    /// A Go template text that a post-processor renders itself.
    #[error("cannot render `{argument}`")]
    Template {
        /// `output`.
        argument: &'static str,
        /// Why.
        source: RenderError,
    },
    /// Such a text needs a value that this build does not have.
    #[error("`{argument}` needs a value of the machine that this builder does not give")]
    Unrendered {
        /// `output`.
        argument: &'static str,
    },
    /// A file of this host.
    #[error("cannot {action} {path}")]
    File {
        /// `read`, `write`, `rename`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the artifact changed while it was read.
    #[error("{path} changed while it was read")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The output would replace what it is made of.
    #[error("the output {path} is one of the artifact's own files")]
    OutputIsInput {
        /// The file.
        path: PathBuf,
    },
    /// Two files would bear one name in the archive.
    #[error("the archive would hold two files named `{name}`")]
    SameName {
        /// The name.
        name: String,
    },
    /// An archive cannot be written.
    #[error("cannot write the archive {path}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        source: zip::result::ZipError,
    },
    /// Another process holds a lock for long.
    #[error("waited {seconds} seconds for {path}, which another build holds")]
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// The bound.
        seconds: u64,
    },
    /// A manifest that is none.
    #[error("{path} is not a manifest: {problem}")]
    BrokenManifest {
        /// The file.
        path: PathBuf,
        /// `line 3, column 1 is not JSON`.
        problem: String,
    },
    /// Credentials cannot be read.
    #[error("cannot look up the login for {registry}")]
    Credentials {
        /// Whose.
        registry: String,
        /// Why.
        source: CredentialError,
    },
    /// The engine refused or is gone.
    #[error("cannot {action}")]
    Engine {
        /// `tag the image as group/image:1`.
        action: String,
        /// Why.
        source: EngineError,
    },
    /// A push failed for good.
    #[error("cannot push {reference}{after}")]
    Push {
        /// The name.
        reference: String,
        /// Empty, or ` after 4 tries`.
        after: String,
        /// Why.
        source: EngineError,
    },
    /// The user stopped it.
    #[error("cancelled")]
    Cancelled,
    /// A worker thread ended early.
    #[error("the thread that worked on {path} ended early")]
    Worker {
        /// The file it worked on.
        path: PathBuf,
        /// Why.
        source: tokio::task::JoinError,
    },
}

impl PublishError {
    /// For `map_err` on a call that touches an image in a layout.
    pub(crate) fn layout(action: impl Into<String>) -> impl FnOnce(kiln_image::ImageError) -> PublishError {
        let action = action.into();
        move |source| PublishError::Layout { action, source }
    }

    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PublishError {
        let path = path.to_path_buf();
        move |source| PublishError::File { action, path, source }
    }

    /// For `map_err` on calls of the engine.
    pub(crate) fn engine(action: impl Into<String>) -> impl FnOnce(EngineError) -> PublishError {
        let action = action.into();
        move |source| PublishError::Engine { action, source }
    }

    /// An artifact that is no image.
    pub(crate) fn not_an_image(processor: &'static str, artifact: &Artifact) -> PublishError {
        let what = match artifact.content {
            Content::Files(_) => "files",
            Content::Image(_) => "an image",
            Content::Nothing => "nothing",
        };
        PublishError::NotAnImage { processor, builder_id: artifact.builder_id.clone(), what }
    }

    fn class(&self) -> FailureClass {
        match self {
            PublishError::Cancelled => FailureClass::Cancelled,
            PublishError::Worker { .. } => FailureClass::Bug,
            PublishError::Credentials { .. } | PublishError::Unknown { .. } => FailureClass::Environment,
            PublishError::Registry { source, .. } if source.is_environment() => FailureClass::Environment,
            PublishError::Engine { source: EngineError::Unreachable { .. } | EngineError::Address { .. }, .. }
            | PublishError::Push { source: EngineError::Unreachable { .. } | EngineError::Address { .. }, .. } => {
                FailureClass::Environment
            }
            _ => FailureClass::Build,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            PublishError::NotAnImage { what: "files", .. } => {
                "Turn the files into an image first, with docker-import in the same chain."
            }
            PublishError::NotAnImage { .. } => "Let the source commit an image (`commit = true`).",
            PublishError::Index { .. } => {
                "docker-push brings all platforms to a registry, and `oci_layout` of an oci source writes them to files."
            }
            PublishError::NoFiles { .. } => {
                "Name the files with artifice in the same chain, or let the source export one (`export_path`)."
            }
            PublishError::NotOneFile { .. } => {
                "Choose one with artifice, or write an archive format such as `.tar.gz`."
            }
            PublishError::NoName { .. } => "Put docker-tag before docker-push in the same `post-processors` chain.",
            PublishError::Moved { .. } => {
                "Give the new image a tag of its own; `-force` moves this one, and `immutable_tags = \"off\"` in docker-push never asks."
            }
            PublishError::OutputIsInput { .. } => "Give `output` another name.",
            PublishError::SameName { .. } => "Write a zip archive, which keeps the files' directories.",
            PublishError::BrokenManifest { .. } => {
                "Mend or remove the file; kiln does not overwrite what it cannot read."
            }
            PublishError::NothingMatched { .. } => "The patterns are relative to the directory that kiln runs in.",
            _ => return None,
        })
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Failure {
        if matches!(error, PublishError::Cancelled) {
            return Failure::cancelled();
        }
        let mut hints: Vec<String> = error.hint().map(str::to_owned).into_iter().collect();
        if let PublishError::Engine { source, .. } = &error {
            hints.extend(source.hints());
        }
        hints.into_iter().fold(Failure::new(error.class(), error), Failure::hint)
    }
}
