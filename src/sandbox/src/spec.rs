//! What a sandbox is to be: plain values that travel to the helper.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::SandboxError;

/// How a guest is kept apart from its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Name spaces, made by root: the guest's root is the host's, with fewer capabilities.
    Ns,
    /// Name spaces below a user name space: the guest's root is nobody special on the host.
    Userns,
    /// Only another root directory: all that a default container allows.
    Chroot,
}

impl Isolation {
    /// Its name in templates and messages.
    pub fn name(self) -> &'static str {
        match self {
            Isolation::Ns => "ns",
            Isolation::Userns => "userns",
            Isolation::Chroot => "chroot",
        }
    }

    /// Whether guests can have these mounts and this network; what cannot be is refused, rather than left out.
    ///
    /// # Errors
    /// [`SandboxError::Unavailable`] says what cannot be.
    pub fn check(self, mounts: &[BindMount], network: Network) -> Result<(), SandboxError> {
        let refuse = |what: &str| Err(SandboxError::Unavailable(format!("isolation `chroot` cannot {what}")));
        match self {
            Isolation::Ns | Isolation::Userns => Ok(()),
            Isolation::Chroot if !mounts.is_empty() => refuse("mount volumes"),
            Isolation::Chroot if network == Network::None => refuse("take the network away"),
            Isolation::Chroot => Ok(()),
        }
    }
}

/// A run of ids in the guest and what they are on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdRange {
    /// The first one in the guest.
    pub inside: u32,
    /// The first one on the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Which kind of map it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// No map: ids in the guest are those of the host.
    Identity,
    /// Ranges that `newuidmap` or root sets.
    Ranges,
    /// One id only; the guest has no other user than root.
    Single,
}

/// The users and groups of a guest, as the host knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct IdMap {
    /// Which kind.
    pub kind: IdKind,
    /// Users. Empty where there is no map.
    pub uids: Vec<IdRange>,
    /// Groups. Empty where there is no map.
    pub gids: Vec<IdRange>,
}

impl IdMap {
    /// The guest's ids are the host's.
    pub fn identity() -> IdMap {
        IdMap { kind: IdKind::Identity, uids: Vec::new(), gids: Vec::new() }
    }
}

/// An isolation that works here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Which one.
    pub isolation: Isolation,
    /// The guest's users.
    pub id_map: IdMap,
    /// What it cannot do, in words for a person.
    pub lacks: Vec<String>,
    /// Name of the store's directory whose trees have these owners: `0`, `1000-subuid`, `1000-single`, `0-chroot`.
    pub store_suffix: String,
}

impl Chosen {
    /// Name spaces made by root, without a probe.
    pub fn root() -> Chosen {
        Chosen { isolation: Isolation::Ns, id_map: IdMap::identity(), lacks: Vec::new(), store_suffix: "0".to_owned() }
    }

    /// Whether overlays keep their marks in `user.overlay.*`: those of `trusted.*` need real root.
    pub fn user_xattr(&self) -> bool {
        self.isolation == Isolation::Userns
    }
}

/// How to start this program as a helper: its `main` calls [`crate::helper_main`] before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelperProgram {
    /// The program.
    pub path: PathBuf,
    /// Its arguments; the first is [`crate::HELPER_ARGUMENT`] where the program looks for that.
    pub arguments: Vec<String>,
}

impl HelperProgram {
    /// The program that runs now.
    pub fn this_program() -> HelperProgram {
        // Not its name: that may be another file by now.
        let path = PathBuf::from("/proc/self/exe");
        HelperProgram { path, arguments: vec![crate::HELPER_ARGUMENT.to_owned()] }
    }
}

/// The guest's root directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootFs {
    /// Layers, and a directory that takes all changes.
    Overlay {
        /// Unchanged, the topmost first.
        lowers: Vec<PathBuf>,
        /// Takes the changes.
        upper: PathBuf,
        /// Empty, on the file system of `upper`; the session makes `WORK.stubs` beside it, and removes that, unless
        /// [`SandboxSpec::stubs`] is set.
        work: PathBuf,
    },
    /// One directory, changed in place.
    Directory(PathBuf),
}

/// Which network a guest sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// The host's, with all that listens on its loopback.
    #[default]
    Host,
    /// Only a loopback of its own.
    None,
}

/// A file or directory of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    /// On the host.
    pub source: PathBuf,
    /// In the guest, absolute; made where it is missing.
    pub target: String,
    /// The guest may not change it.
    pub read_only: bool,
}

/// A directory in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// In the guest, absolute; made where it is missing.
    pub target: String,
    /// As docker's `--tmpfs` takes them: `size=64m,mode=1777,noexec`.
    pub options: String,
}

/// A device of the host in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// On the host.
    pub source: PathBuf,
    /// In the guest, below `/dev`.
    pub target: String,
}

/// A guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// How it is kept apart.
    pub chosen: Chosen,
    /// Its root.
    pub root: RootFs,
    /// Its name.
    pub hostname: String,
    /// Its network.
    pub network: Network,
    /// Files and directories of the host.
    pub mounts: Vec<BindMount>,
    /// Directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Devices beside the usual ones.
    pub devices: Vec<Device>,
    /// Capabilities that its root has beside docker's, by name; `ALL`.
    pub capabilities_add: Vec<String>,
    /// Capabilities of docker's that its root has not, by name; `ALL`.
    pub capabilities_drop: Vec<String>,
    /// Nothing is refused but what the isolation cannot do.
    pub privileged: bool,
    /// System calls are filtered.
    pub seccomp: bool,
    /// Lines for `/etc/hosts`: address and names.
    pub extra_hosts: Vec<(String, String)>,
    /// Environment of all commands: the image's.
    pub environment: Vec<(String, String)>,
    /// Where a directory in memory for secrets is mounted; nowhere if absent.
    pub secrets_directory: Option<String>,
    /// Where the mount points that an image may lack are kept for all sessions with the same settings; made by the first.
    pub stubs: Option<PathBuf>,
}

impl SandboxSpec {
    /// The usual guest on this root.
    pub fn new(chosen: Chosen, root: RootFs) -> SandboxSpec {
        SandboxSpec {
            chosen,
            root,
            hostname: "kiln".to_owned(),
            network: Network::Host,
            mounts: Vec::new(),
            tmpfs: Vec::new(),
            devices: Vec::new(),
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            privileged: false,
            seccomp: true,
            extra_hosts: Vec::new(),
            environment: Vec::new(),
            secrets_directory: None,
            stubs: None,
        }
    }
}
