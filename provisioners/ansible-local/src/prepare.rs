//! From the template to playbooks that are ready to go to a machine.

use std::path::Path;

use kiln_core::{Decoded, Diagnostic, Diagnostics};
use kiln_transport::script::{check_file, unreadable};
use serde::Deserialize;

use crate::run::Step;
use crate::schema::SCHEMA;

/// The arguments as they are read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) playbook_file: Option<String>,
    pub(crate) playbook_files: Vec<String>,
    pub(crate) playbook_dir: Option<String>,
    pub(crate) playbook_paths: Vec<String>,
    pub(crate) role_paths: Vec<String>,
    pub(crate) collection_paths: Vec<String>,
    pub(crate) group_vars: Option<String>,
    pub(crate) host_vars: Option<String>,
    pub(crate) inventory_file: Option<String>,
    pub(crate) inventory_groups: Vec<String>,
    pub(crate) galaxy_file: Option<String>,
    pub(crate) galaxy_command: Option<String>,
    pub(crate) galaxy_roles_path: Option<String>,
    pub(crate) galaxy_collections_path: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) extra_arguments: Vec<String>,
    pub(crate) staging_directory: Option<String>,
    pub(crate) clean_staging_directory: bool,
}

impl Config {
    /// An empty text counts as absent, as for Packer.
    fn without_empty_texts(mut self) -> Config {
        let texts = [
            &mut self.playbook_file,
            &mut self.playbook_dir,
            &mut self.group_vars,
            &mut self.host_vars,
            &mut self.inventory_file,
            &mut self.galaxy_file,
            &mut self.galaxy_command,
            &mut self.galaxy_roles_path,
            &mut self.galaxy_collections_path,
            &mut self.command,
            &mut self.staging_directory,
        ];
        for text in texts {
            *text = text.take().filter(|text| !text.is_empty());
        }
        self
    }
}

/// Reads and checks the arguments.
pub(crate) fn read(config: &Decoded, diagnostics: &mut Diagnostics) -> Option<Step> {
    let read: Config = config.read_or_tell(diagnostics)?;
    let read = read.without_empty_texts();
    let is_chosen = check_playbooks(config, &read, diagnostics);
    check_files(config, &read, diagnostics);
    check_directories(config, &read, diagnostics);
    is_chosen.then_some(Step { config: read })
}

/// Whether exactly one of `playbook_file` and `playbook_files` is there.
fn check_playbooks(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) -> bool {
    let has_file = read.playbook_file.is_some() || config.is_unknown("playbook_file");
    let has_files = !read.playbook_files.is_empty() || config.is_unknown("playbook_files");
    match (has_file, has_files) {
        (true, true) => {
            let title =
                format!("`playbook_file` and `playbook_files` are both set; {} takes one of them", SCHEMA.title);
            let diagnostic = Diagnostic::error("conflicting-arguments", config.span("playbook_files"), title);
            diagnostics.push(diagnostic.also(config.span("playbook_file"), "the other one"));
            false
        }
        (false, false) => {
            let title = format!("{} needs `playbook_file` or `playbook_files`", SCHEMA.title);
            diagnostics.push(Diagnostic::error("missing-argument", config.body_span(), title));
            false
        }
        _ => true,
    }
}

fn check_files(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) {
    let single = [
        ("playbook_file", &read.playbook_file),
        ("inventory_file", &read.inventory_file),
        ("galaxy_file", &read.galaxy_file),
    ];
    for (name, path) in single {
        if let Some(path) = path.as_deref().filter(|_| !config.is_unknown(name)) {
            check_file(config, name, path, diagnostics);
        }
    }
    for (index, path) in read.playbook_files.iter().enumerate() {
        let place = format!("playbook_files[{index}]");
        if !config.is_unknown(&place) {
            check_file(config, &place, path, diagnostics);
        }
    }
    if read.inventory_file.is_some() && !read.inventory_groups.is_empty() {
        let title = "`inventory_groups` has no effect beside `inventory_file`: no inventory is generated";
        let warning = Diagnostic::warning("no-effect", config.span("inventory_groups"), title);
        diagnostics.push(warning.also(config.span("inventory_file"), "this inventory is used"));
    }
}

fn check_directories(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) {
    let single =
        [("playbook_dir", &read.playbook_dir), ("group_vars", &read.group_vars), ("host_vars", &read.host_vars)];
    for (name, path) in single {
        if let Some(path) = path {
            check_directory(config, name, path, diagnostics);
        }
    }
    let lists = [
        ("playbook_paths", &read.playbook_paths),
        ("role_paths", &read.role_paths),
        ("collection_paths", &read.collection_paths),
    ];
    for (name, paths) in lists {
        for (index, path) in paths.iter().enumerate() {
            check_directory(config, &format!("{name}[{index}]"), path, diagnostics);
        }
    }
}

fn check_directory(config: &Decoded, place: &str, path: &str, diagnostics: &mut Diagnostics) {
    if config.is_unknown(place) {
        return;
    }
    let span = config.span(place);
    match std::fs::metadata(Path::new(path)) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let title = format!("`{path}` is a file, and `{place}` must be a directory");
            diagnostics.push(Diagnostic::error("wrong-file-type", span, title));
        }
        Err(error) => diagnostics.push(unreadable(span, place, path, &error)),
    }
}
