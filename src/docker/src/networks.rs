//! Networks, and what containers print: the calls behind [`crate::Engine`] that side-cars need.

use std::collections::{BTreeMap, HashMap};

use bollard::container::LogOutput;
use bollard::models::{NetworkConnectRequest, NetworkCreateRequest};
use bollard::query_parameters::{ListNetworksOptions, LogsOptions};
use futures_util::TryStreamExt;
use kiln_core::{OutputSink, Stream};

use crate::client::{BollardEngine, failed};
use crate::engine::{NetworkInfo, NetworkSpec};
use crate::error::EngineError;

/// Of a log that is read, in bytes; beyond it the beginning goes.
const LOG: usize = 16 << 20;

impl BollardEngine {
    pub(crate) async fn log_call(&self, container: &str, lines: usize) -> Result<Vec<u8>, EngineError> {
        let (action, what) = (format!("read the log of {container}"), format!("container {container}"));
        let options = LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), ..LogsOptions::default() };
        let mut stream = self.short().await?.logs(container, Some(options));
        let mut log = Vec::new();
        while let Some(chunk) = stream.try_next().await.map_err(failed(&action, &what))? {
            log.extend_from_slice(&chunk.into_bytes());
            if log.len() > 2 * LOG {
                log.drain(..log.len() - LOG);
            }
        }
        Ok(log)
    }

    pub(crate) async fn follow_call(&self, container: &str, sink: &mut dyn OutputSink) -> Result<(), EngineError> {
        let (action, what) = (format!("follow the output of {container}"), format!("container {container}"));
        let options = LogsOptions { stdout: true, stderr: true, follow: true, ..LogsOptions::default() };
        let mut stream = self.unbounded().await?.logs(container, Some(options));
        while let Some(chunk) = stream.try_next().await.map_err(failed(&action, &what))? {
            match chunk {
                LogOutput::StdErr { message } => sink.write(Stream::Stderr, &message),
                other => sink.write(Stream::Stdout, &other.into_bytes()),
            }
        }
        Ok(())
    }

    pub(crate) async fn create_network_call(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let request = NetworkCreateRequest {
            name: spec.name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(spec.is_internal),
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        let (action, what) = (format!("create network {}", spec.name), format!("network {}", spec.name));
        let made = self.unbounded().await?.create_network(request).await.map_err(failed(&action, &what))?;
        Ok(made.id)
    }

    pub(crate) async fn find_networks_call(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<NetworkInfo>, EngineError> {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let options = ListNetworksOptions { filters: Some(HashMap::from([("label".to_owned(), labels)])) };
        let found = self.short().await?.list_networks(Some(options)).await;
        let found = found.map_err(failed("list networks", "network"))?;
        let info = |network: bollard::models::Network| NetworkInfo {
            id: network.id.unwrap_or_default(),
            name: network.name.unwrap_or_default(),
            labels: network.labels.unwrap_or_default().into_iter().collect(),
        };
        Ok(found.into_iter().map(info).collect())
    }

    pub(crate) async fn connect_network_call(&self, network: &str, container: &str) -> Result<(), EngineError> {
        let request = NetworkConnectRequest { container: container.to_owned(), ..NetworkConnectRequest::default() };
        let (action, what) = (format!("join network {network}"), format!("network {network}"));
        self.unbounded().await?.connect_network(network, request).await.map_err(failed(&action, &what))
    }

    pub(crate) async fn remove_network_call(&self, id: &str) -> Result<bool, EngineError> {
        let action = format!("remove network {id}");
        match self.unbounded().await?.remove_network(id).await.map_err(failed(&action, id)) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
