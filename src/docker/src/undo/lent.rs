//! Names that images bear only while something is built upon them.

use std::path::Path;

use kiln_core::Undo;
use serde::{Deserialize, Serialize};

use super::undo;
use crate::engine::{Engine, ImportOptions};
use crate::error::EngineError;

/// The label of the image that takes over a name which is to go.
const PLACEHOLDER: &str = "kiln.placeholder";

/// What taking back a name needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LentNameUndo {
    /// The engine's address.
    pub engine: String,
    /// `repository:tag`, which nobody else uses.
    pub reference: String,
    /// The image that bears it; for one that was made for the name alone, nothing.
    pub image: Option<String>,
}

impl LentNameUndo {
    /// As a journal's entry.
    pub fn entry(&self) -> Undo {
        undo("docker.lent", self, format!("lent image name {}", self.reference))
    }

    /// Takes the name back; returns whether it was there. The image stays, also where it has no other name: an engine removes
    /// an image with its last name, so an empty image takes the name over, and goes with it.
    ///
    /// # Errors
    /// What the engine says.
    pub async fn take_back(&self, engine: &dyn Engine) -> Result<bool, EngineError> {
        let Some(found) = engine.inspect_image(&self.reference).await? else { return Ok(false) };
        if self.image.as_ref() == Some(&found.id) {
            let (repository, tag) = self.reference.rsplit_once(':').unwrap_or((&self.reference, "latest"));
            let options = ImportOptions {
                repository: Some(repository.to_owned()),
                tag: Some(tag.to_owned()),
                changes: vec![format!("LABEL {PLACEHOLDER}=1")],
                platform: None,
            };
            engine.import(Path::new("/dev/null"), &options).await?;
        } else if self.image.is_some() && !found.labels.contains_key(PLACEHOLDER) {
            // It was given to something else since.
            return Ok(false);
        }
        engine.remove_image(&self.reference, false).await
    }
}
