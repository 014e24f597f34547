//! What a build leaves behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::context::BuildContext;
use crate::event::ArtifactSummary;
use crate::failure::Failure;

/// A container image: in an engine's store, or in an OCI layout of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:...`, the id of its config.
    pub id: String,
    /// Names it bears, in the order given, each once; they accumulate along a chain of post-processors.
    pub tags: Vec<String>,
    /// `sha256:...` of the manifest: in a registry after a push; of an image in a layout always.
    pub digest: Option<String>,
    /// The OCI layout that holds it, named by its digest; `None` for an image in an engine's store.
    pub layout: Option<PathBuf>,
}

/// What kind of thing it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// An image.
    Image(Image),
    /// Files on this host.
    Files(Vec<PathBuf>),
    /// Nothing (a `discard`ed container).
    Nothing,
}

/// A value of `artifact.BUILD.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArtifactValue {
    /// One text.
    Text(String),
    /// Several, in order.
    List(Vec<String>),
    /// By name.
    Map(BTreeMap<String, String>),
}

/// The shape of an [`ArtifactValue`], known before there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArtifactShape {
    /// One text.
    Text,
    /// Several, in order.
    List,
    /// By name.
    Map,
}

/// Values of `artifact.BUILD.*`, by the names of [`ARTIFACT_VALUES`]; one that is missing is null.
pub type ArtifactValues = BTreeMap<&'static str, ArtifactValue>;

/// What `artifact.BUILD.*` has, whatever the builder: name, shape, and what it is.
pub const ARTIFACT_VALUES: [(&str, ArtifactShape, &str); 6] = [
    (
        "image",
        ArtifactShape::Text,
        "The id of the image, `sha256:...`: what `image` of `docker` and `from` of `oci` take.",
    ),
    (
        "digest",
        ArtifactShape::Text,
        "The digest of the image's manifest, where it has one: always with `oci`, with `docker` after a push.",
    ),
    ("id", ArtifactShape::Text, "The artifact's id as `manifest` writes it."),
    ("tags", ArtifactShape::List, "The names that the image bears."),
    ("files", ArtifactShape::List, "The files that it consists of."),
    ("amis", ArtifactShape::Map, "The AMIs, by region."),
];

/// Builder id of AMIs, whose artifacts are called `REGION:AMI,REGION:AMI`.
const AMAZON_EBS: &str = "mitchellh.amazonebs";

/// Can remove an artifact that is not kept.
#[async_trait]
pub trait ArtifactOwner: Send + Sync {
    /// How long removing it may take.
    fn removal_limit(&self) -> std::time::Duration {
        crate::journal::REMOVAL_LIMIT
    }

    /// Removes it; an artifact that is gone already is no error.
    async fn destroy(&self, artifact: &Artifact, context: &BuildContext) -> Result<(), Failure>;
}

/// The result of a build or post-processor.
#[derive(Clone)]
pub struct Artifact {
    /// Packer's builder id (`packer.docker`, `packer.post-processor.docker-tag`, ...): post-processors check it.
    pub builder_id: String,
    /// Its id as Packer's manifest shows it.
    pub id: String,
    /// One line for people, e.g. `Imported Docker image: sha256:...`.
    pub description: String,
    /// What it is.
    pub content: Content,
    /// Who can remove it; `None` where nothing is to be removed.
    pub owner: Option<Arc<dyn ArtifactOwner>>,
}

impl std::fmt::Debug for Artifact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Artifact")
            .field("builder_id", &self.builder_id)
            .field("id", &self.id)
            .field("content", &self.content)
            .finish_non_exhaustive()
    }
}

impl Artifact {
    /// The image, if it is one.
    pub fn image(&self) -> Option<&Image> {
        match &self.content {
            Content::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The files, if it has any.
    pub fn files(&self) -> &[PathBuf] {
        match &self.content {
            Content::Files(files) => files,
            _ => &[],
        }
    }

    /// What builds that are built upon it may use.
    pub fn values(&self) -> ArtifactValues {
        let mut values = ArtifactValues::new();
        values.insert("id", ArtifactValue::Text(self.id.clone()));
        match &self.content {
            Content::Image(image) => {
                values.insert("image", ArtifactValue::Text(image.id.clone()));
                values.insert("tags", ArtifactValue::List(image.tags.clone()));
                values.extend(image.digest.clone().map(|digest| ("digest", ArtifactValue::Text(digest))));
            }
            Content::Files(files) => {
                let files = files.iter().map(|path| path.display().to_string()).collect();
                values.insert("files", ArtifactValue::List(files));
            }
            Content::Nothing => {}
        }
        if self.builder_id == AMAZON_EBS {
            let pair = |text: &str| text.split_once(':').map(|(region, ami)| (region.to_owned(), ami.to_owned()));
            values.insert("amis", ArtifactValue::Map(self.id.split(',').filter_map(pair).collect()));
        }
        values
    }

    /// As events and the closing table show it.
    pub fn summary(&self) -> ArtifactSummary {
        let image = self.image();
        ArtifactSummary {
            builder_id: self.builder_id.clone(),
            id: self.id.clone(),
            description: self.description.clone(),
            tags: image.map(|image| image.tags.clone()).unwrap_or_default(),
            digest: image.and_then(|image| image.digest.clone()),
            files: self.files().iter().map(|path| path.display().to_string()).collect(),
        }
    }
}
