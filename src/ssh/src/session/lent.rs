//! An agent of this host that commands on the peer may ask (`auth-agent@openssh.com`).
//!
//! The peer opens a channel for each program that asks. libssh2 tells of it by a callback, which the `ssh2` crate leaves out, as
//! it does the channel: so both are used as libssh2 has them.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use kiln_core::Stream;
use libssh2_sys::{LIBSSH2_CHANNEL, LIBSSH2_ERROR_EAGAIN, LIBSSH2_SESSION};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::actor::Shared;
use super::channel::{Channel, ChannelEvent, Ending, Inlet, Input, pair};
use super::request::LentAgent;
use super::slot::{READS, Turn, room};
use super::socket::{self, Callback, libssh2_session_callback_set2};
use super::stream::ChannelStream;
use crate::SshError;

/// `LIBSSH2_CALLBACK_AUTHAGENT`.
const CALLBACK_AGENT: c_int = 7;

/// How many programs may ask at a time; one more is turned away.
const SLOTS: usize = 32;

/// How many channels the peer may leave open beside those, before it is taken for one that means harm.
const MOST: usize = 256;

type Arrival = unsafe extern "C" fn(*mut LIBSSH2_SESSION, *mut LIBSSH2_CHANNEL, *mut *mut c_void);

thread_local! {
    /// Channels that the peer opened; each session has a thread of its own.
    static ARRIVED: RefCell<Vec<NonNull<LIBSSH2_CHANNEL>>> = const { RefCell::new(Vec::new()) };
}

#[allow(unsafe_code)]
unsafe extern "C" fn arrive(_: *mut LIBSSH2_SESSION, channel: *mut LIBSSH2_CHANNEL, _: *mut *mut c_void) {
    ARRIVED.with_borrow_mut(|arrived| arrived.extend(NonNull::new(channel)));
}

/// What the session's thread has for the agent.
pub(super) enum Request {
    Channel(Channel),
    /// The peer does not let its commands use an agent.
    Refused,
}

/// The agent of a session, and the channels to it.
pub(super) struct Lender {
    session: ssh2::Session,
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    slots: Vec<LentSlot>,
    /// OpenSSH gives an agent to a connection, and refuses a second request; others give it to each channel.
    asks_once: bool,
    ask: Rc<Ask>,
}

/// The question for the agent, which goes before a command.
pub(super) struct Ask {
    requests: mpsc::Sender<Request>,
    is_sent: Cell<bool>,
    /// The peer answered once: a later refusal is no news.
    is_answered: Cell<bool>,
}

impl Ask {
    /// It was sent; a later one may be of no use.
    pub(super) fn sent(&self) {
        self.is_sent.set(true);
    }

    /// The peer refused; that is told once, and not where an earlier command got it.
    pub(super) fn refused(&self) {
        if !self.is_answered.replace(true) {
            let _ = self.requests.try_send(Request::Refused);
        }
    }

    /// The peer agreed.
    pub(super) fn granted(&self) {
        self.is_answered.set(true);
    }
}

impl Lender {
    /// From now on the peer may open channels.
    pub(super) fn new(session: &ssh2::Session, shared: Arc<Shared>, requests: mpsc::Sender<Request>) -> Lender {
        let mut raw = session.raw();
        // SAFETY: the session lives, and the function has the signature that libssh2 calls this kind with.
        #[allow(unsafe_code)]
        unsafe {
            let arrive = std::mem::transmute::<Arrival, Callback>(arrive as Arrival);
            libssh2_session_callback_set2(&raw mut *raw, CALLBACK_AGENT, Some(arrive));
        }
        drop(raw);
        let asks_once = session.banner().is_some_and(|banner| banner.contains("OpenSSH"));
        let (is_sent, is_answered) = (Cell::new(false), Cell::new(false));
        let ask = Rc::new(Ask { requests: requests.clone(), is_sent, is_answered });
        Lender { session: session.clone(), shared, requests, slots: Vec::new(), asks_once, ask }
    }

    /// The question, where the next command is to ask.
    pub(super) fn ask(&self) -> Option<Rc<Ask>> {
        (!self.asks_once || !self.ask.is_sent.get()).then(|| Rc::clone(&self.ask))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }

    /// Does what can be done now; whether something moved. `Err`: the connection is not worth keeping.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> Result<bool, SshError> {
        let mut moved = false;
        for raw in ARRIVED.take() {
            moved = true;
            let (caller, inlet) = pair(&self.shared);
            let mut slot = LentSlot::new(raw, self.session.clone(), inlet);
            slot.is_closing = self.slots.len() >= SLOTS || self.requests.try_send(Request::Channel(caller)).is_err();
            self.slots.push(slot);
        }
        if self.slots.len() > MOST {
            return Err(SshError::Lost("the machine asks for the agent without end".to_owned()));
        }
        let mut index = 0;
        while let Some(slot) = self.slots.get_mut(index) {
            match slot.turn(buffer) {
                Turn::Idle => index += 1,
                Turn::Progress => {
                    moved = true;
                    index += 1;
                }
                Turn::Done => {
                    self.slots.swap_remove(index);
                    moved = true;
                }
            }
        }
        Ok(moved)
    }
}

/// One channel that the peer opened.
struct LentSlot {
    /// `None` once it was freed.
    raw: Option<NonNull<LIBSSH2_CHANNEL>>,
    /// The channel lives as long as this.
    _session: ssh2::Session,
    inlet: Inlet,
    chunk: Bytes,
    is_input_open: bool,
    is_ending: bool,
    is_told: bool,
    is_closing: bool,
}

impl LentSlot {
    fn new(raw: NonNull<LIBSSH2_CHANNEL>, session: ssh2::Session, inlet: Inlet) -> LentSlot {
        LentSlot {
            raw: Some(raw),
            _session: session,
            inlet,
            chunk: Bytes::new(),
            is_input_open: true,
            is_ending: false,
            is_told: false,
            is_closing: false,
        }
    }

    fn turn(&mut self, buffer: &mut [u8]) -> Turn {
        let Some(raw) = self.raw.map(NonNull::as_ptr) else { return Turn::Done };
        let is_left = self.inlet.events.is_closed();
        if is_left && !(self.is_input_open && self.inlet.has_last_words()) {
            self.is_closing = true;
        }
        if self.is_closing {
            return self.close(raw, buffer);
        }
        let mut moved = self.write(raw);
        for _ in 0..READS {
            let permit = if is_left { None } else { room(&self.inlet) };
            if !is_left && permit.is_none() {
                break;
            }
            match read(raw, buffer) {
                Ok(0) => break,
                Ok(length) => {
                    // Without a reader it is thrown away.
                    if let Some(permit) = permit {
                        let chunk = Bytes::copy_from_slice(&buffer[..length]);
                        permit.send(ChannelEvent::Output(Stream::Stdout, chunk));
                    }
                    moved = true;
                }
                Err(()) => {
                    self.is_closing = true;
                    return Turn::Progress;
                }
            }
        }
        // SAFETY: the channel was not freed.
        #[allow(unsafe_code)]
        let is_ended = unsafe { libssh2_sys::libssh2_channel_eof(raw) } != 0;
        if is_ended
            && !self.is_told
            && let Some(permit) = room(&self.inlet)
        {
            permit.send(ChannelEvent::Ended(Ending::Exited(0)));
            self.is_told = true;
            moved = true;
        }
        if is_ended && !self.is_input_open {
            self.is_closing = true;
            moved = true;
        }
        if moved { Turn::Progress } else { Turn::Idle }
    }

    /// Hands on what the agent said, as far as there is room.
    #[allow(unsafe_code)]
    fn write(&mut self, raw: *mut LIBSSH2_CHANNEL) -> bool {
        let mut moved = false;
        while self.is_input_open && socket::has_room() {
            if self.is_ending && self.chunk.is_empty() {
                // SAFETY: the channel was not freed.
                let sent = unsafe { libssh2_sys::libssh2_channel_send_eof(raw) };
                if sent == LIBSSH2_ERROR_EAGAIN {
                    break;
                }
                self.is_input_open = false;
                return true;
            }
            if self.chunk.is_empty() {
                match self.inlet.input.try_recv() {
                    Ok(Input::Bytes(chunk)) => self.chunk = chunk,
                    Ok(Input::Resize(..)) => {}
                    Ok(Input::End) | Err(mpsc::error::TryRecvError::Disconnected) => self.is_ending = true,
                    Err(mpsc::error::TryRecvError::Empty) => break,
                }
                continue;
            }
            let (bytes, length) = (self.chunk.as_ptr().cast(), self.chunk.len());
            // SAFETY: the channel was not freed, and the bytes are as many as it is told.
            let written = unsafe { libssh2_sys::libssh2_channel_write_ex(raw, 0, bytes, length) };
            match usize::try_from(written) {
                Ok(0) => break,
                Ok(length) => {
                    let _ = self.chunk.split_to(length);
                    moved = true;
                }
                Err(_) if written == again() => break,
                Err(_) => {
                    self.is_closing = true;
                    return true;
                }
            }
        }
        moved
    }

    /// Closes our side, and frees it once the peer closed the other one; what still comes is thrown away.
    #[allow(unsafe_code)]
    fn close(&mut self, raw: *mut LIBSSH2_CHANNEL, buffer: &mut [u8]) -> Turn {
        self.inlet.input.close();
        let moved = matches!(read(raw, buffer), Ok(1..));
        // SAFETY: the channel was not freed; it is used no more after that.
        unsafe {
            if libssh2_sys::libssh2_channel_close(raw) == LIBSSH2_ERROR_EAGAIN
                || libssh2_sys::libssh2_channel_free(raw) == LIBSSH2_ERROR_EAGAIN
            {
                return if moved { Turn::Progress } else { Turn::Idle };
            }
        }
        self.raw = None;
        Turn::Done
    }
}

impl Drop for LentSlot {
    fn drop(&mut self) {
        let Some(raw) = self.raw.take() else { return };
        // SAFETY: it was not freed. The connection has ended; whatever is not freed now the session frees.
        #[allow(unsafe_code)]
        unsafe {
            libssh2_sys::libssh2_channel_free(raw.as_ptr());
        }
    }
}

/// What came, 0 where nothing did; an error where the channel is of no more use.
#[allow(unsafe_code)]
fn read(raw: *mut LIBSSH2_CHANNEL, buffer: &mut [u8]) -> Result<usize, ()> {
    // SAFETY: the channel was not freed, and the buffer has this length.
    let read = unsafe { libssh2_sys::libssh2_channel_read_ex(raw, 0, buffer.as_mut_ptr().cast(), buffer.len()) };
    match usize::try_from(read) {
        Ok(length) => Ok(length),
        Err(_) if read == again() => Ok(0),
        Err(_) => Err(()),
    }
}

fn again() -> isize {
    LIBSSH2_ERROR_EAGAIN as isize
}

/// Takes channels for the session's thread and connects each with the agent.
pub(super) fn serve(agent: LentAgent) -> mpsc::Sender<Request> {
    let (sender, mut requests) = mpsc::channel(SLOTS);
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            let Request::Channel(channel) = request else {
                (agent.on_refusal)();
                continue;
            };
            let socket = agent.socket.clone();
            tokio::spawn(async move {
                let mut stream = ChannelStream::new(channel);
                // An agent that is gone is a closed channel, which whoever asks understands.
                if let Ok(mut socket) = UnixStream::connect(socket).await {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut socket).await;
                }
            });
        }
    });
    sender
}
