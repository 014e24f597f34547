//! Kept states, and what sealing them gave.

use async_trait::async_trait;
use kiln_cache::SealedEntry;
use kiln_core::{Artifact, BuildContext, Failure, Input, Key, Launched, Sealed, Snapshots, StateInfo};
use kiln_image::Image;

use crate::error::{self, OciError};
use crate::launch::OciBuilder;
use crate::machine::discarded;
use crate::outputs::Bringing;
use crate::place::Place;
use crate::seal;

#[async_trait]
impl Snapshots for OciBuilder {
    async fn base(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        let place = self.place().await?;
        let runtime = self.runtime(context)?;
        place.chosen.isolation.check(&runtime.mounts, runtime.network).map_err(error::sandbox)?;
        let resolved = self.resolve(&place, context).await?;
        let mut inputs = resolved.inputs;
        inputs.extend(self.inputs(&place, &runtime));
        inputs.extend(self.service_inputs(context).await?);
        Ok(inputs)
    }

    async fn find(&self, key: &Key) -> Result<Option<StateInfo>, Failure> {
        let place = self.place().await?;
        Ok(place.store.find_state(key).map_err(error::cache)?.map(|state| state.info))
    }

    async fn restore(&self, key: &Key, context: &BuildContext) -> Result<Launched, Failure> {
        let place = self.place().await?;
        let states = place.store.chain(key).map_err(error::cache)?;
        if states.is_empty() {
            let text = format!("the kept state {} is gone", key.short());
            return Err(Failure::build(OciError::Base(text)).hint("run again: it is made anew"));
        }
        let machine = self.start_with_services(states, context).await?;
        Ok(Launched::Machine(Box::new(machine)))
    }

    async fn sealed(&self, key: &Key, context: &BuildContext) -> Result<Option<Sealed>, Failure> {
        let place = self.place().await?;
        if self.recipe.config.discard {
            let found = place.store.find_state(key).map_err(error::cache)?;
            return Ok(found.map(|_| Sealed { artifact: discarded(), facts: std::collections::BTreeMap::new() }));
        }
        let Some(entry) = self.sealed_entry(&place, key)? else { return Ok(None) };
        let client = self.client(context);
        let resolved = self.resolve(&place, context).await?;
        let bringing = Bringing {
            recipe: &self.recipe,
            place: &place,
            settings: &self.settings,
            client: &client,
            mount_from: resolved.repository,
            context,
        };
        context.events.message(format!("CACHED seal: image {:.12}", entry.manifest.hex()));
        let artifact = bringing.seal(&entry.manifest, &entry.config).await?;
        let mut facts = entry.facts;
        facts.insert("ImageSha256".to_owned(), entry.config.to_string());
        Ok(Some(Sealed { artifact, facts }))
    }

    async fn sealed_before(&self, key: &Key) -> Result<Option<Artifact>, Failure> {
        let place = self.place().await?;
        if self.recipe.config.discard {
            return Ok(place.store.find_state(key).map_err(error::cache)?.map(|_| discarded()));
        }
        let Some(entry) = self.sealed_entry(&place, key)? else { return Ok(None) };
        let layout = place.store.layout().root().to_path_buf();
        crate::outputs::image_artifact(&self.recipe, &entry.manifest, &entry.config, layout).map(Some)
    }

    async fn is_sealed(&self, key: &Key) -> Result<bool, Failure> {
        let place = self.place().await?;
        if self.recipe.config.discard {
            return Ok(place.store.find_state(key).map_err(error::cache)?.is_some());
        }
        Ok(self.sealed_entry(&place, key)?.is_some())
    }
}

impl OciBuilder {
    fn sealed_entry(&self, place: &Place, key: &Key) -> Result<Option<SealedEntry>, Failure> {
        let is_possible =
            self.recipe.makes_image() && self.recipe.config.export_path.is_none() && seal::is_repeatable(&self.recipe);
        if !is_possible {
            return Ok(None);
        }
        let key = seal::seal_key(key, &self.recipe, &self.settings);
        let entry = place.store.sealed(&key).map_err(error::cache)?;
        let layout = place.store.layout();
        let is_whole = |entry: &SealedEntry| {
            Image::open(layout, &entry.manifest)
                .is_ok_and(|image| image.layers.iter().all(|layer| layout.has(&layer.digest)))
        };
        Ok(entry.filter(is_whole))
    }
}
