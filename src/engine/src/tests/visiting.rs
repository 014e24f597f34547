//! A look into a state that a build kept.

use kiln_core::{BuildContext, Failure, Machine};

use super::caching::{Cached, deeds};
use super::fakes::Act;
use crate::{StateChoice, StepChoice, visit};

impl Cached {
    /// What is on the machine after a step.
    async fn look(&self, build: &str, step: Option<&str>) -> Result<String, Failure> {
        let (prepared, surroundings) = self.harness.prepared();
        let choice = StateChoice { build: build.to_owned(), step: step.map(StepChoice::from) };
        let work = async |machine: &dyn Machine, context: &BuildContext| {
            assert!(context.scratch.is_dir());
            Ok(machine.facts()["Deeds"].clone())
        };
        visit(prepared, &choice, self.harness.settings.clone(), surroundings, work).await
    }
}

#[tokio::test]
async fn a_state_is_entered_and_left_without_a_trace() {
    let mut cached = Cached::new(deeds(&["a", "b", "c"]));
    cached.steps()[1].component.name = Some("second".into());
    cached.harness.world.on("do c", Act::Fail("no"));
    cached.run().await;
    let before = cached.states();
    for (step, deeds) in [(Some("0"), ""), (Some("1"), "a"), (Some("2"), "a+b"), (Some("second"), "a+b"), (None, "a+b")]
    {
        assert_eq!(cached.look("w", step).await.unwrap(), deeds, "{step:?}");
    }
    cached.assert_nothing_leaks();
    assert!(!cached.harness.journal().exists() && !cached.harness.scratch().exists());
    assert_eq!(cached.states(), before);
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    let told = |failure: Failure| format!("{} ({})", failure.chain(), failure.hints.join("; "));
    let never = "`w` was never built here (build it first; `kiln shell w:0` shows what it starts from)";
    assert_eq!(told(cached.look("w", None).await.unwrap_err()), never);
    // What it starts from needs no build.
    assert_eq!(cached.look("w", Some("0")).await.unwrap(), "");
    cached.harness.world.on("do b", Act::Fail("no"));
    cached.run().await;
    let checkpoint = "`checkpoint = true` on the step keeps it whatever that costs; then build again";
    for (build, step, expected) in [
        ("x", None, "there is no build `x` (the builds of this template: `w`)".to_owned()),
        ("w", Some("3"), "`w` has no step 3 (its steps count from 1 to 2; 0 is what it starts from)".to_owned()),
        ("w", Some("x"), "`w` has no step `x` ()".to_owned()),
        ("w", Some("2"), format!("the state after step 2 of `w` is not kept ({checkpoint})")),
    ] {
        assert_eq!(told(cached.look(build, step).await.unwrap_err()), expected);
    }
    cached.harness.world.keeper.states.lock().unwrap().clear();
    assert_eq!(told(cached.look("w", None).await.unwrap_err()), format!("no state of `w` is kept ({checkpoint})"));
}

#[tokio::test]
async fn where_the_image_is_all_that_is_kept_a_build_must_be_told_to_run() {
    let mut cached = Cached::new(deeds(&["a", "b"]));
    cached.run().await;
    cached.harness.world.keeper.states.lock().unwrap().clear();
    let failure = cached.look("w", None).await.unwrap_err();
    let hint = "`checkpoint = true` on the step keeps it whatever that costs; then build again with `--no-cache`";
    assert_eq!((failure.chain().as_str(), failure.hints), ("no state of `w` is kept", vec![hint.to_owned()]));
}

#[tokio::test]
async fn a_visitor_that_fails_leaves_no_machine() {
    let mut cached = Cached::new(deeds(&["a"]));
    cached.run().await;
    let (prepared, surroundings) = cached.harness.prepared();
    let choice = StateChoice { build: "w".into(), step: None };
    let work = async |_: &dyn Machine, _: &BuildContext| Err::<(), _>(Failure::build("no terminal"));
    let failed = visit(prepared, &choice, cached.harness.settings.clone(), surroundings, work).await;
    assert_eq!(failed.unwrap_err().chain(), "no terminal");
    cached.assert_nothing_leaks();
    cached.harness.world.on("restore a", Act::Fail("gone"));
    assert_eq!(cached.look("w", None).await.unwrap_err().chain(), "gone");
    cached.assert_nothing_leaks();
    assert!(!cached.harness.journal().exists());
}

#[tokio::test]
async fn a_build_without_steps_is_what_it_starts_from() {
    let mut cached = Cached::new(Vec::new());
    cached.run().await;
    assert_eq!(cached.look("w", None).await.unwrap(), "");
}
