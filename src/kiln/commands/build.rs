//! `kiln build`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::{Events, FailureClass, SourceMap};
use kiln_engine::{BuildReport, PrepareOptions, RunReport, RunSettings, Surroundings, prepare};

use super::load::{self, Wanted};
use super::signals::{self, Interruption};
use crate::args::{BuildArgs, OnError};
use crate::error::CliError;
use crate::kinds;
use crate::prompt::TerminalPrompt;
use crate::settings::Settings;
use crate::ui::{self, FailureText, Format, Screen, TableRow};

/// Loads, checks and runs the template. Whatever goes wrong is shown in the format that was asked for, so that standard
/// output holds nothing else.
pub(crate) async fn run(arguments: &BuildArgs, settings: &Settings) -> Result<u8, CliError> {
    let format = match (arguments.json, settings.machine_readable) {
        (true, _) => Format::Json,
        (_, true) => Format::MachineReadable,
        _ => Format::Human { timestamps: arguments.timestamp_ui },
    };
    match build(arguments, format, settings).await {
        Err(CliError::Failure(failure)) => {
            ui::show_failure(format, &failure, settings);
            Err(CliError::Reported(failure.class))
        }
        other => other,
    }
}

async fn build(arguments: &BuildArgs, format: Format, settings: &Settings) -> Result<u8, CliError> {
    let wanted = Wanted { warn_undeclared: arguments.warn_on_undeclared_var, ..Wanted::default() };
    let mut loaded = load::load_with_data(&arguments.template, wanted, settings, format).await?;
    let redactor = Arc::new(load::redactor(&loaded));
    // Mistakes in the template come before those in the surroundings.
    let (kinds, no_engine) = match kinds::all(settings) {
        Ok(kinds) => (Arc::new(kinds), None),
        Err(failure) => (Arc::new(kinds::offline(settings)?), Some(failure)),
    };
    let sources: Arc<SourceMap> = Arc::new(std::mem::take(&mut loaded.sources));
    let mut findings = std::mem::take(&mut loaded.diagnostics);
    let mut prepared = None;
    // With errors in the template, preparing what is left of it tells of the mistakes in its components too.
    if let Some(plan) = loaded.plan.as_ref().or(loaded.partial.as_ref()) {
        let options = PrepareOptions {
            force: arguments.force,
            will_run: true,
            sources: Arc::clone(&sources),
            ..PrepareOptions::default()
        };
        let (run, more) = prepare(plan, &kinds, &options);
        prepared = run;
        findings.extend(more);
        findings.sort();
    }
    ui::show_diagnostics(format, &findings, &sources, &redactor, settings);
    let Some(prepared) = prepared.filter(|_| !findings.has_errors()) else {
        return Err(CliError::Reported(load::class_of(&findings)));
    };
    if let Some(failure) = no_engine {
        return Err(failure.into());
    }
    settings.check_state_dir()?;

    let screen = Arc::new(Screen::new(settings.interactive && matches!(format, Format::Human { .. }), settings.color));
    let reporter = Arc::new(ui::reporter(format, &screen));
    let interruption = Interruption::default();
    let listener =
        signals::listen(&interruption, Events::new(reporter.clone(), Arc::clone(&redactor)), Arc::clone(&screen));
    let run_settings = RunSettings {
        run_id: Arc::from(uuid::Uuid::new_v4().to_string()),
        parallel_builds: usize::try_from(arguments.parallel_builds).unwrap_or(0),
        on_error: on_error(arguments.on_error),
        debug: arguments.debug,
        force: arguments.force,
        state_dir: settings.state_dir.clone(),
        scratch_root: settings.scratch_root.clone(),
        template: arguments.template.template.display().to_string(),
        revision: revision(&settings.working_dir.join(&arguments.template.template)).await,
        cache: kiln_engine::CachePolicy::default(),
    };
    let surroundings = Surroundings {
        kinds,
        reporter: reporter.clone(),
        redactor: Arc::clone(&redactor),
        prompt: Arc::new(TerminalPrompt::new(Arc::clone(&screen), reporter.clone())),
        cancel: interruption.cancel,
        hurry: interruption.hurry,
    };
    let report = kiln_engine::run(prepared, run_settings, surroundings).await;
    // Signals count as long as somebody may be slow to read.
    reporter.finish();
    listener.abort();
    if matches!(format, Format::Human { .. }) {
        ui::show_text(&redactor.redact(&closing(&report, screen.width())));
    }
    Ok(report.exit_code())
}

fn on_error(choice: OnError) -> kiln_engine::OnError {
    match choice {
        OnError::Cleanup => kiln_engine::OnError::Cleanup,
        OnError::Abort => kiln_engine::OnError::Abort,
        OnError::Ask => kiln_engine::OnError::Ask,
        OnError::RunCleanupProvisioner => kiln_engine::OnError::RunCleanupProvisioner,
    }
}

/// The closing table, the failures of a run of many builds, and what is left to do.
fn closing(report: &RunReport, width: Option<usize>) -> String {
    let rows: Vec<TableRow> = report
        .builds
        .iter()
        .map(|build| TableRow {
            build: build.name.to_string(),
            outcome: build.outcome,
            seconds: build.duration.as_secs_f64(),
            artifacts: build.artifacts.iter().map(kiln_core::Artifact::summary).collect(),
        })
        .collect();
    let mut text = ui::table(&rows, width);
    let failed: Vec<_> = report.builds.iter().filter(|build| !build.failures.is_empty()).collect();
    let failures: Vec<FailureText> = failed.iter().flat_map(|build| failure_texts(build)).collect();
    text.push_str(&ui::failures(&failures, failed.len(), report.builds.len()));
    if report.class() == Some(FailureClass::Cancelled) {
        text.push_str("\nstopped\n");
    }
    if report.journal.is_some() {
        text.push_str("\nsomething is left of this run: `kiln cleanup` removes it\n");
    }
    text
}

fn failure_texts(build: &BuildReport) -> impl Iterator<Item = FailureText> {
    build.failures.iter().enumerate().map(|(index, failure)| FailureText {
        build: build.name.to_string(),
        text: failure.chain(),
        hints: failure.hints.clone(),
        // They belong to the stage that failed first.
        last_lines: if index == 0 { build.last_lines.clone() } else { Vec::new() },
    })
}

/// The commit of the work tree that holds the template; `None` outside of one, or where git does not answer in time.
async fn revision(template: &Path) -> Option<String> {
    let directory = if template.is_dir() { template } else { template.parent()? };
    if !directory.ancestors().any(|parent| parent.join(".git").exists()) {
        return None;
    }
    let mut git = tokio::process::Command::new("git");
    git.arg("-C").arg(directory).args(["rev-parse", "--verify", "--quiet", "HEAD"]).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(5), git.output()).await.ok()?.ok()?;
    let revision = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !revision.is_empty()).then_some(revision)
}
