//! Sealing: changes become layers, the base's config what the arguments make of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use kiln_cache::SealedEntry;
use kiln_core::{BuildContext, Events, Failure, Key};
use kiln_image::compress::{Compression, LayerDigests, LayerWriter};
use kiln_image::config::{History, ImageConfig};
use kiln_image::image::{Assembly, NewLayer, assemble, creation_time};
use kiln_image::pack::{FoundSecret, PackSettings, Packed};
use kiln_image::{BlobWriter, Digest, LayerCompression, ManifestFormat};
use kiln_registry::{Client, Reference, Upload};

use crate::OciSettings;
use crate::base::Base;
use crate::config::{Config, Format, Layers, SecretScan};
use crate::digest::Parts;
use crate::error::{self, OciError};
use crate::guest::{Changes, Ground};
use crate::place::Place;
use crate::prepare::Recipe;
use crate::runtime::Runtime;

/// The Docker engine takes 125 layers; some are left for who builds on the image.
const MOST_LAYERS: usize = 120;

/// Version of what is sealed; another one does not find what this one made.
const VERSION: &str = "1";

/// Bytes that wait for the registry; then compression waits.
const PIECE: usize = 1 << 20;

/// Bytes of a layer between two events that tell of it.
const TOLD_EVERY: u64 = 4 << 20;

/// What sealing gave.
pub(crate) struct SealedImage {
    pub(crate) manifest: Digest,
    pub(crate) config: Digest,
    /// Nothing in it speaks against taking it again.
    pub(crate) is_clean: bool,
}

/// What sealing needs.
pub(crate) struct Sealing<'a> {
    pub(crate) recipe: &'a Arc<Recipe>,
    pub(crate) place: &'a Arc<Place>,
    pub(crate) runtime: &'a Runtime,
    pub(crate) client: &'a Client,
    pub(crate) context: &'a BuildContext,
    /// Secrets were looked for in all that is sealed when it was kept.
    pub(crate) is_examined: bool,
    /// `SOURCE_DATE_EPOCH`.
    pub(crate) epoch: Option<i64>,
}

/// A layer to be made.
struct Part {
    changes: Changes,
    title: String,
}

/// A layer that was made.
struct Made {
    digests: LayerDigests,
    packed: Packed,
    title: String,
}

impl Sealing<'_> {
    pub(crate) async fn run(&self, ground: &Ground, base: &Base) -> Result<SealedImage, Failure> {
        self.context.events.message("sealing the image");
        let parts = self.parts(ground, base);
        let needles = match self.recipe.config.secret_scan {
            SecretScan::Off => Vec::new(),
            _ => self.context.redactor.needles(),
        };
        self.place.store.hold().map_err(error::cache)?;
        let mut layers = Vec::new();
        let mut found = Vec::new();
        for part in parts {
            if self.context.cancel.is_cancelled() {
                return Err(Failure::cancelled());
            }
            if let Some(made) = self.layer(part, needles.clone()).await? {
                for skipped in &made.packed.skipped {
                    self.context.events.warn(format!("{} is {} and is not in the image", skipped.path, skipped.reason));
                }
                found.extend(made.packed.found.iter().cloned());
                layers.push(made);
            }
        }
        tell_secrets(&found, self.recipe.config.secret_scan, self.context)?;
        self.assemble(base, layers, found.is_empty()).await
    }

    fn parts(&self, ground: &Ground, base: &Base) -> Vec<Part> {
        let squashed = || vec![Part { changes: ground.squashed.clone(), title: "kiln".to_owned() }];
        if self.recipe.config.layers == Layers::Squash {
            return squashed();
        }
        let warn = |why: String| self.context.events.warn(format!("{why}; what the steps changed becomes one layer"));
        let Some(steps) = &ground.steps else {
            warn("a layer for each step needs an isolation other than `chroot`".to_owned());
            return squashed();
        };
        if steps.len() + base.lowers.len() > MOST_LAYERS {
            warn(format!("the image would have more than {MOST_LAYERS} layers"));
            return squashed();
        }
        let title = |title: &Option<String>| match title {
            Some(title) => self.context.redactor.redact(title).into_owned(),
            None => "kiln".to_owned(),
        };
        steps.iter().map(|(changes, name)| Part { changes: changes.clone(), title: title(name) }).collect()
    }

    /// Packs, compresses and stores one layer, and uploads it on the way. `None` where nothing changed.
    async fn layer(&self, part: Part, needles: Vec<Vec<u8>>) -> Result<Option<Made>, Failure> {
        let settings = PackSettings {
            exclude: self.recipe.config.exclude.clone(),
            timestamp: self.epoch,
            needles,
            user_xattr: self.place.chosen.user_xattr(),
            content: false,
        };
        let (place, compression) = (Arc::clone(self.place), self.recipe.compression);
        let (scan, changes) = (self.recipe.config.secret_scan, part.changes);
        let uploads = if self.may_stream(&changes, &settings).await? { self.uploads().await } else { Vec::new() };
        let (runtime, events) = (tokio::runtime::Handle::current(), self.context.events.clone());
        let packed = error::blocking(move || {
            let blob = place.store.layout().blob_writer().map_err(error::image)?;
            let tee = Tee { blob, uploads, piece: Vec::with_capacity(PIECE), events, written: 0, told: 0 };
            let mut writer = LayerWriter::new(tee, compression);
            let packed = match changes.pack(&place.worker, &settings, &mut writer) {
                Ok(packed) => packed,
                Err(failure) => {
                    runtime.block_on(writer.abandon().end(None));
                    return Err(failure);
                }
            };
            let (mut tee, digests) = writer.finish().map_err(error::local("write", place.store.layout().root()))?;
            tee.send();
            // A layer with a secret that nobody let pass is neither stored nor pushed.
            let may_be_kept = packed.found.is_empty() || scan == SecretScan::Warn;
            let is_wanted = packed.entries > 0 && may_be_kept;
            runtime.block_on(tee.end(is_wanted.then_some(&digests.digest)));
            if packed.entries == 0 {
                return Ok(None);
            }
            if !is_wanted {
                return Ok(Some((digests, packed)));
            }
            tee.blob.finish_as(&digests.digest, Some(digests.size)).map_err(error::image)?;
            Ok(Some((digests, packed)))
        });
        let title = part.title;
        Ok(packed.await?.map(|(digests, packed)| Made { digests, packed, title }))
    }

    /// Whether a registry may have the layer while it is made: what it got once cannot be taken back, so that no secret must
    /// be in it. Changes that nobody has looked through yet are read twice.
    async fn may_stream(&self, changes: &Changes, settings: &PackSettings) -> Result<bool, Failure> {
        let is_off = settings.needles.is_empty() || self.recipe.config.secret_scan == SecretScan::Warn;
        if is_off || self.is_examined || self.pushed().is_empty() {
            return Ok(true);
        }
        let (place, changes, settings) = (Arc::clone(self.place), changes.clone(), settings.clone());
        let packed = error::blocking(move || changes.pack(&place.worker, &settings, &mut std::io::sink()));
        Ok(packed.await?.found.is_empty())
    }

    /// Where layers go while they are made: nowhere, if nothing shall be pushed, or not yet.
    fn pushed(&self) -> &[Reference] {
        if self.context.options.no_push || self.recipe.is_tested { &[] } else { &self.recipe.push }
    }

    /// Where the layer goes while it is made. One that cannot be begun is pushed from the store later, where its failure is
    /// told.
    async fn uploads(&self) -> Vec<Upload> {
        let mut repositories: Vec<String> = Vec::new();
        let mut uploads = Vec::new();
        for reference in self.pushed() {
            if repositories.contains(&reference.name()) {
                continue;
            }
            repositories.push(reference.name());
            if let Ok(upload) = self.client.start_upload(reference).await {
                uploads.push(upload);
            }
        }
        uploads
    }

    async fn assemble(&self, base: &Base, layers: Vec<Made>, is_clean: bool) -> Result<SealedImage, Failure> {
        let newest = layers.iter().map(|made| made.packed.newest_mtime).max();
        let base = base.image.as_ref();
        let config = self.config(base.map(|image| image.config.clone()).unwrap_or_default())?;
        let message = self.recipe.config.message.clone().filter(|message| !message.is_empty());
        let author = self.recipe.config.author.clone().filter(|author| !author.is_empty());
        let last = layers.len().saturating_sub(1);
        let new_layers = layers.into_iter().enumerate().map(|(index, made)| NewLayer {
            digest: made.digests.digest,
            size: made.digests.size,
            diff_id: made.digests.diff_id,
            compression: layer_compression(self.recipe.compression),
            history: History {
                created_by: Some(made.title),
                author: author.clone(),
                comment: message.clone().filter(|_| index == last),
                ..History::default()
            },
        });
        let assembly = Assembly {
            base,
            layers: new_layers.collect(),
            config,
            format: match self.recipe.config.format {
                Format::Oci => ManifestFormat::Oci,
                Format::Docker => ManifestFormat::Docker,
            },
            created: creation_time(self.epoch, newest, base),
            squash_history: false,
            annotations: BTreeMap::new(),
        };
        let assembled = assemble(self.place.store.layout(), &assembly).map_err(error::image)?;
        Ok(SealedImage { manifest: assembled.manifest, config: assembled.config, is_clean })
    }

    /// The base's config, changed only where the arguments say so.
    fn config(&self, mut config: ImageConfig) -> Result<ImageConfig, Failure> {
        let recipe = self.recipe;
        if config.os.is_empty() {
            config.os.clone_from(&recipe.platform.os);
            config.architecture.clone_from(&recipe.platform.architecture);
            config.variant.clone_from(&recipe.platform.variant);
        }
        config.author = recipe.config.author.clone().filter(|author| !author.is_empty()).or(config.author);
        for (name, value) in &self.runtime.environment {
            set_variable(config.config.env.get_or_insert_default(), name, value);
        }
        let mut labels = self.runtime.labels.clone();
        labels.extend(recipe.config.labels.clone());
        if has_run_labels(&recipe.config) {
            labels.insert("kiln.run".to_owned(), self.context.run.to_string());
            labels.insert("kiln.build".to_owned(), self.context.build.to_string());
            labels.extend(self.context.options.origin.labels());
        }
        if !labels.is_empty() {
            config.config.labels.get_or_insert_default().extend(labels);
        }
        recipe.changes.apply(&mut config.config).map_err(|(index, error)| {
            let failure = Failure::build(OciError::Base(format!("`changes[{index}]`: {}", error.message)));
            error.help.into_iter().fold(failure, Failure::hint)
        })?;
        Ok(config)
    }
}

fn set_variable(list: &mut Vec<String>, name: &str, value: &str) {
    let line = format!("{name}={value}");
    match list.iter_mut().find(|line| line.split_once('=').is_some_and(|(its, _)| its == name)) {
        Some(old) => *old = line,
        None => list.push(line),
    }
}

fn has_run_labels(config: &Config) -> bool {
    config.kiln_labels == Some(true)
}

fn layer_compression(compression: Compression) -> LayerCompression {
    match compression {
        Compression::None => LayerCompression::None,
        Compression::Gzip { .. } => LayerCompression::Gzip,
        Compression::Zstd { .. } => LayerCompression::Zstd,
    }
}

/// `SOURCE_DATE_EPOCH`: no time in the image is later.
pub(crate) fn source_date_epoch(environment: &BTreeMap<String, String>) -> Option<i64> {
    environment.get("SOURCE_DATE_EPOCH")?.trim().parse().ok()
}

/// What sealing a state depends on, beside the state.
pub(crate) fn seal_key(state: &Key, recipe: &Recipe, settings: &OciSettings) -> Key {
    let config = &recipe.config;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let epoch = source_date_epoch(&settings.credentials.environment).map(|epoch| epoch.to_string());
    Parts::new("seal")
        .with(VERSION)
        .with(state.as_str())
        .list(&config.changes)
        .list(config.labels.iter().flat_map(|(name, value)| [name, value]))
        .with(text(&config.author))
        .with(text(&config.message))
        .with(if config.layers == Layers::Squash { "squash" } else { "per-step" })
        .with(recipe.compression.to_string())
        .with(if config.format == Format::Oci { "oci" } else { "docker" })
        .list(&config.exclude)
        .with(format!("{:?}", config.secret_scan))
        .with(text(&epoch))
        .key()
}

/// Whether sealing the same state again gives the same image.
pub(crate) fn is_repeatable(recipe: &Recipe) -> bool {
    !has_run_labels(&recipe.config)
}

/// What the store remembers of a sealed image.
pub(crate) fn entry(context: &BuildContext, sealed: &SealedImage, facts: BTreeMap<String, String>) -> SealedEntry {
    SealedEntry {
        build: context.build.to_string(),
        manifest: sealed.manifest.clone(),
        config: sealed.config.clone(),
        created: SystemTime::now(),
        facts,
        details: BTreeMap::new(),
    }
}

/// Tells secrets that were found in a layer: an error unless the arguments say otherwise. The texts themselves are told to
/// nobody.
pub(crate) fn tell_secrets(found: &[FoundSecret], scan: SecretScan, context: &BuildContext) -> Result<(), Failure> {
    if found.is_empty() {
        return Ok(());
    }
    let mut paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    let more = if paths.len() > 5 { format!(" and {} more", paths.len() - 5) } else { String::new() };
    let text = format!("a secret would be in the image, in {}{more}", paths[..paths.len().min(5)].join(", "));
    if scan == SecretScan::Warn {
        context.events.warn(text);
        return Ok(());
    }
    Err(Failure::build(OciError::Base(text))
        .hint("remove it in the step that puts it there; `secrets` of a provisioner are files in memory that never get into an image")
        .hint("`secret_scan = \"warn\"` lets it pass"))
}

/// A layer's bytes on their way to the store, and to registries.
struct Tee {
    blob: BlobWriter,
    uploads: Vec<Upload>,
    piece: Vec<u8>,
    events: Events,
    written: u64,
    /// Bytes that were told of.
    told: u64,
}

impl Tee {
    fn send(&mut self) {
        if self.piece.is_empty() {
            return;
        }
        let piece = Bytes::from(std::mem::take(&mut self.piece));
        // One that breaks off is pushed from the store later, and its failure told then.
        self.uploads = std::mem::take(&mut self.uploads)
            .into_iter()
            .filter_map(|mut upload| upload.blocking_write(piece.clone()).is_ok().then_some(upload))
            .collect();
    }

    /// Ends the uploads; `None` gives them up.
    async fn end(&mut self, digest: Option<&Digest>) {
        for upload in std::mem::take(&mut self.uploads) {
            match digest {
                Some(digest) => {
                    let _ = upload.finish(digest).await;
                }
                None => upload.abort().await,
            }
        }
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.blob.write(bytes)?;
        self.written += written as u64;
        if self.written - self.told >= TOLD_EVERY {
            self.told = self.written;
            self.events.progress("layer", "sealing", self.written, None);
        }
        if !self.uploads.is_empty() {
            self.piece.extend_from_slice(&bytes[..written]);
            if self.piece.len() >= PIECE {
                self.send();
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.blob.flush()
    }
}
