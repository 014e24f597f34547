//! Packer's machine-readable lines: `timestamp,target,type,data...` (packer.md of Packer's documentation, "Machine-Readable
//! Output"). As there, `ui` lines have an empty target.

use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_core::event::ArtifactSummary;
use kiln_core::{Event, EventKind};

use super::human::LineFormat;
use super::queue::Display;

/// Writes Packer's lines.
#[derive(Debug)]
pub(crate) struct MachineReadableDisplay<W: Write> {
    output: BufWriter<W>,
    lines: LineFormat,
    succeeded: Vec<(Arc<str>, Vec<ArtifactSummary>)>,
    failed: Vec<(Arc<str>, String)>,
}

impl<W: Write + Send + 'static> MachineReadableDisplay<W> {
    /// Writes there.
    pub(crate) fn new(output: W) -> MachineReadableDisplay<W> {
        let output = BufWriter::with_capacity(super::BUFFER, output);
        MachineReadableDisplay { output, lines: LineFormat::default(), succeeded: Vec::new(), failed: Vec::new() }
    }

    fn line(&mut self, time: u64, target: &str, kind: &str, data: &[&str]) {
        let mut line = format!("{},{target},{kind}", time / 1000);
        for part in data {
            line.push(',');
            line.push_str(&escape(part));
        }
        line.push('\n');
        // A reader that goes away does not stop the build.
        let _ = self.output.write_all(line.as_bytes());
    }

    fn closing(&mut self, time: u64) {
        let failed = std::mem::take(&mut self.failed);
        if !failed.is_empty() {
            self.line(time, "", "error-count", &[&failed.len().to_string()]);
            self.line(time, "", "ui", &["error", "\n==> Some builds didn't complete successfully and had errors:"]);
            for (build, error) in &failed {
                self.line(time, build, "error", &[error]);
                self.line(time, "", "ui", &["error", &format!("--> {build}: {error}")]);
            }
        }
        let succeeded = std::mem::take(&mut self.succeeded);
        if succeeded.iter().all(|(_, artifacts)| artifacts.is_empty()) {
            self.line(time, "", "ui", &["say", "\n==> Builds finished but no artifacts were created."]);
        } else {
            self.line(time, "", "ui", &["say", "\n==> Builds finished. The artifacts of successful builds are:"]);
        }
        for (build, artifacts) in &succeeded {
            self.line(time, build, "artifact-count", &[&artifacts.len().to_string()]);
            for (index, artifact) in artifacts.iter().enumerate() {
                self.artifact(time, build, &index.to_string(), artifact);
            }
        }
    }

    fn artifact(&mut self, time: u64, build: &str, index: &str, artifact: &ArtifactSummary) {
        self.line(time, build, "artifact", &[index, "builder-id", &artifact.builder_id]);
        self.line(time, build, "artifact", &[index, "id", &artifact.id]);
        self.line(time, build, "artifact", &[index, "string", &artifact.description]);
        self.line(time, build, "artifact", &[index, "files-count", &artifact.files.len().to_string()]);
        for (number, file) in artifact.files.iter().enumerate() {
            self.line(time, build, "artifact", &[index, "file", &number.to_string(), file]);
        }
        self.line(time, build, "artifact", &[index, "end"]);
        self.line(time, "", "ui", &["say", &format!("--> {build}: {}", artifact.description)]);
    }
}

impl<W: Write + Send + 'static> Display for MachineReadableDisplay<W> {
    fn show(&mut self, event: &Event) {
        let ui_kind = match &event.kind {
            EventKind::Output { .. } => "message",
            EventKind::Error { .. } => "error",
            EventKind::BuildFinished { outcome, .. } if !outcome.is_good() => "error",
            _ => "say",
        };
        for line in self.lines.format(event).lines() {
            self.line(event.time, "", "ui", &[ui_kind, line]);
        }
        match &event.kind {
            EventKind::PostProcessorFinished { kind, tolerated: Some(error), .. } => {
                let build = event.build.clone().unwrap_or_default();
                self.line(event.time, &build, "tolerated", &[kind, error]);
            }
            EventKind::BuildFinished { outcome, error, reason, artifacts, .. } => {
                let build = event.build.clone().unwrap_or_else(|| Arc::from(""));
                if let Some(reason) = reason {
                    self.line(event.time, &build, "skipped", &[reason]);
                }
                if outcome.is_good() {
                    self.succeeded.push((build, artifacts.clone()));
                } else {
                    self.failed.push((build, error.clone().unwrap_or_else(|| "cancelled".to_owned())));
                }
            }
            EventKind::RunFinished { .. } => self.closing(event.time),
            _ => {}
        }
    }

    fn flush(&mut self) {
        let _ = self.output.flush();
    }
}

/// A line of text from before the run, with its line end.
pub(super) fn ui_line(kind: &str, text: &str) -> String {
    packer_line("ui", &[kind, text])
}

/// A line of a kind, of no build.
pub(crate) fn packer_line(kind: &str, data: &[&str]) -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default();
    let data: String = data.iter().map(|part| format!(",{}", escape(part))).collect();
    format!("{seconds},,{kind}{data}\n")
}

/// A comma would end the field and a line end the line.
fn escape(text: &str) -> String {
    text.replace(',', "%!(PACKER_COMMA)").replace('\r', "\\r").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use kiln_core::event::Outcome;

    use super::*;

    #[test]
    fn reads_as_packers_lines_do() {
        let mut display = MachineReadableDisplay::new(Vec::new());
        let event = |build: Option<&str>, kind| Event { time: 1_700_000_000_999, build: build.map(Arc::from), kind };
        let artifact = ArtifactSummary {
            builder_id: "packer.docker".into(),
            id: "Container".into(),
            description: "Exported Docker file: a,b.tar".into(),
            files: vec!["a,b.tar".into()],
            ..ArtifactSummary::default()
        };
        display.show(&event(Some("worker"), EventKind::Message { text: "one, two".into() }));
        let finished = |outcome, error: Option<&str>, artifacts| EventKind::BuildFinished {
            outcome,
            seconds: 1.0,
            error: error.map(str::to_owned),
            reason: None,
            artifacts,
        };
        display.show(&event(Some("worker"), finished(Outcome::Succeeded, None, vec![artifact])));
        display.show(&event(Some("bad"), finished(Outcome::Failed, Some("exit\nstatus 3"), vec![])));
        display.show(&event(None, EventKind::RunFinished { succeeded: 1, skipped: 0, failed: 1, seconds: 1.0 }));
        insta::assert_snapshot!(String::from_utf8(display.output.into_inner().unwrap()).unwrap());
    }
}
