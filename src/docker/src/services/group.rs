//! The services of a machine: started together, removed together.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use kiln_core::communicator::CaptureSink;
use kiln_core::{BuildContext, Command, EntryId, Failure};
use kiln_services::{Health, HealthCheck, Service, ServiceHost, Status, keep_log, start_all};

use super::{Network, check};
use crate::engine::{ContainerSpec, Engine, ImageInfo};
use crate::error::EngineError;
use crate::models::HealthConfig;
use crate::naming::{container_name, run_labels};
use crate::undo::{self, ContainerUndo};

/// Lines of a service's log that are kept.
const LOG_LINES: usize = 10_000;

/// Bound on removing one container.
const REMOVAL: Duration = Duration::from_secs(60);

/// The label of a service's container: its name.
const LABEL: &str = "kiln.service";

/// What services run in.
#[derive(Clone)]
pub struct Setting {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// What `~/` in volumes means.
    pub home: Option<PathBuf>,
    /// The network that they take part in.
    pub network: Network,
    /// The machine's container, where there is one.
    pub machine: Option<String>,
    /// Tells their containers from others of the build.
    pub suffix: String,
}

/// A container that was made, or is about to be.
#[derive(Debug, Clone)]
struct Running {
    undo: ContainerUndo,
    entry: EntryId,
    is_started: bool,
}

/// The services of a machine.
pub struct Group {
    setting: Setting,
    services: Vec<Service>,
    images: Vec<ImageInfo>,
    running: Mutex<Vec<Option<Running>>>,
    /// Services of another group that these reach as well.
    others: Vec<Service>,
}

impl Group {
    /// Services with their images, in the same order. Nothing is started.
    pub fn new(setting: Setting, services: Vec<Service>, images: Vec<ImageInfo>) -> Group {
        let running = Mutex::new(vec![None; services.len()]);
        Group { setting, services, images, running, others: Vec::new() }
    }

    /// The same with others in the same network.
    pub(super) fn beside(self, others: &[Service]) -> Group {
        Group { others: others.to_vec(), ..self }
    }

    /// Starts all of them and waits until they are ready; those of an earlier try are removed first.
    pub async fn start(&self, context: &BuildContext) -> Result<(), Failure> {
        self.remove_containers(context).await?;
        start_all(self, &self.services, context).await
    }

    /// Keeps what those that run have written to their logs.
    pub async fn keep_logs(&self, context: &BuildContext) {
        let started = |(index, running): (usize, Option<Running>)| running.filter(|one| one.is_started).map(|_| index);
        for index in self.all().into_iter().enumerate().filter_map(started) {
            // What cannot be read was told, or is gone.
            if let Ok(log) = self.log(index).await {
                keep_log(&self.services[index].name, log, false, context).await;
            }
        }
    }

    /// Removes the services and their network. Safe to repeat.
    pub async fn remove(&self, context: &BuildContext) -> Result<(), Failure> {
        self.remove_containers(context).await?;
        self.setting.network.remove(self.engine(), context).await
    }

    /// Removes the services; their network stays. Safe to repeat.
    pub async fn remove_containers(&self, context: &BuildContext) -> Result<(), Failure> {
        let running = self.all().into_iter().enumerate().filter_map(|(index, running)| Some((index, running?)));
        let removals = running.map(|(index, running)| self.remove_container(index, running, context));
        join_all(removals).await.into_iter().collect()
    }

    async fn remove_container(&self, index: usize, running: Running, context: &BuildContext) -> Result<(), Failure> {
        let removal = undo::remove_container(self.engine(), &running.undo);
        let Ok(removed) = tokio::time::timeout(REMOVAL, removal).await else {
            let (name, seconds) = (&running.undo.name, REMOVAL.as_secs());
            let text = format!("the engine did not remove container {name} within {seconds} seconds");
            return Err(Failure::environment(text).hint("`kiln cleanup` tries again"));
        };
        removed?;
        context.journal.strike(running.entry)?;
        self.note(index, None);
        Ok(())
    }

    fn engine(&self) -> &dyn Engine {
        &*self.setting.engine
    }

    fn all(&self) -> Vec<Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, index: usize, running: Option<Running>) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)[index] = running;
    }

    pub(super) fn id(&self, index: usize) -> Result<String, Failure> {
        let id = self.all()[index].as_ref().and_then(|running| running.undo.id.clone());
        id.ok_or_else(|| Failure::build(format!("service `{}` was not started", self.services[index].name)))
    }

    fn spec(&self, index: usize, context: &BuildContext) -> Result<ContainerSpec, Failure> {
        let (service, setting) = (&self.services[index], &self.setting);
        let config = check::container(service, &self.images[index], setting.home.as_deref());
        let mut config = config.map_err(|text| Failure::new(kiln_core::FailureClass::Template, text))?;
        let labels = config.labels.get_or_insert_default();
        labels.extend(run_labels(context));
        labels.insert(LABEL.to_owned(), service.name.clone());
        let all: Vec<Service> = self.services.iter().chain(&self.others).cloned().collect();
        setting.network.join_service(&mut config, service, &all, setting.machine.as_deref());
        let name = format!("{}{}-{}", container_name(context), setting.suffix, service.name);
        Ok(ContainerSpec { name, platform: None, config })
    }

    async fn tell_ports(&self, index: usize, context: &BuildContext) -> Result<(), Failure> {
        let service = &self.services[index];
        if service.ports.is_empty() {
            return Ok(());
        }
        let info = self.engine().inspect_container(&self.id(index)?).await?.unwrap_or_default();
        for (inner, outer) in info.ports {
            context.events.message(format!("port {inner} of service {} is at {outer}", service.name));
        }
        Ok(())
    }
}

#[async_trait]
impl ServiceHost for Group {
    async fn start(&self, index: usize, context: &BuildContext) -> Result<(), Failure> {
        let spec = self.spec(index, context)?;
        let mut undo = ContainerUndo {
            engine: self.engine().address().to_owned(),
            name: spec.name.clone(),
            run: Some(context.run.to_string()),
            build: Some(context.build.to_string()),
            at: undo::seconds_since_epoch(),
            id: None,
        };
        let entry = context.journal.record(&context.build, undo.entry())?;
        self.note(index, Some(Running { undo: undo.clone(), entry, is_started: false }));
        let created = self.engine().create_container(&spec).await?;
        for warning in created.warnings {
            context.events.warn(format!("service {}: {warning}", self.services[index].name));
        }
        undo.id = Some(created.id.clone());
        context.journal.amend(entry, undo.entry())?;
        self.note(index, Some(Running { undo: undo.clone(), entry, is_started: false }));
        self.engine().start_container(&created.id).await.map_err(|error| not_started(error, &self.services[index]))?;
        self.note(index, Some(Running { undo, entry, is_started: true }));
        self.tell_ports(index, context).await
    }

    async fn status(&self, index: usize) -> Result<Status, Failure> {
        let found = self.engine().inspect_container(&self.id(index)?).await?;
        Ok(match found {
            Some(info) if info.is_running => Status::Running,
            // Somebody removed it.
            None => Status::Ended(137),
            Some(info) => Status::Ended(info.exit_code.unwrap_or(0)),
        })
    }

    async fn run(&self, index: usize, command: &[String]) -> Result<(i64, Vec<u8>), Failure> {
        let mut sink = CaptureSink::default();
        let command = Command::new(command.iter().cloned());
        let status = self.engine().exec(&self.id(index)?, &command, None, &mut sink).await?;
        let mut output = sink.stdout;
        output.extend(sink.stderr);
        Ok((status, output))
    }

    fn image_health(&self, index: usize) -> Option<HealthCheck> {
        image_health(self.images[index].config.healthcheck.as_ref()?)
    }

    async fn log(&self, index: usize) -> Result<Vec<u8>, Failure> {
        Ok(self.engine().log(&self.id(index)?, LOG_LINES).await?)
    }
}

fn not_started(error: EngineError, service: &Service) -> Failure {
    let is_taken = error.to_string().contains("port is already allocated") || error.to_string().contains("in use");
    let failure = Failure::from(error);
    if is_taken && !service.ports.is_empty() {
        return failure.hint("a port of this host in `ports` is taken; `\"5432\"` alone takes any that is free");
    }
    failure
}

/// An image's `HEALTHCHECK`; what it does not say is as Docker has it.
pub fn image_health(config: &HealthConfig) -> Option<HealthCheck> {
    let default = Health::default();
    let nanoseconds = |value: Option<i64>, default: Duration| match value.and_then(|value| u64::try_from(value).ok()) {
        None | Some(0) => default,
        Some(value) => Duration::from_nanos(value),
    };
    let rest = Health {
        command: Vec::new(),
        interval: nanoseconds(config.interval, default.interval),
        timeout: nanoseconds(config.timeout, default.timeout),
        retries: config
            .retries
            .and_then(|retries| u32::try_from(retries).ok())
            .filter(|retries| *retries > 0)
            .unwrap_or(default.retries),
        start_period: nanoseconds(config.start_period, default.start_period),
    };
    HealthCheck::of_words(config.test.as_deref()?, rest)
}
