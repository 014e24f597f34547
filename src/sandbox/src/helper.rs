//! Helpers: this program started again, what it does then, and those that are started before they are wanted.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use crate::error::{Report, SandboxError, Trying};
use crate::protocol::{Channel, Order, Reply};
use crate::spec::{HelperProgram, IdKind, IdMap, RootFs, SandboxSpec};
use crate::starter::{self, Process};
use crate::sys::{self, Fork};

/// The first argument of a helper.
pub const HELPER_ARGUMENT: &str = "__kiln-sandbox";

/// A helper that runs and waits for its [`Order`].
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) process: Process,
    pub(crate) channel: Channel,
}

/// A helper that waits, started before anybody wants it, with most of its work done.
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
        matches!(helper.process.try_wait(), Ok(false)).then_some(helper)
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
        let started = starter::start(
            program,
            Box::new(move |process| {
                let (Ok(process), Ok(channel)) = (process, take.recv()) else { return };
                // Where it fails, it says so when the session is wanted.
                _ = channel.send(&work.order(), &[]);
                spares().push(Spare { program: wanted, work, helper: Helper { process, channel } });
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
        let channel = starter::start(helper, Box::new(move |process| drop(sender.send(process))))?;
        Ok(Helper { process: receiver.await.unwrap_or_else(|_| Err(not_started()))?, channel })
    }

    /// Starts one, for callers that block.
    pub(crate) fn start_blocking(helper: &HelperProgram) -> Result<Helper, SandboxError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let channel = starter::start(helper, Box::new(move |process| drop(sender.send(process))))?;
        Ok(Helper { process: receiver.recv().unwrap_or_else(|_| Err(not_started()))?, channel })
    }
}

/// Only where the thread that starts helpers panicked.
fn not_started() -> SandboxError {
    SandboxError::system("start the helper", io::ErrorKind::Other)
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
    _ = rustix::thread::set_name(c"kiln-helper");
    crate::init::die_with_parent()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    crate::sys::reset_all_signals();
    // A copy, so that nothing that is run later can have it as its standard input.
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).trying("take the socket")?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    rustix::stdio::dup2_stdin(null.trying("open /dev/null")?).trying("leave the socket")?;
    let Some(channel) = fork_on_order(Channel::from_fd(channel))? else { return Ok(()) };
    let result = take_order(&channel);
    if let Err(error) = &result {
        // Whoever asked may be gone; then nobody is left to be told.
        _ = channel.send(&Reply::Failed(Report::from(error)), &[]);
    }
    // A session's helper has closed it already; the process ends now anyway.
    std::mem::forget(channel);
    result
}

/// Forks a helper whenever it is told to: comes back in each helper with its socket, and with `None` when nobody is there any
/// more.
fn fork_on_order(orders: Channel) -> Result<Option<Channel>, SandboxError> {
    while let Some((order, files)) = orders.receive::<Order>().trying("read the order")? {
        let (Order::Fork, Some(file)) = (order, files.into_iter().next()) else {
            return Err(SandboxError::Protocol("helpers are forked before anything else".to_owned()));
        };
        let reply = match sys::fork_sibling() {
            Ok(Fork::Child) => {
                crate::init::die_with_parent()?;
                return Ok(Some(Channel::from_fd(file)));
            }
            Ok(Fork::Parent(pid)) => Reply::Forked(pid.as_raw_nonzero().get()),
            Err(error) => Reply::Failed(Report::from(&SandboxError::system("start the helper", error))),
        };
        orders.send(&reply, &[]).trying("answer")?;
    }
    Ok(None)
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
            Order::Fork => return Err(SandboxError::Protocol("a helper was asked for another".to_owned())),
            Order::Root(_) => return Err(SandboxError::Protocol("a root without a guest".to_owned())),
            Order::Session(spec) => return crate::init::session(&spec, channel, prepared),
            Order::Probe(trial) => return crate::probe::serve(&trial, channel),
            Order::Program(spec) => return crate::program::serve(&spec, files, channel),
            Order::Work(job) => return crate::worker::serve(*job, files, channel),
        }
    }
    Ok(())
}
