//! The session's end of one channel: what the thread does for it in each turn.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kiln_core::Stream;
use tokio::sync::mpsc;

use super::channel::{ChannelEvent, Ending, Inlet, Input};
use super::error::{is_again, is_fatal, told};
use super::request::{PseudoTerminal, Start};
use super::socket;
use crate::SshError;

/// How much is read from a channel at once, in bytes.
pub(super) const READ: usize = 256 * 1024;

/// How often a channel is read in one turn, so that one that floods does not keep the others waiting.
const READS: usize = 4;

/// What is asked for when a channel is open, one after the other.
pub(super) enum Setup {
    Terminal(PseudoTerminal),
    Agent,
    Start(Start),
}

/// What a turn led to.
pub(super) enum Turn {
    /// Something moved.
    Progress,
    /// Nothing to do for now.
    Idle,
    /// The channel is closed on both sides, or nobody wants it any more.
    Done,
}

/// Who waits for the channel to be set up.
pub(super) type Starter = Box<dyn FnOnce(Result<(), SshError>) + Send>;

pub(super) struct Slot {
    channel: ssh2::Channel,
    inlet: Inlet,
    setup: VecDeque<Setup>,
    starter: Option<Starter>,
    /// Whether the start was asked for, so that input may follow it without waiting for the answer.
    is_started: bool,
    chunk: Bytes,
    /// What is still to be done with the way in.
    is_input_open: bool,
    is_ending: bool,
    resize: Option<(u16, u16)>,
    is_closing: bool,
}

impl Slot {
    /// A channel that is open. `starter` hears when all of `setup` is done.
    pub(super) fn new(channel: ssh2::Channel, inlet: Inlet, setup: VecDeque<Setup>, starter: Option<Starter>) -> Slot {
        let is_started = setup.is_empty();
        Slot {
            channel,
            inlet,
            setup,
            starter,
            is_started,
            chunk: Bytes::new(),
            is_input_open: true,
            is_ending: false,
            resize: None,
            is_closing: false,
        }
    }

    /// Does what can be done now. `Err`: the whole connection is broken.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> Result<Turn, SshError> {
        if !self.is_closing && self.inlet.events.is_closed() {
            // Nobody is there any more.
            self.is_closing = true;
        }
        if self.is_closing {
            return self.close(buffer);
        }
        let mut moved = self.set_up()?;
        if self.is_closing || !self.is_started {
            return Ok(if moved { Turn::Progress } else { Turn::Idle });
        }
        moved |= self.feed()?;
        moved |= self.read(buffer)?;
        if self.channel.eof() && self.has_closed()? {
            return self.end();
        }
        Ok(if moved { Turn::Progress } else { Turn::Idle })
    }

    /// The connection is gone, and all that came over it was read unless the caller lags.
    pub(super) fn lose(&mut self, error: &SshError) -> bool {
        if let Some(starter) = self.starter.take() {
            starter(Err(error.clone()));
        }
        !matches!(
            self.inlet.events.try_send(ChannelEvent::Ended(Ending::Lost(error.clone()))),
            Err(mpsc::error::TrySendError::Full(_))
        )
    }

    fn set_up(&mut self) -> Result<bool, SshError> {
        let mut moved = false;
        while let Some(step) = self.setup.front() {
            let done = match step {
                Setup::Terminal(terminal) => {
                    let size = (u32::from(terminal.columns), u32::from(terminal.rows), 0, 0);
                    self.channel.request_pty(&terminal.kind, None, Some(size))
                }
                Setup::Agent => self.channel.request_auth_agent_forwarding(),
                Setup::Start(start) => {
                    self.is_started = true;
                    match start {
                        Start::Command(line) => self.channel.exec(line),
                        Start::Subsystem(name) => self.channel.subsystem(name),
                        Start::Shell => self.channel.shell(),
                    }
                }
            };
            match done {
                Ok(()) => moved = true,
                Err(error) if is_again(&error) => return Ok(moved),
                Err(error) if is_fatal(&error) => return Err(told(&error)),
                Err(error) => {
                    let action = step.action();
                    self.is_closing = true;
                    if let Some(starter) = self.starter.take() {
                        starter(Err(SshError::Refused { action, reason: error.message().to_owned() }));
                    }
                    return Ok(true);
                }
            }
            self.setup.pop_front();
        }
        if let Some(starter) = self.starter.take() {
            starter(Ok(()));
        }
        Ok(moved)
    }

    /// Hands input on, as far as the peer's window and the socket have room.
    fn feed(&mut self) -> Result<bool, SshError> {
        let mut moved = false;
        while self.is_input_open && socket::has_room() {
            if let Some((columns, rows)) = self.resize {
                match self.channel.request_pty_size(columns.into(), rows.into(), None, None) {
                    Err(error) if is_again(&error) => break,
                    Err(error) if is_fatal(&error) => return Err(told(&error)),
                    Ok(()) | Err(_) => self.resize = None,
                }
            }
            if self.chunk.is_empty() && !self.next_input() {
                break;
            }
            if self.is_ending && self.chunk.is_empty() {
                match self.channel.send_eof() {
                    Err(error) if is_again(&error) => break,
                    Err(error) if is_fatal(&error) => return Err(told(&error)),
                    Ok(()) | Err(_) => self.is_input_open = false,
                }
                moved = true;
                break;
            }
            match self.channel.write(&self.chunk) {
                Ok(0) => break,
                Ok(length) => {
                    let _ = self.chunk.split_to(length);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => self.refuse_input(error)?,
            }
        }
        Ok(moved)
    }

    /// Takes what the caller sent next; `false` where there is nothing.
    fn next_input(&mut self) -> bool {
        while !self.is_ending {
            match self.inlet.input.try_recv() {
                Ok(Input::Bytes(chunk)) if chunk.is_empty() => {}
                Ok(Input::Bytes(chunk)) => {
                    self.chunk = chunk;
                    return true;
                }
                Ok(Input::Resize(columns, rows)) => {
                    self.resize = Some((columns, rows));
                    return true;
                }
                Ok(Input::End) => self.is_ending = true,
                Err(_) => return false,
            }
        }
        true
    }

    /// The peer takes no more; what comes out of it goes on.
    fn refuse_input(&mut self, error: io::Error) -> Result<(), SshError> {
        let error = ssh2_error(error);
        if is_fatal(&error) {
            return Err(told(&error));
        }
        self.is_input_open = false;
        self.chunk = Bytes::new();
        self.inlet.input.close();
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, SshError> {
        let mut moved = false;
        for _ in 0..READS {
            let mut read = false;
            for stream in [Stream::Stdout, Stream::Stderr] {
                let Some(permit) = room(&self.inlet) else { return Ok(moved) };
                let number = if stream == Stream::Stdout { 0 } else { 1 };
                let length = read_some(&self.channel, number, buffer)?;
                if length > 0 {
                    permit.send(ChannelEvent::Output(stream, Bytes::copy_from_slice(&buffer[..length])));
                    read = true;
                }
            }
            if !read {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Whether the peer closed the channel, not only its output.
    fn has_closed(&mut self) -> Result<bool, SshError> {
        match self.channel.wait_close() {
            Ok(()) => Ok(true),
            Err(error) if is_fatal(&error) => Err(told(&error)),
            Err(_) => Ok(false),
        }
    }

    fn end(&mut self) -> Result<Turn, SshError> {
        // libssh2 gives status 0 where none was told: a signal comes first.
        let signal = self.channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let ending = match (signal, self.channel.exit_status()) {
            (Some(signal), _) => Ending::Signalled(signal),
            (None, Ok(status)) => Ending::Exited(status.into()),
            (None, Err(error)) => return Err(told(&error)),
        };
        if let Some(starter) = self.starter.take() {
            starter(Ok(()));
        }
        let Some(permit) = room(&self.inlet) else { return Ok(Turn::Idle) };
        permit.send(ChannelEvent::Ended(ending));
        self.is_closing = true;
        Ok(Turn::Progress)
    }

    /// Closes our side; output that still comes is thrown away.
    fn close(&mut self, buffer: &mut [u8]) -> Result<Turn, SshError> {
        self.inlet.input.close();
        let mut moved = false;
        for number in [0, 1] {
            moved |= read_some(&self.channel, number, buffer)? > 0;
        }
        match self.channel.close() {
            Err(error) if is_again(&error) => Ok(if moved { Turn::Progress } else { Turn::Idle }),
            Err(error) if is_fatal(&error) => Err(told(&error)),
            Ok(()) | Err(_) => Ok(Turn::Done),
        }
    }
}

impl Setup {
    fn action(&self) -> String {
        match self {
            Setup::Terminal(_) => "give a terminal".to_owned(),
            Setup::Agent => "forward an agent".to_owned(),
            Setup::Start(Start::Command(_)) => "run a command".to_owned(),
            Setup::Start(Start::Subsystem(name)) => format!("start `{name}`"),
            Setup::Start(Start::Shell) => "start a shell".to_owned(),
        }
    }
}

/// Room for one event; where there is none, the caller wakes this thread once it took one.
fn room(inlet: &Inlet) -> Option<mpsc::Permit<'_, ChannelEvent>> {
    inlet.events.try_reserve().ok().or_else(|| {
        inlet.is_stalled.store(true, Ordering::SeqCst);
        // It may have taken one in between, and not seen the mark.
        inlet.events.try_reserve().ok()
    })
}

fn read_some(channel: &ssh2::Channel, number: i32, buffer: &mut [u8]) -> Result<usize, SshError> {
    match channel.stream(number).read(buffer) {
        Ok(length) => Ok(length),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(told(&ssh2_error(error))),
    }
}

fn ssh2_error(error: io::Error) -> ssh2::Error {
    match error.downcast::<ssh2::Error>() {
        Ok(error) => error,
        Err(_) => ssh2::Error::unknown(),
    }
}
