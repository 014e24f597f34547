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

/// Devices that every guest has.
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
    rustix::mount::fsconfig_set_string(&context, "source", name)?;
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
    file_system("tmpfs", options, attributes).trying("make a directory in memory")
}

/// An overlay of layers.
pub(super) struct Overlay<'a> {
    /// The topmost first.
    pub(super) lowers: &'a [PathBuf],
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    pub(super) user_xattr: bool,
    /// Device nodes in it work: only for guests that may do all.
    pub(super) devices: bool,
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
        rustix::mount::fsconfig_set_string(&context, "source", "overlay")?;
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
        let attributes = if self.devices { MountAttrFlags::empty() } else { NODEV };
        rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
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
        let flags = if self.devices { MountFlags::empty() } else { MountFlags::NODEV };
        let mounted = rustix::mount::mount("overlay", place, "overlay", flags, options.as_c_str());
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
    let mut strict = |source, target: &str| wanted.push(Wanted { source, target: target.to_owned(), strict: true });
    let directory = |mount: OwnedFd| Source { mount, kind: Kind::Directory };
    strict(sys(spec)?, "/sys");
    strict(directory(device_directory()?), "/dev");
    strict(directory(terminals(spec)?), "/dev/pts");
    let shared = tmpfs(&[("mode", "1777"), ("size", "64m")], NOSUID | NODEV | NOEXEC)?;
    strict(directory(shared), "/dev/shm");
    // Not in every kernel.
    if let Ok(queues) = file_system("mqueue", &[], NOSUID | NODEV | NOEXEC) {
        strict(directory(queues), "/dev/mqueue");
    }
    let mut chosen = chosen(spec)?;
    let mut own = Own::new()?;
    own.devices(spec)?;
    own.file(&std::fs::read("/etc/resolv.conf").unwrap_or_default(), "/etc/resolv.conf")?;
    own.file(hosts(spec).as_bytes(), "/etc/hosts")?;
    own.file(format!("{}\n", spec.hostname).as_bytes(), "/etc/hostname")?;
    if super::wants_apt_as_root(spec) {
        own.file(b"APT::Sandbox::User \"root\";\n", super::APT_AS_ROOT)?;
    }
    wanted.append(&mut own.take()?);
    wanted.append(&mut chosen);
    check_targets(&wanted)?;
    Ok(wanted)
}

/// What the specification names.
fn chosen(spec: &SandboxSpec) -> Result<Vec<Wanted>, SandboxError> {
    let mut chosen = Vec::new();
    let mut loose = |source, target: &str| chosen.push(Wanted { source, target: target.to_owned(), strict: false });
    let directory = |mount: OwnedFd| Source { mount, kind: Kind::Directory };
    for tmpfs in &spec.tmpfs {
        loose(directory(chosen_tmpfs(&tmpfs.options)?), &tmpfs.target);
    }
    for mount in &spec.mounts {
        loose(Source::directory(&mount.source, mount.read_only)?, &mount.target);
    }
    if let Some(secrets) = &spec.secrets_directory {
        loose(directory(tmpfs(&[("mode", "0755"), ("size", "16m")], NOSUID | NODEV | NOEXEC)?), secrets);
    }
    // What is below another comes after it.
    chosen.sort_by_key(|one| one.target.split('/').filter(|part| !part.is_empty()).count());
    Ok(chosen)
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
    let directory = tmpfs(&[("mode", "0755"), ("size", "64m")], NOSUID | NODEV)?;
    let links = [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ];
    let memory = Some(("/proc/kcore", "core")).filter(|(path, _)| Path::new(path).exists());
    for (to, name) in links.into_iter().chain(memory) {
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

/// Attaches a mount somewhere in our own name space, since parts of it cannot be taken before. The place is left with the
/// host's root.
fn place_for(mount: &OwnedFd) -> Result<OwnedFd, SandboxError> {
    use rustix::mount::MoveMountFlags;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", CWD, "/proc", flags).trying("attach the guest's files")?;
    rustix::fs::openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .trying("attach the guest's files")
}

/// Files and device nodes of the guest's own, in memory: it may change them, and nobody else sees that. Nodes that it makes
/// itself work nowhere.
struct Own {
    directory: OwnedFd,
    /// The target of each, which is named by its number; whether links are refused.
    targets: Vec<(String, bool)>,
    /// Devices that cannot be made: the host's own nodes.
    lent: Vec<Wanted>,
}

impl Own {
    fn new() -> Result<Own, SandboxError> {
        let directory = tmpfs(&[("mode", "0755"), ("size", "1m")], NOSUID | NOEXEC)?;
        Ok(Own { directory, targets: Vec::new(), lent: Vec::new() })
    }

    fn file(&mut self, content: &[u8], target: &str) -> Result<(), SandboxError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let name = self.targets.len().to_string();
        let file = rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(0o644));
        let mut file = std::fs::File::from(file.trying("write the guest's files")?);
        file.write_all(content).trying("write the guest's files")?;
        self.targets.push((target.to_owned(), false));
        Ok(())
    }

    fn devices(&mut self, spec: &SandboxSpec) -> Result<(), SandboxError> {
        for name in DEVICES {
            let path = Path::new("/dev").join(name);
            if path.exists() {
                self.device(&path, &format!("/dev/{name}"))?;
            }
        }
        for device in &spec.devices {
            self.device(&device.source, &device.target)?;
        }
        if spec.privileged {
            self.all_devices(Path::new("/dev"))?;
        }
        Ok(())
    }

    /// A node like that one of the host. Only root may make one; others are lent the host's, and cannot change its mode.
    fn device(&mut self, path: &Path, target: &str) -> Result<(), SandboxError> {
        let what = format!("use the device {}", path.display());
        let stat = rustix::fs::stat(path).trying(&what)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if !matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            return Err(SandboxError::Invalid(format!("{} is no device", path.display())));
        }
        let name = self.targets.len().to_string();
        let mode = Mode::from_raw_mode(stat.st_mode);
        match rustix::fs::mknodat(&self.directory, &name, kind, mode, stat.st_rdev) {
            Ok(()) => {
                // The mask of new files does not hold for these.
                rustix::fs::chmodat(&self.directory, &name, mode, AtFlags::empty()).trying(&what)?;
                self.targets.push((target.to_owned(), true));
            }
            Err(Errno::PERM) => {
                let source = Source::host(path)?;
                restrict(&source.mount, u64::from(RDONLY.bits()), false)?;
                self.lent.push(Wanted { source, target: target.to_owned(), strict: true });
            }
            Err(error) => return Err(SandboxError::system(what, error)),
        }
        Ok(())
    }

    /// Every device of the host, for privileged guests.
    fn all_devices(&mut self, directory: &Path) -> Result<(), SandboxError> {
        use std::os::unix::fs::FileTypeExt;
        let skipped = ["pts", "shm", "mqueue", "fd", "console", "ptmx"];
        for entry in std::fs::read_dir(directory).trying("list devices")?.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let (Ok(kind), Some(name), Some(text)) = (entry.file_type(), name.to_str(), path.to_str()) else {
                continue;
            };
            if directory == Path::new("/dev") && (skipped.contains(&name) || DEVICES.contains(&name)) {
                continue;
            }
            if kind.is_dir() {
                self.all_devices(&path)?;
            } else if kind.is_char_device() || kind.is_block_device() {
                self.device(&path, text)?;
            }
        }
        Ok(())
    }

    /// Each for itself, attached nowhere.
    fn take(self) -> Result<Vec<Wanted>, SandboxError> {
        let place = place_for(&self.directory)?;
        let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let take = |(number, (target, strict)): (usize, (String, bool))| {
            let mount = rustix::mount::open_tree(&place, number.to_string(), clone);
            let source = Source { mount: mount.trying("take the guest's files")?, kind: Kind::File };
            Ok(Wanted { source, target, strict })
        };
        let mut all: Vec<Wanted> =
            self.targets.into_iter().enumerate().map(take).collect::<Result<_, SandboxError>>()?;
        all.extend(self.lent);
        Ok(all)
    }
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
            FileType::Directory => tmpfs(&[("mode", "0555"), ("size", "4k")], NOSUID | NODEV | NOEXEC | RDONLY)?,
            _ => nothing()?,
        };
        covers.push(((*path).to_owned(), cover));
    }
    Ok(covers)
}

/// The host's `/dev/null`, whose mode cannot be changed.
fn nothing() -> Result<OwnedFd, SandboxError> {
    let source = Source::host(Path::new("/dev/null"))?;
    restrict(&source.mount, u64::from(RDONLY.bits()), false)?;
    source.take()
}

#[cfg(test)]
mod tests;
