//! `kiln cleanup` after runs that died.

use kiln_core::{Journal, Undo};

use super::fakes::Act;
use super::harness::Harness;
use crate::{FileJournal, RunHeader, RunState};

fn undo(name: &str) -> Undo {
    Undo { kind: "fake.thing".into(), data: serde_json::json!({ "name": name }), description: name.into() }
}

/// A run that made two machines, an image and its scratch directory.
fn running(harness: &Harness) -> FileJournal {
    let header = RunHeader::new("run-1", "a.pkr.hcl", &harness.scratch());
    let journal = FileJournal::create(&harness.settings.state_dir, &header).unwrap();
    for name in ["network", "machine", "image"] {
        journal.record("w", undo(name)).unwrap();
        harness.world.make(name);
    }
    std::fs::create_dir_all(harness.scratch().join("build-1")).unwrap();
    journal
}

/// The same run after a crash: nobody holds its lock any more.
fn crashed() -> Harness {
    let harness = Harness::new(vec![]);
    drop(running(&harness));
    harness
}

#[tokio::test]
async fn what_a_dead_run_left_is_removed_the_latest_first() {
    let harness = crashed();
    let report = harness.clean_up(false).await;
    assert_eq!(harness.world.log(), ["undo image", "undo machine", "undo network"]);
    assert_eq!(report.runs[0].removed, ["image", "machine", "network"]);
    assert!(matches!(report.runs[0].state, RunState::Clean));
    harness.assert_clean();
    assert!(harness.clean_up(false).await.runs.is_empty());
}

#[tokio::test]
async fn a_living_run_is_told_and_left_alone() {
    let harness = Harness::new(vec![]);
    let journal = running(&harness);
    let report = harness.clean_up(false).await;
    assert!(matches!(report.runs[0].state, RunState::Living) && report.is_clean());
    assert!(harness.world.log().is_empty());
    let told = harness.reporter.messages();
    assert_eq!(
        told,
        [format!(
            "run run-1 (a.pkr.hcl, process {}) is still going, or is being cleaned up; left alone",
            std::process::id()
        )]
    );
    drop(journal);
    assert!(harness.clean_up(false).await.is_clean());
    harness.assert_clean();
}

#[tokio::test]
async fn a_dry_run_only_tells() {
    let harness = crashed();
    let torn = std::fs::read_to_string(harness.journal()).unwrap() + "{\"record\"";
    std::fs::write(harness.journal(), &torn).unwrap();
    let report = harness.clean_up(true).await;
    assert_eq!(std::fs::read_to_string(harness.journal()).unwrap(), torn);
    assert!(matches!(report.runs[0].state, RunState::Pending) && !report.is_clean());
    assert_eq!(report.runs[0].removed, ["image", "machine", "network"]);
    assert!(harness.world.log().is_empty() && harness.journal().exists() && harness.scratch().exists());
}

#[tokio::test]
async fn what_fails_stays_for_the_next_time_and_hinders_nothing_else() {
    let harness = crashed();
    harness.world.on("undo machine", Act::Fail("daemon is gone"));
    let report = harness.clean_up(false).await;
    assert!(matches!(report.runs[0].state, RunState::Unfinished));
    assert_eq!(report.runs[0].removed, ["image", "network"]);
    assert_eq!(report.runs[0].failed[0].0, "machine");
    assert_eq!(harness.world.things(), ["machine"]);
    let report = harness.clean_up(false).await;
    assert_eq!(report.runs[0].removed, ["machine"]);
    harness.assert_clean();
}

#[tokio::test]
async fn a_panic_in_an_undoer_is_a_failure_of_that_entry() {
    let harness = crashed();
    harness.world.on("undo machine", Act::Panic);
    let report = harness.clean_up(false).await;
    assert_eq!(report.runs[0].failed.len(), 1);
    assert_eq!(harness.world.things(), ["machine"]);
}

#[tokio::test]
async fn a_kind_nobody_knows_is_told() {
    let harness = crashed();
    let journal = {
        let header = RunHeader::new("run-2", "b.pkr.hcl", &harness.directory.path().join("tmp/kiln-run-2"));
        FileJournal::create(&harness.settings.state_dir, &header).unwrap()
    };
    journal.record("w", Undo { kind: "moon.base".into(), ..undo("base") }).unwrap();
    drop(journal);
    let report = harness.clean_up(false).await;
    let other = report.runs.iter().find(|run| run.run == "run-2").unwrap();
    assert_eq!(other.failed[0].1.chain(), "this kiln cannot undo `moon.base`");
    assert_eq!(
        harness.reporter.warnings(),
        ["cannot remove base: this kiln cannot undo `moon.base`; try `kiln cleanup` later"]
    );
}

#[tokio::test]
async fn half_a_last_line_is_passed_over() {
    let harness = crashed();
    let whole = std::fs::read_to_string(harness.journal()).unwrap();
    for cut in 1..=30 {
        std::fs::write(harness.journal(), &whole[..whole.len() - cut]).unwrap();
        harness.world.make("machine");
        harness.world.make("network");
        let report = harness.clean_up(false).await;
        assert_eq!(report.runs[0].removed, ["machine", "network"], "cut by {cut}");
        assert!(!harness.journal().exists());
    }
}

#[tokio::test]
async fn a_line_that_cannot_be_read_keeps_the_journal() {
    let harness = crashed();
    let whole = std::fs::read_to_string(harness.journal()).unwrap();
    std::fs::write(harness.journal(), whole.replace("\"name\":\"machine\"", "\"name\":\"mach")).unwrap();
    let report = harness.clean_up(false).await;
    assert_eq!(report.runs[0].removed, ["image", "network"]);
    assert!(matches!(report.runs[0].state, RunState::Unfinished) && harness.journal().exists());
    assert!(
        harness.reporter.warnings()[0]
            .ends_with("find what they named by the label kiln.run=run-1, then delete the file")
    );
}

#[tokio::test]
async fn a_file_that_is_no_journal_or_of_a_newer_kiln_is_left_alone() {
    let harness = crashed();
    let runs = harness.settings.state_dir.join("runs");
    std::fs::write(runs.join("notes.jsonl"), "hello\n").unwrap();
    let newer = std::fs::read_to_string(harness.journal()).unwrap().replace("\"format\":1", "\"format\":2");
    std::fs::write(runs.join("newer.jsonl"), newer).unwrap();
    let report = harness.clean_up(false).await;
    assert!(!report.is_clean());
    assert_eq!(report.runs.len(), 3);
    let warnings = harness.reporter.warnings().join("\n");
    assert!(warnings.contains("is of format 2; this kiln knows 1"), "{warnings}");
    assert!(warnings.contains("notes.jsonl does not start like a cleanup journal"), "{warnings}");
    assert!(runs.join("newer.jsonl").exists() && runs.join("notes.jsonl").exists());
}

#[tokio::test]
async fn a_directory_that_does_not_bear_the_runs_name_is_never_removed() {
    let harness = Harness::new(vec![]);
    let precious = harness.directory.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    drop(FileJournal::create(&harness.settings.state_dir, &RunHeader::new("run-1", "a", &precious)).unwrap());
    assert!(harness.clean_up(false).await.is_clean());
    assert!(precious.exists());
}

#[tokio::test]
async fn what_a_run_killed_at_its_start_left_goes_once_it_is_old_and_not_locked() {
    let harness = crashed();
    let runs = harness.settings.state_dir.join("runs");
    let file = |name: &str, is_old: bool| {
        let file = std::fs::File::create(runs.join(name)).unwrap();
        let age = std::time::Duration::from_secs(if is_old { 61 } else { 0 });
        file.set_modified(std::time::SystemTime::now() - age).unwrap();
        file
    };
    let locked = file(".locked.new", true);
    rustix::fs::flock(&locked, rustix::fs::FlockOperation::LockExclusive).unwrap();
    file(".old.new", true);
    file(".young.new", false);
    file("mine.new", true);
    harness.clean_up(true).await;
    assert!(runs.join(".old.new").exists(), "a dry run removes nothing");
    assert!(harness.clean_up(false).await.is_clean());
    let mut left: Vec<_> = std::fs::read_dir(&runs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".locked.new", ".young.new", "mine.new"]);
}

#[tokio::test]
async fn where_nothing_ever_ran_there_is_nothing_to_do() {
    assert!(Harness::new(vec![]).clean_up(false).await.runs.is_empty());
}

/// The other process of the test below: a run that waits for its death.
#[test]
#[ignore = "started by `a_killed_process_is_a_dead_run`"]
fn a_process_to_be_killed() {
    let Ok(state_dir) = std::env::var("KILN_TEST_STATE_DIR") else { return };
    let header = RunHeader::new("run-1", "a.pkr.hcl", std::path::Path::new("/nowhere/kiln-run-1"));
    let journal = FileJournal::create(std::path::Path::new(&state_dir), &header).unwrap();
    journal.record("w", undo("machine")).unwrap();
    // The parent holds the other end of the pipe: it reads until this process is ready, and kills it then.
    #[allow(clippy::print_stdout, reason = "that is how the parent learns of it")]
    {
        println!("ready");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

#[tokio::test]
async fn a_killed_process_is_a_dead_run() {
    use std::io::BufRead;
    use std::process::{Command, Stdio};
    let harness = Harness::new(vec![]);
    harness.world.make("machine");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::cleaning::a_process_to_be_killed", "--ignored", "--nocapture"])
        .env("KILN_TEST_STATE_DIR", &harness.settings.state_dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let is_ready = output.lines().map_while(Result::ok).any(|line| line.contains("ready"));
    assert!(is_ready, "the other process did not come up");
    let report = harness.clean_up(false).await;
    assert!(matches!(report.runs[0].state, RunState::Living));
    assert_eq!(report.runs[0].header.as_ref().map(|header| header.pid), Some(child.id()));
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(harness.clean_up(false).await.runs[0].removed, ["machine"]);
    harness.assert_clean();
}
