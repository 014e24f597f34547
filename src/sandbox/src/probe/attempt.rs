//! Trying a candidate, in a helper. Each trial is a process of its own, which takes all it made along when it ends.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

use super::{Candidate, Finding, Refused, Step, Trial};
use crate::error::{SandboxError, Trying};
use crate::protocol::{Channel, Reply};
use crate::spec::{IdKind, Isolation};
use crate::sys::{self, Fork};

/// The helper's part.
pub(crate) fn serve(trial: &Trial, channel: &Channel) -> Result<(), SandboxError> {
    let mut findings = Vec::new();
    for candidate in &trial.candidates {
        let finding = apart(|| try_candidate(candidate, &trial.directory))?;
        let works = matches!(finding, Finding::Works { .. });
        findings.push(finding);
        if works {
            break;
        }
    }
    channel.send(&Reply::Probed(findings), &[]).trying("tell what works")
}

/// Does it in a child and brings home what it found.
fn apart(work: impl FnOnce() -> Finding) -> Result<Finding, SandboxError> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).trying("make a pipe")?;
    match sys::fork().trying("start a process for a trial")? {
        Fork::Child => {
            drop(reader);
            let finding = serde_json::to_vec(&work()).unwrap_or_default();
            _ = fs::File::from(writer).write_all(&finding);
            sys::exit(0)
        }
        Fork::Parent(child) => {
            drop(writer);
            let mut finding = Vec::new();
            let read = fs::File::from(reader).read_to_end(&mut finding);
            _ = waitpid(Some(child), WaitOptions::empty());
            read.trying("read what a trial found")?;
            serde_json::from_slice(&finding).map_err(|_| SandboxError::Ended)
        }
    }
}

type Tried<T> = Result<T, Refused>;

/// Names the step that failed.
trait At<T> {
    fn at(self, step: Step) -> Tried<T>;
}

impl<T> At<T> for Result<T, SandboxError> {
    fn at(self, step: Step) -> Tried<T> {
        self.map_err(|error| Refused::new(step, &error))
    }
}

fn try_candidate(candidate: &Candidate, directory: &Path) -> Finding {
    let tried = match candidate.isolation {
        Isolation::Chroot => try_chroot(directory),
        Isolation::Ns | Isolation::Userns => try_namespaces(candidate, directory),
    };
    tried.unwrap_or_else(Finding::Refused)
}

fn try_chroot(directory: &Path) -> Tried<Finding> {
    let node = directory.join("null");
    let device = rustix::fs::makedev(1, 3);
    let made = rustix::fs::mknodat(CWD, &node, rustix::fs::FileType::CharacterDevice, Mode::RUSR, device);
    // A file system may refuse to open what it let be made.
    let devices = made.is_ok() && fs::File::open(&node).is_ok();
    _ = fs::remove_file(&node);
    rustix::process::chroot(directory).trying("change the root directory").at(Step::Chroot)?;
    Ok(Finding::Works { own_proc: false, devices })
}

fn try_namespaces(candidate: &Candidate, directory: &Path) -> Tried<Finding> {
    crate::userns::enter(&candidate.id_map).at(Step::UserNamespace)?;
    sys::unshare(UnshareFlags::NEWPID).trying("make name spaces").at(Step::Namespaces)?;
    let user_xattr = candidate.id_map.kind != IdKind::Identity;
    // As process 1, since a new /proc shows the processes of who mounts it.
    let finding = apart(|| try_root(directory, user_xattr).unwrap_or_else(Finding::Refused)).at(Step::Other);
    // Here, because the kernel's own directory in it is closed to whoever is not the guest's root.
    for name in ["lower", "upper", "work"] {
        _ = fs::remove_dir_all(directory.join(name));
    }
    finding
}

fn try_root(directory: &Path, user_xattr: bool) -> Tried<Finding> {
    // Not before: the change of the root takes all processes of the mount name space along.
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    sys::unshare(flags).trying("make name spaces").at(Step::Namespaces)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).trying("make mounts private").at(Step::Private)?;
    let overlay = overlay(directory, user_xattr).at(Step::Overlay)?;
    let own_proc = mount_proc().is_ok();
    let root = directory.join("lower");
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(overlay.as_fd(), "", CWD, &root, flags).trying("attach a mount").at(Step::Root)?;
    rustix::process::chdir(&root).trying("enter a new root").at(Step::Root)?;
    rustix::process::pivot_root(".", ".").trying("change the root").at(Step::Root)?;
    unmount(".", UnmountFlags::DETACH).trying("leave the old root").at(Step::Root)?;
    Ok(Finding::Works { own_proc, devices: true })
}

fn overlay(directory: &Path, user_xattr: bool) -> Result<rustix::fd::OwnedFd, SandboxError> {
    const ACTION: &str = "mount an overlay with its changes in the store";
    for name in ["lower", "upper", "work"] {
        fs::create_dir(directory.join(name)).trying("make a directory in the store")?;
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).trying(ACTION)?;
    let context = context.as_fd();
    for (key, name) in [("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work")] {
        fsconfig_set_string(context, key, directory.join(name)).trying(ACTION)?;
    }
    if user_xattr {
        rustix::mount::fsconfig_set_flag(context, "userxattr").trying(ACTION)?;
    }
    fsconfig_create(context).trying(ACTION)?;
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).trying(ACTION)
}

fn mount_proc() -> Result<(), SandboxError> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).trying("mount /proc")?;
    fsconfig_create(context.as_fd()).trying("mount /proc")
}
