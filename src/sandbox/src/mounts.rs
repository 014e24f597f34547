//! A guest's root, built by process 1 in its own mount name space.
//!
//! Everything that is mounted is first taken as a file of ours that is attached nowhere. Then the root is changed, and only then
//! are the mounts attached, at places that are opened below the new root: no path of the guest is ever looked up where the
//! host's files are, so that no link in an image leads a mount anywhere else.

mod sources;
mod stubs;
mod targets;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, UnmountFlags};

pub(crate) use stubs::Stubs;

use crate::error::{SandboxError, Trying};
use crate::spec::{IdKind, RootFs, SandboxSpec};
use crate::sys;
use sources::{Source, Wanted};
use targets::{Kind, Targets};

/// Where the kernel tells of itself what no guest needs to read; what docker hides.
const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What a guest may read, but not write.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A root that is in place.
pub(crate) struct Root {
    proc: Option<OwnedFd>,
    terminals: Option<OwnedFd>,
    targets: Targets,
}

impl Root {
    /// A procfs of the guest's processes.
    pub(crate) fn take_proc(&mut self) -> Result<OwnedFd, SandboxError> {
        self.proc.take().ok_or_else(|| SandboxError::Unavailable("the guest has no /proc".to_owned()))
    }

    /// The guest's `devpts`.
    pub(crate) fn take_terminals(&mut self) -> Option<OwnedFd> {
        self.terminals.take()
    }

    /// Removes the mount points that had to be made in the root itself. Nothing may run in the guest any more.
    pub(crate) fn clear(&mut self) {
        self.targets.clear();
    }
}

/// What is mounted in a guest, attached nowhere yet.
pub(crate) struct Ground {
    proc: OwnedFd,
    hidden: Vec<(String, OwnedFd)>,
    wanted: Vec<Wanted>,
}

impl Ground {
    /// All but the root, before that is known. Kernels before 6.5 need the host's `/proc` for an overlay, and that is out of
    /// reach after it.
    pub(crate) fn prepare(spec: &SandboxSpec) -> Result<Ground, SandboxError> {
        keep_private()?;
        Ground::take(spec)
    }

    fn take(spec: &SandboxSpec) -> Result<Ground, SandboxError> {
        let proc = sources::proc()?;
        let hidden = sources::covers(spec, HIDDEN, &proc)?;
        // Last, because the host's /proc is out of reach after it.
        let wanted = sources::wanted(spec)?;
        Ok(Ground { proc, hidden, wanted })
    }

    /// Takes the root and changes into it.
    pub(crate) fn build(self, spec: &SandboxSpec, stubs: &Stubs) -> Result<Root, SandboxError> {
        let root = take_root(spec, stubs)?;
        settle(root, self, spec)
    }
}

/// Builds the root that the specification asks for and changes into it.
pub(crate) fn build(spec: &SandboxSpec, stubs: &Stubs) -> Result<Root, SandboxError> {
    keep_private()?;
    let root = take_root(spec, stubs)?;
    settle(root, Ground::take(spec)?, spec)
}

fn settle(root: OwnedFd, ground: Ground, spec: &SandboxSpec) -> Result<Root, SandboxError> {
    let Ground { proc, hidden, wanted } = ground;
    let own_proc = open_directory(&proc)?;
    change_root(&root, spec)?;
    let mut targets = Targets::new(root)?;
    targets.attach(&proc, "/proc", Kind::Directory)?;
    let mut terminals = None;
    for Wanted { source, target, strict } in wanted {
        let kind = source.kind()?;
        let place = if strict { targets.system(&target, kind)? } else { targets.find_or_make(&target, kind)? };
        let mount = source.take()?;
        if target == "/dev/pts" {
            terminals = Some(open_directory(&mount)?);
        }
        targets.attach_at(&mount, &place, &target)?;
    }
    if !spec.privileged {
        for (path, cover) in hidden {
            targets.cover(&path, cover)?;
        }
        READ_ONLY.iter().try_for_each(|path| targets.make_read_only(path))?;
    }
    Ok(Root { proc: Some(own_proc), terminals, targets })
}

/// Where apt is told to fetch as root. It checks that it has become its own user, and there is none in a guest with a single id.
const APT_AS_ROOT: &str = "/etc/apt/apt.conf.d/99kiln-single-id";

fn wants_apt_as_root(spec: &SandboxSpec) -> bool {
    let folder = Path::new("etc/apt/apt.conf.d");
    let has = |root: &PathBuf| root.join(folder).is_dir();
    let there = match &spec.root {
        RootFs::Overlay { lowers, upper, .. } => has(upper) || lowers.iter().any(has),
        RootFs::Directory(_) => false,
    };
    spec.chosen.id_map.kind == IdKind::Single && there
}

/// What we mount must not appear outside, nor what others mount later in here.
fn keep_private() -> Result<(), SandboxError> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).trying("make mounts private")
}

/// A file that reads and looks up, of a mount's root.
fn open_directory(mount: &OwnedFd) -> Result<OwnedFd, SandboxError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(mount, ".", flags, Mode::empty()).trying("open a mount")
}

/// The root, attached nowhere.
fn take_root(spec: &SandboxSpec, stubs: &Stubs) -> Result<OwnedFd, SandboxError> {
    match &spec.root {
        RootFs::Directory(directory) => Source::directory(directory, false)?.take(),
        RootFs::Overlay { lowers, upper, work } => {
            let mut all: Vec<PathBuf> = lowers.clone();
            all.extend(stubs.directory().map(Path::to_owned));
            let (user_xattr, devices) = (spec.chosen.user_xattr(), spec.privileged);
            sources::Overlay { lowers: &all, upper, work, user_xattr, devices }.mount()
        }
    }
}

/// Makes it this process's root and leaves the host's behind.
fn change_root(root: &OwnedFd, spec: &SandboxSpec) -> Result<(), SandboxError> {
    // Any directory will do: it is covered in this name space only.
    let place = match &spec.root {
        RootFs::Overlay { work, .. } => work,
        RootFs::Directory(directory) => directory,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let place = rustix::fs::openat(CWD, place, flags, Mode::empty()).trying("open the root's place")?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(root, "", &place, "", empty).trying("attach the root")?;
    rustix::process::fchdir(root).trying("enter the root")?;
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => {
            rustix::mount::unmount(".", UnmountFlags::DETACH).trying("leave the host's root")?;
        }
        // The host runs from its first memory file system, or a filter knows no pivot_root.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => {
            rustix::mount::mount_move(".", "/").trying("move the root")?;
            rustix::process::chroot(".").trying("change the root")?;
        }
        Err(error) => return Err(SandboxError::system("change the root", error)),
    }
    rustix::process::chdir("/").trying("enter the root")
}

/// Whether groups beside root's are known.
fn has_groups(spec: &SandboxSpec) -> bool {
    spec.chosen.id_map.kind != IdKind::Single
}

/// Adds attributes to a mount.
fn restrict(mount: &OwnedFd, attributes: u64, recursive: bool) -> Result<(), SandboxError> {
    sys::mount_setattr(mount.as_fd(), attributes, 0, recursive).trying("restrict a mount")
}
