//! Logins, tokens, and to whom they go.

use super::server::{Auth, Rule, Server, answer};
use super::*;
use crate::options::Moves;

#[tokio::test]
async fn a_password_goes_with_each_request() {
    let (server, from, notes) = (Server::with_auth(Auth::Basic), place(), Notes::default());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image");
    push(&client_of(&server, &notes), &from, &digest, &name).await.unwrap();
    assert_eq!(notes.text(), format!("logging in to {} as user, from the template", server.address));

    let error = push(&client(), &from, &digest, &name).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { username: None, .. }), "{error:?}");
    assert!(error.hints()[0].contains("docker login"));

    let wrong = ClientOptions { explicit: vec![login(&server, "user", "wrong-password")], ..options(&notes) };
    let wrong = Client::new(wrong);
    server.forget();
    let error = push(&wrong, &from, &digest, &name).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Denied { username: Some(name), .. } if name == "user"), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong-password"));
    // The blobs of the image are tried side by side, and none twice.
    assert!(server.asked().len() <= 3, "{:?}", server.asked());
}

#[tokio::test]
async fn a_stumble_over_a_right_password_is_overcome() {
    let (server, from) = (Server::with_auth(Auth::Basic), place());
    let digest = from.image(&[b"layer"]);
    server.fault(1, "PUT", "/manifests/", || Rule::Say(answer(401).with("www-authenticate", "Basic realm=\"test\"")));
    push(&client_of(&server, &Notes::default()), &from, &digest, &reference(&server, "image")).await.unwrap();
}

#[tokio::test]
async fn parallel_blobs_share_one_token() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let layers: Vec<Vec<u8>> = (0..12u8).map(|number| vec![number; 1000]).collect();
    let layers: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let digest = from.image(&layers);
    let client = client_of(&server, &Notes::default());
    push(&client, &from, &digest, &reference(&server, "a/image")).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 1);
    // Not the scope that the challenge asks for.
    assert_eq!(server.count("GET", "/token?service=test&scope=repository%3Aa%2Fimage%3Apull%2Cpush&account=user"), 1);
    assert_eq!(server.count("GET", "/v2/"), 1);
    pull(&client, &place(), &reference(&server, "a/image")).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 2);
}

#[tokio::test]
async fn a_token_that_became_invalid_is_replaced_once() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image");
    let client = client_of(&server, &Notes::default());
    push(&client, &from, &digest, &name).await.unwrap();
    server.state().tokens.clear();
    push(&client, &from, &digest, &name).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 2);

    // A 401 amid an upload.
    let other = from.image(&[&vec![1; 2_000_000]]);
    server.fault(1, "PUT", "/blobs/uploads/", || Rule::Say(answer(401)));
    push(&client, &from, &other, &name).await.unwrap();
    assert_eq!(server.count("GET", "/token"), 3);
}

#[tokio::test]
async fn a_new_token_that_is_refused_is_final_and_what_it_lacks_is_named() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    server.state().withheld = vec!["push"];
    let digest = from.image(&[b"layer"]);
    let client = client_of(&server, &Notes::default());
    let error = push(&client, &from, &digest, &reference(&server, "group/image")).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("its token does not give `push` on group/image"), "{text}");
    assert!(error.hints()[0].contains("user"), "{:?}", error.hints());
    assert!(!error.is_environment());
    let refused = server.state().log.iter().filter(|request| request.is("POST", "group/image")).count();
    assert!(refused <= 2, "one try for each of the two blobs");
}

#[tokio::test]
async fn the_realm_is_not_asked_again_after_it_refused() {
    let (server, from, notes) = (Server::with_auth(Auth::Token), place(), Notes::default());
    let digest = from.image(&[b"a", b"b", b"c", b"d"]);
    let name = reference(&server, "image");
    push(&client_of(&server, &Notes::default()), &from, &digest, &name).await.unwrap();

    let wrong = ClientOptions { explicit: vec![login(&server, "user", "wrong-password")], ..options(&notes) };
    let wrong = Client::new(wrong);
    server.forget();
    let error = push(&wrong, &from, &digest, &name).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("access denied"), "{error}");
    assert_eq!(server.count("GET", "/token"), 1);
    assert!(push(&wrong, &from, &digest, &name).await.is_err());
    assert_eq!(server.count("GET", "/token"), 1);

    // A pull goes on without, and says so.
    pull(&wrong, &place(), &name).await.unwrap();
    let shown = notes.text();
    assert!(shown.contains("is asked without a login"), "{shown}");
    assert_eq!(server.count("GET", "/token"), 2);
}

#[tokio::test]
async fn without_a_login_one_pulls_and_does_not_push() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image");
    push(&client_of(&server, &Notes::default()), &from, &digest, &name).await.unwrap();
    pull(&client(), &place(), &name).await.unwrap();
    let error = push(&client(), &from, &digest, &reference(&server, "other")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { username: None, .. }), "{error:?}");
}

#[tokio::test]
async fn an_identity_token_is_posted_and_stands_for_a_password_elsewhere() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let digest = from.image(&[b"layer"]);
    let identity = Credentials {
        username: "user".into(),
        identity_token: Some(Secret::new("password")),
        ..Credentials::default()
    };
    let options = ClientOptions { explicit: vec![(server.address.clone(), identity)], ..options(&Notes::default()) };
    push(&Client::new(options), &from, &digest, &reference(&server, "image")).await.unwrap();
    // This realm, as GitLab's, does not know POST.
    assert_eq!((server.count("POST", "/token"), server.count("GET", "/token")), (1, 1));
    let posted = server.state().log.iter().find(|request| request.is("POST", "/token")).unwrap().body.clone();
    let posted = String::from_utf8(posted).unwrap();
    assert_eq!(
        posted,
        "grant_type=refresh_token&client_id=kiln&refresh_token=password&scope=repository%3Aimage%3Apull%2Cpush&service=test"
    );
}

#[tokio::test]
async fn a_layer_is_taken_over_with_both_scopes_or_uploaded() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let digest = from.image(&[b"layer"]);
    let client = client_of(&server, &Notes::default());
    push(&client, &from, &digest, &reference(&server, "one")).await.unwrap();
    let options = PushOptions { mount_from: vec![reference(&server, "one")], jobs: 1 };
    let to = [reference(&server, "two")];
    let pushed = client.push(&from.layout, &digest, &to, &options, no_progress()).await.unwrap();
    assert_eq!(pushed.blobs, Moves { moved: 0, mounted: 2, present: 0 });
    assert_eq!(server.count("GET", "scope=repository%3Aone%3Apull&scope=repository%3Atwo%3Apull%2Cpush"), 1);
    server.rule(|request| if request.path.contains("mount=") { Rule::Say(answer(401)) } else { Rule::Pass });
    let to = [reference(&server, "three")];
    let pushed = client.push(&from.layout, &digest, &to, &options, no_progress()).await.unwrap();
    assert_eq!(pushed.blobs, Moves { moved: 2, mounted: 0, present: 0 });
}

#[tokio::test]
async fn a_login_stays_with_its_registry() {
    let (server, storage, from) = (Server::with_auth(Auth::Token), Server::start(), place());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image");
    let client = client_of(&server, &Notes::default());
    push(&client, &from, &digest, &name).await.unwrap();
    push(&self::client(), &from, &digest, &reference(&storage, "image")).await.unwrap();
    storage.forget();
    let elsewhere = storage.address.clone();
    server.rule(move |request| match request.is("GET", "/blobs/") {
        true => Rule::Say(answer(307).with("location", format!("http://{elsewhere}{}?signature=s3cret", request.path))),
        false => Rule::Pass,
    });
    pull(&client, &place(), &name).await.unwrap();
    assert_eq!(storage.count("GET", "/blobs/"), 2);
    assert!(storage.state().log.iter().all(|request| request.header("authorization").is_none()));

    // Where the storage refuses, a new address is fetched; the old one is shown to nobody.
    let mut refused = false;
    storage.rule(move |_| if std::mem::replace(&mut refused, true) { Rule::Pass } else { Rule::Say(answer(403)) });
    let notes = Notes::default();
    pull(&client_of(&server, &notes), &place(), &name).await.unwrap();
    assert!(!notes.text().contains("s3cret") && notes.text().contains("answers 403"), "{}", notes.text());
}

#[tokio::test]
async fn an_upload_that_leads_elsewhere_takes_no_login_along() {
    let (server, storage, from) = (Server::with_auth(Auth::Basic), Server::start(), place());
    let digest = from.image(&[b"layer"]);
    let elsewhere = storage.address.clone();
    server.rule(move |request| match request.is("POST", "/blobs/uploads/") {
        true => Rule::Say(answer(202).with("location", format!("http://{elsewhere}/upload"))),
        false => Rule::Pass,
    });
    storage.rule(|request| if request.path == "/v2/" { Rule::Pass } else { Rule::Say(answer(201)) });
    push(&client_of(&server, &Notes::default()), &from, &digest, &reference(&server, "image")).await.unwrap();
    assert_eq!(storage.count("PUT", "/upload?digest=sha256"), 2);
    assert!(storage.state().log.iter().all(|request| request.header("authorization").is_none()));
}

#[tokio::test]
async fn what_a_registry_repeats_of_a_login_is_masked() {
    let (server, from) = (Server::with_auth(Auth::Token), place());
    let digest = from.image(&[b"layer"]);
    server.rule(|request| match request.is("PUT", "/manifests/") {
        true => Rule::Say(answer(403).body(format!("your {} may not", request.header("authorization").unwrap()))),
        false => Rule::Pass,
    });
    let error =
        push(&client_of(&server, &Notes::default()), &from, &digest, &reference(&server, "image")).await.unwrap_err();
    assert!(error.to_string().ends_with("your Bearer <sensitive> may not"), "{error}");
}
