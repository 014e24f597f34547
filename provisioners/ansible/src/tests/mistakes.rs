//! What is told before anything runs.

use kiln_testkit::titles;
use serde_json::json;

use super::*;
use crate::SCHEMA;

fn told(arguments: Json) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    program(&directory.path().join("ansible-playbook"), "#!/bin/sh\n");
    let kind = AnsibleKind::new(settings(directory.path()));
    let (_, diagnostics) = Arguments::new(arguments).provisioner(&kind);
    titles(&diagnostics).into_iter().map(str::to_owned).collect()
}

#[test]
fn all_mistakes_are_told_at_once() {
    let found = told(json!({
        "playbook_file": "no-such.yml", "galaxy_file": "src", "inventory_directory": "Cargo.toml",
        "groups": ["web servers"], "host_alias": "a=b", "ansible_env_vars": ["A=1", "nothing"],
        "ansible_proxy_key_type": "DSA", "command": "no-such-program",
    }));
    assert_eq!(
        found,
        [
            "`ansible_proxy_key_type` cannot be `DSA`",
            "`playbook_file`: there is no file `no-such.yml`",
            "`src` is a directory, and `galaxy_file` must be a file",
            "`Cargo.toml` is a file, and `inventory_directory` must be a directory",
            "`groups[0]`: `web servers` cannot be the name of a group in an inventory",
            "`a=b` cannot be the name of a host in an inventory",
            "`ansible_env_vars[1]` is not `NAME=value`",
            "`ansible_proxy_key_type` has no effect: an `ansible` provisioner needs no proxy",
            "`command`: there is no program `no-such-program`",
        ]
    );
}

#[test]
fn options_of_the_proxy_are_accepted_and_explained() {
    let found = told(json!({
        "playbook_file": "Cargo.toml", "use_proxy": false, "local_port": 2222, "use_sftp": true,
        "skip_version_check": true,
    }));
    assert_eq!(found, ["`local_port`, `use_sftp` have no effect: an `ansible` provisioner needs no proxy"]);
}

#[test]
fn an_inventory_of_ones_own_leaves_nothing_to_generate() {
    let found = told(json!({ "playbook_file": "Cargo.toml", "inventory_file": "Cargo.toml", "groups": ["web"] }));
    assert_eq!(found, ["`groups` has no effect beside `inventory_file`: no inventory is generated"]);
}

#[test]
fn a_missing_ansible_is_told_before_a_machine_is_made() {
    let nowhere = tempfile::tempdir().unwrap();
    let environment: BTreeMap<String, String> = [("PATH".to_owned(), nowhere.path().display().to_string())].into();
    let kind = AnsibleKind::new(AnsibleSettings { environment: environment.into(), ..AnsibleSettings::default() });
    let (_, diagnostics) = Arguments::new(json!({ "playbook_file": "Cargo.toml" })).provisioner(&kind);
    assert_eq!(titles(&diagnostics), ["there is no program `ansible-playbook` on this host"]);
    assert!(diagnostics.has_errors());
}

#[test]
fn the_reference_says_what_the_schema_says() {
    let page = include_str!("../../../../docs/reference/provisioners.md");
    assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
}
