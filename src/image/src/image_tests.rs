use super::*;
use crate::config::RunConfig;

fn fresh() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    (directory, layout)
}

fn layer(mark: &str, compression: LayerCompression) -> NewLayer {
    let history = History { created_by: Some(format!("kiln {mark}")), ..History::default() };
    NewLayer { digest: Digest::of(mark.as_bytes()), size: 10, diff_id: Digest::of(b"tar"), compression, history }
}

fn assembly<'a>(base: Option<&'a Image>, layers: Vec<NewLayer>) -> Assembly<'a> {
    let config = ImageConfig {
        config: RunConfig { cmd: Some(vec!["sh".to_owned()]), ..RunConfig::default() },
        ..base.map(|base| base.config.clone()).unwrap_or_default()
    };
    Assembly {
        base,
        layers,
        config: ImageConfig { architecture: "amd64".to_owned(), os: "linux".to_owned(), ..config },
        format: ManifestFormat::Oci,
        created: 1_700_000_000,
        squash_history: false,
        annotations: BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]),
    }
}

/// As a registry has it: in Docker's words, with fields of the container it was made from.
fn docker_base(layout: &Layout) -> Image {
    let diff_id = Digest::of(b"base");
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "2024-05-01T10:00:00.5Z", "docker_version": "20.10.24",
        "container": "abc", "container_config": {"Cmd": ["secret"]}, "variant": "v1",
        "config": {"Env": ["A=1"], "Cmd": ["bash"], "Image": "sha256:x"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created_by": "ADD rootfs.tar"}, {"created_by": "CMD bash", "empty_layer": true}],
    });
    let config = layout.put_document(config.to_string().as_bytes()).unwrap();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::DOCKER_MANIFEST,
        "config": {"mediaType": media::DOCKER_CONFIG, "digest": config.as_str(), "size": 1},
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "digest": Digest::of(b"blob").as_str(), "size": 100,
        }],
    });
    let digest = layout.put_document(manifest.to_string().as_bytes()).unwrap();
    Image::open(layout, &digest).unwrap()
}

#[test]
fn a_layer_on_a_base() {
    let (_directory, layout) = fresh();
    let base = docker_base(&layout);
    let made = assemble(&layout, &assembly(Some(&base), vec![layer("one", LayerCompression::Zstd)])).unwrap();
    let image = Image::open(&layout, &made.manifest).unwrap();
    assert_eq!((image.layers.len(), made.size), (2, image.raw_config.len() as u64 + 110));
    assert_eq!(made.manifest_size, image.manifest.len() as u64);
    let show = |bytes: &[u8]| serde_json::to_string_pretty(&serde_json::from_slice::<Value>(bytes).unwrap()).unwrap();
    insta::assert_snapshot!(format!("{}\n{}", show(&image.manifest), show(&image.raw_config)));
}

#[test]
fn the_same_input_gives_the_same_digests() {
    let (_one, one) = fresh();
    let (_two, two) = fresh();
    let layers = || vec![layer("one", LayerCompression::Gzip), layer("two", LayerCompression::None)];
    let first = assemble(&one, &assembly(None, layers())).unwrap();
    assert_eq!(assemble(&two, &assembly(None, layers())).unwrap(), first);
    // A golden digest: whatever changes it changes every user's image.
    insta::assert_snapshot!(first.manifest, @"sha256:c6900b845a8aca6f241f6111336ee1c3486ddb634fa45f2d2ae083d0cf10c8be");
}

#[test]
fn dockers_words() {
    let (_directory, layout) = fresh();
    let base = docker_base(&layout);
    let docker = |compression| Assembly {
        format: ManifestFormat::Docker,
        ..assembly(Some(&base), vec![layer("one", compression)])
    };
    let made = assemble(&layout, &docker(LayerCompression::Gzip)).unwrap();
    let image = Image::open(&layout, &made.manifest).unwrap();
    assert_eq!(image.media_type, media::DOCKER_MANIFEST);
    let types: Vec<&str> = image.layers.iter().map(|layer| layer.media_type.as_str()).collect();
    assert_eq!(types, ["application/vnd.docker.image.rootfs.diff.tar.gzip"; 2]);
    let error = assemble(&layout, &docker(LayerCompression::Zstd)).unwrap_err();
    assert!(error.to_string().contains("cannot name layers that are compressed with zstd"), "{error}");
}

#[test]
fn history_tells_as_many_layers_as_there_are() {
    let (_directory, layout) = fresh();
    let mut base = docker_base(&layout);
    let history = |base: &Image, squash_history| {
        let assembly = Assembly { squash_history, ..assembly(Some(base), vec![layer("one", LayerCompression::Gzip)]) };
        let made = assemble(&layout, &assembly).unwrap();
        let history = Image::open(&layout, &made.manifest).unwrap().config.history;
        history.into_iter().map(|line| (line.created_by.unwrap_or_default(), line.empty_layer)).collect::<Vec<_>>()
    };
    let line = |text: &str, is_empty| (text.to_owned(), is_empty);
    assert_eq!(history(&base, false), [line("ADD rootfs.tar", false), line("CMD bash", true), line("kiln one", false)]);
    assert_eq!(history(&base, true), [line("", false), line("kiln one", false)]);
    base.config.history.clear();
    assert_eq!(history(&base, false), [line("", false), line("kiln one", false)]);
}

#[test]
fn a_config_of_its_own_without_layers_is_told() {
    let (_directory, layout) = fresh();
    let base = docker_base(&layout);
    let made = assemble(&layout, &assembly(Some(&base), Vec::new())).unwrap();
    let image = Image::open(&layout, &made.manifest).unwrap();
    assert_eq!(image.layers.len(), 1);
    assert!(image.config.history.last().unwrap().empty_layer);
}

#[test]
fn the_time_is_of_the_content_never_of_the_clock() {
    let (_directory, layout) = fresh();
    let base = docker_base(&layout);
    assert_eq!(creation_time(Some(5), Some(9), Some(&base)), 5);
    assert_eq!(creation_time(None, Some(9), Some(&base)), 9);
    assert_eq!(creation_time(None, None, Some(&base)), 1_714_557_600);
    assert_eq!(creation_time(None, None, None), 0);
    assert_eq!(timestamp(1_700_000_000).unwrap(), "2023-11-14T22:13:20Z");
    assert!(timestamp(i64::MAX).is_err());
}

#[test]
fn chain_ids_are_those_of_the_specification() {
    let ids = [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c")];
    let chain = chain_ids(&ids);
    assert_eq!(chain[0], ids[0]);
    assert_eq!(chain[1], Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes()));
    assert_eq!(chain[2], Digest::of(format!("{} {}", chain[1], ids[2]).as_bytes()));
}

#[test]
fn documents_that_do_not_fit_together_are_refused() {
    let (_directory, layout) = fresh();
    let config =
        layout.put_document(b"{\"rootfs\": {\"type\": \"layers\", \"diff_ids\": null}, \"history\": null}").unwrap();
    let manifest = |layers: Value| {
        let document = json!({
            "schemaVersion": 2, "config": {"mediaType": media::OCI_CONFIG, "digest": config.as_str(), "size": 1},
            "layers": layers,
        });
        layout.put_document(document.to_string().as_bytes()).unwrap()
    };
    let one = json!([{"mediaType": "a/b", "digest": Digest::of(b"x").as_str(), "size": 1}]);
    let error = Image::open(&layout, &manifest(one)).unwrap_err();
    assert!(error.to_string().ends_with("it has 1 layers, its config 0"), "{error}");
    let strange = json!([{"mediaType": "a/b", "digest": "sha256:../../etc/passwd", "size": 1}]);
    assert!(Image::open(&layout, &manifest(strange)).is_err());
    assert_eq!(Image::open(&layout, &manifest(json!([]))).unwrap().media_type, media::OCI_MANIFEST);
    assert!(Image::open(&layout, &config).is_err());
}
