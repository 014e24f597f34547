//! `kiln cleanup`: finishes what killed runs could not.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_core::{Events, Failure, FailureClass, Redactor};
use kiln_docker::{BollardEngine, Engine, OldImages};
use kiln_engine::RunState;

use crate::amount;
use crate::args::CleanupArgs;
use crate::error::CliError;
use crate::kinds;
use crate::settings::Settings;
use crate::ui::{self, Format, Screen};

/// Undoes the journals of dead runs, and removes old images where that is asked for; fails when something could not be
/// removed.
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
    if arguments.images {
        ui::show_text(&old_images(arguments, settings).await?);
    }
    Ok(if arguments.dry_run || report.is_clean() { 0 } else { FailureClass::Build.exit_code() })
}

/// What was removed of old images, as a text. What has come into use is no failure.
async fn old_images(arguments: &CleanupArgs, settings: &Settings) -> Result<String, CliError> {
    let engine = BollardEngine::connect(None, &settings.environment).map_err(Failure::from)?;
    let policy = OldImages {
        older_than: Some(arguments.older_than),
        repositories: arguments.repositories.iter().cloned().collect(),
        keep: arguments.keep,
    };
    let now = SystemTime::now();
    let found = policy.find(&engine, now).await.map_err(Failure::from)?;
    let mut told = String::new();
    let (mut gone, mut left) = (0, 0);
    for image in &found {
        let made = image.created.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let age = made.map(|made| now.duration_since(SystemTime::UNIX_EPOCH + made).unwrap_or_default());
        let age = age.map(|age| format!(", {}", amount::shown_age(age))).unwrap_or_default();
        let what = match &image.name {
            Some(name) => format!("image {name}"),
            None => format!("image {}, without a name", image.id),
        };
        let is_gone = arguments.dry_run || image.remove(&engine).await.map_err(Failure::from)?;
        *(if is_gone { &mut gone } else { &mut left }) += 1;
        let did = match (arguments.dry_run, is_gone) {
            (true, _) => "would remove",
            (false, true) => "removed",
            (false, false) => "left",
        };
        told += &ui::tame(&format!("{did} {what} (of {}{age})", image.build));
        told.push('\n');
    }
    told += &match (found.is_empty(), arguments.dry_run) {
        (true, _) => format!("no old images at {}\n", engine.address()),
        (false, true) => format!("{gone} image(s) to remove; nothing was touched\n"),
        (false, false) => format!("{gone} image(s) removed, {left} in use\n"),
    };
    Ok(told)
}
