//! What runs now, and what a new image meets in a service.

use std::collections::BTreeMap;

use kiln_core::Failure;
use kiln_docker::engine::ContainerInfo;
use kiln_docker::{Engine, ImageInfo};
use kiln_registry::Platform;

use super::{Concerned, familiar, volumes};
use crate::args::RefreshArgs;
use crate::settings::Settings;

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

/// The service's containers, also those that are stopped.
pub(super) async fn containers(engine: &dyn Engine, one: &Concerned<'_>) -> Result<Vec<ContainerInfo>, Failure> {
    let labels = BTreeMap::from([
        ("com.docker.compose.project".to_owned(), one.project.label.clone()),
        ("com.docker.compose.service".to_owned(), one.project.services[one.service].name.clone()),
    ]);
    let mut found = Vec::new();
    for id in engine.find_containers(&labels).await? {
        let Some(container) = engine.inspect_container(&id).await? else { continue };
        // `docker compose run` is somebody's own affair.
        let is_one_off = container.labels.get("com.docker.compose.oneoff").is_some_and(|value| value == "True");
        if !is_one_off {
            found.push(container);
        }
    }
    Ok(found)
}

/// Finds out whether a service has to be restarted.
pub(super) async fn state(
    engine: &dyn Engine,
    one: &Concerned<'_>,
    containers: &[ContainerInfo],
) -> Result<State, Failure> {
    let containers: Vec<&ContainerInfo> = containers.iter().filter(|container| container.is_running).collect();
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

/// What volumes hide of the new image, where a service is going to have it.
pub(super) async fn volumes(
    engine: &dyn Engine,
    one: &Concerned<'_>,
    containers: &[ContainerInfo],
    arguments: &RefreshArgs,
    settings: &Settings,
) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for used in &one.uses {
        let Some(image) = engine.inspect_image(&familiar(&used.name)).await? else { continue };
        if containers.is_empty() || used.is_base {
            // What its containers would have at a place is not known.
            for (target, volume) in volumes::named(&one.project.services[one.service], &one.project.volumes) {
                let declared = volumes::declared(&image, &target);
                texts.extend(declared.map(|path| hides(&volume, &target, &format!(" (the image declares {path})"))));
            }
            continue;
        }
        for hidden in volumes::hidden(engine, containers, &image, settings).await? {
            texts.extend(match hidden.is_anonymous() {
                true if arguments.renew_anon_volumes => None,
                true => Some(format!(
                    "the anonymous volume at {} goes from container to container and hides what the new image has there; \
                     `kiln refresh -renew-anon-volumes` gives it a new one, without what the old one holds",
                    hidden.target
                )),
                false => Some(hides(&hidden.volume, &hidden.target, "")),
            });
        }
    }
    Ok(texts)
}

fn hides(volume: &str, target: &str, because: &str) -> String {
    format!(
        "the volume {volume} at {target} hides what the new image has there{because}; `docker volume rm {volume}`, with the \
         service stopped, lets it be filled anew, and loses what it holds"
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageInfo {
        ImageInfo {
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            layers: vec!["a".to_owned(), "b".to_owned()],
            ..ImageInfo::default()
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
