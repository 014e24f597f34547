//! AMIs as the result of a build.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, Content, Failure};

use crate::access::Connections;
use crate::cloud::Access;
use crate::pace::Pace;
use crate::remove;
use crate::undo::{ImageUndo, Place};

/// Packer's.
const BUILDER_ID: &str = "mitchellh.amazonebs";

/// The artifact of AMIs by region.
pub(crate) fn artifact(
    images: &BTreeMap<String, String>,
    connections: &Arc<Connections>,
    access: &Access,
    pace: Pace,
) -> Artifact {
    let ids: Vec<String> = images.iter().map(|(region, image)| format!("{region}:{image}")).collect();
    let lines: Vec<String> = images.iter().map(|(region, image)| format!("{region}: {image}")).collect();
    Artifact {
        builder_id: BUILDER_ID.to_owned(),
        id: ids.join(","),
        description: format!("AMIs were created:\n{}\n", lines.join("\n")),
        content: Content::Nothing,
        owner: Some(Arc::new(Owner {
            images: images.clone(),
            connections: Arc::clone(connections),
            access: access.clone(),
            pace,
        })),
    }
}

/// Of `skip_create_ami`.
pub(crate) fn none() -> Artifact {
    Artifact {
        builder_id: BUILDER_ID.to_owned(),
        id: String::new(),
        description: "No AMI was made (`skip_create_ami`)".to_owned(),
        content: Content::Nothing,
        owner: None,
    }
}

/// Deregisters AMIs, with their snapshots.
struct Owner {
    images: BTreeMap<String, String>,
    connections: Arc<Connections>,
    access: Access,
    pace: Pace,
}

#[async_trait]
impl ArtifactOwner for Owner {
    fn removal_limit(&self) -> std::time::Duration {
        remove::LIMIT
    }

    async fn destroy(&self, _artifact: &Artifact, _context: &BuildContext) -> Result<(), Failure> {
        for (region, image) in &self.images {
            let cloud = self.connections.cloud(&self.access, Some(region)).await?;
            let place = Place { region: region.clone(), ..Place::default() };
            let undo = ImageUndo { place, id: Some(image.clone()), ..ImageUndo::default() };
            remove::image(&*cloud, &undo, self.pace).await?;
        }
        Ok(())
    }
}
