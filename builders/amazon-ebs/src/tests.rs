//! Whole builds against a cloud in memory: what they ask for, and that nothing is left whatever fails.

mod accounts;
mod arguments;
mod faults;
mod images;
mod machines;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Builder, BuilderKind, Communicator, Diagnostics, Failure, Launched, Machine, Undoer,
};
use kiln_ssh::{Endpoint, SshOptions, SshProcess};
use kiln_testkit::{Arguments, ContextBuilder, Reply, ScriptedCommunicator, TestContext, context, prepare_context};
use serde_json::{Value, json};

use crate::fake::{FakeCloud, FakeClouds, SOURCE};
use crate::{AmazonEbsKind, AmazonSettings, Pace, Reach};

/// A machine that says yes to everything.
struct Yes;

#[async_trait]
impl Reach for Yes {
    async fn reach(
        &self,
        _options: &SshOptions,
        endpoint: Endpoint,
        _context: &BuildContext,
    ) -> Result<Box<dyn Communicator>, Failure> {
        if endpoint.host == "unreachable" {
            return Err(Failure::build("nobody answers"));
        }
        let communicator = ScriptedCommunicator::new();
        communicator.on_every_exec(|_| Reply::ok());
        Ok(Box::new(communicator))
    }
}

fn kind(cloud: &Arc<FakeCloud>) -> AmazonEbsKind {
    let settings = AmazonSettings::new(Arc::new(FakeClouds(Arc::clone(cloud))), SshProcess::default());
    let pace =
        Pace { first: Duration::from_millis(1), most: Duration::from_millis(2), limit: Some(Duration::from_secs(2)) };
    AmazonEbsKind::new(AmazonSettings { reach: Arc::new(Yes), pace, ..settings })
}

/// The least that a source needs, with more arguments over it.
fn arguments(more: Value) -> Arguments {
    let mut all = json!({
        "ami_name": "worker-1",
        "instance_type": "t3.micro",
        "source_ami": SOURCE,
        "ssh_username": "admin",
    });
    for (name, value) in more.as_object().cloned().unwrap_or_default() {
        all[name] = value;
    }
    // Blocks are attributes in legacy JSON.
    Arguments::new(all).weak()
}

fn prepared(cloud: &Arc<FakeCloud>, more: Value) -> (AmazonEbsKind, Option<Arc<dyn Builder>>, Diagnostics) {
    let kind = kind(cloud);
    let (decoded, mut diagnostics) = arguments(more).decode(kind.schema());
    let builder = kind.prepare(&decoded, &prepare_context(), &mut diagnostics);
    (kind, builder, diagnostics)
}

fn build_context() -> ContextBuilder {
    context().build_called("amazon-ebs.worker", "worker", "amazon-ebs")
}

/// One build in a cloud.
struct Run {
    cloud: Arc<FakeCloud>,
    kind: AmazonEbsKind,
    builder: Arc<dyn Builder>,
    context: TestContext,
}

impl Run {
    fn new(cloud: &Arc<FakeCloud>, more: Value) -> Run {
        let (kind, builder, diagnostics) = prepared(cloud, more);
        let builder = builder.unwrap_or_else(|| panic!("{:?}", kiln_testkit::titles(&diagnostics)));
        Run { cloud: Arc::clone(cloud), kind, builder, context: build_context().build() }
    }

    async fn launch(&self) -> Result<Box<dyn Machine>, Failure> {
        match self.builder.launch(&self.context).await? {
            Launched::Machine(machine) => Ok(machine),
            Launched::Artifact(_) => panic!("an artifact without a machine"),
        }
    }

    /// From launch to the machine's end, as the engine goes; where something fails, the journal is undone as it does.
    async fn build(&self) -> Result<Artifact, Failure> {
        let result = async {
            let machine = self.launch().await?;
            let sealed = machine.seal(&self.context).await;
            // What is left of the image goes before the machine it is made of.
            if sealed.is_err() || self.context.cancel.is_cancelled() {
                self.undo().await;
            }
            machine.destroy(&self.context).await?;
            if self.context.cancel.is_cancelled() { Err(Failure::cancelled()) } else { sealed }
        }
        .await;
        if result.is_err() {
            self.undo().await;
        }
        result
    }

    /// Undoes all that is open, the latest first.
    async fn undo(&self) {
        let undoer = self.kind.undoer();
        for undo in self.context.journal.open().into_iter().rev() {
            undoer.undo(&undo).await.unwrap_or_else(|failure| panic!("{}: {}", undo.description, failure.chain()));
        }
    }

    fn left(&self) -> Vec<String> {
        self.cloud.left(&[])
    }
}

/// Without what only waits.
fn doing(calls: &[String]) -> Vec<&str> {
    let mut calls: Vec<&str> = calls.iter().map(String::as_str).collect();
    calls.dedup();
    calls
}
