//! What Docker makes of a service's arguments.

use std::path::Path;

use kiln_core::{Decoded, Diagnostic, Diagnostics};
use kiln_services::{Port, Service};

use super::Wiring;
use crate::ImageInfo;
use crate::models::{ContainerCreateBody, HealthConfig, HostConfig, PortBinding};
use crate::run_command::{self, values};

/// Tells what is wrong with services as containers.
pub fn check(
    services: &[Service],
    wiring: &Wiring,
    decoded: &Decoded,
    home: Option<&Path>,
    diagnostics: &mut Diagnostics,
) {
    for (index, service) in services.iter().enumerate() {
        let mut error = |path: &str, title: String| {
            let path = format!("service[{index}].{path}");
            if !decoded.is_unknown(&path) {
                diagnostics.push(Diagnostic::error("service", decoded.span(&path), title));
            }
        };
        for (source, target) in &service.volumes {
            if let Err(why) = run_command::volume(&mut HostConfig::default(), &format!("{source}:{target}"), home) {
                error(&format!("volumes.{source}"), why);
            }
        }
        for (path, _) in service.tmpfs.iter().filter(|(path, _)| !path.starts_with('/') && !path.is_empty()) {
            error("tmpfs", format!("`tmpfs`: `{path}` is no absolute path"));
        }
        if let Some(Err(why)) = service.shm_size.as_deref().map(values::bytes) {
            error("shm_size", format!("`shm_size`: {why}"));
        }
        if let Some(why) = wiring.no_ports().filter(|_| !service.ports.is_empty()) {
            let span = decoded.span(&format!("service[{index}].ports"));
            let title = format!("`ports` of service `{}` cannot be had: {why}", service.name);
            diagnostics.push(Diagnostic::error("service", span, title));
        }
    }
}

/// The container of a service, but for its network.
pub(super) fn container(
    service: &Service,
    image: &ImageInfo,
    home: Option<&Path>,
) -> Result<ContainerCreateBody, String> {
    let mut host = HostConfig {
        cap_add: (!service.cap_add.is_empty()).then(|| service.cap_add.clone()),
        privileged: service.privileged.then_some(true),
        shm_size: service.shm_size.as_deref().map(values::bytes).transpose()?,
        tmpfs: (!service.tmpfs.is_empty()).then(|| service.tmpfs.clone().into_iter().collect()),
        ..HostConfig::default()
    };
    for (source, target) in &service.volumes {
        run_command::volume(&mut host, &format!("{source}:{target}"), home)?;
    }
    let mut exposed = Vec::new();
    for port in &service.ports {
        let inner = format!("{}/{}", port.inner, port.protocol);
        exposed.push(inner.clone());
        let bindings = host.port_bindings.get_or_insert_default().entry(inner).or_default();
        bindings.get_or_insert_default().push(binding(port));
    }
    let environment: Vec<String> = service.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(ContainerCreateBody {
        image: Some(image.id.clone()),
        entrypoint: service.entrypoint.clone(),
        cmd: service.command.clone(),
        env: (!environment.is_empty()).then_some(environment),
        user: service.user.clone(),
        working_dir: service.workdir.clone(),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        // kiln asks itself, sooner and more often than the engine would.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    })
}

fn binding(port: &Port) -> PortBinding {
    PortBinding {
        host_ip: Some(port.address.clone()),
        host_port: Some(port.host.map(|port| port.to_string()).unwrap_or_default()),
    }
}
