//! From the arguments to a running container.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Builder, Decoded, Diagnostics, EntryId, Failure, Launched, OutputSink, Platform, Snapshots,
    Test, TestEnd, Tester,
};
use kiln_docker::engine::{ContainerSpec, Created};
use kiln_docker::models::{ContainerCreateBody, HostConfig};
use kiln_docker::naming::{container_name, run_labels};
use kiln_docker::run_command::{self, HostScope, RunCommand, values};
use kiln_docker::services::trial::Bench;
use kiln_docker::services::{Group, Network, Setting, Wiring};
use kiln_docker::{ContainerUndo, Engine, EngineError, ImageInfo, undo};
use kiln_gotemplate::{Data, Rendered, Scope, render};
use kiln_services::Service;
use kiln_services::trial::check_test;

use crate::DockerSettings;
use crate::base::Resolved;
use crate::changes::Changes;
use crate::communicator::DockerCommunicator;
use crate::config::Config;
use crate::machine::{self, DockerMachine, Entries, Started};
use crate::prepare::UNAVAILABLE;
use crate::snapshots::Marks;
use crate::states::{self, KeptImage, States};

/// A configured source.
pub(crate) struct DockerBuilder {
    pub(crate) settings: DockerSettings,
    pub(crate) config: Config,
    pub(crate) changes: Changes,
    pub(crate) states: Arc<States>,
    /// What runs beside its machines.
    pub(crate) services: Vec<Service>,
    /// Their images, once they are known.
    pub(crate) service_images: tokio::sync::Mutex<Option<Vec<ImageInfo>>>,
    /// The base image, once it is known.
    pub(crate) resolved: tokio::sync::Mutex<Option<Resolved>>,
    /// What labels will say, once a context has told.
    pub(crate) marks: OnceLock<Marks>,
}

/// What a machine starts from.
struct Start {
    base: ImageInfo,
    entry: Option<EntryId>,
    /// Instead of the base.
    state: Option<KeptImage>,
}

#[async_trait]
impl Builder for DockerBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        self.check(context)?;
        let base = self.resolve(context).await?.image;
        self.warn_of_platform(context, &base).await?;
        self.start_from(context, base, None).await
    }

    async fn runs_here(&self) -> Option<Platform> {
        self.settings.emulated(self.config.platform.as_deref())
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        self.settings.store.is_some().then_some(self)
    }

    fn tester(&self) -> Option<&dyn Tester> {
        self.config.commit.then_some(self)
    }
}

#[async_trait]
impl Tester for DockerBuilder {
    fn check(&self, test: &Test, decoded: &Decoded, diagnostics: &mut Diagnostics) {
        check_test(test, &self.services, decoded, diagnostics);
    }

    async fn run(
        &self,
        artifact: &Artifact,
        test: &Test,
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let images = match test.services.is_empty() {
            true => Vec::new(),
            false => self.service_images(context).await?,
        };
        let bench = Bench {
            engine: &self.settings.engine,
            image: artifact.image().map(|image| image.id.as_str()).unwrap_or_default(),
            services: &self.services,
            images: &images,
            home: self.settings.home.clone(),
        };
        bench.run(test, sink, context).await
    }
}

impl DockerBuilder {
    /// What shows only now, as it is no mistake of a template that is not run.
    pub(crate) fn check(&self, context: &BuildContext) -> Result<(), Failure> {
        if let Some(name) = self.config.communicator.as_deref().filter(|name| UNAVAILABLE.contains(name)) {
            let text = format!("kiln does not have the communicator `{name}` for docker sources yet");
            return Err(Failure::new(kiln_core::FailureClass::Template, text)
                .hint("leave `communicator` out: commands and files go through the engine"));
        }
        if let Some(password) = &self.config.login_password {
            context.redactor.add(password.expose());
        }
        Ok(())
    }

    /// Starts a container of the base image, or of a state that was made from it.
    pub(crate) async fn start_from(
        &self,
        context: &BuildContext,
        base: ImageInfo,
        state: Option<KeptImage>,
    ) -> Result<Launched, Failure> {
        let entry = self.resolved.lock().await.as_mut().and_then(|resolved| resolved.entry.take());
        let launched = self.launch_recorded(context, Start { base, entry, state }).await;
        if launched.is_err()
            && let Some(entry) = entry
        {
            context.journal.strike(entry)?;
        }
        launched
    }

    async fn launch_recorded(&self, context: &BuildContext, start: Start) -> Result<Launched, Failure> {
        let run = self.run_command(context, &start.base.id)?;
        let mut spec = self.container(context, &start, run)?;
        if self.services.is_empty() {
            return self.launch_in(context, start, spec, None).await;
        }
        self.service_images(context).await?;
        let asked = spec.config.host_config.as_ref().and_then(|host| host.network_mode.as_deref());
        let wiring = Wiring::of(asked, self.config.share_network);
        let network = Network::make(&self.settings.engine, wiring, "", context).await?;
        network.join_machine(&mut spec.config, &self.services);
        let launched = self.launch_in(context, start, spec, Some(network.clone())).await;
        if launched.is_err() {
            // Where even that fails, the journal keeps the entry.
            let _ = network.remove(self.engine(), context).await;
        }
        launched
    }

    async fn launch_in(
        &self,
        context: &BuildContext,
        start: Start,
        spec: ContainerSpec,
        network: Option<Network>,
    ) -> Result<Launched, Failure> {
        let mut container = ContainerUndo {
            engine: self.engine().address().to_owned(),
            name: spec.name.clone(),
            run: self.config.kiln_labels.then(|| context.run.to_string()),
            build: self.config.kiln_labels.then(|| context.build.to_string()),
            at: undo::seconds_since_epoch(),
            id: None,
        };
        self.refuse_taken_name(&spec.name).await?;
        let entry = context.journal.record(&context.build, container.entry())?;
        context.events.message(format!("starting container {}", spec.name));
        // Not stopped halfway: the engine would go on and make a container that nobody knows of.
        let created = self.engine().create_container(&spec).await;
        if let Err(error @ EngineError::Refused { status: Some(409), .. }) = created {
            // Nothing was made; the one that took the name in the meantime is somebody else's.
            context.journal.strike(entry)?;
            return Err(error.into());
        }
        let started = async {
            let created = created?;
            container.id = Some(created.id.clone());
            context.journal.amend(entry, container.entry())?;
            if let Some(network) = &network {
                network.connect_machine(self.engine(), &created.id).await?;
            }
            context.unless_cancelled(self.start(context, &spec, created)).await.flatten()
        }
        .await;
        match started {
            Ok(started) => {
                self.warn_of_volumes(context, &start.base, &started);
                let entries = Entries { container: entry, base: start.entry };
                let services = match network {
                    Some(network) => Some(self.group(context, network, &started.id).await?),
                    None => None,
                };
                Ok(Launched::Machine(Box::new(self.machine(context, start, spec, started, entries, services))))
            }
            Err(failure) => {
                // Nothing stays of what was begun; the journal keeps the entry if even that fails.
                if machine::bounded(&spec.name, undo::remove_container(self.engine(), &container)).await.is_ok() {
                    context.journal.strike(entry)?;
                }
                Err(failure)
            }
        }
    }

    /// The services of a machine; none is started.
    async fn group(&self, context: &BuildContext, network: Network, machine: &str) -> Result<Group, Failure> {
        let setting = Setting {
            engine: Arc::clone(&self.settings.engine),
            home: self.settings.home.clone(),
            network,
            machine: Some(machine.to_owned()),
            suffix: String::new(),
        };
        Ok(Group::new(setting, self.services.clone(), self.service_images(context).await?))
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.settings.engine
    }

    /// A container that exists is not ours, and must not end in this build's journal.
    async fn refuse_taken_name(&self, name: &str) -> Result<(), Failure> {
        match self.engine().inspect_container(name).await? {
            None => Ok(()),
            Some(found) => {
                let text = format!("a container named {name} exists already ({:.12})", found.id);
                Err(Failure::build(text).hint("remove it, or leave `--name` out of `run_command`"))
            }
        }
    }

    pub(crate) fn run_command(&self, context: &BuildContext, image: &str) -> Result<RunCommand, Failure> {
        if self.config.run_command.is_empty() {
            return Ok(run_command::keep_alive(image));
        }
        let scope = Scope {
            text: &context.text_scope,
            build_name: Some(&context.build_name),
            build_type: Some(&context.builder_kind),
            build: None,
            allow_env: false,
        };
        let data = BTreeMap::from([("Image".to_owned(), Data::Text(image.to_owned()))]);
        let mut words = Vec::new();
        for (index, word) in self.config.run_command.iter().enumerate() {
            match render(word, &scope, &data).map_err(Failure::build)? {
                Rendered::Text(word) => words.push(word),
                Rendered::Unknown => {
                    let text = format!("`run_command[{index}]` depends on the container that it is to start");
                    return Err(Failure::new(kiln_core::FailureClass::Template, text));
                }
            }
        }
        let host =
            HostScope { environment: &self.settings.credentials.environment, home: self.settings.home.as_deref() };
        run_command::parse(&words, host).map_err(|error| Failure::new(kiln_core::FailureClass::Template, error.message))
    }

    fn container(&self, context: &BuildContext, start: &Start, run: RunCommand) -> Result<ContainerSpec, Failure> {
        let base = &start.base;
        let mut config = run.config;
        config.image = Some(start.state.as_ref().map_or(run.image, |state| state.id.clone()));
        config.entrypoint = first_process(run.entrypoint, run.command, base);
        if self.config.kiln_labels {
            config.labels.get_or_insert_default().extend(run_labels(context));
        }
        if start.state.is_some() {
            config.labels.get_or_insert_default().extend(states::disowned());
        }
        let mut host = config.host_config.take().unwrap_or_default();
        self.host_options(&mut host).map_err(|text| Failure::new(kiln_core::FailureClass::Template, text))?;
        config.host_config = Some(host);
        drop_idle_user(&mut config, base);
        Ok(ContainerSpec {
            name: run.name.unwrap_or_else(|| container_name(context)),
            platform: run.platform.or_else(|| self.config.platform.clone()),
            config,
        })
    }

    /// The source's own arguments stand before `run_command` in a `docker run`, so the latter's single values win.
    pub(crate) fn host_options(&self, host: &mut HostConfig) -> Result<(), String> {
        let config = &self.config;
        for (source, target) in &config.volumes {
            run_command::volume(host, &format!("{source}:{target}"), self.settings.home.as_deref())?;
        }
        for path in &config.tmpfs {
            let (path, options) = values::tmpfs(path)?;
            host.tmpfs.get_or_insert_default().entry(path).or_insert(options);
        }
        for device in &config.device {
            host.devices.get_or_insert_default().push(values::device(device)?);
        }
        host.cap_add.get_or_insert_default().extend(config.cap_add.iter().cloned());
        host.cap_drop.get_or_insert_default().extend(config.cap_drop.iter().cloned());
        host.privileged = host.privileged.or(config.privileged.then_some(true));
        host.runtime = host.runtime.take().or_else(|| config.runtime.clone());
        host.network_mode = host.network_mode.take().or_else(|| config.network.clone());
        Ok(())
    }

    async fn start(&self, context: &BuildContext, spec: &ContainerSpec, created: Created) -> Result<Started, Failure> {
        for warning in &created.warnings {
            context.events.warn(warning.clone());
        }
        self.engine().start_container(&created.id).await.map_err(|error| explain_start(error, spec))?;
        let info = self.engine().inspect_container(&created.id).await?.unwrap_or_default();
        if !info.is_running {
            let code = info.exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default();
            let text = format!("the container {} ended at once{code}, and there is nothing to provision", spec.name);
            return Err(Failure::build(text)
                .hint("its first process must keep running; kiln's own `run_command` starts /bin/sh, which the image may lack"));
        }
        if let Some(directory) = &self.config.container_dir {
            self.make_directory(&created.id, directory).await?;
        }
        Ok(Started { id: created.id, address: info.address.unwrap_or_default(), mounts: info.mounts })
    }

    async fn make_directory(&self, container: &str, directory: &str) -> Result<(), Failure> {
        let name = Path::new(directory).strip_prefix("/").unwrap_or(Path::new(directory)).to_path_buf();
        let packing = kiln_transport::tar::pack(false, move |writer| writer.directory(&name, 0o755));
        self.engine().put_archive(container, "/", packing.stream).await?;
        Ok(())
    }

    /// An image of another platform than the engine's, which nobody asked for: slow, if it runs at all, and what comes
    /// of it runs on no machine like this one.
    async fn warn_of_platform(&self, context: &BuildContext, base: &ImageInfo) -> Result<(), Failure> {
        if self.config.platform.is_some() || base.architecture.is_empty() {
            return Ok(());
        }
        let engine = context.unless_cancelled(self.engine().version()).await??;
        if (&engine.os, &engine.architecture) != (&base.os, &base.architecture) && !engine.architecture.is_empty() {
            let image = self.config.image.as_deref().unwrap_or(&base.id);
            let (own, other) =
                (format!("{}/{}", engine.os, engine.architecture), format!("{}/{}", base.os, base.architecture));
            context.events.warn(format!(
                "{image} is for {other}, and the engine runs {own}: `platform = \"{own}\"` asks for the one that fits, \
                 `platform = \"{other}\"` says that this one is meant"
            ));
        }
        Ok(())
    }

    fn warn_of_volumes(&self, context: &BuildContext, base: &ImageInfo, started: &Started) {
        // Docker makes an anonymous volume for each; one that the template mounts is meant.
        let is_anonymous = |path: &&String| {
            started.mounts.iter().all(|(mounted, kind)| mounted != *path || kind == "volume")
                && !self.config.volumes.values().any(|target| target.split(':').next() == Some(path.as_str()))
        };
        let lost: Vec<&str> = base.volumes.iter().filter(is_anonymous).map(String::as_str).collect();
        if lost.is_empty() || self.config.discard {
            return;
        }
        let how = if self.config.commit { "commit" } else { "export" };
        context.events.warn(format!(
            "the base image declares VOLUME {}: what is put below it is in no {how}; keep such data elsewhere (many images \
             have a variable for it, such as PGDATA), or use a base image without the declaration (`docker export` and \
             `docker import` make one)",
            lost.join(", ")
        ));
    }

    fn machine(
        &self,
        context: &BuildContext,
        start: Start,
        spec: ContainerSpec,
        started: Started,
        entries: Entries,
        services: Option<Group>,
    ) -> DockerMachine {
        let Start { base, state, .. } = start;
        let communicator = DockerCommunicator::new(
            Arc::clone(&self.settings.engine),
            started.id.clone(),
            base.user.clone(),
            context.events.clone(),
        )
        .exec_user(self.config.exec_user.clone().filter(|user| !user.is_empty()))
        .pty(self.config.pty)
        .fix_upload_owner(self.config.fix_upload_owner)
        .in_memory(started.mounts.iter().filter(|(_, kind)| kind == "tmpfs").map(|(path, _)| path.clone()).collect());
        DockerMachine::new(
            Arc::clone(&self.settings.engine),
            machine::Plan {
                config: self.config.clone(),
                changes: self.changes.clone(),
                base,
                state,
                states: Arc::clone(&self.states),
                states_size: self.settings.states_size,
                spec,
                started,
                entries,
                services,
            },
            communicator,
        )
    }
}

/// Names the program where the runtime says, in many words, that the image lacks it.
fn explain_start(error: EngineError, spec: &ContainerSpec) -> Failure {
    let text = error.to_string();
    let is_missing = text.contains("executable file not found") || text.contains("no such file or directory");
    let program = spec.config.entrypoint.as_ref().and_then(|words| words.first());
    match program.filter(|program| is_missing && text.contains(&format!("\"{program}\""))) {
        Some(program) => Failure::from(error).hint(format!(
            "the image has no {program}, which keeps the container running; `run_command` can name another program"
        )),
        None => Failure::from(error),
    }
}

/// The container's whole first process as its entrypoint. Its command stays unset: the engine would copy a command into
/// the committed image where the base image has none.
fn first_process(entrypoint: Option<String>, command: Vec<String>, base: &ImageInfo) -> Option<Vec<String>> {
    let mut words = match entrypoint {
        Some(program) if !program.is_empty() => vec![program],
        // `--entrypoint ""` takes the image's away.
        Some(_) => Vec::new(),
        None if command.is_empty() => return None,
        None => base.entrypoint.clone().unwrap_or_default(),
    };
    words.extend(command);
    Some(words)
}

/// A user that is root anyway is not named, or the committed image would name it.
fn drop_idle_user(config: &mut ContainerCreateBody, base: &ImageInfo) {
    let is_root = |user: &str| matches!(user, "root" | "0" | "0:0" | "root:root");
    if base.user.is_empty() && config.user.as_deref().is_some_and(is_root) {
        config.user = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_is_one_list() {
        let base = ImageInfo { entrypoint: Some(vec!["/entry".into()]), ..ImageInfo::default() };
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(first_process(Some("/bin/sh".into()), words(&["-x"]), &base), Some(words(&["/bin/sh", "-x"])));
        assert_eq!(first_process(None, words(&["run"]), &base), Some(words(&["/entry", "run"])));
        assert_eq!(first_process(Some(String::new()), words(&["run"]), &base), Some(words(&["run"])));
        assert_eq!(first_process(None, Vec::new(), &base), None);
    }

    #[test]
    fn an_image_without_the_shell_is_told() {
        let mut spec = ContainerSpec::default();
        spec.config.entrypoint = Some(vec!["/bin/sh".into()]);
        let refused =
            |message: &str| EngineError::Refused { action: "start".into(), message: message.into(), status: None };
        let missing = r#"unable to start container process: exec: "/bin/sh": stat /bin/sh: no such file or directory"#;
        assert!(explain_start(refused(missing), &spec).hints[0].contains("the image has no /bin/sh"));
        assert!(explain_start(refused("cgroup: no such file or directory"), &spec).hints.is_empty());
    }

    #[test]
    fn names_of_containers_tell_builds_apart() {
        let name = |build: &str| container_name(&kiln_testkit::context().build_called(build, build, "docker").build());
        assert!(name("docker.worker").ends_with("-docker.worker"), "{}", name("docker.worker"));
        assert_ne!(name("a/b"), name("a b"));
    }
}
