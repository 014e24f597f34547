//! `kiln cleanup`: finishes what runs that died could not.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use kiln_core::{Events, Failure, FailureClass, Kinds, UndoOutcome};
use tokio_util::sync::CancellationToken;

use crate::journal::{Adopted, FileJournal, JournalError, RunHeader, runs_directory};
use crate::undo::undo_entries;

/// What became of one run's leftovers.
#[derive(Debug)]
pub struct RunCleanup {
    /// The run's id; the file's name where it cannot be read.
    pub run: String,
    /// What its journal says of it; `None` where it cannot be read.
    pub header: Option<RunHeader>,
    /// How it stands now.
    pub state: RunState,
    /// Things that were there and are gone now (with `dry_run`: that would be removed), as people call them.
    pub removed: Vec<String>,
    /// Things that had gone already.
    pub already_gone: Vec<String>,
    /// Things that are still there, and why.
    pub failed: Vec<(String, Failure)>,
}

/// How a run stands after the cleanup.
#[derive(Debug)]
pub enum RunState {
    /// It lives, or another cleanup is at it; it was left alone.
    Living,
    /// Nothing is left of it.
    Clean,
    /// Something is left; its journal stays for the next try.
    Unfinished,
    /// It is dead and was only looked at (`dry_run`).
    Pending,
    /// Its journal cannot be read.
    Unreadable(Failure),
}

/// What a cleanup found and did.
#[derive(Debug, Default)]
pub struct CleanupReport {
    /// Every run that has a journal, the oldest first.
    pub runs: Vec<RunCleanup>,
}

impl CleanupReport {
    /// Whether nothing of dead runs is left.
    pub fn is_clean(&self) -> bool {
        self.runs.iter().all(|run| matches!(run.state, RunState::Living | RunState::Clean))
    }
}

/// Finds the journals of dead runs under `state_dir` and undoes what is open in them, the latest first; then removes the
/// run's scratch directory and the journal. Living runs are told and left alone. With `dry_run` it only tells.
pub async fn cleanup(
    state_dir: &Path,
    kinds: &Kinds,
    dry_run: bool,
    events: &Events,
) -> Result<CleanupReport, Failure> {
    let directory = runs_directory(state_dir);
    let (journals, unborn) = blocking(move || list(&directory)).await??;
    let mut report = CleanupReport::default();
    for path in journals {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let adopted = blocking(move || FileJournal::adopt(&path, dry_run)).await?;
        let run = match adopted {
            Ok(Adopted::Gone) => continue,
            Ok(Adopted::Living(header)) => living(header, events),
            Ok(Adopted::Dead(header, journal)) if dry_run => preview(header, &journal, events),
            Ok(Adopted::Dead(header, journal)) => finish(header, journal, kinds, events).await?,
            Err(error) => unreadable(name, error, events),
        };
        report.runs.push(run);
    }
    // Nothing was made by then: there is nothing to tell but what hinders removing it.
    for path in unborn.into_iter().filter(|_| !dry_run) {
        if let Err(error) = blocking(move || FileJournal::remove_stillborn(&path)).await? {
            events.warn(Failure::from(error).chain());
        }
    }
    report.runs.sort_by_key(|run| run.header.as_ref().map(|header| header.started));
    Ok(report)
}

fn run_cleanup(header: RunHeader, state: RunState) -> RunCleanup {
    let (removed, already_gone, failed) = (Vec::new(), Vec::new(), Vec::new());
    RunCleanup { run: header.run.clone(), header: Some(header), state, removed, already_gone, failed }
}

fn living(header: RunHeader, events: &Events) -> RunCleanup {
    events.message(format!(
        "run {} ({}, process {}) is still going, or is being cleaned up; left alone",
        header.run, header.template, header.pid
    ));
    run_cleanup(header, RunState::Living)
}

fn unreadable(run: String, error: JournalError, events: &Events) -> RunCleanup {
    let failure = Failure::from(error);
    events.warn(format!("left alone: {}; delete the file when nothing is left of its run", failure.chain()));
    let (removed, already_gone, failed) = (Vec::new(), Vec::new(), Vec::new());
    RunCleanup { run, header: None, state: RunState::Unreadable(failure), removed, already_gone, failed }
}

fn preview(header: RunHeader, journal: &FileJournal, events: &Events) -> RunCleanup {
    events.message(format!("run {} ({}) ended without cleaning up", header.run, header.template));
    let mut run = run_cleanup(header, RunState::Pending);
    for entry in journal.open_entries(None) {
        events.message(format!("would remove {}", entry.undo.description));
        run.removed.push(entry.undo.description);
    }
    run
}

async fn finish(
    header: RunHeader,
    journal: FileJournal,
    kinds: &Kinds,
    events: &Events,
) -> Result<RunCleanup, Failure> {
    events.message(format!("cleaning up after run {} ({})", header.run, header.template));
    if journal.damaged() > 0 {
        events.warn(format!(
            "{} of the lines in {} cannot be read; find what they named by the label kiln.run={}, then delete the file",
            journal.damaged(),
            journal.path().display(),
            header.run
        ));
    }
    let never = CancellationToken::new();
    let mut run = run_cleanup(header.clone(), RunState::Clean);
    for undone in undo_entries(&journal, journal.open_entries(None), kinds, events, &never).await {
        match undone.result {
            Ok(UndoOutcome::Removed) => run.removed.push(undone.description),
            Ok(UndoOutcome::AlreadyGone) => run.already_gone.push(undone.description),
            Err(failure) => run.failed.push((undone.description, failure)),
        }
    }
    // What is still to be undone may need it.
    if run.failed.is_empty()
        && let Err(error) = remove_scratch(&header).await?
    {
        let what = format!("scratch directory {}", header.scratch.display());
        events.warn(format!("cannot remove {what}: {error}"));
        run.failed.push((what, Failure::environment(error)));
    }
    let is_clean = run.failed.is_empty() && blocking(move || journal.close()).await??;
    if !is_clean {
        run.state = RunState::Unfinished;
    }
    Ok(run)
}

/// Removes the directory only if it bears the name that a run gives it: a damaged header must not delete anything else.
async fn remove_scratch(header: &RunHeader) -> Result<std::io::Result<()>, Failure> {
    let scratch = header.scratch.clone();
    if scratch.file_name() != Some(OsStr::new(&scratch_name(&header.run))) {
        return Ok(Ok(()));
    }
    blocking(move || remove_directory(&scratch)).await
}

/// Name of a run's scratch directory.
pub(crate) fn scratch_name(run: &str) -> String {
    format!("kiln-{run}")
}

/// Removes a directory and all in it; one that is not there is fine. Blocking.
pub(crate) fn remove_directory(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The journals, and the files that were to become some.
fn list(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), JournalError> {
    let failed = |source| JournalError::Io { action: "read", path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(failed(error)),
    };
    let (mut journals, mut unborn) = (Vec::new(), Vec::new());
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension() == Some(OsStr::new("jsonl")) {
            journals.push(path);
        } else if path.extension() == Some(OsStr::new("new"))
            && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            unborn.push(path);
        }
    }
    journals.sort();
    Ok((journals, unborn))
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new(FailureClass::Bug, error))
}
