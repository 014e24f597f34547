//! The inventory: one machine, in its groups.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Failure};
use kiln_gotemplate::Data;
use kiln_transport::script::render;

use crate::error::AnsibleError;
use crate::prepare::Config;
use crate::workspace::{Workspace, write_private};

/// What describes the machine, as in Packer.
const TEMPLATE: &str = "{{ .HostAlias }} ansible_host={{ .Host }} ansible_user={{ .User }} ansible_port={{ .Port }}\n";

/// What the machine is called.
pub(crate) const ALIAS: &str = "default";

/// How the inventory says that the machine is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
}

impl Target {
    /// A machine that is reached through kiln. The port can be connected to by nothing: a playbook that insists on SSH
    /// (`connection: ssh`) must not end up on this host.
    pub(crate) fn through_kiln(user: String) -> Target {
        Target { host: "127.0.0.1".to_owned(), port: 0, user }
    }
}

/// The text of the inventory.
pub(crate) fn text(config: &Config, target: &Target, context: &BuildContext) -> Result<String, Failure> {
    let alias = config.host_alias.as_deref().unwrap_or(ALIAS);
    let data: BTreeMap<String, Data> = [
        ("HostAlias", alias.to_owned()),
        ("Host", target.host.clone()),
        ("User", target.user.clone()),
        ("Port", target.port.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), Data::Text(value)))
    .into();
    let template = config.inventory_file_template.as_deref().unwrap_or(TEMPLATE);
    let mut host = render("inventory_file_template", template, context, &data, "")?;
    if !host.ends_with('\n') {
        host.push('\n');
    }
    let mut text = host.clone();
    for group in &config.groups {
        text.push_str(&format!("[{group}]\n{host}"));
    }
    for group in &config.empty_groups {
        text.push_str(&format!("[{group}]\n"));
    }
    Ok(text)
}

/// Writes the inventory and gives its path. Blocking.
pub(crate) fn write(config: &Config, text: &str, workspace: &Workspace, name: &str) -> Result<PathBuf, Failure> {
    if config.keep_inventory_file {
        let directory = config.inventory_directory.clone().unwrap_or_default();
        let path = directory.join(name);
        return match write_private(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(Failure::build(AnsibleError::Write { path, source })),
        };
    }
    if let Some(directory) = &config.inventory_directory {
        // What lies beside an inventory belongs to it (`group_vars`, `host_vars`), so all that lies there is seen here too.
        let failed = |source| Failure::build(AnsibleError::Read { path: directory.clone(), source });
        link_all(directory, &workspace.path("inventory")).map_err(failed)?;
    }
    workspace.write(&format!("inventory/{name}"), text)
}

fn link_all(from: &Path, to: &Path) -> std::io::Result<()> {
    let from = std::path::absolute(from)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::os::unix::fs::symlink(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// The user that a machine's `User` stands for, as `ansible_user` is meant: a name.
pub(crate) fn user_of(fact: Option<&String>) -> String {
    let user = fact.map(String::as_str).unwrap_or_default();
    match user.split(':').next().unwrap_or_default() {
        "" | "0" => "root".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use kiln_testkit::context;

    use super::*;

    #[test]
    fn the_text_is_that_of_packer() {
        let context = context().build();
        let config =
            Config { groups: vec!["g1".into(), "g2".into()], empty_groups: vec!["e1".into()], ..Config::default() };
        let target = Target { host: "127.0.0.1".into(), port: 34475, user: "root".into() };
        // As packer 1.6.6 wrote it.
        let expected = "default ansible_host=127.0.0.1 ansible_user=root ansible_port=34475\n\
                        [g1]\ndefault ansible_host=127.0.0.1 ansible_user=root ansible_port=34475\n\
                        [g2]\ndefault ansible_host=127.0.0.1 ansible_user=root ansible_port=34475\n\
                        [e1]\n";
        assert_eq!(text(&config, &target, &context).unwrap(), expected);
        let config = Config {
            host_alias: Some("web".into()),
            inventory_file_template: Some("{{ .HostAlias }} h={{ .Host }} u={{ .User }} id={{ .ID }}".into()),
            ..Config::default()
        };
        assert_eq!(text(&config, &target, &context).unwrap(), "web h=127.0.0.1 u=root id=4f1c\n");
    }

    #[test]
    fn an_inventory_counts_as_lying_in_its_directory_and_is_not_written_there() {
        let directory = tempfile::tempdir().unwrap();
        let inventory = directory.path().join("inventory");
        std::fs::create_dir_all(inventory.join("group_vars")).unwrap();
        std::fs::write(inventory.join("group_vars/all.yml"), "a: 1\n").unwrap();
        let workspace = Workspace::create(directory.path()).unwrap();
        let config = Config { inventory_directory: Some(inventory.clone()), ..Config::default() };
        let path = write(&config, "default\n", &workspace, "kiln-inventory").unwrap();
        let beside = path.parent().unwrap().join("group_vars/all.yml");
        assert_eq!(std::fs::read_to_string(beside).unwrap(), "a: 1\n");
        assert_eq!(std::fs::read_dir(&inventory).unwrap().count(), 1);
        let kept = Config { keep_inventory_file: true, ..config };
        let path = write(&kept, "default\n", &workspace, "kiln-inventory").unwrap();
        assert_eq!(path, inventory.join("kiln-inventory"));
    }

    #[test]
    fn users_are_names() {
        for (fact, expected) in
            [("", "root"), ("0", "root"), ("worker", "worker"), ("worker:www", "worker"), ("440", "440")]
        {
            assert_eq!(user_of(Some(&fact.to_owned())), expected);
        }
    }
}
