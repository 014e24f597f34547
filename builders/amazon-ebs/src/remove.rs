//! Removing things, for machines that end and for journals. Each tells whether there was anything, and may be repeated.

use std::time::Duration;

use kiln_core::Failure;
use tokio::time::Instant;

use crate::cloud::{Cloud, CloudError, CloudResult, ErrorKind, Filter, ImageInfo, ImageQuery, InstanceInfo};
use crate::error::failure;
use crate::pace::{Look, Pace, Wait, again_while};
use crate::undo::{GroupUndo, ImageUndo, InstanceUndo, KeyPairUndo, ProfileUndo, TemplateUndo, now};

/// Bound on removing one thing.
pub(crate) const LIMIT: Duration = Duration::from_secs(15 * 60);

/// How long an instance may take to end.
const ENDING: Duration = Duration::from_secs(10 * 60);

/// How long a thing may be held by what used it.
const RELEASE: Duration = Duration::from_secs(3 * 60);

/// What was asked for less than so many seconds ago may appear still; it is looked for that long.
const FRESH: u64 = 120;
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// EC2 shows instances and deregistered images for about an hour after their end.
const SHOWN: u64 = 3000;

/// Whether an error says that there is nothing (any more).
fn gone(error: &CloudError) -> bool {
    error.kind == ErrorKind::NotFound
}

/// Makes a call that removes something: whether it was there.
async fn removed(action: &str, call: impl Future<Output = CloudResult<()>>) -> Result<bool, Failure> {
    match call.await {
        Ok(()) => Ok(true),
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(failure(action, error)),
    }
}

/// What was there of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// All of it, and it is gone now.
    Removed,
    /// It is shown, and had ended already.
    Ended,
    /// These credentials find nothing.
    Nothing,
}

/// Ends an instance, waits until it is gone, and removes the volumes that would stay.
pub(crate) async fn instance(cloud: &dyn Cloud, data: &InstanceUndo, pace: Pace) -> Result<Found, Failure> {
    let shown = match &data.id {
        Some(id) => known_instance(cloud, id).await?.into_iter().collect(),
        None => unknown_instances(cloud, data, pace).await?,
    };
    let mut found = if shown.is_empty() { Found::Nothing } else { Found::Ended };
    for instance in shown {
        if end_instance(cloud, &instance, &[], pace, &|_| {}).await? {
            found = Found::Removed;
        }
    }
    Ok(found)
}

async fn known_instance(cloud: &dyn Cloud, id: &str) -> Result<Option<InstanceInfo>, Failure> {
    match cloud.describe_instances(&[id.to_owned()], &[]).await {
        Ok(instances) => Ok(instances.into_iter().next()),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(failure(format!("look up instance {id}"), error)),
    }
}

/// Refuses to believe that an instance is gone which is not shown and was launched lately: it would be shown, even one that
/// has ended.
pub(crate) fn check_instance_gone(cloud: &dyn Cloud, data: &InstanceUndo) -> Result<(), Failure> {
    let (Some(id), age) = (&data.id, now().saturating_sub(data.at)) else { return Ok(()) };
    let text = format!("instance {id} is not shown to these credentials in {}", cloud.region());
    if data.place.maker.is_unknown() && age < SHOWN {
        return Err(Failure::environment(text).hint("use the credentials and the profile of the run that made it"));
    }
    // The right account: it is too new to be shown everywhere.
    if age < FRESH {
        return Err(Failure::environment(text).hint("it was launched just now; try again in two minutes"));
    }
    Ok(())
}

/// Instances that fit an entry without an id; a call that nobody waits for may make one only now.
async fn unknown_instances(cloud: &dyn Cloud, data: &InstanceUndo, pace: Pace) -> Result<Vec<InstanceInfo>, Failure> {
    if data.filters.is_empty() {
        return Ok(Vec::new());
    }
    look_again(data.at, pace, || async {
        let found = cloud.describe_instances(&[], &data.filters()).await;
        found.map_err(|error| failure("look up the instances of the run", error))
    })
    .await
}

/// Looks until something is there, for a while where it may be under way.
async fn look_again<T, F: Future<Output = Result<Vec<T>, Failure>> + Send>(
    at: u64,
    pace: Pace,
    mut look: impl FnMut() -> F + Send,
) -> Result<Vec<T>, Failure> {
    let (is_fresh, start) = (now().saturating_sub(at) < FRESH, Instant::now());
    loop {
        let found = look().await?;
        if !found.is_empty() || !is_fresh || start.elapsed() >= LAST_ANSWER.min(pace.limit.unwrap_or(LAST_ANSWER)) {
            return Ok(found);
        }
        tokio::time::sleep(pace.first.min(Duration::from_secs(1))).await;
    }
}

/// Ends an instance that was found. Volumes with these ids stay.
pub(crate) async fn end_instance(
    cloud: &dyn Cloud,
    instance: &InstanceInfo,
    keeps: &[String],
    pace: Pace,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<bool, Failure> {
    let id = &instance.id;
    let was_there = instance.state != "terminated";
    if was_there {
        tell("terminating");
        removed(&format!("terminate instance {id}"), cloud.terminate_instance(id)).await?;
        wait_until_ended(cloud, id, pace).await?;
    }
    remove_volumes(cloud, instance, keeps, pace).await?;
    Ok(was_there)
}

async fn wait_until_ended(cloud: &dyn Cloud, id: &str, pace: Pace) -> Result<(), Failure> {
    let wait = Wait { what: format!("instance {id} has ended"), limit: ENDING, pace, context: None };
    wait.until(|| async {
        Ok(match cloud.describe_instances(&[id.to_owned()], &[]).await {
            Ok(instances) => match instances.first().map(|instance| instance.state.as_str()) {
                None | Some("terminated") => Ok(Look::Done(())),
                Some(state) => Ok(Look::NotYet(state.to_owned())),
            },
            Err(error) if gone(&error) => Ok(Look::Done(())),
            Err(error) => Err(error),
        })
    })
    .await
}

/// Volumes that do not go with their instance.
async fn remove_volumes(
    cloud: &dyn Cloud,
    instance: &InstanceInfo,
    keeps: &[String],
    pace: Pace,
) -> Result<(), Failure> {
    for volume in &instance.staying_volumes {
        if keeps.contains(volume) {
            continue;
        }
        let is_held = |error: &CloudError| error.kind == ErrorKind::InUse;
        let deleted = again_while(pace, RELEASE, is_held, || cloud.delete_volume(volume));
        removed(&format!("delete volume {volume}"), deleted).await?;
    }
    Ok(())
}

/// Deletes a key pair, if it is ours.
pub(crate) async fn key_pair(cloud: &dyn Cloud, data: &KeyPairUndo) -> Result<bool, Failure> {
    let action = format!("look up key pair {}", data.name);
    let found = match cloud.describe_key_pairs(std::slice::from_ref(&data.name)).await {
        Ok(found) => found,
        Err(error) if gone(&error) => return Ok(false),
        Err(error) => return Err(failure(action, error)),
    };
    let ours = found.iter().any(|pair| is_fingerprint(pair.fingerprint.as_deref(), &data.fingerprint));
    if !ours {
        return Ok(false);
    }
    removed(&format!("delete key pair {}", data.name), cloud.delete_key_pair(&data.name)).await
}

/// Whether EC2's fingerprint is this one. A cloud that computes others (of imported RSA keys it is MD5) gives none that can
/// be compared.
pub(crate) fn is_fingerprint(shown: Option<&str>, ours: &str) -> bool {
    let plain = |text: &str| text.trim_start_matches("SHA256:").trim_end_matches('=').to_owned();
    shown.is_some_and(|shown| shown.contains(':') || plain(shown) == plain(ours))
}

/// Deletes a security group; what used it may hold it for a while.
pub(crate) async fn group(cloud: &dyn Cloud, data: &GroupUndo, pace: Pace) -> Result<bool, Failure> {
    let ids = match &data.id {
        Some(id) => vec![id.clone()],
        None => {
            let filter = [Filter::new("group-name", &data.name)];
            let found = cloud.describe_security_groups(&[], &filter).await;
            let found = found.map_err(|error| failure(format!("look up security group {}", data.name), error))?;
            found.into_iter().filter(|group| group.name == data.name).map(|group| group.id).collect()
        }
    };
    let mut has_removed = false;
    for id in ids {
        let is_held = |error: &CloudError| error.kind == ErrorKind::InUse;
        let mut action = format!("delete security group {}", data.name);
        let mut deleted = cloud.delete_security_group(&id).await;
        if deleted.as_ref().is_err_and(is_held) {
            // An instance that goes on does not release it, however long one waits.
            match user_of(cloud, &id).await {
                Some(user) => action.push_str(&format!(", which instance {user} uses")),
                None => deleted = again_while(pace, RELEASE, is_held, || cloud.delete_security_group(&id)).await,
            }
        }
        has_removed |= removed(&action, async { deleted }).await?;
    }
    Ok(has_removed)
}

/// An instance that uses a security group and is not about to end.
async fn user_of(cloud: &dyn Cloud, group: &str) -> Option<String> {
    let users = cloud.describe_instances(&[], &[Filter::new("instance.group-id", group)]).await.ok()?;
    let stays = |instance: &InstanceInfo| !matches!(instance.state.as_str(), "shutting-down" | "terminated");
    users.into_iter().find(stays).map(|instance| instance.id)
}

/// Deletes an instance profile with its role.
pub(crate) async fn profile(cloud: &dyn Cloud, data: &ProfileUndo, pace: Pace) -> Result<bool, Failure> {
    let name = &data.name;
    let is_held = |error: &CloudError| error.kind == ErrorKind::InUse;
    let taken_out =
        removed(&format!("take role {name} out of its instance profile"), cloud.remove_role(name, name)).await;
    let deleted = again_while(pace, RELEASE, is_held, || cloud.delete_instance_profile(name));
    // Where the role was out of it already, the first call may fail, and the second one tells.
    let mut has_removed = match removed(&format!("delete instance profile {name}"), deleted).await {
        Ok(was_there) => was_there,
        Err(failure) => return Err(taken_out.err().unwrap_or(failure)),
    };
    removed(&format!("delete the policy of role {name}"), cloud.delete_role_policy(name, name)).await?;
    let deleted = again_while(pace, RELEASE, is_held, || cloud.delete_role(name));
    has_removed |= removed(&format!("delete role {name}"), deleted).await?;
    Ok(has_removed)
}

/// Deletes a launch template.
pub(crate) async fn launch_template(cloud: &dyn Cloud, data: &TemplateUndo) -> Result<bool, Failure> {
    let action = format!("delete launch template {}", data.name);
    let ids = match &data.id {
        Some(id) => vec![id.clone()],
        None => match cloud.describe_launch_templates(std::slice::from_ref(&data.name)).await {
            Ok(found) => found.into_iter().map(|template| template.id).collect(),
            Err(error) if gone(&error) => Vec::new(),
            Err(error) => return Err(failure(action, error)),
        },
    };
    let mut has_removed = false;
    for id in ids {
        has_removed |= removed(&action, cloud.delete_launch_template(&id)).await?;
    }
    Ok(has_removed)
}

/// Deregisters an image and deletes its snapshots.
pub(crate) async fn image(cloud: &dyn Cloud, data: &ImageUndo, pace: Pace) -> Result<bool, Failure> {
    let found = match &data.id {
        Some(id) => known_image(cloud, id).await?.into_iter().collect(),
        None => unknown_images(cloud, data, pace).await?,
    };
    if found.is_empty()
        && let Some(id) = &data.id
    {
        // Deregistered by an earlier try that did not come to its snapshots.
        return delete_snapshots(cloud, unlisted_snapshots(cloud, id).await?, pace).await;
    }
    let mut has_removed = false;
    for image in found {
        has_removed |= deregister(cloud, &image, pace).await?;
    }
    Ok(has_removed)
}

async fn known_image(cloud: &dyn Cloud, id: &str) -> Result<Option<ImageInfo>, Failure> {
    let query = ImageQuery { ids: vec![id.to_owned()], include_deprecated: true, ..ImageQuery::default() };
    match cloud.describe_images(&query).await {
        Ok(images) => Ok(images.into_iter().find(|image| image.state != "deregistered")),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(failure(format!("look up {id}"), error)),
    }
}

async fn unknown_images(cloud: &dyn Cloud, data: &ImageUndo, pace: Pace) -> Result<Vec<ImageInfo>, Failure> {
    look_again(data.at, pace, || async {
        let found = ours(cloud, data).await;
        found.map_err(|error| failure(format!("look up the AMI `{}`", data.name), error))
    })
    .await
}

/// Images of one's own that bear the name and what tells that this run made them.
pub(crate) async fn ours(cloud: &dyn Cloud, data: &ImageUndo) -> CloudResult<Vec<ImageInfo>> {
    let mut filters = vec![Filter::new("name", &data.name)];
    if let Some(instance) = data.instance.as_ref().filter(|_| data.tags.is_empty()) {
        filters.push(Filter::new("source-instance-id", instance));
    }
    filters.extend(data.tags.iter().map(|(key, value)| Filter::new(format!("tag:{key}"), value)));
    let query =
        ImageQuery { owners: vec!["self".to_owned()], filters, include_deprecated: true, ..ImageQuery::default() };
    let mut found = cloud.describe_images(&query).await?;
    // A cloud that ignores a filter must not make us remove what is not ours.
    found.retain(|image| {
        let is_tagged = data.tags.iter().all(|(key, value)| image.tags.get(key) == Some(value));
        image.name == data.name && is_tagged && image.state != "deregistered"
    });
    if data.tags.is_empty() {
        let since = i64::try_from(data.at).unwrap_or(i64::MAX).saturating_sub(300);
        found.retain(|image| {
            image.creation_date.parse::<jiff::Timestamp>().is_ok_and(|created| created.as_second() >= since)
        });
    }
    Ok(found)
}

/// Deregisters an image that was found, and deletes its snapshots.
pub(crate) async fn deregister(cloud: &dyn Cloud, image: &ImageInfo, pace: Pace) -> Result<bool, Failure> {
    let id = &image.id;
    let is_protected = image.deregistration_protection.as_deref().is_some_and(|state| state.starts_with("enabled"));
    if is_protected {
        removed(&format!("take the protection of {id} away"), cloud.unprotect_image(id)).await?;
    }
    let snapshots: Vec<String> =
        image.block_devices.iter().filter_map(|device| device.ebs.as_ref()?.snapshot.clone()).collect();
    let was_there = removed(&format!("deregister {id}"), cloud.deregister_image(id)).await?;
    // Of one that was not finished, EC2 may not have told them all.
    let more = if image.state == "available" { Vec::new() } else { unlisted_snapshots(cloud, id).await? };
    delete_snapshots(cloud, snapshots.into_iter().chain(more).collect(), pace).await?;
    Ok(was_there)
}

/// The snapshots of an image, by what EC2 writes into their descriptions.
async fn unlisted_snapshots(cloud: &dyn Cloud, image: &str) -> Result<Vec<String>, Failure> {
    let filter = [Filter::new("description", format!("*{image}*"))];
    let found = cloud.describe_snapshots(&[], &filter).await;
    let found = found.map_err(|error| failure(format!("look up the snapshots of {image}"), error))?;
    let is_of_it = |text: &str| is_description_of(text, image);
    Ok(found
        .into_iter()
        .filter(|found| found.description.as_deref().is_some_and(is_of_it))
        .map(|found| found.id)
        .collect())
}

/// Whether a snapshot was made for this image, and not of it for another: "Copied for DestinationAmi ami-1 from SourceAmi
/// ami-2 ..." is of the first.
fn is_description_of(text: &str, image: &str) -> bool {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|word| !word.is_empty()).collect();
    words.windows(2).any(|pair| pair[1] == image && matches!(pair[0], "for" | "DestinationAmi" | "AMI"))
}

async fn delete_snapshots(cloud: &dyn Cloud, mut ids: Vec<String>, pace: Pace) -> Result<bool, Failure> {
    ids.sort_unstable();
    ids.dedup();
    let mut has_removed = false;
    for id in ids {
        let is_held = |error: &CloudError| error.kind == ErrorKind::InUse;
        let deleted = again_while(pace, RELEASE, is_held, || cloud.delete_snapshot(&id));
        has_removed |= removed(&format!("delete snapshot {id}"), deleted).await?;
    }
    Ok(has_removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_copies_are_not_those_of_the_original() {
        let copied =
            "Copied for DestinationAmi ami-1 from SourceAmi ami-2 for SourceSnapshot snap-3. Task created on 1.";
        assert!(is_description_of(copied, "ami-1"));
        assert!(!is_description_of(copied, "ami-2"));
        assert!(is_description_of("Created by CreateImage(i-1) for ami-2", "ami-2"));
        assert!(!is_description_of("Created by CreateImage(i-1) for ami-22", "ami-2"));
    }

    #[test]
    fn fingerprints_have_several_forms() {
        assert!(is_fingerprint(Some("abc="), "SHA256:abc"));
        assert!(!is_fingerprint(Some("abd="), "SHA256:abc"));
        // MD5 of an imported RSA key cannot be compared.
        assert!(is_fingerprint(Some("00:11"), "SHA256:abc"));
        assert!(!is_fingerprint(None, "SHA256:abc"));
    }
}
