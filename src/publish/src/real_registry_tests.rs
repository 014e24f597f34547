//! Against a real Docker engine and a real registry (the `docker-registry` program with htpasswd) on this host.
//!
//! Skipped where one of them is missing, unless `KILN_TEST_REQUIRE` is set. Everything made bears the label
//! `kiln.test=publish` and is removed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use kiln_core::{Artifact, Failure, PostProcessor};
use kiln_docker::{BollardEngine, DockerUndoer, Engine};
use kiln_registry::CredentialSources;
use kiln_testkit::Arguments;
use serde_json::{Value, json};

use crate::docker_import::DockerImportKind;
use crate::docker_push::DockerPushKind;
use crate::docker_save::DockerSaveKind;
use crate::docker_tag::DockerTagKind;
use crate::settings::{EngineProvider, GivenEngine};
use crate::test_support::{Bench, files_artifact, processor, skip};

pub(crate) const USER: &str = "kiln";
pub(crate) const PASSWORD: &str = "correct-horse";

/// A registry of our own; it ends with the test.
pub(crate) struct Registry {
    process: Child,
    pub(crate) address: String,
    directory: tempfile::TempDir,
}

impl Registry {
    /// Starts one that wants a login; `None` where the programs are not installed.
    pub(crate) fn start() -> Option<Registry> {
        let directory = tempfile::tempdir().unwrap();
        let htpasswd = Command::new("htpasswd")
            .args(["-B", "-i", "-n", USER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut htpasswd) = htpasswd else {
            skip("htpasswd is not installed");
            return None;
        };
        htpasswd.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
        let users = htpasswd.wait_with_output().unwrap().stdout;
        std::fs::write(directory.path().join("htpasswd"), users).unwrap();
        // The port is free now; whoever takes it in between makes the registry end, and then the next one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let Some(registry) = Registry::start_at(directory.path(), &format!("127.0.0.1:{port}")) else {
                skip("docker-registry is not installed");
                return None;
            };
            if let Some((process, address)) = registry {
                return Some(Registry { process, address, directory });
            }
        }
        panic!("docker-registry did not start");
    }

    fn start_at(directory: &Path, address: &str) -> Option<Option<(Child, String)>> {
        let root = directory.display();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}/data}}}}\nhttp: {{addr: '{address}'}}\nauth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
        );
        let path = directory.join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().ok()?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if TcpStream::connect(address).is_ok() {
                return Some(Some((process, address.to_owned())));
            }
            if process.try_wait().unwrap().is_some() {
                return Some(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        process.kill().unwrap();
        process.wait().unwrap();
        Some(None)
    }

    /// The digest of a tag, as the registry itself says; `None` where it has no such tag.
    pub(crate) fn digest(&self, repository: &str, tag: &str) -> Option<String> {
        let kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
        self.digest_of(repository, tag, kinds)
    }

    /// The same of an index.
    pub(crate) fn index_digest(&self, repository: &str, tag: &str) -> Option<String> {
        self.digest_of(repository, tag, "application/vnd.oci.image.index.v1+json")
    }

    fn digest_of(&self, repository: &str, tag: &str, kinds: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let request = format!(
            "HEAD /v2/{repository}/manifests/{tag} HTTP/1.0\r\nAuthorization: Basic {login}\r\nAccept: {kinds}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let header = answer.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        header.map(|digest| digest.trim().to_owned())
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The engine of this host; `None` where there is none.
async fn engine() -> Option<Arc<dyn Engine>> {
    let engine = BollardEngine::connect(None, &std::env::vars().collect()).unwrap();
    match engine.version().await {
        Ok(_) => Some(Arc::new(engine)),
        Err(error) => {
            skip(&format!("no Docker engine: {error}"));
            None
        }
    }
}

/// A small image in the engine, named in a registry; the names go with it.
struct World {
    bench: Bench,
    engine: Arc<dyn Engine>,
    artifact: Artifact,
    repository: String,
}

impl World {
    fn provider(&self) -> Arc<dyn EngineProvider> {
        Arc::new(GivenEngine { engine: Arc::clone(&self.engine), environment: Default::default() })
    }

    /// Imports a root file system of one file, which no other test has, and names it twice.
    async fn new(engine: Arc<dyn Engine>, registry: &str, name: &str) -> World {
        let bench = Bench::new();
        let mut tar = tar::Builder::new(Vec::new());
        let content = format!("{name} {registry}");
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, "content", content.as_bytes()).unwrap();
        let tar = bench.write("root.tar", tar.into_inner().unwrap());
        let repository = format!("{registry}/group/{name}");
        let provider: Arc<dyn EngineProvider> =
            Arc::new(GivenEngine { engine: Arc::clone(&engine), environment: Default::default() });
        let import = processor(
            &DockerImportKind { engine: Arc::clone(&provider), store: None, epoch: None },
            json!({ "repository": repository, "tag": "base", "changes": ["LABEL kiln.test=publish", "CMD [\"/content\"]"] }),
        );
        let imported = import.process(&files_artifact(&[&tar]), &bench.context).await.unwrap().artifact;
        let tag = processor(
            &DockerTagKind { engine: provider },
            json!({ "repository": repository, "tags": ["1", "latest"] }),
        );
        let artifact = tag.process(&imported, &bench.context).await.unwrap().artifact;
        World { bench, engine, artifact, repository }
    }

    async fn push(&self, sources: CredentialSources, arguments: Value) -> Result<Artifact, Failure> {
        let kind = DockerPushKind { engine: self.provider(), credentials: sources };
        let push = crate::docker_push::quick(&kind, Arguments::new(arguments));
        push.process(&self.artifact, &self.bench.context).await.map(|processed| processed.artifact)
    }

    /// Undoes what the journal holds, newest first, as `kiln cleanup` does.
    async fn clean(&self) {
        let engine = Arc::clone(&self.engine);
        let undoer = DockerUndoer::with(move |_| Ok(Arc::clone(&engine)));
        for undo in self.bench.context.journal.open().iter().rev() {
            kiln_core::Undoer::undo(&undoer, undo).await.unwrap();
        }
        for tag in ["base", "1", "latest"] {
            let name = format!("{}:{tag}", self.repository);
            assert!(self.engine.inspect_image(&name).await.unwrap().is_none(), "{name} is left");
        }
        let id = &self.artifact.image().unwrap().id;
        assert!(self.engine.inspect_image(id).await.unwrap().is_none(), "{id} is left");
    }
}

impl Drop for World {
    /// For a test that failed before it could clean.
    fn drop(&mut self) {
        let names = ["base", "1", "latest"].map(|tag| format!("{}:{tag}", self.repository));
        let _ = Command::new("docker").arg("rmi").args(names).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_imported_named_pushed_and_saved() {
    let Some(engine) = engine().await else { return };
    let Some(registry) = Registry::start() else { return };
    let world = World::new(engine, &registry.address, "pushed").await;

    let login =
        json!({ "login": true, "login_server": registry.address, "login_username": USER, "login_password": PASSWORD });
    let pushed = world.push(CredentialSources::default(), login).await.unwrap();
    let digest = pushed.image().unwrap().digest.clone().unwrap();
    for tag in ["base", "1", "latest"] {
        assert_eq!(registry.digest("group/pushed", tag).as_deref(), Some(digest.as_str()), "{tag}");
    }

    // Again, as another user would: the login is in docker's configuration.
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let config = json!({ "auths": { registry.address.clone(): { "auth": auth } } });
    let path = registry.directory.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let sources = CredentialSources { files: vec![path], ..CredentialSources::default() };
    let again = world.push(sources, json!({})).await.unwrap();
    assert_eq!(again.image().unwrap().digest.as_deref(), Some(digest.as_str()));
    let shown = world.bench.context.reporter.as_json();
    assert!(!shown.contains(PASSWORD) && !shown.contains(&auth), "{shown}");

    let saved = world.bench.path("saved.tar");
    let save = processor(&DockerSaveKind { engine: world.provider() }, json!({ "path": saved }));
    save.process(&world.artifact, &world.bench.context).await.unwrap();
    let names = names_in(&saved);
    assert_eq!(names, ["1", "base", "latest"].map(|tag| format!("{}:{tag}", world.repository)));
    world.clean().await;
}

/// The names in a saved image, sorted.
fn names_in(tar: &Path) -> Vec<String> {
    let mut archive = tar::Archive::new(std::fs::File::open(tar).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let mut entry = entries.find(|entry| entry.path().unwrap() == Path::new("manifest.json")).unwrap();
    let mut text = String::new();
    entry.read_to_string(&mut text).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let tags = manifest[0]["RepoTags"].as_array().unwrap();
    let mut names: Vec<String> = tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_none_are_refused_with_hints() {
    let Some(engine) = engine().await else { return };
    let Some(registry) = Registry::start() else { return };
    let world = World::new(engine, &registry.address, "refused").await;

    let wrong = json!({ "login": true, "login_username": USER, "login_password": "battery-staple" });
    let failure = world.push(CredentialSources::default(), wrong).await.unwrap_err();
    assert!(failure.hints.iter().any(|hint| hint.contains("login_password")), "{failure:?}");
    assert!(!format!("{failure:?}").contains("battery-staple"));

    let failure = world.push(CredentialSources::default(), json!({})).await.unwrap_err();
    assert!(failure.hints.iter().any(|hint| hint.contains("docker login")), "{failure:?}");
    assert!(world.bench.warnings().is_empty(), "a refusal is final: {:?}", world.bench.warnings());
    assert_eq!(registry.digest("group/refused", "1"), None);
    world.clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_is_tried_again_and_then_told() {
    let Some(engine) = engine().await else { return };
    let Some(mut registry) = Registry::start() else { return };
    let world = World::new(engine, &registry.address, "gone").await;
    registry.stop();
    let failure = world.push(CredentialSources::default(), json!({})).await.unwrap_err();
    assert!(failure.to_string().ends_with("after 4 tries"), "{failure:?}");
    assert!(failure.chain().contains("connection refused"), "{}", failure.chain());
    assert!(failure.hints.iter().any(|hint| hint.contains("must reach")), "{failure:?}");
    assert_eq!(world.bench.warnings().len(), 3);
    world.clean().await;
}

/// Fails as an engine that is not there.
struct NoEngine;

#[async_trait]
impl EngineProvider for NoEngine {
    async fn engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        let engine = BollardEngine::connect(Some("unix:///nowhere/docker.sock"), &std::collections::BTreeMap::new())?;
        engine.version().await?;
        Ok(Arc::new(engine))
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_a_matter_of_the_environment() {
    let bench = Bench::new();
    let tag = processor(&DockerTagKind { engine: Arc::new(NoEngine) }, json!({ "repository": "a" }));
    let artifact = crate::test_support::image_artifact("sha256:1", &[]);
    let failure = tag.process(&artifact, &bench.context).await.err().unwrap();
    assert_eq!(failure.class, kiln_core::FailureClass::Environment);
    assert!(failure.chain().contains("/nowhere/docker.sock"), "{}", failure.chain());
}
