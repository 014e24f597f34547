//! Remembers the last lines that a step printed, for the report of its failure.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use kiln_core::{Event, EventKind, Reporter};

/// Lines kept.
const LINES: usize = 10;

/// Passes all events on and keeps the last lines of output among them. What it keeps is free of secrets: it stands
/// behind the redactor.
pub(crate) struct Tail {
    inner: Arc<dyn Reporter>,
    lines: Mutex<VecDeque<String>>,
}

impl Tail {
    pub(crate) fn new(inner: Arc<dyn Reporter>) -> Tail {
        Tail { inner, lines: Mutex::new(VecDeque::with_capacity(LINES)) }
    }

    /// Forgets what came before: a new step starts.
    pub(crate) fn clear(&self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Reporter for Tail {
    fn report(&self, event: Event) {
        if let EventKind::Output { line, .. } = &event.kind {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(line.clone());
        }
        self.inner.report(event);
    }
}
