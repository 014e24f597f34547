//! The cleanup journal on disk: one file a run, one JSON record a line, each on disk before its thing is made. That a thing is
//! gone reaches the disk some time: undoing it once more finds nothing. That it belongs to the user is on disk at once.
//!
//! `STATE/runs/RUN.jsonl`: a header, then undo, amend, strike and hand-over records, appended and never rewritten. The
//! living run holds a lock on its file, which the kernel drops however the process ends: a file that is not locked is
//! that of a dead run.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kiln_core::{EntryId, Failure, FailureClass, Journal, Undo};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Version of the record format; a journal of a newer one is left alone.
const FORMAT: u32 = 1;
/// No run takes this long from making its journal's file to locking it.
const UNBORN_FOR: Duration = Duration::from_secs(60);

/// What a journal says of its run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Version of the record format.
    pub format: u32,
    /// The run's id, as in the label `kiln.run`.
    pub run: String,
    /// The process that runs it.
    pub pid: u32,
    /// When it started, in seconds since the epoch.
    pub started: u64,
    /// The template, as the user named it.
    pub template: String,
    /// The run's scratch directory.
    pub scratch: PathBuf,
}

impl RunHeader {
    /// Of this process, now.
    pub fn new(run: &str, template: &str, scratch: &Path) -> RunHeader {
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        RunHeader {
            format: FORMAT,
            run: run.to_owned(),
            pid: std::process::id(),
            started: started.as_secs(),
            template: template.to_owned(),
            scratch: scratch.to_owned(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
enum Record {
    Run(RunHeader),
    Undo { entry: EntryId, build: String, undo: Undo },
    Amend { entry: EntryId, undo: Undo },
    Strike { entry: EntryId },
    HandOver { build: String },
}

/// Something that is still to be undone.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenEntry {
    /// Its place in the journal; later entries are undone first.
    pub id: EntryId,
    /// The build that made it.
    pub build: String,
    /// How to undo it.
    pub undo: Undo,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Input or output.
    #[error("cannot {action} the cleanup journal {}", path.display())]
    Io {
        /// `create`, `write`, `read`, `lock`, `remove`.
        action: &'static str,
        /// The file or its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no header, so it is not a journal.
    #[error("{} does not start like a cleanup journal", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
    /// A newer kiln wrote it.
    #[error("the cleanup journal {} is of format {format}; this kiln knows {FORMAT}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The run is over.
    #[error("the cleanup journal is closed")]
    Closed,
    /// A record cannot be written as JSON.
    #[error("cannot write a record of the cleanup journal")]
    Encode(#[from] serde_json::Error),
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        match &error {
            JournalError::Closed | JournalError::Encode(_) => Failure::new(FailureClass::Bug, error),
            JournalError::Newer { .. } => Failure::environment(error).hint("use the newer kiln for it"),
            JournalError::Io { .. } | JournalError::NoHeader { .. } => Failure::environment(error)
                .hint("kiln notes there what to remove after a crash; check that the directory is yours and has space"),
        }
    }
}

/// The directory of all journals.
pub fn runs_directory(state_dir: &Path) -> PathBuf {
    state_dir.join("runs")
}

/// A run's journal. Its calls write a few hundred bytes, and those that must not be lost return when they are on disk.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Holds the lock as long as it is open.
    file: File,
    length: u64,
    next: u64,
    open: BTreeMap<EntryId, OpenEntry>,
    closed: bool,
    /// Lines in the middle that could not be read: then the file is never removed.
    damaged: usize,
    /// Its name is on disk.
    is_named: bool,
}

/// What adopting a journal found.
#[derive(Debug)]
pub(crate) enum Adopted {
    /// Its run is over; the lock is ours now.
    Dead(RunHeader, FileJournal),
    /// Its run lives, or someone else cleans up after it.
    Living(RunHeader),
    /// Someone else just removed it.
    Gone,
}

impl FileJournal {
    /// Starts the journal of a new run. Blocking.
    pub fn create(state_dir: &Path, header: &RunHeader) -> Result<FileJournal, JournalError> {
        let directory = runs_directory(state_dir);
        let path = directory.join(format!("{}.jsonl", header.run));
        // It gets its name once it is locked and has its header, so that no cleanup takes it for a dead one.
        let unborn = directory.join(format!(".{}.new", header.run));
        let failed = |action| move |path: &Path, source| JournalError::Io { action, path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| failed("create")(&directory, source))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(&unborn)
            .map_err(|source| failed("create")(&unborn, source))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|source| failed("lock")(&unborn, source.into()))?;
        let state =
            State { file, length: 0, next: 1, open: BTreeMap::new(), closed: false, damaged: 0, is_named: false };
        let journal = FileJournal { path, state: Mutex::new(state) };
        // Unlike a rename, a link never takes the name of another run's journal.
        let named = journal.append(&mut journal.state(), &[Record::Run(header.clone())]).and_then(|()| {
            std::fs::hard_link(&unborn, &journal.path).map_err(|source| failed("create")(&journal.path, source))
        });
        std::fs::remove_file(&unborn).map_err(|source| failed("remove")(&unborn, source))?;
        named?;
        Ok(journal)
    }

    /// Takes over the journal of a run that may be dead; `only_looks` writes nothing and hinders nobody else who looks.
    /// Blocking.
    pub(crate) fn adopt(path: &Path, only_looks: bool) -> Result<Adopted, JournalError> {
        let failed = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let file = match OpenOptions::new().read(true).append(!only_looks).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Adopted::Gone),
            Err(error) => return Err(failed("read")(error)),
        };
        let lock =
            if only_looks { FlockOperation::NonBlockingLockShared } else { FlockOperation::NonBlockingLockExclusive };
        match flock(&file, lock) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Adopted::Living(load(&file, path)?.header)),
            Err(error) => return Err(failed("lock")(error.into())),
        }
        if file.metadata().map_err(failed("read"))?.nlink() == 0 {
            return Ok(Adopted::Gone);
        }
        let loaded = load(&file, path)?;
        // A power cut in the middle of a write leaves half a line; the thing it names was not made yet.
        if !only_looks {
            file.set_len(loaded.length).map_err(failed("write"))?;
        }
        let state = State {
            file,
            length: loaded.length,
            next: loaded.next,
            open: loaded.open,
            closed: false,
            damaged: loaded.damaged,
            is_named: true,
        };
        Ok(Adopted::Dead(loaded.header, FileJournal { path: path.to_owned(), state: Mutex::new(state) }))
    }

    /// Removes a file that a run which was killed at its very start left under the name of an unborn journal: nobody
    /// holds its lock, and it is too old for a run that is just about to take it. Returns whether it was one. Blocking.
    pub(crate) fn remove_stillborn(path: &Path) -> Result<bool, JournalError> {
        let failed = |action| move |source| JournalError::Io { action, path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("read")(error)),
        };
        // A clock that was set back makes it wait for the next cleanup.
        let modified = file.metadata().and_then(|found| found.modified()).map_err(failed("read"))?;
        if modified.elapsed().is_ok_and(|age| age >= UNBORN_FOR) {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return std::fs::remove_file(path).map(|()| true).map_err(failed("remove")),
                Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(failed("lock")(error.into())),
            }
        }
        Ok(false)
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is still to be undone, of one build or of all, the latest first.
    pub fn open_entries(&self, build: Option<&str>) -> Vec<OpenEntry> {
        let state = self.state();
        let entries = state.open.values().rev();
        entries.filter(|entry| build.is_none_or(|build| entry.build == build)).cloned().collect()
    }

    /// How many of its lines could not be read.
    pub(crate) fn damaged(&self) -> usize {
        self.state().damaged
    }

    /// Strikes entries whose things belong to the user from now on: all of them, or in a crash perhaps none. Blocking.
    pub(crate) fn release(&self, entries: &[EntryId]) -> Result<(), JournalError> {
        let mut state = self.state();
        let open: Vec<EntryId> = entries.iter().filter(|entry| state.open.contains_key(entry)).copied().collect();
        if open.is_empty() {
            return Ok(());
        }
        let records: Vec<Record> = open.iter().map(|entry| Record::Strike { entry: *entry }).collect();
        self.append(&mut state, &records)?;
        self.sync(&mut state)?;
        state.open.retain(|id, _| !open.contains(id));
        Ok(())
    }

    /// Ends the run: removes the file if nothing is left to undo. `true` when it is gone. Blocking.
    pub fn close(&self) -> Result<bool, JournalError> {
        let mut state = self.state();
        if !state.open.is_empty() || state.damaged > 0 {
            return Ok(false);
        }
        state.closed = true;
        // Should the name come back after a power cut, what the file holds is nothing that still is to be undone.
        std::fs::remove_file(&self.path).map_err(|source| self.failed("remove", source))?;
        Ok(true)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic between two statements leaves at worst a thing in the journal that is gone already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str, source: io::Error) -> JournalError {
        JournalError::Io { action, path: self.path.clone(), source }
    }

    fn append(&self, state: &mut State, records: &[Record]) -> Result<(), JournalError> {
        if state.closed {
            return Err(JournalError::Closed);
        }
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        if let Err(error) = state.file.write_all(&lines) {
            self.cut(state);
            return Err(self.failed("write", error));
        }
        state.length += lines.len() as u64;
        Ok(())
    }

    /// One record that is on disk when this returns.
    fn append_synced(&self, state: &mut State, record: &Record) -> Result<(), JournalError> {
        let before = state.length;
        self.append(state, std::slice::from_ref(record))?;
        self.sync(state).inspect_err(|_| {
            // Nobody acts on what it says.
            state.length = before;
            self.cut(state);
        })
    }

    /// Half a line in the middle would hide the next record too. Should this fail as well, the reader copes.
    fn cut(&self, state: &State) {
        let _ = state.file.set_len(state.length);
    }

    fn sync(&self, state: &mut State) -> Result<(), JournalError> {
        state.file.sync_data().map_err(|source| self.failed("write", source))?;
        if !state.is_named {
            self.path.parent().map_or(Ok(()), sync_directory)?;
            state.is_named = true;
        }
        Ok(())
    }
}

impl Journal for FileJournal {
    fn record(&self, build: &str, undo: Undo) -> Result<EntryId, Failure> {
        let mut state = self.state();
        let id = EntryId(state.next);
        self.append_synced(&mut state, &Record::Undo { entry: id, build: build.to_owned(), undo: undo.clone() })?;
        state.next += 1;
        state.open.insert(id, OpenEntry { id, build: build.to_owned(), undo });
        Ok(id)
    }

    fn amend(&self, entry: EntryId, undo: Undo) -> Result<(), Failure> {
        let mut state = self.state();
        if state.open.contains_key(&entry) {
            self.append_synced(&mut state, &Record::Amend { entry, undo: undo.clone() })?;
            if let Some(open) = state.open.get_mut(&entry) {
                open.undo = undo;
            }
        }
        Ok(())
    }

    fn strike(&self, entry: EntryId) -> Result<(), Failure> {
        let mut state = self.state();
        if state.open.contains_key(&entry) {
            self.append(&mut state, &[Record::Strike { entry }])?;
            state.open.remove(&entry);
        }
        Ok(())
    }

    fn hand_over(&self, build: &str) -> Result<(), Failure> {
        let mut state = self.state();
        if state.open.values().any(|entry| entry.build == build) {
            self.append_synced(&mut state, &Record::HandOver { build: build.to_owned() })?;
            state.open.retain(|_, entry| entry.build != build);
        }
        Ok(())
    }
}

struct Loaded {
    header: RunHeader,
    open: BTreeMap<EntryId, OpenEntry>,
    next: u64,
    /// Bytes up to the end of the last whole line.
    length: u64,
    damaged: usize,
}

fn load(file: &File, path: &Path) -> Result<Loaded, JournalError> {
    let failed = |source| JournalError::Io { action: "read", path: path.to_owned(), source };
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut header = None;
    let (mut open, mut next, mut length, mut damaged) = (BTreeMap::<EntryId, OpenEntry>::new(), 1, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(failed)?;
        if line.last() != Some(&b'\n') {
            break;
        }
        length += read as u64;
        match serde_json::from_slice(&line) {
            Ok(Record::Run(found)) => {
                if found.format > FORMAT {
                    return Err(JournalError::Newer { path: path.to_owned(), format: found.format });
                }
                header = Some(found);
            }
            Ok(Record::Undo { entry, build, undo }) => {
                next = next.max(entry.0 + 1);
                open.insert(entry, OpenEntry { id: entry, build, undo });
            }
            Ok(Record::Amend { entry, undo }) => {
                if let Some(found) = open.get_mut(&entry) {
                    found.undo = undo;
                }
            }
            Ok(Record::Strike { entry }) => {
                open.remove(&entry);
            }
            Ok(Record::HandOver { build }) => open.retain(|_, entry| entry.build != build),
            Err(_) => damaged += 1,
        }
    }
    let header = header.ok_or_else(|| JournalError::NoHeader { path: path.to_owned() })?;
    Ok(Loaded { header, open, next, length, damaged })
}

/// A new name in a directory survives a power cut only once the directory is synced.
fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    File::open(directory).and_then(|handle| handle.sync_all()).map_err(|source| JournalError::Io {
        action: "write",
        path: directory.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
