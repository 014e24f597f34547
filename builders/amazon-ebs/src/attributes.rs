//! Who may use the AMIs, until when, and how.

use std::time::Duration;

use futures_util::future::try_join_all;
use kiln_core::{BuildContext, Failure};

use crate::cloud::{FastLaunchRequest, ImageChange, ImageShare, LaunchTemplateRef, SnapshotShare};
use crate::copies::Copy;
use crate::error::{failure, wrong};
use crate::machine::AmazonMachine;
use crate::pace::{Look, Wait};

/// Fast launches need snapshots to be made first.
const FAST_LAUNCH: Duration = Duration::from_secs(2 * 60 * 60);

/// What fast launches in one region need.
struct FastLaunch {
    template: Option<LaunchTemplateRef>,
}

impl AmazonMachine {
    /// In all regions at once.
    pub(crate) async fn attributes(&self, context: &BuildContext, copies: &[Copy]) -> Result<(), Failure> {
        let each = copies.iter().map(|copy| self.attributes_of(context, copy));
        context.unless_cancelled(try_join_all(each)).await?.map(drop)
    }

    async fn attributes_of(&self, context: &BuildContext, copy: &Copy) -> Result<(), Failure> {
        let (id, region, config) = (&copy.info.id, copy.cloud.region(), &self.config);
        for (what, change) in self.changes() {
            context.events.message(format!("{what} {id} in {region}"));
            let changed = copy.cloud.modify_image(id, &change).await;
            changed.map_err(|error| failure(format!("go on with {what} {id} in {region}"), error))?;
        }
        let share = SnapshotShare { users: config.snapshot_users.clone(), groups: config.snapshot_groups.clone() };
        if share != SnapshotShare::default() {
            for snapshot in copy.info.block_devices.iter().filter_map(|device| device.ebs.as_ref()?.snapshot.as_ref()) {
                context.events.message(format!("sharing {snapshot} in {region}"));
                let shared = copy.cloud.share_snapshot(snapshot, &share).await;
                shared.map_err(|error| failure(format!("share {snapshot} in {region}"), error))?;
            }
        }
        if let Some(at) = config.deprecate_at.as_deref().filter(|at| !at.is_empty()) {
            context.events.message(format!("{id} in {region} will be deprecated at {at}"));
            let deprecated = copy.cloud.deprecate_image(id, at).await;
            deprecated.map_err(|error| failure(format!("say when {id} is deprecated"), error))?;
        }
        if let Some(fast) = self.fast_launch(region) {
            self.enable_fast_launch(context, copy, fast).await?;
        }
        // Last, as a build that failed afterwards could not take its AMI back for a day.
        if config.deregistration_protection.enabled {
            context.events.message(format!("protecting {id} in {region} from being deregistered"));
            let protected = copy.cloud.protect_image(id, config.deregistration_protection.with_cooldown).await;
            protected.map_err(|error| failure(format!("protect {id} from being deregistered"), error))?;
        }
        Ok(())
    }

    fn changes(&self) -> Vec<(&'static str, ImageChange)> {
        let config = &self.config;
        let mut changes = Vec::new();
        let share = ImageShare {
            users: config.ami_users.clone(),
            groups: config.ami_groups.clone(),
            organizations: config.ami_org_arns.clone(),
            units: config.ami_ou_arns.clone(),
        };
        if share != ImageShare::default() {
            changes.push(("sharing", ImageChange::Share(share)));
        }
        if !config.ami_product_codes.is_empty() {
            changes.push(("giving product codes to", ImageChange::ProductCodes(config.ami_product_codes.clone())));
        }
        if let Some(support) = config.imds_support.clone().filter(|support| !support.is_empty()) {
            changes.push(("asking for IMDSv2 in", ImageChange::ImdsSupport(support)));
        }
        changes
    }

    fn fast_launch(&self, region: &str) -> Option<FastLaunch> {
        let fast = &self.config.fast_launch;
        let template = |id: &Option<String>, name: &Option<String>, version: Option<i64>| {
            (id.is_some() || name.is_some()).then(|| LaunchTemplateRef {
                id: id.clone(),
                name: name.clone().filter(|_| id.is_none()),
                version: version.map_or_else(|| "$Latest".to_owned(), |version| version.to_string()),
            })
        };
        if !fast.enable_fast_launch {
            return None;
        }
        match fast.region_launch_templates.iter().find(|template| template.region == region) {
            Some(own) if own.enable_fast_launch == Some(false) => None,
            Some(own) => {
                Some(FastLaunch { template: template(&own.template_id, &own.template_name, own.template_version) })
            }
            None => {
                Some(FastLaunch { template: template(&fast.template_id, &fast.template_name, fast.template_version) })
            }
        }
    }

    async fn enable_fast_launch(&self, context: &BuildContext, copy: &Copy, fast: FastLaunch) -> Result<(), Failure> {
        let (id, region, config) = (&copy.info.id, copy.cloud.region(), &self.config.fast_launch);
        let small = |number: Option<i64>| number.and_then(|number| i32::try_from(number).ok());
        let request = FastLaunchRequest {
            image: id.clone(),
            launch_template: fast.template,
            max_parallel_launches: small(config.max_parallel_launches),
            target_resource_count: small(config.target_resource_count),
        };
        context.events.message(format!("enabling fast launches of {id} in {region}"));
        let enabled = copy.cloud.enable_fast_launch(&request).await;
        enabled.map_err(|error| failure(format!("enable fast launches of {id}"), error))?;
        let what = format!("fast launches of {id} in {region} are enabled");
        let wait = Wait { what, limit: FAST_LAUNCH, pace: self.pace, context: Some(context) };
        wait.until(|| async {
            Ok(match copy.cloud.fast_launch_state(id).await {
                Ok(Some(state)) if state == "enabled" => Ok(Look::Done(())),
                Ok(Some(state)) if state.ends_with("failed") => {
                    return Err(wrong(format!("fast launches of {id} in {region}: {state}")));
                }
                Ok(state) => Ok(Look::NotYet(state.unwrap_or_else(|| "not known yet".to_owned()))),
                Err(error) => Err(error),
            })
        })
        .await
    }
}
