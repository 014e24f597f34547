//! Solves by the BuildKit of a real engine.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they skip")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_buildkit::{
    Directory, Progress, Request, SecretSource, Sent, Session, SolveError, SourceRange, Transport, solve,
};
use kiln_core::Secret;
use kiln_docker::{BollardEngine, Engine};

async fn engine() -> Option<Arc<dyn Engine>> {
    let engine = BollardEngine::connect(None, &std::env::vars().collect()).unwrap();
    if let Err(error) = engine.version().await {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "no Docker engine: {error}");
        eprintln!("SKIPPED: no Docker engine answers");
        return None;
    }
    Some(Arc::new(engine))
}

struct Run {
    answer: Result<BTreeMap<String, String>, SolveError>,
    sent: Sent,
    lines: Vec<String>,
    cached: usize,
}

async fn run(engine: &Arc<dyn Engine>, context: &Path, dockerfile: &str) -> Run {
    let mut session = Session::new(&context.display().to_string());
    let file = Directory::Files(vec![("Dockerfile".to_owned(), dockerfile.as_bytes().into())]);
    session.directories.insert("dockerfile".to_owned(), file);
    session.directories.insert("context".to_owned(), Directory::Path(context.to_path_buf()));
    session.secrets.insert("word".to_owned(), SecretSource::Value(Secret::new("open sesame")));
    let sent = session.sent.clone();
    let request = Request {
        frontend: "dockerfile.v0".to_owned(),
        options: BTreeMap::from([("filename".to_owned(), "Dockerfile".to_owned())]),
        exporter: Some("moby".to_owned()),
        ..Request::default()
    };
    let (mut lines, mut cached) = (Vec::new(), 0);
    let answer = solve(&Transport::Engine(Arc::clone(engine)), session, request, &mut |progress| match progress {
        Progress::Line { text, .. } => lines.push(text),
        Progress::Cached(_) => cached += 1,
        _ => {}
    })
    .await;
    Run { answer, sent, lines, cached }
}

async fn remove(engine: &Arc<dyn Engine>, run: &Run) {
    if let Some(id) = run.answer.as_ref().ok().and_then(|answer| answer.get("containerimage.digest")) {
        engine.remove_image(id, true).await.unwrap();
    }
}

#[tokio::test]
async fn only_what_is_needed_and_changed_is_sent() {
    let Some(engine) = engine().await else { return };
    let context = tempfile::tempdir().unwrap();
    std::fs::write(context.path().join("small"), b"x").unwrap();
    std::fs::create_dir(context.path().join("big")).unwrap();
    std::fs::write(context.path().join("big/file"), vec![7; 8 << 20]).unwrap();
    let dockerfile = "FROM debian:bookworm\nCOPY small /small\n";
    let first = run(&engine, context.path(), dockerfile).await;
    let id = first.answer.as_ref().unwrap()["containerimage.digest"].clone();
    assert!(engine.inspect_image(&id).await.unwrap().is_some());
    assert_eq!(first.sent.bytes(), dockerfile.len() as u64 + 1);
    let whole = run(&engine, context.path(), "FROM debian:bookworm\nCOPY . /all\n").await;
    assert!(whole.sent.bytes() > 8 << 20, "{}", whole.sent.bytes());
    std::fs::write(context.path().join("small"), b"yy").unwrap();
    let changed = "FROM debian:bookworm\nCOPY . /all\nENV changed=1\n";
    let again = run(&engine, context.path(), changed).await;
    assert_eq!(again.sent.bytes(), changed.len() as u64 + 2);
    for run in [&first, &whole, &again] {
        remove(&engine, run).await;
    }
}

#[tokio::test]
async fn failures_name_their_lines() {
    let Some(engine) = engine().await else { return };
    let context = tempfile::tempdir().unwrap();
    let failing = "FROM debian:bookworm\n\nRUN echo one && \\\n  echo two >&2 && exit 7\n";
    let run_failed = run(&engine, context.path(), failing).await;
    let Err(SolveError::Failed { message, range, step, mut output }) = run_failed.answer else {
        panic!("it failed not")
    };
    assert!(message.contains("exit code: 7"), "{message}");
    // Engines of version 20.10 name the step alone.
    assert!(range.is_none_or(|range| range == SourceRange { first: 3, last: 4 }), "{message}");
    assert!(step.unwrap().contains("RUN echo one"));
    // The two streams come over pipes of their own: which line is first is nobody's promise.
    output.sort();
    assert_eq!(output, ["one", "two"]);
    let misspelt = run(&engine, context.path(), "FROM debian:bookworm\n\nRUM echo\n").await;
    let Err(SolveError::Failed { message, .. }) = misspelt.answer else { panic!("it failed not") };
    assert!(message.contains("RUM") && message.contains("line 3"), "{message}");
}

#[tokio::test]
async fn secrets_reach_the_step_that_asks() {
    let Some(engine) = engine().await else { return };
    let context = tempfile::tempdir().unwrap();
    let nonce = uuid::Uuid::new_v4();
    let dockerfile = format!(
        "FROM debian:bookworm\nRUN --mount=type=secret,id=word echo {nonce} && cat /run/secrets/word | tr a-z A-Z\n"
    );
    let run_first = run(&engine, context.path(), &dockerfile).await;
    assert!(run_first.lines.iter().any(|line| line.contains("OPEN SESAME")), "{:?}", run_first.lines);
    let again = run(&engine, context.path(), &dockerfile).await;
    assert_eq!(again.cached, 1, "{:?}", again.lines);
    remove(&engine, &run_first).await;
}
