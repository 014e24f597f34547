//! Images without an engine: whoever asks for one here fails the test.

use std::path::Path;
use std::sync::Arc;

use kiln_core::{Content, FailureClass, PostProcessor, Processed};
use kiln_image::Rootfs;
use kiln_image::config::RunConfig;
use kiln_registry::CredentialSources;
use kiln_testkit::Arguments;
use serde_json::{Value, json};

use super::*;
use crate::docker_push::DockerPushKind;
use crate::docker_save::DockerSaveKind;
use crate::docker_tag::DockerTagKind;
use crate::real_registry_tests::{PASSWORD, Registry, USER};
use crate::settings::EngineProvider;
use crate::test_support::{Bench, processor};

struct NoEngine;

#[async_trait]
impl EngineProvider for NoEngine {
    async fn engine(&self) -> Result<Arc<dyn kiln_docker::Engine>, Failure> {
        panic!("an engine is asked for");
    }
}

fn layout(bench: &Bench) -> Layout {
    Layout::create(bench.path("store")).unwrap()
}

/// An image of a layout, with a file of this content.
fn artifact(bench: &Bench, content: &str, tags: &[&str]) -> Artifact {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o755);
    builder.append_data(&mut header, "content", content.as_bytes()).unwrap();
    let tar = builder.into_inner().unwrap();
    let config = RunConfig { cmd: Some(vec!["/content".to_owned()]), ..RunConfig::default() };
    let rootfs = Rootfs { config, ..Rootfs::default() };
    let layout = layout(bench);
    let manifest = rootfs.of_stream(tar.as_slice(), Path::new("root.tar"), &layout).unwrap();
    let id = kiln_image::Image::open(&layout, &manifest).unwrap().config_digest.to_string();
    let image = Image {
        id: id.clone(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        digest: Some(manifest.to_string()),
        layout: Some(layout.root().to_path_buf()),
        ..Image::default()
    };
    Artifact {
        builder_id: "packer.post-processor.docker-import".to_owned(),
        description: id.clone(),
        id,
        content: Content::Image(image),
        owner: None,
    }
}

fn tag(arguments: Value) -> Arc<dyn PostProcessor> {
    processor(&DockerTagKind { engine: Arc::new(NoEngine) }, arguments)
}

async fn push(bench: &Bench, artifact: &Artifact, arguments: Value) -> Result<Processed, Failure> {
    let kind = DockerPushKind { engine: Arc::new(NoEngine), credentials: CredentialSources::default() };
    let push = crate::docker_push::quick(&kind, Arguments::new(arguments));
    push.process(artifact, &bench.context).await
}

fn digest(artifact: &Artifact) -> Digest {
    Digest::parse(artifact.image().unwrap().digest.as_deref().unwrap()).unwrap()
}

#[tokio::test]
async fn names_add_up_in_the_layout_and_go_back_to_whom_they_were_taken_from() {
    let bench = Bench::new();
    let layout = layout(&bench);
    let (old, new) = (artifact(&bench, "old", &[]), artifact(&bench, "new", &["other:1"]));
    let mut tagged = Vec::new();
    for image in [&old, &new] {
        let first = tag(json!({"repository": "group/image", "tags": ["1"]}));
        let second = tag(json!({"repository": "docker.io/group/image", "tags": ["1", "latest"]}));
        let processed = first.process(image, &bench.context).await.unwrap();
        let processed = second.process(&processed.artifact, &bench.context).await.unwrap();
        assert!(processed.keep_input && processed.force_keep);
        tagged.push(processed.artifact);
    }
    let image = tagged[1].image().unwrap();
    assert_eq!(image.tags, ["other:1", "group/image:1", "group/image:latest"]);
    assert_eq!((&image.id, &image.digest), (&new.image().unwrap().id, &new.image().unwrap().digest));
    assert_eq!(tagged[1].id, "docker.io/group/image:latest");
    assert_eq!(tagged[1].builder_id, "packer.post-processor.docker-tag");
    let meaning = || layout.resolve_name("docker.io/group/image:1").unwrap();
    assert_eq!(meaning(), Some(digest(&new)));

    // Another image bears them now, so the old one's owner leaves them alone.
    tagged[0].owner.as_ref().unwrap().destroy(&tagged[0], &bench.context).await.unwrap();
    assert_eq!(meaning(), Some(digest(&new)));
    let noted = bench.context.journal.open();
    assert_eq!(noted.len(), 4, "a name that the image bears already needs no undo");
    let undo: Vec<NameUndo> = noted.iter().map(|undo| serde_json::from_value(undo.data.clone()).unwrap()).collect();
    undo[3].undo().unwrap();
    undo[2].undo().unwrap();
    assert_eq!(meaning(), Some(digest(&old)));
    tagged[0].owner.as_ref().unwrap().destroy(&tagged[0], &bench.context).await.unwrap();
    assert!(layout.names().unwrap().is_empty());
}

#[tokio::test]
async fn an_image_is_saved_under_all_its_names() {
    let bench = Bench::new();
    let artifact = artifact(&bench, "x", &["a:1", "r.example.org/b:2"]);
    let path = bench.path("deep/image.tar");
    let save = processor(&DockerSaveKind { engine: Arc::new(NoEngine) }, json!({"path": path}));
    let processed = save.process(&artifact, &bench.context).await.unwrap();
    assert_eq!((processed.keep_input, processed.force_keep), (true, false));
    let copy = Layout::create(bench.path("copy")).unwrap();
    let imported = archive::import_archive(std::fs::File::open(&path).unwrap(), &copy).unwrap();
    assert_eq!(
        (imported[0].names.as_slice(), &imported[0].digest),
        (["a:1".to_owned(), "r.example.org/b:2".to_owned()].as_slice(), &digest(&artifact))
    );
    assert!(bench.context.journal.open().is_empty());

    // What stands there stays if the new one cannot be written.
    std::fs::remove_dir_all(bench.path("store/blobs")).unwrap();
    assert!(save.process(&artifact, &bench.context).await.is_err());
    assert!(archive::import_archive(std::fs::File::open(&path).unwrap(), &copy).is_ok());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_store_that_is_gone_is_told_and_not_made_anew() {
    let bench = Bench::new();
    let artifact = artifact(&bench, "x", &["a:1"]);
    std::fs::remove_dir_all(bench.path("store")).unwrap();
    let failure = tag(json!({"repository": "a"})).process(&artifact, &bench.context).await.err().unwrap();
    assert!(failure.chain().contains("store/oci-layout"), "{}", failure.chain());
    assert!(!bench.path("store").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pushed_without_an_engine() {
    let Some(registry) = Registry::start() else { return };
    let bench = Bench::new();
    let names = ["group/a:1", "group/a:latest", "group/b:1"].map(|name| format!("{}/{name}", registry.address));
    let artifact = artifact(&bench, "x", &names.each_ref().map(String::as_str));
    let login =
        json!({"login": true, "login_server": registry.address, "login_username": USER, "login_password": PASSWORD});
    let processed = push(&bench, &artifact, login).await.unwrap();
    assert_eq!((processed.keep_input, processed.force_keep), (true, false));
    assert_eq!(processed.artifact.image(), artifact.image());
    let wanted = artifact.image().unwrap().digest.clone();
    for (repository, tag) in [("group/a", "1"), ("group/a", "latest"), ("group/b", "1")] {
        assert_eq!(registry.digest(repository, tag), wanted, "{repository}:{tag}");
    }
    let messages = bench.context.reporter.messages();
    assert!(messages.contains(&format!("logging in to {} as {USER}", registry.address)), "{messages:?}");
    for name in &names {
        assert!(messages.contains(&format!("{name}: digest: {}", wanted.clone().unwrap())), "{messages:?}");
    }
    let json = bench.context.reporter.as_json();
    // The second repository takes its layers over from the first.
    assert!(json.contains(r#""action":"pushing""#) && json.contains(r#""action":"mounted""#), "{json}");
    assert!(!json.contains(PASSWORD), "{json}");
    assert_eq!(bench.context.redactor.redact(PASSWORD), "<sensitive>");
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_taken_over_from_what_the_image_was_made_of() {
    let Some(registry) = Registry::start() else { return };
    let bench = Bench::new();
    let login = json!({"login": true, "login_username": USER, "login_password": PASSWORD});
    let base = artifact(&bench, "base", &[]);
    let repository = format!("{}/group/base", registry.address);
    let base = tag(json!({"repository": repository})).process(&base, &bench.context).await.unwrap().artifact;
    push(&bench, &base, login.clone()).await.unwrap();

    let bench = Bench { context: Bench::new().context, ..bench };
    let mut child = base.clone();
    if let Content::Image(image) = &mut child.content {
        image.tags = vec![format!("{}/group/child:1", registry.address)];
    }
    push(&bench, &child, login).await.unwrap();
    let json = bench.context.reporter.as_json();
    assert!(json.contains(r#""action":"mounted""#) && !json.contains(r#""action":"pushing""#), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_none_and_another_platform_are_told_with_a_way_out() {
    let Some(registry) = Registry::start() else { return };
    let bench = Bench::new();
    let artifact = artifact(&bench, "x", &[&format!("{}/group/a:1", registry.address)]);
    let wrong = json!({"login": true, "login_username": USER, "login_password": "battery-staple"});
    let failure = push(&bench, &artifact, wrong).await.err().unwrap();
    assert_eq!(failure.class, FailureClass::Build);
    assert!(failure.hints.iter().any(|hint| hint.contains("login_password")), "{failure:?}");
    assert!(!format!("{failure:?}").contains("battery-staple"));

    let failure = push(&bench, &artifact, json!({})).await.err().unwrap();
    assert!(failure.hints.iter().any(|hint| hint.contains("docker login")), "{failure:?}");
    assert!(bench.warnings().is_empty(), "a refusal is final: {:?}", bench.warnings());

    let failure = push(&bench, &artifact, json!({"platform": "linux/s390x"})).await.err().unwrap();
    assert!(failure.to_string().ends_with("not for linux/s390x"), "{failure:?}");
    assert_eq!(registry.digest("group/a", "1"), None);
}

#[tokio::test]
async fn a_push_ends_when_the_build_is_stopped() {
    let bench = Bench::new();
    // Nobody answers there, and it is tried again for a while.
    let artifact = artifact(&bench, "x", &["127.0.0.1:9/a:1"]);
    let cancel = bench.context.cancel.clone();
    let stop = async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        cancel.cancel();
    };
    let (pushed, ()) = tokio::join!(push(&bench, &artifact, json!({})), stop);
    assert!(pushed.err().unwrap().is_cancelled());
}
