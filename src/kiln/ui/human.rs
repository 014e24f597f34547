//! Events as lines for people.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::event::Outcome;
use kiln_core::{Event, EventKind, Stream, duration};

use super::bars::Bars;
use super::queue::Display;
use super::screen::Screen;
use super::text::tame;

/// Packer's colours for builds, in turn.
const BUILD_COLORS: [u8; 5] = [32, 36, 35, 33, 34];

/// Lines on standard error, bars below them on a terminal.
#[derive(Debug)]
pub(crate) struct HumanDisplay {
    screen: Arc<Screen>,
    bars: Bars,
    lines: LineFormat,
    unwritten: String,
}

impl HumanDisplay {
    /// Shows on this screen.
    pub(crate) fn new(screen: Arc<Screen>, timestamps: bool) -> HumanDisplay {
        let lines = LineFormat { color: screen.color(), timestamps, colors: HashMap::new() };
        HumanDisplay { bars: Bars::new(Arc::clone(&screen)), screen, lines, unwritten: String::new() }
    }
}

impl Display for HumanDisplay {
    fn show(&mut self, event: &Event) {
        self.bars.update(event);
        self.unwritten.push_str(&self.lines.format(event));
        if self.unwritten.len() > super::BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.unwritten.is_empty() {
            self.screen.write(&self.unwritten);
            self.unwritten.clear();
        }
    }

    fn finish(&mut self) {
        self.flush();
        self.bars.clear();
        self.screen.release();
    }
}

/// How an event reads as lines; empty where it has none.
#[derive(Debug, Default)]
pub(super) struct LineFormat {
    color: bool,
    timestamps: bool,
    colors: HashMap<String, u8>,
}

impl LineFormat {
    /// The lines of an event, each with its line end.
    pub(super) fn format(&mut self, event: &Event) -> String {
        let Some(build) = event.build.as_deref() else { return self.format_run(event) };
        let said = |text: &str| text.lines().map(|line| format!("==> {build}: {line}")).collect::<Vec<_>>();
        let lines = match &event.kind {
            EventKind::BuildStarted { builder, joins } => said(&match joins.split_last() {
                None => format!("building with `{builder}`"),
                Some((last, [])) => format!("making an index of the image for {last}"),
                Some((last, rest)) => format!("joining the images for {} and {last} to an index", rest.join(", ")),
            }),
            EventKind::StepStarted { index, total, kind, name, title, place } => {
                said(&format!("[{index}/{total}] {}: {title} ({place})", called(kind, name.as_deref())))
            }
            EventKind::StepCached { index, total, kind, name, title, place, seconds, .. } => {
                let saved = seconds.filter(|seconds| *seconds >= 1.0).map(wall);
                let saved = saved.map(|time| format!(", {time} when it ran")).unwrap_or_default();
                said(&format!("[{index}/{total}] CACHED {}: {title} ({place}){saved}", called(kind, name.as_deref())))
            }
            EventKind::StepFinished { index, outcome, seconds } => match outcome {
                Outcome::Succeeded if *seconds < 1.0 => Vec::new(),
                Outcome::Succeeded => said(&format!("[{index}] done in {}", wall(*seconds))),
                Outcome::Failed => said(&format!("[{index}] failed after {}", wall(*seconds))),
                Outcome::Cancelled => said(&format!("[{index}] cancelled after {}", wall(*seconds))),
                Outcome::Skipped | Outcome::NotRun => said(&format!("[{index}] skipped")),
            },
            EventKind::TestStarted { name, place } => said(&format!("testing: {name} ({place})")),
            EventKind::TestFinished { name, outcome: Outcome::Succeeded, seconds } => {
                said(&format!("test {name} passed after {}", wall(*seconds)))
            }
            EventKind::PostProcessorStarted { kind, place } => said(&format!("{kind} ({place})")),
            EventKind::PostProcessorFinished { kind, outcome: Outcome::Succeeded, seconds, .. } if *seconds >= 1.0 => {
                said(&format!("{kind} done in {}", wall(*seconds)))
            }
            EventKind::Message { text } => said(text),
            EventKind::Warning { text } => said(&format!("warning: {text}")),
            EventKind::Error { text, hints } => {
                let mut lines = said(&format!("error: {text}"));
                lines.extend(hints.iter().map(|hint| format!("==> {build}: hint: {hint}")));
                lines
            }
            // Standard error is told apart by a word, not by colour alone.
            EventKind::Output { stream: Stream::Stdout, line } => vec![format!("    {build}: {line}")],
            EventKind::Output { stream: Stream::Stderr, line } => vec![format!("    {build} 2> {line}")],
            EventKind::BuildFinished { outcome, seconds, error, reason, .. } => said(&match outcome {
                Outcome::Succeeded => format!("finished after {}", wall(*seconds)),
                Outcome::Failed => format!("failed after {}", wall(*seconds)),
                Outcome::Cancelled => format!("cancelled after {}", wall(*seconds)),
                Outcome::Skipped => format!("skipped: {}", reason.as_deref().unwrap_or_default()),
                Outcome::NotRun => format!("not run: {}", error.as_deref().unwrap_or_default()),
            }),
            _ => Vec::new(),
        };
        let code = match &event.kind {
            EventKind::Warning { .. } => Some("33"),
            EventKind::Error { .. } | EventKind::BuildFinished { outcome: Outcome::Failed, .. } => Some("31"),
            EventKind::Output { .. } => None,
            _ => Some("1"),
        };
        self.finish_lines(event, Some(build), code, lines)
    }

    fn format_run(&mut self, event: &Event) -> String {
        let lines = match &event.kind {
            EventKind::RunStarted { run, builds } => {
                vec![format!("kiln {}, run {run}: {}", kiln_core::VERSION, builds.join(", "))]
            }
            EventKind::Message { text } => text.lines().map(str::to_owned).collect(),
            EventKind::Warning { text } => vec![format!("warning: {text}")],
            EventKind::Error { text, hints } => {
                let mut lines = vec![format!("error: {text}")];
                lines.extend(hints.iter().map(|hint| format!("  hint: {hint}")));
                lines
            }
            _ => Vec::new(),
        };
        let code = match &event.kind {
            EventKind::Warning { .. } => Some("33"),
            EventKind::Error { .. } => Some("31"),
            _ => None,
        };
        self.finish_lines(event, None, code, lines)
    }

    fn finish_lines(&mut self, event: &Event, build: Option<&str>, code: Option<&str>, lines: Vec<String>) -> String {
        let color = build.map(|build| self.color_of(build));
        let stamp = if self.timestamps { format!("{}: ", rfc3339(event.time)) } else { String::new() };
        let mut text = String::new();
        for line in lines {
            let line = tame(&line, self.color);
            text.push_str(&stamp);
            match (self.color, code, color) {
                (true, Some("31" | "33"), _) => {
                    text.push_str(&format!("\u{1b}[{}m{line}\u{1b}[0m", code.unwrap_or("0")))
                }
                (true, Some(style), Some(color)) => text.push_str(&format!("\u{1b}[{style};{color}m{line}\u{1b}[0m")),
                (true, None, Some(color)) => text.push_str(&format!("\u{1b}[{color}m{line}\u{1b}[0m")),
                _ => text.push_str(&line),
            }
            text.push('\n');
        }
        text
    }

    fn color_of(&mut self, build: &str) -> u8 {
        let next = BUILD_COLORS[self.colors.len() % BUILD_COLORS.len()];
        *self.colors.entry(build.to_owned()).or_insert(next)
    }
}

/// A step's kind, with its name where it has one; on one line.
pub(super) fn called(kind: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{kind} \"{}\"", name.split_whitespace().collect::<Vec<_>>().join(" ")),
        None => kind.to_owned(),
    }
}

/// A wall time in seconds, for people.
pub(super) fn wall(seconds: f64) -> String {
    duration::display(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Milliseconds since the epoch as `2026-01-02T03:04:05Z`.
pub(super) fn rfc3339(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count (Howard Hinnant's algorithm for the proleptic Gregorian calendar, days >= 0).
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(build: Option<&str>, kind: EventKind) -> Event {
        Event { time: 951_782_400_000, build: build.map(Arc::from), kind }
    }

    #[test]
    fn a_leap_day_is_a_day() {
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_two_outputs_are_told_apart_without_colour() {
        let mut format = LineFormat::default();
        let line = |stream| EventKind::Output { stream, line: "text".into() };
        assert_eq!(format.format(&event(Some("docker.a"), line(Stream::Stdout))), "    docker.a: text\n");
        assert_eq!(format.format(&event(Some("docker.a"), line(Stream::Stderr))), "    docker.a 2> text\n");
    }

    #[test]
    fn a_step_is_called_by_its_name() {
        let mut format = LineFormat::default();
        let mut line = |name: Option<&str>| {
            let (kind, title, place) = ("shell".into(), "1 inline command".into(), "a.pkr.hcl:17".into());
            let kind = EventKind::StepStarted { index: 2, total: 3, kind, name: name.map(Into::into), title, place };
            format.format(&event(Some("docker.a"), kind))
        };
        insta::assert_snapshot!([None, Some("install curl"), Some("two\nlines")].map(&mut line).concat(), @r#"
        ==> docker.a: [2/3] shell: 1 inline command (a.pkr.hcl:17)
        ==> docker.a: [2/3] shell "install curl": 1 inline command (a.pkr.hcl:17)
        ==> docker.a: [2/3] shell "two lines": 1 inline command (a.pkr.hcl:17)
        "#);
    }

    #[test]
    fn a_step_that_is_not_run_is_told_with_the_time_that_it_saves() {
        let mut format = LineFormat::default();
        let mut line = |name: Option<&str>, seconds| {
            let (kind, title, place) = ("shell".into(), "scripts/apt.sh".into(), "a.pkr.hcl:17".into());
            let name = name.map(Into::into);
            let kind = EventKind::StepCached { index: 2, total: 3, kind, name, title, place, key: None, seconds };
            format.format(&event(Some("oci.a"), kind))
        };
        insta::assert_snapshot!([line(None, None), line(Some("apt"), Some(0.2)), line(None, Some(62.5))].concat(), @r#"
        ==> oci.a: [2/3] CACHED shell: scripts/apt.sh (a.pkr.hcl:17)
        ==> oci.a: [2/3] CACHED shell "apt": scripts/apt.sh (a.pkr.hcl:17)
        ==> oci.a: [2/3] CACHED shell: scripts/apt.sh (a.pkr.hcl:17), 1m 2s when it ran
        "#);
    }

    #[test]
    fn an_error_has_its_hints_below_it() {
        let mut format = LineFormat { timestamps: true, ..LineFormat::default() };
        let error = EventKind::Error { text: "no\nway".into(), hints: vec!["go home".into()] };
        insta::assert_snapshot!(format.format(&event(Some("docker.a"), error)), @r"
        2000-02-29T00:00:00Z: ==> docker.a: error: no
        2000-02-29T00:00:00Z: ==> docker.a: way
        2000-02-29T00:00:00Z: ==> docker.a: hint: go home
        ");
    }

    #[test]
    fn a_script_cannot_move_the_cursor() {
        let mut format = LineFormat { color: true, ..LineFormat::default() };
        let line = EventKind::Output { stream: Stream::Stdout, line: "\u{1b}[2Ja\u{1b}[1Ab".into() };
        assert_eq!(format.format(&event(Some("x"), line)), "\u{1b}[32m    x: ab\u{1b}[0m\n");
    }

    #[test]
    fn every_build_has_its_colour() {
        let mut format = LineFormat { color: true, ..LineFormat::default() };
        let message = || EventKind::Message { text: "x".into() };
        let first = format.format(&event(Some("a"), message()));
        let second = format.format(&event(Some("b"), message()));
        assert_eq!(first, "\u{1b}[1;32m==> a: x\u{1b}[0m\n");
        assert_eq!(second, "\u{1b}[1;36m==> b: x\u{1b}[0m\n");
        assert_eq!(first, format.format(&event(Some("a"), message())));
    }
}
