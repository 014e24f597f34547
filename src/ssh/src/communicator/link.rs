//! The session under a communicator: made when first used, and made again when it is gone.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kiln_core::communicator::CommunicatorError;
use kiln_core::{ExitStatus, OutputSink};

use super::feed::Source;
use super::{Connector, signal};
use crate::session::{Channel, ChannelEvent, Ending, ExecRequest};
use crate::{Session, SshError};

/// Counts the commands of this process: several of its connections may lead to one machine.
static LAST_MARK: AtomicU64 = AtomicU64::new(0);

pub(super) struct Link {
    connector: Arc<dyn Connector>,
    session: tokio::sync::Mutex<Option<Session>>,
    /// Of commands that may still run although nobody waits for them.
    dropped: Mutex<BTreeSet<String>>,
}

/// A command that runs; when it is dropped before its end was seen, it stays noted.
struct Running<'a> {
    link: &'a Link,
    mark: Option<String>,
}

impl Link {
    pub(super) fn new(connector: Arc<dyn Connector>) -> Link {
        Link { connector, session: tokio::sync::Mutex::new(None), dropped: Mutex::new(BTreeSet::new()) }
    }

    pub(super) fn connector(&self) -> &dyn Connector {
        &*self.connector
    }

    pub(super) fn set(&mut self, session: Session) {
        *self.session.get_mut() = Some(session);
    }

    /// The session; a new one where it is gone.
    pub(super) async fn session(&self) -> Result<Session, CommunicatorError> {
        let mut session = self.session.lock().await;
        if let Some(session) = session.as_ref().filter(|session| session.closed().is_none()) {
            return Ok(session.clone());
        }
        *session = None;
        let made = self.connector.connect().await.map_err(|error| failed("connect to it", error))?;
        Ok(session.insert(made).clone())
    }

    /// A mark for a command; no other command has it on that machine.
    pub(super) fn mark(&self) -> String {
        // The full stop keeps 1 apart from 10.
        format!("{}.{}.", std::process::id(), LAST_MARK.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The marks of commands whose call was dropped; they are forgotten then.
    pub(super) fn take_dropped(&self) -> Vec<String> {
        std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }

    /// Runs a command to its end, and feeds it meanwhile.
    pub(super) async fn run(
        &self,
        request: ExecRequest,
        mark: String,
        header: String,
        source: Source,
        sink: &mut dyn OutputSink,
    ) -> Result<ExitStatus, CommunicatorError> {
        let mut channel = self.open(request).await?;
        let running = self.start(mark);
        let Some(input) = channel.input() else { return Err(refused("run a command", "it has no input")) };
        let mut feed = pin!(source.feed(header, input));
        let mut is_fed = false;
        let ending = loop {
            tokio::select! {
                fed = &mut feed, if !is_fed => {
                    fed?;
                    is_fed = true;
                }
                event = channel.next() => if let Some(ending) = show(event, sink) { break ending },
            }
        };
        running.end();
        status(ending)
    }

    /// Runs a command to its end that reads nothing, and is not told so.
    pub(super) async fn run_without_input(
        &self,
        request: ExecRequest,
        mark: String,
        sink: &mut dyn OutputSink,
    ) -> Result<ExitStatus, CommunicatorError> {
        let mut channel = self.open(request).await?;
        let running = self.start(mark);
        loop {
            if let Some(ending) = show(channel.next().await, sink) {
                running.end();
                return status(ending);
            }
        }
    }

    /// Starts a command.
    pub(super) async fn open(&self, request: ExecRequest) -> Result<Channel, CommunicatorError> {
        self.session().await?.exec(request).await.map_err(|error| failed("run a command", error))
    }

    fn start(&self, mark: String) -> Running<'_> {
        Running { link: self, mark: Some(mark) }
    }
}

impl Running<'_> {
    fn end(mut self) {
        self.mark = None;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take().filter(|mark| !mark.is_empty()) {
            self.link.dropped.lock().unwrap_or_else(PoisonError::into_inner).insert(mark);
        }
    }
}

/// Passes output on; gives the end.
pub(super) fn show(event: Option<ChannelEvent>, sink: &mut dyn OutputSink) -> Option<Ending> {
    match event {
        Some(ChannelEvent::Output(stream, chunk)) => sink.write(stream, &chunk),
        Some(ChannelEvent::OutputEnded) => {}
        Some(ChannelEvent::Ended(ending)) => return Some(ending),
        None => return Some(Ending::Failed(SshError::Lost("it ended without a word".to_owned()))),
    }
    None
}

/// How a command ended, as a communicator tells it.
pub(super) fn status(ending: Ending) -> Result<ExitStatus, CommunicatorError> {
    match ending {
        Ending::Exited(code) => Ok(ExitStatus::Exited(code)),
        Ending::Signalled(name) => Ok(ExitStatus::Signalled(signal::number(&name))),
        Ending::Failed(error) => Err(failed("run a command", error)),
    }
}

/// SSH's errors as a communicator's.
pub(super) fn failed(action: impl Into<String>, error: SshError) -> CommunicatorError {
    if error.is_disconnected() {
        CommunicatorError::Disconnected(Box::new(error))
    } else {
        CommunicatorError::Transport { action: action.into(), source: Box::new(error) }
    }
}

pub(super) fn refused(
    action: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CommunicatorError {
    CommunicatorError::Transport { action: action.into(), source: source.into() }
}
