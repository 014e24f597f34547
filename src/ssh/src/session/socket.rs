//! The socket below libssh2.
//!
//! libssh2 sends and receives through the two functions here instead of using the socket itself:
//! - A packet is always taken whole. libssh2 finishes one that was sent in part only when the very call that began it is
//!   repeated; a channel that is given up meanwhile would stop all others.
//! - The end of the connection is kept from it until all that came before was read from its queues.
//! - Many packets go to the kernel in one call, and the time of the last received byte is known.
//!
//! Each session has a thread of its own, so its socket is found in a thread-local variable, and no pointer to it goes
//! through C.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// How much may wait to be sent before channels give no more input, in bytes. Packets that are owed in any case go beyond.
const FULL: usize = 512 * 1024;

/// How far beyond, in bytes: a peer that wants answers and takes none would fill the memory.
const OVERFULL: usize = 16 * 1024 * 1024;

/// Numbers of `LIBSSH2_CALLBACK_SEND` and `LIBSSH2_CALLBACK_RECV`.
const CALLBACK_SEND: c_int = 5;
const CALLBACK_RECEIVE: c_int = 6;

/// How a connection ends that the peer closed without a word.
const CLOSED: &str = "the machine closed it";

/// A socket and what waits to be sent on it.
struct Socket {
    descriptor: OwnedFd,
    /// What libssh2 takes for the connection: the descriptor that it uses first.
    own: Option<c_int>,
    waiting: Vec<u8>,
    /// How much of `waiting` was sent already.
    sent: usize,
    last_received: Instant,
    has_received: bool,
    is_closed: bool,
    end: Option<String>,
}

thread_local! {
    static SOCKET: RefCell<Option<Socket>> = const { RefCell::new(None) };
}

pub(super) type Callback = unsafe extern "C" fn();
type Send = unsafe extern "C" fn(c_int, *const c_void, usize, c_int, *mut *mut c_void) -> isize;
type Receive = unsafe extern "C" fn(c_int, *mut c_void, usize, c_int, *mut *mut c_void) -> isize;

#[allow(unsafe_code)] // The bindings leave this function of libssh2 out.
unsafe extern "C" {
    pub(super) fn libssh2_session_callback_set2(
        session: *mut libssh2_sys::LIBSSH2_SESSION,
        kind: c_int,
        callback: Option<Callback>,
    ) -> Option<Callback>;
}

/// Gives this thread's session its socket.
pub(super) fn attach(session: &ssh2::Session, descriptor: OwnedFd) {
    let socket = Socket {
        descriptor,
        own: None,
        waiting: Vec::new(),
        sent: 0,
        last_received: Instant::now(),
        has_received: false,
        is_closed: false,
        end: None,
    };
    SOCKET.with_borrow_mut(|slot| *slot = Some(socket));
    let mut raw = session.raw();
    // SAFETY: the session lives; the two functions have the signatures that libssh2 calls these kinds with, and it knows
    // them under one common function type.
    #[allow(unsafe_code)]
    unsafe {
        let (send, receive): (Send, Receive) = (send, receive);
        let (send, receive) =
            (std::mem::transmute::<Send, Callback>(send), std::mem::transmute::<Receive, Callback>(receive));
        libssh2_session_callback_set2(&raw mut *raw, CALLBACK_SEND, Some(send));
        libssh2_session_callback_set2(&raw mut *raw, CALLBACK_RECEIVE, Some(receive));
    }
}

/// Closes this thread's socket.
pub(super) fn detach() {
    SOCKET.with_borrow_mut(|slot| *slot = None);
}

fn with<T>(absent: T, work: impl FnOnce(&mut Socket) -> T) -> T {
    SOCKET.with_borrow_mut(|slot| match slot {
        Some(socket) => work(socket),
        None => absent,
    })
}

/// Whether libssh2 means another socket than the connection's: that of an agent, which it serves with the same functions.
fn is_foreign(number: c_int) -> bool {
    with(false, |socket| *socket.own.get_or_insert(number) != number)
}

/// Takes a whole packet. The negative number of an error is what libssh2 expects.
#[allow(unsafe_code)]
unsafe extern "C" fn send(number: c_int, buffer: *const c_void, length: usize, _: c_int, _: *mut *mut c_void) -> isize {
    // SAFETY: libssh2 gives a buffer of this length, which nobody else changes meanwhile.
    let packet = unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) };
    if is_foreign(number) {
        // SAFETY: libssh2 has it open during the call.
        let agent = unsafe { BorrowedFd::borrow_raw(number) };
        let sent = rustix::io::retry_on_intr(|| rustix::net::send(agent, packet, SendFlags::NOSIGNAL));
        return result(sent);
    }
    with((), |socket| {
        // What is sent to a connection that ended is lost; that it ended is told when all that came is read.
        if socket.end.is_none() {
            socket.waiting.extend_from_slice(packet);
            if socket.waiting.len() - socket.sent > OVERFULL {
                socket.end = Some("the machine asks for more and more, and takes no answer".to_owned());
            }
        }
    });
    isize::try_from(length).unwrap_or(isize::MAX)
}

#[allow(unsafe_code)]
unsafe extern "C" fn receive(
    number: c_int,
    buffer: *mut c_void,
    length: usize,
    _: c_int,
    _: *mut *mut c_void,
) -> isize {
    // SAFETY: libssh2 gives a buffer of this length for writing; what is in it is not read.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), length) };
    if is_foreign(number) {
        // SAFETY: libssh2 has it open during the call.
        let agent = unsafe { BorrowedFd::borrow_raw(number) };
        let receive = || rustix::net::recv(agent, &mut *buffer, RecvFlags::empty()).map(|(_, length)| length);
        return result(rustix::io::retry_on_intr(receive));
    }
    let nothing_yet = result(Err(Errno::AGAIN));
    with(result(Err(Errno::NOTCONN)), |socket| {
        if socket.is_closed || socket.end.is_some() {
            return nothing_yet;
        }
        let flags = RecvFlags::DONTWAIT;
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(&socket.descriptor, &mut *buffer, flags).map(|(_, length)| length)
        });
        match received {
            Ok(0) => socket.end = Some(CLOSED.to_owned()),
            Ok(length) => {
                socket.last_received = Instant::now();
                socket.has_received = true;
                return isize::try_from(length).unwrap_or(isize::MAX);
            }
            Err(Errno::AGAIN) => {}
            Err(error) => socket.end = Some(std::io::Error::from(error).to_string()),
        }
        nothing_yet
    })
}

/// As libssh2 expects it: a length, or the negative number of an error.
fn result(done: Result<usize, Errno>) -> isize {
    match done {
        Ok(length) => isize::try_from(length).unwrap_or(isize::MAX),
        Err(error) => -isize::try_from(error.raw_os_error()).unwrap_or(isize::MAX),
    }
}

/// Sends what waits, as far as the kernel takes it.
pub(super) fn flush() {
    with((), |socket| {
        while socket.sent < socket.waiting.len() && socket.end.is_none() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&socket.descriptor, &socket.waiting[socket.sent..], flags) {
                Ok(length) => socket.sent += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // What came before is still to be read; the reader finds the end then.
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    socket.sent = socket.waiting.len();
                }
                Err(error) => socket.end = Some(std::io::Error::from(error).to_string()),
            }
        }
        if socket.sent == socket.waiting.len() {
            socket.waiting.clear();
            socket.sent = 0;
        } else if socket.sent >= FULL / 2 {
            socket.waiting.drain(..socket.sent);
            socket.sent = 0;
        }
    });
}

/// While it is there, libssh2 gets nothing from the socket.
pub(super) struct Gate(());

impl Gate {
    pub(super) fn close() -> Gate {
        with((), |socket| socket.is_closed = true);
        Gate(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        with((), |socket| socket.is_closed = false);
    }
}

/// Whether there is room for more input of channels.
pub(super) fn has_room() -> bool {
    with(false, |socket| socket.waiting.len() - socket.sent < FULL)
}

/// Whether something waits for the kernel.
pub(super) fn is_waiting() -> bool {
    with(false, |socket| !socket.waiting.is_empty() && socket.end.is_none())
}

/// When the last byte came.
pub(super) fn last_received() -> Instant {
    with(Instant::now(), |socket| socket.last_received)
}

/// Whether something came since the last time this was asked.
pub(super) fn take_received() -> bool {
    with(false, |socket| std::mem::take(&mut socket.has_received))
}

/// Counts silence from now on: the peer was not listened to, and may have much to say.
pub(super) fn listen_anew() {
    with((), |socket| socket.last_received = Instant::now());
}

/// How the connection ended, once it did.
pub(super) fn end() -> Option<String> {
    with(Some("it was closed".to_owned()), |socket| socket.end.clone())
}

/// Takes the connection for ended, where nobody reads that would find it out.
pub(super) fn give_up() {
    with((), |socket| {
        socket.end.get_or_insert_with(|| CLOSED.to_owned());
    });
}

/// Calls with the socket, for waiting.
pub(super) fn with_descriptor<T>(work: impl FnOnce(Option<BorrowedFd<'_>>) -> T) -> T {
    SOCKET.with_borrow(|slot| {
        // A connection that ended is always readable.
        work(slot.as_ref().filter(|socket| socket.end.is_none()).map(|socket| socket.descriptor.as_fd()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_takes_no_answers_is_given_up() {
        let session = ssh2::Session::new().unwrap();
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        attach(&session, ours.into());
        let packet = vec![0_u8; 1024 * 1024];
        let mut sent = 0;
        while end().is_none() && sent < 100 {
            // SAFETY: the buffer is as long as it is said.
            #[allow(unsafe_code)]
            unsafe {
                send(9, packet.as_ptr().cast(), packet.len(), 0, std::ptr::null_mut());
            }
            flush();
            sent += 1;
        }
        assert!((16..20).contains(&sent), "{sent}");
        detach();
    }
}
