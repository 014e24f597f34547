//! DDEV: `.ddev/docker-compose.*.yaml` beside the services that DDEV makes itself.

use std::path::{Path, PathBuf};

use crate::files::{self, Reading};
use crate::model::{Placed, Project, Service, Tool};
use crate::services;
use crate::yaml;

/// What is laid over all others.
const LAST: [&str; 2] = ["docker-compose.override.yaml", "docker-compose.override.yml"];

/// Reads the project whose `.ddev` lies in a directory, if one does.
pub(crate) fn read(directory: &Path, reading: &mut Reading) -> Option<Project> {
    let folder = directory.join(".ddev");
    let files = additions(&folder);
    let config = folder.join("config.yaml");
    if !folder.is_dir() || (files.is_empty() && !config.is_file()) {
        return None;
    }
    let settings = settings(&folder, reading);
    let name = settings.name.unwrap_or_else(|| files::base_name(directory));
    let root = directory.canonicalize().unwrap_or_else(|_| directory.to_owned()).display().to_string();
    for (variable, value) in [("DDEV_SITENAME", &name), ("DDEV_PROJECT", &name), ("DDEV_APPROOT", &root)] {
        reading.environment.insert(variable.to_owned(), value.clone());
    }
    reading.env_file(&folder.join(".env"), false);
    let document = files::load_all(&files, &folder, reading);
    let label = format!("ddev-{}", name.to_lowercase().replace('.', ""));
    let (mut all, volumes) = match &document {
        Some(document) => services::read(document, &label, reading),
        None => Default::default(),
    };
    // DDEV builds an image of its own upon it.
    if let Some(image) = settings.web_image {
        all.retain(|service| service.name != "web" || service.image.is_some());
        if !all.iter().any(|service| service.name == "web") {
            all.push(web(image));
        }
    }
    for service in &mut all {
        derive(service, &name);
    }
    let (directory, name) = (directory.to_owned(), name);
    Some(Project { tool: Tool::Ddev, name, label, directory, files, services: all, volumes })
}

fn additions(folder: &Path) -> Vec<PathBuf> {
    let is_addition = |name: &str| {
        name.starts_with("docker-compose.") && [".yaml", ".yml"].iter().any(|ending| name.ends_with(ending))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_addition(name)).collect();
    names.sort_by_key(|name| (LAST.contains(&name.as_str()), name.clone()));
    names.into_iter().map(|name| folder.join(name)).collect()
}

#[derive(Default)]
struct Settings {
    name: Option<String>,
    web_image: Option<Placed>,
}

/// What `config.yaml` and the `config.*.yaml` beside it say.
fn settings(folder: &Path, reading: &mut Reading) -> Settings {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_more = |name: &String| name.starts_with("config.") && name.ends_with(".yaml") && name != "config.yaml";
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(is_more).collect();
    names.sort();
    let mut settings = Settings::default();
    let main = Some("config.yaml".to_owned()).filter(|name| folder.join(name).is_file());
    for name in main.into_iter().chain(names) {
        let Some((text, id)) = reading.source(&folder.join(name)) else { continue };
        match yaml::read(&text, id) {
            Ok(document) => {
                let text = |key: &str| document.get(key).and_then(|node| Some((node.text()?.to_owned(), node.span)));
                let filled = |found: Option<(String, _)>| found.filter(|(text, _)| !text.is_empty());
                settings.name = filled(text("name")).map(|(name, _)| name).or(settings.name);
                let image = filled(text("webimage")).map(|(text, span)| Placed { text, span });
                settings.web_image = image.or(settings.web_image);
            }
            Err(diagnostic) => reading.diagnostics.push(*diagnostic),
        }
    }
    settings
}

fn web(image: Placed) -> Service {
    let base = crate::model::Base { image: image.text, span: image.span };
    let name = "web".to_owned();
    Service {
        name,
        image: None,
        bases: vec![base],
        is_built: true,
        platform: None,
        pull_policy: None,
        is_off: false,
        mounts: Vec::new(),
    }
}

/// `IMAGE-SITE-built` is what DDEV calls an image that it built upon `IMAGE`.
fn derive(service: &mut Service, site: &str) {
    let Some(image) = &service.image else { return };
    if let Some(base) = image.text.strip_suffix(&format!("-{site}-built")) {
        service.bases.push(crate::model::Base { image: base.to_owned(), span: image.span });
        service.is_built = true;
    }
}
