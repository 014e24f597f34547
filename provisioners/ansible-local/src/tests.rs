//! What comes to the machine, and what is run there.

use std::path::Path;

use kiln_testkit::{Arguments, FakeMachine, Reply, TestContext, Uploaded, context, titles};
use serde_json::{Value as Json, json};

use super::*;

struct World {
    directory: tempfile::TempDir,
    context: TestContext,
    machine: FakeMachine,
}

impl World {
    fn new() -> World {
        let directory = tempfile::tempdir().unwrap();
        let world = World { directory, context: context().secret("hunter22").build(), machine: FakeMachine::new() };
        for file in ["pb.yml", "dir/main.yml", "dir/sub/x", "roles/r/tasks/main.yml", "gv/all", "hv/web", "more/x.yml"]
        {
            world.write(file, "x\n");
        }
        world
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    async fn run(&self, arguments: Json) -> Result<(), kiln_core::Failure> {
        let (step, diagnostics) = Arguments::new(arguments).provisioner(&AnsibleLocalKind);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        step.unwrap().provision(&self.machine, &self.context).await
    }

    /// The commands, each as the shell gets it.
    fn lines(&self) -> Vec<String> {
        self.machine.communicator.execs().iter().map(|exec| exec.argv.last().unwrap().clone()).collect()
    }

    fn places(&self) -> Vec<String> {
        let place = |uploaded: Uploaded| match uploaded {
            Uploaded::File { to, .. } => to,
            Uploaded::Directory { to, files, .. } => {
                format!("{to}: {}", files.keys().cloned().collect::<Vec<_>>().join(" "))
            }
        };
        self.machine.communicator.uploads().into_iter().map(place).collect()
    }
}

#[tokio::test]
async fn a_playbook_with_all_around_it_goes_where_packer_puts_it() {
    let world = World::new();
    world.write("req.yml", "roles:\n  - a.b\ncollections:\n  - c.d\n");
    let arguments = json!({
        "playbook_file": world.path("pb.yml"), "group_vars": world.path("gv"), "host_vars": world.path("hv"),
        "role_paths": [world.path("roles/r/")], "playbook_paths": [world.path("more")],
        "extra_arguments": ["-v", "--extra-vars \"a=b c\""], "inventory_groups": ["g1", "g2"],
        "galaxy_file": world.path("req.yml"), "staging_directory": "/tmp/stage/",
    });
    world.run(arguments).await.unwrap();
    assert_eq!(
        world.places(),
        [
            "/tmp/stage/pb.yml",
            "/tmp/stage/kiln-inventory",
            "/tmp/stage/group_vars: all",
            "/tmp/stage/host_vars: web",
            "/tmp/stage/roles/r: tasks/main.yml",
            "/tmp/stage/playbooks/more: x.yml",
            "/tmp/stage/req.yml",
        ]
    );
    let Uploaded::File { content, .. } = &world.machine.communicator.uploads()[1] else { panic!("a file") };
    assert_eq!(content, b"[g1]\n127.0.0.1\n[g2]\n127.0.0.1\n");
    assert_eq!(
        world.lines(),
        [
            "cd /tmp/stage && ansible-galaxy install -r /tmp/stage/req.yml -p /tmp/stage/roles",
            "cd /tmp/stage && ansible-galaxy collection install -r /tmp/stage/req.yml -p /tmp/stage/galaxy_collections",
            "cd /tmp/stage && ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook /tmp/stage/pb.yml \
             --extra-vars 'packer_build_name=worker packer_builder_type=docker' -v --extra-vars \"a=b c\" -c local \
             -i /tmp/stage/kiln-inventory",
        ]
    );
}

#[tokio::test]
async fn playbooks_in_the_directory_run_where_they_lie() {
    let world = World::new();
    world.write("hosts", "h1\n");
    let arguments = json!({
        "playbook_files": [world.path("dir/main.yml"), world.path("pb.yml")], "playbook_dir": world.path("dir"),
        "inventory_file": world.path("hosts"), "staging_directory": "/s", "command": "run",
        "clean_staging_directory": true,
    });
    world.run(arguments).await.unwrap();
    assert_eq!(world.places(), ["/s: main.yml sub/x", "/s/pb.yml", "/s/hosts"]);
    let run = |playbook: &str| {
        format!(
            "cd /s && run {playbook} --extra-vars 'packer_build_name=worker packer_builder_type=docker'  -c local -i /s/hosts"
        )
    };
    assert_eq!(world.lines(), [run("/s/main.yml"), run("/s/pb.yml"), "/s".to_owned()]);
}

#[tokio::test]
async fn the_staging_directory_is_the_same_each_time() {
    let world = World::new();
    for _ in 0..2 {
        world.run(json!({ "playbook_file": world.path("pb.yml") })).await.unwrap();
    }
    let places = world.places();
    assert!(places[0].starts_with("/tmp/packer-provisioner-ansible-local/"), "{places:?}");
    assert_eq!(places[..2], places[2..]);
}

#[tokio::test]
async fn secrets_travel_beside_the_command_line() {
    let world = World::new();
    let arguments = json!({
        "playbook_file": world.path("pb.yml"), "extra_arguments": ["-e", "password=hunter22"],
    });
    world.run(arguments).await.unwrap();
    assert!(!world.machine.communicator.is_in_any_argument("hunter22"));
    let environment = &world.machine.communicator.execs()[0].environment;
    assert!(environment[0].1.contains("password=hunter22"));
}

#[tokio::test]
async fn failures_tell_the_last_lines_and_what_is_missing() {
    let world = World::new();
    world.machine.communicator.on_exec(Reply::exit(127).stderr("sh: ansible-playbook: not found\n"));
    let arguments = json!({ "playbook_file": world.path("pb.yml"), "clean_staging_directory": true });
    let failure = world.run(arguments).await.unwrap_err();
    let expected = format!(
        "playbook `{}` exited with status 127; the last lines of its output:\n    sh: ansible-playbook: not found",
        world.path("pb.yml")
    );
    assert_eq!((failure.to_string(), failure.hints.len()), (expected, 1));
    assert!(world.lines()[1].starts_with("/tmp/packer-provisioner"), "it is cleaned all the same");
}

#[test]
fn all_mistakes_are_told_at_once() {
    let (_, diagnostics) = Arguments::new(json!({
        "playbook_file": "no-such.yml", "playbook_files": ["src"], "playbook_dir": "Cargo.toml",
        "role_paths": ["src", "no-role"], "inventory_file": "Cargo.toml", "inventory_groups": ["a"],
    }))
    .provisioner(&AnsibleLocalKind);
    assert_eq!(
        titles(&diagnostics),
        [
            "`playbook_file` and `playbook_files` are both set; an `ansible-local` provisioner takes one of them",
            "`playbook_file`: there is no file `no-such.yml`",
            "`src` is a directory, and `playbook_files[0]` must be a file",
            "`inventory_groups` has no effect beside `inventory_file`: no inventory is generated",
            "`Cargo.toml` is a file, and `playbook_dir` must be a directory",
            "`role_paths[1]`: there is no file `no-role`",
        ]
    );
    let (_, diagnostics) = Arguments::new(json!({})).provisioner(&AnsibleLocalKind);
    assert_eq!(titles(&diagnostics), ["an `ansible-local` provisioner needs `playbook_file` or `playbook_files`"]);
}

#[test]
fn what_is_brought_is_what_the_key_is_made_of() {
    let arguments = json!({ "playbook_file": "Cargo.toml", "role_paths": ["src"] });
    let (step, _) = Arguments::new(arguments).provisioner(&AnsibleLocalKind);
    assert_eq!(step.unwrap().input_files(), [Path::new("Cargo.toml"), Path::new("src")]);
}

#[test]
fn the_reference_says_what_the_schema_says() {
    let page = include_str!("../../../docs/reference/provisioners.md");
    assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
}
