use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::test_support::{Bench, files_artifact, image_artifact, processor, titles_of};

const RUN: &str = "00000000-0000-4000-8000-000000000000";

fn manifest(bench: &Bench, more: Value) -> Arc<dyn PostProcessor> {
    let mut arguments = json!({ "output": bench.path("m.json"), "strip_time": true });
    arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    processor(&ManifestKind, arguments)
}

fn text(bench: &Bench) -> String {
    std::fs::read_to_string(bench.path("m.json")).unwrap()
}

/// What packer 1.6.6 wrote for the same two artifacts, with its run's id and the names of these builds put in.
const PACKERS: &str = r#"{
  "builds": [
    {
      "name": "worker",
      "builder_type": "docker",
      "files": null,
      "artifact_id": "pkpub/a:v2",
      "packer_run_uuid": "00000000-0000-4000-8000-000000000000",
      "custom_data": {
        "a": "1 \u003cx\u003e \u0026 é",
        "b": "2"
      }
    },
    {
      "name": "worker",
      "builder_type": "docker",
      "files": [
        {
          "name": "hello.txt",
          "size": 6
        }
      ],
      "artifact_id": "",
      "packer_run_uuid": "00000000-0000-4000-8000-000000000000",
      "custom_data": null
    }
  ],
  "last_run_uuid": "00000000-0000-4000-8000-000000000000"
}"#;

#[tokio::test]
async fn the_file_is_packers_byte_for_byte() {
    let bench = Bench::new();
    let hello = bench.write("out/hello.txt", "hello\n");
    let image = image_artifact("pkpub/a:v2", &["pkpub/a:v1", "pkpub/a:v2"]);
    let first = manifest(&bench, json!({ "custom_data": { "b": "2", "a": "1 <x> & é" } }));
    first.process(&image, &bench.context).await.unwrap();
    let second = manifest(&bench, json!({ "strip_path": true }));
    second.process(&files_artifact(&[&hello]), &bench.context).await.unwrap();
    assert_eq!(text(&bench), PACKERS);
    // The umask takes its bits from 0664; it never adds any.
    let mode = std::fs::metadata(bench.path("m.json")).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode & !0o664, mode & 0o600), (0, 0o600), "{mode:o}");
    assert_eq!(std::fs::read_dir(bench.path("")).unwrap().count(), 2, "only m.json and out are left");
}

#[tokio::test]
async fn time_and_path_stand_there_unless_stripped_and_the_artifact_is_passed_on() {
    let bench = Bench::new();
    let hello = bench.write("out/hello.txt", "hello\n");
    let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let artifact = files_artifact(&[&hello]);
    let processed = manifest(&bench, json!({ "strip_time": false })).process(&artifact, &bench.context).await.unwrap();
    assert!(processed.keep_input && processed.force_keep);
    assert_eq!(processed.artifact.files(), artifact.files());
    let root: Value = serde_json::from_str(&text(&bench)).unwrap();
    assert!(root["builds"][0]["build_time"].as_u64().unwrap() >= before);
    assert_eq!(root["builds"][0]["files"][0]["name"], json!(hello));
}

#[tokio::test]
async fn builds_of_earlier_runs_stay_unless_forced() {
    let older = r#"{"builds":[{"name":"old","unknown":1}],"last_run_uuid":"older","note":"kept"}"#;
    for (bench, expected) in
        [(Bench::new(), ["old", "worker", "worker"].as_slice()), (Bench::forced(), &["worker", "worker"])]
    {
        bench.write("m.json", older);
        for _ in 0..2 {
            manifest(&bench, json!({})).process(&image_artifact("a", &[]), &bench.context).await.unwrap();
        }
        let root: Value = serde_json::from_str(&text(&bench)).unwrap();
        let names: Vec<_> =
            root["builds"].as_array().unwrap().iter().map(|build| build["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected);
        assert_eq!(root["last_run_uuid"], RUN);
        assert_eq!(root["note"], "kept");
    }
}

#[tokio::test]
async fn a_broken_file_is_an_error_and_stays() {
    for (broken, words) in [
        ("{bad", "line 1, column 2 is not JSON"),
        ("[]", "it is JSON, and no object"),
        (r#"{"builds": {}}"#, "`builds` is no list"),
    ] {
        let bench = Bench::forced();
        bench.write("m.json", broken);
        let processed = manifest(&bench, json!({})).process(&image_artifact("a", &[]), &bench.context).await;
        let failure = processed.err().unwrap();
        assert!(failure.to_string().contains(words), "{failure}");
        assert_eq!(text(&bench), broken);
    }
}

#[tokio::test]
async fn an_empty_file_counts_as_none_and_a_link_stays_one() {
    let bench = Bench::new();
    let real = bench.write("real.json", "");
    std::os::unix::fs::symlink(&real, bench.path("m.json")).unwrap();
    manifest(&bench, json!({})).process(&image_artifact("a", &[]), &bench.context).await.unwrap();
    assert!(bench.path("m.json").symlink_metadata().unwrap().is_symlink());
    assert!(std::fs::read_to_string(real).unwrap().contains("\"artifact_id\": \"a\""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn builds_side_by_side_lose_no_entry() {
    let bench = Bench::new();
    let tasks: Vec<_> = (0..16)
        .map(|number| {
            let (manifest, context) = (manifest(&bench, json!({})), bench.context.clone());
            let artifact = image_artifact(&format!("image-{number}"), &[]);
            tokio::spawn(async move { manifest.process(&artifact, &context).await.map(|_| ()) })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let root: Value = serde_json::from_str(&text(&bench)).unwrap();
    let mut ids: Vec<_> =
        root["builds"].as_array().unwrap().iter().map(|build| build["artifact_id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 16);
}

#[tokio::test]
async fn secrets_do_not_get_in() {
    let bench = Bench::with(kiln_testkit::context().secret("hunter22"));
    let manifest = manifest(&bench, json!({ "custom_data": { "token": "hunter22" } }));
    manifest.process(&image_artifact("a", &[]), &bench.context).await.unwrap();
    assert!(text(&bench).contains("\\u003csensitive\\u003e") && !text(&bench).contains("hunter22"));
}

#[test]
fn unknown_arguments_are_told() {
    let titles = titles_of_wrong();
    assert_eq!(titles, ["a `manifest` post-processor has no argument `strip_paths`"]);
}

fn titles_of_wrong() -> Vec<String> {
    titles_of(&ManifestKind, json!({ "strip_paths": true }))
}
