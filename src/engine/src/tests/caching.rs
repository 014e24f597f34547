//! The walk past what earlier builds kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::{BuildSpec, ComponentSpec, Key, PlanRecord, StepSpec, Value};
use kiln_testkit::MemoryPlans;

use super::fakes::Act;
use super::harness::{Harness, build, component, maker, step_with, text};
use crate::{CachePolicy, RunReport, StepChoice};

/// A template that is built again and again.
pub(super) struct Cached {
    pub(super) harness: Harness,
    pub(super) memory: Arc<MemoryPlans>,
    runs: usize,
}

pub(super) fn deed(does: &str, more: Vec<(&'static str, Value)>) -> StepSpec {
    let mut step = step_with(10, vec![]);
    step.component = component("deed", 10, [vec![("does", text(does))], more].concat());
    step
}

pub(super) fn deeds(names: &[&str]) -> Vec<StepSpec> {
    names.iter().map(|name| deed(name, vec![])).collect()
}

pub(super) fn keeper(name: &str, steps: Vec<StepSpec>) -> BuildSpec {
    BuildSpec { source: component("keeper", 1, vec![]), steps, ..build(name) }
}

pub(super) fn outside(does: &str, more: Vec<(&'static str, Value)>) -> StepSpec {
    deed(does, [vec![("caching", text("outside"))], more].concat())
}

pub(super) fn passing(does: &str) -> StepSpec {
    deed(does, vec![("caching", text("passing"))])
}

impl Cached {
    pub(super) fn new(steps: Vec<StepSpec>) -> Cached {
        Cached::of(vec![keeper("w", steps)])
    }

    pub(super) fn of(builds: Vec<BuildSpec>) -> Cached {
        let mut harness = Harness::new(builds);
        let memory = Arc::new(MemoryPlans::new());
        harness.settings.cache = CachePolicy {
            memory: Some(memory.clone()),
            template: "/templates/a.pkr.hcl".into(),
            ..CachePolicy::default()
        };
        Cached { harness, memory, runs: 0 }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.harness.directory.path().join(name)
    }

    pub(super) fn steps(&mut self) -> &mut Vec<StepSpec> {
        &mut self.harness.plan.builds[0].steps
    }

    pub(super) fn replace(&mut self, index: usize, step: StepSpec) {
        self.steps()[index] = step;
    }

    /// Builds once more. What was called for it, without the journal's part.
    pub(super) async fn run(&mut self) -> Vec<String> {
        self.report().await.1
    }

    pub(super) async fn report(&mut self) -> (RunReport, Vec<String>) {
        self.runs += 1;
        self.harness.settings.run_id = format!("run-{}", self.runs).into();
        let before = self.harness.world.log().len();
        let report = self.harness.run().await;
        let mut log = self.harness.world.log();
        log.drain(..before);
        log.retain(|call| call != "base" && call != "destroy");
        (report, log)
    }

    /// What the last image is made of.
    pub(super) fn image(&self) -> Vec<String> {
        self.harness.world.keeper.last()
    }

    pub(super) fn record(&self) -> PlanRecord {
        self.memory.record("w").unwrap()
    }

    pub(super) fn states(&self) -> Vec<Option<Key>> {
        self.record().steps.into_iter().map(|step| step.state).collect()
    }

    #[track_caller]
    pub(super) fn assert_nothing_leaks(&self) {
        let left = self.harness.world.things();
        assert!(!left.iter().any(|thing| thing.starts_with("machine")), "{left:?}");
    }
}

#[tokio::test]
async fn what_was_built_is_not_built_again() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.harness.plan.builds[0].post_processors =
        vec![vec![maker("tag", vec![("says", text("build.Host")), ("insists", Value::Bool(true))])]];
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do b", "keep", "do c", "keep", "seal", "post tag"]);
    let told = cached.harness.trace().len();
    assert_eq!(cached.run().await, ["sealed", "post tag"], "no machine is started");
    assert_eq!(
        cached.harness.trace()[told..],
        [
            "run started: w",
            "build started: keeper",
            "step 1/3 cached: deed a",
            "step 2/3 cached: deed b",
            "step 3/3 cached: deed c",
            "artifact: image-w",
            "post-processor started: fake-post a.pkr.hcl:50",
            "message: host-of-then",
            "post-processor Succeeded",
            "artifact: tag",
            "build Succeeded: image-w, tag",
            "run finished: 1 well, 0 not",
        ]
    );
    assert_eq!(cached.image(), ["a", "b", "c"]);
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn only_what_changed_and_what_follows_runs() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.run().await;
    cached.replace(2, deed("C", vec![]));
    assert_eq!(cached.run().await, ["restore b", "do C", "keep", "seal"]);
    assert_eq!(cached.image(), ["a", "b", "C"]);
    cached.replace(0, deed("A", vec![]));
    assert_eq!(cached.run().await, ["launch", "do A", "keep", "do b", "keep", "do C", "keep", "seal"]);
    cached.replace(0, deed("a", vec![]));
    assert_eq!(cached.run().await, ["sealed"], "what was there before is there still");
    assert_eq!(cached.image(), ["a", "b", "C"]);
}

#[tokio::test]
async fn another_base_is_another_build() {
    let mut cached = Cached::new(deeds(&["a"]));
    cached.run().await;
    *cached.harness.world.keeper.image.lock().unwrap() = "sha256:other".into();
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "seal"]);
}

#[tokio::test]
async fn a_build_that_failed_resumes_at_the_step_that_failed() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.harness.world.on("do b", Act::Fail("no space"));
    let (report, log) = cached.report().await;
    assert_eq!((report.exit_code(), log), (1, vec!["launch".into(), "do a".into(), "keep".into(), "do b".into()]));
    cached.assert_nothing_leaks();
    assert_eq!(cached.run().await, ["restore a", "do b", "keep", "do c", "keep", "seal"]);
    assert_eq!(cached.image(), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_failed_step_tells_how_to_look_at_the_machine_before_it() {
    let shell = |number: usize| {
        format!("`kiln shell w:{number} a.pkr.hcl` opens a shell in the machine as it was before this step")
    };
    let on = |number: usize| format!("the next build goes on from here; {}", shell(number));
    for (fails, hints) in [("do a", vec![shell(0)]), ("do b", vec![on(1)]), ("do x", vec![on(2)])] {
        let mut cached = Cached::new([deeds(&["a", "b"]), vec![outside("x", vec![])]].concat());
        cached.harness.world.on(fails, Act::Fail("no space"));
        let (report, _) = cached.report().await;
        assert_eq!(report.builds[0].failures[0].hints, hints, "{fails}");
    }
    // What is not kept cannot be looked at.
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness.world.on("keep", Act::Fail("full"));
    cached.harness.world.on("do b", Act::Fail("no space"));
    let (report, _) = cached.report().await;
    assert_eq!(report.builds[0].failures[0].hints, [""; 0]);
}

#[tokio::test]
async fn a_state_that_was_not_sealed_is_restored_and_sealed() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness.world.on("seal", Act::Fail("no space"));
    cached.run().await;
    assert_eq!(cached.run().await, ["restore b", "seal"]);
    assert_eq!(cached.run().await, ["sealed"]);
}

#[tokio::test]
async fn files_count_by_their_content() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    let script = cached.path("x.sh");
    std::fs::write(&script, "one").unwrap();
    cached.replace(1, deed("b", vec![("script", text(script.to_str().unwrap()))]));
    cached.run().await;
    let file = std::fs::File::options().write(true).open(&script).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(cached.run().await, ["sealed"], "a time is nothing");
    std::fs::write(&script, "two").unwrap();
    assert_eq!(cached.run().await, ["restore a", "do b", "keep", "seal"]);
    assert_eq!(cached.image(), ["a", "b=two"]);
    // Elsewhere, with the same name.
    std::fs::create_dir(cached.path("moved")).unwrap();
    std::fs::rename(&script, cached.path("moved/x.sh")).unwrap();
    let moved = cached.path("moved/x.sh");
    cached.replace(1, deed("b", vec![("script", text(moved.to_str().unwrap()))]));
    assert_eq!(cached.run().await, ["sealed"]);
}

#[tokio::test]
async fn no_cache_runs_everything_and_keeps_it_anew() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.run().await;
    let old = cached.states();
    cached.harness.settings.cache.no_cache = true;
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do b", "keep", "seal"]);
    let new = cached.states();
    assert!(old.iter().zip(&new).all(|(old, new)| old != new), "under other keys, as others may stand on the old ones");
    cached.harness.settings.cache.no_cache = false;
    cached.replace(1, deed("B", vec![]));
    cached.run().await;
    assert_eq!(cached.states()[0], new[0], "the new state is the one that is used");
}

#[tokio::test]
async fn steps_may_be_run_again_from_one_on() {
    for choice in [StepChoice::Number(2), StepChoice::Name("second".into())] {
        let mut cached = Cached::new(deeds(&["a", "b", "c"]));
        cached.steps()[1].component.name = Some("second".into());
        cached.run().await;
        cached.harness.settings.cache.from_step = Some(choice);
        assert_eq!(cached.run().await, ["restore a", "do b", "keep", "do c", "keep", "seal"]);
        cached.harness.settings.cache.from_step = None;
        assert_eq!(cached.run().await, ["sealed"]);
    }
}

#[tokio::test]
async fn a_step_that_no_build_has_is_an_error_before_anything_runs() {
    for (choice, hint) in [
        (StepChoice::Number(0), "no build has more than 1"),
        (StepChoice::Number(2), "no build has more than 1"),
        (StepChoice::Name("x".into()), "no step has a `name`"),
    ] {
        let mut cached = Cached::new(deeds(&["a"]));
        cached.harness.settings.cache.from_step = Some(choice);
        let (report, log) = cached.report().await;
        assert_eq!((report.exit_code(), log.len()), (2, 0));
        assert!(report.failure.unwrap().hints[0].contains(hint));
    }
}

#[tokio::test]
async fn a_step_without_cache_runs_always_and_so_does_what_follows() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.steps()[1].cache.is_off = true;
    // What it leaves is another thing each time.
    for (run, leaves) in ["1", "2"].into_iter().enumerate() {
        let off = cached.steps()[1].cache;
        let mut step = deed("b", vec![("leaves", text(leaves))]);
        step.cache = off;
        cached.replace(1, step);
        let log = cached.run().await;
        let start = if run == 0 { vec!["launch", "do a", "keep"] } else { vec!["restore a"] };
        assert_eq!(log, [start, vec!["do b", "keep", "do c", "keep", "seal"]].concat());
        assert_eq!(cached.image(), ["a", leaves, "c"]);
    }
}

#[tokio::test]
async fn what_follows_a_step_that_came_to_the_same_is_restored() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.steps()[1].cache.is_off = true;
    cached.run().await;
    assert_eq!(cached.run().await, ["restore a", "do b", "keep", "sealed"]);
    assert_eq!(cached.image(), ["a", "b", "c"]);
    // A changed comment.
    cached.replace(1, deed("b # why", vec![("leaves", text("b"))]));
    assert_eq!(cached.run().await, ["restore a", "do b # why", "keep", "sealed"]);
    assert_eq!(cached.run().await, ["sealed"], "also the next time");
    cached.replace(2, deed("d", vec![]));
    cached.run().await;
    assert_eq!(cached.image(), ["a", "b", "d"]);
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn what_is_too_old_runs_again_and_then_counts_as_new() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.steps()[0].cache.ttl = Some(Duration::from_secs(3600));
    cached.run().await;
    cached.harness.world.keeper.age(Duration::from_secs(3500));
    assert_eq!(cached.run().await, ["sealed"]);
    cached.harness.world.keeper.age(Duration::from_secs(200));
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "sealed"], "it came to the same");
    assert_eq!(cached.run().await, ["sealed"], "and is fresh now");
    cached.harness.world.keeper.age(Duration::from_secs(3700));
    let mut step = deed("a", vec![("leaves", text("a"))]);
    step.cache.ttl = Some(Duration::from_secs(3600));
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "sealed"]);
}

#[tokio::test]
async fn a_sources_ttl_counts_for_all_its_steps() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.harness.plan.builds[0].cache.ttl = Some(Duration::from_secs(3600));
    cached.run().await;
    assert_eq!(cached.run().await, ["sealed"]);
    cached.harness.world.keeper.age(Duration::from_secs(3700));
    assert_eq!(cached.run().await[..3], ["launch", "do a", "keep"]);
}

#[tokio::test]
async fn a_source_without_cache_keeps_nothing() {
    let mut cached = Cached::new(deeds(&["a"]));
    cached.harness.plan.builds[0].cache.is_off = true;
    for _ in 0..2 {
        assert_eq!(cached.run().await, ["launch", "do a", "seal"]);
    }
    assert!(cached.harness.world.keeper.titles().is_empty());
    assert!(cached.memory.record("w").is_none());
}

#[tokio::test]
async fn what_reaches_outside_always_runs_where_it_stands() {
    let mut cached = Cached::new(vec![deed("a", vec![]), outside("look", vec![]), deed("b", vec![])]);
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do look", "do b", "keep", "seal"]);
    assert_eq!(cached.run().await, ["restore a", "do look", "sealed"]);
    // It has no part in the keys.
    cached.replace(1, outside("look again", vec![]));
    assert_eq!(cached.run().await, ["restore a", "do look again", "sealed"]);
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn after_a_step_outside_that_knows_the_machine_nothing_is_restored() {
    let mut cached = Cached::new(vec![deed("a", vec![]), outside("build.Host", vec![]), deed("b", vec![])]);
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do host-of-w", "do b", "seal"]);
    assert_eq!(cached.run().await, ["restore a", "do host-of-w", "do b", "seal"]);
    cached.steps().pop();
    for _ in 0..2 {
        assert_eq!(cached.run().await, ["restore a", "do host-of-w", "seal"]);
    }
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn files_are_read_after_what_may_write_them() {
    let mut cached = Cached::new(Vec::new());
    let made = cached.path("made");
    let made = made.to_str().unwrap();
    *cached.steps() = vec![outside("one", vec![("writes", text(made))]), deed("install", vec![("script", text(made))])];
    assert_eq!(cached.run().await, ["launch", "do one", "do install", "keep", "seal"]);
    cached.replace(0, outside("two", vec![("writes", text(made))]));
    assert_eq!(cached.run().await, ["launch", "do two", "do install", "keep", "seal"]);
    assert_eq!(cached.image(), ["install=two"]);
    cached.replace(0, outside("one", vec![("writes", text(made))]));
    assert_eq!(cached.run().await, ["launch", "do one", "sealed"]);
    assert_eq!(cached.image(), ["install=one"]);
}

#[tokio::test]
async fn what_passes_time_is_left_out_where_nothing_ran_before_it() {
    let mut cached =
        Cached::new(vec![passing("wait"), deed("a", vec![]), passing("rest"), deed("b", vec![]), passing("end")]);
    assert_eq!(cached.run().await, ["launch", "do wait", "do a", "keep", "do rest", "do b", "keep", "do end", "seal"]);
    assert_eq!(cached.run().await, ["sealed"]);
    cached.replace(3, deed("B", vec![]));
    assert_eq!(cached.run().await, ["restore a", "do B", "keep", "do end", "seal"]);
}

#[tokio::test]
async fn steps_that_need_the_machine_are_keyed_by_its_values() {
    let greeting = |name: &'static str| deed("greet", vec![("leaves", text(name))]);
    let mut cached = Cached::new(vec![deed("a", vec![]), greeting("build.Host"), deed("b", vec![])]);
    assert_eq!(cached.run().await, ["launch", "do a", "keep", "do greet", "keep", "do b", "keep", "seal"]);
    assert_eq!(cached.image(), ["a", "host-of-w", "b"]);
    assert_eq!(cached.run().await, ["restore a", "sealed"], "it is known once the machine runs");
    cached.replace(0, deed("A", vec![]));
    cached.replace(1, greeting("build.Deeds"));
    cached.run().await;
    assert_eq!(cached.image(), ["A", "A", "b"]);
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn builds_that_share_steps_run_them_once() {
    let mut cached = Cached::of(vec![
        keeper("one", deeds(&["a", "b", "c"])),
        keeper("two", deeds(&["a", "b", "d"])),
        keeper("three", deeds(&["a", "b"])),
    ]);
    cached.harness.world.on("do a", Act::Sleep(Duration::from_millis(20)));
    cached.harness.world.on("do b", Act::Sleep(Duration::from_millis(20)));
    for no_cache in [false, true] {
        cached.harness.settings.cache.no_cache = no_cache;
        let log = cached.run().await;
        for (deed, times) in [("do a", 1), ("do b", 1), ("do c", 1), ("do d", 1)] {
            assert_eq!(log.iter().filter(|call| *call == deed).count(), times, "{deed}: {log:?}");
        }
    }
    let messages = cached.harness.reporter.messages();
    assert!(messages.iter().any(|text| text.starts_with("waiting for `")), "{messages:?}");
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn where_the_one_fails_that_runs_it_the_others_try_themselves() {
    let mut cached = Cached::of(vec![keeper("one", deeds(&["a"])), keeper("two", deeds(&["a"]))]);
    cached.harness.world.on("do a", Act::Fail("no"));
    let (report, log) = cached.report().await;
    assert_eq!(log.iter().filter(|call| *call == "do a").count(), 2);
    assert_eq!(report.builds.iter().filter(|build| build.failures.is_empty()).count(), 1);
}

#[tokio::test]
async fn a_build_may_be_called_by_its_scripts() {
    let script = |does: &str| deed(does, vec![("inline", Value::List(vec![]))]);
    let mut cached = Cached::of(vec![keeper("one", vec![]), keeper("two", vec![])]);
    let path = cached.path("x.sh");
    std::fs::write(&path, "echo $PACKER_BUILD_NAME").unwrap();
    for build in &mut cached.harness.plan.builds {
        build.steps = vec![script("a"), deed("b", vec![("script", text(path.to_str().unwrap()))]), script("c")];
    }
    let log = cached.run().await;
    assert_eq!(log.iter().filter(|call| *call == "do a").count(), 1, "{log:?}");
    assert_eq!(log.iter().filter(|call| *call == "do b").count(), 2, "its result may be another for each build");
    assert_eq!(log.iter().filter(|call| *call == "do c").count(), 1, "and here it was not");
}

pub(super) fn sensitive(spec: ComponentSpec, values: Vec<(&'static str, Value)>) -> ComponentSpec {
    let config = super::harness::Arguments { values, span: super::harness::line(9), is_sensitive: true };
    ComponentSpec { config: Arc::new(config), ..spec }
}

#[tokio::test]
async fn files_that_nobody_wrote_are_not_read_again() {
    let mut cached = Cached::new(Vec::new());
    let path = cached.path("x.sh");
    std::fs::write(&path, "one").unwrap();
    *cached.steps() = vec![deed("a", vec![("script", text(path.to_str().unwrap()))])];
    cached.run().await;
    assert!(cached.record().steps[0].files.is_none(), "it was written a moment ago");
    // A file of the system was not.
    *cached.steps() = vec![deed("a", vec![("script", text("/etc/passwd"))])];
    cached.run().await;
    let mut record = cached.record();
    let files = record.steps[0].files.as_mut().unwrap();
    files.inputs[0].digest = "of another time".into();
    let template = cached.harness.settings.cache.template.clone();
    kiln_core::PlanMemory::put_plan(&*cached.memory, &template, "w", &record).unwrap();
    assert_eq!(cached.run().await[..2], ["launch", "do a"], "what is known of it is taken for true");
}

#[tokio::test]
async fn a_build_without_steps_is_sealed_once() {
    let mut cached = Cached::new(Vec::new());
    assert_eq!(cached.run().await, ["launch", "seal"]);
    assert_eq!(cached.run().await, ["sealed"]);
    cached.harness.settings.cache.no_cache = true;
    assert_eq!(cached.run().await, ["launch", "seal"]);
    cached.harness.settings.cache.no_cache = false;
    // What only passes time changes nothing.
    cached.steps().push(passing("rest"));
    assert_eq!(cached.run().await, ["sealed"]);
    *cached.harness.world.keeper.image.lock().unwrap() = "newer".into();
    assert_eq!(cached.run().await, ["launch", "do rest", "seal"]);
    assert_eq!(cached.run().await, ["sealed"]);
    // A state has an age, a base has none.
    cached.harness.plan.builds[0].cache.ttl = Some(Duration::from_secs(3600));
    assert_eq!(cached.run().await, ["launch", "do rest", "seal"]);
    cached.assert_nothing_leaks();
}

#[tokio::test]
async fn what_steps_outside_may_have_done_is_not_taken_for_the_base() {
    let mut cached = Cached::new(vec![outside("look", vec![])]);
    for _ in 0..2 {
        assert_eq!(cached.run().await, ["launch", "do look", "seal"]);
    }
    cached.steps().clear();
    assert_eq!(cached.run().await, ["launch", "seal"], "nobody sealed it before");
    assert_eq!(cached.run().await, ["sealed"]);
    // Nor does the base pass for what they leave.
    cached.steps().push(outside("look", vec![]));
    assert_eq!(cached.run().await, ["launch", "do look", "seal"]);
}

#[tokio::test]
async fn a_base_that_a_failed_step_touched_is_not_remembered() {
    let mut step = deed("a", vec![]);
    step.continue_on_error = true;
    let mut cached = Cached::new(vec![step]);
    cached.harness.world.on("do a", Act::Fail("no"));
    cached.run().await;
    cached.steps().clear();
    assert_eq!(cached.run().await, ["launch", "seal"]);
}

#[tokio::test]
async fn post_processors_alone_find_a_base_that_was_sealed() {
    let mut cached = Cached::new(Vec::new());
    cached.harness.settings.cache.post_only = true;
    assert_eq!(cached.run().await, Vec::<String>::new());
    cached.harness.settings.cache.post_only = false;
    cached.run().await;
    cached.harness.settings.cache.post_only = true;
    assert_eq!(cached.run().await, ["sealed"]);
}
