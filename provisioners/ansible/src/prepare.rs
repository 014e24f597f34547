//! From the template to a playbook that is ready to run.

use std::path::{Path, PathBuf};

use kiln_core::{Decoded, Diagnostic, Diagnostics, PrepareContext};
use kiln_transport::script::{check_file, unreadable};
use serde::Deserialize;

use crate::run::Playbook;
use crate::schema::SCHEMA;
use crate::{AnsibleSettings, program};

/// Arguments that configure Packer's proxy.
const OF_THE_PROXY: [&str; 6] = [
    "local_port",
    "ssh_host_key_file",
    "ssh_authorized_key_file",
    "ansible_proxy_key_type",
    "sftp_command",
    "use_sftp",
];

/// The arguments as they are read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) playbook_file: String,
    pub(crate) command: Option<String>,
    pub(crate) extra_arguments: Vec<String>,
    pub(crate) ansible_env_vars: Vec<String>,
    pub(crate) ansible_ssh_extra_args: Vec<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) empty_groups: Vec<String>,
    pub(crate) host_alias: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) inventory_directory: Option<PathBuf>,
    pub(crate) inventory_file_template: Option<String>,
    pub(crate) inventory_file: Option<PathBuf>,
    pub(crate) keep_inventory_file: bool,
    pub(crate) galaxy_file: Option<PathBuf>,
    pub(crate) galaxy_command: Option<String>,
    pub(crate) galaxy_force_install: bool,
    pub(crate) galaxy_force_with_deps: bool,
    pub(crate) roles_path: Option<PathBuf>,
    pub(crate) collections_path: Option<PathBuf>,
    pub(crate) use_proxy: Option<bool>,
}

impl Config {
    /// An empty text counts as absent, as for Packer.
    fn without_empty_texts(mut self) -> Config {
        let texts = [
            &mut self.command,
            &mut self.host_alias,
            &mut self.user,
            &mut self.inventory_file_template,
            &mut self.galaxy_command,
        ];
        for text in texts {
            *text = text.take().filter(|text| !text.is_empty());
        }
        let paths = [
            &mut self.inventory_directory,
            &mut self.inventory_file,
            &mut self.galaxy_file,
            &mut self.roles_path,
            &mut self.collections_path,
        ];
        for path in paths {
            *path = path.take().filter(|path| !path.as_os_str().is_empty());
        }
        self
    }
}

/// Reads and checks the arguments.
pub(crate) fn read(
    config: &Decoded,
    context: &PrepareContext,
    settings: &AnsibleSettings,
    diagnostics: &mut Diagnostics,
) -> Option<Playbook> {
    let read: Config = config.read_or_tell(diagnostics)?;
    let read = read.without_empty_texts();
    check_files(config, &read, diagnostics);
    check_names(config, &read, diagnostics);
    let environment = read_environment(config, &read, diagnostics);
    warn_of_the_proxy(config, diagnostics);
    let command = read.command.as_deref().unwrap_or(program::PLAYBOOK);
    if !config.is_unknown("command") && !config.is_unknown("ansible_env_vars") {
        let search = program::search_path(&environment, settings);
        if program::find(command, &search).is_none() {
            let (span, title) = match read.command.is_some() {
                true => (config.span("command"), format!("`command`: there is no program `{command}`")),
                false => (config.body_span(), format!("there is no program `{command}` on this host")),
            };
            let missing = Diagnostic::error("missing-program", span, title)
                .help("install Ansible, for example `pip install ansible-core`, or name its program with `command`");
            diagnostics.push(context.unless_checked(missing));
        }
    }
    if !config.is_set("playbook_file") {
        return None;
    }
    Some(Playbook { config: read, environment, settings: settings.clone() })
}

fn check_files(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) {
    if config.is_set("playbook_file") && !config.is_unknown("playbook_file") {
        check_file(config, "playbook_file", &read.playbook_file, diagnostics);
    }
    for (name, path) in [("galaxy_file", &read.galaxy_file), ("inventory_file", &read.inventory_file)] {
        let Some(path) = path.as_ref().filter(|_| !config.is_unknown(name)) else { continue };
        // An inventory may be a directory of several.
        if name == "inventory_file" && path.is_dir() {
            continue;
        }
        check_file(config, name, &path.display().to_string(), diagnostics);
    }
    if let Some(path) = read.inventory_directory.as_ref().filter(|_| !config.is_unknown("inventory_directory")) {
        check_directory(config, "inventory_directory", path, diagnostics);
    }
    for name in ["inventory_directory", "inventory_file_template", "groups", "empty_groups", "keep_inventory_file"] {
        if read.inventory_file.is_some() && config.is_set(name) {
            let title = format!("`{name}` has no effect beside `inventory_file`: no inventory is generated");
            let warning = Diagnostic::warning("no-effect", config.span(name), title);
            diagnostics.push(warning.also(config.span("inventory_file"), "this inventory is used"));
        }
    }
}

fn check_directory(config: &Decoded, name: &str, path: &Path, diagnostics: &mut Diagnostics) {
    let text = path.display().to_string();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let title = format!("`{text}` is a file, and `{name}` must be a directory");
            diagnostics.push(Diagnostic::error("wrong-file-type", config.span(name), title));
        }
        Err(error) => diagnostics.push(unreadable(config.span(name), name, &text, &error)),
    }
}

/// Names that an inventory's lines would come out wrong with.
fn check_names(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) {
    let is_wrong = |name: &str| name.is_empty() || name.contains(|c: char| c.is_whitespace() || "[]#;=".contains(c));
    for (list, names) in [("groups", &read.groups), ("empty_groups", &read.empty_groups)] {
        for (index, name) in names.iter().enumerate() {
            let place = format!("{list}[{index}]");
            if !config.is_unknown(&place) && is_wrong(name) {
                let title = format!("`{place}`: `{name}` cannot be the name of a group in an inventory");
                diagnostics.push(Diagnostic::error("wrong-value", config.span(&place), title));
            }
        }
    }
    if let Some(alias) = read.host_alias.as_deref().filter(|_| !config.is_unknown("host_alias"))
        && is_wrong(alias)
    {
        let title = format!("`{alias}` cannot be the name of a host in an inventory");
        diagnostics.push(Diagnostic::error("wrong-value", config.span("host_alias"), title));
    }
}

fn read_environment(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) -> Vec<(String, String)> {
    let mut environment = Vec::new();
    for (index, entry) in read.ansible_env_vars.iter().enumerate() {
        let place = format!("ansible_env_vars[{index}]");
        match entry.split_once('=') {
            _ if config.is_unknown(&place) => {}
            Some((name, value)) if !name.is_empty() => environment.push((name.to_owned(), value.to_owned())),
            _ => {
                // The entry itself may be a secret that lost its name, so it is not repeated.
                let title = format!("`{place}` is not `NAME=value`");
                diagnostics.push(Diagnostic::error("wrong-value", config.span(&place), title));
            }
        }
    }
    environment
}

fn warn_of_the_proxy(config: &Decoded, diagnostics: &mut Diagnostics) {
    let set: Vec<&str> = OF_THE_PROXY.into_iter().filter(|name| config.is_set(name)).collect();
    let Some(first) = set.first() else { return };
    let names: Vec<String> = set.iter().map(|name| format!("`{name}`")).collect();
    let verb = if set.len() == 1 { "has" } else { "have" };
    let title = format!("{} {verb} no effect: {} needs no proxy", names.join(", "), SCHEMA.title);
    diagnostics.push(Diagnostic::warning("no-effect", config.span(first), title));
}
