//! The services of a machine: started together, removed together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::join_all;
use kiln_core::communicator::CaptureSink;
use kiln_core::{BuildContext, Command, Failure, Machine, OutputSink, Stream};
use kiln_docker::models::HealthConfig;
use kiln_docker::services::image_health;
use kiln_services::{HealthCheck, Service, ServiceHost, Status, keep_log, start_all};
use tokio::task::JoinHandle;

use super::{first_process, tell_taken_ports};
use crate::error::OciError;
use crate::launch::OciBuilder;
use crate::machine::OciMachine;

/// Of a service's log, so many bytes are held: the last ones.
const LOG: usize = 4 << 20;

/// Holds the end of what a service prints.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OutputSink for Log {
    fn write(&mut self, _stream: Stream, chunk: &[u8]) {
        let mut bytes = self.bytes();
        bytes.extend_from_slice(chunk);
        if bytes.len() > 2 * LOG {
            let surplus = bytes.len() - LOG;
            bytes.drain(..surplus);
        }
    }
}

/// Follows a service's first process; dropping it ends that.
struct Following(JoinHandle<()>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A service that was started.
struct Running {
    machine: Arc<OciMachine>,
    log: Log,
    ended: Arc<Mutex<Option<i64>>>,
    /// `None` where nothing could be started.
    process: Option<Following>,
}

impl Running {
    /// Runs its first process, and notes what becomes of it.
    fn follow(&mut self, command: Command) {
        let (machine, mut log, ended) = (Arc::clone(&self.machine), self.log.clone(), Arc::clone(&self.ended));
        self.process = Some(Following(tokio::spawn(async move {
            let status = match machine.communicator().exec(&command, &mut log).await {
                Ok(status) => status.code(),
                Err(error) => {
                    log.write(Stream::Stderr, Failure::build(error).chain().as_bytes());
                    // As a shell says it of what it cannot run.
                    126
                }
            };
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        })));
    }

    /// Ends it and removes what it wrote.
    async fn remove(mut self, context: &BuildContext) -> Result<(), Failure> {
        if let Some(Following(process)) = self.process.as_mut() {
            process.abort();
            let _ = process.await;
        }
        self.machine.destroy(context).await
    }
}

/// The services of a machine.
pub(crate) struct Group {
    services: Vec<Service>,
    builders: Vec<Arc<OciBuilder>>,
    /// Tells their workspaces from others of the build.
    prefix: &'static str,
    running: Mutex<Vec<Option<Running>>>,
}

impl Group {
    /// Services with the builders of their machines, in the same order. Nothing is started.
    pub(crate) fn new(services: Vec<Service>, builders: Vec<Arc<OciBuilder>>, prefix: &'static str) -> Group {
        let running = Mutex::new(services.iter().map(|_| None).collect());
        Group { services, builders, prefix, running }
    }

    /// Starts all and waits until they are ready; those of an earlier try are removed first.
    pub(crate) async fn start(&self, context: &BuildContext) -> Result<(), Failure> {
        self.remove(context).await?;
        start_all(self, &self.services, context).await
    }

    /// Keeps what those that run have written to their logs.
    pub(crate) async fn keep_logs(&self, context: &BuildContext) {
        for (index, service) in self.services.iter().enumerate() {
            // One that was not started has none.
            if let Ok(log) = self.log(index).await {
                keep_log(&service.name, log, false, context).await;
            }
        }
    }

    /// Ends and removes all. Safe to repeat.
    pub(crate) async fn remove(&self, context: &BuildContext) -> Result<(), Failure> {
        let running: Vec<Running> = self.running().iter_mut().filter_map(Option::take).collect();
        let removals = running.into_iter().map(|running| running.remove(context));
        join_all(removals).await.into_iter().collect()
    }

    /// The machine of one of them.
    pub(crate) fn machine(&self, index: usize) -> Result<Arc<OciMachine>, Failure> {
        self.of(index, |running| Arc::clone(&running.machine))
    }

    fn running(&self) -> MutexGuard<'_, Vec<Option<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of<T>(&self, index: usize, look: impl FnOnce(&Running) -> T) -> Result<T, Failure> {
        let text = || format!("service `{}` was not started", self.services[index].name);
        self.running()[index].as_ref().map(look).ok_or_else(|| Failure::build(OciError::Base(text())))
    }

    fn command(&self, index: usize, words: Vec<String>) -> Command {
        let service = &self.services[index];
        Command {
            environment: service.environment.clone().into_iter().collect(),
            directory: service.workdir.clone(),
            ..Command::new(words)
        }
    }
}

#[async_trait]
impl ServiceHost for Group {
    async fn start(&self, index: usize, context: &BuildContext) -> Result<(), Failure> {
        let service = &self.services[index];
        let label = format!("{}service {}", self.prefix, service.name);
        let machine = Arc::new(self.builders[index].start(Vec::new(), &label, context).await?);
        let running =
            Running { machine: Arc::clone(&machine), log: Log::default(), ended: Arc::default(), process: None };
        self.running()[index] = Some(running);
        let words = first_process(service, machine.image_config())?;
        tell_taken_ports(service, &machine, context).await;
        if let Some(running) = self.running()[index].as_mut() {
            running.follow(self.command(index, words));
        }
        Ok(())
    }

    async fn status(&self, index: usize) -> Result<Status, Failure> {
        let ended = self.of(index, |running| *running.ended.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(ended.map_or(Status::Running, Status::Ended))
    }

    async fn run(&self, index: usize, command: &[String]) -> Result<(i64, Vec<u8>), Failure> {
        let machine = self.machine(index)?;
        let mut sink = CaptureSink::default();
        let command = self.command(index, command.to_vec());
        let status = machine.communicator().exec(&command, &mut sink).await.map_err(Failure::build)?;
        Ok((status.code(), [sink.stdout, sink.stderr].concat()))
    }

    fn image_health(&self, index: usize) -> Option<HealthCheck> {
        let machine = self.machine(index).ok()?;
        // Not in OCI's own format, and in every image that has one all the same.
        let written = machine.image_config()?.other.get("Healthcheck")?.clone();
        image_health(&serde_json::from_value::<HealthConfig>(written).ok()?)
    }

    async fn log(&self, index: usize) -> Result<Vec<u8>, Failure> {
        self.of(index, |running| running.log.bytes().clone())
    }
}
