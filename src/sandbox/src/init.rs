//! The helper of a session and process 1 of its guest.

pub(crate) mod command;
mod keeper;
pub(crate) mod processes;
mod user;

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};
use rustix::thread::UnshareFlags;

use crate::capabilities::Capabilities;
use crate::error::{Report, SandboxError, Trying};
use crate::mounts;
use crate::protocol::{Channel, FromKeeper, Order, Reply, Request};
use crate::seccomp::{Filter, Rules};
use crate::spec::{IdKind, IdMap, Isolation, Network, RootFs, SandboxSpec};
use crate::sys::{self, Fork};

/// What commands in a guest need to know of it.
pub(crate) struct Guest {
    pub(crate) hostname: String,
    pub(crate) environment: Vec<(String, String)>,
    /// What its root may do; `None`: whatever we may.
    pub(crate) capabilities: Option<Capabilities>,
    pub(crate) filter: Option<Filter>,
    /// There is one user only, so that no command can become another.
    pub(crate) single_id: bool,
    /// A procfs that shows the guest's processes.
    pub(crate) proc: Option<OwnedFd>,
    /// The guest's `devpts`.
    pub(crate) terminals: Option<OwnedFd>,
    /// `/dev/null`, ours.
    pub(crate) null: OwnedFd,
}

impl Guest {
    /// As the specification says, without procfs and terminals. To be called where `/dev` is still the host's.
    pub(crate) fn new(spec: &SandboxSpec) -> Result<Guest, SandboxError> {
        let capabilities = if spec.privileged {
            Capabilities::ALL
        } else {
            Capabilities::adjusted(&spec.capabilities_add, &spec.capabilities_drop)
                .map_err(|error| SandboxError::Invalid(error.to_string()))?
        };
        let single_id = spec.chosen.id_map.kind == IdKind::Single;
        let filter = Filter::new(&Rules { capabilities, restrict: spec.seccomp && !spec.privileged, single_id });
        Ok(Guest {
            hostname: spec.hostname.clone(),
            environment: spec.environment.clone(),
            capabilities: Some(capabilities),
            filter,
            single_id,
            proc: None,
            terminals: None,
            null: command::open_null().trying("open /dev/null")?,
        })
    }
}

/// The helper: makes name spaces and process 1, waits for its end, and leaves nothing behind.
pub(crate) fn session(spec: &SandboxSpec, channel: &Channel, prepared: bool) -> Result<(), SandboxError> {
    if spec.chosen.isolation == Isolation::Chroot {
        return crate::chroot::session(spec, channel);
    }
    if !prepared {
        enter(&spec.chosen.id_map)?;
    }
    let stubs = mounts::Stubs::make(spec)?;
    sys::unshare(UnshareFlags::NEWPID).trying("make a process name space")?;
    match sys::fork().trying("start process 1")? {
        Fork::Child => sys::exit(i32::from(first_process(spec, channel, Some(&stubs)).is_err())),
        Fork::Parent(pid) => {
            // The other side sees the end of it when process 1 ends. Nothing more is said from here.
            _ = sys::forget(channel);
            _ = wait_for(pid);
        }
    }
    stubs.remove();
    Ok(())
}

/// The helper of a guest whose root is not known yet. Its mount points outlive it.
pub(crate) fn prepare_session(spec: &SandboxSpec, channel: &Channel) -> Result<(), SandboxError> {
    enter(&spec.chosen.id_map)?;
    sys::unshare(UnshareFlags::NEWPID).trying("make a process name space")?;
    match sys::fork().trying("start process 1")? {
        Fork::Child => {
            // It may wait for long.
            let result = die_with_parent().and_then(|()| first_process(spec, channel, None));
            sys::exit(i32::from(result.is_err()))
        }
        Fork::Parent(pid) => {
            _ = sys::forget(channel);
            _ = wait_for(pid);
        }
    }
    Ok(())
}

/// Enters the user name space of a map.
pub(crate) fn enter(map: &IdMap) -> Result<(), SandboxError> {
    crate::userns::enter(map)?;
    // That may have changed who we are, which takes the wish back.
    die_with_parent()
}

/// Has the kernel kill this process when the thread that made it ends. A change of ids and a fork take that back.
pub(crate) fn die_with_parent() -> Result<(), SandboxError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).trying("watch the parent")
}

fn wait_for(pid: Pid) -> Result<(), SandboxError> {
    let wait = || rustix::process::waitpid(Some(pid), WaitOptions::empty());
    rustix::io::retry_on_intr(wait).trying("wait for process 1")?;
    Ok(())
}

/// Process 1. Its errors are told here: the helper only sees that it ended.
fn first_process(spec: &SandboxSpec, channel: &Channel, stubs: Option<&mounts::Stubs>) -> Result<(), SandboxError> {
    let result = make_and_serve(spec, channel, stubs);
    if let Err(error) = &result {
        _ = channel.send(&Reply::Failed(Report::from(error)), &[]);
    }
    result
}

fn make_and_serve(spec: &SandboxSpec, channel: &Channel, stubs: Option<&mounts::Stubs>) -> Result<(), SandboxError> {
    _ = rustix::thread::set_name(c"kiln-init");
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWUTS | UnshareFlags::NEWIPC;
    if spec.network == Network::None {
        flags |= UnshareFlags::NEWNET;
    }
    sys::unshare(flags).trying("make name spaces")?;
    let mut guest = Guest::new(spec)?;
    rustix::system::sethostname(spec.hostname.as_bytes()).trying("set the host name")?;
    if spec.network == Network::None {
        sys::raise_loopback().trying("raise the loopback")?;
    }
    // From here on files of ours in a procfs belong to nobody in the guest.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).trying("hide from the guest")?;
    let root = match stubs {
        Some(stubs) => Some(mounts::build(spec, stubs)?),
        None => build_later(spec, channel)?,
    };
    let Some(mut root) = root else { return Ok(()) };
    guest.proc = Some(root.take_proc()?);
    guest.terminals = root.take_terminals();
    die_with_parent()?;
    channel.send(&Reply::Ready, &[]).trying("answer")?;
    if serve(channel, &guest)? {
        end_all(&guest);
        root.clear();
        channel.send(&Reply::Stopped, &[]).trying("answer")?;
    }
    Ok(())
}

/// Makes all but the root and waits for that; `None` where nobody wants a guest any more.
fn build_later(spec: &SandboxSpec, channel: &Channel) -> Result<Option<mounts::Root>, SandboxError> {
    let ground = mounts::Ground::prepare(spec)?;
    let Some((Order::Root(root), _)) = channel.receive::<Order>().trying("wait for the root")? else { return Ok(None) };
    let spec = SandboxSpec { root, ..spec.clone() };
    let stubs = mounts::Stubs::make(&spec)?;
    ground.build(&spec, &stubs).map(Some)
}

/// Kills and collects every process of this process name space but this one.
fn end_all(guest: &Guest) {
    // SAFETY of numbers: -1 is "all that I may reach", and process 1 of a name space reaches only those in it.
    sys::kill_all();
    processes::end_children(guest.proc.as_ref(), |_, _| {});
}

/// Takes orders until it is told to stop (`true`), or until nobody is there any more. Each command gets a process of its own,
/// so that nothing here ever waits for a guest.
pub(crate) fn serve(channel: &Channel, guest: &Guest) -> Result<bool, SandboxError> {
    sys::ignore_children(true);
    let stopped = take_orders(channel, guest);
    sys::ignore_children(false);
    stopped
}

fn take_orders(channel: &Channel, guest: &Guest) -> Result<bool, SandboxError> {
    loop {
        let Some((request, mut files)) = channel.receive::<Request>().trying("take an order")? else {
            return Ok(false);
        };
        if matches!(request, Request::Stop) {
            return Ok(true);
        }
        if files.is_empty() {
            return Err(SandboxError::Protocol("an order has no socket".to_owned()));
        }
        let answers = Channel::from_fd(files.remove(0));
        match sys::fork() {
            Ok(Fork::Parent(_)) => {}
            Ok(Fork::Child) => obey(channel, &answers, &request, guest, files),
            Err(error) => {
                let error = SandboxError::system("start a process", error);
                _ = answers.send(&FromKeeper::Failed(Report::from(&error)), &[]);
            }
        }
    }
}

/// In a process of its own.
fn obey(orders: &Channel, answers: &Channel, request: &Request, guest: &Guest, files: Vec<OwnedFd>) -> ! {
    // The socket that orders come on is process 1's alone.
    _ = sys::forget(orders);
    _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    match request {
        Request::Exec(request) => keeper::keep(answers, request, guest, files),
        Request::Files(request) => crate::files::serve(answers, request, guest, files),
        Request::Stop => sys::exit(0),
    }
}

/// Removes what an earlier session on this work directory left: the kernel refuses it otherwise.
pub(crate) fn clean_work(root: &RootFs) -> Result<(), SandboxError> {
    let RootFs::Overlay { work, .. } = root else { return Ok(()) };
    let left: &Path = &work.join("work");
    match std::fs::remove_dir_all(left) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).trying("clean the work directory"),
        _ => Ok(()),
    }
}
