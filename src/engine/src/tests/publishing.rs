//! What is pushed: names that clash, what is there already, consent, failures that are borne, hooks.

use std::sync::Arc;
use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{
    BuildSpec, FailureClass, HookEvent, HookSpec, Node, Parent, PostProcessorSpec, SourceId, Span, Unclean, Value,
};
use kiln_testkit::FixedPrompt;

use super::fakes::{Act, kinds};
use super::harness::{Harness, build, component, line, maker, sources, step, text};
use crate::{PrepareOptions, RunReport, prepare};

pub(super) fn fake(kind: &str, at: usize, values: Vec<(&'static str, Value)>) -> PostProcessorSpec {
    PostProcessorSpec { component: component(kind, at, values), keep_input: None, continue_on_error: false }
}

pub(super) fn tag(names: &[&str], at: usize) -> PostProcessorSpec {
    let names = names.iter().map(|name| Node::new(text(name), line(at))).collect();
    fake("fake-tag", at, vec![("names", Value::List(names))])
}

pub(super) fn push(at: usize) -> PostProcessorSpec {
    fake("fake-push", at, vec![])
}

pub(super) fn skipping(at: usize) -> PostProcessorSpec {
    fake("fake-push", at, vec![("skips", Value::Bool(true))])
}

pub(super) fn asking(at: usize) -> PostProcessorSpec {
    fake("fake-push", at, vec![("question", text("Really?"))])
}

fn hook(event: HookEvent, name: &str) -> HookSpec {
    let component = component(event.block(), 60, vec![("name", text(name))]);
    HookSpec { event, component, timeout: Duration::from_secs(60) }
}

fn pushed(name: &str, post_processors: Vec<Vec<PostProcessorSpec>>) -> BuildSpec {
    BuildSpec { post_processors, ..build(name) }
}

pub(super) fn outcomes(report: &RunReport) -> Vec<Outcome> {
    report.builds.iter().map(|build| build.outcome).collect()
}

fn titles(builds: Vec<BuildSpec>) -> Vec<String> {
    let harness = Harness::new(builds);
    let options = PrepareOptions { sources: sources(), ..PrepareOptions::default() };
    let (_, diagnostics) = prepare(&harness.plan, &kinds(&harness.world), &options);
    diagnostics.items.into_iter().map(|item| item.title).collect()
}

#[test]
fn two_builds_do_not_push_one_name() {
    let chain = |at| vec![tag(&["r/app:1", "r/app:latest"], at), push(at + 1)];
    let builds = || vec![pushed("a", vec![chain(10)]), pushed("b", vec![chain(20)])];
    assert_eq!(titles(builds()), ["two builds would push `r/app:1` and `r/app:latest`: `a` and `b`"]);
    // One build may do so twice, what is not pushed does not count, nor what does not run.
    assert_eq!(titles(vec![pushed("a", vec![chain(10), chain(20)])]), [""; 0]);
    assert_eq!(titles(vec![pushed("a", vec![chain(10)]), pushed("b", vec![vec![tag(&["r/app:1"], 20)]])]), [""; 0]);
    let mut taken = builds();
    taken[1].is_taken = true;
    assert_eq!(titles(taken), [""; 0]);
}

#[tokio::test]
async fn names_that_nobody_knew_clash_in_the_run() {
    let unknown = |at| vec![fake("fake-tag", at, vec![("name", text("build.Password"))]), push(at)];
    let harness = Harness::new(vec![pushed("a", vec![unknown(10)]), pushed("b", vec![unknown(20)])]);
    let report = harness.run().await;
    let failed: Vec<_> = report.failures().map(kiln_core::Failure::chain).collect();
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(failed[0].contains("is pushed by `"), "{failed:?}");
    assert_eq!(report.exit_code(), 1);
}

/// A source that pushes under this name by itself.
fn pushing(spec: BuildSpec, name: &str) -> BuildSpec {
    BuildSpec { source: component("fake", 1, vec![("push", text(name))]), ..spec }
}

#[tokio::test]
async fn what_sources_push_by_themselves_clashes_as_well() {
    assert_eq!(
        titles(vec![pushing(build("a"), "r/app:1"), pushing(build("b"), "r/app:1")]),
        ["two builds would push `r/app:1`: `a` and `b`"]
    );
    let upon = |name: &str| BuildSpec { parents: vec![Parent { build: "base".into(), span: line(1) }], ..build(name) };
    let late = |name: &str| pushing(upon(name), "artifact.base.id");
    let harness = Harness::new(vec![build("base"), late("a"), late("b")]);
    let report = harness.run().await;
    let failed: Vec<_> = report.failures().map(kiln_core::Failure::chain).collect();
    assert!(failed.len() == 1 && failed[0].contains("`image-base` is pushed by `"), "{failed:?}");
    assert_eq!(harness.world.log().iter().filter(|call| *call == "seal").count(), 2, "nothing is made in vain");
}

#[tokio::test]
async fn a_source_that_pushes_by_itself_is_not_skipped() {
    for name in ["s/app:1", "artifact.base.id"] {
        let chain = vec![tag(&["r/app:1.2.3"], 10), skipping(11)];
        let parents = vec![Parent { build: "base".into(), span: line(1) }];
        let harness =
            Harness::new(vec![build("base"), pushing(BuildSpec { parents, ..pushed("a", vec![chain]) }, name)]);
        harness.world.make("published r/app:1.2.3");
        assert_eq!(outcomes(&harness.run().await), [Outcome::Succeeded; 2], "{name}");
        let warnings = harness.reporter.warnings();
        assert!(
            warnings[0].ends_with("cannot skip this build: its source pushes by itself, whatever is there"),
            "{warnings:?}"
        );
    }
}

#[tokio::test]
async fn what_is_published_is_not_built_and_counts_as_good() {
    let chain = vec![tag(&["r/app:1.2.3"], 10), skipping(11), fake("fake-list", 12, vec![])];
    let base = BuildSpec {
        hooks: vec![hook(HookEvent::Success, "good"), hook(HookEvent::Failure, "bad")],
        ..pushed("base", vec![chain])
    };
    let parents = vec![Parent { build: "base".into(), span: line(1) }];
    let greeting = super::harness::step_with(3, vec![("name", text("one")), ("greeting", text("artifact.base.image"))]);
    let child = BuildSpec { parents, steps: vec![greeting], ..build("child") };
    let mut harness = Harness::new(vec![base, child]);
    harness.world.make("published r/app:1.2.3");
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Skipped, Outcome::Succeeded]);
    assert_eq!((report.exit_code(), report.class()), (0, None));
    assert_eq!(report.builds[0].reason.as_deref(), Some("r/app:1.2.3 is there"));
    let log = harness.world.log();
    assert_eq!(log[..3], ["ask r/app:1.2.3", "fake-list r/app:1.2.3", "hook good"], "{log:?}");
    let messages = harness.reporter.messages();
    assert!(
        messages.iter().any(|text| text.contains("base | skipped | r/app:1.2.3 is there | published")),
        "{messages:?}"
    );
    assert!(messages.contains(&"hello published".to_owned()), "{messages:?}");
    assert!(harness.trace().contains(&"build Skipped: published".to_owned()));
    // `-force` asks nobody.
    harness.settings.force = true;
    harness.world.on("ask r/app:1.2.3", Act::Fail("asked"));
    assert_eq!(outcomes(&harness.run().await), [Outcome::Succeeded, Outcome::Succeeded]);
}

#[tokio::test]
async fn a_registry_that_does_not_tell_stops_the_build_before_it_begins() {
    let chain = vec![tag(&["r/app:1.2.3"], 10), skipping(11)];
    let harness = Harness::new(vec![pushed("a", vec![chain]), build("b")]);
    harness.world.on("ask r/app:1.2.3", Act::Lack("no route"));
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Failed, Outcome::Succeeded]);
    assert_eq!(report.exit_code(), 4);
    assert_eq!(harness.errors(), ["post-processor `fake-push` (a.pkr.hcl:11) failed: no route"]);
    harness.assert_left(&["image-b"]);
}

#[tokio::test]
async fn a_build_that_pushes_elsewhere_too_is_not_skipped() {
    let chains = vec![vec![tag(&["r/app:1.2.3"], 10), skipping(11)], vec![tag(&["s/app:1.2.3"], 12), push(13)]];
    let harness = Harness::new(vec![pushed("a", chains)]);
    harness.world.make("published r/app:1.2.3");
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Succeeded]);
    let warnings = harness.reporter.warnings();
    assert!(warnings[0].contains("cannot skip this build: `fake-push` (a.pkr.hcl:13) pushes whatever"), "{warnings:?}");
}

#[tokio::test]
async fn somebody_is_asked_before_anything_is_made() {
    let chain = || vec![tag(&["r/app:1", "r/app:2"], 10), asking(11)];
    let harness = Harness::new(vec![pushed("a", vec![chain()])]).answering(&["y"]);
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.prompt.questions(), ["Really? (r/app:1, r/app:2) [y/N] "], "once");

    let harness = Harness::new(vec![pushed("a", vec![chain()])]).answering(&["no"]);
    let report = harness.run().await;
    assert_eq!((outcomes(&report), report.exit_code()), (vec![Outcome::Failed], 1));
    assert!(harness.errors()[0].ends_with("pushing r/app:1, r/app:2 was not confirmed"), "{:?}", harness.errors());
    harness.assert_clean();

    let mut harness = Harness::new(vec![pushed("a", vec![chain()])]);
    harness.settings.yes = true;
    assert_eq!(harness.run().await.exit_code(), 0);
    assert!(harness.prompt.questions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn ctrl_c_answers_a_question_at_once() {
    let chain = vec![tag(&["r/app:1"], 10), asking(11)];
    let mut harness = Harness::new(vec![pushed("a", vec![chain])]);
    harness.prompt = Arc::new(FixedPrompt::waiting());
    let cancel = harness.world.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        cancel.cancel();
    });
    let started = tokio::time::Instant::now();
    assert_eq!(harness.run().await.exit_code(), 130);
    assert!(started.elapsed() < Duration::from_secs(11), "{:?}", started.elapsed());
    harness.assert_clean();
}

#[tokio::test]
async fn without_anybody_to_ask_nothing_begins() {
    let builds = vec![build("first"), pushed("a", vec![vec![tag(&["r/app:1"], 10), asking(11)]])];
    let harness = Harness::new(builds);
    let report = harness.run().await;
    assert_eq!((report.exit_code(), report.class()), (2, Some(FailureClass::Usage)));
    let failure = report.failure.as_ref().unwrap();
    assert!(failure.chain().ends_with("it asks before it pushes r/app:1, and nobody is there to answer"));
    assert_eq!(failure.hints, ["`-yes` answers the question, for runs without a terminal"]);
    assert!(harness.world.log().is_empty());
    harness.assert_clean();
}

#[tokio::test]
async fn from_a_work_tree_that_is_not_clean_nothing_begins_that_could_be_pushed() {
    let unclean = || Unclean { why: "`a.txt` is changed".to_owned(), span: Span::new(SourceId(0), 20..30) };
    let strict = || BuildSpec { unclean: Some(unclean()), ..pushed("a", vec![vec![tag(&["r/app:1"], 10)]]) };
    let harness = Harness::new(vec![build("first"), strict()]);
    let report = harness.run().await;
    assert_eq!((report.exit_code(), report.class()), (4, Some(FailureClass::Environment)));
    let failure = report.failure.as_ref().unwrap();
    assert_eq!(failure.chain(), "`a` is built from a clean work tree only (`require_clean`): `a.txt` is changed");
    assert_eq!(
        (failure.span, &*failure.hints),
        (Some(unclean().span), &["commit it, or try it with `-no-push`".to_owned()][..])
    );
    assert!(harness.world.log().is_empty());
    harness.assert_clean();

    let harness = Harness { no_push: true, ..Harness::new(vec![strict()]) };
    assert_eq!(harness.run().await.exit_code(), 0);
    let harness = Harness::new(vec![BuildSpec { is_taken: true, ..strict() }]);
    assert!(harness.run().await.failure.is_none(), "nothing of it is built");
}

#[tokio::test]
async fn a_failure_that_is_borne_is_told_and_the_chain_goes_on() {
    let scan = PostProcessorSpec { continue_on_error: true, ..maker("scan", vec![]) };
    let list = fake("fake-list", 12, vec![]);
    let harness = Harness::new(vec![pushed("a", vec![vec![tag(&["r/app:1"], 10), scan, list]])]);
    harness.world.on("post scan", Act::Fail("3 holes"));
    let report = harness.run().await;
    assert_eq!((outcomes(&report), report.exit_code()), (vec![Outcome::Succeeded], 0));
    let tolerated = &report.builds[0].tolerated;
    assert_eq!((tolerated.len(), tolerated[0].error.as_str()), (1, "3 holes"));
    assert!(harness.world.log().contains(&"fake-list r/app:1".to_owned()), "{:?}", harness.world.log());
    assert_eq!(
        harness.reporter.warnings(),
        ["`fake-post` (a.pkr.hcl:50) failed: 3 holes; going on all the same (`on_error = \"continue\"`)"]
    );
    assert!(harness.reporter.as_json().contains(r#""outcome":"failed","seconds":"#));
    assert!(harness.reporter.as_json().contains(r#""tolerated":"3 holes""#));
    // What it made is gone; what the build made is not, although nothing kept it.
    harness.assert_left(&["image-a"]);
}

#[tokio::test]
async fn latest_comes_last_and_not_after_a_push_that_failed() {
    let latest = || vec![tag(&["r/app:latest"], 10), push(11)];
    let version = || vec![tag(&["r/app:1.2.3"], 20), push(21)];
    let harness = Harness::new(vec![pushed("a", vec![latest(), version()])]);
    harness.run().await;
    let pushes = |harness: &Harness| -> Vec<String> {
        harness.world.log().into_iter().filter(|call| call.starts_with("fake-push")).collect()
    };
    assert_eq!(pushes(&harness), ["fake-push r/app:1.2.3", "fake-push r/app:latest"]);

    let harness = Harness::new(vec![pushed("a", vec![latest(), version()])]);
    harness.world.on("fake-push r/app:1.2.3", Act::Fail("denied"));
    let report = harness.run().await;
    assert_eq!(report.exit_code(), 1);
    assert_eq!(pushes(&harness), ["fake-push r/app:1.2.3"]);
    assert!(harness.errors()[1].ends_with("an earlier push of this build failed"), "{:?}", harness.errors());
}

#[tokio::test]
async fn hooks_run_after_the_builds_they_are_for() {
    let hooks =
        || vec![hook(HookEvent::Always, "all"), hook(HookEvent::Success, "good"), hook(HookEvent::Failure, "bad")];
    let good = BuildSpec { hooks: hooks(), ..build("a") };
    let bad = BuildSpec { hooks: hooks(), steps: vec![step("breaks", 3)], ..build("a") };
    let called = |harness: &Harness| -> Vec<String> {
        harness.world.log().into_iter().filter(|call| call.starts_with("hook")).collect()
    };
    let harness = Harness::new(vec![good]);
    // A hook that fails changes nothing.
    harness.world.on("hook good", Act::Fail("no chat"));
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(called(&harness), ["hook good", "hook all"]);
    assert!(harness.reporter.warnings()[0].ends_with("no chat"), "{:?}", harness.reporter.warnings());
    harness.assert_left(&["image-a"]);

    let harness = Harness::new(vec![bad]);
    harness.world.on("step breaks", Act::Fail("exit 3"));
    assert_eq!(harness.run().await.exit_code(), 1);
    assert_eq!(called(&harness), ["hook bad", "hook all"]);
    let told = harness.reporter.messages();
    assert!(told.iter().any(|text| text.starts_with("on_failure | a | failed | step 1 of 1")), "{told:?}");
    harness.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_build_runs_what_always_runs_and_hooks_are_bounded() {
    let hooks = vec![hook(HookEvent::Failure, "bad"), hook(HookEvent::Always, "all")];
    let spec = BuildSpec { hooks, steps: vec![step("waits", 3)], ..build("a") };
    let harness = Harness::new(vec![spec]);
    harness.world.on("step waits", Act::Interrupt(Box::new(Act::Wait)));
    harness.world.on("hook all", Act::Deaf);
    let report = harness.run().await;
    assert_eq!(report.exit_code(), 130);
    assert!(!harness.world.log().contains(&"hook bad".to_owned()));
    let warnings = harness.reporter.warnings();
    assert!(warnings.last().unwrap().contains("took longer than 1m"), "{warnings:?}");
    harness.assert_clean();
}
