//! Opening a store: whose it is, what version, what survives.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::CacheError;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn nobody_else_can_look_into_a_store() {
    let place = Place::new();
    let store = place.open();
    assert_eq!(mode(store.root()), 0o700);
    assert_eq!(mode(&store.root().join("hmac-key")), 0o600);
    drop(store);
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(mode(place.open().root()), 0o700, "closed again");
}

#[test]
fn a_store_that_others_may_fill_is_refused() {
    let place = Place::new();
    place.open();
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o770)).unwrap();
    let error = Store::open(&place.root(), &StoreOptions::default()).unwrap_err();
    assert!(matches!(error, CacheError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("may be written to by others"), "{error}");

    let link = place.directory.path().join("link");
    std::fs::set_permissions(place.root(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(place.root(), &link).unwrap();
    assert!(matches!(Store::open(&link, &StoreOptions::default()), Err(CacheError::Untrusted { .. })));
}

#[test]
fn nobody_can_put_another_store_in_its_place() {
    let home = tempfile::tempdir().unwrap();
    let place = home.path().join("cache");
    crate::make_place(&place).unwrap();
    assert_eq!(mode(&place), 0o700, "whatever the mask is");
    std::fs::set_permissions(&place, std::fs::Permissions::from_mode(0o777)).unwrap();
    Store::open(&place.join("0"), &StoreOptions::default()).unwrap();
    assert_eq!(mode(&place), 0o755, "closed");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // A stranger was first where everybody may make directories, with a directory or a link.
    let stranger = Some(54_321);
    let shared = home.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let theirs = shared.join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, stranger, stranger).unwrap();
    let link = shared.join("link");
    std::os::unix::fs::symlink(&place, &link).unwrap();
    std::os::unix::fs::lchown(&link, stranger, stranger).unwrap();
    for hostile in [theirs, link] {
        let error = Store::open(&hostile.join("0"), &StoreOptions::default()).unwrap_err();
        assert!(matches!(error, CacheError::Untrusted { .. }), "{error}");
        assert!(std::fs::symlink_metadata(hostile.join("0").join("hmac-key")).is_err() || hostile.is_symlink());
    }
    // A volume of somebody else that only he can reach was chosen, and so is a directory of root that is shared.
    let volume = home.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::os::unix::fs::chown(&volume, stranger, stranger).unwrap();
    for chosen in [volume, shared] {
        Store::open(&chosen.join("0"), &StoreOptions::default()).unwrap();
    }
}

#[test]
fn digests_of_secrets_differ_from_store_to_store_and_stay() {
    let (one, other) = (Place::new(), Place::new());
    let digest = one.open().keyed_digest(b"secret");
    assert_eq!(digest.len(), 64);
    assert_eq!(one.open().keyed_digest(b"secret"), digest);
    assert_ne!(other.open().keyed_digest(b"secret"), digest);
}

#[test]
fn a_store_of_another_version_begins_anew_but_keeps_its_images() {
    let place = Place::new();
    let store = place.open();
    keep(&store, 1, &meta(None, 5));
    let [manifest, ..] = image(&store, b"content");
    drop(store);
    std::fs::write(place.root().join("version"), "0").unwrap();
    let store = place.open();
    assert!(store.find_state(&key(1)).unwrap().is_none());
    assert!(store.layout().has(&manifest));
    assert!(keep(&store, 1, &meta(None, 5)));

    std::fs::write(place.root().join("version"), "2").unwrap();
    let refused = Store::open(&place.root(), &StoreOptions::default());
    assert!(matches!(refused, Err(CacheError::OtherVersion(_))), "it is in use");
}

#[test]
fn what_was_not_synced_before_a_restart_is_not_used() {
    let place = Place::new();
    let store = place.open();
    assert!(!crate::has_unsynced(&place.root()), "there is nothing");
    keep(&store, 1, &meta(None, 5));
    keep_layer(&store, 1, None);
    std::thread::sleep(Duration::from_millis(5));
    assert!(crate::has_unsynced(&place.root()));
    store.sync().unwrap();
    assert!(!crate::has_unsynced(&place.root()));
    std::thread::sleep(Duration::from_millis(5));
    keep(&store, 2, &meta(Some(1), 5));
    let [manifest, ..] = image(&store, b"late");
    assert!(place.open().find_state(&key(2)).unwrap().is_some(), "the same boot");
    drop(store);
    for name in ["index.json", "oci-layout"] {
        std::fs::write(place.root().join(name), "").unwrap();
    }

    let store = place.open_in("next boot");
    assert!(store.find_state(&key(1)).unwrap().is_some());
    assert!(store.layer_directory(&chain(1)).unwrap().is_some());
    assert!(store.find_state(&key(2)).unwrap().is_none());
    assert!(!store.layout().has(&manifest), "it might be damaged");
    assert!(!std::fs::read(place.root().join("index.json")).unwrap().is_empty());
    assert!(keep(&store, 2, &meta(Some(1), 5)), "it takes the place of the damaged one");
    assert!(store.find_state(&key(2)).unwrap().is_some());
    // Only the first look after a restart removes anything.
    let [manifest, ..] = image(&store, b"new");
    assert!(place.open_in("next boot").layout().has(&manifest));
}

#[test]
fn many_may_open_a_new_store_at_once() {
    let place = Place::new();
    let digests: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| place.open().keyed_digest(b"x"))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(digests.len(), 1);
}
