//! What would be sent, and where to.

use kiln_testkit::{Arguments, Call, FakeMachine, Reply, TestContext, Uploaded, context, titles};
use serde_json::{Value as Json, json};

use super::*;

fn file(json: Json) -> Arc<dyn Provisioner> {
    let (step, diagnostics) = Arguments::new(json).provisioner(&FileKind);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    step.unwrap()
}

/// A context whose scratch directory holds `conf/a.conf` and `motd`.
fn with_files() -> TestContext {
    let context = context().build();
    std::fs::create_dir(context.scratch.join("conf")).unwrap();
    std::fs::write(context.scratch.join("conf/a.conf"), "a").unwrap();
    std::fs::write(context.scratch.join("motd"), "hello").unwrap();
    context
}

fn path(context: &TestContext, name: &str) -> String {
    format!("{}/{name}", context.scratch.display())
}

fn sent_file(to: &str, content: &str, mode: Option<u32>) -> Uploaded {
    Uploaded::File { to: to.to_owned(), content: content.into(), mode }
}

async fn uploads(context: &TestContext, json: Json) -> Vec<Uploaded> {
    let machine = FakeMachine::new();
    file(json).provision(&machine, context).await.unwrap();
    assert_eq!(machine.communicator.calls().len(), machine.communicator.uploads().len());
    machine.communicator.uploads()
}

#[tokio::test]
async fn content_is_sent_from_memory() {
    let context = with_files();
    let sent = uploads(&context, json!({ "content": "hi\n", "destination": "/etc/motd" })).await;
    assert_eq!(sent, [sent_file("/etc/motd", "hi\n", Some(0o644))]);
    let sent = uploads(&context, json!({ "content": "", "destination": "/etc/empty" })).await;
    assert_eq!(sent, [sent_file("/etc/empty", "", Some(0o644))]);
}

#[tokio::test]
async fn a_file_keeps_its_name_in_a_directory_and_its_mode_anywhere() {
    let context = with_files();
    for (destination, to) in [("/etc/motd2", "/etc/motd2"), ("/etc/", "/etc/motd")] {
        let sent = uploads(&context, json!({ "source": path(&context, "motd"), "destination": destination })).await;
        assert_eq!(sent, [sent_file(to, "hello", None)]);
    }
}

#[tokio::test]
async fn a_slash_after_a_source_directory_means_its_content() {
    let context = with_files();
    for (source, expected) in [("conf", false), ("conf/", true)] {
        let sent = uploads(&context, json!({ "source": path(&context, source), "destination": "/etc/worker" })).await;
        let [Uploaded::Directory { to, contents_only, files, .. }] = sent.as_slice() else { panic!("{sent:?}") };
        assert_eq!((to.as_str(), *contents_only), ("/etc/worker", expected));
        assert_eq!(files["a.conf"], b"a");
    }
}

#[tokio::test]
async fn several_sources_go_one_after_the_other() {
    let context = with_files();
    let sources = [path(&context, "motd"), path(&context, "conf/a.conf")];
    let sent = uploads(&context, json!({ "sources": sources, "destination": "/srv/" })).await;
    assert_eq!(sent, [sent_file("/srv/motd", "hello", None), sent_file("/srv/a.conf", "a", None)]);
    assert_eq!(context.reporter.messages()[0], format!("{} -> /srv/", sources[0]));
}

#[tokio::test]
async fn downloads_follow_the_same_rules() {
    let context = with_files();
    let machine = FakeMachine::new();
    machine.communicator.serve("/var/log/dpkg.log", "log");
    machine.communicator.serve("/var/log/apt/history", "history");
    machine.communicator.on_every_exec(|executed| {
        assert_eq!(executed.argv[..3], ["/bin/sh", "-c", "test -d \"$0\""]);
        Reply::exit(i64::from(executed.argv[3] != "/var/log/apt"))
    });
    for (source, to) in [
        ("/var/log/dpkg.log", "one.log"),
        ("/var/log/dpkg.log", "logs/"),
        ("/var/log/apt", "logs/"),
        ("/var/log/apt/", "content/"),
        ("/var/log/apt", "plain"),
    ] {
        let step = file(json!({ "source": source, "destination": path(&context, to), "direction": "download" }));
        assert!(step.caching() == Caching::Outside && step.input_files().is_empty());
        step.provision(&machine, &context).await.unwrap();
    }
    for (name, content) in [
        ("one.log", "log"),
        ("logs/dpkg.log", "log"),
        ("logs/apt/history", "history"),
        ("content/history", "history"),
        ("plain/apt/history", "history"),
    ] {
        assert_eq!(std::fs::read_to_string(path(&context, name)).unwrap(), content, "{name}");
    }
    assert_eq!(machine.communicator.execs().len(), 2, "the machine is asked only where it matters");
}

#[tokio::test]
async fn failures_name_both_ends() {
    let context = with_files();
    let machine = FakeMachine::new();
    let step = file(json!({ "source": "/no", "destination": path(&context, "x"), "direction": "download" }));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    let expected = format!("cannot download `/no` to `{}`: no such file or directory", path(&context, "x"));
    assert!(failure.chain().starts_with(&expected), "{}", failure.chain());
    machine.communicator.on_upload(Reply::refused());
    let step = file(json!({ "content": "secret text", "destination": "/x" }));
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert_eq!(
        failure.chain(),
        "cannot upload the content to `/x`: cannot upload to /x on the machine: scripted: refused"
    );
    let step = file(json!({ "source": path(&context, "later"), "destination": "/x", "generated": true }));
    assert_eq!(step.caching(), Caching::Restorable);
    let failure = step.provision(&machine, &context).await.unwrap_err();
    assert!(failure.to_string().starts_with("cannot read `"), "{failure}");
}

#[tokio::test]
async fn cancelling_ends_a_transfer() {
    let context = with_files();
    let machine = FakeMachine::new();
    machine.communicator.on_upload(Reply::never());
    let step = file(json!({ "content": "x", "destination": "/x" }));
    let stop = async {
        machine.communicator.wait_for_calls(1).await;
        context.cancel.cancel();
    };
    let (result, ()) = tokio::join!(step.provision(&machine, &context), stop);
    assert!(result.unwrap_err().is_cancelled());
    assert!(matches!(machine.communicator.calls().as_slice(), [Call::Upload(_)]));
}

#[test]
fn titles_and_inputs() {
    let context = with_files();
    let (motd, conf) = (path(&context, "motd"), path(&context, "conf"));
    let step = file(json!({ "source": motd, "destination": "/etc/" }));
    assert_eq!(step.title(), format!("{motd} -> /etc/"));
    assert_eq!(step.input_files(), [PathBuf::from(&motd)]);
    assert_eq!(step.caching(), Caching::Restorable);
    let step = file(json!({ "sources": [motd, conf], "destination": "/etc/" }));
    assert_eq!(step.title(), format!("{motd} and 1 more -> /etc/"));
    assert_eq!(file(json!({ "content": "x", "destination": "/y" })).title(), "content -> /y");
}

#[test]
fn mistakes_point_and_help() {
    let context = with_files();
    let mistakes = |json: Json| {
        let (step, diagnostics) = Arguments::new(json).provisioner(&FileKind);
        assert!(step.is_some() || diagnostics.has_errors());
        titles(&diagnostics).join("\n")
    };
    assert_eq!(
        mistakes(json!({ "destination": "/x" })),
        "a `file` provisioner needs exactly one of `source`, `sources` and `content`"
    );
    assert!(mistakes(json!({ "source": "a", "content": "b", "destination": "/x" })).contains("are both set"));
    assert_eq!(mistakes(json!({ "content": "b" })), "a `file` provisioner needs `destination`");
    assert_eq!(mistakes(json!({ "content": "b", "destination": "" })), "`destination` is empty");
    assert!(mistakes(json!({ "content": "b", "destination": "/etc/" })).contains("becomes a file"));
    assert!(
        mistakes(json!({ "content": "b", "destination": "/x", "direction": "download" })).contains("only be uploaded")
    );
    assert_eq!(mistakes(json!({ "sources": [], "destination": "/x/" })), "`sources` is empty");
    assert_eq!(mistakes(json!({ "source": "", "destination": "/x/" })), "`source` is empty");
    assert_eq!(mistakes(json!({ "source": "", "content": "b", "destination": "/x" })), "", "what is empty is not set");
    let both = [path(&context, "motd"), path(&context, "conf")];
    assert!(mistakes(json!({ "sources": both, "destination": "/x" })).contains("each file replaces the last"));

    let arguments = Arguments::new(json!({ "sources": [both[0], path(&context, "cnf")], "destination": "/x/" }));
    let diagnostics = arguments.provisioner(&FileKind).1;
    let [missing] = diagnostics.items.as_slice() else { panic!("{diagnostics:?}") };
    let fix = missing.fix.as_ref().unwrap();
    assert_eq!((&fix.text, &missing.help), (&format!("did you mean `{}`?", both[1]), &None));
    assert_eq!(arguments.text_at(missing.primary.as_ref().unwrap().span), format!("{:?}", path(&context, "cnf")));

    let arguments = Arguments::new(json!({ "source": path(&context, "nothing-like-it"), "destination": "/x" }));
    let help = arguments.provisioner(&FileKind).1.items[0].help.clone().unwrap();
    assert!(help.contains("generated"), "{help}");
}

#[test]
fn unknown_values_wait() {
    let arguments =
        Arguments::new(json!({ "source": "x", "destination": "y" })).unknown("source").unknown("destination");
    let (step, diagnostics) = arguments.provisioner(&FileKind);
    assert!(step.is_some() && diagnostics.is_empty(), "{diagnostics:?}");
}

#[test]
fn the_reference_says_what_the_schema_says() {
    let page = include_str!("../../../docs/reference/provisioners.md");
    assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
}
