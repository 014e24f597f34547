//! From the arguments to a machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_cache::StateEntry;
use kiln_core::{Artifact, BuildContext, Builder, Failure, FailureClass, Input, Launched, Platform, Snapshots, Tester};
use kiln_docker::run_command::{self, HostScope, RunCommand};
use kiln_gotemplate::{Data, Rendered, Scope, render};
use kiln_image::Digest;
use kiln_registry::{Client, ClientOptions, Credentials, Mirror, Note, Reference, normalize_registry};
use kiln_sandbox::{RootFs, SandboxSpec};
use kiln_services::Service;
use tokio::sync::{Mutex, OnceCell};

use crate::OciSettings;
use crate::base::{Base, Bases, Resolved};
use crate::communicator::{Habits, OciCommunicator};
use crate::config::SecretScan;
use crate::digest::{Parts, hidden_input, input};
use crate::error::{self, OciError};
use crate::guest::Guest;
use crate::machine::{Making, OciMachine};
use crate::outputs::Bringing;
use crate::place::{Place, Places};
use crate::prepare::Recipe;
use crate::runtime::Runtime;
use crate::services::{self, Group};
use crate::undo::WorkspaceUndo;

/// Where secrets of a step are, on a file system of their own.
pub(crate) const SECRETS: &str = "/run/kiln/secrets";

/// A configured source.
pub(crate) struct OciBuilder {
    pub(crate) settings: OciSettings,
    pub(crate) places: Arc<Places>,
    pub(crate) recipe: Arc<Recipe>,
    client: OnceCell<Client>,
    /// What `from` means, found out once a run.
    resolved: Mutex<Option<Resolved>>,
    /// Names that its machines find in their list of hosts: address and name.
    hosts: Vec<(String, String)>,
    /// What runs beside its machines.
    pub(crate) services: Vec<Service>,
    /// Builders of the services' machines, in the same order.
    pub(crate) beside: Vec<Arc<OciBuilder>>,
}

#[async_trait]
impl Builder for OciBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        let machine = self.start_with_services(Vec::new(), context).await?;
        Ok(Launched::Machine(Box::new(machine)))
    }

    fn names(&self) -> Vec<String> {
        let tags = self.recipe.config.tags.iter().filter_map(|name| Reference::parse(name).ok());
        tags.chain(self.recipe.push.iter().cloned()).map(|name| name.pushed_name()).collect()
    }

    fn pushed_names(&self) -> Vec<String> {
        self.recipe.push.iter().map(Reference::pushed_name).collect()
    }

    fn pushes(&self) -> bool {
        self.recipe.is_pushed
    }

    async fn hand_out(&self, artifact: Artifact, context: &BuildContext) -> Result<Artifact, Failure> {
        let Some(image) = artifact.image() else { return Ok(artifact) };
        let manifest = Digest::parse(image.digest.as_deref().unwrap_or_default()).map_err(error::image)?;
        let config = Digest::parse(&image.id).map_err(error::image)?;
        let place = self.place().await?;
        let client = self.client(context);
        let bringing = Bringing {
            recipe: &self.recipe,
            place: &place,
            settings: &self.settings,
            client: &client,
            mount_from: self.resolve(&place, context).await?.repository,
            context,
        };
        bringing.bring(&manifest, &config).await
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }

    fn tester(&self) -> Option<&dyn Tester> {
        self.recipe.makes_image().then_some(self)
    }

    async fn runs_here(&self) -> Option<Platform> {
        Some(self.recipe.platform.clone())
    }
}

impl OciBuilder {
    pub(crate) fn new(settings: OciSettings, places: Arc<Places>, recipe: Recipe) -> OciBuilder {
        OciBuilder {
            settings,
            places,
            recipe: Arc::new(recipe),
            client: OnceCell::new(),
            resolved: Mutex::default(),
            hosts: Vec::new(),
            services: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// The same with names in the list of hosts.
    pub(crate) fn reaching(self, hosts: Vec<(String, String)>) -> OciBuilder {
        OciBuilder { hosts, ..self }
    }

    /// The same with services beside its machines.
    pub(crate) fn with_services(self, services: Vec<Service>) -> OciBuilder {
        let hosts = services::hosts(&services);
        let builder = |service| services::builder_of(service, &self, Platform::host(), None, hosts.clone());
        let beside = services.iter().map(|service| Arc::new(builder(service))).collect();
        OciBuilder { services, beside, hosts, ..self }
    }

    pub(crate) async fn place(&self) -> Result<Arc<Place>, Failure> {
        self.places.get(self.recipe.config.isolation).await
    }

    /// A machine with its services, none of which is started.
    pub(crate) async fn start_with_services(
        &self,
        states: Vec<StateEntry>,
        context: &BuildContext,
    ) -> Result<OciMachine, Failure> {
        let machine = self.start(states, "", context).await?;
        if self.services.is_empty() {
            return Ok(machine);
        }
        Ok(machine.beside(Group::new(self.services.clone(), self.beside.clone(), ""), Arc::clone(&self.places)))
    }

    /// What steps see of services: what those do may depend on it.
    pub(crate) async fn service_inputs(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        let place = self.place().await?;
        let mut inputs = Vec::new();
        for (service, builder) in self.services.iter().zip(&self.beside) {
            let resolved = builder.resolve(&place, context).await.map_err(|failure| failure.within(service.span))?;
            let image: Vec<String> = resolved.inputs.into_iter().map(|input| input.digest).collect();
            // Values may be secrets, so nobody can try them out on the digest.
            let digest = place.store.keyed_digest(service.identity(&image.join(" ")).as_bytes());
            let (name, shown) = (format!("service {}", service.name), Some(service.image.clone()));
            inputs.push(Input { name, digest, shown });
        }
        Ok(inputs)
    }

    /// A machine on the base and these kept states, the newest first. `label` tells it from others of the build.
    pub(crate) async fn start(
        &self,
        states: Vec<StateEntry>,
        label: &str,
        context: &BuildContext,
    ) -> Result<OciMachine, Failure> {
        if let Some(password) = &self.recipe.config.login_password {
            context.redactor.add(password.expose());
        }
        let place = self.place().await?;
        if self.recipe.is_docker {
            context.events.message("no engine is asked: kiln runs this `docker` source itself, as `oci`");
        }
        place.tell(context);
        let runtime = self.runtime(context)?;
        // Before anything is downloaded in vain.
        place.chosen.isolation.check(&runtime.mounts, runtime.network).map_err(error::sandbox)?;
        let resolved = self.resolve(&place, context).await?;
        let client = self.client(context);
        let bases = self.bases(&place, &client, context);
        let base = context.unless_cancelled(bases.load(&resolved)).await??;
        check_environment(&base)?;
        if states.iter().any(|state| state.base != base.chain) {
            let text = "a kept state belongs to another base than the one that `from` means now";
            return Err(Failure::build(OciError::Base(text.to_owned())).hint("run again with --no-cache"));
        }
        let directory = place.store.work_directory(&workspace_name(label, context));
        let undo = WorkspaceUndo::new(&place, &directory);
        let entry = context.journal.record(&context.build, undo.entry())?;
        let made = self.machine(place, base, resolved, runtime, states, directory, context).await;
        match made {
            Ok(machine) => Ok(machine.recorded(entry, client)),
            Err(failure) => {
                // Nothing stays of what was begun; the journal keeps the entry if even that fails.
                let helper = self.settings.helper.clone();
                if error::blocking(move || undo.remove(&helper)).await.is_ok() {
                    context.journal.strike(entry)?;
                }
                Err(failure)
            }
        }
    }

    #[allow(clippy::too_many_arguments)] // Each is one part of the machine.
    async fn machine(
        &self,
        place: Arc<Place>,
        base: Base,
        resolved: Resolved,
        runtime: Runtime,
        states: Vec<StateEntry>,
        directory: PathBuf,
        context: &BuildContext,
    ) -> Result<Making, Failure> {
        let habits = self.habits(&base, &runtime);
        let spec = SandboxSpec { stubs: Some(directory.join("stubs")), ..self.spec(&place, &base, &runtime) };
        let (its_place, its_base, its_states) = (Arc::clone(&place), base.clone(), states.clone());
        let guest = error::blocking(move || Guest::create(its_place, spec, directory, &its_base, &its_states)).await?;
        let guest = Arc::new(guest);
        if states.is_empty() {
            // What does not work here is told now, and not by the first step.
            let started = async {
                let session = guest.session().await.inspect_err(|_| self.places.distrust());
                session.map(drop).map_err(error::sandbox)
            };
            context.unless_cancelled(started).await??;
        }
        let communicator = OciCommunicator::new(Arc::clone(&guest), habits.clone(), context.events.clone());
        Ok(Making {
            settings: self.settings.clone(),
            recipe: Arc::clone(&self.recipe),
            id: machine_id(context, &resolved),
            user: habits.user.unwrap_or_default(),
            place,
            base,
            resolved,
            runtime,
            guest,
            communicator,
            states,
        })
    }

    pub(crate) fn bases<'a>(
        &'a self,
        place: &'a Arc<Place>,
        client: &'a Client,
        context: &'a BuildContext,
    ) -> Bases<'a> {
        Bases { recipe: &self.recipe, settings: &self.settings, place, client, context }
    }

    /// What `from` means; asked once a run, so that all of it sees the same.
    pub(crate) async fn resolve(&self, place: &Arc<Place>, context: &BuildContext) -> Result<Resolved, Failure> {
        let mut resolved = self.resolved.lock().await;
        if let Some(resolved) = &*resolved {
            return Ok(resolved.clone());
        }
        let client = self.client(context);
        let found = context.unless_cancelled(self.bases(place, &client, context).resolve()).await??;
        Ok(resolved.insert(found).clone())
    }

    /// The registry client: one a build, so that its tokens serve pulls and pushes.
    pub(crate) fn client(&self, context: &BuildContext) -> Client {
        if let Some(client) = self.client.get() {
            return client.clone();
        }
        let config = &self.recipe.config;
        let events = context.events.clone();
        let mut explicit = Vec::new();
        if config.login && !config.ecr.ecr_login {
            let server = normalize_registry(config.login_server.as_deref().unwrap_or_default());
            let credentials = Credentials {
                username: config.login_username.clone().unwrap_or_default(),
                password: config.login_password.clone().unwrap_or_default(),
                identity_token: None,
            };
            explicit.push((server, credentials));
        }
        let mirrors = config.registry_mirrors.iter().map(|(registry, location)| Mirror {
            registry: registry.clone(),
            location: location.clone(),
            fallback: false,
        });
        let options = ClientOptions {
            credentials: self.settings.credentials.clone(),
            explicit,
            ca_files: config.registry_ca_files.clone(),
            insecure: config.insecure_registries.clone(),
            mirrors: mirrors.collect(),
            notes: Arc::new(move |note| match note {
                Note::Retry { .. } | Note::MirrorPassed { .. } => events.warn(note.to_string()),
                other => events.message(other.to_string()),
            }),
            ..ClientOptions::default()
        };
        let client = Client::new(options);
        // Another one that came first serves as well.
        let _ = self.client.set(client.clone());
        client
    }

    /// The sandbox's settings, with `run_command` rendered.
    pub(crate) fn runtime(&self, context: &BuildContext) -> Result<Runtime, Failure> {
        let run = self.run_command(context)?;
        let template = |message: String| Failure::new(FailureClass::Template, OciError::Base(message));
        let runtime = Runtime::new(&self.recipe.config, run, self.settings.home.as_deref());
        let mut runtime = runtime.map_err(|error| template(error.message))?;
        runtime.extra_hosts.extend(self.hosts.iter().cloned());
        Ok(runtime)
    }

    fn run_command(&self, context: &BuildContext) -> Result<Option<RunCommand>, Failure> {
        if self.recipe.config.run_command.is_empty() {
            return Ok(None);
        }
        let template = |message: String| Failure::new(FailureClass::Template, OciError::Base(message));
        let scope = Scope {
            text: &context.text_scope,
            build_name: Some(&context.build_name),
            build_type: Some(&context.builder_kind),
            build: None,
            allow_env: false,
        };
        let data = BTreeMap::from([("Image".to_owned(), Data::Text("image".to_owned()))]);
        let mut words = Vec::new();
        for (index, word) in self.recipe.config.run_command.iter().enumerate() {
            match render(word, &scope, &data).map_err(Failure::build)? {
                Rendered::Text(word) => words.push(word),
                Rendered::Unknown => {
                    let text = format!("`run_command[{index}]` depends on the machine that it is to make");
                    return Err(template(text));
                }
            }
        }
        let host =
            HostScope { environment: &self.settings.credentials.environment, home: self.settings.home.as_deref() };
        run_command::parse(&words, host).map(Some).map_err(|error| template(error.message))
    }

    fn habits(&self, base: &Base, runtime: &Runtime) -> Habits {
        let config = &self.recipe.config;
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let run = base.image.as_ref().map(|image| &image.config.config);
        let image_user = run.map(|run| run.user.clone()).unwrap_or_default();
        let image_directory = run.map(|run| run.working_dir.clone()).filter(|directory| !directory.is_empty());
        Habits {
            user: filled(&config.exec_user)
                .or_else(|| filled(&runtime.user))
                .or_else(|| Some(image_user.clone()).filter(|user| !user.is_empty())),
            directory: filled(&runtime.directory).or(image_directory),
            environment: runtime.environment.clone(),
            image_user,
            pty: config.pty,
            fix_upload_owner: config.fix_upload_owner,
        }
    }

    fn spec(&self, place: &Place, base: &Base, runtime: &Runtime) -> SandboxSpec {
        let environment = base.image.iter().flat_map(|image| image.config.config.env.iter().flatten());
        let environment = environment.filter_map(|line| line.split_once('='));
        SandboxSpec {
            hostname: runtime.hostname.clone().unwrap_or_else(|| "kiln".to_owned()),
            network: runtime.network,
            mounts: runtime.mounts.clone(),
            tmpfs: runtime.tmpfs.clone(),
            devices: runtime.devices.clone(),
            capabilities_add: runtime.capabilities_add.clone(),
            capabilities_drop: runtime.capabilities_drop.clone(),
            privileged: runtime.is_privileged,
            seccomp: !runtime.is_privileged && !runtime.is_unfiltered,
            extra_hosts: runtime.extra_hosts.clone(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            secrets_directory: Some(SECRETS.to_owned()),
            // The guest sets its root itself.
            ..SandboxSpec::new(place.chosen.clone(), RootFs::Directory(PathBuf::new()))
        }
    }

    /// What the state before the first step depends on, beside the base: how steps run.
    pub(crate) fn inputs(&self, place: &Place, runtime: &Runtime) -> Vec<Input> {
        let config = &self.recipe.config;
        let flag = |flag: bool| if flag { "true" } else { "false" };
        let mut inputs = vec![
            input("isolation", place.chosen.isolation.name()),
            input("network", if runtime.network == kiln_sandbox::Network::None { "none" } else { "host" }),
            input("exec_user", config.exec_user.as_deref().unwrap_or_default()),
            input("pty", flag(config.pty)),
            input("fix_upload_owner", flag(config.fix_upload_owner)),
            input("privileged", flag(runtime.is_privileged)),
        ];
        let mounts = runtime.mounts.iter().map(|mount| {
            format!("{}:{}:{}", mount.source.display(), mount.target, if mount.read_only { "ro" } else { "rw" })
        });
        let tmpfs = runtime.tmpfs.iter().map(|tmpfs| format!("{}:{}", tmpfs.target, tmpfs.options));
        let devices = runtime.devices.iter().map(|device| format!("{}:{}", device.source.display(), device.target));
        let lists: [(&str, Vec<String>); 6] = [
            ("volumes", mounts.collect()),
            ("tmpfs", tmpfs.collect()),
            ("device", devices.collect()),
            ("cap_add", runtime.capabilities_add.clone()),
            ("cap_drop", runtime.capabilities_drop.clone()),
            ("extra hosts", runtime.extra_hosts.iter().map(|(address, name)| format!("{address} {name}")).collect()),
        ];
        inputs.extend(lists.into_iter().map(|(name, list)| Input {
            name: name.to_owned(),
            digest: Parts::new(name).list(&list).hex(),
            shown: Some(list.join(", ")),
        }));
        // Values may be secrets.
        let variables = runtime
            .environment
            .iter()
            .flat_map(|(name, value)| [name.clone(), place.store.keyed_digest(value.as_bytes())]);
        let labels = runtime.labels.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
        let others =
            [&runtime.user, &runtime.directory, &runtime.hostname].map(|text| text.clone().unwrap_or_default());
        let parts = Parts::new("run_command").list(variables).list(labels).list(others);
        inputs.push(hidden_input("run_command", parts.with(flag(runtime.is_unfiltered))));
        if config.secret_scan == SecretScan::Off {
            // Who looks for secrets takes no state that nobody has looked through.
            inputs.push(input("secret_scan", "off"));
        }
        inputs
    }
}

/// No process can be given a text with a NUL byte: every command would fail, none of them saying why.
fn check_environment(base: &Base) -> Result<(), Failure> {
    let mut lines = base.image.iter().flat_map(|image| image.config.config.env.iter().flatten());
    let Some(line) = lines.find(|line| line.contains('\0')) else { return Ok(()) };
    let name = line.split(['=', '\0']).next().unwrap_or_default();
    let text = format!("the base's configuration has a NUL byte in its environment variable `{name}`");
    Err(Failure::build(OciError::Base(text)).hint("no program can be given such a variable: have the base made anew"))
}

/// The same for the same build on the same base: what is made of it must not differ from run to run.
fn machine_id(context: &BuildContext, resolved: &Resolved) -> String {
    let digests = resolved.inputs.iter().map(|input| input.digest.as_str());
    Parts::new("machine").with(context.build.as_bytes()).list(digests).hex()
}

/// Unique for a run's build, and known before the directory exists.
fn workspace_name(label: &str, context: &BuildContext) -> String {
    let run: String = context.run.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let build = Parts::new("workspace")
        .with(context.build.as_bytes())
        .with(context.scratch.as_os_str().as_encoded_bytes())
        .with(label)
        .hex();
    format!("{run}-{}", &build[..12])
}
