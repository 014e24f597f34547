//! What a sandbox in this host's network makes of a service's arguments.

use std::path::Path;

use kiln_core::{Decoded, Diagnostic, Diagnostics};
use kiln_docker::run_command::values;
use kiln_sandbox::capabilities::Capabilities;
use kiln_services::{Port, Service};

use super::config_of;
use crate::config::Config;
use crate::from::From;
use crate::runtime::Runtime;

/// Tells what is wrong with services as sandboxes.
pub(crate) fn check(
    services: &[Service],
    config: &Config,
    decoded: &Decoded,
    home: Option<&Path>,
    diagnostics: &mut Diagnostics,
) {
    if config.network.as_deref() == Some("none") && !services.is_empty() {
        let title = "services are in this host's network here, which `network = \"none\"` does not lead to";
        let diagnostic = Diagnostic::error("service", decoded.span("network"), title);
        let diagnostic = diagnostic.also(services[0].span, "a service");
        diagnostics.push(diagnostic.help("leave `network` out, or take a `docker` source with an engine"));
    }
    for (index, service) in services.iter().enumerate() {
        Check { service, path: format!("service[{index}]"), decoded, diagnostics }.all(config, home);
    }
}

struct Check<'a> {
    service: &'a Service,
    path: String,
    decoded: &'a Decoded,
    diagnostics: &'a mut Diagnostics,
}

impl Check<'_> {
    fn error(&mut self, path: &str, title: String, help: Option<String>) {
        let path = format!("{}.{path}", self.path);
        if !self.decoded.is_unknown(&path) {
            let mut diagnostic = Diagnostic::error("service", self.decoded.span(&path), title);
            diagnostic.help = help;
            self.diagnostics.push(diagnostic);
        }
    }

    fn all(&mut self, config: &Config, home: Option<&Path>) {
        self.image();
        self.ports();
        if let Some(Err(why)) = self.service.shm_size.as_deref().map(values::bytes) {
            self.error("shm_size", format!("`shm_size`: {why}"), None);
        }
        for (index, name) in self.service.cap_add.iter().enumerate() {
            if let Err(error) = Capabilities::named(name) {
                self.error(&format!("cap_add[{index}]"), error.to_string(), None);
            }
        }
        if let Err(error) = Runtime::new(&config_of(self.service, config), None, home) {
            // It may be written as a map, too.
            let path = if error.path.starts_with("tmpfs") { "tmpfs" } else { &error.path };
            self.error(path, error.message, error.help);
        }
    }

    fn image(&mut self) {
        let image = self.service.image.as_str();
        if image.is_empty() {
            return;
        }
        match From::parse(&serde_json::Value::from(image)) {
            Ok(From::Scratch) => self.error("image", "`scratch` has nothing to run".to_owned(), None),
            Ok(_) => {}
            Err(error) => self.error("image", error.message, error.help),
        }
    }

    /// All ports of a service are this host's, under the numbers that they have.
    fn ports(&mut self) {
        let is_moved = |port: &&Port| port.host.is_some_and(|host| host != port.inner);
        let name = &self.service.name;
        if let Some(port) = self.service.ports.iter().find(is_moved) {
            let host = port.host.unwrap_or_default();
            let title = format!(
                "port {} of service `{name}` cannot be at {host}: it is in this host's network, with the ports that it \
                 listens at",
                port.inner
            );
            let help = format!("let the service listen at {host}, or leave `ports` out");
            self.error("ports", title, Some(help));
        } else if !self.service.ports.is_empty() {
            let title = format!("`ports` of service `{name}` has no effect: it is in this host's network");
            let span = self.decoded.span(&format!("{}.ports", self.path));
            self.diagnostics.push(Diagnostic::warning("without-effect", span, title));
        }
    }
}
