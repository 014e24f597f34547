//! Records that are files alone: what a base became, what sealing gave, what was planned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_core::{Failure, Key, PlanMemory, PlanRecord};
use kiln_image::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::disk::Stored;
use crate::error::CacheError;
use crate::files;
use crate::store::Store;

/// What sealing a state gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedEntry {
    /// The build that sealed it first.
    pub build: String,
    /// The image's manifest, in the store's layout.
    pub manifest: Digest,
    /// The image's config.
    pub config: Digest,
    /// When.
    pub created: SystemTime,
    /// Values for `build.*`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
    /// Whatever else the builder wants to find again. Never a secret.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

/// The image of an id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct IdEntry {
    manifest: Digest,
}

/// What sealing a state gave in a Docker engine, or bringing an image there that it has by another id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineResult {
    /// The build that sealed or brought it first; records of earlier days do not say.
    #[serde(default)]
    pub build: Option<String>,
    /// The image's id.
    pub image: String,
    /// When it was made.
    pub created: SystemTime,
    /// Values for `build.*`.
    #[serde(default)]
    pub facts: BTreeMap<String, String>,
}

/// What a base became that is no image of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseEntry {
    /// What it is, for people: `mmdebstrap bookworm minbase`.
    pub title: String,
    /// Its manifest, in the store's layout.
    pub manifest: Digest,
    /// When it was made.
    pub created: SystemTime,
    /// Whatever else the builder wants to find again.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

/// The last build of a template's build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// The template.
    pub template: PathBuf,
    /// The build's name.
    pub build: String,
    /// When it ran.
    pub made: SystemTime,
    /// What it was made of.
    pub record: PlanRecord,
}

/// A file of records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record<T> {
    pub(crate) name: String,
    pub(crate) stored: Stored,
    pub(crate) value: T,
}

impl Store {
    /// What sealing gave under this key, if its manifest is still there. It is in use from now on.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn sealed(&self, key: &Key) -> Result<Option<SealedEntry>, CacheError> {
        let has = |entry: &SealedEntry| self.layout().has(&entry.manifest) && self.layout().has(&entry.config);
        self.get("sealed", key.as_str(), has)
    }

    /// Notes what sealing gave.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_sealed(&self, key: &Key, entry: &SealedEntry) -> Result<(), CacheError> {
        self.put("sealed", key.as_str(), entry)
    }

    /// The manifest of the image of this id, the digest of its config, if it is still there. Other processes leave it alone
    /// from now on.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn manifest_of(&self, id: &Digest) -> Result<Option<Digest>, CacheError> {
        self.hold()?;
        let found = self.get("ids", id.hex(), |entry: &IdEntry| self.layout().has(&entry.manifest))?;
        Ok(found.map(|entry| entry.manifest))
    }

    /// Notes which manifest an image's id means.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_id(&self, id: &Digest, manifest: &Digest) -> Result<(), CacheError> {
        if self.manifest_of(id)?.as_ref() == Some(manifest) {
            return Ok(());
        }
        // Stores of earlier days lack it.
        files::create_private(&self.root.join("ids"))?;
        self.put("ids", id.hex(), &IdEntry { manifest: manifest.clone() })
    }

    /// Forgets ids whose images are gone.
    pub(crate) fn forget_ids(&self) {
        for file in files::names(&self.root.join("ids")) {
            let path = self.root.join("ids").join(&file);
            let entry = self.read::<IdEntry>(&path, file.strip_suffix(".json").unwrap_or(&file));
            if entry.is_none_or(|entry| !self.layout().has(&entry.value.manifest)) {
                // It would only say nothing.
                let _ = std::fs::remove_file(&path);
            }
        }
    }

    /// What sealing gave in an engine under this key. Whether it is still there the engine knows.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn engine_result(&self, key: &Key) -> Result<Option<EngineResult>, CacheError> {
        self.get("results", key.as_str(), |_: &EngineResult| true)
    }

    /// Notes what sealing gave in an engine.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_engine_result(&self, key: &Key, result: &EngineResult) -> Result<(), CacheError> {
        // Stores of earlier days lack it.
        files::create_private(&self.root.join("results"))?;
        self.put("results", key.as_str(), result)
    }

    /// What a base became, if its manifest is still there. It is in use from now on.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn base(&self, key: &Key) -> Result<Option<BaseEntry>, CacheError> {
        self.get("bases", key.as_str(), |entry: &BaseEntry| self.layout().has(&entry.manifest))
    }

    /// Notes what a base became.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_base(&self, key: &Key, entry: &BaseEntry) -> Result<(), CacheError> {
        self.put("bases", key.as_str(), entry)
    }

    /// All records of builds, the newest first.
    pub fn plans(&self) -> Vec<PlanEntry> {
        let directory = self.root.join("plans");
        let read = |name: &String| self.read::<PlanEntry>(&directory.join(name), name.strip_suffix(".json")?);
        let mut plans: Vec<PlanEntry> = files::names(&directory).iter().filter_map(read).map(|it| it.value).collect();
        plans.sort_by(|one, other| other.made.cmp(&one.made).then_with(|| one.build.cmp(&other.build)));
        plans
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, path: &Path, name: &str) -> Option<Record<T>> {
        let record: Record<T> = files::read_record(path)?;
        (record.name == name && self.durability.holds(&record.stored)).then_some(record)
    }

    fn get<T: DeserializeOwned>(
        &self,
        directory: &str,
        name: &str,
        is_usable: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, CacheError> {
        let path = self.root.join(directory).join(format!("{name}.json"));
        let locked = self.lock_shared()?;
        let Some(record) = self.read::<T>(&path, name).filter(|record| is_usable(&record.value)) else {
            return Ok(None);
        };
        self.lease(&locked, Some(format!("{directory}/{name}")))?;
        files::stamp(&path);
        Ok(Some(record.value))
    }

    fn put<T: Serialize>(&self, directory: &str, name: &str, value: &T) -> Result<(), CacheError> {
        let path = self.root.join(directory).join(format!("{name}.json"));
        let record = Record { name: name.to_owned(), stored: self.durability.now(), value };
        let bytes = files::record_bytes(&path, &record)?;
        let locked = self.lock_shared()?;
        self.lease(&locked, Some(format!("{directory}/{name}")))?;
        // A build that restored everything notes its plan all the same; that is not worth a sync.
        if directory != "plans" {
            self.note_change();
        }
        files::write_whole(&self.temporary(), &path, &bytes, false)
    }
}

impl PlanMemory for Store {
    fn keyed_digest(&self, secret: &[u8]) -> String {
        Store::keyed_digest(self, secret)
    }

    fn last_plan(&self, template: &Path, build: &str) -> Option<PlanRecord> {
        let name = plan_name(template, build);
        let is_it = |entry: &PlanEntry| entry.template == template && entry.build == build;
        // A store that cannot be locked remembers nothing.
        Some(self.get("plans", &name, is_it).ok()??.record)
    }

    fn put_plan(&self, template: &Path, build: &str, record: &PlanRecord) -> Result<(), Failure> {
        let entry = PlanEntry {
            template: template.to_owned(),
            build: build.to_owned(),
            made: SystemTime::now(),
            record: record.clone(),
        };
        self.put("plans", &plan_name(template, build), &entry).map_err(Failure::environment)
    }
}

/// Names are length-prefixed, so that no two pairs share one.
fn plan_name(template: &Path, build: &str) -> String {
    let template = template.as_os_str().as_encoded_bytes();
    let hash = Sha256::new()
        .chain_update((template.len() as u64).to_be_bytes())
        .chain_update(template)
        .chain_update(build.as_bytes())
        .finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
