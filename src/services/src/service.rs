//! A service as a template describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use indexmap::IndexMap;
use kiln_core::health::{HealthBlock, HealthCheck, Tmpfs, Words};
use kiln_core::{Decoded, Diagnostics, Span, duration};
use serde::{Deserialize, Serialize};

use crate::check::Check;

/// What is waited for before the first step, and before services that come after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Its health check succeeds.
    Healthy,
    /// It runs.
    Started,
    /// It ended with status 0.
    Completed,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Pull {
    /// Each time.
    #[serde(rename = "true", alias = "always")]
    Always,
    /// Where it is not there.
    #[default]
    #[serde(rename = "missing")]
    Missing,
    /// Not at all.
    #[serde(rename = "false", alias = "never")]
    Never,
}

/// A port of a service that this host has too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Of this host.
    pub address: String,
    /// Of this host; `None` for any that is free.
    pub host: Option<u16>,
    /// Of the service.
    pub inner: u16,
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
}

/// A service. Its arguments may hold secrets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Its name, which it is reached by.
    pub name: String,
    /// The image it runs; empty where it is not known yet.
    pub image: String,
    /// When that is pulled.
    pub pull: Pull,
    /// Instead of the image's `CMD`.
    pub command: Option<Vec<String>>,
    /// Instead of the image's `ENTRYPOINT`.
    pub entrypoint: Option<Vec<String>>,
    /// Over the image's environment.
    pub environment: BTreeMap<String, String>,
    /// Instead of the image's `USER`.
    pub user: Option<String>,
    /// Instead of the image's `WORKDIR`.
    pub workdir: Option<String>,
    /// Paths that are held in memory, with their options.
    pub tmpfs: BTreeMap<String, String>,
    /// Host paths or volumes to paths in it.
    pub volumes: IndexMap<String, String>,
    /// Further names.
    pub aliases: Vec<String>,
    /// Ports of it that this host has too.
    pub ports: Vec<Port>,
    /// Its health check; `None` for the image's.
    pub health: Option<HealthCheck>,
    /// What is waited for; `None` where that depends on the image.
    pub wait: Option<Wait>,
    /// How long.
    pub wait_timeout: Duration,
    /// Those that must be ready before it starts: positions in the list.
    pub after: Vec<usize>,
    /// Size of its `/dev/shm`, as written.
    pub shm_size: Option<String>,
    /// Capabilities to add.
    pub cap_add: Vec<String>,
    /// All capabilities.
    pub privileged: bool,
    /// Its block in the template.
    #[serde(skip)]
    pub span: Span,
}

impl Service {
    /// All names that it is reached by, its own first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// What of it decides on what steps see, as text that may hold secrets. Where its image comes from does not: `image`
    /// names what it is.
    pub fn identity(&self, image: &str) -> String {
        let own = Service { image: image.to_owned(), pull: Pull::default(), ..self.clone() };
        // Plain values, which always have a JSON form.
        serde_json::to_string(&own).unwrap_or_default()
    }
}

/// As decoded.
#[derive(Deserialize)]
pub(crate) struct Block {
    pub(crate) name: String,
    #[serde(default)]
    image: String,
    #[serde(default)]
    pull: Pull,
    command: Option<Words>,
    entrypoint: Option<Words>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    user: Option<String>,
    workdir: Option<String>,
    tmpfs: Option<Tmpfs>,
    #[serde(default)]
    volumes: IndexMap<String, String>,
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    #[serde(default)]
    pub(crate) ports: Vec<String>,
    health_check: Option<HealthBlock>,
    wait: Option<Wait>,
    #[serde(default, deserialize_with = "duration::deserialize_option")]
    wait_timeout: Option<Duration>,
    #[serde(default)]
    pub(crate) after: Vec<String>,
    pub(crate) shm_size: Option<String>,
    #[serde(default)]
    cap_add: Vec<String>,
    #[serde(default)]
    privileged: bool,
}

impl Block {
    /// Whether the template itself takes the health check away.
    fn is_health_off(health: Option<&HealthCheck>) -> bool {
        matches!(health, Some(HealthCheck::Off))
    }

    fn into_service(self, after: Vec<usize>, ports: Vec<Port>, span: Span) -> Service {
        let mut environment = self.environment;
        environment.extend(self.env);
        let tmpfs = self.tmpfs.map(Tmpfs::into_paths).unwrap_or_default();
        let health = self.health_check.and_then(HealthBlock::read);
        // An image's check is not looked at where there is to be none.
        let wait = self.wait.or(Block::is_health_off(health.as_ref()).then_some(Wait::Started));
        let full = |text: Option<String>| text.filter(|text| !text.is_empty());
        Service {
            name: self.name,
            image: self.image,
            pull: self.pull,
            command: self.command.map(Words::into_words),
            entrypoint: self.entrypoint.map(Words::into_words),
            environment,
            user: full(self.user),
            workdir: full(self.workdir),
            tmpfs,
            volumes: self.volumes,
            aliases: self.aliases,
            ports,
            health,
            wait,
            wait_timeout: self.wait_timeout.unwrap_or(Duration::from_secs(120)),
            after,
            shm_size: full(self.shm_size),
            cap_add: self.cap_add,
            privileged: self.privileged,
            span,
        }
    }
}

/// The services of a source, whose schema has the field [`crate::SERVICES`]. Where one is wrong, that is told and the list is
/// not complete.
pub fn read(decoded: &Decoded, diagnostics: &mut Diagnostics) -> Vec<Service> {
    let Some(blocks) = decoded.values().get("service").and_then(|blocks| blocks.as_array()) else { return Vec::new() };
    let mut check = Check { decoded, diagnostics };
    let mut read = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        read.extend(check.block(index, block).map(|block| (index, block)));
    }
    check.all(&read);
    let names: Vec<String> = read.iter().map(|(_, block)| block.name.clone()).collect();
    let mut services = Vec::with_capacity(read.len());
    for (index, block) in read {
        let after = block.after.iter().filter_map(|name| names.iter().position(|known| known == name)).collect();
        let ports = check.ports(index, &block);
        services.push(block.into_service(after, ports, decoded.span(&format!("service[{index}]"))));
    }
    services
}
