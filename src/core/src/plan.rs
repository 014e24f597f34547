//! What a template asks for, evaluated as far as it can be before anything runs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::artifact::ArtifactValues;
use crate::config::Body;
use crate::diagnostic::Diagnostics;
use crate::hook::HookSpec;
use crate::outline::Outline;
use crate::platform::Platform;
use crate::redact::Secret;
use crate::schema::Schema;
use crate::source::Span;

/// The values of `build.*`, `source.*` and of the Go template functions that depend on the build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `build.<name>`; `None` before the machine runs (then any use of one is unknown).
    pub build: Option<BTreeMap<String, String>>,
    /// Before the machine runs: the names of the values it will have. Empty where nobody knows.
    pub names: Vec<String>,
    /// `artifact.*`: what the builds left that this one is built upon, as far as they are done.
    pub artifacts: Arc<Artifacts>,
}

/// What builds of the run left, by the build's name.
pub type Artifacts = BTreeMap<Arc<str>, ArtifactValues>;

/// The environment that the command was started with, as far as a template may read it (`env`). Cheap to clone; its
/// values may be secrets, so `Debug` shows none.
#[derive(Clone, Default)]
pub struct ProcessEnvironment(Arc<BTreeMap<String, String>>);

impl ProcessEnvironment {
    /// The value of a variable, where it is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All variables, by name: what a program gets that kiln starts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl From<BTreeMap<String, String>> for ProcessEnvironment {
    fn from(variables: BTreeMap<String, String>) -> ProcessEnvironment {
        ProcessEnvironment(Arc::new(variables))
    }
}

impl std::fmt::Debug for ProcessEnvironment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ProcessEnvironment({} variables)", self.0.len())
    }
}

/// What the Go template functions need to know of the template and the run (`user`, `env`, `template_dir`, `timestamp`).
#[derive(Debug, Clone)]
pub struct TextScope {
    /// The variables of `{{user}}`; `None` for HCL2, where that function does not exist.
    pub user_variables: Option<Arc<BTreeMap<String, String>>>,
    /// What `{{env}}` reads.
    pub environment: ProcessEnvironment,
    /// The template's directory, absolute or relative to [`TextScope::working_dir`].
    pub template_dir: PathBuf,
    /// The command's directory, for `{{pwd}}`.
    pub working_dir: PathBuf,
    /// When the run started: `{{timestamp}}`, `{{isotime}}` and `legacy_isotime` are frozen at it.
    pub started: SystemTime,
}

impl Default for TextScope {
    fn default() -> TextScope {
        TextScope {
            user_variables: None,
            environment: ProcessEnvironment::default(),
            template_dir: PathBuf::from("."),
            working_dir: PathBuf::from("."),
            started: SystemTime::now(),
        }
    }
}

/// A component's body that can be evaluated: once at prepare, and again when the machine's facts are known.
pub trait ComponentConfig: Send + Sync {
    /// Evaluates all arguments, renders the Go template actions in every text but the schema's deferred fields, and
    /// merges the source's override. Mistakes go into `diagnostics`; what could be evaluated is returned all the same.
    fn evaluate(&self, schema: &Schema, facts: &Facts, diagnostics: &mut Diagnostics) -> Body;

    /// The builds whose artifacts it mentions, each with every place.
    fn parents(&self) -> Vec<Parent> {
        Vec::new()
    }
}

/// A build that another one is built upon, or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Its name.
    pub build: Arc<str>,
    /// Where it is mentioned.
    pub span: Span,
}

/// A source, provisioner or post-processor as it stands in the template.
#[derive(Clone)]
pub struct ComponentSpec {
    /// Its kind, e.g. `docker`.
    pub kind: String,
    /// Where the kind is written.
    pub kind_span: Span,
    /// The whole block's header, where failures of the component point.
    pub span: Span,
    /// Its `name`, where given.
    pub name: Option<String>,
    /// Its arguments.
    pub config: Arc<dyn ComponentConfig>,
}

impl std::fmt::Debug for ComponentSpec {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ComponentSpec")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A use of a `steps` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupUse {
    /// What the block is called.
    pub name: String,
    /// Where it is used.
    pub span: Span,
}

/// A provisioner at its place in a build.
#[derive(Debug, Clone)]
pub struct StepSpec {
    /// The provisioner.
    pub component: ComponentSpec,
    /// The `steps` blocks by which it came into the build, the outermost first; none for one that stands in the build.
    pub groups: Vec<GroupUse>,
    /// Wait before it starts.
    pub pause_before: Duration,
    /// How often it is tried again after a failure.
    pub max_retries: u32,
    /// Bound on one try.
    pub timeout: Option<Duration>,
    /// Whether the build goes on when it fails.
    pub continue_on_error: bool,
    /// Whether it may be restored, and for how long.
    pub cache: CacheRules,
    /// Whether the state after it is kept whatever that costs.
    pub is_checkpoint: bool,
    /// Files that it finds in the machine's directory for secrets: name and content.
    pub secrets: Vec<(String, Secret)>,
}

/// What a template says of restoring instead of running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheRules {
    /// `cache = false`.
    pub is_off: bool,
    /// `cache_ttl`: what is older is not restored.
    pub ttl: Option<Duration>,
}

/// A post-processor at its place in a chain.
#[derive(Debug, Clone)]
pub struct PostProcessorSpec {
    /// The post-processor.
    pub component: ComponentSpec,
    /// `keep_input_artifact`, where given.
    pub keep_input: Option<bool>,
    /// Whether the chain goes on with its input when it fails (`on_error = "continue"`).
    pub continue_on_error: bool,
}

/// A test of what a build seals.
#[derive(Debug, Clone)]
pub struct TestSpec {
    /// Its name.
    pub name: String,
    /// Its arguments, those of [`crate::trial::TEST`].
    pub component: ComponentSpec,
}

/// One source with its steps and post-processors.
#[derive(Debug, Clone)]
pub struct BuildSpec {
    /// What it is called in output, and what `-only` matches: `docker.worker`, `images.docker.worker`; in JSON the
    /// builder's name.
    pub name: Arc<str>,
    /// `{{build_name}}`: the source's (local) name in HCL2, the builder's name in JSON.
    pub build_name: Arc<str>,
    /// The builder and its arguments.
    pub source: ComponentSpec,
    /// Provisioners that apply to this source, in order.
    pub steps: Vec<StepSpec>,
    /// Runs on the still-living machine when the build failed.
    pub error_cleanup: Option<StepSpec>,
    /// Chains of post-processors that apply to this source.
    pub post_processors: Vec<Vec<PostProcessorSpec>>,
    /// What runs on this host when it has ended, in the template's order.
    pub hooks: Vec<HookSpec>,
    /// Tests of what it seals, in order.
    pub tests: Vec<TestSpec>,
    /// What the source says for all its steps.
    pub cache: CacheRules,
    /// What Go template texts that its components render themselves may use, where that is not the plan's: in modules.
    pub text_scope: Option<Arc<TextScope>>,
    /// The builds that come before it, each by its first mention. All of them are builds of the plan, and there is no ring.
    pub parents: Vec<Parent>,
    /// Nothing of it runs: only others of the plan are built upon it, and it is taken as it was sealed before.
    pub is_taken: bool,
    /// The user did not select it: it is here because others of the plan are built upon it.
    pub is_brought: bool,
    /// What it is built for, where it is one of several that `platforms` asks for: its source's `platform`.
    pub platform: Option<Platform>,
    /// The builds of those whose images it joins to an index; empty where it runs a machine of its own.
    pub variants: Vec<VariantSpec>,
    /// Why it must not be built, unless nothing is pushed: it asks for a clean work tree (`require_clean`).
    pub unclean: Option<Unclean>,
}

/// A work tree that is not as it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unclean {
    /// Why it is not known to be clean: a sentence's end.
    pub why: String,
    /// The place of `require_clean`.
    pub span: Span,
}

/// One of the builds that `platforms` makes of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariantSpec {
    /// What it is built for.
    pub platform: Platform,
    /// Its name.
    pub build: Arc<str>,
}

/// One value that the template declares; for `inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableSummary {
    /// Its name.
    pub name: String,
    /// Its value as the template language writes it, `<sensitive>` where it is, `<unknown>` where it has none yet.
    pub value: String,
    /// Its value as the console shows it: a text without quotes, no attributes that are null.
    pub shown: String,
    /// Its description, where it has one.
    pub description: Option<String>,
    /// Whether it is sensitive.
    pub sensitive: bool,
    /// Whether a value must be given.
    pub required: bool,
    /// Whether one must be given and none was.
    pub unset: bool,
}

/// One thing of a template that Packer does not have; for `inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// What it is, as a user would call it: "`for_each` on a source", "`git.commit`".
    pub what: String,
    /// Where it stands first.
    pub span: Span,
}

/// Everything a template asks for, after `-only` and `-except`.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The template's description.
    pub description: Option<String>,
    /// Builds in the template's order.
    pub builds: Vec<BuildSpec>,
    /// Kinds of sources that no build names, with their places.
    pub unused_sources: Vec<(String, Span)>,
    /// Input variables, by name.
    pub variables: Vec<VariableSummary>,
    /// Locals, by name.
    pub locals: Vec<VariableSummary>,
    /// Texts that must not be shown.
    pub secrets: Vec<String>,
    /// `required_plugins` (name, source, version constraint), for `init`.
    pub required_plugins: Vec<(String, String, String)>,
    /// What the template uses that Packer does not have: each once, by its first place.
    pub extensions: Vec<Extension>,
    /// What the template declares, before any selection.
    pub outline: Outline,
    /// What Go template texts that components render themselves may use.
    pub text_scope: Arc<TextScope>,
}
