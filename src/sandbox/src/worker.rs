//! File work that must happen as a guest's root: with its ids, and with the rights to files of all of them.
//!
//! Where the guest's ids are the host's, this process does it itself; otherwise a helper does, in a user name space with the
//! same map. A task names whole directories of the store; it is no way into a running guest.

mod tree;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kiln_image::pack::{PackOptions, Packed};
use kiln_image::unpack::{UnpackOptions, Unpacked};
use serde::{Deserialize, Serialize};

use crate::error::{SandboxError, Trying};
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
}

impl Worker {
    /// For the files of guests of this kind.
    pub fn new(chosen: &Chosen, helper: &HelperProgram) -> Worker {
        Worker { id_map: chosen.id_map.clone(), helper: helper.clone() }
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
        let running = self.start(&job, input, output)?;
        running.outcome()
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
        let running = self.start(&job, None, Some(writer.into()))?;
        let copied = forward(reader, tar);
        // A helper that still writes ended with a broken pipe; the first failure is the one that counts.
        let outcome = running.outcome();
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

    fn start(&self, job: &Job, input: Option<OwnedFd>, output: Option<OwnedFd>) -> Result<RunningJob, SandboxError> {
        let helper = Helper::start_blocking(&self.helper)?;
        let files: Vec<_> = input.iter().chain(&output).map(AsFd::as_fd).collect();
        let sent = helper.channel.send(&Order::Work(Box::new(job.clone())), &files).trying("tell the helper its task");
        let running = RunningJob(helper);
        sent.map(|()| running)
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

/// A helper at work; dropping it ends it.
struct RunningJob(Helper);

impl RunningJob {
    fn outcome(mut self) -> Result<Outcome, SandboxError> {
        let reply = self.0.channel.receive::<Reply>();
        _ = self.0.child.wait();
        match reply.trying("read what the helper did")? {
            Some((Reply::Worked(outcome), _)) => Ok(*outcome),
            Some((Reply::Failed(report), _)) => Err(report.into()),
            Some((other, _)) => Err(SandboxError::Protocol(format!("{other:?}"))),
            None => Err(SandboxError::Ended),
        }
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        // Has no effect on one that has been waited for.
        _ = self.0.child.kill();
        _ = self.0.child.wait();
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

/// The helper's part.
pub(crate) fn serve(job: &Job, files: Vec<OwnedFd>, channel: &Channel) -> Result<(), SandboxError> {
    let mut files = files.into_iter();
    let input = job.input.then(|| files.next()).flatten();
    let output = job.output.then(|| files.next()).flatten();
    crate::userns::enter(&job.map)?;
    let outcome = perform(&job.task, input, output, job.map.kind == IdKind::Single)?;
    channel.send(&Reply::Worked(Box::new(outcome)), &[]).trying("tell what was done")
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
    SandboxError::Work(text)
}
