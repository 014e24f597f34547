//! One suite for all registries: what the client must bring about at each of them. `scripts/services.sh start tests` starts
//! them; a test whose registry is missing says SKIPPED, or fails where `KILN_TEST_REQUIRE` is set.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln_core::Secret;
use kiln_image::{Digest, Layout};
use kiln_registry::{
    Client, ClientOptions, CredentialSources, Credentials, Mirror, Moves, Platform, PullOptions, PushOptions,
    Reference, RegistryError, no_progress,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A registry, and who may write there.
struct Peer {
    address: String,
    username: &'static str,
    password: &'static str,
    /// zuul-registry: it neither mounts nor deletes, and pages no tags.
    is_zuul: bool,
}

impl Peer {
    #[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
    fn find(variable: &str, username: &'static str, password: &'static str) -> Option<Peer> {
        match std::env::var(variable) {
            Ok(address) => Some(Peer { address, username, password, is_zuul: variable.contains("ZUUL") }),
            Err(_) => {
                assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs {variable}");
                eprintln!("SKIPPED: no {variable}");
                None
            }
        }
    }

    fn client(&self) -> Client {
        let credentials = Credentials {
            username: self.username.to_owned(),
            password: Secret::new(self.password),
            identity_token: None,
        };
        let explicit = vec![(self.address.clone(), credentials)];
        let budget = Duration::from_secs(20);
        Client::new(ClientOptions { explicit, budget, ..ClientOptions::default() })
    }

    /// A repository of this run.
    fn name(&self, rest: &str) -> Reference {
        let run = std::process::id();
        Reference::parse(&format!("{}/group/project/run-{run}-{rest}", self.address)).unwrap()
    }
}

struct Place {
    layout: Layout,
    directory: TempDir,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    Place { layout: Layout::create(directory.path()).unwrap(), directory }
}

impl Place {
    fn put(&self, media_type: &str, bytes: &[u8]) -> Value {
        json!({"mediaType": media_type, "digest": self.layout.put_document(bytes).unwrap(), "size": bytes.len()})
    }

    fn image(&self, architecture: &str, layers: &[&[u8]]) -> Value {
        let layer = |layer: &&[u8]| self.put("application/vnd.oci.image.layer.v1.tar", layer);
        let layers: Vec<Value> = layers.iter().map(layer).collect();
        let config = json!({"architecture": architecture, "os": "linux"}).to_string();
        let config = self.put("application/vnd.oci.image.config.v1+json", config.as_bytes());
        let image = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        let mut descriptor = self.put(MANIFEST, image.to_string().as_bytes());
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    fn untyped(&self, image: &Digest) -> Digest {
        let mut manifest: Value = serde_json::from_slice(&self.layout.document(image).unwrap()).unwrap();
        manifest.as_object_mut().unwrap().remove("mediaType");
        digest(&self.put(MANIFEST, manifest.to_string().as_bytes()))
    }

    /// The same image as docker's push writes it.
    fn as_docker(&self, image: &Digest) -> Digest {
        let mut manifest: Value = serde_json::from_slice(&self.layout.document(image).unwrap()).unwrap();
        let types = "application/vnd.docker";
        manifest["mediaType"] = format!("{types}.distribution.manifest.v2+json").into();
        manifest["config"]["mediaType"] = format!("{types}.container.image.v1+json").into();
        for layer in manifest["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = format!("{types}.image.rootfs.diff.tar.gzip").into();
        }
        digest(&self.put("", manifest.to_string().as_bytes()))
    }

    fn index(&self, children: &[Value]) -> Digest {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": children});
        digest(&self.put(INDEX, index.to_string().as_bytes()))
    }
}

fn digest(descriptor: &Value) -> Digest {
    Digest::parse(descriptor["digest"].as_str().unwrap()).unwrap()
}

async fn conforms(peer: &Peer, what: &str) {
    let (client, from) = (peer.client(), place());
    let large: Vec<u8> = (0..3_000_000u32).map(|number| (number * 7) as u8).collect();
    let image = digest(&from.image("amd64", &[b"one", &large, what.as_bytes()]));
    let index = from.index(&[from.image("amd64", &[b"amd64", &large]), from.image("arm64", &[b"arm64"])]);

    // An image: pushed, not moved again, pulled.
    let name = peer.name(&format!("{what}:1"));
    push(&client, &from, &image, &[&name]).await;
    let again = push(&client, &from, &image, &[&name]).await;
    assert_eq!(again, Moves { moved: 0, mounted: 0, present: 4 });
    let to = place();
    let pulled = client.pull(&name, &to.layout, &PullOptions::default(), no_progress()).await.unwrap();
    assert_eq!((pulled.manifest, pulled.index), (image.clone(), None));
    assert!(to.layout.has(&Digest::of(&large)));
    assert_eq!(client.resolve(&name).await.unwrap().digest, image);

    // As podman writes it: without its own type; asked for by tag and digest.
    let untyped = from.untyped(&image);
    push(&client, &from, &untyped, &[&peer.name(&format!("{what}:untyped"))]).await;
    let pinned = Reference { digest: Some(untyped.to_string()), ..peer.name(&format!("{what}:untyped")) };
    let pulled = client.pull(&pinned, &place().layout, &PullOptions::default(), no_progress()).await.unwrap();
    assert_eq!(pulled.manifest, untyped);

    // An index, with a repository beside that may give its layers.
    let many = peer.name(&format!("{what}-many:1"));
    let options = PushOptions { mount_from: vec![name.clone()], ..PushOptions::default() };
    let pushed =
        client.push(&from.layout, &index, std::slice::from_ref(&many), &options, no_progress()).await.unwrap().blobs;
    let taken_over = if peer.is_zuul { pushed.present } else { pushed.mounted };
    assert!(taken_over >= 1, "{pushed:?}");
    let platform = Platform::parse("linux/arm64");
    let options = PullOptions { platform, ..PullOptions::default() };
    let pulled = client.pull(&many, &place().layout, &options, no_progress()).await.unwrap();
    assert_eq!(pulled.index, Some(index.clone()));
    let copy = peer.name(&format!("{what}-copy:1"));
    client.copy(&many, std::slice::from_ref(&copy), &PushOptions::default(), no_progress()).await.unwrap();
    assert_eq!(client.resolve(&copy).await.unwrap().digest, index);

    tags(peer, &client, &name, &image).await;
    streams(&client, &name).await;
    let missing = client.pull(&peer.name("missing"), &place().layout, &PullOptions::default(), no_progress()).await;
    assert!(missing.unwrap_err().is_not_found());
}

async fn push(client: &Client, from: &Place, digest: &Digest, to: &[&Reference]) -> Moves {
    let to: Vec<Reference> = to.iter().map(|name| (*name).clone()).collect();
    client.push(&from.layout, digest, &to, &PushOptions::default(), no_progress()).await.unwrap().blobs
}

async fn tags(peer: &Peer, client: &Client, name: &Reference, image: &Digest) {
    assert_eq!(client.retag(name, &["2".to_owned(), "3".to_owned()]).await.unwrap(), *image);
    let listed = client.tags(name).await.unwrap();
    for tag in ["1", "2", "3"] {
        assert!(listed.iter().any(|listed| listed == tag), "{listed:?}");
    }
    let two = name.with_tag("2").unwrap();
    match client.untag(&two).await {
        Ok(()) => assert!(client.resolve(&two).await.unwrap_err().is_not_found()),
        // What cannot be removed still means what it meant.
        Err(RegistryError::Refused { .. }) if peer.is_zuul => {
            assert_eq!(client.resolve(&two).await.unwrap().digest, *image);
        }
        // This job token may do all but delete, as a deploy token.
        Err(error) => panic!("{error}"),
    }
    for tag in ["1", "3"] {
        assert_eq!(client.resolve(&name.with_tag(tag).unwrap()).await.unwrap().digest, *image);
    }
}

async fn streams(client: &Client, name: &Reference) {
    let mut upload = client.start_upload(name).await.unwrap();
    let mut all = Vec::new();
    for number in 0..20u8 {
        let piece = vec![number; 70_000];
        all.extend_from_slice(&piece);
        upload.write(piece.into()).await.unwrap();
    }
    upload.finish(&Digest::of(&all)).await.unwrap();
    client.start_upload(name).await.unwrap().abort().await;
}

#[tokio::test]
async fn tokens_as_gitlab_gives_them() {
    let Some(peer) = Peer::find("KILN_TEST_REGISTRY", "gitlab-ci-token", "job-token") else { return };
    conforms(&peer, "tokens").await;

    // A job token reads the other project and does not write there.
    let from = place();
    let image = digest(&from.image("amd64", &[b"layer"]));
    let other = Reference::parse(&format!("{}/group/other/image", peer.address)).unwrap();
    let pushed = peer.client().push(&from.layout, &image, &[other], &PushOptions::default(), no_progress()).await;
    let error = pushed.unwrap_err();
    assert!(error.to_string().contains("its token does not give `push` on group/other/image"), "{error}");
    let wrong = Peer { password: "wrong-password", ..peer };
    let pushed =
        wrong.client().push(&from.layout, &image, &[wrong.name("x")], &PushOptions::default(), no_progress()).await;
    let error = pushed.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error:?}");
    assert!(!format!("{error:?}{error}").contains("wrong-password"));
}

#[tokio::test]
async fn passwords() {
    let Some(peer) = Peer::find("KILN_TEST_PASSWORD_REGISTRY", "kiln", "htpasswd-password") else { return };
    conforms(&peer, "passwords").await;
}

#[tokio::test]
async fn tokens_of_three_seconds() {
    let Some(peer) = Peer::find("KILN_TEST_SHORT_TOKEN_REGISTRY", "gitlab-ci-token", "job-token") else { return };
    conforms(&peer, "short").await;
    let client = peer.client();
    let mut upload = client.start_upload(&peer.name("slow")).await.unwrap();
    upload.write(b"one".to_vec().into()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    upload.write(b"two".to_vec().into()).await.unwrap();
    upload.finish(&Digest::of(b"onetwo")).await.unwrap();
}

#[tokio::test]
async fn zuul_registry() {
    let Some(peer) = Peer::find("KILN_TEST_ZUUL_REGISTRY", "writer", "write-password") else { return };
    conforms(&peer, "zuul").await;
    let anonymous = Client::new(ClientOptions::default());
    let options = PullOptions::default();
    anonymous.pull(&peer.name("zuul:1"), &place().layout, &options, no_progress()).await.unwrap();
}

#[tokio::test]
async fn zuul_registry_that_wants_readers_to_log_in() {
    let Some(peer) = Peer::find("KILN_TEST_ZUUL_CLOSED_REGISTRY", "writer", "write-password") else { return };
    conforms(&peer, "zuul").await;
    let reader = Peer { username: "reader", password: "read-password", ..peer };
    let to = place();
    reader.client().pull(&reader.name("zuul:1"), &to.layout, &PullOptions::default(), no_progress()).await.unwrap();
    assert!(Path::new(to.directory.path()).join("blobs").is_dir());
    let anonymous = Client::new(ClientOptions::default());
    let refused = anonymous.pull(&reader.name("zuul:1"), &place().layout, &PullOptions::default(), no_progress()).await;
    assert!(matches!(refused, Err(RegistryError::Denied { .. })), "{refused:?}");
}

/// A login as docker, podman or GitLab keep it.
fn client_with(files: Vec<PathBuf>, environment: &[(&str, &str)]) -> Client {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let credentials = CredentialSources { files, environment, ..CredentialSources::default() };
    Client::new(ClientOptions { credentials, budget: Duration::from_secs(20), ..ClientOptions::default() })
}

async fn push_with(client: &Client, name: &Reference) -> Result<(), RegistryError> {
    let from = place();
    let image = digest(&from.image("amd64", &[b"login"]));
    let to = std::slice::from_ref(name);
    client.push(&from.layout, &image, to, &PushOptions::default(), no_progress()).await.map(drop)
}

#[tokio::test]
async fn logins_from_where_they_are_kept() {
    let Some(peer) = Peer::find("KILN_TEST_REGISTRY", "gitlab-ci-token", "job-token") else { return };
    let (host, directory) = (&peer.address, tempfile::tempdir().unwrap());
    let name = peer.name("logins:1");

    // podman's narrower keys: the login for the registry would be wrong.
    let auth = directory.path().join("auth.json");
    let entry = |user: &str, password: &str| json!({"username": user, "password": password});
    let auths = json!({"auths": {
        host: entry("gitlab-ci-token", "wrong"),
        format!("{host}/group/project"): entry("gitlab-ci-token", "job-token"),
    }});
    std::fs::write(&auth, auths.to_string()).unwrap();
    let podman = client_with(vec![auth], &[]);
    push_with(&podman, &name).await.unwrap();
    let other = Reference::parse(&format!("{host}/group/other/image")).unwrap();
    let error = push_with(&podman, &other).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error:?}");

    // GitLab's variables.
    let job = [("CI_REGISTRY", host.as_str()), ("CI_JOB_TOKEN", "job-token")];
    push_with(&client_with(Vec::new(), &job), &name).await.unwrap();

    // A credential helper.
    let helper = directory.path().join("docker-credential-kilntest");
    let script = "printf '#!/bin/sh\ncat >/dev/null\necho {\\\"Username\\\":\\\"gitlab-ci-token\\\",\\\"Secret\\\":\\\"job-token\\\"}\n' > \"$1\" && chmod 755 \"$1\"";
    // Written by another process: a file that this one has open for writing cannot be run meanwhile.
    let made = Command::new("/bin/sh").args(["-c", script, "sh"]).arg(&helper).status().unwrap();
    assert!(made.success());
    let config = directory.path().join("config.json");
    std::fs::write(&config, json!({"credHelpers": {host: "kilntest"}}).to_string()).unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    push_with(&client_with(vec![config], &[("PATH", &path)]), &name).await.unwrap();
}

/// As a deploy token: it may push, and not delete.
#[tokio::test]
async fn a_right_that_is_missing_is_named() {
    let Some(peer) = Peer::find("KILN_TEST_REGISTRY", "deployer", "deploy-token") else { return };
    let name = peer.name("deployed:1");
    push_with(&peer.client(), &name).await.unwrap();
    let error = peer.client().untag(&name).await.unwrap_err();
    assert!(error.to_string().contains("its token does not give `delete` on group/project/"), "{error}");
    peer.client().resolve(&name).await.unwrap();
}

/// Docker's own names have no registry in a mirror, those of others have.
#[tokio::test]
async fn zuul_registry_as_a_mirror() {
    let Some(peer) = Peer::find("KILN_TEST_ZUUL_REGISTRY", "writer", "write-password") else { return };
    let run = std::process::id();
    for (path, wanted) in [
        (format!("library/kiln-{run}"), format!("kiln-{run}")),
        (format!("group/kiln-{run}"), format!("docker.io/group/kiln-{run}")),
        (format!("quay.io/group/kiln-{run}"), format!("quay.io/group/kiln-{run}")),
    ] {
        let stored = Reference::parse(&format!("{}/{path}:1", peer.address)).unwrap();
        push_with(&peer.client(), &stored).await.unwrap();
        let mirrors = vec![Mirror { registry: "*".into(), location: peer.address.clone(), fallback: false }];
        let client = Client::new(ClientOptions { mirrors, ..ClientOptions::default() });
        let wanted = Reference::parse(&format!("{wanted}:1")).unwrap();
        let pulled = client.pull(&wanted, &place().layout, &PullOptions::default(), no_progress()).await.unwrap();
        assert_eq!(pulled.from, format!("{}/{path}", peer.address));
        // Itself it does not mirror.
        let own = client.resolve(&stored).await.unwrap();
        assert_eq!(own.from, format!("{}/{path}", peer.address));
    }
}

/// Whatever the type of an image: a tag that goes takes no other along, and one that cannot go means what it meant.
async fn untag_keeps_others(peer: &Peer, what: &str) {
    let (client, from) = (peer.client(), place());
    let oci = digest(&from.image("amd64", &[b"untag"]));
    let docker = from.as_docker(&oci);
    let index = from.index(&[from.image("amd64", &[b"untag"]), from.image("arm64", &[b"untag"])]);
    for (kind, image) in [("oci", oci), ("docker", docker), ("index", index)] {
        let name = peer.name(&format!("{what}-untag-{kind}:a"));
        push(&client, &from, &image, &[&name]).await;
        client.retag(&name, &["b".to_owned(), "c".to_owned()]).await.unwrap();
        let outcome = client.untag(&name.with_tag("b").unwrap()).await;
        assert_eq!(outcome.is_err(), peer.is_zuul, "{kind}: {outcome:?}");
        let b = client.resolve(&name.with_tag("b").unwrap()).await;
        match peer.is_zuul {
            true => assert_eq!(b.unwrap().digest, image, "{kind}"),
            false => assert!(b.unwrap_err().is_not_found(), "{kind}"),
        }
        for tag in ["a", "c"] {
            assert_eq!(client.resolve(&name.with_tag(tag).unwrap()).await.unwrap().digest, image, "{kind}");
            let options = PullOptions { platform: Platform::parse("linux/amd64"), ..PullOptions::default() };
            let tagged = name.with_tag(tag).unwrap();
            client.pull(&tagged, &place().layout, &options, no_progress()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn untagging_changes_no_other_tag() {
    let peers = [
        ("KILN_TEST_REGISTRY", "gitlab-ci-token", "job-token"),
        ("KILN_TEST_PASSWORD_REGISTRY", "kiln", "htpasswd-password"),
        ("KILN_TEST_ZUUL_REGISTRY", "writer", "write-password"),
    ];
    for (variable, username, password) in peers {
        let Some(peer) = Peer::find(variable, username, password) else { return };
        untag_keeps_others(&peer, &variable.to_lowercase()).await;
    }
}

/// A docker-registry of this test's own that speaks TLS, stopped with it.
struct Tls {
    child: Child,
    port: u16,
    directory: TempDir,
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
fn tls_registry() -> Option<Tls> {
    let has = |program: &str, argument: &str| {
        let run = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok()
    };
    if !has("openssl", "version") || !has("docker-registry", "--version") {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs openssl and docker-registry");
        eprintln!("SKIPPED: no openssl or no docker-registry");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // Free a moment ago; a clash shows as a failure to answer.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: data}}}}\n\
         http: {{addr: '127.0.0.1:{port}', tls: {{certificate: ca.pem, key: key.pem}}}}\n"
    );
    std::fs::write(directory.path().join("config.yml"), config).unwrap();
    let child = Command::new("docker-registry")
        .args(["serve", "config.yml"])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Tls { child, port, directory };
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(server)
}

#[tokio::test]
async fn certificates_are_trusted_where_they_are_given() {
    let Some(server) = tls_registry() else { return };
    let from = place();
    let image = digest(&from.image("amd64", &[b"layer"]));
    let name = Reference::parse(&format!("localhost:{}/image", server.port)).unwrap();
    let push = async |options: ClientOptions| {
        let client = Client::new(options);
        client.push(&from.layout, &image, std::slice::from_ref(&name), &PushOptions::default(), no_progress()).await
    };
    let started = Instant::now();
    let error = push(ClientOptions::default()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(10), "a certificate does not get better by waiting");
    let ca_files = vec![server.directory.path().join("ca.pem")];
    push(ClientOptions { ca_files, ..ClientOptions::default() }).await.unwrap();
    let insecure = vec![name.registry.clone()];
    push(ClientOptions { insecure, ..ClientOptions::default() }).await.unwrap();
    // The certificate is for another name.
    let other = Reference::parse(&format!("127.0.0.1:{}/image", server.port)).unwrap();
    let ca_files = vec![server.directory.path().join("ca.pem")];
    let client = Client::new(ClientOptions { ca_files, ..ClientOptions::default() });
    assert!(matches!(client.resolve(&other).await, Err(RegistryError::Untrusted { .. })));

    let missing = ClientOptions { ca_files: vec!["/nowhere/ca.pem".into()], ..ClientOptions::default() };
    assert!(matches!(push(missing).await, Err(RegistryError::Certificates { .. })));
}
