//! A configured source: builds the image, and hands it on as the result or as what a machine starts from.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use kiln_builder_docker::{DockerSettings, ImageMachine};
use kiln_buildkit::{DaemonAddress, Transport};
use kiln_core::{
    Artifact, BuildContext, Builder, Failure, Input, Key, Launched, Platform, Sealed, Snapshots, StateInfo, Tester,
};
use kiln_docker::EngineError;
use kiln_docker::engine::ImageFilter;

use crate::config::Config;
use crate::made::{self, Made};
use crate::named::Lent;
use crate::pull;
use crate::run::Opened;

/// A configured source.
pub(crate) struct DockerfileBuilder {
    pub(crate) settings: DockerSettings,
    pub(crate) config: Arc<Config>,
    /// Where the template lies.
    pub(crate) directory: PathBuf,
    pub(crate) daemon: Option<DaemonAddress>,
    has_steps: bool,
    machine: ImageMachine,
    made: Arc<Made>,
    /// The source of the machine, once the image is built.
    built: OnceLock<Arc<dyn Builder>>,
    /// One build at a time, and each only once.
    building: tokio::sync::Mutex<()>,
}

impl DockerfileBuilder {
    pub(crate) fn new(
        settings: DockerSettings,
        config: Config,
        directory: PathBuf,
        daemon: Option<DaemonAddress>,
        has_steps: bool,
        machine: ImageMachine,
        made: Arc<Made>,
    ) -> DockerfileBuilder {
        DockerfileBuilder {
            settings,
            config: Arc::new(config),
            directory,
            daemon,
            has_steps,
            machine,
            made,
            built: OnceLock::new(),
            building: tokio::sync::Mutex::default(),
        }
    }

    /// Builds it in the engine; returns the image's id and whether it is new.
    async fn build(&self, context: &BuildContext) -> Result<(String, bool), Failure> {
        let opened = self.open(context).await?;
        self.check(&opened)?;
        let engine = &self.settings.engine;
        context.events.message(format!("building {}", opened.file.name));
        pull::bring(&**engine, &opened.file, &self.config, &self.logins(context), context).await?;
        let before = engine.find_images(&ImageFilter::default()).await?;
        if !self.has_buildkit().await? {
            let id = self.build_classic(&opened, context).await?;
            let is_new = !before.contains(&id);
            return Ok((id, is_new));
        }
        self.warn_of_unused(&opened.file, context);
        let mut lent = Lent::default();
        let answer = self.solve_in_engine(&opened, &mut lent, context).await;
        let taken_back = self.take_back(lent, context).await;
        let answer = answer?;
        taken_back?;
        let id = ["containerimage.digest", "containerimage.config.digest"].iter().find_map(|name| answer.get(*name));
        let unnamed = || {
            let action = format!("build {}", opened.file.name);
            EngineError::Refused { action, message: "BuildKit named no image".to_owned(), status: None }
        };
        let id = id.ok_or_else(unnamed)?.clone();
        let is_new = !before.contains(&id);
        Ok((id, is_new))
    }

    /// Whether the engine has a BuildKit: another one, or podman in its place, refuses the connection.
    async fn has_buildkit(&self) -> Result<bool, Failure> {
        match self.settings.engine.upgrade("/grpc", &[]).await {
            Ok(_) => Ok(true),
            Err(EngineError::Refused { status: Some(_), .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn solve_in_engine(
        &self,
        opened: &Opened,
        lent: &mut Lent,
        context: &BuildContext,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let named = self.name(opened, lent, context).await?;
        let mut session = self.session(opened, &named.text(self, &opened.file), context).await?;
        let mut request = self.request(opened, context);
        named.apply(&mut session, &mut request);
        request.exporter = Some("moby".to_owned());
        let transport = Transport::Engine(Arc::clone(&self.settings.engine));
        self.solve(&transport, session, request, (&opened.file, &named), context).await
    }

    /// The source of the machine that steps run on.
    async fn machine(&self, context: &BuildContext) -> Result<&Arc<dyn Builder>, Failure> {
        let _one = self.building.lock().await;
        if let Some(built) = self.built.get() {
            return Ok(built);
        }
        // From here on the image is BuildKit's cache, as the base image that a `build` of a docker source makes.
        let (id, _) = self.build(context).await?;
        self.made.note(self.settings.engine.address(), &id, false, context)?;
        Ok(self.built.get_or_init(|| self.machine.on(&id)))
    }

    fn kept(&self) -> Result<&dyn Snapshots, Failure> {
        let built = self.built.get().and_then(|built| built.snapshots());
        built.ok_or_else(|| Failure::build("the Dockerfile is not built yet"))
    }
}

#[async_trait]
impl Builder for DockerfileBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        if let Some(password) = &self.config.login_password {
            context.redactor.add(password.expose());
        }
        if let Some(daemon) = &self.daemon {
            return Ok(Launched::Artifact(self.build_by_daemon(daemon, context).await?));
        }
        if self.has_steps {
            return self.machine(context).await?.launch(context).await;
        }
        let (id, is_new) = self.build(context).await?;
        self.made.note(self.settings.engine.address(), &id, is_new, context)?;
        Ok(Launched::Artifact(made::artifact(&self.made, &self.settings.engine, id)))
    }

    async fn runs_here(&self) -> Option<Platform> {
        self.settings.emulated(self.config.platform.as_deref().filter(|_| self.daemon.is_none()))
    }

    fn tester(&self) -> Option<&dyn Tester> {
        // What a daemon built lies in kiln's store, where nothing starts it.
        self.daemon.is_none().then_some(self)
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        (self.has_steps && self.settings.store.is_some()).then_some(self)
    }
}

#[async_trait]
impl Snapshots for DockerfileBuilder {
    async fn base(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        if context.options.looks_only {
            // Only who builds it knows what the cache there has, and tells by building.
            let shown = Some("not built yet: what builds it decides what is repeated".to_owned());
            return Ok(vec![Input { name: "image".to_owned(), digest: "unknown".to_owned(), shown }]);
        }
        match self.machine(context).await?.snapshots() {
            Some(snapshots) => snapshots.base(context).await,
            None => Ok(Vec::new()),
        }
    }

    async fn find(&self, key: &Key) -> Result<Option<StateInfo>, Failure> {
        match self.kept() {
            Ok(kept) => kept.find(key).await,
            Err(_) => Ok(None),
        }
    }

    async fn restore(&self, key: &Key, context: &BuildContext) -> Result<Launched, Failure> {
        self.kept()?.restore(key, context).await
    }

    async fn sealed(&self, key: &Key, context: &BuildContext) -> Result<Option<Sealed>, Failure> {
        self.kept()?.sealed(key, context).await
    }

    async fn sealed_before(&self, key: &Key) -> Result<Option<Artifact>, Failure> {
        match self.kept() {
            Ok(kept) => kept.sealed_before(key).await,
            Err(_) => Ok(None),
        }
    }

    async fn is_sealed(&self, key: &Key) -> Result<bool, Failure> {
        match self.kept() {
            Ok(kept) => kept.is_sealed(key).await,
            Err(_) => Ok(false),
        }
    }
}
