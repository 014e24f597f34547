//! What machines start from: found or made in the store, and unpacked layer by layer.

mod archives;
mod busybox;
mod layers;
mod mmdebstrap;
mod registry;

use std::path::PathBuf;
use std::sync::Arc;

use kiln_cache::{BaseEntry, Store};
use kiln_core::{BuildContext, Failure, Input, Key};
use kiln_image::config::{History, RunConfig};
use kiln_image::{Digest, Image, Rootfs};
use kiln_registry::{Client, Platform, Reference};

use crate::OciSettings;
use crate::digest::{Parts, input};
use crate::error::{self, OciError};
use crate::from::From;
use crate::place::Place;
use crate::prepare::Recipe;

/// What `from` means now.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// What the state before the first step depends on.
    pub(crate) inputs: Vec<Input>,
    /// `debian@sha256:...`, where a registry says so.
    pub(crate) digest: Option<String>,
    /// The repository it comes from: a push need not move its layers there.
    pub(crate) repository: Option<Reference>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Nothing.
    Scratch,
    /// An image of the store.
    Stored(Digest),
    /// An image of a registry, that the store does not have.
    Pull(Reference),
    /// An image of the Docker engine, by its id.
    Save(String),
    /// Nobody made it yet.
    NotMade,
}

/// A base that machines can start on.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    /// The image; `None` for scratch.
    pub(crate) image: Option<Image>,
    /// Its unpacked layers, the topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    /// Names them all together; empty for scratch.
    pub(crate) chain: String,
}

/// What resolving and loading need.
pub(crate) struct Bases<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) settings: &'a OciSettings,
    pub(crate) place: &'a Arc<Place>,
    pub(crate) client: &'a Client,
    pub(crate) context: &'a BuildContext,
}

impl Bases<'_> {
    /// Finds out what `from` means: one request to a registry at most. What is on this host already is brought into the
    /// store, as only its content tells whether it is what it was.
    pub(crate) async fn resolve(&self) -> Result<Resolved, Failure> {
        let platform = self.recipe.platform.to_string();
        let mut resolved = match &self.recipe.from {
            From::Scratch => Resolved::of(input("from", "scratch"), Source::Scratch),
            From::Reference(text) => self.resolve_reference(text).await?,
            From::Id(id) => self.resolve_id(id).await?,
            From::Local(name) => self.resolve_local(name)?,
            From::DockerDaemon(image) => self.resolve_daemon(image).await?,
            From::OciLayout { path, name } => self.stored(self.import_archive(path, name.as_deref(), true).await?)?,
            From::DockerArchive { path, name } => {
                self.stored(self.import_archive(path, name.as_deref(), false).await?)?
            }
            From::Tar(path) => self.stored(self.import_tar(path).await?)?,
            From::Directory(path) => self.stored(self.import_directory(path).await?)?,
            From::Busybox(path) => self.stored(self.import_busybox(path.as_deref()).await?)?,
            From::Mmdebstrap(arguments) => match self.import_mmdebstrap(arguments).await? {
                Some(manifest) => self.stored(manifest)?,
                None => self.not_made(),
            },
        };
        resolved.inputs.push(input("platform", &platform));
        Ok(resolved)
    }

    /// Brings it into the store, and unpacks its layers.
    pub(crate) async fn load(&self, resolved: &Resolved) -> Result<Base, Failure> {
        let manifest = match &resolved.source {
            Source::Scratch => return Ok(Base { image: None, lowers: Vec::new(), chain: String::new() }),
            Source::Stored(digest) => digest.clone(),
            Source::Pull(reference) => self.pull(reference).await?,
            Source::Save(id) => self.save(id).await?,
            Source::NotMade => return Err(Failure::build(OciError::Base("the base was only looked for".to_owned()))),
        };
        let image = self.open(&manifest)?;
        let lowers = layers::unpack(self, &image).await?;
        let chain = image.chain_ids().pop().map(|chain| chain.to_string()).unwrap_or_default();
        Ok(Base { image: Some(image), lowers, chain })
    }

    /// The base as a kept state was made on it; nothing is downloaded if its layers are there.
    fn open(&self, manifest: &Digest) -> Result<Image, Failure> {
        let wanted = &self.recipe.platform;
        let platform = kiln_image::Platform {
            os: wanted.os.clone(),
            architecture: wanted.architecture.clone(),
            variant: wanted.variant.clone(),
        };
        Image::open_for(self.store().layout(), manifest, &platform).map_err(error::image)
    }

    fn store(&self) -> &Arc<Store> {
        &self.place.store
    }

    fn stored(&self, manifest: Digest) -> Result<Resolved, Failure> {
        let shown = self.recipe.from.title();
        let input = Input {
            name: "from".to_owned(),
            digest: Parts::new("from").with(manifest.as_str()).hex(),
            shown: Some(format!("{shown} ({:.12})", manifest.hex())),
        };
        Ok(Resolved::of(input, Source::Stored(manifest)))
    }

    /// What a plan says of a base that the build has to make: whatever comes of it, no state that is kept was made on it.
    fn not_made(&self) -> Resolved {
        let shown = format!("{}, to be made", self.recipe.from.title());
        Resolved::of(input("from", &shown), Source::NotMade)
    }

    /// An image of the store by the name that `tags` gave it.
    /// What a build left without a daemon lies in the store, what one left that used the engine lies there.
    async fn resolve_id(&self, id: &str) -> Result<Resolved, Failure> {
        if let Ok(digest) = Digest::parse(id)
            && let Some(manifest) = self.store().manifest_of(&digest).map_err(error::cache)?
        {
            return self.stored(manifest);
        }
        self.resolve_daemon(id).await.map_err(|failure| {
            failure.hint(format!("kiln's store has no image with the id {id} either")).hint("build it again")
        })
    }

    fn resolve_local(&self, name: &str) -> Result<Resolved, Failure> {
        let found = self.find_local(name)?;
        let manifest = found.ok_or_else(|| {
            let text = format!("no image in kiln's store is named {name}");
            Failure::build(OciError::Base(text)).hint("`tags` of an `oci` source names the image that it makes")
        })?;
        self.stored(manifest)
    }

    fn find_local(&self, name: &str) -> Result<Option<Digest>, Failure> {
        let layout = self.store().layout();
        if let Ok(digest) = Digest::parse(name) {
            return Ok(layout.has(&digest).then_some(digest));
        }
        let Ok(reference) = Reference::parse(name) else { return Ok(None) };
        layout.resolve_name(&reference.in_full()).map_err(error::image)
    }

    /// What is known of a base by this key, if all of the image is still there.
    fn known(&self, key: &Key) -> Result<Option<BaseEntry>, Failure> {
        let entry = self.store().base(key).map_err(error::cache)?;
        Ok(entry.filter(|entry| self.is_whole(&entry.manifest)))
    }

    fn is_whole(&self, manifest: &Digest) -> bool {
        let layout = self.store().layout();
        let Ok(image) = Image::open(layout, manifest) else { return false };
        image.layers.iter().all(|layer| layout.has(&layer.digest))
    }

    fn note(&self, key: &Key, manifest: &Digest, digest: Option<&str>) -> Result<(), Failure> {
        let entry = BaseEntry {
            title: self.recipe.from.title(),
            manifest: manifest.clone(),
            created: std::time::SystemTime::now(),
            details: digest.map(|digest| ("digest".to_owned(), digest.to_owned())).into_iter().collect(),
        };
        self.store().put_base(key, &entry).map_err(error::cache)
    }
}

impl Resolved {
    fn of(input: Input, source: Source) -> Resolved {
        Resolved { inputs: vec![input], digest: None, repository: None, source }
    }
}

/// Names a base by its kind and what else tells it from others.
fn base_key(kind: &str, platform: &Platform) -> Parts {
    Parts::new("base").with(kind).with(platform.to_string())
}

/// The search path of a machine whose image says nothing; as docker has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is said of a base that is no image yet.
fn rootfs(platform: &Platform, command: Option<&str>, made_by: &str) -> Rootfs {
    Rootfs {
        platform: kiln_image::Platform {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
        },
        config: RunConfig {
            env: Some(vec![PATH.to_owned()]),
            cmd: command.map(|command| vec![command.to_owned()]),
            ..RunConfig::default()
        },
        history: History { created_by: Some(made_by.to_owned()), ..History::default() },
        created: None,
    }
}
