//! The client against a registry that does as it is told: one test a rule.

mod auth;
mod faults;
mod hostile;
mod images;
mod server;
mod table;
mod tags;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln_core::Secret;
use kiln_image::{Digest, Layout};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::options::{ClientOptions, Note, PullOptions, PushOptions, no_progress};
use crate::{Client, Credentials, Reference, RegistryError};
use server::Server;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout in a directory of its own.
struct Place {
    layout: Layout,
    _directory: TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place { layout: Layout::create(directory.path()).unwrap(), _directory: directory }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

impl Place {
    /// An image with these layers.
    fn image(&self, layers: &[&[u8]]) -> Digest {
        self.image_for("amd64", layers)
    }

    fn image_for(&self, architecture: &str, layers: &[&[u8]]) -> Digest {
        let config = json!({"architecture": architecture, "os": "linux"}).to_string();
        let put = |bytes: &[u8]| self.layout.put_document(bytes).unwrap();
        let layer = |layer: &&[u8]| descriptor("application/vnd.oci.image.layer.v1.tar", &put(layer), layer.len());
        let layers: Vec<Value> = layers.iter().map(layer).collect();
        let config = descriptor("application/vnd.oci.image.config.v1+json", &put(config.as_bytes()), config.len());
        put(json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})
            .to_string()
            .as_bytes())
    }

    /// An index of images for these architectures, each with one layer of its name.
    fn index(&self, architectures: &[&str]) -> Digest {
        let child = |architecture: &&str| {
            let digest = self.image_for(architecture, &[architecture.as_bytes()]);
            let size = self.layout.document(&digest).unwrap().len();
            let mut child = descriptor(MANIFEST, &digest, size);
            child["platform"] = json!({"os": "linux", "architecture": architecture});
            child
        };
        let children: Vec<Value> = architectures.iter().map(child).collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        self.layout.put_document(index.to_string().as_bytes()).unwrap()
    }
}

/// Notes as they would be shown.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

fn options(notes: &Notes) -> ClientOptions {
    let notes = notes.clone();
    let note = move |note: Note| notes.0.lock().unwrap().push(note.to_string());
    let budget = Duration::from_secs(20);
    ClientOptions { budget, stall: Duration::from_secs(10), notes: Arc::new(note), ..ClientOptions::default() }
}

/// For what never ends well.
fn hasty(options: ClientOptions) -> ClientOptions {
    ClientOptions { budget: Duration::from_secs(2), stall: Duration::from_secs(1), ..options }
}

fn client() -> Client {
    Client::new(options(&Notes::default()))
}

fn login(server: &Server, username: &str, password: &str) -> (String, Credentials) {
    let credentials = Credentials { username: username.into(), password: Secret::new(password), identity_token: None };
    (server.address.clone(), credentials)
}

fn client_of(server: &Server, notes: &Notes) -> Client {
    Client::new(ClientOptions { explicit: vec![login(server, "user", "password")], ..options(notes) })
}

fn reference(server: &Server, rest: &str) -> Reference {
    Reference::parse(&format!("{}/{rest}", server.address)).unwrap()
}

async fn push(client: &Client, place: &Place, digest: &Digest, to: &Reference) -> Result<crate::Pushed, RegistryError> {
    let options = PushOptions::default();
    client.push(&place.layout, digest, std::slice::from_ref(to), &options, no_progress()).await
}

async fn pull(client: &Client, place: &Place, from: &Reference) -> Result<crate::Pulled, RegistryError> {
    client.pull(from, &place.layout, &PullOptions::default(), no_progress()).await
}

/// The error with its causes, as it would be shown.
fn shown(error: RegistryError) -> String {
    kiln_core::Failure::build(error).chain()
}

/// Callers spawn these.
#[test]
fn all_calls_can_move_between_threads() {
    fn check<T: Send>(_: T) {}
    let place = place();
    let layout = &place.layout;
    let client = Client::new(ClientOptions::default());
    let reference = Reference::parse("localhost:1/a").unwrap();
    let (pull, push) = (PullOptions::default(), PushOptions::default());
    check(client.resolve(&reference));
    check(client.pull(&reference, layout, &pull, no_progress()));
    check(client.push(layout, &Digest::of(b""), std::slice::from_ref(&reference), &push, no_progress()));
    check(client.copy(&reference, std::slice::from_ref(&reference), &push, no_progress()));
    check(client.start_upload(&reference));
    check(client.tags(&reference));
    check(client.untag(&reference));
    check(client.retag(&reference, &[]));
}
