//! Nothing outlives the program that owns a guest, however that program ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kiln_sandbox::{Exec, ExitStatus, Program, ProgramSpec, Session};
use support::{Root, can_run, helper};

/// Names the guest's root to the test program that plays the owner.
const OWNER: &str = "KILN_TEST_OWNER_OF";

/// No test, but the program that the next one kills.
#[tokio::test]
async fn the_owner() {
    let Some(mark) = std::env::var_os(OWNER) else { return };
    let root = Root::new();
    let session = Session::start(root.spec(), &helper()).await.unwrap();
    let mark = mark.into_string().unwrap();
    let line = format!("(setsid sleep {mark} &); trap '' TERM HUP; sleep {mark}");
    let _running = session.exec(Exec::silent(["sh", "-c", line.as_str()])).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    println!("\nready {} {}", session.helper_pid(), root.directory.path().display());
    std::future::pending::<()>().await;
}

#[test]
fn a_killed_owner_takes_all_along() {
    if !can_run() {
        return;
    }
    let mark = format!("{}", 100_000 + std::process::id());
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_owner", "--nocapture"])
        .env(OWNER, &mark)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ready = lines.find(|line| line.starts_with("ready ")).unwrap();
    let (helper, root) = ready["ready ".len()..].split_once(' ').unwrap();
    assert!(processes(&mark) >= 2, "two sleeps, and the shell if it waits");
    assert!(Path::new("/proc").join(helper).exists());
    // Our own mount name space never saw the guest's root.
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(root));
    owner.kill().unwrap();
    owner.wait().unwrap();
    let begin = Instant::now();
    while processes(&mark) > 0 || name_of(helper).is_some_and(|name| name.starts_with("kiln-")) {
        assert!(begin.elapsed() < Duration::from_secs(5), "{} left", processes(&mark));
        std::thread::sleep(Duration::from_millis(10));
    }
    fs::remove_dir_all(root).unwrap();
}

/// Starts the test that plays the next one alone in its process: it kills what other tests need.
const ALONE: &str = "KILN_TEST_ALONE";

/// No test, but what the next one starts.
#[tokio::test]
async fn alone() {
    if std::env::var_os(ALONE).is_none() {
        return;
    }
    let roots = [Root::new(), Root::new()];
    let first = Session::start(roots[0].spec(), &helper()).await.unwrap();
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().into_string().unwrap();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let is_ours = status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|parent| parent.trim() == own));
        if is_ours && pid != first.helper_pid().to_string() {
            let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
    let second = Session::start(roots[1].spec(), &helper()).await.unwrap();
    for session in [first, second] {
        let mut running = session.exec(Exec::silent(["true"])).await.unwrap();
        assert_eq!(running.wait().await.unwrap(), ExitStatus::Exited(0));
        session.stop().await.unwrap();
    }
}

#[test]
fn what_helpers_are_forked_from_may_be_killed() {
    if !can_run() {
        return;
    }
    let status = Command::new(std::env::current_exe().unwrap()).args(["--exact", "alone"]).env(ALONE, "1").status();
    assert!(status.unwrap().success());
}

fn name_of(pid: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok()
}

/// Processes whose command line has this.
fn processes(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    all.filter(|line| line.windows(mark.len()).any(|part| part == mark.as_bytes())).count()
}

#[tokio::test]
async fn a_dropped_session_ends() {
    if !can_run() {
        return;
    }
    let mark = format!("{}", 200_000 + std::process::id());
    let root = Root::new();
    let session = Session::start(root.spec(), &helper()).await.unwrap();
    let _running = session.exec(Exec::silent(["sleep", mark.as_str()])).await.unwrap();
    assert_eq!(processes(&mark), 1);
    drop(session);
    let begin = Instant::now();
    while processes(&mark) > 0 || !root.leftovers().is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A program of the host, its output, and its start.
fn program(script: &str) -> (Program, BufReader<std::io::PipeReader>) {
    let (reader, writer) = std::io::pipe().unwrap();
    let environment = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
    let spec = ProgramSpec { argv: ["sh", "-c", script].map(str::to_owned).to_vec(), environment };
    let errors = writer.try_clone().unwrap();
    (Program::start(&spec, &helper(), writer.into(), errors.into()).unwrap(), BufReader::new(reader))
}

#[test]
fn a_program_of_the_host_takes_all_along() {
    let mark = format!("{}", 300_000 + std::process::id());
    let begin = format!("(setsid sleep {mark} &); trap '' TERM HUP; sleep {mark} & echo begun;");
    // Dropped half-way.
    let (running, mut output) = program(&format!("{begin} wait"));
    output.read_line(&mut String::new()).unwrap();
    // Two sleeps and their shell; one that is just becoming another program is not seen.
    let started = Instant::now();
    while processes(&mark) != 3 {
        assert!(started.elapsed() < Duration::from_secs(5), "{} run", processes(&mark));
    }
    drop(running);
    assert_eq!(processes(&mark), 0);
    // Ended by itself, but for what it left behind.
    let (mut running, mut output) = program(&format!("{begin} exit 3"));
    let mut told = String::new();
    assert_eq!(running.wait().unwrap(), ExitStatus::Exited(3));
    std::io::Read::read_to_string(&mut output, &mut told).unwrap();
    assert_eq!((told.as_str(), processes(&mark)), ("begun\n", 0));
    let (mut running, _output) = program("kill -9 $$");
    assert_eq!(running.wait().unwrap(), ExitStatus::Signalled(9));
}

#[test]
fn what_a_program_of_the_host_mounts_goes_with_it() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    let script = format!("mount -t tmpfs none {place} && grep -c {place} /proc/self/mounts && exec sleep 1000");
    let (running, mut output) = program(&script);
    let mut told = String::new();
    output.read_line(&mut told).unwrap();
    assert_eq!(told, "1\n");
    assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains(&place));
    drop(running);
    directory.close().unwrap();
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let (_, writer) = std::io::pipe().unwrap();
    let spec = ProgramSpec { argv: vec!["no-such-program".to_owned()], environment: Vec::new() };
    let errors = writer.try_clone().unwrap();
    let error = Program::start(&spec, &helper(), writer.into(), errors.into()).unwrap_err();
    assert_eq!(error.errno(), Some(2), "{error}");
}

/// A helper that a person starts by hand does nothing.
#[test]
fn a_helper_without_an_owner_ends() {
    for input in [Stdio::null(), Stdio::piped()] {
        let helper = helper();
        let mut command = Command::new(helper.path);
        let status = command.args(helper.arguments).stdin(input).status().unwrap();
        assert!(!status.success());
    }
}
