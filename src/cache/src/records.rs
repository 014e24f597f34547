//! Records that are files alone: what a base became, what sealing gave, other names of states, what was planned.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kiln_core::{Input, Key};
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

/// A step at the last build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its `name`, where given.
    pub name: Option<String>,
    /// The provisioner's kind.
    pub kind: String,
    /// What it does, in a few words.
    pub title: String,
    /// The state after it; `None` where nothing is kept of it.
    pub key: Option<Key>,
    /// What it depended on.
    pub inputs: Vec<Input>,
}

/// The last build of a template's build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The template.
    pub template: PathBuf,
    /// The build's name.
    pub build: String,
    /// The builder's kind.
    pub builder: String,
    /// When.
    pub made: SystemTime,
    /// The state that the machine started in.
    pub base_key: Option<Key>,
    /// What that depended on.
    pub base: Vec<Input>,
    /// The steps, in their order.
    pub steps: Vec<StepRecord>,
}

impl PlanRecord {
    /// The last state that may be kept.
    pub fn last_key(&self) -> Option<&Key> {
        self.steps.iter().rev().find_map(|step| step.key.as_ref()).or(self.base_key.as_ref())
    }
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

    /// The state that another key stands for: one that has the same content, come to by another way.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn alias(&self, key: &Key) -> Result<Option<Key>, CacheError> {
        self.get("aliases", key.as_str(), |_: &Key| true)
    }

    /// Notes that a key stands for a state.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_alias(&self, key: &Key, state: &Key) -> Result<(), CacheError> {
        self.put("aliases", key.as_str(), state)
    }

    /// What the last build of a template's build was made of.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn last_plan(&self, template: &Path, build: &str) -> Result<Option<PlanRecord>, CacheError> {
        let name = plan_name(template, build);
        self.get("plans", &name, |plan: &PlanRecord| plan.template == template && plan.build == build)
    }

    /// Notes what a build is made of.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_plan(&self, plan: &PlanRecord) -> Result<(), CacheError> {
        self.put("plans", &plan_name(&plan.template, &plan.build), plan)
    }

    /// All records of builds, the newest first.
    pub fn plans(&self) -> Vec<PlanRecord> {
        let directory = self.root.join("plans");
        let read = |name: &String| self.read::<PlanRecord>(&directory.join(name), name.strip_suffix(".json")?);
        let mut plans: Vec<PlanRecord> = files::names(&directory).iter().filter_map(read).map(|it| it.value).collect();
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
