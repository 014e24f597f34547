//! What several tests need.

use std::path::Path;
use std::process::Command;

/// Runs `ssh-keygen` in a directory and gives what it printed; `None` where there is none, which is said (and fails with `KILN_TEST_REQUIRE`).
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
pub(crate) fn keygen(directory: &Path, arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("ssh-keygen").args(arguments).current_dir(directory).output() else {
        assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs ssh-keygen");
        eprintln!("SKIPPED: this test needs ssh-keygen");
        return None;
    };
    assert!(output.status.success(), "ssh-keygen {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
