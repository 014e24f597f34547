//! Channels that are byte streams: direct connections, and what comes in to a listener.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::actor::Shared;
use super::channel::{Channel, ChannelEvent, Ending, Input, Outlet};
use kiln_core::Stream;

/// The largest piece that is handed on at once, in bytes.
const WRITE: usize = 256 * 1024;

/// Bytes both ways: a connection through the peer, or a subsystem.
#[derive(Debug)]
pub struct ChannelStream {
    outlet: Outlet,
    chunk: Bytes,
    is_ended: bool,
    input: PollSender<Input>,
    shared: Arc<Shared>,
}

impl ChannelStream {
    /// Of a channel whose input was not taken.
    pub fn new(channel: Channel) -> ChannelStream {
        let (outlet, input, shared) = channel.into_parts();
        ChannelStream { outlet, chunk: Bytes::new(), is_ended: false, input: PollSender::new(input), shared }
    }

    fn put(&mut self, context: &mut Context<'_>, input: impl FnOnce() -> Input) -> Poll<io::Result<()>> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(self.input.poll_reserve(context)).map_err(gone)?;
        self.input.send_item(input()).map_err(gone)?;
        self.shared.wake.wake();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() && !self.is_ended {
            match ready!(self.outlet.poll_next(context)) {
                Some(ChannelEvent::Output(Stream::Stdout, chunk)) => self.chunk = chunk,
                Some(ChannelEvent::Output(Stream::Stderr, _)) => {}
                Some(ChannelEvent::Ended(Ending::Failed(error))) => return Poll::Ready(Err(io::Error::other(error))),
                Some(ChannelEvent::OutputEnded | ChannelEvent::Ended(_)) | None => self.is_ended = true,
            }
        }
        let length = self.chunk.len().min(buffer.remaining());
        buffer.put_slice(&self.chunk[..length]);
        self.chunk.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let piece = &buffer[..buffer.len().min(WRITE)];
        ready!(self.put(context, || Input::Bytes(Bytes::copy_from_slice(piece))))?;
        Poll::Ready(Ok(piece.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The session's thread sends as soon as it can.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.put(context, || Input::End)) {
            // It is shut already.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(())),
            other => {
                // So that all of it is still sent when this is dropped at once.
                self.outlet.finished();
                Poll::Ready(other)
            }
        }
    }
}

/// A port on which the peer listens for us. Dropping it ends that.
#[derive(Debug)]
pub struct Listener {
    port: u16,
    channels: mpsc::Receiver<Channel>,
    shared: Arc<Shared>,
}

impl Listener {
    pub(super) fn new(port: u16, channels: mpsc::Receiver<Channel>, shared: Arc<Shared>) -> Listener {
        Listener { port, channels, shared }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The next connection; `None` when the session has ended.
    pub async fn accept(&mut self) -> Option<ChannelStream> {
        let channel = self.channels.recv().await?;
        // There is room for one more.
        self.shared.wake.wake();
        Some(ChannelStream::new(channel))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.channels.close();
        self.shared.wake.wake();
    }
}
