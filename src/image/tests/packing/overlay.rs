//! Stacked overlay mounts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_image::{PackOptions, PackSettings, TreeManifest, pack, pack_difference};
use rustix::mount::{MountFlags, UnmountFlags};

use crate::apply::apply;
use crate::changes::{Random, change};
use crate::snapshot::{differences, snapshot};

/// A mount that ends with the value.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts as kiln's sandbox does. `lowers` are the top one first.
    fn overlay(at: &Path, lowers: &[PathBuf], upper: Option<(&Path, &Path)>) -> std::io::Result<Mount> {
        fs::create_dir_all(at)?;
        let lowers: Vec<_> = lowers.iter().map(|path| path.display().to_string()).collect();
        let mut options = format!("lowerdir={},redirect_dir=nofollow,index=off,metacopy=off", lowers.join(":"));
        if let Some((upper, work)) = upper {
            options += &format!(",upperdir={},workdir={},volatile", upper.display(), work.display());
        }
        let options = std::ffi::CString::new(options)?;
        rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
        Ok(Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::empty());
    }
}

/// Whether overlays can be mounted here; says so where they cannot.
fn can_mount(scratch: &Path) -> bool {
    let directories = ["lower", "empty", "at"].map(|name| scratch.join(name));
    directories.iter().for_each(|path| fs::create_dir_all(path).unwrap());
    let mounted = Mount::overlay(&directories[2], &directories[..2], None);
    if let Err(error) = &mounted {
        let required = std::env::var("KILN_TEST_REQUIRE").as_deref() == Ok("1");
        assert!(!required, "overlay mounts are required: {error}");
        eprintln!("SKIPPED: no overlay can be mounted: {error}");
    }
    mounted.is_ok()
}

/// The seeds to run.
pub(crate) fn seeds() -> Vec<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("KILN_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("KILN_TEST_CASES").unwrap_or(15)).collect(),
    }
}

/// `cp -a`, which keeps all that a layer keeps.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg("--").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_packed_layer_is_what_the_overlay_shows() {
    let scratch = tempfile::tempdir().unwrap();
    if !can_mount(scratch.path()) {
        return;
    }
    for seed in seeds() {
        let case = tempfile::tempdir().unwrap();
        check(seed, case.path());
    }
}

fn check(seed: u64, case: &Path) {
    let mut random = Random(seed);
    let count = 1 + random.below(5) as usize;
    let (empty, at) = (case.join("empty"), case.join("at"));
    fs::create_dir_all(&empty).unwrap();
    let mut log = Vec::new();
    // The oldest last, as mounts want it; overlayfs must have a lower.
    let mut layers = vec![empty.clone()];
    for number in 0..count {
        let (upper, work) = (case.join(format!("upper{number}")), case.join(format!("work{number}")));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let mount = Mount::overlay(&at, &layers, Some((&upper, &work))).unwrap();
        let changes = 5 + random.below(40);
        log.push(format!("layer {number}"));
        log.extend(change(&mut random, &at, changes));
        drop(mount);
        layers.insert(0, upper);
    }
    layers.pop();
    for kept in 0..=count {
        let (uppers, lowers) = layers.split_at(kept);
        compare(seed, &log, case, uppers, lowers, &empty);
    }
}

/// Packs the uppers, applies them to a copy of what the lowers show, and compares with what all of them show.
fn compare(seed: u64, log: &[String], case: &Path, uppers: &[PathBuf], lowers: &[PathBuf], empty: &Path) {
    let (at, applied) = (case.join("at"), case.join(format!("applied{}", uppers.len())));
    let show = |layers: &[PathBuf]| {
        let layers: Vec<_> = layers.iter().cloned().chain([empty.to_owned(), case.join("empty2")]).collect();
        fs::create_dir_all(case.join("empty2")).unwrap();
        Mount::overlay(&at, &layers, None).unwrap()
    };
    let base = show(lowers);
    copy(&at, &applied);
    drop(base);
    let options = PackOptions { uppers: uppers.to_vec(), lowers: lowers.to_vec(), ..PackOptions::default() };
    let mut tar = Vec::new();
    pack(&options, &mut tar).unwrap();
    let about = format!("seed {seed}, {} uppers on {} lowers\n{}", uppers.len(), lowers.len(), log.join("\n"));
    apply(&tar, &applied);
    let all = show(&[uppers, lowers].concat());
    let differences = differences(&snapshot(&at), &snapshot(&applied));
    assert!(differences.is_empty(), "{about}\n{differences}");
    // Whole trees have the same bytes, whatever inodes and layers they are made of.
    let whole = |tree: &Path| {
        let mut tar = Vec::new();
        pack_difference(&TreeManifest::default(), tree, &PackSettings::default(), &mut tar).unwrap();
        tar
    };
    assert!(whole(&at) == whole(&applied), "{about}\nthe trees' archives differ");
    drop(all);
    let mut again = Vec::new();
    pack(&options, &mut again).unwrap();
    assert!(tar == again, "{about}\ntwo archives of one tree differ");
}
