//! What is in a store, as a whole: for people, and to decide what is collected.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use kiln_core::Key;
use kiln_image::{Digest, Layout};
use serde::Serialize;

use crate::error::CacheError;
use crate::files;
use crate::layers::LayerRecord;
use crate::lease::{self, Leased};
use crate::records::{BaseEntry, EngineResult, SealedEntry};
use crate::states::StateRecord;
use crate::store::{Locked, Store};

/// Kinds of things in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// A state after a step.
    State,
    /// A sealed image that is to be had again without a machine.
    Sealed,
    /// A base that was made here.
    Base,
    /// An unpacked layer of a base.
    Layer,
    /// An image of the index.
    Image,
    /// Something that nothing can be made of.
    Broken,
}

/// One thing in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What kind of thing.
    pub kind: ItemKind,
    /// Its key, chain id or name.
    pub name: String,
    /// The build that made it, where one did.
    pub build: Option<String>,
    /// What it is, for people.
    pub title: String,
    /// Bytes that are free without it.
    pub size: u64,
    /// When it was used last, in milliseconds since the epoch.
    pub used: u64,
    /// Whether a living process uses it.
    pub in_use: bool,
}

/// What a store takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes of images' blobs, which several things may share.
    pub blob_bytes: u64,
    /// All things but blobs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Item>,
}

/// A thing that may be collected.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) item: Item,
    /// Below the store's root; also its name in leases, less `.json`.
    pub(crate) path: String,
    /// Entries it cannot be without.
    pub(crate) needs: Vec<String>,
    /// Blobs it cannot be without.
    pub(crate) blobs: BTreeSet<String>,
    /// Whether it is an image of the index that bears a name.
    pub(crate) has_name: bool,
}

/// Everything in a store.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// By lease name.
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Sizes by digits of the digest.
    pub(crate) blobs: BTreeMap<String, u64>,
    /// Drafts of blobs and entries, and what was thrown away.
    pub(crate) drafts: Vec<PathBuf>,
    /// Thrown away by a collection that did not end.
    pub(crate) trash: Vec<PathBuf>,
    pub(crate) leased: Leased,
}

impl Store {
    /// What is in it.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn usage(&self) -> Result<Usage, CacheError> {
        let locked = self.lock_exclusive()?;
        let inventory = self.inventory(&locked);
        drop(locked);
        let blob_bytes = inventory.blobs.values().sum();
        let in_use = inventory.in_use();
        let is_state_like =
            |entry: &&Entry| !matches!(entry.item.kind, ItemKind::Sealed | ItemKind::Image | ItemKind::Base);
        let own: u64 = inventory.entries.values().filter(is_state_like).map(|entry| entry.item.size).sum();
        let mark = |(name, entry): (String, Entry)| Item { in_use: in_use.contains(&name), ..entry.item };
        Ok(Usage { bytes: own + blob_bytes, blob_bytes, items: inventory.entries.into_iter().map(mark).collect() })
    }

    pub(crate) fn inventory(&self, _locked: &Locked) -> Inventory {
        let own = self.own_lease();
        let mut inventory =
            Inventory { leased: lease::living(&self.root.join("leases"), own.as_ref()), ..Inventory::default() };
        drop(own);
        self.list_blobs(&mut inventory);
        self.list_states(&mut inventory);
        self.list_layers(&mut inventory);
        self.list_records(&mut inventory);
        self.list_images(&mut inventory);
        for name in files::names(&self.temporary()) {
            let path = self.temporary().join(&name);
            if name.starts_with("trash-") { inventory.trash.push(path) } else { inventory.drafts.push(path) }
        }
        inventory
    }

    fn list_blobs(&self, inventory: &mut Inventory) {
        let directory = self.root.join("blobs/sha256");
        for name in files::names(&directory) {
            let path = directory.join(&name);
            if name.starts_with('.') {
                inventory.drafts.push(path);
                continue;
            }
            let size = std::fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
            inventory.blobs.insert(name, size);
        }
    }

    fn list_states(&self, inventory: &mut Inventory) {
        for name in files::names(&self.root.join("steps")) {
            let path = format!("steps/{name}");
            let record = Key::parse(&name).and_then(|key| self.read_state(&key));
            inventory.add(self.state_entry(path, name, record));
        }
        self.break_orphans(inventory);
    }

    /// A state is nothing without the ones below it.
    fn break_orphans(&self, inventory: &mut Inventory) {
        loop {
            let is_state = |need: &&String| need.starts_with("steps/");
            let is_whole =
                |need: &String| inventory.entries.get(need).is_some_and(|below| below.item.kind != ItemKind::Broken);
            let orphans: Vec<(String, String)> = inventory
                .entries
                .values()
                .filter(|entry| !entry.needs.iter().filter(is_state).all(is_whole))
                .map(|entry| (entry.path.clone(), entry.item.name.clone()))
                .collect();
            if orphans.is_empty() {
                return;
            }
            for (path, name) in orphans {
                inventory.add(self.broken(path, name));
            }
        }
    }

    fn state_entry(&self, path: String, name: String, record: Option<StateRecord>) -> Entry {
        let Some(StateRecord { state, .. }) = record else { return self.broken(path, name) };
        let mut needs: Vec<String> = state.parent.iter().map(|key| format!("steps/{key}")).collect();
        needs.extend(Digest::parse(&state.base).ok().map(|chain| format!("layers/{}", chain.hex())));
        let item = Item {
            kind: ItemKind::State,
            name,
            build: Some(state.info.build),
            title: state.info.title,
            size: state.size,
            used: self.used(&format!("{path}/meta.json")),
            in_use: false,
        };
        Entry { item, path, needs, blobs: BTreeSet::new(), has_name: false }
    }

    fn list_layers(&self, inventory: &mut Inventory) {
        for name in files::names(&self.root.join("layers")) {
            let path = format!("layers/{name}");
            let chain = Digest::parse(&format!("sha256:{name}")).ok();
            let entry = match chain.and_then(|chain| self.read_layer(&chain)) {
                None => self.broken(path, name),
                Some(LayerRecord { layer, .. }) => Entry {
                    item: Item {
                        kind: ItemKind::Layer,
                        name,
                        build: None,
                        title: "unpacked layer of a base".to_owned(),
                        size: layer.size,
                        used: self.used(&format!("{path}/meta.json")),
                        in_use: false,
                    },
                    path,
                    needs: layer.parent.iter().map(|chain| format!("layers/{}", chain.hex())).collect(),
                    blobs: BTreeSet::new(),
                    has_name: false,
                },
            };
            inventory.add(entry);
        }
    }

    fn list_records(&self, inventory: &mut Inventory) {
        for file in files::names(&self.root.join("sealed")) {
            let path = self.root.join("sealed").join(&file);
            let name = file.strip_suffix(".json").unwrap_or(&file).to_owned();
            let record = self.read::<SealedEntry>(&path, &name).map(|record| record.value);
            let entry = match record.filter(|entry| self.layout().has(&entry.manifest)) {
                None => self.broken(format!("sealed/{file}"), name),
                Some(sealed) => {
                    let title = format!("image {}", short(sealed.manifest.hex()));
                    self.image_entry(
                        ItemKind::Sealed,
                        format!("sealed/{file}"),
                        name,
                        title,
                        &sealed.manifest,
                        inventory,
                    )
                    .of_build(sealed.build)
                }
            };
            inventory.add(entry);
        }
        for file in files::names(&self.root.join("results")) {
            let (path, name) = (format!("results/{file}"), file.strip_suffix(".json").unwrap_or(&file).to_owned());
            let entry = match self.read::<EngineResult>(&self.root.join(&path), &name) {
                None => self.broken(path, name),
                Some(record) => self.engine_entry(path, name, record.value),
            };
            inventory.add(entry);
        }
        for file in files::names(&self.root.join("bases")) {
            let path = self.root.join("bases").join(&file);
            let name = file.strip_suffix(".json").unwrap_or(&file).to_owned();
            let record = self.read::<BaseEntry>(&path, &name).map(|record| record.value);
            let entry = match record.filter(|entry| self.layout().has(&entry.manifest)) {
                None => self.broken(format!("bases/{file}"), name),
                Some(base) => self.image_entry(
                    ItemKind::Base,
                    format!("bases/{file}"),
                    name,
                    base.title,
                    &base.manifest,
                    inventory,
                ),
            };
            inventory.add(entry);
        }
    }

    /// The image itself lies in the engine: here it takes nothing.
    fn engine_entry(&self, path: String, name: String, result: EngineResult) -> Entry {
        let digits = result.image.rsplit(':').next().unwrap_or_default();
        let item = Item {
            kind: ItemKind::Sealed,
            name,
            build: result.build,
            title: format!("image {} of a Docker engine", short(digits)),
            size: 0,
            used: self.used(&path),
            in_use: false,
        };
        Entry { item, path, needs: Vec::new(), blobs: BTreeSet::new(), has_name: false }
    }

    fn list_images(&self, inventory: &mut Inventory) {
        for (digest, name) in named_images(self.layout()) {
            let has_name = name.is_some();
            let name = name.unwrap_or_else(|| digest.to_string());
            let path = format!("images/{name}");
            if has_name && !self.layout().has(&digest) {
                inventory.add(self.broken(path, name));
                continue;
            }
            let title = format!("image {}", short(digest.hex()));
            let entry = self.image_entry(ItemKind::Image, path, name, title, &digest, inventory);
            inventory.add(Entry { has_name, ..entry });
        }
    }

    fn image_entry(
        &self,
        kind: ItemKind,
        path: String,
        name: String,
        title: String,
        manifest: &Digest,
        inventory: &Inventory,
    ) -> Entry {
        let mut blobs = BTreeSet::new();
        collect_blobs(self.layout(), manifest, &mut blobs, 0);
        let size = blobs.iter().filter_map(|blob| inventory.blobs.get(blob)).sum();
        let used = if kind == ItemKind::Image {
            files::milliseconds(files::stamped(&self.layout().blob_path(manifest)))
        } else {
            self.used(&path)
        };
        Entry {
            item: Item { kind, name, build: None, title, size, used, in_use: false },
            path,
            needs: Vec::new(),
            blobs,
            has_name: false,
        }
    }

    fn broken(&self, path: String, name: String) -> Entry {
        let used = self.used(&path);
        let title = "cannot be used: damaged, not synced before a restart, or of another version".to_owned();
        let item = Item { kind: ItemKind::Broken, name, build: None, title, size: 0, used, in_use: false };
        Entry { item, path, needs: Vec::new(), blobs: BTreeSet::new(), has_name: false }
    }

    fn used(&self, path: &str) -> u64 {
        files::milliseconds(files::stamped(&self.root.join(path)))
    }
}

impl Entry {
    fn of_build(mut self, build: String) -> Entry {
        self.item.build = Some(build);
        self
    }

    /// Its name in leases and in the inventory.
    pub(crate) fn lease_name(&self) -> &str {
        self.path.strip_suffix(".json").unwrap_or(&self.path)
    }
}

impl Inventory {
    fn add(&mut self, entry: Entry) {
        self.entries.insert(entry.lease_name().to_owned(), entry);
    }

    /// All that living processes use, with what that needs.
    pub(crate) fn in_use(&self) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        let mut waiting: Vec<&String> = self.leased.entries.iter().collect();
        while let Some(name) = waiting.pop() {
            let Some(entry) = self.entries.get(name) else { continue };
            if used.insert(name.clone()) {
                waiting.extend(&entry.needs);
            }
        }
        used
    }
}

fn short(digits: &str) -> &str {
    digits.get(..12).unwrap_or(digits)
}

/// Images of the index, with their names.
fn named_images(layout: &Layout) -> Vec<(Digest, Option<String>)> {
    const NAME: &str = "org.opencontainers.image.ref.name";
    let Some(bytes) = files::read_limited(&layout.root().join("index.json"), 64 << 20) else { return Vec::new() };
    let Ok(index) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return Vec::new() };
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let image = |manifest: &serde_json::Value| {
        let digest = Digest::parse(manifest["digest"].as_str()?).ok()?;
        Some((digest, manifest["annotations"][NAME].as_str().map(str::to_owned)))
    };
    manifests.iter().filter_map(image).collect()
}

/// The blobs of an image or index: what is not there, or is no document of that kind, ends the search there.
fn collect_blobs(layout: &Layout, digest: &Digest, blobs: &mut BTreeSet<String>, depth: usize) {
    if !blobs.insert(digest.hex().to_owned()) || depth > 8 {
        return;
    }
    let Ok(bytes) = layout.document(digest) else { return };
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(&bytes) else { return };
    let digest_of = |value: &serde_json::Value| Digest::parse(value["digest"].as_str()?).ok();
    blobs.extend(digest_of(&document["config"]).map(|digest| digest.hex().to_owned()));
    for layer in document["layers"].as_array().into_iter().flatten().filter_map(digest_of) {
        blobs.insert(layer.hex().to_owned());
    }
    for child in document["manifests"].as_array().into_iter().flatten().filter_map(digest_of) {
        collect_blobs(layout, &child, blobs, depth + 1);
    }
}
