//! An agent of this host that commands on the peer may ask (`auth-agent@openssh.com`).
//!
//! The peer opens a channel for each program that asks. libssh2 tells of it by a callback, which the `ssh2` crate leaves out, as
//! it does the channel: so both are used as libssh2 has them.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::Arc;

use bytes::Bytes;
use kiln_core::Stream;
use libssh2_sys::{LIBSSH2_CHANNEL, LIBSSH2_ERROR_EAGAIN, LIBSSH2_SESSION};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::actor::Shared;
use super::channel::{Channel, ChannelEvent, Ending, Inlet, Input, pair};
use super::stream::ChannelStream;

/// `LIBSSH2_CALLBACK_AUTHAGENT`.
const CALLBACK_AGENT: c_int = 7;

/// How many programs may wait for the agent.
const WAITING: usize = 16;

type Callback = unsafe extern "C" fn();
type Arrival = unsafe extern "C" fn(*mut LIBSSH2_SESSION, *mut LIBSSH2_CHANNEL, *mut *mut c_void);

#[allow(unsafe_code)] // The bindings leave this function of libssh2 out.
unsafe extern "C" {
    fn libssh2_session_callback_set2(
        session: *mut LIBSSH2_SESSION,
        kind: c_int,
        callback: Option<Callback>,
    ) -> Option<Callback>;
}

thread_local! {
    /// Channels that the peer opened; each session has a thread of its own.
    static ARRIVED: RefCell<Vec<NonNull<LIBSSH2_CHANNEL>>> = const { RefCell::new(Vec::new()) };
}

#[allow(unsafe_code)]
unsafe extern "C" fn arrive(_: *mut LIBSSH2_SESSION, channel: *mut LIBSSH2_CHANNEL, _: *mut *mut c_void) {
    ARRIVED.with_borrow_mut(|arrived| arrived.extend(NonNull::new(channel)));
}

/// The agent of a session, and the channels to it.
pub(super) struct Lender {
    session: ssh2::Session,
    shared: Arc<Shared>,
    channels: mpsc::Sender<Channel>,
    slots: Vec<LentSlot>,
    /// OpenSSH gives an agent to a connection, and refuses a second request; others give it to each channel.
    asks_once: bool,
    has_asked: bool,
}

impl Lender {
    /// From now on the peer may open channels.
    pub(super) fn new(session: &ssh2::Session, shared: Arc<Shared>, channels: mpsc::Sender<Channel>) -> Lender {
        let mut raw = session.raw();
        // SAFETY: the session lives, and the function has the signature that libssh2 calls this kind with.
        #[allow(unsafe_code)]
        unsafe {
            let arrive = std::mem::transmute::<Arrival, Callback>(arrive as Arrival);
            libssh2_session_callback_set2(&raw mut *raw, CALLBACK_AGENT, Some(arrive));
        }
        drop(raw);
        let asks_once = session.banner().is_some_and(|banner| banner.contains("OpenSSH"));
        Lender { session: session.clone(), shared, channels, slots: Vec::new(), asks_once, has_asked: false }
    }

    /// Whether the next command is to ask for it.
    pub(super) fn asks(&mut self) -> bool {
        !(std::mem::replace(&mut self.has_asked, true) && self.asks_once)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// Does what can be done now; whether something moved.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> bool {
        let mut moved = false;
        for raw in ARRIVED.take() {
            moved = true;
            let (caller, inlet) = pair(&self.shared);
            let slot = LentSlot { raw, _session: self.session.clone(), inlet, chunk: Bytes::new(), is_ended: false };
            // One too many is closed again.
            if self.channels.try_send(caller).is_ok() {
                self.slots.push(slot);
            }
        }
        let mut index = 0;
        while let Some(slot) = self.slots.get_mut(index) {
            match slot.turn(buffer) {
                Some(slot_moved) => {
                    moved |= slot_moved;
                    index += 1;
                }
                None => {
                    self.slots.swap_remove(index);
                    moved = true;
                }
            }
        }
        moved
    }
}

/// One channel that the peer opened.
struct LentSlot {
    raw: NonNull<LIBSSH2_CHANNEL>,
    /// The channel lives as long as this.
    _session: ssh2::Session,
    inlet: Inlet,
    chunk: Bytes,
    is_ended: bool,
}

impl LentSlot {
    /// Whether something moved; `None` when the channel is at its end.
    #[allow(unsafe_code)]
    fn turn(&mut self, buffer: &mut [u8]) -> Option<bool> {
        if self.inlet.events.is_closed() {
            return None;
        }
        let mut moved = self.write()?;
        while let Ok(permit) = self.inlet.events.try_reserve() {
            // SAFETY: the channel was not freed, and the buffer has this length.
            let read = unsafe {
                libssh2_sys::libssh2_channel_read_ex(self.raw.as_ptr(), 0, buffer.as_mut_ptr().cast(), buffer.len())
            };
            match usize::try_from(read) {
                Ok(0) => break,
                Ok(length) => {
                    permit.send(ChannelEvent::Output(Stream::Stdout, Bytes::copy_from_slice(&buffer[..length])));
                    moved = true;
                }
                Err(_) if read == again() => break,
                Err(_) => return None,
            }
        }
        // SAFETY: the channel was not freed.
        if !self.is_ended && unsafe { libssh2_sys::libssh2_channel_eof(self.raw.as_ptr()) } != 0 {
            let _ = self.inlet.events.try_send(ChannelEvent::Ended(Ending::Exited(0)));
            self.is_ended = true;
            moved = true;
        }
        Some(moved)
    }

    /// Hands on what the agent said.
    #[allow(unsafe_code)]
    fn write(&mut self) -> Option<bool> {
        let mut moved = false;
        loop {
            if self.chunk.is_empty() {
                match self.inlet.input.try_recv() {
                    Ok(Input::Bytes(chunk)) => self.chunk = chunk,
                    Ok(Input::Resize(..)) => {}
                    Ok(Input::End) => return None,
                    Err(mpsc::error::TryRecvError::Empty) => return Some(moved),
                    Err(mpsc::error::TryRecvError::Disconnected) => return None,
                }
                continue;
            }
            // SAFETY: the channel was not freed, and the bytes are as many as it is told.
            let written = unsafe {
                libssh2_sys::libssh2_channel_write_ex(
                    self.raw.as_ptr(),
                    0,
                    self.chunk.as_ptr().cast(),
                    self.chunk.len(),
                )
            };
            match usize::try_from(written) {
                Ok(0) => return Some(moved),
                Ok(length) => {
                    let _ = self.chunk.split_to(length);
                    moved = true;
                }
                Err(_) if written == again() => return Some(moved),
                Err(_) => return None,
            }
        }
    }
}

impl Drop for LentSlot {
    fn drop(&mut self) {
        // SAFETY: it was not freed. Where the goodbye still waits for the socket it stays with the session, which frees it.
        #[allow(unsafe_code)]
        unsafe {
            libssh2_sys::libssh2_channel_free(self.raw.as_ptr());
        }
    }
}

fn again() -> isize {
    LIBSSH2_ERROR_EAGAIN as isize
}

/// Takes channels for the session's thread and connects each with the agent.
pub(super) fn serve(agent: PathBuf) -> mpsc::Sender<Channel> {
    let (sender, mut channels) = mpsc::channel::<Channel>(WAITING);
    tokio::spawn(async move {
        while let Some(channel) = channels.recv().await {
            let agent = agent.clone();
            tokio::spawn(async move {
                let mut stream = ChannelStream::new(channel);
                // An agent that is gone is a closed channel, which whoever asks understands.
                if let Ok(mut socket) = UnixStream::connect(agent).await {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut socket).await;
                }
            });
        }
    });
    sender
}
