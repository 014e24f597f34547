//! Tests of the store.

mod collection;
mod entries;
mod opening;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kiln_core::{Key, StateInfo};
use kiln_image::Digest;

use crate::{LayerMeta, StateMeta, Store, StoreOptions};

/// A directory of its own with a store, which may be opened several times.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("cache/0")
    }

    fn open(&self) -> Store {
        self.open_in("this boot")
    }

    fn open_in(&self, boot: &str) -> Store {
        let options = StoreOptions { boot: Some(boot.to_owned()), ..StoreOptions::default() };
        Store::open(&self.root(), &options).unwrap()
    }

    /// Makes an entry look as if it was used last so long ago.
    fn age(&self, file: &str, age: Duration) {
        let file = std::fs::File::options().write(true).open(self.root().join(file)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
}

fn key(number: u8) -> Key {
    Key::from_digest([number; 32])
}

fn meta(parent: Option<u8>, size: u64) -> StateMeta {
    StateMeta {
        info: StateInfo {
            parent: parent.map(key),
            title: "shell: 1 inline command".to_owned(),
            build: "app".to_owned(),
            took: Duration::from_millis(1500),
            created: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            used_secrets: false,
            is_checkpoint: false,
        },
        parent: parent.map(key),
        content: Some("sha256:00".to_owned()),
        base: chain(1).to_string(),
        size,
        details: BTreeMap::from([("host".to_owned(), "kiln".to_owned())]),
    }
}

fn chain(number: u8) -> Digest {
    Digest::of(&[number])
}

/// Keeps a state with one file in it.
fn keep(store: &Store, number: u8, meta: &StateMeta) -> bool {
    let filled = store.begin_state(&key(number)).unwrap();
    std::fs::create_dir(filled.join("upper")).unwrap();
    std::fs::write(filled.join("upper/file"), format!("{number}")).unwrap();
    store.commit_state(&key(number), &filled, meta).unwrap()
}

fn keep_layer(store: &Store, number: u8, parent: Option<u8>) {
    let filled = store.begin_layer(&chain(number)).unwrap();
    std::fs::write(filled.join("tree/file"), "x").unwrap();
    let meta = LayerMeta { parent: parent.map(chain), diff_id: chain(100 + number), size: 10 };
    assert!(store.commit_layer(&chain(number), &filled, &meta).unwrap());
}

/// An image of one layer in the store's layout; gives the digests of manifest, config, layer.
fn image(store: &Store, content: &[u8]) -> [Digest; 3] {
    let layout = store.layout();
    let layer = layout.put_document(content).unwrap();
    let config = layout.put_document(&[b"{} ", content].concat()).unwrap();
    let manifest = format!(r#"{{"config":{{"digest":"{config}"}},"layers":[{{"digest":"{layer}"}}]}}"#);
    [layout.put_document(manifest.as_bytes()).unwrap(), config, layer]
}

fn entries(directory: &Path) -> Vec<String> {
    crate::files::names(directory)
}
