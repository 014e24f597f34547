//! Layers of a base, unpacked in the store: each once, whatever images share it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::LayerMeta;
use kiln_core::Failure;
use kiln_image::image::LayerReference;
use kiln_image::unpack::{Devices, Skipped, TreeFormat, UnpackOptions};
use kiln_image::{Digest, Image};
use kiln_sandbox::Isolation;

use super::Bases;
use crate::error::{self, OciError};
use crate::place::Place;

/// Unpacks what is not unpacked yet; the topmost comes first. Where no overlay can be mounted, all layers are one tree.
pub(super) async fn unpack(bases: &Bases<'_>, image: &Image) -> Result<Vec<PathBuf>, Failure> {
    if bases.place.chosen.isolation == Isolation::Chroot {
        return unpack_whole(bases, image).await;
    }
    let mut lowers: Vec<PathBuf> = Vec::new();
    let mut parent = None;
    for (layer, chain) in image.layers.iter().zip(image.chain_ids()) {
        let tree = match find(bases.place, &chain)? {
            Some(tree) => tree,
            None => unpack_one(bases, layer, &chain, parent.clone(), &lowers).await?,
        };
        lowers.insert(0, tree);
        parent = Some(chain);
    }
    Ok(lowers)
}

async fn unpack_whole(bases: &Bases<'_>, image: &Image) -> Result<Vec<PathBuf>, Failure> {
    let Some(chain) = image.chain_ids().pop() else { return Ok(Vec::new()) };
    let place = bases.place;
    let _one_at_a_time = place.lock(chain.as_str()).await;
    if let Some(tree) = find(place, &chain)? {
        return Ok(vec![tree]);
    }
    let (count, noun) = (image.layers.len(), if image.layers.len() == 1 { "layer" } else { "layers" });
    bases.context.events.message(format!("unpacking {count} {noun}"));
    let options = UnpackOptions { devices: Devices::Known, ..UnpackOptions::new(TreeFormat::Plain) };
    let layers = image.layers.clone();
    let work = Unpacking { place: Arc::clone(place), layers, chain: chain.clone(), parent: None, options };
    work.told(bases).await?;
    Ok(find(place, &chain)?.into_iter().collect())
}

fn find(place: &Place, chain: &Digest) -> Result<Option<PathBuf>, Failure> {
    place.store.layer_directory(chain).map_err(error::cache)
}

async fn unpack_one(
    bases: &Bases<'_>,
    layer: &LayerReference,
    chain: &Digest,
    parent: Option<Digest>,
    lowers: &[PathBuf],
) -> Result<PathBuf, Failure> {
    let place = bases.place;
    let _one_at_a_time = place.lock(chain.as_str()).await;
    if let Some(tree) = find(place, chain)? {
        return Ok(tree);
    }
    bases.context.events.message(format!("unpacking layer {:.12}", layer.digest.hex()));
    let options = UnpackOptions {
        lowers: lowers.to_vec(),
        devices: Devices::Known,
        ..UnpackOptions::new(TreeFormat::Overlay { user_xattr: place.chosen.user_xattr() })
    };
    let layers = vec![layer.clone()];
    Unpacking { place: Arc::clone(place), layers, chain: chain.clone(), parent, options }.told(bases).await?;
    let gone = || Failure::build(OciError::Base("an unpacked layer is gone again".to_owned()));
    find(place, chain)?.ok_or_else(gone)
}

/// Layers that become one tree of the store.
struct Unpacking {
    place: Arc<Place>,
    /// The lowest first.
    layers: Vec<LayerReference>,
    chain: Digest,
    parent: Option<Digest>,
    options: UnpackOptions,
}

impl Unpacking {
    async fn told(self, bases: &Bases<'_>) -> Result<(), Failure> {
        for Skipped { path, reason } in error::blocking(move || self.run()).await? {
            bases.context.events.warn(format!("{path} of the base image was left out: {reason}"));
        }
        Ok(())
    }

    fn run(self) -> Result<Vec<Skipped>, Failure> {
        let store = &self.place.store;
        let directory = store.begin_layer(&self.chain).map_err(error::cache)?;
        let (skipped, meta) = self.unpack(&directory.join("tree")).inspect_err(|_| {
            // What cannot be removed now goes with the next collection.
            let _ = self.place.worker.remove(std::slice::from_ref(&directory));
        })?;
        store.commit_layer(&self.chain, &directory, &meta).map_err(error::cache)?;
        // A machine gets a `/dev` of its own, so that nobody misses what base images have there.
        Ok(skipped.into_iter().filter(|skipped| !skipped.path.starts_with("dev/")).collect())
    }

    fn unpack(&self, tree: &Path) -> Result<(Vec<Skipped>, LayerMeta), Failure> {
        // The mode of `/` where no layer has an entry for it; the store's own directory keeps others out.
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(tree, mode).map_err(error::local("create", tree))?;
        let mut skipped = Vec::new();
        let mut meta = LayerMeta { parent: self.parent.clone(), diff_id: self.chain.clone(), size: 0 };
        for layer in &self.layers {
            let blob = self.place.store.layout().blob_path(&layer.digest);
            let file = std::fs::File::open(&blob).map_err(error::local("read", &blob))?;
            let options = UnpackOptions { diff_id: Some(layer.diff_id.clone()), ..self.options.clone() };
            let unpacked = self.place.worker.unpack(file, tree, &options).map_err(error::sandbox)?;
            skipped.extend(unpacked.skipped);
            meta.size += unpacked.bytes;
            meta.diff_id = unpacked.diff_id;
        }
        Ok((skipped, meta))
    }
}
