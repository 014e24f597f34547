//! What is remembered of builds, in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kiln_core::{Failure, PlanMemory, PlanRecord};

use crate::lock;

/// Remembers records as long as it lives. Its keyed digests are the secrets' bytes summed up: good enough to tell two
/// secrets apart, and to see that none is written down.
#[derive(Debug, Default)]
pub struct MemoryPlans {
    records: Mutex<BTreeMap<(PathBuf, String), PlanRecord>>,
}

impl MemoryPlans {
    /// Nothing is remembered yet.
    pub fn new() -> MemoryPlans {
        MemoryPlans::default()
    }

    /// What is remembered of a build of any template.
    pub fn record(&self, build: &str) -> Option<PlanRecord> {
        lock(&self.records).iter().find(|((_, name), _)| name == build).map(|(_, record)| record.clone())
    }

    /// Forgets everything.
    pub fn forget(&self) {
        lock(&self.records).clear();
    }
}

impl PlanMemory for MemoryPlans {
    fn keyed_digest(&self, secret: &[u8]) -> String {
        let sum = secret.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        format!("keyed-{sum:x}")
    }

    fn last_plan(&self, template: &Path, build: &str) -> Option<PlanRecord> {
        lock(&self.records).get(&(template.to_owned(), build.to_owned())).cloned()
    }

    fn put_plan(&self, template: &Path, build: &str, record: &PlanRecord) -> Result<(), Failure> {
        lock(&self.records).insert((template.to_owned(), build.to_owned()), record.clone());
        Ok(())
    }
}
