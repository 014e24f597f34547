//! `docker` sources that are built here (`--docker-as=oci`): their arguments, this builder's machines.

use std::sync::Arc;

use kiln_core::{Builder, BuilderKind, Decoded, Diagnostic, Diagnostics, PrepareContext, Schema, Variant};

use crate::OciSettings;
use crate::config::Config;
use crate::place::Places;
use crate::prepare;

/// Arguments of a docker source that mean nothing to a sandbox.
const WITHOUT_MEANING: [(&str, &str); 3] = [
    ("runtime", "kiln's own sandbox takes its place"),
    ("container_dir", "kiln needs no shared directory"),
    ("platform_hosts", "this host builds for all platforms, by emulators"),
];

/// The kind `docker`, without an engine.
pub(crate) struct DockerAsOci {
    settings: OciSettings,
    places: Arc<Places>,
    docker: Arc<dyn BuilderKind>,
}

impl DockerAsOci {
    /// `docker` has the arguments and checks them.
    pub(crate) fn new(settings: OciSettings, places: Arc<Places>, docker: Arc<dyn BuilderKind>) -> DockerAsOci {
        DockerAsOci { settings, places, docker }
    }
}

impl BuilderKind for DockerAsOci {
    fn schema(&self) -> &'static Schema {
        self.docker.schema()
    }

    fn fact_names(&self) -> &'static [&'static str] {
        self.docker.fact_names()
    }

    fn prepare(
        &self,
        decoded: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let has_docker_builder = self.docker.prepare(decoded, context, diagnostics).is_some();
        let mut config: Config = decoded.read_or_tell(diagnostics)?;
        let mut found = Diagnostics::new();
        if decoded.is_set("build") {
            let title =
                "a base image that a Dockerfile makes needs the Docker engine, and this source is built without";
            found.push(
                Diagnostic::error("docker-as-oci", decoded.span("build"), title)
                    .help("build the base image first and name it by `image`, or leave `--docker-as` out"),
            );
        }
        for (name, why) in WITHOUT_MEANING {
            if decoded.is_set(name) {
                found.push(Diagnostic::warning(
                    "docker-as-oci",
                    decoded.span(name),
                    format!("`{name}` has no effect without the Docker engine: {why}"),
                ));
            }
        }
        // Labels of the run would make another image each time; they are kept where they are asked for.
        config.kiln_labels = config.kiln_labels.filter(|_| decoded.is_set("kiln_labels"));
        config.network = network(config.network.take(), decoded, &mut found);
        // A container's `communicator` means the exec of its engine; here it is that of the sandbox.
        config.communicator = None;
        let is_wrong = found.has_errors() || !has_docker_builder;
        diagnostics.extend(found);
        if is_wrong {
            return None;
        }
        prepare::prepare(config, decoded, context, &self.settings, &self.places, true, diagnostics)
            .map(|builder| builder as Arc<dyn Builder>)
    }

    fn prepare_index(
        &self,
        decoded: &Decoded,
        variants: Option<Vec<Variant>>,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let config: Config = decoded.read_or_tell(diagnostics)?;
        let variants = variants.unwrap_or_default();
        prepare::prepare_index(config, decoded, variants, context, &self.settings, &self.places, diagnostics)
    }
}

/// The engine's networks as a sandbox's.
fn network(name: Option<String>, decoded: &Decoded, found: &mut Diagnostics) -> Option<String> {
    let name = name.filter(|name| !name.is_empty())?;
    if matches!(name.as_str(), "host" | "none") {
        return Some(name);
    }
    let span = decoded.span("network");
    if matches!(name.as_str(), "bridge" | "default") {
        let title = format!("the network `{name}` is the Docker engine's; without it steps share this host's network");
        found.push(Diagnostic::warning("docker-as-oci", span, title));
    } else {
        let title = format!("the network `{name}` is the Docker engine's, and this source is built without");
        found.push(Diagnostic::error("docker-as-oci", span, title).help("take `host` or `none`"));
    }
    None
}
