//! Kept states, and what sealing them gave.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Failure, Input, Key, Launched, Sealed, Snapshots, StateInfo};
use kiln_docker::ImageInfo;
use kiln_docker::models::HostConfig;
use kiln_registry::Reference;
use kiln_services::{Pull, Service};
use sha2::{Digest as _, Sha256};

use crate::base::Wanted;
use crate::config::Config;
use crate::handed::{identity, is_id};
use crate::launch::DockerBuilder;
use crate::machine;

/// Version of what keys are made of here.
const VERSION: &str = "1";

/// What labels say of a build, beside its run.
#[derive(Debug)]
pub(crate) struct Marks {
    build: Arc<str>,
    origin: BTreeMap<String, String>,
}

impl Marks {
    pub(crate) fn of(context: &BuildContext) -> Marks {
        Marks { build: Arc::clone(&context.build), origin: context.options.origin.labels() }
    }
}

#[async_trait]
impl Snapshots for DockerBuilder {
    async fn base(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        self.check(context)?;
        let _ = self.marks.set(Marks::of(context));
        let image = match context.options.looks_only {
            true if self.config.build.is_some() => "not built yet".to_owned(),
            true => context.unless_cancelled(self.glimpse(context, &self.wanted_base())).await??,
            false => {
                let image = self.resolve(context).await?.image;
                identity(self.wanted_base().image, &image).to_owned()
            }
        };
        let name = match &self.config.build {
            Some(build) => build.path.display().to_string(),
            None => self.config.image.clone().unwrap_or_default(),
        };
        let mut inputs = vec![Input { name: "image".to_owned(), digest: digest(["image", &image]), shown: Some(name) }];
        inputs.extend(self.options(context).await?);
        inputs.extend(self.service_inputs(context).await?);
        Ok(inputs)
    }

    async fn find(&self, key: &Key) -> Result<Option<StateInfo>, Failure> {
        Ok(self.states.find(key).await?.map(|state| state.info))
    }

    async fn restore(&self, key: &Key, context: &BuildContext) -> Result<Launched, Failure> {
        self.check(context)?;
        let found = self.states.find(key).await?;
        let gone =
            || Failure::build(format!("the kept state {} is gone", key.short())).hint("run again: it is made anew");
        let state = found.ok_or_else(gone)?;
        let known = self.resolved.lock().await.as_ref().map(|resolved| resolved.image.clone());
        let base = match known {
            Some(image) => image,
            None => self.base_of(&state.base, &state.id).await?.ok_or_else(gone)?,
        };
        self.start_from(context, base, Some(state)).await
    }

    async fn sealed(&self, key: &Key, context: &BuildContext) -> Result<Option<Sealed>, Failure> {
        let sealed = self.result(key, &Marks::of(context)).await?;
        if let Some(sealed) = &sealed {
            if let Some(image) = sealed.artifact.image() {
                context.events.message(format!("CACHED seal: image {:.12}", image.id.trim_start_matches("sha256:")));
            }
            self.leave_base(context).await?;
        }
        Ok(sealed)
    }

    async fn sealed_before(&self, key: &Key) -> Result<Option<Artifact>, Failure> {
        let Some(marks) = self.marks.get() else { return Ok(None) };
        Ok(self.result(key, marks).await?.map(|sealed| sealed.artifact))
    }

    async fn is_sealed(&self, key: &Key) -> Result<bool, Failure> {
        // Nobody asks before the base is known.
        let Some(marks) = self.marks.get() else { return Ok(false) };
        Ok(self.result(key, marks).await?.is_some())
    }
}

impl DockerBuilder {
    /// What the base image is now, as far as that can be told without fetching or making anything.
    async fn glimpse(&self, context: &BuildContext, wanted: &Wanted<'_>) -> Result<String, Failure> {
        let image = wanted.image;
        if is_id(image) {
            // It means the same wherever it lies.
            return Ok(image.to_owned());
        }
        let found = self.found(wanted).await?;
        if wanted.pull == Pull::Always || (found.is_none() && wanted.pull == Pull::Missing) {
            let credentials = match Reference::parse(image) {
                Ok(reference) => self.credentials(context, &reference.registry).await?,
                Err(_) => None,
            };
            if let Some(now) = self.engine().registry_digest(image, credentials.as_ref()).await? {
                let is_it = |found: &ImageInfo| found.digests.iter().any(|name| name.ends_with(&format!("@{now}")));
                return Ok(found.filter(is_it).map_or(now, |found| found.id));
            }
        }
        Ok(found.map_or_else(|| "not pulled yet".to_owned(), |found| found.id))
    }

    /// What steps see of services: what those do may depend on it. How they are waited for counts as well, as that decides on
    /// what is there when a step begins.
    async fn service_inputs(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        if self.services.is_empty() {
            return Ok(Vec::new());
        }
        let mut images = Vec::with_capacity(self.services.len());
        if context.options.looks_only {
            for service in &self.services {
                let wanted = Wanted { image: &service.image, pull: service.pull, platform: None };
                images.push(context.unless_cancelled(self.glimpse(context, &wanted)).await??);
            }
        } else {
            let found = self.service_images(context).await?;
            let named = self.services.iter().zip(&found);
            images.extend(named.map(|(service, image)| identity(&service.image, image).to_owned()));
        }
        let store = self.states.store().await?;
        let input = |(service, image): (&Service, &String)| Input {
            name: format!("service {}", service.name),
            // Values may be secrets, so nobody can try them out on the digest.
            digest: store.keyed_digest(service.identity(image).as_bytes()),
            shown: Some(service.image.clone()),
        };
        let mut inputs: Vec<Input> = self.services.iter().zip(&images).map(input).collect();
        let shared = self.config.share_network.to_string();
        let digest = digest(["share_network", &shared]);
        inputs.push(Input { name: "share_network".to_owned(), digest, shown: Some(shared) });
        Ok(inputs)
    }

    /// The image that a state was made from. One that is gone is much like the state in all that matters.
    async fn base_of(&self, base: &str, state: &str) -> Result<Option<ImageInfo>, Failure> {
        match self.engine().inspect_image(base).await? {
            Some(image) => Ok(Some(image)),
            None => Ok(self.engine().inspect_image(state).await?),
        }
    }

    /// What the state before the first step depends on, beside the image: how the container is made.
    async fn options(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        let config = &self.config;
        let run = self.run_command(context, "image")?;
        let mut host = HostConfig::default();
        self.host_options(&mut host).map_err(Failure::build)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let flags = [
            ("platform", text(&run.platform.or_else(|| config.platform.clone()))),
            ("network", text(&config.network)),
            ("runtime", text(&config.runtime)),
            ("exec_user", text(&config.exec_user)),
            ("container_dir", text(&config.container_dir)),
            ("pty", config.pty.to_string()),
            ("fix_upload_owner", config.fix_upload_owner.to_string()),
            ("privileged", config.privileged.to_string()),
            ("kiln_labels", config.kiln_labels.to_string()),
            ("volumes", host.binds.unwrap_or_default().join(", ")),
            ("tmpfs", config.tmpfs.join(", ")),
            ("device", config.device.join(", ")),
            ("cap_add", config.cap_add.join(", ")),
            ("cap_drop", config.cap_drop.join(", ")),
        ];
        let mut inputs: Vec<Input> = flags
            .into_iter()
            .map(|(name, value)| Input {
                name: name.to_owned(),
                digest: digest([name, &value]),
                shown: Some(context.redactor.redact(&value).into_owned()),
            })
            .collect();
        // Values may be secrets, so nobody can try them out on the digest.
        let parts = serde_json::json!([run.config, run.entrypoint, run.command]).to_string();
        let keyed = self.states.store().await?.keyed_digest(parts.as_bytes());
        inputs.push(Input { name: "run_command".to_owned(), digest: keyed, shown: None });
        Ok(inputs)
    }

    /// What sealing a state gave, where it is there.
    async fn result(&self, key: &Key, marks: &Marks) -> Result<Option<Sealed>, Failure> {
        if self.config.discard {
            let found = self.states.find(key).await?;
            return Ok(found.map(|_| Sealed { artifact: machine::discarded(), facts: Default::default() }));
        }
        if !self.config.commit {
            return Ok(None);
        }
        let store = self.states.store().await?;
        let key = result_key(key, &self.config, self.engine().address(), marks);
        let Some(result) = store.engine_result(&key).map_err(Failure::environment)? else { return Ok(None) };
        if self.engine().inspect_image(&result.image).await?.is_none() {
            return Ok(None);
        }
        let mut facts = result.facts;
        facts.insert("ImageSha256".to_owned(), result.image.clone());
        Ok(Some(Sealed { artifact: machine::committed(&self.settings.engine, result.image), facts }))
    }
}

/// What sealing a state in an engine depends on, beside the state.
pub(crate) fn result_key(state: &Key, config: &Config, engine: &str, marks: &Marks) -> Key {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (author, message) = (text(&config.author), text(&config.message));
    let mut parts = vec!["result", VERSION, state.as_str(), engine, &author, &message];
    if config.kiln_labels {
        parts.extend(["labels", &marks.build]);
        parts.extend(marks.origin.iter().flat_map(|(name, value)| [name.as_str(), value]));
    }
    parts.extend(config.changes.iter().map(String::as_str));
    Key::from_digest(hash(parts))
}

/// Of parts that do not run into each other.
fn hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    Key::from_digest(hash(parts)).to_string()
}
