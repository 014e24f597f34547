//! The source from its arguments to its artifact.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use kiln_core::{Builder, BuilderKind as _, Command, Content, Launched, Machine, communicator::NullSink};
use kiln_testkit::{Arguments, TestContext, context, prepare_context, titles};
use serde_json::{Value as Json, json};

use crate::FileBuilderKind;

fn prepare(arguments: Json) -> (Option<Arc<dyn Builder>>, Vec<String>) {
    let (decoded, mut diagnostics) = Arguments::new(arguments).decode(FileBuilderKind.schema());
    let builder = FileBuilderKind.prepare(&decoded, &prepare_context(), &mut diagnostics);
    (builder, titles(&diagnostics).into_iter().map(str::to_owned).collect())
}

async fn launch(arguments: Json, context: &TestContext) -> Box<dyn Machine> {
    let (builder, titles) = prepare(arguments);
    match builder.unwrap_or_else(|| panic!("{titles:?}")).launch(context).await.unwrap() {
        Launched::Machine(machine) => machine,
        Launched::Artifact(_) => panic!("steps run before the artifact"),
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn content_is_written_for_its_owner_alone_and_the_artifact_is_as_packers() {
    let (directory, context) = (tempfile::tempdir().unwrap(), context().build());
    let target = directory.path().join("deep/out");
    let machine = launch(json!({"content": "hello\n", "target": target}), &context).await;
    assert_eq!((std::fs::read_to_string(&target).unwrap().as_str(), mode(&target)), ("hello\n", 0o600));

    let artifact = machine.seal(&context).await.unwrap();
    assert_eq!((artifact.builder_id.as_str(), artifact.id.as_str()), ("packer.file", "File"));
    assert_eq!(artifact.description, format!("Stored file: {}", target.display()));
    assert_eq!(artifact.content, Content::Files(vec![target.clone()]));
    machine.destroy(&context).await.unwrap();
    assert!(target.exists(), "it belongs to the user now");
    artifact.owner.clone().unwrap().destroy(&artifact, &context).await.unwrap();
    assert!(!target.exists());
    assert!(context.journal.open().is_empty());
}

#[tokio::test]
async fn a_file_is_copied_and_an_older_one_keeps_its_mode() {
    let (directory, context) = (tempfile::tempdir().unwrap(), context().build());
    let [source, target] = ["source", "target"].map(|name| directory.path().join(name));
    std::fs::write(&source, "12345").unwrap();
    std::fs::write(&target, "older and longer").unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    launch(json!({"source": source, "target": target}), &context).await;
    assert_eq!((std::fs::read_to_string(&target).unwrap().as_str(), mode(&target)), ("12345", 0o640));
    let said = context.reporter.messages();
    assert_eq!(said, [format!("copying {} to {}", source.display(), target.display()), "copied 5 bytes".to_owned()]);
}

#[tokio::test]
async fn devices_are_written_to_and_not_replaced() {
    let context = context().build();
    launch(json!({"content": "x", "target": "/dev/null"}), &context).await;
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
}

#[tokio::test]
async fn a_directory_is_no_target() {
    let (directory, context) = (tempfile::tempdir().unwrap(), context().build());
    let (builder, _) = prepare(json!({"content": "x", "target": directory.path()}));
    let failure = builder.unwrap().launch(&context).await.err().unwrap();
    assert!(failure.chain().contains("is a directory"), "{}", failure.chain());
    assert!(context.journal.open().is_empty());
}

#[tokio::test]
async fn steps_that_want_a_machine_are_told_there_is_none() {
    let (directory, context) = (tempfile::tempdir().unwrap(), context().build());
    let machine = launch(json!({"content": "x", "target": directory.path().join("x")}), &context).await;
    let error = machine.communicator().exec(&Command::shell("true"), &mut NullSink).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("has no machine"), "{cause}");
}

#[test]
fn mistakes_are_told_at_once() {
    let (builder, found) = prepare(json!({"content": "x", "source": "/nonexistent/file", "target": ""}));
    assert!(builder.is_none());
    assert_eq!(
        found,
        [
            "`target` is empty",
            "`content` and `source` are both set; a file source takes one of them",
            "/nonexistent/file does not exist",
        ]
    );
    let (builder, found) = prepare(json!({"target": "x"}));
    assert!(builder.is_some());
    assert_eq!(found, ["`content` and `source` are both empty; the file will be empty"]);
    let (_, found) = prepare(json!({"content": "x"}));
    assert!(found[0].contains("target"), "{found:?}");
}
