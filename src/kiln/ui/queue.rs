//! A reporter that hands events to a thread, so that a slow terminal does not hold up the builds' tasks.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use kiln_core::{Event, Reporter};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

/// Events that may wait; a full queue makes the builds wait, so memory stays bounded.
const LONGEST_QUEUE: usize = 4096;

/// Shows events, one after another.
pub(crate) trait Display: Send + 'static {
    /// Takes one; it may be shown only when [`Display::flush`] is called.
    fn show(&mut self, event: &Event);

    /// Shows what was taken: nothing waits in the queue, or somebody wants to see it. A write for each line of a flood of
    /// lines would cost more than the build.
    fn flush(&mut self);

    /// No more will come.
    fn finish(&mut self) {
        self.flush();
    }
}

enum Entry {
    Event(Event),
    /// Tell when all that came before is shown.
    Flush(oneshot::Sender<()>),
    End,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct QueuedReporter {
    sender: SyncSender<Entry>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl QueuedReporter {
    /// Starts the thread.
    pub(crate) fn new(display: impl Display) -> QueuedReporter {
        let (sender, receiver) = sync_channel(LONGEST_QUEUE);
        let thread = std::thread::spawn(move || show_all(display, &receiver));
        QueuedReporter { sender, thread: std::sync::Mutex::new(Some(thread)) }
    }

    /// Waits until everything that came before is shown.
    pub(crate) async fn flush(&self) {
        let (shown, seen) = oneshot::channel();
        self.send(Entry::Flush(shown));
        // The thread is gone only after a panic in a display; then there is nothing to wait for.
        let _ = seen.await;
    }

    /// Waits until everything is shown, and ends the thread. Blocking.
    pub(crate) fn finish(&self) {
        let _ = self.sender.send(Entry::End);
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn send(&self, entry: Entry) {
        let Err(TrySendError::Full(entry)) = self.sender.try_send(entry) else { return };
        let send = || {
            let _ = self.sender.send(entry);
        };
        // Whoever reads what is shown is slow or stopped. Other tasks, the one that takes signals above all, must go on.
        match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
            Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(send),
            _ => send(),
        }
    }
}

impl Reporter for QueuedReporter {
    fn report(&self, event: Event) {
        self.send(Entry::Event(event));
    }
}

fn show_all(mut display: impl Display, entries: &Receiver<Entry>) {
    loop {
        let next = match entries.try_recv() {
            Err(TryRecvError::Empty) => {
                display.flush();
                entries.recv().ok()
            }
            other => other.ok(),
        };
        match next {
            Some(Entry::Event(event)) => display.show(&event),
            Some(Entry::Flush(shown)) => {
                display.flush();
                // Whoever asked may have been cancelled.
                let _ = shown.send(());
            }
            Some(Entry::End) | None => break,
        }
    }
    display.finish();
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kiln_core::EventKind;

    use super::*;

    /// Shows nothing until the gate opens.
    struct Gated {
        gate: std::sync::mpsc::Receiver<()>,
        is_open: bool,
        shown: Arc<Mutex<usize>>,
    }

    impl Display for Gated {
        fn show(&mut self, _event: &Event) {
            if !self.is_open {
                self.gate.recv().unwrap();
                self.is_open = true;
            }
            *self.shown.lock().unwrap() += 1;
        }

        fn flush(&mut self) {}
    }

    fn message() -> Event {
        Event { time: 0, build: None, kind: EventKind::Message { text: "x".into() } }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_display_that_stands_still_stops_no_other_task() {
        let (open, gate) = std::sync::mpsc::channel();
        let shown = Arc::new(Mutex::new(0));
        let display = Gated { gate, is_open: false, shown: Arc::clone(&shown) };
        let reporter = Arc::new(QueuedReporter::new(display));
        let count = LONGEST_QUEUE * 2;
        let (started, is_started) = oneshot::channel();
        let flood = tokio::spawn({
            let reporter = Arc::clone(&reporter);
            async move {
                started.send(()).unwrap();
                (0..count).for_each(|_| reporter.report(message()));
            }
        });
        is_started.await.unwrap();
        // On the only worker, which the flood would hold; it opens the gate that the flood waits for.
        tokio::spawn(async move { open.send(()).unwrap() }).await.unwrap();
        flood.await.unwrap();
        reporter.flush().await;
        assert_eq!(*shown.lock().unwrap(), count);
        reporter.finish();
    }
}
