//! Both ways to an overlay give the same, with as many layers as the kernel takes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::thread::UnshareFlags;

use super::Overlay;
use crate::error::SandboxError;

/// Mounts in a mount name space that ends with its thread.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs root");
        eprintln!("SKIPPED: this test needs root");
        return None;
    }
    let inside = || {
        crate::sys::unshare(UnshareFlags::NEWNS).unwrap();
        super::super::keep_private().unwrap();
        work()
    };
    Some(std::thread::scope(|scope| scope.spawn(inside).join().unwrap()))
}

fn layers(root: &tempfile::TempDir, count: usize) -> Vec<PathBuf> {
    for part in ["upper", "work"] {
        fs::create_dir_all(root.path().join(part)).unwrap();
    }
    let layer = |number: usize| {
        let layer = root.path().join(format!("layer, with: odd \\ name {number}"));
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(number.to_string()), "").unwrap();
        fs::write(layer.join("topmost"), number.to_string()).unwrap();
        layer
    };
    (0..count).map(layer).collect()
}

fn check(count: usize, mount: fn(&Overlay<'_>) -> Result<OwnedFd, SandboxError>) {
    let root = tempfile::tempdir().unwrap();
    let lowers = layers(&root, count);
    let (upper, work) = (root.path().join("upper"), root.path().join("work"));
    apart(|| {
        let overlay = Overlay { lowers: &lowers, upper: &upper, work: &work, user_xattr: false, devices: false };
        let mounted = mount(&overlay).unwrap();
        rustix::process::fchdir(&mounted).unwrap();
        assert_eq!(fs::read_dir(".").unwrap().count(), count + 1);
        assert_eq!(fs::read_to_string("topmost").unwrap(), "0");
        fs::write("new", "").unwrap();
        assert!(upper.join("new").exists());
    });
}

#[test]
fn by_steps() {
    check(3, |overlay| overlay.mount_by_steps().map_err(|errno| SandboxError::system("mount", errno)));
    check(499, |overlay| overlay.mount());
}

#[test]
fn by_numbers() {
    check(3, |overlay| overlay.mount_by_numbers());
    check(200, |overlay| overlay.mount_by_numbers());
}
