//! Without overlays: a tree is held against what it was.

use kiln_image::{PackSettings, TreeManifest, pack_difference};

use crate::apply::apply;
use crate::changes::{Random, change};
use crate::overlay::{copy, seeds};
use crate::snapshot::{differences, snapshot};

#[test]
fn what_changed_in_a_tree_is_packed() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("KILN_TEST_REQUIRE").as_deref() != Ok("1"), "root is required");
        eprintln!("SKIPPED: only root can change owners");
        return;
    }
    for seed in seeds() {
        let case = tempfile::tempdir().unwrap();
        let (tree, before) = (case.path().join("tree"), case.path().join("before"));
        std::fs::create_dir(&tree).unwrap();
        let mut random = Random(seed);
        let mut log = change(&mut random, &tree, 60);
        copy(&tree, &before);
        let manifest = TreeManifest::record(&tree).unwrap();
        log.push("recorded".to_owned());
        log.extend(change(&mut random, &tree, 30));
        let mut tar = Vec::new();
        pack_difference(&manifest, &tree, &PackSettings::default(), &mut tar).unwrap();
        apply(&tar, &before);
        let differences = differences(&snapshot(&tree), &snapshot(&before));
        assert!(differences.is_empty(), "seed {seed}\n{}\n{differences}", log.join("\n"));
    }
}

#[test]
fn a_tree_that_did_not_change_gives_an_empty_layer() {
    let tree = tempfile::tempdir().unwrap();
    change(&mut Random(1), tree.path(), 60);
    let manifest = TreeManifest::record(tree.path()).unwrap();
    let packed = pack_difference(&manifest, tree.path(), &PackSettings::default(), &mut std::io::sink()).unwrap();
    assert_eq!(packed.entries, 0);
}

/// The size and the time stay; the time of the last change is the kernel's, but in ticks of some milliseconds.
#[test]
fn a_change_right_after_the_record_is_seen() {
    for _ in 0..50 {
        let tree = tempfile::tempdir().unwrap();
        let file = tree.path().join("file");
        std::fs::write(&file, "one").unwrap();
        let before = file.metadata().unwrap().modified().unwrap();
        let manifest = TreeManifest::record(tree.path()).unwrap();
        std::fs::write(&file, "two").unwrap();
        std::fs::File::open(&file).unwrap().set_modified(before).unwrap();
        let packed = pack_difference(&manifest, tree.path(), &PackSettings::default(), &mut std::io::sink()).unwrap();
        assert_eq!((packed.entries, packed.bytes), (1, 3));
    }
}

/// As a guest without mounts does with the files of its own that it covers.
#[test]
fn what_is_moved_away_and_back_did_not_change() {
    let tree = tempfile::tempdir().unwrap();
    let [file, aside, link] = ["file", "aside", "link"].map(|name| tree.path().join(name));
    std::fs::write(&file, "one").unwrap();
    std::os::unix::fs::symlink("file", &link).unwrap();
    let manifest = TreeManifest::record_with(tree.path(), &["file", "link", "none"]).unwrap();
    let move_away = || {
        for path in [&file, &link] {
            std::fs::rename(path, &aside).unwrap();
            std::fs::rename(&aside, path).unwrap();
        }
        pack_difference(&manifest, tree.path(), &PackSettings::default(), &mut std::io::sink()).unwrap()
    };
    // The directory's own time is the mover's business.
    assert_eq!(move_away().bytes, 0);
    let before = file.metadata().unwrap().modified().unwrap();
    std::fs::write(&file, "two").unwrap();
    std::fs::File::open(&file).unwrap().set_modified(before).unwrap();
    assert_eq!(move_away().bytes, 3);
}
