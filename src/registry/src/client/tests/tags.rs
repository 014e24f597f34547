//! Tags.

use super::server::{Auth, Rule, Server, answer};
use super::*;

async fn tagged(server: &Server, tags: &[&str]) -> Digest {
    let from = place();
    let digest = from.image(&[b"layer"]);
    for tag in tags {
        push(&client_of(server, &Notes::default()), &from, &digest, &reference(server, &format!("image:{tag}")))
            .await
            .unwrap();
    }
    digest
}

#[tokio::test]
async fn all_pages_are_read() {
    let server = Server::start();
    tagged(&server, &["a", "b", "c", "d", "e"]).await;
    let name = reference(&server, "image");
    assert_eq!(client().tags(&name).await.unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(server.count("GET", "/tags/list"), 3);
    server.state().no_paging = true;
    assert_eq!(client().tags(&name).await.unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(client().tags(&reference(&server, "none")).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_tag_goes_and_the_others_stay() {
    for no_tag_delete in [false, true] {
        let server = Server::with_auth(Auth::Token);
        let digest = tagged(&server, &["a", "b", "c"]).await;
        server.state().no_tag_delete = no_tag_delete;
        let client = client_of(&server, &Notes::default());
        let name = reference(&server, "image:b");
        client.untag(&name).await.unwrap();
        assert_eq!(client.tags(&name).await.unwrap(), ["a", "c"], "{no_tag_delete}");
        let rest = reference(&server, "image:c");
        assert_eq!(client.resolve(&rest).await.unwrap().digest, digest);
        let by_digest = Reference { digest: Some(digest.to_string()), ..name.clone() };
        client.resolve(&by_digest).await.unwrap();
        client.untag(&name).await.unwrap();
    }
}

#[tokio::test]
async fn a_tag_that_cannot_go_means_what_it_meant() {
    let server = Server::start();
    let digest = tagged(&server, &["a", "b"]).await;
    server.state().no_delete = true;
    let name = reference(&server, "image:b");
    let error = client().untag(&name).await.unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }), "{error:?}");
    assert_eq!(client().resolve(&name).await.unwrap().digest, digest);
}

#[tokio::test]
async fn a_further_tag_has_the_same_bytes() {
    let (server, from) = (Server::start(), place());
    let index = from.index(&["amd64", "arm64"]);
    let name = reference(&server, "image:tested");
    push(&client(), &from, &index, &name).await.unwrap();
    server.forget();
    let digest = client().retag(&name, &["latest".to_owned(), "v1".to_owned()]).await.unwrap();
    assert_eq!(digest, index);
    assert_eq!(server.count("", "/blobs/"), 0);
    assert_eq!(server.count("GET", "/manifests/"), 1);
    assert_eq!(client().resolve(&reference(&server, "image:v1")).await.unwrap().digest, index);

    assert!(client().retag(&name, &["no tag".to_owned()]).await.is_err());
    let child = from.image_for("arm64", &[b"arm64"]);
    server.state().manifests.remove(&("image".to_owned(), child.to_string()));
    let error = client().retag(&name, &["broken".to_owned()]).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}/image@{child} does not exist", server.address));
    assert_eq!(server.count("PUT", "broken"), 0);
}

/// Whatever tags share an image or an index, and in whatever order they go: the others mean what they meant.
#[tokio::test]
async fn removing_a_tag_never_changes_another() {
    const TAGS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let from = place();
    let images = [from.image(&[b"one"]), from.image(&[b"two"]), from.index(&["amd64", "arm64"])];
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for round in 0..8 {
        let server = Server::with_auth(Auth::Token);
        server.state().no_tag_delete = round % 2 == 1;
        let client = client_of(&server, &Notes::default());
        let mut meant = std::collections::BTreeMap::new();
        for _ in 0..20 {
            let tag = TAGS[next(TAGS.len())];
            let name = reference(&server, &format!("image:{tag}"));
            if next(2) == 0 {
                let image = &images[next(images.len())];
                push(&client, &from, image, &name).await.unwrap();
                meant.insert(tag, image.clone());
            } else {
                client.untag(&name).await.unwrap();
                meant.remove(tag);
            }
            let state = server.state();
            let found: std::collections::BTreeMap<&str, Digest> = state
                .manifests
                .iter()
                .filter(|((_, name), _)| !name.contains(':'))
                .map(|((_, name), (_, bytes))| (name.as_str(), Digest::of(bytes)))
                .collect();
            assert_eq!(found, meant, "round {round}");
            // An image that has lost its last tag is still there for who knows its digest.
            for image in meant.values() {
                assert!(state.manifests.contains_key(&("image".to_owned(), image.to_string())));
            }
        }
    }
}

/// Where nothing can be deleted, a tag is not touched at all.
#[tokio::test]
async fn a_tag_does_not_lead_elsewhere_for_a_moment_in_vain() {
    let server = Server::start();
    tagged(&server, &["a"]).await;
    server.state().no_delete = true;
    server.forget();
    client().untag(&reference(&server, "image:a")).await.unwrap_err();
    assert_eq!(server.count("PUT", ""), 0);
}

#[tokio::test]
async fn a_missing_right_to_delete_is_named() {
    let server = Server::with_auth(Auth::Token);
    let digest = tagged(&server, &["a"]).await;
    server.state().withheld = vec!["delete"];
    let name = reference(&server, "image:a");
    let error = client_of(&server, &Notes::default()).untag(&name).await.unwrap_err();
    assert!(error.to_string().contains("its token does not give `delete` on image"), "{error}");
    assert_eq!(client().resolve(&name).await.unwrap().digest, digest);
}

#[tokio::test]
async fn a_list_that_does_not_end_is_left() {
    let server = Server::start();
    server.rule(|request| match request.is("GET", "/tags/list") {
        true => Rule::Say(
            answer(200)
                .with("link", r#"</v2/image/tags/list?last=b>; rel="next""#)
                .body(r#"{"name":"image","tags":["a","b"]}"#),
        ),
        false => Rule::Pass,
    });
    let error = client().tags(&reference(&server, "image")).await.unwrap_err();
    assert!(error.to_string().contains("does not end"), "{error}");
    assert_eq!(server.count("GET", "/tags/list"), 2);
}

#[tokio::test]
async fn a_list_that_goes_on_elsewhere_takes_no_login_along() {
    let (server, other) = (Server::with_auth(Auth::Basic), Server::start());
    let elsewhere = other.address.clone();
    server.rule(move |request| match request.is("GET", "/tags/list") {
        true => Rule::Say(
            answer(200)
                .with("link", format!(r#"<http://{elsewhere}/v2/image/tags/list>; rel="next""#))
                .body(r#"{"name":"image","tags":["a"]}"#),
        ),
        false => Rule::Pass,
    });
    other.rule(|_| Rule::Say(answer(200).body(r#"{"name":"image","tags":["b"]}"#)));
    let tags = client_of(&server, &Notes::default()).tags(&reference(&server, "image")).await.unwrap();
    assert_eq!(tags, ["a", "b"]);
    assert!(other.state().log.iter().all(|request| request.header("authorization").is_none()));
}
