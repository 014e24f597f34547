//! Round trips, old forms, damaged archives; and the programs that we did not write.

// A test that is skipped says so.
#![allow(clippy::print_stderr)]

mod programs;

use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::config::{History, ImageConfig};
use crate::image::{Assembly, NewLayer, assemble};
use crate::media::{LayerCompression, ManifestFormat};

/// A layer of one file, as a tar.
fn tar_of(path: &str, content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn compressed(tar: &[u8], compression: LayerCompression) -> Vec<u8> {
    match compression {
        LayerCompression::None => tar.to_vec(),
        LayerCompression::Zstd => zstd::encode_all(tar, 1).unwrap(),
        LayerCompression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
    }
}

/// A layout with an image of these layers.
fn image_of(compressions: &[LayerCompression]) -> (tempfile::TempDir, Layout, Digest) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    let layers = compressions.iter().enumerate().map(|(number, compression)| {
        let tar = tar_of(&format!("file{number}"), &format!("content {number}"));
        let blob = compressed(&tar, *compression);
        NewLayer {
            digest: layout.put_document(&blob).unwrap(),
            size: blob.len() as u64,
            diff_id: Digest::of(&tar),
            compression: *compression,
            history: History::default(),
        }
    });
    let mut config = ImageConfig::default();
    config.config.cmd = Some(vec!["/file0".to_owned()]);
    let assembly = Assembly {
        base: None,
        layers: layers.collect(),
        config,
        format: ManifestFormat::Oci,
        created: 1_700_000_000,
        squash_history: false,
        annotations: BTreeMap::new(),
    };
    let digest = assemble(&layout, &assembly).unwrap().manifest;
    (directory, layout, digest)
}

fn fresh() -> (tempfile::TempDir, Layout) {
    let directory = tempfile::tempdir().unwrap();
    let layout = Layout::create(directory.path()).unwrap();
    (directory, layout)
}

fn assert_whole(layout: &Layout, digest: &Digest) -> Image {
    let image = Image::open(layout, digest).unwrap();
    for layer in &image.layers {
        assert_eq!(Digest::of(&std::fs::read(layout.blob_path(&layer.digest)).unwrap()), layer.digest);
    }
    image
}

#[test]
fn an_archive_for_docker_comes_back_as_it_was() {
    let (_source, layout, digest) = image_of(&[LayerCompression::Gzip, LayerCompression::None]);
    let names = ["app:1".to_owned(), "app:latest".to_owned()];
    let mut archive = Vec::new();
    export_docker_archive(&layout, &digest, &names, &mut archive).unwrap();
    let mut again = Vec::new();
    export_docker_archive(&layout, &digest, &names, &mut again).unwrap();
    assert!(archive == again, "it depends on nothing but the image");
    for bytes in [archive.clone(), compressed(&archive, LayerCompression::Gzip)] {
        let (_target, target) = fresh();
        let imported = import_archive(bytes.as_slice(), &target).unwrap();
        assert_eq!(imported.len(), 1);
        assert_eq!((&imported[0].digest, imported[0].names.as_slice()), (&digest, &names[..]));
        assert_whole(&target, &digest);
    }
}

#[test]
fn layers_that_docker_cannot_read_are_decompressed() {
    let (_source, layout, digest) = image_of(&[LayerCompression::Zstd, LayerCompression::Gzip]);
    let mut archive = Vec::new();
    export_docker_archive(&layout, &digest, &[], &mut archive).unwrap();
    let (_target, target) = fresh();
    let imported = import_archive(archive.as_slice(), &target).unwrap();
    let (before, after) = (assert_whole(&layout, &digest), assert_whole(&target, &imported[0].digest));
    assert_eq!(before.config_digest, after.config_digest);
    assert_eq!(after.layers[0].digest, before.layers[0].diff_id);
    assert_eq!(after.layers[1].digest, before.layers[1].digest);
}

#[test]
fn a_layout_as_a_tar_and_as_a_directory() {
    let (_source, layout, digest) = image_of(&[LayerCompression::Zstd]);
    let mut archive = Vec::new();
    export_layout_archive(&layout, &digest, &["app:1".to_owned()], &mut archive).unwrap();
    let (_target, target) = fresh();
    let imported = import_archive(archive.as_slice(), &target).unwrap();
    assert_eq!((&imported[0].digest, imported[0].names.as_slice()), (&digest, &["app:1".to_owned()][..]));
    assert_whole(&target, &digest);

    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("image");
    export_layout(&layout, &digest, &["app:1".to_owned(), "app:2".to_owned()], &path).unwrap();
    let (_other, other) = fresh();
    for wanted in [None, Some("app:2"), Some(digest.as_str())] {
        let imported = import_layout(&path, wanted, &other).unwrap();
        assert_eq!((imported.len(), &imported[0].digest), (1, &digest));
    }
    let error = import_layout(&path, Some("app:3"), &other).unwrap_err();
    assert!(error.to_string().ends_with("image has no image `app:3`; it has app:1, app:2"), "{error}");
    assert_whole(&other, &digest);
}

#[test]
fn an_index_is_taken_with_what_is_there_of_it() {
    let (_source, layout, digest) = image_of(&[LayerCompression::Gzip]);
    let size = layout.document(&digest).unwrap().len();
    let entry = |digest: &Digest, architecture: &str| {
        json!({
            "mediaType": crate::media::OCI_MANIFEST, "digest": digest.as_str(), "size": size,
            "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let entries = [entry(&Digest::of(b"elsewhere"), "arm64"), entry(&digest, "amd64")];
    let index = json!({"schemaVersion": 2, "mediaType": crate::media::OCI_INDEX, "manifests": entries});
    let index = layout.put_document(index.to_string().as_bytes()).unwrap();
    let mut archive = Vec::new();
    export_layout_archive(&layout, &index, &[], &mut archive).unwrap();
    let (_target, target) = fresh();
    let imported = import_archive(archive.as_slice(), &target).unwrap();
    assert_eq!(imported[0].digest, index);
    let platform = |architecture: &str| crate::Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: None,
    };
    assert_eq!(Image::open_for(&target, &index, &platform("amd64")).unwrap().digest, digest);
    assert!(matches!(Image::open_for(&target, &index, &platform("arm64")), Err(ImageError::Missing { .. })));
    let error = Image::open_for(&target, &index, &platform("s390x")).unwrap_err();
    assert!(error.to_string().ends_with("no image in it is for linux/s390x"), "{error}");
}

type Files = BTreeMap<String, Vec<u8>>;

/// What `docker save` wrote until 2023, with the second layer linked to the first.
fn old_form(change: impl FnOnce(&mut Files)) -> Vec<u8> {
    let layer = tar_of("file", "x");
    let diff_id = Digest::of(&layer);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": null}, "container": "abc",
        "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}, "history": null,
    });
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", Digest::of(&config).hex());
    let described = json!([{"Config": name, "RepoTags": ["old:1"], "Layers": ["aa/layer.tar", "bb/layer.tar"]}]);
    let mut files = BTreeMap::from([
        ("aa/VERSION".to_owned(), b"1.0".to_vec()),
        ("aa/json".to_owned(), b"{}".to_vec()),
        ("aa/layer.tar".to_owned(), layer),
        (name, config),
        ("manifest.json".to_owned(), described.to_string().into_bytes()),
        ("repositories".to_owned(), b"{}".to_vec()),
    ]);
    change(&mut files);
    let mut builder = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "bb/layer.tar", "../aa/layer.tar").unwrap();
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn the_old_form_of_docker_save() {
    let (_target, target) = fresh();
    let imported = import_archive(old_form(|_| {}).as_slice(), &target).unwrap();
    assert_eq!(imported[0].names, ["old:1"]);
    let image = assert_whole(&target, &imported[0].digest);
    assert_eq!(image.layers.len(), 2);
    assert_eq!(image.config.config.cmd.as_deref(), Some(&["sh".to_owned()][..]));
}

#[test]
fn archives_that_lie_are_refused() {
    let refusal = |change: &dyn Fn(&mut Files)| {
        let (_target, target) = fresh();
        import_archive(old_form(change).as_slice(), &target).unwrap_err().to_string()
    };
    let changed = |suffix: &'static str, content: &'static [u8]| {
        refusal(&move |files| {
            let name = files.keys().find(|name| name.ends_with(suffix)).unwrap().clone();
            files.insert(name, content.to_vec());
        })
    };
    assert!(changed("layer.tar", b"no tar at all").contains("is damaged"));
    assert!(changed("manifest.json", b"[{]").contains("manifest.json: "));
    assert!(changed("manifest.json", br#"[{"Config": "../../etc/passwd"}]"#).contains("which is not there"));
    let error = refusal(&|files| {
        let name = files.keys().find(|name| name.len() > 60).unwrap().clone();
        files.insert(name, b"{\"rootfs\": {\"diff_ids\": []}}".to_vec());
    });
    assert!(error.contains("is damaged"), "{error}");
    assert!(refusal(&|files| drop(files.remove("aa/layer.tar"))).contains("which is not there"));
    assert!(refusal(&|files| drop(files.remove("manifest.json"))).contains("neither manifest.json nor index.json"));
    let (_target, target) = fresh();
    assert!(import_archive(&b"no archive"[..], &target).is_err());
}

#[test]
fn an_archive_cannot_put_something_else_under_a_digest() {
    let wanted = Digest::of(b"{\"a\": 1}");
    for content in [&b"{\"a\": 2}"[..], &b"binary"[..]] {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, format!("blobs/sha256/{}", wanted.hex()), content).unwrap();
        let (_target, target) = fresh();
        let error = import_archive(builder.into_inner().unwrap().as_slice(), &target).unwrap_err();
        assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
        assert!(!target.has(&wanted));
    }
}

#[test]
fn a_damaged_blob_is_not_exported() {
    let (_source, layout, digest) = image_of(&[LayerCompression::Gzip]);
    let layer = assert_whole(&layout, &digest).layers[0].digest.clone();
    let mut bytes = std::fs::read(layout.blob_path(&layer)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(layout.blob_path(&layer), bytes).unwrap();
    let error = export_docker_archive(&layout, &digest, &[], io::sink()).unwrap_err();
    assert!(matches!(error, ImageError::Mismatch { .. }), "{error}");
    let outside = tempfile::tempdir().unwrap();
    assert!(export_layout(&layout, &digest, &[], outside.path()).is_err());
    std::fs::remove_file(layout.blob_path(&layer)).unwrap();
    let error = export_docker_archive(&layout, &digest, &[], io::sink()).unwrap_err();
    assert!(matches!(error, ImageError::Missing { .. }), "{error}");
}

/// Each names the one below as if it were an image, many times over: followed, that would never end.
#[test]
fn an_index_that_is_said_to_be_an_image_is_not_followed() {
    let (_source, layout, image) = image_of(&[LayerCompression::None]);
    let index_of = |digest: &Digest| {
        let size = layout.document(digest).unwrap().len();
        let child = json!({"mediaType": ManifestFormat::Oci.manifest(), "digest": digest.as_str(), "size": size});
        let index = json!({"schemaVersion": 2, "manifests": vec![child; 50]}).to_string();
        layout.put_document(index.as_bytes()).unwrap()
    };
    let mut top = index_of(&image);
    let (_target, target) = fresh();
    copy_image(&layout, &top, &target).unwrap();
    assert_whole(&target, &image);
    for _ in 0..40 {
        top = index_of(&top);
    }
    let (_target, target) = fresh();
    assert!(copy_image(&layout, &top, &target).is_err());

    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content).unwrap();
    };
    for entry in std::fs::read_dir(layout.blob_path(&top).parent().unwrap()).unwrap().flatten() {
        let name = format!("blobs/sha256/{}", entry.file_name().to_str().unwrap());
        add(&name, &std::fs::read(entry.path()).unwrap());
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let entry = json!({"mediaType": media_type, "digest": top.as_str(), "size": 1});
    add("index.json", json!({"schemaVersion": 2, "manifests": [entry]}).to_string().as_bytes());
    let archive = archive.into_inner().unwrap();
    assert!(import_archive(archive.as_slice(), &target).is_err());
}

#[cfg(unix)]
#[test]
fn a_blob_that_never_ends_does_not_fill_the_disk() {
    let (_source, layout, digest) = image_of(&[LayerCompression::None]);
    let layer = Image::open(&layout, &digest).unwrap().layers[0].digest.clone();
    let path = layout.blob_path(&layer);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let (_target, target) = fresh();
    assert!(copy_image(&layout, &digest, &target).is_err());
}
