//! Tests of a sealed image: a sandbox on its layers, with services of its own.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Command, Decoded, Diagnostic, Diagnostics, Failure, Machine, OutputSink, Test, TestEnd,
    TestRun, Tester, suggest,
};
use kiln_services::Service;
use kiln_services::trial::{check_test, chosen, needed, subject};

use crate::launch::OciBuilder;
use crate::services::{Group, builder_of, first_process, hosts};

/// Tells what a test makes from what the build's machine has.
const PREFIX: &str = "test ";

/// Networks of a test; an engine's own names mean this host's here, where the arguments are a `docker` source's.
const NETWORKS: [&str; 2] = ["host", "none"];
const ENGINE_NETWORKS: [&str; 2] = ["bridge", "default"];

#[async_trait]
impl Tester for OciBuilder {
    fn check(&self, test: &Test, decoded: &Decoded, diagnostics: &mut Diagnostics) {
        check_test(test, &self.services, decoded, diagnostics);
        let network = test.network.as_deref().filter(|_| !decoded.is_unknown("network"));
        if let Some(name) = network
            && !NETWORKS.contains(&name)
            && !(self.recipe.is_docker && ENGINE_NETWORKS.contains(&name))
        {
            let title = format!("a test without the Docker engine has no network `{name}`");
            let help = format!("take one of {}", suggest::enumerate(NETWORKS));
            diagnostics.push(Diagnostic::error("test", decoded.span("network"), title).help(help));
        }
        if network == Some("none") && !test.services.is_empty() {
            let title = "services are in this host's network here, which `network = \"none\"` does not lead to";
            let diagnostic = Diagnostic::error("test", decoded.span("network"), title);
            diagnostics.push(diagnostic.also(decoded.span("services"), "the services"));
        }
    }

    async fn run(
        &self,
        artifact: &Artifact,
        test: &Test,
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let positions = needed(test, &self.services);
        let services = chosen(&self.services, &positions);
        let builders = positions.iter().map(|index| Arc::clone(&self.beside[*index])).collect();
        let image = artifact.image().map(|image| image.id.as_str()).unwrap_or_default();
        let (subject, platform) = (subject(test, image), self.recipe.platform.clone());
        let own = Arc::new(builder_of(&subject, self, platform, test.network.as_deref(), hosts(&services)));
        let is_alone = test.network.as_deref() == Some("none");
        let listens = !services.is_empty() || (matches!(test.run, TestRun::Health { .. }) && !is_alone);
        let _turn = if listens { Some(self.places.turn(context).await?) } else { None };
        let group = Group::new(services, builders, PREFIX);
        let ran: Result<TestEnd, Failure> = async {
            group.start(context).await?;
            match &test.run {
                TestRun::Health { command, .. } => healthy(test, subject, own, command.as_deref(), sink, context).await,
                _ => run(test, &subject, &own, sink, context).await,
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
}

/// The image's first process is what is tested.
async fn run(
    test: &Test,
    subject: &Service,
    builder: &OciBuilder,
    sink: &mut dyn OutputSink,
    context: &BuildContext,
) -> Result<TestEnd, Failure> {
    let machine = builder.start(Vec::new(), PREFIX, context).await?;
    let ran: Result<TestEnd, Failure> = async {
        let command = command_of(test, first_process(subject, machine.image_config())?);
        let status = context.unless_cancelled(machine.communicator().exec(&command, sink)).await?;
        Ok(TestEnd { status: status.map_err(Failure::build)?.code() })
    }
    .await;
    let removed = machine.destroy(context).await;
    let ended = ran?;
    removed?;
    Ok(ended)
}

/// The image as it is, until it is healthy; then a command in it.
async fn healthy(
    test: &Test,
    subject: Service,
    builder: Arc<OciBuilder>,
    command: Option<&[String]>,
    sink: &mut dyn OutputSink,
    context: &BuildContext,
) -> Result<TestEnd, Failure> {
    let group = Group::new(vec![subject], vec![builder], "tested ");
    let ran: Result<TestEnd, Failure> = async {
        group.start(context).await?;
        let Some(command) = command else { return Ok(TestEnd { status: 0 }) };
        let (machine, command) = (group.machine(0)?, command_of(test, command.to_vec()));
        let status = context.unless_cancelled(machine.communicator().exec(&command, sink)).await?;
        Ok(TestEnd { status: status.map_err(Failure::build)?.code() })
    }
    .await;
    if ran.as_ref().is_ok_and(|ended: &TestEnd| !test.expect_exit.contains(&ended.status)) {
        group.keep_logs(context).await;
    }
    let removed = group.remove(context).await;
    let ended = ran?;
    removed?;
    Ok(ended)
}

fn command_of(test: &Test, words: Vec<String>) -> Command {
    Command {
        environment: test.environment.clone().into_iter().collect(),
        directory: test.workdir.clone(),
        user: test.user.clone(),
        ..Command::new(words)
    }
}
