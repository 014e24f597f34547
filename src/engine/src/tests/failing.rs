//! Retries, time bounds, the shape of failures, the on-error policies, panics, exit codes.

use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{BuildSpec, FailureClass, Value};

use super::fakes::Act;
use super::harness::{Harness, build, line, maker, post, step, step_with, text};
use crate::{BuildError, OnError};

fn one_step() -> BuildSpec {
    let mut spec = build("w");
    spec.steps = vec![step("one", 3)];
    spec
}

fn with_cleanup() -> BuildSpec {
    let mut spec = one_step();
    spec.error_cleanup = Some(step("mop", 9));
    spec
}

fn failing(spec: BuildSpec) -> Harness {
    let harness = Harness::new(vec![spec]);
    harness.world.on("step one", Act::Fail("exit status 3"));
    harness
}

#[tokio::test]
async fn a_failed_step_names_itself_its_place_its_cause_and_its_last_lines() {
    let harness = Harness::new(vec![one_step()]);
    let act = Act::Print("installing", Box::new(Act::Print("no space left", Box::new(Act::Lack("exit status 3")))));
    harness.world.on("step one", act);
    let report = harness.run().await;
    let failed = report.first_failed().unwrap();
    let failure = &failed.failures[0];
    assert_eq!(failure.chain(), "step 1 of 1, `fake-step` (a.pkr.hcl:3), failed: exit status 3");
    assert_eq!(failure.span, Some(line(3)));
    assert_eq!(failure.class, FailureClass::Environment);
    assert_eq!(failure.hints, ["start it"]);
    assert_eq!(failed.last_lines, ["installing", "no space left"]);
    let Some(BuildError::Step { build, index, total, .. }) = failure.error.downcast_ref() else {
        panic!("{failure:?}");
    };
    assert_eq!((build.as_str(), *index, *total), ("w", 1, 1));
    assert_eq!(harness.errors(), [failure.chain()]);
    harness.assert_clean();
}

#[tokio::test]
async fn retries_are_told_and_the_last_error_is_the_one_reported() {
    let mut spec = one_step();
    spec.steps[0].max_retries = 2;
    let harness = failing(spec);
    harness.world.on("step one", Act::Fail("exit status 4"));
    harness.world.on("step one", Act::Fail("exit status 5"));
    harness.run().await;
    assert_eq!(
        harness.reporter.warnings(),
        ["exit status 3; trying again (retry 1 of 2)", "exit status 4; trying again (retry 2 of 2)"]
    );
    assert_eq!(harness.errors(), ["step 1 of 1, `fake-step` (a.pkr.hcl:3), failed: exit status 5"]);
}

#[tokio::test]
async fn a_retry_that_works_is_a_success() {
    let mut spec = one_step();
    spec.steps[0].max_retries = 1;
    let harness = failing(spec);
    assert_eq!(harness.run().await.exit_code(), 0);
    assert!(harness.errors().is_empty());
    harness.assert_left(&["image-w"]);
}

#[tokio::test(start_paused = true)]
async fn pause_and_timeout_hold_together_and_the_bound_is_on_one_try() {
    for act in [Act::Wait, Act::Deaf] {
        let mut spec = one_step();
        spec.steps[0].pause_before = Duration::from_secs(100);
        spec.steps[0].timeout = Some(Duration::from_secs(10));
        spec.steps[0].max_retries = 1;
        let harness = Harness::new(vec![spec]);
        harness.world.on("step one", Act::Sleep(Duration::from_secs(16)));
        harness.world.on("step one", act);
        let started = tokio::time::Instant::now();
        let report = harness.run().await;
        // One pause, two tries of 10 s, and at most 5 s of grace each.
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_secs(120) && elapsed < Duration::from_secs(131), "{elapsed:?}");
        assert_eq!(report.class(), Some(FailureClass::Build));
        let text = "step 1 of 1, `fake-step` (a.pkr.hcl:3), failed: it took longer than its `timeout` of 10.0s";
        assert_eq!(harness.errors(), [text]);
        let ended = harness.world.ended_dropped.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(ended, 2, "what a try started must not meddle with the next one");
        harness.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_ends_well_within_the_grace_has_succeeded() {
    let mut spec = one_step();
    spec.steps[0].timeout = Some(Duration::from_secs(10));
    let harness = Harness::new(vec![spec]);
    harness.world.on("step one", Act::Sleep(Duration::from_secs(12)));
    let report = harness.run().await;
    assert_eq!((report.exit_code(), harness.errors()), (0, vec![]));
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn continue_on_error_warns_and_goes_on() {
    let mut spec = one_step();
    spec.steps[0].continue_on_error = true;
    spec.steps.push(step("two", 4));
    let harness = failing(spec);
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.world.log(), ["launch", "step one", "step two", "seal", "destroy"]);
    let warning = "step 1 of 2, `fake-step` (a.pkr.hcl:3), failed: exit status 3; going on all the same \
                   (`continue_on_error`)";
    assert_eq!(harness.reporter.warnings(), [warning]);
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn cleanup_runs_the_error_cleanup_provisioner_on_the_living_machine() {
    let harness = failing(with_cleanup());
    harness.run().await;
    assert_eq!(harness.world.log(), ["launch", "step one", "step mop", "destroy"]);
    assert!(harness.trace().contains(&"step 2/2 started: fake-step mop a.pkr.hcl:9".to_owned()));
    harness.assert_clean();
}

#[tokio::test]
async fn a_failed_seal_is_cleaned_up_too() {
    let harness = Harness::new(vec![with_cleanup()]);
    harness.world.on("seal", Act::Fail("no space"));
    harness.run().await;
    assert_eq!(harness.world.log(), ["launch", "step one", "seal", "undo image-w", "step mop", "destroy"]);
    assert_eq!(
        harness.errors(),
        ["cannot turn the machine of the `fake` source (a.pkr.hcl:1) into an artifact: no space"]
    );
    harness.assert_clean();
}

#[tokio::test]
async fn an_error_cleanup_provisioner_that_fails_changes_nothing() {
    let harness = failing(with_cleanup());
    harness.world.on("step mop", Act::Print("mop", Box::new(Act::Fail("no mop"))));
    let report = harness.run().await;
    assert_eq!(report.builds[0].failures.len(), 1);
    assert!(report.builds[0].last_lines.is_empty(), "the lines of the failed step are the ones to report");
    assert_eq!(harness.reporter.warnings().len(), 1);
    harness.assert_clean();
}

#[tokio::test]
async fn abort_leaves_the_machine_and_says_how_to_enter_and_remove_it() {
    let harness = failing(with_cleanup()).on_error(OnError::Abort);
    let report = harness.run().await;
    assert_eq!(harness.world.log(), ["launch", "step one"]);
    assert_eq!(harness.world.things(), ["machine-w"]);
    assert_eq!(
        harness.reporter.messages(),
        [
            "the machine is left as it is; enter it with `enter w`",
            "when you are done with it, `kiln cleanup` removes what this build left",
        ]
    );
    assert_eq!(report.journal, Some(harness.journal()));
    assert!(harness.scratch().exists(), "the machine may use what is in it");
    assert!(harness.clean_up(false).await.is_clean());
    harness.assert_clean();
}

#[tokio::test]
async fn run_cleanup_provisioner_is_abort_with_the_provisioner() {
    let harness = failing(with_cleanup()).on_error(OnError::RunCleanupProvisioner);
    harness.run().await;
    assert_eq!(harness.world.log(), ["launch", "step one", "step mop"]);
    assert_eq!(harness.world.things(), ["machine-w"]);
}

#[tokio::test]
async fn ask_retries_the_failed_step_alone_and_goes_on_from_there() {
    let mut spec = build("w");
    spec.steps = vec![step("zero", 2), step("one", 3), step("two", 4)];
    let harness = failing(spec).on_error(OnError::Ask).answering(&["what?", "r"]);
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.world.log(), ["launch", "step zero", "step one", "step one", "step two", "seal", "destroy"]);
    assert_eq!(harness.reporter.messages(), ["`what?` is none of `c`, `a` and `r`"]);
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn ask_cleans_up_or_aborts_as_told() {
    for (answers, left) in [(&["c"][..], &[][..]), (&[], &[]), (&["a"], &["machine-w"])] {
        let harness = failing(one_step()).on_error(OnError::Ask).answering(answers);
        harness.run().await;
        assert_eq!(harness.world.things(), left, "{answers:?}");
    }
}

#[tokio::test]
async fn a_launch_can_be_tried_again() {
    let harness = Harness::new(vec![one_step()]).on_error(OnError::Ask).answering(&["r"]);
    harness.world.on("launch", Act::Lack("no daemon"));
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.errors(), ["cannot start the `fake` source (a.pkr.hcl:1): no daemon"]);
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn arguments_that_turn_out_wrong_on_the_machine_point_at_themselves() {
    let mut spec = build("wrong");
    spec.steps = vec![step_with(3, vec![("name", text("one")), ("greeting", text("build.Host"))])];
    let harness = Harness::new(vec![spec]);
    let report = harness.run().await;
    assert_eq!(report.class(), Some(FailureClass::Template));
    let text = "step 1 of 1, `fake-step` (a.pkr.hcl:3), failed: with the values of the running machine its arguments \
                are wrong: a.pkr.hcl:3: `greeting` greets the wrong one";
    assert_eq!(harness.errors(), [text]);
    harness.assert_clean();
}

#[tokio::test]
async fn a_panic_anywhere_is_a_bug_and_nothing_leaks() {
    for phase in ["launch", "step one", "seal", "post push", "discard image-w", "destroy"] {
        let mut spec = one_step();
        spec.post_processors = vec![vec![post("push", vec![])]];
        let harness = Harness::new(vec![spec]);
        harness.world.on(phase, Act::Panic);
        let report = harness.run().await;
        if phase == "destroy" {
            // The machine went through the journal instead; the artifact is what it should be.
            assert_eq!(report.class(), None);
            assert!(harness.reporter.warnings()[0].contains("slipped"));
        } else {
            assert_eq!(report.exit_code(), 70, "{phase}");
            assert!(harness.errors()[0].contains("kiln stumbled over itself: slipped"), "{phase}");
        }
        harness.assert_clean();
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_does_not_go_is_told_and_removed_by_the_journal() {
    let harness = Harness::new(vec![one_step()]);
    harness.world.on("destroy", Act::Deaf);
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.reporter.warnings(), ["cannot remove the machine: removing the machine took longer than 1m 0s"]);
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn what_cannot_be_removed_stays_noted_and_the_artifact_is_handed_over() {
    let harness = Harness::new(vec![one_step()]);
    harness.world.on("destroy", Act::Fail("daemon is gone"));
    harness.world.on("undo machine-w", Act::Fail("daemon is gone"));
    let report = harness.run().await;
    assert_eq!(report.builds[0].outcome, Outcome::Succeeded);
    let told = "cannot remove machine-w: daemon is gone; try `kiln cleanup` later";
    assert_eq!(harness.reporter.warnings(), [told], "the same reason is told once");
    assert_eq!(report.journal, Some(harness.journal()));
    let report = harness.clean_up(false).await;
    assert_eq!(report.runs[0].removed, ["machine-w"]);
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn one_failed_build_does_not_stop_the_others() {
    let mut other = build("v");
    other.steps = vec![step("two", 3)];
    let harness = Harness::new(vec![one_step(), other]);
    harness.world.on("step one", Act::Fail("exit status 3"));
    let report = harness.run().await;
    assert_eq!((report.builds[0].outcome, report.builds[1].outcome), (Outcome::Failed, Outcome::Succeeded));
    assert_eq!(harness.trace().last().unwrap(), "run finished: 1 well, 1 not");
    harness.assert_left(&["image-v"]);
}

#[tokio::test(start_paused = true)]
async fn builds_of_one_name_do_not_undo_each_others_things() {
    let litters = |name: &str| step_with(3, vec![("name", text(name)), ("litters", Value::Bool(true))]);
    let (mut quick, mut slow) = (build("w"), build("w"));
    quick.steps = vec![litters("quick")];
    slow.steps = vec![litters("slow"), step("two", 4)];
    let harness = Harness::new(vec![slow, quick]);
    harness.world.on("step quick", Act::Fail("exit status 3"));
    harness.world.on("step two", Act::Sleep(Duration::from_secs(60)));
    let report = harness.run().await;
    assert_eq!((report.builds[0].outcome, report.builds[1].outcome), (Outcome::Succeeded, Outcome::Failed));
    let log = harness.world.log();
    let position = |call: &str| log.iter().position(|other| other == call).unwrap();
    assert!(position("undo litter-quick") < position("seal") && position("seal") < position("undo litter-slow"));
    harness.assert_left(&["image-w"]);
}

#[tokio::test]
async fn the_exit_code_is_that_of_all_failures_or_one() {
    let cases = [
        (Act::Lack("no daemon"), Act::Lack("no daemon"), 4),
        (Act::Lack("no daemon"), Act::Fail("exit status 3"), 1),
        (Act::Fail("exit status 3"), Act::Succeed, 1),
        (Act::Fail("exit status 3"), Act::Panic, 70),
        (Act::Succeed, Act::Succeed, 0),
    ];
    for (one, two, code) in cases {
        let mut other = build("v");
        other.steps = vec![step("two", 3)];
        let harness = Harness::new(vec![one_step(), other]);
        harness.world.on("step one", one);
        harness.world.on("step two", two);
        assert_eq!(harness.run().await.exit_code(), code);
    }
}

#[tokio::test]
async fn several_failed_chains_are_all_reported() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![maker("a", vec![])], vec![maker("b", vec![])]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("post a", Act::Fail("denied"));
    harness.world.on("post b", Act::Fail("no space"));
    let report = harness.run().await;
    assert_eq!(report.builds[0].failures.len(), 2);
    harness.assert_clean();
}
