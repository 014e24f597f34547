//! How the fake answers each call.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use kiln_core::{Command, OutputSink, Stream, Terminal};
use kiln_registry::Credentials;

use super::{FakeEngine, PUSHED_DIGEST, missing, now, with_tag};
use crate::engine::{
    BuildRequest, ByteStream, CommitSpec, ContainerInfo, ContainerSpec, Created, Engine, EngineError, EngineVersion,
    ImageFilter, ImageInfo, ImportOptions, ListedImage, NetworkInfo, NetworkSpec, OnLine, OnProgress, PathStat, Pushed,
    TransferProgress,
};

fn suffix(platform: Option<&str>, credentials: Option<&Credentials>) -> String {
    let platform = platform.map(|platform| format!(" for {platform}")).unwrap_or_default();
    let credentials = credentials.map(|found| format!(" as {}", found.username)).unwrap_or_default();
    format!("{platform}{credentials}")
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), EngineError> {
    std::fs::write(path, content).map_err(|source| EngineError::Local {
        action: "write",
        path: path.to_path_buf(),
        source,
    })
}

async fn drain(mut stream: ByteStream) -> Result<Vec<u8>, EngineError> {
    let mut content = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk
            .map_err(|source| EngineError::Connection { action: "read a stream".into(), source: source.into() })?;
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

#[async_trait]
impl Engine for FakeEngine {
    fn address(&self) -> &str {
        "fake://engine"
    }

    async fn version(&self) -> Result<EngineVersion, EngineError> {
        drop(self.call("version".into())?);
        Ok(EngineVersion {
            version: "20.10.24".into(),
            api: "1.41".into(),
            os: "linux".into(),
            architecture: "amd64".into(),
        })
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        let state = self.call(format!("inspect_image {reference}"))?;
        Ok(state.image(reference).map(|index| state.images[index].clone()))
    }

    async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        let mut state = self.call(format!("tag {image} {repository} {tag}"))?;
        let index = state.image(image).ok_or_else(|| missing("image", image))?;
        state.name(index, format!("{repository}:{tag}"));
        Ok(())
    }

    async fn remove_image(&self, reference: &str, force: bool) -> Result<bool, EngineError> {
        let force = if force { " force" } else { "" };
        let mut state = self.call(format!("remove_image {reference}{force}"))?;
        let Some(index) = state.image(reference) else { return Ok(false) };
        let name = with_tag(reference);
        state.images[index].tags.retain(|tag| *tag != name);
        if state.images[index].tags.is_empty() || state.images[index].id == reference {
            state.images.remove(index);
        }
        Ok(true)
    }

    async fn remove_image_alone(&self, id: &str) -> Result<bool, EngineError> {
        let mut state = self.call(format!("remove_image_alone {id}"))?;
        if state.containers.iter().any(|(container, _)| container.image == id) {
            let message = "image is being used by a container".to_owned();
            return Err(EngineError::Refused { action: format!("remove image {id}"), message, status: Some(409) });
        }
        let index = state.image(id);
        Ok(index.map(|index| state.images.remove(index)).is_some())
    }

    async fn push(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<Pushed, EngineError> {
        let mut state = self.call(format!("push {reference}{}", suffix(platform, credentials)))?;
        let index = state.image(reference).ok_or_else(|| missing("image", reference))?;
        on_progress(TransferProgress {
            item: "0a1b2c3d4e5f".into(),
            status: "Pushed".into(),
            current: 10,
            total: Some(10),
        });
        let repository = reference.rsplit_once(':').map_or(reference, |(repository, _)| repository);
        state.images[index].digests.push(format!("{repository}@{PUSHED_DIGEST}"));
        Ok(Pushed { digest: Some(PUSHED_DIGEST.to_owned()) })
    }

    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        let mut state = self.call(format!("pull {reference}{}", suffix(platform, credentials)))?;
        let name = with_tag(reference);
        let Some(mut image) = state.remote.get(&name).cloned() else { return Err(missing("image", reference)) };
        on_progress(TransferProgress {
            item: "0a1b2c3d4e5f".into(),
            status: "Downloading".into(),
            current: 5,
            total: Some(10),
        });
        if image.id.is_empty() {
            image.id = format!("sha256:{}", state.next_id());
        }
        state.images.push(image);
        let index = state.images.len() - 1;
        state.name(index, name);
        Ok(())
    }

    async fn save(&self, references: &[String], to: &Path) -> Result<(), EngineError> {
        let state = self.call(format!("save {} {}", references.join(" "), to.display()))?;
        if let Some(unknown) = references.iter().find(|reference| state.image(reference).is_none()) {
            return Err(missing("image", unknown));
        }
        match references {
            [only] if state.archives.contains_key(only) => write_file(to, &state.archives[only]),
            _ => write_file(to, references.join("\n").as_bytes()),
        }
    }

    async fn load(&self, archive: &Path) -> Result<Vec<String>, EngineError> {
        self.call(format!("load {}", archive.display())).map(|_| Vec::new())
    }

    async fn import(&self, tar: &Path, options: &ImportOptions) -> Result<String, EngineError> {
        let name = match (&options.repository, &options.tag) {
            (Some(repository), tag) => format!("{repository}:{}", tag.as_deref().unwrap_or("latest")),
            _ => String::new(),
        };
        let changes: String = options.changes.iter().map(|change| format!(" [{change}]")).collect();
        let line = format!("import {} {name}{changes}{}", tar.display(), suffix(options.platform.as_deref(), None));
        drop(self.call(line)?);
        if !tar.exists() {
            return Err(EngineError::Local {
                action: "read",
                path: tar.to_path_buf(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        Ok(self.add_image(&name))
    }

    async fn build_image(&self, request: &BuildRequest, on_line: OnLine<'_>) -> Result<String, EngineError> {
        let line = format!(
            "build_image {} {} {:?} pull={}",
            request.dockerfile.display(),
            request.context.display(),
            request.arguments,
            request.pull
        );
        drop(self.call(line)?);
        on_line("Step 1/1 : FROM scratch");
        Ok(self.add_image_with("", ImageInfo { labels: request.labels.clone(), ..ImageInfo::default() }))
    }

    async fn find_images(&self, filter: &ImageFilter) -> Result<Vec<String>, EngineError> {
        let state = self.call(format!("find_images {:?}", filter.labels))?;
        let fits = |image: &&ImageInfo| {
            filter.labels.iter().all(|(name, value)| image.labels.get(name) == Some(value))
                && filter.comment.as_ref().is_none_or(|comment| image.comment == *comment)
                && filter.created_since.is_none_or(|since| image.created.is_some_and(|created| created >= since))
        };
        Ok(state.images.iter().filter(fits).map(|image| image.id.clone()).collect())
    }

    async fn labelled_images(&self, label: &str) -> Result<Vec<ListedImage>, EngineError> {
        let state = self.call(format!("find_labelled {label}"))?;
        let listed = |image: &ImageInfo| ListedImage {
            id: image.id.clone(),
            labels: image.labels.clone(),
            created: image.created.unwrap_or_default(),
        };
        Ok(state.images.iter().filter(|image| image.labels.contains_key(label)).map(listed).collect())
    }

    async fn registry_digest(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        let state = self.call(format!("registry_digest {reference}{}", suffix(None, credentials)))?;
        let found = state.remote.get(&with_tag(reference)).and_then(|image| image.digests.first());
        Ok(found.and_then(|name| name.split_once('@')).map(|(_, digest)| digest.to_owned()))
    }

    async fn registry_has(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        self.registry_digest(reference, credentials).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let image = spec.config.image.clone().unwrap_or_default();
        let mut state = self.call(format!("create_container {} {image}", spec.name))?;
        let index = state.image(&image).ok_or_else(|| missing("image", &image))?;
        let info = ContainerInfo {
            id: state.next_id(),
            name: spec.name.clone(),
            image: state.images[index].id.clone(),
            created: now(),
            address: Some("172.17.0.2".into()),
            labels: spec.config.labels.clone().unwrap_or_default().into_iter().collect(),
            ..ContainerInfo::default()
        };
        let id = info.id.clone();
        state.containers.push((info, spec.clone()));
        Ok(Created { id, warnings: Vec::new() })
    }

    async fn start_container(&self, container: &str) -> Result<(), EngineError> {
        let mut state = self.call(format!("start_container {container}"))?;
        let index = state.container(container).ok_or_else(|| missing("container", container))?;
        state.containers[index].0.is_running = true;
        Ok(())
    }

    async fn inspect_container(&self, container: &str) -> Result<Option<ContainerInfo>, EngineError> {
        let state = self.call(format!("inspect_container {container}"))?;
        Ok(state.container(container).map(|index| state.containers[index].0.clone()))
    }

    async fn find_containers(&self, labels: &BTreeMap<String, String>) -> Result<Vec<String>, EngineError> {
        let state = self.call(format!("find_containers {labels:?}"))?;
        let fits = |info: &ContainerInfo| labels.iter().all(|(name, value)| info.labels.get(name) == Some(value));
        Ok(state.containers.iter().filter(|(info, _)| fits(info)).map(|(info, _)| info.id.clone()).collect())
    }

    async fn remove_container(&self, container: &str) -> Result<bool, EngineError> {
        let mut state = self.call(format!("remove_container {container}"))?;
        let Some(index) = state.container(container) else { return Ok(false) };
        state.containers.remove(index);
        Ok(true)
    }

    async fn log(&self, container: &str, _lines: usize) -> Result<Vec<u8>, EngineError> {
        let state = self.call(format!("inspect_log {container}"))?;
        let index = state.container(container).ok_or_else(|| missing("container", container))?;
        Ok(state.logs.get(&state.containers[index].0.name).cloned().unwrap_or_default())
    }

    async fn follow(&self, container: &str, sink: &mut dyn OutputSink) -> Result<(), EngineError> {
        let (stdout, stderr) = {
            let mut state = self.call(format!("follow {container}"))?;
            let index = state.container(container).ok_or_else(|| missing("container", container))?;
            let reply = state.execs.pop_front().unwrap_or_default();
            let info = &mut state.containers[index].0;
            (info.is_running, info.exit_code) = (false, Some(reply.status));
            (reply.stdout, reply.stderr)
        };
        sink.write(Stream::Stdout, &stdout);
        sink.write(Stream::Stderr, &stderr);
        Ok(())
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let internal = if spec.is_internal { " internal" } else { "" };
        let mut state = self.call(format!("create_network {}{internal}", spec.name))?;
        let id = state.next_id();
        state.networks.push(NetworkInfo { id: id.clone(), name: spec.name.clone(), labels: spec.labels.clone() });
        Ok(id)
    }

    async fn find_networks(&self, labels: &BTreeMap<String, String>) -> Result<Vec<NetworkInfo>, EngineError> {
        let state = self.call(format!("find_networks {labels:?}"))?;
        let fits = |info: &&NetworkInfo| labels.iter().all(|(name, value)| info.labels.get(name) == Some(value));
        Ok(state.networks.iter().filter(fits).cloned().collect())
    }

    async fn connect_network(&self, network: &str, container: &str) -> Result<(), EngineError> {
        self.call(format!("connect_network {network} {container}")).map(drop)
    }

    async fn remove_network(&self, id: &str) -> Result<bool, EngineError> {
        let mut state = self.call(format!("remove_network {id}"))?;
        let index = state.networks.iter().position(|network| network.id == id);
        Ok(index.map(|index| state.networks.remove(index)).is_some())
    }

    async fn exec(
        &self,
        container: &str,
        command: &Command,
        input: Option<ByteStream>,
        sink: &mut dyn OutputSink,
    ) -> Result<i64, EngineError> {
        let reply = {
            let mut state = self.call(format!("exec {}", command.argv.join(" ")))?;
            state.container(container).ok_or_else(|| missing("container", container))?;
            state.execs.pop_front().unwrap_or_default()
        };
        if let Some(input) = input {
            drain(input).await?;
        }
        sink.write(Stream::Stdout, &reply.stdout);
        sink.write(Stream::Stderr, &reply.stderr);
        Ok(reply.status)
    }

    async fn interact(&self, container: &str, command: &Command, _terminal: Terminal) -> Result<i64, EngineError> {
        let mut state = self.call(format!("interact {}", command.argv.join(" ")))?;
        state.container(container).ok_or_else(|| missing("container", container))?;
        Ok(state.execs.pop_front().unwrap_or_default().status)
    }

    async fn processes(&self, container: &str) -> Result<Vec<String>, EngineError> {
        let state = self.call(format!("processes {container}"))?;
        Ok(std::iter::once("/bin/sh".to_owned()).chain(state.processes.iter().cloned()).collect())
    }

    async fn container_size(&self, container: &str) -> Result<u64, EngineError> {
        Ok(self.call(format!("container_size {container}"))?.container_size)
    }

    async fn put_archive(&self, container: &str, directory: &str, tar: ByteStream) -> Result<(), EngineError> {
        {
            let state = self.call(format!("put_archive {directory}"))?;
            state.container(container).ok_or_else(|| missing("container", container))?;
        }
        let content = drain(tar).await?;
        self.state().uploads.push((directory.to_owned(), content));
        Ok(())
    }

    async fn get_archive(&self, _container: &str, path: &str) -> Result<ByteStream, EngineError> {
        let state = self.call(format!("get_archive {path}"))?;
        let content = state.files.get(path).ok_or_else(|| missing("file", path))?;
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        let name = path.rsplit('/').next().unwrap_or(path);
        let packed = builder.append_data(&mut header, name, content.as_slice()).and_then(|()| builder.into_inner());
        let packed =
            packed.map_err(|source| EngineError::Connection { action: "pack".into(), source: source.into() })?;
        Ok(Box::pin(stream::iter([Ok(Bytes::from(packed))])))
    }

    async fn stat_path(&self, _container: &str, path: &str) -> Result<Option<PathStat>, EngineError> {
        let state = self.call(format!("stat {path}"))?;
        let is_directory = path == "/" || state.directories.contains(path);
        let size = state.files.get(path).map(|content| content.len() as u64);
        Ok((is_directory || size.is_some()).then(|| PathStat {
            is_directory,
            link_target: None,
            size: size.unwrap_or_default(),
        }))
    }

    async fn commit(&self, spec: &CommitSpec) -> Result<String, EngineError> {
        {
            let mut state = self.call(format!("commit {}", spec.container))?;
            state.container(&spec.container).ok_or_else(|| missing("container", &spec.container))?;
            state.commits.push(spec.clone());
        }
        let image = ImageInfo {
            user: spec.config.user.clone().unwrap_or_default(),
            entrypoint: spec.config.entrypoint.clone(),
            command: spec.config.cmd.clone(),
            labels: spec.config.labels.clone().unwrap_or_default().into_iter().collect(),
            comment: spec.comment.clone().unwrap_or_default(),
            ..ImageInfo::default()
        };
        Ok(self.add_image_with("", image))
    }

    async fn export(&self, container: &str, to: &Path) -> Result<u64, EngineError> {
        let state = self.call(format!("export {container} {}", to.display()))?;
        state.container(container).ok_or_else(|| missing("container", container))?;
        write_file(to, b"exported")?;
        Ok(8)
    }
}
