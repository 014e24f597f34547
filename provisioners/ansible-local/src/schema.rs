//! The arguments of `ansible-local`.

use kiln_core::{Field, Schema};

/// The arguments of `ansible-local`.
pub const SCHEMA: Schema = Schema {
    kind: "ansible-local",
    title: "an `ansible-local` provisioner",
    doc: "Brings playbooks to the machine and runs them there. Ansible must be installed on the machine, by a step before \
          or in its base.",
    fields: &[
        Field::string(
            "playbook_file",
            "The playbook, relative to the working directory of kiln. Either it or `playbook_files`.",
        ),
        Field::strings(
            "playbook_files",
            "Several playbooks, run one after the other. Those in `playbook_dir` run where they lie there.",
        ),
        Field::string("playbook_dir", "A directory that becomes the staging directory, with all that is in it."),
        Field::strings("playbook_paths", "Directories with further playbooks; they go to `playbooks/`."),
        Field::strings("role_paths", "Directories of roles, one each; they go to `roles/`."),
        Field::strings("collection_paths", "Directories of collections, one each; they go to `collections/`."),
        Field::string("group_vars", "A directory; it becomes `group_vars`."),
        Field::string("host_vars", "A directory; it becomes `host_vars`."),
        Field::string("inventory_file", "An inventory. Beside it, `--limit` in `extra_arguments` picks the machine."),
        Field::strings("inventory_groups", "Groups of the generated inventory that the machine, 127.0.0.1, is in."),
        Field::string(
            "galaxy_file",
            "Roles and collections that `ansible-galaxy` installs on the machine before: a list of roles, or `roles:` and \
             `collections:`.",
        ),
        Field::string("galaxy_command", "The command that installs them.").default("ansible-galaxy"),
        Field::string("galaxy_roles_path", "Where on the machine roles are installed.")
            .default("<staging directory>/roles"),
        Field::string("galaxy_collections_path", "Where on the machine collections are installed.")
            .default("<staging directory>/galaxy_collections"),
        Field::string("command", "The command that runs a playbook, for the machine's shell.")
            .default("ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook"),
        Field::strings(
            "extra_arguments",
            "Further arguments for it, joined with blanks and read by the machine's shell. A sensitive value in them travels \
             beside the command line.",
        ),
        Field::string(
            "staging_directory",
            "Where files go on the machine. It is removed before the step ends only with \
             `clean_staging_directory`.",
        )
        .default("/tmp/packer-provisioner-ansible-local/<UUID>"),
        Field::bool("clean_staging_directory", "Remove the staging directory when the playbooks have ended.")
            .default("false"),
    ],
    example: r#"provisioner "ansible-local" {
  playbook_file           = "ansible/worker.yml"
  role_paths              = ["ansible/roles/worker"]
  clean_staging_directory = true
}"#,
};
