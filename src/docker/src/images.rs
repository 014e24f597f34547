//! Images: the calls behind [`crate::Engine`] that concern them.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::body_try_stream;
use bollard::models;
use bollard::query_parameters::{
    BuildImageOptions, CreateImageOptions, ImportImageOptions, ListImagesOptions, PushImageOptions, RemoveImageOptions,
    TagImageOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use kiln_registry::{Credentials, normalize_registry};
use kiln_transport::tar::Packing;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use crate::client::{BollardEngine, checked_reference, docker_credentials, failed, seconds_of};
use crate::context;
use crate::engine::{
    BuildRequest, ImageFilter, ImageInfo, ImportOptions, ListedImage, OnLine, OnProgress, Pushed, TransferProgress,
};
use crate::error::EngineError;

/// Size of the pieces a file is sent in, in bytes.
const CHUNK: usize = 1024 * 1024;

/// How often images are listed while the engine misses some of them.
const LIST_ATTEMPTS: u32 = 10;

/// The first pause between two tries; each is longer by as much.
const LIST_PAUSE: Duration = Duration::from_millis(20);

/// Repository and tag; the tag is absent for a digest and for a bare name.
fn split_tag(reference: &str) -> (&str, Option<&str>) {
    let start = reference.rfind('/').map_or(0, |slash| slash + 1);
    match reference[start..].split_once(':') {
        Some(_) if reference.contains('@') => (reference, None),
        Some((name, tag)) => (&reference[..start + name.len()], Some(tag)),
        None => (reference, None),
    }
}

fn registry_of(reference: &str) -> String {
    let first = reference.split('/').next().unwrap_or_default();
    let is_host = reference.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    normalize_registry(if is_host { first } else { "" })
}

fn progress(id: Option<String>, status: Option<String>, detail: Option<models::ProgressDetail>) -> TransferProgress {
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let (current, total) = detail.map_or((None, None), |detail| (number(detail.current), number(detail.total)));
    TransferProgress {
        item: id.unwrap_or_default(),
        status: status.unwrap_or_default(),
        current: current.unwrap_or(0),
        total: total.filter(|total| *total > 0),
    }
}

pub(crate) fn image_info(image: models::ImageInspect) -> ImageInfo {
    let config = image.config.unwrap_or_default();
    ImageInfo {
        id: whole_id(image.id.unwrap_or_default()),
        tags: image.repo_tags.unwrap_or_default(),
        digests: image.repo_digests.unwrap_or_default(),
        user: config.user.clone().unwrap_or_default(),
        entrypoint: config.entrypoint.clone(),
        command: config.cmd.clone(),
        working_dir: config.working_dir.clone().unwrap_or_default(),
        volumes: config.volumes.clone().unwrap_or_default(),
        environment: config.env.clone().unwrap_or_default(),
        labels: config.labels.clone().unwrap_or_default().into_iter().collect(),
        os: image.os.unwrap_or_default(),
        architecture: image.architecture.unwrap_or_default(),
        comment: image.comment.unwrap_or_default(),
        created: image.created.as_deref().and_then(seconds_of),
        layers: image.root_fs.and_then(|root| root.layers).unwrap_or_default(),
        config,
    }
}

/// An image's id as Docker writes it: podman leaves `sha256:` out here and there.
pub(crate) fn whole_id(id: String) -> String {
    let is_bare = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_bare { format!("sha256:{id}") } else { id }
}

/// Streams to a file, which is made, or emptied where the caller reserved it; an incomplete file does not stay.
pub(crate) async fn write_stream(
    mut stream: impl Stream<Item = Result<Bytes, bollard::errors::Error>> + Unpin,
    to: &Path,
    failed: impl Fn(bollard::errors::Error) -> EngineError,
) -> Result<u64, EngineError> {
    let local = |source| EngineError::Local { action: "write", path: to.to_path_buf(), source };
    // Refused by the engine: no file is made at all.
    let mut next = stream.try_next().await.map_err(&failed)?;
    let file = tokio::fs::OpenOptions::new().write(true).create(true).truncate(true).open(to).await.map_err(local)?;
    let mut guard = RemoveOnDrop(Some(to));
    let mut file = tokio::io::BufWriter::with_capacity(CHUNK, file);
    let mut size = 0;
    while let Some(chunk) = next {
        size += chunk.len() as u64;
        file.write_all(&chunk).await.map_err(local)?;
        next = stream.try_next().await.map_err(&failed)?;
    }
    file.flush().await.map_err(local)?;
    file.into_inner().sync_all().await.map_err(local)?;
    guard.0 = None;
    Ok(size)
}

struct RemoveOnDrop<'a>(Option<&'a Path>);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // What cannot be removed here was reported as an error of writing already.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl BollardEngine {
    pub(crate) async fn inspect_image_call(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        let reference = checked_reference(reference)?;
        let action = format!("inspect {reference}");
        match self.short().await?.inspect_image(reference).await.map_err(failed(&action, reference)) {
            Ok(image) => Ok(Some(image_info(image))),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn tag_call(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let image = checked_reference(image)?;
        let options = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(tag.to_owned()) };
        let (action, what) = (format!("tag {repository}:{tag}"), format!("image {image}"));
        self.short().await?.tag_image(image, Some(options)).await.map_err(failed(&action, &what))
    }

    pub(crate) async fn remove_image_call(
        &self,
        reference: &str,
        options: RemoveImageOptions,
    ) -> Result<bool, EngineError> {
        let reference = checked_reference(reference)?;
        let action = format!("remove image {reference}");
        let removed = self.unbounded().await?.remove_image(reference, Some(options), None).await;
        match removed.map_err(failed(&action, reference)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn push_call(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<Pushed, EngineError> {
        let reference = checked_reference(reference)?;
        let (name, tag) = split_tag(reference);
        let options = PushImageOptions {
            tag: Some(tag.unwrap_or("latest").to_owned()),
            platform: platform.map(platform_json).transpose()?,
        };
        let credentials = credentials.map(|found| docker_credentials(found, &registry_of(reference)));
        let (action, what) = (format!("push {reference}"), format!("image {reference}"));
        let failed = failed(&action, &what);
        let mut stream = self.unbounded().await?.push_image(name, Some(options), credentials);
        let mut pushed = Pushed::default();
        while let Some(info) = stream.try_next().await.map_err(&failed)? {
            // bollard drops the field `aux`; the last line's words bear the digest too.
            if let Some(digest) = info.status.as_deref().and_then(digest_in) {
                pushed.digest = Some(digest.to_owned());
            }
            on_progress(progress(None, info.status, info.progress_detail));
        }
        Ok(pushed)
    }

    pub(crate) async fn pull_call(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let reference = checked_reference(reference)?;
        let (name, tag) = split_tag(reference);
        let tag = tag.or_else(|| (!reference.contains('@')).then_some("latest"));
        let options = CreateImageOptions {
            from_image: Some(name.to_owned()),
            tag: tag.map(str::to_owned),
            platform: platform.unwrap_or_default().to_owned(),
            ..CreateImageOptions::default()
        };
        let credentials = credentials.map(|found| docker_credentials(found, &registry_of(reference)));
        let (action, what) = (format!("pull {reference}"), format!("image {reference}"));
        let failed = failed(&action, &what);
        let mut stream = self.unbounded().await?.create_image(Some(options), None, credentials);
        while let Some(info) = stream.try_next().await.map_err(&failed)? {
            on_progress(progress(info.id, info.status, info.progress_detail));
        }
        Ok(())
    }

    pub(crate) async fn save_call(&self, references: &[String], to: &Path) -> Result<(), EngineError> {
        let names = references.iter().map(|name| checked_reference(name)).collect::<Result<Vec<_>, _>>()?;
        let what = format!("image {}", names.join(", "));
        let action = format!("save {}", names.join(", "));
        let stream = self.unbounded().await?.export_images(&names);
        write_stream(stream, to, failed(&action, &what)).await.map(drop)
    }

    pub(crate) async fn load_call(&self, archive: &Path) -> Result<Vec<String>, EngineError> {
        let file = tokio::fs::File::open(archive).await;
        let file = file.map_err(|source| EngineError::Local { action: "read", path: archive.to_path_buf(), source })?;
        let body = body_try_stream(ReaderStream::with_capacity(file, CHUNK));
        let action = format!("load {}", archive.display());
        let failed = failed(&action, "the archive");
        let options = ImportImageOptions { quiet: true, ..ImportImageOptions::default() };
        let mut stream = Box::pin(self.unbounded().await?.import_image(options, body, None));
        let mut loaded = Vec::new();
        while let Some(info) = stream.try_next().await.map_err(&failed)? {
            loaded.extend(info.stream.as_deref().and_then(loaded_id).map(str::to_owned));
        }
        Ok(loaded)
    }

    pub(crate) async fn import_call(&self, tar: &Path, options: &ImportOptions) -> Result<String, EngineError> {
        let file = tokio::fs::File::open(tar).await;
        let file = file.map_err(|source| EngineError::Local { action: "read", path: tar.to_path_buf(), source })?;
        let query = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: options.repository.clone(),
            tag: options.tag.clone(),
            changes: options.changes.clone(),
            platform: options.platform.clone().unwrap_or_default(),
            ..CreateImageOptions::default()
        };
        let body = body_try_stream(ReaderStream::with_capacity(file, CHUNK));
        let action = format!("import {}", tar.display());
        let failed = failed(&action, "image");
        let mut stream = self.unbounded().await?.create_image(Some(query), Some(body), None);
        let mut id = None;
        while let Some(info) = stream.try_next().await.map_err(&failed)? {
            id = info.status.map(whole_id).filter(|status| status.starts_with("sha256:")).or(id);
        }
        id.ok_or_else(|| EngineError::Refused {
            action: action.clone(),
            message: "the engine named no image".to_owned(),
            status: None,
        })
    }

    pub(crate) async fn build_call(&self, request: &BuildRequest, on_line: OnLine<'_>) -> Result<String, EngineError> {
        let context = context::pack_context(request).await?;
        let logins = request.credentials.iter();
        let logins: HashMap<_, _> =
            logins.map(|(registry, found)| (registry.clone(), docker_credentials(found, registry))).collect();
        let options = BuildImageOptions {
            dockerfile: context.dockerfile.clone(),
            buildargs: Some(request.arguments.clone().into_iter().collect()),
            labels: Some(request.labels.clone().into_iter().collect()),
            pull: request.pull.then(|| "1".to_owned()),
            platform: request.platform.clone().unwrap_or_default(),
            target: request.target.clone().unwrap_or_default(),
            nocache: request.no_cache,
            networkmode: request.network.clone(),
            cachefrom: (!request.cache_from.is_empty()).then(|| request.cache_from.clone()),
            extrahosts: request.extra_host.clone(),
            shmsize: request.shm_size.and_then(|size| i32::try_from(size).ok()),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        let action = format!("build {}", request.dockerfile.display());
        let failed = failed(&action, "the Dockerfile");
        let Packing { stream, outcome } = context.packing;
        let docker = self.unbounded().await?;
        let mut lines = Box::pin(docker.build_image(options, Some(logins), Some(body_try_stream(stream))));
        let (mut id, mut result) = (None, Ok(()));
        while let Some(item) = lines.next().await {
            match item {
                Ok(info) => {
                    id = info.aux.and_then(|aux| aux.id).map(whole_id).or(id);
                    let text = info.stream.or(info.status).unwrap_or_default();
                    text.lines().map(str::trim_end).filter(|line| !line.is_empty()).for_each(on_line);
                }
                Err(error) => {
                    result = Err(failed(error));
                    break;
                }
            }
        }
        drop(lines);
        context::check_outcome(outcome, result).await?;
        id.ok_or_else(|| EngineError::Refused {
            action: action.clone(),
            message: "the engine named no image".to_owned(),
            status: None,
        })
    }

    /// Lists images. Containerd's image store does not find what another build removes meanwhile, and is asked again then.
    async fn list(&self, options: ListImagesOptions) -> Result<Vec<models::ImageSummary>, EngineError> {
        let docker = self.short().await?;
        let ask = || async { docker.list_images(Some(options.clone())).await.map_err(failed("list images", "image")) };
        for attempt in 1..LIST_ATTEMPTS {
            match ask().await {
                Err(error) if error.is_not_found() => tokio::time::sleep(LIST_PAUSE * attempt).await,
                answer => return answer,
            }
        }
        ask().await
    }

    pub(crate) async fn labelled_images_call(&self, label: &str) -> Result<Vec<ListedImage>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        // Also those that others were made from.
        let options = ListImagesOptions { all: true, filters: Some(filters), ..ListImagesOptions::default() };
        let images = self.list(options).await?;
        let listed = |image: models::ImageSummary| ListedImage {
            id: whole_id(image.id),
            labels: image.labels.into_iter().collect(),
            created: image.created,
        };
        Ok(images.into_iter().map(listed).collect())
    }

    pub(crate) async fn registry_digest_call(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        match self.ask_registry(reference, credentials).await {
            // Engines that know no such call, and registries that have no such image: a pull tells more.
            Err(error) if error.is_not_found() => Ok(None),
            asked => asked,
        }
    }

    pub(crate) async fn registry_has_call(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        match self.ask_registry(reference, credentials).await {
            // Others answer 404 where they do not know the call.
            Err(error) if error.is_not_found() && is_of_registry(&error) => Ok(None),
            asked => asked,
        }
    }

    async fn ask_registry(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        let reference = checked_reference(reference)?;
        let credentials = credentials.map(|found| docker_credentials(found, &registry_of(reference)));
        let action = format!("ask the registry for {reference}");
        let found = self.short().await?.inspect_registry_image(reference, credentials).await;
        Ok(found.map_err(failed(&action, reference))?.descriptor.digest)
    }

    /// Whether the last entry of an image's history holds a text.
    async fn is_created_by(&self, id: &str, text: &str) -> Result<bool, EngineError> {
        match self.short().await?.image_history(id).await.map_err(failed("read an image's history", id)) {
            Ok(history) => Ok(history.first().is_some_and(|entry| entry.created_by.contains(text))),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn find_images_call(&self, filter: &ImageFilter) -> Result<Vec<String>, EngineError> {
        let labels: Vec<String> = filter.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut filters = HashMap::new();
        if !labels.is_empty() {
            filters.insert("label".to_owned(), labels);
        }
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let images = self.list(options).await?;
        let mut found = Vec::new();
        for image in images {
            let fits = filter.parent.as_ref().is_none_or(|parent| image.parent_id == *parent)
                && filter.created_since.is_none_or(|since| image.created >= since);
            if !fits {
                continue;
            }
            if let Some(comment) = &filter.comment {
                let info = self.inspect_image_call(&image.id).await?;
                if info.is_none_or(|info| info.comment != *comment) {
                    continue;
                }
            }
            if let Some(text) = &filter.created_by
                && !self.is_created_by(&image.id, text).await?
            {
                continue;
            }
            found.push(whole_id(image.id));
        }
        Ok(found)
    }
}

/// Whether "not found" comes from the registry, as the engine passes it on.
fn is_of_registry(error: &EngineError) -> bool {
    let (EngineError::NotFound { message, .. } | EngineError::Refused { message, .. }) = error else { return false };
    let message = message.to_lowercase();
    ["manifest unknown", "manifest_unknown", "name unknown", "name_unknown", "tag_invalid", "not found: "]
        .iter()
        .any(|words| message.contains(words))
}

/// The id of an image without a name, of which the engine tells that it was loaded.
fn loaded_id(line: &str) -> Option<&str> {
    let line = line.trim();
    // The second is podman's.
    line.strip_prefix("Loaded image ID: ")
        .or_else(|| line.strip_prefix("Loaded image: ").filter(|it| it.starts_with("sha256:")))
}

fn digest_in(status: &str) -> Option<&str> {
    let rest = &status[status.find("digest: sha256:")? + "digest: ".len()..];
    rest.split_whitespace().next()
}

/// `linux/arm64/v8` as the JSON object that a push takes (API 1.46 and later; older engines do not look at it).
fn platform_json(platform: &str) -> Result<String, EngineError> {
    let mut parts = platform.split('/');
    let (os, architecture, variant) = (parts.next(), parts.next(), parts.next());
    let (Some(os), Some(architecture)) = (os, architecture) else {
        return Err(EngineError::Refused {
            action: format!("read the platform `{platform}`"),
            message: "it is not of the form os/architecture".to_owned(),
            status: None,
        });
    };
    let mut object = serde_json::json!({ "os": os, "architecture": architecture });
    if let Some(variant) = variant {
        object["variant"] = variant.into();
    }
    Ok(object.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncBufReadExt;

    use super::*;

    #[test]
    fn references_split_where_the_engine_wants_it() {
        assert_eq!(split_tag("debian:bookworm"), ("debian", Some("bookworm")));
        assert_eq!(split_tag("host:5000/a/b"), ("host:5000/a/b", None));
        assert_eq!(split_tag("host:5000/a:1"), ("host:5000/a", Some("1")));
        let digest = "a@sha256:0123";
        assert_eq!(split_tag(digest), (digest, None));
        assert_eq!(registry_of("debian"), "docker.io");
        assert_eq!(registry_of("group/app"), "docker.io");
        assert_eq!(registry_of("host:5000/a"), "host:5000");
    }

    /// An engine that misses an image at the first listing: what containerd's store answers while another build removes one.
    async fn missing_once(listener: tokio::net::UnixListener) {
        let mut listings = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = tokio::io::BufReader::new(stream);
            let mut head = String::new();
            while stream.read_line(&mut head).await.unwrap() > 2 {}
            let is_listing = head.contains("/images/json");
            listings += u32::from(is_listing);
            let (status, body) = match (is_listing, listings) {
                (true, 1) => ("404 Not Found", r#"{"message":"content digest sha256:ab: not found"}"#),
                (true, _) => ("200 OK", "[]"),
                _ => ("200 OK", r#"{"ApiVersion":"1.45","Version":"26.1.5"}"#),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
            stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_listing_that_misses_an_image_is_asked_for_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("engine.sock");
        tokio::spawn(missing_once(tokio::net::UnixListener::bind(&socket).unwrap()));
        let address = format!("unix://{}", socket.display());
        let engine = BollardEngine::connect(Some(&address), &std::collections::BTreeMap::new()).unwrap();
        assert_eq!(engine.find_images_call(&ImageFilter::default()).await.unwrap(), Vec::<String>::new());
    }

    #[test]
    fn only_images_without_names_are_loaded_by_their_ids() {
        assert_eq!(loaded_id("Loaded image ID: sha256:abc\n"), Some("sha256:abc"));
        assert_eq!(loaded_id("Loaded image: sha256:abc\n"), Some("sha256:abc"));
        assert_eq!(loaded_id("Loaded image: app:1\n"), None);
    }

    #[test]
    fn the_digest_stands_in_the_last_words_of_a_push() {
        assert_eq!(digest_in("v1: digest: sha256:abc size: 528"), Some("sha256:abc"));
        assert_eq!(digest_in("Pushed"), None);
        assert_eq!(platform_json("linux/arm/v7").unwrap(), r#"{"os":"linux","architecture":"arm","variant":"v7"}"#);
        assert!(platform_json("linux").is_err());
    }
}
