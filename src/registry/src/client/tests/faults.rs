//! What breaks, once and for good.

use std::time::Instant;

use super::server::{Rule, Server, answer};
use super::*;

fn unavailable() -> Rule {
    Rule::Say(answer(503).body(r#"{"errors":[{"code":"UNAVAILABLE","message":"try later"}]}"#))
}

fn too_many() -> Rule {
    Rule::Say(answer(429).with("retry-after", "1"))
}

/// Its name, and what happens.
type Fault = (&'static str, fn() -> Rule);

/// Each of these, once, at each kind of request of a push.
#[tokio::test]
async fn a_push_survives_each_fault_once() {
    let faults: [Fault; 5] = [
        ("503", unavailable),
        ("429", too_many),
        ("hang up", || Rule::CutRequest(0)),
        ("cut amid the body", || Rule::CutRequest(300_000)),
        ("lost answer", || Rule::Lose),
    ];
    let places =
        [("HEAD", "/blobs/"), ("POST", ""), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/"), ("GET", "/v2/")];
    let mut pushes = Vec::new();
    for (what, fault) in faults {
        // Only blobs have so long a body.
        let has_body = |(_, part): &(&str, &str)| !what.contains("amid") || *part == "/blobs/uploads/";
        for (method, part) in places.into_iter().filter(has_body) {
            pushes.push(async move {
                let (server, from) = (Server::start(), place());
                let digest = from.image(&[&vec![1; 700_000]]);
                server.fault(1, method, part, fault);
                let name = reference(&server, "image:1");
                let pushed = push(&client(), &from, &digest, &name).await;
                let pushed = pushed.unwrap_or_else(|error| panic!("{what} at {method} {part}: {}", shown(error)));
                assert_eq!(pushed.blobs.moved, 2, "{what} at {method} {part}");
                assert_eq!(pull(&client(), &place(), &name).await.unwrap().manifest, digest);
                server
            });
        }
    }
    futures_util::future::join_all(pushes).await;
}

#[tokio::test]
async fn a_blob_that_arrived_is_not_sent_again() {
    let (server, from) = (Server::start(), place());
    let digest = from.image(&[&vec![1; 700_000]]);
    server.fault(2, "PUT", "/blobs/uploads/", || Rule::Lose);
    push(&client(), &from, &digest, &reference(&server, "image")).await.unwrap();
    assert_eq!(server.count("PUT", "/blobs/uploads/"), 2);
    server.forget();
    server.fault(1, "PUT", "/manifests/", || Rule::Lose);
    push(&client(), &from, &digest, &reference(&server, "image:other")).await.unwrap();
    assert_eq!(server.count("PUT", "/manifests/other"), 1);
}

#[tokio::test]
async fn a_pull_survives_each_fault_once() {
    let faults: [fn() -> Rule; 4] = [unavailable, too_many, || Rule::CutRequest(0), || Rule::CutAnswer(1_000)];
    let mut pulls = Vec::new();
    for fault in faults {
        for (method, part) in [("HEAD", "/manifests/"), ("GET", "/manifests/"), ("GET", "/blobs/")] {
            pulls.push(async move {
                let (server, from, to) = (Server::start(), place(), place());
                let digest = from.image(&[&vec![1; 700_000]]);
                push(&client(), &from, &digest, &reference(&server, "image")).await.unwrap();
                server.fault(1, method, part, fault);
                assert_eq!(pull(&client(), &to, &reference(&server, "image")).await.unwrap().manifest, digest);
            });
        }
    }
    futures_util::future::join_all(pulls).await;
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let (server, from) = (Server::start(), place());
    let layer: Vec<u8> = (0..3_000_000u32).map(|number| number as u8).collect();
    let digest = from.image(&[&layer]);
    push(&client(), &from, &digest, &reference(&server, "image")).await.unwrap();
    let part = format!("/blobs/{}", Digest::of(&layer));
    let part: &'static str = part.leak();
    for no_range in [false, true] {
        let to = place();
        server.state().no_range = no_range;
        server.forget();
        server.fault(1, "GET", part, || Rule::CutAnswer(2_000_000));
        pull(&client(), &to, &reference(&server, "image")).await.unwrap();
        let state = server.state();
        let ranges: Vec<_> =
            state.log.iter().filter(|request| request.is("GET", part)).map(|request| request.header("range")).collect();
        assert_eq!(ranges, [None, Some("bytes=2000000-")]);
        assert_eq!(std::fs::read(to.layout.blob_path(&Digest::of(&layer))).unwrap(), layer);
    }
}

#[tokio::test]
async fn what_fails_for_good_ends_within_the_budget() {
    let faults: [fn() -> Rule; 4] = [unavailable, || Rule::CutRequest(0), || Rule::CutRequest(300_000), || Rule::Hang];
    let places =
        [("GET", "/v2/"), ("HEAD", "/blobs/"), ("POST", ""), ("PUT", "/blobs/uploads/"), ("PUT", "/manifests/")];
    let mut pushes = Vec::new();
    for fault in faults {
        for (method, part) in places {
            pushes.push(async move {
                let (server, from) = (Server::start(), place());
                let digest = from.image(&[&vec![1; 700_000]]);
                server.fault(usize::MAX, method, part, fault);
                let started = Instant::now();
                let client = Client::new(hasty(options(&Notes::default())));
                let error = push(&client, &from, &digest, &reference(&server, "image:1")).await.unwrap_err();
                assert!(matches!(error, RegistryError::Unavailable { .. }), "{method} {part}: {error:?}");
                assert!(error.is_environment());
                let elapsed = started.elapsed();
                assert!(elapsed < Duration::from_secs(10), "{method} {part}: {elapsed:?}");
            });
        }
    }
    futures_util::future::join_all(pushes).await;
}

#[tokio::test]
async fn a_wait_beyond_the_budget_is_named_at_once() {
    let (server, from) = (Server::start(), place());
    let digest = from.image(&[b"layer"]);
    server.fault(usize::MAX, "POST", "", || Rule::Say(answer(429).with("retry-after", "3600")));
    let started = Instant::now();
    let error = push(&client(), &from, &digest, &reference(&server, "image")).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooMany { wait, .. } if wait.as_secs() == 3600), "{error:?}");
    assert!(error.to_string().contains("asks to wait 3600 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn retries_are_told() {
    let (server, from, notes) = (Server::start(), place(), Notes::default());
    let digest = from.image(&[b"layer"]);
    server.fault(1, "PUT", "/manifests/", unavailable);
    let client = Client::new(options(&notes));
    push(&client, &from, &digest, &reference(&server, "image:1")).await.unwrap();
    let text = notes.text();
    let expected = format!("PUT image:1 at {}: try later (UNAVAILABLE) (503); trying again in 0.", server.address);
    assert!(text.starts_with(&expected), "{text}");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_missed_once() {
    let (from, notes) = (place(), Notes::default());
    let layers: Vec<Vec<u8>> = (0..8u8).map(|number| vec![number; 10]).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let digest = from.image(&layers);
    // A port that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = Reference::parse(&format!("127.0.0.1:{port}/image:1")).unwrap();
    let client = Client::new(ClientOptions { budget: Duration::from_secs(16), ..options(&notes) });
    let first = push(&client, &from, &digest, &name).await.unwrap_err();
    assert!(first.hints()[0].contains(&format!("127.0.0.1:{port}")), "{:?}", first.hints());
    let told = notes.text().lines().count();
    assert!((1..=3).contains(&told), "{}", notes.text());
    let started = Instant::now();
    let upload = client.start_upload(&name).await.unwrap_err();
    let second = push(&client, &from, &digest, &name).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_millis(200), "it is not waited for again");
    assert_eq!(shown(first), shown(second));
    assert_eq!(upload.registry(), Some(name.registry.as_str()));
    assert_eq!(notes.text().lines().count(), told);
}

#[tokio::test]
async fn what_is_refused_is_not_tried_again() {
    let (server, from) = (Server::start(), place());
    let digest = from.image(&[b"layer"]);
    let body = r#"{"errors":[{"code":"MANIFEST_INVALID","message":"no\nlabels"}]}"#;
    server.rule(move |request| match request.is("PUT", "/manifests/") {
        true => Rule::Say(answer(400).body(body)),
        false => Rule::Pass,
    });
    let error = push(&client(), &from, &digest, &reference(&server, "image:1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} refuses PUT image:1: no labels (MANIFEST_INVALID) (400)", server.address)
    );
    assert_eq!(server.count("PUT", "/manifests/"), 1);
}

#[tokio::test]
async fn a_body_that_is_refused_goes_another_way() {
    for (status, patches) in [(405, 1), (404, 1), (413, 1)] {
        let (server, from) = (Server::start(), place());
        let digest = from.image(&[&vec![1; 700_000]]);
        server.rule(move |request| {
            let has_body = request.header("content-length").is_some_and(|length| length != "0");
            match request.is("PUT", "/blobs/uploads/") && has_body {
                true => Rule::Say(answer(status)),
                false => Rule::Pass,
            }
        });
        let options = PushOptions { jobs: 1, ..PushOptions::default() };
        let name = [reference(&server, "image:1")];
        let pushed = client().push(&from.layout, &digest, &name, &options, no_progress()).await.unwrap();
        assert_eq!(pushed.blobs.moved, 2, "{status}");
        assert_eq!(server.count("PATCH", ""), 2 * patches);
        // Learned with the first blob: three ends of uploads, of which one was refused.
        assert_eq!(server.count("PUT", "/blobs/uploads/"), 3);
        let ranged = server.state().log.iter().filter(|request| request.header("content-range").is_some()).count();
        assert_eq!(ranged, if status == 413 { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_host_where_nobody_answers_is_given_up_soon() {
    let started = Instant::now();
    let error = client().tags(&Reference::parse("127.0.0.1:1/image").unwrap()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    assert!(shown(error).contains("onnection refused"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_address_that_redirects_forever_is_left() {
    let server = Server::start();
    server.rule(|request| match request.is("HEAD", "/manifests/") {
        true => Rule::Say(answer(307).with("location", request.path.clone())),
        false => Rule::Pass,
    });
    let error = client().resolve(&reference(&server, "image")).await.unwrap_err();
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
}

#[tokio::test]
async fn a_blob_that_a_registry_lost_is_brought_again() {
    let (server, from) = (Server::start(), place());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image:1");
    let unknown = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#;
    let mut refusals = 0;
    server.rule(move |request| {
        refusals += usize::from(request.is("PUT", "/manifests/"));
        if refusals == 1 && request.is("PUT", "/manifests/") {
            Rule::Say(answer(400).body(unknown))
        } else {
            Rule::Pass
        }
    });
    push(&client(), &from, &digest, &name).await.unwrap();
    assert_eq!(server.count("PUT", "/manifests/"), 2);
    // Both blobs were asked for again, and are there.
    assert_eq!((server.count("HEAD", "/blobs/"), server.count("PUT", "/blobs/uploads/")), (4, 2));
}
