//! The step cache on disk: kept states of machines, what sealing them gave, base layers, records of past builds.
//!
//! ```text
//!   ROOT/                       one store per user and id map, 0700
//!     oci-layout index.json blobs/   an OCI layout: images and their blobs
//!     layers/CHAIN/{tree/,meta.json}     unpacked base layers
//!     steps/KEY/{upper/,meta.json}       kept states
//!     bases/KEY.json sealed/KEY.json plans/HASH.json
//!     work/ tmp/ leases/ lock hmac-key version synced boot
//! ```
//!
//! Owns: names, atomic entries, leases, what survives a power cut, collection. Must not know: how a tree is made, mounted
//! or removed inside a user namespace (a [`Remover`] does that), what a key is made of. Everything here blocks.
//!
//! What is found in a store is never trusted to be whole: an entry that cannot be read is no entry. A store that another
//! user could write to is refused, because a cache hit is code that runs.
//!
//! ```
//! use kiln_cache::{Store, StoreOptions};
//!
//! let directory = tempfile::tempdir()?;
//! let store = Store::open(&directory.path().join("0"), &StoreOptions::default())?;
//! let key = kiln_core::Key::from_digest([7; 32]);
//! assert!(store.find_state(&key)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod disk;
mod error;
mod files;
mod inventory;
mod layers;
mod lease;
mod mac;
mod prune;
mod records;
mod states;
mod store;

pub use disk::has_unsynced;
pub use error::CacheError;
pub use inventory::{Item, ItemKind, Usage};
pub use layers::{LayerEntry, LayerMeta};
pub use prune::{PrunePolicy, Pruned};
pub use records::{BaseEntry, EngineResult, PlanEntry, SealedEntry};
pub use states::{StateEntry, StateMeta};
pub use store::{PlainRemover, Remover, Store, StoreOptions, make_place};

#[cfg(test)]
mod tests;
