//! `kiln cache prune`.

use std::collections::BTreeSet;

use kiln_cache::{PrunePolicy, Pruned};
use kiln_core::suggest;

use super::super::stores::{self, StorePlace};
use super::engine::{self, Removed};
use super::list;
use crate::amount;
use crate::args::PruneArgs;
use crate::error::CliError;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Removes what is asked for, from every store of this user. What is left is on the disk afterwards, so that it may be
/// carried elsewhere (a CI job's cache).
pub(crate) fn run(arguments: &PruneArgs, settings: &Settings) -> Result<u8, CliError> {
    let format = Format::of_messages(settings);
    let places = stores::places(settings);
    if places.is_empty() {
        ui::say(format, "nothing is kept");
    }
    let builds = builds(arguments, &places, settings, format)?;
    for place in places {
        let store = stores::open_to_prune(&place, settings)?;
        let policy = PrunePolicy { builds: builds.clone(), ..policy(arguments, &place, settings)? };
        if place.name == settings.host.uid.to_string()
            && let Some(removed) = engine::prune(&policy, settings)?
        {
            let is_anything = !removed.removed.is_empty() || removed.left > 0;
            is_anything.then(|| ui::say(format, &told_of_engine(&removed, arguments.dry_run)));
        }
        let pruned = store.prune(&policy).map_err(stores::not_usable)?;
        ui::say(format, &told(&place, &pruned, arguments.dry_run));
        if !arguments.dry_run {
            store.sync().map_err(stores::not_usable)?;
        }
    }
    Ok(0)
}

/// The builds that are meant, by their whole names. One of which nothing is kept is told, and no failure: it may have been
/// removed before.
fn builds(
    arguments: &PruneArgs,
    places: &[StorePlace],
    settings: &Settings,
    format: Format,
) -> Result<Vec<String>, CliError> {
    if arguments.builds.is_empty() {
        return Ok(Vec::new());
    }
    let mut known = BTreeSet::new();
    for place in places {
        let usage = stores::open(place)?.usage().map_err(stores::not_usable)?;
        known.extend(usage.items.into_iter().filter_map(|item| item.build));
    }
    let images = engine::kept(settings)?.map(|engine| engine.states).unwrap_or_default();
    known.extend(images.into_iter().map(|state| state.info.build));
    let mut meant = Vec::new();
    for asked in &arguments.builds {
        let found = named(asked, &known);
        if found.is_empty() {
            ui::say(format, &ui::tame(&nothing_of(asked, &known)));
        }
        meant.extend(found);
    }
    Ok(meant)
}

/// The build of this name, or else all whose last part it is: `worker` is `oci.worker`.
fn named(asked: &str, known: &BTreeSet<String>) -> Vec<String> {
    if known.contains(asked) {
        return vec![asked.to_owned()];
    }
    let is_short = |name: &&String| name.rsplit_once('.').is_some_and(|(_, short)| short == asked);
    known.iter().filter(is_short).cloned().collect()
}

fn nothing_of(asked: &str, known: &BTreeSet<String>) -> String {
    let text = format!("nothing is kept of a build `{asked}`");
    match suggest::nearest(asked, known.iter().map(String::as_str)) {
        Some(near) => format!("{text}; did you mean `{near}`?"),
        None => text,
    }
}

fn policy(arguments: &PruneArgs, place: &StorePlace, settings: &Settings) -> Result<PrunePolicy, CliError> {
    let asked = PrunePolicy {
        older_than: arguments.older_than,
        max_size: arguments.max_size,
        builds: arguments.builds.clone(),
        all: arguments.all,
        images: arguments.images,
        dry_run: arguments.dry_run,
    };
    let is_anything = asked.older_than.is_some() || asked.max_size.is_some() || asked.all || !asked.builds.is_empty();
    if is_anything {
        return Ok(asked);
    }
    Ok(PrunePolicy { dry_run: asked.dry_run, images: asked.images, ..stores::usual_policy(place, settings)? })
}

fn told(place: &StorePlace, pruned: &Pruned, dry_run: bool) -> String {
    let mut text = String::new();
    if dry_run {
        for item in &pruned.removed {
            let build = item.build.as_ref().map(|build| format!("{build}: ")).unwrap_or_default();
            let size = amount::shown_size(item.size);
            text.push_str(&ui::tame(&format!(
                "{} {}, {size}: {build}{}",
                list::kind(item.kind),
                item.name,
                item.title
            )));
            text.push('\n');
        }
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    let (freed, left) = (amount::shown_size(pruned.freed), amount::shown_size(pruned.left));
    text.push_str(&format!("{}: {} {verb}, {freed}; {left} left", place.path.display(), pruned.removed.len()));
    if pruned.in_use > 0 {
        text.push_str(&format!("; {} in use", pruned.in_use));
    }
    text
}

fn told_of_engine(removed: &Removed, dry_run: bool) -> String {
    let mut text = String::new();
    if dry_run {
        for state in &removed.removed {
            let size = amount::shown_size(state.size);
            let (key, build, title) = (state.key.short(), &state.info.build, &state.info.title);
            text.push_str(&ui::tame(&format!("step {key}, {size}: {build}: {title}")));
            text.push('\n');
        }
    }
    let verb = if dry_run { "would be removed" } else { "removed" };
    let freed = amount::shown_size(removed.removed.iter().map(|state| state.size).sum());
    let (count, left) = (removed.removed.len(), amount::shown_size(removed.left));
    text.push_str(&format!("images of the Docker engine at {}: {count} {verb}, {freed}; {left} left", removed.address));
    if removed.in_use > 0 {
        text.push_str(&format!("; {} in use", removed.in_use));
    }
    text
}

#[cfg(test)]
mod tests {
    use kiln_cache::{Item, ItemKind};

    use super::*;

    #[test]
    fn builds_are_named_as_elsewhere() {
        let known = ["docker.worker", "oci.base", "oci.worker"].map(str::to_owned).into();
        assert_eq!(named("oci.worker", &known), ["oci.worker"]);
        assert_eq!(named("worker", &known), ["docker.worker", "oci.worker"]);
        assert!(named("work", &known).is_empty());
        assert_eq!(nothing_of("oci.bse", &known), "nothing is kept of a build `oci.bse`; did you mean `oci.base`?");
        assert_eq!(nothing_of("x", &known), "nothing is kept of a build `x`");
    }

    #[test]
    fn a_dry_run_tells_of_everything() {
        let place = StorePlace { name: "0".to_owned(), path: "/cache/0".into() };
        let item = Item {
            kind: ItemKind::State,
            name: "a".repeat(12),
            build: Some("oci.worker".to_owned()),
            title: "shell: x".to_owned(),
            size: 2048,
            used: 0,
            in_use: false,
        };
        let pruned = Pruned { removed: vec![item], freed: 2048, left: 0, in_use: 2 };
        insta::assert_snapshot!(told(&place, &pruned, true), @r"
        step aaaaaaaaaaaa, 2.0 KiB: oci.worker: shell: x
        /cache/0: 1 would be removed, 2.0 KiB; 0 B left; 2 in use
        ");
        insta::assert_snapshot!(told(&place, &pruned, false), @r"/cache/0: 1 removed, 2.0 KiB; 0 B left; 2 in use");
    }
}
