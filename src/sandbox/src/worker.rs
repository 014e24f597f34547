//! File work that must happen as a guest's root: with its ids, and with the rights to files of all of them.
//!
//! Where the guest's ids are the host's, this process does it itself; otherwise a helper does, in a user name space with the
//! same map. A task names whole directories of the store; it is no way into a running guest.

mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_image::pack::{PackOptions, Packed};
use kiln_image::unpack::{UnpackOptions, Unpacked};
use serde::{Deserialize, Serialize};

use crate::error::{Report, SandboxError, Trying};
use crate::helper::Helper;
use crate::protocol::{Channel, Order, Reply};
use crate::spec::{Chosen, HelperProgram, IdKind, IdMap};

/// Work on files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Task {
    /// Makes directories that belong to the guest's root, with their parents; those that are there stay as they are.
    Prepare {
        /// Absolute paths.
        directories: Vec<PathBuf>,
        /// Their mode.
        mode: u32,
    },
    /// Unpacks a layer, the task's input, into a directory that exists.
    Unpack {
        /// Where to.
        root: PathBuf,
        /// How.
        options: UnpackOptions,
    },
    /// Packs overlay uppers as one layer, uncompressed, into the task's output.
    Pack(PackOptions),
    /// Copies a tree with owners, modes, times, links and attributes to a place that does not exist yet.
    Copy {
        /// The tree.
        from: PathBuf,
        /// The place.
        to: PathBuf,
    },
    /// Moves a tree within its file system.
    Rename {
        /// The tree.
        from: PathBuf,
        /// The place.
        to: PathBuf,
    },
    /// Removes trees; what is not there is removed already.
    Remove {
        /// The trees.
        paths: Vec<PathBuf>,
    },
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done,
    /// A layer is unpacked.
    Unpacked(Unpacked),
    /// A layer is packed.
    Packed(Packed),
}

/// Does [`Task`]s. Cheap to make and to clone; everything it does blocks.
#[derive(Debug, Clone)]
pub struct Worker {
    id_map: IdMap,
    helper: HelperProgram,
    idle: Arc<Mutex<Vec<Working>>>,
}

/// Helpers that are kept for the next task: starting one and mapping its ids takes longer than most tasks.
const IDLE: usize = 2;

impl Worker {
    /// For the files of guests of this kind.
    pub fn new(chosen: &Chosen, helper: &HelperProgram) -> Worker {
        Worker { id_map: chosen.id_map.clone(), helper: helper.clone(), idle: Arc::default() }
    }

    /// The work needs no helper.
    pub fn is_in_process(&self) -> bool {
        self.id_map.kind == IdKind::Identity
    }

    /// Does a task. `input` is read from where it stands.
    ///
    /// # Errors
    /// The work failed; what it had made so far is still there.
    pub fn run(&self, task: &Task, input: Option<OwnedFd>, output: Option<OwnedFd>) -> Result<Outcome, SandboxError> {
        if self.is_in_process() {
            return perform(task, input, output, false);
        }
        let job =
            Job { task: task.clone(), map: self.id_map.clone(), input: input.is_some(), output: output.is_some() };
        let helper = self.start(&job, input, output)?;
        self.finish(helper)
    }

    /// Packs uppers as one layer into a writer.
    ///
    /// # Errors
    /// Packing failed, or writing did.
    pub fn pack(&self, options: &PackOptions, tar: &mut dyn Write) -> Result<Packed, SandboxError> {
        if self.is_in_process() {
            return kiln_image::pack::pack(options, tar).map_err(work_failed);
        }
        let (reader, writer) = io::pipe().trying("make a pipe")?;
        // Fewer turns between the two processes; more than the limit of an ordinary user is refused, which does no harm.
        _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        let task = Task::Pack(options.clone());
        let job = Job { task, map: self.id_map.clone(), input: false, output: true };
        let helper = self.start(&job, None, Some(writer.into()))?;
        let copied = forward(reader, tar);
        // A helper that still writes ended with a broken pipe; the first failure is the one that counts.
        let outcome = self.finish(helper);
        copied.trying("write a layer")?;
        match outcome? {
            Outcome::Packed(packed) => Ok(packed),
            other => Err(SandboxError::Protocol(format!("{other:?}"))),
        }
    }

    /// Unpacks a layer into a directory that exists.
    ///
    /// # Errors
    /// The layer is damaged or hostile, or a file cannot be made.
    pub fn unpack(&self, layer: File, root: &Path, options: &UnpackOptions) -> Result<Unpacked, SandboxError> {
        let task = Task::Unpack { root: root.to_owned(), options: options.clone() };
        match self.run(&task, Some(layer.into()), None)? {
            Outcome::Unpacked(unpacked) => Ok(unpacked),
            other => Err(SandboxError::Protocol(format!("{other:?}"))),
        }
    }

    /// Removes trees.
    ///
    /// # Errors
    /// One cannot be removed; the others are.
    pub fn remove(&self, paths: &[PathBuf]) -> Result<(), SandboxError> {
        self.run(&Task::Remove { paths: paths.to_vec() }, None, None).map(drop)
    }

    fn start(&self, job: &Job, input: Option<OwnedFd>, output: Option<OwnedFd>) -> Result<Working, SandboxError> {
        let files: Vec<_> = input.iter().chain(&output).map(AsFd::as_fd).collect();
        let order = Order::Work(Box::new(job.clone()));
        while let Some(idle) = self.idle().pop() {
            // One that has ended in the meantime is passed over.
            if idle.0.channel.send(&order, &files).is_ok() {
                return Ok(idle);
            }
        }
        let helper = Working(Helper::start_blocking(&self.helper)?);
        helper.0.channel.send(&order, &files).trying("tell the helper its task")?;
        Ok(helper)
    }

    fn finish(&self, helper: Working) -> Result<Outcome, SandboxError> {
        let reply = helper.0.channel.receive::<Reply>().trying("read what the helper did")?;
        let outcome = match reply {
            Some((Reply::Worked(outcome), _)) => Ok(*outcome),
            Some((Reply::Failed(report), _)) => Err(report.into()),
            Some((other, _)) => return Err(SandboxError::Protocol(format!("{other:?}"))),
            None => return Err(SandboxError::Ended),
        };
        let mut idle = self.idle();
        if idle.len() < IDLE {
            idle.push(helper);
        }
        outcome
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Working>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies all to the end, in larger pieces than the standard library's.
fn forward(mut reader: io::PipeReader, writer: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => writer.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A helper for tasks; dropping it ends it.
#[derive(Debug)]
struct Working(Helper);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.process.kill();
        _ = self.0.process.wait();
    }
}

/// A task on its way to a helper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    task: Task,
    map: IdMap,
    input: bool,
    output: bool,
}

/// The helper's part: this task, and those that follow.
pub(crate) fn serve(first: Job, files: Vec<OwnedFd>, channel: &Channel) -> Result<(), SandboxError> {
    crate::init::enter(&first.map)?;
    let single_id = first.map.kind == IdKind::Single;
    let mut next = Some((first, files));
    while let Some((job, files)) = next {
        let mut files = files.into_iter();
        let input = job.input.then(|| files.next()).flatten();
        let output = job.output.then(|| files.next()).flatten();
        let reply = match perform(&job.task, input, output, single_id) {
            Ok(outcome) => Reply::Worked(Box::new(outcome)),
            Err(error) => Reply::Failed(Report::from(&error)),
        };
        channel.send(&reply, &[]).trying("tell what was done")?;
        next = match channel.receive::<Order>().trying("read the next task")? {
            Some((Order::Work(job), files)) => Some((*job, files)),
            _ => None,
        };
    }
    Ok(())
}

fn perform(
    task: &Task,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    single_id: bool,
) -> Result<Outcome, SandboxError> {
    match task {
        Task::Prepare { directories, mode } => tree::make_directories(directories, *mode)?,
        Task::Unpack { root, options } => {
            let input = File::from(input.ok_or_else(|| missing("input"))?);
            // There is nobody else whom a file could belong to.
            let options = UnpackOptions { owners: options.owners && !single_id, ..options.clone() };
            return Ok(Outcome::Unpacked(kiln_image::unpack::unpack(input, root, &options).map_err(work_failed)?));
        }
        Task::Pack(options) => {
            let mut output = File::from(output.ok_or_else(|| missing("output"))?);
            return Ok(Outcome::Packed(kiln_image::pack::pack(options, &mut output).map_err(work_failed)?));
        }
        Task::Copy { from, to } => tree::copy(from, to)?,
        Task::Rename { from, to } => {
            fs::rename(from, to).trying(&format!("move {} to {}", from.display(), to.display()))?;
        }
        Task::Remove { paths } => tree::remove(paths)?,
    }
    Ok(Outcome::Done)
}

fn missing(which: &str) -> SandboxError {
    SandboxError::Protocol(format!("a task has no {which}"))
}

/// The cause is told in one line: it may have to travel.
fn work_failed(error: kiln_image::ImageError) -> SandboxError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    match error {
        kiln_image::ImageError::NoRoom { .. } => SandboxError::NoRoom(text),
        kiln_image::ImageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            SandboxError::NoRoom(text)
        }
        _ => SandboxError::Work(text),
    }
}
