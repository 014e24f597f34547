//! Events as JSON lines; their shape is `docs/reference/events.md`.

use std::io::{BufWriter, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_core::Event;
use serde_json::{Value as Json, json};

use super::queue::Display;

/// Writes one object a line.
#[derive(Debug)]
pub(crate) struct JsonDisplay<W: Write> {
    output: BufWriter<W>,
}

impl<W: Write + Send + 'static> JsonDisplay<W> {
    /// Writes there.
    pub(crate) fn new(output: W) -> JsonDisplay<W> {
        JsonDisplay { output: BufWriter::with_capacity(super::BUFFER, output) }
    }
}

impl<W: Write + Send + 'static> Display for JsonDisplay<W> {
    fn show(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        // A reader that goes away does not stop the build.
        let _ = self.output.write_all(&line);
    }

    fn flush(&mut self) {
        let _ = self.output.flush();
    }
}

/// An event that the engine does not emit, since it happens before a run: one line, with its line end.
pub(super) fn line(event: &str, data: Json) -> String {
    let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_millis()).unwrap_or_default();
    let mut object = json!({ "time": u64::try_from(milliseconds).unwrap_or(u64::MAX), "event": event });
    if let (Some(object), Json::Object(data)) = (object.as_object_mut(), data) {
        object.extend(data);
    }
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_from_before_the_run_looks_like_the_others() {
        let text = line("diagnostic", json!({ "severity": "error", "title": "a\nb" }));
        assert_eq!(text.lines().count(), 1);
        let value: Json = serde_json::from_str(&text).unwrap();
        assert_eq!((value["event"].as_str(), value["title"].as_str()), (Some("diagnostic"), Some("a\nb")));
        assert!(value["time"].as_u64().unwrap() > 1_700_000_000_000);
    }
}
