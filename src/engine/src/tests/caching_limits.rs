//! What is not kept, not trusted, not written down; builders that keep little; what goes wrong.

use std::sync::atomic::Ordering;

use kiln_core::{Secret, StepSpec, Value};

use super::caching::{Cached, deed, deeds, keeper, outside, sensitive};
use super::fakes::Act;
use super::harness::{maker, text};
use crate::OnError;

fn borne(does: &str) -> StepSpec {
    StepSpec { continue_on_error: true, ..deed(does, vec![]) }
}

#[tokio::test]
async fn nothing_is_kept_after_a_failure_that_was_borne() {
    let mut cached = Cached::new(vec![deed("a", vec![]), borne("b"), deed("c", vec![])]);
    cached.harness.world.on("do b", Act::Fail("no"));
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do b", "do c", "seal"]);
    assert_eq!(cached.image(), ["a", "c"]);
    assert_eq!(cached.run().await, ["restore a", "do b", "keep", "do c", "keep", "seal"], "nor is what was sealed");
    assert_eq!(cached.image(), ["a", "b", "c"]);
}

#[tokio::test]
async fn nothing_is_kept_of_a_machine_that_somebody_mended() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness = cached.harness.on_error(OnError::Ask).answering(&["r"]);
    cached.harness.world.on("do a", Act::Fail("no"));
    assert_eq!(cached.run().await, ["launch", "do a", "do a", "do b", "seal"]);
    assert_eq!(cached.run().await[..2], ["launch", "do a"]);
}

#[tokio::test]
async fn retries_of_the_template_are_fine() {
    let mut cached = Cached::new(vec![StepSpec { max_retries: 1, ..deed("a", vec![]) }]);
    cached.harness.world.on("do a", Act::Fail("no"));
    assert_eq!(cached.run().await, ["launch", "do a", "do a", "keep", "seal"]);
    assert_eq!(cached.run().await, ["sealed"]);
}

#[tokio::test]
async fn abort_leaves_the_machine_and_what_was_kept() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness = cached.harness.on_error(OnError::Abort);
    cached.harness.world.on("do b", Act::Fail("no"));
    cached.run().await;
    assert_eq!(cached.harness.world.things(), ["machine-w"]);
    cached.harness.clean_up(false).await;
    assert_eq!(cached.run().await, ["restore a", "do b", "keep", "seal"]);
}

#[tokio::test]
async fn a_run_that_is_stopped_keeps_what_was_done() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness.world.on("do b", Act::Interrupt(Box::new(Act::Wait)));
    let (report, _) = cached.report().await;
    assert!(report.is_cancelled);
    cached.assert_nothing_leaks();
    assert_eq!(cached.harness.world.keeper.titles(), ["deed: a"]);
}

#[tokio::test]
async fn a_builder_may_keep_little() {
    let mut steps = deeds(&["a", "b", "c", "d"]);
    steps[1].is_checkpoint = true;
    let mut cached = Cached::new(steps);
    cached.harness.world.keeper.is_thrifty.store(true, Ordering::SeqCst);
    cached.run().await;
    assert_eq!(cached.harness.world.keeper.titles(), ["deed: b"]);
    assert_eq!(cached.run().await, ["sealed"], "what was sealed is enough");
    cached.replace(3, deed("D", vec![]));
    assert_eq!(cached.run().await, ["restore b", "do c", "keep", "do D", "keep", "seal"]);
    assert_eq!(cached.image(), ["a", "b", "c", "D"]);
    cached.replace(2, outside("look", vec![]));
    assert_eq!(cached.run().await, ["restore b", "do look", "do D", "keep", "seal"]);
    assert_eq!(cached.run().await, ["restore b", "do look", "sealed"]);
}

#[tokio::test]
async fn the_age_of_a_step_with_a_limit_is_known() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.steps()[0].cache.ttl = Some(std::time::Duration::from_secs(60));
    cached.harness.world.keeper.is_thrifty.store(true, Ordering::SeqCst);
    cached.run().await;
    assert_eq!(cached.harness.world.keeper.titles(), ["deed: a"], "it is kept for that");
    assert_eq!(cached.run().await, ["sealed"]);
    cached.harness.world.keeper.states.lock().unwrap().clear();
    assert_eq!(cached.run().await[..2], ["launch", "do a"], "what was sealed may be older");
}

#[tokio::test]
async fn what_cannot_be_restored_is_made_again() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.run().await;
    cached.replace(2, deed("C", vec![]));
    cached.harness.world.on("restore b", Act::Fail("a layer is gone"));
    let (report, log) = cached.report().await;
    assert_eq!(log, ["restore b", "launch", "do a", "keep", "do b", "keep", "do C", "keep", "seal"]);
    assert_eq!(report.exit_code(), 0);
    let warning = "cannot restore what an earlier build kept: a layer is gone; running the steps again";
    assert_eq!(cached.harness.reporter.warnings(), [warning]);
    assert_eq!(cached.run().await, ["sealed"]);
    assert_eq!(cached.image(), ["a", "b", "C"]);
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn a_build_does_not_fail_because_a_state_cannot_be_kept() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness.world.on("keep", Act::Fail("no space"));
    let (report, log) = cached.report().await;
    assert_eq!((report.exit_code(), log), (0, ["launch", "do a", "keep", "do b", "seal"].map(String::from).into()));
    assert_eq!(cached.harness.reporter.warnings(), ["cannot keep the state after this step: no space"]);
    assert_eq!(cached.run().await[..2], ["launch", "do a"]);
}

#[tokio::test]
async fn what_a_base_is_may_be_asked_again() {
    let mut cached = Cached::new(deeds(&["a"]));
    cached.harness = cached.harness.on_error(OnError::Ask).answering(&["r", "c"]);
    cached.harness.world.on("base", Act::Fail("no answer"));
    cached.harness.world.on("base", Act::Fail("no answer yet"));
    let (report, log) = cached.report().await;
    assert!(log.is_empty());
    let error = report.builds[0].failures[0].chain();
    assert_eq!(error, "cannot start the `keeper` source (a.pkr.hcl:1): no answer yet");
}

#[tokio::test]
async fn files_that_change_while_a_step_runs_spoil_its_key() {
    let mut cached = Cached::new(Vec::new());
    let path = cached.path("x.sh");
    std::fs::write(&path, "one").unwrap();
    let script = text(path.to_str().unwrap());
    *cached.steps() = vec![deed("a", vec![("script", script.clone()), ("writes", script)])];
    assert_eq!(cached.run().await, ["launch", "do a", "seal"]);
    let warning = "files of this step changed while it ran, so its result is not kept";
    assert_eq!(cached.harness.reporter.warnings(), [warning]);
    assert_eq!(cached.record().steps[0].not_kept.as_deref(), Some("its files changed while it ran"));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_no_end_of_the_build() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    let path = cached.path("later.sh");
    let script = text(path.to_str().unwrap());
    cached.replace(0, deed("a", vec![("writes", script.clone())]));
    cached.replace(1, deed("b", vec![("script", script)]));
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do b", "keep", "do c", "keep", "seal"]);
    std::fs::remove_file(&path).unwrap();
    // It was never read before the step, so what it came to is the first thing that is known.
    cached.replace(0, deed("A", vec![("writes", text(path.to_str().unwrap()))]));
    assert_eq!(cached.run().await[..2], ["launch", "do A"]);
    assert_eq!(cached.image(), ["A", "b=A", "c"]);
}

#[tokio::test]
async fn secrets_of_arguments_are_in_keys_and_nowhere_else() {
    let step = |secret: &str| {
        let mut step = deed("a", vec![]);
        let env =
            [("TOKEN".to_owned(), kiln_core::Node::new(text(secret), super::harness::line(9)))].into_iter().collect();
        step.component = sensitive(step.component, vec![("leaves", text("x")), ("env", Value::Map(env))]);
        step
    };
    let mut cached = Cached::new(vec![step("first-secret"), deed("b", vec![])]);
    cached.run().await;
    let written = serde_json::to_string(&cached.record()).unwrap();
    assert!(!written.contains("first-secret") && written.contains("keyed-"), "{written}");
    assert!(cached.harness.world.keeper.states.lock().unwrap().values().any(|state| state.info.used_secrets));
    assert_eq!(cached.run().await, ["sealed"]);
    cached.replace(0, step("second-secret"));
    assert_eq!(cached.run().await[..2], ["launch", "do "], "another secret, another result");
}

#[tokio::test]
async fn texts_that_the_template_knows_to_be_secret_are_not_written_down() {
    let mut cached = Cached::new(vec![deed("a", vec![("leaves", text("pw-s3cret-pw"))])]);
    cached.harness.plan.secrets = vec!["s3cret".into()];
    cached.run().await;
    let written = serde_json::to_string(&cached.record().steps).unwrap();
    assert!(!written.contains("s3cret") && written.contains("keyed-"), "{written}");
}

#[tokio::test]
async fn secrets_of_a_step_are_files_while_it_runs() {
    let mut cached = Cached::new(vec![deed("a", vec![]), deed("b", vec![])]);
    cached.steps()[0].secrets = vec![("token".into(), Secret::new("hush-hush")), ("other".into(), Secret::new("x"))];
    cached.run().await;
    let (left, ever) = cached.harness.world.keeper.secrets.lock().unwrap().clone();
    assert!(left.is_empty());
    assert_eq!(ever, ["/run/kiln/secrets/token=hush-hush", "/run/kiln/secrets/other=x"]);
    let states = cached.harness.world.keeper.states.lock().unwrap().clone();
    let used: Vec<bool> = states.values().map(|state| state.info.used_secrets).collect();
    assert_eq!(used.iter().filter(|used| **used).count(), 1);
    assert!(!serde_json::to_string(&cached.record()).unwrap().contains("hush"));
    // A token that is renewed makes nothing new; another name does.
    cached.steps()[0].secrets[0].1 = Secret::new("renewed");
    assert_eq!(cached.run().await, ["sealed"]);
    cached.steps()[0].secrets[0].0 = "key".into();
    assert_eq!(cached.run().await[..2], ["launch", "do a"]);
}

#[tokio::test]
async fn a_directory_that_was_made_for_secrets_goes_with_them() {
    let mut cached = Cached::new(vec![deed("a", vec![])]);
    cached.harness.world.keeper.has_no_directory.store(true, std::sync::atomic::Ordering::Relaxed);
    cached.steps()[0].secrets = vec![("token".into(), Secret::new("hush-hush")), ("other".into(), Secret::new("x"))];
    cached.run().await;
    let (left, ever) = cached.harness.world.keeper.secrets.lock().unwrap().clone();
    assert_eq!((left.len(), ever.len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_takes_no_secrets_is_not_waited_for_beyond_the_steps_time() {
    let mut cached = Cached::new(vec![deed("a", vec![])]);
    cached.harness.world.keeper.is_stuck.store(true, Ordering::SeqCst);
    cached.steps()[0].secrets = vec![("token".into(), Secret::new("hush-hush"))];
    cached.steps()[0].timeout = Some(std::time::Duration::from_secs(7));
    let (report, _) = cached.report().await;
    let told = report.builds[0].failures[0].chain();
    assert!(told.ends_with("it took longer than its `timeout` of 7.0s"), "{told}");
}

#[tokio::test]
async fn secrets_go_also_where_the_step_fails() {
    let mut cached = Cached::new(vec![deed("a", vec![])]);
    cached.steps()[0].secrets = vec![("token".into(), Secret::new("hush-hush"))];
    cached.harness = cached.harness.on_error(OnError::Abort);
    cached.harness.world.on("do a", Act::Fail("hush-hush is wrong"));
    cached.run().await;
    assert!(cached.harness.world.keeper.secrets.lock().unwrap().0.is_empty());
    assert!(!cached.harness.reporter.as_json().contains("hush"));
}

#[tokio::test]
async fn a_machine_without_a_place_for_secrets_refuses_the_step() {
    let mut spec = super::harness::build("worker");
    spec.steps = vec![super::harness::step("one", 3)];
    spec.steps[0].secrets = vec![("token".into(), Secret::new("hush-hush"))];
    let harness = super::harness::Harness::new(vec![spec]);
    let report = harness.run().await;
    let told = report.builds[0].failures[0].chain();
    assert!(told.ends_with("failed: this machine has no directory in memory for `secrets`"), "{told}");
    harness.assert_clean();
}

#[tokio::test]
async fn post_processors_may_run_alone() {
    let mut cached = Cached::new(vec![deed("a", vec![]), outside("look", vec![]), deed("b", vec![])]);
    cached.run().await;
    cached.harness.plan.builds[0].post_processors = vec![vec![maker("tag", vec![("insists", Value::Bool(true))])]];
    cached.harness.settings.cache.post_only = true;
    assert_eq!(cached.run().await, ["sealed", "post tag"]);
    assert_eq!(cached.harness.world.things(), ["image-w", "tag"]);
}

#[tokio::test]
async fn post_processors_alone_need_something_to_go_on_from() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.harness.settings.cache.post_only = true;
    let (report, log) = cached.report().await;
    assert!(log.is_empty());
    let told = report.builds[0].failures[0].chain();
    assert_eq!(
        told,
        "there is no earlier result to go on from: step 1, `deed` (a.pkr.hcl:10), to step 3, `deed` (a.pkr.hcl:10), \
         would run"
    );
    cached.harness.settings.cache.post_only = false;
    cached.run().await;
    cached.replace(2, deed("C", vec![]));
    cached.harness.settings.cache.post_only = true;
    let (report, _) = cached.report().await;
    let told = report.builds[0].failures[0].chain();
    assert_eq!(told, "there is no earlier result to go on from: step 3, `deed` (a.pkr.hcl:10), would run");
    assert_eq!(report.builds[0].failures[0].hints, ["build it once without `--post-only`"]);
}

#[tokio::test]
async fn post_processors_alone_need_a_builder_that_keeps_something() {
    let mut spec = super::harness::build("worker");
    spec.steps = vec![super::harness::step("one", 3)];
    let mut cached = Cached::of(vec![spec]);
    cached.harness.settings.cache.post_only = true;
    let (report, log) = cached.report().await;
    assert!(log.is_empty());
    let told = report.builds[0].failures[0].chain();
    let expected = "nothing is kept of the `fake` source (a.pkr.hcl:1), so its post-processors cannot run alone";
    assert_eq!(told, expected);
}

#[tokio::test]
async fn post_processors_alone_take_what_the_last_build_made_whatever_bars_it() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.steps()[0].cache.is_off = true;
    cached.steps()[1].cache.ttl = Some(std::time::Duration::from_secs(60));
    cached.run().await;
    cached.harness.world.keeper.age(std::time::Duration::from_secs(120));
    cached.harness.settings.cache.post_only = true;
    assert_eq!(cached.run().await, ["sealed"]);
}

#[tokio::test]
async fn debugging_pauses_at_what_happens() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.run().await;
    cached.replace(1, deed("B", vec![]));
    cached.harness.settings.debug = true;
    cached.run().await;
    assert_eq!(
        cached.harness.prompt.questions(),
        [
            "debug: the machine runs; press Enter to go on ",
            "debug: next is step 2 of 2, `deed`; press Enter to go on ",
            "debug: next the machine is removed; press Enter to go on ",
        ]
    );
}

#[tokio::test]
async fn without_a_memory_nothing_is_kept() {
    let mut cached = Cached::of(vec![keeper("w", deeds(&["a"]))]);
    cached.harness.settings.cache.memory = None;
    for _ in 0..2 {
        assert_eq!(cached.run().await, ["launch", "do a", "seal"]);
    }
    assert!(cached.harness.world.keeper.titles().is_empty());
}

#[tokio::test]
async fn what_a_component_renders_itself_counts_as_far_as_it_can_be_told() {
    for (command, is_cached) in [
        ("{{.Path}} {{ .Vars }}", true),
        ("{{if .Vars}}x{{end}}", true),
        ("{{ timestamp }}", false),
        ("{{ build `ID` }}", false),
    ] {
        let mut cached = Cached::new(vec![deed("a", vec![("command", text(command))])]);
        cached.run().await;
        let log = cached.run().await;
        assert_eq!(log == ["sealed"], is_cached, "{command}: {log:?}");
    }
}
