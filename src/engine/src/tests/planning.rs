//! What `kiln plan` says is what `kiln build` does.

use std::time::Duration;

use kiln_core::Value;

use super::caching::{Cached, deed, deeds, keeper, outside, passing};
use super::fakes::Act;
use super::harness::{build, maker, step, text};
use crate::{BuildPlan, PlanReport, Reason, SealPlan, StepAction, StepChoice};

impl Cached {
    pub(super) async fn plan(&self) -> PlanReport {
        let (prepared, surroundings) = self.harness.prepared();
        let before = self.harness.world.log();
        let report = crate::plan(&prepared, &self.harness.settings, &surroundings).await;
        let log = self.harness.world.log();
        assert!(log[before.len()..].iter().all(|call| call == "base"), "nothing runs: {log:?}");
        report
    }

    /// The plan in few words.
    async fn words(&self) -> Vec<String> {
        let report = self.plan().await;
        in_few_words(&report.builds[0])
    }

    async fn first_reason(&self) -> String {
        let plan = self.plan().await;
        let because = plan.builds[0].steps.iter().find_map(|step| step.because.clone());
        because.unwrap_or_else(|| "nothing runs".to_owned())
    }
}

fn in_few_words(plan: &BuildPlan) -> Vec<String> {
    let step = |step: &crate::StepPlan| {
        let action = match step.action {
            StepAction::Cached => "cached",
            StepAction::Runs => "runs",
            StepAction::Skipped => "skipped",
        };
        let because = step.because.as_ref().map(|because| format!(": {because}")).unwrap_or_default();
        format!("{} {action}{because}", step.title)
    };
    let sealing = match plan.sealing {
        SealPlan::Cached => "sealed",
        SealPlan::Runs => "seal",
        SealPlan::Skipped => "skipped",
    };
    plan.steps.iter().map(step).chain([sealing.to_owned()]).collect()
}

#[tokio::test]
async fn a_plan_is_what_a_build_does() {
    let mut cached = Cached::new(vec![deed("a", vec![]), passing("rest"), deed("b", vec![]), deed("c", vec![])]);
    assert_eq!(
        cached.words().await,
        [
            "a runs: never built",
            "rest runs: always runs",
            "b runs: a step before it runs",
            "c runs: a step before it runs",
            "seal"
        ]
    );
    cached.run().await;
    assert_eq!(cached.words().await, ["a cached", "rest skipped", "b cached", "c cached", "sealed"]);
    cached.replace(2, deed("B", vec![]));
    assert_eq!(
        cached.words().await,
        [
            "a cached",
            "rest skipped",
            "b runs: `does` changed (\"b\" -> \"B\")",
            "c runs: a step before it runs",
            "seal"
        ]
        .map(|line| line.replace("b runs", "B runs"))
    );
}

#[tokio::test]
async fn every_reason_is_told() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    let script = cached.path("apt.sh");
    std::fs::write(&script, "one").unwrap();
    let name = script.display().to_string();
    let lines = |lines: &[&str]| {
        let nodes = lines.iter().map(|line| kiln_core::Node::new(text(line), super::harness::line(9)));
        Value::List(nodes.collect())
    };
    let make = |inline: &[&str]| deed("b", vec![("script", text(&name)), ("inline", lines(inline))]);
    cached.replace(1, make(&["x"]));
    cached.run().await;
    std::fs::write(&script, "two").unwrap();
    assert_eq!(cached.first_reason().await, format!("`{name}` changed"));
    cached.replace(1, make(&["y"]));
    assert_eq!(cached.first_reason().await, format!("`inline` changed, `{name}` changed"));
    std::fs::write(&script, "one").unwrap();
    cached.replace(1, deed("b", vec![("inline", lines(&["x"])), ("leaves", text("z"))]));
    assert_eq!(cached.first_reason().await, format!("`leaves` is new, `{name}` is gone"));
    cached.replace(1, make(&["x"]));
    assert_eq!(cached.first_reason().await, "nothing runs");
    cached.steps().insert(1, deed("new", vec![]));
    assert_eq!(cached.first_reason().await, "never built");
    cached.steps().remove(1);
    cached.steps().swap(0, 1);
    assert_eq!(cached.first_reason().await, "what comes before it changed");
    cached.steps().swap(0, 1);
    *cached.harness.world.keeper.image.lock().unwrap() = "sha256:2".into();
    assert_eq!(cached.first_reason().await, "what it starts from changed: `image` changed ( -> sha256:2)");
    cached.harness.world.keeper.image.lock().unwrap().clear();
    cached.harness.settings.cache.no_cache = true;
    assert_eq!(cached.first_reason().await, "`--no-cache`");
    cached.harness.settings.cache.no_cache = false;
    cached.harness.settings.cache.from_step = Some(StepChoice::Number(3));
    assert_eq!(cached.words().await, ["a cached", "b cached", "c runs: `--from-step`", "seal"]);
    cached.harness.settings.cache.from_step = None;
    cached.steps()[2].cache.is_off = true;
    assert_eq!(cached.first_reason().await, "`cache = false`");
    cached.steps()[2].cache.is_off = false;
    cached.steps()[0].cache.ttl = Some(Duration::from_secs(86_400));
    cached.harness.world.keeper.age(Duration::from_secs(90_000));
    assert_eq!(cached.first_reason().await, "expired after 24h 0m");
    cached.steps()[0].cache.ttl = None;
    cached.harness.world.keeper.states.lock().unwrap().clear();
    cached.harness.world.keeper.sealed.lock().unwrap().clear();
    assert_eq!(cached.first_reason().await, "no longer in the cache");
    cached.replace(0, deed("greet", vec![("leaves", text("build.Host"))]));
    assert_eq!(cached.first_reason().await, "depends on the running machine");
    std::fs::remove_file(&script).unwrap();
    cached.steps().remove(0);
    assert_eq!(cached.first_reason().await, format!("`{name}` cannot be read: No such file or directory (os error 2)"));
}

#[tokio::test]
async fn a_step_that_failed_is_told() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness.world.on("do b", Act::Fail("no"));
    cached.run().await;
    assert_eq!(cached.words().await, ["a cached", "b runs: it failed last time", "seal"]);
}

#[tokio::test]
async fn what_the_builder_did_not_keep_is_told() {
    let mut cached = Cached::new(deeds(&["a"]));
    cached.harness.world.keeper.is_thrifty.store(true, std::sync::atomic::Ordering::SeqCst);
    cached.harness.world.on("seal", Act::Fail("no"));
    cached.run().await;
    assert_eq!(cached.words().await, ["a runs: not kept: it took no time", "seal"]);
}

#[tokio::test]
async fn what_reaches_outside_parts_the_plan() {
    let mut cached = Cached::new(vec![deed("a", vec![]), outside("look", vec![]), deed("b", vec![])]);
    cached.run().await;
    assert_eq!(cached.words().await, ["a cached", "look runs: always runs", "b cached", "sealed"]);
    cached.replace(2, deed("B", vec![]));
    let words = cached.words().await;
    assert_eq!(words[2], "B runs: `does` changed (\"b\" -> \"B\")");
}

#[tokio::test]
async fn a_builder_that_keeps_nothing_says_so() {
    let mut spec = build("worker");
    spec.steps = vec![step("one", 3)];
    spec.post_processors = vec![vec![maker("tag", vec![])]];
    let mut off = keeper("off", deeds(&["a"]));
    off.cache.is_off = true;
    let cached = Cached::of(vec![spec, off]);
    let plan = cached.plan().await;
    let reasons: Vec<_> = plan.builds.iter().map(|build| build.steps[0].reason.clone()).collect();
    assert_eq!(reasons, [Some(Reason::NoStates), Some(Reason::Off)]);
    assert_eq!(plan.builds[0].post_processors, [["fake-post"]]);
}

#[tokio::test]
async fn a_base_that_is_not_known_is_no_end_of_the_plan() {
    let cached = Cached::new(deeds(&["a"]));
    cached.harness.world.on("base", Act::Fail("no answer"));
    let plan = cached.plan().await;
    assert_eq!(plan.builds[0].error.as_deref(), Some("no answer"));
    assert_eq!(in_few_words(&plan.builds[0]), ["a runs: what it starts from is not known", "seal"]);
}

#[tokio::test]
async fn the_json_of_a_plan_is_stable() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    *cached.harness.world.keeper.image.lock().unwrap() = "sha256:0c1d".into();
    cached.steps()[1].component.name = Some("second".into());
    cached.harness.plan.builds[0].post_processors = vec![vec![maker("tag", vec![])]];
    cached.run().await;
    let second = cached.steps()[1].component.name.clone();
    cached.replace(1, deed("B", vec![]));
    cached.steps()[1].component.name = second;
    let plan = cached.plan().await;
    let shown = serde_json::to_string_pretty(&plan).unwrap();
    insta::with_settings!({filters => vec![
        (r#""created": \d{13},"#, r#""created": 1767225600000,"#),
        (r#""seconds": [\d.e-]+"#, r#""seconds": 0.5"#),
    ]}, { insta::assert_snapshot!(shown) });
}

#[tokio::test]
async fn a_plan_of_a_build_without_steps_tells_whether_it_was_sealed() {
    let mut cached = Cached::new(Vec::new());
    assert_eq!(cached.words().await, ["seal"]);
    cached.run().await;
    assert_eq!(cached.words().await, ["sealed"]);
    cached.harness.settings.cache.no_cache = true;
    assert_eq!(cached.words().await, ["seal"]);
    cached.harness.settings.cache.no_cache = false;
    cached.steps().extend([passing("rest"), outside("look", vec![])]);
    assert_eq!(cached.words().await.last().unwrap(), "seal");
}
