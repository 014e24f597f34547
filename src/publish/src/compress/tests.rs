use std::process::Command;

use serde_json::json;

use super::*;
use crate::test_support::{Bench, files_artifact, image_artifact, processor, skip, titles_of};

async fn compress(bench: &Bench, output: &str, inputs: &[&Path]) -> Result<Processed, Failure> {
    let compress = processor(&CompressKind, json!({ "output": bench.path(output) }));
    compress.process(&files_artifact(inputs), &bench.context).await
}

/// Runs a tool that we did not write on an output; `None` where it is not installed.
fn tool(program: &str, arguments: &[&str], path: &Path) -> Option<Vec<u8>> {
    let output = match Command::new(program).args(arguments).arg(path).output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip(&format!("{program} is not installed"));
            return None;
        }
        Err(error) => panic!("{program}: {error}"),
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

#[tokio::test]
async fn one_file_is_read_back_by_the_usual_tools() {
    let bench = Bench::new();
    let content: Vec<u8> = (0..60_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    let input = bench.write("in.bin", &content);
    for (output, program, arguments) in [
        ("x.gz", "gzip", ["-dc"].as_slice()),
        ("x.bgzf", "gzip", &["-dc", "-S", ".bgzf"]),
        ("x.xz", "xz", &["-dc"]),
        ("x.bz2", "bzip2", &["-dc"]),
        ("x.lz4", "lz4", &["-dc"]),
    ] {
        let processed = compress(&bench, output, &[&input]).await.unwrap();
        assert_eq!(processed.artifact.files(), [bench.path(output)]);
        let size = std::fs::metadata(bench.path(output)).unwrap().len();
        assert!(size < content.len() as u64 / 2, "{output}: {size}");
        if let Some(read_back) = tool(program, arguments, &bench.path(output)) {
            assert!(read_back == content, "{output}");
        }
    }
}

#[tokio::test]
async fn a_tar_lists_as_packers_does() {
    let bench = Bench::new();
    let hello = bench.write("out/hello.txt", "hello\n");
    let other = bench.write("other", "x");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&hello, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o755)).unwrap();
    for output in ["x.tar.gz", "x.tgz", "x", "x.tar.xz", "x.tar.bz2", "x.tar"] {
        compress(&bench, output, &[&hello, &other]).await.unwrap();
        let listed = tool("tar", &["--numeric-owner", "--utc", "-tvf"], &bench.path(output)).unwrap();
        let lines: Vec<String> = String::from_utf8(listed)
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(lines, ["-rw------- 0/0 6 1970-01-01 00:00 hello.txt", "-rwxr-xr-x 0/0 1 1970-01-01 00:00 other"]);
    }
    let first = std::fs::read(bench.path("x.tar.gz")).unwrap();
    compress(&bench, "x.tar.gz", &[&hello, &other]).await.unwrap();
    assert!(first == std::fs::read(bench.path("x.tar.gz")).unwrap(), "the same files give the same bytes");
}

#[tokio::test]
async fn a_zip_keeps_directories() {
    let bench = Bench::new();
    let one = bench.write("a/hello.txt", "hello\n");
    let two = bench.write("b/hello.txt", "other\n");
    compress(&bench, "x.zip", &[&one, &two]).await.unwrap();
    let mut archive = zip::ZipArchive::new(std::fs::File::open(bench.path("x.zip")).unwrap()).unwrap();
    let names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert!(names[0].ends_with("a/hello.txt") && !names[0].starts_with('/'), "{names:?}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut archive.by_index(1).unwrap(), &mut text).unwrap();
    assert_eq!(text, "other\n");
    if let Some(listed) = tool("unzip", &["-t", "-q"], &bench.path("x.zip")) {
        assert!(String::from_utf8_lossy(&listed).contains("No errors"));
    }
}

#[tokio::test]
async fn the_result_is_packers_artifact_and_can_be_removed() {
    let bench = Bench::new();
    let input = bench.write("in", "x");
    let processed = compress(&bench, "out.tar", &[&input]).await.unwrap();
    assert_eq!((processed.keep_input, processed.force_keep), (false, false));
    let artifact = processed.artifact;
    assert_eq!(artifact.builder_id, "packer.post-processor.compress");
    assert_eq!(artifact.description, format!("compressed artifacts in: {}", bench.path("out.tar").display()));
    let owner = artifact.owner.clone().unwrap();
    owner.destroy(&artifact, &bench.context).await.unwrap();
    assert!(!bench.path("out.tar").exists());
    owner.destroy(&artifact, &bench.context).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_packed_is_refused_and_leaves_nothing() {
    let bench = Bench::new();
    let (one, two) = (bench.write("1/a", "x"), bench.write("2/a", "y"));
    let gone = bench.path("gone");
    for (output, inputs, words) in [
        ("x.gz", vec![&*one, &*two], "compress to gz takes one file, and this artifact has 2"),
        ("x.tar", vec![&*one, &*two], "the archive would hold two files named `a`"),
        ("x.tar", vec![&*gone], "cannot read"),
        ("1/a", vec![&*one], "is one of the artifact's own files"),
        ("1", vec![&*one], "cannot write"),
    ] {
        let failure = compress(&bench, output, &inputs).await.err().unwrap();
        assert!(failure.to_string().contains(words), "{failure}");
    }
    assert_eq!(std::fs::read_to_string(&one).unwrap(), "x");
    assert_eq!(std::fs::read_dir(bench.path("")).unwrap().count(), 2);
    let compress = processor(&CompressKind, json!({}));
    let failure = compress.process(&image_artifact("sha256:1", &["a:1"]), &bench.context).await.err().unwrap();
    assert!(failure.to_string().contains("compress takes files"), "{failure}");
    assert!(bench.context.journal.open().is_empty());
}

#[tokio::test]
async fn packing_ends_when_the_build_is_stopped() {
    let bench = Bench::new();
    let input = bench.write("in", "x");
    bench.context.cancel.cancel();
    let failure = compress(&bench, "x.tar.gz", &[&input]).await.err().unwrap();
    assert!(failure.is_cancelled(), "{failure}");
    assert_eq!(std::fs::read_dir(bench.path("")).unwrap().count(), 1);
}

#[test]
fn arguments_are_checked() {
    assert_eq!(titles_of(&CompressKind, json!({ "format": "tar.zip" })), ["`tar.zip` is not a form of archive"]);
    let titles = titles_of(&CompressKind, json!({ "output": "x.tar.zst", "compression_level": 12 }));
    assert_eq!(titles.len(), 2, "{titles:?}");
    assert!(titles[0].contains("`.zst`") && titles[1].contains("counts as 9"), "{titles:?}");
}
