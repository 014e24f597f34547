//! The same templates by kiln and by Packer 1.6.6, over SSH: what is on the machine afterwards is the same. What Packer left is
//! recorded in `tests/fixtures/ssh`; `KILN_TEST_PACKER=1` checks the records, and `KILN_UPDATE_RECORDS=1` besides writes them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_testkit::{Sshd, generate_key};
use serde_json::{Value as Json, json};

use crate::support::ssh::Remote;
use crate::support::{World, packer};

/// What lies below a directory: path, kind, mode, content.
fn listing(root: &Path) -> String {
    fn add(root: &Path, directory: &Path, lines: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                lines.push(format!("{name}/ {mode:o}"));
                add(root, &path, lines);
            } else if metadata.is_symlink() {
                lines.push(format!("{name} -> {}", std::fs::read_link(&path).unwrap().display()));
            } else {
                let content = std::fs::read_to_string(&path).unwrap().replace('\n', "\\n");
                lines.push(format!("{name} {mode:o} {content}"));
            }
        }
    }
    let mut lines = Vec::new();
    add(root, root, &mut lines);
    lines.sort();
    lines.join("\n") + "\n"
}

/// A world with the files that the templates name.
fn world() -> World {
    let world = World::new();
    for (name, text, mode) in [
        ("one", "one\n", 0o640),
        ("run.sh", "#!/bin/sh\necho run", 0o755),
        ("tree/a", "a\n", 0o600),
        ("tree/deep/b", "b\n", 0o755),
        ("tree/deep/er/c", "c\n", 0o644),
        ("env.sh", "#!/bin/sh\nenv | grep -E '^(PACKER_BUILD|ONE|TWO|QUOTED)' | sort > $OUT/env.txt\n", 0o644),
    ] {
        let path = world.write(name, text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir(world.path().join("tree/empty")).unwrap();
    world
}

/// What each template does; `$OUT` is a directory of the machine.
fn steps(name: &str) -> Json {
    match name {
        "uploads" => json!([
            { "type": "shell", "inline": ["mkdir -p $OUT/in $OUT/around $OUT/content"] },
            { "type": "file", "source": "one", "destination": "$OUT/renamed" },
            { "type": "file", "source": "run.sh", "destination": "$OUT/in/" },
            { "type": "file", "source": "tree", "destination": "$OUT/around" },
            { "type": "file", "source": "tree/", "destination": "$OUT/content" },
            { "type": "file", "sources": ["one", "run.sh"], "destination": "$OUT/in/" },
        ]),
        "downloads" => json!([
            { "type": "shell", "inline": ["mkdir -p $OUT/far/deep", "echo x > $OUT/far/deep/x", "chmod 644 $OUT/far/deep/x"] },
            { "type": "file", "direction": "download", "source": "$OUT/far/deep/x", "destination": "$OUT/near" },
            { "type": "file", "direction": "download", "source": "$OUT/far/deep/x", "destination": "$OUT/far/" },
        ]),
        "scripts" => json!([
            {
                "type": "shell",
                "script": "env.sh",
                "environment_vars": ["ONE=1", "TWO=a b", "QUOTED=it's \"so\"", "OUT=$OUT"],
            },
            { "type": "shell", "inline": ["false", "echo never > $OUT/after-false"], "valid_exit_codes": [1] },
            { "type": "shell", "inline_shebang": "/bin/sh", "inline": ["false", "echo yes > $OUT/after-false-too"] },
            { "type": "shell", "inline": ["cat > $OUT/stdin"] },
            {
                "type": "shell",
                "execute_command": "chmod +x {{ .Path }}; {{ .Vars }} WRAPPED=yes /bin/sh -c '{{ .Path }}'",
                "environment_vars": ["ONE=1"],
                "inline": ["echo \"$ONE $WRAPPED\" > $OUT/vars"],
            },
            { "type": "shell", "binary": true, "script": "run.sh", "remote_path": "$OUT/kept.sh", "skip_clean": true },
        ]),
        other => panic!("no template {other}"),
    }
}

struct Bench {
    world: World,
    remote: Remote,
    key: PathBuf,
}

impl Bench {
    /// A machine that old clients can log in to as well.
    fn start() -> Option<Bench> {
        let builder = Sshd::builder().option("HostKeyAlgorithms +ssh-rsa").option("PubkeyAcceptedAlgorithms +ssh-rsa");
        let remote = Remote::of(builder.start()?)?;
        let world = world();
        let key = world.path().join(".key");
        generate_key("rsa", &key, "user");
        remote.sshd.authorize(&std::fs::read_to_string(key.with_extension("pub")).unwrap());
        Some(Bench { world, remote, key })
    }

    fn template(&self, name: &str, out: &Path, is_kilns: bool) -> String {
        let mut source = self.remote.source_with(json!({ "ssh_private_key_file": self.key, "name": "machine" }));
        if !is_kilns {
            source.as_object_mut().unwrap().remove("ssh_host_key");
        }
        let template = json!({ "builders": [source], "provisioners": steps(name) });
        let text = template.to_string().replace("$OUT", &out.display().to_string());
        let file = format!("{name}-{is_kilns}.json");
        self.world.write(&file, &text);
        file
    }

    /// Where a build's files land, empty.
    fn out(&self, name: &str) -> PathBuf {
        let out = self.remote.path(name);
        std::fs::create_dir(&out).unwrap();
        out
    }

    /// What is there afterwards; the machine's directory reads `$OUT`.
    fn result(&self, out: &Path) -> String {
        listing(out).replace(&out.display().to_string(), "$OUT")
    }

    fn by_kiln(&self, name: &str) -> String {
        let out = self.out("kiln");
        self.world.succeed(&["build", &self.template(name, &out, true)]);
        self.result(&out)
    }

    fn by_packer(&self, packer: &Path, name: &str) -> String {
        let out = self.out("packer");
        let output = Command::new(packer)
            .args(["build", &self.template(name, &out, false)])
            .current_dir(self.world.path())
            .env("CHECKPOINT_DISABLE", "1")
            .env("PACKER_NO_COLOR", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        self.result(&out)
    }
}

fn compare(name: &str) {
    let Some(bench) = Bench::start() else { return };
    let record = crate::examples::root().join(format!("tests/fixtures/ssh/{name}.txt"));
    if let Some(packer) = packer() {
        let found = bench.by_packer(&packer, name);
        if std::env::var_os("KILN_UPDATE_RECORDS").is_some() {
            std::fs::write(&record, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&record).unwrap(), "Packer does otherwise than recorded");
    }
    assert_eq!(bench.by_kiln(name), std::fs::read_to_string(&record).unwrap());
}

#[test]
fn uploads_land_where_packer_puts_them() {
    compare("uploads");
}

#[test]
fn downloads_land_where_packer_puts_them() {
    compare("downloads");
}

#[test]
fn scripts_run_as_packer_runs_them() {
    compare("scripts");
}
