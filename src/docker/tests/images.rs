//! Images of a real engine, and a push to a real registry (`docker-registry`, started here). Skipped loudly without them.
// A skipped test says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kiln_core::{Failure, FailureClass};
use kiln_core::{UndoOutcome, Undoer};
use kiln_docker::engine::{ImportOptions, TransferProgress};
use kiln_docker::{BollardEngine, DockerUndoer, Engine, EngineError, TagUndo};

async fn engine() -> Option<BollardEngine> {
    let engine = BollardEngine::connect(None, &std::env::vars().collect()).unwrap();
    match engine.version().await {
        Ok(_) => Some(engine),
        Err(error) if std::env::var_os("KILN_TEST_REQUIRE").is_some() => panic!("an engine is required: {error}"),
        Err(error) => {
            eprintln!("SKIPPED: {error}");
            None
        }
    }
}

/// A root file system with one file, different for each name.
fn root_file_system(directory: &Path, name: &str) -> std::path::PathBuf {
    let path = directory.join(format!("{name}.tar"));
    let mut builder = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "name", name.as_bytes()).unwrap();
    builder.finish().unwrap();
    path
}

struct Registry {
    process: Child,
    address: String,
    _storage: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn registry() -> Option<Registry> {
    let storage = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let config = storage.path().join("config.yml");
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.path().display()
    );
    std::fs::write(&config, text).unwrap();
    let started = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let process = match started {
        Ok(process) => process,
        Err(error) if std::env::var_os("KILN_TEST_REQUIRE").is_some() => panic!("docker-registry is required: {error}"),
        Err(error) => {
            eprintln!("SKIPPED: docker-registry: {error}");
            return None;
        }
    };
    let registry = Registry { process, address, _storage: storage };
    let begun = Instant::now();
    while TcpStream::connect(&registry.address).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not answer");
        std::thread::yield_now();
    }
    Some(registry)
}

#[tokio::test]
async fn import_name_save_and_forget() {
    let Some(engine) = engine().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let repository = format!("kiln-test-{}", std::process::id());
    let options = ImportOptions {
        repository: Some(repository.clone()),
        tag: Some("one".into()),
        changes: vec!["LABEL kiln.test=1".into(), "CMD [\"/name\"]".into()],
        platform: None,
    };
    let first = engine.import(&root_file_system(directory.path(), "first"), &options).await.unwrap();
    let info = engine.inspect_image(&first).await.unwrap().unwrap();
    assert_eq!((info.id.as_str(), info.command.as_deref()), (first.as_str(), Some(&["/name".to_owned()][..])));
    assert_eq!(info.labels["kiln.test"], "1");
    let second = engine.import(&root_file_system(directory.path(), "second"), &ImportOptions::default()).await.unwrap();
    // A name moves to another image and back.
    let reference = format!("{repository}:one");
    let undo = TagUndo {
        engine: engine.address().into(),
        reference: reference.clone(),
        previous: Some(first.clone()),
        image: Some(second.clone()),
        created_since: None,
    };
    engine.tag(&second, &repository, "one").await.unwrap();
    assert_eq!(engine.inspect_image(&reference).await.unwrap().unwrap().id, second);
    engine.tag(&second, &repository, "two").await.unwrap();
    let undoer = DockerUndoer::new(std::env::vars().collect());
    assert_eq!(undoer.undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
    assert_eq!(engine.inspect_image(&reference).await.unwrap().unwrap().id, first);
    let saved = directory.path().join("saved.tar");
    engine.save(&[reference.clone(), format!("{repository}:two")], &saved).await.unwrap();
    let mut archive = tar::Archive::new(std::fs::File::open(&saved).unwrap());
    let mut manifest = String::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.path().unwrap() == Path::new("manifest.json") {
            std::io::Read::read_to_string(&mut entry, &mut manifest).unwrap();
        }
    }
    assert!(manifest.contains(&reference) && manifest.contains(":two"), "{manifest}");
    let missing = directory.path().join("missing.tar");
    let error = engine.save(&[format!("{repository}:none")], &missing).await.unwrap_err();
    assert!(error.is_not_found() && !missing.exists(), "{error}");
    assert!(engine.remove_image(&reference, false).await.unwrap());
    assert!(engine.remove_image(&second, true).await.unwrap());
    assert!(!engine.remove_image(&second, true).await.unwrap());
    assert!(engine.inspect_image(&reference).await.unwrap().is_none());
}

#[tokio::test]
async fn a_push_tells_its_digest_and_a_pull_brings_it_back() {
    let Some(engine) = engine().await else { return };
    let Some(registry) = registry() else { return };
    let directory = tempfile::tempdir().unwrap();
    let repository = format!("{}/kiln-test", registry.address);
    let reference = format!("{repository}:v1");
    let options =
        ImportOptions { repository: Some(repository.clone()), tag: Some("v1".into()), ..ImportOptions::default() };
    let id = engine.import(&root_file_system(directory.path(), "pushed"), &options).await.unwrap();
    let steps = Mutex::new(Vec::<TransferProgress>::new());
    let on_progress = |step| steps.lock().unwrap().push(step);
    let pushed = engine.push(&reference, None, None, &on_progress).await.unwrap();
    let digest = pushed.digest.unwrap();
    assert!(digest.starts_with("sha256:") && digest.len() == 71, "{digest}");
    assert!(!steps.lock().unwrap().is_empty());
    assert!(engine.remove_image(&reference, true).await.unwrap());
    assert!(engine.inspect_image(&id).await.unwrap().is_none());
    engine.pull(&format!("{repository}@{digest}"), None, None, &on_progress).await.unwrap();
    assert_eq!(engine.inspect_image(&format!("{repository}@{digest}")).await.unwrap().unwrap().id, id);
    assert!(engine.remove_image(&id, true).await.unwrap());
    let error = engine.pull(&format!("{repository}:none"), None, None, &on_progress).await.unwrap_err();
    assert!(error.to_string().contains(":none"), "{error}");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_an_error_inside_the_stream() {
    let Some(engine) = engine().await else { return };
    let directory = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
    let repository = format!("127.0.0.1:1/kiln-test-{}", std::process::id());
    let options = ImportOptions { repository: Some(repository.clone()), tag: Some("v1".into()), ..Default::default() };
    let id = engine.import(&root_file_system(directory.path(), "refused"), &options).await.unwrap();
    let error = engine.push(&format!("{repository}:v1"), None, None, &|_| ()).await.unwrap_err();
    assert!(matches!(error, EngineError::Refused { .. }), "{error:?}");
    assert_eq!(Failure::from(error).class, FailureClass::Build);
    engine.remove_image(&id, true).await.unwrap();
}
