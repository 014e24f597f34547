//! `kiln cleanup`: finishes what killed runs could not.

use std::sync::Arc;

use kiln_core::{Events, FailureClass, Redactor};
use kiln_engine::RunState;

use crate::args::CleanupArgs;
use crate::error::CliError;
use crate::kinds;
use crate::settings::Settings;
use crate::ui::{self, Format, Screen};

/// Undoes the journals of dead runs; fails when something could not be removed.
pub(crate) async fn run(arguments: &CleanupArgs, settings: &Settings) -> Result<u8, CliError> {
    settings.check_state_dir()?;
    let screen = Arc::new(Screen::new(false, settings.color));
    let reporter = Arc::new(ui::reporter(Format::Human { timestamps: false }, &screen));
    let events = Events::new(reporter.clone(), Arc::new(Redactor::new()));
    let report = kiln_engine::cleanup(&settings.state_dir, &kinds::all(settings)?, arguments.dry_run, &events).await;
    reporter.finish();
    let report = report?;
    let (mut dead, mut removed, mut failed) = (0, 0, 0);
    for run in report.runs.iter().filter(|run| !matches!(run.state, RunState::Living)) {
        dead += 1;
        removed += run.removed.len();
        failed += run.failed.len();
    }
    let summary = match (dead, arguments.dry_run) {
        (0, _) => "nothing to clean up\n".to_owned(),
        (_, true) => format!("{removed} to remove, of {dead} dead run(s); nothing was touched\n"),
        (_, false) => format!("{removed} removed, {failed} left, of {dead} dead run(s)\n"),
    };
    ui::show_text(&summary);
    Ok(if arguments.dry_run || report.is_clean() { 0 } else { FailureClass::Build.exit_code() })
}
