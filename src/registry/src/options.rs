//! What a caller decides about a client, a pull, a push; and what a client tells on the way.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::Platform;
use kiln_image::Digest;

use crate::credentials::{CredentialSources, Credentials};
use crate::reference::Reference;

/// How a client reaches registries, and as whom.
#[derive(Clone)]
pub struct ClientOptions {
    /// Where logins are looked for. Its environment also gives the proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) and
    /// `SSL_CERT_FILE`.
    pub credentials: CredentialSources,
    /// Logins that go before all others, each for a registry (`registry.example.org`) or, narrower and therefore first, a
    /// repository or group in it.
    pub explicit: Vec<(String, Credentials)>,
    /// PEM files of certificate authorities, trusted besides the usual ones.
    pub ca_files: Vec<PathBuf>,
    /// Hosts (with port) that may be reached by TLS with a certificate that nobody vouches for, or by plain HTTP. Plain HTTP
    /// to loopback addresses is always fine.
    pub insecure: Vec<String>,
    /// Asked before the registry of a reference, in this order. For pulling only.
    pub mirrors: Vec<Mirror>,
    /// How long something that fails is tried again, from its first failure on.
    pub budget: Duration,
    /// How long a transfer may stand still.
    pub stall: Duration,
    /// Is told of retries, waits, logins, mirrors.
    pub notes: Arc<dyn Fn(Note) + Send + Sync>,
}

impl Default for ClientOptions {
    fn default() -> ClientOptions {
        ClientOptions {
            credentials: CredentialSources::default(),
            explicit: Vec::new(),
            ca_files: Vec::new(),
            insecure: Vec::new(),
            mirrors: Vec::new(),
            budget: Duration::from_secs(120),
            stall: Duration::from_secs(60),
            notes: Arc::new(|_| {}),
        }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ClientOptions")
            .field("insecure", &self.insecure)
            .field("mirrors", &self.mirrors)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

/// A registry that is asked before another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Whose images it may have: `docker.io`, `quay.io`; `*` for all.
    pub registry: String,
    /// Its host with port, and a path below which its images lie, if any: `mirror.example.org:5000`. Images of docker.io
    /// are looked for without a namespace (`MIRROR/library/debian`), those of others with theirs
    /// (`MIRROR/quay.io/group/image`).
    pub location: String,
    /// Whether the next one is asked when this one fails (not only when it does not have the image). Off, because an image
    /// that silently comes from elsewhere is not the one that was meant.
    pub fallback: bool,
}

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Which image of an index; `None` takes all of them.
    pub platform: Option<Platform>,
    /// How many blobs at the same time.
    pub jobs: usize,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions { platform: Some(Platform::host()), jobs: 4 }
    }
}

/// How to push.
#[derive(Debug, Clone)]
pub struct PushOptions {
    /// Repositories that may hold some of the layers already (the base's): a registry takes them over from there.
    pub mount_from: Vec<Reference>,
    /// How many blobs at the same time.
    pub jobs: usize,
}

impl Default for PushOptions {
    fn default() -> PushOptions {
        PushOptions { mount_from: Vec::new(), jobs: 4 }
    }
}

/// Is told how each blob fares.
pub type ProgressSink = Arc<dyn Fn(Progress) + Send + Sync>;

/// A sink for callers who do not care.
pub fn no_progress() -> ProgressSink {
    Arc::new(|_| {})
}

/// How a blob fares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The blob.
    pub digest: Digest,
    /// Bytes moved so far; smaller than before when a transfer had to start again.
    pub done: u64,
    /// Its size.
    pub total: u64,
    /// Where it is.
    pub stage: Stage,
}

/// Where a blob is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Bytes are moving.
    Moving,
    /// It is there, all bytes were moved.
    Moved,
    /// It was there already.
    Present,
    /// The registry took it over from another of its repositories.
    Mounted,
}

/// What a reference means now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The manifest's or index's.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
    /// The registry or mirror that said so: `mirror.example.org:5000/library/debian`.
    pub from: String,
}

/// What a pull brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The manifest of the platform's image; with all platforms the index itself.
    pub manifest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size.
    pub size: u64,
    /// The index that names it, where the reference means one.
    pub index: Option<Digest>,
    /// The registry or mirror it came from: `mirror.example.org:5000/library/debian`.
    pub from: String,
    /// Bytes of blobs and manifests that were moved; what the layout had is not counted.
    pub moved: u64,
}

/// What a push did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The manifest's or index's, the same for all references.
    pub digest: Digest,
    /// Bytes of blobs that were moved.
    pub moved: u64,
    /// How many blobs were moved, taken over from another repository, and there already.
    pub blobs: Moves,
}

/// How blobs came to where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moves {
    /// Their bytes were moved.
    pub moved: usize,
    /// Taken over from another repository.
    pub mounted: usize,
    /// There already.
    pub present: usize,
}

/// What a client tells on the way; its text is for people, in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Whose login is used.
    Login {
        /// Where.
        registry: String,
        /// As whom; empty with an identity token.
        username: String,
        /// Where the login was found.
        origin: String,
    },
    /// It goes on without a login.
    Anonymous {
        /// Where.
        registry: String,
        /// Why.
        reason: String,
    },
    /// Something failed and is tried again.
    Retry {
        /// What was done: `PUT group/image:1 at registry.example.org`.
        action: String,
        /// What happened.
        problem: String,
        /// When it is tried again.
        wait: Duration,
    },
    /// An image comes from a mirror.
    Mirror {
        /// The image.
        reference: String,
        /// Where it comes from.
        from: String,
    },
    /// A mirror does not have an image, or fails and may be passed over.
    MirrorPassed {
        /// The image.
        reference: String,
        /// Where it does not come from.
        mirror: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Login { registry, username, origin } if username.is_empty() => {
                write!(formatter, "logging in to {registry} with the token from {origin}")
            }
            Note::Login { registry, username, origin } => {
                write!(formatter, "logging in to {registry} as {username}, from {origin}")
            }
            Note::Anonymous { registry, reason } => write!(formatter, "{registry} is asked without a login: {reason}"),
            Note::Retry { action, problem, wait } => {
                write!(formatter, "{action}: {problem}; trying again in {:.1} s", wait.as_secs_f64())
            }
            Note::Mirror { reference, from } => write!(formatter, "{reference} comes from {from}"),
            Note::MirrorPassed { reference, mirror, reason } => {
                write!(formatter, "{reference} does not come from {mirror}: {reason}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_written_as_docker_writes_it() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), text);
        }
        for wrong in ["", "linux", "linux/", "linux/arm/v7/x"] {
            assert_eq!(Platform::parse(wrong), None, "{wrong}");
        }
    }
}
