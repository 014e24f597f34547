//! A reporter that hands events to a thread, so that a slow terminal does not hold up the builds' tasks.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use kiln_core::{Event, Reporter};

/// Events that may wait; a full queue makes the builds wait, so memory stays bounded.
const LONGEST_QUEUE: usize = 4096;

/// Shows events, one after another.
pub(crate) trait Display: Send + 'static {
    /// Shows one.
    fn show(&mut self, event: &Event);

    /// No more will come.
    fn finish(&mut self) {}
}

/// See the module.
#[derive(Debug)]
pub(crate) struct QueuedReporter {
    sender: SyncSender<Option<Event>>,
    thread: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl QueuedReporter {
    /// Starts the thread.
    pub(crate) fn new(mut display: impl Display) -> QueuedReporter {
        let (sender, receiver) = sync_channel::<Option<Event>>(LONGEST_QUEUE);
        let thread = std::thread::spawn(move || {
            while let Ok(Some(event)) = receiver.recv() {
                display.show(&event);
            }
            display.finish();
        });
        QueuedReporter { sender, thread: std::sync::Mutex::new(Some(thread)) }
    }

    /// Waits until everything is shown.
    pub(crate) fn finish(&self) {
        // The thread is gone only after a panic in a display; then there is nothing to wait for.
        let _ = self.sender.send(None);
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Reporter for QueuedReporter {
    fn report(&self, event: Event) {
        let _ = self.sender.send(Some(event));
    }
}
