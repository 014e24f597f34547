//! The base image: built from a Dockerfile, pulled, or found in the engine's store.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_core::{BuildContext, EntryId, Failure, Stream};
use kiln_docker::engine::{BuildRequest, TransferProgress};
use kiln_docker::steps::DockerfileSteps;
use kiln_docker::{BaseUndo, EngineError, ImageInfo, undo};
use kiln_registry::{Credentials, Origin, Reference, normalize_registry};
use kiln_services::Pull;

use crate::config::BuildBlock;
use crate::handed::is_id;
use crate::launch::DockerBuilder;

/// Steps of a transfer closer together than this are not all told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Held while an image of one platform is pulled and looked up by its name: builds for several platforms share names.
static PLATFORM_TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The base image.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) image: ImageInfo,
    /// The journal's entry, where a Dockerfile made it and no machine has taken it over yet.
    pub(crate) entry: Option<EntryId>,
}

/// An image that is needed.
pub(crate) struct Wanted<'a> {
    /// Its reference or id.
    pub(crate) image: &'a str,
    pub(crate) pull: Pull,
    pub(crate) platform: Option<&'a str>,
}

impl DockerBuilder {
    /// The base image, built, pulled or found once.
    pub(crate) async fn resolve(&self, context: &BuildContext) -> Result<Resolved, Failure> {
        let mut resolved = self.resolved.lock().await;
        if let Some(known) = &*resolved {
            return Ok(known.clone());
        }
        let entry = self.record_base(context)?;
        match context.unless_cancelled(self.base_image(context, entry)).await.flatten() {
            Ok(image) => Ok(resolved.insert(Resolved { image, entry }).clone()),
            Err(failure) => {
                // What the Dockerfile made stays as the engine's build cache, as after a failed `docker build`.
                entry.map_or(Ok(()), |entry| context.journal.strike(entry))?;
                Err(failure)
            }
        }
    }

    /// From here on the base image is the engine's build cache.
    pub(crate) async fn leave_base(&self, context: &BuildContext) -> Result<(), Failure> {
        let entry = self.resolved.lock().await.as_mut().and_then(|resolved| resolved.entry.take());
        entry.map_or(Ok(()), |entry| context.journal.strike(entry))
    }

    /// Notes that a Dockerfile is about to make images.
    fn record_base(&self, context: &BuildContext) -> Result<Option<EntryId>, Failure> {
        if self.config.build.is_none() {
            return Ok(None);
        }
        context.journal.record(&context.build, self.base_undo(DockerfileSteps::default()).entry()).map(Some)
    }

    fn base_undo(&self, steps: DockerfileSteps) -> BaseUndo {
        BaseUndo { engine: self.engine().address().to_owned(), steps, at: undo::seconds_since_epoch() }
    }

    /// The base image, built, pulled or found.
    async fn base_image(&self, context: &BuildContext, entry: Option<EntryId>) -> Result<ImageInfo, Failure> {
        match (&self.config.build, entry) {
            (Some(build), Some(entry)) => {
                let id = self.build(context, build, entry).await?;
                self.inspected(&id).await
            }
            _ => self.obtain(context, &self.wanted_base()).await,
        }
    }

    /// The base image as the template wants it.
    pub(crate) fn wanted_base(&self) -> Wanted<'_> {
        Wanted {
            image: self.config.image.as_deref().unwrap_or_default(),
            pull: self.config.pull,
            platform: self.config.platform.as_deref(),
        }
    }

    /// An image, pulled, taken over from kiln's store, or found.
    async fn obtain(&self, context: &BuildContext, wanted: &Wanted<'_>) -> Result<ImageInfo, Failure> {
        // A name means the image that came last. Who asks for one platform looks it up before another one comes.
        let _turn = match wanted.platform {
            Some(_) if !is_id(wanted.image) => Some(PLATFORM_TURN.lock().await),
            _ => None,
        };
        if !is_id(wanted.image) {
            self.pull(context, wanted).await?;
            return self.inspected(wanted.image).await;
        }
        self.settings.handed(context, wanted.image).await
    }

    /// The images of the source's services, in their order; pulled or found once.
    pub(crate) async fn service_images(&self, context: &BuildContext) -> Result<Vec<ImageInfo>, Failure> {
        let mut known = self.service_images.lock().await;
        if let Some(images) = &*known {
            return Ok(images.clone());
        }
        let mut images = Vec::with_capacity(self.services.len());
        for service in &self.services {
            let wanted = Wanted { image: &service.image, pull: service.pull, platform: None };
            let image = context.unless_cancelled(self.obtain(context, &wanted)).await.flatten();
            images.push(image.map_err(|failure| failure.within(service.span))?);
        }
        Ok(known.insert(images).clone())
    }

    async fn inspected(&self, reference: &str) -> Result<ImageInfo, Failure> {
        let found = self.engine().inspect_image(reference).await?;
        found.ok_or_else(|| {
            let error = EngineError::NotFound {
                what: format!("image {reference}"),
                message: "it is not in the engine's store, and `pull` does not allow to fetch it".to_owned(),
            };
            Failure::from(error).hint(format!("run `docker pull {reference}`, or set `pull = \"missing\"`"))
        })
    }

    async fn build(&self, context: &BuildContext, build: &BuildBlock, entry: EntryId) -> Result<String, Failure> {
        context.events.message(format!("building the base image from {}", build.path.display()));
        let mut credentials = BTreeMap::new();
        if let Some((registry, login)) = self.login() {
            credentials.insert(registry, login);
        }
        for registry in registries_in(&build.path).await {
            if !credentials.contains_key(&registry)
                && let Some(found) = self.find_credentials(context, &registry).await?
            {
                credentials.insert(registry, found);
            }
        }
        // No label of the run: it would make a new image each time where the engine's cache has one.
        let request = BuildRequest {
            dockerfile: build.path.clone(),
            context: build.build_dir.clone(),
            arguments: build.arguments.clone(),
            labels: BTreeMap::new(),
            pull: build.pull,
            compress: build.compress,
            platform: self.config.platform.clone(),
            credentials,
            ..BuildRequest::default()
        };
        let followed = Mutex::new((DockerfileSteps::default(), Ok(())));
        let on_line = |line: &str| {
            context.events.output(Stream::Stdout, line);
            let Ok(mut followed) = followed.lock() else { return };
            let (steps, noted) = &mut *followed;
            // The journal holds no secrets.
            if steps.follow(&context.redactor.redact(line)) {
                let amended = context.journal.amend(entry, self.base_undo(steps.clone()).entry());
                *noted = std::mem::replace(noted, Ok(())).and(amended);
            }
        };
        let id = self.engine().build_image(&request, &on_line).await?;
        let (_, noted) = followed.into_inner().unwrap_or_else(PoisonError::into_inner);
        noted?;
        Ok(id)
    }

    async fn pull(&self, context: &BuildContext, wanted: &Wanted<'_>) -> Result<(), Failure> {
        let image = wanted.image;
        let is_wanted = match wanted.pull {
            Pull::Never => false,
            Pull::Always => true,
            Pull::Missing => !self.has(wanted).await?,
        };
        if !is_wanted {
            return Ok(());
        }
        let registry = Reference::parse(image).map(|reference| reference.registry).ok();
        let credentials = match &registry {
            Some(registry) => self.credentials(context, registry).await?,
            None => None,
        };
        context.events.message(format!("pulling {image}"));
        let progress = Progress { context, told: Mutex::new(HashMap::new()) };
        let pulled =
            self.engine().pull(image, wanted.platform, credentials.as_ref(), &|step| progress.tell(step)).await;
        pulled.map_err(|error| {
            let is_unreachable = matches!(error, EngineError::Unreachable { .. });
            let failure = Failure::from(error);
            if is_unreachable {
                return failure;
            }
            let failure = match &credentials {
                None => failure.hint(format!(
                    "check the name; if the image is private, run `docker login {}` first",
                    registry.unwrap_or_default()
                )),
                Some(_) => failure,
            };
            failure.hint("an image that is only in the engine's store needs `pull = false` or `pull = \"missing\"`")
        })
    }

    /// Whether the store has the image, for the platform asked for.
    async fn has(&self, wanted: &Wanted<'_>) -> Result<bool, Failure> {
        Ok(self.found(wanted).await?.is_some())
    }

    /// The image in the store, where it is for the platform asked for.
    pub(crate) async fn found(&self, wanted: &Wanted<'_>) -> Result<Option<ImageInfo>, Failure> {
        let Some(found) = self.engine().inspect_image(wanted.image).await? else { return Ok(None) };
        let Some(platform) = wanted.platform else { return Ok(Some(found)) };
        let mut parts = platform.split('/');
        let fits = parts.next() == Some(&found.os) && parts.next().is_none_or(|part| part == found.architecture);
        Ok(fits.then_some(found))
    }

    /// The login that the template gives, with its registry.
    fn login(&self) -> Option<(String, Credentials)> {
        if !self.config.login || self.config.ecr.ecr_login {
            return None;
        }
        let registry = normalize_registry(self.config.login_server.as_deref().unwrap_or_default());
        let credentials = Credentials {
            username: self.config.login_username.clone().unwrap_or_default(),
            password: self.config.login_password.clone().unwrap_or_default(),
            identity_token: None,
        };
        Some((registry, credentials))
    }

    pub(crate) async fn credentials(
        &self,
        context: &BuildContext,
        registry: &str,
    ) -> Result<Option<Credentials>, Failure> {
        if let Some((server, credentials)) = self.login() {
            if server == registry {
                return Ok(Some(credentials));
            }
            context.events.warn(format!("`login_server` is {server}, and the image comes from {registry}"));
        }
        self.find_credentials(context, registry).await
    }

    async fn find_credentials(&self, context: &BuildContext, registry: &str) -> Result<Option<Credentials>, Failure> {
        let found = self.settings.credentials.find(registry).await.map_err(Failure::environment)?;
        if let Some(found) = found.as_ref().filter(|found| found.origin == Origin::Amazon) {
            context.redactor.add(found.credentials.password.expose());
        }
        Ok(found.map(|found| found.credentials))
    }
}

/// Tells a transfer's steps, but not each of hundreds a second.
struct Progress<'a> {
    context: &'a BuildContext,
    told: Mutex<HashMap<String, (String, Instant)>>,
}

impl Progress<'_> {
    fn tell(&self, step: TransferProgress) {
        if step.item.is_empty() {
            return;
        }
        let Ok(mut told) = self.told.lock() else { return };
        let is_news = told
            .get(&step.item)
            .is_none_or(|(status, since)| *status != step.status || since.elapsed() >= PROGRESS_INTERVAL);
        if is_news {
            told.insert(step.item.clone(), (step.status.clone(), Instant::now()));
            self.context.events.progress(step.item, step.status, step.current, step.total);
        }
    }
}

/// Registries named in the `FROM`s of a Dockerfile, as far as they stand there in clear.
async fn registries_in(dockerfile: &Path) -> Vec<String> {
    // One that cannot be read is reported by the build itself.
    let text = tokio::fs::read_to_string(dockerfile).await.unwrap_or_default();
    let mut registries: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let is_from = words.next().is_some_and(|word| word.eq_ignore_ascii_case("from"));
            let image = words.find(|word| !word.starts_with("--")).filter(|_| is_from)?;
            Reference::parse(image).ok().map(|reference| reference.registry)
        })
        .collect();
    registries.sort();
    registries.dedup();
    registries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn registries_of_a_dockerfile() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Dockerfile");
        std::fs::write(&path, "FROM --platform=linux/amd64 registry.example.org/a AS x\nfrom debian\nRUN from y\n")
            .unwrap();
        assert_eq!(registries_in(&path).await, ["docker.io", "registry.example.org"]);
    }
}
