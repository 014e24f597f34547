//! Bases from registries, and from the Docker engine.

use std::sync::Arc;

use kiln_core::{Failure, Input};
use kiln_docker::TakeOverError;
use kiln_image::Digest;
use kiln_registry::{Progress, PullOptions, Reference, Stage};

use super::{Bases, Resolved, Source, base_key};
use crate::config::Pull;
use crate::digest::Parts;
use crate::error::{self, OciError};

impl Bases<'_> {
    pub(super) async fn resolve_reference(&self, text: &str) -> Result<Resolved, Failure> {
        let reference = Reference::parse(text).map_err(|error| Failure::build(OciError::Base(error.to_string())))?;
        let pull = self.recipe.config.pull;
        let by_name = self.by_name(&reference);
        if pull != Pull::Always || reference.digest.is_some() {
            if let Some(manifest) =
                self.find_local(text)?.filter(|manifest| pull != Pull::Always && self.is_whole(manifest))
            {
                return self.stored(manifest);
            }
            if let Some(entry) = self.known(&by_name)?
                && let Some(digest) = entry.details.get("digest")
            {
                return Ok(self.of_registry(&reference, digest, Source::Stored(entry.manifest.clone())));
            }
        }
        if pull == Pull::Never {
            let text = format!("{reference} is not in kiln's store, and `pull` does not allow to fetch it");
            return Err(Failure::build(OciError::Base(text)).hint("set `pull = \"missing\"`"));
        }
        let digest = match &reference.digest {
            Some(digest) => digest.clone(),
            None => {
                let resolved = self.context.unless_cancelled(async {
                    self.client.resolve(&reference).await.map_err(|error| self.explain(error))
                });
                resolved.await??.digest.to_string()
            }
        };
        let source = match self.known(&self.by_digest(&reference, &digest))? {
            Some(entry) => Source::Stored(entry.manifest),
            None => Source::Pull(Reference { digest: Some(digest.clone()), ..reference.clone() }),
        };
        Ok(self.of_registry(&reference, &digest, source))
    }

    fn explain(&self, error: kiln_registry::RegistryError) -> Failure {
        let is_unasked = error.is_environment() && self.recipe.config.pull == Pull::Always;
        let failure = error::registry(error);
        if is_unasked {
            failure.hint("`pull = \"missing\"` does without asking if the image is there already")
        } else {
            failure
        }
    }

    fn of_registry(&self, reference: &Reference, digest: &str, source: Source) -> Resolved {
        let input = Input {
            name: "from".to_owned(),
            digest: Parts::new("from").with(digest).hex(),
            shown: Some(format!("{reference} ({:.12})", digest.trim_start_matches("sha256:"))),
        };
        Resolved {
            digest: Some(format!("{}@{digest}", reference.familiar_name())),
            repository: Some(Reference { tag: None, digest: None, ..reference.clone() }),
            ..Resolved::of(input, source)
        }
    }

    fn by_name(&self, reference: &Reference) -> kiln_core::Key {
        let name = match &reference.digest {
            Some(digest) => format!("{}@{digest}", reference.name()),
            None => reference.in_full(),
        };
        base_key("name", &self.recipe.platform).with(name).key()
    }

    fn by_digest(&self, reference: &Reference, digest: &str) -> kiln_core::Key {
        // With the repository: whoever has a digest need not be let into what another one may see.
        base_key("digest", &self.recipe.platform).with(reference.name()).with(digest).key()
    }

    /// Pulls an image by its digest.
    pub(super) async fn pull(&self, reference: &Reference) -> Result<Digest, Failure> {
        let digest = reference.digest.clone().unwrap_or_default();
        let key = self.by_digest(reference, &digest);
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)? {
            return Ok(entry.manifest);
        }
        let shown = Reference { digest: None, ..reference.clone() };
        self.context.events.message(format!("pulling {shown}"));
        let events = self.context.events.clone();
        let progress = Arc::new(move |step: Progress| {
            let action = match step.stage {
                Stage::Moving | Stage::Moved => "pulling",
                Stage::Present | Stage::Mounted => "there already",
            };
            events.progress(format!("{:.12}", step.digest.hex()), action, step.done, Some(step.total));
        });
        let options = PullOptions { platform: Some(self.recipe.platform.clone()), ..PullOptions::default() };
        self.store().hold().map_err(error::cache)?;
        let layout = self.store().layout();
        let pulled = self.context.unless_cancelled(async {
            self.client.pull(reference, layout, &options, progress).await.map_err(error::registry)
        });
        let manifest = pulled.await??.manifest;
        self.note(&key, &manifest, Some(&digest))?;
        self.note(&self.by_name(&shown), &manifest, Some(&digest))?;
        Ok(manifest)
    }

    /// An image of the Docker engine.
    pub(super) async fn resolve_daemon(&self, image: &str) -> Result<Resolved, Failure> {
        let found = self.settings.engine.inspect_image(image).await?;
        let found = found.ok_or_else(|| {
            Failure::build(OciError::Base(format!("the Docker engine has no image {image}")))
                .hint(format!("run `docker pull {image}`"))
        })?;
        let input = Input {
            name: "from".to_owned(),
            digest: Parts::new("from").with(&found.id).hex(),
            shown: Some(format!("{image} of the Docker engine ({:.12})", found.id.trim_start_matches("sha256:"))),
        };
        let source = match self.known(&self.by_id(&found.id))? {
            Some(entry) => Source::Stored(entry.manifest),
            None => Source::Save(found.id.clone()),
        };
        Ok(Resolved { digest: found.digests.first().cloned(), ..Resolved::of(input, source) })
    }

    fn by_id(&self, id: &str) -> kiln_core::Key {
        base_key("docker", &self.recipe.platform).with(id).key()
    }

    /// Takes an image over from the Docker engine.
    pub(super) async fn save(&self, id: &str) -> Result<Digest, Failure> {
        let key = self.by_id(id);
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)? {
            return Ok(entry.manifest);
        }
        self.context.events.message(format!("taking {} over", self.recipe.from.title()));
        let archive = self.context.scratch.join(format!("{:.12}.tar", id.trim_start_matches("sha256:")));
        self.store().hold().map_err(error::cache)?;
        let taken = kiln_docker::take_over(self.settings.engine.as_ref(), id, self.store().layout(), &archive).await;
        let manifest = taken.map_err(|error| match error {
            TakeOverError::Engine(error) => Failure::from(error),
            TakeOverError::Image { source, .. } => error::image(source),
            other => Failure::build(other),
        })?;
        self.note(&key, &manifest, None)?;
        Ok(manifest)
    }
}
