//! What is called, compared with what packer 1.6.6 called for the same arguments.

use kiln_testkit::{FakeMachine, TestContext, context};
use serde_json::json;

use super::*;

/// Shows how it was called.
const SHOWS: &str = r#"#!/bin/sh
for argument in "$@"; do printf '[%s]\n' "$argument"; done
env | grep -E '^(ANSIBLE|PYTHON|KILN_ANSIBLE_HOST)' | sort
while [ $# -gt 1 ]; do [ "$1" = -i ] && cat "$2" | sed 's/^/inventory: /'; shift; done
"#;

struct Called {
    directory: tempfile::TempDir,
    context: TestContext,
}

impl Called {
    fn new() -> Called {
        let directory = tempfile::tempdir().unwrap();
        program(&directory.path().join("ansible-playbook"), SHOWS);
        program(&directory.path().join("ansible-galaxy"), "#!/bin/sh\necho \"galaxy $*\"\n");
        std::fs::write(directory.path().join("play.yml"), "- hosts: all\n").unwrap();
        Called { directory, context: context().build() }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// What the program printed, without what differs from run to run.
    async fn lines(&self, machine: &dyn Machine, mut arguments: Json) -> Vec<String> {
        arguments["playbook_file"] = self.path("play.yml").into();
        ansible(self.directory.path(), arguments).provision(machine, &self.context).await.unwrap();
        let (scratch, here) = (self.context.scratch.display().to_string(), self.path(""));
        let clean = |line: String| {
            let line = line.replace(&scratch, "SCRATCH").replace(&here, "HERE/");
            let cut = |line: String, start: &str| match line.find(start) {
                Some(at) => {
                    let end = line[at + start.len()..]
                        .find(|c: char| !c.is_ascii_alphanumeric())
                        .unwrap_or(line.len() - at - start.len());
                    format!("{}*{}", &line[..at + start.len()], &line[at + start.len() + end..])
                }
                None => line,
            };
            cut(cut(line, "SCRATCH/ansible-"), "kiln-inventory-")
        };
        self.context.reporter.output().into_iter().map(clean).collect()
    }
}

#[tokio::test]
async fn arguments_come_in_packers_order() {
    let called = Called::new();
    let machine = FakeMachine::new().fact("User", "");
    let lines = called
        .lines(
            &machine,
            json!({
                "groups": ["g1", "g2"], "empty_groups": ["e1"], "extra_arguments": ["-e", "x=1 y=2", "-v"],
                "ansible_env_vars": ["ANSIBLE_X='q q'", "ANSIBLE_TRANSPORT=docker"], "ansible_ssh_extra_args": ["-C"],
            }),
        )
        .await;
    assert_eq!(
        lines,
        [
            "[-e]",
            "[packer_build_name=\"worker\"]",
            "[-e]",
            "[packer_builder_type=docker]",
            "[-e]",
            "[x=1 y=2]",
            "[-v]",
            "[-i]",
            "[SCRATCH/ansible-*/inventory/kiln-inventory-*]",
            "[HERE/play.yml]",
            "ANSIBLE_CALLBACK_PLUGINS=SCRATCH/ansible-*/callback:~/.ansible/plugins/callback:\
             /usr/share/ansible/plugins/callback",
            "ANSIBLE_CONNECTION_PLUGINS=SCRATCH/ansible-*/connection:~/.ansible/plugins/connection:\
             /usr/share/ansible/plugins/connection",
            "ANSIBLE_LOCAL_TEMP=SCRATCH/ansible-*/tmp",
            "ANSIBLE_TRANSPORT=docker",
            "ANSIBLE_X='q q'",
            "KILN_ANSIBLE_HOST=default",
            "PYTHONDONTWRITEBYTECODE=1",
            "PYTHONUNBUFFERED=1",
            "inventory: default ansible_host=127.0.0.1 ansible_user=root ansible_port=0",
            "inventory: [g1]",
            "inventory: default ansible_host=127.0.0.1 ansible_user=root ansible_port=0",
            "inventory: [g2]",
            "inventory: default ansible_host=127.0.0.1 ansible_user=root ansible_port=0",
            "inventory: [e1]",
        ]
    );
    assert_eq!(std::fs::read_dir(&called.context.scratch).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn galaxy_is_called_before_and_what_it_installs_is_found() {
    let called = Called::new();
    std::fs::write(called.path("req.yml"), "roles:\n  - a.b\n").unwrap();
    let arguments = json!({
        "galaxy_file": called.path("req.yml"), "roles_path": called.path("roles"), "collections_path": "/c",
    });
    let lines = called.lines(&FakeMachine::new(), arguments).await;
    assert_eq!(lines[0], "galaxy install -r HERE/req.yml -p HERE/roles");
    let has = |line: &str| assert!(lines.iter().any(|other| other == line), "{line}: {lines:?}");
    has("ANSIBLE_ROLES_PATH=HERE/roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles");
    has("ANSIBLE_COLLECTIONS_PATH=/c:~/.ansible/collections:/usr/share/ansible/collections");
}

#[tokio::test]
async fn a_machine_with_ssh_is_reached_by_it_and_its_key_is_checked() {
    let called = Called::new();
    let access = SshAccess {
        host: "10.0.0.7".into(),
        port: 2222,
        user: "admin".into(),
        identity_file: Some("/k/id".into()),
        certificate_file: None,
        password: None,
        known_hosts: "/k/known".into(),
        config_file: None,
    };
    let machine = Here { communicator: Reached { access: Some(access) }, ..Here::default() };
    let arguments = json!({
        "ansible_ssh_extra_args": ["-o A=b", "-C"], "user": "bob",
        "ansible_env_vars": ["ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_SSH_COMMON_ARGS=-o B=c"],
    });
    let lines = called.lines(&machine, arguments).await;
    let has = |line: &str| assert!(lines.iter().any(|other| other == line), "{line}: {lines:?}");
    has("[--ssh-extra-args=-o A=b -C]");
    has("[ansible_ssh_private_key_file=/k/id]");
    has("ANSIBLE_HOST_KEY_CHECKING=True");
    has("ANSIBLE_PIPELINING=True");
    has("inventory: default ansible_host=10.0.0.7 ansible_user=bob ansible_port=2222");
    has("ANSIBLE_SSH_COMMON_ARGS=-o 'UserKnownHostsFile=\"/k/known\"' -o 'GlobalKnownHostsFile=/dev/null' \
         -o 'StrictHostKeyChecking=yes' -o 'IdentitiesOnly=yes' -o User=admin -o B=c");
    assert!(!lines.iter().any(|line| line.starts_with("ANSIBLE_TRANSPORT")), "{lines:?}");
}

#[tokio::test]
async fn secrets_are_on_no_command_line() {
    let called = Called { context: context().secret("hunter22").build(), ..Called::new() };
    let arguments = json!({ "extra_arguments": ["-e", "password=hunter22", "--extra-vars={\"p\": \"hunter22\"}"] });
    let lines = called.lines(&FakeMachine::new(), arguments).await;
    let has = |line: &str| assert!(lines.iter().any(|other| other == line), "{line}: {lines:?}");
    has("[@SCRATCH/ansible-*/variables-1.yml]");
    has("[--extra-vars=@SCRATCH/ansible-*/variables-2.yml]");
}

#[tokio::test]
async fn a_playbook_that_fails_without_a_word_tells_its_status() {
    let called = Called::new();
    program(&called.directory.path().join("ansible-playbook"), "#!/bin/sh\necho oops >&2\nexit 5\n");
    let arguments = json!({ "playbook_file": called.path("play.yml") });
    let step = ansible(called.directory.path(), arguments);
    let failure = step.provision(&FakeMachine::new(), &called.context).await.unwrap_err();
    let expected = format!(
        "ansible-playbook exited with status 5 on `{}`; the last lines of its output:\n    oops",
        called.path("play.yml")
    );
    assert_eq!(failure.to_string(), expected);
}
