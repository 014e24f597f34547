//! The session's end of one channel: what the thread does for it in each turn.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kiln_core::Stream;
use tokio::sync::mpsc;

use super::channel::{ChannelEvent, Ending, Inlet, Input};
use super::failure::{is_again, is_fatal, lost};
use super::lent::Ask;
use super::request::{PseudoTerminal, Start};
use super::socket;
use crate::SshError;

/// How much is read from a channel at once, in bytes.
pub(super) const READ: usize = 128 * 1024;

/// How often a channel is read in one turn, so that one that floods does not keep the others waiting.
pub(super) const READS: usize = 8;

/// What is asked for when a channel is open, one after the other.
pub(super) enum Setup {
    /// The agent of this host, for what runs in the channel. Without it all the rest goes on.
    Agent(Rc<Ask>),
    Terminal(PseudoTerminal),
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

pub(super) struct Slot {
    channel: ssh2::Channel,
    inlet: Inlet,
    setup: VecDeque<Setup>,
    /// Whether the start was asked for, so that input may follow it without waiting for the answer.
    is_started: bool,
    chunk: Bytes,
    /// What is still to be done with the way in.
    is_input_open: bool,
    is_ending: bool,
    resize: Option<(u16, u16)>,
    is_output_ended: bool,
    is_closing: bool,
}

impl Slot {
    /// A channel that is open, and what is to be asked for on it.
    pub(super) fn new(channel: ssh2::Channel, inlet: Inlet, setup: VecDeque<Setup>) -> Slot {
        let is_started = setup.is_empty();
        Slot {
            channel,
            inlet,
            setup,
            is_started,
            chunk: Bytes::new(),
            is_input_open: true,
            is_ending: false,
            resize: None,
            is_output_ended: false,
            is_closing: false,
        }
    }

    /// Does what can be done now. `Err`: the whole connection is broken.
    pub(super) fn turn(&mut self, buffer: &mut [u8]) -> Result<Turn, SshError> {
        // Nobody is there any more.
        let is_left = self.inlet.events.is_closed();
        if is_left && !(self.is_input_open && self.inlet.has_last_words()) {
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
        if is_left {
            moved |= self.discard(buffer)?;
            return Ok(if moved { Turn::Progress } else { Turn::Idle });
        }
        moved |= self.read(buffer)?;
        if self.channel.eof() {
            if self.has_closed()? {
                return self.end(buffer);
            }
            if !self.is_output_ended
                && let Some(permit) = room(&self.inlet)
            {
                permit.send(ChannelEvent::OutputEnded);
                self.is_output_ended = true;
                moved = true;
            }
        }
        Ok(if moved { Turn::Progress } else { Turn::Idle })
    }

    /// Whether there is output that the caller had no room for.
    pub(super) fn is_stalled(&self) -> bool {
        self.inlet.is_stalled.load(Ordering::SeqCst) && !self.inlet.events.is_closed()
    }

    fn set_up(&mut self) -> Result<bool, SshError> {
        let mut moved = false;
        while let Some(step) = self.setup.front() {
            // An answer that is read while a request waits for its own counts as that, even when it is for another channel.
            // So all that came is put into the queues first, and the request looks there alone.
            pump(&self.channel)?;
            let gate = socket::Gate::close();
            let done = match step {
                Setup::Agent(ask) => {
                    ask.sent();
                    self.channel.request_auth_agent_forwarding()
                }
                Setup::Terminal(terminal) => {
                    let size = (u32::from(terminal.columns), u32::from(terminal.rows), 0, 0);
                    self.channel.request_pty(&terminal.kind, None, Some(size))
                }
                Setup::Start(start) => {
                    self.is_started = true;
                    match start {
                        Start::Command(line) => self.channel.exec(line),
                        Start::Subsystem(name) => self.channel.subsystem(name),
                        Start::Shell => self.channel.shell(),
                    }
                }
            };
            drop(gate);
            match done {
                Ok(()) => {
                    if let Setup::Agent(ask) = step {
                        ask.granted();
                    }
                    moved = true;
                }
                Err(error) if is_again(&error) => return Ok(moved),
                // Whether the connection broke by it, the next request will tell.
                Err(_) if let Setup::Agent(ask) = step => {
                    ask.refused();
                    moved = true;
                }
                Err(error) if is_fatal(&error) => return Err(lost(&error)),
                Err(error) => {
                    let action = step.action();
                    self.is_closing = true;
                    self.inlet.fail(SshError::Refused { action, reason: error.message().to_owned() });
                    return Ok(true);
                }
            }
            self.setup.pop_front();
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
                    Err(error) if is_fatal(&error) => return Err(lost(&error)),
                    Ok(()) | Err(_) => self.resize = None,
                }
            }
            if self.chunk.is_empty() && !self.next_input() {
                break;
            }
            if self.is_ending && self.chunk.is_empty() {
                match self.channel.send_eof() {
                    Err(error) if is_again(&error) => break,
                    Err(error) if is_fatal(&error) => return Err(lost(&error)),
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
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What is wrong with one channel alone is told by other calls.
                Err(error) => return Err(SshError::Lost(error.to_string())),
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

    fn read(&mut self, buffer: &mut [u8]) -> Result<bool, SshError> {
        let mut moved = false;
        for _ in 0..READS {
            let mut read = false;
            for stream in [Stream::Stdout, Stream::Stderr] {
                let Some(permit) = room(&self.inlet) else {
                    pump(&self.channel)?;
                    return Ok(moved);
                };
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
            Err(error) if is_fatal(&error) => Err(lost(&error)),
            Err(_) => Ok(false),
        }
    }

    fn end(&mut self, buffer: &mut [u8]) -> Result<Turn, SshError> {
        // libssh2 gives status 0 where none was told: a signal comes first.
        let signal = self.channel.exit_signal().ok().and_then(|signal| signal.exit_signal);
        let ending = match (signal, self.channel.exit_status()) {
            (Some(signal), _) => Ending::Signalled(signal),
            (None, Ok(status)) => Ending::Exited(status.into()),
            (None, Err(error)) => return Err(lost(&error)),
        };
        let Some(permit) = room(&self.inlet) else { return Ok(Turn::Idle) };
        permit.send(ChannelEvent::Ended(ending));
        // Before the caller can ask for the next channel.
        self.is_closing = true;
        self.close(buffer)
    }

    fn discard(&self, buffer: &mut [u8]) -> Result<bool, SshError> {
        let mut moved = false;
        for number in [0, 1] {
            moved |= read_some(&self.channel, number, buffer)? > 0;
        }
        Ok(moved)
    }

    /// Closes our side; output that still comes is thrown away.
    fn close(&mut self, buffer: &mut [u8]) -> Result<Turn, SshError> {
        self.inlet.input.close();
        let moved = self.discard(buffer)?;
        match self.channel.close() {
            Err(error) if is_again(&error) => Ok(if moved { Turn::Progress } else { Turn::Idle }),
            Err(error) if is_fatal(&error) => Err(lost(&error)),
            Ok(()) | Err(_) => Ok(Turn::Done),
        }
    }
}

impl Setup {
    fn action(&self) -> String {
        match self {
            Setup::Agent(_) => "use an agent".to_owned(),
            Setup::Terminal(_) => "give a terminal".to_owned(),
            Setup::Start(Start::Command(_)) => "run a command".to_owned(),
            Setup::Start(Start::Subsystem(name)) => format!("start `{name}`"),
            Setup::Start(Start::Shell) => "start a shell".to_owned(),
        }
    }
}

/// Room for one event; where there is none, the caller wakes this thread once it took one.
pub(super) fn room(inlet: &Inlet) -> Option<mpsc::Permit<'_, ChannelEvent>> {
    inlet.events.try_reserve().ok().or_else(|| {
        inlet.is_stalled.store(true, Ordering::SeqCst);
        // It may have taken one in between, and not seen the mark.
        inlet.events.try_reserve().ok()
    })
}

/// Takes what came from the socket to the queues of the channels, whose windows bound it; reads nothing.
pub(super) fn pump(channel: &ssh2::Channel) -> Result<(), SshError> {
    read_some(channel, 0, &mut []).map(drop)
}

fn read_some(channel: &ssh2::Channel, number: i32, buffer: &mut [u8]) -> Result<usize, SshError> {
    match channel.stream(number).read(buffer) {
        Ok(length) => Ok(length),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(SshError::Lost(error.to_string())),
    }
}
