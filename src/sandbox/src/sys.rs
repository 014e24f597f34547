//! System calls without a safe wrapper. What is here is called by single-threaded helpers, but where it says otherwise.

#![allow(unsafe_code, reason = "system calls that rustix does not wrap; each says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

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

/// Ends the process at once: no destructors, no exit handlers, no buffers written.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: ends the process; has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Closes all files from this number on.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: whoever calls this ends or replaces the process next, so that no owner of a closed file is used again.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0) };
    if result == 0 {
        return Ok(());
    }
    // Before Linux 5.9, or refused by a filter.
    for number in open_files()? {
        if number >= first {
            // SAFETY: as above.
            unsafe { libc::close(number) };
        }
    }
    Ok(())
}

fn open_files() -> io::Result<Vec<RawFd>> {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => Ok(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()),
        // No /proc: all numbers that there can be.
        Err(_) => Ok((0..1024).collect()),
    }
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

/// Default handling for all signals, none blocked: as a program expects to start.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: default handling needs no function; numbers that may not be set are refused.
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
