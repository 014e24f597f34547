//! `kiln cache ls`.

use std::io::Write;
use std::time::{Duration, SystemTime};

use kiln_builder_docker::states::KeptImage;
use kiln_cache::{Item, ItemKind, Usage};
use kiln_registry::Reference;

use super::super::stores::{self, StorePlace};
use super::engine::{self, Engines};
use crate::amount;
use crate::args::ListArgs;
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui;

/// Prints what is kept, the last used first, on standard output.
pub(crate) fn run(arguments: &ListArgs, settings: &Settings) -> Result<u8, CliError> {
    let mut found = Vec::new();
    for place in stores::places(settings) {
        let usage = stores::open(&place)?.usage().map_err(stores::not_usable)?;
        found.push((place, usage));
    }
    let engine = engine::kept(settings)?;
    let text = match arguments.json {
        true => json(&found, engine.as_ref()),
        false => table(&found, engine.as_ref(), SystemTime::now()),
    };
    let text = if settings.machine_readable && !arguments.json { ui::said(&text) } else { text };
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    Ok(0)
}

fn json(found: &[(StorePlace, Usage)], engine: Option<&Engines>) -> String {
    let stores: Vec<_> = found
        .iter()
        .map(|(place, usage)| serde_json::json!({ "store": place.name, "path": place.path, "usage": usage }))
        .collect();
    let state = |state: &KeptImage| {
        serde_json::json!({
            "image": state.id, "key": state.key, "build": state.info.build, "title": state.info.title,
            "size": state.size, "created": milliseconds(state.info.created),
        })
    };
    let engines: Vec<_> = engine
        .iter()
        .map(|engine| {
            let states: Vec<_> = engine.states.iter().map(state).collect();
            serde_json::json!({ "address": engine.address, "states": states })
        })
        .collect();
    format!("{:#}\n", serde_json::json!({ "stores": stores, "engines": engines }))
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn table(found: &[(StorePlace, Usage)], engine: Option<&Engines>, now: SystemTime) -> String {
    let mut text = String::new();
    for (place, usage) in found.iter().filter(|(_, usage)| !usage.items.is_empty()) {
        let mut items: Vec<&Item> = usage.items.iter().collect();
        items.sort_by(|one, other| other.used.cmp(&one.used).then_with(|| one.name.cmp(&other.name)));
        let rows: Vec<[String; 5]> = items.iter().map(|item| row(item, now)).collect();
        text.push_str(&format!("{}\n", place.path.display()));
        text.push_str(&columns(&rows));
        let blobs = amount::shown_size(usage.blob_bytes);
        text.push_str(&format!(
            "  {} in all, {blobs} of it images and their layers\n\n",
            amount::shown_size(usage.bytes)
        ));
    }
    if let Some(engine) = engine.filter(|engine| !engine.states.is_empty()) {
        let row = |state: &KeptImage| {
            let age = amount::shown_age(now.duration_since(state.info.created).unwrap_or(Duration::ZERO));
            let title = format!("{}: {}", state.info.build, state.info.title);
            [kind(ItemKind::State).to_owned(), state.key.short().to_owned(), amount::shown_size(state.size), age, title]
        };
        let rows: Vec<[String; 5]> = engine.states.iter().map(row).collect();
        let bytes = engine.states.iter().map(|state| state.size).sum();
        text.push_str(&ui::tame(&format!("images of the Docker engine at {}", engine.address)));
        text.push_str(&format!("\n{}  {} in all\n\n", columns(&rows), amount::shown_size(bytes)));
    }
    if text.is_empty() {
        return "nothing is kept\n".to_owned();
    }
    text
}

fn row(item: &Item, now: SystemTime) -> [String; 5] {
    let used = SystemTime::UNIX_EPOCH + Duration::from_millis(item.used);
    let age = amount::shown_age(now.duration_since(used).unwrap_or(Duration::ZERO));
    // What is broken may be called anything.
    let is_digest = item.name.len() == 64 && item.name.is_ascii() && item.kind != ItemKind::Image;
    let name = match item.kind {
        ItemKind::Image => familiar(&item.name),
        _ if is_digest => item.name[..12].to_owned(),
        _ => item.name.clone(),
    };
    let title = match &item.build {
        Some(build) => format!("{build}: {}", item.title),
        None => item.title.clone(),
    };
    let used = if item.in_use { "in use".to_owned() } else { age };
    [kind(item.kind).to_owned(), name, amount::shown_size(item.size), used, title]
}

/// A name as people write it. Images without a name are called by their digest.
fn familiar(name: &str) -> String {
    match Reference::parse(name) {
        Ok(reference) if !name.starts_with("sha256:") => reference.to_string(),
        _ => name.to_owned(),
    }
}

pub(super) fn kind(kind: ItemKind) -> &'static str {
    match kind {
        ItemKind::State => "step",
        ItemKind::Sealed => "sealed",
        ItemKind::Base => "base",
        ItemKind::Layer => "layer",
        ItemKind::Image => "image",
        ItemKind::Broken => "broken",
    }
}

/// Rows with their columns below each other; sizes, the third, end at the same place.
fn columns(rows: &[[String; 5]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let mut text = String::new();
    for [kind, name, size, used, title] in rows {
        let line = format!(
            "  {kind:<a$}  {name:<b$}  {size:>c$}  {used:<d$}  {title}",
            a = widths[0],
            b = widths[1],
            c = widths[2],
            d = widths[3]
        );
        text.push_str(&ui::tame(line.trim_end()));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_stands_first() {
        let item = |kind, name: &str, build: Option<&str>, size, used: u64| Item {
            kind,
            name: name.to_owned(),
            build: build.map(str::to_owned),
            title: "shell: scripts/apt.sh".to_owned(),
            size,
            used: used * 1000,
            in_use: used > 7000,
        };
        let place = StorePlace { name: "0".to_owned(), path: "/cache/0".into() };
        let usage = Usage {
            bytes: 3 << 20,
            blob_bytes: 1 << 20,
            items: vec![
                item(ItemKind::State, &"a".repeat(64), Some("oci.worker"), 2 << 20, 3600),
                item(ItemKind::Image, "registry.example.org/worker:1", None, 1 << 20, 60),
                item(ItemKind::Image, "docker.io/library/worker:1", None, 1 << 20, 30),
                item(ItemKind::State, &"b".repeat(64), Some("oci.worker"), 512, 7200),
            ],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7260);
        insta::assert_snapshot!(table(&[(place, usage)], None, now), @r"
        /cache/0
          step   bbbbbbbbbbbb                     512 B  in use       oci.worker: shell: scripts/apt.sh
          step   aaaaaaaaaaaa                   2.0 MiB  1 hour ago   oci.worker: shell: scripts/apt.sh
          image  registry.example.org/worker:1  1.0 MiB  2 hours ago  shell: scripts/apt.sh
          image  worker:1                       1.0 MiB  2 hours ago  shell: scripts/apt.sh
          3.0 MiB in all, 1.0 MiB of it images and their layers
        ");
        assert_eq!(table(&[], None, now), "nothing is kept\n");
        let broken = item(ItemKind::Broken, &format!("{}{}a", "a".repeat(11), "ä".repeat(26)), None, 0, 0);
        assert!(row(&broken, now)[1].contains('ä'), "told whole");
    }
}
