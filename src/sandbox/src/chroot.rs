//! A guest that is only another root directory: all that a container with default options allows.
//!
//! There are no name spaces and no mounts. The helper itself takes the place of process 1: it adopts whatever commands leave
//! behind and ends it. What other guests find mounted is put in the place of the tree's own (see [`cover`]) and taken away
//! when the session ends.

mod cover;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::process::DumpableBehavior;
use rustix::thread::CapabilitySet;

use crate::capabilities::Capabilities;
use crate::error::{SandboxError, Trying};
use crate::init::{Guest, processes, serve};
use crate::protocol::{Channel, Reply};
use crate::spec::{Isolation, RootFs, SandboxSpec};
use crate::sys;
use cover::Covers;

/// The helper of a session.
pub(crate) fn session(spec: &SandboxSpec, channel: &Channel) -> Result<(), SandboxError> {
    let root = check(spec)?;
    // It must outlive its parent, to end what runs in the guest; that the parent is gone is told by the socket.
    rustix::process::set_parent_process_death_signal(None).trying("outlive the parent")?;
    sys::adopt_orphans().trying("adopt what commands leave behind")?;
    let outside = Outside::look(spec)?;
    let guest = guest(spec)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).trying("hide from the guest")?;
    // From here on no path of the guest leads out of it, for us either.
    rustix::process::chroot(root).trying("change the root directory")?;
    rustix::process::chdir("/").trying("change the root directory")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut covers = Covers::default();
    let prepared = outside.put(&mut covers, spec);
    let served = prepared.and_then(|()| {
        covers.seal();
        channel.send(&Reply::Ready, &[]).trying("answer")?;
        serve(channel, &guest)
    });
    // Ignored children could not be waited for.
    sys::reset_signals();
    processes::end_children(guest.proc.as_ref(), |_, _| {});
    let removed = covers.remove();
    if served? {
        removed?;
        channel.send(&Reply::Stopped, &[]).trying("answer")?;
    }
    Ok(())
}

/// What cannot be is refused, rather than left out.
fn check(spec: &SandboxSpec) -> Result<&Path, SandboxError> {
    Isolation::Chroot.check(&spec.mounts, spec.network)?;
    match &spec.root {
        RootFs::Directory(root) => Ok(root),
        RootFs::Overlay { .. } => Err(SandboxError::Unavailable("isolation `chroot` cannot stack layers".to_owned())),
    }
}

fn guest(spec: &SandboxSpec) -> Result<Guest, SandboxError> {
    let held = Capabilities::effective().trying("read our capabilities")?;
    let mut guest = Guest::new(spec)?;
    // With it, and as root, a process leaves a root directory as it entered it.
    let way_out = Capabilities::from(CapabilitySet::SYS_CHROOT);
    guest.capabilities = guest.capabilities.map(|wanted| wanted.intersection(held).without(way_out));
    if !held.contains(CapabilitySet::SYS_ADMIN.into()) {
        // Without that, a filter would cost `sudo`; and the container has its own.
        guest.filter = None;
    }
    guest.hostname = host_name();
    let directory = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    guest.proc = Some(rustix::fs::open("/proc", directory, Mode::empty()).trying("open /proc")?);
    guest.terminals = rustix::fs::open("/dev/pts", directory, Mode::empty()).ok();
    Ok(guest)
}

/// There is no other.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Name, major and minor number of what every `/dev` has.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// What lies behind them, if there is a `/proc`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Files that are set aside while a session lasts and put back afterwards: only the time of their last change differs then.
pub const COVERED: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/hostname"];

/// What the guest gets of the host; read while the host's files can still be seen.
struct Outside {
    resolv_conf: Vec<u8>,
    hosts: Vec<u8>,
    /// Name below `/dev`, type and number.
    devices: Vec<(String, FileType, u64)>,
}

impl Outside {
    fn look(spec: &SandboxSpec) -> Result<Outside, SandboxError> {
        let mut hosts = fs::read("/etc/hosts").unwrap_or_default();
        if hosts.last().is_some_and(|byte| *byte != b'\n') {
            hosts.push(b'\n');
        }
        for (address, names) in &spec.extra_hosts {
            hosts.extend_from_slice(format!("{address}\t{names}\n").as_bytes());
        }
        let device = |device: &crate::spec::Device| {
            let action = format!("use the device {}", device.source.display());
            let metadata = fs::metadata(&device.source).trying(&action)?;
            let name = device.target.trim_start_matches("/dev/").to_owned();
            let plain = !name.is_empty() && !name.split('/').any(|part| matches!(part, "" | "." | ".."));
            if !plain {
                return Err(SandboxError::Invalid(format!("a device cannot be at `{}`", device.target)));
            }
            Ok((name, FileType::from_raw_mode(metadata.mode()), metadata.rdev()))
        };
        Ok(Outside {
            resolv_conf: fs::read("/etc/resolv.conf").unwrap_or_default(),
            hosts,
            devices: spec.devices.iter().map(device).collect::<Result<_, _>>()?,
        })
    }

    /// Inside the guest's root.
    fn put(&self, covers: &mut Covers, spec: &SandboxSpec) -> Result<(), SandboxError> {
        covers.directory("/dev", 0o755)?;
        self.fill_dev()?;
        let hostname = format!("{}\n", host_name()).into_bytes();
        for (path, content) in COVERED.iter().zip([&self.resolv_conf, &self.hosts, &hostname]) {
            covers.file(path, content)?;
        }
        for tmpfs in &spec.tmpfs {
            covers.directory(&tmpfs.target, mode_of(&tmpfs.options))?;
        }
        if let Some(secrets) = &spec.secrets_directory {
            covers.directory(secrets, 0o755)?;
        }
        Ok(())
    }

    fn fill_dev(&self) -> Result<(), SandboxError> {
        for (name, major, minor) in NODES {
            let device = rustix::fs::makedev(major, minor);
            make_node(&format!("/dev/{name}"), FileType::CharacterDevice, device)?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlink(target, format!("/dev/{name}")).trying("fill /dev")?;
        }
        for name in ["shm", "pts"] {
            rustix::fs::mkdir(format!("/dev/{name}"), Mode::from_raw_mode(0o777)).trying("fill /dev")?;
        }
        rustix::fs::chmod("/dev/shm", Mode::from_raw_mode(0o1777)).trying("fill /dev")?;
        for (name, kind, device) in &self.devices {
            if let Some((folders, _)) = name.rsplit_once('/') {
                fs::create_dir_all(format!("/dev/{folders}")).trying("fill /dev")?;
            }
            make_node(&format!("/dev/{name}"), *kind, *device)?;
        }
        Ok(())
    }
}

/// Where no node may be made, an ordinary file does, until somebody reads it.
fn make_node(path: &str, kind: FileType, device: u64) -> Result<(), SandboxError> {
    let mode = Mode::from_raw_mode(0o666);
    let made = rustix::fs::mknodat(CWD, path, kind, mode, device).or_else(|_| {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, mode).map(drop)
    });
    made.trying("fill /dev")?;
    // Our own mask has taken some of it away.
    rustix::fs::chmod(path, mode).trying("fill /dev")
}

fn mode_of(options: &str) -> u32 {
    let mode = options.split(',').find_map(|option| option.trim().strip_prefix("mode="));
    mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).map_or(0o1777, |mode| mode & 0o7777)
}
