//! A world of its own for each test: an empty home, an empty environment, a directory to write templates into.

pub(crate) mod aws;
pub(crate) mod docker;
pub(crate) mod engine_proxy;
pub(crate) mod plans;
pub(crate) mod proxy;
pub(crate) mod schema;
pub(crate) mod ssh;
pub(crate) mod without_buildkit;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value as Json;

/// A test's world.
pub(crate) struct World {
    directory: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// What a command gave.
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    pub(crate) fn new() -> World {
        World { directory: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    /// Where templates lie and kiln is started.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where kiln's journals lie.
    pub(crate) fn state(&self) -> PathBuf {
        self.path().join(".home/state")
    }

    /// Writes a file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// Sets a variable of kiln's environment.
    pub(crate) fn env(&mut self, name: &str, value: &str) -> &mut World {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The command, ready to start.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let home = self.path().join(".home");
        std::fs::create_dir_all(home.join("tmp")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", &home)
            .env("TMPDIR", home.join("tmp"))
            .env("KILN_STATE_DIR", self.state())
            .stdin(Stdio::null());
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            command.env("DOCKER_HOST", host);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs kiln to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs kiln and expects it to succeed.
    #[track_caller]
    pub(crate) fn succeed(&self, arguments: &[&str]) -> Outcome {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "kiln {arguments:?} failed\n{}{}", outcome.stdout, outcome.stderr);
        outcome
    }

    /// Starts `kiln build -json` and reads its events as they come.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let (sender, events) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str::<Json>(&line)
                    && sender.send(event).is_err()
                {
                    break;
                }
            }
        });
        Running { child, events, run: String::new() }
    }

    /// Files that are left in kiln's scratch and state directories.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for directory in [self.path().join(".home/tmp"), self.state().join("runs")] {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                found.push(entry.unwrap().path());
            }
        }
        found
    }
}

/// A build that runs.
pub(crate) struct Running {
    child: Child,
    events: Receiver<Json>,
    /// The run's id, once its first event was read.
    pub(crate) run: String,
}

impl Running {
    /// Reads events until one fits.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, what: &str, mut fits: impl FnMut(&Json) -> bool) -> Json {
        loop {
            let event = match self.events.recv_timeout(Duration::from_secs(120)) {
                Ok(event) => event,
                Err(error) => {
                    let _ = self.child.kill();
                    let mut stderr = String::new();
                    let _ = self.child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut stderr));
                    panic!("no event `{what}`: {error}\n{stderr}");
                }
            };
            if event["event"] == "run-started" {
                self.run = event["run"].as_str().unwrap_or_default().to_owned();
            }
            if fits(&event) {
                return event;
            }
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ctrl-C at its terminal: all that stayed in its process group hears of it.
    pub(crate) fn ctrl_c(&self) {
        let status = Command::new("kill").args(["-INT", "--", &format!("-{}", self.child.id())]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for the end: exit code (-1 when killed) and standard error.
    pub(crate) fn end(mut self) -> (i32, String) {
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), stderr)
    }
}

/// Whether a test's surroundings are there; says SKIPPED where they are not, and fails where they must be.
pub(crate) fn available(what: &str, is_there: bool) -> bool {
    let required = std::env::var_os("KILN_TEST_REQUIRE").is_some_and(|value| value == "1");
    assert!(is_there || !required, "{what} is needed and missing; `make test` starts it");
    if !is_there {
        eprintln!("SKIPPED: {what} is missing; `make test` starts it");
    }
    is_there
}

/// Packer 1.6.6, to check records of it with: only where `KILN_TEST_PACKER=1` asks for it, and then it must be there.
pub(crate) fn packer() -> Option<PathBuf> {
    if std::env::var_os("KILN_TEST_PACKER").is_none_or(|value| value != "1") {
        eprintln!("SKIPPED: the records of Packer 1.6.6; set KILN_TEST_PACKER=1 to check them against it");
        return None;
    }
    let version = Command::new("packer").arg("version").env("CHECKPOINT_DISABLE", "1").output();
    let is_oracle = version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("v1.6.6"));
    assert!(is_oracle, "KILN_TEST_PACKER=1, and there is no Packer 1.6.6");
    Some(PathBuf::from("packer"))
}

/// Replaces what differs from run to run, for snapshots.
pub(crate) fn stable(text: &str, world: &World) -> String {
    let patterns = [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "[run]"),
        (r"sha256:[0-9a-f]{64}", "sha256:[digest]"),
        (r"\b\d+(\.\d+)?(ms|s)\b", "[time]"),
        (r" +\[time\]", " [time]"),
        (r"kiln-[0-9a-f]{6,}", "kiln-[id]"),
        (r"127\.0\.0\.1:\d+", "[registry]"),
        (r"\b[0-9a-f]{12}\b", "[id]"),
    ];
    let mut text = text.replace(&world.path().display().to_string(), "[dir]");
    for (pattern, replacement) in patterns {
        text = regex::Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
    }
    text
}
