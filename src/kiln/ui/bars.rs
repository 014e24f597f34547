//! One row per running build, below the lines; a bounded number of rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use kiln_core::{Event, EventKind};

use super::human::called;
use super::screen::Screen;
use super::text::tame;

/// The rows, and below them one that counts the builds without a row. Does nothing where the screen has no bars.
#[derive(Debug)]
pub(super) struct Bars {
    screen: Arc<Screen>,
    rows: BTreeMap<String, Row>,
    /// Builds that have no row yet, and when they started.
    waiting: Vec<(String, Instant)>,
    more: Option<ProgressBar>,
}

#[derive(Debug)]
struct Row {
    bar: ProgressBar,
    transfers: BTreeMap<String, (u64, Option<u64>)>,
}

impl Bars {
    /// None yet.
    pub(super) fn new(screen: Arc<Screen>) -> Bars {
        Bars { screen, rows: BTreeMap::new(), waiting: Vec::new(), more: None }
    }

    /// Takes an event into account.
    pub(super) fn update(&mut self, event: &Event) {
        let Some(build) = event.build.as_deref() else { return };
        match &event.kind {
            EventKind::BuildStarted { .. } => self.add(build, Instant::now()),
            EventKind::BuildFinished { .. } => self.remove(build),
            kind => {
                if let Some(row) = self.rows.get_mut(build) {
                    row.update(kind);
                }
            }
        }
    }

    /// Takes all rows away.
    pub(super) fn clear(&mut self) {
        for row in std::mem::take(&mut self.rows).into_values() {
            row.bar.finish_and_clear();
        }
        if let Some(more) = self.more.take() {
            more.finish_and_clear();
        }
    }

    fn add(&mut self, build: &str, started: Instant) {
        if self.rows.len() >= self.screen.rows_for_bars() {
            self.waiting.push((build.to_owned(), started));
        } else if let Some(bar) = self.row("{spinner} {prefix} {wide_msg} {elapsed}") {
            let bar = bar.with_elapsed(started.elapsed()).with_prefix(build.to_owned()).with_message("running");
            self.rows.insert(build.to_owned(), Row { bar, transfers: BTreeMap::new() });
        }
        self.count_more();
    }

    fn remove(&mut self, build: &str) {
        if let Some(row) = self.rows.remove(build) {
            row.bar.finish_and_clear();
            if !self.waiting.is_empty() {
                let (next, started) = self.waiting.remove(0);
                self.add(&next, started);
            }
        } else {
            self.waiting.retain(|(waiting, _)| waiting != build);
        }
        self.count_more();
    }

    fn count_more(&mut self) {
        if self.waiting.is_empty() {
            if let Some(more) = self.more.take() {
                more.finish_and_clear();
            }
            return;
        }
        if self.more.is_none() {
            self.more = self.row("  {wide_msg}");
        }
        if let Some(more) = &self.more {
            more.set_message(format!("and {} more", self.waiting.len()));
        }
    }

    /// A new row, above the one that counts.
    fn row(&self, template: &str) -> Option<ProgressBar> {
        let bars = self.screen.bars()?;
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style);
        let bar = match &self.more {
            Some(more) => bars.insert_before(more, bar),
            None => bars.add(bar),
        };
        bar.enable_steady_tick(Duration::from_millis(120));
        Some(bar)
    }
}

impl Row {
    fn update(&mut self, kind: &EventKind) {
        match kind {
            EventKind::StepStarted { index, total, kind, name, title, .. }
            | EventKind::StepCached { index, total, kind, name, title, .. } => {
                self.transfers.clear();
                let step = called(kind, name.as_deref());
                self.bar.set_message(tame(&format!("[{index}/{total}] {step}: {title}"), false));
            }
            EventKind::TestStarted { name, .. } => {
                self.transfers.clear();
                self.bar.set_message(tame(&format!("test {name}"), false));
            }
            EventKind::PostProcessorStarted { kind, .. } => {
                self.transfers.clear();
                self.bar.set_message(kind.clone());
            }
            EventKind::Message { text } => {
                // What is moved after it belongs to something else.
                self.transfers.clear();
                self.bar.set_message(tame(text.lines().next().unwrap_or_default(), false));
            }
            EventKind::Progress { item, action, current, total } => {
                self.transfers.insert(item.clone(), (*current, *total));
                self.bar.set_message(transfer_text(action, &self.transfers));
            }
            _ => {}
        }
    }
}

/// All transfers of a build as one line: `Pushing 12 MiB of 40 MiB`.
fn transfer_text(action: &str, transfers: &BTreeMap<String, (u64, Option<u64>)>) -> String {
    let done: u64 = transfers.values().map(|(current, _)| current).sum();
    let total: Option<u64> = transfers.values().map(|(current, total)| total.or((*current == 0).then_some(0))).sum();
    match total.filter(|total| *total > 0) {
        Some(total) => format!("{action} {} of {}", HumanBytes(done), HumanBytes(total)),
        None if done > 0 => format!("{action} {}", HumanBytes(done)),
        None => action.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_summed_up() {
        let mut transfers = BTreeMap::new();
        transfers.insert("a".to_owned(), (1024 * 1024, Some(4 * 1024 * 1024)));
        transfers.insert("b".to_owned(), (1024 * 1024, Some(1024 * 1024)));
        assert_eq!(transfer_text("Pushing", &transfers), "Pushing 2.00 MiB of 5.00 MiB");
        transfers.insert("c".to_owned(), (1024, None));
        assert_eq!(transfer_text("Pushing", &transfers), "Pushing 2.00 MiB");
    }
}
