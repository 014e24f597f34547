//! What a source names on this host and is not there. A warning, as whatever runs before the build may make it.

use std::path::Path;

use kiln_core::{Decoded, Diagnostic};

use crate::from::From;
use crate::runtime::Runtime;

/// A file of `from`. `argument` is the one that says what to start from: `from` or `image`.
pub(crate) fn base(from: &From, argument: &str, decoded: &Decoded) -> Option<Diagnostic> {
    let (path, name) = match from {
        From::OciLayout { path, .. } => (path, "oci_layout"),
        From::DockerArchive { path, .. } => (path, "docker_archive"),
        From::Tar(path) => (path, "tar"),
        From::Directory(path) => (path, "directory"),
        From::Busybox(Some(path)) => (path, "busybox"),
        From::Reference(_)
        | From::Id(_)
        | From::Local(_)
        | From::DockerDaemon(_)
        | From::Mmdebstrap(_)
        | From::Busybox(None)
        | From::Scratch => return None,
    };
    missing(path, &format!("{argument}.{name}"), decoded)
}

/// Volumes and devices.
pub(crate) fn mounts(runtime: &Runtime, decoded: &Decoded) -> Vec<Diagnostic> {
    let mounts = runtime.mounts.iter().map(|mount| &mount.source).zip(&runtime.mount_places);
    let devices = runtime.devices.iter().map(|device| &device.source).zip(&runtime.device_places);
    mounts.chain(devices).filter_map(|(source, place)| missing(source, place, decoded)).collect()
}

fn missing(path: &Path, place: &str, decoded: &Decoded) -> Option<Diagnostic> {
    // What may not be looked at may be there.
    let is_missing = path.metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    let title = format!("there is no {}", path.display());
    let diagnostic = Diagnostic::warning("missing-file", decoded.span(place), title);
    is_missing.then(|| diagnostic.help("it must be there when the build starts"))
}
