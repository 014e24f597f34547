//! `platform_hosts`: the engine of each platform, where that is not the usual one.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::{Decoded, Diagnostic, Diagnostics, Field, Platform, suggest};
use kiln_docker::{BollardEngine, Engine};

use crate::DockerSettings;

/// The argument, of every source that an engine builds.
pub const PLATFORM_HOSTS: Field = Field::map(
    "platform_hosts",
    "Engines by platform: `{ \"linux/arm64\" = \"ssh://build@arm.example.org\" }`. What is built for that platform is built \
     there, without an emulator; addresses are as those of `DOCKER_HOST`.",
);

const NAME: &str = PLATFORM_HOSTS.name;

/// Whether platforms and addresses are any; all mistakes are told.
fn check(hosts: &BTreeMap<String, String>, settings: &DockerSettings, decoded: &Decoded) -> Diagnostics {
    let mut found = Diagnostics::new();
    for (platform, address) in hosts {
        let path = format!("{NAME}.{platform}");
        let place = decoded.span(&path);
        if let Err(meant) = Platform::known(platform) {
            let title = format!("`{platform}` is no platform that kiln knows");
            let diagnostic = Diagnostic::error("unknown-platform", place, title);
            found.push(match meant {
                Some(meant) => diagnostic.help(format!("did you mean `{meant}`?")),
                None => diagnostic.help(format!("the platforms are {}", suggest::enumerate(kiln_core::PLATFORMS))),
            });
        }
        if decoded.is_unknown(&path) {
            continue;
        }
        if let Err(error) = BollardEngine::connect(Some(address), &settings.credentials.environment) {
            let diagnostic = Diagnostic::error("engine-address", place, error.to_string());
            found.push(diagnostic.help("write `unix:///path`, `tcp://host:port` or `ssh://user@host`"));
        }
    }
    found
}

impl DockerSettings {
    /// The settings for what is built for a platform, or without one for this host's: with the engine that the source's
    /// `platform_hosts` names for it. Mistakes in there are told in any case.
    pub fn on_host_of(
        &self,
        platform: Option<&str>,
        hosts: &BTreeMap<String, String>,
        decoded: &Decoded,
        diagnostics: &mut Diagnostics,
    ) -> DockerSettings {
        let found = check(hosts, self, decoded);
        let mut settings = self.clone();
        let wanted = platform.map_or_else(|| Some(Platform::host()), Platform::parse);
        let is_wanted =
            |name: &str| wanted.as_ref().zip(Platform::parse(name)).is_some_and(|(one, other)| one.is(&other));
        if let Some(address) = hosts.iter().find_map(|(name, address)| is_wanted(name).then_some(address))
            && !found.has_errors()
            && let Ok(engine) = BollardEngine::connect(Some(address), &self.credentials.environment)
        {
            settings.usual = Some(std::mem::replace(&mut settings.engine, Arc::new(engine) as Arc<dyn Engine>));
        }
        diagnostics.extend(found);
        settings
    }

    /// The platform whose programs this host has to run for an engine that is at this host; `None` where another machine
    /// does, or the source named an engine that runs them by itself.
    pub fn emulated(&self, platform: Option<&str>) -> Option<Platform> {
        let is_local = self.usual.is_none() && self.engine.address().starts_with("unix://");
        platform.filter(|_| is_local).and_then(Platform::parse)
    }
}
