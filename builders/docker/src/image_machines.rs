//! Machines of images that another builder made: what that one offers as its steps' machines are containers as here.

use std::sync::{Arc, OnceLock};

use kiln_core::{Artifact, Builder, Decoded, Diagnostic, Diagnostics};
use kiln_docker::Engine;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::DockerSettings;
use crate::changes::Changes;
use crate::config::Config;
use crate::launch::DockerBuilder;
use crate::machine::committed;
use crate::states::States;

/// Prepares machines for sources of another kind.
pub struct ImageMachines {
    settings: DockerSettings,
    states: Arc<States>,
}

/// A container to be, of an image that is not known yet; it is committed.
pub struct ImageMachine {
    settings: DockerSettings,
    states: Arc<States>,
    config: Config,
    changes: Changes,
}

impl ImageMachines {
    /// Works with this engine.
    pub fn new(settings: DockerSettings) -> ImageMachines {
        let states = Arc::new(States::new(Arc::clone(&settings.engine), settings.store.clone()));
        ImageMachines { settings, states }
    }

    /// Reads those of a source's arguments that a `docker` source has too, under their names.
    pub fn prepare(
        &self,
        decoded: &Decoded,
        arguments: impl Iterator<Item = &'static str>,
        diagnostics: &mut Diagnostics,
    ) -> Option<ImageMachine> {
        let taken = arguments.chain(["kiln_labels", "platform"]);
        let mut values: Map<String, Value> =
            taken.filter_map(|name| decoded.values().get(name).map(|value| (name.to_owned(), value.clone()))).collect();
        values.extend([("commit".to_owned(), json!(true)), ("pull".to_owned(), json!("never"))]);
        let config: Config = match serde_json::from_value(Value::Object(values)) {
            Ok(config) => config,
            Err(error) => {
                diagnostics.push(Diagnostic::error("docker-machine", decoded.body_span(), error.to_string()));
                return None;
            }
        };
        let (changes, errors) = Changes::parse(&config.changes);
        for (index, error) in errors {
            let path = format!("changes[{index}]");
            if !decoded.is_unknown(&path) {
                let mut diagnostic = Diagnostic::error("docker-source", decoded.span(&path), error.message);
                diagnostic.help = error.help;
                diagnostics.push(diagnostic);
            }
        }
        Some(ImageMachine { settings: self.settings.clone(), states: Arc::clone(&self.states), config, changes })
    }
}

impl ImageMachine {
    /// The source whose base is this image of the engine's store.
    pub fn on(&self, image: &str) -> Arc<dyn Builder> {
        Arc::new(DockerBuilder {
            settings: self.settings.clone(),
            config: Config { image: Some(image.to_owned()), ..self.config.clone() },
            changes: self.changes.clone(),
            states: Arc::clone(&self.states),
            resolved: Mutex::default(),
            marks: OnceLock::new(),
            // A source of another kind has no side-cars.
            services: Default::default(),
            service_images: Default::default(),
        })
    }
}

/// The artifact that an image of an engine is.
pub fn image_artifact(engine: &Arc<dyn Engine>, id: String) -> Artifact {
    committed(engine, id)
}
