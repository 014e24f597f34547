//! Mount points that the image may lack, as one more layer below all others: so they are there for the guest, and its changes
//! do not show them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{SandboxError, Trying};
use crate::spec::{IdKind, RootFs, SandboxSpec};

/// The layer; none where the root is a directory.
pub(crate) struct Stubs {
    root: Option<PathBuf>,
    /// It serves other sessions, too.
    stays: bool,
}

impl Stubs {
    /// Makes it beside the work directory, or where the specification says, if it is not there yet.
    pub(crate) fn make(spec: &SandboxSpec) -> Result<Stubs, SandboxError> {
        let RootFs::Overlay { work, .. } = &spec.root else { return Ok(Stubs { root: None, stays: false }) };
        crate::init::clean_work(&spec.root)?;
        // Those of a single id depend on what a step before has installed.
        if let Some(shared) = spec.stubs.as_ref().filter(|_| spec.chosen.id_map.kind != IdKind::Single) {
            if !shared.exists() {
                let mut draft = shared.clone().into_os_string();
                draft.push(".draft");
                let draft = PathBuf::from(draft);
                fill(spec, &draft)?;
                fs::rename(&draft, shared).trying("make the mount points")?;
            }
            return Ok(Stubs { root: Some(shared.clone()), stays: true });
        }
        let mut name = work.as_os_str().to_owned();
        name.push(".stubs");
        let root = PathBuf::from(name);
        fill(spec, &root)?;
        Ok(Stubs { root: Some(root), stays: false })
    }

    /// Where it is.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// Removes it, once nothing is mounted on it, unless it is to stay.
    pub(crate) fn remove(self) {
        if let Some(root) = self.root.filter(|_| !self.stays) {
            // What stays is removed with the build's work directory.
            _ = remove(&root);
        }
    }
}

fn fill(spec: &SandboxSpec, root: &Path) -> Result<(), SandboxError> {
    remove(root).trying("remove the mount points of an earlier session")?;
    fs::create_dir(root).trying("make the mount points")?;
    for directory in ["proc", "sys", "dev", "etc"] {
        fs::create_dir(root.join(directory)).trying("make the mount points")?;
    }
    for file in ["etc/resolv.conf", "etc/hosts", "etc/hostname"] {
        fs::File::create(root.join(file)).trying("make the mount points")?;
    }
    if super::wants_apt_as_root(spec) {
        add(root, super::APT_AS_ROOT, false).trying("make the mount points")?;
    }
    for mount in &spec.mounts {
        add(root, &mount.target, mount.source.is_dir()).trying("make the mount points")?;
    }
    let directories = spec.tmpfs.iter().map(|tmpfs| &tmpfs.target).chain(&spec.secrets_directory);
    for target in directories {
        add(root, target, true).trying("make the mount points")?;
    }
    Ok(())
}

/// Adds a mount point; those below our own mounts are made there.
fn add(root: &Path, target: &str, directory: bool) -> io::Result<()> {
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") || parts.first().is_none_or(|first| ["proc", "sys", "dev"].contains(first)) {
        return Ok(());
    }
    let path = root.join(parts.join("/"));
    if directory {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::File::create(path).map(drop)
}

fn remove(root: &Path) -> io::Result<()> {
    match fs::remove_dir_all(root) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
