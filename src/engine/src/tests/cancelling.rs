//! Ctrl-C at every stage leaves nothing behind, within seconds.

use std::sync::Arc;
use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{BuildSpec, Value};
use kiln_testkit::FixedPrompt;

use super::fakes::Act;
use super::harness::{Harness, build, maker, step, step_with, text};
use crate::OnError;

fn full() -> BuildSpec {
    let mut spec = build("w");
    let litters = step_with(3, vec![("name", text("one")), ("litters", Value::Bool(true))]);
    spec.steps = vec![litters, step("two", 4)];
    spec.error_cleanup = Some(step("mop", 9));
    spec.post_processors = vec![
        vec![maker("tag", vec![("insists", Value::Bool(true))])],
        vec![maker("save", vec![("keeps", Value::Bool(true))]), maker("push", vec![("keeps", Value::Bool(true))])],
    ];
    spec
}

const PHASES: [&str; 7] = ["launch", "step one", "step two", "seal", "post tag", "post save", "post push"];

async fn cancelled_at(phase: &str, act: Act, on_error: OnError) -> (Harness, Duration) {
    let harness = Harness::new(vec![full()]).on_error(on_error);
    harness.world.on(phase, act);
    let started = tokio::time::Instant::now();
    let report = harness.run().await;
    let is_last = phase == "post push";
    assert_eq!(report.builds[0].outcome, Outcome::Cancelled, "{phase}, last: {is_last}");
    assert_eq!(report.exit_code(), 130, "{phase}");
    assert!(report.builds[0].artifacts.is_empty(), "{phase}");
    assert!(harness.errors().is_empty(), "being stopped is no error: {:?}", harness.errors());
    assert!(!harness.world.log().contains(&"step mop".to_owned()), "being stopped is no error");
    (harness, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn work_that_heeds_the_token_ends_at_once() {
    for phase in PHASES {
        for on_error in OnError::ALL {
            let (harness, elapsed) = cancelled_at(phase, Act::Interrupt(Box::new(Act::Wait)), on_error).await;
            assert!(elapsed < Duration::from_secs(1), "{phase}: {elapsed:?}");
            harness.assert_clean();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_does_not_is_dropped_after_the_grace() {
    for phase in PHASES {
        let (harness, elapsed) = cancelled_at(phase, Act::Interrupt(Box::new(Act::Deaf)), OnError::Cleanup).await;
        assert!(elapsed < Duration::from_secs(6), "{phase}: {elapsed:?}");
        harness.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_hurry_there_is_no_grace() {
    for phase in PHASES {
        let (harness, elapsed) = cancelled_at(phase, Act::Hurry(Box::new(Act::Deaf)), OnError::Cleanup).await;
        assert!(elapsed < Duration::from_secs(1), "{phase}: {elapsed:?}");
        harness.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_hurry_removing_is_tried_for_five_seconds() {
    let harness = Harness::new(vec![full()]);
    harness.world.on("step one", Act::Hurry(Box::new(Act::Deaf)));
    harness.world.on("destroy", Act::Deaf);
    let started = tokio::time::Instant::now();
    harness.run().await;
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert_eq!(harness.reporter.warnings(), ["cannot remove the machine: removing the machine took longer than 5.0s"]);
    // The journal's way was quick.
    harness.assert_clean();
}

#[tokio::test]
async fn a_machine_that_starts_after_all_is_removed() {
    for phase in ["launch", "step two", "seal", "post tag"] {
        let (harness, _) = cancelled_at(phase, Act::Interrupt(Box::new(Act::Succeed)), OnError::Cleanup).await;
        harness.assert_clean();
    }
}

#[tokio::test]
async fn a_build_that_came_to_its_end_in_time_keeps_its_artifacts() {
    let harness = Harness::new(vec![full()]);
    harness.world.on("post push", Act::Interrupt(Box::new(Act::Succeed)));
    let report = harness.run().await;
    assert_eq!((report.builds[0].outcome, report.exit_code()), (Outcome::Succeeded, 0));
    harness.assert_left(&["image-w", "push", "save", "tag"]);
}

#[tokio::test(start_paused = true)]
async fn cleaning_up_that_is_cut_short_is_told_from_a_build_without_result() {
    let mut spec = build("w");
    spec.steps = vec![step("one", 3)];
    let harness = Harness::new(vec![spec]);
    harness.world.on("destroy", Act::Interrupt(Box::new(Act::Succeed)));
    assert_eq!(harness.run().await.exit_code(), 0);

    let mut spec = build("w");
    spec.steps = vec![step("one", 3)];
    let harness = Harness::new(vec![spec]);
    harness.world.on("destroy", Act::Hurry(Box::new(Act::Deaf)));
    harness.world.on("undo machine-w", Act::Deaf);
    let report = harness.run().await;
    assert_eq!((report.builds[0].outcome, report.exit_code()), (Outcome::Succeeded, 5));
    assert!(report.is_left_unclean() && report.journal.is_some());
}

#[tokio::test]
async fn builds_whose_turn_has_not_come_are_cancelled_unstarted() {
    let mut first = build("w");
    first.steps = vec![step("one", 3)];
    let mut harness = Harness::new(vec![first, build("v")]);
    harness.settings.parallel_builds = 1.into();
    harness.world.on("step one", Act::Interrupt(Box::new(Act::Wait)));
    let report = harness.run().await;
    assert_eq!(report.builds[1].outcome, Outcome::Cancelled);
    assert_eq!(harness.world.log(), ["launch", "step one", "destroy"]);
    assert_eq!(harness.trace().last().unwrap(), "run finished: 0 well, 2 not");
    harness.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn pauses_and_questions_end_when_the_run_is_stopped() {
    let mut spec = full();
    spec.steps[1].pause_before = Duration::from_secs(1000);
    let harness = Harness::new(vec![spec]);
    harness.world.on("step one", Act::Succeed);
    let cancel = harness.world.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        cancel.cancel();
    });
    assert_eq!(harness.run().await.exit_code(), 130);
    harness.assert_clean();

    for debug in [true, false] {
        let mut harness = Harness::new(vec![full()]).on_error(OnError::Ask);
        harness.prompt = Arc::new(FixedPrompt::waiting());
        harness.settings.debug = debug;
        harness.world.on("step two", Act::Fail("exit status 3"));
        let cancel = harness.world.cancel.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            cancel.cancel();
        });
        assert_eq!(harness.run().await.exit_code(), 130);
        harness.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn the_image_of_a_commit_that_outlasts_the_grace_goes_before_its_machine() {
    let harness = Harness::new(vec![build("w")]);
    harness.world.on("seal", Act::Interrupt(Box::new(Act::Commit(Duration::from_secs(20)))));
    assert_eq!(harness.run().await.exit_code(), 130);
    assert_eq!(harness.world.log(), ["launch", "seal", "undo image-w", "destroy"]);
    harness.world.end_commit();
    harness.assert_clean();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_does_not_end_leaves_its_image_and_machine_to_a_later_cleanup() {
    type Wrap = fn(Box<Act>) -> Act;
    for (wrap, bound) in [(Act::Interrupt as Wrap, 66), (Act::Hurry as Wrap, 6)] {
        let harness = Harness::new(vec![build("w")]);
        harness.world.on("seal", wrap(Box::new(Act::Commit(Duration::from_secs(1000)))));
        let started = tokio::time::Instant::now();
        let report = harness.run().await;
        assert!(started.elapsed() < Duration::from_secs(bound), "{:?}", started.elapsed());
        assert_eq!((report.exit_code(), report.journal), (130, Some(harness.journal())));
        assert_eq!(harness.world.log(), ["launch", "seal", "undo image-w"]);
        let warnings = harness.reporter.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert_eq!(warnings[1], "the machine is left as well, as what was made of it could not be removed");
        // The engine is still at it.
        let cleanup = harness.clean_up(false).await;
        assert_eq!((cleanup.runs[0].failed.len(), harness.world.things()), (2, vec!["machine-w".to_owned()]));
        harness.world.end_commit();
        assert_eq!(harness.clean_up(false).await.runs[0].removed, ["image-w", "machine-w"]);
        harness.assert_clean();
    }
}
