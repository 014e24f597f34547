//! Tags: listing, adding, removing.

use std::sync::Arc;

use bytes::Bytes;
use kiln_image::Digest;
use kiln_image::layout::DOCUMENT_LIMIT;
use reqwest::Method;
use reqwest::header::LINK;
use serde_json::{Value, json};
use url::Url;

use super::body::{Feed, Meter, Source};
use super::exchange::{Answer, Call, Target, next_address, read_document, words};
use super::manifest::{Content, DOCKER_MANIFEST, Manifest};
use super::pull::wanted;
use super::repository::Repository;
use super::retry::{Attempts, Fault};
use super::shared::Shared;
use super::token::Scope;
use super::upload::Job;
use crate::error::RegistryError;
use crate::options::no_progress;
use crate::reference::Reference;

/// Some registries give no more at once.
const PAGE: usize = 1000;
/// A list that does not end is a mistake of the registry.
const MOST_TAGS: usize = 1_000_000;

impl Repository {
    /// All tags, page by page.
    pub(crate) async fn list_tags(&self) -> Result<Vec<String>, RegistryError> {
        let mut tags = Vec::new();
        let mut target = Target::Path(format!("tags/list?n={PAGE}"));
        let mut is_first = true;
        while tags.len() < MOST_TAGS {
            let call = Call::new(Method::GET, target, Scope::pull(&self.path), format!("GET {}/tags", self.path));
            let (page, next) = match self.page(&call).await {
                // Some registries do not know `n`.
                Err(RegistryError::NotFound { .. }) if is_first => {
                    let call = Call { target: Target::Path("tags/list".to_owned()), ..call };
                    self.page(&call).await?
                }
                page => page?,
            };
            is_first = false;
            let Some(next) = next.filter(|_| !page.is_empty()) else {
                tags.extend(page);
                return Ok(tags);
            };
            // It gives the same page again.
            if page.last() == tags.last() {
                break;
            }
            tags.extend(page);
            target = Target::Url(next);
        }
        Err(self.refused(&format!("GET {}/tags", self.path), "its list of tags does not end"))
    }

    async fn page(&self, call: &Call) -> Result<(Vec<String>, Option<Url>), RegistryError> {
        let mut attempts = Attempts::default();
        loop {
            match self.page_once(call).await {
                Ok(page) => return Ok(page),
                Err(fault) => self.pause(&mut attempts, &call.action, fault).await?,
            }
        }
    }

    async fn page_once(&self, call: &Call) -> Result<(Vec<String>, Option<Url>), Fault> {
        let answer = self.once(call).await?;
        if !answer.is_success() {
            return Err(self.unexpected(call, answer).await.into());
        }
        let next = next_page(&answer, |url| self.shared.may_be_plain(url));
        let document = read_document(answer.response, DOCUMENT_LIMIT, &self.shared).await?;
        let malformed = |problem: &str| RegistryError::Malformed {
            registry: self.endpoint.registry.clone(),
            what: format!("the list of tags of {}", self.path),
            problem: problem.to_owned(),
        };
        let document = document.ok_or_else(|| malformed("it is too long"))?;
        let document: Value = serde_json::from_slice(&document).map_err(|_| malformed("it is not JSON"))?;
        let tags = match document.get("tags") {
            Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            // Of a repository without tags.
            Some(Value::Null) => Vec::new(),
            _ => return Err(malformed("it has no `tags`").into()),
        };
        Ok((tags, next))
    }

    /// Removes a tag. Manifests are never deleted: other tags may name them.
    pub(crate) async fn untag(&self, tag: &str) -> Result<(), RegistryError> {
        let call = self.deletion(tag);
        let answer = self.send(&call).await?;
        match answer.status() {
            // Some say so of the request, not of the tag, or do nothing and say it was done.
            200..=299 | 404 if !self.has_tag(tag).await? => return Ok(()),
            200..=299 | 400 | 404 | 405 | 501 => {}
            _ => return Err(self.unexpected(&call, answer).await),
        }
        self.untag_by_stand_in(tag).await
    }

    /// For registries that delete by digest only: a manifest that nothing else can name takes the tag's place, and is deleted
    /// with it.
    async fn untag_by_stand_in(&self, tag: &str) -> Result<(), RegistryError> {
        let scope = Scope::pull(&self.path);
        let Some(original) = self.get_manifest(tag, scope).await? else { return Ok(()) };
        self.check_deletion(tag).await?;
        let config = Bytes::from_static(b"{}");
        let job = Job {
            digest: Digest::of(&config),
            size: config.len() as u64,
            source: Arc::new(BytesSource(config.clone())),
            mount_from: Vec::new(),
            progress: no_progress(),
        };
        self.push_blob(&job).await?;
        let action = format!("DELETE {}", self.name_of(tag));
        let document = stand_in(&original, &job).to_string();
        let stand_in = Manifest::read(document.into(), None).map_err(|problem| self.refused(&action, problem))?;
        self.put_manifest(&stand_in, tag).await?;
        let call = self.deletion(stand_in.digest.as_str());
        let outcome = match self.send(&call).await {
            Ok(answer) if answer.is_success() || answer.status() == 404 => Ok(()),
            Ok(answer) => Err(self.unexpected(&call, answer).await),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) if !self.has_tag(tag).await? => Ok(()),
            outcome => {
                // The tag must not stay on something that is no image.
                self.put_manifest(&original, tag).await?;
                Err(outcome
                    .err()
                    .unwrap_or_else(|| self.refused(&action, "the tag is still there after it was removed")))
            }
        }
    }

    /// Asks to delete what nobody has: where that is not known at all, the tag is better left alone.
    async fn check_deletion(&self, tag: &str) -> Result<(), RegistryError> {
        let nothing = Digest::of(uuid::Uuid::new_v4().as_bytes());
        let answer = self.send(&self.deletion(nothing.as_str())).await?;
        match answer.status() {
            405 | 501 => Err(self.unexpected(&self.deletion(tag), answer).await),
            400 if words(answer.response, &[]).await.contains("UNSUPPORTED") => {
                Err(self.refused(&self.deletion(tag).action, "it does not delete anything (UNSUPPORTED)"))
            }
            _ => Ok(()),
        }
    }

    fn deletion(&self, name: &str) -> Call {
        let action = format!("DELETE {}", self.name_of(name));
        Call::new(Method::DELETE, Target::Path(format!("manifests/{name}")), Scope::delete(&self.path), action)
    }

    async fn has_tag(&self, tag: &str) -> Result<bool, RegistryError> {
        Ok(self.head_manifest(tag, Scope::pull(&self.path)).await?.is_some())
    }

    /// Puts further tags on what a name means, byte for byte.
    async fn retag(&self, name: &str, tags: &[String]) -> Result<Digest, RegistryError> {
        let found = self.get_manifest(name, Scope::push(&self.path)).await?;
        let not_found =
            |name: &str| RegistryError::NotFound { what: format!("{}/{}", self.endpoint.registry, self.name_of(name)) };
        let manifest = found.ok_or_else(|| not_found(name))?;
        if let Content::Index(children) = &manifest.content {
            for child in children {
                let head = self.head_manifest(child.digest.as_str(), Scope::push(&self.path)).await?;
                head.ok_or_else(|| not_found(child.digest.as_str()))?;
            }
        }
        for tag in tags {
            self.put_manifest(&manifest, tag).await?;
        }
        Ok(manifest.digest)
    }
}

impl Shared {
    pub(crate) async fn retag(
        self: &Arc<Shared>,
        reference: &Reference,
        tags: &[String],
    ) -> Result<Digest, RegistryError> {
        let repository = self.repository(reference);
        if let Some(wrong) = tags.iter().find(|tag| reference.with_tag(tag).is_err()) {
            return Err(repository.refused(&format!("PUT {}", repository.path), format!("`{wrong}` is not a tag")));
        }
        repository.retag(wanted(reference), tags).await
    }
}

/// What can take a tag's place for a moment. Of the same type: zuul-registry keeps what a tag means once for each type.
fn stand_in(original: &Manifest, config: &Job) -> Value {
    let own = uuid::Uuid::new_v4().to_string();
    let common = json!({"schemaVersion": 2, "mediaType": original.media_type, "annotations": {"kiln.stand-in": own}});
    let mut document = common;
    match original.content {
        Content::Index(_) => document["manifests"] = json!([]),
        Content::Image(_) => {
            let media_type = match original.media_type.as_str() {
                DOCKER_MANIFEST => "application/vnd.docker.container.image.v1+json",
                _ => "application/vnd.oci.empty.v1+json",
            };
            document["config"] = json!({"mediaType": media_type, "digest": config.digest, "size": config.size});
            document["layers"] = json!([]);
        }
    }
    document
}

/// Where the list goes on: `Link: </v2/NAME/tags/list?last=b&n=2>; rel="next"`.
fn next_page(answer: &Answer, may_be_plain: impl Fn(&Url) -> bool) -> Option<Url> {
    let links = answer.response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.filter_map(next_link).find_map(|link| next_address(&answer.url, link, &may_be_plain).ok())
}

fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (link, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or(after);
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let parameter = parameter.trim().to_ascii_lowercase();
            parameter
                .strip_prefix("rel=")
                .is_some_and(|value| value.trim_matches('"').split(' ').any(|rel| rel == "next"))
        });
        if is_next {
            return Some(link);
        }
        rest = after;
    }
    None
}

/// A small blob in memory.
struct BytesSource(Bytes);

#[async_trait::async_trait]
impl Source for BytesSource {
    async fn open(&self, _from: u64, length: u64, meter: Arc<Meter>) -> Result<Feed, Fault> {
        let (sender, feed) = Feed::new(Some(length), meter);
        // There is room for one piece; nobody else has the sender.
        let _ = sender.try_send(Ok(self.0.clone()));
        Ok(feed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        for (header, link) in [
            (r#"</v2/a/tags/list?last=b&n=2>; rel="next""#, Some("/v2/a/tags/list?last=b&n=2")),
            (r#"<https://r/x?a=1,2>; rel=next"#, Some("https://r/x?a=1,2")),
            (r#"<a>; rel="prev", <b>; title="x"; rel="last next""#, Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), link, "{header}");
        }
    }
}
