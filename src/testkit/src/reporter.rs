//! A reporter that remembers.

use std::sync::Mutex;

use kiln_core::{Event, EventKind, Reporter};

use crate::lock;

/// Keeps every event.
#[derive(Debug, Default)]
pub struct RecordingReporter {
    events: Mutex<Vec<Event>>,
}

impl RecordingReporter {
    /// Nothing seen yet.
    pub fn new() -> RecordingReporter {
        RecordingReporter::default()
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.events).clone()
    }

    /// The texts of all messages, in order.
    pub fn messages(&self) -> Vec<String> {
        self.texts(|kind| match kind {
            EventKind::Message { text } => Some(text),
            _ => None,
        })
    }

    /// The texts of all warnings, in order.
    pub fn warnings(&self) -> Vec<String> {
        self.texts(|kind| match kind {
            EventKind::Warning { text } => Some(text),
            _ => None,
        })
    }

    /// All lines of output, of both streams, in order.
    pub fn output(&self) -> Vec<String> {
        self.texts(|kind| match kind {
            EventKind::Output { line, .. } => Some(line),
            _ => None,
        })
    }

    /// Everything that was reported, as JSON lines: where a test looks for what must not be there.
    pub fn as_json(&self) -> String {
        let lines = self.events().into_iter().map(|event| serde_json::json!(event).to_string());
        lines.collect::<Vec<_>>().join("\n")
    }

    fn texts(&self, pick: impl Fn(EventKind) -> Option<String>) -> Vec<String> {
        self.events().into_iter().filter_map(|event| pick(event.kind)).collect()
    }
}

impl Reporter for RecordingReporter {
    fn report(&self, event: Event) {
        lock(&self.events).push(event);
    }
}
