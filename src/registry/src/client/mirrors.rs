//! Where an image may come from.

use std::sync::Arc;

use super::repository::Repository;
use super::shared::Shared;
use crate::options::Mirror;
use crate::reference::{DOCKER_HUB, Reference, normalize_registry};

/// One of the places that may have an image.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) repository: Repository,
    pub(crate) is_mirror: bool,
    /// Whether the next is asked when this one fails.
    pub(crate) may_fail: bool,
}

/// The mirrors of a reference's registry, in order, and the registry itself.
pub(crate) fn candidates(shared: &Arc<Shared>, reference: &Reference) -> Vec<Candidate> {
    let of_registry = |mirror: &&Mirror| match mirror.registry.as_str() {
        // It mirrors all others, not itself.
        "*" => place(mirror, reference).0 != reference.registry,
        registry => normalize_registry(registry) == reference.registry,
    };
    let mut candidates: Vec<Candidate> = shared
        .options
        .mirrors
        .iter()
        .filter(of_registry)
        .map(|mirror| {
            let (host, path) = place(mirror, reference);
            let repository = Repository::new(shared.clone(), shared.endpoint(&host), path);
            Candidate { repository, is_mirror: true, may_fail: mirror.fallback }
        })
        .collect();
    candidates.push(Candidate { repository: shared.repository(reference), is_mirror: false, may_fail: false });
    candidates
}

/// Host and repository of an image in a mirror.
fn place(mirror: &Mirror, reference: &Reference) -> (String, String) {
    let bare = mirror.location.split_once("://").map_or(mirror.location.as_str(), |(_, rest)| rest);
    let (host, prefix) = bare.trim_end_matches('/').split_once('/').unwrap_or((bare.trim_end_matches('/'), ""));
    let mut parts = Vec::new();
    if !prefix.is_empty() {
        parts.push(prefix);
    }
    if reference.registry != DOCKER_HUB {
        parts.push(&reference.registry);
    }
    parts.push(&reference.repository);
    (normalize_registry(host), parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_docker_hub_have_no_namespace_in_a_mirror() {
        let at = |location: &str, reference: &str| {
            let mirror = Mirror { registry: "*".into(), location: location.into(), fallback: false };
            let (host, path) = place(&mirror, &Reference::parse(reference).unwrap());
            format!("{host} {path}")
        };
        assert_eq!(at("127.0.0.1:5000", "debian"), "127.0.0.1:5000 library/debian");
        assert_eq!(at("127.0.0.1:5000/", "quay.io/group/image"), "127.0.0.1:5000 quay.io/group/image");
        assert_eq!(at("https://mirror.example.org/cache", "group/image"), "mirror.example.org cache/group/image");
    }
}
