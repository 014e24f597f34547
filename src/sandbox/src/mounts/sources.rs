//! What is mounted in a guest, taken while the host's files can still be reached.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags};

use super::targets::Kind;
use super::{has_groups, restrict};
use crate::error::{SandboxError, Trying};
use crate::spec::{Network, SandboxSpec};

const NOSUID: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID;
const NODEV: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NODEV;
const NOEXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;
const RDONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;

/// Devices that every guest has. They are the host's own nodes: nodes that a guest makes work nowhere.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];

/// Something to mount.
pub(super) struct Source {
    mount: OwnedFd,
    kind: Kind,
}

/// Something to mount and where.
pub(super) struct Wanted {
    pub(super) source: Source,
    /// Absolute.
    pub(super) target: String,
    /// Links on the way to the target are refused; else they are followed below the guest's root.
    pub(super) strict: bool,
}

impl Source {
    /// What is at a path of the host, with all that is mounted below.
    pub(super) fn host(path: &Path) -> Result<Source, SandboxError> {
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let mount =
            rustix::mount::open_tree(CWD, path, clone).trying(&format!("take {} of the host", path.display()))?;
        let kind = kind_of(&mount)?;
        Ok(Source { mount, kind })
    }

    /// A directory of the host; devices in it do not work.
    pub(super) fn directory(path: &Path, read_only: bool) -> Result<Source, SandboxError> {
        let source = Source::host(path)?;
        let read_only = if read_only { RDONLY } else { MountAttrFlags::empty() };
        restrict(&source.mount, u64::from((NODEV | read_only).bits()), true)?;
        Ok(source)
    }

    pub(super) fn kind(&self) -> Result<Kind, SandboxError> {
        Ok(self.kind)
    }

    pub(super) fn take(self) -> Result<OwnedFd, SandboxError> {
        Ok(self.mount)
    }
}

fn kind_of(mount: &OwnedFd) -> Result<Kind, SandboxError> {
    let stat = rustix::fs::fstat(mount).trying("look at a mount")?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(if directory { Kind::Directory } else { Kind::File })
}

/// A file system of its own, attached nowhere.
fn file_system(name: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        match *value {
            "" => rustix::mount::fsconfig_set_flag(&context, *key)?,
            value => rustix::mount::fsconfig_set_string(&context, *key, value)?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn tmpfs(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, SandboxError> {
    file_system("tmpfs", options, NODEV | attributes).trying("make a directory in memory")
}

/// An overlay of layers.
pub(super) struct Overlay<'a> {
    /// The topmost first.
    pub(super) lowers: &'a [PathBuf],
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    pub(super) user_xattr: bool,
}

impl Overlay<'_> {
    /// Never synced: a build that the machine does not survive is built again.
    const OPTIONS: [(&'static str, &'static str); 4] =
        [("volatile", ""), ("redirect_dir", "nofollow"), ("index", "off"), ("metacopy", "off")];

    /// Mounts it, attached nowhere.
    pub(super) fn mount(&self) -> Result<OwnedFd, SandboxError> {
        match self.mount_by_steps() {
            // Kernels before 6.5 know no `lowerdir+`.
            Err(Errno::INVAL) => self.mount_by_numbers(),
            result => result.trying("mount the overlay"),
        }
    }

    fn mount_by_steps(&self) -> Result<OwnedFd, Errno> {
        let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in Overlay::OPTIONS {
            match value {
                "" => rustix::mount::fsconfig_set_flag(&context, key)?,
                value => rustix::mount::fsconfig_set_string(&context, key, value)?,
            }
        }
        if self.user_xattr {
            rustix::mount::fsconfig_set_flag(&context, "userxattr")?;
        }
        for lower in self.lowers {
            rustix::mount::fsconfig_set_string(&context, "lowerdir+", lower)?;
        }
        rustix::mount::fsconfig_set_string(&context, "upperdir", self.upper)?;
        rustix::mount::fsconfig_set_string(&context, "workdir", self.work)?;
        rustix::mount::fsconfig_create(&context)?;
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, NODEV)
    }

    /// By `mount(2)`, whose options are one page: directories go by the numbers of files of ours.
    fn mount_by_numbers(&self) -> Result<OwnedFd, SandboxError> {
        use rustix::mount::MountFlags;
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty()).trying(&format!("open {}", path.display()))
        };
        let lowers = self.lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
        let (upper, work) = (open(self.upper)?, open(self.work)?);
        let numbers: Vec<String> = lowers.iter().map(|lower| lower.as_raw_fd().to_string()).collect();
        let mut options =
            format!("lowerdir={},upperdir={},workdir={}", numbers.join(":"), upper.as_raw_fd(), work.as_raw_fd());
        let xattr = self.user_xattr.then_some(("userxattr", ""));
        for (key, value) in Overlay::OPTIONS.into_iter().chain(xattr) {
            let value = if value.is_empty() { String::new() } else { format!("={value}") };
            options.push_str(&format!(",{key}{value}"));
        }
        let options = std::ffi::CString::new(options).map_err(std::io::Error::from).trying("mount the overlay")?;
        let before = open(Path::new("."))?;
        rustix::process::chdir("/proc/self/fd").trying("reach the layers")?;
        let place = work.as_raw_fd().to_string();
        let mounted = rustix::mount::mount("overlay", place, "overlay", MountFlags::NODEV, options.as_c_str());
        rustix::process::fchdir(before).trying("return")?;
        mounted.trying("mount the overlay")?;
        // Off its place again, as a mount of its own.
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, self.work, clone).trying("take the overlay")
    }
}

/// A procfs of this process name space; the outer one where the kernel refuses that, in containers that hide parts of theirs.
pub(super) fn proc() -> Result<OwnedFd, SandboxError> {
    match file_system("proc", &[], NOSUID | NODEV | NOEXEC) {
        Err(Errno::PERM) => Source::host(Path::new("/proc"))?.take(),
        result => result.trying("mount /proc"),
    }
}

/// A sysfs, read-only; the outer one where the network is not ours.
fn sys(spec: &SandboxSpec) -> Result<Source, SandboxError> {
    let read_only = if spec.privileged { MountAttrFlags::empty() } else { RDONLY };
    let attributes = NOSUID | NODEV | NOEXEC | read_only;
    match file_system("sysfs", &[], attributes) {
        Ok(mount) => Ok(Source { mount, kind: Kind::Directory }),
        Err(Errno::PERM) => {
            let source = Source::host(Path::new("/sys"))?;
            restrict(&source.mount, u64::from(attributes.bits()), true)?;
            Ok(source)
        }
        Err(error) => Err(SandboxError::system("mount /sys", error)),
    }
}

/// All but the root and `/proc`, in the order of mounting.
pub(super) fn wanted(spec: &SandboxSpec) -> Result<Vec<Wanted>, SandboxError> {
    let mut wanted = Vec::new();
    let mut strict =
        |source: Source, target: &str| wanted.push(Wanted { source, target: target.to_owned(), strict: true });
    let directory = |mount: OwnedFd| Source { mount, kind: Kind::Directory };
    strict(sys(spec)?, "/sys");
    strict(directory(device_directory()?), "/dev");
    strict(directory(terminals(spec)?), "/dev/pts");
    let shared = tmpfs(&[("mode", "1777"), ("size", "64m")], NOSUID | NOEXEC)?;
    strict(directory(shared), "/dev/shm");
    // Not in every kernel.
    if let Ok(queues) = file_system("mqueue", &[], NOSUID | NODEV | NOEXEC) {
        strict(directory(queues), "/dev/mqueue");
    }
    for device in DEVICES {
        let path = Path::new("/dev").join(device);
        if path.exists() {
            strict(Source::host(&path)?, &format!("/dev/{device}"));
        }
    }
    for device in &spec.devices {
        strict(Source::host(&device.source)?, &device.target);
    }
    if spec.privileged {
        all_devices(Path::new("/dev"), &mut strict)?;
    }
    let mut loose =
        |source: Source, target: &str| wanted.push(Wanted { source, target: target.to_owned(), strict: false });
    for file in run_time_files(spec)? {
        let (source, target) = file;
        loose(source, target);
    }
    let mut chosen: Vec<(Source, &str)> = Vec::new();
    for tmpfs in &spec.tmpfs {
        chosen.push((directory(chosen_tmpfs(&tmpfs.options)?), &tmpfs.target));
    }
    for mount in &spec.mounts {
        chosen.push((Source::directory(&mount.source, mount.read_only)?, &mount.target));
    }
    // What is below another comes after it.
    chosen.sort_by_key(|(_, target)| target.split('/').filter(|part| !part.is_empty()).count());
    chosen.into_iter().for_each(|(source, target)| loose(source, target));
    if let Some(secrets) = &spec.secrets_directory {
        loose(directory(tmpfs(&[("mode", "0755"), ("size", "16m")], NOSUID | NOEXEC)?), secrets);
    }
    check_targets(&wanted)?;
    Ok(wanted)
}

fn check_targets(wanted: &[Wanted]) -> Result<(), SandboxError> {
    let bad = |target: &str| !target.starts_with('/') || target.split('/').any(|part| part == "..");
    match wanted.iter().find(|one| bad(&one.target) || one.target.trim_matches('/').is_empty()) {
        Some(one) => Err(SandboxError::Invalid(format!("`{}` is no place for a mount", one.target))),
        None => Ok(()),
    }
}

/// `/dev` without its devices.
fn device_directory() -> Result<OwnedFd, SandboxError> {
    let directory = tmpfs(&[("mode", "0755"), ("size", "64m")], NOSUID)?;
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("/proc/kcore", "core"),
        ("pts/ptmx", "ptmx"),
    ];
    for (to, name) in links {
        rustix::fs::symlinkat(to, &directory, name).trying("fill /dev")?;
    }
    Ok(directory)
}

fn terminals(spec: &SandboxSpec) -> Result<OwnedFd, SandboxError> {
    let mut options = vec![("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620")];
    // The group `tty`, which distributions agree on.
    if has_groups(spec) {
        options.push(("gid", "5"));
    }
    file_system("devpts", &options, NOSUID | NOEXEC).trying("mount /dev/pts")
}

/// Every device of the host that we may take, for privileged guests.
fn all_devices(directory: &Path, add: &mut impl FnMut(Source, &str)) -> Result<(), SandboxError> {
    let skipped = ["pts", "shm", "mqueue", "fd", "console", "ptmx"];
    for entry in std::fs::read_dir(directory).trying("list devices")?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let (Ok(kind), Some(name), Some(text)) = (entry.file_type(), name.to_str(), path.to_str()) else { continue };
        if directory == Path::new("/dev") && (skipped.contains(&name) || DEVICES.contains(&name)) {
            continue;
        }
        use std::os::unix::fs::FileTypeExt;
        if kind.is_dir() {
            all_devices(&path, add)?;
        } else if (kind.is_char_device() || kind.is_block_device())
            && let Ok(source) = Source::host(&path)
        {
            add(source, text);
        }
    }
    Ok(())
}

/// `size=64m,mode=1777,noexec`; as docker, without set-user-id and devices unless asked for.
fn chosen_tmpfs(options: &str) -> Result<OwnedFd, SandboxError> {
    let mut attributes = NOSUID | NOEXEC;
    let mut settings = Vec::new();
    for option in options.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(pair) => settings.push(pair),
            None => match option {
                "exec" => attributes -= NOEXEC,
                "noexec" => attributes |= NOEXEC,
                "suid" => attributes -= NOSUID,
                "nosuid" => attributes |= NOSUID,
                "ro" => attributes |= RDONLY,
                "rw" | "dev" | "nodev" | "async" | "sync" => {}
                other => {
                    return Err(SandboxError::Invalid(format!("`{other}` is no option of a directory in memory")));
                }
            },
        }
    }
    if !settings.iter().any(|(key, _)| *key == "mode") {
        settings.push(("mode", "1777"));
    }
    file_system("tmpfs", &settings, NODEV | attributes).trying(&format!("make a directory in memory with `{options}`"))
}

/// Files that tell of host and network, in memory: the guest may write to them, and nobody sees it.
fn run_time_files(spec: &SandboxSpec) -> Result<Vec<(Source, &'static str)>, SandboxError> {
    let resolve = std::fs::read("/etc/resolv.conf").unwrap_or_default();
    let mut files = vec![
        (resolve, "resolv.conf", "/etc/resolv.conf"),
        (hosts(spec).into_bytes(), "hosts", "/etc/hosts"),
        (format!("{}\n", spec.hostname).into_bytes(), "hostname", "/etc/hostname"),
    ];
    if super::wants_apt_as_root(spec) {
        files.push((b"APT::Sandbox::User \"root\";\n".to_vec(), "apt", super::APT_AS_ROOT));
    }
    let directory = tmpfs(&[("mode", "0755"), ("size", "1m")], NOSUID | NOEXEC)?;
    let mut taken = Vec::new();
    for (content, name, target) in files {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o644));
        std::fs::File::from(file.trying("write the guest's files")?)
            .write_all(&content)
            .trying("write the guest's files")?;
        taken.push((name, target));
    }
    let place = place_for(&directory)?;
    taken
        .into_iter()
        .map(|(name, target)| {
            let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let mount = rustix::mount::open_tree(&place, name, clone).trying("take the guest's files")?;
            Ok((Source { mount, kind: Kind::File }, target))
        })
        .collect()
}

/// Attaches a mount somewhere in our own name space, since parts of it cannot be taken before. The place is left with the
/// host's root.
fn place_for(mount: &OwnedFd) -> Result<OwnedFd, SandboxError> {
    use rustix::mount::MoveMountFlags;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, "/proc", flags).trying("attach the guest's files")?;
    rustix::fs::openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .trying("attach the guest's files")
}

fn hosts(spec: &SandboxSpec) -> String {
    let mut text = match spec.network {
        Network::Host => std::fs::read_to_string("/etc/hosts").unwrap_or_default(),
        Network::None => "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned(),
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for (address, names) in &spec.extra_hosts {
        text.push_str(&format!("{address} {names}\n"));
    }
    let known = text.lines().any(|line| line.split_whitespace().skip(1).any(|name| name == spec.hostname));
    if !known && !spec.hostname.is_empty() {
        text.push_str(&format!("127.0.1.1 {}\n", spec.hostname));
    }
    text
}

/// Something empty for each of these paths that the kernel has.
pub(super) fn covers(
    spec: &SandboxSpec,
    paths: &[&str],
    proc: &OwnedFd,
) -> Result<Vec<(String, OwnedFd)>, SandboxError> {
    let mut covers = Vec::new();
    if spec.privileged {
        return Ok(covers);
    }
    for path in paths {
        let stat = match path.strip_prefix("/proc/") {
            Some(below) => rustix::fs::statat(proc, below, AtFlags::SYMLINK_NOFOLLOW),
            None => rustix::fs::statat(CWD, *path, AtFlags::SYMLINK_NOFOLLOW),
        };
        let Ok(stat) = stat else { continue };
        let cover = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => tmpfs(&[("mode", "0555"), ("size", "4k")], NOSUID | NOEXEC | RDONLY)?,
            _ => Source::host(Path::new("/dev/null"))?.take()?,
        };
        covers.push(((*path).to_owned(), cover));
    }
    Ok(covers)
}
