//! Trying a candidate, in a helper. Each trial is a process of its own, which takes all it made along when it ends.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{CWD, Mode};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::UnshareFlags;

use super::{Candidate, Finding, Refused, Step, Trial};
use crate::error::{SandboxError, Trying};
use crate::mounts::Stubs;
use crate::protocol::{Channel, Reply};
use crate::spec::{Chosen, Isolation, RootFs, SandboxSpec};
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
    let spec = smallest_guest(candidate, directory).trying("make a directory in the store").at(Step::Other)?;
    let stubs = Stubs::make(&spec).at(Step::Other)?;
    sys::unshare(UnshareFlags::NEWPID).trying("make name spaces").at(Step::Namespaces)?;
    // As process 1, since a new /proc shows the processes of who mounts it.
    let finding = apart(|| try_root(&spec, &stubs).unwrap_or_else(Finding::Refused)).at(Step::Other);
    stubs.remove();
    // Here, because the kernel's own directory in it is closed to whoever is not the guest's root.
    for name in PARTS {
        _ = fs::remove_dir_all(directory.join(name));
    }
    finding
}

const PARTS: [&str; 3] = ["lower", "upper", "work"];

fn smallest_guest(candidate: &Candidate, directory: &Path) -> io::Result<SandboxSpec> {
    let [lower, upper, work] = PARTS.map(|name| directory.join(name));
    for part in [&lower, &upper, &work] {
        match fs::create_dir(part) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let (isolation, id_map) = (candidate.isolation, candidate.id_map.clone());
    let chosen = Chosen { isolation, id_map, lacks: Vec::new(), store_suffix: String::new() };
    Ok(SandboxSpec::new(chosen, RootFs::Overlay { lowers: vec![lower], upper, work }))
}

/// What a session does, with nothing to run in the end.
fn try_root(spec: &SandboxSpec, stubs: &Stubs) -> Tried<Finding> {
    // Not before: the change of the root takes all processes of the mount name space along.
    let flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    sys::unshare(flags).trying("make name spaces").at(Step::Namespaces)?;
    let own_proc = mount_proc().is_ok();
    crate::mounts::build(spec, stubs).map_err(|error| {
        let of_overlay = matches!(&error, SandboxError::System { action, .. } if action.contains("overlay"));
        Refused::new(if of_overlay { Step::Overlay } else { Step::Root }, &error)
    })?;
    Ok(Finding::Works { own_proc, devices: true })
}

fn mount_proc() -> Result<(), SandboxError> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC).trying("mount /proc")?;
    fsconfig_create(context.as_fd()).trying("mount /proc")?;
    // Only here the kernel looks whether parts of the /proc that is there are hidden.
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    fsmount(context.as_fd(), flags, MountAttrFlags::empty()).trying("mount /proc").map(drop)
}
