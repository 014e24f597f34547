//! Starting helpers: a thread that starts them all, and for each program one process that they are forked from.
//!
//! Starting a program costs several times as much as forking a process of it. So this program is started as a helper once, does
//! nothing but fork, and each process that it forks becomes a helper. Those are children of this process: it alone waits for
//! them, and their end does not depend on the process that they were forked from.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};

use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use crate::error::{SandboxError, Trying};
use crate::protocol::{Channel, Order, Reply};
use crate::spec::HelperProgram;

/// A helper's process, which belongs to this one. Nobody waits for it unless told to.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    has_ended: bool,
}

impl Process {
    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        self.look(WaitOptions::empty()).map(drop)
    }

    /// Whether it has ended.
    pub(crate) fn try_wait(&mut self) -> io::Result<bool> {
        self.look(WaitOptions::NOHANG)
    }

    /// Kills it, unless somebody saw it end.
    pub(crate) fn kill(&self) {
        if !self.has_ended {
            _ = rustix::process::kill_process(self.pid, Signal::KILL);
        }
    }

    fn look(&mut self, options: WaitOptions) -> io::Result<bool> {
        if !self.has_ended {
            let wait = || rustix::process::waitpid(Some(self.pid), options);
            self.has_ended = match rustix::io::retry_on_intr(wait) {
                // Whoever started us ignores the ends of children; then the kernel collects them.
                Err(Errno::CHILD) => true,
                result => result?.is_some(),
            };
        }
        Ok(self.has_ended)
    }
}

/// Told how starting went.
pub(crate) type Started = Box<dyn FnOnce(Result<Process, SandboxError>) + Send>;

struct Job {
    program: HelperProgram,
    channel: Channel,
    started: Started,
}

/// Has a helper started; this end of its socket may be used at once.
pub(crate) fn start(program: &HelperProgram, started: Started) -> Result<Channel, SandboxError> {
    let (ours, channel) = Channel::pair().trying("make a socket for the helper")?;
    let sender = starter().lock().unwrap_or_else(PoisonError::into_inner);
    let sent = sender.send(Job { program: program.clone(), channel, started });
    sent.map_err(|_| SandboxError::system("start the helper", io::Error::other("no thread can be started")))?;
    Ok(ours)
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
            let mut forkers = Vec::new();
            for Job { program, channel, started } in jobs {
                started(forked(&mut forkers, &program, &channel));
            }
        });
        Mutex::new(sender)
    })
}

/// The process that helpers of a program are forked from. It ends with the thread that started it.
struct Forker {
    program: HelperProgram,
    child: Child,
    channel: Channel,
}

fn forked(forkers: &mut Vec<Forker>, program: &HelperProgram, channel: &Channel) -> Result<Process, SandboxError> {
    if let Some(index) = forkers.iter().position(|forker| forker.program == *program) {
        match forkers[index].fork(channel) {
            Err(SandboxError::Ended) => {
                // Somebody killed it.
                _ = forkers.swap_remove(index).child.wait();
            }
            result => return result,
        }
    }
    let forker = Forker::start(program)?;
    let process = forker.fork(channel);
    forkers.push(forker);
    process
}

impl Forker {
    fn start(program: &HelperProgram) -> Result<Forker, SandboxError> {
        let (ours, theirs) = Channel::pair().trying("make a socket for the helper")?;
        let mut command = Command::new(unwritable(&program.path)?);
        command
            .arg0(&program.path)
            .args(&program.arguments)
            .stdin(Stdio::from(theirs.into_fd()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C at a terminal is for us: we still need the machine to leave it well.
        command.process_group(0);
        // The guest must not find our environment in the helper's memory; the way to newuidmap is all that it needs.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        let child = command.spawn().trying("start the helper")?;
        Ok(Forker { program: program.clone(), child, channel: ours })
    }

    fn fork(&self, channel: &Channel) -> Result<Process, SandboxError> {
        let reply = self.channel.send(&Order::Fork, &[channel.as_fd()]).and_then(|()| self.channel.receive::<Reply>());
        match reply {
            Ok(Some((Reply::Forked(pid), _))) => {
                let pid = Pid::from_raw(pid).ok_or_else(|| SandboxError::Protocol("a process has no id".to_owned()))?;
                Ok(Process { pid, has_ended: false })
            }
            Ok(Some((Reply::Failed(report), _))) => Err(report.into()),
            Ok(Some((other, _))) => Err(SandboxError::Protocol(format!("{other:?}"))),
            Ok(None) => Err(SandboxError::Ended),
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Err(SandboxError::Ended)
            }
            Err(error) => Err(error).trying("start the helper"),
        }
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
