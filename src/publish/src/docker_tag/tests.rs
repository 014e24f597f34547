use kiln_docker::fake::FakeEngine;
use kiln_testkit::Arguments;
use serde_json::json;

use super::*;
use crate::test_support::{Bench, files_artifact, image_artifact, prepare, processor, provider, refused, titles_of};

fn kind(engine: &Arc<FakeEngine>) -> DockerTagKind {
    DockerTagKind { engine: provider(engine) }
}

#[tokio::test]
async fn names_add_up_along_a_chain_each_once() {
    let bench = Bench::new();
    let engine = Arc::new(FakeEngine::new());
    let id = engine.add_image("");
    let first = processor(&kind(&engine), json!({ "repository": "pkpub/a", "tags": ["v1", "v2"] }));
    let second = processor(&kind(&engine), json!({ "repository": "docker.io/pkpub/a", "tags": ["v2", "v3", "v3"] }));
    assert_eq!(second.names(), ["docker.io/pkpub/a:v2", "docker.io/pkpub/a:v3"], "known before the run");

    let processed = first.process(&image_artifact(&id, &[]), &bench.context).await.unwrap();
    assert!(processed.keep_input && processed.force_keep);
    // Seen with packer 1.6.6.
    assert_eq!(processed.artifact.id, "pkpub/a:v2");
    assert_eq!(processed.artifact.builder_id, "packer.post-processor.docker-tag");
    assert_eq!(processed.artifact.description, "Imported Docker image: pkpub/a:v2 with tags pkpub/a:v1 pkpub/a:v2");

    let processed = second.process(&processed.artifact, &bench.context).await.unwrap();
    let image = processed.artifact.image().unwrap();
    assert_eq!(image.tags, ["pkpub/a:v1", "pkpub/a:v2", "pkpub/a:v3"]);
    assert_eq!(image.id, id);
    assert_eq!(processed.artifact.id, "docker.io/pkpub/a:v3");
    assert_eq!(engine.images()[0].tags, ["pkpub/a:v1", "pkpub/a:v2", "pkpub/a:v3"].map(str::to_owned));
}

#[tokio::test]
async fn without_tags_the_bare_repository_is_named_latest() {
    let bench = Bench::new();
    let engine = Arc::new(FakeEngine::new());
    let id = engine.add_image("");
    let tag = processor(&kind(&engine), json!({ "repository": "pkpub/b" }));
    let processed = tag.process(&image_artifact(&id, &[]), &bench.context).await.unwrap();
    assert_eq!(engine.changes(), [format!("tag {id} pkpub/b latest")]);
    assert_eq!(processed.artifact.id, "pkpub/b");
    assert_eq!(processed.artifact.description, "Imported Docker image: pkpub/b");
    assert_eq!(processed.artifact.image().unwrap().tags, ["pkpub/b:latest"]);
}

#[test]
fn a_list_without_entries_is_told() {
    let engine = Arc::new(FakeEngine::new());
    let titles = titles_of(&kind(&engine), json!({ "repository": "kiln/x", "tags": [] }));
    assert_eq!(titles, ["`tags` has no entries, so the image is named `latest`"]);
}

#[test]
fn a_list_of_nothing_but_null_names_nothing_by_chance() {
    let engine = Arc::new(FakeEngine::new());
    let titles = titles_of(&kind(&engine), json!({ "repository": "kiln/x", "tags": [null, null] }));
    assert_eq!(titles, ["every entry of `tags` is `null`, so that no name is left for the image"]);
    let titles = titles_of(&kind(&engine), json!({ "repository": "kiln/x", "tags": [null, "1"] }));
    assert_eq!(titles, [""; 0]);
}

#[tokio::test]
async fn the_undo_is_noted_before_the_name_moves_and_knows_who_bore_it() {
    let bench = Bench::new();
    let engine = Arc::new(FakeEngine::new());
    let old = engine.add_image("a:1");
    let new = engine.add_image("");
    engine.fail_next("tag", refused("no space left"));
    let tag = processor(&kind(&engine), json!({ "repository": "a", "tags": ["1", "2"] }));
    let failure = tag.process(&image_artifact(&new, &[]), &bench.context).await.err().unwrap();
    assert!(failure.chain().contains("cannot name the image a:1"), "{}", failure.chain());
    tag.process(&image_artifact(&new, &[]), &bench.context).await.unwrap();
    let noted = bench.context.journal.open();
    assert_eq!(noted[0].kind, "docker.tag");
    for (data, reference, previous) in [(&noted[0].data, "a:1", json!(old)), (&noted[2].data, "a:2", json!(null))] {
        assert_eq!(
            (&data["reference"], &data["previous"], &data["image"]),
            (&json!(reference), &previous, &json!(new))
        );
    }
}

#[tokio::test]
async fn destroying_takes_away_its_own_names_alone() {
    let bench = Bench::new();
    let engine = Arc::new(FakeEngine::new());
    let id = engine.add_image("a:0");
    let tag = processor(&kind(&engine), json!({ "repository": "a", "tags": ["1"] }));
    let artifact = tag.process(&image_artifact(&id, &["a:0"]), &bench.context).await.unwrap().artifact;
    let owner = artifact.owner.clone().unwrap();
    owner.destroy(&artifact, &bench.context).await.unwrap();
    owner.destroy(&artifact, &bench.context).await.unwrap();
    assert_eq!(engine.images()[0].tags, ["a:0"]);
    // Given to another image since: not its own any more.
    let newer = engine.add_image("a:1");
    owner.destroy(&artifact, &bench.context).await.unwrap();
    assert_eq!(engine.inspect_image("a:1").await.unwrap().unwrap().id, newer);
}

#[tokio::test]
async fn files_cannot_be_named() {
    let bench = Bench::new();
    let tag = processor(&kind(&Arc::new(FakeEngine::new())), json!({ "repository": "a" }));
    let failure = tag.process(&files_artifact(&[&bench.path("x")]), &bench.context).await.err().unwrap();
    let words = "docker-tag takes a container image, and this artifact (packer.post-processor.artifice) is files";
    assert_eq!(failure.to_string(), words);
    assert!(failure.hints[0].contains("docker-import"));
}

#[tokio::test]
async fn legacy_templates_may_write_one_text() {
    let bench = Bench::new();
    let engine = Arc::new(FakeEngine::new());
    let id = engine.add_image("");
    let arguments = Arguments::new(json!({ "repository": "a", "tag": "1.2, latest", "force": "true" })).weak();
    let (tag, diagnostics) = prepare(&kind(&engine), arguments);
    assert_eq!(diagnostics.items.len(), 1, "{diagnostics:?}");
    assert!(!diagnostics.has_errors() && diagnostics.items[0].title.contains("`tag` is out of date"));
    let artifact = tag.unwrap().process(&image_artifact(&id, &[]), &bench.context).await.unwrap().artifact;
    assert_eq!(artifact.image().unwrap().tags, ["a:1.2", "a:latest"]);
}

#[test]
fn wrong_names_are_told_all_at_once_and_unknown_ones_wait() {
    let engine = Arc::new(FakeEngine::new());
    let titles = titles_of(&kind(&engine), json!({ "repository": "group/A", "tags": ["ok", "not ok", "-x"] }));
    assert_eq!(titles.len(), 3, "{titles:?}");
    assert!(
        titles[0].contains("capital letters") && titles[1].contains("`not ok`") && titles[2].contains("`-x`"),
        "{titles:?}"
    );

    let arguments =
        Arguments::new(json!({ "repository": "?", "tags": ["?"] })).unknown("repository").unknown("tags[0]");
    let (prepared, diagnostics) = prepare(&kind(&engine), arguments);
    assert!(prepared.is_some() && diagnostics.is_empty(), "{diagnostics:?}");
}

/// An unset variable of the environment leaves gaps; where the template is only checked, it may not have to be set.
#[test]
fn gaps_in_names_are_warnings_where_nothing_will_run() {
    let kind = DockerTagKind { engine: provider(&Arc::new(FakeEngine::new())) };
    for (arguments, is_gap) in [
        (json!({ "repository": "", "tags": ["1"] }), true),
        (json!({ "repository": "/worker", "tags": ["1"] }), true),
        (json!({ "repository": "r.example.org//worker", "tags": ["", "-slim"] }), true),
        (json!({ "repository": "R!", "tags": ["1"] }), false),
        (json!({ "repository": "a", "tags": ["1 2"] }), false),
    ] {
        let arguments = kiln_testkit::Arguments::new(arguments);
        for will_run in [false, true] {
            let context = PrepareContext { will_run, ..kiln_testkit::prepare_context() };
            let (decoded, mut diagnostics) = arguments.decode(kind.schema());
            assert!(kind.prepare(&decoded, &context, &mut diagnostics).is_none());
            assert_eq!(diagnostics.has_errors(), will_run || !is_gap, "{diagnostics:?}");
        }
    }
}
