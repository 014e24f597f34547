//! Readings of data sources that are under way, and the wait for their answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use kiln_core::{DataOutputs, DataReader, DataSource, Failure};

use super::data::Prepared;

/// The result of a reading; `None` where it came to nothing.
pub(super) type Outcome = Option<Result<DataOutputs, Failure>>;

/// What is read side by side, each by its node's position in the order.
pub(super) struct Readings<'a> {
    reader: Option<&'a dyn DataReader>,
    sender: Sender<(usize, Outcome)>,
    receiver: Receiver<(usize, Outcome)>,
    open: BTreeMap<usize, Reading>,
}

struct Reading {
    name: String,
    prepared: Prepared,
    notice: Notice,
}

/// When the reader is told that a reading takes its time.
#[derive(Debug, Clone, Copy)]
enum Notice {
    /// Nobody waits for it yet.
    Unset,
    At(Instant),
    /// It was told, or no clock goes that far.
    Never,
}

impl<'a> Readings<'a> {
    /// Without a reader, none can be started.
    pub(super) fn new(reader: Option<&'a dyn DataReader>) -> Readings<'a> {
        let (sender, receiver) = channel();
        Readings { reader, sender, receiver, open: BTreeMap::new() }
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Starts one; gives `prepared` back where there is no reader.
    pub(super) fn start(
        &mut self,
        position: usize,
        name: String,
        source: Arc<dyn DataSource>,
        prepared: Prepared,
    ) -> Result<(), Prepared> {
        let Some(reader) = self.reader else { return Err(prepared) };
        let mut reply = Reply { sender: self.sender.clone(), position, is_sent: false };
        self.open.insert(position, Reading { name, prepared, notice: Notice::Unset });
        reader.start(source, Box::new(move |outcome| reply.send(Some(outcome))));
        Ok(())
    }

    /// Waits for an answer to any of them; `None` where none is under way.
    pub(super) fn next(&mut self) -> Option<(usize, Prepared, Outcome)> {
        let reader = self.reader?;
        // Those that were started together are told together.
        let notice = Instant::now().checked_add(reader.patience()).map_or(Notice::Never, Notice::At);
        for reading in self.open.values_mut().filter(|reading| matches!(reading.notice, Notice::Unset)) {
            reading.notice = notice;
        }
        while !self.open.is_empty() {
            let (position, outcome) = match self.receive() {
                Ok(answer) => answer,
                Err(RecvTimeoutError::Timeout) => {
                    self.give_notice(reader);
                    continue;
                }
                // Cannot be: there is a sender in `self`.
                Err(RecvTimeoutError::Disconnected) => return None,
            };
            if let Some(reading) = self.open.remove(&position) {
                return Some((position, reading.prepared, outcome));
            }
        }
        None
    }

    /// An answer that is there goes before a notice that is due.
    fn receive(&self) -> Result<(usize, Outcome), RecvTimeoutError> {
        let notices = self.open.values().filter_map(|reading| match reading.notice {
            Notice::At(due) => Some(due),
            Notice::Unset | Notice::Never => None,
        });
        match notices.min() {
            Some(due) => self.receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn give_notice(&mut self, reader: &dyn DataReader) {
        let now = Instant::now();
        let mut names = Vec::new();
        for reading in self.open.values_mut() {
            if matches!(reading.notice, Notice::At(due) if due <= now) {
                reading.notice = Notice::Never;
                names.push(reading.name.clone());
            }
        }
        if !names.is_empty() {
            reader.waiting(&names);
        }
    }
}

/// Answers in any case, so that nobody waits in vain.
struct Reply {
    sender: Sender<(usize, Outcome)>,
    position: usize,
    is_sent: bool,
}

impl Reply {
    fn send(&mut self, outcome: Outcome) {
        self.is_sent = true;
        // Nobody listens any more where the loader is gone.
        let _ = self.sender.send((self.position, outcome));
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.is_sent {
            self.send(None);
        }
    }
}
