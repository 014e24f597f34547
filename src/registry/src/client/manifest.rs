//! Manifests and indexes: their bytes, and what they name.

use std::collections::BTreeMap;

use bytes::Bytes;
use kiln_core::Platform;
use kiln_image::Digest;
use kiln_image::layout::DOCUMENT_LIMIT;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use super::body::Payload;
use super::exchange::{Answer, Call, Target, read_document};
use super::repository::Repository;
use super::retry::{Attempts, Fault};
use super::token::Scope;
use crate::error::RegistryError;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// All of them, always: registries that are asked for less rewrite what they have, or say that it is not there.
const KNOWN: [&str; 4] = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST];

/// A manifest or an index: the bytes count, the rest is what they say.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) content: Content,
}

/// What a manifest names.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// An image: its config and its layers.
    Image(Vec<Part>),
    /// An index: its images, or further indexes.
    Index(Vec<Child>),
}

/// A blob of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Part {
    /// It lies elsewhere, and registries do not take it.
    pub(crate) fn is_foreign(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// An entry of an index.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Child {
    pub(crate) digest: Digest,
    #[serde(default)]
    platform: Option<Runs>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Runs {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Part>,
    #[serde(default)]
    layers: Option<Vec<Part>>,
    #[serde(default)]
    manifests: Option<Vec<Child>>,
}

impl Manifest {
    /// Reads the bytes. What the document itself says of its type goes before what it was sent as.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(bytes: Bytes, sent_as: Option<&str>) -> Result<Manifest, String> {
        let document: Document = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if document.schema_version != 2 {
            return Err(format!("its schema version is {}; only 2 is known", document.schema_version));
        }
        let known = |media_type: Option<&str>| media_type.filter(|text| KNOWN.contains(text)).map(str::to_owned);
        let said = known(document.media_type.as_deref()).or_else(|| known(sent_as));
        let (content, usual) = match (document.manifests, document.config, document.layers) {
            (Some(children), None, None) => (Content::Index(children), OCI_INDEX),
            (None, Some(config), layers) => {
                (Content::Image([config].into_iter().chain(layers.unwrap_or_default()).collect()), OCI_MANIFEST)
            }
            _ => return Err("it is neither an image's manifest nor an index".to_owned()),
        };
        let media_type = said.unwrap_or_else(|| usual.to_owned());
        let is_index = matches!(content, Content::Index(_));
        if is_index != matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST) {
            return Err(format!("it is not the {media_type} it says it is"));
        }
        let digest = Digest::of(&bytes);
        Ok(Manifest { bytes, media_type, digest, content })
    }
}

impl Child {
    fn platform(&self) -> Option<Platform> {
        // Signatures and build records travel in the index, too, and run nowhere.
        let is_record = self.annotations.as_ref().is_some_and(|map| map.contains_key("vnd.docker.reference.type"));
        let runs = self.platform.as_ref().filter(|runs| !is_record && runs.os != "unknown" && !runs.os.is_empty())?;
        let variant = runs.variant.clone().filter(|variant| !variant.is_empty());
        Some(Platform { os: runs.os.clone(), architecture: runs.architecture.clone(), variant })
    }
}

/// The image of an index that runs on a platform; if there is none, what there is.
pub(crate) fn choose<'a>(children: &'a [Child], wanted: &Platform) -> Result<&'a Child, String> {
    let rank = |child: &&Child| {
        let platform = child.platform()?;
        if platform.os != wanted.os || platform.architecture != wanted.architecture {
            return None;
        }
        let level = |variant: &Option<String>| {
            variant.as_deref().and_then(|text| text.trim_start_matches('v').parse::<u32>().ok())
        };
        // What is not written is the least that all processors of the kind can do.
        let least = |variant: &Option<String>| match (wanted.architecture.as_str(), level(variant)) {
            (_, Some(level)) => level,
            ("arm64", None) => 8,
            ("arm", None) => 6,
            _ => 1,
        };
        let (own, limit) = (least(&platform.variant), least(&wanted.variant));
        (own <= limit).then_some(own)
    };
    let mut best: Option<(u32, &Child)> = None;
    for child in children {
        if let Some(rank) = rank(&child)
            && best.is_none_or(|(known, _)| rank > known)
        {
            best = Some((rank, child));
        }
    }
    best.map(|(_, child)| child).ok_or_else(|| {
        let names: Vec<String> =
            children.iter().filter_map(Child::platform).map(|platform| platform.to_string()).collect();
        if names.is_empty() { "none for any platform".to_owned() } else { names.join(", ") }
    })
}

/// What a registry says of a manifest without sending it.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) size: u64,
}

fn digest_header(answer: &Answer) -> Option<Digest> {
    answer.header("docker-content-digest").and_then(|text| Digest::parse(text).ok())
}

fn media_type_header(answer: &Answer) -> Option<String> {
    let value = answer.header(CONTENT_TYPE)?;
    Some(value.split(';').next().unwrap_or(value).trim().to_owned())
}

impl Repository {
    /// How messages name an image of this repository.
    pub(crate) fn name_of(&self, name: &str) -> String {
        let separator = if name.contains(':') { '@' } else { ':' };
        format!("{}{separator}{name}", self.path)
    }

    fn manifest_call(&self, method: Method, name: &str, scope: Scope) -> Call {
        let action = format!("{method} {}", self.name_of(name));
        let call = Call::new(method, Target::Path(format!("manifests/{name}")), scope, action);
        KNOWN.iter().fold(call, |call, media_type| call.header(ACCEPT, HeaderValue::from_static(media_type)))
    }

    /// Asks for a manifest without fetching it. `None`: it is not there.
    pub(crate) async fn head_manifest(&self, name: &str, scope: Scope) -> Result<Option<Head>, RegistryError> {
        let call = self.manifest_call(Method::HEAD, name, scope.clone());
        let answer = self.send(&call).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let size = answer.header("content-length").and_then(|text| text.parse().ok());
        if let (true, Some(digest), Some(media_type), Some(size)) =
            (answer.is_success(), digest_header(&answer), media_type_header(&answer), size)
        {
            if let Some(wanted) = Digest::parse(name).ok().filter(|wanted| *wanted != digest) {
                return Err(self.other(wanted, &digest));
            }
            return Ok(Some(Head { digest, media_type, size }));
        }
        // Not all of it is told, or the registry does not know how to.
        let manifest = self.get_manifest(name, scope).await?;
        Ok(manifest.map(|manifest| Head {
            digest: manifest.digest,
            media_type: manifest.media_type,
            size: manifest.bytes.len() as u64,
        }))
    }

    /// Fetches a manifest by tag or digest. `None`: it is not there.
    pub(crate) async fn get_manifest(&self, name: &str, scope: Scope) -> Result<Option<Manifest>, RegistryError> {
        let call = self.manifest_call(Method::GET, name, scope);
        let mut attempts = Attempts::default();
        loop {
            match self.get_manifest_once(&call, name).await {
                Ok(manifest) => return Ok(manifest),
                Err(fault) => self.pause(&mut attempts, &call.action, fault).await?,
            }
        }
    }

    async fn get_manifest_once(&self, call: &Call, name: &str) -> Result<Option<Manifest>, Fault> {
        let answer = self.once(call).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        if !answer.is_success() {
            return Err(self.unexpected(call, answer).await.into());
        }
        let media_type = media_type_header(&answer);
        let said = digest_header(&answer);
        let malformed = |problem: String| RegistryError::Malformed {
            registry: self.endpoint.registry.clone(),
            what: format!("the manifest of {}", self.name_of(name)),
            problem,
        };
        let Some(bytes) = read_document(answer.response, DOCUMENT_LIMIT, &self.shared).await? else {
            return Err(malformed(format!("it is larger than {} MiB", DOCUMENT_LIMIT >> 20)).into());
        };
        let found = Digest::of(&bytes);
        let wanted = if name.contains(':') { Some(Digest::parse(name).map_err(RegistryError::from)?) } else { said };
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(self.other(wanted, &found).into());
        }
        Manifest::read(bytes, media_type.as_deref()).map(Some).map_err(|problem| malformed(problem).into())
    }

    fn other(&self, wanted: Digest, found: &Digest) -> RegistryError {
        let source = format!("its digest is {found}").into();
        RegistryError::Damaged { registry: self.endpoint.registry.clone(), wanted, source }
    }

    /// Puts a manifest under a tag or its digest, byte for byte.
    pub(crate) async fn put_manifest(&self, manifest: &Manifest, name: &str) -> Result<(), RegistryError> {
        let scope = Scope::push(&self.path);
        let action = format!("PUT {}", self.name_of(name));
        let media_type = HeaderValue::try_from(&manifest.media_type)
            .map_err(|_| self.refused(&action, format!("`{}` is no media type", manifest.media_type)))?;
        let call = Call::new(Method::PUT, Target::Path(format!("manifests/{name}")), scope.clone(), action)
            .header(CONTENT_TYPE, media_type)
            .payload(Payload::Bytes(manifest.bytes.clone()));
        let mut attempts = Attempts::default();
        loop {
            match self.put_manifest_once(&call, manifest).await {
                Ok(()) => return Ok(()),
                Err(fault) => self.pause(&mut attempts, &call.action, fault).await?,
            }
            // It may have arrived, and only the answer was lost.
            let head = self.manifest_call(Method::HEAD, name, scope.clone());
            match self.once(&head).await {
                Ok(answer) if answer.is_success() && digest_header(&answer).as_ref() == Some(&manifest.digest) => {
                    return Ok(());
                }
                Err(Fault::Again(again)) => attempts.idled(&again),
                _ => {}
            }
        }
    }

    async fn put_manifest_once(&self, call: &Call, manifest: &Manifest) -> Result<(), Fault> {
        let answer = self.once(call).await?;
        if !answer.is_success() {
            return Err(self.unexpected(call, answer).await.into());
        }
        match digest_header(&answer) {
            Some(found) if found != manifest.digest => {
                let reason = format!("it stored {found} instead of {}", manifest.digest);
                Err(self.refused(&call.action, reason).into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(number: u8, platform: &str) -> Child {
        let platform = Platform::parse(platform).unwrap();
        let runs = Runs { os: platform.os, architecture: platform.architecture, variant: platform.variant };
        Child { digest: Digest::of(&[number]), platform: Some(runs), annotations: None }
    }

    fn chosen(platforms: &[&str], wanted: &str) -> Result<usize, String> {
        let children: Vec<Child> =
            platforms.iter().enumerate().map(|(number, platform)| child(number as u8, platform)).collect();
        let digest = choose(&children, &Platform::parse(wanted).unwrap())?.digest.clone();
        Ok(children.iter().position(|child| child.digest == digest).unwrap())
    }

    #[test]
    fn the_best_image_that_runs_is_chosen() {
        let all = ["linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "linux/amd64", "windows/amd64", "linux/arm/v6"];
        assert_eq!(chosen(&all, "linux/amd64"), Ok(3));
        assert_eq!(chosen(&all, "windows/amd64"), Ok(4));
        assert_eq!(chosen(&all, "linux/arm64"), Ok(2));
        assert_eq!(chosen(&all, "linux/arm/v7"), Ok(1));
        assert_eq!(chosen(&all, "linux/arm"), Ok(5));
        assert_eq!(chosen(&["linux/amd64/v3", "linux/amd64"], "linux/amd64"), Ok(1));
        assert_eq!(chosen(&["linux/amd64", "linux/amd64/v3"], "linux/amd64/v3"), Ok(1));
        assert_eq!(chosen(&["linux/arm64"], "linux/arm64/v8"), Ok(0));
        assert_eq!(chosen(&["linux/amd64", "linux/amd64"], "linux/amd64"), Ok(0));
        assert_eq!(chosen(&["linux/s390x", "linux/arm/v7"], "linux/amd64").unwrap_err(), "linux/s390x, linux/arm/v7");
    }

    #[test]
    fn records_in_an_index_run_nowhere() {
        let mut record = child(1, "linux/amd64");
        record.annotations = Some([("vnd.docker.reference.type".to_owned(), "attestation-manifest".to_owned())].into());
        let children = [record, child(2, "unknown/unknown"), child(3, "linux/amd64")];
        assert_eq!(choose(&children, &Platform::parse("linux/amd64").unwrap()).unwrap().digest, Digest::of(&[3]));
    }

    #[test]
    fn a_type_is_that_of_the_document() {
        let digest = Digest::of(b"");
        let image = format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":0}},"layers":[]}}"#);
        let read = |text: &str, sent_as| Manifest::read(Bytes::copy_from_slice(text.as_bytes()), sent_as);
        assert_eq!(read(&image, None).unwrap().media_type, OCI_MANIFEST);
        assert_eq!(read(&image, Some(DOCKER_MANIFEST)).unwrap().media_type, DOCKER_MANIFEST);
        assert_eq!(read(&image, Some("text/plain")).unwrap().media_type, OCI_MANIFEST);
        let typed = image.replacen('{', &format!(r#"{{"mediaType":"{DOCKER_MANIFEST}","#), 1);
        assert_eq!(read(&typed, Some(OCI_MANIFEST)).unwrap().media_type, DOCKER_MANIFEST);
        assert!(read(&image, Some(OCI_INDEX)).unwrap_err().contains("not the"));
        for wrong in ["", "{}", "[]", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2}"#] {
            assert!(read(wrong, None).is_err(), "{wrong}");
        }
    }
}
