//! An index of images in an engine: all of it gets to the registry, or none of it.

use std::path::Path;
use std::sync::Arc;

use kiln_core::{Artifact, Joined, Platform, PostProcessor, Processed, Variant};
use kiln_docker::ImageInfo;
use kiln_docker::fake::FakeEngine;
use kiln_image::{Digest, Image as Opened, Rootfs};
use kiln_registry::CredentialSources;
use kiln_testkit::Arguments;
use serde_json::json;

use super::*;
use crate::docker_push::{DockerPushKind, quick};
use crate::real_registry_tests::{PASSWORD, Registry, USER};
use crate::test_support::{Bench, provider, refused};

const PLATFORMS: [&str; 2] = ["linux/amd64", "linux/arm64"];

/// An image of an engine, which holds nothing; `is` is what it is for.
fn in_engine_for(bench: &Bench, engine: &FakeEngine, is: &str) -> String {
    let layout = Layout::create(bench.path("made")).unwrap();
    let rootfs = Rootfs { platform: Platform::parse(is).unwrap(), ..Rootfs::default() };
    let tar = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let manifest = rootfs.of_stream(tar.as_slice(), Path::new("root.tar"), &layout).unwrap();
    let id = Opened::open(&layout, &manifest).unwrap().config_digest.to_string();
    let mut archive = Vec::new();
    kiln_image::archive::export_docker_archive(&layout, &manifest, &[], &mut archive).unwrap();
    engine.add_image_with("", ImageInfo { id: id.clone(), ..ImageInfo::default() });
    engine.set_archive(&id, archive);
    id
}

/// An index of images that are said to be for both platforms, and are for `are`.
fn index_of(bench: &Bench, engine: &FakeEngine, are: [&str; 2], name: &str) -> (Artifact, Vec<String>) {
    let ids: Vec<String> = are.iter().map(|is| in_engine_for(bench, engine, is)).collect();
    let variant = |(said, id): (&str, &String)| Variant {
        platform: Platform::parse(said).unwrap(),
        image: Image { id: id.clone(), ..Image::default() },
    };
    let variants = PLATFORMS.into_iter().zip(&ids).map(variant).collect();
    let image = Image { tags: vec![name.to_owned()], ..Image::index_of(variants) };
    (Joined::artifact("docker", image), ids)
}

async fn push(bench: &Bench, engine: &Arc<FakeEngine>, artifact: &Artifact) -> Result<Processed, Failure> {
    let kind = DockerPushKind { engine: provider(engine), credentials: CredentialSources::default() };
    let arguments = json!({"login": true, "login_username": USER, "login_password": PASSWORD});
    quick(&kind, Arguments::new(arguments)).process(artifact, &bench.context).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_image_is_pushed_and_the_index_last() {
    let Some(registry) = Registry::start() else { return };
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let (artifact, _) = index_of(&bench, &engine, PLATFORMS, &format!("{}/group/app:1", registry.address));
    let pushed = push(&bench, &engine, &artifact).await.unwrap().artifact;
    let digest = pushed.image().unwrap().digest.clone().unwrap();
    // What the registry has under the name is what was made here: an index of both.
    let index = bench.context.scratch.join("index/blobs/sha256").join(digest.trim_start_matches("sha256:"));
    let text = std::fs::read(index).unwrap();
    assert_eq!(Digest::of(&text).to_string(), digest);
    let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(registry.index_digest("group/app", "1"), Some(digest));
    for manifest in index["manifests"].as_array().unwrap() {
        let digest = manifest["digest"].as_str().unwrap();
        assert_eq!(registry.digest("group/app", digest).as_deref(), Some(digest));
    }
    let taken = bench.context.reporter.messages().into_iter().filter(|text| text.starts_with("taking the image for"));
    assert_eq!(taken.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_image_that_does_not_get_there_keeps_the_index_away() {
    let Some(registry) = Registry::start() else { return };
    // The engine does not give one of them away.
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let (artifact, ids) = index_of(&bench, &engine, PLATFORMS, &format!("{}/group/app:1", registry.address));
    engine.fail_next(&format!("save {}", ids[1]), refused("no space left on device"));
    let failure = push(&bench, &engine, &artifact).await.err().unwrap();
    assert!(
        failure.chain().contains("linux/arm64") && failure.chain().contains("no space left"),
        "{}",
        failure.chain()
    );
    assert_eq!(registry.index_digest("group/app", "1"), None);
    // One of them is for another platform than it is said to be.
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let wrong = ["linux/amd64", "linux/s390x"];
    let (artifact, _) = index_of(&bench, &engine, wrong, &format!("{}/group/app:1", registry.address));
    let failure = push(&bench, &engine, &artifact).await.err().unwrap();
    assert!(failure.chain().contains("linux/s390x"), "{}", failure.chain());
    assert_eq!(registry.index_digest("group/app", "1"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_push_that_fails_keeps_the_index_away() {
    let Some(registry) = Registry::start() else { return };
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let (artifact, _) = index_of(&bench, &engine, PLATFORMS, &format!("{}/group/app:1", registry.address));
    let joined = brought_together(artifact.image().unwrap(), provider(&engine).as_ref(), &bench.context).await;
    let layout = joined.unwrap().unwrap();
    // The config of the second one is lost before it is pushed.
    let root = bench.context.scratch.join("index");
    let read = |digest: &str| -> serde_json::Value {
        let path = root.join("blobs/sha256").join(digest.trim_start_matches("sha256:"));
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let second = read(layout.manifest().as_str())["manifests"][1]["digest"].as_str().unwrap().to_owned();
    let config = read(&second)["config"]["digest"].as_str().unwrap().to_owned();
    std::fs::remove_file(root.join("blobs/sha256").join(config.trim_start_matches("sha256:"))).unwrap();
    let digest = layout.manifest().to_string();
    let image = Image { layout: Some(root), digest: Some(digest), ..artifact.image().unwrap().clone() };
    let broken = Artifact { content: kiln_core::Content::Image(image), ..artifact };
    assert!(push(&bench, &engine, &broken).await.is_err());
    assert_eq!(registry.index_digest("group/app", "1"), None);
}
