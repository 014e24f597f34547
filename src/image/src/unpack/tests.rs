//! Hostile and odd archives, each against one rule. What needs root (devices, owners, `trusted.*`) says so when it is skipped.

// A test that is skipped says so.
#![allow(clippy::print_stderr)]

mod archive;
mod formats;
mod hostile;
mod overlay;
mod round_trip;

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use archive::Archive;

use super::*;

/// A root to unpack into, with something outside that must stay as it is.
struct Host {
    directory: tempfile::TempDir,
    options: UnpackOptions,
}

impl Host {
    fn new(format: TreeFormat) -> Host {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("root")).unwrap();
        std::fs::write(directory.path().join("victim"), "untouched").unwrap();
        let mut options = UnpackOptions::new(format);
        options.owners = is_root();
        Host { directory, options }
    }

    fn plain() -> Host {
        Host::new(TreeFormat::Plain)
    }

    fn overlay() -> Host {
        Host::new(TreeFormat::Overlay { user_xattr: false })
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// Unpacks with the kernel's resolution, and proves that nothing outside changed.
    fn unpack(&self, archive: &Archive) -> Result<Unpacked, ImageError> {
        let outcome = unpack(archive.bytes().as_slice(), &self.root(), &self.options);
        self.check();
        outcome
    }

    fn unpack_by_hand(&self, archive: &Archive) -> Result<Unpacked, ImageError> {
        let tree = tree::Tree::open(&self.root()).unwrap();
        tree.walk_by_hand();
        let outcome = run(archive.bytes().as_slice(), apply::Applier::new(tree, &self.options), &self.options);
        self.check();
        outcome
    }

    fn check(&self) {
        assert_eq!(std::fs::read_to_string(self.directory.path().join("victim")).unwrap(), "untouched");
        let mut names: Vec<_> =
            std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["root", "victim"], "something was made outside");
    }

    fn refusal(&self, archive: &Archive) -> String {
        self.unpack(archive).expect_err("it is refused").to_string()
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether the test can go on; says that it is skipped.
fn needs_root() -> bool {
    if !is_root() {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs root");
        eprintln!("skipped: it needs root");
    }
    is_root()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stat(path: &Path) -> std::fs::Metadata {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

fn is_whiteout(path: &Path) -> bool {
    let stat = stat(path);
    stat.file_type().is_char_device() && stat.rdev() == 0
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}
