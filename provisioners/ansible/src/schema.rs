//! The arguments of `ansible`.

use kiln_core::{Field, FieldType, Schema};

/// What an inventory template may use, besides the machine's values.
pub(crate) const INVENTORY_DATA: &[&str] = &["HostAlias", "Host", "User", "Port"];

/// The arguments of `ansible`.
pub const SCHEMA: Schema = Schema {
    kind: "ansible",
    title: "an `ansible` provisioner",
    doc: "Runs a playbook from this host against the machine. Ansible must be installed here; the machine needs what \
          Ansible needs there, which is Python. Machines that are reached by SSH are reached by OpenSSH, with pipelining \
          and one connection for all tasks; all others through kiln, without an SSH server in them. No proxy is run in \
          either case. See the [guide](../guide/ansible.md).",
    fields: &[
        Field::string("playbook_file", "The playbook, relative to the working directory of kiln.").required(),
        Field::string("command", "The program that runs playbooks: a name that `PATH` finds, or a path.")
            .default("ansible-playbook"),
        Field::strings(
            "extra_arguments",
            "Further arguments for it, one each, without quotes for a shell: `--tags=web`. Sensitive values in `-e` and \
             `--extra-vars` are handed over in a file that only the user can read.",
        ),
        Field::strings("ansible_env_vars", "Environment of Ansible, as `NAME=value`."),
        Field::strings("ansible_ssh_extra_args", "Further arguments for `ssh`, for machines that are reached by it."),
        Field::strings("groups", "Groups of the inventory that the machine is in."),
        Field::strings("empty_groups", "Groups of the inventory without hosts."),
        Field::string("host_alias", "What the machine is called in the inventory.").default("default"),
        Field::string(
            "user",
            "The `ansible_user` that the playbook sees. Commands run as the user that kiln reaches the machine as, \
             whatever stands here; with `use_proxy = false` a machine with SSH is logged in to as this user. By default \
             it is the machine's own user.",
        ),
        Field::string(
            "inventory_directory",
            "A directory with `group_vars` and `host_vars`: the inventory counts as lying there. Nothing is written to \
             it, unless `keep_inventory_file` is set.",
        ),
        Field::string(
            "inventory_file_template",
            "The line of the inventory that describes the machine, repeated under each group: `{{ .HostAlias }}`, \
             `{{ .Host }}`, `{{ .User }}`, `{{ .Port }}`.",
        )
        .default("{{ .HostAlias }} ansible_host={{ .Host }} ansible_user={{ .User }} ansible_port={{ .Port }}\\n")
        .deferred_with(INVENTORY_DATA),
        Field::string(
            "inventory_file",
            "An inventory of your own instead of a generated one. The host called `host_alias`, and hosts whose \
             `ansible_host` is 127.0.0.1, are the machine.",
        ),
        Field::bool("keep_inventory_file", "Keep the generated inventory: in `inventory_directory`, or where kiln runs.")
            .default("false"),
        Field::string(
            "galaxy_file",
            "Roles and collections that `ansible-galaxy` installs on this host before: a list of roles, or `roles:` and \
             `collections:`.",
        ),
        Field::string("galaxy_command", "The program that installs them.").default("ansible-galaxy"),
        Field::bool("galaxy_force_install", "Install them again even if they are there (`--force`).").default("false"),
        Field::bool("galaxy_force_with_deps", "And what they need too (`--force-with-deps`).").default("false"),
        Field::string("roles_path", "Where roles are installed, and looked for first."),
        Field::string("collections_path", "Where collections are installed, and looked for first."),
        Field::bool(
            "use_proxy",
            "Packer's way to choose between its SSH proxy and the machine's own SSH server. kiln needs no proxy, so that \
             this only decides what `user` means.",
        )
        .default("true"),
        Field::bool("skip_version_check", "Without effect: Ansible is not asked for its version.").default("false"),
        Field::new("local_port", FieldType::Integer, "Of Packer's proxy; without effect."),
        Field::string("ssh_host_key_file", "Of Packer's proxy; without effect."),
        Field::string("ssh_authorized_key_file", "Of Packer's proxy; without effect."),
        Field::new(
            "ansible_proxy_key_type",
            FieldType::OneOf(&["ECDSA", "RSA"]),
            "Of Packer's proxy; without effect.",
        ),
        Field::string("sftp_command", "Of Packer's proxy; without effect."),
        Field::bool("use_sftp", "Of Packer's proxy; without effect."),
        Field::bool("ansible_winrm_use_http", "For WinRM, which kiln does not have; without effect."),
    ],
    example: r#"provisioner "ansible" {
  playbook_file   = "ansible/worker.yml"
  groups          = ["workers"]
  extra_arguments = ["-e", "release=${var.release}"]
}"#,
};
