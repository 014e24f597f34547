//! Whole images.

use super::server::{Answer, Rule, Server, answer};
use super::*;
use kiln_core::Platform;

use crate::options::{Mirror, Moves};

#[tokio::test]
async fn what_is_pushed_comes_back_and_is_not_moved_twice() {
    let (server, from, to) = (Server::start(), place(), place());
    let large = vec![7; 3_000_000];
    let digest = from.image(&[b"one", &large, b""]);
    let name = reference(&server, "group/image:1");
    let pushed = push(&client(), &from, &digest, &name).await.unwrap();
    assert_eq!(pushed.blobs, Moves { moved: 4, mounted: 0, present: 0 });
    assert_eq!(pushed.digest, digest);

    let pulled = pull(&client(), &to, &name).await.unwrap();
    assert_eq!(pulled.manifest, digest);
    assert_eq!(pulled.from, format!("{}/group/image", server.address));
    assert!(to.layout.has(&Digest::of(&large)));
    assert_eq!(to.layout.document(&digest).unwrap(), from.layout.document(&digest).unwrap());

    server.forget();
    let again = push(&client(), &from, &digest, &name).await.unwrap();
    assert_eq!(again.blobs, Moves { moved: 0, mounted: 0, present: 4 });
    assert_eq!(again.moved, 0);
    assert_eq!(server.count("POST", ""), 0);
    server.forget();
    assert_eq!(pull(&client(), &to, &name).await.unwrap().moved, 0);
    assert_eq!(server.asked(), ["HEAD /v2/group/image/manifests/1"]);
}

#[tokio::test]
async fn a_digest_counts_and_not_the_tag_beside_it() {
    let (server, from) = (Server::start(), place());
    let (old, new) = (from.image(&[b"old"]), from.image(&[b"new"]));
    let name = reference(&server, "image:1");
    push(&client(), &from, &old, &name).await.unwrap();
    let pinned = Reference { digest: Some(old.to_string()), ..name.clone() };
    assert_eq!(pull(&client(), &place(), &pinned).await.unwrap().manifest, old);
    push(&client(), &from, &new, &name).await.unwrap();
    assert_eq!(pull(&client(), &place(), &pinned).await.unwrap().manifest, old);
    assert_eq!(client().resolve(&pinned).await.unwrap().digest, old);
}

#[tokio::test]
async fn an_index_is_pushed_with_its_images_and_pulled_for_a_platform_or_whole() {
    let (server, from) = (Server::start(), place());
    let index = from.index(&["amd64", "arm64"]);
    let name = reference(&server, "image");
    push(&client(), &from, &index, &name).await.unwrap();

    let to = place();
    let platform = Platform::parse("linux/arm64");
    let options = PullOptions { platform, ..PullOptions::default() };
    let pulled = client().pull(&name, &to.layout, &options, no_progress()).await.unwrap();
    assert_eq!(pulled.index, Some(index.clone()));
    assert!(to.layout.has(&Digest::of(b"arm64")) && !to.layout.has(&Digest::of(b"amd64")));

    let to = place();
    let options = PullOptions { platform: None, ..PullOptions::default() };
    let pulled = client().pull(&name, &to.layout, &options, no_progress()).await.unwrap();
    assert_eq!(pulled.manifest, index);
    assert!(to.layout.has(&Digest::of(b"arm64")) && to.layout.has(&Digest::of(b"amd64")));

    let platform = Platform::parse("linux/s390x");
    let options = PullOptions { platform, ..PullOptions::default() };
    let error = client().pull(&name, &place().layout, &options, no_progress()).await.unwrap_err();
    assert!(error.to_string().ends_with("no image for linux/s390x; it has linux/amd64, linux/arm64"), "{error}");
}

/// A registry decides what its indexes name.
#[tokio::test]
async fn indexes_that_never_end_are_refused() {
    let (server, from) = (Server::start(), place());
    let mut index = from.index(&["amd64"]);
    let name = reference(&server, "image");
    let mut ok = 0;
    for level in 0..6 {
        let pushed = push(&client(), &from, &index, &name).await;
        match pushed {
            Ok(_) => ok += 1,
            Err(error) => assert!(error.to_string().contains("deep"), "{error}"),
        }
        let size = from.layout.document(&index).unwrap().len();
        let child = descriptor(INDEX, &index, size);
        let document = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child], "level": level});
        index = from.layout.put_document(document.to_string().as_bytes()).unwrap();
    }
    assert_eq!(ok, 4);
    // A registry that makes up another one for each that is asked for.
    let levels = from.layout.clone();
    server.rule(move |request| match request.path.rsplit_once("/manifests/") {
        Some((_, name)) => match Digest::parse(name).ok().and_then(|digest| levels.document(&digest).ok()) {
            Some(document) => Rule::Say(answer(200).with("content-type", INDEX).body(document)),
            None => {
                let document = levels.document(&index).unwrap();
                let digest = index.to_string();
                Rule::Say(answer(200).with("content-type", INDEX).with("docker-content-digest", digest).body(document))
            }
        },
        None => Rule::Pass,
    });
    let options = PullOptions { platform: None, ..PullOptions::default() };
    let error = client().pull(&name, &place().layout, &options, no_progress()).await.unwrap_err();
    assert!(shown(error).contains("more than 4 deep"));
}

#[tokio::test]
async fn layers_are_taken_over_from_a_repository_beside() {
    let (server, from) = (Server::start(), place());
    let digest = from.image(&[b"base"]);
    push(&client(), &from, &digest, &reference(&server, "base")).await.unwrap();
    server.forget();
    let child = from.image(&[b"base", b"own"]);
    let options = PushOptions { mount_from: vec![reference(&server, "base")], jobs: 1 };
    let targets = [reference(&server, "child"), reference(&server, "other:1"), reference(&server, "other:2")];
    let pushed = client().push(&from.layout, &child, &targets, &options, no_progress()).await.unwrap();
    assert_eq!(pushed.blobs, Moves { moved: 1, mounted: 5, present: 0 });
    // What the other repository does not have goes on in the upload that the registry opened.
    assert_eq!(server.count("POST", "/v2/child/blobs/uploads/?mount"), 3);
    assert_eq!(server.count("POST", "/v2/child/"), 3);

    server.state().no_mount = true;
    let targets = [reference(&server, "third"), reference(&server, "fourth")];
    let pushed =
        client().push(&from.layout, &child, &targets, &PushOptions { jobs: 1, ..options }, no_progress()).await;
    assert_eq!(pushed.unwrap().blobs, Moves { moved: 6, mounted: 0, present: 0 });
    // Asked once, it is not asked again.
    assert_eq!(
        server.count("POST", "third/blobs/uploads/?mount") + server.count("POST", "fourth/blobs/uploads/?mount"),
        1
    );
}

#[tokio::test]
async fn a_copy_goes_from_registry_to_registry() {
    let (one, two, from) = (Server::start(), Server::start(), place());
    let index = from.index(&["amd64", "arm64"]);
    push(&client(), &from, &index, &reference(&one, "image")).await.unwrap();
    let targets = [reference(&two, "copy:1"), reference(&one, "beside")];
    let copied =
        client().copy(&reference(&one, "image"), &targets, &PushOptions::default(), no_progress()).await.unwrap();
    assert_eq!(copied.blobs, Moves { moved: 4, mounted: 4, present: 0 });
    let to = place();
    assert_eq!(pull(&client(), &to, &reference(&two, "copy:1")).await.unwrap().index, Some(index));
}

#[tokio::test]
async fn an_upload_streams_while_it_is_made() {
    let server = Server::start();
    let mut upload = client().start_upload(&reference(&server, "image")).await.unwrap();
    let mut all = Vec::new();
    for number in 0..40u8 {
        let piece = vec![number; 100_000];
        all.extend_from_slice(&piece);
        upload.write(piece.into()).await.unwrap();
    }
    let digest = Digest::of(&all);
    upload.finish(&digest).await.unwrap();
    assert_eq!(server.state().blobs[&("image".to_owned(), digest.to_string())], all);

    let upload = client().start_upload(&reference(&server, "image")).await.unwrap();
    let error = upload.finish(&Digest::of(b"other")).await.unwrap_err();
    assert!(error.to_string().contains("digest mismatch"), "{error}");
    client().start_upload(&reference(&server, "image")).await.unwrap().abort().await;
    assert_eq!(server.count("DELETE", "/blobs/uploads/"), 1);
}

#[tokio::test]
async fn an_upload_that_breaks_says_so() {
    let server = Server::start();
    server.fault(1, "PATCH", "", || Rule::Say(answer(503)));
    let mut upload = client().start_upload(&reference(&server, "image")).await.unwrap();
    let error = loop {
        if let Err(error) = upload.write(vec![0; 1_000_000].into()).await {
            break error;
        }
    };
    assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
}

fn mirrored(server: &Server, fallback: bool, notes: &Notes) -> Client {
    // The loopback address of the "upstream" is a name of its own, so that it is another registry.
    let mirror = Mirror { registry: "*".into(), location: server.address.clone(), fallback };
    Client::new(hasty(ClientOptions { mirrors: vec![mirror], ..options(notes) }))
}

#[tokio::test]
async fn a_mirror_is_asked_first_and_passed_over_only_as_the_rules_say() {
    let (mirror, upstream, from, notes) = (Server::start(), Server::start(), place(), Notes::default());
    let digest = from.image(&[b"layer"]);
    let name = reference(&upstream, "group/image:1");
    push(&client(), &from, &digest, &name).await.unwrap();

    // Not there: the next.
    let strict = mirrored(&mirror, false, &notes);
    assert_eq!(pull(&strict, &place(), &name).await.unwrap().from, format!("{}/group/image", upstream.address));
    let namespaced = format!("HEAD /v2/{}/group/image/manifests/1", upstream.address);
    assert_eq!(mirror.asked()[0], namespaced);
    assert!(notes.text().contains(&format!("does not come from {}", mirror.address)), "{}", notes.text());

    // There.
    let in_mirror = reference(&mirror, "image");
    let in_mirror = Reference { repository: format!("{}/group/image", upstream.address), ..in_mirror };
    let in_mirror = in_mirror.with_tag("1").unwrap();
    push(&client(), &from, &digest, &in_mirror).await.unwrap();
    assert!(pull(&strict, &place(), &name).await.unwrap().from.starts_with(&mirror.address));

    // Broken: an error, unless it was said that it may be passed over.
    mirror.rule(|request| if request.path == "/v2/" { Rule::Pass } else { Rule::Say(answer(500)) });
    let error = pull(&strict, &place(), &name).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Unavailable { registry, .. } if *registry == mirror.address), "{error:?}");
    let lenient = mirrored(&mirror, true, &notes);
    assert!(pull(&lenient, &place(), &name).await.unwrap().from.starts_with(&upstream.address));
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_is_not_kept() {
    let (server, from, to) = (Server::start(), place(), place());
    let digest = from.image(&[b"layer"]);
    let name = reference(&server, "image");
    push(&client(), &from, &digest, &name).await.unwrap();
    let layer = Digest::of(b"layer");
    server.state().blobs.insert(("image".to_owned(), layer.to_string()), b"layes".to_vec());
    let error = pull(&client(), &to, &name).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Damaged { wanted, .. } if *wanted == layer), "{error:?}");
    assert_eq!(server.count("GET", layer.as_str()), 2);
    assert!(!to.layout.has(&layer) && !to.layout.has(&digest));
    server.state().blobs.insert(("image".to_owned(), layer.to_string()), b"layer and more".to_vec());
    let error = shown(pull(&client(), &to, &name).await.unwrap_err());
    assert!(error.contains("14 bytes instead of 5"), "{error}");

    // The manifest itself.
    server.rule(move |request| match request.is("GET", "/manifests/") {
        true => Rule::Say(Answer { body: b"{}".to_vec(), ..answer(200) }),
        false => Rule::Pass,
    });
    let name = Reference { digest: Some(digest.to_string()), ..name };
    let error = pull(&client(), &place(), &name).await.unwrap_err();
    assert!(matches!(error, RegistryError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_document_without_end_is_not_read_to_its_end() {
    let server = Server::start();
    server.rule(|request| match request.is("GET", "/manifests/") {
        true => Rule::Say(Answer { body: vec![b' '; 5 << 20], ..answer(200) }),
        false if request.is("HEAD", "/manifests/") => Rule::Say(answer(405)),
        false => Rule::Pass,
    });
    let error = client().resolve(&reference(&server, "image")).await.unwrap_err();
    assert!(error.to_string().contains("larger than 4 MiB"), "{error}");
}

#[tokio::test]
async fn what_is_not_there_is_named_in_full() {
    let server = Server::start();
    let error = pull(&client(), &place(), &reference(&server, "image")).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}/image:latest does not exist", server.address));
    let digest = place().image(&[b"layer"]);
    assert!(push(&client(), &place(), &digest, &reference(&server, "image")).await.is_err());
}
