//! Services of a document: what they extend, what they use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_core::Span;

use crate::dockerfile;
use crate::files::Reading;
use crate::model::{Base, Mount, Placed, Service};
use crate::tree::merge;
use crate::yaml::{self, Merging, Node, Value};

/// How many services may extend each other in a row.
const MAX_DEPTH: usize = 20;

/// The document with all services in full, and the paths of what they build absolute, or as the directory is.
pub(crate) fn extended(mut document: Node, path: &Path, directory: &Path, reading: &mut Reading) -> Node {
    let Value::Map(entries) = &mut document.value else { return document };
    let Some((_, services)) = entries.iter_mut().find(|(key, _)| key == "services") else { return document };
    let all = services.clone();
    if let Value::Map(services) = &mut services.value {
        for (name, service) in services {
            let place = Place { services: &all, path, directory };
            let whole = in_full(name, service.clone(), &place, 0, reading);
            *service = whole;
        }
    }
    document
}

/// Where a service stands.
struct Place<'a> {
    services: &'a Node,
    path: &'a Path,
    directory: &'a Path,
}

fn in_full(name: &str, service: Node, place: &Place<'_>, depth: usize, reading: &mut Reading) -> Node {
    let service = with_context(service, place.directory, reading);
    let Some(extends) = service.get("extends").cloned() else { return service };
    if depth > MAX_DEPTH {
        reading.refuse(extends.span, format!("`{name}` extends itself"));
        return service;
    }
    let (base, file) = match &extends.value {
        Value::Text(_) => (reading.text(&extends), None),
        _ => {
            let base = extends.get("service").and_then(|node| reading.text(node));
            (base, extends.get("file").and_then(|node| reading.text(node)))
        }
    };
    let Some(base) = base else {
        reading.refuse(extends.span, "`extends` names no `service`");
        return service;
    };
    let other = match &file {
        Some(file) => other_file(file, place, reading),
        None => Some((place.services.clone(), place.path.to_owned(), place.directory.to_owned())),
    };
    let Some((services, path, directory)) = other else { return service };
    let Some(under) = services.get(&base.text).cloned() else {
        reading.refuse(base.span, format!("there is no service `{}` to extend", base.text));
        return service;
    };
    let there = Place { services: &services, path: &path, directory: &directory };
    let under = in_full(&base.text, under, &there, depth + 1, reading);
    merge(without(under, "extends"), without(service, "extends"))
}

fn other_file(file: &Placed, place: &Place<'_>, reading: &mut Reading) -> Option<(Node, PathBuf, PathBuf)> {
    let path = place.path.parent().unwrap_or(Path::new("")).join(&file.text);
    let (text, id) = reading.source(&path)?;
    match yaml::read(&text, id) {
        Ok(document) => {
            let services = document.get("services").cloned();
            let Some(services) = services else {
                reading.refuse(file.span, format!("`{}` has no `services`", file.text));
                return None;
            };
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            Some((services, path, directory))
        }
        Err(diagnostic) => {
            reading.diagnostics.push(*diagnostic);
            None
        }
    }
}

fn without(mut node: Node, key: &str) -> Node {
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|(known, _)| known != key);
    }
    node
}

/// A service whose build context starts at the directory that its file's paths start at.
fn with_context(mut service: Node, directory: &Path, reading: &mut Reading) -> Node {
    let Value::Map(entries) = &mut service.value else { return service };
    let Some((_, build)) = entries.iter_mut().find(|(key, _)| key == "build") else { return service };
    let context = match &mut build.value {
        Value::Text(_) => Some(build),
        Value::Map(entries) => entries.iter_mut().find(|(key, _)| key == "context").map(|(_, node)| node),
        _ => None,
    };
    if let Some(context) = context
        && let Some(found) = reading.text(context)
        && !found.text.contains("://")
    {
        let path = directory.join(&found.text).display().to_string();
        // Its variables are replaced already.
        context.value = Value::Text(path.replace('$', "$$"));
    }
    service
}

/// The services of a merged document, and the engine's names of its volumes.
pub(crate) fn read(document: &Node, project: &str, reading: &mut Reading) -> (Vec<Service>, BTreeMap<String, String>) {
    let mut services = Vec::new();
    for (name, node) in document.get("services").map(Node::entries).unwrap_or_default() {
        services.push(service(name, node, reading));
    }
    let mut volumes = BTreeMap::new();
    for (key, node) in document.get("volumes").map(Node::entries).unwrap_or_default() {
        let given = node.get("name").and_then(|name| reading.text(name)).map(|name| name.text);
        let is_external = node.get("external").is_some_and(|node| node.text().is_some_and(|text| text == "true"));
        let own = if is_external { key.clone() } else { format!("{project}_{key}") };
        volumes.insert(key.clone(), given.unwrap_or(own));
    }
    (services, volumes)
}

fn service(name: &str, node: &Node, reading: &mut Reading) -> Service {
    let mut text = |key: &str| node.get(key).and_then(|value| reading.text(value));
    let (image, platform, pull_policy) = (text("image"), text("platform"), text("pull_policy"));
    let build = node.get("build").filter(|build| !matches!(build.value, Value::Null));
    let bases = build.map(|build| bases(build, reading)).unwrap_or_default();
    let mut mounts: Vec<Mount> = Vec::new();
    for item in node.get("volumes").map(Node::items).unwrap_or_default() {
        let Some(mount) = mount(item, reading) else { continue };
        // Of several for one path the last counts.
        mounts.retain(|known| known.target != mount.target);
        if !mount.volume.is_empty() {
            mounts.push(mount);
        }
    }
    let is_off = is_off(node, reading);
    Service { name: name.to_owned(), image, bases, is_built: build.is_some(), platform, pull_policy, is_off, mounts }
}

/// Whether a service has profiles, and none of them is on.
fn is_off(service: &Node, reading: &mut Reading) -> bool {
    let on = reading.environment.get("COMPOSE_PROFILES").cloned().unwrap_or_default();
    let on: Vec<&str> = on.split(',').map(str::trim).collect();
    let items = service.get("profiles").map(Node::items).unwrap_or_default();
    let own: Vec<String> = items.iter().filter_map(|item| reading.text(item)).map(|found| found.text).collect();
    !own.is_empty() && !on.contains(&"*") && !own.iter().any(|profile| on.contains(&profile.as_str()))
}

/// A volume; one whose key is empty is none that has a name.
fn mount(item: &Node, reading: &mut Reading) -> Option<Mount> {
    let is_named = |source: &str| !source.is_empty() && !source.starts_with(['.', '/', '~', '\\']);
    if item.text().is_some() {
        let found = reading.text(item)?;
        let mut parts = found.text.split(':');
        let (source, target) = match (parts.next(), parts.next()) {
            (Some(source), Some(target)) => (source, target),
            (Some(target), None) => ("", target),
            _ => return None,
        };
        let volume = if is_named(source) { source.to_owned() } else { String::new() };
        return Some(Mount { volume, target: normal(target), span: item.span });
    }
    let mut text = |key: &str| item.get(key).and_then(|value| reading.text(value)).map(|found| found.text);
    let (kind, source, target) = (text("type"), text("source"), text("target")?);
    let is_volume = kind.is_some_and(|kind| kind == "volume");
    let volume = source.filter(|source| is_volume && is_named(source)).unwrap_or_default();
    Some(Mount { volume, target: normal(&target), span: item.span })
}

fn normal(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// The images that a build starts from: arguments that name one, and `FROM` lines.
fn bases(build: &Node, reading: &mut Reading) -> Vec<Base> {
    let arguments = arguments(build, reading);
    let mut bases: Vec<Base> = arguments.iter().map(|(_, value)| as_base(&value.text, value.span)).collect();
    let values: BTreeMap<String, String> = arguments.into_iter().map(|(name, value)| (name, value.text)).collect();
    let context = match &build.value {
        Value::Text(_) => reading.text(build),
        _ => build.get("context").and_then(|node| reading.text(node)),
    };
    let text = match (build.get("dockerfile_inline"), context) {
        (Some(inline), _) => reading.text(inline),
        (None, Some(context)) if !context.text.contains("://") => {
            let name = build.get("dockerfile").and_then(|node| reading.text(node));
            let name = name.map_or_else(|| "Dockerfile".to_owned(), |name| name.text);
            let text = std::fs::read_to_string(Path::new(&context.text).join(name)).ok();
            text.map(|text| Placed { text, span: context.span })
        }
        _ => None,
    };
    if let Some(found) = text {
        bases.extend(dockerfile::bases(&found.text, &values).iter().map(|image| as_base(image, found.span)));
    }
    for (_, context) in pairs(build.get("additional_contexts")) {
        let Some(found) = reading.text(&context) else { continue };
        bases.extend(found.text.strip_prefix("docker-image://").map(|image| as_base(image, found.span)));
    }
    bases
}

fn as_base(image: &str, span: Span) -> Base {
    Base { image: image.to_owned(), span }
}

fn arguments(build: &Node, reading: &mut Reading) -> Vec<(String, Placed)> {
    let pairs = pairs(build.get("args"));
    pairs.into_iter().filter_map(|(name, node)| Some((name, reading.text(&node)?))).collect()
}

/// `NAME: value`, or `- NAME=value`.
fn pairs(node: Option<&Node>) -> Vec<(String, Node)> {
    let Some(node) = node else { return Vec::new() };
    let listed = node.items().iter().filter_map(|item| {
        let (name, value) = item.text()?.split_once('=')?;
        let value = Value::Text(value.to_owned());
        Some((name.to_owned(), Node { span: item.span, merging: Merging::Usual, value }))
    });
    node.entries().iter().cloned().chain(listed).collect()
}
