//! Binds a plan to the kinds that kiln has: evaluates every body, checks it against its schema, prepares the component.

mod bound;
mod prepared;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::{
    Artifacts, Body, BuildSpec, Builder, ComponentSpec, Decoded, Diagnostic, Diagnostics, Facts, Failure, GroupUse,
    HookSpec, Image, Kinds, Node, Plan, PostProcessor, PostProcessorKind, PostProcessorSpec, PrepareContext, Schema,
    SourceMap, Span, StepSpec, Test, TestSpec, Tester, TextScope, Value, Variant, VariantSpec,
};

use kiln_core::trial::TEST;

use crate::ecosystem::{Sort, unknown_kind};
use crate::publication::refuse_same_names;
use crate::trial::output_pattern;

use bound::wrong_arguments;
pub(crate) use bound::{Binding, Bound, BoundStep};
pub use prepared::{PreparedBuild, PreparedPostProcessor, PreparedRun, PreparedStep};
pub(crate) use prepared::{PreparedHook, PreparedTest};

/// Arguments of every provisioner, which the template's loader reads; none of them changes what comes out.
pub(crate) const STEP_ARGUMENTS: [&str; 8] =
    ["name", "only", "except", "pause_before", "max_retries", "timeout", "override", "continue_on_error"];

/// The same for steps of HCL2 templates.
pub(crate) const STEP_EXTENSIONS: [&str; 6] = ["for_each", "enabled", "cache", "cache_ttl", "checkpoint", "secrets"];

/// The same for sources of HCL2 templates.
const SOURCE_EXTENSIONS: [&str; 5] = ["for_each", "enabled", "platforms", "cache", "cache_ttl"];

/// Arguments of every post-processor, which the template's loader reads.
const POST_PROCESSOR_ARGUMENTS: [&str; 4] = ["name", "only", "except", "keep_input_artifact"];

/// The same for post-processors of HCL2 templates.
const POST_PROCESSOR_EXTENSIONS: [&str; 3] = ["for_each", "enabled", "on_error"];

/// Arguments of every hook, which the template's loader reads.
const HOOK_ARGUMENTS: [&str; 6] = ["name", "only", "except", "timeout", "for_each", "enabled"];

/// What every build has, also one without a machine.
pub(crate) const RUN_FACT: &str = "PackerRunUUID";
/// Arguments of every test, which the template's loader reads.
const TEST_ARGUMENTS: [&str; 4] = ["only", "except", "for_each", "enabled"];

/// Values that every machine has.
const COMMON_FACTS: [&str; 7] = ["ConnType", "Host", "ID", "PackerRunUUID", "Password", "Port", "User"];

/// What preparing depends on besides the plan.
#[derive(Debug, Clone, Default)]
pub struct PrepareOptions {
    /// `-force`.
    pub force: bool,
    /// The run is meant to happen. Else the template is only checked, perhaps elsewhere than where it will be built.
    pub will_run: bool,
    /// `-no-push`: what pushes is left out, and is not asked for logins.
    pub no_push: bool,
    /// Unknown kinds are warnings: for checking a template whose plug-ins kiln does not have. Such a plan cannot run.
    pub allow_unknown_kinds: bool,
    /// The texts that the plan's places point into.
    pub sources: Arc<SourceMap>,
}

/// Checks and prepares everything; all mistakes of all builds come back at once, in the order of the text. The first is
/// `None` when something cannot run: there are errors, or accepted unknown kinds. A template is valid when no diagnostic
/// is an error.
pub fn prepare(plan: &Plan, kinds: &Kinds, options: &PrepareOptions) -> (Option<PreparedRun>, Diagnostics) {
    let mut preparing = Preparing {
        kinds,
        options,
        diagnostics: Diagnostics::new(),
        secrets: plan.secrets.clone(),
        facts: Facts::default(),
        artifacts: Arc::default(),
    };
    preparing.unused(&plan.unused_sources);
    let builds: Vec<Option<PreparedBuild>> =
        plan.builds.iter().map(|build| preparing.build(&Arc::new(build.clone()), &plan.builds)).collect();
    let Preparing { mut diagnostics, mut secrets, .. } = preparing;
    refuse_same_names(&builds, &mut diagnostics);
    for item in &mut diagnostics.items {
        beside_template(item, &plan.text_scope, &options.sources);
    }
    secrets.append(&mut diagnostics.secrets);
    diagnostics.sort();
    if diagnostics.has_errors() {
        return (None, diagnostics);
    }
    let text_scope = Arc::clone(&plan.text_scope);
    let run = builds.into_iter().collect::<Option<Vec<_>>>().map(|builds| PreparedRun {
        builds,
        text_scope,
        sources: Arc::clone(&options.sources),
        secrets: secrets.into(),
        options: options.clone(),
    });
    (run, diagnostics)
}

/// What preparing a build again needs.
pub(crate) struct Again<'a> {
    pub(crate) kinds: &'a Kinds,
    pub(crate) options: &'a PrepareOptions,
    pub(crate) redactor: &'a kiln_core::Redactor,
}

impl Again<'_> {
    /// The build once more, with what the builds left that it is built upon.
    ///
    /// # Errors
    /// With these values its arguments are wrong.
    pub(crate) fn prepare(&self, build: &PreparedBuild, artifacts: Arc<Artifacts>) -> Result<PreparedBuild, Failure> {
        let mut preparing = Preparing {
            kinds: self.kinds,
            options: self.options,
            diagnostics: Diagnostics::new(),
            secrets: Vec::new(),
            facts: Facts::default(),
            artifacts,
        };
        let again = preparing.build(&build.spec, &[]);
        let Preparing { mut diagnostics, mut secrets, .. } = preparing;
        secrets.append(&mut diagnostics.secrets);
        secrets.iter().for_each(|secret| self.redactor.add(secret));
        match again {
            // Warnings were told before the run.
            Some(again) if !diagnostics.has_errors() => Ok(PreparedBuild { parents: build.parents.clone(), ..again }),
            _ => Err(wrong_arguments(&diagnostics, &self.options.sources).at(build.source_span)),
        }
    }
}

struct Preparing<'a> {
    kinds: &'a Kinds,
    options: &'a PrepareOptions,
    diagnostics: Diagnostics,
    secrets: Vec<String>,
    /// What is known of the machine of the build at hand.
    facts: Facts,
    /// What builds left that others are built upon.
    artifacts: Arc<Artifacts>,
}

impl Preparing<'_> {
    /// The directory of the file that a place lies in.
    fn directory_of(&self, span: Span) -> PathBuf {
        // As the user named it, so that messages do.
        let file = self.options.sources.get(span.source).filter(|file| file.path.is_some());
        file.and_then(|file| Path::new(&file.name).parent()).map(Path::to_path_buf).unwrap_or_default()
    }

    /// `None` where a part of it is unknown or wrong; all parts are checked all the same.
    fn build(&mut self, build: &Arc<BuildSpec>, all: &[BuildSpec]) -> Option<PreparedBuild> {
        let context = PrepareContext {
            build: Arc::clone(&build.name),
            build_name: Arc::clone(&build.build_name),
            builder_kind: build.source.kind.as_str().into(),
            force: self.options.force,
            will_run: self.options.will_run,
            is_variant: build.platform.is_some(),
            has_steps: !build.steps.is_empty(),
            has_tests: !build.tests.is_empty(),
            directory: self.directory_of(build.source.span),
        };
        // A source has no machine yet, and says so itself.
        self.facts = Facts { artifacts: Arc::clone(&self.artifacts), ..Facts::default() };
        let source = match build.variants.as_slice() {
            [] => self.source(&build.source, &context),
            variants => self.index(&build.source, variants, &context),
        };
        self.facts = self.facts_of(build);
        let steps: Vec<_> = build.steps.iter().map(|step| self.step(step, &context)).collect();
        let error_cleanup = build.error_cleanup.as_ref().map(|step| self.step(step, &context));
        let chains: Vec<_> = build
            .post_processors
            .iter()
            .map(|chain| {
                let chain: Vec<_> = chain.iter().map(|spec| self.post_processor(spec, &context)).collect();
                chain.into_iter().collect::<Option<Vec<_>>>()
            })
            .collect();
        let hooks: Vec<_> = build.hooks.iter().map(|hook| self.hook(hook, &context)).collect();
        let builder = source.as_ref().map(|(builder, _)| Arc::clone(builder));
        let tests: Vec<_> = build.tests.iter().map(|test| self.test(test, build, builder.as_deref())).collect();
        let (builder, source_is_unknown) = source?;
        let fact_names = std::mem::take(&mut self.facts.names);
        Some(PreparedBuild {
            name: Arc::clone(&build.name),
            build_name: Arc::clone(&build.build_name),
            builder_kind: Arc::clone(&context.builder_kind),
            place: place(&self.options.sources, build.source.span),
            steps: steps.into_iter().collect::<Option<_>>()?,
            // An error-cleanup provisioner that is wrong is not the same as none.
            error_cleanup: match error_cleanup {
                Some(step) => Some(step?),
                None => None,
            },
            chains: match build.is_taken {
                true => Vec::new(),
                false => chains.into_iter().collect::<Option<_>>()?,
            },
            pushes_nothing: self.options.no_push,
            hooks: match build.is_taken {
                true => Vec::new(),
                false => hooks.into_iter().collect::<Option<_>>()?,
            },
            tests: match build.is_taken {
                true => Vec::new(),
                false => tests.into_iter().collect::<Option<_>>()?,
            },
            builder,
            source_span: build.source.span,
            source_is_unknown,
            context,
            cache: build.cache,
            parents: build
                .parents
                .iter()
                .filter_map(|parent| all.iter().position(|other| other.name == parent.build))
                .collect(),
            spec: Arc::clone(build),
            artifacts: Arc::clone(&self.artifacts),
            fact_names,
        })
    }

    /// The names of the values that a builder's machine will have; none for a kind that kiln does not have.
    fn facts_of(&self, build: &BuildSpec) -> Facts {
        let own = self.kinds.builder(&build.source.kind).map(|kind| kind.fact_names()).unwrap_or_default();
        let (common, own) = match own {
            // Where images are only joined, no machine runs.
            _ if !build.variants.is_empty() => (&COMMON_FACTS[..0], &[RUN_FACT][..]),
            [] => (&COMMON_FACTS[..0], own),
            own => (&COMMON_FACTS[..], own),
        };
        let names = common.iter().chain(own).map(|name| (*name).to_owned()).collect();
        Facts { build: None, names, artifacts: Arc::clone(&self.artifacts) }
    }

    fn source(&mut self, spec: &ComponentSpec, context: &PrepareContext) -> Option<(Arc<dyn Builder>, bool)> {
        let Some(kind) = self.kinds.builder(&spec.kind) else {
            return self.unknown(Sort::Builder, spec);
        };
        let (body, decoded) = self.decode(spec, kind.schema(), &["name"], &SOURCE_EXTENSIONS);
        let before = self.diagnostics.items.len();
        let builder = kind.prepare(&decoded, context, &mut self.diagnostics);
        Some((self.ready(builder, before, spec)?, body.has_unknown()))
    }

    /// What joins the images of other builds, as soon as those are there. Of its arguments, only some mean something then,
    /// and what the others say is not waited for.
    fn index(
        &mut self,
        spec: &ComponentSpec,
        variants: &[VariantSpec],
        context: &PrepareContext,
    ) -> Option<(Arc<dyn Builder>, bool)> {
        let Some(kind) = self.kinds.builder(&spec.kind) else {
            return self.unknown(Sort::Builder, spec);
        };
        let images = match variants.iter().all(|variant| self.artifacts.contains_key(&variant.build)) {
            false => None,
            true => Some(self.images(spec, variants)?),
        };
        let (_, decoded) = self.decode(spec, kind.schema(), &["name"], &SOURCE_EXTENSIONS);
        let before = self.diagnostics.items.len();
        let builder = kind.prepare_index(&decoded, images, context, &mut self.diagnostics);
        Some((self.ready(builder, before, spec)?, false))
    }

    /// What builds for several platforms left; `None` where one of them made no image, which is told.
    fn images(&mut self, spec: &ComponentSpec, variants: &[VariantSpec]) -> Option<Vec<Variant>> {
        let mut images = Vec::new();
        for variant in variants {
            match self.artifacts.get(&variant.build).and_then(Image::from_values) {
                Some(image) => images.push(Variant { platform: variant.platform.clone(), image }),
                None => {
                    let title =
                        format!("`{}` made no image, so there is nothing to join with the others", variant.build);
                    self.diagnostics.push(Diagnostic::error("no-image", spec.span, title));
                }
            }
        }
        (images.len() == variants.len()).then_some(images)
    }

    fn step(&mut self, spec: &StepSpec, context: &PrepareContext) -> Option<PreparedStep> {
        let component = &spec.component;
        let Some(kind) = self.kinds.provisioner(&component.kind) else {
            return self.unknown(Sort::Provisioner, component);
        };
        let (body, decoded) = self.decode(component, kind.schema(), &STEP_ARGUMENTS, &STEP_EXTENSIONS);
        self.secrets.extend(spec.secrets.iter().map(|(_, secret)| secret.expose().to_owned()));
        let before = self.diagnostics.items.len();
        let ready = kind.prepare(&decoded, context, &mut self.diagnostics);
        let used = |used: &GroupUse| (used.name.clone(), place(&self.options.sources, used.span));
        Some(PreparedStep {
            place: place(&self.options.sources, component.span),
            groups: spec.groups.iter().map(used).collect(),
            component: Bound {
                ready: self.ready(ready, before, component)?,
                kind: Arc::clone(kind),
                needs_facts: body.has_unknown(),
                body: Arc::new(body),
            },
            spec: spec.clone(),
        })
    }

    fn post_processor(&mut self, spec: &PostProcessorSpec, context: &PrepareContext) -> Option<PreparedPostProcessor> {
        let component = &spec.component;
        let Some(kind) = self.kinds.post_processor(&component.kind) else {
            return self.unknown(Sort::PostProcessor, component);
        };
        let (body, decoded) =
            self.decode(component, kind.schema(), &POST_PROCESSOR_ARGUMENTS, &POST_PROCESSOR_EXTENSIONS);
        let before = self.diagnostics.items.len();
        let unpushed = if self.options.no_push { without_pushing(kind.as_ref(), &decoded, context) } else { None };
        let is_left_out = unpushed.is_some();
        let ready = unpushed.or_else(|| kind.prepare(&decoded, context, &mut self.diagnostics));
        Some(PreparedPostProcessor {
            place: place(&self.options.sources, component.span),
            is_left_out,
            component: Bound {
                ready: self.ready(ready, before, component)?,
                kind: Arc::clone(kind),
                needs_facts: body.has_unknown(),
                body: Arc::new(body),
            },
            spec: spec.clone(),
        })
    }

    fn hook(&mut self, spec: &HookSpec, context: &PrepareContext) -> Option<PreparedHook> {
        let component = &spec.component;
        let Some(kind) = self.kinds.hook() else {
            self.diagnostics.push(silent_refusal(component));
            return None;
        };
        let (body, decoded) = self.decode(component, kind.schema(), &[], &HOOK_ARGUMENTS);
        let before = self.diagnostics.items.len();
        let ready = kind.prepare(&decoded, context, &mut self.diagnostics);
        Some(PreparedHook {
            place: place(&self.options.sources, component.span),
            component: Bound {
                ready: self.ready(ready, before, component)?,
                kind: Arc::clone(kind),
                needs_facts: body.has_unknown(),
                body: Arc::new(body),
            },
            spec: spec.clone(),
        })
    }

    /// Without a builder, which is wrong itself, the arguments alone are checked.
    fn test(&mut self, spec: &TestSpec, build: &BuildSpec, builder: Option<&dyn Builder>) -> Option<PreparedTest> {
        let (body, decoded) = self.decode(&spec.component, &TEST, &[], &TEST_ARGUMENTS);
        let tester = builder.map(|builder| builder.tester());
        if let Some(None) = tester {
            let title = format!("kiln cannot test what this `{}` source makes", build.source.kind);
            let known = "`test` blocks are for images that `docker` sources commit; `only = [...]` restricts them to some sources";
            self.diagnostics.push(Diagnostic::error("test", spec.component.kind_span, title).help(known));
            return None;
        }
        let before = self.diagnostics.items.len();
        let ready = checked_test(spec, &decoded, tester.flatten(), &mut self.diagnostics);
        if self.diagnostics.items[before..].iter().any(Diagnostic::is_error) {
            return None;
        }
        let ready = ready.filter(|_| !body.has_unknown());
        Some(PreparedTest { place: place(&self.options.sources, spec.component.span), ready, spec: spec.clone() })
    }

    /// Kinds of sources that no build names: those that Packer's plug-ins have do no harm, others are slips.
    fn unused(&mut self, sources: &[(String, Span)]) {
        for (kind, span) in sources.iter().filter(|(kind, _)| self.kinds.builder(kind).is_none()) {
            if !Sort::Builder.is_packers(kind) {
                let is_accepted = self.options.allow_unknown_kinds;
                self.diagnostics.push(unknown_kind(Sort::Builder, kind, *span, self.kinds, is_accepted));
            }
        }
    }

    /// A kind that kiln does not have. What its arguments refer to can be checked all the same.
    fn unknown<T>(&mut self, sort: Sort, spec: &ComponentSpec) -> Option<T> {
        let is_accepted = self.options.allow_unknown_kinds;
        self.diagnostics.push(unknown_kind(sort, &spec.kind, spec.kind_span, self.kinds, is_accepted));
        let body = spec.config.evaluate(&Schema::UNTYPED, &self.facts, &mut self.diagnostics);
        collect_secrets(&body, &mut self.secrets);
        None
    }

    fn decode(
        &mut self,
        spec: &ComponentSpec,
        schema: &Schema,
        others: &[&str],
        extensions: &[&str],
    ) -> (Body, Decoded) {
        let body = spec.config.evaluate(schema, &self.facts, &mut self.diagnostics);
        collect_secrets(&body, &mut self.secrets);
        // Legacy JSON, whose values are weak, has no such arguments.
        let extensions = if body.weak { &[] } else { extensions };
        let others = [others, extensions].concat();
        let decoded = schema.decode_beside(&body, &others, &mut self.diagnostics);
        (body, decoded)
    }

    /// A component that refuses without saying why would let a broken template pass for a valid one.
    fn ready<T: ?Sized>(&mut self, component: Option<Arc<T>>, before: usize, spec: &ComponentSpec) -> Option<Arc<T>> {
        if component.is_none() && !self.diagnostics.has_errors() && self.diagnostics.items.len() == before {
            self.diagnostics.push(silent_refusal(spec));
        }
        component
    }
}

/// A test as its arguments describe it, checked by who is to run it.
fn checked_test(
    spec: &TestSpec,
    decoded: &Decoded,
    tester: Option<&dyn Tester>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<Test>> {
    let test = Test::read(&spec.name, spec.component.span, decoded, diagnostics)?;
    if let Some(Err(error)) = test.expect_output.as_deref().map(output_pattern) {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let title = format!("`expect_output` is no regular expression: {reason}");
        diagnostics.push(Diagnostic::error("test", decoded.span("expect_output"), title));
    }
    if let Some(tester) = tester {
        tester.check(&test, decoded, diagnostics);
    }
    Some(test)
}

/// A post-processor that will not run since it pushes: what it has to say of its surroundings (a login that is not there) is
/// of no interest. `None` for all others, and for one that is wrong wherever it runs.
fn without_pushing(
    kind: &dyn PostProcessorKind,
    decoded: &Decoded,
    context: &PrepareContext,
) -> Option<Arc<dyn PostProcessor>> {
    let checked = PrepareContext { will_run: false, ..context.clone() };
    let mut found = Diagnostics::new();
    let ready = kind.prepare(decoded, &checked, &mut found).filter(|ready| ready.pushes());
    ready.filter(|_| !found.has_errors())
}

/// A file that is not there, but beside the template: paths of arguments start at the working directory.
fn beside_template(item: &mut Diagnostic, scope: &TextScope, sources: &SourceMap) {
    let (Some(label), "missing-file") = (&item.primary, item.code) else { return };
    let text = sources.text(label.span);
    let Some(path) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return };
    let is_plain = !path.is_empty() && Path::new(path).is_relative() && !path.contains(['$', '{', '\\']);
    // The directory of the file that it stands in: in a module, the module's.
    let file = sources.get(label.span.source).and_then(|file| file.path.as_deref()?.parent());
    let there = scope.working_dir.join(file.unwrap_or(&scope.template_dir)).join(path);
    if item.fix.is_some() || !is_plain || !there.exists() {
        return;
    }
    let root = if scope.user_variables.is_some() { "{{template_dir}}" } else { "${path.root}" };
    let (span, written) = (label.span, format!("\"{root}/{path}\""));
    *item = item.clone().value(span, written, "it lies beside the template: write");
}

fn silent_refusal(spec: &ComponentSpec) -> Diagnostic {
    let title = format!("`{}` refuses these arguments without saying why; this is a mistake in kiln", spec.kind);
    Diagnostic::error("internal-prepare", spec.span, title)
}

/// `file:line`.
pub(crate) fn place(sources: &SourceMap, span: Span) -> String {
    let (line, _) = sources.line_column(span);
    let name = sources.get(span.source).map_or("<unknown>", |file| file.name.as_str());
    format!("{name}:{line}")
}

/// Texts that are or derive from sensitive values, so that the filter over all output knows the derived ones too.
pub(crate) fn collect_secrets(body: &Body, secrets: &mut Vec<String>) {
    for attribute in body.attributes.values() {
        collect_node(&attribute.node, false, secrets);
    }
    for block in &body.blocks {
        collect_secrets(&block.body, secrets);
    }
}

fn collect_node(node: &Node, inherited: bool, secrets: &mut Vec<String>) {
    let sensitive = inherited || node.sensitive;
    match &node.value {
        Value::String(text) if sensitive && !text.is_empty() => secrets.push(text.clone()),
        Value::List(items) => items.iter().for_each(|item| collect_node(item, sensitive, secrets)),
        Value::Map(entries) => entries.values().for_each(|item| collect_node(item, sensitive, secrets)),
        _ => {}
    }
}
