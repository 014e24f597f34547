//! What is shown. Standard output carries data only; everything else goes to standard error through one [`Screen`].

mod bars;
mod human;
mod json;
mod keyboard;
mod machine_readable;
mod plan;
mod queue;
mod screen;
mod summary;
mod text;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Failure, FailureClass, Redactor, SourceMap, render};

use crate::error::CliError;
use crate::settings::Settings;

pub(crate) use machine_readable::packer_line;
pub(crate) use plan::plan_text;
pub(crate) use queue::QueuedReporter;
pub(crate) use screen::Screen;
pub(crate) use summary::{FailureText, TableRow, failures, table};

/// Findings of a severity that are shown as text; nobody reads more.
const SHOWN: usize = 100;

/// Bytes that are written at once while events come faster than they are written.
const BUFFER: usize = 64 * 1024;

/// Which form events take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Lines for people, with bars below them on a terminal.
    Human {
        /// Put the time before each line.
        timestamps: bool,
    },
    /// One JSON object a line, on standard output.
    Json,
    /// Packer's lines, on standard output.
    MachineReadable,
}

impl Format {
    /// For commands without a run: words for people, or Packer's lines.
    pub(crate) fn of_messages(settings: &Settings) -> Format {
        if settings.machine_readable { Format::MachineReadable } else { Format::Human { timestamps: false } }
    }
}

/// The reporter of a format, on a thread of its own.
pub(crate) fn reporter(format: Format, screen: &Arc<Screen>) -> QueuedReporter {
    match format {
        Format::Human { timestamps } => QueuedReporter::new(human::HumanDisplay::new(Arc::clone(screen), timestamps)),
        Format::Json => QueuedReporter::new(json::JsonDisplay::new(std::io::stdout())),
        Format::MachineReadable => {
            QueuedReporter::new(machine_readable::MachineReadableDisplay::new(std::io::stdout()))
        }
    }
}

/// Shows a mistake in the arguments, or the help that was asked for, and says how to exit.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is the reader's choice.
    let _ = error.print();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(FailureClass::Usage.exit_code()),
    }
}

/// All findings as text, warnings first, and their count in the `place`; empty where there are none.
fn findings_text(
    diagnostics: &Diagnostics,
    sources: &SourceMap,
    redactor: &Redactor,
    settings: &Settings,
    place: &str,
) -> String {
    let mut text = String::new();
    let items = warnings_first(diagnostics);
    let errors = items.iter().filter(|item| item.is_error()).count();
    let (warnings, mistakes) = items.split_at(items.len() - errors);
    for (items, what) in [(warnings, "warning"), (mistakes, "error")] {
        for item in items.iter().take(SHOWN) {
            text.push_str(&render::render(item, sources, settings.color));
            text.push_str("\n\n");
        }
        if let Some(more @ 1..) = items.len().checked_sub(SHOWN) {
            let plural = if more == 1 { "" } else { "s" };
            text.push_str(&format!("and {more} more {what}{plural}; `kiln validate -json` lists all\n\n"));
        }
    }
    if errors > 0 {
        let plural = if errors == 1 { "" } else { "s" };
        text.push_str(&format!("{errors} error{plural} in the {place}\n"));
    }
    redactor.redact(&text).into_owned()
}

fn warnings_first(diagnostics: &Diagnostics) -> Vec<&Diagnostic> {
    let mut items: Vec<_> = diagnostics.items.iter().collect();
    items.sort_by_key(|item| item.is_error());
    items
}

/// Shows findings in a format: text on standard error; events or Packer's lines on standard output.
pub(crate) fn show_diagnostics(
    format: Format,
    diagnostics: &Diagnostics,
    sources: &SourceMap,
    redactor: &Redactor,
    settings: &Settings,
) {
    show_findings(format, diagnostics, sources, redactor, settings, "template");
}

/// The same of other texts than a template's.
pub(crate) fn show_findings(
    format: Format,
    diagnostics: &Diagnostics,
    sources: &SourceMap,
    redactor: &Redactor,
    settings: &Settings,
    place: &str,
) {
    let plain = Settings { color: false, ..settings.clone() };
    let mut text = String::new();
    match format {
        Format::Human { .. } => return show_text(&findings_text(diagnostics, sources, redactor, settings, place)),
        Format::Json => {
            for item in warnings_first(diagnostics) {
                let mut event = render::to_json(item, sources);
                redactor.redact_json(&mut event);
                text.push_str(&json::line("diagnostic", event));
            }
        }
        Format::MachineReadable => {
            for item in warnings_first(diagnostics) {
                let one = Diagnostics::from(vec![item.clone()]);
                let shown = findings_text(&one, sources, redactor, &plain, place);
                let kind = if item.is_error() { "error" } else { "say" };
                text.push_str(&machine_readable::ui_line(kind, shown.split("\n\n").next().unwrap_or(&shown)));
            }
        }
    }
    show_data(&text);
}

/// Shows why a build did not begin, in its format.
pub(crate) fn show_failure(format: Format, failure: &Failure, settings: &Settings) {
    match format {
        Format::Human { .. } => show_text(&failure_text(failure, settings)),
        Format::Json => {
            let event = serde_json::json!({ "text": failure.chain(), "hints": failure.hints });
            show_data(&json::line("error", event));
        }
        Format::MachineReadable => {
            let plain = Settings { color: false, ..settings.clone() };
            show_data(&machine_readable::ui_line("error", failure_text(failure, &plain).trim_end()));
        }
    }
}

/// Says how a command without a run went.
pub(crate) fn say(format: Format, text: &str) {
    match format {
        Format::MachineReadable => show_data(&machine_readable::ui_line("say", text)),
        Format::Human { .. } | Format::Json => show_text(&format!("{text}\n")),
    }
}

/// A line without what moves a terminal's cursor: names in a template may hold anything.
pub(crate) fn tame(line: &str) -> String {
    text::tame(line, false)
}

/// Lines as Packer's.
pub(crate) fn said(text: &str) -> String {
    text.lines().map(|line| machine_readable::ui_line("say", line)).collect()
}

/// Says what kiln does before a run; as an event where events are written.
pub(crate) fn show_message(format: Format, text: &str) {
    match format {
        // Names in a template may hold anything.
        Format::Human { .. } => show_text(&format!("{}\n", text::tame(text, false))),
        Format::Json => show_data(&json::line("message", serde_json::json!({ "text": text }))),
        Format::MachineReadable => show_data(&machine_readable::ui_line("say", text)),
    }
}

/// An event that no run emits; nothing where no events are written.
pub(crate) fn show_event(format: Format, name: &str, data: serde_json::Value) {
    if format == Format::Json {
        show_data(&json::line(name, data));
    }
}

/// Writes to standard output.
pub(crate) fn show_data(text: &str) {
    // A reader that went away does not change how the command ends.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Writes to standard error.
pub(crate) fn show_text(text: &str) {
    // Nothing is left to tell it to when standard error is gone.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Shows why the command did not do its work.
pub(crate) fn show_error(error: &CliError, settings: &Settings) {
    match error {
        CliError::Failure(failure) => show_text(&failure_text(failure, settings)),
        // Shown already, in the form that was asked for; or nobody is left to show it to.
        CliError::Reported(_) | CliError::ClosedPipe => {}
    }
}

fn failure_text(failure: &Failure, settings: &Settings) -> String {
    let (bold_red, reset) = if settings.color { ("\u{1b}[1;31m", "\u{1b}[0m") } else { ("", "") };
    let mut text = format!("{bold_red}error{reset}: {}\n", failure.chain());
    for hint in &failure.hints {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    if failure.class == FailureClass::Bug {
        text.push_str("  this is a mistake in kiln itself; please report it with the command and the template\n");
    }
    text
}
