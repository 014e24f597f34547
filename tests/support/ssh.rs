//! Machines behind SSH: a private sshd, and `null` sources that reach it.

use std::path::PathBuf;

use kiln_testkit::Sshd;
use serde_json::{Value as Json, json};

use super::World;

/// A machine for a test, and where what the test does to it lands: it is this host, in truth.
pub(crate) struct Remote {
    pub(crate) sshd: Sshd,
    directory: tempfile::TempDir,
}

impl Remote {
    pub(crate) fn start() -> Option<Remote> {
        Remote::of(Sshd::start()?)
    }

    pub(crate) fn of(sshd: Sshd) -> Option<Remote> {
        Some(Remote { sshd, directory: tempfile::tempdir().unwrap() })
    }

    /// A path on the machine that belongs to this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A source that logs in and knows the machine's key.
    pub(crate) fn source(&self) -> Json {
        json!({
            "type": "null",
            "ssh_host": self.sshd.host(),
            "ssh_port": self.sshd.port(),
            "ssh_username": self.sshd.user(),
            "ssh_private_key_file": self.sshd.user_key(),
            "ssh_host_key": self.sshd.host_keys(),
        })
    }

    /// The same with other options.
    pub(crate) fn source_with(&self, options: Json) -> Json {
        let mut source = self.source();
        source.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        source
    }

    /// Writes a template with this source and these steps, and gives its name.
    pub(crate) fn template(&self, world: &World, source: Json, steps: Json) -> &'static str {
        world.write("ssh.json", &json!({ "builders": [source], "provisioners": steps }).to_string());
        "ssh.json"
    }

    /// How many commands were started on the machine.
    pub(crate) fn commands(&self) -> usize {
        self.sshd.log().lines().filter(|line| line.contains("Starting session: command")).count()
    }

    /// Command lines of all that runs on the machine, as everybody there may see them.
    pub(crate) fn command_lines(&self) -> String {
        let lines = |pid: &u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text: Vec<u8> = self.sshd.started().iter().flat_map(|pid| [lines(pid), b"\n".to_vec()].concat()).collect();
        String::from_utf8_lossy(&text).replace('\0', " ")
    }
}

/// Waits for something that is about to be.
#[track_caller]
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "{what}: not within 30 s");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
