//! From the instance to an AMI.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::communicator::CaptureSink;
use kiln_core::{Artifact, BuildContext, Command, EntryId, Failure};
use kiln_ssh::options::Reach;

use crate::artifact;
use crate::cloud::{
    Cloud, CloudError, CloudResult, ErrorKind, Filter, ImageInfo, ImageQuery, ImageRequest, InstanceChange, TagSpec,
    Tags,
};
use crate::devices::devices;
use crate::error::{failure, wrong};
use crate::instance::{STARTING, look};
use crate::machine::AmazonMachine;
use crate::pace::{Look, SETTLING, Wait, again_while, is_passing};
use crate::remove;
use crate::source::Texts;
use crate::undo::{ImageUndo, Place, now};

/// How long an AMI may take; large volumes take hours.
pub(crate) const AVAILABLE: Duration = Duration::from_secs(4 * 60 * 60);

/// Takes keys out that must not be in the AMI: `$1` of the build's login, `$2` the host's, where they are not empty.
const TIDY: &str = r#"
root=; [ "$(id -u)" = 0 ] || root="sudo -n"
status=0
if [ -n "$1" ]; then
    for file in "$HOME/.ssh/authorized_keys" /root/.ssh/authorized_keys; do
        $root sh -c 'grep -qF -- "$2" "$1" 2>/dev/null || exit 0
            grep -vF -- "$2" "$1" >"$1.kiln"; cat "$1.kiln" >"$1" && rm "$1.kiln"' sh "$file" "$1" || status=1
    done
fi
if [ -n "$2" ]; then
    $root sh -c 'grep -qF -- "$1" /etc/ssh/ssh_host_ed25519_key.pub 2>/dev/null || exit 0
        rm -f /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_ed25519_key.pub' sh "$2" || echo "the host key stays" >&2
fi
exit $status
"#;

/// An image with its journal entry.
pub(crate) struct Made {
    pub(crate) info: ImageInfo,
    pub(crate) entry: EntryId,
}

/// What an AMI and its snapshots bear.
pub(crate) struct ImageTags {
    pub(crate) image: Tags,
    pub(crate) snapshot: Tags,
}

impl ImageTags {
    pub(crate) fn specs(&self) -> Vec<TagSpec> {
        let kinds = [("image", &self.image), ("snapshot", &self.snapshot)];
        let full = kinds.into_iter().filter(|(_, tags)| !tags.is_empty());
        full.map(|(resource, tags)| TagSpec { resource: resource.to_owned(), tags: tags.clone() }).collect()
    }
}

impl AmazonMachine {
    /// All of it.
    pub(crate) async fn make_image(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        if self.config.skip_create_ami {
            context.events.message("making no AMI, as `skip_create_ami` says");
            return Ok(artifact::none());
        }
        let texts = Texts::new(context, &self.source, self.cloud.region());
        let tags = self.image_tags(&texts)?;
        let description = self.config.ami_description.as_deref().filter(|text| !text.is_empty());
        let description = description.map(|text| texts.text("ami_description", text)).transpose()?;
        context.unless_cancelled(self.tidy()).await??;
        self.stop(context).await?;
        self.enhance(context).await?;
        self.free_names(context).await?;
        let made = self.create(context, &tags, description.as_deref()).await?;
        let copies = self.copies(context, &made, &tags, description.as_deref()).await?;
        self.attributes(context, &copies).await?;
        self.drop_intermediary(context, made).await?;
        let images: BTreeMap<String, String> =
            copies.into_iter().map(|copy| (copy.cloud.region().to_owned(), copy.info.id)).collect();
        Ok(artifact::artifact(&images, &self.connections, &self.access, self.pace))
    }

    fn image_tags(&self, texts: &Texts<'_>) -> Result<ImageTags, Failure> {
        let config = &self.config;
        let mut image = if config.skip_ami_run_tags { Tags::new() } else { self.run_tags.clone() };
        image.extend(texts.tags("tags", &config.tags, &config.tag)?);
        let mut snapshot = image.clone();
        snapshot.extend(texts.tags("snapshot_tags", &config.snapshot_tags, &config.snapshot_tag)?);
        Ok(ImageTags { image: self.marks.added_to(&image), snapshot: self.marks.added_to(&snapshot) })
    }

    /// Whether what is made of the instance is only there to be copied.
    pub(crate) fn is_intermediary(&self) -> bool {
        self.config.encrypt_boot == Some(true) || self.config.skip_save_build_region
    }

    /// What must not be in the AMI.
    async fn tidy(&self) -> Result<(), Failure> {
        let blob = |public: &str| public.split_whitespace().nth(1).unwrap_or_default().to_owned();
        let facts = kiln_core::Machine::facts(self);
        let public = facts.get("SSHPublicKey").map(String::as_str).filter(|_| self.ssh.clears_authorized_keys);
        let login = public.map(blob).unwrap_or_default();
        let host = self.host_key.as_ref().map(|pair| blob(&pair.public)).unwrap_or_default();
        if (login.is_empty() && host.is_empty()) || self.ssh.reach == Reach::None || self.config.disable_stop_instance {
            return Ok(());
        }
        let mut sink = CaptureSink::default();
        let command = Command::new(["/bin/sh", "-c", TIDY, "sh", &login, &host]);
        let status = self.communicator.exec(&command, &mut sink).await.map_err(Failure::build)?;
        if status.is_success() || login.is_empty() {
            return Ok(());
        }
        let why = String::from_utf8_lossy(&sink.stderr).trim().to_owned();
        Err(wrong(format!("cannot take the build's key out of authorized_keys (`ssh_clear_authorized_keys`): {why}")))
    }

    /// Stops the instance, so that its volumes are whole.
    async fn stop(&self, context: &BuildContext) -> Result<(), Failure> {
        let id = &self.owned.id;
        if self.owned.is_spot {
            // EC2 restarts it while it makes the image.
            return Ok(());
        }
        if self.config.disable_stop_instance {
            context.events.message(format!("waiting until instance {id} stops by itself"));
        } else {
            context.events.message(format!("stopping instance {id}"));
            let may_repeat = |error: &CloudError| {
                (is_passing(error) || error.code == "IncorrectInstanceState") && !context.cancel.is_cancelled()
            };
            let stop = again_while(self.pace, SETTLING, may_repeat, || self.cloud.stop_instance(id));
            stop.await.map_err(|error| failure(format!("stop instance {id}"), error))?;
        }
        let what = format!("instance {id} has stopped");
        let wait = Wait { what, limit: STARTING, pace: self.pace, context: Some(context) };
        let info = wait.until(|| look(&*self.cloud, id, "stopped")).await?;
        self.owned.update(info).await;
        Ok(())
    }

    /// Marks it for enhanced networking.
    async fn enhance(&self, context: &BuildContext) -> Result<(), Failure> {
        let config = &self.config;
        if self.owned.is_spot && (config.ena_support.is_some() || config.sriov_support) {
            context
                .events
                .warn("`ena_support` and `sriov_support` have no effect on spot instances, which cannot be stopped");
            return Ok(());
        }
        let id = &self.owned.id;
        let is_on = self.owned.instance().await.is_some_and(|info| info.ena_support);
        let ena = config.ena_support.filter(|wanted| *wanted != is_on).map(InstanceChange::Ena);
        let sriov = config.sriov_support.then_some(InstanceChange::Sriov);
        for change in [sriov, ena].into_iter().flatten() {
            let changed = self.cloud.modify_instance(id, change).await;
            changed.map_err(|error| failure(format!("change instance {id} for enhanced networking"), error))?;
        }
        Ok(())
    }

    /// Deregisters AMIs of the name, where the user wants that.
    async fn free_names(&self, context: &BuildContext) -> Result<(), Failure> {
        if !self.config.force_deregister && !context.options.force {
            return Ok(());
        }
        let name = &self.config.ami_name;
        let here = self.cloud.region();
        let mut regions = self.config.ami_regions.clone();
        if !regions.iter().any(|region| region == here) {
            regions.push(here.to_owned());
        }
        for region in regions {
            let cloud = self.connections.cloud(&self.access, Some(&region)).await?;
            let query = ImageQuery {
                owners: vec!["self".to_owned()],
                filters: vec![Filter::new("name", name)],
                include_deprecated: true,
                ..ImageQuery::default()
            };
            let found = context.unless_cancelled(cloud.describe_images(&query)).await?;
            let found = match found {
                Err(error) if error.kind != ErrorKind::NotFound => {
                    return Err(failure(format!("look up AMIs named `{name}` in {region}"), error));
                }
                found => found.unwrap_or_default(),
            };
            for old in found.into_iter().filter(|old| old.name == *name && old.state != "deregistered") {
                context.events.message(format!("deregistering {} in {region}, which has the name `{name}`", old.id));
                self.deregister_old(&*cloud, &old).await?;
            }
        }
        Ok(())
    }

    async fn deregister_old(&self, cloud: &dyn Cloud, old: &ImageInfo) -> Result<(), Failure> {
        if self.config.force_delete_snapshot {
            return remove::deregister(cloud, old, self.pace).await.map(drop);
        }
        match cloud.deregister_image(&old.id).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(failure(format!("deregister {}", old.id), error)),
            _ => Ok(()),
        }
    }

    async fn create(
        &self,
        context: &BuildContext,
        tags: &ImageTags,
        description: Option<&str>,
    ) -> Result<Made, Failure> {
        let config = &self.config;
        let is_intermediary = self.is_intermediary();
        // One that is only copied must not take the name.
        let name = if is_intermediary { self.marks.name() } else { config.ami_name.clone() };
        let mut undo = ImageUndo {
            place: self.place(),
            name: name.clone(),
            at: now(),
            instance: Some(self.owned.id.clone()),
            tags: self.marks.tags(),
            id: None,
        };
        let entry = context.journal.record(&context.build, undo.entry())?;
        context.events.message(format!("making the AMI `{name}` of instance {}", self.owned.id));
        let request = ImageRequest {
            instance: self.owned.id.clone(),
            name: name.clone(),
            description: description.map(str::to_owned),
            no_reboot: false,
            block_devices: devices(&config.ami_block_device_mappings, false),
            tags: tags.specs(),
        };
        // Not stopped halfway: EC2 would go on and make an image that nobody knows of.
        let id = match self.cloud.create_image(&request).await {
            Ok(id) => id,
            Err(error) => self.lost_image(context, entry, &undo, error).await?,
        };
        undo.id = Some(id.clone());
        context.journal.amend(entry, undo.entry())?;
        let info = wait_until_available(&self.cloud, &id, context, self.pace).await?;
        Ok(Made { info, entry })
    }

    /// The image of a call that was carried out by an earlier try of it, or whose answer was lost.
    async fn lost_image(
        &self,
        context: &BuildContext,
        entry: EntryId,
        undo: &ImageUndo,
        error: CloudError,
    ) -> Result<String, Failure> {
        let is_lost = matches!(error.kind, ErrorKind::Duplicate | ErrorKind::Lost);
        if is_lost && let Ok(found) = remove::ours(&*self.cloud, undo).await {
            if let Some(image) = found.into_iter().next() {
                return Ok(image.id);
            }
            if error.kind == ErrorKind::Duplicate {
                context.journal.strike(entry)?;
            }
        } else if error.is_refusal {
            context.journal.strike(entry)?;
        }
        Err(failure(format!("make the AMI `{}`", undo.name), error))
    }

    /// Removes what was only there to be copied.
    async fn drop_intermediary(&self, context: &BuildContext, made: Made) -> Result<(), Failure> {
        if !self.is_intermediary() {
            return Ok(());
        }
        context.events.message(format!("removing {}, which was only there to be copied", made.info.id));
        remove::deregister(&*self.cloud, &made.info, self.pace).await?;
        context.journal.strike(made.entry)
    }

    /// Where a region's things are.
    pub(crate) fn place_in(&self, region: &str) -> Place {
        Place { region: region.to_owned(), ..self.place() }
    }
}

/// Waits until an image can be used.
pub(crate) async fn wait_until_available(
    cloud: &Arc<dyn Cloud>,
    id: &str,
    context: &BuildContext,
    pace: crate::Pace,
) -> Result<ImageInfo, Failure> {
    let region = cloud.region();
    context.events.message(format!("waiting until {id} in {region} is available"));
    let wait = Wait { what: format!("{id} in {region} is available"), limit: AVAILABLE, pace, context: Some(context) };
    wait.until(|| look_at_image(&**cloud, id)).await
}

async fn look_at_image(cloud: &dyn Cloud, id: &str) -> Result<CloudResult<Look<ImageInfo>>, Failure> {
    let query = ImageQuery { ids: vec![id.to_owned()], ..ImageQuery::default() };
    let info = match cloud.describe_images(&query).await {
        Ok(mut found) if !found.is_empty() => found.remove(0),
        Ok(_) => return Ok(Ok(Look::NotYet("not known yet".to_owned()))),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(Ok(Look::NotYet("not known yet".to_owned()))),
        Err(error) => return Ok(Err(error)),
    };
    match info.state.as_str() {
        "available" => Ok(Ok(Look::Done(info))),
        "failed" | "error" | "invalid" | "deregistered" => {
            let why = info.state_reason.as_deref().unwrap_or("EC2 does not say why");
            Err(wrong(format!("{id} in {} is {} instead of available: {why}", cloud.region(), info.state)))
        }
        _ => Ok(Ok(Look::NotYet(info.state))),
    }
}
