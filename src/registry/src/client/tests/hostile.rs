//! Registries that lie, and registries that never end.

use std::time::Instant;

use super::server::{Auth, Rule, Server, answer};
use super::*;

async fn pushed(server: &Server, layer: &[u8]) -> (Place, Digest) {
    let from = place();
    let digest = from.image(&[layer]);
    push(&client(), &from, &digest, &reference(server, "image:1")).await.unwrap();
    server.forget();
    (from, digest)
}

fn impatient() -> Client {
    Client::new(hasty(options(&Notes::default())))
}

/// Runs something that must end soon.
async fn soon<T>(what: &str, run: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let outcome = tokio::time::timeout(Duration::from_secs(30), run).await;
    outcome.unwrap_or_else(|_| panic!("{what}: no end after {:?}", started.elapsed()))
}

#[tokio::test]
async fn a_digest_that_means_something_else_is_noticed() {
    let server = Server::start();
    let (_, digest) = pushed(&server, b"layer").await;
    let pinned = Reference { digest: Some(digest.to_string()), ..reference(&server, "image") };
    let other = Digest::of(b"other").to_string();
    server.rule(move |request| match request.is("HEAD", "/manifests/") {
        true => Rule::Say(
            answer(200)
                .with("docker-content-digest", other.clone())
                .with("content-type", MANIFEST)
                .with("content-length", "7"),
        ),
        false => Rule::Pass,
    });
    let error = client().resolve(&pinned).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Damaged { wanted, .. } if *wanted == digest), "{error:?}");
}

#[tokio::test]
async fn a_manifest_that_is_stored_as_another_is_noticed() {
    let (server, from) = (Server::start(), place());
    let digest = from.image(&[b"layer"]);
    server.rule(|request| match request.is("PUT", "/manifests/") {
        true => Rule::Say(answer(201).with("docker-content-digest", Digest::of(b"other").to_string())),
        false => Rule::Pass,
    });
    let error = push(&client(), &from, &digest, &reference(&server, "image")).await.unwrap_err();
    assert!(error.to_string().contains("it stored sha256:"), "{error}");
}

#[tokio::test]
async fn a_blob_of_another_size_is_not_taken_for_ours() {
    let server = Server::start();
    let (from, digest) = pushed(&server, b"layer").await;
    let layer = Digest::of(b"layer");
    server.state().blobs.insert(("image".to_owned(), layer.to_string()), b"lay".to_vec());
    push(&client(), &from, &digest, &reference(&server, "image:1")).await.unwrap();
    assert_eq!(server.state().blobs[&("image".to_owned(), layer.to_string())], b"layer");
}

#[tokio::test]
async fn a_size_that_a_manifest_lies_about_is_noticed_though_the_blob_is_here() {
    let (server, to) = (Server::start(), place());
    let layer = to.layout.put_document(b"layer").unwrap();
    let config = to.layout.put_document(b"{}").unwrap();
    for (blob, content) in [(&layer, b"layer".as_slice()), (&config, b"{}")] {
        server.state().blobs.insert(("image".to_owned(), blob.to_string()), content.to_vec());
    }
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config, 2),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer, 3)]})
    .to_string();
    let key = ("image".to_owned(), "latest".to_owned());
    server.state().manifests.insert(key, (MANIFEST.to_owned(), manifest.into_bytes()));
    let error = pull(&client(), &to, &reference(&server, "image")).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Damaged { wanted, .. } if *wanted == layer), "{error:?}");
}

#[tokio::test]
async fn what_never_ends_is_left() {
    let flood = |status| Rule::Flood(answer(status).with("content-type", MANIFEST), 60_000, Duration::ZERO);
    let server = Server::start();
    let (_, _) = pushed(&server, &[1; 50_000]).await;
    let name = reference(&server, "image:1");
    for (method, part, status) in [
        ("GET", "/manifests/", 200),
        ("GET", "/blobs/", 200),
        ("GET", "/manifests/", 400),
        ("GET", "/manifests/", 503),
        ("GET", "/tags/", 200),
    ] {
        let what = format!("{method} {part} {status}");
        server.rule(move |request| if request.is(method, part) { flood(status) } else { Rule::Pass });
        let error = match part {
            "/tags/" => soon(&what, impatient().tags(&name)).await.unwrap_err(),
            _ => soon(&what, pull(&impatient(), &place(), &name)).await.unwrap_err(),
        };
        assert!(shown(error).len() < 1000, "{what}");
    }
    let server = Server::with_auth(Auth::Token);
    server.rule(|request| match request.path.starts_with("/token") {
        true => Rule::Flood(answer(200), 60_000, Duration::ZERO),
        false => Rule::Pass,
    });
    let error = soon("token", pull(&impatient(), &place(), &reference(&server, "image"))).await.unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
}

/// Each piece comes in time, and all of them never do.
#[tokio::test]
async fn what_comes_drop_by_drop_is_left() {
    let server = Server::start();
    let (_, _) = pushed(&server, &[1; 50_000]).await;
    let name = reference(&server, "image:1");
    for part in ["/manifests/", "/blobs/"] {
        server.rule(move |request| match request.is("GET", part) {
            true => Rule::Flood(answer(200).with("content-type", MANIFEST), 1, Duration::from_millis(100)),
            false => Rule::Pass,
        });
        let error = soon(part, pull(&impatient(), &place(), &name)).await.unwrap_err();
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{part}: {error:?}");
    }
}

/// Who makes the bytes may wait; who takes them may not.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_takes_ends() {
    let server = Server::start();
    server.rule(|request| if request.method == "PATCH" { Rule::Hang } else { Rule::Pass });
    let client = impatient();
    let mut upload = client.start_upload(&reference(&server, "image")).await.unwrap();
    let written =
        tokio::task::spawn_blocking(move || (0..64).try_for_each(|_| upload.blocking_write(vec![0; 1 << 20].into())));
    soon("upload", written).await.unwrap().unwrap_err();

    server.rule(|_| Rule::Pass);
    let mut upload = client.start_upload(&reference(&server, "image")).await.unwrap();
    upload.write(b"one".to_vec().into()).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    upload.write(b"two".to_vec().into()).await.unwrap();
    upload.finish(&Digest::of(b"onetwo")).await.unwrap();
}

#[tokio::test]
async fn an_upload_whose_end_was_not_heard_is_not_ended_again() {
    let server = Server::start();
    let mut upload = client().start_upload(&reference(&server, "image")).await.unwrap();
    upload.write(b"one".to_vec().into()).await.unwrap();
    server.fault(1, "PUT", "/blobs/uploads/", || Rule::Lose);
    upload.finish(&Digest::of(b"one")).await.unwrap();
    assert_eq!(server.count("PUT", "/blobs/uploads/"), 1);
}

#[tokio::test]
async fn no_redirection_carries_the_login() {
    let (server, other, from) = (Server::with_auth(Auth::Token), Server::start(), place());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image:1");
    push(&client_of(&server, &Notes::default()), &from, &digest, &name).await.unwrap();
    for (method, part) in
        [("HEAD", "/manifests/"), ("GET", "/manifests/"), ("GET", "/blobs/"), ("POST", ""), ("PUT", ""), ("DELETE", "")]
    {
        let elsewhere = other.address.clone();
        server.rule(move |request| match request.is(method, part) {
            true => Rule::Say(answer(307).with("location", format!("http://{elsewhere}{}", request.path))),
            false => Rule::Pass,
        });
        let client = Client::new(ClientOptions {
            explicit: vec![login(&server, "user", "password")],
            ..hasty(options(&Notes::default()))
        });
        // What comes of it does not matter here.
        let _ = pull(&client, &place(), &name).await;
        let _ = push(&client, &from, &digest, &reference(&server, "other:1")).await;
        let _ = client.untag(&reference(&server, "image:none")).await;
    }
    let state = other.state();
    assert!(state.log.len() >= 6, "{}", state.log.len());
    assert!(state.log.iter().all(|request| request.header("authorization").is_none()));
}

/// A realm that sends on is not followed: it would be shown the password.
#[tokio::test]
async fn a_realm_that_redirects_is_not_followed() {
    let (server, other, from) = (Server::with_auth(Auth::Token), Server::start(), place());
    let digest = from.image(&[b"layer"]);
    let elsewhere = other.address.clone();
    server.rule(move |request| match request.path.starts_with("/token") {
        true => Rule::Say(answer(307).with("location", format!("http://{elsewhere}/token"))),
        false => Rule::Pass,
    });
    let client = client_of(&server, &Notes::default());
    let error = push(&client, &from, &digest, &reference(&server, "image")).await.unwrap_err();
    assert!(error.to_string().contains("its realm answers 307"), "{error}");
    assert!(other.state().log.is_empty());
}

/// What is out of bounds for taking over costs the login nothing.
#[tokio::test]
async fn a_realm_that_refuses_the_other_repository_does_not_stop_a_push() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let digest = from.image(&[b"one", b"two", b"three"]);
    server.rule(|request| match request.path.starts_with("/token") && request.path.contains("secret") {
        true => Rule::Say(answer(403).body(r#"{"errors":[{"code":"DENIED","message":"access forbidden"}]}"#)),
        false => Rule::Pass,
    });
    let options = PushOptions { mount_from: vec![reference(&server, "secret")], jobs: 1 };
    let to = [reference(&server, "image:1")];
    let client = client_of(&server, &Notes::default());
    let pushed = client.push(&from.layout, &digest, &to, &options, no_progress()).await.unwrap();
    assert_eq!(pushed.blobs.moved, 4);
    // Asked once.
    assert_eq!(server.count("GET", "secret"), 1);
}

#[tokio::test]
async fn a_realm_that_refuses_post_is_asked_by_get() {
    for status in [400, 404, 405, 415, 501] {
        let (server, from) = (Server::with_auth(Auth::Token), place());
        let digest = from.image(&[b"layer"]);
        server.rule(move |request| match request.is("POST", "/token") {
            true => Rule::Say(answer(status)),
            false => Rule::Pass,
        });
        let identity_token = Some(Secret::new("password"));
        let identity = Credentials { username: "user".into(), identity_token, ..Credentials::default() };
        let explicit = vec![(server.address.clone(), identity)];
        let client = Client::new(ClientOptions { explicit, ..options(&Notes::default()) });
        push(&client, &from, &digest, &reference(&server, "image")).await.unwrap();
        assert_eq!((server.count("POST", "/token"), server.count("GET", "/token")), (1, 1), "{status}");
    }
}

#[tokio::test]
async fn an_answer_whose_head_is_too_large_is_not_asked_for_again() {
    let server = Server::start();
    let (_, digest) = pushed(&server, b"layer").await;
    let pinned = Reference { digest: Some(digest.to_string()), ..reference(&server, "image") };
    server.rule(|request| match request.path.contains("/manifests/") {
        true => Rule::Say(answer(200).with("x-filler", "x".repeat(2 << 20))),
        false => Rule::Pass,
    });
    let started = Instant::now();
    let error = client().resolve(&pinned).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Malformed { .. }), "{error:?}");
    assert!(error.to_string().contains("its head is too large"), "{error}");
    assert!(server.count("HEAD", "/manifests/") + server.count("GET", "/manifests/") <= 2, "{:?}", server.asked());
    assert!(started.elapsed() < Duration::from_secs(5));
}
