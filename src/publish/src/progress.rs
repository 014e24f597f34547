//! A push's progress as events: engines and registry clients tell it hundreds of times a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kiln_core::Events;
use kiln_docker::engine::TransferProgress;

/// The shortest time between two events of the same layer and state.
const INTERVAL: Duration = Duration::from_millis(100);

/// Passes progress on, layer by layer.
pub(crate) struct Progress {
    name: String,
    events: Events,
    last: Mutex<HashMap<(String, String), Instant>>,
}

impl Progress {
    /// Of the push of this name.
    pub(crate) fn new(name: &str, events: Events) -> Progress {
        Progress { name: name.to_owned(), events, last: Mutex::default() }
    }

    /// Passes one step on, unless the layer's last one in this state was just now.
    pub(crate) fn report(&self, step: TransferProgress) {
        let item = if step.item.is_empty() { self.name.clone() } else { step.item };
        let now = Instant::now();
        let is_over = step.total == Some(step.current);
        let is_news = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // An engine that does not name the layers mixes their states, so both make the key.
            let key = (item.clone(), step.status.clone());
            let is_news = is_over || last.get(&key).is_none_or(|when| now.duration_since(*when) >= INTERVAL);
            if is_news {
                last.insert(key, now);
            }
            is_news
        };
        if is_news {
            self.events.progress(item, step.status.to_lowercase(), step.current, step.total);
        }
    }
}
