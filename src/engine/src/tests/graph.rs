//! Builds that are built upon others: order, values, failures, plans.

use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{BuildSpec, FailureClass, Parent};

use super::caching::{Cached, deed, keeper};
use super::fakes::Act;
use super::harness::{Harness, build, component, line, step, step_with, text};
use crate::{Reason, SealPlan, StepChoice};

fn upon(name: &str, parents: &[&str], steps: Vec<kiln_core::StepSpec>) -> BuildSpec {
    let parents = parents.iter().map(|parent| Parent { build: (*parent).into(), span: line(1) }).collect();
    BuildSpec { parents, steps, ..build(name) }
}

fn greeting(text_of: &str) -> kiln_core::StepSpec {
    step_with(3, vec![("name", text("one")), ("greeting", text(text_of))])
}

#[tokio::test]
async fn children_come_after_their_parents_and_know_what_those_left() {
    // The child stands first, and needs both.
    let child = upon("child", &["base", "tools"], vec![greeting("artifact.tools.id")]);
    let harness =
        Harness::new(vec![child, build("base"), upon("tools", &["base"], vec![greeting("artifact.base.id")])]);
    let report = harness.run().await;
    assert_eq!((report.exit_code(), report.builds.len()), (0, 3));
    assert_eq!(harness.reporter.messages(), ["hello image-base", "hello image-tools"]);
    let started = harness.trace().into_iter().filter(|line| line.starts_with("build ") && line.contains("ucceeded"));
    let expected = ["build Succeeded: image-base", "build Succeeded: image-tools", "build Succeeded: image-child"];
    assert_eq!(started.collect::<Vec<_>>(), expected);
    harness.assert_left(&["image-base", "image-child", "image-tools"]);
}

#[tokio::test]
async fn a_failure_stops_those_that_are_built_upon_it_alone() {
    let builds = vec![
        upon("base", &[], vec![step("breaks", 2)]),
        upon("child", &["base"], vec![]),
        upon("grandchild", &["child"], vec![]),
        build("other"),
    ];
    let harness = Harness::new(builds);
    harness.world.on("step breaks", Act::Fail("no"));
    let report = harness.run().await;
    let outcomes: Vec<Outcome> = report.builds.iter().map(|build| build.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::NotRun, Outcome::NotRun, Outcome::Succeeded]);
    assert_eq!(report.class(), Some(FailureClass::Build));
    harness.assert_left(&["image-other"]);
}

#[tokio::test]
async fn what_a_parent_left_may_turn_out_to_be_wrong() {
    let source = component("fake", 7, vec![("image", text("artifact.base.digest"))]);
    let child = BuildSpec { source, ..upon("child", &["base"], vec![]) };
    let harness = Harness::new(vec![build("base"), child]);
    let report = harness.run().await;
    assert_eq!(report.builds[1].outcome, Outcome::Failed);
    assert_eq!(report.class(), Some(FailureClass::Template));
    assert!(harness.errors()[0].contains("a.pkr.hcl:7: `image` is empty"), "{:?}", harness.errors());
    harness.assert_left(&["image-base"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_run_at_a_time_as_allowed_in_the_templates_order() {
    let mut harness = Harness::new((0..6).map(|number| build(&format!("b{number}"))).collect());
    harness.settings.parallel_builds = 1.into();
    assert_eq!(harness.run().await.exit_code(), 0);
    let finished: Vec<String> =
        harness.trace().into_iter().filter(|line| line.starts_with("build Succeeded")).collect();
    let expected: Vec<String> = (0..6).map(|number| format!("build Succeeded: image-b{number}")).collect();
    assert_eq!(finished, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_builds_cost_next_to_nothing() {
    let parents = |number: usize| if number == 0 { vec![] } else { vec![format!("b{}", (number - 1) / 4)] };
    let builds = (0..200).map(|number| {
        let parents = parents(number);
        upon(&format!("b{number}"), &parents.iter().map(String::as_str).collect::<Vec<_>>(), vec![])
    });
    let harness = Harness::new(builds.collect());
    let started = std::time::Instant::now();
    assert_eq!(harness.run().await.exit_code(), 0);
    // A generous bound for a busy machine, unoptimised: 5 ms a build.
    assert!(started.elapsed() < Duration::from_millis(200 * 50), "{:?}", started.elapsed());
}

fn family() -> Cached {
    let child = BuildSpec {
        parents: vec![Parent { build: "base".into(), span: line(1) }],
        ..keeper("child", vec![deed("c", vec![])])
    };
    Cached::of(vec![child, keeper("base", vec![deed("a", vec![])])])
}

#[tokio::test]
async fn a_plan_goes_through_parents_first() {
    let mut cached = family();
    let report = cached.plan().await;
    assert_eq!(report.builds[0].parents, ["base"]);
    let because = report.builds[0].steps[0].reason.clone();
    assert_eq!(because, Some(Reason::Parent { build: "base".to_owned() }));
    cached.run().await;
    let sealing = |report: &crate::PlanReport| report.builds.iter().map(|build| build.sealing).collect::<Vec<_>>();
    assert_eq!(sealing(&cached.plan().await), [SealPlan::Cached; 2]);
}

#[tokio::test]
async fn a_parent_may_be_taken_as_it_was_built() {
    let mut cached = family();
    cached.harness.plan.builds[1].is_taken = true;
    let report = cached.plan().await;
    assert!(report.builds[1].error.as_deref().unwrap_or_default().contains("never built"), "{report:?}");
    let report = cached.harness.run().await;
    assert_ne!(report.exit_code(), 0, "nothing is there to take");
    cached.harness.plan.builds[1].is_taken = false;
    cached.run().await;
    cached.harness.plan.builds[1].is_taken = true;
    let report = cached.harness.run().await;
    assert_eq!(report.exit_code(), 0, "{:?}", cached.harness.errors());
    assert_eq!(report.builds[1].artifacts[0].id, "image-base");
}

#[tokio::test]
async fn steps_are_run_again_in_what_was_selected_alone() {
    let mut cached = family();
    cached.harness.plan.builds[1].is_brought = true;
    cached.run().await;
    cached.harness.settings.cache.from_step = Some(StepChoice::Number(1));
    let log = cached.run().await;
    assert!(log.contains(&"do c".to_owned()) && !log.contains(&"do a".to_owned()), "{log:?}");
    // Selected too, it runs again.
    cached.harness.plan.builds[1].is_brought = false;
    let log = cached.run().await;
    assert!(log.contains(&"do c".to_owned()) && log.contains(&"do a".to_owned()), "{log:?}");
}

#[tokio::test]
async fn a_step_of_what_was_not_selected_is_not_meant() {
    let mut cached = family();
    let base = &mut cached.harness.plan.builds[1];
    base.is_brought = true;
    base.steps[0].component.name = Some("setup".into());
    cached.harness.settings.cache.from_step = Some("setup".into());
    let (report, log) = cached.report().await;
    assert_eq!((report.exit_code(), log.len()), (2, 0));
    assert!(report.failure.unwrap().hints[0].contains("select it with `-only=base`"));
}
