//! The step cache's contract: states of a machine that are named by what led to them.
//!
//! ```text
//!   base inputs ──► Key 0 ──step 1's inputs──► Key 1 ──step 2's inputs──► Key 2 ... ──seal──► artifact
//! ```
//!
//! The engine computes keys and decides; a builder keeps and restores states. Neither sees the other's half.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::context::BuildContext;
use crate::failure::Failure;
use crate::kinds::Launched;

/// Names a state of a machine: 64 hexadecimal digits of SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(String);

impl Key {
    /// Of a digest's 32 bytes.
    pub fn from_digest(digest: [u8; 32]) -> Key {
        Key(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Of its text; `None` where that is not 64 lower-case hexadecimal digits. A key names files, so nothing else may pass.
    pub fn parse(text: &str) -> Option<Key> {
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 64 && text.bytes().all(is_hex)).then(|| Key(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One thing that a state depends on. Keys are made of these, and a miss is explained by the ones that differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is, as a user would call it: `image`, `inline`, `scripts/apt.sh`, `environment_vars`.
    pub name: String,
    /// Digest of its value; keyed where the value is a secret.
    pub digest: String,
    /// The value in a few words, where it is no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
}

/// What is known of a state when it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateInfo {
    /// The state before it; `None` for a base.
    pub parent: Option<Key>,
    /// What led to it, for people: `shell: scripts/apt.sh`.
    pub title: String,
    /// The build that made it first.
    pub build: String,
    /// How long that took.
    pub took: Duration,
    /// When.
    pub created: SystemTime,
    /// A secret was at hand, so it must not leave this host.
    pub used_secrets: bool,
    /// The template asks to keep it (`checkpoint = true`), whatever that costs.
    pub is_checkpoint: bool,
}

/// What keeping a state came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It can be restored from now on. `content` digests what it differs in from its parent, where that is known: equal
    /// content over an equal parent is the same state, whatever led to it.
    Kept {
        /// Digest of the difference.
        content: Option<String>,
    },
    /// It would cost more than it is worth; the reason is for `kiln plan` and debugging.
    NotWorth(&'static str),
}

/// What sealing a state gave at an earlier time, with the machine's facts of then.
pub struct Sealed {
    /// The artifact; its content still exists.
    pub artifact: Artifact,
    /// Values for `build.*`.
    pub facts: BTreeMap<String, String>,
}

/// The ability of a builder to keep and restore states; all that the step cache needs of it.
#[async_trait]
pub trait Snapshots: Send + Sync {
    /// What its machines start as: resolves the base image (one request to a registry at most; downloads wait for the
    /// launch), and names all that the state before the first step depends on. Two builds with equal inputs start equal.
    async fn base(&self, context: &BuildContext) -> Result<Vec<Input>, Failure>;

    /// What is kept under a key; `None` for nothing usable.
    async fn find(&self, key: &Key) -> Result<Option<StateInfo>, Failure>;

    /// Starts a machine in the state of a key that [`Snapshots::find`] found. As [`crate::Builder::launch`] otherwise.
    async fn restore(&self, key: &Key, context: &BuildContext) -> Result<Launched, Failure>;

    /// What sealing the state of this key gave before with the same arguments of the source; `None` where it was not, or
    /// where the result is gone. It is brought where the arguments want it (files, names, pushes) as sealing does.
    async fn sealed(&self, key: &Key, context: &BuildContext) -> Result<Option<Sealed>, Failure>;

    /// The artifact that [`Snapshots::sealed`] would give, without bringing it anywhere: for builds that are built upon it.
    async fn sealed_before(&self, key: &Key) -> Result<Option<Artifact>, Failure> {
        let _ = key;
        Ok(None)
    }

    /// Whether [`Snapshots::sealed`] would give something, without bringing it anywhere; for `kiln plan`.
    async fn is_sealed(&self, key: &Key) -> Result<bool, Failure>;
}

/// What a build's steps depended on when it ran last. It explains misses, and says where keys lead since. Free of secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The builder's kind.
    pub builder: String,
    /// What its machines started as.
    pub base: Vec<Input>,
    /// Its steps in order, as far as the build came.
    pub steps: Vec<StepRecord>,
    /// The state that the build sealed last.
    pub sealed: Option<Key>,
    /// Where keys lead that are not the names of their states, the newest last.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What states differ in from their parents, the newest last.
    #[serde(default)]
    pub contents: Vec<ContentRecord>,
}

/// One step as it was when its build ran last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The provisioner's kind.
    pub kind: String,
    /// Its `name`, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does, in a few words.
    pub title: String,
    /// What it depended on.
    pub inputs: Vec<Input>,
    /// The state after it; `None` for a step that leads to no state of its own, and for one that failed.
    pub state: Option<Key>,
    /// Whether it failed.
    #[serde(default)]
    pub has_failed: bool,
    /// Why that state was not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    /// What its files were, so that those that nobody wrote since need not be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesRecord>,
}

/// Files as they were read once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesRecord {
    /// Digest of their names, times, sizes and inodes: whoever writes one of them changes it.
    pub stamp: Key,
    /// Their contents.
    pub inputs: Vec<Input>,
    /// Whether one of them mentions the build's name.
    pub mention_build: bool,
}

/// A computed key whose state bears another one: a step that ran anew although its key was known (`--no-cache`, an entry
/// that expired), or whose result was equal to one that was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The computed key.
    pub from: Key,
    /// The state's.
    pub to: Key,
}

/// The content of a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentRecord {
    /// The state before.
    pub parent: Key,
    /// Digest of what it differs in.
    pub content: String,
    /// The state.
    pub state: Key,
}

/// What is remembered of builds from one run to the next, and the secret that keys are made with.
pub trait PlanMemory: Send + Sync {
    /// Digest of a secret under a key of this host alone, so that nobody can try out secrets on it.
    fn keyed_digest(&self, secret: &[u8]) -> String;

    /// The last record of a build of the template at this absolute path; `None` where there is none that can be read.
    fn last_plan(&self, template: &Path, build: &str) -> Option<PlanRecord>;

    /// Puts a record in the last one's place.
    fn put_plan(&self, template: &Path, build: &str, record: &PlanRecord) -> Result<(), Failure>;
}
