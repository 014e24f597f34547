//! The wrapper against the shells of this host: `/bin/sh`, and busybox where it is installed.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::wrapper::{STARTED, argv};

/// The shells that are here, as the words that stand for `/bin/sh`.
#[expect(clippy::print_stderr, reason = "what is not tested is said")]
fn shells() -> Vec<Vec<&'static str>> {
    let mut shells = vec![vec!["/bin/sh"]];
    for (path, words) in [
        ("/bin/busybox", vec!["/bin/busybox", "sh"]),
        ("/usr/bin/bash", vec!["/usr/bin/bash", "--posix"]),
        ("/usr/bin/dash", vec!["/usr/bin/dash"]),
    ] {
        if Path::new(path).exists() {
            shells.push(words);
        } else {
            eprintln!("SKIPPED: no {path} on this host");
        }
    }
    shells
}

fn run(shell: &[&str], path: &str, skips_clean: bool, script: &str, environment: &[(&str, &str)]) -> Output {
    let argv = argv(path, skips_clean);
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .args(&argv[1..])
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A wrapper that ends early closes the pipe; that is what some tests are about.
    let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn mark() -> String {
    format!("{STARTED}\n")
}

#[test]
fn it_stores_runs_removes_and_passes_the_status_on() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["plain.sh", "it's \"a\" $HOME `id` \\ name;.sh", "-rf", "ü\n.sh"] {
            let path = directory.path().join(name).display().to_string();
            let script =
                "#!/bin/sh\nstat -c %a \"$0\"\nread line && echo no\necho \"[$VALUE]\"\necho err >&2\nexit 42\n";
            let output = run(&shell, &path, false, script, &[("VALUE", "it's")]);
            assert_eq!(output.status.code(), Some(42), "{shell:?} {name}: {}", text(&output.stderr));
            assert_eq!(text(&output.stdout), "755\n[it's]\n", "{shell:?} {name}");
            assert_eq!(text(&output.stderr), mark() + "err\n", "{shell:?} {name}");
            assert!(!Path::new(&path).exists(), "{shell:?} {name}");
        }
    }
}

#[test]
fn the_scripts_environment_and_umask_are_untouched() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s").display().to_string();
        let environment = [("p", "1"), ("path", "2"), ("status", "3"), ("code", "4"), ("line", "5")];
        let script = "#!/bin/sh\necho $p$path$status$code$line $#\numask\n";
        let output = run(&shell, &path, false, script, &environment);
        let umask = Command::new("/bin/sh").args(["-c", "umask"]).output().unwrap();
        assert_eq!(text(&output.stdout), format!("12345 0\n{}", text(&umask.stdout)), "{shell:?}");
    }
}

#[test]
fn a_script_that_removes_itself_is_fine_and_skip_clean_leaves_it() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sh").display().to_string();
        let output = run(&shell, &path, false, "#!/bin/sh\nrm \"$0\"\n", &[]);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), mark()), "{shell:?}");
        let script = "#!/bin/sh\nexit 3\n";
        let output = run(&shell, &path, true, script, &[]);
        assert_eq!(output.status.code(), Some(3), "{shell:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), script);
    }
}

#[test]
fn a_script_that_cannot_be_stored_ends_before_the_mark() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let nowhere = directory.path().join("no/such/s.sh").display().to_string();
        let output = run(&shell, &nowhere, false, "#!/bin/sh\necho ran\n", &[]);
        assert_eq!(output.status.code(), Some(125), "{shell:?}");
        assert_eq!(text(&output.stdout), "", "{shell:?}");
        assert!(!text(&output.stderr).contains(STARTED) && !output.stderr.is_empty(), "{shell:?}");
    }
}

#[test]
fn a_path_for_the_script_is_the_scripts_alone() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sh").display().to_string();
        let output = run(&shell, &path, false, "#!/bin/sh\necho $PATH\n", &[("PATH", "/opt/worker/bin")]);
        assert_eq!(text(&output.stdout), "/opt/worker/bin\n", "{shell:?}: {}", text(&output.stderr));
        assert!(!Path::new(&path).exists(), "{shell:?}");
    }
}

#[test]
fn a_large_script_with_any_bytes_arrives_whole() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sh").display().to_string();
        let filler = "# \u{1}ü\\0 'x' \"y\" $z\n".repeat(60_000);
        let script = format!("#!/bin/sh\n{filler}wc -c <\"$0\"\n");
        let output = run(&shell, &path, false, &script, &[]);
        assert_eq!(text(&output.stdout).trim(), script.len().to_string(), "{shell:?}");
    }
}

#[test]
fn a_killed_script_gives_the_shells_status_and_a_missing_interpreter_127() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sh").display().to_string();
        let output = run(&shell, &path, false, "#!/bin/sh\nkill -9 $$\n", &[]);
        assert_eq!(output.status.code(), Some(137), "{shell:?}");
        let output = run(&shell, &path, false, "#!/no/such/interpreter\n", &[]);
        assert!(matches!(output.status.code(), Some(126 | 127)), "{shell:?}: {:?}", output.status);
        assert!(!Path::new(&path).exists(), "{shell:?}");
    }
}

#[test]
fn while_it_is_stored_nobody_else_can_read_it() {
    for shell in shells() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sh");
        let argv = argv(&path.display().to_string(), false);
        let mut child = Command::new(shell[0])
            .args(&shell[1..])
            .args(&argv[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"#!/bin/sh\n").unwrap();
        while !path.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{shell:?} ended early");
            std::thread::yield_now();
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{shell:?}");
        drop(stdin);
        assert!(child.wait().unwrap().success(), "{shell:?}");
    }
}
