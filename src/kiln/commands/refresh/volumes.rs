//! What volumes hide of a new image. They keep what they were first filled with: what a later image has at their place is not
//! seen.

use std::collections::BTreeMap;

use kiln_core::Failure;
use kiln_docker::engine::ContainerInfo;
use kiln_docker::{Content, Engine, ImageInfo};
use kiln_engine::{FileJournal, RunHeader};

use crate::settings::Settings;

/// A volume of a container that hides something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    /// The engine's name of it.
    pub(super) volume: String,
    /// Where it is in the container.
    pub(super) target: String,
}

impl Hidden {
    /// Nobody gave it a name: it came with a container.
    pub(super) fn is_anonymous(&self) -> bool {
        self.volume.len() == 64 && self.volume.bytes().all(|byte| byte.is_ascii_hexdigit())
    }
}

/// The volumes of a service's containers at whose place the new image has something else than the image that they run with.
///
/// # Errors
/// The engine does not answer, or the journal cannot be written.
pub(super) async fn hidden(
    engine: &dyn Engine,
    containers: &[ContainerInfo],
    image: &ImageInfo,
    settings: &Settings,
) -> Result<Vec<Hidden>, Failure> {
    let mut found: Vec<Hidden> = Vec::new();
    for container in containers.iter().filter(|container| container.image != image.id) {
        for (target, volume) in &container.volumes {
            let is_known = found.iter().any(|hidden| hidden.volume == *volume && hidden.target == *target);
            if !is_known && is_hidden(engine, &container.image, &image.id, target, settings).await? {
                found.push(Hidden { volume: volume.clone(), target: target.clone() });
            }
        }
    }
    Ok(found)
}

async fn is_hidden(
    engine: &dyn Engine,
    old: &str,
    new: &str,
    target: &str,
    settings: &Settings,
) -> Result<bool, Failure> {
    let new = content(engine, new, target, settings).await?;
    if new == Content::Nothing {
        return Ok(false);
    }
    Ok(new == Content::Large || new != content(engine, old, target, settings).await?)
}

/// Looks into an image, with a journal of its own.
async fn content(engine: &dyn Engine, image: &str, path: &str, settings: &Settings) -> Result<Content, Failure> {
    let run = uuid::Uuid::new_v4().to_string();
    let scratch = settings.scratch_root.join(&run);
    let journal = FileJournal::create(&settings.state_dir, &RunHeader::new(&run, "", &scratch))?;
    let found = kiln_docker::content(engine, image, path, &run, &journal).await;
    journal.close()?;
    found
}

/// What is known without a container: a volume at a place that the image declares was filled with what an image had there.
pub(super) fn declared<'a>(image: &'a ImageInfo, target: &str) -> Option<&'a str> {
    let is_inside = |path: &str| path == target || path.starts_with(&format!("{}/", target.trim_end_matches('/')));
    image.volumes.iter().map(String::as_str).find(|path| is_inside(path.trim_end_matches('/')))
}

/// The engine's names of named volumes, by where they are in the service.
pub(super) fn named(service: &kiln_compose::Service, names: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let name = |key: &String| names.get(key).cloned().unwrap_or_else(|| key.clone());
    service.mounts.iter().map(|mount| (mount.target.clone(), name(&mount.volume))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_known_by_what_the_image_declares() {
        let image = ImageInfo { volumes: vec!["/var/lib/data/".to_owned()], ..ImageInfo::default() };
        assert!(declared(&image, "/home").is_none());
        assert!(declared(&image, "/var/lib/database").is_none());
        for target in ["/var/lib/data", "/var/lib", "/"] {
            assert_eq!(declared(&image, target), Some("/var/lib/data/"));
        }
    }

    #[test]
    fn anonymous_volumes_are_called_by_a_digest() {
        let hidden = |volume: &str| Hidden { volume: volume.to_owned(), target: "/data".to_owned() };
        assert!(hidden(&"0a".repeat(32)).is_anonymous());
        assert!(!hidden("shop_data").is_anonymous() && !hidden(&"z".repeat(64)).is_anonymous());
    }
}
