//! What runs now, and what a new image meets in a service.

use std::collections::BTreeMap;

use kiln_core::Failure;
use kiln_docker::engine::ContainerInfo;
use kiln_docker::{Engine, ImageInfo};
use kiln_registry::Platform;

use super::{Concerned, familiar};
use crate::args::RefreshArgs;

/// How a service's containers stand to the image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    /// None runs.
    Absent,
    /// All run with it.
    Same,
    /// Some run with another one.
    Stale,
}

/// The service's containers that run.
async fn running(engine: &dyn Engine, one: &Concerned<'_>) -> Result<Vec<ContainerInfo>, Failure> {
    let labels = BTreeMap::from([
        ("com.docker.compose.project".to_owned(), one.project.label.clone()),
        ("com.docker.compose.service".to_owned(), one.project.services[one.service].name.clone()),
    ]);
    let mut found = Vec::new();
    for id in engine.find_containers(&labels).await? {
        let Some(container) = engine.inspect_container(&id).await? else { continue };
        // `docker compose run` is somebody's own affair.
        let is_one_off = container.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True");
        if container.is_running && !is_one_off {
            found.push(container);
        }
    }
    Ok(found)
}

/// Finds out whether a service has to be restarted.
pub(super) async fn state(engine: &dyn Engine, one: &Concerned<'_>) -> Result<State, Failure> {
    let containers = running(engine, one).await?;
    if containers.is_empty() {
        return Ok(State::Absent);
    }
    for used in &one.uses {
        let Some(image) = engine.inspect_image(&familiar(&used.name)).await? else { return Ok(State::Stale) };
        for container in &containers {
            let is_same = match used.is_base {
                false => container.image == image.id,
                true => stands_on(engine.inspect_image(&container.image).await?.as_ref(), &image),
            };
            if !is_same {
                return Ok(State::Stale);
            }
        }
    }
    Ok(State::Same)
}

/// Whether an image begins with all layers of another one.
fn stands_on(image: Option<&ImageInfo>, base: &ImageInfo) -> bool {
    image.is_some_and(|image| image.layers.starts_with(&base.layers))
}

/// What a new image meets that its user should know of.
pub(super) async fn warnings(
    engine: &dyn Engine,
    one: &Concerned<'_>,
    arguments: &RefreshArgs,
) -> Result<Vec<String>, Failure> {
    let service = &one.project.services[one.service];
    let mut texts = Vec::new();
    for used in &one.uses {
        let name = familiar(&used.name);
        let Some(image) = engine.inspect_image(&name).await? else { continue };
        let wanted = service.platform.as_ref().map(|platform| platform.text.as_str());
        texts.extend(platform_mismatch(&name, &image, wanted, &engine.version().await?.architecture));
        for mount in &service.mounts {
            let volume = one.project.volumes.get(&mount.volume).cloned().unwrap_or_else(|| mount.volume.clone());
            texts.extend(hidden(&image, &volume, &mount.target));
        }
    }
    let policy = service.pull_policy.as_ref().map(|policy| policy.text.as_str()).unwrap_or_default();
    let pulls = matches!(policy, "always" | "daily" | "weekly") || policy.starts_with("every_");
    if pulls && !arguments.pull {
        texts
            .push(format!("its `pull_policy: {policy}` makes compose pull the image again, in place of the local one"));
    }
    Ok(texts)
}

fn platform_mismatch(name: &str, image: &ImageInfo, wanted: Option<&str>, own: &str) -> Option<String> {
    let has = format!("{}/{}", image.os, image.architecture);
    if let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) {
        let is_same = Platform::parse(wanted).is_some_and(|wanted| {
            (wanted.os.as_str(), wanted.architecture.as_str()) == (&image.os, &image.architecture)
        });
        if !is_same {
            return Some(format!(
                "its `platform` is {wanted}, and {name} is made for {has}: set the source's `platform`"
            ));
        }
    }
    let is_foreign = !image.architecture.is_empty() && !own.is_empty() && image.architecture != own;
    is_foreign
        .then(|| format!("{name} is made for {has}, and the engine runs on {own}: it runs by emulation, if at all"))
}

/// A volume keeps what it was first filled with: what a later image has at its place is not seen.
fn hidden(image: &ImageInfo, volume: &str, target: &str) -> Option<String> {
    let is_inside = |path: &str| path == target || path.starts_with(&format!("{}/", target.trim_end_matches('/')));
    let declared = image.volumes.iter().find(|path| is_inside(path.trim_end_matches('/')))?;
    Some(format!(
        "the volume {volume} at {target} hides what the new image has there (the image declares {declared}); \
         `docker volume rm {volume}`, with the service stopped, lets it be filled anew, and loses what it holds"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageInfo {
        ImageInfo {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            volumes: vec!["/var/lib/data/".to_owned()],
            layers: vec!["a".to_owned(), "b".to_owned()],
            ..ImageInfo::default()
        }
    }

    #[test]
    fn volumes_hide_what_the_image_declares() {
        assert!(hidden(&image(), "home", "/home").is_none());
        assert!(hidden(&image(), "home", "/var/lib/database").is_none());
        for target in ["/var/lib/data", "/var/lib", "/"] {
            let text = hidden(&image(), "shop_data", target).unwrap();
            assert!(text.contains("the volume shop_data at") && text.contains("/var/lib/data"), "{text}");
        }
    }

    #[test]
    fn platforms_are_compared() {
        let told = |wanted, own| platform_mismatch("a:1", &image(), wanted, own);
        assert_eq!(told(Some("linux/arm64/v8"), "arm64"), None);
        assert_eq!(told(None, "arm64"), None);
        assert!(told(Some("linux/amd64"), "arm64").unwrap().contains("its `platform` is linux/amd64"));
        assert!(told(None, "amd64").unwrap().contains("the engine runs on amd64"));
    }

    #[test]
    fn a_derived_image_stands_on_its_base() {
        let derived = ImageInfo { layers: ["a", "b", "c"].map(str::to_owned).to_vec(), ..ImageInfo::default() };
        assert!(stands_on(Some(&derived), &image()));
        assert!(!stands_on(Some(&image()), &derived) && !stands_on(None, &image()));
    }
}
