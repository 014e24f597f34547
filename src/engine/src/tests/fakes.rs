//! A world of named things that fake components make and remove.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{
    Artifact, ArtifactOwner, BuildContext, Builder, BuilderKind, Command, Communicator, Content, Decoded, Diagnostic,
    Diagnostics, EntryId, ExitStatus, Failure, Field, Image, Kinds, Launched, Machine, OutputSink, Payload,
    PostProcessor, PostProcessorKind, PrepareContext, Processed, Provisioner, ProvisionerKind, Schema, Stream, Tester,
    Undo, UndoOutcome, Undoer,
};
use kiln_testkit::ScriptedCommunicator;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::keeper::Keeper;
use super::trying::FakeTester;

/// How a call goes.
#[derive(Clone)]
pub(super) enum Act {
    Fail(&'static str),
    Lack(&'static str),
    Panic,
    Sleep(Duration),
    /// Waits until it is cancelled.
    Wait,
    /// Waits for ever, whatever it is told.
    Deaf,
    /// The user presses Ctrl-C, then this.
    Interrupt(Box<Act>),
    /// The user presses Ctrl-C twice, then this.
    Hurry(Box<Act>),
    Print(&'static str, Box<Act>),
    /// For `seal`: the image comes after this time, whether anyone waits for it or not.
    Commit(Duration),
    Succeed,
}

#[derive(Default)]
pub(super) struct World {
    things: Mutex<BTreeSet<String>>,
    log: Mutex<Vec<String>>,
    acts: Mutex<BTreeMap<String, VecDeque<Act>>>,
    running: Mutex<(usize, usize)>,
    /// When the image of a commit that goes on comes.
    commit: Mutex<Option<Instant>>,
    /// How often the machines were told to end what dropped calls left running.
    pub(super) ended_dropped: AtomicUsize,
    pub(super) cancel: CancellationToken,
    pub(super) hurry: CancellationToken,
    /// What the `keeper` builder keeps.
    pub(super) keeper: Keeper,
}

impl World {
    /// What the next call of this name does; later ones succeed. Names: `launch`, `step NAME`, `seal`, `destroy`,
    /// `post NAME`, `discard THING`, `undo THING`.
    pub(super) fn on(&self, call: &str, act: Act) {
        self.acts.lock().unwrap().entry(call.to_owned()).or_default().push_back(act);
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// A commit that nobody waited for brings its image in the end.
    pub(super) fn end_commit(&self) {
        if self.commit.lock().unwrap().take().is_some() {
            self.make("image-w");
        }
    }

    /// As a real undoer: waits for the end of the commit as long as the machine is there to tell of it.
    async fn await_commit(&self) {
        loop {
            let Some(end) = *self.commit.lock().unwrap() else { return };
            if end <= Instant::now() {
                return self.end_commit();
            }
            if !self.things.lock().unwrap().contains("machine-w") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(super) fn things(&self) -> Vec<String> {
        self.things.lock().unwrap().iter().cloned().collect()
    }

    pub(super) fn make(&self, name: &str) {
        self.things.lock().unwrap().insert(name.to_owned());
    }

    /// The most steps that ran at one time.
    pub(super) fn most_at_once(&self) -> usize {
        self.running.lock().unwrap().1
    }

    fn running(&self) -> MutexGuard<'_, (usize, usize)> {
        self.running.lock().unwrap()
    }

    pub(super) async fn call(&self, call: &str, context: Option<&BuildContext>) -> Result<(), Failure> {
        self.log.lock().unwrap().push(call.to_owned());
        let act = self.acts.lock().unwrap().get_mut(call).and_then(VecDeque::pop_front).unwrap_or(Act::Succeed);
        self.act(act, context).await
    }

    async fn act(&self, act: Act, context: Option<&BuildContext>) -> Result<(), Failure> {
        match act {
            Act::Succeed => Ok(()),
            Act::Fail(message) => Err(Failure::build(message)),
            Act::Lack(message) => Err(Failure::environment(message).hint("start it")),
            Act::Panic => panic!("slipped"),
            Act::Sleep(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Act::Wait => {
                context.unwrap().cancel.cancelled().await;
                Err(Failure::build("connection closed"))
            }
            Act::Deaf => std::future::pending().await,
            Act::Commit(time) => {
                self.remove("image-w");
                *self.commit.lock().unwrap() = Some(Instant::now() + time);
                std::future::pending().await
            }
            Act::Interrupt(then) => {
                self.cancel.cancel();
                Box::pin(self.act(*then, context)).await
            }
            Act::Hurry(then) => {
                self.cancel.cancel();
                self.hurry.cancel();
                Box::pin(self.act(*then, context)).await
            }
            Act::Print(line, then) => {
                context.unwrap().events.output(Stream::Stdout, line);
                Box::pin(self.act(*then, context)).await
            }
        }
    }

    /// Journal first, then the thing.
    pub(super) fn create(&self, name: &str, context: &BuildContext) -> EntryId {
        let undo =
            Undo { kind: "fake.thing".into(), data: serde_json::json!({ "name": name }), description: name.to_owned() };
        let entry = context.journal.record(&context.build, undo).unwrap();
        self.make(name);
        entry
    }

    pub(super) fn remove(&self, name: &str) -> bool {
        self.things.lock().unwrap().remove(name)
    }
}

pub(super) fn kinds(world: &Arc<World>) -> Kinds {
    let mut kinds = Kinds::new();
    kinds.add_builder(Arc::new(FakeBuilderKind(world.clone())));
    kinds.add_provisioner(Arc::new(FakeStepKind(world.clone())));
    kinds.add_post_processor(Arc::new(FakePostKind(world.clone())));
    super::keeper::add(&mut kinds, world);
    super::registry::add(&mut kinds, world);
    kinds.add_undoer(Arc::new(FakeUndoer(world.clone())));
    kinds
}

struct FakeBuilderKind(Arc<World>);

static BUILDER: Schema = Schema {
    kind: "fake",
    title: "a `fake` source",
    doc: "",
    fields: &[
        Field::string("image", "The base."),
        Field::bool("direct", "Gives an artifact at once."),
        Field::string("push", "A name that it pushes by itself."),
    ],
    example: "",
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct BuilderArguments {
    direct: bool,
    push: Option<String>,
}

impl BuilderKind for FakeBuilderKind {
    fn schema(&self) -> &'static Schema {
        &BUILDER
    }

    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        if config.values().get("image").and_then(|image| image.as_str()) == Some("") {
            diagnostics.push(Diagnostic::error("fake", config.span("image"), "`image` is empty"));
            return None;
        }
        let arguments: BuilderArguments = config.read().unwrap();
        let (world, name) = (self.0.clone(), context.build.to_string());
        let tester = FakeTester(self.0.clone());
        let is_tested = context.has_tests;
        let is_unknown = config.is_unknown("push");
        let push: Vec<String> = arguments.push.into_iter().filter(|_| !is_unknown).collect();
        let pushes = is_unknown || !push.is_empty();
        Some(Arc::new(FakeBuilder { world, name, is_direct: arguments.direct, is_tested, push, pushes, tester }))
    }
}

struct FakeBuilder {
    world: Arc<World>,
    name: String,
    is_direct: bool,
    is_tested: bool,
    push: Vec<String>,
    pushes: bool,
    tester: FakeTester,
}

#[async_trait]
impl Builder for FakeBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        if self.is_direct {
            let name = format!("image-{}", self.name);
            self.world.create(&name, context);
            self.world.call("launch", Some(context)).await?;
            return Ok(Launched::Artifact(artifact(&self.world, &name)));
        }
        let thing = format!("machine-{}", self.name);
        let entry = self.world.create(&thing, context);
        if let Err(failure) = self.world.call("launch", Some(context)).await {
            // The contract: on failure, what it started is gone again.
            self.world.remove(&thing);
            context.journal.strike(entry)?;
            return Err(failure);
        }
        let communicator = FakeCommunicator { world: self.world.clone(), inner: ScriptedCommunicator::new() };
        Ok(Launched::Machine(Box::new(FakeMachine {
            world: self.world.clone(),
            name: self.name.clone(),
            entry,
            communicator,
            is_sealed: Mutex::new(false),
        })))
    }

    fn pushed_names(&self) -> Vec<String> {
        self.push.clone()
    }

    fn pushes(&self) -> bool {
        self.pushes
    }

    async fn hand_out(&self, artifact: Artifact, context: &BuildContext) -> Result<Artifact, Failure> {
        assert!(self.is_tested, "nothing is left to hand out");
        let name = format!("name-of-{}", self.name);
        if !self.world.things().contains(&name) {
            self.world.create(&name, context);
        }
        self.world.call(&format!("hand out {}", artifact.id), Some(context)).await?;
        Ok(Artifact { description: format!("{}, named", artifact.description), ..artifact })
    }

    fn tester(&self) -> Option<&dyn Tester> {
        Some(&self.tester)
    }
}

struct FakeCommunicator {
    world: Arc<World>,
    inner: ScriptedCommunicator,
}

#[async_trait]
impl Communicator for FakeCommunicator {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        self.inner.exec(command, sink).await
    }

    async fn upload(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        self.inner.upload(payload, to).await
    }

    async fn download(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        self.inner.download(from, to).await
    }

    async fn end_dropped(&self) -> Result<(), CommunicatorError> {
        self.world.ended_dropped.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

struct FakeMachine {
    world: Arc<World>,
    name: String,
    entry: EntryId,
    communicator: FakeCommunicator,
    is_sealed: Mutex<bool>,
}

#[async_trait]
impl Machine for FakeMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        let mut facts = BTreeMap::from([
            ("Host".to_owned(), format!("host-of-{}", self.name)),
            ("Password".to_owned(), "hunter2hunter2".to_owned()),
        ]);
        if *self.is_sealed.lock().unwrap() {
            facts.insert("ImageSha256".to_owned(), "abc123".to_owned());
        }
        facts
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.communicator
    }

    async fn seal(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        let name = format!("image-{}", self.name);
        self.world.create(&name, context);
        self.world.call("seal", Some(context)).await?;
        *self.is_sealed.lock().unwrap() = true;
        Ok(artifact(&self.world, &name))
    }

    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure> {
        self.world.call("destroy", Some(context)).await?;
        self.world.remove(&format!("machine-{}", self.name));
        context.journal.strike(self.entry)
    }

    fn enter_hint(&self) -> Option<String> {
        Some(format!("enter {}", self.name))
    }
}

struct Owner(Arc<World>);

#[async_trait]
impl ArtifactOwner for Owner {
    async fn destroy(&self, artifact: &Artifact, context: &BuildContext) -> Result<(), Failure> {
        self.0.call(&format!("discard {}", artifact.id), Some(context)).await?;
        self.0.remove(&artifact.id);
        self.0.remove(&artifact.id.replace("image-", "name-of-"));
        Ok(())
    }
}

pub(super) fn artifact(world: &Arc<World>, id: &str) -> Artifact {
    Artifact {
        builder_id: "fake".into(),
        id: id.into(),
        description: format!("made {id}"),
        content: Content::Image(Image { id: id.into(), ..Image::default() }),
        owner: Some(Arc::new(Owner(world.clone()))),
    }
}

struct FakeStepKind(Arc<World>);

static STEP: Schema = Schema {
    kind: "fake-step",
    title: "a `fake-step` provisioner",
    doc: "",
    fields: &[
        Field::string("name", "What it is called.").required(),
        Field::string("greeting", "Is said."),
        Field::bool("litters", "Makes a thing that is never part of the result."),
    ],
    example: "",
};

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct StepArguments {
    name: String,
    greeting: Option<String>,
    litters: bool,
}

impl ProvisionerKind for FakeStepKind {
    fn schema(&self) -> &'static Schema {
        &STEP
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        let arguments: StepArguments = config.read().unwrap();
        if arguments.greeting.as_deref().is_some_and(|greeting| greeting.starts_with("host-of-wrong")) {
            diagnostics.push(Diagnostic::error("fake", config.span("greeting"), "`greeting` greets the wrong one"));
            return None;
        }
        Some(Arc::new(FakeStep { world: self.0.clone(), arguments }))
    }
}

struct FakeStep {
    world: Arc<World>,
    arguments: StepArguments,
}

struct Running<'a>(&'a World);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running().0 -= 1;
    }
}

#[async_trait]
impl Provisioner for FakeStep {
    fn title(&self) -> String {
        self.arguments.greeting.clone().unwrap_or_else(|| self.arguments.name.clone())
    }

    async fn provision(&self, _machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        {
            let mut running = self.world.running();
            running.0 += 1;
            running.1 = running.1.max(running.0);
        }
        let _running = Running(&self.world);
        if self.arguments.litters {
            self.world.create(&format!("litter-{}", self.arguments.name), context);
        }
        if let Some(greeting) = &self.arguments.greeting {
            context.events.message(format!("hello {greeting}"));
        }
        self.world.call(&format!("step {}", self.arguments.name), Some(context)).await
    }
}

struct FakePostKind(Arc<World>);

static POST: Schema = Schema {
    kind: "fake-post",
    title: "a `fake-post` post-processor",
    doc: "",
    fields: &[
        Field::string("name", "What it is called.").required(),
        Field::string("makes", "The thing it makes; absent: it passes its input on."),
        Field::string("says", "Is said."),
        Field::bool("keeps", "Its default for the input."),
        Field::bool("insists", "Keeps the input whatever the template says."),
        Field::bool("pushes", "Sends something away, for which a run needs a login that nobody has."),
    ],
    example: "",
};

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct PostArguments {
    name: String,
    makes: Option<String>,
    says: Option<String>,
    keeps: bool,
    insists: bool,
    pushes: bool,
}

impl PostProcessorKind for FakePostKind {
    fn schema(&self) -> &'static Schema {
        &POST
    }

    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let arguments: PostArguments = config.read().unwrap();
        if arguments.pushes {
            let missing = Diagnostic::error("missing-argument", config.span("pushes"), "there is no login");
            diagnostics.push(context.unless_checked(missing));
        }
        Some(Arc::new(FakePost { world: self.0.clone(), arguments }))
    }
}

struct FakePost {
    world: Arc<World>,
    arguments: PostArguments,
}

#[async_trait]
impl PostProcessor for FakePost {
    fn pushes(&self) -> bool {
        self.arguments.pushes
    }

    async fn process(&self, input: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        if let Some(says) = &self.arguments.says {
            context.events.message(says);
        }
        let made = match &self.arguments.makes {
            Some(name) => {
                self.world.create(name, context);
                artifact(&self.world, name)
            }
            None => input.clone(),
        };
        self.world.call(&format!("post {}", self.arguments.name), Some(context)).await?;
        let PostArguments { keeps, insists, .. } = self.arguments;
        Ok(Processed { artifact: made, keep_input: keeps, force_keep: insists })
    }
}

struct FakeUndoer(Arc<World>);

#[async_trait]
impl Undoer for FakeUndoer {
    fn kinds(&self) -> &'static [&'static str] {
        &["fake.thing"]
    }

    async fn undo(&self, undo: &Undo) -> Result<UndoOutcome, Failure> {
        let name = undo.data["name"].as_str().unwrap();
        self.0.call(&format!("undo {name}"), None).await?;
        if name == "image-w" {
            self.0.await_commit().await;
        }
        Ok(if self.0.remove(name) { UndoOutcome::Removed } else { UndoOutcome::AlreadyGone })
    }
}
