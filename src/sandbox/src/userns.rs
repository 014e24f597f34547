//! Entering a user name space.
//!
//! Only a process outside may write a map of several ids. So a child is forked first, which waits until the name space is there
//! and then writes the maps itself (root), or has `newuidmap` and `newgidmap` write them.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{DumpableBehavior, Pid, WaitOptions, getpid, set_dumpable_behavior, waitpid};
use rustix::thread::{Gid, UnshareFlags};

use crate::error::{SandboxError, Trying};
use crate::idmap::{lines, map_programs};
use crate::spec::{IdKind, IdMap};
use crate::sys::{self, Fork};

/// Moves this process into a user name space with this map, as its root without further groups. Where there is no map, nothing
/// happens. The process must have one thread; it stays dumpable, since its own files in /proc would else be closed to it.
pub(crate) fn enter(map: &IdMap) -> Result<(), SandboxError> {
    if map.kind == IdKind::Identity {
        return Ok(());
    }
    set_dumpable_behavior(DumpableBehavior::Dumpable).trying("make the helper's files in /proc its own")?;
    match map.kind {
        IdKind::Identity => {}
        IdKind::Ranges => enter_ranges(map)?,
        IdKind::Single => enter_single(map)?,
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).trying("become the guest's root group")?;
    let root = rustix::thread::Uid::ROOT;
    rustix::thread::set_thread_res_uid(root, root, root).trying("become the guest's root")?;
    // A change of ids takes this away again.
    set_dumpable_behavior(DumpableBehavior::Dumpable).trying("make the helper's files in /proc its own")
}

fn unshare() -> Result<(), SandboxError> {
    sys::unshare(UnshareFlags::NEWUSER).trying("make a user name space")
}

fn enter_single(map: &IdMap) -> Result<(), SandboxError> {
    unshare()?;
    // Who may not write a group map otherwise may once nobody can drop groups that forbid something.
    fs::write("/proc/self/setgroups", "deny").trying("give up changes of groups")?;
    fs::write("/proc/self/uid_map", lines(&map.uids)).trying("map the user")?;
    fs::write("/proc/self/gid_map", lines(&map.gids)).trying("map the group")
}

fn enter_ranges(map: &IdMap) -> Result<(), SandboxError> {
    let (order_read, order_write) = pipe_with(PipeFlags::CLOEXEC).trying("make a pipe")?;
    let (answer_read, answer_write) = pipe_with(PipeFlags::CLOEXEC).trying("make a pipe")?;
    let target = getpid();
    let mapper = match sys::fork().trying("start a process that maps ids")? {
        Fork::Parent(mapper) => mapper,
        Fork::Child => {
            drop((order_write, answer_read));
            map_from_outside(map, target, order_read, answer_write)
        }
    };
    drop((order_read, answer_write));
    let entered = unshare();
    let mut order = fs::File::from(order_write);
    if entered.is_ok() {
        order.write_all(b"!").trying("have ids mapped")?;
    }
    drop(order);
    let mut answer = String::new();
    let read = fs::File::from(answer_read).read_to_string(&mut answer);
    _ = waitpid(Some(mapper), WaitOptions::empty());
    entered?;
    read.trying("have ids mapped")?;
    match answer.as_str() {
        "ok" => {}
        "" => return Err(SandboxError::Ended),
        reason => return Err(SandboxError::system("map ids", io::Error::other(reason.to_owned()))),
    }
    // Groups of the caller give rights on the host that the guest must not have.
    rustix::thread::set_thread_groups(&[]).trying("drop the caller's groups")
}

/// The child's part; ends the process. Nothing is written where the name space did not come to be.
fn map_from_outside(map: &IdMap, target: Pid, order: OwnedFd, answer: OwnedFd) -> ! {
    let mut byte = [0];
    if fs::File::from(order).read_exact(&mut byte).is_ok() {
        let written =
            if rustix::process::geteuid().is_root() { write_maps(map, target) } else { run_programs(map, target) };
        let text = written.map_or_else(|error| error.to_string(), |()| "ok".to_owned());
        _ = fs::File::from(answer).write_all(text.as_bytes());
    }
    sys::exit(0)
}

fn write_maps(map: &IdMap, target: Pid) -> io::Result<()> {
    let pid = target.as_raw_nonzero();
    fs::write(format!("/proc/{pid}/uid_map"), lines(&map.uids))?;
    fs::write(format!("/proc/{pid}/gid_map"), lines(&map.gids))
}

fn run_programs(map: &IdMap, target: Pid) -> io::Result<()> {
    let (newuidmap, newgidmap) = map_programs().map_err(io::Error::other)?;
    let start = |program: &std::path::Path, ranges: &str| {
        let mut command = Command::new(program);
        command.arg(target.as_raw_nonzero().to_string()).args(ranges.split_ascii_whitespace());
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    // Side by side: each is a program start, which is most of what entering costs.
    let children = [start(&newuidmap, &lines(&map.uids))?, start(&newgidmap, &lines(&map.gids))?];
    for child in children {
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            let text = text.trim();
            let text = if text.is_empty() { output.status.to_string() } else { text.to_owned() };
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}
