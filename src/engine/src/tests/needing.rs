//! What is published is not built, and neither is what only that would need.

use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{BuildSpec, Parent, Platform, PostProcessorSpec, Value, VariantSpec};
use tokio::time::Instant;

use super::fakes::Act;
use super::harness::{Harness, build, line, step_with, text};
use super::publishing::{asking, fake, outcomes, skipping, tag};
use crate::{OnError, PlanReport, RunReport, SealPlan};

fn upon(name: &str, parents: &[&str], post_processors: Vec<Vec<PostProcessorSpec>>) -> BuildSpec {
    let parents = parents.iter().map(|parent| Parent { build: (*parent).into(), span: line(1) }).collect();
    BuildSpec { parents, post_processors, ..build(name) }
}

fn brought(spec: BuildSpec) -> BuildSpec {
    BuildSpec { is_brought: true, ..spec }
}

/// What is pushed once, under a name that does not move.
fn once(name: &str) -> Vec<Vec<PostProcessorSpec>> {
    vec![vec![tag(&[name], 10), skipping(11)]]
}

/// Two apps upon a base that nobody asked for.
fn apps() -> Harness {
    let api = upon("api", &["base"], once("r/api:1.0.0"));
    let web = upon("web", &["base"], once("r/web:1.0.0"));
    Harness::new(vec![brought(build("base")), api, web])
}

fn reasons(report: &RunReport) -> Vec<&str> {
    report.builds.iter().map(|build| build.reason.as_deref().unwrap_or_default()).collect()
}

async fn planned(harness: &Harness) -> PlanReport {
    let (prepared, surroundings) = harness.prepared();
    crate::plan(&prepared, &harness.settings, &surroundings).await
}

#[tokio::test]
async fn what_only_published_builds_need_is_not_built() {
    let harness = apps();
    harness.world.make("published r/api:1.0.0");
    harness.world.make("published r/web:1.0.0");
    let plan = planned(&harness).await;
    let skipped: Vec<_> = plan.builds.iter().map(|build| build.skipped.clone().unwrap_or_default()).collect();
    let report = harness.run().await;
    assert_eq!((outcomes(&report), report.exit_code()), (vec![Outcome::Skipped; 3], 0));
    let told = ["not needed: `api` and `web` are not built", "r/api:1.0.0 is there", "r/web:1.0.0 is there"];
    assert_eq!((reasons(&report), skipped), (told.to_vec(), told.map(str::to_owned).to_vec()));
    assert!(harness.world.log().iter().all(|call| call.starts_with("ask")), "{:?}", harness.world.log());
    let trace = harness.trace();
    assert_eq!(trace.iter().filter(|line| *line == "build started: fake").count(), 2, "{trace:?}");
}

#[tokio::test]
async fn what_one_of_them_needs_is_built() {
    let harness = apps();
    harness.world.make("published r/web:1.0.0");
    let sealing: Vec<_> = planned(&harness).await.builds.iter().map(|build| build.sealing).collect();
    assert_eq!(sealing, [SealPlan::Runs, SealPlan::Runs, SealPlan::Skipped]);
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Succeeded, Outcome::Succeeded, Outcome::Skipped]);
    let asked = harness.world.log().iter().filter(|call| *call == "ask r/api:1.0.0").count();
    assert_eq!(asked, 2, "once for the plan, once for the run");
}

#[tokio::test]
async fn what_was_selected_itself_is_built_all_the_same() {
    let mut harness = apps();
    harness.plan.builds[0].is_brought = false;
    harness.world.make("published r/api:1.0.0");
    harness.world.make("published r/web:1.0.0");
    assert_eq!(outcomes(&harness.run().await), [Outcome::Succeeded, Outcome::Skipped, Outcome::Skipped]);
    // `-force` asks nobody, so that all is needed.
    let mut harness = apps();
    harness.settings.force = true;
    harness.world.make("published r/api:1.0.0");
    assert_eq!(outcomes(&harness.run().await), [Outcome::Succeeded; 3]);
}

#[tokio::test]
async fn a_registry_that_does_not_tell_stops_a_build_before_what_it_needs_is_made() {
    let harness = Harness::new(vec![brought(build("base")), upon("api", &["base"], once("r/api:1.0.0"))]);
    harness.world.on("ask r/api:1.0.0", Act::Lack("no route"));
    harness.world.on("ask r/api:1.0.0", Act::Lack("no route"));
    let plan = planned(&harness).await;
    assert!(plan.builds[1].error.as_deref().is_some_and(|error| error.ends_with("no route")), "{plan:?}");
    let report = harness.run().await;
    assert_eq!((outcomes(&report), report.exit_code()), (vec![Outcome::Skipped, Outcome::Failed], 4));
    assert!(!harness.world.log().contains(&"launch".to_owned()));
    harness.assert_clean();
}

#[tokio::test]
async fn a_published_parent_stands_for_what_it_was_built_upon() {
    let greeting = step_with(3, vec![("name", text("one")), ("greeting", text("artifact.base.image"))]);
    let builds = || {
        vec![
            brought(build("root")),
            brought(upon("base", &["root"], once("r/base:1.0.0"))),
            BuildSpec { steps: vec![greeting.clone()], ..upon("app", &["base"], once("r/app:1.0.0")) },
        ]
    };
    let harness = Harness::new(builds());
    harness.world.make("published r/base:1.0.0");
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Skipped, Outcome::Skipped, Outcome::Succeeded]);
    assert!(harness.reporter.messages().contains(&"hello published".to_owned()));
    // Where the child is there as well, nobody asks for the parent.
    let harness = Harness::new(builds());
    harness.world.make("published r/app:1.0.0");
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Skipped; 3]);
    assert_eq!(reasons(&report)[..2], ["not needed: `base` is not built", "not needed: `app` is not built"]);
    assert_eq!(harness.world.log(), ["ask r/app:1.0.0"]);
}

/// An index of two images, and a child of one of them.
fn index() -> Harness {
    let platforms = ["linux/amd64", "linux/arm64"].map(|platform| Platform::parse(platform).unwrap());
    let name = |platform: &Platform| format!("app@{platform}");
    let mut builds: Vec<BuildSpec> = Vec::new();
    builds.extend(platforms.iter().map(|it| BuildSpec { platform: Some(it.clone()), ..build(&name(it)) }));
    let variants = platforms.iter().map(|it| VariantSpec { platform: it.clone(), build: name(it).as_str().into() });
    let joins = upon("app", &["app@linux/amd64", "app@linux/arm64"], once("r/app:1.0.0"));
    builds.push(BuildSpec { variants: variants.collect(), ..joins });
    let told = |name: &str, value: &str| step_with(3, vec![("name", text(name)), ("greeting", text(value))]);
    let steps = vec![told("one", "artifact.app@linux/arm64.image")];
    builds.push(BuildSpec { steps, ..upon("child", &["app@linux/arm64"], vec![]) });
    Harness::new(builds)
}

#[tokio::test]
async fn the_images_of_a_published_index_are_not_built() {
    let harness = index();
    harness.world.make("published r/app:1.0.0");
    let plan = planned(&harness).await;
    assert_eq!(plan.builds[0].skipped.as_deref(), Some("not needed: `app` is not built"));
    let report = harness.run().await;
    let expected = [Outcome::Skipped, Outcome::Skipped, Outcome::Skipped, Outcome::Succeeded];
    assert_eq!(outcomes(&report), expected);
    assert_eq!(reasons(&report)[1..3], ["not needed: `app` is not built", "r/app:1.0.0 is there"]);
    assert!(harness.reporter.messages().contains(&"hello published".to_owned()), "the child has the published one");

    let harness = index();
    assert_eq!(outcomes(&harness.run().await), [Outcome::Succeeded; 4]);
    assert!(harness.reporter.messages().contains(&"hello image-app@linux/arm64".to_owned()));
}

#[tokio::test]
async fn an_index_that_nobody_can_tell_of_stops_its_images_too() {
    let harness = index();
    harness.world.on("ask r/app:1.0.0", Act::Lack("no route"));
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Skipped, Outcome::Skipped, Outcome::Failed, Outcome::NotRun]);
    harness.assert_clean();
}

#[tokio::test]
async fn names_that_parents_give_are_asked_for_after_them() {
    let late = vec![vec![fake("fake-tag", 10, vec![("name", text("artifact.base.id"))]), skipping(11)]];
    let harness = Harness::new(vec![brought(build("base")), upon("app", &["base"], late)]);
    harness.world.make("published image-base");
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Succeeded, Outcome::Skipped]);
    let log = harness.world.log();
    assert!(
        log.iter().position(|call| call == "seal") < log.iter().position(|call| call == "ask image-base"),
        "{log:?}"
    );
}

#[tokio::test]
async fn what_takes_note_of_a_skipped_build_may_mention_what_is_not_there() {
    let mention = |value: &str| fake("fake-list", 12, vec![("name", text(value))]);
    let mut chains = once("r/app:1.0.0");
    chains[0].extend([mention("build.Host"), mention("artifact.base.digest")]);
    let harness = Harness::new(vec![brought(build("base")), upon("app", &["base"], chains)]);
    harness.world.make("published r/app:1.0.0");
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Skipped; 2], "{:?}", harness.errors());
    assert_eq!(harness.world.log(), ["ask r/app:1.0.0", "fake-list r/app:1.0.0", "fake-list r/app:1.0.0"]);
}

#[tokio::test]
async fn a_published_image_is_given_the_name_that_it_lacks() {
    let chains = |question: &str| {
        let push = fake("fake-push", 11, vec![("skips", Value::Bool(true)), ("question", text(question))]);
        vec![vec![tag(&["r/app:1.0.0", "r/app:latest"], 10), push]]
    };
    let harness = Harness::new(vec![upon("app", &[], chains("Really?"))]).answering(&["y"]);
    harness.world.make("published r/app:1.0.0");
    assert_eq!(outcomes(&harness.run().await), [Outcome::Skipped]);
    assert_eq!(harness.world.log(), ["ask r/app:1.0.0 r/app:latest", "name r/app:latest"]);
    assert_eq!(harness.prompt.questions(), ["Really? (r/app:latest) [y/N] "]);
    // Where nothing is missing, nobody is asked.
    harness.world.make("published r/app:latest");
    assert_eq!(outcomes(&harness.run().await), [Outcome::Skipped]);
    assert_eq!(harness.prompt.questions().len(), 1);
    // A plan changes nothing.
    let harness = Harness::new(vec![upon("app", &[], chains("Really?"))]);
    harness.world.make("published r/app:1.0.0");
    planned(&harness).await;
    assert_eq!(harness.world.log(), ["ask r/app:1.0.0 r/app:latest"]);
}

#[tokio::test]
async fn a_name_that_cannot_be_given_fails_the_build_or_is_tried_again() {
    let chains = || vec![vec![tag(&["r/app:1.0.0", "r/app:latest"], 10), skipping(11)]];
    let harness = Harness::new(vec![upon("app", &[], chains())]);
    harness.world.make("published r/app:1.0.0");
    harness.world.on("name r/app:latest", Act::Fail("denied"));
    let report = harness.run().await;
    assert_eq!((outcomes(&report), report.exit_code()), (vec![Outcome::Failed], 1));
    assert_eq!(harness.errors(), ["post-processor `fake-push` (a.pkr.hcl:11) failed: denied"]);
    let harness = Harness::new(vec![upon("app", &[], chains())]).on_error(OnError::Ask).answering(&["r"]);
    harness.world.make("published r/app:1.0.0");
    harness.world.on("name r/app:latest", Act::Fail("denied"));
    assert_eq!(outcomes(&harness.run().await), [Outcome::Skipped]);
}

#[tokio::test]
async fn somebody_is_asked_before_parents_are_built() {
    let builds = || vec![brought(build("base")), upon("app", &["base"], vec![vec![tag(&["r/app:1"], 10), asking(11)]])];
    let harness = Harness::new(builds()).answering(&["no"]);
    assert_eq!(outcomes(&harness.run().await), [Outcome::Skipped, Outcome::Failed]);
    harness.assert_clean();
    let harness = Harness::new(builds()).answering(&["y"]);
    assert_eq!(outcomes(&harness.run().await), [Outcome::Succeeded; 2]);
    assert_eq!(harness.prompt.questions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn registries_are_asked_side_by_side_whatever_the_limit() {
    let mut harness = apps();
    harness.settings.parallel_builds = 1.into();
    for name in ["api", "web"] {
        harness.world.on(&format!("ask r/{name}:1.0.0"), Act::Sleep(Duration::from_secs(10)));
        harness.world.make(&format!("published r/{name}:1.0.0"));
    }
    let started = Instant::now();
    assert_eq!(outcomes(&harness.run().await), [Outcome::Skipped; 3]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test]
async fn whoever_stops_the_run_while_it_asks_has_nothing_made() {
    let harness = apps();
    harness.world.on("ask r/api:1.0.0", Act::Interrupt(Box::new(Act::Wait)));
    let report = harness.run().await;
    assert_eq!((outcomes(&report), report.exit_code()), (vec![Outcome::Cancelled; 3], 130));
    harness.assert_clean();
}

#[tokio::test]
async fn a_panic_while_asking_fails_that_build_alone() {
    let harness = apps();
    harness.world.on("ask r/api:1.0.0", Act::Panic);
    let report = harness.run().await;
    assert_eq!(outcomes(&report), [Outcome::Succeeded, Outcome::Failed, Outcome::Succeeded]);
}
