//! Which artifacts are kept: Packer's rules.

use kiln_core::event::Outcome;
use kiln_core::{PostProcessorSpec, Value};

use super::fakes::Act;
use super::harness::{Harness, build, maker, post};
use crate::OnError;

/// A post-processor that makes a thing; `rule` is its own keep rule, `template` what the template says.
fn made(name: &str, rule: &str, template: Option<bool>) -> PostProcessorSpec {
    let more = match rule {
        "keeps" => vec![("keeps", Value::Bool(true))],
        "insists" => vec![("insists", Value::Bool(true))],
        _ => vec![],
    };
    PostProcessorSpec { keep_input: template, ..maker(name, more) }
}

async fn kept(chains: Vec<Vec<PostProcessorSpec>>) -> Vec<String> {
    let mut spec = build("w");
    spec.post_processors = chains;
    let harness = Harness::new(vec![spec]);
    let report = harness.run().await;
    assert_eq!(report.exit_code(), 0);
    let mut ids: Vec<String> = report.builds[0].artifacts.iter().map(|artifact| artifact.id.clone()).collect();
    let listed = ids.clone();
    ids.sort();
    harness.assert_left(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    listed
}

#[tokio::test]
async fn the_builders_artifact_is_kept_if_any_chain_keeps_it() {
    assert_eq!(kept(vec![]).await, ["image-w"]);
    assert_eq!(kept(vec![vec![made("a", "drops", None)]]).await, ["a"]);
    assert_eq!(kept(vec![vec![made("a", "keeps", None)]]).await, ["image-w", "a"]);
    assert_eq!(kept(vec![vec![made("a", "drops", Some(true))]]).await, ["image-w", "a"]);
    assert_eq!(kept(vec![vec![made("a", "keeps", Some(false))]]).await, ["a"]);
    assert_eq!(kept(vec![vec![made("a", "insists", Some(false))]]).await, ["image-w", "a"]);
    let chains = vec![vec![made("a", "drops", None)], vec![made("b", "keeps", None)]];
    assert_eq!(kept(chains).await, ["image-w", "a", "b"]);
}

#[tokio::test]
async fn later_inputs_are_kept_in_the_list_or_removed_at_once() {
    let chain = vec![made("a", "keeps", None), made("b", "keeps", None), made("c", "drops", None)];
    assert_eq!(kept(vec![chain]).await, ["image-w", "a", "c"]);
    let chain = vec![made("a", "drops", None), made("b", "drops", Some(true)), made("c", "drops", None)];
    assert_eq!(kept(vec![chain]).await, ["a", "c"]);
}

#[tokio::test]
async fn a_chain_that_fails_leaves_the_others_alone() {
    let mut spec = build("w");
    spec.post_processors =
        vec![vec![made("a", "keeps", None)], vec![post("b", vec![])], vec![made("c", "drops", None)]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("post b", Act::Fail("registry is down"));
    let report = harness.run().await;
    let ids: Vec<&str> = report.builds[0].artifacts.iter().map(|artifact| artifact.id.as_str()).collect();
    assert_eq!(ids, ["image-w", "a", "c"]);
    assert_eq!((report.builds[0].outcome, report.exit_code()), (Outcome::Failed, 1));
    assert_eq!(harness.errors(), ["post-processor `fake-post` (a.pkr.hcl:50) failed: registry is down"]);
    harness.assert_left(&["a", "c", "image-w"]);
}

#[tokio::test]
async fn what_nobody_keeps_goes_when_the_only_chain_fails() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("push", "keeps", None)]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("post push", Act::Fail("denied"));
    let report = harness.run().await;
    assert!(report.builds[0].artifacts.is_empty());
    harness.assert_clean();
}

#[tokio::test]
async fn what_a_failed_post_processor_made_goes_before_its_input() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("push", "drops", None)]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("post push", Act::Fail("denied"));
    harness.run().await;
    let log = harness.world.log();
    let position = |call: &str| log.iter().position(|other| other == call);
    assert!(position("undo push").unwrap() < position("discard image-w").unwrap(), "{log:?}");
}

#[tokio::test]
async fn stopping_the_run_asks_no_owner_but_the_builders() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("files", "keeps", None)], vec![made("push", "keeps", None)]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("post push", Act::Interrupt(Box::new(Act::Wait)));
    harness.run().await;
    let discarded: Vec<String> = harness.world.log().into_iter().filter(|call| call.starts_with("discard")).collect();
    assert_eq!(discarded, ["discard image-w"]);
    harness.assert_clean();
}

#[tokio::test]
async fn what_was_finished_before_a_chain_failed_stays() {
    // Packer's most common chain: docker-tag, then a docker-push that fails. Image and tag stay for another push.
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("tag", "insists", None), made("push", "keeps", None)]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("post push", Act::Fail("denied"));
    let report = harness.run().await;
    let ids: Vec<&str> = report.builds[0].artifacts.iter().map(|artifact| artifact.id.as_str()).collect();
    assert_eq!(ids, ["image-w", "tag"]);
    harness.assert_left(&["image-w", "tag"]);
}

#[tokio::test]
async fn an_artifact_that_cannot_be_removed_fails_the_build() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("a", "drops", None)]];
    let harness = Harness::new(vec![spec]);
    harness.world.on("discard image-w", Act::Fail("in use"));
    let report = harness.run().await;
    assert_eq!(report.exit_code(), 1);
    assert_eq!(harness.errors(), ["cannot remove image-w, which is not to be kept: in use"]);
    // The journal had another way.
    harness.assert_left(&["a"]);
}

#[tokio::test]
async fn abort_leaves_what_a_failed_chain_made_for_a_later_cleanup() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("push", "keeps", None)]];
    let harness = Harness::new(vec![spec]).on_error(OnError::Abort);
    harness.world.on("post push", Act::Fail("denied"));
    let report = harness.run().await;
    assert_eq!(harness.world.things(), ["image-w", "push"]);
    assert_eq!(report.journal, Some(harness.journal()));
    assert!(harness.clean_up(false).await.is_clean());
    harness.assert_clean();
}

#[tokio::test]
async fn a_failed_post_processor_can_be_tried_again() {
    let mut spec = build("w");
    spec.post_processors = vec![vec![made("push", "keeps", None)]];
    let harness = Harness::new(vec![spec]).on_error(OnError::Ask).answering(&["r"]);
    harness.world.on("post push", Act::Fail("denied"));
    let report = harness.run().await;
    assert_eq!(report.exit_code(), 0);
    assert_eq!(harness.world.log().iter().filter(|call| *call == "post push").count(), 2);
    harness.assert_left(&["image-w", "push"]);
}
