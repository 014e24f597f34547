//! The AMI in other regions, or encrypted in its own: all at once, and all or none.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use kiln_core::{BuildContext, Failure};

use crate::cloud::{Cloud, CloudError, CopyRequest, ErrorKind, ImageInfo};
use crate::error::failure;
use crate::image::{ImageTags, Made, wait_until_available};
use crate::machine::AmazonMachine;
use crate::remove;
use crate::undo::{ImageUndo, now};

/// An image of the result.
pub(crate) struct Copy {
    pub(crate) cloud: Arc<dyn Cloud>,
    pub(crate) info: ImageInfo,
}

/// A copy to make.
struct Target {
    region: String,
    key: Option<String>,
}

impl AmazonMachine {
    fn targets(&self) -> Vec<Target> {
        let config = &self.config;
        let here = self.cloud.region();
        let full = |key: Option<&String>| key.cloned().filter(|key| !key.is_empty());
        let mut targets: Vec<Target> = Vec::new();
        if self.is_intermediary() && !config.skip_save_build_region {
            let key = full(config.kms_key_id.as_ref()).or_else(|| full(config.region_kms_key_ids.get(here)));
            targets.push(Target { region: here.to_owned(), key });
        }
        for region in &config.ami_regions {
            let is_known = targets.iter().any(|target| target.region == *region);
            // With `skip_save_build_region`, a region that is asked for by name is meant all the same.
            let is_there = region == here && !self.is_intermediary();
            if !is_known && !is_there {
                targets.push(Target { region: region.clone(), key: full(config.region_kms_key_ids.get(region)) });
            }
        }
        targets
    }

    /// Makes them, and waits until they can be used. What was made by then is undone by the journal if one fails.
    pub(crate) async fn copies(
        &self,
        context: &BuildContext,
        made: &Made,
        tags: &ImageTags,
        description: Option<&str>,
    ) -> Result<Vec<Copy>, Failure> {
        let targets = self.targets();
        let starts = targets.iter().map(|target| self.start_copy(context, made, target, tags, description));
        // Each start goes to its end, so that the journal knows what there is.
        let started: Vec<(Arc<dyn Cloud>, String)> = join_all(starts).await.into_iter().collect::<Result<_, _>>()?;
        let waits = started.into_iter().map(|(cloud, id)| async move {
            let info = wait_until_available(&cloud, &id, context, self.pace).await?;
            Ok::<Copy, Failure>(Copy { cloud, info })
        });
        let mut copies = try_join_all(waits).await?;
        if !self.is_intermediary() {
            copies.insert(0, Copy { cloud: Arc::clone(&self.cloud), info: made.info.clone() });
        }
        Ok(copies)
    }

    async fn start_copy(
        &self,
        context: &BuildContext,
        made: &Made,
        target: &Target,
        tags: &ImageTags,
        description: Option<&str>,
    ) -> Result<(Arc<dyn Cloud>, String), Failure> {
        let Target { region, key } = target;
        let cloud = self.connections.cloud(&self.access, Some(region)).await?;
        let name = self.config.ami_name.clone();
        let mut undo = ImageUndo {
            place: self.place_in(region),
            name: name.clone(),
            at: now(),
            instance: None,
            tags: self.marks.tags(),
            id: None,
        };
        let entry = context.journal.record(&context.build, undo.entry())?;
        context.events.message(format!("copying {} to {region}", made.info.id));
        let minutes = self.config.snapshot_copy_duration_minutes.and_then(|minutes| i32::try_from(minutes).ok());
        let request = CopyRequest {
            source_image: made.info.id.clone(),
            source_region: self.cloud.region().to_owned(),
            name,
            description: description.map(str::to_owned),
            encrypted: self.config.encrypt_boot,
            kms_key: key.clone().filter(|_| self.config.encrypt_boot == Some(true)),
            client_token: self.marks.token(&format!("copy-{region}")),
            copy_tags: false,
            snapshot_minutes: minutes,
            tags: tags.specs(),
        };
        let id = match cloud.copy_image(&request).await {
            Ok(id) => id,
            Err(error) => {
                if error.is_refusal && error.kind != ErrorKind::Duplicate {
                    context.journal.strike(entry)?;
                }
                lost_copy(&*cloud, &undo, error).await?
            }
        };
        undo.id = Some(id.clone());
        context.journal.amend(entry, undo.entry())?;
        Ok((cloud, id))
    }
}

/// The copy of a call whose answer was lost.
async fn lost_copy(cloud: &dyn Cloud, undo: &ImageUndo, error: CloudError) -> Result<String, Failure> {
    if matches!(error.kind, ErrorKind::Duplicate | ErrorKind::Lost)
        && let Ok(found) = remove::ours(cloud, undo).await
        && let Some(image) = found.into_iter().next()
    {
        return Ok(image.id);
    }
    Err(failure(format!("copy the AMI to {}", undo.place.region), error))
}
