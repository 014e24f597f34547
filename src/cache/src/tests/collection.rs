//! What is collected, and what never is.

use super::*;
use crate::{EngineResult, ItemKind, PrunePolicy, Pruned, SealedEntry};

const DAY: Duration = Duration::from_secs(86_400);

fn states(place: &Place) -> Vec<u8> {
    let first = |name: String| u8::from_str_radix(&name[..2], 16).unwrap();
    entries(&place.root().join("steps")).into_iter().map(first).collect()
}

fn age_state(place: &Place, number: u8, age: Duration) {
    place.age(&format!("steps/{}/meta.json", key(number)), age);
}

/// Three states upon each other and one aside, on two layers; nobody uses them.
fn filled() -> Place {
    let place = Place::new();
    let store = place.open();
    keep_layer(&store, 0, None);
    keep_layer(&store, 1, Some(0));
    for (number, parent) in [(1, None), (2, Some(1)), (3, Some(2)), (4, Some(1))] {
        keep(&store, number, &meta(parent, 100));
    }
    place
}

fn prune(place: &Place, policy: PrunePolicy) -> Pruned {
    place.open().prune(&policy).unwrap()
}

#[test]
fn age_counts_from_the_last_use_of_it_or_of_what_lies_on_it() {
    let place = filled();
    for number in 1..=4 {
        age_state(&place, number, 10 * DAY);
    }
    age_state(&place, 4, DAY / 2);
    let policy = PrunePolicy { older_than: Some(DAY), ..PrunePolicy::default() };
    let told = prune(&place, PrunePolicy { dry_run: true, ..policy.clone() });
    assert_eq!(states(&place), [1, 2, 3, 4], "nothing was touched");
    let pruned = prune(&place, policy);
    assert_eq!(told, pruned);
    assert_eq!(states(&place), [1, 4]);
    assert_eq!((pruned.removed.len(), pruned.freed, pruned.left), (2, 200, 220));
    assert_eq!(entries(&place.root().join("layers")).len(), 2, "states lie on them");
    assert!(entries(&place.root().join("tmp")).is_empty());
}

#[test]
fn a_size_is_reached_by_what_was_not_used_longest() {
    let place = filled();
    for (number, days) in [(1, 9), (2, 8), (3, 2), (4, 5)] {
        age_state(&place, number, days * DAY);
    }
    prune(&place, PrunePolicy { max_size: Some(320), ..PrunePolicy::default() });
    assert_eq!(states(&place), [1, 2, 3], "state 4 is the oldest that nothing lies on");
    prune(&place, PrunePolicy { max_size: Some(220), ..PrunePolicy::default() });
    assert_eq!(states(&place), [1, 2]);
    prune(&place, PrunePolicy { max_size: Some(0), ..PrunePolicy::default() });
    assert!(states(&place).is_empty());
    assert!(entries(&place.root().join("layers")).is_empty());
}

#[test]
fn what_a_living_store_found_stays_with_all_it_needs() {
    let place = filled();
    let user = place.open();
    user.find_state(&key(3)).unwrap().unwrap();
    let pruned = prune(&place, PrunePolicy { all: true, ..PrunePolicy::default() });
    assert_eq!(states(&place), [1, 2, 3]);
    assert_eq!(entries(&place.root().join("layers")).len(), 2);
    assert_eq!(pruned.in_use, 5);
    drop(user);
    prune(&place, PrunePolicy { all: true, ..PrunePolicy::default() });
    assert!(states(&place).is_empty());
    assert!(entries(&place.root().join("leases")).is_empty());
}

#[test]
fn a_dead_lease_protects_nothing() {
    let place = filled();
    std::fs::write(place.root().join("leases/dead"), format!("steps/{}\n", key(3))).unwrap();
    prune(&place, PrunePolicy { all: true, ..PrunePolicy::default() });
    assert!(states(&place).is_empty());
    assert!(entries(&place.root().join("leases")).is_empty());
}

#[test]
fn states_of_a_build_go_where_no_other_build_needs_them() {
    let place = Place::new();
    let store = place.open();
    let other = |parent| {
        let mut meta = meta(parent, 100);
        meta.info.build = "other".to_owned();
        meta
    };
    keep(&store, 1, &meta(None, 100));
    keep(&store, 2, &meta(Some(1), 100));
    keep(&store, 3, &other(Some(1)));
    drop(store);
    prune(&place, PrunePolicy { builds: vec!["app".to_owned()], ..PrunePolicy::default() });
    assert_eq!(states(&place), [1, 3]);
}

#[test]
fn blobs_live_as_long_as_something_names_them() {
    let place = Place::new();
    let store = place.open();
    let [manifest, config, layer] = image(&store, b"sealed");
    let [named, ..] = image(&store, b"named");
    let [nameless, ..] = image(&store, b"nameless");
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{named}","annotations":{{"org.opencontainers.image.ref.name":"a:b"}}}}]}}"#
    );
    std::fs::write(place.root().join("index.json"), index).unwrap();
    let sealed = SealedEntry {
        build: "app".to_owned(),
        manifest: manifest.clone(),
        config: config.clone(),
        created: SystemTime::now(),
        facts: BTreeMap::new(),
        details: BTreeMap::new(),
    };
    store.put_sealed(&key(1), &sealed).unwrap();
    let other = place.open();
    other.prune(&PrunePolicy::default()).unwrap();
    assert!(store.layout().has(&nameless), "a living store may be about to name it");
    drop(store);
    other.prune(&PrunePolicy::default()).unwrap();
    let has = |digest| other.layout().has(digest);
    assert!([&manifest, &config, &layer, &named].into_iter().all(has));
    assert!(!has(&nameless));
    other.prune(&PrunePolicy { all: true, ..PrunePolicy::default() }).unwrap();
    assert!(![&manifest, &config, &layer].into_iter().any(has));
    assert!(has(&named), "it has a name");
    other.prune(&PrunePolicy { images: true, ..PrunePolicy::default() }).unwrap();
    assert!(has(&named), "nobody asked for its removal");
    other.prune(&PrunePolicy { images: true, all: true, ..PrunePolicy::default() }).unwrap();
    assert!(!has(&named));
    assert_eq!(other.layout().names().unwrap().len(), 0);
}

#[test]
fn the_oldest_named_images_go_where_that_is_asked_for() {
    let place = Place::new();
    let store = place.open();
    for (number, days) in [(1, 3), (2, 1), (3, 2)] {
        let [manifest, ..] = image(&store, &[number; 1000]);
        store.layout().set_name(&format!("worker:{number}"), &manifest).unwrap();
        place.age(&format!("blobs/sha256/{}", manifest.hex()), days * DAY);
    }
    drop(store);
    let policy = PrunePolicy { older_than: Some(DAY + DAY / 2), images: true, ..PrunePolicy::default() };
    prune(&place, PrunePolicy { images: false, ..policy.clone() });
    let names = || -> Vec<_> {
        let names = place.open().layout().names().unwrap().into_iter();
        names.filter_map(|named| named.name).collect()
    };
    assert_eq!(names(), ["worker:1", "worker:2", "worker:3"]);
    prune(&place, PrunePolicy { max_size: Some(5000), images: true, ..PrunePolicy::default() });
    assert_eq!(names(), ["worker:2", "worker:3"]);
    prune(&place, policy);
    assert_eq!(names(), ["worker:2"]);
}

#[test]
fn a_name_whose_image_is_gone_goes() {
    let place = Place::new();
    let store = place.open();
    let [manifest, ..] = image(&store, b"named");
    store.layout().set_name("worker:1", &manifest).unwrap();
    std::fs::remove_file(store.layout().blob_path(&manifest)).unwrap();
    drop(store);
    prune(&place, PrunePolicy::default());
    assert_eq!(place.open().layout().names().unwrap().len(), 0);
}

#[test]
fn broken_entries_orphans_drafts_and_old_trash_go() {
    let place = filled();
    std::fs::write(place.root().join("steps").join(key(2).as_str()).join("meta.json"), "x").unwrap();
    std::fs::write(place.root().join("steps/odd"), "x").unwrap();
    std::fs::create_dir_all(place.root().join("tmp/trash-1/x")).unwrap();
    std::fs::create_dir_all(place.root().join("tmp/state-1/x")).unwrap();
    std::fs::write(place.root().join("blobs/sha256/.1.tmp"), "x").unwrap();
    let usage = place.open().usage().unwrap();
    assert_eq!(usage.items.iter().filter(|item| item.kind == ItemKind::Broken).count(), 3);
    prune(&place, PrunePolicy::default());
    assert_eq!(states(&place), [1, 4], "state 3 lay on the broken one");
    assert!(entries(&place.root().join("tmp")).is_empty());
    assert!(entries(&place.root().join("blobs/sha256")).is_empty());
}

#[test]
fn usage_tells_sizes_and_users() {
    let place = filled();
    let user = place.open();
    user.find_state(&key(1)).unwrap().unwrap();
    let usage = place.open().usage().unwrap();
    assert_eq!((usage.bytes, usage.blob_bytes), (420, 0));
    let used: Vec<&str> = usage.items.iter().filter(|item| item.in_use).map(|item| item.name.as_str()).collect();
    assert_eq!(used.len(), 3, "the state and two layers: {used:?}");
}

#[test]
fn collecting_a_thousand_states_is_quick() {
    let place = Place::new();
    let store = place.open();
    for number in 0..1000u16 {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        let key = Key::from_digest(bytes);
        let filled = store.begin_state(&key).unwrap();
        store.commit_state(&key, &filled, &meta(None, 1)).unwrap();
    }
    drop(store);
    let start = std::time::Instant::now();
    prune(&place, PrunePolicy { max_size: Some(500), ..PrunePolicy::default() });
    assert_eq!(entries(&place.root().join("steps")).len(), 500);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_state_is_in_use_as_soon_as_it_is_there() {
    let place = Place::new();
    let store = place.open();
    // As builders do it: filled in a workspace, without asking the store for a directory.
    let filled = store.work_directory("run-build");
    std::fs::create_dir_all(filled.join("upper")).unwrap();
    assert!(store.commit_state(&key(1), &filled, &meta(None, 5)).unwrap());
    prune(&place, PrunePolicy { all: true, ..PrunePolicy::default() });
    assert_eq!(store.chain(&key(1)).unwrap().len(), 1);
    drop(store);
    prune(&place, PrunePolicy { all: true, ..PrunePolicy::default() });
    assert!(states(&place).is_empty());
}

#[test]
fn records_of_an_engines_images_go_like_all_else() {
    let place = Place::new();
    let store = place.open();
    for number in [1, 2, 3] {
        let build = Some(format!("build{number}"));
        let result = EngineResult {
            build,
            image: format!("sha256:{number}"),
            created: SystemTime::now(),
            facts: BTreeMap::new(),
        };
        store.put_engine_result(&key(number), &result).unwrap();
    }
    drop(store);
    place.age(&format!("results/{}.json", key(1)), 10 * DAY);
    let left = || entries(&place.root().join("results")).len();
    let pruned = prune(&place, PrunePolicy { older_than: Some(DAY), ..PrunePolicy::default() });
    assert_eq!((pruned.removed.len(), left()), (1, 2));
    prune(&place, PrunePolicy { builds: vec!["build2".to_owned()], ..PrunePolicy::default() });
    assert_eq!(left(), 1);
    let items = place.open().usage().unwrap().items;
    assert_eq!((items[0].kind, items[0].title.as_str()), (ItemKind::Sealed, "image 3 of a Docker engine"));
    prune(&place, PrunePolicy { all: true, ..PrunePolicy::default() });
    assert_eq!(left(), 0);
}
