//! Real playbooks, with this host as the machine.

use std::time::{Duration, Instant};

use kiln_core::EventKind;
use kiln_core::event::TaskResult;
use kiln_testkit::{TestContext, context};
use serde_json::json;

use super::*;

/// Where Ansible is: `KILN_TEST_ANSIBLE`, or where `scripts/install-dependencies.sh tests` puts it.
#[expect(clippy::print_stderr, reason = "a test says what it skips")]
fn programs() -> Option<PathBuf> {
    let given = std::env::var_os("KILN_TEST_ANSIBLE").map(PathBuf::from);
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/kiln-test-ansible/bin"));
    let found = given.or_else(usual).filter(|path| path.join("ansible-playbook").is_file());
    let is_required = std::env::var_os("KILN_TEST_REQUIRE").is_some_and(|value| value == "1");
    assert!(found.is_some() || !is_required, "Ansible is needed and missing; `make test` installs it");
    if found.is_none() {
        eprintln!("SKIPPED: Ansible is missing; `make test` installs it");
    }
    found
}

/// A playbook and its surroundings.
struct World {
    context: TestContext,
    directory: tempfile::TempDir,
    programs: PathBuf,
}

impl World {
    fn new() -> Option<World> {
        let programs = programs()?;
        Some(World { context: context().secret("hunter22").build(), directory: tempfile::tempdir().unwrap(), programs })
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> &World {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("HERE", &self.directory.path().display().to_string())).unwrap();
        self
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    async fn play(&self, tasks: &str, mut arguments: Json) -> Result<(), Failure> {
        self.write("play.yml", tasks);
        arguments["playbook_file"] = self.path("play.yml").into();
        let mut variables = arguments["ansible_env_vars"].as_array().cloned().unwrap_or_default();
        variables.push(format!("ANSIBLE_REMOTE_TMP={}", self.path("remote")).into());
        variables.push("ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3".into());
        arguments["ansible_env_vars"] = variables.into();
        ansible(&self.programs, arguments).provision(&Here::default(), &self.context).await
    }

    fn results(&self) -> Vec<(String, TaskResult)> {
        let pick = |kind| match kind {
            EventKind::Task { task, result, .. } => Some((task, result)),
            _ => None,
        };
        self.context.reporter.events().into_iter().filter_map(|event| pick(event.kind)).collect()
    }

    fn output(&self) -> String {
        self.context.reporter.output().join("\n")
    }
}

#[tokio::test]
async fn files_commands_and_handlers_work_and_are_told() {
    let Some(world) = World::new() else { return };
    world.write("files/motd", "hello\n").write("templates/conf.j2", "name={{ name }} {{ ansible_user }}\n");
    let tasks = "
- name: all of it
  hosts: default
  gather_facts: false
  vars: { name: kiln }
  tasks:
    - name: copy
      copy: { src: motd, dest: HERE/motd, mode: '0640' }
      notify: tell
    - name: template
      template: { src: conf.j2, dest: HERE/conf }
    - name: command
      command: cat HERE/motd
      register: shown
    - name: pick
      set_fact: { said: \"{{ shown.stdout }}\" }
    - name: again
      copy: { src: motd, dest: HERE/motd, mode: '0640' }
    - name: skipped
      command: 'false'
      when: said != 'hello'
    - name: ignored
      command: 'false'
      ignore_errors: true
    - name: fetch
      fetch: { src: HERE/motd, dest: HERE/fetched, flat: true }
    - name: large
      shell: head -c 3000000 /dev/zero | tr '\\0' x
      register: large
    - assert: { that: large.stdout | length == 3000000 }
  handlers:
    - name: tell
      shell: echo told > HERE/told
";
    world.play(tasks, json!({})).await.unwrap();
    use TaskResult::{Changed, Ignored, Ok, Skipped};
    let expected = [
        ("copy", Changed),
        ("template", Changed),
        ("command", Changed),
        ("pick", Ok),
        ("again", Ok),
        ("skipped", Skipped),
        ("ignored", Ignored),
        ("fetch", Changed),
        ("large", Changed),
        ("assert", Ok),
        ("tell", Changed),
    ];
    assert_eq!(world.results(), expected.map(|(name, result)| (name.to_owned(), result)), "{}", world.output());
    assert_eq!((world.read("conf").as_str(), world.read("fetched").as_str()), ("name=kiln root\n", "hello\n"));
    assert_eq!(world.read("told"), "told\n");
    let mode = std::fs::metadata(world.path("motd")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(world.output().contains("TASK [copy]"), "{}", world.output());
    assert_eq!(std::fs::read_dir(&world.context.scratch).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn a_failed_task_is_told_with_its_play_host_and_message() {
    let Some(world) = World::new() else { return };
    let tasks = "
- name: broken
  hosts: default
  gather_facts: false
  tasks:
    - name: loop
      shell: echo 'no {{ item }} hunter22' >&2; exit {{ item }}
      loop: [0, 3]
";
    let failure = world.play(tasks, json!({})).await.unwrap_err();
    let text = failure.to_string().replace(&world.path(""), "");
    assert!(text.starts_with("task `loop` (play.yml:6) of play `broken` failed on host `default`: "), "{text}");
    assert!(text.contains("item `3`: non-zero return code") && text.contains("no 3 <sensitive>"), "{text}");
    assert!(!world.context.reporter.as_json().contains("hunter22"));
}

#[tokio::test]
async fn a_password_is_given_to_what_asks_for_it() {
    let Some(world) = World::new() else { return };
    // As sudo does with -S -p PROMPT: ask on standard error, read a line, run the rest.
    let asks = "#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    -p) prompt=$2; shift 2 ;;
    -u) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
printf '%s' \"$prompt\" >&2
IFS= read -r password
[ \"$password\" = \"the pass\" ] || { echo 'Sorry, try again.' >&2; exit 1; }
exec \"$@\"
";
    program(&world.directory.path().join("asks"), asks);
    let tasks = "
- hosts: default
  gather_facts: false
  become: true
  vars: { ansible_become_exe: HERE/asks, ansible_become_flags: '-H -S' }
  tasks:
    - name: module
      command: echo by module
    - name: raw
      raw: read line || true; echo \"raw [$line]\"
      register: raw
    - assert: { that: \"'raw []' in raw.stdout\" }
";
    // Nobody becomes who he is already.
    let right = json!({ "user": "worker", "extra_arguments": ["-e", "ansible_become_pass='the pass'"] });
    world.play(tasks, right).await.unwrap();
    let wrong = json!({ "user": "worker", "extra_arguments": ["-e", "ansible_become_pass=wrong"] });
    let failure = world.play(tasks, wrong).await.unwrap_err();
    assert!(failure.to_string().contains("Incorrect sudo password"), "{failure}");
}

#[tokio::test]
async fn other_hosts_are_not_taken_for_the_machine() {
    let Some(world) = World::new() else { return };
    let tasks = "
- hosts: default
  gather_facts: false
  tasks:
    - name: here
      command: touch HERE/local
      delegate_to: localhost
    - name: elsewhere
      command: touch HERE/elsewhere
      delegate_to: db.example.com
";
    let failure = world.play(tasks, json!({})).await.unwrap_err();
    assert!(failure.to_string().contains("`db.example.com` is not the machine that kiln builds"), "{failure}");
    assert!(Path::new(&world.path("local")).exists() && !Path::new(&world.path("elsewhere")).exists());
}

#[tokio::test]
async fn an_inventory_of_ones_own_names_the_machine() {
    let Some(world) = World::new() else { return };
    world.write("inventory.ini", "[web]\nmine ansible_host=127.0.0.1 ansible_port=2222\n[web:vars]\ncolour=blue\n");
    let tasks = "
- hosts: web
  gather_facts: false
  tasks:
    - shell: echo {{ colour }} > HERE/colour
";
    world.play(tasks, json!({ "inventory_file": world.path("inventory.ini") })).await.unwrap();
    assert_eq!(world.read("colour"), "blue\n");
}

#[tokio::test]
async fn a_play_that_insists_on_ssh_does_not_end_up_on_this_host() {
    let Some(world) = World::new() else { return };
    let tasks = "
- hosts: all
  connection: ssh
  gather_facts: false
  tasks:
    - command: touch HERE/touched
";
    let failure = world.play(tasks, json!({})).await.unwrap_err();
    assert!(failure.hints.iter().any(|hint| hint.contains("connection: ssh")), "{failure}: {:?}", failure.hints);
    assert!(!Path::new(&world.path("touched")).exists());
}

#[tokio::test]
async fn a_playbook_that_matches_nothing_is_told() {
    let Some(world) = World::new() else { return };
    world.play("- hosts: webservers\n  tasks: []\n", json!({})).await.unwrap();
    assert!(world.context.reporter.warnings()[0].contains("webservers"), "{:?}", world.context.reporter.warnings());
}

#[tokio::test]
async fn cancelling_ends_the_playbook_and_what_it_runs() {
    let Some(world) = World::new() else { return };
    let tasks = "
- hosts: default
  gather_facts: false
  tasks:
    - shell: echo $$ > HERE/pid; exec sleep 600
";
    let start = async {
        while std::fs::read_to_string(world.path("pid")).unwrap_or_default().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let now = Instant::now();
        world.context.cancel.cancel();
        now
    };
    let both = async { tokio::join!(world.play(tasks, json!({})), start) };
    let (ended, cancelled) = tokio::time::timeout(Duration::from_secs(60), both).await.expect("the task starts");
    assert!(ended.unwrap_err().is_cancelled());
    assert!(cancelled.elapsed() < Duration::from_secs(5));
    let pid = world.read("pid");
    let environment = std::fs::read(format!("/proc/{}/environ", pid.trim()));
    assert!(environment.is_err() || environment.unwrap().is_empty(), "process {pid} still runs");
    assert_eq!(std::fs::read_dir(&world.context.scratch).unwrap().count(), 0, "nothing is left");
}

#[tokio::test]
async fn a_deep_scratch_directory_is_no_obstacle() {
    let Some(mut world) = World::new() else { return };
    let deep = world.context.scratch.join("d".repeat(100));
    std::fs::create_dir(&deep).unwrap();
    world.context.context.scratch = deep;
    let tasks = "- hosts: default\n  gather_facts: false\n  tasks:\n    - command: 'true'\n";
    world.play(tasks, json!({})).await.unwrap();
    assert_eq!(world.results().len(), 1);
}
