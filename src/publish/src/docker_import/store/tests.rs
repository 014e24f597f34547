use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;
use kiln_core::Artifact;
use kiln_docker::fake::FakeEngine;
use serde_json::json;

use super::super::DockerImportKind;
use super::*;
use crate::test_support::{Bench, files_artifact, processor, provider, titles_of};

struct InDirectory(PathBuf);

#[async_trait]
impl StoreProvider for InDirectory {
    async fn layout(&self) -> Result<Layout, Failure> {
        Layout::create(&self.0).map_err(Failure::build)
    }
}

/// An engine that nobody may ask, and a store in the bench's directory.
fn kind(bench: &Bench, engine: &Arc<FakeEngine>) -> DockerImportKind {
    let store = Arc::new(InDirectory(bench.path("store")));
    DockerImportKind { engine: provider(engine), store: Some(store), epoch: Some(1_700_000_000) }
}

fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    builder.append_data(&mut header, "etc/hostname", b"kiln\n".as_slice()).unwrap();
    builder.into_inner().unwrap()
}

async fn import(bench: &Bench, tar: &Path, arguments: serde_json::Value) -> Result<Artifact, Failure> {
    let engine = Arc::new(FakeEngine::new());
    let import = processor(&kind(bench, &engine), arguments);
    let processed = import.process(&files_artifact(&[tar]), &bench.context).await?;
    assert!(engine.calls().is_empty());
    assert_eq!((processed.keep_input, processed.force_keep), (false, false));
    Ok(processed.artifact)
}

#[tokio::test]
async fn an_image_is_made_and_named_without_an_engine() {
    let bench = Bench::new();
    let tar = bench.write("root.tar", tar());
    let arguments = json!({"repository": "group/image", "tag": "1", "changes": ["USER a", "CMD sleep 1"], "platform": "linux/arm64"});
    let artifact = import(&bench, &tar, arguments).await.unwrap();
    assert_eq!(artifact.id, "group/image:1");
    assert_eq!(artifact.description, "Imported Docker image: group/image:1");
    let image = artifact.image().unwrap();
    assert_eq!(image.tags, ["group/image:1"]);
    let layout = Layout::open(bench.path("store")).unwrap();
    let digest = layout.resolve_name("docker.io/group/image:1").unwrap().unwrap();
    assert_eq!(image.digest.as_deref(), Some(digest.as_str()));
    let made = kiln_image::Image::open(&layout, &digest).unwrap();
    assert_eq!(made.config_digest.as_str(), image.id);
    assert_eq!((made.config.config.user.as_str(), made.config.architecture.as_str()), ("a", "arm64"));
    assert_eq!(made.config.config.cmd.unwrap(), ["/bin/sh", "-c", "sleep 1"]);
    assert_eq!(made.config.created.as_deref(), Some("2023-11-14T22:13:20Z"));
    assert_eq!(bench.context.journal.open().len(), 1);

    artifact.owner.as_ref().unwrap().destroy(&artifact, &bench.context).await.unwrap();
    assert!(layout.names().unwrap().is_empty());
}

#[tokio::test]
async fn all_compressions_that_engines_take_are_taken() {
    let bench = Bench::new();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&tar()).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&tar()).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar()).unwrap();
    for bytes in [xz.finish().unwrap(), bzip2.finish().unwrap(), gzip.finish().unwrap()] {
        let file = bench.write("root.tar", bytes);
        let artifact = import(&bench, &file, json!({"repository": "a"})).await.unwrap();
        let digest = Digest::parse(artifact.image().unwrap().digest.as_deref().unwrap()).unwrap();
        let image = kiln_image::Image::open(&Layout::open(bench.path("store")).unwrap(), &digest).unwrap();
        assert_eq!(image.layers[0].diff_id, Digest::of(&tar()));
    }
}

#[tokio::test]
async fn what_is_no_tar_is_told() {
    let bench = Bench::new();
    let file = bench
        .write("root.tar", "no tar at all, but a text that goes on for longer than a header of a tar would".repeat(20));
    let failure = import(&bench, &file, json!({"repository": "a"})).await.err().unwrap();
    assert!(failure.chain().contains("root.tar"), "{}", failure.chain());
    assert!(Layout::open(bench.path("store")).unwrap().names().unwrap().is_empty());
}

#[test]
fn what_an_engine_would_check_is_checked() {
    let bench = Bench::new();
    let kind = kind(&bench, &Arc::new(FakeEngine::new()));
    let titles = titles_of(&kind, json!({"repository": "a", "changes": ["RUN x", "USER"], "platform": "arm"}));
    assert_eq!(titles.len(), 3, "{titles:?}");
}
