//! Names that images bear only while something is built upon them.

use std::path::Path;

use kiln_core::Undo;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::undo;
use crate::engine::{Engine, ImportOptions};
use crate::error::EngineError;

/// The label of the image that takes over a name which is to go.
const PLACEHOLDER: &str = "kiln.placeholder";

/// Held while a name is taken back.
static TAKING_BACK: Mutex<()> = Mutex::const_new(());

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
        // The engine looks for other names of the image first, so that two of them must not go at once.
        let _one = TAKING_BACK.lock().await;
        let Some(found) = engine.inspect_image(&self.reference).await? else { return Ok(false) };
        let (repository, tag) = self.reference.rsplit_once(':').unwrap_or((&self.reference, "latest"));
        let placeholder_tag = format!("{tag}-placeholder");
        if self.image.as_ref() == Some(&found.id) {
            // Not imported under the name itself: containerd's image store drops whom an import takes the last name from,
            // and keeps whom a tag takes it from.
            let options = ImportOptions {
                repository: Some(repository.to_owned()),
                tag: Some(placeholder_tag.clone()),
                changes: vec![format!("LABEL {PLACEHOLDER}=1")],
                platform: None,
            };
            let placeholder = engine.import(Path::new("/dev/null"), &options).await?;
            engine.tag(&placeholder, repository, tag).await?;
        } else if self.image.is_some() && !found.labels.contains_key(PLACEHOLDER) {
            // It was given to something else since.
            return Ok(false);
        }
        if self.image.is_some() {
            engine.remove_image(&format!("{repository}:{placeholder_tag}"), false).await?;
        }
        // Last, so that a later run can go on where this one was ended.
        engine.remove_image(&self.reference, false).await
    }
}
