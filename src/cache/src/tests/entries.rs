//! What is put in is found again, whole or not at all.

use kiln_core::{PlanMemory, PlanRecord};

use super::*;
use crate::{BaseEntry, SealedEntry};

#[test]
fn a_state_is_found_with_all_below_it() {
    let place = Place::new();
    let store = place.open();
    assert!(store.find_state(&key(1)).unwrap().is_none());
    assert!(keep(&store, 1, &meta(None, 5)));
    assert!(keep(&store, 2, &meta(Some(1), 7)));
    let found = place.open().find_state(&key(2)).unwrap().unwrap();
    let expected = meta(Some(1), 7);
    assert_eq!((found.info, found.size, found.base), (expected.info, 7, expected.base));
    assert_eq!(found.details["host"], "kiln");
    assert_eq!(std::fs::read_to_string(found.directory.join("upper/file")).unwrap(), "2");
    let chain: Vec<Key> = store.chain(&key(2)).unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(chain, [key(2), key(1)]);
    assert!(store.chain(&key(9)).unwrap().is_empty());
    assert!(entries(&place.root().join("tmp")).is_empty());
}

#[test]
fn of_two_writers_the_first_wins() {
    let place = Place::new();
    let (one, other) = (place.open(), place.open());
    let late = other.begin_state(&key(1)).unwrap();
    std::fs::write(late.join("late"), "").unwrap();
    assert!(keep(&one, 1, &meta(None, 5)));
    assert!(!other.commit_state(&key(1), &late, &meta(None, 9)).unwrap());
    assert_eq!(other.find_state(&key(1)).unwrap().unwrap().size, 5);
    assert!(!late.exists());
}

#[test]
fn a_state_that_lacks_what_lies_below_is_none() {
    let place = Place::new();
    let store = place.open();
    keep(&store, 2, &meta(Some(1), 5));
    assert!(store.find_state(&key(2)).unwrap().is_none());
    keep(&store, 1, &StateMeta { base: chain(7).to_string(), ..meta(None, 5) });
    assert!(store.find_state(&key(2)).unwrap().is_none(), "that lies on another base");
    keep(&store, 3, &meta(Some(3), 5));
    assert!(store.find_state(&key(3)).unwrap().is_none(), "it lies on itself");
}

#[test]
fn a_broken_entry_is_a_miss_and_is_replaced() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 8] = [
        ("no content", |directory| std::fs::remove_dir_all(directory.join("upper")).unwrap()),
        ("empty", |directory| std::fs::write(directory.join("meta.json"), "").unwrap()),
        ("no JSON", |directory| std::fs::write(directory.join("meta.json"), "{\"key\":").unwrap()),
        ("another key", |directory| {
            let text = std::fs::read_to_string(directory.join("meta.json")).unwrap();
            std::fs::write(directory.join("meta.json"), text.replace(key(1).as_str(), key(2).as_str())).unwrap();
        }),
        ("no record", |directory| std::fs::remove_file(directory.join("meta.json")).unwrap()),
        ("a link", |directory| {
            std::fs::rename(directory.join("meta.json"), directory.join("moved")).unwrap();
            std::os::unix::fs::symlink("moved", directory.join("meta.json")).unwrap();
        }),
        ("a pipe", |directory| {
            std::fs::remove_file(directory.join("meta.json")).unwrap();
            let kind = rustix::fs::FileType::Fifo;
            let path = directory.join("meta.json");
            rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o600.into(), 0).unwrap();
        }),
        ("a file", |directory| {
            std::fs::remove_dir_all(directory).unwrap();
            std::fs::write(directory, "x").unwrap();
        }),
    ];
    for (name, damage) in damages {
        let place = Place::new();
        keep(&place.open(), 1, &meta(None, 5));
        damage(&place.root().join("steps").join(key(1).as_str()));
        let store = place.open();
        assert!(store.find_state(&key(1)).unwrap().is_none(), "{name}");
        assert!(keep(&store, 1, &meta(None, 6)), "{name}");
        assert_eq!(store.find_state(&key(1)).unwrap().unwrap().size, 6, "{name}");
        assert!(entries(&place.root().join("tmp")).is_empty(), "{name}");
    }
}

#[test]
fn layers_are_found_by_their_chain() {
    let place = Place::new();
    let store = place.open();
    assert!(store.layer_directory(&chain(1)).unwrap().is_none());
    keep_layer(&store, 1, None);
    keep_layer(&store, 2, Some(1));
    let layer = store.layer(&chain(2)).unwrap().unwrap();
    assert_eq!(layer.meta.parent, Some(chain(1)));
    assert!(layer.tree.join("file").is_file());
}

#[test]
fn sealed_images_and_bases_count_while_their_manifest_is_there() {
    let place = Place::new();
    let store = place.open();
    let [manifest, config, _] = image(&store, b"content");
    let sealed = SealedEntry {
        build: "app".to_owned(),
        manifest: manifest.clone(),
        config,
        created: SystemTime::UNIX_EPOCH,
        facts: BTreeMap::from([("ID".to_owned(), "x".to_owned())]),
        details: BTreeMap::new(),
    };
    let base = BaseEntry {
        title: "busybox".to_owned(),
        manifest: manifest.clone(),
        created: SystemTime::UNIX_EPOCH,
        details: BTreeMap::new(),
    };
    store.put_sealed(&key(1), &sealed).unwrap();
    store.put_base(&key(1), &base).unwrap();
    store.put_id(&sealed.config, &manifest).unwrap();
    store.put_id(&sealed.config, &manifest).unwrap();
    assert_eq!(place.open().manifest_of(&sealed.config).unwrap(), Some(manifest.clone()));
    assert_eq!(store.manifest_of(&manifest).unwrap(), None);
    let id = sealed.config.clone();
    assert_eq!(place.open().sealed(&key(1)).unwrap(), Some(sealed));
    assert_eq!(place.open().base(&key(1)).unwrap(), Some(base));
    assert_eq!(store.sealed(&key(2)).unwrap(), None);
    std::fs::remove_file(store.layout().blob_path(&manifest)).unwrap();
    assert_eq!(store.sealed(&key(1)).unwrap(), None);
    assert_eq!(store.base(&key(1)).unwrap(), None);
    assert_eq!(store.manifest_of(&id).unwrap(), None);
    store.prune(&crate::PrunePolicy::default()).unwrap();
    assert!(entries(&place.root().join("ids")).is_empty(), "ids of images that are gone are forgotten");
}

#[test]
fn the_last_plan_of_a_build_is_remembered() {
    let place = Place::new();
    let store = place.open();
    let record = PlanRecord { builder: "oci".to_owned(), sealed: Some(key(4)), ..PlanRecord::default() };
    store.put_plan(Path::new("/t/a.pkr.hcl"), "app", &record).unwrap();
    assert_eq!(store.last_plan(Path::new("/t/a.pkr.hcl"), "app"), Some(record.clone()));
    assert_eq!(store.last_plan(Path::new("/t/a.pkr.hcla"), "pp"), None);
    assert_eq!(place.open().plans()[0].record, record);
    assert!(!store.has_changed(), "a plan alone is not worth a sync");
    std::fs::write(place.root().join("plans").join(&entries(&place.root().join("plans"))[0]), "[]").unwrap();
    assert_eq!(store.last_plan(Path::new("/t/a.pkr.hcl"), "app"), None);
    assert!(store.plans().is_empty());
}
