use serde_json::json;

use super::*;
use crate::test_support::{Bench, files_artifact, image_artifact, processor, titles_of};

/// What packer 1.6.6 wrote for a file `hello.txt` with `hello` and a line end.
const PACKERS: [(&str, &str); 6] = [
    ("md5", "b1946ac92492d2347c6235b4d2611184"),
    ("sha1", "f572d396fae9206628714fb2ce00f72e94f2258f"),
    ("sha224", "2d6d67d91d0badcdd06cbbba1fe11538a68a37ec9c2e26457ceff12b"),
    ("sha256", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
    ("sha384", "1d0f284efe3edea4b9ca3bd514fa134b17eae361ccc7a1eefeff801b9bd6604e01f21f6bf249ef030599f0c218f2ba8c"),
    (
        "sha512",
        "e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629",
    ),
];

#[tokio::test]
async fn all_types_give_packers_lines() {
    let bench = Bench::new();
    let hello = bench.write("out/hello.txt", "hello\n");
    let output = bench.path("sums/{{.BuildName}}-{{.BuilderType}}-{{.ChecksumType}}.txt");
    let types = PACKERS.map(|(name, _)| name);
    let checksum = processor(&ChecksumKind, json!({ "checksum_types": types, "output": output }));
    let processed = checksum.process(&files_artifact(&[&hello]), &bench.context).await.unwrap();
    for (name, digest) in PACKERS {
        let path = bench.path(&format!("sums/worker-docker-{name}.txt"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{digest}\thello.txt\n"));
        assert!(processed.artifact.files().contains(&path));
    }
    assert_eq!(processed.artifact.files()[0], hello);
    assert!(processed.keep_input && processed.force_keep);
    assert_eq!(std::fs::read_dir(bench.path("sums")).unwrap().count(), 6, "no lock and no unfinished file is left");
}

#[tokio::test]
async fn lines_are_added_and_with_force_the_files_older_ones_go() {
    let older = "0000\thello.txt\n1111\tother.txt\n";
    let line = format!("{}\thello.txt\n", PACKERS[0].1);
    for (bench, expected) in
        [(Bench::new(), format!("{older}{line}")), (Bench::forced(), format!("1111\tother.txt\n{line}"))]
    {
        let hello = bench.write("hello.txt", "hello\n");
        let output = bench.write("sums", older);
        let checksum = processor(&ChecksumKind, json!({ "output": output }));
        checksum.process(&files_artifact(&[&hello]), &bench.context).await.unwrap();
        assert_eq!(std::fs::read_to_string(output).unwrap(), expected);
    }
}

#[tokio::test]
async fn removing_the_artifact_leaves_the_files_and_what_was_there_before() {
    let bench = Bench::new();
    let hello = bench.write("hello.txt", "hello\n");
    bench.write("sums.md5", "1111\tother.txt\n");
    let output = bench.path("sums.{{.ChecksumType}}");
    let checksum = processor(&ChecksumKind, json!({ "checksum_types": ["md5", "sha1"], "output": output }));
    let artifact = checksum.process(&files_artifact(&[&hello]), &bench.context).await.unwrap().artifact;
    artifact.owner.as_ref().unwrap().destroy(&artifact, &bench.context).await.unwrap();
    assert!(hello.exists() && bench.path("sums.md5").exists() && !bench.path("sums.sha1").exists());
}

#[tokio::test]
async fn an_image_passes_with_a_warning() {
    let bench = Bench::new();
    let checksum = processor(&ChecksumKind, json!({}));
    let processed = checksum.process(&image_artifact("sha256:1", &["a:1"]), &bench.context).await.unwrap();
    assert_eq!(processed.artifact.image().unwrap().tags, ["a:1"]);
    assert_eq!(bench.warnings().len(), 1);
}

#[tokio::test]
async fn a_file_that_is_gone_is_named() {
    let bench = Bench::new();
    let checksum = processor(&ChecksumKind, json!({ "output": bench.path("sums") }));
    let failure = checksum.process(&files_artifact(&[&bench.path("gone")]), &bench.context).await.err().unwrap();
    assert!(failure.chain().contains("gone: No such file"), "{}", failure.chain());
    assert!(!bench.path("sums").exists());
}

#[tokio::test]
async fn hashing_ends_when_the_build_is_stopped() {
    let bench = Bench::new();
    let hello = bench.write("hello.txt", "hello\n");
    bench.context.cancel.cancel();
    let checksum = processor(&ChecksumKind, json!({ "output": bench.path("sums") }));
    let failure = checksum.process(&files_artifact(&[&hello]), &bench.context).await.err().unwrap();
    assert!(failure.is_cancelled());
}

#[test]
fn an_unknown_type_is_told_at_prepare() {
    let titles = titles_of(&ChecksumKind, json!({ "checksum_types": ["md5", "sha257"] }));
    assert_eq!(titles, ["`sha257` is not a type of checksum"]);
}
