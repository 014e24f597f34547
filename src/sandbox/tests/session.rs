//! Guests that run: commands, users, terminals, mounts, and that nothing stays behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kiln_sandbox::{Exec, ExitStatus, SandboxError, Session};
use support::{Root, can_run, helper, output, shell};

#[tokio::test]
async fn a_command_runs_and_its_changes_stay() {
    if !can_run() {
        return;
    }
    let root = Root::new();
    let session = Session::start(root.spec(), &helper()).await.unwrap();
    assert_eq!(shell(&session, "echo hello; echo world >&2; pwd; hostname").await, "hello\nworld\n/\nkiln\n");
    let (text, status) = output(&session, |out| Exec::new(["sh", "-c", "echo changed > /etc/new; exit 7"], out)).await;
    assert_eq!((text.as_str(), status), ("", ExitStatus::Exited(7)));
    let (_, status) = output(&session, |out| Exec::new(["sh", "-c", "kill -9 $$"], out)).await;
    assert_eq!(status, ExitStatus::Signalled(9));
    session.stop().await.unwrap();
    // Mount points, files of the run and their directories do not show.
    assert_eq!(root.changes(), ["etc", "etc/new"]);
    assert_eq!(root.leftovers(), Vec::<String>::new());
}
