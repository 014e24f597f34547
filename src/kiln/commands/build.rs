//! `kiln build`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::{Events, FailureClass, SourceMap};
use kiln_engine::{PrepareOptions, RunReport, RunSettings, Surroundings, prepare};

use super::load::{self, Wanted};
use super::signals::{self, Interruption};
use crate::args::{BuildArgs, OnError};
use crate::error::CliError;
use crate::kinds;
use crate::prompt::TerminalPrompt;
use crate::settings::Settings;
use crate::ui::{self, Format, Screen, TableRow};

/// Loads, checks and runs the template.
pub(crate) async fn run(arguments: &BuildArgs, settings: &Settings) -> Result<u8, CliError> {
    let wanted = Wanted { warn_undeclared: arguments.warn_on_undeclared_var, ..Wanted::default() };
    let mut loaded = load::load(&arguments.template, wanted, settings)?;
    let redactor = Arc::new(load::redactor(&loaded));
    let kinds = Arc::new(kinds::all(settings)?);
    let sources: Arc<SourceMap> = Arc::new(std::mem::take(&mut loaded.sources));
    let mut findings = std::mem::take(&mut loaded.diagnostics);
    let mut prepared = None;
    // With errors in the template, preparing what is left of it tells of the mistakes in its components too.
    if let Some(plan) = loaded.plan.as_ref().or(loaded.partial.as_ref()) {
        let options =
            PrepareOptions { force: arguments.force, sources: Arc::clone(&sources), ..PrepareOptions::default() };
        let (run, more) = prepare(plan, &kinds, &options);
        prepared = run;
        findings.extend(more);
        findings.sort();
    }
    let has_errors = findings.has_errors();
    let findings = ui::diagnostics_text(&findings, &sources, &redactor, settings);
    let Some(prepared) = prepared.filter(|_| !has_errors) else { return Err(CliError::Template { text: findings }) };
    ui::show_text(&findings);

    let format = match (arguments.json, settings.machine_readable) {
        (true, _) => Format::Json,
        (_, true) => Format::MachineReadable,
        _ => Format::Human { timestamps: arguments.timestamp_ui },
    };
    let screen = Arc::new(Screen::new(settings.interactive && matches!(format, Format::Human { .. }), settings.color));
    let reporter = Arc::new(ui::reporter(format, &screen));
    let interruption = Interruption::default();
    let listener = signals::listen(&interruption, Events::new(reporter.clone(), Arc::clone(&redactor)));
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
    };
    let surroundings = Surroundings {
        kinds,
        reporter: reporter.clone(),
        redactor: Arc::clone(&redactor),
        prompt: Arc::new(TerminalPrompt::new(screen)),
        cancel: interruption.cancel,
        hurry: interruption.hurry,
    };
    let report = kiln_engine::run(prepared, run_settings, surroundings).await;
    listener.abort();
    reporter.finish();
    if matches!(format, Format::Human { .. }) {
        ui::show_text(&redactor.redact(&closing(&report)));
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

/// The closing table, and what is left to do.
fn closing(report: &RunReport) -> String {
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
    let mut text = ui::table(&rows);
    if report.class() == Some(FailureClass::Cancelled) {
        text.push_str("\nstopped\n");
    }
    if report.journal.is_some() {
        text.push_str("\nsomething is left of this run: `kiln cleanup` removes it\n");
    }
    text
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
