//! Tests of an image: a container of it, with services of its own.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::{BuildContext, Command, EntryId, Failure, OutputSink, Test, TestEnd, TestRun};
use kiln_services::Service;
use kiln_services::trial::{chosen, needed, subject};

use super::{Group, Network, Setting, Wiring, check};
use crate::engine::{ContainerSpec, Engine, ImageInfo};
use crate::models::ContainerCreateBody;
use crate::naming::{container_name, run_labels};
use crate::undo::{self, ContainerUndo};

/// Tells what a test makes from what the build's machine has.
const SUFFIX: &str = "-test";

/// What tests of an image need.
pub struct Bench<'a> {
    /// The engine that has the image.
    pub engine: &'a Arc<dyn Engine>,
    /// The image's id.
    pub image: &'a str,
    /// The source's services, with their images in the same order: those that the test names are started.
    pub services: &'a [Service],
    /// Their images.
    pub images: &'a [ImageInfo],
    /// What `~/` in volumes means.
    pub home: Option<PathBuf>,
}

impl Bench<'_> {
    /// Runs a test. What it started is gone when this returns; where that failed, the journal keeps it.
    pub async fn run(
        &self,
        test: &Test,
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let positions = needed(test, self.services);
        let services = chosen(self.services, &positions);
        let images: Vec<ImageInfo> = positions.iter().map(|index| self.images[*index].clone()).collect();
        let wiring = match services.is_empty() {
            true => Wiring::Alone(test.network.clone()),
            false => Wiring::of(test.network.as_deref(), false),
        };
        let network = Network::make(self.engine, wiring, SUFFIX, context).await?;
        let setting = Setting {
            engine: Arc::clone(self.engine),
            home: self.home.clone(),
            network: network.clone(),
            machine: None,
            suffix: SUFFIX.to_owned(),
        };
        let group = Group::new(setting.clone(), services.clone(), images);
        let ran = async {
            group.start(context).await?;
            match &test.run {
                TestRun::Health { .. } => self.healthy(test, &setting, &services, sink, context).await,
                _ => self.command(test, &network, &services, sink, context).await,
            }
        }
        .await;
        // Also where it was stopped, as when its time was up: then what a service wrote tells most.
        if ran.is_err() {
            group.keep_logs(context).await;
        }
        let removed = group.remove(context).await;
        let ended = ran?;
        removed?;
        Ok(ended)
    }

    async fn image(&self) -> Result<ImageInfo, Failure> {
        let found = self.engine.inspect_image(self.image).await?;
        found.ok_or_else(|| Failure::build(format!("image {} is gone", self.image)))
    }

    /// The image's first process is what is tested.
    async fn command(
        &self,
        test: &Test,
        network: &Network,
        services: &[Service],
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let config = check::container(&subject(test, self.image), &self.image().await?, None);
        let mut config = config.map_err(|text| Failure::new(kiln_core::FailureClass::Template, text))?;
        config.labels.get_or_insert_default().extend(run_labels(context));
        network.join_machine(&mut config, services);
        let name = format!("{}{SUFFIX}", container_name(context));
        let (mut undo, entry) = self.record(&name, context)?;
        let ran = self.started(name, config, network, (&mut undo, entry), sink, context).await;
        if undo::remove_container(&**self.engine, &undo).await.is_ok() {
            context.journal.strike(entry)?;
        }
        ran
    }

    fn record(&self, name: &str, context: &BuildContext) -> Result<(ContainerUndo, EntryId), Failure> {
        let undo = ContainerUndo {
            engine: self.engine.address().to_owned(),
            name: name.to_owned(),
            run: Some(context.run.to_string()),
            build: Some(context.build.to_string()),
            at: undo::seconds_since_epoch(),
            id: None,
        };
        let entry = context.journal.record(&context.build, undo.entry())?;
        Ok((undo, entry))
    }

    async fn started(
        &self,
        name: String,
        config: ContainerCreateBody,
        network: &Network,
        (undo, entry): (&mut ContainerUndo, EntryId),
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        // Not stopped halfway: the engine would go on and make a container that nobody knows of.
        let created = self.engine.create_container(&ContainerSpec { name, platform: None, config }).await?;
        undo.id = Some(created.id.clone());
        context.journal.amend(entry, undo.entry())?;
        network.connect_machine(&**self.engine, &created.id).await?;
        let id = created.id;
        let work = async {
            self.engine.start_container(&id).await?;
            self.engine.follow(&id, sink).await?;
            loop {
                // The output may end a moment before the process does.
                match self.engine.inspect_container(&id).await? {
                    Some(info) if info.is_running => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
                    Some(info) => return Ok(TestEnd { status: info.exit_code.unwrap_or_default() }),
                    None => return Err(Failure::build("somebody removed the test's container")),
                }
            }
        };
        context.unless_cancelled(work).await.flatten()
    }

    /// The image as it is, as one more service beside the others.
    async fn healthy(
        &self,
        test: &Test,
        setting: &Setting,
        services: &[Service],
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let group =
            Group::new(setting.clone(), vec![subject(test, self.image)], vec![self.image().await?]).beside(services);
        let ran = async {
            group.start(context).await?;
            let TestRun::Health { command: Some(command), .. } = &test.run else { return Ok(TestEnd { status: 0 }) };
            let command = Command {
                environment: test.environment.clone().into_iter().collect(),
                directory: test.workdir.clone(),
                user: test.user.clone(),
                ..Command::new(command.iter().cloned())
            };
            let id = group.id(0)?;
            let status = context.unless_cancelled(self.engine.exec(&id, &command, None, sink)).await??;
            Ok(TestEnd { status })
        }
        .await;
        if ran.as_ref().is_ok_and(|ended: &TestEnd| !test.expect_exit.contains(&ended.status)) {
            group.keep_logs(context).await;
        }
        group.remove_containers(context).await?;
        ran
    }
}
