//! Output chunks to lines.

use std::collections::VecDeque;

use crate::communicator::{OutputSink, Stream};
use crate::event::Events;

/// A line longer than this, in bytes, is passed on in pieces.
const LONGEST_LINE: usize = 256 * 1024;

/// How many of the last lines are remembered for a failure's message.
const TAIL: usize = 20;

/// Emits a command's output as events, one per line, as soon as each line is whole. Of a line that rewrites itself with
/// carriage returns only the last state is shown.
#[derive(Debug)]
pub struct LineSink {
    events: Events,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: VecDeque<String>,
}

impl LineSink {
    /// Emits to these events.
    pub fn new(events: Events) -> LineSink {
        LineSink { events, stdout: Vec::new(), stderr: Vec::new(), tail: VecDeque::new() }
    }

    /// Emits what is left without a line end. Call it when the command has ended.
    pub fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(self.buffer(stream));
            if !rest.is_empty() {
                self.emit(stream, &rest);
            }
        }
    }

    /// The last lines of both streams, in the order they came.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    fn buffer(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Emits the beginning of a line that is too long, cut neither inside of a secret nor inside of a character.
    fn emit_piece(&mut self, stream: Stream) {
        let line = std::mem::take(self.buffer(stream));
        let redactor = self.events.redactor();
        let mut end = line.len().saturating_sub(redactor.longest()).max(LONGEST_LINE / 2);
        while end > 0 && line.get(end).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {
            end -= 1;
        }
        let end = match redactor.cut(&line, end) {
            0 => end,
            cut => cut,
        };
        let (piece, rest) = line.split_at(end);
        self.emit(stream, piece);
        *self.buffer(stream) = rest.to_vec();
    }

    fn emit(&mut self, stream: Stream, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let visible = line.iter().rposition(|byte| *byte == b'\r').map_or(line, |at| &line[at + 1..]);
        let text = String::from_utf8_lossy(visible).into_owned();
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(text.clone());
        self.events.output(stream, text);
    }
}

impl OutputSink for LineSink {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let mut line = std::mem::take(self.buffer(stream));
            line.extend_from_slice(&rest[..end]);
            self.emit(stream, &line);
            rest = &rest[end + 1..];
        }
        let buffer = self.buffer(stream);
        buffer.extend_from_slice(rest);
        if buffer.len() > LONGEST_LINE {
            self.emit_piece(stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use crate::{Event, EventKind, Redactor, Reporter};

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<(Stream, String)>>);

    impl Reporter for Lines {
        fn report(&self, event: Event) {
            if let EventKind::Output { stream, line } = event.kind {
                self.0.lock().unwrap().push((stream, line));
            }
        }
    }

    #[test]
    fn lines_come_whole_and_in_order() {
        let lines = Arc::new(Lines::default());
        let mut sink = LineSink::new(Events::new(lines.clone(), Arc::new(Redactor::new())));
        sink.write(Stream::Stdout, b"one\ntw");
        sink.write(Stream::Stderr, b"oops\r\n");
        sink.write(Stream::Stdout, b"o\n10%\r100%");
        sink.finish();
        let seen = lines.0.lock().unwrap().clone();
        let expected =
            [(Stream::Stdout, "one"), (Stream::Stderr, "oops"), (Stream::Stdout, "two"), (Stream::Stdout, "100%")];
        assert_eq!(seen, expected.map(|(stream, line)| (stream, line.to_owned())));
        assert_eq!(sink.tail().collect::<Vec<_>>(), ["one", "oops", "two", "100%"]);
    }

    #[test]
    fn a_line_without_end_comes_in_pieces_that_cut_no_secret_and_no_letter() {
        let lines = Arc::new(Lines::default());
        let redactor = Arc::new(Redactor::new());
        redactor.add("secret-ä-secret");
        let mut sink = LineSink::new(Events::new(lines.clone(), redactor));
        let text = "ä secret-ä-secret ".repeat(100_000);
        for chunk in text.as_bytes().chunks(4099) {
            sink.write(Stream::Stdout, chunk);
        }
        sink.finish();
        let seen: Vec<String> = lines.0.lock().unwrap().iter().map(|(_, line)| line.clone()).collect();
        assert!(seen.len() > 2 && seen.iter().all(|line| line.len() <= LONGEST_LINE + 4099));
        assert_eq!(seen.concat(), "ä <sensitive> ".repeat(100_000));
    }
}
