//! What a build leaves behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::context::BuildContext;
use crate::event::ArtifactSummary;
use crate::failure::Failure;
use crate::platform::Platform;

/// A container image: in an engine's store, or in an OCI layout of this host; or an index of such images, one for each
/// platform.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:...`, the id of its config. Of an index, its digest where it has one; else the id of the variant that runs
    /// on this host, or of the first.
    pub id: String,
    /// Names it bears, in the order given, each once; they accumulate along a chain of post-processors.
    pub tags: Vec<String>,
    /// `sha256:...` of the manifest: in a registry after a push; of an image in a layout always.
    pub digest: Option<String>,
    /// The OCI layout that holds it, named by its digest; `None` for an image in an engine's store.
    pub layout: Option<PathBuf>,
    /// The address of the engine that holds it, where it lies in one; `None` for the engine that all builds use. Of an index
    /// that of its image for this host.
    pub engine: Option<String>,
    /// Of an index, its images in the order of the index; empty for an image.
    pub variants: Vec<Variant>,
}

impl Image {
    /// Whether it is an index of images for several platforms.
    pub fn is_index(&self) -> bool {
        !self.variants.is_empty()
    }

    /// An index of these images. None of them is copied, and it has no digest yet.
    pub fn index_of(variants: Vec<Variant>) -> Image {
        let host = Platform::host();
        let own = variants.iter().find(|variant| variant.platform.is(&host)).or(variants.first());
        let id = own.map(|variant| variant.image.id.clone()).unwrap_or_default();
        let engine = own.and_then(|variant| variant.image.engine.clone());
        Image { id, engine, variants, ..Image::default() }
    }

    /// The variant of an index for this host's platform.
    pub fn for_host(&self) -> Option<&Variant> {
        let host = Platform::host();
        self.variants.iter().find(|variant| variant.platform.is(&host))
    }
}

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// What it runs on.
    pub platform: Platform,
    /// The image.
    pub image: Image,
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

/// Values of `artifact.BUILD.*`, by the names of [`ARTIFACT_VALUES`]; one that is missing is null. Beside them stands
/// where an image lies, which no template sees.
pub type ArtifactValues = BTreeMap<&'static str, ArtifactValue>;

/// What `artifact.BUILD.*` has, whatever the builder: name, shape, and what it is.
pub const ARTIFACT_VALUES: [(&str, ArtifactShape, &str); 7] = [
    (
        "image",
        ArtifactShape::Text,
        "The id of the image, `sha256:...`: what `image` of `docker` and `from` of `oci` take. Of a build with `platforms`, the one for the platform of the build that asks.",
    ),
    ("images", ArtifactShape::Map, "Of a build with `platforms`, the ids of its images, by platform."),
    (
        "digest",
        ArtifactShape::Text,
        "The digest of the image's manifest, or of the index of all `platforms`, where it has one: always with `oci`, with `docker` after a push.",
    ),
    ("id", ArtifactShape::Text, "The artifact's id as `manifest` writes it."),
    ("tags", ArtifactShape::List, "The names that the image bears."),
    ("files", ArtifactShape::List, "The files that it consists of."),
    ("amis", ArtifactShape::Map, "The AMIs, by region."),
];

/// Where an image lies: names of [`ArtifactValues`] that no template sees.
const LAYOUT: &str = "layout";
const ENGINE: &str = "engine";

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
            Content::Image(image) => image.add_values(&mut values),
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
            platforms: image.map(Image::ids_by_platform).unwrap_or_default(),
        }
    }
}

impl Image {
    /// Of an index: the ids of its images by platform.
    fn ids_by_platform(&self) -> BTreeMap<String, String> {
        self.variants.iter().map(|variant| (variant.platform.to_string(), variant.image.id.clone())).collect()
    }

    fn add_values(&self, values: &mut ArtifactValues) {
        if self.is_index() {
            // There is no one image; the build that asks gets the one for its own platform, from the build that made it.
            values.insert("images", ArtifactValue::Map(self.ids_by_platform()));
        } else {
            values.insert("image", ArtifactValue::Text(self.id.clone()));
        }
        values.insert("tags", ArtifactValue::List(self.tags.clone()));
        values.extend(self.digest.clone().map(|digest| ("digest", ArtifactValue::Text(digest))));
        let layout = self.layout.as_ref().map(|layout| layout.display().to_string());
        values.extend(layout.map(|layout| (LAYOUT, ArtifactValue::Text(layout))));
        values.extend(self.engine.clone().map(|engine| (ENGINE, ArtifactValue::Text(engine))));
    }

    /// The image that a build left with these values; `None` where it left none.
    pub fn from_values(values: &ArtifactValues) -> Option<Image> {
        let text = |name: &str| match values.get(name) {
            Some(ArtifactValue::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let tags = match values.get("tags") {
            Some(ArtifactValue::List(tags)) => tags.clone(),
            _ => Vec::new(),
        };
        Some(Image {
            id: text("image")?,
            tags,
            digest: text("digest"),
            layout: text(LAYOUT).map(PathBuf::from),
            engine: text(ENGINE),
            variants: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(platform: &str, id: &str) -> Variant {
        let image = Image { id: id.to_owned(), ..Image::default() };
        Variant { platform: Platform::parse(platform).unwrap(), image }
    }

    #[test]
    fn what_a_build_left_is_read_back_from_its_values() {
        let image = Image {
            id: "sha256:aa".into(),
            tags: vec!["a:1".into()],
            digest: Some("sha256:bb".into()),
            layout: Some("/store".into()),
            engine: Some("ssh://arm".into()),
            variants: Vec::new(),
        };
        let artifact = |image: Image| Artifact {
            builder_id: "x".into(),
            id: "y".into(),
            description: String::new(),
            content: Content::Image(image),
            owner: None,
        };
        assert_eq!(Image::from_values(&artifact(image.clone()).values()), Some(image));
        let host = Platform::host().usual().to_string();
        let index = Image::index_of(vec![variant("linux/x", "sha256:11"), variant(&host, "sha256:22")]);
        assert_eq!((index.id.as_str(), index.for_host().map(|own| &*own.image.id)), ("sha256:22", Some("sha256:22")));
        let artifact = artifact(index);
        assert_eq!(Image::from_values(&artifact.values()), None, "an index is no image to build upon");
        let ids = BTreeMap::from([("linux/x".to_owned(), "sha256:11".to_owned()), (host, "sha256:22".to_owned())]);
        assert_eq!(artifact.values()["images"], ArtifactValue::Map(ids.clone()));
        assert_eq!(artifact.summary().platforms, ids);
    }
}
