//! System calls without a safe wrapper. What is here is called by single-threaded helpers, but where it says otherwise.

#![allow(unsafe_code, reason = "system calls that rustix does not wrap; each says why it is sound")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The parent; this is the child.
    Parent(Pid),
    /// The child.
    Child,
}

/// Forks. Only for processes with one thread: the child goes on with everything that the parent had.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the process has one thread (helpers never start another), so that no lock is held by a thread that is missing
    // in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Pid::from_raw(pid).map(Fork::Parent).ok_or_else(|| io::ErrorKind::Other.into()),
    }
}

/// Forks a child of this process's own parent. Only for processes with one thread.
pub(crate) fn fork_sibling() -> io::Result<Fork> {
    let flags = libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD);
    let none: libc::c_long = 0;
    // SAFETY: as in `fork`; without an own stack and shared memory the child goes on here with a copy of everything. What the C
    // library notes of its thread's number is old in it, which matters to threads and to signals for oneself alone.
    match unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            pid.map(Fork::Parent).ok_or_else(|| io::ErrorKind::Other.into())
        }
    }
}

/// Ends the process at once: no destructors, no exit handlers, no buffers written.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: ends the process; has no preconditions.
    unsafe { libc::_exit(status) }
}

fn close_range(first: RawFd, last: RawFd) -> io::Result<()> {
    // SAFETY: takes integers only; what is closed is the caller's business.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last as libc::c_uint, 0) };
    if result == 0 {
        return Ok(());
    }
    // Before Linux 5.9, or refused by a filter. Numbers that are not open are passed over.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(1 << 16);
    for number in first..=last.min(RawFd::try_from(limit).unwrap_or(1 << 16)) {
        // SAFETY: as above.
        unsafe { libc::close(number) };
    }
    Ok(())
}

/// Attributes for `mount_setattr`.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Sets attributes (`MOUNT_ATTR_*`) and the propagation (`MS_*`, 0 for none) of a mount that is given as an open directory or
/// detached mount; with `recursive` of all below it.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    let attributes = MountAttributes { set, propagation, ..MountAttributes::default() };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, the structure lives through the call and its size is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Default handling for all signals, none blocked: once, in a new helper, because whoever started us may ignore some.
pub(crate) fn reset_all_signals() {
    // A broken pipe stays an error.
    for signal in (1..=64).filter(|signal| *signal != libc::SIGPIPE) {
        // SAFETY: default handling needs no function; numbers that may not be set are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_signal_mask(&[], libc::SIG_SETMASK);
}

/// Takes back what process 1 and keepers set, so that a program starts as it expects.
pub(crate) fn reset_signals() {
    for signal in [libc::SIGCHLD, libc::SIGPIPE] {
        // SAFETY: default handling needs no function.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_signal_mask(&[], libc::SIG_SETMASK);
}

/// Blocks signals.
pub(crate) fn block_signals(signals: &[i32]) {
    set_signal_mask(signals, libc::SIG_BLOCK);
}

fn set_signal_mask(signals: &[i32], how: i32) {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// Puts this process into new name spaces.
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: only a table of files that is no longer shared could be noticed, and that flag is left out.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags - rustix::thread::UnshareFlags::FILES) }?)
}

/// A file that becomes readable when this (blocked) signal is pending.
pub(crate) fn signal_file(signal: i32) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised; the new file is owned by nobody else.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            file => Ok(OwnedFd::from_raw_fd(file)),
        }
    }
}

/// Reads away what is there.
pub(crate) fn drain(file: BorrowedFd<'_>) {
    let mut buffer = [0; 1024];
    while rustix::io::read(file, &mut buffer).is_ok_and(|count| count == buffer.len()) {}
}

/// Orphans among this process's descendants become its children.
pub(crate) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: takes integers only.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the kernel collect this process's children when they die, or not.
pub(crate) fn ignore_children(ignore: bool) {
    let how = if ignore { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: neither needs a function.
    unsafe { libc::signal(libc::SIGCHLD, how) };
}

/// Sends a signal by its number; numbers that are none, and processes that are gone, are passed over.
pub(crate) fn signal(pid: Pid, signal: i32) {
    // SAFETY: takes integers only.
    unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) };
}

/// Closes all files but 0 to 2 and this one. Only for a process that becomes another program or ends next, so that no owner of
/// a closed file is used again.
pub(crate) fn close_all_but(file: BorrowedFd<'_>) -> io::Result<()> {
    let kept = file.as_raw_fd();
    if kept > 3 {
        close_range(3, kept - 1)?;
    }
    close_range(kept.max(2) + 1, RawFd::MAX)
}

/// Becomes another program; returns only why not.
pub(crate) fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists end with a null pointer, and the texts live through the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes a socket that this process shares with its parent; the owner here is never dropped.
pub(crate) fn forget(channel: &crate::protocol::Channel) -> io::Result<()> {
    use std::os::fd::AsFd;
    let number = channel.as_fd().as_raw_fd();
    close_range(number, number)
}

/// Kills all processes that this one may reach: as process 1, all others of its name space.
pub(crate) fn kill_all() {
    // SAFETY: takes integers only. Called by process 1 of a name space of ours alone.
    if std::process::id() == 1 {
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// Raises `lo` in this network name space.
pub(crate) fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all zeroes is a valid request; the name ends with a zero; the kernel writes within the structure.
    let result = unsafe {
        let mut request = std::mem::zeroed::<libc::ifreq>();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writing to a pipe that nobody reads is an error, not the end.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: ignoring needs no function.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}
