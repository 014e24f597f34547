//! [`Engine`] on bollard. The calls themselves stand in `images` and `containers`.

use std::collections::BTreeMap;
use std::path::Path;

use async_trait::async_trait;
use bollard::query_parameters::RemoveImageOptions;
use kiln_core::{Command, OutputSink, Terminal};
use kiln_registry::Credentials;

use crate::client::BollardEngine;
use crate::engine::{
    BuildRequest, ByteStream, CommitSpec, ContainerInfo, ContainerSpec, Created, Engine, EngineVersion, ImageFilter,
    ImageInfo, ImportOptions, ListedImage, NetworkInfo, NetworkSpec, OnLine, OnProgress, PathStat, Pushed,
};
use crate::error::EngineError;
use crate::upgrade::Connection;

#[async_trait]
impl Engine for BollardEngine {
    fn address(&self) -> &str {
        self.address_text()
    }

    async fn version(&self) -> Result<EngineVersion, EngineError> {
        Ok(self.connection().await?.version.clone())
    }

    async fn inspect_image(&self, reference: &str) -> Result<Option<ImageInfo>, EngineError> {
        self.inspect_image_call(reference).await
    }

    async fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<(), EngineError> {
        self.tag_call(image, repository, tag).await
    }

    async fn remove_image(&self, reference: &str, force: bool) -> Result<bool, EngineError> {
        let options = RemoveImageOptions { force, ..RemoveImageOptions::default() };
        self.remove_image_call(reference, options).await
    }

    async fn remove_image_alone(&self, id: &str) -> Result<bool, EngineError> {
        let options = RemoveImageOptions { noprune: true, ..RemoveImageOptions::default() };
        self.remove_image_call(id, options).await
    }

    async fn push(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<Pushed, EngineError> {
        self.push_call(reference, platform, credentials, on_progress).await
    }

    async fn pull(
        &self,
        reference: &str,
        platform: Option<&str>,
        credentials: Option<&Credentials>,
        on_progress: OnProgress<'_>,
    ) -> Result<(), EngineError> {
        self.pull_call(reference, platform, credentials, on_progress).await
    }

    async fn save(&self, references: &[String], to: &Path) -> Result<(), EngineError> {
        self.save_call(references, to).await
    }

    async fn load(&self, archive: &Path) -> Result<Vec<String>, EngineError> {
        self.load_call(archive).await
    }

    async fn import(&self, tar: &Path, options: &ImportOptions) -> Result<String, EngineError> {
        self.import_call(tar, options).await
    }

    async fn build_image(&self, request: &BuildRequest, on_line: OnLine<'_>) -> Result<String, EngineError> {
        self.build_call(request, on_line).await
    }

    async fn upgrade(&self, path: &str, headers: &[(&str, &str)]) -> Result<Connection, EngineError> {
        self.upgrade_call(path, headers).await
    }

    async fn find_images(&self, filter: &ImageFilter) -> Result<Vec<String>, EngineError> {
        self.find_images_call(filter).await
    }

    async fn labelled_images(&self, label: &str) -> Result<Vec<ListedImage>, EngineError> {
        self.labelled_images_call(label).await
    }

    async fn registry_digest(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        self.registry_digest_call(reference, credentials).await
    }

    async fn registry_has(
        &self,
        reference: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, EngineError> {
        self.registry_has_call(reference, credentials).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<Created, EngineError> {
        self.create_container_call(spec).await
    }

    async fn start_container(&self, container: &str) -> Result<(), EngineError> {
        self.start_container_call(container).await
    }

    async fn inspect_container(&self, container: &str) -> Result<Option<ContainerInfo>, EngineError> {
        self.inspect_container_call(container).await
    }

    async fn find_containers(&self, labels: &BTreeMap<String, String>) -> Result<Vec<String>, EngineError> {
        self.find_containers_call(labels).await
    }

    async fn remove_container(&self, container: &str) -> Result<bool, EngineError> {
        self.remove_container_call(container).await
    }

    async fn log(&self, container: &str, lines: usize) -> Result<Vec<u8>, EngineError> {
        self.log_call(container, lines).await
    }

    async fn follow(&self, container: &str, sink: &mut dyn OutputSink) -> Result<(), EngineError> {
        self.follow_call(container, sink).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        self.create_network_call(spec).await
    }

    async fn find_networks(&self, labels: &BTreeMap<String, String>) -> Result<Vec<NetworkInfo>, EngineError> {
        self.find_networks_call(labels).await
    }

    async fn connect_network(&self, network: &str, container: &str) -> Result<(), EngineError> {
        self.connect_network_call(network, container).await
    }

    async fn remove_network(&self, id: &str) -> Result<bool, EngineError> {
        self.remove_network_call(id).await
    }

    async fn exec(
        &self,
        container: &str,
        command: &Command,
        input: Option<ByteStream>,
        sink: &mut dyn OutputSink,
    ) -> Result<i64, EngineError> {
        self.exec_call(container, command, input, sink).await
    }

    async fn interact(&self, container: &str, command: &Command, terminal: Terminal) -> Result<i64, EngineError> {
        self.interact_call(container, command, terminal).await
    }

    async fn processes(&self, container: &str) -> Result<Vec<String>, EngineError> {
        self.processes_call(container).await
    }

    async fn container_size(&self, container: &str) -> Result<u64, EngineError> {
        self.container_size_call(container).await
    }

    async fn put_archive(&self, container: &str, directory: &str, tar: ByteStream) -> Result<(), EngineError> {
        self.put_archive_call(container, directory, tar).await
    }

    async fn get_archive(&self, container: &str, path: &str) -> Result<ByteStream, EngineError> {
        self.get_archive_call(container, path).await
    }

    async fn stat_path(&self, container: &str, path: &str) -> Result<Option<PathStat>, EngineError> {
        self.stat_path_call(container, path).await
    }

    async fn commit(&self, spec: &CommitSpec) -> Result<String, EngineError> {
        self.commit_call(spec).await
    }

    async fn export(&self, container: &str, to: &Path) -> Result<u64, EngineError> {
        self.export_call(container, to).await
    }
}
