//! A builder whose machines are lists of deeds, and which keeps their states; a provisioner that does deeds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_core::{
    Artifact, BuildContext, Builder, BuilderKind, Caching, Command, Communicator, Content, Decoded, Diagnostics,
    EntryId, ExitStatus, Failure, Field, FieldType, Image, Input, Kept, Key, Kinds, Launched, Machine, OutputSink,
    Payload, PrepareContext, Provisioner, ProvisionerKind, Schema, Sealed, Snapshots, StateInfo, Stdin,
};
use serde::Deserialize;

use super::fakes::{World, artifact};

/// What is on a machine: the results of deeds, in order.
type Deeds = Vec<String>;

#[derive(Clone)]
pub(super) struct State {
    pub(super) info: StateInfo,
    pub(super) deeds: Deeds,
}

#[derive(Default)]
pub(super) struct Keeper {
    /// Digest of the base image.
    pub(super) image: Mutex<String>,
    pub(super) states: Mutex<BTreeMap<Key, State>>,
    pub(super) sealed: Mutex<BTreeMap<Key, Deeds>>,
    /// What the last artifact was made of.
    pub(super) last: Mutex<Deeds>,
    /// Keeps what is a checkpoint, and nothing else.
    pub(super) is_thrifty: AtomicBool,
    /// Files of secrets that are on a machine, and all that ever were.
    pub(super) secrets: Mutex<(BTreeMap<String, String>, Vec<String>)>,
    /// Machines have no directory for secrets before a step wants it.
    pub(super) has_no_directory: AtomicBool,
    /// Machines take no secret, and do not say so.
    pub(super) is_stuck: AtomicBool,
}

impl Keeper {
    pub(super) fn last(&self) -> Deeds {
        self.last.lock().unwrap().clone()
    }

    /// All states are this much older.
    pub(super) fn age(&self, by: std::time::Duration) {
        self.states.lock().unwrap().values_mut().for_each(|state| state.info.created -= by);
    }

    /// Titles of what is kept, in no order.
    pub(super) fn titles(&self) -> Vec<String> {
        let mut titles: Vec<String> =
            self.states.lock().unwrap().values().map(|state| state.info.title.clone()).collect();
        titles.sort();
        titles
    }
}

pub(super) fn add(kinds: &mut Kinds, world: &Arc<World>) {
    kinds.add_builder(Arc::new(KeeperKind(world.clone())));
    kinds.add_provisioner(Arc::new(DeedKind(world.clone())));
}

struct KeeperKind(Arc<World>);

static KEEPER: Schema = Schema { kind: "keeper", title: "a `keeper` source", doc: "", fields: &[], example: "" };

impl BuilderKind for KeeperKind {
    fn schema(&self) -> &'static Schema {
        &KEEPER
    }

    fn fact_names(&self) -> &'static [&'static str] {
        &["Deeds"]
    }

    fn prepare(&self, _: &Decoded, context: &PrepareContext, _: &mut Diagnostics) -> Option<Arc<dyn Builder>> {
        Some(Arc::new(KeeperBuilder { world: self.0.clone(), name: context.build.to_string() }))
    }
}

struct KeeperBuilder {
    world: Arc<World>,
    name: String,
}

impl KeeperBuilder {
    async fn start(
        &self,
        call: &str,
        state: Option<Key>,
        deeds: Deeds,
        context: &BuildContext,
    ) -> Result<Launched, Failure> {
        let thing = format!("machine-{}", self.name);
        let entry = self.world.create(&thing, context);
        if let Err(failure) = self.world.call(call, Some(context)).await {
            self.world.remove(&thing);
            context.journal.strike(entry)?;
            return Err(failure);
        }
        let kept = deeds.len();
        let communicator = Doer {
            world: self.world.clone(),
            deeds: Mutex::new(deeds),
            kept: Mutex::new(kept),
            state: Mutex::new(state),
        };
        Ok(Launched::Machine(Box::new(KeeperMachine { name: self.name.clone(), entry, communicator })))
    }
}

#[async_trait]
impl Builder for KeeperBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        self.start("launch", None, Deeds::new(), context).await
    }

    fn snapshots(&self) -> Option<&dyn Snapshots> {
        Some(self)
    }
}

#[async_trait]
impl Snapshots for KeeperBuilder {
    async fn base(&self, context: &BuildContext) -> Result<Vec<Input>, Failure> {
        self.world.call("base", Some(context)).await?;
        let digest = self.world.keeper.image.lock().unwrap().clone();
        Ok(vec![Input { name: "image".into(), shown: Some(digest.clone()), digest }])
    }

    async fn find(&self, key: &Key) -> Result<Option<StateInfo>, Failure> {
        Ok(self.world.keeper.states.lock().unwrap().get(key).map(|state| state.info.clone()))
    }

    async fn restore(&self, key: &Key, context: &BuildContext) -> Result<Launched, Failure> {
        let deeds = self.world.keeper.states.lock().unwrap().get(key).unwrap().deeds.clone();
        let call = format!("restore {}", deeds.last().cloned().unwrap_or_default());
        self.start(&call, Some(key.clone()), deeds, context).await
    }

    async fn sealed(&self, key: &Key, context: &BuildContext) -> Result<Option<Sealed>, Failure> {
        let Some(deeds) = self.world.keeper.sealed.lock().unwrap().get(key).cloned() else { return Ok(None) };
        let name = format!("image-{}", self.name);
        self.world.create(&name, context);
        self.world.call("sealed", Some(context)).await?;
        *self.world.keeper.last.lock().unwrap() = deeds;
        let facts = BTreeMap::from([("Host".to_owned(), "host-of-then".to_owned())]);
        Ok(Some(Sealed { artifact: artifact(&self.world, &name), facts }))
    }

    async fn sealed_before(&self, key: &Key) -> Result<Option<Artifact>, Failure> {
        let is_there = self.world.keeper.sealed.lock().unwrap().contains_key(key);
        Ok(is_there.then(|| artifact(&self.world, &format!("image-{}", self.name))))
    }

    async fn is_sealed(&self, key: &Key) -> Result<bool, Failure> {
        Ok(self.world.keeper.sealed.lock().unwrap().contains_key(key))
    }
}

/// The communicator of a machine, with what is on it.
struct Doer {
    world: Arc<World>,
    deeds: Mutex<Deeds>,
    /// How many of them were there when the state was last kept or restored.
    kept: Mutex<usize>,
    state: Mutex<Option<Key>>,
}

#[async_trait]
impl Communicator for Doer {
    async fn exec(&self, command: &Command, sink: &mut dyn OutputSink) -> Result<ExitStatus, CommunicatorError> {
        let argv: Vec<&str> = command.argv.iter().map(String::as_str).collect();
        match argv.as_slice() {
            ["do", result] => self.deeds.lock().unwrap().push((*result).to_owned()),
            ["/bin/sh", "-c", script, "sh", path] => {
                assert!(script.contains("umask 377"), "{script}");
                if self.world.keeper.is_stuck.load(Ordering::Relaxed) {
                    std::future::pending::<()>().await;
                }
                let Stdin::Bytes(content) = &command.stdin else { panic!("no content") };
                let content = String::from_utf8(content.to_vec()).unwrap();
                let mut secrets = self.world.keeper.secrets.lock().unwrap();
                if secrets.0.is_empty() && self.world.keeper.has_no_directory.load(Ordering::Relaxed) {
                    sink.write(kiln_core::Stream::Stdout, b"made\n");
                }
                secrets.1.push(format!("{path}={content}"));
                secrets.0.insert((*path).to_owned(), content);
            }
            ["rm", "-rf", "/run/kiln/secrets"] => {
                assert!(self.world.keeper.has_no_directory.load(Ordering::Relaxed), "it was there before the step");
                self.world.keeper.secrets.lock().unwrap().0.clear();
            }
            ["rm", "-f", paths @ ..] => {
                assert!(!self.world.keeper.has_no_directory.load(Ordering::Relaxed), "the directory stays");
                let mut secrets = self.world.keeper.secrets.lock().unwrap();
                let is_stuck = self.world.keeper.is_stuck.load(Ordering::Relaxed);
                paths.iter().for_each(|path| assert!(secrets.0.remove(*path).is_some() || is_stuck));
            }
            other => panic!("what is {other:?}?"),
        }
        Ok(ExitStatus::Exited(0))
    }

    async fn upload(&self, _payload: &Payload, _to: &str) -> Result<(), CommunicatorError> {
        panic!("nothing is uploaded")
    }

    async fn download(&self, _from: &str, _to: &Path) -> Result<Downloaded, CommunicatorError> {
        panic!("nothing is downloaded")
    }
}

struct KeeperMachine {
    name: String,
    entry: EntryId,
    communicator: Doer,
}

impl KeeperMachine {
    fn world(&self) -> &Arc<World> {
        &self.communicator.world
    }

    fn deeds(&self) -> Deeds {
        self.communicator.deeds.lock().unwrap().clone()
    }
}

#[async_trait]
impl Machine for KeeperMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            ("Host".to_owned(), format!("host-of-{}", self.name)),
            ("Deeds".to_owned(), self.deeds().join("+")),
        ])
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.communicator
    }

    async fn seal(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        let name = format!("image-{}", self.name);
        self.world().create(&name, context);
        self.world().call("seal", Some(context)).await?;
        let deeds = self.deeds();
        let keeper = &self.world().keeper;
        *keeper.last.lock().unwrap() = deeds.clone();
        if let Some(key) = self.communicator.state.lock().unwrap().clone() {
            keeper.sealed.lock().unwrap().insert(key, deeds);
        }
        let mut artifact = artifact(self.world(), &name);
        artifact.content = Content::Image(Image { id: name, ..Image::default() });
        Ok(artifact)
    }

    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure> {
        self.world().call("destroy", Some(context)).await?;
        self.world().remove(&format!("machine-{}", self.name));
        context.journal.strike(self.entry)
    }

    async fn keep(&self, key: &Key, info: &StateInfo, context: &BuildContext) -> Result<Kept, Failure> {
        self.world().call("keep", Some(context)).await?;
        let keeper = &self.world().keeper;
        *self.communicator.state.lock().unwrap() = Some(key.clone());
        if keeper.is_thrifty.load(Ordering::SeqCst) && !info.is_checkpoint {
            return Ok(Kept::NotWorth("it took no time"));
        }
        let deeds = self.deeds();
        if let Some(parent) = &info.parent {
            assert!(keeper.states.lock().unwrap().contains_key(parent), "the parent is kept");
        }
        let kept = std::mem::replace(&mut *self.communicator.kept.lock().unwrap(), deeds.len());
        let content = deeds[kept..].join("+");
        // As for a store: the first one wins.
        keeper.states.lock().unwrap().entry(key.clone()).or_insert(State { info: info.clone(), deeds });
        Ok(Kept::Kept { content: Some(content) })
    }

    fn leave_states(&self) {
        *self.communicator.state.lock().unwrap() = None;
    }

    fn stands_at_base(&self, base: &Key) {
        *self.communicator.state.lock().unwrap() = Some(base.clone());
    }

    fn secrets_directory(&self) -> Option<&str> {
        Some("/run/kiln/secrets")
    }
}

struct DeedKind(Arc<World>);

static DEED: Schema = Schema {
    kind: "deed",
    title: "a `deed` provisioner",
    doc: "",
    fields: &[
        Field::string("does", "What is done, for the log."),
        Field::string("leaves", "What it leaves on the machine; what it does where absent. Nothing where empty."),
        Field::string("script", "A file that it depends on."),
        Field::string("writes", "A file of this host that it writes."),
        Field::new("caching", FieldType::OneOf(&["outside", "passing"]), "What the cache may do with it."),
        Field::string("command", "Rendered by itself.").deferred_with(&["Path"]),
        Field::map("env", "Environment."),
        Field::strings("inline", "Commands."),
    ],
    example: "",
};

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Deed {
    does: String,
    leaves: Option<String>,
    script: Option<PathBuf>,
    writes: Option<PathBuf>,
    caching: Option<String>,
}

impl ProvisionerKind for DeedKind {
    fn schema(&self) -> &'static Schema {
        &DEED
    }

    fn prepare(&self, config: &Decoded, _: &PrepareContext, _: &mut Diagnostics) -> Option<Arc<dyn Provisioner>> {
        Some(Arc::new(DeedStep { world: self.0.clone(), deed: config.read().unwrap() }))
    }
}

struct DeedStep {
    world: Arc<World>,
    deed: Deed,
}

#[async_trait]
impl Provisioner for DeedStep {
    fn title(&self) -> String {
        self.deed.does.clone()
    }

    fn input_files(&self) -> Vec<PathBuf> {
        self.deed.script.iter().cloned().collect()
    }

    fn path_arguments(&self) -> &'static [&'static str] {
        &["script"]
    }

    fn caching(&self) -> Caching {
        match self.deed.caching.as_deref() {
            Some("outside") => Caching::Outside,
            Some("passing") => Caching::Passing,
            _ => Caching::Restorable,
        }
    }

    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        let Deed { does, leaves, script, writes, caching } = &self.deed;
        if let Some(path) = writes {
            std::fs::write(path, does).unwrap();
        }
        self.world.call(&format!("do {does}"), Some(context)).await?;
        let mut result = leaves.clone().unwrap_or_else(|| does.clone());
        if let Some(script) = script {
            result.push('=');
            result.push_str(std::fs::read_to_string(script).unwrap().trim());
        }
        if caching.is_none() && !result.is_empty() {
            let mut sink = kiln_core::communicator::NullSink;
            machine.communicator().exec(&Command::new(["do".to_owned(), result]), &mut sink).await.unwrap();
        }
        Ok(())
    }
}
