//! A BuildKit daemon's socket: the real BuildKit of an engine, behind a bridge that speaks plain gRPC.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say what they skip")]

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_buildkit::{DaemonAddress, Directory, Request, Session, SolveError, Transport, solve};
use kiln_docker::{BollardEngine, Engine};
use tokio::net::UnixListener;

/// Each connection becomes one to the engine's `/grpc`.
async fn bridge(engine: Arc<BollardEngine>, listener: UnixListener) {
    while let Ok((mut client, _)) = listener.accept().await {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move {
            let mut server = engine.upgrade("/grpc", &[]).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
    }
}

#[tokio::test]
async fn a_daemon_is_sent_files_and_sends_its_result() {
    let engine = BollardEngine::connect(None, &std::env::vars().collect()).unwrap();
    if let Err(error) = engine.version().await {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "no Docker engine: {error}");
        eprintln!("SKIPPED: no Docker engine answers");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("buildkitd.sock");
    let address = DaemonAddress::parse(&format!("unix://{}", socket.display()), None).unwrap();
    let nobody = solve(&Transport::Daemon(address.clone()), Session::new("x"), Request::default(), &mut |_| {}).await;
    assert!(matches!(nobody, Err(SolveError::Unreachable { .. })), "{nobody:?}");
    tokio::spawn(bridge(Arc::new(engine), UnixListener::bind(&socket).unwrap()));

    let context = directory.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("file"), "content").unwrap();
    let output = directory.path().join("result.tar");
    let mut session = Session::new("daemon test");
    session.directories.insert("context".to_owned(), Directory::Path(context));
    let text = b"FROM scratch\nCOPY file /copied\n";
    session
        .directories
        .insert("dockerfile".to_owned(), Directory::Files(vec![("Dockerfile".to_owned(), Arc::from(&text[..]))]));
    session.output = Some(output.clone());
    let request = Request {
        frontend: "dockerfile.v0".to_owned(),
        options: BTreeMap::from([("filename".to_owned(), "Dockerfile".to_owned())]),
        // Engines have no exporter `oci`; this one goes the same way back.
        exporter: Some("tar".to_owned()),
        ..Request::default()
    };
    solve(&Transport::Daemon(address), session, request, &mut |_| {}).await.unwrap();
    let mut archive = tar::Archive::new(std::fs::File::open(&output).unwrap());
    let names: Vec<String> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    assert!(names.iter().any(|name| name.trim_start_matches("./") == "copied"), "{names:?}");
}
