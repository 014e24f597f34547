//! The caller's end of a channel that runs something.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kiln_core::Stream;
use tokio::sync::mpsc;

use super::actor::Shared;
use crate::SshError;

/// How many events may wait for the caller. One is up to [`super::slot::READ`] bytes of output.
const EVENTS_WAITING: usize = 8;

/// How many pieces of input may wait for the session.
const INPUT_WAITING: usize = 4;

/// How long what a caller left behind may take.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What comes out of a channel.
#[derive(Debug, Clone)]
pub enum ChannelEvent {
    /// Output.
    Output(Stream, Bytes),
    /// No more output comes.
    OutputEnded,
    /// The end; nothing comes after it.
    Ended(Ending),
}

/// How what ran in a channel ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With this status.
    Exited(i64),
    /// Killed by the signal of this name, without `SIG`.
    Signalled(String),
    /// It was refused, or the connection is gone and nobody knows: see [`SshError::is_disconnected`].
    Failed(SshError),
}

/// The channel takes no more input: it ended, or the connection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the command takes no more input")]
pub struct InputClosed;

/// What a caller sends.
#[derive(Debug)]
pub(super) enum Input {
    Bytes(Bytes),
    /// The size of the terminal: columns and rows.
    Resize(u16, u16),
    End,
}

/// The caller's end of what comes out. It wakes the session's thread when that stopped reading for want of room.
#[derive(Debug)]
pub(super) struct Outlet {
    events: mpsc::Receiver<ChannelEvent>,
    is_stalled: Arc<AtomicBool>,
    is_ended: bool,
    is_finished: Arc<AtomicBool>,
    shared: Arc<Shared>,
}

impl Outlet {
    /// The input was ended in good order.
    pub(super) fn finished(&self) {
        self.is_finished.store(true, Ordering::SeqCst);
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<ChannelEvent>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let event = std::task::ready!(self.events.poll_recv(context));
        if self.is_stalled.swap(false, Ordering::SeqCst) {
            self.shared.wake.wake();
        }
        // Without a word about its end, the whole connection has ended.
        let event = event.unwrap_or_else(|| ChannelEvent::Ended(Ending::Failed(self.shared.reason())));
        self.is_ended = matches!(event, ChannelEvent::Ended(_));
        Poll::Ready(Some(event))
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        // The thread looks whether somebody is there still; the receiver itself is dropped only after this.
        self.events.close();
        self.shared.wake.wake();
    }
}

/// The session's end of it.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) events: mpsc::Sender<ChannelEvent>,
    pub(super) is_stalled: Arc<AtomicBool>,
    pub(super) input: mpsc::Receiver<Input>,
    is_finished: Arc<AtomicBool>,
    left_at: OnceCell<Instant>,
}

impl Inlet {
    /// Whether a caller that is gone ended its input before, so that what it sent is still to be handed on; not for ever.
    pub(super) fn has_last_words(&self) -> bool {
        self.is_finished.load(Ordering::SeqCst) && self.left_at.get_or_init(Instant::now).elapsed() < LAST_WORDS
    }

    /// Tells that nothing came of it; there is room, as nothing was told before.
    pub(super) fn fail(&self, error: SshError) {
        let _ = self.events.try_send(ChannelEvent::Ended(Ending::Failed(error)));
    }
}

/// A running command. Dropping it closes the channel.
#[derive(Debug)]
pub struct Channel {
    outlet: Outlet,
    input: Option<ChannelInput>,
    resize: mpsc::Sender<Input>,
}

/// Both ends.
pub(super) fn pair(shared: &Arc<Shared>) -> (Channel, Inlet) {
    let (events, receiver) = mpsc::channel(EVENTS_WAITING);
    let (sender, input) = mpsc::channel(INPUT_WAITING);
    let is_stalled = Arc::new(AtomicBool::new(false));
    let is_finished = Arc::new(AtomicBool::new(false));
    let outlet = Outlet {
        events: receiver,
        is_stalled: Arc::clone(&is_stalled),
        is_ended: false,
        is_finished: Arc::clone(&is_finished),
        shared: Arc::clone(shared),
    };
    let resize = sender.clone();
    let channel = Channel { outlet, input: Some(ChannelInput { sender, shared: Arc::clone(shared) }), resize };
    (channel, Inlet { events, is_stalled, input, is_finished, left_at: OnceCell::new() })
}

impl Channel {
    /// What comes next; `None` after the end. While nobody asks, the peer is stopped once its window is full, and other
    /// channels go on.
    pub async fn next(&mut self) -> Option<ChannelEvent> {
        std::future::poll_fn(|context| self.outlet.poll_next(context)).await
    }

    /// The way in, once.
    pub fn input(&mut self) -> Option<ChannelInput> {
        self.input.take()
    }

    /// Tells the new size of the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        // With a full queue the next change tells it.
        if self.resize.try_send(Input::Resize(columns, rows)).is_ok() {
            self.outlet.shared.wake.wake();
        }
    }

    pub(super) fn into_parts(self) -> (Outlet, mpsc::Sender<Input>, Arc<Shared>) {
        let shared = Arc::clone(&self.outlet.shared);
        (self.outlet, self.resize, shared)
    }
}

/// What a command reads. Dropping it says nothing to the command; only [`ChannelInput::finish`] ends its input, so that
/// what breaks off is not taken for a whole.
#[derive(Debug)]
pub struct ChannelInput {
    pub(super) sender: mpsc::Sender<Input>,
    pub(super) shared: Arc<Shared>,
}

impl ChannelInput {
    /// Sends, as soon as there is room.
    ///
    /// # Errors
    /// The channel takes no more.
    pub async fn send(&self, chunk: Bytes) -> Result<(), InputClosed> {
        self.put(Input::Bytes(chunk)).await
    }

    /// Ends the input.
    ///
    /// # Errors
    /// The channel took no more before that.
    pub async fn finish(self) -> Result<(), InputClosed> {
        self.put(Input::End).await
    }

    /// As [`ChannelInput::send`], for a thread that may block.
    ///
    /// # Errors
    /// The channel takes no more.
    ///
    /// # Panics
    /// In asynchronous code.
    pub fn blocking_send(&self, chunk: Bytes) -> Result<(), InputClosed> {
        self.sender.blocking_send(Input::Bytes(chunk)).map_err(|_| InputClosed)?;
        self.shared.wake.wake();
        Ok(())
    }

    async fn put(&self, input: Input) -> Result<(), InputClosed> {
        self.sender.send(input).await.map_err(|_| InputClosed)?;
        self.shared.wake.wake();
        Ok(())
    }
}
