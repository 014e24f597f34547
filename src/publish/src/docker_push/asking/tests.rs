use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;

use kiln_core::{FailureClass, PostProcessor};
use kiln_docker::fake::FakeEngine;
use kiln_image::Digest;
use kiln_registry::CredentialSources;
use kiln_testkit::Arguments as TestArguments;
use serde_json::{Value, json};

use super::super::{DockerPushKind, tests::quick};
use super::*;
use crate::test_support::{Bench, image_artifact, provider};

/// What it says of a manifest.
#[derive(Clone)]
enum Says {
    /// An image with this config.
    Image(&'static str),
    /// An index.
    Index,
    Status(u16),
}

/// A registry that knows manifests alone.
struct FakeRegistry {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

fn manifest(says: &Says) -> String {
    match says {
        Says::Image(config) => {
            json!({ "schemaVersion": 2, "config": { "digest": config_id(config), "size": 2 }, "layers": [] })
        }
        _ => json!({ "schemaVersion": 2, "manifests": [] }),
    }
    .to_string()
}

fn config_id(config: &str) -> String {
    Digest::of(config.as_bytes()).to_string()
}

fn digest(says: &Says) -> String {
    Digest::of(manifest(says).as_bytes()).to_string()
}

impl FakeRegistry {
    fn start(tags: &[(&'static str, Says)]) -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (log, tags) = (Arc::clone(&asked), tags.to_vec());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, tags) = (Arc::clone(&log), tags.clone());
                thread::spawn(move || serve(&stream, &tags, &log));
            }
        });
        FakeRegistry { address, asked }
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/g/app:{tag}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: &TcpStream, tags: &[(&str, Says)], log: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let (mut header, mut length) = (String::new(), 0);
        while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
            let told = header.to_lowercase();
            length = told.strip_prefix("content-length:").map_or(length, |told| told.trim().parse().unwrap());
            header.clear();
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let Some(tag) = path.strip_prefix("/v2/g/app/manifests/") else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            continue;
        };
        log.lock().unwrap().push(format!("{method} {tag}"));
        if method == "PUT" {
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let digest = Digest::of(&body);
            let told = format!("HTTP/1.1 201 Created\r\nDocker-Content-Digest: {digest}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(told.as_bytes()).unwrap();
            continue;
        }
        let tags: Vec<_> = tags
            .iter()
            .flat_map(|(tag, says)| [((*tag).to_owned(), says.clone()), (digest(says), says.clone())])
            .collect();
        let says = tags.iter().find(|(known, _)| known == tag).map_or(Says::Status(404), |(_, says)| says.clone());
        let answer = match &says {
            Says::Status(status) => format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n"),
            found => {
                let kind = match found {
                    Says::Index => "application/vnd.oci.image.index.v1+json",
                    _ => "application/vnd.oci.image.manifest.v1+json",
                };
                let (body, digest) = (manifest(found), digest(found));
                let shown = if method == "HEAD" { "" } else { &body };
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\r\n{shown}",
                    body.len()
                )
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn push(engine: &Arc<FakeEngine>, arguments: Value) -> DockerPush {
    let kind = DockerPushKind { engine: provider(engine), credentials: CredentialSources::default() };
    DockerPush { ask_budget: Duration::from_millis(300), ..quick(&kind, TestArguments::new(arguments)) }
}

fn skipping() -> DockerPush {
    push(&Arc::new(FakeEngine::new()), json!({ "skip_if_exists": true }))
}

#[tokio::test]
async fn names_that_never_move_decide_and_the_others_are_told() {
    let app = Says::Image("one");
    let registry =
        FakeRegistry::start(&[("1.2.3", app.clone()), ("latest", Says::Image("two")), ("main", app.clone())]);
    let names = ["1.2.3", "latest", "main"].map(|tag| registry.name(tag));
    let bench = Bench::new();
    let published = skipping().published(&names, &bench.context).await.unwrap().unwrap();
    assert_eq!(published.reason, format!("{} is in its registry already", names[0]));
    let image = published.artifact.image().unwrap();
    assert_eq!(image.id, format!("{}/g/app@{}", registry.address, digest(&app)));
    assert_eq!(
        (image.tags.as_slice(), image.digest.as_deref()),
        (&[names[0].clone(), names[2].clone()][..], Some(&*digest(&app)))
    );
    let warning =
        format!("{} means {}, and {} means {}", names[1], digest(&Says::Image("two")), names[0], digest(&app));
    assert_eq!(bench.warnings(), [warning]);
    assert_eq!(registry.asked(), ["HEAD 1.2.3", "HEAD latest", "HEAD main"]);
}

#[tokio::test]
async fn a_name_that_moves_and_is_missing_is_put_beside_the_others() {
    let registry = FakeRegistry::start(&[("1.2.3", Says::Image("one")), ("stable", Says::Image("two"))]);
    let names = ["latest", "stable", "1.2.3", "main"].map(|tag| registry.name(tag));
    let bench = Bench::new();
    let push = skipping();
    let published = push.published(&names, &bench.context).await.unwrap().unwrap();
    let meant = digest(&Says::Image("one"));
    let missing = [(names[0].clone(), meant.clone()), (names[3].clone(), meant.clone())];
    assert_eq!(published.missing, missing.into());
    assert_eq!(published.reason, format!("{} is in its registry already", names[2]));
    assert_eq!(bench.warnings().len(), 1, "`stable` means something else, and is left alone: {:?}", bench.warnings());
    let named = push.name_published(&published.missing, &bench.context).await.unwrap();
    assert_eq!(named, [&*names[3], &names[0]]);
    let published = published.named(named);
    let reason = format!("{} is in its registry already; named {}, {}, too", names[2], names[3], names[0]);
    assert_eq!(published.reason, reason);
    let tags = [names[2].clone(), names[3].clone(), names[0].clone()];
    assert_eq!(published.artifact.image().unwrap().tags, tags);
    let get = format!("GET {meant}");
    assert_eq!(registry.asked()[4..], [&get, "PUT main", &get, "PUT latest"], "`latest` last");
    let logins = bench.context.reporter.messages().into_iter().filter(|text| text.contains("login")).count();
    assert_eq!(logins, 1, "told once");
}

#[tokio::test]
async fn another_repository_is_not_given_what_it_has_not_got() {
    let registry = FakeRegistry::start(&[("1.2.3", Says::Image("one"))]);
    let names = [registry.name("1.2.3"), format!("{}/g/other:latest", registry.address)];
    let bench = Bench::new();
    let closed = skipping().published(&names, &bench.context).await;
    assert!(closed.unwrap().unwrap().missing.is_empty());
    assert!(bench.warnings()[0].contains("other:latest"), "{:?}", bench.warnings());
}

#[tokio::test]
async fn a_name_that_nobody_could_ask_for_or_give_is_not_told_as_there() {
    let app = Says::Image("one");
    let registry = FakeRegistry::start(&[("1.2.3", app.clone()), ("main", Says::Status(403))]);
    let names = [registry.name("1.2.3"), registry.name("main")];
    let bench = Bench::new();
    let published = skipping().published(&names, &bench.context).await.unwrap().unwrap();
    assert_eq!(published.artifact.image().unwrap().tags, names[..1]);
    assert!(published.missing.is_empty());
    assert!(bench.warnings()[0].contains("cannot find out whether"), "{:?}", bench.warnings());

    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let missing = [(format!("{closed}/g/app:latest"), digest(&app))].into();
    let bench = Bench::new();
    assert!(skipping().name_published(&missing, &bench.context).await.unwrap().is_empty());
    assert!(bench.warnings()[0].contains("cannot be put there"), "{:?}", bench.warnings());
}

#[tokio::test]
async fn one_name_that_is_missing_makes_it_built() {
    let registry = FakeRegistry::start(&[("1.2.3", Says::Image("one")), ("latest", Says::Image("one"))]);
    for (tags, told) in [
        (vec!["1.2.3", "1.2.4"], "is in its registry already, and"),
        (vec!["1.2.4", "latest"], "is not in its registry yet"),
        (vec!["latest", "main"], "is in its registry already, and"),
    ] {
        let bench = Bench::new();
        let names: Vec<String> = tags.iter().map(|tag| registry.name(tag)).collect();
        assert!(skipping().published(&names, &bench.context).await.unwrap().is_none(), "{tags:?}");
        let messages = bench.context.reporter.messages();
        assert!(messages.iter().any(|text| text.contains(told)), "{tags:?}: {messages:?}");
    }
    let bench = Bench::new();
    let all_move = [registry.name("latest")];
    assert!(skipping().published(&all_move, &bench.context).await.unwrap().is_some());
}

#[tokio::test]
async fn an_index_is_there_too() {
    let registry = FakeRegistry::start(&[("v1.2.3", Says::Index)]);
    let bench = Bench::new();
    let published = skipping().published(&[registry.name("v1.2.3")], &bench.context).await.unwrap().unwrap();
    assert_eq!(published.artifact.image().unwrap().digest.as_deref(), Some(&*digest(&Says::Index)));
}

#[tokio::test]
async fn no_answer_is_neither_yes_nor_no() {
    let registry = FakeRegistry::start(&[
        ("1.2.3", Says::Status(503)),
        ("1.2.4", Says::Status(401)),
        ("1.2.5", Says::Status(403)),
    ]);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let names = ["1.2.3", "1.2.4", "1.2.5"].map(|tag| registry.name(tag));
    for name in names.into_iter().chain([format!("{closed}/g/app:1.2.3")]) {
        let bench = Bench::new();
        let engine = Arc::new(FakeEngine::new());
        engine.fail_next("registry_digest", crate::test_support::refused("connection refused"));
        let push = push(&engine, json!({ "skip_if_exists": true }));
        let failure = push.published(std::slice::from_ref(&name), &bench.context).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Environment, "{name}: {}", failure.chain());
        assert!(
            failure.chain().starts_with(&format!("cannot find out whether {name} is in its registry: ")),
            "{}",
            failure.chain()
        );
        assert!(failure.hints.last().unwrap().contains("nothing is built or overwritten"), "{:?}", failure.hints);
    }
}

#[tokio::test]
async fn where_this_host_does_not_reach_a_registry_the_engine_is_asked() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bench = Bench::new();
    let names = [format!("{closed}/g/app:1.2.3")];
    assert!(skipping().published(&names, &bench.context).await.unwrap().is_none());
    // The builder of images without an engine has nobody else to ask.
    let alone = DockerPush { is_without_engine: true, ..skipping() };
    assert!(alone.published(&names, &bench.context).await.is_err());
}

fn named(engine: &Arc<FakeEngine>, registry: &FakeRegistry, tags: &[&str]) -> Artifact {
    let names: Vec<String> = tags.iter().map(|tag| registry.name(tag)).collect();
    let id =
        engine.add_image_with(&names[0], kiln_docker::ImageInfo { tags: names[1..].to_vec(), ..Default::default() });
    image_artifact(&id, &names.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test]
async fn a_tag_that_never_moves_is_not_moved() {
    let registry = FakeRegistry::start(&[("1.2.3", Says::Image("other"))]);
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let artifact = named(&engine, &registry, &["latest", "main", "1.2.3"]);
    let failure = push(&engine, json!({})).process(&artifact, &bench.context).await.err().unwrap();
    assert!(engine.changes().is_empty(), "{:?}", engine.changes());
    let expected = format!(
        "{} is in its registry and means {}, and this is the image {}; nothing was pushed",
        registry.name("1.2.3"),
        digest(&Says::Image("other")),
        artifact.id
    );
    assert_eq!(failure.to_string(), expected);
    assert!(failure.hints[0].contains("`-force` moves this one"), "{:?}", failure.hints);

    let pushes = |registry: &FakeRegistry| {
        ["main", "1.2.3", "latest"].map(|tag| format!("push {}", registry.name(tag))).to_vec()
    };
    for arguments in [json!({ "immutable_tags": "warn" }), json!({ "immutable_tags": "off" })] {
        let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
        let artifact = named(&engine, &registry, &["latest", "main", "1.2.3"]);
        push(&engine, arguments.clone()).process(&artifact, &bench.context).await.unwrap();
        assert_eq!(engine.changes(), pushes(&registry));
        assert_eq!(bench.warnings().len(), usize::from(arguments["immutable_tags"] == "warn"));
    }
    let asked = registry.asked().len();
    let engine = Arc::new(FakeEngine::new());
    let artifact = named(&engine, &registry, &["latest", "main", "1.2.3"]);
    push(&engine, json!({})).process(&artifact, &Bench::forced().context).await.unwrap();
    assert_eq!((engine.changes(), registry.asked().len()), (pushes(&registry), asked));
}

#[tokio::test]
async fn the_same_image_is_not_pushed_again() {
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let registry = FakeRegistry::start(&[("1.2.3", Says::Image("one"))]);
    let name = registry.name("1.2.3");
    let id = engine.add_image_with(&name, kiln_docker::ImageInfo { id: config_id("one"), ..Default::default() });
    let artifact = image_artifact(&id, &[&name]);
    let processed = push(&engine, json!({})).process(&artifact, &bench.context).await.unwrap();
    assert!(engine.changes().is_empty(), "{:?}", engine.changes());
    assert_eq!(processed.artifact.image().unwrap().digest.as_deref(), Some(&*digest(&Says::Image("one"))));
    assert_eq!(registry.asked(), ["HEAD 1.2.3", "GET 1.2.3"], "by its id");

    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let registry = FakeRegistry::start(&[("1.2.3", Says::Index)]);
    let found = digest(&Says::Index);
    let digests = vec![format!("{}/g/app@{found}", registry.address)];
    let name = registry.name("1.2.3");
    let id = engine.add_image_with(&name, kiln_docker::ImageInfo { digests, ..Default::default() });
    let processed = push(&engine, json!({})).process(&image_artifact(&id, &[&name]), &bench.context).await.unwrap();
    assert!(engine.changes().is_empty(), "{:?}", engine.changes());
    assert_eq!(processed.artifact.image().unwrap().digest.as_deref(), Some(&*found));
    assert!(
        bench
            .context
            .reporter
            .messages()
            .iter()
            .any(|text| text.ends_with(&format!("means this image already, {found}")))
    );
}

#[tokio::test]
async fn what_was_pushed_before_a_failure_is_told() {
    let (bench, engine) = (Bench::new(), Arc::new(FakeEngine::new()));
    let registry = FakeRegistry::start(&[]);
    let artifact = named(&engine, &registry, &["latest", "a", "b"]);
    engine.fail_next(&format!("push {}", registry.name("b")), crate::test_support::refused("denied"));
    let failure = push(&engine, json!({})).process(&artifact, &bench.context).await.err().unwrap();
    let expected = format!(
        "pushed before: {}; not pushed: {}, {}",
        registry.name("a"),
        registry.name("b"),
        registry.name("latest")
    );
    assert!(failure.hints.contains(&expected), "{:?}", failure.hints);
}

#[test]
fn questions_and_rules_are_read() {
    let engine = Arc::new(FakeEngine::new());
    assert_eq!(push(&engine, json!({})).question(), None);
    assert_eq!(push(&engine, json!({ "confirm": false })).question(), None);
    assert_eq!(push(&engine, json!({ "confirm": true })).question(), Some("Push the image?"));
    assert_eq!(push(&engine, json!({ "confirm": "Release it?" })).question(), Some("Release it?"));
}
