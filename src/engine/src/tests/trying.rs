//! Tests of what was sealed: what they show, what their failure leaves, and what the user decides about it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::event::Outcome;
use kiln_core::{
    Artifact, BuildContext, BuildSpec, Decoded, Diagnostics, Failure, Node, OutputSink, Stream, Test, TestEnd, TestRun,
    TestSpec, Tester, Value,
};

use super::fakes::{Act, World};
use super::harness::{Harness, build, component, line, maker, text};
use crate::OnError;

/// Runs `STATUS WORD...`: prints the words, a line each, and ends with the status.
pub(super) struct FakeTester(pub(super) Arc<World>);

#[async_trait]
impl Tester for FakeTester {
    fn check(&self, _test: &Test, _decoded: &Decoded, _diagnostics: &mut Diagnostics) {}

    async fn run(
        &self,
        artifact: &Artifact,
        test: &Test,
        sink: &mut dyn OutputSink,
        context: &BuildContext,
    ) -> Result<TestEnd, Failure> {
        let TestRun::Command(words) = &test.run else { panic!("a command") };
        let thing = format!("trial-{}", test.name);
        let entry = self.0.create(&thing, context);
        for word in &words[1..] {
            sink.write(Stream::Stdout, format!("{word}\n").as_bytes());
        }
        let called = self.0.call(&format!("test {} {}", test.name, artifact.id), Some(context)).await;
        self.0.remove(&thing);
        context.journal.strike(entry)?;
        called.map(|()| TestEnd { status: words[0].parse().unwrap() })
    }
}

fn trial(name: &str, words: &[&str], more: Vec<(&'static str, Value)>) -> TestSpec {
    let words = words.iter().map(|word| Node::new(text(word), line(20))).collect();
    let values = [vec![("command", Value::List(words))], more].concat();
    TestSpec { name: name.to_owned(), component: component("test", 20, values) }
}

/// A build with these tests and a post-processor.
fn tried(tests: Vec<TestSpec>) -> Harness {
    Harness::new(vec![BuildSpec { tests, post_processors: vec![vec![maker("tag", vec![])]], ..build("w") }])
}

const IMAGE: &str = "test serves image-w";

#[tokio::test]
async fn what_was_sealed_is_tried_before_anything_is_made_of_it() {
    let tests = vec![
        trial("serves", &["0", "ready"], vec![("expect_output", text("^ready$"))]),
        trial("other", &["0"], vec![]),
    ];
    let harness = tried(tests);
    assert_eq!(harness.run().await.exit_code(), 0);
    let log = harness.world.log();
    let expected = ["launch", "seal", IMAGE, "test other image-w", "hand out image-w", "post tag"];
    assert_eq!(log[..6], expected, "{log:?}");
    let trace = harness.trace();
    let started = trace.iter().position(|line| line == "test started: serves a.pkr.hcl:20").unwrap();
    assert_eq!(trace[started + 1..started + 3], ["output: ready", "test Succeeded"]);
}

#[tokio::test]
async fn a_test_that_fails_takes_what_was_sealed_with_it() {
    let wrong_status = trial("serves", &["3"], vec![]);
    let wrong_output = trial("serves", &["0", "starting"], vec![("expect_output", text("^ready$"))]);
    for (test, why) in [
        (wrong_status, "it ended with status 3, and 0 is expected"),
        (wrong_output, "what it printed does not match `^ready$`"),
    ] {
        let harness = tried(vec![test, trial("other", &["0"], vec![])]);
        let report = harness.run().await;
        assert_eq!((report.builds[0].outcome, report.exit_code()), (Outcome::Failed, 1));
        let errors = harness.errors();
        assert!(errors.len() == 1 && errors[0].contains("`serves`") && errors[0].ends_with(why), "{errors:?}");
        let is_later = |call: &String| ["post", "hand out"].iter().any(|word| call.starts_with(word));
        assert!(!harness.world.log().iter().any(|call| is_later(call) || call.contains("other")));
        harness.assert_clean();
    }
}

#[tokio::test]
async fn what_cannot_be_handed_out_fails_the_build_and_is_removed() {
    let harness = tried(vec![trial("serves", &["0"], vec![])]);
    harness.world.on("hand out image-w", Act::Fail("denied"));
    assert_eq!(harness.run().await.exit_code(), 1);
    let errors = harness.errors();
    assert!(
        errors[0].contains("cannot name or send what the `fake` source") && errors[0].ends_with("denied"),
        "{errors:?}"
    );
    assert!(!harness.world.log().iter().any(|call| call.starts_with("post")));
    harness.assert_clean();

    let harness = tried(vec![trial("serves", &["0"], vec![])]).on_error(OnError::Ask).answering(&["r"]);
    harness.world.on("hand out image-w", Act::Fail("not yet"));
    assert_eq!(harness.run().await.exit_code(), 0);
    harness.assert_left(&["tag"]);
}

#[tokio::test]
async fn abort_leaves_the_machine_and_what_was_sealed() {
    let harness = tried(vec![trial("serves", &["1"], vec![])]).on_error(OnError::Abort);
    assert_eq!(harness.run().await.exit_code(), 1);
    assert_eq!(harness.world.things(), ["image-w", "machine-w"]);
    assert!(harness.journal().exists());
    harness.clean_up(false).await;
    harness.assert_clean();
}

#[tokio::test]
async fn a_failed_test_is_tried_again_or_ends_the_build_as_the_user_wants() {
    let harness = tried(vec![trial("serves", &["0"], vec![])]).on_error(OnError::Ask).answering(&["r"]);
    harness.world.on(IMAGE, Act::Fail("not yet"));
    assert_eq!(harness.run().await.exit_code(), 0);
    assert_eq!(harness.world.log().iter().filter(|call| *call == IMAGE).count(), 2);
    harness.assert_left(&["tag"]);

    let harness = tried(vec![trial("serves", &["1"], vec![])]).on_error(OnError::Ask).answering(&["c"]);
    assert_eq!(harness.run().await.exit_code(), 1);
    harness.assert_clean();

    let harness = tried(vec![trial("serves", &["1"], vec![])]).on_error(OnError::Ask).answering(&["a"]);
    assert_eq!(harness.run().await.exit_code(), 1);
    assert_eq!(harness.world.things(), ["image-w", "machine-w"]);
}

#[tokio::test(start_paused = true)]
async fn a_test_is_bounded_and_what_it_started_goes() {
    let harness = tried(vec![trial("serves", &["0"], vec![("timeout", text("30s"))])]);
    harness.world.on(IMAGE, Act::Sleep(Duration::from_secs(3600)));
    assert_eq!(harness.run().await.exit_code(), 1);
    assert!(harness.errors()[0].ends_with("it took longer than its `timeout` of 30.0s"), "{:?}", harness.errors());
    assert!(harness.world.log().contains(&"undo trial-serves".to_owned()), "{:?}", harness.world.log());
    harness.assert_clean();
}

#[tokio::test]
async fn stopping_the_run_while_it_tests_leaves_nothing() {
    let harness = tried(vec![trial("serves", &["0"], vec![])]);
    harness.world.on(IMAGE, Act::Interrupt(Box::new(Act::Wait)));
    assert_eq!(harness.run().await.exit_code(), 130);
    harness.assert_clean();
}
