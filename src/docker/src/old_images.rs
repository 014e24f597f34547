//! Images that earlier builds left in an engine, and that nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::engine::{Engine, ImageInfo};
use crate::error::EngineError;

/// What every image of kiln bears, unless `kiln_labels` is off. Images that others make from one inherit it.
const BUILD: &str = "kiln.build";
/// A name that stays, as it says which image is meant now.
const MOVING: &str = "latest";
/// How many questions are asked at a time.
const AT_ONCE: usize = 8;

/// Which images are old.
#[derive(Debug, Clone, Default)]
pub struct OldImages {
    /// Only what was made so long ago.
    pub older_than: Option<Duration>,
    /// Repositories whose names may go. Images without a name may go anyway.
    pub repositories: BTreeSet<String>,
    /// How many images of each of these repositories keep their names, the newest first.
    pub keep: usize,
}

/// A name, or an image without one, that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldImage {
    /// `sha256:...`.
    pub id: String,
    /// Its `repository:tag` that goes; `None` for the image itself, which has no name.
    pub name: Option<String>,
    /// The build that it is of.
    pub build: String,
    /// When it was made, in seconds since the epoch, where the engine says so.
    pub created: Option<i64>,
}

impl OldImages {
    /// Finds them: the oldest first, names before what bears none. What a container uses is not among them, nor what steps are
    /// continued from (`kiln cache prune` removes that).
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn find(&self, engine: &dyn Engine, now: SystemTime) -> Result<Vec<OldImage>, EngineError> {
        let listed = engine.labelled_images(BUILD).await?;
        let is_kept_state = |labels: &BTreeMap<String, String>| {
            labels.iter().any(|(name, value)| name.starts_with("kiln.cache.") && !value.is_empty())
        };
        let ids = listed.into_iter().filter(|image| !is_kept_state(&image.labels)).map(|image| image.id);
        let asked =
            stream::iter(ids).map(|id| async move { engine.inspect_image(&id).await }).buffer_unordered(AT_ONCE);
        let images: Vec<ImageInfo> = asked.try_filter_map(async |image| Ok(image)).try_collect().await?;
        let used = used_images(engine).await?;
        Ok(self.choose(images, &used, now))
    }

    fn choose(&self, mut images: Vec<ImageInfo>, used: &BTreeSet<String>, now: SystemTime) -> Vec<OldImage> {
        images.sort_by(|one, other| other.created.cmp(&one.created).then_with(|| one.id.cmp(&other.id)));
        let since = self.older_than.and_then(|age| now.checked_sub(age)).map(seconds);
        let is_old = |image: &ImageInfo| match since {
            // One whose age is unknown is not old.
            Some(since) => image.created.is_some_and(|created| created <= since),
            None => true,
        };
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let (mut names, mut nameless) = (Vec::new(), Vec::new());
        for image in &images {
            let of = |name: Option<String>| OldImage {
                id: image.id.clone(),
                name,
                build: image.labels.get(BUILD).cloned().unwrap_or_default(),
                created: image.created,
            };
            let may_go = is_old(image) && !used.contains(&image.id);
            let named = image.tags.iter().filter_map(|name| name.rsplit_once(':').map(|parts| (name, parts)));
            let mut of_image = BTreeSet::new();
            for (name, (repository, tag)) in
                named.filter(|(_, (repository, _))| self.repositories.contains(*repository))
            {
                // Two tags of one image are one image.
                if of_image.insert(repository) {
                    *seen.entry(repository).or_default() += 1;
                }
                if may_go && tag != MOVING && seen.get(repository).is_some_and(|count| *count > self.keep) {
                    names.push(of(Some(name.clone())));
                }
            }
            if image.tags.is_empty() && may_go {
                nameless.push(of(None));
            }
        }
        names.reverse();
        // The newest first here: an image goes only after those that were made from it.
        names.into_iter().chain(nameless).collect()
    }
}

impl OldImage {
    /// Removes it; returns whether it is gone. What others are made from, or what came into use meanwhile, stays.
    ///
    /// # Errors
    /// The engine does not answer, or the name means another image by now.
    pub async fn remove(&self, engine: &dyn Engine) -> Result<bool, EngineError> {
        let Some(name) = &self.name else { return removed(engine.remove_image_alone(&self.id).await) };
        match engine.inspect_image(name).await? {
            Some(image) if image.id == self.id => removed(engine.remove_image_alone(name).await),
            // Somebody has moved it.
            Some(_) => Ok(false),
            None => Ok(true),
        }
    }
}

fn removed(answer: Result<bool, EngineError>) -> Result<bool, EngineError> {
    match answer {
        Ok(_) => Ok(true),
        Err(EngineError::Refused { status: Some(409), .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn used_images(engine: &dyn Engine) -> Result<BTreeSet<String>, EngineError> {
    let containers = engine.find_containers(&BTreeMap::new()).await?;
    let asked = stream::iter(containers).map(|id| async move { engine.inspect_container(&id).await });
    let found: Vec<_> = asked.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(found.into_iter().flatten().map(|container| container.image).collect())
}

fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ContainerSpec;
    use crate::fake::FakeEngine;
    use crate::models;

    const DAY: u64 = 24 * 60 * 60;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1000 * DAY)
    }

    /// An image of a build, made so many days ago.
    fn image(engine: &FakeEngine, name: &str, age: u64) -> String {
        let labels = BTreeMap::from([(BUILD.to_owned(), "docker.app".to_owned())]);
        let created = Some(seconds(now() - Duration::from_secs(age * DAY)));
        engine.add_image_with(name, ImageInfo { labels, created, ..ImageInfo::default() })
    }

    async fn found(old: &OldImages, engine: &FakeEngine) -> Vec<String> {
        let found = old.find(engine, now()).await.unwrap();
        found.into_iter().map(|image| image.name.unwrap_or(image.id)).collect()
    }

    #[tokio::test]
    async fn only_what_has_no_name_goes_unless_told() {
        let engine = FakeEngine::new();
        image(&engine, "app:1", 9);
        let nameless = image(&engine, "", 8);
        engine.add_image("foreign:1");
        assert_eq!(found(&OldImages::default(), &engine).await, [nameless.as_str()]);
        let younger = OldImages { older_than: Some(Duration::from_secs(9 * DAY)), ..OldImages::default() };
        assert!(found(&younger, &engine).await.is_empty());
        for old in OldImages::default().find(&engine, now()).await.unwrap() {
            assert!(old.remove(&engine).await.unwrap());
        }
        assert!(engine.images().iter().all(|image| image.id != nameless));
    }

    #[tokio::test]
    async fn the_newest_of_a_repository_keep_their_names() {
        let engine = FakeEngine::new();
        for (name, age) in [("app:1", 9), ("app:2", 6), ("app:3", 3), ("other:1", 20)] {
            image(&engine, name, age);
        }
        let latest = image(&engine, "app:0", 30);
        engine.tag(&latest, "app", "latest").await.unwrap();
        let policy = |keep| OldImages { repositories: BTreeSet::from(["app".to_owned()]), keep, older_than: None };
        assert_eq!(found(&policy(2), &engine).await, ["app:0", "app:1"]);
        assert!(found(&policy(4), &engine).await.is_empty());
        let of_a_week = OldImages { older_than: Some(Duration::from_secs(7 * DAY)), ..policy(0) };
        assert_eq!(found(&of_a_week, &engine).await, ["app:0", "app:1"]);
    }

    #[tokio::test]
    async fn what_is_used_or_continued_stays() {
        let engine = FakeEngine::new();
        let used = image(&engine, "", 9);
        let config = models::ContainerCreateBody { image: Some(used), ..Default::default() };
        engine.create_container(&ContainerSpec { name: "worker".into(), config, platform: None }).await.unwrap();
        let labels = BTreeMap::from([BUILD, "kiln.cache.key"].map(|name| (name.to_owned(), "one".to_owned())));
        engine.add_image_with("", ImageInfo { labels, created: Some(0), ..ImageInfo::default() });
        assert!(found(&OldImages::default(), &engine).await.is_empty());
    }

    #[tokio::test]
    async fn a_name_that_was_moved_stays() {
        let engine = FakeEngine::new();
        let id = image(&engine, "", 9);
        let newer = image(&engine, "app:1", 1);
        let old = OldImage { id, name: Some("app:1".into()), build: "docker.app".into(), created: None };
        assert!(!old.remove(&engine).await.unwrap());
        assert!(engine.images().iter().any(|image| image.id == newer && image.tags == ["app:1"]));
    }
}
