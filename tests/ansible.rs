//! Playbooks against real machines: containers, sandboxes, and what is reached by SSH.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::support::aws::Account;
use crate::support::docker::{self, Removed};
use crate::support::ssh::Remote;
use crate::support::{World, available};

/// What `services.sh start tests` makes: Debian with Python.
const BASE: &str = "kiln-test-python:bookworm";

/// A play on the machine, with what a role usually does.
const PLAY: &str = r#"
- name: all of it
  hosts: workers
  roles: [web]
  tasks:
    - name: say
      command: cat /srv/motd
      register: said
    - name: fetch
      fetch: { src: /srv/conf, dest: fetched, flat: true }
    - name: use a secret
      shell: test "$TOKEN" = hunter22 && echo "$TOKEN"
      environment: { TOKEN: "{{ token }}" }
    - name: many lines
      command: seq 20000
      register: many
    - assert:
        that:
          - said.stdout == 'hello'
          - many.stdout_lines | length == 20000
          - ansible_distribution == 'Debian'
"#;

const ROLE: &str = r#"
- name: user
  user: { name: rugged, uid: 440, home: /srv/rugged }
- name: copy
  copy: { src: motd, dest: /srv/motd, owner: rugged, mode: '0640' }
- name: template
  template: { src: conf.j2, dest: /srv/conf }
- name: as the user
  command: id -un
  become: true
  become_user: rugged
  register: who
  changed_when: false
- assert: { that: who.stdout == 'rugged' }
"#;

/// A world with Ansible in its `PATH`; `None` without.
fn world() -> Option<World> {
    let directory = std::env::var_os("KILN_TEST_ANSIBLE").map(PathBuf::from);
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/kiln-test-ansible/bin"));
    let found = directory.or_else(usual).filter(|path| path.join("ansible-playbook").is_file());
    if !available("Ansible", found.is_some()) {
        return None;
    }
    let mut world = World::new();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", found?.display());
    world.env("PATH", &path).env("ANSIBLE_NOCOLOR", "1");
    world.write("play.yml", PLAY);
    world.write("roles/web/tasks/main.yml", ROLE);
    world.write("roles/web/files/motd", "hello\n");
    world.write("roles/web/templates/conf.j2", "{{ packer_build_name }} {{ packer_builder_type }}\n");
    Some(world)
}

fn has_base() -> bool {
    available("a Docker engine with the image kiln-test-python:bookworm", docker::image(BASE).is_some())
}

/// A template with one playbook on this source.
fn template(world: &World, kind: &str, source: &str, step: &str) {
    let text = format!(
        r#"
variable "token" {{
  default   = "hunter22"
  sensitive = true
}}

source "{kind}" "m" {{
  {source}
}}

build {{
  sources = ["source.{kind}.m"]

  provisioner "ansible" {{
    {step}
  }}
}}
"#
    );
    world.write("t.pkr.hcl", &text);
}

const STEP: &str = r#"playbook_file   = "play.yml"
    groups          = ["workers"]
    extra_arguments = ["-e", "token=${var.token}"]"#;

/// Events of one kind.
fn events(stdout: &str, kind: &str) -> Vec<Json> {
    let events = stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

#[track_caller]
fn build(world: &World) -> Vec<Json> {
    let outcome = world.succeed(&["build", "-json", "t.pkr.hcl"]);
    assert!(!outcome.stdout.contains("hunter22"), "{}", outcome.stdout);
    events(&outcome.stdout, "task")
}

#[track_caller]
fn check_tasks(tasks: &[Json], kind: &str, world: &World) {
    let results: Vec<(&str, &str)> =
        tasks.iter().map(|event| (event["task"].as_str().unwrap(), event["result"].as_str().unwrap())).collect();
    let expected = [
        ("Gathering Facts", "ok"),
        ("web : user", "changed"),
        ("web : copy", "changed"),
        ("web : template", "changed"),
        ("web : as the user", "ok"),
        ("web : assert", "ok"),
        ("say", "changed"),
        ("fetch", "changed"),
        ("use a secret", "changed"),
        ("many lines", "changed"),
        ("assert", "ok"),
    ];
    let plain = |name: &'static str| name.replace("ansible.builtin.", "");
    assert_eq!(
        results.iter().map(|(name, result)| (name.replace("ansible.builtin.", ""), *result)).collect::<Vec<_>>(),
        expected.map(|(name, result)| (plain(name), result))
    );
    assert_eq!(world.read("fetched"), format!("m {kind}\n"));
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn a_playbook_changes_a_container() {
    let Some(world) = world() else { return };
    if !has_base() {
        return;
    }
    template(&world, "docker", &format!("image = \"{BASE}\"\n  pull = false\n  discard = true"), STEP);
    check_tasks(&build(&world), "docker", &world);
}

#[test]
fn a_playbook_changes_a_sandbox_and_is_restored_until_something_of_it_changes() {
    let Some(world) = world() else { return };
    if !has_base() {
        return;
    }
    template(&world, "oci", &format!("from = {{ docker_daemon = \"{BASE}\" }}"), STEP);
    check_tasks(&build(&world), "oci", &world);
    // Files that are older than two seconds are trusted by their times; these are not.
    assert!(build(&world).is_empty(), "nothing changed");
    world.write("roles/web/files/motd", "hello\n\n");
    let tasks = build(&world);
    assert!(tasks.iter().any(|event| event["task"] == "say"), "a file of the role changed: {tasks:?}");
}

#[test]
fn a_playbook_reaches_a_machine_with_ssh_by_openssh() {
    let Some(world) = world() else { return };
    let Some(remote) = Remote::start() else { return };
    let there = remote.path("made").display().to_string();
    world.write(
        "play.yml",
        &format!(
            "- hosts: default\n  gather_facts: false\n  tasks:\n    - shell: echo {{{{ ansible_user }}}} > {there}\n    \
             - copy: {{ content: hello, dest: {there}.copy }}\n"
        ),
    );
    let steps = serde_json::json!([{
        "type": "ansible", "playbook_file": "play.yml",
        // What templates for Packer say, which must not turn off the check of the key that kiln verified.
        "ansible_env_vars": ["ANSIBLE_HOST_KEY_CHECKING=False", "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3"],
        "extra_arguments": ["-vvv"],
    }]);
    let name = remote.template(&world, remote.source(), steps);
    let outcome = world.succeed(&["build", "-json", name]);
    let tasks = events(&outcome.stdout, "task");
    assert_eq!(tasks.len(), 2, "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(&there).unwrap().trim(), remote.sshd.user());
    assert!(outcome.stdout.contains("StrictHostKeyChecking=yes"), "{}", outcome.stdout);
    assert!(!outcome.stdout.contains("StrictHostKeyChecking=no"), "{}", outcome.stdout);
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
    let masters = Command::new("pgrep").args(["-f", &world.path().display().to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&masters.stdout), "", "shared connections have ended");
}

#[test]
fn a_failed_task_says_where_and_why() {
    let Some(world) = world() else { return };
    if !has_base() {
        return;
    }
    let play = "- name: broken\n  hosts: all\n  gather_facts: false\n  tasks:\n    - name: install\n      \
                apt: { name: no-such-package, update_cache: false }\n";
    world.write("play.yml", play);
    template(&world, "oci", &format!("from = {{ docker_daemon = \"{BASE}\" }}"), "playbook_file = \"play.yml\"");
    let outcome = world.run(&["build", "t.pkr.hcl"]);
    assert_eq!(outcome.code, 1);
    let expected = "failed: task `install` (play.yml:5) of play `broken` failed on host `default`: No package matching \
                    'no-such-package' is available";
    assert!(outcome.stderr.contains(expected), "{}", outcome.stderr);
}

#[test]
fn a_machine_without_python_gets_a_hint() {
    let Some(world) = world() else { return };
    if !docker::is_there() {
        return;
    }
    world.write("play.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - ping:\n");
    template(
        &world,
        "docker",
        &format!("image = \"{}\"\n  pull = false\n  discard = true", docker::BASE),
        "playbook_file = \"play.yml\"",
    );
    let outcome = world.run(&["build", "t.pkr.hcl"]);
    assert!(outcome.stderr.contains("hint: Ansible needs Python on the machine"), "{}", outcome.stderr);
}

#[test]
fn an_interrupt_ends_the_playbook_and_its_task() {
    let Some(world) = world() else { return };
    if !has_base() {
        return;
    }
    world.write("play.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n    - debug:\n    - command: sleep 617\n");
    template(
        &world,
        "docker",
        &format!("image = \"{BASE}\"\n  pull = false\n  discard = true"),
        "playbook_file = \"play.yml\"",
    );
    let mut running = world.start(&["build", "-json", "t.pkr.hcl"]);
    running.wait_for("the first task", |event| event["event"] == "task");
    running.signal("INT");
    let run = running.run.clone();
    let (code, stderr) = running.end();
    assert_eq!(code, 130, "{stderr}");
    assert!(docker::containers_with(&format!("kiln.run={run}")).is_empty());
    let left = Command::new("pgrep").args(["-f", &world.path().display().to_string()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "", "no process of the playbook is left");
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}

#[test]
fn ansible_local_runs_what_is_on_the_machine() {
    let Some(world) = world() else { return };
    if !has_base() {
        return;
    }
    let playbook = "#!/bin/sh\necho \"in $(pwd): $*\"\nls roles\ncat group_vars/all\n";
    world.write("ansible-playbook", playbook);
    world.write("group_vars/all", "a: 1\n");
    let text = format!(
        r#"
source "oci" "m" {{
  from = {{ docker_daemon = "{BASE}" }}
}}

build {{
  sources = ["source.oci.m"]

  provisioner "file" {{
    source      = "ansible-playbook"
    destination = "/usr/local/bin/ansible-playbook"
  }}

  provisioner "shell" {{
    inline = ["chmod +x /usr/local/bin/ansible-playbook"]
  }}

  provisioner "ansible-local" {{
    playbook_file           = "play.yml"
    role_paths              = ["roles/web"]
    group_vars              = "group_vars"
    staging_directory       = "/tmp/staging"
    clean_staging_directory = true
  }}

  provisioner "shell" {{
    inline = ["test ! -e /tmp/staging"]
  }}
}}
"#
    );
    world.write("t.pkr.hcl", &text);
    let outcome = world.succeed(&["build", "t.pkr.hcl"]);
    let expected = "in /tmp/staging: /tmp/staging/play.yml --extra-vars packer_build_name=m packer_builder_type=oci -c local \
                    -i /tmp/staging/kiln-inventory";
    for line in [expected, "web", "a: 1"] {
        assert!(outcome.stderr.lines().any(|shown| shown.ends_with(line)), "no `{line}`: {}", outcome.stderr);
    }
}

/// The worker of `examples/worker` in both kinds of image that need no cloud. Packages come from Debian's mirror.
#[test]
fn the_worker_comes_out_the_same_as_container_and_as_image_without_a_daemon() {
    let Some(world) = world() else { return };
    if !docker::is_there() {
        return;
    }
    copy_worker(&world);
    let _removed = Removed(["1.0.0", "latest"].map(|tag| format!("kiln-test/worker:{tag}")).to_vec());
    let arguments = ["build", "-json", "-only=docker.*,oci.*", "-var=repository=kiln-test/worker", "worker.pkr.hcl"];
    let outcome = world.succeed(&arguments);
    let finished = events(&outcome.stdout, "build-finished");
    assert!(finished.iter().all(|event| event["outcome"] == "succeeded") && finished.len() == 2, "{finished:?}");
}

fn copy_worker(world: &World) {
    let example = crate::examples::root().join("examples/worker");
    let copied = Command::new("cp").args(["-R", &format!("{}/.", example.display())]).arg(world.path()).status();
    assert!(copied.unwrap().success());
}

/// The third kind of image of `examples/worker`; a machine that starts from it has what was provisioned.
#[test]
fn the_worker_comes_out_as_ami_and_a_machine_starts_from_it() {
    let (Some(mut world), Some(account)) = (world(), Account::new()) else { return };
    copy_worker(&world);
    account.enter(&mut world);
    let outcome = world.succeed(&["build", "-json", "-only=amazon-ebs.*", "worker.pkr.hcl"]);
    let finished = events(&outcome.stdout, "build-finished");
    assert!(finished.len() == 1 && finished[0]["outcome"] == "succeeded", "{finished:?}");
    let images = account.images();
    let image = &images["eu-central-1"][0];
    assert_eq!(image["name"], "rugged-worker-1.0.0", "{images}");
    let from_it = json!({ "region": "eu-central-1", "source_ami": image["id"], "ami_name": "looked-at", "skip_create_ami": true });
    let look = json!([{ "type": "shell", "script": "scripts/check.sh", "execute_command": "chmod +x {{.Path}}; sudo {{.Path}}" }]);
    world.write("look.json", &account.template(&from_it, &look).to_string());
    world.succeed(&["build", "look.json"]);
    assert_eq!(account.left(), json!({ "images": [image["id"]] }));
}
