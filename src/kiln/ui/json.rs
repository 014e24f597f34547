//! Events as JSON lines; their shape is `docs/reference/events.md`.

use std::io::Write;

use kiln_core::Event;

use super::queue::Display;

/// Writes one object a line.
#[derive(Debug)]
pub(crate) struct JsonDisplay<W> {
    output: W,
}

impl<W: Write + Send + 'static> JsonDisplay<W> {
    /// Writes there.
    pub(crate) fn new(output: W) -> JsonDisplay<W> {
        JsonDisplay { output }
    }
}

impl<W: Write + Send + 'static> Display for JsonDisplay<W> {
    fn show(&mut self, event: &Event) {
        let Ok(mut line) = serde_json::to_vec(event) else { return };
        line.push(b'\n');
        // A reader that goes away does not stop the build.
        let _ = self.output.write_all(&line).and_then(|()| self.output.flush());
    }
}
