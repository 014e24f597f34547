//! Plans from a few words, and a run in a directory of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use kiln_core::config::Attribute;
use kiln_core::{
    ArtifactValue, Block, Body, BuildSpec, CacheRules, ComponentConfig, ComponentSpec, Diagnostics, Event, EventKind,
    Events, Facts, Node, Origin, Plan, PostProcessorSpec, Redactor, Schema, SourceId, SourceMap, Span, StepSpec, Value,
};
use kiln_testkit::{FixedPrompt, RecordingReporter};

use super::fakes::{World, kinds};
use crate::{CachePolicy, OnError, PrepareOptions, PreparedRun, RunReport, RunSettings, Surroundings, prepare, run};

/// Arguments; a text `build.X` is that value of the machine, unknown before it runs.
#[derive(Clone)]
pub(super) struct Arguments {
    pub(super) values: Vec<(&'static str, Value)>,
    pub(super) span: Span,
    pub(super) is_sensitive: bool,
}

impl ComponentConfig for Arguments {
    fn evaluate(&self, _schema: &Schema, facts: &Facts, _diagnostics: &mut Diagnostics) -> Body {
        let mut attributes = IndexMap::new();
        for (name, value) in &self.values {
            let value = match value {
                Value::String(text) if text.starts_with("artifact.") => {
                    let (build, name) = text[9..].split_once('.').unwrap();
                    match facts.artifacts.get(build).map(|values| values.get(name)) {
                        None => Value::Unknown,
                        Some(Some(ArtifactValue::Text(text))) => Value::String(text.clone()),
                        Some(_) => Value::String(String::new()),
                    }
                }
                Value::String(text) if text.starts_with("build.") => match &facts.build {
                    None => Value::Unknown,
                    Some(values) => Value::String(values.get(&text[6..]).cloned().unwrap_or_default()),
                },
                other => other.clone(),
            };
            let node = Node { value, span: self.span, sensitive: self.is_sensitive };
            attributes.insert((*name).to_owned(), Attribute { name_span: self.span, node });
        }
        Body { attributes, blocks: Vec::<Block>::new(), span: self.span, weak: false }
    }
}

/// The place of a line of the made-up template.
pub(super) fn line(number: usize) -> Span {
    Span::new(SourceId(0), (number - 1) * 5..(number - 1) * 5 + 4)
}

pub(super) fn sources() -> Arc<SourceMap> {
    let mut sources = SourceMap::new();
    sources.add("a.pkr.hcl", None, "text\n".repeat(99));
    Arc::new(sources)
}

pub(super) fn component(kind: &str, at: usize, values: Vec<(&'static str, Value)>) -> ComponentSpec {
    ComponentSpec {
        kind: kind.into(),
        kind_span: line(at),
        span: line(at),
        name: None,
        config: Arc::new(Arguments { values, span: line(at), is_sensitive: false }),
    }
}

pub(super) fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

pub(super) fn build(name: &str) -> BuildSpec {
    BuildSpec {
        name: name.into(),
        build_name: name.into(),
        source: component("fake", 1, vec![]),
        steps: Vec::new(),
        error_cleanup: None,
        post_processors: Vec::new(),
        hooks: Vec::new(),
        tests: Vec::new(),
        cache: CacheRules::default(),
        text_scope: None,
        parents: Vec::new(),
        is_taken: false,
        is_brought: false,
        platform: None,
        variants: Vec::new(),
        unclean: None,
    }
}

pub(super) fn step(name: &str, at: usize) -> StepSpec {
    step_with(at, vec![("name", text(name))])
}

pub(super) fn step_with(at: usize, values: Vec<(&'static str, Value)>) -> StepSpec {
    StepSpec {
        groups: Vec::new(),
        component: component("fake-step", at, values),
        pause_before: Duration::ZERO,
        max_retries: 0,
        timeout: None,
        continue_on_error: false,
        cache: CacheRules::default(),
        is_checkpoint: false,
        secrets: Vec::new(),
    }
}

/// A post-processor that makes a thing of its name.
pub(super) fn maker(name: &str, more: Vec<(&'static str, Value)>) -> PostProcessorSpec {
    post(name, [vec![("makes", text(name))], more].concat())
}

pub(super) fn post(name: &str, more: Vec<(&'static str, Value)>) -> PostProcessorSpec {
    let values = [vec![("name", text(name))], more].concat();
    PostProcessorSpec { component: component("fake-post", 50, values), keep_input: None, continue_on_error: false }
}

pub(super) struct Harness {
    pub(super) world: Arc<World>,
    pub(super) reporter: Arc<RecordingReporter>,
    pub(super) prompt: Arc<FixedPrompt>,
    pub(super) redactor: Arc<Redactor>,
    pub(super) directory: tempfile::TempDir,
    pub(super) settings: RunSettings,
    pub(super) no_push: bool,
    pub(super) plan: Plan,
}

impl Harness {
    pub(super) fn new(builds: Vec<BuildSpec>) -> Harness {
        let directory = tempfile::tempdir().unwrap();
        let settings = RunSettings {
            run_id: "run-1".into(),
            parallel_builds: 0.into(),
            on_error: OnError::Cleanup,
            debug: false,
            force: false,
            yes: false,
            state_dir: directory.path().join("state"),
            scratch_root: directory.path().join("tmp"),
            template: "a.pkr.hcl".into(),
            origin: Origin::default(),
            cache: CachePolicy::default(),
        };
        Harness {
            world: Arc::default(),
            reporter: Arc::default(),
            prompt: Arc::new(FixedPrompt::absent()),
            redactor: Arc::default(),
            directory,
            settings,
            no_push: false,
            plan: Plan { builds, ..Plan::default() },
        }
    }

    pub(super) fn on_error(mut self, on_error: OnError) -> Harness {
        self.settings.on_error = on_error;
        self
    }

    pub(super) fn answering(mut self, answers: &[&str]) -> Harness {
        self.prompt = Arc::new(FixedPrompt::answering(answers.iter().copied()));
        self
    }

    pub(super) async fn run(&self) -> RunReport {
        let (prepared, surroundings) = self.prepared();
        run(prepared, self.settings.clone(), surroundings).await
    }

    /// The plan, checked, and who a run would talk to.
    pub(super) fn prepared(&self) -> (PreparedRun, Surroundings) {
        let kinds = kinds(&self.world);
        let options =
            PrepareOptions { will_run: true, no_push: self.no_push, sources: sources(), ..PrepareOptions::default() };
        let (prepared, diagnostics) = prepare(&self.plan, &kinds, &options);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let surroundings = Surroundings {
            kinds: Arc::new(kinds),
            reporter: self.reporter.clone(),
            redactor: self.redactor.clone(),
            prompt: self.prompt.clone(),
            cancel: self.world.cancel.clone(),
            hurry: self.world.hurry.clone(),
        };
        (prepared.unwrap(), surroundings)
    }

    pub(super) async fn clean_up(&self, dry_run: bool) -> crate::CleanupReport {
        let events = Events::new(self.reporter.clone(), Arc::new(Redactor::new()));
        crate::cleanup(&self.settings.state_dir, &kinds(&self.world), dry_run, &events).await.unwrap()
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.settings.state_dir.join("runs/run-1.jsonl")
    }

    pub(super) fn scratch(&self) -> PathBuf {
        self.settings.scratch_root.join("kiln-run-1")
    }

    /// Nothing is left: no thing in the world, no journal, no scratch directory.
    #[track_caller]
    pub(super) fn assert_clean(&self) {
        self.assert_left(&[]);
    }

    /// Only these things are left, and they belong to the user.
    #[track_caller]
    pub(super) fn assert_left(&self, things: &[&str]) {
        assert_eq!(self.world.things(), things, "{:#?}", self.world.log());
        assert!(!self.journal().exists(), "{}", std::fs::read_to_string(self.journal()).unwrap_or_default());
        assert!(!self.scratch().exists(), "the scratch directory is left");
    }

    /// The events in few words, times left out.
    pub(super) fn trace(&self) -> Vec<String> {
        self.reporter.events().iter().map(in_few_words).collect()
    }

    pub(super) fn errors(&self) -> Vec<String> {
        let pick = |event: Event| match event.kind {
            EventKind::Error { text, .. } => Some(text),
            _ => None,
        };
        self.reporter.events().into_iter().filter_map(pick).collect()
    }
}

fn in_few_words(event: &Event) -> String {
    match &event.kind {
        EventKind::RunStarted { builds, .. } => format!("run started: {}", builds.join(", ")),
        EventKind::BuildStarted { builder, .. } => format!("build started: {builder}"),
        EventKind::StepStarted { index, total, kind, title, place, .. } => {
            format!("step {index}/{total} started: {kind} {title} {place}")
        }
        EventKind::StepCached { index, total, kind, title, .. } => {
            format!("step {index}/{total} cached: {kind} {title}")
        }
        EventKind::StepFinished { index, outcome, .. } => format!("step {index} {outcome:?}"),
        EventKind::TestStarted { name, place } => format!("test started: {name} {place}"),
        EventKind::TestFinished { outcome, .. } => format!("test {outcome:?}"),
        EventKind::PostProcessorStarted { kind, place } => format!("post-processor started: {kind} {place}"),
        EventKind::PostProcessorFinished { outcome, .. } => format!("post-processor {outcome:?}"),
        EventKind::Message { text } => format!("message: {text}"),
        EventKind::Warning { text } => format!("warning: {text}"),
        EventKind::Error { text, .. } => format!("error: {text}"),
        EventKind::Output { line, .. } => format!("output: {line}"),
        EventKind::Task { task, result, .. } => format!("task {task}: {result:?}"),
        EventKind::Progress { item, .. } => format!("progress: {item}"),
        EventKind::Artifact { artifact } => format!("artifact: {}", artifact.id),
        EventKind::BuildFinished { outcome, artifacts, .. } => {
            let ids: Vec<&str> = artifacts.iter().map(|artifact| artifact.id.as_str()).collect();
            format!("build {outcome:?}: {}", ids.join(", "))
        }
        EventKind::RunFinished { succeeded, failed, .. } => format!("run finished: {succeeded} well, {failed} not"),
    }
}
