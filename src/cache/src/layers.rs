//! Unpacked layers of base images.

use std::path::{Path, PathBuf};

use kiln_image::Digest;
use serde::{Deserialize, Serialize};

use crate::disk::Stored;
use crate::error::CacheError;
use crate::files;
use crate::store::Store;

/// What is noted of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    /// Chain id of the layer below; `None` for the lowest.
    pub parent: Option<Digest>,
    /// Digest of its uncompressed archive.
    pub diff_id: Digest,
    /// Bytes on disk.
    pub size: u64,
}

/// A layer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Its tree, in overlay format.
    pub tree: PathBuf,
    /// What was noted.
    pub meta: LayerMeta,
}

/// `meta.json` of a layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) chain: Digest,
    pub(crate) stored: Stored,
    pub(crate) layer: LayerMeta,
}

impl Store {
    /// The tree of a layer, by its chain id. It is in use from now on.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn layer_directory(&self, chain: &Digest) -> Result<Option<PathBuf>, CacheError> {
        Ok(self.layer(chain)?.map(|entry| entry.tree))
    }

    /// As [`Store::layer_directory`], with what was noted of it.
    ///
    /// # Errors
    /// The store cannot be locked.
    pub fn layer(&self, chain: &Digest) -> Result<Option<LayerEntry>, CacheError> {
        let locked = self.lock_shared()?;
        let Some(record) = self.read_layer(chain) else { return Ok(None) };
        self.lease(&locked, Some(format!("layers/{}", chain.hex())))?;
        let directory = self.layer_root(chain);
        files::stamp(&directory.join("meta.json"));
        Ok(Some(LayerEntry { tree: directory.join("tree"), meta: record.layer }))
    }

    /// A directory whose `tree/` (made, empty) is to be filled.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin_layer(&self, chain: &Digest) -> Result<PathBuf, CacheError> {
        let locked = self.lock_shared()?;
        self.lease(&locked, Some(format!("layers/{}", chain.hex())))?;
        let directory = files::make_temporary(&self.temporary(), "layer-")?;
        files::create_private(&directory.join("tree"))?;
        Ok(directory)
    }

    /// Puts a filled directory in its place, in one move. `false`: somebody else was first, and ours is dropped.
    ///
    /// # Errors
    /// It cannot be written or moved.
    pub fn commit_layer(&self, chain: &Digest, filled: &Path, meta: &LayerMeta) -> Result<bool, CacheError> {
        let path = filled.join("meta.json");
        let record = LayerRecord { chain: chain.clone(), stored: self.durability.now(), layer: meta.clone() };
        files::write_new(&path, &files::record_bytes(&path, &record)?, false)
            .map_err(CacheError::io("write", &path))?;
        self.place(filled, &self.layer_root(chain), || self.read_layer(chain).is_some())
    }

    pub(crate) fn layer_root(&self, chain: &Digest) -> PathBuf {
        self.root.join("layers").join(chain.hex())
    }

    pub(crate) fn read_layer(&self, chain: &Digest) -> Option<LayerRecord> {
        let directory = self.layer_root(chain);
        if !files::is_directory(&directory.join("tree")) {
            return None;
        }
        let record: LayerRecord = files::read_record(&directory.join("meta.json"))?;
        (record.chain == *chain && self.durability.holds(&record.stored)).then_some(record)
    }
}
