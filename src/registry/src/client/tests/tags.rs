//! Tags.

use super::server::{Auth, Server};
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
