//! Collection: what is too old, too much, or not wanted any more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::CacheError;
use crate::files;
use crate::inventory::{Entry, Inventory, Item, ItemKind};
use crate::store::Store;

/// What is to go. What a living process uses stays in any case, and so does what that needs.
#[derive(Debug, Clone, Default)]
pub struct PrunePolicy {
    /// What was not used for so long.
    pub older_than: Option<Duration>,
    /// The least recently used, until no more than this is left.
    pub max_size: Option<u64>,
    /// What these builds made, as far as no other build's states lie on it.
    pub builds: Vec<String>,
    /// Everything but named images.
    pub all: bool,
    /// Named images count like all else; without this they stay, and so does what they are made of.
    pub images: bool,
    /// Tell, and remove nothing.
    pub dry_run: bool,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Things that are gone, or would be.
    pub removed: Vec<Item>,
    /// Bytes that are free now, or would be.
    pub freed: u64,
    /// Bytes that are left.
    pub left: u64,
    /// Things that stayed because they are in use.
    pub in_use: usize,
}

/// What a collection does.
#[derive(Debug, Default)]
struct Decision {
    entries: Vec<String>,
    blobs: Vec<String>,
    in_use: usize,
    freed: u64,
    left: u64,
}

impl Store {
    /// Collects. Others may use the store meanwhile; they wait for moments only.
    ///
    /// # Errors
    /// The store cannot be locked, or an entry cannot be moved away.
    pub fn prune(&self, policy: &PrunePolicy) -> Result<Pruned, CacheError> {
        let locked = self.lock_exclusive()?;
        let inventory = self.inventory(&locked);
        let decision = decide(&inventory, policy, files::milliseconds(SystemTime::now()));
        let removed = decision.entries.iter().filter_map(|name| inventory.entries.get(name));
        let pruned = Pruned {
            removed: removed.map(|entry| entry.item.clone()).collect(),
            freed: decision.freed,
            left: decision.left,
            in_use: decision.in_use,
        };
        if policy.dry_run {
            return Ok(pruned);
        }
        let trash = self.take_away(&inventory, &decision)?;
        self.forget_ids();
        drop(locked);
        for path in trash {
            self.remove(&path);
        }
        Ok(pruned)
    }

    /// Moves all that goes out of sight.
    fn take_away(&self, inventory: &Inventory, decision: &Decision) -> Result<Vec<PathBuf>, CacheError> {
        let mut trash = inventory.trash.clone();
        if !inventory.leased.others {
            trash.extend(inventory.drafts.iter().cloned());
        }
        for entry in decision.entries.iter().filter_map(|name| inventory.entries.get(name)) {
            match entry.path.strip_prefix("images/") {
                // A name is a line of the index; its blobs are collected like others.
                Some(name) => _ = self.layout().remove_name(name)?,
                None => trash.push(self.discard(&self.root.join(&entry.path))?),
            }
        }
        for blob in &decision.blobs {
            trash.push(self.discard(&self.root.join("blobs/sha256").join(blob))?);
        }
        Ok(trash)
    }
}

/// Decides, without touching anything.
fn decide(inventory: &Inventory, policy: &PrunePolicy, now: u64) -> Decision {
    let view = View::of(inventory);
    let mut decision = Decision::default();
    decision.choose_unwanted(&view, policy, now);
    let mut kept: BTreeSet<&str> = inventory.entries.keys().map(String::as_str).collect();
    for name in &decision.entries {
        kept.remove(name.as_str());
    }
    let mut sizes = Sizes::new(inventory, &kept);
    if let Some(limit) = policy.max_size {
        decision.choose_oldest(&view, kept, &mut sizes, limit, policy);
    }
    decision.left = sizes.total();
    if inventory.leased.others {
        // A blob that nothing names may be one that is being pulled or sealed.
        decision.left += sizes.unreferenced(inventory);
    } else {
        decision.blobs = inventory.blobs.keys().filter(|blob| !sizes.references.contains_key(*blob)).cloned().collect();
    }
    decision.freed = Sizes::whole(inventory).saturating_sub(decision.left);
    decision
}

/// An inventory with what is derived from it.
struct View<'a> {
    inventory: &'a Inventory,
    in_use: BTreeSet<String>,
    used: BTreeMap<&'a str, u64>,
    depth: BTreeMap<&'a str, usize>,
}

impl<'a> View<'a> {
    fn of(inventory: &'a Inventory) -> View<'a> {
        let depths = inventory.entries.keys().map(|name| (name.as_str(), depth(inventory, name, 0)));
        View { inventory, in_use: inventory.in_use(), used: last_use(inventory), depth: depths.collect() }
    }

    /// Names in the order of something.
    fn sorted<K: Ord>(&self, by: impl Fn(&str) -> K) -> Vec<&'a str> {
        let mut names: Vec<&str> = self.inventory.entries.keys().map(String::as_str).collect();
        names.sort_by_key(|name| by(name));
        names
    }
}

impl Decision {
    /// What the policy names, as far as nothing that stays lies on it.
    fn choose_unwanted(&mut self, view: &View<'_>, policy: &PrunePolicy, now: u64) {
        let limit = policy.older_than.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        for name in view.sorted(|name| Reverse(view.depth[name])) {
            let entry = &view.inventory.entries[name];
            let is_fixed = entry.is_fixed(policy);
            let is_of_build = entry.item.build.as_ref().is_some_and(|build| policy.builds.contains(build));
            let is_old = limit.is_some_and(|limit| now.saturating_sub(view.used[name]) > limit);
            let is_wanted = !is_fixed && entry.item.kind != ItemKind::Broken && !policy.all && !is_of_build && !is_old;
            let is_used = view.in_use.contains(name);
            self.in_use += usize::from(is_used && !is_wanted);
            if is_fixed || is_used || is_wanted || needed.contains(name) {
                needed.extend(entry.needs.iter().map(String::as_str));
            } else {
                self.entries.push(name.to_owned());
            }
        }
    }

    /// The least recently used, until the rest is small enough.
    fn choose_oldest(
        &mut self,
        view: &View<'_>,
        mut kept: BTreeSet<&str>,
        sizes: &mut Sizes,
        limit: u64,
        policy: &PrunePolicy,
    ) {
        let mut needed = needs_of(view.inventory, &kept);
        // What lies on something goes before it: it was used no later, and where the times are equal it lies deeper.
        for name in view.sorted(|name| (view.used[name], Reverse(view.depth[name]))) {
            if sizes.total() <= limit {
                break;
            }
            let entry = &view.inventory.entries[name];
            let is_needed = needed.get(name).is_some_and(|count| *count > 0);
            if entry.is_fixed(policy) || is_needed || view.in_use.contains(name) || !kept.remove(name) {
                continue;
            }
            for need in &entry.needs {
                needed.entry(need).and_modify(|count| *count -= 1);
            }
            sizes.drop_entry(view.inventory, name);
            self.entries.push(name.to_owned());
        }
    }
}

impl Entry {
    /// Whether it is none of the collector's business.
    fn is_fixed(&self, policy: &PrunePolicy) -> bool {
        self.item.kind == ItemKind::Image && !(policy.images && self.has_name)
    }
}

/// How many of these entries need each other one.
fn needs_of<'a>(inventory: &'a Inventory, kept: &BTreeSet<&str>) -> BTreeMap<&'a str, usize> {
    let mut needed = BTreeMap::new();
    for need in kept.iter().filter_map(|name| inventory.entries.get(*name)).flat_map(|entry| &entry.needs) {
        *needed.entry(need.as_str()).or_default() += 1;
    }
    needed
}

/// When each entry was used last, itself or by what lies on it.
fn last_use(inventory: &Inventory) -> BTreeMap<&str, u64> {
    let mut used: BTreeMap<&str, u64> =
        inventory.entries.iter().map(|(name, entry)| (name.as_str(), entry.item.used)).collect();
    for (name, entry) in &inventory.entries {
        let mut waiting: Vec<&String> = entry.needs.iter().collect();
        let mut seen: BTreeSet<&String> = BTreeSet::new();
        while let Some(need) = waiting.pop() {
            let Some(below) = inventory.entries.get(need).filter(|_| need != name && seen.insert(need)) else {
                continue;
            };
            if let Some(time) = used.get_mut(need.as_str()) {
                *time = (*time).max(entry.item.used);
            }
            waiting.extend(&below.needs);
        }
    }
    used
}

/// How many entries lie below. A ring, which only a forged store has, ends somewhere.
fn depth(inventory: &Inventory, name: &str, from: usize) -> usize {
    let Some(entry) = inventory.entries.get(name).filter(|_| from < 1000) else { return 0 };
    entry.needs.iter().map(|need| 1 + depth(inventory, need, from + 1)).max().unwrap_or(0)
}

/// What kept entries take; blobs count once.
struct Sizes {
    entries: u64,
    blobs: u64,
    references: BTreeMap<String, usize>,
}

impl Sizes {
    fn new(inventory: &Inventory, kept: &BTreeSet<&str>) -> Sizes {
        let mut sizes = Sizes { entries: 0, blobs: 0, references: BTreeMap::new() };
        for entry in kept.iter().filter_map(|name| inventory.entries.get(*name)) {
            if entry.blobs.is_empty() {
                sizes.entries += entry.item.size;
            }
            for blob in &entry.blobs {
                *sizes.references.entry(blob.clone()).or_default() += 1;
            }
        }
        sizes.blobs = sizes.references.keys().filter_map(|blob| inventory.blobs.get(blob)).sum();
        sizes
    }

    /// Of all that lies in the store.
    fn whole(inventory: &Inventory) -> u64 {
        let own = inventory.entries.values().filter(|entry| entry.blobs.is_empty()).map(|entry| entry.item.size);
        own.sum::<u64>() + inventory.blobs.values().sum::<u64>()
    }

    fn total(&self) -> u64 {
        self.entries + self.blobs
    }

    fn unreferenced(&self, inventory: &Inventory) -> u64 {
        inventory.blobs.iter().filter(|(blob, _)| !self.references.contains_key(*blob)).map(|(_, size)| size).sum()
    }

    fn drop_entry(&mut self, inventory: &Inventory, name: &str) {
        let entry = &inventory.entries[name];
        if entry.blobs.is_empty() {
            self.entries = self.entries.saturating_sub(entry.item.size);
        }
        for blob in &entry.blobs {
            let Some(count) = self.references.get_mut(blob) else { continue };
            *count -= 1;
            if *count == 0 {
                self.references.remove(blob);
                self.blobs = self.blobs.saturating_sub(inventory.blobs.get(blob).copied().unwrap_or(0));
            }
        }
    }
}
