//! What the tests of sandboxes share: a guest's root made of busybox, and commands whose output is caught.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests; each uses a part of it"
)]

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use kiln_sandbox::{Chosen, Exec, ExitStatus, HELPER_ARGUMENT, HelperProgram, RootFs, SandboxSpec, Session};

/// This crate's helper program.
pub(crate) fn helper() -> HelperProgram {
    HelperProgram {
        path: PathBuf::from(env!("CARGO_BIN_EXE_kiln-sandbox-helper")),
        arguments: vec![HELPER_ARGUMENT.to_owned()],
    }
}

/// Whether a test that needs this can run; says so loudly if not.
pub(crate) fn can(what: &str, there: bool) -> bool {
    if there {
        return true;
    }
    assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs {what}");
    eprintln!("SKIPPED: this test needs {what}");
    false
}

/// Root with a static busybox.
pub(crate) fn can_run() -> bool {
    can("root", rustix::process::geteuid().is_root()) && can("a static busybox", Path::new("/bin/busybox").exists())
}

/// A guest's layers on disk.
pub(crate) struct Root {
    pub(crate) directory: tempfile::TempDir,
}

impl Root {
    /// A layer with busybox, two users, and nothing else: no `/proc`, no `/dev`, no `/etc/hosts`.
    pub(crate) fn new() -> Root {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        for part in ["base/bin", "base/etc", "base/root", "base/home/tester", "base/tmp", "upper", "work"] {
            fs::create_dir_all(directory.path().join(part)).unwrap();
        }
        fs::copy("/bin/busybox", base.join("bin/busybox")).unwrap();
        let list = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", base.join("bin").join(applet)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\ntester:x:1000:1000::/home/tester:/bin/sh\n";
        fs::write(base.join("etc/passwd"), passwd).unwrap();
        fs::write(base.join("etc/group"), "root:x:0:root\ntester:x:1000:\nstaff:x:50:tester\n").unwrap();
        fs::set_permissions(base.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        std::os::unix::fs::chown(base.join("home/tester"), Some(1000), Some(1000)).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Root { directory }
    }

    /// A file or directory of the layer below.
    pub(crate) fn base(&self, path: &str) -> PathBuf {
        self.directory.path().join("base").join(path)
    }

    /// One of the changes.
    pub(crate) fn upper(&self, path: &str) -> PathBuf {
        self.directory.path().join("upper").join(path)
    }

    pub(crate) fn overlay(&self) -> RootFs {
        let path = |name: &str| self.directory.path().join(name);
        RootFs::Overlay { lowers: vec![path("base")], upper: path("upper"), work: path("work") }
    }

    /// The usual guest, made by root.
    pub(crate) fn spec(&self) -> SandboxSpec {
        SandboxSpec::new(Chosen::root(), self.overlay())
    }

    /// Everything in the upper directory: path, and what it is.
    pub(crate) fn changes(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.upper(""), &self.upper(""), &mut found);
        found.sort();
        found
    }

    /// What is beside the layers.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> = names.map(|name| name.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !["base", "upper", "work"].contains(&name.as_str()));
        names
    }
}

fn walk(root: &Path, directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = entry.path();
        found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
        if entry.file_type().unwrap().is_dir() {
            walk(root, &path, found);
        }
    }
}

/// Output and end of a command.
pub(crate) async fn output(session: &Session, exec: impl FnOnce(OwnedFd) -> Exec) -> (String, ExitStatus) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut running = session.exec(exec(writer.into())).await.expect("the command starts");
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let mut reader = reader;
        reader.read_to_string(&mut text).unwrap();
        text
    });
    let status = running.wait().await.expect("the command ends");
    (reading.await.unwrap(), status)
}

/// Output of a shell line that succeeds, with its messages.
pub(crate) async fn shell(session: &Session, line: &str) -> String {
    let (text, status) = output(session, |out| Exec::new(["/bin/sh", "-c", line], out)).await;
    assert_eq!(status, ExitStatus::Exited(0), "{line}: {text}");
    text
}
