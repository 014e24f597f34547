//! Side-cars in containers: how they and a machine reach each other, and their life.
//!
//! | the machine's network | services | reached by their names |
//! |---|---|---|
//! | none said, `bridge` | in a network of the build's own, with the machine | yes |
//! | `none` | the same, and nothing outside is reached from it | yes |
//! | a network of the engine | as the first; the machine takes part in both | yes |
//! | `host` | in the host's, at 127.0.0.1 | yes |
//! | `container:NAME` | in that container's, at 127.0.0.1 | no: its list of hosts is not ours |
//!
//! Where the network is shared, they are in the machine's own, whatever it is, at 127.0.0.1.

mod check;
mod group;
pub mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::{BuildContext, EntryId, Failure};
use kiln_services::Service;

use crate::engine::{Engine, NetworkSpec};
use crate::error::EngineError;
use crate::models::{ContainerCreateBody, EndpointSettings, HostConfig, NetworkingConfig};
use crate::naming::{container_name, run_labels};
use crate::undo::{self, NetworkUndo};

pub use check::check;
pub use group::{Group, Setting, image_health};

/// Where everything of a shared network is reached.
const LOOPBACK: &str = "127.0.0.1";

/// How services and the machine reach each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wiring {
    /// In a network of the build's own.
    Own {
        /// Nothing outside is reached from it.
        is_internal: bool,
        /// A network that the machine takes part in besides.
        beside: Option<String>,
    },
    /// In the host's network.
    Host,
    /// In the network of a container that is not kiln's: `container:NAME`.
    Borrowed(String),
    /// Nobody is to be reached: the network is what the engine makes of its name.
    Alone(Option<String>),
    /// In the machine's network: `network` is what that is started with.
    Shared {
        /// As Docker calls it.
        network: Option<String>,
    },
}

impl Wiring {
    /// Of a machine that is to take part in this network.
    pub fn of(network: Option<&str>, is_shared: bool) -> Wiring {
        match network {
            Some("host") => Wiring::Host,
            Some(name) if name.starts_with("container:") => Wiring::Borrowed(name.to_owned()),
            network if is_shared => Wiring::Shared { network: network.map(str::to_owned) },
            Some("none") => Wiring::Own { is_internal: true, beside: None },
            None | Some("" | "default" | "bridge") => Wiring::Own { is_internal: false, beside: None },
            Some(name) => Wiring::Own { is_internal: false, beside: Some(name.to_owned()) },
        }
    }

    /// Why a service cannot have ports of the host, where it cannot.
    pub fn no_ports(&self) -> Option<&'static str> {
        match self {
            Wiring::Own { is_internal: false, .. } | Wiring::Alone(_) => None,
            Wiring::Own { is_internal: true, .. } => Some("the build's network leads nowhere (`network = \"none\"`)"),
            Wiring::Host => Some("the service is in the host's network, where all its ports are"),
            Wiring::Borrowed(_) => Some("the network is another container's"),
            Wiring::Shared { .. } => Some("the service shares the machine's network"),
        }
    }
}

/// A network that was made for a build.
#[derive(Debug, Clone)]
struct Made {
    id: String,
    undo: NetworkUndo,
    entry: EntryId,
}

/// The network that a machine and its services share.
#[derive(Debug, Clone)]
pub struct Network {
    wiring: Wiring,
    made: Option<Made>,
}

impl Network {
    /// Makes it, where one is to be made; what is to be undone is in the journal first. `suffix` tells it from others of the
    /// build.
    pub async fn make(
        engine: &Arc<dyn Engine>,
        wiring: Wiring,
        suffix: &str,
        context: &BuildContext,
    ) -> Result<Network, Failure> {
        let Wiring::Own { is_internal, .. } = &wiring else { return Ok(Network { wiring, made: None }) };
        let name = format!("{}{suffix}", container_name(context));
        let labels: BTreeMap<String, String> = run_labels(context).into_iter().collect();
        let undo = NetworkUndo { engine: engine.address().to_owned(), name: name.clone(), labels: labels.clone() };
        let entry = context.journal.record(&context.build, undo.entry())?;
        let spec = NetworkSpec { name, is_internal: *is_internal, labels };
        // Not stopped halfway: the engine would go on and make a network that nobody knows of.
        match engine.create_network(&spec).await {
            Ok(id) => Ok(Network { wiring, made: Some(Made { id, undo, entry }) }),
            Err(error) => {
                context.journal.strike(entry)?;
                let is_full = error.to_string().contains("address pools");
                let failure = Failure::from(error);
                let hint =
                    "the engine has no addresses left for networks: `docker network prune` frees those of unused ones";
                Err(if is_full { failure.hint(hint) } else { failure })
            }
        }
    }

    /// Lets a container that is about to be made take part: `names` are those of the services, for a machine that reaches
    /// them.
    pub fn join_machine(&self, config: &mut ContainerCreateBody, services: &[Service]) {
        let host = config.host_config.get_or_insert_default();
        match (&self.wiring, &self.made) {
            (Wiring::Own { .. }, Some(made)) => {
                host.network_mode = Some(made.id.clone());
                config.networking_config = Some(endpoint(&made.id, Vec::new()));
            }
            (Wiring::Host, _) => {
                host.network_mode = Some("host".to_owned());
                add_hosts(host, services);
            }
            (Wiring::Shared { network }, _) => {
                host.network_mode.clone_from(network);
                add_hosts(host, services);
            }
            (Wiring::Borrowed(network), _) => host.network_mode = Some(network.clone()),
            (Wiring::Alone(network), _) => host.network_mode.clone_from(network),
            (Wiring::Own { .. }, None) => {}
        }
    }

    /// What is left to be done between making and starting the machine.
    pub async fn connect_machine(&self, engine: &dyn Engine, machine: &str) -> Result<(), EngineError> {
        match &self.wiring {
            Wiring::Own { beside: Some(other), .. } => engine.connect_network(other, machine).await,
            _ => Ok(()),
        }
    }

    /// Lets a service take part.
    fn join_service(
        &self,
        config: &mut ContainerCreateBody,
        service: &Service,
        services: &[Service],
        machine: Option<&str>,
    ) {
        let host = config.host_config.get_or_insert_default();
        match (&self.wiring, &self.made) {
            (Wiring::Own { .. }, Some(made)) => {
                host.network_mode = Some(made.id.clone());
                config.hostname = Some(service.name.clone());
                config.networking_config = Some(endpoint(&made.id, service.names().map(str::to_owned).collect()));
            }
            (Wiring::Host, _) => {
                host.network_mode = Some("host".to_owned());
                add_hosts(host, services);
            }
            (Wiring::Shared { .. }, _) => {
                host.network_mode = machine.map(|machine| format!("container:{machine}"));
            }
            (Wiring::Borrowed(network), _) => host.network_mode = Some(network.clone()),
            (Wiring::Alone(network), _) => host.network_mode.clone_from(network),
            (Wiring::Own { .. }, None) => {}
        }
    }

    /// Removes what was made; nothing may take part in it any more.
    pub async fn remove(&self, engine: &dyn Engine, context: &BuildContext) -> Result<(), Failure> {
        let Some(made) = &self.made else { return Ok(()) };
        engine.remove_network(&made.id).await?;
        // One of a try that the engine made, and that nobody waited for.
        undo::remove_network(engine, &made.undo).await?;
        context.journal.strike(made.entry)
    }
}

fn endpoint(network: &str, aliases: Vec<String>) -> NetworkingConfig {
    let settings = EndpointSettings { aliases: Some(aliases), ..EndpointSettings::default() };
    NetworkingConfig { endpoints_config: Some([(network.to_owned(), settings)].into()) }
}

fn add_hosts(host: &mut HostConfig, services: &[Service]) {
    let names = services.iter().flat_map(Service::names).map(|name| format!("{name}:{LOOPBACK}"));
    host.extra_hosts.get_or_insert_default().extend(names);
}

#[cfg(test)]
mod tests;
