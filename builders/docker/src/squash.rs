//! The image of a machine that started from a kept state, made as if it had started from its base: one layer on top of the
//! base's, which holds nothing that later steps removed, and a history that knows of no states.

use std::fs::File;
use std::io::{BufWriter, Read};
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Failure};
use kiln_docker::{Engine, ImageInfo, ImageUndo, undo};
use kiln_image::archive::{export_docker_archive, import_archive};
use kiln_image::unpack::decoder;
use kiln_image::{Digest, Image, ImageError, LayerCompression, Layout};
use serde_json::{Value, json};

use crate::merge::merge;
use crate::states::LABELS;

/// Why an image cannot be squashed.
#[derive(Debug, thiserror::Error)]
enum SquashError {
    #[error("cannot put the image together")]
    Image(#[from] ImageError),
    #[error("cannot merge the layers above the base image")]
    Merge(#[source] std::io::Error),
    #[error("cannot write in {0}")]
    Scratch(PathBuf, #[source] std::io::Error),
    #[error("the engine gave {0}, which is not what was asked for")]
    Unexpected(&'static str),
}

/// Puts a squashed image in a committed one's place; returns its id, and notes it in the journal. The committed one goes.
pub(crate) async fn squash(
    engine: &dyn Engine,
    base: &ImageInfo,
    committed: &str,
    context: &BuildContext,
) -> Result<String, Failure> {
    let scratch = context.scratch.join(format!("squash-{}", &committed[committed.len().saturating_sub(12)..]));
    std::fs::create_dir_all(&scratch).map_err(|error| Failure::build(SquashError::Scratch(scratch.clone(), error)))?;
    let done = replace(engine, base, committed, &scratch, context).await;
    // The build's scratch directory goes in any case.
    let _ = std::fs::remove_dir_all(&scratch);
    done
}

async fn replace(
    engine: &dyn Engine,
    base: &ImageInfo,
    committed: &str,
    scratch: &Path,
    context: &BuildContext,
) -> Result<String, Failure> {
    let (saved, squashed) = (scratch.join("saved.tar"), scratch.join("squashed.tar"));
    engine.save(&[committed.to_owned()], &saved).await?;
    let work = {
        let (base_layers, scratch) = (base.layers.clone(), scratch.to_owned());
        let (saved, squashed) = (saved.clone(), squashed.clone());
        tokio::task::spawn_blocking(move || rewrite(&saved, &squashed, &base_layers, &scratch))
    };
    let ids = work.await.map_err(Failure::build)?.map_err(Failure::build)?;
    let undo_of =
        |id: &str| ImageUndo { engine: engine.address().to_owned(), id: Some(id.to_owned()), ..ImageUndo::default() };
    // Which of them the engine will know it by shows only when it has it.
    let entry = context.journal.record(&context.build, undo_of(&ids.config).entry())?;
    let other = context.journal.record(&context.build, undo_of(&ids.manifest).entry())?;
    let loaded = async {
        let id = engine.load(&squashed).await?.pop().unwrap_or_else(|| ids.config.clone());
        context.journal.amend(entry, undo_of(&id).entry())?;
        match engine.inspect_image(&id).await? {
            Some(_) => Ok(id),
            None => Err(Failure::build(SquashError::Unexpected("another image")).hint("build with `--no-cache`")),
        }
    }
    .await;
    if loaded.is_ok() {
        context.journal.strike(other)?;
        return loaded;
    }
    for (id, entry) in [(&ids.config, entry), (&ids.manifest, other)] {
        if undo::remove_images(engine, &undo_of(id)).await.is_ok() {
            context.journal.strike(entry)?;
        }
    }
    loaded
}

/// What engines know a squashed image by.
struct Ids {
    config: String,
    /// With containerd's image store.
    manifest: String,
}

/// Rewrites the archive of an image; returns the ids of the new one.
fn rewrite(saved: &Path, squashed: &Path, base_layers: &[String], scratch: &Path) -> Result<Ids, SquashError> {
    let local = |error| SquashError::Scratch(scratch.to_owned(), error);
    let layout = Layout::create(scratch.join("layout"))?;
    let imported = import_archive(File::open(saved).map_err(local)?, &layout)?;
    std::fs::remove_file(saved).map_err(local)?;
    let [imported] = imported.as_slice() else { return Err(SquashError::Unexpected("several images")) };
    let image = Image::open(&layout, &imported.digest)?;
    let is_on_base = image.layers.len() > base_layers.len()
        && image.layers.iter().zip(base_layers).all(|(layer, base)| layer.diff_id.as_str() == base);
    if !is_on_base {
        return Err(SquashError::Unexpected("an image of another base"));
    }
    let plain = image.layers.iter().map(|layer| plain_tar(&layout, &layer.digest, scratch));
    let plain = plain.collect::<std::io::Result<Vec<PathBuf>>>().map_err(local)?;
    let (base, upper) = plain.split_at(base_layers.len());
    let mut blob = layout.blob_writer()?;
    merge(base, upper, &mut blob).map_err(SquashError::Merge)?;
    let (layer, size) = blob.finish()?;
    let config = squashed_config(&image, base_layers, &layer)?;
    let config_digest = layout.put_document(&config)?;
    let manifest = squashed_manifest(&image, base_layers.len(), (&config_digest, config.len()), (&layer, size))?;
    let manifest = layout.put_document(&manifest)?;
    let file = BufWriter::new(File::create(squashed).map_err(local)?);
    export_docker_archive(&layout, &manifest, &[], file)?;
    Ok(Ids { config: config_digest.to_string(), manifest: manifest.to_string() })
}

/// A layer's tar, decompressed where it is not plain.
fn plain_tar(layout: &Layout, digest: &Digest, scratch: &Path) -> std::io::Result<PathBuf> {
    let path = layout.blob_path(digest);
    let mut magic = [0; 4];
    let length = File::open(&path)?.take(4).read(&mut magic)?;
    if LayerCompression::detect(&magic[..length]) == LayerCompression::None {
        return Ok(path);
    }
    let plain = scratch.join(format!("{}.tar", digest.hex()));
    std::io::copy(&mut decoder(File::open(&path)?)?, &mut File::create(&plain)?)?;
    Ok(plain)
}

fn squashed_config(image: &Image, base_layers: &[String], layer: &Digest) -> Result<Vec<u8>, SquashError> {
    let mut config: Value = parsed(&image.raw_config)?;
    let diff_ids: Vec<&str> = base_layers.iter().map(String::as_str).chain([layer.as_str()]).collect();
    config["rootfs"]["diff_ids"] = json!(diff_ids);
    if let Some(history) = config["history"].as_array_mut() {
        *history = history_of(std::mem::take(history), base_layers.len());
    }
    for part in ["config", "container_config"] {
        let labels = config.get_mut(part).and_then(|part| part.get_mut("Labels")).and_then(Value::as_object_mut);
        if let Some(labels) = labels {
            labels.retain(|name, _| !LABELS.contains(&name.as_str()));
        }
    }
    bytes_of(&config)
}

/// The base's lines, and the last one. A state's line is the only one of its layer.
fn history_of(mut history: Vec<Value>, base_layers: usize) -> Vec<Value> {
    let Some(last) = history.pop() else { return history };
    let mut layers = 0;
    history.retain(|line| {
        let has_layer = line["empty_layer"] != Value::Bool(true);
        layers += usize::from(has_layer);
        layers <= base_layers
    });
    history.push(last);
    history
}

fn squashed_manifest(
    image: &Image,
    base_layers: usize,
    config: (&Digest, usize),
    layer: (&Digest, u64),
) -> Result<Vec<u8>, SquashError> {
    let mut manifest: Value = parsed(&image.manifest)?;
    manifest["config"]["digest"] = json!(config.0.as_str());
    manifest["config"]["size"] = json!(config.1);
    let is_docker = image.media_type.contains("docker");
    let media_type = match is_docker {
        true => "application/vnd.docker.image.rootfs.diff.tar",
        false => "application/vnd.oci.image.layer.v1.tar",
    };
    if let Some(layers) = manifest["layers"].as_array_mut() {
        layers.truncate(base_layers);
        layers.push(json!({ "mediaType": media_type, "digest": layer.0.as_str(), "size": layer.1 }));
    }
    bytes_of(&manifest)
}

fn parsed(bytes: &[u8]) -> Result<Value, SquashError> {
    serde_json::from_slice(bytes).map_err(|_| SquashError::Unexpected("no JSON"))
}

fn bytes_of(value: &Value) -> Result<Vec<u8>, SquashError> {
    serde_json::to_vec(value).map_err(|_| SquashError::Unexpected("no JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_knows_of_no_states() {
        let line = |name: &str, empty: bool| json!({ "created_by": name, "empty_layer": empty });
        let history = vec![line("base", false), line("CMD", true), line("state", false), line("state", false)];
        let history = [history, vec![line("commit", false)]].concat();
        let names: Vec<Value> = history_of(history, 1).iter().map(|line| line["created_by"].clone()).collect();
        assert_eq!(names, ["base", "CMD", "commit"]);
    }

    /// Engines with containerd's image store keep layers as registries have them.
    #[test]
    fn layers_are_merged_whatever_they_are_compressed_with() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path().join("layout")).unwrap();
        let zstd = zstd::encode_all(&b"a tar"[..], 1).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, b"a tar").unwrap();
        for blob in [b"a tar".to_vec(), zstd, gzip.finish().unwrap()] {
            let digest = layout.put_document(&blob).unwrap();
            let plain = plain_tar(&layout, &digest, directory.path()).unwrap();
            assert_eq!(std::fs::read(plain).unwrap(), b"a tar");
        }
    }
}
