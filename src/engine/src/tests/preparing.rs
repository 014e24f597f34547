//! What is wrong with a plan before it runs.

use std::sync::Arc;

use kiln_core::{
    BuildSpec, ComponentSpec, Diagnostics, Plan, PostProcessorSpec, SourceMap, Span, StepSpec, Value, render,
};

use super::fakes::{World, kinds};
use super::harness::{Arguments, build, step_with, text};
use crate::{PrepareOptions, PreparedRun, prepare};

const TEMPLATE: &str = r#"source "fke" "a" {}
source "qemu" "b" {}
source "fake" "c" {
  image = ""
}
build {
  provisioner "powershell" {}
  provisioner "fake-stp" {}
  provisioner "fake-step" {}
  provisioner "frobnicate" {}
  post-processor "vagrant" {}
}
"#;

struct Template {
    sources: Arc<SourceMap>,
}

impl Template {
    fn new() -> Template {
        let mut sources = SourceMap::new();
        sources.add("worker.pkr.hcl", None, TEMPLATE);
        Template { sources: Arc::new(sources) }
    }

    fn at(&self, what: &str) -> Span {
        let start = TEMPLATE.find(what).unwrap();
        Span::new(kiln_core::SourceId(0), start..start + what.len())
    }

    fn component(&self, quoted: &str, values: Vec<(&'static str, Value)>) -> ComponentSpec {
        let span = self.at(quoted);
        let config = Arguments { values, span, is_sensitive: false };
        let kind = quoted.trim_matches('"').to_owned();
        ComponentSpec { kind, kind_span: span, span, name: None, config: Arc::new(config) }
    }

    fn step(&self, quoted: &str) -> StepSpec {
        StepSpec { component: self.component(quoted, vec![]), ..step_with(1, vec![]) }
    }

    fn build(&self, source: &str, values: Vec<(&'static str, Value)>) -> BuildSpec {
        let chain = vec![PostProcessorSpec {
            component: self.component("\"vagrant\"", vec![]),
            keep_input: None,
            continue_on_error: false,
        }];
        BuildSpec {
            source: self.component(source, values),
            steps: ["\"powershell\"", "\"fake-stp\"", "\"fake-step\"", "\"frobnicate\""]
                .map(|kind| self.step(kind))
                .into(),
            post_processors: vec![chain],
            ..build(source.trim_matches('"'))
        }
    }

    fn prepare(&self, builds: Vec<BuildSpec>, allow_unknown_kinds: bool) -> (Option<PreparedRun>, Diagnostics) {
        let sources = Arc::clone(&self.sources);
        let options = PrepareOptions { sources, allow_unknown_kinds, ..PrepareOptions::default() };
        prepare(&Plan { builds, ..Plan::default() }, &kinds(&Arc::new(World::default())), &options)
    }

    fn show(&self, diagnostics: &Diagnostics) -> String {
        let shown = diagnostics.items.iter().map(|item| render::render(item, &self.sources, false));
        shown.collect::<Vec<_>>().join("\n\n")
    }
}

#[test]
fn all_mistakes_of_all_builds_come_at_once_and_each_once() {
    let template = Template::new();
    let builds = vec![
        template.build("\"fke\"", vec![]),
        template.build("\"qemu\"", vec![]),
        template.build("\"fake\"", vec![("image", text(""))]),
    ];
    let (prepared, diagnostics) = template.prepare(builds, false);
    assert!(prepared.is_none());
    insta::assert_snapshot!(template.show(&diagnostics));
}

#[test]
fn unknown_kinds_can_be_put_up_with_and_then_nothing_can_run() {
    let template = Template::new();
    let mut spec = template.build("\"qemu\"", vec![]);
    spec.steps.retain(|step| step.component.kind == "powershell");
    let (prepared, diagnostics) = template.prepare(vec![spec], true);
    assert!(prepared.is_none());
    assert!(!diagnostics.has_errors());
    let titles: Vec<&str> = diagnostics.items.iter().map(|item| item.title.as_str()).collect();
    let wanted = [
        "kiln has no builder `qemu` yet",
        "kiln has no provisioner `powershell` yet",
        "kiln has no post-processor `vagrant` yet",
    ];
    assert_eq!(titles, wanted);
}

#[test]
fn a_step_knows_its_title_and_whether_it_waits_for_the_machine() {
    let mut spec = build("w");
    spec.steps = vec![
        step_with(3, vec![("name", text("one"))]),
        step_with(4, vec![("name", text("two")), ("greeting", text("build.Host"))]),
    ];
    let plan = Plan { builds: vec![spec], ..Plan::default() };
    let options = PrepareOptions { sources: super::harness::sources(), ..PrepareOptions::default() };
    let (prepared, diagnostics) = prepare(&plan, &kinds(&Arc::new(World::default())), &options);
    assert!(diagnostics.is_empty());
    let steps = &prepared.unwrap().builds[0].steps;
    assert_eq!(
        (steps[0].title().as_str(), steps[0].needs_facts(), steps[0].place.as_str()),
        ("one", false, "a.pkr.hcl:3")
    );
    assert!(steps[1].needs_facts());
}
