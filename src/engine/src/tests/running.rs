//! What happens when all goes well: order, facts, time, side by side.

use std::time::{Duration, Instant};

use kiln_core::event::Outcome;
use kiln_core::{EventKind, FailureClass, Value};

use super::fakes::Act;
use super::harness::{Harness, build, component, maker, post, step, step_with, text};

#[tokio::test]
async fn a_build_goes_from_launch_to_hand_over() {
    let mut spec = build("worker");
    spec.steps = vec![step("one", 3), step("two", 4)];
    spec.post_processors = vec![vec![
        maker("tag", vec![("insists", Value::Bool(true))]),
        post("manifest", vec![("insists", Value::Bool(true))]),
    ]];
    let harness = Harness::new(vec![spec]);
    let report = harness.run().await;
    assert_eq!(
        harness.trace(),
        [
            "run started: worker",
            "build started: fake",
            "step 1/2 started: fake-step one a.pkr.hcl:3",
            "step 1 Succeeded",
            "step 2/2 started: fake-step two a.pkr.hcl:4",
            "step 2 Succeeded",
            "artifact: image-worker",
            "post-processor started: fake-post a.pkr.hcl:50",
            "post-processor Succeeded",
            "artifact: tag",
            "post-processor started: fake-post a.pkr.hcl:50",
            "post-processor Succeeded",
            "build Succeeded: image-worker, tag",
            "run finished: 1 well, 0 not",
        ]
    );
    assert_eq!((report.class(), report.exit_code()), (None, 0));
    assert_eq!(report.builds[0].outcome, Outcome::Succeeded);
    harness.assert_left(&["image-worker", "tag"]);
}

#[tokio::test]
async fn a_builder_may_give_its_artifact_at_once() {
    let mut spec = build("worker");
    spec.source = component("fake", 1, vec![("direct", Value::Bool(true))]);
    let harness = Harness::new(vec![spec]);
    let report = harness.run().await;
    assert_eq!(report.builds[0].artifacts[0].id, "image-worker");
    assert_eq!(harness.world.log(), ["launch"]);
    harness.assert_left(&["image-worker"]);
}

#[tokio::test]
async fn steps_and_post_processors_get_the_machines_values() {
    let mut spec = build("worker");
    spec.steps = vec![step_with(3, vec![("name", text("one")), ("greeting", text("build.Host"))])];
    spec.post_processors = vec![
        vec![post("a", vec![("says", text("build.ImageSha256")), ("keeps", Value::Bool(true))])],
        vec![post("b", vec![("says", text("build.PackerRunUUID")), ("keeps", Value::Bool(true))])],
    ];
    let harness = Harness::new(vec![spec]);
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.reporter.messages(), ["hello host-of-worker", "abc123", "run-1"]);
    assert!(harness.trace().contains(&"step 1/1 started: fake-step host-of-worker a.pkr.hcl:3".to_owned()));
}

#[tokio::test]
async fn a_source_cannot_depend_on_its_own_machine() {
    let mut spec = build("worker");
    spec.source = component("fake", 1, vec![("image", text("build.Host"))]);
    let harness = Harness::new(vec![spec]);
    let report = harness.run().await;
    assert_eq!(report.class(), Some(FailureClass::Template));
    assert_eq!(harness.errors(), ["the source at a.pkr.hcl:1 uses a value that is known only once its machine runs"]);
    assert!(harness.world.log().is_empty());
    harness.assert_clean();
}

#[tokio::test]
async fn secrets_of_plan_arguments_and_machine_are_hidden() {
    let mut spec = build("worker");
    spec.steps = vec![step_with(3, vec![("name", text("one")), ("greeting", text("build.Password"))])];
    let mut secretive = step("two", 4);
    secretive.component.config = std::sync::Arc::new(super::harness::Arguments {
        values: vec![("name", text("two")), ("greeting", text("s3cret-derived"))],
        span: super::harness::line(4),
        is_sensitive: true,
    });
    spec.steps.push(secretive);
    spec.steps.push(step_with(5, vec![("name", text("three")), ("greeting", text("of-the-plan"))]));
    let mut harness = Harness::new(vec![spec]);
    harness.plan.secrets = vec!["of-the-plan".into()];
    harness.run().await;
    assert_eq!(harness.reporter.messages(), ["hello <sensitive>"; 3]);
    for secret in ["hunter2", "s3cret", "of-the-plan"] {
        assert!(!harness.reporter.as_json().contains(secret), "{secret} is shown");
    }
}

#[tokio::test]
async fn a_step_is_told_with_its_name_and_without_the_secret_in_it() {
    let mut spec = build("worker");
    let named = |at: usize, name: Option<&str>| {
        let mut step = step("one", at);
        step.component.name = name.map(Into::into);
        step
    };
    spec.steps = vec![named(3, None), named(4, Some("install curl")), named(5, Some("for s3cret")), named(6, Some(""))];
    let mut harness = Harness::new(vec![spec]);
    harness.plan.secrets = vec!["s3cret".into()];
    harness.run().await;
    let names = harness.reporter.events().into_iter().filter_map(|event| match event.kind {
        EventKind::StepStarted { name, .. } => Some(name),
        _ => None,
    });
    let shown: Vec<Option<String>> = names.collect();
    assert_eq!(shown, [None, Some("install curl".to_owned()), Some("for <sensitive>".to_owned()), None]);
}

/// How many of six builds ran at once, and their names in the report.
async fn most_at_once(limits: &str, debug: bool) -> (usize, Vec<String>) {
    let builds = (0..6).map(|number| {
        let mut spec = build(&format!("b{number}"));
        spec.steps = vec![step(&format!("s{number}"), 3)];
        spec
    });
    let mut harness = Harness::new(builds.collect());
    for number in 0..6 {
        harness.world.on(&format!("step s{number}"), Act::Sleep(Duration::from_secs(10)));
    }
    harness.settings.parallel_builds = limits.parse().unwrap();
    harness.settings.debug = debug;
    let report = harness.run().await;
    (harness.world.most_at_once(), report.builds.iter().map(|build| build.name.to_string()).collect())
}

#[tokio::test(start_paused = true)]
async fn no_more_builds_run_at_a_time_than_allowed() {
    for (limits, debug, most) in [("0", false, 6), ("2", false, 2), ("1", false, 1), ("0", true, 1)] {
        let (at_once, names) = most_at_once(limits, debug).await;
        assert_eq!(at_once, most, "limit {limits}");
        assert_eq!(names, ["b0", "b1", "b2", "b3", "b4", "b5"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_kind_of_builder_has_a_limit_of_its_own() {
    for (limits, most) in [("fake=2", 2), ("4,fake=3", 3), ("2,fake=3", 2), ("2,other=1", 2), ("fake=0", 6)] {
        assert_eq!(most_at_once(limits, false).await.0, most, "{limits}");
    }
}

#[tokio::test(start_paused = true)]
async fn removing_the_machine_costs_no_time_beside_the_post_processors() {
    let mut spec = build("worker");
    spec.post_processors = vec![vec![post("push", vec![("keeps", Value::Bool(true))])]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("destroy", Act::Sleep(Duration::from_secs(10)));
    harness.world.on("post push", Act::Sleep(Duration::from_secs(10)));
    let started = tokio::time::Instant::now();
    harness.run().await;
    assert!(started.elapsed() < Duration::from_secs(11), "{:?}", started.elapsed());
    harness.assert_left(&["image-worker"]);
    assert_eq!(harness.reporter.messages(), ["still removing the machine; waiting at most 1m 0s"]);
}

#[tokio::test(start_paused = true)]
async fn pause_before_waits_and_says_so() {
    let mut spec = build("worker");
    spec.steps = vec![step("one", 3)];
    spec.steps[0].pause_before = Duration::from_secs(30);
    let harness = Harness::new(vec![spec]);
    let started = tokio::time::Instant::now();
    harness.run().await;
    assert!(started.elapsed() >= Duration::from_secs(30));
    assert_eq!(harness.reporter.messages(), ["waiting 30.0s before this step (`pause_before`)"]);
}

#[tokio::test]
async fn debug_asks_after_launch_before_each_step_and_before_removal() {
    let mut spec = build("worker");
    spec.steps = vec![step("one", 3)];
    let mut harness = Harness::new(vec![spec]);
    harness.settings.debug = true;
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(
        harness.prompt.questions(),
        [
            "debug: the machine runs; press Enter to go on ",
            "debug: next is step 1 of 1, `fake-step`; press Enter to go on ",
            "debug: next the machine is removed; press Enter to go on ",
        ]
    );
}

#[tokio::test]
async fn what_steps_note_is_undone_on_success_too() {
    let mut spec = build("worker");
    spec.steps = vec![step_with(3, vec![("name", text("one")), ("litters", Value::Bool(true))])];
    let harness = Harness::new(vec![spec]);
    assert_eq!(harness.run().await.exit_code(), 0);
    harness.assert_left(&["image-worker"]);
}

#[tokio::test]
async fn a_run_without_a_place_for_its_journal_does_not_start() {
    let mut harness = Harness::new(vec![build("worker")]);
    let file = harness.directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    harness.settings.state_dir = file;
    let started = Instant::now();
    let report = harness.run().await;
    assert_eq!(report.class(), Some(FailureClass::Environment));
    assert!(harness.world.log().is_empty());
    assert!(report.duration <= started.elapsed());
    let errors = harness.errors();
    assert!(errors[0].starts_with("cannot create the cleanup journal "), "{errors:?}");
}

#[tokio::test]
async fn a_run_without_a_place_for_its_scratch_directory_says_how_to_name_another() {
    let mut harness = Harness::new(vec![build("worker")]);
    let file = harness.directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    harness.settings.scratch_root = file;
    let report = harness.run().await;
    assert_eq!(report.class(), Some(FailureClass::Environment));
    assert!(report.failure.unwrap().hints[0].contains("KILN_TMP_DIR"));
    assert!(!harness.journal().exists());
}

#[tokio::test]
async fn without_pushing_what_pushes_is_left_out_and_needs_no_login() {
    let pushing = |name: &'static str| post(name, vec![("pushes", Value::Bool(true))]);
    let mut spec = build("worker");
    spec.post_processors = vec![
        vec![maker("tag", vec![("insists", Value::Bool(true))]), pushing("push"), maker("list", vec![])],
        vec![pushing("alone")],
    ];
    let harness = Harness { no_push: true, ..Harness::new(vec![spec.clone()]) };
    let report = harness.run().await;
    assert_eq!(report.exit_code(), 0);
    let posts: Vec<String> = harness.world.log().into_iter().filter(|call| call.starts_with("post")).collect();
    assert_eq!(posts, ["post tag", "post list"]);
    let told = |line: &&String| line.starts_with("message: not pushed");
    let line = "message: not pushed: `fake-post` (a.pkr.hcl:50) is left out, by `-no-push`";
    assert_eq!(harness.trace().iter().filter(told).collect::<Vec<_>>(), [line, line]);
    // What the second chain would have taken is kept: nobody took it.
    harness.assert_left(&["image-worker", "list"]);

    let options = crate::PrepareOptions { will_run: true, ..crate::PrepareOptions::default() };
    let (prepared, diagnostics) = crate::prepare(&harness.plan, &super::fakes::kinds(&harness.world), &options);
    assert!(prepared.is_none() && diagnostics.has_errors(), "{diagnostics:?}");
}
