//! Finding out what isolation works here, by trying, and saying why another does not.
//!
//! A helper tries each candidate as far as a session needs it: the name spaces, an overlay with its upper in the store, a
//! `/proc`, a new root. Nothing that a system says of itself replaces that: containers, security modules and kernels refuse at
//! different steps.

mod attempt;
mod memory;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

pub(crate) use attempt::serve;

use crate::capabilities::Capabilities;
use crate::error::{SandboxError, Trying};
use crate::helper::Helper;
use crate::protocol::{Order, Reply};
use crate::spec::{Chosen, HelperProgram, IdKind, IdMap, Isolation};
use memory::Memory;

/// A way to keep a guest apart that may work here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) isolation: Isolation,
    pub(crate) id_map: IdMap,
}

/// What a helper is to try.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// In this order; one that works ends it.
    pub(crate) candidates: Vec<Candidate>,
    /// A directory of its own in the store.
    pub(crate) directory: PathBuf,
}

/// How a trial went.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Finding {
    /// It works.
    Works {
        /// A fresh /proc may be mounted.
        own_proc: bool,
        /// Device nodes can be made, or taken from the host.
        devices: bool,
    },
    /// It does not.
    Refused(Refused),
}

/// What the system refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refused {
    step: Step,
    errno: Option<i32>,
    text: String,
}

/// What a session does to be apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Step {
    UserNamespace,
    Namespaces,
    Overlay,
    Root,
    Chroot,
    Other,
}

/// After this long, what a trial made is nobody's.
const STALE: Duration = Duration::from_secs(60);

/// The better ones first.
const ALL: [Isolation; 3] = [Isolation::Ns, Isolation::Userns, Isolation::Chroot];

/// Why an isolation cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which one.
    pub isolation: Isolation,
    /// Why, in words for a person; with what helps, where something does.
    pub reason: String,
}

/// Tells what isolation works, and what is in the way of others.
#[derive(Debug, Clone)]
pub struct Probe {
    helper: HelperProgram,
    store: PathBuf,
    caller: Caller,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
struct Caller {
    uid: u32,
    gid: u32,
    capabilities: Capabilities,
}

/// Where guests will have their changes is part of the question: not every file system can hold an overlay's upper. The
/// directory is made where it is missing.
pub fn probe(helper: &HelperProgram, store: &Path) -> Probe {
    let caller = Caller {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        capabilities: Capabilities::effective().unwrap_or(Capabilities::NONE),
    };
    Probe { helper: helper.clone(), store: store.to_owned(), caller }
}

impl Probe {
    /// The wanted isolation, or the best one that works: name spaces made by root, below a user name space with ranges of ids,
    /// with a single id, and only then a mere root directory.
    ///
    /// # Errors
    /// None works; the text says why.
    pub fn choose(&self, wanted: Option<Isolation>) -> Result<Chosen, SandboxError> {
        let memory = Memory::of(&self.store, self.caller.uid);
        if let Some(chosen) = memory.recall(wanted) {
            return Ok(chosen);
        }
        let chosen = self.find_out(wanted)?;
        memory.keep(wanted, &chosen);
        Ok(chosen)
    }

    /// Drops what was remembered of earlier choices: a session could not be started.
    pub fn forget(&self) {
        Memory::of(&self.store, self.caller.uid).forget();
    }

    fn find_out(&self, wanted: Option<Isolation>) -> Result<Chosen, SandboxError> {
        let (mut refusals, candidates) = self.candidates(wanted);
        let findings = self.try_out(&candidates)?;
        for (candidate, finding) in candidates.into_iter().zip(findings) {
            match finding {
                Finding::Works { own_proc, devices } => {
                    return Ok(self.chosen(candidate, own_proc, devices, &refusals));
                }
                Finding::Refused(refused) => {
                    let reason = self.reason(&candidate, &refused);
                    let refusal = Refusal { isolation: candidate.isolation, reason };
                    // Two maps mostly fail for one reason.
                    if !refusals.contains(&refusal) {
                        refusals.push(refusal);
                    }
                }
            }
        }
        refusals.sort_by_key(|refusal| ALL.iter().position(|isolation| *isolation == refusal.isolation));
        Err(SandboxError::Unavailable(unavailable(wanted, &refusals)))
    }

    /// Every isolation: what it would be, or why it cannot be.
    ///
    /// # Errors
    /// Trying itself failed.
    pub fn report(&self) -> Result<Vec<Result<Chosen, Refusal>>, SandboxError> {
        let mut report = Vec::new();
        for isolation in ALL {
            match self.choose(Some(isolation)) {
                Ok(chosen) => report.push(Ok(chosen)),
                Err(SandboxError::Unavailable(reason)) => report.push(Err(Refusal { isolation, reason })),
                Err(error) => return Err(error),
            }
        }
        Ok(report)
    }

    /// What is worth trying, and why the rest is not.
    fn candidates(&self, wanted: Option<Isolation>) -> (Vec<Refusal>, Vec<Candidate>) {
        let mut refusals = Vec::new();
        let mut candidates = Vec::new();
        for isolation in ALL {
            if wanted.is_some_and(|wanted| wanted != isolation) {
                continue;
            }
            let mut refuse = |reason: String| refusals.push(Refusal { isolation, reason });
            match isolation {
                Isolation::Ns => match self.caller.lacks(&[CapabilitySet::SYS_ADMIN]) {
                    None => candidates.push(Candidate { isolation, id_map: IdMap::identity() }),
                    Some(reason) => refuse(reason),
                },
                Isolation::Userns => {
                    for map in self.caller.maps() {
                        match map {
                            Ok(id_map) => candidates.push(Candidate { isolation, id_map }),
                            Err(reason) => refuse(reason.to_string()),
                        }
                    }
                }
                Isolation::Chroot => {
                    use CapabilitySet as Needed;
                    let needed =
                        [Needed::SYS_CHROOT, Needed::CHOWN, Needed::DAC_OVERRIDE, Needed::SETUID, Needed::SETGID];
                    match self.caller.lacks(&needed) {
                        None => candidates.push(Candidate { isolation, id_map: IdMap::identity() }),
                        Some(reason) => refuse(reason),
                    }
                }
            }
        }
        (refusals, candidates)
    }

    fn try_out(&self, candidates: &[Candidate]) -> Result<Vec<Finding>, SandboxError> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let directory = self.scratch().trying(&format!("make a directory in {}", self.store.display()))?;
        let trial = Trial { candidates: candidates.to_vec(), directory: directory.clone() };
        let result = self.ask(trial);
        // Empty by now, but where something went wrong in between.
        clear(&directory);
        result
    }

    fn scratch(&self) -> io::Result<PathBuf> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.store)?;
        self.clear_stale();
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let directory = self.store.join(format!(".probe-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                // Of a process with this number that was killed, or put there by somebody else: never used.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => return directory.canonicalize(),
            }
        }
    }

    /// Removes what trials of killed processes left.
    fn clear_stale(&self) {
        for entry in fs::read_dir(&self.store).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let numbers = name.to_str().and_then(|name| name.strip_prefix(".probe-")?.split_once('-'));
            let pid = numbers.and_then(|(pid, _)| rustix::process::Pid::from_raw(pid.parse().ok()?));
            let gone = |pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH);
            // A process of another container on this store cannot be seen; but no trial takes that long.
            let Ok(metadata) = entry.metadata() else { continue };
            let is_ours = metadata.is_dir() && metadata.uid() == self.caller.uid;
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
            if is_ours && pid.is_some_and(gone) && age.is_some_and(|age| age > STALE) {
                clear(&entry.path());
            }
        }
    }

    fn ask(&self, trial: Trial) -> Result<Vec<Finding>, SandboxError> {
        let mut helper = Helper::start_blocking(&self.helper)?;
        let sent = helper.channel.send(&Order::Probe(trial), &[]);
        let reply = sent.and_then(|()| helper.channel.receive::<Reply>());
        _ = helper.process.wait();
        match reply.trying("ask the helper what works here")? {
            Some((Reply::Probed(findings), _)) => Ok(findings),
            Some((Reply::Failed(report), _)) => Err(report.into()),
            Some((other, _)) => Err(SandboxError::Protocol(format!("{other:?}"))),
            None => Err(SandboxError::Ended),
        }
    }

    fn chosen(&self, candidate: Candidate, own_proc: bool, devices: bool, refusals: &[Refusal]) -> Chosen {
        let Candidate { isolation, id_map } = candidate;
        let mut lacks = Vec::new();
        match (isolation, id_map.kind) {
            (Isolation::Chroot, _) => {
                lacks.extend(CHROOT_LACKS.map(str::to_owned));
                let better = refusals.iter().filter(|refusal| refusal.isolation != isolation);
                lacks.extend(
                    better.map(|refusal| format!("why not `{}`: {}", refusal.isolation.name(), refusal.reason)),
                );
            }
            (_, IdKind::Single) => {
                lacks.extend(refusals.iter().filter(|refusal| refusal.isolation == isolation).map(|refusal| {
                    format!(
                        "no user ids but one ({}): all files belong to root, changes of owners are pretended",
                        refusal.reason
                    )
                }));
            }
            (_, IdKind::Ranges) if id_map.size() < 65_536 => {
                lacks.push(format!("only {} user ids: files of others cannot be made", id_map.size()));
            }
            _ => {}
        }
        if !devices {
            lacks.push("no device nodes: /dev/null and its like are ordinary files".to_owned());
        }
        if isolation != Isolation::Chroot && !own_proc {
            lacks.push("no /proc of its own: the guest sees the host's processes".to_owned());
        }
        let store_suffix = match isolation {
            Isolation::Chroot => format!("{}-chroot", self.caller.uid),
            _ => id_map.store_suffix(self.caller.uid),
        };
        Chosen { isolation, id_map, lacks, store_suffix }
    }

    fn reason(&self, candidate: &Candidate, refused: &Refused) -> String {
        let errno = refused.errno.map(io::Error::from_raw_os_error);
        let kind = errno.as_ref().map(io::Error::kind);
        let denied = kind == Some(io::ErrorKind::PermissionDenied);
        let why = match refused.step {
            Step::UserNamespace | Step::Namespaces if denied && filtered() => Some(
                "a filter of system calls forbids it, as in a container: docker's takes --security-opt seccomp=unconfined",
            ),
            Step::UserNamespace if refused.errno == Some(libc::ENOSPC) => {
                Some("the limit of user name spaces is reached: see sysctl user.max_user_namespaces")
            }
            Step::UserNamespace | Step::Namespaces | Step::Root | Step::Overlay
                if denied && restricted_by_apparmor() =>
            {
                Some(
                    "AppArmor allows no user name spaces to programs it does not know: run kiln as root, or see sysctl kernel.apparmor_restrict_unprivileged_userns",
                )
            }
            Step::UserNamespace if denied => {
                Some("see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces")
            }
            Step::Overlay if self.store_is_overlay() => Some(
                "the store is itself on an overlay, which cannot hold another one's changes: put it on a volume or a tmpfs",
            ),
            Step::Overlay if denied && candidate.isolation == Isolation::Userns => {
                Some("overlays of ordinary users need Linux 5.11")
            }
            Step::Overlay => Some("the store's file system cannot hold an overlay's changes"),
            Step::Root if denied => Some("a filter of system calls or a security module forbids it"),
            _ => None,
        };
        match why {
            Some(why) => format!("{}; {why}", refused.text),
            None => refused.text.clone(),
        }
    }

    fn store_is_overlay(&self) -> bool {
        const OVERLAYFS: rustix::fs::FsWord = 0x794c_7630;
        rustix::fs::statfs(&self.store).is_ok_and(|stat| stat.f_type == OVERLAYFS)
    }
}

/// Removes the directory of a trial. The kernel closes its own directory in it to all, but it belongs to the caller.
fn clear(directory: &Path) {
    _ = fs::set_permissions(directory.join("work/work"), fs::Permissions::from_mode(0o700));
    _ = fs::remove_dir_all(directory);
}

/// What a mere root directory cannot do.
const CHROOT_LACKS: [&str; 4] = [
    "no name spaces: the guest shares processes, network and host name with the host, and nothing keeps its root from them",
    "no mounts: /proc is missing, volumes are refused, tmpfs and secrets are directories on the disk",
    "no overlay: a base is copied, and each step's changes are found by comparing all files",
    "no chroot within the guest",
];

impl Caller {
    /// What is missing, unless nothing is.
    fn lacks(&self, needed: &[CapabilitySet]) -> Option<String> {
        let needed = needed.iter().copied().fold(Capabilities::NONE, |all, one| all.union(one.into()));
        let missing = needed.without(self.capabilities);
        if self.uid != 0 {
            Some("not root".to_owned())
        } else if missing != Capabilities::NONE {
            Some(format!("root without {missing}, as in a container"))
        } else {
            None
        }
    }

    /// The maps that may be had, the better ones first.
    fn maps(&self) -> Vec<Result<IdMap, crate::idmap::NoRanges>> {
        let may_write = Capabilities::from(CapabilitySet::SETUID | CapabilitySet::SETGID);
        let single = IdMap::single(self.uid, self.gid);
        if self.uid == 0 && self.capabilities.contains(may_write) {
            vec![IdMap::of_root(), Ok(single)]
        } else {
            vec![IdMap::of_user(self.uid, self.gid), Ok(single)]
        }
    }
}

fn unavailable(wanted: Option<Isolation>, refusals: &[Refusal]) -> String {
    match (wanted, refusals) {
        (Some(wanted), refusals) => {
            let reasons: Vec<_> = refusals.iter().map(|refusal| refusal.reason.as_str()).collect();
            format!("isolation `{}` cannot be had here: {}", wanted.name(), reasons.join("; "))
        }
        (None, refusals) => {
            let list: String = refusals
                .iter()
                .map(|refusal| format!("\n  {}: {}", refusal.isolation.name(), refusal.reason))
                .collect();
            format!("no isolation works here:{list}")
        }
    }
}

/// This process's system calls are filtered.
fn filtered() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() != "0")
}

fn restricted_by_apparmor() -> bool {
    fs::read_to_string("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|value| value.trim() == "1")
}

impl Refused {
    fn new(step: Step, error: &SandboxError) -> Refused {
        let text = match error {
            SandboxError::System { action, source } => format!("cannot {action}: {source}"),
            other => other.to_string(),
        };
        Refused { step, errno: error.errno(), text }
    }
}
