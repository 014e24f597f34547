//! What preparing gives: builds whose components are checked and ready.

use std::sync::Arc;

use super::{Bound, PrepareOptions};
use kiln_core::{
    Artifacts, BuildSpec, Builder, CacheRules, EventKind, Hook, HookKind, HookSpec, PostProcessor, PostProcessorKind,
    PostProcessorSpec, PrepareContext, Provisioner, ProvisionerKind, SourceMap, Span, StepSpec, Test, TestSpec,
    TextScope,
};

/// A plan whose components are all checked and ready.
pub struct PreparedRun {
    /// The builds in the template's order.
    pub builds: Vec<PreparedBuild>,
    pub(crate) text_scope: Arc<TextScope>,
    pub(crate) sources: Arc<SourceMap>,
    pub(crate) secrets: Arc<[String]>,
    pub(crate) options: PrepareOptions,
}

/// One build, ready to run.
pub struct PreparedBuild {
    /// What it is called in output and in the label `kiln.build`.
    pub name: Arc<str>,
    /// What `{{build_name}}` gives.
    pub build_name: Arc<str>,
    /// The builder's kind.
    pub builder_kind: Arc<str>,
    /// `file:line` of the source.
    pub place: String,
    /// Its steps in order.
    pub steps: Vec<PreparedStep>,
    /// Runs on the living machine when the build failed.
    pub error_cleanup: Option<PreparedStep>,
    /// Its chains of post-processors.
    pub chains: Vec<Vec<PreparedPostProcessor>>,
    /// What runs on this host when it has ended.
    pub(crate) hooks: Vec<PreparedHook>,
    /// Tests of what it seals, in order.
    pub(crate) tests: Vec<PreparedTest>,
    /// `-no-push`.
    pub(super) pushes_nothing: bool,
    pub(crate) builder: Arc<dyn Builder>,
    pub(crate) source_span: Span,
    /// Something in the source's arguments is not known yet, and no machine will ever tell.
    pub(crate) source_is_unknown: bool,
    pub(crate) context: PrepareContext,
    /// What the source says of caching.
    pub(crate) cache: CacheRules,
    /// As it stands in the template: builds with parents are prepared again when those are done.
    pub(crate) spec: Arc<BuildSpec>,
    /// The builds that come before it, by their index.
    pub(crate) parents: Vec<usize>,
    /// What they left, once they are done.
    pub(crate) artifacts: Arc<Artifacts>,
    /// Names of the values that its machine will have.
    pub(crate) fact_names: Vec<String>,
}

impl PreparedBuild {
    /// Names of the builds that it is built upon.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.spec.parents.iter().map(|parent| &*parent.build)
    }

    /// The names that its builder and its post-processors give to its image, in full, in order, each once; `pushed` leaves
    /// out those that stay on this host.
    pub fn image_names(&self, pushed: bool) -> Vec<String> {
        let mut names = if pushed { self.builder.pushed_names() } else { self.builder.names() };
        for chain in &self.chains {
            let last = chain.iter().rposition(|step| step.component.ready.pushes());
            let heeded = if pushed { last.unwrap_or(0) } else { chain.len() };
            for name in chain[..heeded].iter().flat_map(|step| step.component.ready.names()) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }

    /// The names that its builder pushes by itself; none where nothing is pushed.
    pub(crate) fn own_pushes(&self) -> Vec<String> {
        if self.pushes_nothing || self.is_taken() { Vec::new() } else { self.builder.pushed_names() }
    }

    /// Its builder gives names and pushes only when the tests have passed.
    pub(crate) fn is_handed_out(&self) -> bool {
        self.context.has_tests && !self.is_taken()
    }

    /// Whether its builder pushes by itself, also under names that are not known yet.
    pub(crate) fn pushes_itself(&self) -> bool {
        !self.pushes_nothing && !self.is_taken() && self.builder.pushes()
    }

    /// The platform of the programs that its steps run on this host's kernel; `None` where another machine runs them, or
    /// there are none to run.
    pub async fn runs_here(&self) -> Option<kiln_core::Platform> {
        if self.steps.is_empty() || self.is_taken() { None } else { self.builder.runs_here().await }
    }

    /// It does not run: it is taken as it was sealed before.
    pub(crate) fn take(&mut self) {
        Arc::make_mut(&mut self.spec).is_taken = true;
        self.chains.clear();
        self.hooks.clear();
        self.tests.clear();
    }

    /// What Go template texts of its components may use; `around` is the template's.
    pub(crate) fn text_scope(&self, around: &Arc<TextScope>) -> Arc<TextScope> {
        Arc::clone(self.spec.text_scope.as_ref().unwrap_or(around))
    }

    /// Of a build that joins images to an index: their platforms.
    pub(crate) fn platforms(&self) -> Vec<String> {
        self.spec.variants.iter().map(|variant| variant.platform.to_string()).collect()
    }

    /// That it starts.
    pub(crate) fn started(&self) -> EventKind {
        EventKind::BuildStarted { builder: self.builder_kind.to_string(), joins: self.platforms() }
    }

    /// Whether it was not selected, and is there for what is built upon it.
    pub(crate) fn is_brought(&self) -> bool {
        self.spec.is_brought
    }

    /// Whether it does not run, and is taken as it was sealed before.
    pub fn is_taken(&self) -> bool {
        self.spec.is_taken
    }
}

/// One step, ready to run.
pub struct PreparedStep {
    /// As it stands in the template.
    pub spec: StepSpec,
    /// `file:line` of the step.
    pub place: String,
    /// The `steps` blocks by which it came into the build, the outermost first: name, and `file:line` of the use.
    pub groups: Vec<(String, String)>,
    pub(crate) component: Bound<dyn Provisioner, dyn ProvisionerKind>,
}

/// One post-processor, ready to run.
pub struct PreparedPostProcessor {
    /// As it stands in the template.
    pub spec: PostProcessorSpec,
    /// `file:line` of the post-processor.
    pub place: String,
    /// It does not run, as it would push and nothing shall be.
    pub is_left_out: bool,
    pub(crate) component: Bound<dyn PostProcessor, dyn PostProcessorKind>,
}

/// One test, ready to run.
pub(crate) struct PreparedTest {
    /// As it stands in the template.
    pub(crate) spec: TestSpec,
    /// `file:line` of the test.
    pub(crate) place: String,
    /// `None` where its arguments depend on the machine.
    pub(crate) ready: Option<Arc<Test>>,
}

/// One hook, ready to run.
pub(crate) struct PreparedHook {
    /// As it stands in the template.
    pub(crate) spec: HookSpec,
    /// `file:line` of the hook.
    pub(crate) place: String,
    pub(crate) component: Bound<dyn Hook, dyn HookKind>,
}

impl PreparedStep {
    /// What it does, in a few words. Values that only the machine can tell are still missing in it.
    pub fn title(&self) -> String {
        self.component.ready.title()
    }

    /// How it came into the build, where it stands in a `steps` block: "by `steps "NAME"` at FILE:LINE".
    pub(crate) fn origin(&self) -> Option<String> {
        let uses: Vec<String> =
            self.groups.iter().rev().map(|(name, at)| format!("`steps \"{name}\"` at {at}")).collect();
        (!uses.is_empty()).then(|| format!("by {}", uses.join(", by ")))
    }

    /// Whether its arguments are evaluated again once the machine runs.
    pub fn needs_facts(&self) -> bool {
        self.component.needs_facts
    }
}

impl PreparedPostProcessor {
    /// The names that it gives to images, in full; without those that only the run can tell.
    pub fn names(&self) -> Vec<String> {
        self.component.ready.names()
    }
}
