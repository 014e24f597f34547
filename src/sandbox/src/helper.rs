//! Starting this program again as a helper, and what it does then.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use rustix::mount::OpenTreeFlags;

use crate::error::{Report, SandboxError, Trying};
use crate::protocol::{Channel, Order, Reply};
use crate::spec::{HelperProgram, IdKind, IdMap, RootFs, SandboxSpec};

/// The first argument of a helper.
pub const HELPER_ARGUMENT: &str = "__kiln-sandbox";

/// A helper that runs and waits for its [`Order`].
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) child: Child,
    pub(crate) channel: Channel,
}

type Started = Box<dyn FnOnce(io::Result<Child>) + Send>;

struct Job {
    command: Command,
    started: Started,
}

/// The thread that starts all helpers. A helper asks the kernel for a signal when the *thread* that started it ends, and other
/// threads may end while their session goes on.
fn starter() -> &'static Mutex<mpsc::Sender<Job>> {
    static STARTER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    STARTER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("kiln-helpers".to_owned());
        // Where no thread can be had, the receiver goes, and sending fails.
        _ = thread.spawn(move || {
            for mut job in jobs {
                (job.started)(job.command.spawn());
            }
        });
        Mutex::new(sender)
    })
}

fn start(helper: &HelperProgram, started: Started) -> Result<Channel, SandboxError> {
    let (ours, theirs) = Channel::pair().trying("make a socket for the helper")?;
    let mut command = Command::new(unwritable(&helper.path)?);
    command
        .arg0(&helper.path)
        .args(&helper.arguments)
        .stdin(Stdio::from(theirs.into_fd()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // The guest must not find our environment in the helper's memory; the way to newuidmap is all that it needs.
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    let sender = starter().lock().unwrap_or_else(PoisonError::into_inner);
    let sent = sender.send(Job { command, started });
    sent.map_err(|_| SandboxError::system("start the helper", io::Error::other("no thread can be started")))?;
    Ok(ours)
}

/// A helper that waits, started before anybody wants it: starting a program costs as much as all that a session does.
struct Spare {
    program: HelperProgram,
    work: Beforehand,
    helper: Helper,
}

/// What a helper does before it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Beforehand {
    /// It enters the user name space of this map.
    Map(IdMap),
    /// It makes all of this guest but its root.
    Guest(Box<SandboxSpec>),
}

impl Beforehand {
    /// As much as can be done for a session like this one.
    pub(crate) fn of(spec: &SandboxSpec) -> Beforehand {
        let is_single = spec.chosen.id_map.kind == IdKind::Single;
        // What is mounted from the host is taken when the session starts, not before. Where mount points are the session's own, they
        // are made and removed by the helper.
        if is_single || spec.stubs.is_none() || !spec.mounts.is_empty() || !knows_layers_by_name() {
            return Beforehand::Map(spec.chosen.id_map.clone());
        }
        let nowhere = RootFs::Overlay { lowers: Vec::new(), upper: PathBuf::new(), work: PathBuf::new() };
        Beforehand::Guest(Box::new(SandboxSpec { root: nowhere, ..spec.clone() }))
    }

    fn order(&self) -> Order {
        match self {
            Beforehand::Map(map) => Order::Prepare(map.clone()),
            Beforehand::Guest(spec) => Order::Ground(spec.clone()),
        }
    }
}

/// Whether an overlay's layers can be named one by one; else it needs the host's `/proc`, which a guest made beforehand lost.
fn knows_layers_by_name() -> bool {
    static KNOWS: OnceLock<bool> = OnceLock::new();
    *KNOWS.get_or_init(|| {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
        (numbers.next(), numbers.next()) >= (Some(6), Some(5))
    })
}

/// One for each program and work. They end with this process, as all helpers do.
static SPARES: Mutex<Vec<Spare>> = Mutex::new(Vec::new());

/// More than that many different guests are not expected again.
const MOST_SPARES: usize = 8;

fn spares() -> MutexGuard<'static, Vec<Spare>> {
    SPARES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Helper {
    /// One that was started before and has done this.
    pub(crate) fn take_spare(program: &HelperProgram, work: &Beforehand) -> Option<Helper> {
        let mut spares = spares();
        let index = spares.iter().position(|spare| spare.program == *program && spare.work == *work)?;
        let mut helper = spares.swap_remove(index).helper;
        // One that has ended is collected by this look.
        matches!(helper.child.try_wait(), Ok(None)).then_some(helper)
    }

    /// Starts one for later; the caller does not wait for it.
    pub(crate) fn keep_spare(program: &HelperProgram, work: Beforehand) {
        let is_enough = |spares: &[Spare]| {
            spares.len() >= MOST_SPARES || spares.iter().any(|spare| spare.program == *program && spare.work == work)
        };
        if is_enough(&spares()) {
            return;
        }
        let wanted = program.clone();
        let (give, take) = mpsc::sync_channel::<Channel>(1);
        let started = start(
            program,
            Box::new(move |child| {
                let (Ok(child), Ok(channel)) = (child, take.recv()) else { return };
                // Where it fails, it says so when the session is wanted.
                _ = channel.send(&work.order(), &[]);
                spares().push(Spare { program: wanted, work, helper: Helper { child, channel } });
            }),
        );
        // Without it, the next session starts its own.
        if let Ok(channel) = started {
            _ = give.send(channel);
        }
    }

    /// Starts one.
    pub(crate) async fn start(helper: &HelperProgram) -> Result<Helper, SandboxError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let channel = start(helper, Box::new(move |child| drop(sender.send(child))))?;
        let child = receiver.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).trying("start the helper")?;
        Ok(Helper { child, channel })
    }

    /// Starts one, for callers that block.
    pub(crate) fn start_blocking(helper: &HelperProgram) -> Result<Helper, SandboxError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let channel = start(helper, Box::new(move |child| drop(sender.send(child))))?;
        let child = receiver.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).trying("start the helper")?;
        Ok(Helper { child, channel })
    }
}

/// A way to the same program that nobody can write through: a guest finds the program of its process 1 in `/proc`, and root
/// in a guest may be root on the host.
fn unwritable(path: &Path) -> Result<PathBuf, SandboxError> {
    static COPIES: Mutex<Vec<(PathBuf, OwnedFd)>> = Mutex::new(Vec::new());
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    let number = match copies.iter().find(|(of, _)| of == path) {
        Some((_, copy)) => copy.as_raw_fd(),
        None => {
            let copy = read_only_mount(path).or_else(|_| sealed_copy(path)).trying("protect the helper's program")?;
            let number = copy.as_raw_fd();
            copies.push((path.to_owned(), copy));
            number
        }
    };
    Ok(PathBuf::from(format!("/proc/self/fd/{number}")))
}

/// The file through a read-only mount of its own that is nowhere attached. Only root may do that.
fn read_only_mount(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    // The kernel does not take the link in /proc for a mount's root.
    let mount = rustix::mount::open_tree(rustix::fs::CWD, path.canonicalize()?, flags)?;
    let (meant, found) = (rustix::fs::stat(path)?, rustix::fs::fstat(&mount)?);
    if (meant.st_dev, meant.st_ino) != (found.st_dev, found.st_ino) {
        return Err(io::Error::other("the program was replaced since it started"));
    }
    crate::sys::mount_setattr(std::os::fd::AsFd::as_fd(&mount), libc::MOUNT_ATTR_RDONLY, 0, false)?;
    Ok(mount)
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let mut program = std::fs::File::open(path)?;
    let name = CString::new("kiln-helper")?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Said aloud, because some systems make such files not executable otherwise; kernels before 6.3 know no such word.
    let copy = rustix::fs::memfd_create(&name, flags | MemfdFlags::EXEC);
    let mut copy = std::fs::File::from(copy.or_else(|_| rustix::fs::memfd_create(&name, flags))?);
    io::copy(&mut program, &mut copy)?;
    rustix::fs::fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}

/// Acts as a helper if this process was started as one, and tells its exit code then. To be called first thing in `main`,
/// before any thread is started. `None`: this is no helper.
pub fn helper_main() -> Option<ExitCode> {
    let mut arguments = std::env::args_os();
    if arguments.nth(1)? != HELPER_ARGUMENT {
        return None;
    }
    Some(match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn run() -> Result<(), SandboxError> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    _ = rustix::thread::set_name(c"kiln-helper");
    set_parent_process_death_signal(Some(Signal::KILL)).trying("watch the parent")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    crate::sys::reset_all_signals();
    // A copy, so that nothing that is run later can have it as its standard input.
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).trying("take the socket")?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    rustix::stdio::dup2_stdin(null.trying("open /dev/null")?).trying("leave the socket")?;
    let channel = Channel::from_fd(channel);
    let result = take_order(&channel);
    if let Err(error) = &result {
        // Whoever asked may be gone; then nobody is left to be told.
        _ = channel.send(&Reply::Failed(Report::from(error)), &[]);
    }
    // A session's helper has closed it already; the process ends now anyway.
    std::mem::forget(channel);
    result
}

fn take_order(channel: &Channel) -> Result<(), SandboxError> {
    let mut prepared = false;
    while let Some((order, files)) = channel.receive::<Order>().trying("read the order")? {
        match order {
            Order::Prepare(map) => {
                crate::init::enter(&map)?;
                prepared = true;
            }
            Order::Ground(spec) => return crate::init::prepare_session(&spec, channel),
            Order::Root(_) => {
                return Err(SandboxError::Protocol("a root without a guest".to_owned()));
            }
            Order::Session(spec) => return crate::init::session(&spec, channel, prepared),
            Order::Probe(trial) => return crate::probe::serve(&trial, channel),
            Order::Program(spec) => return crate::program::serve(&spec, files, channel),
            Order::Work(job) => return crate::worker::serve(*job, files, channel),
        }
    }
    Ok(())
}
