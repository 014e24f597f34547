//! Layers of a base, unpacked in the store: each once, whatever images share it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_cache::LayerMeta;
use kiln_core::Failure;
use kiln_image::image::LayerReference;
use kiln_image::unpack::{Skipped, TreeFormat, UnpackOptions};
use kiln_image::{Digest, Image};

use super::Bases;
use crate::error::{self, OciError};
use crate::place::Place;

/// Unpacks what is not unpacked yet; the topmost comes first.
pub(super) async fn unpack(bases: &Bases<'_>, image: &Image) -> Result<Vec<PathBuf>, Failure> {
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
        diff_id: Some(layer.diff_id.clone()),
        ..UnpackOptions::new(TreeFormat::Overlay { user_xattr: place.chosen.user_xattr() })
    };
    let work = Unpacking { place: Arc::clone(place), layer: layer.clone(), chain: chain.clone(), parent, options };
    for skipped in error::blocking(move || work.run()).await? {
        let Skipped { path, reason } = skipped;
        bases.context.events.warn(format!("{path} of the base image was left out: {reason}"));
    }
    let gone = || Failure::build(OciError::Base("an unpacked layer is gone again".to_owned()));
    find(place, chain)?.ok_or_else(gone)
}

struct Unpacking {
    place: Arc<Place>,
    layer: LayerReference,
    chain: Digest,
    parent: Option<Digest>,
    options: UnpackOptions,
}

impl Unpacking {
    fn run(self) -> Result<Vec<Skipped>, Failure> {
        let store = &self.place.store;
        let directory = store.begin_layer(&self.chain).map_err(error::cache)?;
        let unpacked = self.unpack(&directory).inspect_err(|_| {
            // What is left of it goes with the next collection.
            let _ = self.place.worker.remove(std::slice::from_ref(&directory));
        })?;
        let (size, diff_id) = (unpacked.bytes, unpacked.diff_id);
        let meta = LayerMeta { parent: self.parent, diff_id, size };
        store.commit_layer(&self.chain, &directory, &meta).map_err(error::cache)?;
        // A machine gets a `/dev` of its own, so that nobody misses what base images have there.
        Ok(unpacked.skipped.into_iter().filter(|skipped| !skipped.path.starts_with("dev/")).collect())
    }

    fn unpack(&self, directory: &Path) -> Result<kiln_image::unpack::Unpacked, Failure> {
        let blob = self.place.store.layout().blob_path(&self.layer.digest);
        let file = std::fs::File::open(&blob).map_err(error::local("read", &blob))?;
        self.place.worker.unpack(file, &directory.join("tree"), &self.options).map_err(error::sandbox)
    }
}
