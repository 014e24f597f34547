//! The plug-in contracts, and the registry that maps a kind's name to its factory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::artifact::{Artifact, Content, Image, Variant};
use crate::cache::{Kept, Key, Snapshots, StateInfo};
use crate::communicator::Communicator;
use crate::context::BuildContext;
use crate::data::DataSourceKind;
use crate::diagnostic::{Diagnostic, Diagnostics, Severity};
use crate::failure::Failure;
use crate::history::{History, Published};
use crate::hook::HookKind;
use crate::journal::Undoer;
use crate::platform::Platform;
use crate::schema::{Decoded, Schema};
use crate::trial::Tester;

/// What `prepare` may know of its surroundings: names only, so that it stays free of I/O and of results.
#[derive(Debug, Clone)]
pub struct PrepareContext {
    /// The build's name.
    pub build: Arc<str>,
    /// `{{build_name}}`.
    pub build_name: Arc<str>,
    /// The builder's kind.
    pub builder_kind: Arc<str>,
    /// `-force`.
    pub force: bool,
    /// Whether it is prepared to run, and not only checked.
    pub will_run: bool,
    /// Its image becomes part of an index, by a build of its own (`platforms`): that one gives names, pushes and writes.
    pub is_variant: bool,
    /// Whether provisioners follow: a builder that can give a result without a machine makes one only for them.
    pub has_steps: bool,
    /// Whether tests try out what it seals: then nothing of that gets a name or leaves this host before
    /// [`Builder::hand_out`].
    pub has_tests: bool,
    /// Where the template's file lies, for arguments that are relative to it; empty for the working directory.
    pub directory: PathBuf,
}

impl PrepareContext {
    /// A mistake that may well be one of the surroundings, such as a variable of the environment that is not set: an error
    /// where the component will run, a warning where it is only checked.
    #[must_use]
    pub fn unless_checked(&self, error: Diagnostic) -> Diagnostic {
        if self.will_run { error } else { Diagnostic { severity: Severity::Warning, ..error } }
    }
}

/// A kind of source.
pub trait BuilderKind: Send + Sync {
    /// Its arguments.
    fn schema(&self) -> &'static Schema;

    /// Names of the `build.*` values it adds to the common ones, e.g. `ImageSha256`.
    fn fact_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Checks the arguments and returns the builder; all mistakes go into `diagnostics`, and `None` comes back only with
    /// at least one error there. No network, no writes. A file that is named may be looked at.
    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>>;

    /// What joins the images of a source's `platforms`: `config` are the source's arguments, without `platform`, and
    /// `variants` the images, once they are there. Places in an engine need nothing more than to be listed; a kind whose
    /// images lie in a layout writes the index there.
    fn prepare_index(
        &self,
        config: &Decoded,
        variants: Option<Vec<Variant>>,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let _ = (config, diagnostics);
        Some(Arc::new(Joined { variants: variants.unwrap_or_default(), kind: Arc::clone(&context.builder_kind) }))
    }
}

/// Lists images where they are: the index that [`BuilderKind::prepare_index`] makes of images in engines.
#[derive(Debug)]
pub struct Joined {
    /// The images.
    pub variants: Vec<Variant>,
    /// The kind of source that made them.
    pub kind: Arc<str>,
}

impl Joined {
    /// The artifact of an index.
    pub fn artifact(kind: &str, image: Image) -> Artifact {
        let platforms: Vec<String> = image.variants.iter().map(|variant| variant.platform.to_string()).collect();
        // As AMIs are listed by region.
        let ids = image.variants.iter().map(|variant| format!("{}={}", variant.platform, variant.image.id));
        let id = image.digest.clone().unwrap_or_else(|| ids.collect::<Vec<_>>().join(","));
        Artifact {
            builder_id: format!("kiln.{kind}.index"),
            id,
            description: format!("Image index: {}", platforms.join(", ")),
            content: Content::Image(image),
            owner: None,
        }
    }
}

#[async_trait]
impl Builder for Joined {
    async fn launch(&self, _context: &BuildContext) -> Result<Launched, Failure> {
        Ok(Launched::Artifact(Joined::artifact(&self.kind, Image::index_of(self.variants.clone()))))
    }
}

/// What launching gave.
#[allow(clippy::large_enum_variant)] // There is one a build.
pub enum Launched {
    /// A machine to provision.
    Machine(Box<dyn Machine>),
    /// The result itself, where there is nothing to provision.
    Artifact(Artifact),
}

/// A configured source.
#[async_trait]
pub trait Builder: Send + Sync {
    /// Starts the base machine. Notes every undo in the journal first; on failure, what it started is gone again.
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure>;

    /// The names that it gives to its image itself, before any post-processor, in full (`registry.example.org/image:tag`).
    /// What is not known before the run is left out.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Those of [`Builder::names`] that it sends to registries itself. With [`crate::RunOptions::no_push`] it sends none.
    fn pushed_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Gives what was sealed its names and brings it to where the arguments say. Called once all tests passed, and only where
    /// [`PrepareContext::has_tests`]: a builder does it while sealing else. May be called again after a failure.
    async fn hand_out(&self, artifact: Artifact, context: &BuildContext) -> Result<Artifact, Failure> {
        let _ = context;
        Ok(artifact)
    }

    /// Whether it sends its image to registries itself, also under names that are not known yet.
    fn pushes(&self) -> bool {
        !self.pushed_names().is_empty()
    }

    /// How states of its machines are kept and restored; `None` for a builder without a step cache.
    fn snapshots(&self) -> Option<&dyn Snapshots> {
        None
    }

    /// What its machine's programs are for, where this host's kernel runs them and their processor may be another than
    /// its own: whether there is an emulator is looked at before anything is built.
    async fn runs_here(&self) -> Option<Platform> {
        None
    }

    /// How what its machines are sealed to is tested; `None` for a builder whose artifacts cannot be started.
    fn tester(&self) -> Option<&dyn Tester> {
        None
    }
}

/// A machine that runs.
#[async_trait]
pub trait Machine: Send + Sync {
    /// Values for `build.*`: `ID`, `Host`, `User`, ... and those of [`BuilderKind::fact_names`].
    fn facts(&self) -> BTreeMap<String, String>;

    /// How commands and files reach it.
    fn communicator(&self) -> &dyn Communicator;

    /// Called before the first step that runs on it, and not where it is only sealed: starts what steps need beside it. What
    /// of it was started belongs to the machine, also on failure; then this may be called again.
    async fn before_steps(&self, context: &BuildContext) -> Result<(), Failure> {
        let _ = context;
        Ok(())
    }

    /// Called where the build has failed while it lives: keeps what tells why, before anything is removed.
    async fn keep_logs(&self, context: &BuildContext) {
        let _ = context;
    }

    /// Called before its artifact is tested: removes what ran beside the steps, as tests start their own, which may want the
    /// same ports. Safe to repeat.
    async fn before_tests(&self, context: &BuildContext) -> Result<(), Failure> {
        let _ = context;
        Ok(())
    }

    /// Turns its present state into an artifact. The machine lives on until [`Machine::destroy`].
    /// Undos of the artifact go to the journal of this context: those noted with the context of `launch` are taken for the
    /// machine's and undone with it.
    async fn seal(&self, context: &BuildContext) -> Result<Artifact, Failure>;

    /// Removes it and what belongs to it. Always called, safe to repeat.
    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure>;

    /// How long [`Machine::destroy`] may take.
    fn removal_limit(&self) -> std::time::Duration {
        crate::journal::REMOVAL_LIMIT
    }

    /// Keeps its present state under a key, and goes on from there. The state before it was kept under `info.parent`, or
    /// is where the machine was restored from. Nothing half kept is ever found, whatever interrupts this.
    async fn keep(&self, key: &Key, info: &StateInfo, context: &BuildContext) -> Result<Kept, Failure> {
        let _ = (key, info, context);
        Ok(Kept::NotWorth("this builder keeps no states"))
    }

    /// What is done to it from now on leads to no state that has a key (a step failed, and the build goes on all the same):
    /// nothing of it is kept, and what sealing gives is not remembered as the result of the state before.
    fn leave_states(&self) {}

    /// Told before [`Machine::seal`] where nothing ran on it that could change it: it is what [`crate::Snapshots::base`]
    /// says, and what sealing gives may be remembered under this key.
    fn stands_at_base(&self, base: &Key) {
        let _ = base;
    }

    /// A directory of the machine that is held in memory and is never part of its state, for secrets of a step. Where it is
    /// missing, it is made for the step and removed after it.
    fn secrets_directory(&self) -> Option<&str> {
        None
    }

    /// How a person gets into it, for `-on-error=abort` and `-debug`: `docker exec -it kiln-... sh`.
    fn enter_hint(&self) -> Option<String> {
        None
    }
}

/// A kind of provisioner.
pub trait ProvisionerKind: Send + Sync {
    /// Its arguments.
    fn schema(&self) -> &'static Schema;

    /// As [`BuilderKind::prepare`].
    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>>;
}

/// What the step cache may do with a provisioner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Its result depends on the machine and its inputs alone: it may be restored instead of run.
    Restorable,
    /// It reaches outside and leaves the machine as it is (a download, a command on this host, a pause for a person): it
    /// always runs, at its place, and does not enter the key of what comes after.
    Outside,
    /// It only passes time for what runs before and after it: left out where the step before it is restored.
    Passing,
}

/// A configured provisioner.
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// What it does, in a few words: `scripts/apt.sh`, `3 inline commands`.
    fn title(&self) -> String;

    /// Files of this host that its result depends on, for the step's key. Directories count with all that is in them.
    fn input_files(&self) -> Vec<std::path::PathBuf> {
        Vec::new()
    }

    /// What the step cache may do with it.
    fn caching(&self) -> Caching {
        Caching::Restorable
    }

    /// Arguments whose texts do not matter to the result, because [`Provisioner::input_files`] says the same better: names
    /// of files of this host.
    fn path_arguments(&self) -> &'static [&'static str] {
        &[]
    }

    /// Changes the machine. Heeds `context.cancel`.
    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure>;
}

/// A kind of post-processor.
pub trait PostProcessorKind: Send + Sync {
    /// Its arguments (without `keep_input_artifact`, `only`, `except`, `name`).
    fn schema(&self) -> &'static Schema;

    /// As [`BuilderKind::prepare`].
    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>>;
}

/// What post-processing gave.
pub struct Processed {
    /// The new artifact; may be the old one, passed on.
    pub artifact: Artifact,
    /// Whether the input is kept where the template does not say.
    pub keep_input: bool,
    /// Whether the input is kept whatever the template says.
    pub force_keep: bool,
}

/// A configured post-processor.
#[async_trait]
pub trait PostProcessor: Send + Sync {
    /// The names that it gives to images, in full (`registry.example.org/group/image:tag`), in order. What is not known
    /// before the run is left out.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it sends the image, under all names that it bears by then, to registries.
    fn pushes(&self) -> bool {
        false
    }

    /// The names under which it would send this artifact to registries, in full, in the order of sending.
    fn sends(&self, artifact: &Artifact) -> Vec<String> {
        let _ = artifact;
        Vec::new()
    }

    /// Whether [`PostProcessor::published`] is to be asked before the build begins.
    fn asks_before(&self) -> bool {
        false
    }

    /// What it would send under these names, as far as all of it is in its registry already. Changes nothing.
    ///
    /// # Errors
    /// That cannot be found out: neither is to be taken for granted then.
    async fn published(&self, names: &[String], context: &BuildContext) -> Result<Option<Published>, Failure> {
        let _ = (names, context);
        Ok(None)
    }

    /// Gives an image that is in its registry these of [`Published::missing`], beside the names that it has. Nothing else is
    /// sent for that. Gives the names that it has then, as [`Image::tags`](crate::Image::tags) has them: one that could only
    /// be warned of is not among them.
    async fn name_published(
        &self,
        names: &BTreeMap<String, String>,
        context: &BuildContext,
    ) -> Result<Vec<String>, Failure> {
        let _ = (names, context);
        Ok(Vec::new())
    }

    /// What the person at the terminal is asked before it sends anything.
    fn question(&self) -> Option<&str> {
        None
    }

    /// Whether it also takes note of an artifact that was there already, so that nothing was built.
    fn takes_note(&self) -> bool {
        false
    }

    /// Makes the next artifact. The input stays as it is; the engine removes it later if it is not kept.
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure>;

    /// The same, for those that tell what happened before.
    async fn process_after(
        &self,
        artifact: &Artifact,
        history: &History,
        context: &BuildContext,
    ) -> Result<Processed, Failure> {
        let _ = history;
        self.process(artifact, context).await
    }
}

/// All kinds, by name. An unknown name is the caller's error to tell, with the nearest of [`Kinds::builder_names`].
#[derive(Default)]
pub struct Kinds {
    builders: BTreeMap<&'static str, Arc<dyn BuilderKind>>,
    provisioners: BTreeMap<&'static str, Arc<dyn ProvisionerKind>>,
    post_processors: BTreeMap<&'static str, Arc<dyn PostProcessorKind>>,
    data_sources: BTreeMap<&'static str, Arc<dyn DataSourceKind>>,
    undoers: BTreeMap<&'static str, Arc<dyn Undoer>>,
    hook: Option<Arc<dyn HookKind>>,
}

impl std::fmt::Debug for Kinds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Kinds")
            .field("builders", &self.builder_names())
            .field("provisioners", &self.provisioner_names())
            .field("post_processors", &self.post_processor_names())
            .field("data_sources", &self.data_source_names())
            .finish_non_exhaustive()
    }
}

impl Kinds {
    /// None yet.
    pub fn new() -> Kinds {
        Kinds::default()
    }

    /// Adds a builder under its schema's kind.
    pub fn add_builder(&mut self, kind: Arc<dyn BuilderKind>) {
        self.builders.insert(kind.schema().kind, kind);
    }

    /// Adds a provisioner under its schema's kind.
    pub fn add_provisioner(&mut self, kind: Arc<dyn ProvisionerKind>) {
        self.provisioners.insert(kind.schema().kind, kind);
    }

    /// Adds a post-processor under its schema's kind.
    pub fn add_post_processor(&mut self, kind: Arc<dyn PostProcessorKind>) {
        self.post_processors.insert(kind.schema().kind, kind);
    }

    /// Adds a data source under its schema's kind.
    pub fn add_data_source(&mut self, kind: Arc<dyn DataSourceKind>) {
        self.data_sources.insert(kind.schema().kind, kind);
    }

    /// Adds an undoer under all its kinds.
    pub fn add_undoer(&mut self, undoer: Arc<dyn Undoer>) {
        for kind in undoer.kinds() {
            self.undoers.insert(kind, Arc::clone(&undoer));
        }
    }

    /// Sets what hooks are.
    pub fn set_hook(&mut self, kind: Arc<dyn HookKind>) {
        self.hook = Some(kind);
    }

    /// What hooks are, where there are any.
    pub fn hook(&self) -> Option<&Arc<dyn HookKind>> {
        self.hook.as_ref()
    }

    /// The builder of a name.
    pub fn builder(&self, kind: &str) -> Option<&Arc<dyn BuilderKind>> {
        self.builders.get(kind)
    }

    /// The provisioner of a name.
    pub fn provisioner(&self, kind: &str) -> Option<&Arc<dyn ProvisionerKind>> {
        self.provisioners.get(kind)
    }

    /// The post-processor of a name.
    pub fn post_processor(&self, kind: &str) -> Option<&Arc<dyn PostProcessorKind>> {
        self.post_processors.get(kind)
    }

    /// The data source of a name.
    pub fn data_source(&self, kind: &str) -> Option<&Arc<dyn DataSourceKind>> {
        self.data_sources.get(kind)
    }

    /// The undoer of a kind of undo.
    pub fn undoer(&self, kind: &str) -> Option<&Arc<dyn Undoer>> {
        self.undoers.get(kind)
    }

    /// Names of all builders.
    pub fn builder_names(&self) -> Vec<&'static str> {
        self.builders.keys().copied().collect()
    }

    /// Names of all provisioners.
    pub fn provisioner_names(&self) -> Vec<&'static str> {
        self.provisioners.keys().copied().collect()
    }

    /// Names of all post-processors.
    pub fn post_processor_names(&self) -> Vec<&'static str> {
        self.post_processors.keys().copied().collect()
    }

    /// Names of all data sources.
    pub fn data_source_names(&self) -> Vec<&'static str> {
        self.data_sources.keys().copied().collect()
    }
}
